//! What a use of the CPUs weighs where a machine's energy is shared: the same for a meter's function
//! and for every process of `lithowatt top`.

use crate::attribution::{Weight, beside_sibling};
use crate::source::ebpf::Used;

/// What stands for energy between two moments: the best that is known of all that ran (`busy`) and,
/// where one alone is of interest, of `own`.
pub fn unit(own: Option<&Used>, busy: &Used) -> Weight {
    let of_own = |known: fn(&Used) -> bool| own.is_none_or(known);
    if busy.cycles.is_some_and(|cycles| cycles > 0) && of_own(|own| own.cycles.is_some()) {
        Weight::Cycles
    } else if busy.frequency_cycles().is_some_and(|cycles| cycles > 0.0)
        && of_own(|own| own.frequency_cycles().is_some())
    {
        Weight::Frequency
    } else {
        Weight::Time
    }
}

/// The weight of `used` without a look at siblings. Where its own frequency is unknown it ran at
/// the machine's mean.
pub fn plain(used: &Used, busy: &Used, unit: Weight) -> f64 {
    match unit {
        Weight::Cycles => used.cycles.unwrap_or(0) as f64,
        Weight::Frequency => used.frequency_cycles().unwrap_or_else(|| {
            busy.frequency_cycles().unwrap_or(0.0) / (busy.ns as f64).max(1.0) * used.ns as f64
        }),
        Weight::Time => used.ns as f64,
    }
}

/// What is left of a weight, 1 or less, by the part of the time that was spent beside a busy
/// sibling thread; `siblings`: whether cores have two threads.
pub fn alone(used: &Used, siblings: bool) -> f64 {
    if siblings {
        beside_sibling(1.0, used.shared_ns as f64 / (used.ns as f64).max(1.0))
    } else {
        1.0
    }
}

/// The weight of `used` among all that ran.
///
/// ```
/// use lithowatt::attribution::{SIBLINGS_POWER, Weight};
/// use lithowatt::{sampler::weight::weigh, source::ebpf::Used};
/// let busy = Used { ns: 2_000_000, shared_ns: 1_000_000, ..Used::default() };
/// let beside = Used { ns: 1_000_000, shared_ns: 1_000_000, ..Used::default() };
/// let own_core = Used { ns: 1_000_000, ..Used::default() };
/// let weighed = |used| weigh(&used, &busy, Weight::Time, true);
/// assert_eq!(weighed(own_core), 1e6);
/// assert!((weighed(beside) - 1e6 * SIBLINGS_POWER / 2.0).abs() < 1e-6);
/// ```
pub fn weigh(used: &Used, busy: &Used, unit: Weight, siblings: bool) -> f64 {
    plain(used, busy, unit) * alone(used, siblings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ns: u64, ghz: f64) -> Used {
        Used {
            ns,
            scaled: ns as f64 * ghz,
            scaled_ns: ns,
            ..Used::default()
        }
    }

    fn counted(ns: u64, cycles: u64) -> Used {
        Used {
            cycles: Some(cycles),
            ..at(ns, 1.0)
        }
    }

    #[test]
    fn the_best_that_is_known_of_both_is_taken() {
        let busy = counted(10, 30);
        assert_eq!(unit(None, &busy), Weight::Cycles);
        assert_eq!(unit(Some(&counted(1, 0)), &busy), Weight::Cycles);
        // Of a thread no cycles are known, and no frequency.
        assert_eq!(unit(Some(&at(5, 2.0)), &busy), Weight::Frequency);
        let bare = Used {
            ns: 5,
            ..Used::default()
        };
        assert_eq!(unit(Some(&bare), &busy), Weight::Time);
        assert_eq!(unit(None, &bare), Weight::Time);
        assert_eq!(unit(None, &at(10, 2.0)), Weight::Frequency);
        // Counters that stood still weigh nothing.
        assert_eq!(unit(None, &counted(10, 0)), Weight::Frequency);
    }

    #[test]
    fn parts_weigh_as_much_as_the_whole() {
        let parts = [at(1_000, 1.0), at(3_000, 2.5)];
        let busy = Used {
            ns: 4_000,
            scaled: parts[0].scaled + parts[1].scaled,
            scaled_ns: 4_000,
            ..Used::default()
        };
        for unit in [Weight::Time, Weight::Frequency] {
            let sum: f64 = parts.iter().map(|p| weigh(p, &busy, unit, false)).sum();
            assert!((sum - weigh(&busy, &busy, unit, false)).abs() < 1e-9);
        }
        let ratio = weigh(&parts[1], &busy, Weight::Frequency, false)
            / weigh(&parts[0], &busy, Weight::Frequency, false);
        assert!((ratio - 7.5).abs() < 1e-9);
    }

    #[test]
    fn an_unknown_frequency_is_the_machines_mean() {
        let busy = at(4_000, 2.0);
        let unknown = Used {
            ns: 1_000,
            ..Used::default()
        };
        // As a meter does that goes by time alone then: a quarter of the time, a quarter.
        let share = weigh(&unknown, &busy, Weight::Frequency, false)
            / weigh(&busy, &busy, Weight::Frequency, false);
        assert!((share - 0.25).abs() < 1e-12);
    }

    #[test]
    fn a_busy_sibling_is_looked_at_where_there_are_any() {
        let busy = at(4_000, 2.0);
        let beside = Used {
            shared_ns: 1_000,
            ..at(1_000, 2.0)
        };
        assert_eq!(weigh(&beside, &busy, Weight::Time, false), 1_000.0);
        assert!(weigh(&beside, &busy, Weight::Time, true) < 1_000.0);
        assert_eq!(weigh(&Used::default(), &busy, Weight::Time, true), 0.0);
    }
}

//! How often a counter changes, learned from its readings, and what that leaves open at the edges of
//! a window.
//!
//! A counter shows the energy up to its last change. Read at any moment, it is old by a time that is
//! distributed as the intervals between changes let it be: where they are all 1 ms, evenly from 0 to
//! 1 ms. A window is too long or too short by the difference of two such ages.
//!
//! Two readings that are `t` apart show the same value exactly where the second is older than `t`. So
//! each pair of readings tells one yes or no of the distribution of ages, and no reading is made for it
//! at the edges of a window: those that there are anyway are enough, and where a window is sampled, the
//! sampler looks a few times more ([`Updates::is_settled`]).

use serde::{Deserialize, Serialize};

/// A pattern of intervals between two changes: (length, part of the intervals), lengths in units of
/// their mean.
type Pattern = &'static [(f64, f64)];

/// Intervals of one length. Their standard deviation is 3 to 95 µs on Broadwell-EP, Knights Landing
/// and Zen 2 (Alt et al., ICPE 2024; Schöne et al., CLUSTER 2021).
const EVEN: Pattern = &[(0.92, 0.25), (1.0, 0.5), (1.08, 0.25)];

/// Short and long ones, 1 ms in the mean: at least one recent server family changes its counters
/// mostly after 0.7 to 0.9 ms and often after 1.4 to 1.5 ms, standard deviation 0.27 ms.
const UNEVEN: Pattern = &[(0.75, 0.345), (0.85, 0.345), (1.4, 0.155), (1.5, 0.155)];

/// How a counter may change: pattern, mean interval (ms), and how probable that is of a counter of
/// which nothing was seen. Filtered counters change every 8 to 20 ms.
const KINDS: [(Pattern, f64, f64); 10] = [
    (EVEN, 1.0, 0.35),
    (UNEVEN, 1.0, 0.65),
    (EVEN, 2.0, 1e-3),
    (EVEN, 3.0, 1e-3),
    (EVEN, 4.0, 1e-3),
    (EVEN, 6.0, 1e-3),
    (EVEN, 8.0, 1e-3),
    (EVEN, 12.0, 1e-3),
    (EVEN, 16.0, 1e-3),
    (EVEN, 24.0, 1e-3),
];

/// The longest interval of any kind, ns; where a counter stands still for longer, it is dead or at
/// rest.
const LONGEST_NS: u64 = 26_000_000;

/// Readings that are nearer to each other than this tell nothing, ns.
const NEAREST_NS: u64 = 100_000;

/// A look may show anything with this probability: the moments of two readings are known to some
/// 10 µs, and a change may come late now and then.
const ODD: f64 = 0.005;

/// The logarithms of [`ODD`] and of 1 less it. Most readings are of this kind, so that they need not be
/// computed: the sampler has to do with each counter at each sample.
const LOG_ODD: f64 = -5.298_317_366_548_036;
const LOG_SURE: f64 = -0.005_012_541_823_544_286;

/// A kind stays possible by this much (natural logarithm), so that it can be learned anew.
const LEAST: f32 = -16.0;

/// What the band leaves out of the difference of two ages. It is less than 5 %, because power at the
/// edges of a window is not its mean, and windows of whole milliseconds meet an uneven pattern at
/// the same places again and again.
const OUTSIDE: f64 = 0.03;

/// From this difference to any other kind on (natural logarithm) a kind is known.
const KNOWN: f32 = 6.0;

/// How old a counter that is read may be: its pattern and the mean interval, ms.
struct Ages(Pattern, f64);

impl Ages {
    /// The probability that it is older than `ms`.
    fn older(&self, ms: f64) -> f64 {
        let t = ms / self.1;
        let late = self
            .0
            .iter()
            .map(|(length, part)| part * (length - t).max(0.0));
        late.sum::<f64>().min(1.0)
    }

    /// The probability that two ages differ by more than `ms`: ∫ density(a) · older(a + ms) da, twice.
    fn differ(&self, ms: f64) -> f64 {
        let x = ms / self.1;
        let mut sum = 0.0;
        for (length, part) in self.0 {
            for (other, of_other) in self.0 {
                let left = other - x;
                let to = length.min(left).max(0.0);
                sum += part * of_other * (left * to - to * to / 2.0);
            }
        }
        2.0 * sum
    }
}

/// What the readings of one counter show of its kind: logarithms of likelihoods, the highest 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Updates([f32; KINDS.len()]);

impl Updates {
    /// Two readings one after the other, `apart_ns` from each other, showed different values (`moved`)
    /// or the same.
    pub fn see(&mut self, apart_ns: u64, moved: bool) {
        if !(NEAREST_NS..=LONGEST_NS).contains(&apart_ns) {
            return;
        }
        let ms = apart_ns as f64 * 1e-6;
        for (log, (pattern, mean, _)) in self.0.iter_mut().zip(KINDS) {
            let still = Ages(pattern, mean).older(ms);
            let shown = if moved { 1.0 - still } else { still };
            *log += match shown {
                odd if odd <= ODD => LOG_ODD,
                sure if sure >= 1.0 - ODD => LOG_SURE,
                other => other.ln(),
            } as f32;
        }
        let most = self.0.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for log in &mut self.0 {
            *log = (*log - most).max(LEAST);
        }
    }

    /// With what `others` of the same processor show: their mean counts as much as it does itself, so
    /// that a counter which is unlike them stays in doubt.
    pub fn beside(mut self, others: &[Self]) -> Self {
        let each = 1.0 / others.len().max(1) as f32;
        for other in others {
            for (log, theirs) in self.0.iter_mut().zip(other.0) {
                *log += each * theirs;
            }
        }
        self
    }

    /// Whether one kind stands out, so that it need not be looked at more often.
    pub fn is_settled(&self) -> bool {
        self.0.iter().filter(|log| **log > -KNOWN).count() == 1
    }

    /// The probability of each kind.
    fn kinds(&self) -> [f64; KINDS.len()] {
        let mut weights = KINDS.map(|(_, _, prior)| prior);
        let most = self.0.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for (weight, log) in weights.iter_mut().zip(self.0) {
            *weight *= f64::from(log - most).exp();
        }
        let sum: f64 = weights.iter().sum();
        weights.map(|weight| weight / sum)
    }

    /// By how much a window is too long or too short at most, s: the difference of the ages at its
    /// two edges is within this in 97 of 100 windows.
    ///
    /// ```
    /// use lithowatt::counter::Updates;
    /// let mut updates = Updates::default();
    /// // Nothing was seen: it has to hold for a counter that changes unevenly, too.
    /// assert!((1.0e-3..1.2e-3).contains(&updates.edge_seconds()));
    /// // It changed whenever a little more than a millisecond had passed.
    /// (0..200).for_each(|_| updates.see(1_150_000, true));
    /// assert!((0.8e-3..0.9e-3).contains(&updates.edge_seconds()));
    /// ```
    pub fn edge_seconds(&self) -> f64 {
        let kinds = self.kinds();
        let outside = |ms: f64| -> f64 {
            let of = |(weight, (pattern, mean, _)): (&f64, _)| match *weight > 1e-6 {
                true => weight * Ages(pattern, mean).differ(ms),
                false => 0.0,
            };
            kinds.iter().zip(KINDS).map(of).sum()
        };
        let (mut low, mut high) = (0.0, LONGEST_NS as f64 * 1e-6);
        while high - low > 1e-3 {
            let middle = 0.5 * (low + high);
            match outside(middle) > OUTSIDE {
                true => low = middle,
                false => high = middle,
            }
        }
        high * 1e-3
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counter::random::Random;

    /// How the intervals of a simulated counter come about, ms.
    #[derive(Debug, Clone, Copy)]
    enum Series {
        /// All about so long.
        Even(f64),
        /// Short or long, as it falls.
        Uneven,
        /// Short, short, long, and again.
        Threes,
    }

    /// When the counter changes, ms, over `until`.
    fn changes(series: Series, until: f64, random: &mut Random) -> Vec<f64> {
        let mut at = vec![0.0];
        while *at.last().unwrap() < until {
            let jitter = 0.1 * (random.next() - 0.5);
            let length = match series {
                Series::Even(mean) => mean * (1.0 + jitter),
                Series::Uneven if random.next() < 0.69 => 0.8 + jitter,
                Series::Uneven => 1.445 + jitter,
                Series::Threes if at.len() % 3 == 0 => 1.4 + 0.4 * jitter,
                Series::Threes => 0.8 + 0.4 * jitter,
            };
            at.push(at.last().unwrap() + length);
        }
        at
    }

    fn last_change(changes: &[f64], t: f64) -> f64 {
        changes[changes.partition_point(|at| *at <= t) - 1]
    }

    /// Part of windows at constant power whose band holds the truth; windows follow each other after
    /// 0.2 to 3.2 ms as in a loop of short calls, and their edges are the only readings.
    fn held(series: Series, lengths: &[f64], vary: f64, seed: u64, learned: bool) -> f64 {
        let mut random = Random(seed);
        let changes = changes(series, 60_000.0, &mut random);
        let mut updates = Updates::default();
        let (mut t, mut read) = (50.0, 50.0);
        let (mut windows, mut inside) = (0u32, 0.0);
        let mut edge_ms = 0.0;
        while t < 59_000.0 {
            t += 0.2 + 3.0 * random.next();
            for part in 0..2 {
                if part == 1 {
                    let length = lengths[(random.next() * lengths.len() as f64) as usize];
                    let from = t;
                    t += length * (1.0 + vary * (random.next() - 0.5));
                    let shown = last_change(&changes, t) - last_change(&changes, from);
                    // It takes a while to work out.
                    if windows % 16 == 0 {
                        edge_ms = updates.edge_seconds() * 1e3;
                    }
                    let a = (edge_ms / (t - from)).min(0.9);
                    windows += 1;
                    let (low, high) = (shown / (1.0 + a), shown / (1.0 - a));
                    inside += f64::from(low <= t - from && t - from <= high);
                }
                if learned {
                    let moved = last_change(&changes, t) != last_change(&changes, read);
                    updates.see(((t - read) * 1e6) as u64, moved);
                }
                read = t;
            }
        }
        inside / f64::from(windows)
    }

    #[test]
    fn bands_hold_for_even_and_uneven_counters() {
        let lengths = [5.0, 10.0, 50.0];
        for series in [Series::Even(1.0), Series::Uneven, Series::Threes] {
            for length in lengths {
                // 0.1: length of a window as a sleep makes it. 0.2: as a function's.
                for vary in [0.1, 0.2] {
                    let held = held(series, &[length], vary, 7, true);
                    assert!(
                        (0.94..0.995).contains(&held),
                        "{series:?} {length} ms: {held}"
                    );
                }
            }
        }
    }

    #[test]
    fn windows_of_whole_milliseconds_are_held() {
        for series in [Series::Even(1.0), Series::Uneven, Series::Threes] {
            for length in [5.0, 7.0, 10.0, 50.0] {
                let held = held(series, &[length], 0.0, 11, true);
                assert!(held > 0.90, "{series:?} {length} ms: {held}");
            }
        }
    }

    #[test]
    fn the_first_window_is_held_whatever_the_counter() {
        for series in [Series::Even(1.0), Series::Uneven, Series::Threes] {
            let held = held(series, &[5.0, 10.0, 50.0], 0.2, 3, false);
            assert!(held > 0.93, "{series:?}: {held}");
        }
    }

    #[test]
    fn slow_counters_are_learned() {
        for mean in [2.0, 5.0, 10.0, 20.0] {
            let held = held(Series::Even(mean), &[50.0, 80.0], 0.2, 5, true);
            assert!(held > 0.92, "{mean} ms: {held}");
        }
    }

    #[test]
    fn what_was_learned_can_be_learned_anew() {
        let mut updates = Updates::default();
        (0..10_000).for_each(|_| updates.see(1_200_000, true));
        assert!(updates.is_settled());
        let even = updates.edge_seconds();
        for _ in 0..40 {
            updates.see(1_200_000, false);
            (0..10).for_each(|_| updates.see(1_200_000, true));
        }
        assert!(updates.edge_seconds() > even + 0.2e-3);
        // A counter at rest is none that changes slowly.
        let seen = updates;
        updates.see(LONGEST_NS + 1, false);
        assert_eq!(updates, seen);
    }

    #[test]
    fn logarithms_are_those_of_their_numbers() {
        assert_eq!(LOG_ODD, ODD.ln());
        assert_eq!(LOG_SURE, (1.0 - ODD).ln());
    }

    #[test]
    fn ages_are_what_intervals_make_of_them() {
        let even = Ages(&[(1.0, 1.0)], 2.0);
        assert!((even.older(0.5) - 0.75).abs() < 1e-12 && even.older(2.5) == 0.0);
        // Triangular: (1 - x)².
        assert!((even.differ(0.5) - 0.75f64.powi(2)).abs() < 1e-12);
        for (pattern, mean, _) in KINDS {
            let sum: f64 = pattern.iter().map(|(length, part)| length * part).sum();
            assert!((sum - 1.0).abs() < 0.01, "{sum}");
            assert!((Ages(pattern, mean).differ(0.0) - 1.0).abs() < 0.02);
        }
    }
}

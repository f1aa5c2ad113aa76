//! Idle power of what was measured: what is known of it, held against what was seen in the window.

use crate::machine::facts::{Facts, IdlePower, IdleSource};
use crate::machine::idle_power::IdleLearner;
use crate::sampler::Outcome;

/// A machine at rest takes up to this part of what it takes with all CPUs busy.
const MOST_IDLE: f64 = 0.75;

/// The most that a machine may take at rest as a part of what it takes while `busy` (0..1) of it is:
/// what lies above rest grows with the load.
fn most_idle(busy: f64) -> f64 {
    1.0 / (1.0 + (1.0 / MOST_IDLE - 1.0) * busy.clamp(0.0, 1.0))
}

/// The model's guess of idle power (best, low, high, W), held against what was seen: the machine may
/// rest at up to `most`, and surely at not more than `ceiling`.
///
/// A guess above `most` is wrong as a whole, so it is scaled down with its band: cut off at the
/// ceiling, it would leave nothing above idle and no doubt about that.
fn guess_within(guess: IdlePower, most: f64, ceiling: f64) -> [f64; 3] {
    let scale = if guess.watts > most {
        most / guess.watts
    } else {
        1.0
    };
    [
        guess.watts * scale,
        // The farther off the guess was, the less its band is worth.
        guess.low * scale * scale,
        guess.high.max(most).min(ceiling),
    ]
}

/// Idle power of some slots together: best, low, high, W.
#[derive(Debug, Clone, Copy)]
pub(super) struct Idle {
    pub(super) watts: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) source: IdleSource,
}

pub(super) fn idle_of(outcome: &Outcome, facts: &Facts, slots: &[usize]) -> Idle {
    let mut idle = Idle {
        watts: 0.0,
        low: 0.0,
        high: 0.0,
        source: IdleSource::Unknown,
    };
    let mut source = None;
    let mut ceilings = 0.0;
    let zones = outcome.distinct_zones();
    for i in slots {
        let zone = &outcome.zones()[*i];
        // Idle power is not above the least power that was seen.
        let ceiling = outcome.ledger.ceiling_watts(*i);
        ceilings += ceiling;
        let learned = facts.idle_of(zone, &zones, &outcome.idle_learners[*i]);
        // What was learned and is above what was seen now was learned of something else.
        let power = match learned {
            Some(power) if power.source == IdleSource::Learned && power.low > ceiling => {
                facts.idle_of(zone, &zones, &IdleLearner::default())
            }
            power => power,
        };
        let Some(power) = power else {
            continue;
        };
        let within = match power.source {
            IdleSource::Modelled if ceiling.is_finite() => guess_within(
                power,
                most_idle(outcome.ledger.least_busy) * ceiling,
                ceiling,
            ),
            _ => [power.watts, power.low, power.high].map(|watts| watts.min(ceiling)),
        };
        idle.watts += within[0];
        idle.low += within[1];
        idle.high += within[2];
        source = Some(power.source);
    }
    // What the user set is for all of them together, however the model would split it.
    if let (Some(IdleSource::Configured), Some(watts)) = (source, facts.environment.idle_watts) {
        idle.watts = watts.min(ceilings);
        idle.low = (0.95 * watts).min(ceilings);
        idle.high = (1.05 * watts).min(ceilings);
    }
    idle.source = source.unwrap_or(IdleSource::Unknown);
    idle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_hardly_works_may_rest_at_all_that_was_seen() {
        assert_eq!(most_idle(0.0), 1.0);
        assert!((most_idle(1.0) - MOST_IDLE).abs() < 1e-12);
        assert!(most_idle(0.1) > 0.95 && most_idle(7.0) == most_idle(1.0));
    }
}

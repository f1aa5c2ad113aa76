//! The part of the CPUs that the metered thing may use.

use crate::machine::facts::Facts;
use crate::sampler::Outcome;

/// The part of the machine's CPUs that the metered thing may use, 0..1.
pub(super) fn allotted(outcome: &Outcome, facts: &Facts) -> f64 {
    let share = facts.allotted_share();
    match outcome.scope.is_one_thread() {
        // A thread or a coroutine runs on one CPU at a time.
        true => share.min(1.0 / f64::from(facts.cpus.max(1))),
        false => share,
    }
}

/// The part of what the model charges that the metered thing may use, 0..1.
pub(super) fn allotted_of_model(outcome: &Outcome, facts: &Facts) -> f64 {
    let what = facts.modelling(outcome.estimation, outcome.ours);
    let cpus = facts.environment.allotted.cpus;
    let may = match outcome.scope.is_one_thread() {
        // A thread or a coroutine runs on one CPU at a time.
        true => cpus.min(1.0),
        false => cpus,
    };
    (may / what.vcpus).clamp(0.0, 1.0)
}

//! The energy of a window, divided once: the headline, what the probes saw of each domain, and the
//! phases all take their parts of the same division.

use super::MethodReading;
use super::allotted::{allotted, allotted_of_model};
use super::idle::{Idle, idle_of};
use crate::attribution::{Division, IdleClaim, Ledger, divide};
use crate::bands::Share;
use crate::definition::Definition;
use crate::machine::facts::{Facts, IdleSource};
use crate::model::estimation::Estimation;
use crate::sampler::{Outcome, Phase};
use crate::source::{Domain, Method};

/// What gave the energy that is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Basis {
    /// The counters of a method.
    Counter(Method),
    /// The power model.
    Model,
}

/// The energy of some slots of a window, divided.
#[derive(Debug, Clone)]
pub(super) struct Divided {
    pub(super) basis: Basis,
    pub(super) slots: Vec<usize>,
    /// Which of the call's energies is its headline.
    pub(super) definition: Definition,
    /// Idle power of the slots together.
    pub(super) idle: Idle,
    /// The part of the CPUs that the metered thing may use, 0..1.
    pub(super) allotted: f64,
    pub(super) claim: IdleClaim,
    pub(super) alone: bool,
    pub(super) share: Share,
    pub(super) division: Division,
    /// Length of the window, s.
    pub(super) seconds: f64,
}

impl Divided {
    /// What the counters of `method` showed of packages and memory.
    pub(super) fn measured(
        outcome: &Outcome,
        facts: &Facts,
        definition: Definition,
        method: Method,
        machine: &MethodReading,
    ) -> Self {
        let domains = [Domain::Package, Domain::Dram].into_iter();
        let slots: Vec<usize> = domains
            .filter(|domain| machine.domains.contains_key(domain))
            .flat_map(|domain| outcome.slots_of(method, domain))
            .collect();
        let idle = idle_of(outcome, facts, &slots);
        Self::new(
            Basis::Counter(method),
            slots,
            definition,
            idle,
            (outcome, facts),
            &outcome.ledger,
        )
    }

    /// What the model gives for the machine, or for the sandbox where there is one. `None` where it
    /// gives nothing.
    pub(super) fn modelled(
        outcome: &Outcome,
        facts: &Facts,
        definition: Definition,
    ) -> Option<Self> {
        let what = facts.modelling(outcome.estimation, outcome.ours);
        let watts = facts.model_power(what, 0.0).idle;
        let idle = Idle {
            watts,
            low: watts,
            high: watts,
            // By the TDP × load there is no power at rest.
            source: match outcome.estimation {
                Estimation::TdpBased => IdleSource::Unknown,
                Estimation::Curve | Estimation::Vcpu => IdleSource::Modelled,
            },
        };
        let divided = Self::new(
            Basis::Model,
            outcome.slots.model().to_vec(),
            definition,
            idle,
            (outcome, facts),
            outcome.sandbox.as_ref().unwrap_or(&outcome.ledger),
        );
        // By the TDP a machine at rest takes nothing.
        let machine = divided.division.machine;
        let may_be_none = outcome.estimation == Estimation::TdpBased;
        (machine > 0.0 || machine == 0.0 && may_be_none).then_some(divided)
    }

    fn new(
        basis: Basis,
        slots: Vec<usize>,
        definition: Definition,
        idle: Idle,
        (outcome, facts): (&Outcome, &Facts),
        ledger: &Ledger,
    ) -> Self {
        let allotted = match basis {
            Basis::Counter(_) => allotted(outcome, facts),
            Basis::Model => allotted_of_model(outcome, facts),
        };
        let claim = IdleClaim {
            allotted,
            // A thread or a coroutine of a function is not all for which its sandbox exists.
            sole: !outcome.scope.is_one_thread() && facts.environment.function_sandbox,
        };
        let (alone, share) = (ledger.alone(), ledger.share(facts.model.workload_spread()));
        let division = divide(ledger, &slots, idle.watts, claim.part(alone, share.value));
        Self {
            basis,
            slots,
            definition,
            idle,
            allotted,
            claim,
            alone,
            share,
            division,
            seconds: outcome.ledger.dt_ns * 1e-9,
        }
    }

    /// The call's energy, J.
    pub(super) fn joules(&self) -> f64 {
        self.division.of(self.definition)
    }

    /// The call's energy (J) of `slots` alone, whose idle energy in `ledger` is `idle` J.
    pub(super) fn joules_of(&self, ledger: &Ledger, slots: &[usize], idle: f64) -> f64 {
        let watts = idle / self.seconds;
        divide(ledger, slots, watts, self.division.idle_share).of(self.definition)
    }

    /// The call's energy in a phase, J. The window's idle power and part of idle hold for each of its
    /// phases, so phases that cover the window sum to its headline.
    pub(super) fn joules_in(&self, phase: &Phase) -> Option<f64> {
        if self.seconds <= 0.0 {
            return None;
        }
        let ledger = match (self.basis, &phase.sandbox) {
            (Basis::Model, Some(sandbox)) => sandbox,
            _ => &phase.ledger,
        };
        Some(self.joules_of(ledger, &self.slots, self.division.idle))
    }
}

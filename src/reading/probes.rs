//! What kernel probes saw, and the energy by domain as they share it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::divided::Divided;
use super::domains::by_domain;
use super::{Availability, Energy, MethodReading};
use crate::attribution::Weight;
use crate::machine::facts::Facts;
use crate::sampler::{Outcome, SeenWindow};
use crate::source::{Domain, Method};

/// What kernel probes saw in the window.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ProbeReading {
    /// On-CPU time of the function, s.
    pub cpu_seconds: Option<f64>,
    /// Cycles of the function.
    pub cycles: Option<u64>,
    /// Instructions of the function.
    pub instructions: Option<u64>,
    /// Cycles × the model's joules per cycle, J.
    pub energy_from_cycles: Option<f64>,
    /// Frequency changes of the machine's CPUs.
    pub frequency_changes: Option<u64>,
    /// Times a CPU of the machine went into an idle state.
    pub idle_transitions: Option<u64>,
    /// Time in idle states, all CPUs of the machine, s.
    pub idle_seconds: Option<f64>,
    /// Thermal interrupts or trips of the machine.
    pub thermal_events: Option<u64>,
    /// What the machine's energy was shared by.
    pub weight: Option<Weight>,
    /// Slices of the machine that began unseen.
    pub lost_slices: u64,
    /// Why a value is missing.
    pub reasons: BTreeMap<&'static str, String>,
}

/// The call's energy by domain as kernel probes share the machine's, and what else they saw.
pub(super) fn probe_reading(
    outcome: &Outcome,
    facts: &Facts,
    measured: Option<(&Divided, Energy, &MethodReading)>,
) -> (MethodReading, Option<ProbeReading>) {
    let not = |why: String| MethodReading {
        availability: Availability::Unavailable(why),
        ..MethodReading::default()
    };
    if let Some(why) = outcome.missing(Method::Ebpf) {
        return (not(why), None);
    }
    let seen = match &outcome.seen {
        Err(why) => return (not(why.clone()), None),
        Ok(_) if !outcome.ledger.seen => {
            return (not("they saw only a part of the window".into()), None);
        }
        Ok(seen) => seen,
    };
    let probes = seen_reading(outcome, facts, seen);
    let Some(weight) = outcome.ledger.weight.filter(|_| seen.own.is_some()) else {
        let why = format!(
            "the CPU clock of the {} has its time; kernel probes see the machine's",
            outcome.scope.name()
        );
        return (not(why), None);
    };
    let mut reading = MethodReading {
        availability: Availability::From(format!(
            "attributed: {} seen by kernel probes",
            weight.name()
        )),
        ..MethodReading::default()
    };
    match measured {
        Some((divided, whole, machine)) => {
            let scale = |end: f64| {
                let joules = whole.joules;
                if joules > 0.0 { end / joules } else { 1.0 }
            };
            for (domain, joules) in by_domain(outcome, facts, divided, machine) {
                let energy = Energy {
                    joules,
                    low: joules * scale(whole.low),
                    high: joules * scale(whole.high),
                };
                reading.domains.insert(domain, energy);
            }
            reading.total = Some(whole);
        }
        None => {
            let why = "no energy counter whose joules could be shared".to_owned();
            reading.reasons.insert(Domain::Package, why);
        }
    }
    (reading, Some(probes))
}

pub(super) fn seen_reading(outcome: &Outcome, facts: &Facts, seen: &SeenWindow) -> ProbeReading {
    let mut reading = ProbeReading {
        weight: outcome.ledger.weight,
        lost_slices: seen.machine.lost,
        cycles: seen.own.and_then(|own| own.cycles),
        instructions: seen.own.and_then(|own| own.instructions),
        // Without the sampler's, as everywhere.
        cpu_seconds: seen.own.map(|_| outcome.ledger.own_ns * 1e-9),
        ..ProbeReading::default()
    };
    let mut reasons = BTreeMap::new();
    if reading.cycles.is_none() {
        let why = if seen.own.is_some() {
            "no PMU counts cycles on this machine"
        } else {
            "followed for processes and cgroups only"
        };
        reasons.insert("cycles", why.to_owned());
    }
    reading.energy_from_cycles = reading
        .cycles
        .and_then(|cycles| Some(cycles as f64 * facts.model_joules_per_cycle()?));
    if reading.energy_from_cycles.is_none() && reading.cycles.is_some() {
        let why = "the processor's clock is unknown";
        reasons.insert("energy_from_cycles", why.to_owned());
    }
    if !seen.sees_frequency {
        reasons.insert("frequency_changes", "no such tracepoint".into());
    } else if seen.frequency_changes_ever == 0 {
        let why = "none was ever reported: the processor or its host changes clocks by itself";
        reasons.insert("frequency_changes", why.into());
    } else {
        reading.frequency_changes = Some(seen.machine.frequency_changes);
    }
    if seen.sees_idle {
        reading.idle_transitions = Some(seen.machine.idle_transitions);
        reading.idle_seconds = Some(seen.machine.idle_ns as f64 * 1e-9);
    } else {
        reasons.insert("idle", "no such tracepoint".into());
    }
    if let Some(throttled) = seen.throttled {
        reading.thermal_events = Some(throttled);
    } else if !seen.sees_thermal {
        reasons.insert("thermal_events", "no such tracepoint".into());
    } else if facts.cpu.hypervisor {
        let why = "a virtual machine gets no thermal interrupts";
        reasons.insert("thermal_events", why.into());
    } else {
        reading.thermal_events = Some(seen.machine.thermal_events);
    }
    reading.reasons = reasons;
    reading
}

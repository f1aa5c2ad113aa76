//! The energy of the call: its share of what was measured, or the model's.

use super::probes::followed;
use super::{Energy, Headline, MethodReading, Quality, rss};
use crate::attribution::{Ledger, divide};
use crate::machine::estimation::Estimation;
use crate::machine::facts::{Facts, IdleSource};
use crate::sampler::Outcome;
use crate::source::{Domain, Method};

/// A window from which idle power matters enough to be talked about, ns.
pub(super) const LONG_NS: f64 = 100e6;

/// Machines at rest take up to this part of what they take at the lowest load of a busy window.
pub(super) const MOST_IDLE: f64 = 0.75;

/// Idle power of some slots together: best, low, high, W.
pub(super) struct Idle {
    pub(super) watts: f64,
    low: f64,
    high: f64,
    source: String,
}

pub(super) fn idle_of(outcome: &Outcome, facts: &Facts, slots: &[usize]) -> Idle {
    let mut idle = Idle {
        watts: 0.0,
        low: 0.0,
        high: 0.0,
        source: "unknown".into(),
    };
    let mut source = None;
    let mut ceilings = 0.0;
    for i in slots {
        let zone = &outcome.zones()[*i];
        // Idle power is not above the least power that was seen.
        let ceiling = outcome.ledger.ceiling_watts(*i);
        ceilings += ceiling;
        let Some(power) = facts.idle_of(zone, outcome.zones(), &outcome.rests[*i]) else {
            continue;
        };
        idle.watts += power.watts.min(ceiling);
        idle.low += power.low.min(ceiling);
        idle.high += match power.source {
            // A guess: the machine may rest at nearly all of the least power that was seen.
            IdleSource::Modelled if ceiling.is_finite() => {
                power.high.max(MOST_IDLE * ceiling).min(ceiling)
            }
            _ => power.high.min(ceiling),
        };
        source = Some(power.source);
    }
    // What the user set is for all of them together, however the model would split it.
    if let (Some(IdleSource::Configured), Some(watts)) = (source, facts.environment.idle_watts) {
        idle.watts = watts.min(ceilings);
        idle.low = (0.95 * watts).min(ceilings);
        idle.high = (1.05 * watts).min(ceilings);
    }
    if let Some(source) = source {
        idle.source = source.name().into();
    }
    idle
}

/// The part of the machine's CPUs that the metered thing may use, 0..1.
pub(super) fn allotted(outcome: &Outcome, facts: &Facts) -> f64 {
    let share = facts.allotted_share();
    match outcome.scope {
        // A thread or a coroutine runs on one CPU at a time.
        "thread" | "task" => share.min(1.0 / f64::from(facts.cpus.max(1))),
        _ => share,
    }
}

/// The part of what the model charges that the metered thing may use, 0..1.
pub(super) fn allotted_of_model(outcome: &Outcome, facts: &Facts) -> f64 {
    let what = facts.modelling(outcome.estimation, outcome.ours);
    let cpus = facts.environment.share.cpus;
    let may = match outcome.scope {
        // A thread or a coroutine runs on one CPU at a time.
        "thread" | "task" => cpus.min(1.0),
        _ => cpus,
    };
    (may / what.vcpus).clamp(0.0, 1.0)
}

/// The energy of the call as a function of machine energy, idle energy and share.
pub(super) fn energy_of(machine: f64, idle: f64, share: f64, idle_share: Option<f64>) -> f64 {
    let active = (machine - idle).max(0.0);
    share * active + idle_share.map_or(0.0, |part| part * idle.min(machine))
}

pub(super) fn measured(
    outcome: &Outcome,
    facts: &Facts,
    method: Method,
    reading: &MethodReading,
    warnings: &mut Vec<String>,
) -> Option<Headline> {
    let total = reading.total?;
    if !outcome.own_known {
        return None;
    }
    let slots: Vec<usize> = [Domain::Package, Domain::Dram]
        .into_iter()
        .filter(|d| reading.domains.contains_key(d))
        .flat_map(|d| outcome.slots_of(method, d))
        .collect();
    let idle = idle_of(outcome, facts, &slots);
    let ledger = &outcome.ledger;
    if idle.source == IdleSource::Modelled.name() && ledger.dt_ns >= LONG_NS {
        warnings.push(
            "idle power is the model's guess and marginal energy depends on it: `lithowatt \
             calibrate` measures it once"
                .into(),
        );
    }
    let allotted = allotted(outcome, facts);
    let division = divide(ledger, &slots, idle.watts, allotted);
    let share = ledger.share();
    let alone = ledger.alone() && outcome.scope != "task";
    let (value, idle_share, definition) = if alone {
        (division.amortised, Some(allotted), "amortised")
    } else {
        (division.marginal, None, "marginal")
    };
    if !ledger.busy_known {
        warnings.push(
            "how busy the machine was is unknown, so others' work may be counted as ours".into(),
        );
    }
    let seconds = ledger.dt_ns * 1e-9;
    // The share by energy, which weighs intervals by their power, stands for the plain one.
    let active = (division.machine - division.idle).max(0.0);
    let s = if active > 0.0 {
        division.marginal / active
    } else {
        share.value
    };
    let scale = |end: f64| {
        if share.value > 0.0 {
            (s * end / share.value).min(1.0)
        } else {
            end
        }
    };
    let base = energy_of(total.joules, division.idle, s, idle_share);
    let at = |machine: f64, idle_w: f64, part: f64| {
        energy_of(machine, (idle_w * seconds).min(machine), part, idle_share) - base
    };
    let down = rss(&[
        at(total.low, idle.watts, s).min(0.0),
        at(total.joules, idle.high, s).min(0.0) + at(total.joules, idle.low, s).min(0.0),
        at(total.joules, idle.watts, scale(share.low)).min(0.0),
    ]);
    let up = rss(&[
        at(total.high, idle.watts, s).max(0.0),
        at(total.joules, idle.low, s).max(0.0) + at(total.joules, idle.high, s).max(0.0),
        at(total.joules, idle.watts, scale(share.high)).max(0.0),
    ]);
    let weight = match outcome.scope {
        _ if followed(outcome).is_some() => "ebpf",
        "cgroup" => "cgroup",
        _ => "cputime",
    };
    Some(Headline {
        energy: Energy {
            joules: value,
            low: (value - down).max(0.0),
            high: value + up,
        },
        quality: if alone && allotted >= 0.999 {
            Quality::Measured
        } else {
            Quality::Attributed
        },
        method: format!("{}+{weight}{}", method.name(), outcome.via(method)),
        definition,
        division,
        idle_source: idle.source,
        share,
    })
}

pub(super) fn modelled(outcome: &Outcome, facts: &Facts) -> Option<Headline> {
    if !outcome.own_known {
        return None;
    }
    let ledger = outcome.sandbox.as_ref().unwrap_or(&outcome.ledger);
    let width = outcome.width;
    let slots = [width, width + 1];
    let what = facts.modelling(outcome.estimation, outcome.ours);
    let idle_watts = facts.model_power(what, 0.0).idle;
    let allotted = allotted_of_model(outcome, facts);
    let division = divide(ledger, &slots, idle_watts, allotted);
    let share = ledger.share();
    let alone = ledger.alone() && outcome.scope != "task";
    let value = if alone {
        division.amortised
    } else {
        division.marginal
    };
    let [best, low, high] = outcome.model_joules;
    // By the TDP a machine at rest takes nothing.
    if best < 0.0 || best == 0.0 && outcome.estimation != Estimation::TdpBased {
        return None;
    }
    let relative = |end: f64, of: f64| if of > 0.0 { end / of - 1.0 } else { 0.0 };
    let down = rss(&[relative(low, best), relative(share.low, share.value)]);
    let up = rss(&[relative(high, best), relative(share.high, share.value)]);
    // Nothing by the TDP is something by the curve.
    let least_high = if best > 0.0 { 0.0 } else { high * allotted };
    Some(Headline {
        energy: Energy {
            joules: value,
            low: (value * (1.0 - down)).max(0.0),
            high: (value * (1.0 + up)).max(least_high),
        },
        quality: Quality::Modelled,
        method: outcome.estimation.method(&facts.model),
        definition: if alone { "amortised" } else { "marginal" },
        division,
        idle_source: "modelled".into(),
        share,
    })
}

pub(super) fn phase_joules(
    outcome: &Outcome,
    facts: &Facts,
    headline: &Headline,
    ledger: &Ledger,
) -> Option<f64> {
    let seconds = outcome.ledger.dt_ns * 1e-9;
    if seconds <= 0.0 {
        return None;
    }
    let width = outcome.width;
    let slots: Vec<usize> = match headline.quality {
        Quality::Modelled => vec![width, width + 1],
        _ => {
            let method = if headline.method.starts_with("rapl") {
                Method::Rapl
            } else {
                Method::Perf
            };
            let mut slots = outcome.slots_of(method, Domain::Package);
            slots.extend(outcome.slots_of(method, Domain::Dram));
            slots
        }
    };
    // The window's idle power and idle share hold for each of its phases, so phases that cover
    // the window sum to its headline.
    let idle_watts = headline.division.idle / seconds;
    let division = divide(ledger, &slots, idle_watts, 0.0);
    let idle_share = match (headline.definition, headline.quality) {
        ("amortised", Quality::Modelled) => allotted_of_model(outcome, facts),
        ("amortised", _) => allotted(outcome, facts),
        _ => 0.0,
    };
    Some(division.marginal + idle_share * division.idle)
}

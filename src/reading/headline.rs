//! The energy of the call: its share of what was measured, or the model's.

use super::allotted::{allotted, allotted_of_model};
use super::idle::idle_of;
use super::{Energy, Headline, MethodReading, Quality, rss};
use crate::attribution::{Division, IdleClaim, Ledger, Share, divide};
use crate::definition::Definition;
use crate::machine::facts::{Facts, IdleSource};
use crate::model::estimation::Estimation;
use crate::sampler::Outcome;
use crate::source::{Domain, Method};

/// A window from which idle power matters enough to be talked about, ns.
pub(super) const LONG_NS: f64 = 100e6;

/// Which part of the idle power of what is `allotted` (0..1) belongs to what is metered.
fn claim(outcome: &Outcome, facts: &Facts, allotted: f64) -> IdleClaim {
    // A thread or a coroutine of a function is not all for which its sandbox exists.
    let whole = !matches!(outcome.scope, "thread" | "task");
    IdleClaim {
        allotted,
        sole: whole && facts.environment.function_sandbox,
    }
}

/// How the call's energy follows from what lies above idle, from idle and from its share.
struct Charge {
    definition: Definition,
    claim: IdleClaim,
    alone: bool,
    share: Share,
    /// The share by energy, which weighs intervals by their power, stands for the plain one.
    by_energy: f64,
}

impl Charge {
    fn new(definition: Definition, claim: IdleClaim, ledger: &Ledger, division: &Division) -> Self {
        let share = ledger.share();
        let active = division.machine - division.idle;
        Self {
            definition,
            claim,
            alone: ledger.alone(),
            share,
            by_energy: if active > 0.0 {
                division.marginal / active
            } else {
                share.value
            },
        }
    }

    /// The energy, J, with `share` of the busy time.
    fn of(&self, active: f64, idle: f64, share: f64) -> f64 {
        let part = if self.share.value > 0.0 {
            (self.by_energy * share / self.share.value).min(1.0)
        } else {
            share
        };
        let idle_part = match self.definition {
            Definition::Marginal => 0.0,
            Definition::Amortised => self.claim.part(self.alone, share),
        };
        part * active + idle_part * idle
    }

    /// The band round `value`, J: each of `others` are the energies at the two ends of one doubt
    /// (above idle, idle), and the share is a doubt, too.
    fn band(&self, value: f64, active: f64, idle: f64, others: &[[(f64, f64); 2]]) -> Energy {
        let best = self.share.value;
        let base = self.of(active, idle, best);
        let mut changes: Vec<[f64; 2]> = others
            .iter()
            .map(|ends| ends.map(|(active, idle)| self.of(active, idle, best) - base))
            .collect();
        let ends = [self.share.low, self.share.high];
        changes.push(ends.map(|share| self.of(active, idle, share) - base));
        let down: Vec<f64> = changes.iter().map(|[a, b]| a.min(*b).min(0.0)).collect();
        let up: Vec<f64> = changes.iter().map(|[a, b]| a.max(*b).max(0.0)).collect();
        Energy {
            joules: value,
            low: (value - rss(&down)).max(0.0),
            high: value + rss(&up),
        }
    }
}

pub(super) fn measured(
    outcome: &Outcome,
    facts: &Facts,
    definition: Definition,
    method: Method,
    reading: &MethodReading,
    warnings: &mut Vec<String>,
) -> Option<Headline> {
    let total = reading.total?;
    if !outcome.own_known {
        return None;
    }
    let slots = total_slots(outcome, method, reading);
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
    let claim = claim(outcome, facts, allotted);
    let part = claim.part(ledger.alone(), ledger.share().value);
    let division = divide(ledger, &slots, idle.watts, part);
    let charge = Charge::new(definition, claim, ledger, &division);
    let seconds = ledger.dt_ns * 1e-9;
    let split = |machine: f64, idle: f64| {
        let idle = idle.min(machine);
        (machine - idle, idle)
    };
    let (active, idle_joules) = split(total.joules, division.idle);
    let doubts = [
        [total.low, total.high].map(|machine| split(machine, division.idle)),
        [idle.low, idle.high].map(|watts| split(total.joules, watts * seconds)),
    ];
    let energy = charge.band(division.of(definition), active, idle_joules, &doubts);
    let weight = match outcome.scope {
        _ if outcome.followed().is_some() => "ebpf",
        "cgroup" => "cgroup",
        _ => "cputime",
    };
    Some(Headline {
        energy,
        quality: if charge.alone && outcome.scope != "task" && allotted >= 0.999 {
            Quality::Measured
        } else {
            Quality::Attributed
        },
        method: format!("{}+{weight}{}", method.name(), outcome.via(method)),
        definition,
        division,
        idle_source: idle.source,
        share: charge.share,
    })
}

/// The slots that make up a machine's total: packages and memory.
fn total_slots(outcome: &Outcome, method: Method, reading: &MethodReading) -> Vec<usize> {
    [Domain::Package, Domain::Dram]
        .into_iter()
        .filter(|d| reading.domains.contains_key(d))
        .flat_map(|d| outcome.slots_of(method, d))
        .collect()
}

/// What one domain of the machine counted in a window.
struct Counted {
    domain: Domain,
    slots: Vec<usize>,
    /// J.
    joules: f64,
    /// J at rest, where that was seen of this very domain: learned or calibrated.
    rest: Option<f64>,
}

/// The call's joules of packages, memory and cores, by the headline's definition.
pub(super) fn by_domain(
    outcome: &Outcome,
    facts: &Facts,
    headline: &Headline,
    method: Method,
    machine: &MethodReading,
) -> Vec<(Domain, f64)> {
    let ledger = &outcome.ledger;
    let seconds = ledger.dt_ns * 1e-9;
    let counted = |domain: Domain| {
        let joules = machine.domains.get(&domain)?.joules;
        let slots = outcome.slots_of(method, domain);
        let watts = slots.iter().map(|i| {
            let zone = &outcome.zones()[*i];
            let power = facts.idle_of(zone, outcome.zones(), &outcome.rests[*i])?;
            let known = matches!(power.source, IdleSource::Learned | IdleSource::Calibrated);
            known.then(|| power.watts.min(ledger.ceiling_watts(*i)))
        });
        let rest = watts.sum::<Option<f64>>().map(|watts| watts * seconds);
        Some(Counted {
            domain,
            slots,
            joules,
            rest,
        })
    };
    let parts: Vec<Counted> = [Domain::Package, Domain::Dram]
        .into_iter()
        .filter_map(counted)
        .collect();
    share_by_domain(ledger, headline, &parts, counted(Domain::Core).as_ref())
}

/// Packages and memory sum to the headline, and cores are not more than packages.
///
/// Idle power is taken off each domain as it was seen in it. Where it is known for the whole only
/// (set by the user, or the model's guess), each domain has its part by the energy it counted.
fn share_by_domain(
    ledger: &Ledger,
    headline: &Headline,
    parts: &[Counted],
    cores: Option<&Counted>,
) -> Vec<(Domain, f64)> {
    let seconds = ledger.dt_ns * 1e-9;
    if seconds <= 0.0 {
        return Vec::new();
    }
    let division = &headline.division;
    let whole: f64 = parts.iter().map(|part| part.joules).sum();
    let rest = parts.iter().map(|part| part.rest).sum::<Option<f64>>();
    let rest = rest.filter(|joules| *joules > 0.0);
    let idle_of = |part: &Counted| match (rest, part.rest) {
        (Some(all), Some(own)) => division.idle * own / all,
        _ if whole > 0.0 => division.idle * part.joules / whole,
        _ => 0.0,
    };
    let call_of = |part: &Counted, idle: f64| {
        divide(ledger, &part.slots, idle / seconds, division.idle_share).of(headline.definition)
    };
    let mut calls: Vec<(Domain, f64)> = parts
        .iter()
        .map(|part| (part.domain, call_of(part, idle_of(part))))
        .collect();
    let sum: f64 = calls.iter().map(|(_, joules)| joules).sum();
    let scale = if sum > 0.0 {
        headline.energy.joules / sum
    } else {
        1.0
    };
    for (_, joules) in &mut calls {
        *joules *= scale;
    }
    let package = parts
        .iter()
        .zip(&calls)
        .find(|(part, _)| part.domain == Domain::Package);
    if let (Some((package, (_, most))), Some(cores)) = (package, cores)
        && package.joules > 0.0
    {
        let idle = match cores.rest.filter(|_| rest.is_some()) {
            Some(own) => own.min(idle_of(package)),
            None => idle_of(package) * cores.joules / package.joules,
        };
        let joules = (scale * call_of(cores, idle)).min(*most);
        calls.push((Domain::Core, joules));
    }
    calls
}

pub(super) fn modelled(
    outcome: &Outcome,
    facts: &Facts,
    definition: Definition,
) -> Option<Headline> {
    if !outcome.own_known {
        return None;
    }
    let ledger = outcome.sandbox.as_ref().unwrap_or(&outcome.ledger);
    let width = outcome.width;
    let slots = [width, width + 1];
    let what = facts.modelling(outcome.estimation, outcome.ours);
    let idle_watts = facts.model_power(what, 0.0).idle;
    let claim = claim(outcome, facts, allotted_of_model(outcome, facts));
    let part = claim.part(ledger.alone(), ledger.share().value);
    let division = divide(ledger, &slots, idle_watts, part);
    // By the TDP a machine at rest takes nothing.
    if division.machine < 0.0
        || division.machine == 0.0 && outcome.estimation != Estimation::TdpBased
    {
        return None;
    }
    let charge = Charge::new(definition, claim, ledger, &division);
    let (active, idle) = (division.machine - division.idle, division.idle);
    // What the model does not know of a processor makes it err the same way at rest and at work.
    let band = outcome.model_band;
    let doubts = [[(band.active.0, band.idle.0), (band.active.1, band.idle.1)]];
    Some(Headline {
        energy: charge.band(division.of(definition), active, idle, &doubts),
        quality: Quality::Modelled,
        method: outcome.estimation.method(&facts.model),
        definition,
        division,
        idle_source: "modelled".into(),
        share: charge.share,
    })
}

pub(super) fn phase_joules(outcome: &Outcome, headline: &Headline, ledger: &Ledger) -> Option<f64> {
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
    // The window's idle power and part of idle hold for each of its phases, so phases that cover
    // the window sum to its headline.
    let idle_watts = headline.division.idle / seconds;
    let division = divide(ledger, &slots, idle_watts, headline.division.idle_share);
    Some(division.of(headline.definition))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::Interval;

    /// Packages, cores and memory of a window of a second: the function had a third of the load.
    fn window() -> Ledger {
        let mut ledger = Ledger::new(3);
        for _ in 0..10 {
            let interval = Interval {
                dt_ns: 100_000_000,
                cpus: 2.0,
                idle_ns: Some(50_000_000),
                own_ns: 50_000_000,
                inside_ns: 50_000_000,
                outside_rate: None,
                seen: None,
            };
            let split = ledger.split(&interval);
            ledger.add(&interval, split, &[4.0, 3.0, 0.6]);
        }
        ledger
    }

    fn headline(ledger: &Ledger, definition: Definition, idle_watts: f64) -> Headline {
        let division = divide(ledger, &[0, 2], idle_watts, 0.25);
        let joules = division.of(definition);
        Headline {
            energy: Energy {
                joules,
                low: joules,
                high: joules,
            },
            quality: Quality::Attributed,
            method: "rapl+ebpf".into(),
            definition,
            division,
            idle_source: String::new(),
            share: ledger.share(),
        }
    }

    fn counted(domain: Domain, slot: usize, joules: f64, rest: Option<f64>) -> Counted {
        Counted {
            domain,
            slots: vec![slot],
            joules,
            rest,
        }
    }

    #[test]
    fn domains_sum_to_the_headline_and_cores_stay_in_packages() {
        let ledger = window();
        let rests = [
            // Known for the whole only.
            [None, None, None],
            // Seen in each domain.
            [Some(18.0), Some(2.0), Some(4.0)],
            // Seen in packages, and not in memory: known for the whole only, then.
            [Some(18.0), Some(2.0), None],
            // Cores that were not seen at rest.
            [Some(18.0), None, Some(4.0)],
        ];
        for definition in Definition::ALL {
            for idle_watts in [0.0, 22.0, 46.0] {
                for [package, core, dram] in rests {
                    let headline = headline(&ledger, definition, idle_watts);
                    let parts = [
                        counted(Domain::Package, 0, 40.0, package),
                        counted(Domain::Dram, 2, 6.0, dram),
                    ];
                    let cores = counted(Domain::Core, 1, 30.0, core);
                    let calls = share_by_domain(&ledger, &headline, &parts, Some(&cores));
                    let of = |domain| calls.iter().find(|(d, _)| *d == domain).unwrap().1;
                    let (package, dram) = (of(Domain::Package), of(Domain::Dram));
                    assert!((package + dram - headline.energy.joules).abs() < 1e-9);
                    assert!(of(Domain::Core) <= package + 1e-12, "{calls:?}");
                    assert!(calls.iter().all(|(_, joules)| *joules >= 0.0));
                }
            }
        }
    }

    #[test]
    fn idle_of_the_whole_is_taken_off_every_domain_in_proportion() {
        let ledger = window();
        let headline = headline(&ledger, Definition::Marginal, 23.0);
        let parts = [
            counted(Domain::Package, 0, 40.0, None),
            counted(Domain::Dram, 2, 6.0, None),
        ];
        let cores = counted(Domain::Core, 1, 30.0, None);
        let calls = share_by_domain(&ledger, &headline, &parts, Some(&cores));
        // Half of the machine's 46 J is idle, and a third of the rest is the function's.
        for ((domain, joules), machine) in calls.into_iter().zip([40.0, 6.0, 30.0]) {
            assert!(
                (joules - machine / 2.0 / 3.0).abs() < 1e-9,
                "{domain:?} {joules}"
            );
        }
    }
}

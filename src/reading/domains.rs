//! The call's energy by domain: packages and memory sum to its headline.

use super::MethodReading;
use super::divided::{Basis, Divided};
use crate::attribution::Ledger;
use crate::machine::facts::{Facts, IdleSource};
use crate::sampler::Outcome;
use crate::source::Domain;

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
    divided: &Divided,
    machine: &MethodReading,
) -> Vec<(Domain, f64)> {
    let Basis::Counter(method) = divided.basis else {
        return Vec::new();
    };
    let ledger = &outcome.ledger;
    let counted = |domain: Domain| {
        let joules = machine.domains.get(&domain)?.joules;
        let slots = outcome.slots_of(method, domain);
        let watts = slots.iter().map(|i| {
            let zone = &outcome.zones()[*i];
            let power = facts.idle_of(zone, outcome.zones(), &outcome.idle_learners[*i])?;
            let known = matches!(power.source, IdleSource::Learned | IdleSource::Calibrated);
            known.then(|| power.watts.min(ledger.ceiling_watts(*i)))
        });
        let rest = watts
            .sum::<Option<f64>>()
            .map(|watts| watts * divided.seconds);
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
    share_by_domain(ledger, divided, &parts, counted(Domain::Core).as_ref())
}

/// Packages and memory sum to the headline, and cores are not more than packages.
///
/// Idle power is taken off each domain as it was seen in it. Where it is known for the whole only
/// (set by the user, or the model's guess), each domain has its part by the energy it counted.
fn share_by_domain(
    ledger: &Ledger,
    divided: &Divided,
    parts: &[Counted],
    cores: Option<&Counted>,
) -> Vec<(Domain, f64)> {
    if divided.seconds <= 0.0 {
        return Vec::new();
    }
    let division = &divided.division;
    let whole: f64 = parts.iter().map(|part| part.joules).sum();
    let rest = parts.iter().map(|part| part.rest).sum::<Option<f64>>();
    let rest = rest.filter(|joules| *joules > 0.0);
    let idle_of = |part: &Counted| match (rest, part.rest) {
        (Some(all), Some(own)) => division.idle * own / all,
        _ if whole > 0.0 => division.idle * part.joules / whole,
        _ => 0.0,
    };
    let call_of = |part: &Counted, idle: f64| divided.joules_of(ledger, &part.slots, idle);
    let mut calls: Vec<(Domain, f64)> = parts
        .iter()
        .map(|part| (part.domain, call_of(part, idle_of(part))))
        .collect();
    let sum: f64 = calls.iter().map(|(_, joules)| joules).sum();
    let scale = if sum > 0.0 {
        divided.joules() / sum
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::{IdleClaim, Interval, divide};
    use crate::definition::Definition;
    use crate::reading::idle::Idle;
    use crate::source::Method;

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

    fn divided(ledger: &Ledger, definition: Definition, idle_watts: f64) -> Divided {
        Divided {
            basis: Basis::Counter(Method::Rapl),
            slots: vec![0, 2],
            definition,
            idle: Idle {
                watts: idle_watts,
                low: idle_watts,
                high: idle_watts,
                source: IdleSource::Learned,
            },
            allotted: 1.0,
            claim: IdleClaim {
                allotted: 1.0,
                sole: false,
            },
            alone: false,
            share: ledger.share(crate::bands::WORKLOAD_SPREAD),
            division: divide(ledger, &[0, 2], idle_watts, 0.25),
            seconds: ledger.dt_ns * 1e-9,
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
        let idle_watts_of_zones = [
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
                for [package, core, dram] in idle_watts_of_zones {
                    let divided = divided(&ledger, definition, idle_watts);
                    let parts = [
                        counted(Domain::Package, 0, 40.0, package),
                        counted(Domain::Dram, 2, 6.0, dram),
                    ];
                    let cores = counted(Domain::Core, 1, 30.0, core);
                    let calls = share_by_domain(&ledger, &divided, &parts, Some(&cores));
                    let of = |domain| calls.iter().find(|(d, _)| *d == domain).unwrap().1;
                    let (package, dram) = (of(Domain::Package), of(Domain::Dram));
                    assert!((package + dram - divided.joules()).abs() < 1e-9);
                    assert!(of(Domain::Core) <= package + 1e-12, "{calls:?}");
                    assert!(calls.iter().all(|(_, joules)| *joules >= 0.0));
                }
            }
        }
    }

    #[test]
    fn idle_of_the_whole_is_taken_off_every_domain_in_proportion() {
        let ledger = window();
        let divided = divided(&ledger, Definition::Marginal, 23.0);
        let parts = [
            counted(Domain::Package, 0, 40.0, None),
            counted(Domain::Dram, 2, 6.0, None),
        ];
        let cores = counted(Domain::Core, 1, 30.0, None);
        let calls = share_by_domain(&ledger, &divided, &parts, Some(&cores));
        // Half of the machine's 46 J is idle, and a third of the rest is the function's.
        for ((domain, joules), machine) in calls.into_iter().zip([40.0, 6.0, 30.0]) {
            assert!(
                (joules - machine / 2.0 / 3.0).abs() < 1e-9,
                "{domain:?} {joules}"
            );
        }
    }
}

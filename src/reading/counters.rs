//! What the energy counters of one method showed, by domain, or why they did not.

use super::{Energy, MethodReading, UPDATE_SECONDS, rss, unavailable};
use crate::sampler::Outcome;
use crate::source::{Domain, Method};
use crate::validate::{Pair, TOLERANCE, Verdict, compare};

/// Half-width of the band from the two edges, in updates. The difference of two uniform delays is
/// triangular: 0.78 covers 95 %, this 98 %, as updates are not exactly one millisecond apart.
pub(super) const EDGE_UPDATES: f64 = 0.86;

/// Wall clock and monotonic clock apart by more than this part of the window is said.
pub(super) const DRIFT: f64 = 0.01;

impl Outcome {
    /// Names of the timeline's columns: `cpu_seconds`, one per zone, then the model's two.
    pub fn column_names(&self) -> Vec<String> {
        let zones = self
            .zones()
            .iter()
            .map(|z| format!("{}:{}", z.method.name(), z.name));
        std::iter::once("cpu_seconds".to_owned())
            .chain(zones)
            .chain(["model:package".to_owned(), "model:dram".to_owned()])
            .collect()
    }

    pub(super) fn slots_of(&self, method: Method, domain: Domain) -> Vec<usize> {
        (0..self.width)
            .filter(|i| self.zones()[*i].method == method && self.zones()[*i].domain == domain)
            .collect()
    }

    /// The band that the two edges of the window leave: the counter shows the energy of a window
    /// that began and ended up to one update earlier, so its length is off by `a` either way.
    fn edge_band(&self, joules: f64, seconds: f64) -> Energy {
        let update = EDGE_UPDATES * UPDATE_SECONDS;
        let a = (rss(&[update, self.slack_ns as f64 * 1e-9]) / seconds).min(0.9);
        Energy {
            joules,
            low: joules / (1.0 + a),
            high: joules / (1.0 - a),
        }
    }

    /// " via agent" where the agent reads the counters of `method`.
    pub(super) fn via(&self, method: Method) -> &'static str {
        match &self.catalog.via {
            Some(via) if via.method == method => " via agent",
            _ => "",
        }
    }

    /// A live counter changes within a millisecond, and is looked at once in an interval.
    fn standstill_ns(&self) -> u64 {
        let interval = self.interval_ns.unwrap_or(0);
        // An agent that is kept waiting is not dead yet.
        let agent = self.catalog.via.as_ref().map_or(0, |via| via.stale_ns);
        (interval * 5 / 2).max(50_000_000).max(agent)
    }

    /// One domain of one method, all packages; or why not.
    fn domain(&self, method: Method, domain: Domain, seconds: f64) -> Result<Energy, String> {
        let slots = self.slots_of(method, domain);
        if slots.is_empty() {
            let prefix = format!("{}: {domain}: ", method.name());
            let left_out = self
                .catalog
                .notes
                .iter()
                .find_map(|n| n.strip_prefix(&prefix));
            return Err(match left_out {
                Some(why) => why.to_owned(),
                None => format!("this machine has no {domain} counter"),
            });
        }
        let hole = self.catalog.holes.iter().find(|(d, _)| *d == domain);
        if let Some((_, why)) = hole.filter(|_| method == Method::Rapl) {
            return Err(why.clone());
        }
        let mut sum = Energy {
            joules: 0.0,
            low: 0.0,
            high: 0.0,
        };
        for i in slots {
            let zone = &self.zones()[i];
            if let Some(fault) = self.faults[i] {
                return Err(format!("{}: {fault} within the window", zone.name));
            }
            let joules = self.ledger.joules[i];
            if joules <= 0.0 {
                return Err(if seconds < 2.0 * UPDATE_SECONDS {
                    format!(
                        "the window of {:.3} ms is shorter than the counter's update of about 1 ms",
                        seconds * 1e3
                    )
                } else {
                    format!("{}: the counter did not move", zone.name)
                });
            }
            // Graphics may truly rest; nothing else draws no power at all.
            if domain != Domain::Uncore && self.stood_ns[i] > self.standstill_ns() {
                return Err(format!(
                    "{}: the counter stood still for the last {:.2} s",
                    zone.name,
                    self.stood_ns[i] as f64 * 1e-9
                ));
            }
            let watts = joules / seconds;
            let mut energy = self.edge_band(joules, seconds);
            energy.low = (energy.low - zone.unit_joules).max(0.0);
            energy.high += zone.unit_joules;
            if self.resets[i] > 0 {
                let Some(interval) = self.interval_ns else {
                    return Err(format!(
                        "{}: the counter was reset within the window",
                        zone.name
                    ));
                };
                // Up to one interval of energy is lost at each reset.
                let lost = f64::from(self.resets[i]) * watts * interval as f64 * 1e-9;
                energy.high += lost;
            }
            sum = sum.plus(energy);
        }
        Ok(sum)
    }
}

pub(super) fn method_reading(outcome: &Outcome, method: Method, seconds: f64) -> MethodReading {
    if let Some(why) = outcome.missing(method) {
        return MethodReading {
            source: unavailable(Some(why)),
            ..MethodReading::default()
        };
    }
    let mut reading = MethodReading::default();
    for domain in Domain::ALL {
        match outcome.domain(method, domain, seconds) {
            Ok(energy) => {
                reading.domains.insert(domain, energy);
            }
            Err(why) => {
                reading.reasons.insert(domain, why);
            }
        }
    }
    let dram = reading.domains.get(&Domain::Dram);
    reading.total = reading
        .domains
        .get(&Domain::Package)
        .map(|package| dram.map_or(*package, |dram| package.plus(*dram)));
    reading.available = !reading.domains.is_empty();
    reading.source = if reading.available {
        let names: Vec<_> = outcome
            .zones()
            .iter()
            .filter(|z| z.method == method)
            .map(|z| z.name.as_str())
            .collect();
        format!("measured: {}{}", names.join(", "), outcome.via(method))
    } else {
        unavailable(reading.reasons.get(&Domain::Package).cloned())
    };
    reading
}

pub(super) fn verify(
    rapl: &MethodReading,
    perf: &MethodReading,
    warnings: &mut Vec<String>,
) -> Verdict {
    let pairs: Vec<Pair> = Domain::ALL
        .iter()
        .filter_map(|domain| {
            let (a, b) = (rapl.domains.get(domain)?, perf.domains.get(domain)?);
            Some(Pair {
                domain: *domain,
                a: (a.joules, a.half()),
                b: (b.joules, b.half()),
            })
        })
        .collect();
    let verdict = compare(&pairs);
    if verdict.validated == Some(false)
        && let (Some(worst), Some(domain)) = (verdict.discrepancy, verdict.domain)
    {
        warnings.push(format!(
            "rapl and perf differ by {:.0} % on {domain} (tolerance {:.0} %)",
            worst * 100.0,
            TOLERANCE * 100.0
        ));
    }
    verdict
}

pub(super) fn note_faults(outcome: &Outcome, seconds: f64, warnings: &mut Vec<String>) {
    for (zone, fault) in outcome.zones().iter().zip(&outcome.faults) {
        if let Some(fault) = fault {
            warnings.push(format!("{}: {fault} within the window", zone.name));
        }
    }
    // A domain that is missing in part is missed more than one that never was.
    for (domain, why) in &outcome.catalog.holes {
        warnings.push(format!("{domain}: {why}"));
    }
    for (i, zone) in outcome.zones().iter().enumerate() {
        if outcome.stood_ns[i] > outcome.standstill_ns() && zone.domain != Domain::Uncore {
            warnings.push(format!(
                "{}: the counter stood still for the last {:.2} s",
                zone.name,
                outcome.stood_ns[i] as f64 * 1e-9
            ));
        }
    }
    for (zone, resets) in outcome.zones().iter().zip(&outcome.resets) {
        if *resets > 0 {
            warnings.push(format!(
                "{}: the counter was reset {resets} time(s); up to one interval of its energy is \
                 missing each time",
                zone.name
            ));
        }
    }
    if outcome.sampler_refused {
        warnings.push(
            "no sampler thread could be started: counters were read at the edges only".into(),
        );
    }
    if outcome.ambiguous > 0 {
        warnings.push(
            "readings were so far apart that a counter may have wrapped more than once".into(),
        );
    }
    let drift = outcome.drift_ns as f64 * 1e-9;
    if drift.abs() > 0.001 && drift.abs() > DRIFT * seconds {
        warnings.push(format!(
            "the wall clock moved {drift:+.3} s against the monotonic clock within the window"
        ));
    }
}

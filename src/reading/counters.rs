//! What the energy counters of one method showed, by domain, or why they did not.

use std::collections::BTreeMap;
use std::iter::zip;

use super::{Availability, Energy, MethodReading, UPDATE_SECONDS, ZoneReading, rss};
use crate::bands::EDGE;
use crate::sampler::Outcome;
use crate::source::{Domain, Method, Note};
use crate::validate::{Pair, TOLERANCE, Verdict, compare};

/// How much the errors of several counters at the edges of a window go together. Domains of a package
/// may change at the same moment, and packages may keep their distance, as they share a clock: then
/// errors add up. Or they do not, and partly cancel. Nobody sees which, so half.
const TOGETHER: f64 = 0.5;

/// Wall clock and monotonic clock apart by more than this part of the window is a warning.
pub(super) const DRIFT: f64 = 0.01;

/// A domain of which more of the window than this part is missing has no number.
const MOST_MISSING: f64 = 0.5;

/// While nobody counted it, power may have been so many times what it was else.
const BURST: f64 = 3.0;

/// Counters change within this time, also where the processor filters them, s.
const SLACK_SECONDS: f64 = 0.02;

/// A counter that lives moves within this time, s: some updates.
const STILL_SECONDS: f64 = 0.05;

/// The energy that one counter showed of the machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted {
    energy: Energy,
    /// What of its band is from the edges of the window: below and above, J.
    edges: (f64, f64),
}

/// What several counters showed.
fn sum(parts: &[Counted]) -> Energy {
    let joules = parts.iter().map(|part| part.energy.joules).sum();
    // What is not from the edges adds up; what is, in part.
    let deviation = |of: fn(&Counted) -> (f64, f64)| -> f64 {
        let (mut all, mut edges, mut squares) = (0.0, 0.0, 0.0);
        for (all_of_it, edge) in parts.iter().map(of) {
            all += all_of_it;
            edges += edge;
            squares += edge * edge;
        }
        all - edges + (TOGETHER * edges * edges + (1.0 - TOGETHER) * squares).sqrt()
    };
    let below = deviation(|part| (part.energy.joules - part.energy.low, part.edges.0));
    let above = deviation(|part| (part.energy.high - part.energy.joules, part.edges.1));
    Energy {
        joules,
        low: (joules - below).max(0.0),
        high: joules + above,
    }
}

/// The energy that one counter showed of the machine, or why there is none.
pub(super) type Shown = Result<Counted, String>;

impl Outcome {
    /// The band that the two edges of the window leave: the counter shows the energy of a window
    /// that began and ended up to one update earlier, so its length is off by `a` either way.
    fn edge_band(&self, i: usize, joules: f64, seconds: f64) -> Energy {
        let update = self.edge_seconds(i);
        let old = self.zones()[i]
            .blur()
            .map_or(0.0, |blur| EDGE * blur.seconds);
        let a = (rss(&[update, old, self.slack_ns as f64 * 1e-9]) / seconds).min(0.9);
        Energy {
            joules,
            low: joules / (1.0 + a),
            high: joules / (1.0 - a),
        }
    }

    /// How far off a window may be at the edges by the steps of counter `i`, s.
    fn edge_seconds(&self, i: usize) -> f64 {
        let zones = self.zones();
        let near = |j: &usize| {
            let zone = &zones[*j];
            *j != i
                && zone.method == zones[i].method
                && matches!(zone.domain, Domain::Package | Domain::Core | Domain::Dram)
        };
        let others: Vec<_> = (0..zones.len())
            .filter(near)
            .map(|j| self.updates[j])
            .collect();
        self.updates[i].beside(&others).edge_seconds()
    }

    /// A live counter changes within a millisecond, and is looked at once in an interval.
    fn standstill_ns(&self) -> u64 {
        let interval = self.interval_ns.unwrap_or(0);
        // An agent that is kept waiting is not dead yet.
        let agent = self.catalog.via.as_ref().map_or(0, |via| via.stale_ns);
        (interval * 5 / 2)
            .max((STILL_SECONDS * 1e9) as u64)
            .max(agent)
    }

    /// What a counter that stood still at the edges of the window leaves open, J: what it may have
    /// brought from before the window, and what it may not have shown of its end.
    fn standstill_band(&self, i: usize, joules: f64, seconds: f64) -> (f64, f64) {
        let zone = &self.zones()[i];
        // Graphics may truly rest.
        if zone.domain == Domain::Uncore {
            return (0.0, 0.0);
        }
        // An agent's words are carried on between its samples.
        let grace = self.catalog.via.as_ref().map_or(0, |via| via.stale_ns);
        let stood = self.stood_ns[i].saturating_sub(grace) as f64 * 1e-9;
        let moving = (seconds - stood).max(UPDATE_SECONDS);
        (
            self.early_units[i] as f64 * zone.unit_joules,
            BURST * joules / moving * stood,
        )
    }

    /// Counter `i` showed energy, or should have.
    fn shows(&self, i: usize) -> bool {
        self.ledger.joules[i] > 0.0 || self.faults[i].is_some()
    }

    /// Counter `i` showed nothing, and need not as another one of its domain does: the platform's is that of a
    /// master package and stays at 0 on the others, and a rail may be off.
    fn rests(&self, i: usize) -> bool {
        let zone = &self.zones()[i];
        let mut slots = self.slots_of(zone.method, zone.domain).into_iter();
        zone.may_rest() && !self.shows(i) && slots.any(|j| self.shows(j))
    }

    /// One domain of one method, all packages; or why not.
    fn domain(
        &self,
        method: Method,
        domain: Domain,
        shown: &[Shown],
    ) -> Result<Vec<Counted>, String> {
        let slots = self.slots_of(method, domain);
        if slots.is_empty() {
            let mut notes = self.catalog.notes.iter();
            return Err(
                match notes.find(|(m, note)| *m == method && note.domain == Some(domain)) {
                    Some((_, note)) => note.why.clone(),
                    None => format!("this machine's {} has no {domain} counter", method.name()),
                },
            );
        }
        let mut holes = self.catalog.holes.iter();
        if let Some((_, hole)) = holes.find(|(m, hole)| *m == method && hole.domain == domain) {
            return Err(hole.why.clone());
        }
        slots
            .into_iter()
            .filter(|i| !self.rests(*i))
            .map(|i| shown[i].clone())
            .collect()
    }

    /// What each counter showed of the window, in the order of the zones; or why not.
    pub(super) fn shown(&self, seconds: f64) -> Vec<Shown> {
        let zones = self.zones();
        (0..zones.len())
            .map(|i| match &self.mirrors[i] {
                Some(mirror) => Err(format!("it repeats {}", zones[mirror.of].name)),
                None => self.zone(i, seconds),
            })
            .collect()
    }

    /// What counter `i`, which repeats no other, showed of the window; or why not.
    fn zone(&self, i: usize, seconds: f64) -> Shown {
        let zone = &self.zones()[i];
        if let Some(fault) = self.faults[i] {
            return Err(format!("{}: {fault} within the window", zone.name));
        }
        let missing = self.missing_ns(i) as f64 * 1e-9;
        if missing > MOST_MISSING * seconds {
            return Err(format!(
                "{}: {}",
                zone.name,
                self.oddities(i, seconds).join("; ")
            ));
        }
        let joules = self.ledger.joules[i];
        if joules <= 0.0 {
            return Err(if zone.blur().is_some_and(|blur| seconds < blur.seconds) {
                format!("{}: the window ended before it was read twice", zone.name)
            } else if seconds < 2.0 * UPDATE_SECONDS {
                format!(
                    "the window of {:.3} ms is shorter than the counter's update of about 1 ms",
                    seconds * 1e3
                )
            } else {
                format!("{}: the counter did not move", zone.name)
            });
        }
        // Graphics may truly rest; nothing else draws no power at all.
        if zone.domain != Domain::Uncore && self.stood_ns[i] > self.standstill_ns() {
            return Err(format!(
                "{}: the counter stood still for the last {:.2} s",
                zone.name,
                self.stood_ns[i] as f64 * 1e-9
            ));
        }
        // The machine may have become known after the counter was read.
        let most = self.most_watts[i] * (seconds + SLACK_SECONDS);
        if joules > most {
            return Err(format!(
                "{}: the counter went forward by {} in {seconds:.3} s, more than this machine \
                 can use ({:.0} W)",
                zone.name,
                amount(joules),
                self.most_watts[i]
            ));
        }
        let mut energy = self.edge_band(i, joules, seconds);
        let edges = (joules - energy.low, energy.high - joules);
        // Power may have been up to so many times the mean while nobody counted it.
        let lost = joules / (seconds - missing) * missing * BURST;
        let doubt = self.anomalies[i].doubt_units as f64 * zone.unit_joules;
        let (before, after) = self.standstill_band(i, joules, seconds);
        let sensor = joules * zone.blur().map_or(0.0, |blur| blur.part);
        energy.low = (energy.low - zone.unit_joules - sensor - doubt - before).max(0.0);
        energy.high += zone.unit_joules + sensor + doubt + lost + after;
        if self.possible_mirrors[i] {
            energy.low = 0.0;
        }
        for (j, mirror) in self.mirrors.iter().enumerate() {
            if mirror.is_some_and(|m| m.of == i && m.unsure) {
                energy.high += self.ledger.joules[j];
            }
        }
        // No band goes below nothing.
        let edges = (edges.0.min(joules - energy.low), edges.1);
        Ok(Counted { energy, edges })
    }
}

impl Outcome {
    /// Counter `i`, of which the machine's energy is made, did not move at all, in a window in which each
    /// moves that lives.
    fn is_still(&self, i: usize, seconds: f64) -> bool {
        let zone = &self.zones()[i];
        let least = match &self.catalog.via {
            Some(_) => self.standstill_ns() as f64 * 1e-9,
            None => STILL_SECONDS,
        };
        let least = zone.blur().map_or(least, |blur| least.max(blur.seconds));
        let is_told = self.faults[i].is_some() || self.missing_ns(i) > 0;
        seconds > least
            && self.ledger.joules[i] <= 0.0
            && self.mirrors[i].is_none()
            && matches!(zone.domain, Domain::Package | Domain::Dram)
            && !zone.may_stand_still()
            && !self.rests(i)
            && !is_told
    }

    /// What counter `i` did within the window that no counter should, each in a clause.
    pub fn oddities(&self, i: usize, seconds: f64) -> Vec<String> {
        let zone = &self.zones()[i];
        let seen = &self.anomalies[i];
        let joules = |units: u64| amount(units as f64 * zone.unit_joules);
        let mut clauses = Vec::new();
        if self.late_ns[i] > 0 {
            clauses.push(format!(
                "the counter could not be read when the window began, so its energy is counted \
                 from {:.3} s after the start",
                self.late_ns[i] as f64 * 1e-9
            ));
        }
        if self.dead_ns[i] > 0 {
            clauses.push(format!(
                "the counter stood still until {:.3} s after the start",
                self.dead_ns[i] as f64 * 1e-9
            ));
        }
        if seen.backs > 0 {
            clauses.push(format!(
                "the counter went back by {} in {}, which is refused",
                joules(seen.back_units),
                steps(seen.backs)
            ));
        }
        if seen.resets > 0 {
            clauses.push(format!(
                "the counter began again near 0 (a reset) {}",
                times(seen.resets)
            ));
        }
        if seen.jumps > 0 {
            let took = seen.jump_ns as f64 * 1e-9;
            clauses.push(format!(
                "the counter jumped forward by {} in {}, within {took:.3} s, which is refused: this \
                 machine can use {:.0} W at most",
                joules(seen.jump_units),
                steps(seen.jumps),
                self.most_watts[i]
            ));
        }
        if seen.returns > 0 {
            clauses.push(format!(
                "the counter came back to where it had been {}",
                times(seen.returns)
            ));
        }
        if seen.suspends > 0 {
            clauses.push(format!(
                "the machine was suspended between two readings {}",
                times(seen.suspends)
            ));
        }
        if seen.losses > 0 {
            let who = match zone.method {
                Method::Guest => {
                    "the host wrote nothing for a while or began anew, and its file lacks"
                }
                _ => "the node agent lost",
            };
            clauses.push(format!("{who} some of its energy {}", times(seen.losses)));
        }
        let missing_ns = seen.missing_ns.saturating_add(self.dead_ns[i]);
        if missing_ns > 0 {
            clauses.push(format!(
                "the energy of {:.3} s of {seconds:.3} s is missing",
                missing_ns as f64 * 1e-9
            ));
        }
        clauses
    }
}

/// Joules with as many digits as are significant.
fn amount(joules: f64) -> String {
    match joules {
        j if j < 0.01 => format!("{:.0} µJ", j * 1e6),
        j if j < 1e3 => format!("{j:.2} J"),
        j => format!("{j:.0} J"),
    }
}

fn steps(n: u32) -> String {
    if n == 1 {
        "1 step".into()
    } else {
        format!("{n} steps")
    }
}

fn times(n: u32) -> String {
    if n == 1 {
        "once".into()
    } else {
        format!("{n} times")
    }
}

pub(super) fn method_reading(outcome: &Outcome, method: Method, shown: &[Shown]) -> MethodReading {
    if let Some(why) = outcome.missing(method) {
        return MethodReading {
            availability: Availability::Unavailable(why),
            ..MethodReading::default()
        };
    }
    let mut reading = MethodReading::default();
    let mut package_and_dram = Vec::new();
    for domain in Domain::ALL {
        match outcome.domain(method, domain, shown) {
            Ok(counted) => {
                reading.domains.insert(domain, sum(&counted));
                if matches!(domain, Domain::Package | Domain::Dram) {
                    package_and_dram.extend(counted);
                }
            }
            Err(why) => {
                reading.reasons.insert(domain, why);
            }
        }
    }
    reading.total = reading
        .domains
        .contains_key(&Domain::Package)
        .then(|| sum(&package_and_dram));
    reading.availability = if !reading.domains.is_empty() {
        let names: Vec<_> = outcome
            .zones()
            .iter()
            .filter(|z| z.method == method)
            .map(|z| z.name.as_str())
            .collect();
        Availability::From(format!(
            "measured: {}{}",
            names.join(", "),
            outcome.via(method)
        ))
    } else {
        Availability::unavailable(reading.reasons.get(&Domain::Package).cloned())
    };
    reading
}

/// Every counter of every method that was asked for, and what was left out of them.
pub(super) fn zone_readings(outcome: &Outcome, shown: Vec<Shown>) -> Vec<ZoneReading> {
    let read = zip(outcome.zones(), shown).map(|(zone, shown)| {
        let (energy, reason) = match shown {
            Ok(counted) => (Some(counted.energy), None),
            Err(why) => (None, Some(why)),
        };
        ZoneReading {
            method: zone.method,
            domain: zone.domain,
            package: Some(zone.package),
            name: zone.name.clone(),
            energy,
            reason,
        }
    });
    let left_out = outcome.catalog.notes.iter().filter_map(|(method, note)| {
        Some(ZoneReading {
            method: *method,
            domain: note.domain?,
            package: None,
            name: note.about.clone(),
            energy: None,
            reason: Some(note.why.clone()),
        })
    });
    read.chain(left_out)
        .filter(|zone| outcome.methods.has(zone.method))
        .collect()
}

/// By which rule a host found its guest's part.
pub(super) fn rule_of(outcome: &Outcome, method: Method) -> Option<String> {
    let mut notes = outcome.catalog.notes.iter();
    let of_all = |(of, note): &&(Method, Note)| *of == method && note.domain.is_none();
    notes.find(of_all).map(|(_, note)| note.why.clone())
}

pub(super) fn verify(
    counters: &BTreeMap<Method, MethodReading>,
    warnings: &mut Vec<String>,
) -> Verdict {
    let mut readable = counters
        .iter()
        // A host's part is none of what a counter here counts.
        .filter(|(method, _)| **method != Method::Guest)
        .filter(|(_, reading)| reading.availability.is_available());
    let (Some((first, one)), Some((second, other))) = (readable.next(), readable.next()) else {
        return compare(&[]);
    };
    let pairs: Vec<Pair> = Domain::ALL
        .iter()
        .filter_map(|domain| {
            let (a, b) = (one.domains.get(domain)?, other.domains.get(domain)?);
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
            "{} and {} differ by {:.0} % on {domain} (tolerance {:.0} %)",
            first.name(),
            second.name(),
            worst * 100.0,
            TOLERANCE * 100.0
        ));
    }
    verdict
}

pub(super) fn note_faults(
    outcome: &Outcome,
    shown: &[Shown],
    seconds: f64,
    warnings: &mut Vec<String>,
) {
    for (zone, fault) in outcome.zones().iter().zip(&outcome.faults) {
        if let Some(fault) = fault {
            warnings.push(format!("{}: {fault} within the window", zone.name));
        }
    }
    // A domain that is missing in part is missed more than one that never was.
    for (_, hole) in &outcome.catalog.holes {
        warnings.push(format!("{}: {}", hole.domain, hole.why));
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
    for (i, zone) in outcome.zones().iter().enumerate() {
        if !outcome.methods.has(zone.method) {
            continue;
        }
        if let Err(why) = &shown[i]
            && outcome.is_still(i, seconds)
        {
            warnings.push(why.clone());
        }
        for oddity in outcome.oddities(i, seconds) {
            warnings.push(format!("{}: {oddity}", zone.name));
        }
        if let Some(mirror) = outcome.mirrors[i] {
            warnings.push(format!(
                "{}: shows the same counter as {} (their steps are equal), so it is counted once",
                zone.name,
                outcome.zones()[mirror.of].name
            ));
        }
    }
    let asleep = outcome.anomalies.iter().map(|a| a.suspended_ns).max();
    if let Some(ns) = asleep.filter(|ns| *ns > 0) {
        warnings.push(format!(
            "the machine was suspended for {:.1} s within the window: what it used meanwhile is not \
             counted",
            ns as f64 * 1e-9
        ));
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

//! Memory's energy, and what counters know of it.
//!
//! A DRAM domain's band is that of its counter. How far the counter is from memory's true power is no
//! matter of one window, so it is in the bands of the machine and of the headline, and said in a note.

use serde::Serialize;

use super::divided::Divided;
use super::{Availability, Energy, MethodReading};
use crate::attribution::Division;
use crate::bands::Systematic;
use crate::machine::facts::{Facts, Modelling};
use crate::model::Traffic;
use crate::model::estimation::Estimation;
use crate::sampler::{Outcome, TrafficSeen};
use crate::source::{Domain, Method, Zone};

/// True energy over what the counter shows, less 1: at rest …
///
/// Beside current-sense risers the counter showed 0.45 W + 0.83 × true a socket on Broadwell-EP, 31 %
/// too much at rest and 10 % too little under load, and on newer parts a constant of some watts more,
/// up to twice the true power at rest (Alt et al., ICPE 2024).
const AT_REST: (f64, f64) = (0.5, 0.2);
/// … and above.
const ABOVE: (f64, f64) = (0.1, 0.2);

/// Memory's part of the energy that the headline divides.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct MemoryReading {
    /// How it was obtained, or why it has no value of its own.
    #[serde(flatten)]
    pub availability: Availability,
    /// Energy of memory in the window: of the machine, or by the model of a sandbox.
    pub energy: Option<Energy>,
}

impl MemoryReading {
    /// It has none, and why.
    pub(super) fn absent(why: impl Into<String>) -> Self {
        Self {
            availability: Availability::Unavailable(why.into()),
            energy: None,
        }
    }

    fn of(energy: Energy, source: String) -> Self {
        Self {
            availability: Availability::From(source),
            energy: Some(energy),
        }
    }

    /// As the counter that the headline is of has it.
    pub(super) fn counted(outcome: &Outcome, method: Method, reading: &MethodReading) -> Self {
        if packages_hold_it(outcome, method) {
            return Self::absent(format!("it is in the packages of {}", method.name()));
        }
        match reading.domains.get(&Domain::Dram) {
            Some(dram) => Self::of(*dram, format!("measured: {} dram", method.name())),
            None => {
                let why = reading.reasons.get(&Domain::Dram);
                let why = why.map_or("no counter", String::as_str);
                Self::absent(format!("{} does not count it: {why}", method.name()))
            }
        }
    }

    /// As the model has it. Its band holds what any load may take, as nobody saw what the programs did with memory,
    /// and that of the load that was seen; or it is that of the traffic where that was counted.
    pub(super) fn modelled(outcome: &Outcome, facts: &Facts, divided: &Divided) -> Self {
        if outcome.estimation == Estimation::TdpBased {
            return Self::absent("the TDP is the processor's, without memory");
        }
        let what = facts.modelling(outcome.estimation, outcome.ours);
        let [_, slot] = outcome.slots.model();
        let ledger = outcome.sandbox.as_ref().unwrap_or(&outcome.ledger);
        let joules = ledger.joules[slot];
        let traffic = what.whole.then(|| traffic_of(outcome)).flatten();
        let unseen = Unseen::of(outcome, facts, what, divided.seconds);
        // A load's band is the same factor of its watts, whatever the load.
        let busy = facts.model.memory_watts_of(what.gib, what.vcpus, Some(1.0));
        let factor = |end: f64| match traffic {
            None if busy.total > 0.0 => end / busy.total,
            _ => 1.0,
        };
        let energy = Energy {
            joules,
            low: (joules * factor(busy.low)).min(unseen.least * divided.seconds),
            high: (joules * factor(busy.high)).max(unseen.most * divided.seconds),
        };
        let basis = match traffic {
            Some(_) => "traffic",
            None => "load",
        };
        let size = match what.gib {
            Some(gib) => format!("{gib:.1} GiB"),
            // The note says what that does to the band.
            None => format!(
                "size not known, {} GiB a CPU taken",
                crate::model::UNKNOWN_GIB.0
            ),
        };
        Self::of(energy, format!("modelled: {size}, by {basis}"))
    }
}

/// Memory's traffic, where something counted it.
fn traffic_of(outcome: &Outcome) -> Option<Traffic> {
    outcome.traffic.as_ref().and_then(TrafficSeen::flow)
}

/// What the counters of a window get wrong of memory.
pub(super) fn systematic(
    outcome: &Outcome,
    facts: &Facts,
    (method, reading): (Method, &MethodReading),
    division: &Division,
    seconds: f64,
) -> Systematic {
    if packages_hold_it(outcome, method) {
        return Systematic::default();
    }
    let Some(dram) = reading.domains.get(&Domain::Dram) else {
        let unseen = Unseen::of_machine(outcome, facts, seconds);
        return Systematic {
            idle: (0.0, unseen.rest * seconds),
            active: (0.0, (unseen.most - unseen.rest).max(0.0) * seconds),
        };
    };
    let rest = match division.machine {
        machine if machine > 0.0 => (division.idle / machine).clamp(0.0, 1.0),
        _ => 1.0,
    };
    let of = |joules: f64, (below, above): (f64, f64)| (joules * below, joules * above);
    Systematic {
        idle: of(dram.joules * rest, AT_REST),
        active: of(dram.joules * (1.0 - rest), ABOVE),
    }
}

/// Whether what the packages of a method show holds memory, too.
fn packages_hold_it(outcome: &Outcome, method: Method) -> bool {
    let mut packages = outcome
        .zones()
        .iter()
        .filter(|zone| zone.method == method && zone.domain == Domain::Package)
        .peekable();
    packages.peek().is_some() && packages.all(Zone::holds_memory)
}

/// The watts of memory that has no counter.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Unseen {
    /// At least, all in all.
    least: f64,
    /// What of `most` may flow at rest.
    rest: f64,
    /// At most, all in all.
    most: f64,
}

impl Unseen {
    /// Of the whole machine.
    fn of_machine(outcome: &Outcome, facts: &Facts, seconds: f64) -> Self {
        let machine = Modelling {
            estimation: outcome.estimation,
            vcpus: f64::from(facts.cpus),
            gib: facts.environment.memory_gib,
            whole: true,
        };
        Self::of(outcome, facts, machine, seconds)
    }

    /// By the size of memory, and by its traffic for as much of the window as that is known.
    fn of(outcome: &Outcome, facts: &Facts, what: Modelling, seconds: f64) -> Self {
        let (gib, cpus) = (what.gib, what.vcpus);
        let any = facts.model.memory_watts_of(gib, cpus, None);
        let by_size = Self {
            least: any.low,
            rest: any.low,
            most: any.high,
        };
        // The traffic is the machine's: nobody knows what part of it is a sandbox's.
        let Some(traffic) = what.whole.then(|| traffic_of(outcome)).flatten() else {
            return by_size;
        };
        let known = (traffic.seconds / seconds).clamp(0.0, 1.0);
        let counted = facts.model.memory_watts_with(gib, cpus, traffic);
        let mean = |counted: f64, else_: f64| known * counted + (1.0 - known) * else_;
        Self {
            least: mean(counted.low, by_size.least),
            rest: mean(counted.idle_high, by_size.rest),
            most: mean(counted.high, by_size.most),
        }
    }
}

/// Memory's traffic in words: how much, of how much of the window, and who counted it; or why it is not known.
/// `None` where no number of the window goes by it.
pub(super) fn traffic(
    outcome: &Outcome,
    facts: &Facts,
    counted: bool,
    seconds: f64,
) -> Option<String> {
    let seen = outcome.traffic.as_ref()?;
    if !counted && !facts.modelling(outcome.estimation, outcome.ours).whole {
        return None;
    }
    let name = seen.counter.name();
    let why = seen.fault.as_deref();
    let pause = format!(
        "as one takes so long that they are {:.1} s apart",
        seen.pause_ns as f64 * 1e-9
    );
    if seen.known_ns == 0 {
        let why = match why {
            Some(why) => why.to_owned(),
            None if seen.is_seldom() => format!("no two looks at it are in the window, {pause}"),
            None => "the window is too short for two looks at it".into(),
        };
        return Some(format!("memory's traffic is not known by {name}: {why}"));
    }
    let known = seen.known_ns as f64 * 1e-9;
    let [low, usual, high] = crate::model::JOULES_A_BYTE.map(|joules| joules * 1e9);
    let mut text = format!(
        "memory's traffic: {:.3} GB in {known:.2} of {seconds:.2} s by {name}, taken at {usual} nJ a byte \
         ({low} to {high})",
        seen.bytes * 1e-9
    );
    if let Some(why) = why {
        let lost = seen.lost_ns as f64 * 1e-9;
        text = format!("{text}; in {lost:.2} s it could not be counted: {why}");
    }
    if seen.is_seldom() {
        text = format!("{text}; looks at it are few, {pause}");
    }
    Some(text)
}

/// That the model does not know the size of memory, and what it takes instead.
fn size_unknown() -> String {
    let (gib, unsure) = crate::model::UNKNOWN_GIB;
    format!(
        "the size is not known, as /proc/meminfo shows no MemTotal: {gib} GiB a CPU are taken, and the band holds \
         {unsure} times more and less watts for that"
    )
}

/// What a reader has to know of memory in a reading by the model.
pub(super) fn note_modelled(outcome: &Outcome, facts: &Facts) -> Option<String> {
    let what = facts.modelling(outcome.estimation, outcome.ours);
    let counts = outcome.estimation != Estimation::TdpBased;
    (counts && what.gib.is_none())
        .then(|| format!("memory is modelled by its size: {}", size_unknown()))
}

/// What a reader has to know of memory in a reading by `method`.
pub(super) fn note(
    outcome: &Outcome,
    facts: &Facts,
    method: Method,
    reading: &MethodReading,
) -> Option<String> {
    reading.total?;
    if packages_hold_it(outcome, method) {
        return Some(format!(
            "memory is in the packages of {}: it has no value of its own",
            method.name()
        ));
    }
    if reading.domains.contains_key(&Domain::Dram) {
        return Some(format!(
            "DRAM by {}: its band is the counter's. Memory truly takes {:.1} to {:.1} times that at \
             rest and {:.1} to {:.1} times above; the bands of the machine and of the headline hold it",
            method.name(),
            1.0 - AT_REST.0,
            1.0 + AT_REST.1,
            1.0 - ABOVE.0,
            1.0 + ABOVE.1
        ));
    }
    let seconds = outcome.ledger.dt_ns * 1e-9;
    let Unseen { least, most, .. } = Unseen::of_machine(outcome, facts, seconds);
    let mut basis = match traffic_of(outcome) {
        Some(_) => "its size and traffic".to_owned(),
        None => "its size".to_owned(),
    };
    if facts.environment.memory_gib.is_none() {
        basis = format!("{basis} ({})", size_unknown());
    }
    let why = reading.reasons.get(&Domain::Dram);
    let why = why.map_or("no counter", String::as_str);
    Some(format!(
        "memory is in no value of {} ({why}): by {basis} it takes {least:.1} to {most:.1} W, which the \
         bands of the machine and of the headline hold",
        method.name()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bands::{Bands, Energy, Share};

    fn exactly(joules: f64) -> Energy {
        Energy {
            joules,
            low: joules,
            high: joules,
        }
    }

    #[test]
    fn what_no_counter_sees_is_in_the_bands_and_in_no_value() {
        let systematic = Systematic {
            idle: (0.0, 6.0),
            active: (0.0, 10.0),
        };
        let bands = Bands {
            machine: exactly(100.0),
            idle: exactly(40.0),
            together: false,
            systematic,
        };
        // Half of what lies above idle, of which 10 J more may be.
        let half = Share {
            value: 0.5,
            low: 0.5,
            high: 0.5,
        };
        let part = bands.part(half);
        assert_eq!((part.joules, part.low, part.high), (30.0, 30.0, 35.0));
        let wider = bands.with_systematic();
        assert_eq!((wider.machine.low, wider.machine.high), (100.0, 116.0));
        assert_eq!((wider.idle.joules, wider.idle.high), (40.0, 46.0));
        assert_eq!(wider.systematic, Systematic::default());
    }
}

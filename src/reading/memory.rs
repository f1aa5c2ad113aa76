//! What counters know of memory's energy.
//!
//! A DRAM domain's band is that of its counter. How far the counter is from memory's true power is no
//! matter of one window, so it is in the bands of the machine and of the headline, and said in a note.

use super::MethodReading;
use crate::attribution::Division;
use crate::bands::Systematic;
use crate::machine::facts::Facts;
use crate::source::{Domain, Method};

/// True energy over what the counter shows, less 1: at rest …
///
/// Beside current-sense risers the counter showed 0.45 W + 0.83 × true a socket on Broadwell-EP, 31 %
/// too much at rest and 10 % too little under load, and on newer parts a constant of some watts more,
/// up to twice the true power at rest (Alt et al., ICPE 2024).
const AT_REST: (f64, f64) = (0.5, 0.2);
/// … and above.
const ABOVE: (f64, f64) = (0.1, 0.2);

/// What the counters of a window get wrong of memory.
pub(super) fn systematic(
    facts: &Facts,
    (method, reading): (Method, &MethodReading),
    division: &Division,
    seconds: f64,
) -> Systematic {
    if method == Method::Guest {
        // Memory is in what the host divided.
        return Systematic::default();
    }
    let Some(dram) = reading.domains.get(&Domain::Dram) else {
        let (least, most) = unseen_watts(facts);
        return Systematic {
            idle: (0.0, least * seconds),
            active: (0.0, (most - least).max(0.0) * seconds),
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

/// The watts of memory that has no counter: at rest, and at most.
fn unseen_watts(facts: &Facts) -> (f64, f64) {
    let gib = facts.environment.memory_gib.unwrap_or(0.0);
    let memory = facts.model.memory_watts(gib);
    (memory.low, memory.high)
}

/// What a reader has to know of memory in a reading by `method`.
pub(super) fn note(facts: &Facts, method: Method, reading: &MethodReading) -> Option<String> {
    reading.total?;
    if method == Method::Guest {
        return None;
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
    let (least, most) = unseen_watts(facts);
    let why = reading.reasons.get(&Domain::Dram);
    let why = why.map_or("no counter", String::as_str);
    Some(format!(
        "memory is in no value of {} ({why}): by its size it takes {least:.1} to {most:.1} W, which the \
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

//! What every source of energy counters offers to those who read it: the meter's sampler and the node
//! agent.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::{Domain, ReadFault, Unavailable, Zone};
use crate::counter::Carry;
use crate::json::from_json;

/// The open energy counters of one method.
///
/// They are opened once and read at both edges of every window and at every sample between them, so
/// [`read`](Self::read) takes microseconds, blocks on nothing and allocates nothing.
pub trait EnergyCounter: fmt::Debug + Send {
    /// The counters, in the order of [`read`](Self::read). It never changes.
    fn zones(&self) -> &[Zone];

    /// Reads every counter, in units of its zone; appends one result per zone to `out`.
    fn read(&mut self, out: &mut Vec<Result<u64, ReadFault>>);

    /// What was left out, and why.
    fn notes(&self) -> &[Note];

    /// Domains of which a part cannot be read: what is left is not the machine.
    fn holes(&self) -> &[Hole] {
        &[]
    }

    /// The most that the packages are let draw, as the machine states it, W; believable or not.
    fn limits(&mut self) -> &[f64] {
        &[]
    }

    /// Whether somebody closed one of the descriptors, so that it is to be opened anew.
    fn is_lost(&self) -> bool {
        false
    }

    /// Whether zones of one package may show one counter, as it is not known whether each die has its
    /// own.
    fn may_repeat_dies(&self) -> bool {
        false
    }

    /// What is not known of each total as it was last read, where values come so seldom that they are
    /// carried on in between; else nothing.
    fn carries(&self) -> &[Carry] {
        &[]
    }

    /// Keeps one of several zones that show one counter. It may take some milliseconds: for readers
    /// that cannot wait until a window shows which these are.
    fn leave_out_mirrors(&mut self) {}
}

/// Opens the counters of a method below a root.
pub type Open = fn(&Path) -> Result<Box<dyn EnergyCounter>, Unavailable>;

/// Something that a source left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// The domain that is missing for it, in whole or in part; `None` where none is.
    pub domain: Option<Domain>,
    /// The zone, event or domain by the name that the kernel or the user gives it; may be empty.
    pub about: String,
    /// Why it was left out.
    pub why: String,
}

from_json!(Note { domain, about, why });

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.about.is_empty() {
            f.write_str(&self.why)
        } else {
            write!(f, "{}: {}", self.about, self.why)
        }
    }
}

/// A part of a domain that cannot be read though it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hole {
    /// The domain.
    pub domain: Domain,
    /// Which part, and why.
    pub why: String,
}

from_json!(Hole { domain, why });

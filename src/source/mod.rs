//! Sources read counters, nothing else: they know no functions, no files of ours and no Python.
//!
//! Every method is a line of [`Method`]'s table; those that count energy are an [`EnergyCounter`].

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::json::{from_json, word_from_json};

/// A command of ours as root runs it: `sudo` does not look where a virtual environment is.
macro_rules! as_root {
    ($command:literal) => {
        concat!("sudo \"$(command -v lithowatt)\" ", $command)
    };
}
pub(crate) use as_root;

pub mod busy;
pub mod drm;
pub mod ebpf;
mod energy;
#[cfg(test)]
mod files;
pub mod gpu;
pub mod guest;
pub mod hwmon;
pub mod kept;
pub mod mirrors;
pub mod nvml;
pub mod opened;
pub mod perf;
pub mod plain;
pub mod procfs;
pub mod rapl;
mod registry;
pub mod ring;
pub mod throttle;
pub mod topology;
pub mod traffic;

pub use energy::{EnergyCounter, Hole, Note, Open};
pub use registry::{Method, Methods, NEVER_MOVED_NS, packages_are_counted};

/// A part of the machine that has an energy counter of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Domain {
    /// The whole socket (PKG).
    #[doc(alias = "pkg")]
    Package,
    /// All cores of a socket (PP0).
    #[doc(alias = "pp0")]
    Core,
    /// Usually the integrated graphics (PP1).
    #[doc(alias = "pp1")]
    Uncore,
    /// Memory of a socket, outside its package.
    Dram,
    /// The whole platform. It holds the packages and is reported, never added to them.
    #[doc(alias = "platform")]
    Psys,
    /// GPUs, with their memory and board. They are no part of a package and are never added to one.
    Gpu,
}

word_from_json!(Domain: Package, Core, Uncore, Dram, Psys, Gpu);

impl Domain {
    /// The domains that counters of the processor and the platform have, in the order in which they
    /// are reported.
    pub const ALL: [Self; 5] = [
        Self::Package,
        Self::Core,
        Self::Uncore,
        Self::Dram,
        Self::Psys,
    ];

    /// The name used everywhere: Rust, Python, stats keys, documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Package => "package",
            Self::Core => "core",
            Self::Uncore => "uncore",
            Self::Dram => "dram",
            Self::Psys => "psys",
            Self::Gpu => "gpu",
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a value is not there, and what would bring it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unavailable {
    /// One line, for the user.
    pub reason: String,
    /// The one command that changes it, where there is one.
    pub fix: Option<String>,
    /// The thing exists but may not be read, as opposed to being absent.
    pub denied: bool,
    /// The fix loads a driver: it helps only where there is hardware for it.
    #[serde(skip)]
    pub driver: bool,
    /// Only now: the process lacks descriptors or memory, and may have them the next time.
    #[serde(skip)]
    pub passing: bool,
}

from_json!(Unavailable { reason, fix, denied; skipped driver, passing });

impl Unavailable {
    /// Something that is not there.
    pub fn absent(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            fix: None,
            denied: false,
            driver: false,
            passing: false,
        }
    }

    /// Something that is there and may not be read.
    pub fn denied(reason: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            fix: Some(fix.into()),
            denied: true,
            driver: false,
            passing: false,
        }
    }

    /// Something that cannot be had at this moment, and is to be tried again.
    pub fn passing(reason: impl Into<String>) -> Self {
        Self {
            passing: true,
            ..Self::absent(reason)
        }
    }

    /// Something that could not be opened, for the reason that the system gave.
    pub fn of(what: impl fmt::Display, error: &std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EMFILE) => Self::passing(format!(
                "{what}: the process had no file descriptor free (ulimit -n); tried again at the \
                 next window"
            )),
            Some(libc::ENFILE) => Self::passing(format!(
                "{what}: the machine had no file descriptor free (fs.file-max); tried again at the \
                 next window"
            )),
            _ if kept::is_shortage(error) => Self::passing(format!(
                "{what}: there was no memory for it; tried again at the next window"
            )),
            _ => Self::absent(format!("{what}: {error}")),
        }
    }

    /// Adds the command that loads the driver which would change it.
    pub fn with_driver(self, command: impl Into<String>) -> Self {
        Self {
            driver: true,
            ..self.with_fix(command)
        }
    }

    /// Adds the command that would change it.
    pub fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// One energy counter of the machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Zone {
    /// Which method reads it.
    pub method: Method,
    /// What it measures.
    pub domain: Domain,
    /// Package (socket) number; 0 for psys.
    pub package: u32,
    /// Its name as the kernel gives it, e.g. `package-0`.
    pub name: String,
    /// Joules per counted unit.
    pub unit_joules: f64,
    /// The counter returns to 0 after this many units; `None` where it is 64 bits wide.
    pub modulus: Option<u64>,
}

from_json!(Zone {
    method,
    domain,
    package,
    name,
    unit_joules,
    modulus
});

impl Zone {
    /// How well its sensor is known, where that is not by its own steps.
    pub fn blur(&self) -> Option<hwmon::Blur> {
        match self.method {
            Method::Hwmon => hwmon::blur_of(&self.name),
            _ => None,
        }
    }

    /// Whether what it counts holds the machine's memory.
    pub fn holds_memory(&self) -> bool {
        match self.method {
            // Memory is in what the host divided.
            Method::Guest => true,
            Method::Hwmon => self.domain == Domain::Package && hwmon::holds_memory(&self.name),
            _ => false,
        }
    }

    /// Whether it may truly stand still: graphics rest, and a host that rests divides nothing.
    pub fn may_stand_still(&self) -> bool {
        self.domain == Domain::Uncore || self.method == Method::Guest
    }

    /// Whether it may stay at 0 beside another one of its domain.
    pub fn may_rest(&self) -> bool {
        self.domain == Domain::Psys || self.method == Method::Hwmon && hwmon::is_rail(&self.name)
    }

    /// Whether it is the same counter as `other`, though it may be read elsewhere.
    pub fn counts_as(&self, other: &Self) -> bool {
        (self.method, self.domain, self.package) == (other.method, other.domain, other.package)
            && self.unit_joules == other.unit_joules
            && self.modulus == other.modulus
    }
}

/// Why one read of one counter gave no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadFault {
    /// The zone is gone (unplugged, module removed).
    Vanished,
    /// Permission was taken away.
    Denied,
    /// The text is not a counter value.
    Malformed,
    /// The value is above the counter's own range.
    Beyond,
    /// Any other I/O error.
    Failed,
    /// The node agent gives no sign of life.
    Stale,
    /// The node agent has marked its ring as left.
    Stopped,
    /// A host's file was not written again yet, so that its power is not known.
    Waiting,
    /// A host's file is not written any more.
    Silent,
}

impl fmt::Display for ReadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vanished => "the zone vanished",
            Self::Denied => "permission was denied",
            Self::Malformed => "the counter held no number",
            Self::Beyond => "the counter showed more than its own max_energy_range_uj",
            Self::Failed => "the counter could not be read",
            Self::Stale => "the node agent gave no sign of life",
            Self::Stopped => "the node agent was stopped",
            Self::Waiting => "the host wrote no second value yet, so its power is not known",
            Self::Silent => "the host writes its file no more",
        })
    }
}

//! How many bytes went between memory and the processors of the machine.
//!
//! It counts no energy, so it is no [`EnergyCounter`](super::EnergyCounter): the power model takes the
//! bytes for what it would else guess by the load. A look takes an interrupt on a CPU of every cache
//! or memory controller, tens of microseconds on a large machine, so only the sampler's thread looks,
//! and without its lock.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Unavailable;
use crate::clock;

pub mod controllers;
pub mod resctrl;

/// A diagnosis looks so many times, with a pause between two looks.
const CHECKS: u32 = 3;
const CHECK_PAUSE: Duration = Duration::from_millis(20);

/// Who counts the bytes. Its place is its number in a trace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Counter {
    /// The caches, by the kernel's resource control.
    #[default]
    Resctrl,
    /// The memory controllers, by perf.
    Controllers,
}

impl Counter {
    /// All of them, by number.
    pub const ALL: [Self; 2] = [Self::Resctrl, Self::Controllers];

    /// In readings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Resctrl => "resctrl (mbm_total_bytes)",
            Self::Controllers => "perf (the memory controllers' PMU)",
        }
    }

    /// What went through the modules, of what is counted, at least and at most.
    ///
    /// The caches count what the cores read and write, and not what devices do (Intel, intel-cmt-cat
    /// issue 186); the kernel corrects the counts of processors that are known to be off by some
    /// percent (`mbm_cf_table` of its resctrl).
    pub fn part(self) -> (f64, f64) {
        match self {
            Self::Resctrl => (0.9, 1.3),
            // They count each burst of 64 bytes.
            Self::Controllers => (1.0, 1.0),
        }
    }
}

/// What a look came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// Nothing was seen before that it could be compared with.
    First,
    /// So many bytes went since the look before.
    Bytes(u64),
    /// The bytes since the look before are not known, and why.
    Lost(String),
}

/// Bytes that went in one stretch of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stretch {
    /// Who counted them.
    pub counter: Counter,
    /// From this moment, ns on `CLOCK_MONOTONIC` …
    pub from_ns: u64,
    /// … to this one.
    pub to_ns: u64,
    /// So many.
    pub bytes: u64,
}

/// An open counter of bytes.
#[derive(Debug)]
pub enum Traffic {
    /// The groups of resource control.
    Resctrl(resctrl::Groups),
    /// The memory controllers.
    Controllers(controllers::Controllers),
}

impl Traffic {
    /// Opens what the machine below `root` has: the memory controllers where their counters always run,
    /// else resource control, else, where `perf` was asked for by its name, the controllers' other
    /// counters.
    ///
    /// # Errors
    /// [`Unavailable`] where nothing counts them.
    pub fn open(root: &Path, by_perf: bool) -> Result<Self, Unavailable> {
        let controllers = controllers::Controllers::open(root, by_perf).map(Self::Controllers);
        if matches!(&controllers, Ok(Self::Controllers(open)) if open.always()) {
            return controllers;
        }
        let caches = match resctrl::Groups::open(root) {
            Ok(groups) => return Ok(Self::Resctrl(groups)),
            Err(why) => why,
        };
        controllers.map_err(|why| Unavailable {
            reason: format!("{why}; {caches}"),
            fix: why.fix.or(caches.fix),
            ..Unavailable::absent("")
        })
    }

    /// Which counter it is.
    pub fn counter(&self) -> Counter {
        match self {
            Self::Resctrl(_) => Counter::Resctrl,
            Self::Controllers(_) => Counter::Controllers,
        }
    }

    /// What it reads, in words.
    pub fn describe(&self) -> String {
        match self {
            Self::Resctrl(groups) => groups.describe(),
            Self::Controllers(controllers) => controllers.describe(),
        }
    }

    /// Whether it can be read now, for a diagnosis: tried some times, for a counter may be in others' hands for a
    /// moment.
    ///
    /// # Errors
    /// Why it cannot, and what changes that.
    pub fn check(&mut self) -> Result<(), Unavailable> {
        let mut tries = 0;
        loop {
            let checked = match self {
                Self::Resctrl(groups) => groups.check(),
                Self::Controllers(controllers) => match controllers.look() {
                    Look::Lost(why) => Err(Unavailable::absent(why)),
                    Look::First | Look::Bytes(_) => Ok(()),
                },
            };
            tries += 1;
            if checked.is_ok() || tries == CHECKS {
                return checked;
            }
            std::thread::sleep(CHECK_PAUSE);
        }
    }

    /// Looks once, and returns when that was (ns on `CLOCK_MONOTONIC`, the middle of the look), for how
    /// long it took, ns, and what it came to.
    pub fn look(&mut self) -> (u64, u64, Look) {
        let began_ns = clock::monotonic_ns();
        let look = match self {
            Self::Resctrl(groups) => groups.look(),
            Self::Controllers(controllers) => controllers.look(),
        };
        let took_ns = clock::monotonic_ns().saturating_sub(began_ns);
        (began_ns + took_ns / 2, took_ns, look)
    }

    /// What comes next has nothing to be compared with.
    pub fn forget(&mut self) {
        match self {
            Self::Resctrl(groups) => groups.forget(),
            Self::Controllers(controllers) => controllers.forget(),
        }
    }
}

//! What the caller asks for: the JSON file the rig starts from.

use crate::power::{Counter, Domain, Fractions, Power, Shape, Ticks};
use serde::Deserialize;
use std::io;
use std::path::{Path, PathBuf};

/// The whole configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of each package in directory order.
    pub names: Vec<String>,
    /// Each package's part of the machine's package power.
    pub split: Vec<f64>,
    /// Sub-zones in the order of their numbers.
    pub domains: Vec<Domain>,
    /// Sizes of the sub-zones.
    pub fractions: Fractions,
    /// W of the board in psys; `None` for no psys.
    pub psys_watts: Option<f64>,
    /// psys is zone 0.
    pub psys_first: bool,
    /// Repeat the packages under `intel-rapl-mmio`.
    pub mmio: bool,
    /// The core zone shows one core of this many.
    pub core_zone_of: u32,
    /// W of all packages at rest.
    pub idle_watts: f64,
    /// Constant W of all packages; `None` follows the CPU load.
    pub watts: Option<f64>,
    /// W above idle at one busy CPU.
    pub gain: f64,
    /// Exponent of the load.
    pub gamma: f64,
    /// µs between counter updates; 0 is continuous.
    pub tick_us: u64,
    /// µs by which an update may be late.
    pub jitter_us: u64,
    /// µs between steps of the integrator.
    pub step_us: u64,
    /// s of history that can be asked for.
    pub history_s: u64,
    /// `max_energy_range_uj`.
    pub max_range_uj: u64,
    /// Counter value at the start.
    pub start_uj: u64,
    /// µJ per count.
    pub resolution_uj: Option<f64>,
    /// Permissions of `energy_uj`.
    pub mode: u16,
    /// Whether the rig's own CPU time is load (of `others`).
    pub count_self: bool,
    /// Run the reader and the integrator ahead of ordinary work.
    pub realtime: bool,
    /// The rig ends when this process does.
    pub parent: i32,
    /// More places at which a file or directory of the rig's folder shall be seen.
    pub binds: Vec<Bind>,
}

/// A bind mount.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// What.
    pub source: PathBuf,
    /// Where.
    pub target: PathBuf,
}

impl Config {
    /// Reads and checks the file.
    pub fn load(path: &Path) -> io::Result<Self> {
        let config: Self = serde_json::from_str(&std::fs::read_to_string(path)?)?;
        let wrong = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        if config.names.is_empty() || config.names.len() != config.split.len() {
            return wrong("names and split must have one entry per package");
        }
        if config.step_us == 0 {
            return wrong("step_us must be positive");
        }
        if config.max_range_uj == 0 {
            return wrong("max_range_uj must be positive");
        }
        Ok(config)
    }

    /// The tree's shape.
    pub fn shape(&self) -> Shape {
        Shape {
            names: self.names.clone(),
            split: self.split.clone(),
            domains: self.domains.clone(),
            fractions: self.fractions,
            psys_watts: self.psys_watts,
            psys_first: self.psys_first,
            mmio: self.mmio,
            core_zone_of: self.core_zone_of,
        }
    }

    /// The power model.
    pub fn power(&self) -> Power {
        Power {
            idle_watts: self.idle_watts,
            gain: self.gain,
            gamma: self.gamma,
        }
    }

    /// The counters' looks.
    pub fn counter(&self) -> Counter {
        Counter {
            max_range_uj: self.max_range_uj,
            start_uj: self.start_uj,
            resolution_uj: self.resolution_uj,
        }
    }

    /// The counters' updates.
    pub fn ticks(&self) -> Ticks {
        Ticks {
            period_ns: self.tick_us * 1000,
            jitter_ns: self.jitter_us * 1000,
        }
    }
}

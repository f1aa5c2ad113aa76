//! What the simulated machine draws: load to watts, watts to zones, joules to counter values.
//!
//! Pure: no clock, no files. Times are nanoseconds of `CLOCK_MONOTONIC`, energy is joules (`f64`)
//! until the moment a counter shows it as integer microjoules.

use serde::{Deserialize, Serialize};

/// A domain of a powercap tree, as the kernel names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Domain {
    /// A CPU package; the zone's name is `package-N` or what the caller chose.
    Package,
    /// The cores, inside the package (on AMD: one core only).
    Core,
    /// Graphics and other uncore parts, inside the package.
    Uncore,
    /// Memory, outside the package.
    Dram,
    /// The whole platform: packages, memory and the rest of the board.
    Psys,
}

impl Domain {
    /// The text of the zone's `name` file, packages excepted.
    pub fn name(self) -> &'static str {
        match self {
            Self::Package => "package",
            Self::Core => "core",
            Self::Uncore => "uncore",
            Self::Dram => "dram",
            Self::Psys => "psys",
        }
    }
}

/// How large a domain is, as a fraction of its package's power.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fractions {
    /// All cores together.
    pub core: f64,
    /// Uncore.
    pub uncore: f64,
    /// Memory; it comes on top of the package.
    pub dram: f64,
}

/// The machine's power as a function of its load.
#[derive(Clone, Debug)]
pub struct Power {
    /// W of all packages together when nothing runs.
    pub idle_watts: f64,
    /// W above idle when one CPU is busy.
    pub gain: f64,
    /// Exponent of the load: 1 is linear, less than 1 saturates.
    pub gamma: f64,
}

impl Power {
    /// W of all packages above idle at a load of `cpus` busy CPUs.
    pub fn active_watts(&self, cpus: f64) -> f64 {
        if cpus > 0.0 {
            self.gain * cpus.powf(self.gamma)
        } else {
            0.0
        }
    }
}

/// A part of the load in one step and the joules it caused.
///
/// The active energy of a step belongs to those who ran in it, in proportion to weighted CPU time.
pub fn share(active_joules: f64, weighted: &[f64]) -> Vec<f64> {
    let sum: f64 = weighted.iter().sum();
    weighted
        .iter()
        .map(|w| {
            if sum > 0.0 {
                active_joules * w / sum
            } else {
                0.0
            }
        })
        .collect()
}

/// A zone of the tree: where it sits and how its energy follows from that of the packages.
#[derive(Clone, Debug)]
pub struct Zone {
    /// Unique key: `package-0`, `package-0/dram`, `psys`, `mmio/package-0`.
    pub key: String,
    /// Directory name, such as `intel-rapl:0:1`.
    pub dir: String,
    /// Text of the `name` file.
    pub name: String,
    /// Index of the zone this one is nested in.
    pub parent: Option<usize>,
    /// Whether it belongs to the `intel-rapl-mmio` twin.
    pub mmio: bool,
    /// Joules of this zone per joule of all packages together.
    pub share: f64,
    /// W that do not depend on the packages (the board, in psys).
    pub constant_watts: f64,
}

impl Zone {
    /// J of this zone, given J of all packages and the seconds in which they were spent.
    pub fn joules(&self, package_joules: f64, seconds: f64) -> f64 {
        self.share * package_joules + self.constant_watts * seconds
    }
}

/// What the counter of a zone looks like to a reader.
#[derive(Clone, Copy, Debug)]
pub struct Counter {
    /// Largest value, as in `max_energy_range_uj`; the modulus is one more.
    pub max_range_uj: u64,
    /// Value at the start of the simulation.
    pub start_uj: u64,
    /// µJ per count of the hardware; `None` shows every µJ.
    pub resolution_uj: Option<f64>,
}

impl Counter {
    /// The value shown after `joules` since the start (or since the last reset, with `start` 0).
    pub fn show(&self, joules: f64, start_uj: u64) -> u64 {
        let spent = joules * 1e6;
        let shown = match self.resolution_uj {
            Some(r) if r > 0.0 => (spent / r).floor() * r,
            _ => spent,
        };
        let modulus = u128::from(self.max_range_uj) + 1;
        // The sum is below 2^65, the remainder below 2^64.
        let value = (u128::from(start_uj) + shown.max(0.0) as u128) % modulus;
        u64::try_from(value).unwrap_or(u64::MAX)
    }
}

/// When the counters change: real RAPL updates about every millisecond, with jitter.
#[derive(Clone, Copy, Debug)]
pub struct Ticks {
    /// ns between updates; 0 is a continuous counter.
    pub period_ns: u64,
    /// An update comes up to this many ns after its nominal time; less than the period.
    pub jitter_ns: u64,
}

impl Ticks {
    /// Time of the last update at or before `t_ns`.
    pub fn last(&self, t_ns: u64) -> u64 {
        if self.period_ns == 0 {
            return t_ns;
        }
        let k = t_ns / self.period_ns;
        let at = self.time_of(k);
        if at <= t_ns || k == 0 {
            at.min(t_ns)
        } else {
            self.time_of(k - 1)
        }
    }

    fn time_of(&self, k: u64) -> u64 {
        let late = match self.jitter_ns {
            0 => 0,
            j => scramble(k) % (j.min(self.period_ns - 1) + 1),
        };
        k * self.period_ns + late
    }
}

/// splitmix64's finaliser: the jitter of tick `k` is always the same, so truth can be recomputed.
fn scramble(k: u64) -> u64 {
    let mut z = k.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Shape of a tree, from which [`zones`] lays out its zones.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Name of each package, in the order of their directories.
    pub names: Vec<String>,
    /// Each package's part of the whole; sums to 1.
    pub split: Vec<f64>,
    /// Sub-zones in the order of their numbers.
    pub domains: Vec<Domain>,
    /// Sizes of the sub-zones.
    pub fractions: Fractions,
    /// A psys zone, and the W of the board in it.
    pub psys_watts: Option<f64>,
    /// psys takes number 0 and the packages follow.
    pub psys_first: bool,
    /// Repeat the packages under `intel-rapl-mmio`.
    pub mmio: bool,
    /// The core zone shows one core out of this many (AMD); 1 shows all.
    pub core_zone_of: u32,
}

impl Shape {
    /// J of memory per J of the packages; 0 when the machine has no DRAM domain.
    pub fn dram_share(&self) -> f64 {
        if self.domains.contains(&Domain::Dram) {
            self.fractions.dram
        } else {
            0.0
        }
    }

    /// All zones, parents before children, in directory order.
    pub fn zones(&self) -> Vec<Zone> {
        let mut zones = Vec::new();
        let first = usize::from(self.psys_first && self.psys_watts.is_some());
        for (k, (name, part)) in self.names.iter().zip(&self.split).enumerate() {
            let dir = format!("intel-rapl:{}", k + first);
            let parent = zones.len();
            zones.push(Zone {
                key: name.clone(),
                dir: dir.clone(),
                name: name.clone(),
                parent: None,
                mmio: false,
                share: *part,
                constant_watts: 0.0,
            });
            for (n, domain) in self.domains.iter().enumerate() {
                let fraction = match domain {
                    Domain::Core => self.fractions.core / f64::from(self.core_zone_of.max(1)),
                    Domain::Uncore => self.fractions.uncore,
                    Domain::Dram => self.fractions.dram,
                    Domain::Package | Domain::Psys => continue,
                };
                zones.push(Zone {
                    key: format!("{name}/{}", domain.name()),
                    dir: format!("{dir}:{n}"),
                    name: domain.name().to_owned(),
                    parent: Some(parent),
                    mmio: false,
                    share: part * fraction,
                    constant_watts: 0.0,
                });
            }
        }
        if let Some(board) = self.psys_watts {
            let number = if self.psys_first { 0 } else { self.names.len() };
            zones.push(Zone {
                key: "psys".to_owned(),
                dir: format!("intel-rapl:{number}"),
                name: "psys".to_owned(),
                parent: None,
                mmio: false,
                share: 1.0 + self.dram_share(),
                constant_watts: board,
            });
        }
        if self.mmio {
            for (k, (name, part)) in self.names.iter().zip(&self.split).enumerate() {
                zones.push(Zone {
                    key: format!("mmio/{name}"),
                    dir: format!("intel-rapl-mmio:{k}"),
                    name: name.clone(),
                    parent: None,
                    mmio: true,
                    share: *part,
                    constant_watts: 0.0,
                });
            }
        }
        zones
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Shape {
        Shape {
            names: vec!["package-0".into(), "package-1".into()],
            split: vec![0.5, 0.5],
            domains: vec![Domain::Dram],
            fractions: Fractions {
                core: 0.7,
                uncore: 0.05,
                dram: 0.2,
            },
            psys_watts: Some(30.0),
            psys_first: false,
            mmio: true,
            core_zone_of: 1,
        }
    }

    #[test]
    fn a_server_numbers_dram_zero_and_psys_after_the_packages() {
        let zones = server().zones();
        let dirs: Vec<_> = zones
            .iter()
            .map(|z| (z.dir.as_str(), z.key.as_str()))
            .collect();
        assert_eq!(
            dirs,
            [
                ("intel-rapl:0", "package-0"),
                ("intel-rapl:0:0", "package-0/dram"),
                ("intel-rapl:1", "package-1"),
                ("intel-rapl:1:0", "package-1/dram"),
                ("intel-rapl:2", "psys"),
                ("intel-rapl-mmio:0", "mmio/package-0"),
                ("intel-rapl-mmio:1", "mmio/package-1"),
            ]
        );
        assert_eq!(zones[3].parent, Some(2));
    }

    #[test]
    fn psys_is_packages_and_memory_and_the_board() {
        let zones = server().zones();
        let j = |key: &str| {
            zones
                .iter()
                .find(|z| z.key == key)
                .map(|z| z.joules(100.0, 2.0))
        };
        assert_eq!(j("package-0"), Some(50.0));
        assert_eq!(j("package-1/dram"), Some(10.0));
        assert_eq!(j("psys"), Some(180.0));
    }

    #[test]
    fn psys_may_come_first() {
        let shape = Shape {
            psys_first: true,
            ..server()
        };
        let zones = shape.zones();
        assert_eq!(zones[0].dir, "intel-rapl:1");
        assert!(
            zones
                .iter()
                .any(|z| z.name == "psys" && z.dir == "intel-rapl:0")
        );
    }

    #[test]
    fn load_becomes_watts() {
        let power = Power {
            idle_watts: 20.0,
            gain: 30.0,
            gamma: 0.5,
        };
        assert_eq!(power.active_watts(0.0), 0.0);
        assert_eq!(power.active_watts(1.0), 30.0);
        assert_eq!(power.active_watts(4.0), 60.0);
    }

    #[test]
    fn shares_add_up() {
        assert_eq!(share(30.0, &[2.0, 1.0, 0.0]), [20.0, 10.0, 0.0]);
        assert_eq!(share(30.0, &[0.0, 0.0]), [0.0, 0.0]);
    }

    #[test]
    fn the_modulus_is_one_more_than_the_range() {
        let c = Counter {
            max_range_uj: 999,
            start_uj: 990,
            resolution_uj: None,
        };
        assert_eq!(c.show(9e-6, 990), 999);
        assert_eq!(c.show(10e-6, 990), 0);
        assert_eq!(c.show(12e-6, 0), 12);
    }

    #[test]
    fn a_coarse_counter_moves_in_counts() {
        let c = Counter {
            max_range_uj: u64::MAX,
            start_uj: 0,
            resolution_uj: Some(61.035),
        };
        assert_eq!(c.show(61e-6, 0), 0);
        assert_eq!(c.show(62e-6, 0), 61);
        assert_eq!(c.show(123e-6, 0), 122);
    }

    #[test]
    fn ticks_hold_between_updates() {
        let t = Ticks {
            period_ns: 1_000_000,
            jitter_ns: 0,
        };
        assert_eq!(t.last(5_999_999), 5_000_000);
        assert_eq!(t.last(6_000_000), 6_000_000);
        let c = Ticks {
            period_ns: 0,
            jitter_ns: 0,
        };
        assert_eq!(c.last(123), 123);
    }

    #[test]
    fn jittered_ticks_never_run_backwards_or_ahead() {
        let t = Ticks {
            period_ns: 1000,
            jitter_ns: 400,
        };
        let mut previous = 0;
        let mut distinct = std::collections::BTreeSet::new();
        for now in 1000..200_000 {
            let at = t.last(now);
            assert!(at >= previous && at <= now && now - at < 1400, "{now} {at}");
            distinct.insert(at % 1000);
            previous = at;
        }
        assert!(distinct.len() > 50 && distinct.iter().all(|late| *late <= 400));
    }
}

//! Package power against load: its parts, their coefficients and how far to trust them.
//!
//! Package power has three parts, and all three follow from public facts of a processor:
//!
//! - *idle*, which is always there;
//! - *wake*: as soon as any core of a socket runs, its uncore (mesh, caches, memory controllers,
//!   I/O die) leaves its sleep. It is there in the share of time in which at least one core is
//!   awake, so a load of 10 % on all cores costs much more than a tenth;
//! - *cores*: so many watts for each, by microarchitecture and clock.
//!
//! How the numbers were found, and how far they are off, is in `docs/explanation/power-model.md`.

use serde::Serialize;

use super::table::Class;

/// What all processors have in common.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Shape {
    /// Power of an awake uncore above idle, as a part of idle power.
    pub wake: f64,
    /// How evenly two threads share a core's power: at 0 the first one takes all of it, at 1 each
    /// takes half.
    pub sharing: f64,
    /// Exponent of the clock in a core's power, within one machine (voltage falls with it, but
    /// not in proportion, and leakage stays).
    pub clock_exponent: f64,
    /// Clock at no load as a part of the clock at full load, where a machine's governor lowers it
    /// and it is unknown.
    pub low_clock: f64,
}

impl Shape {
    /// Between the best of either measured machine, and of both with and without the clock.
    pub const SHIPPED: Self = Self {
        wake: 0.9,
        sharing: 0.5,
        clock_exponent: 1.4,
        low_clock: 0.5,
    };
}

/// Clock (MHz) at which [`Family::core_w`] holds.
pub const REFERENCE_MHZ: f64 = 2600.0;

/// Exponent of the clock between parts: a part that is rated for a higher clock runs it at a
/// higher voltage. From the 24-core Cascade Lakes of AWS that Teads measured (8259CL at 3.1 GHz
/// and 8275CL at 3.6 GHz with all cores busy) and between dynamic power's f·V² limits of 1 and 3.
const RATED_CLOCK_EXPONENT: f64 = 2.4;

/// Most power (of the TDP) that a part takes for longer than its turbo lasts. Package watts of AWS
/// metal hosts at full load lie between 0.88 and 1.31 of it (Teads Engineering, turbostat).
pub const LIMIT: f64 = 1.1;

/// What the processors of one microarchitecture have in common.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Family {
    /// Idle package power as a part of the TDP.
    pub idle_share: f64,
    /// Power (W) of one busy core, both its threads, at [`REFERENCE_MHZ`].
    pub core_w: f64,
    /// Most power as a part of the TDP.
    pub limit: f64,
}

const fn family(idle_share: f64, core_w: f64) -> Family {
    Family {
        idle_share,
        core_w,
        limit: LIMIT,
    }
}

const fn firm(family: Family) -> Family {
    Family {
        limit: 1.0,
        ..family
    }
}

impl Family {
    /// The family of a microarchitecture as the table names it; `None` where nothing is known
    /// but its class.
    ///
    /// Idle shares: Intel servers 0.116, the mean of seven hosts of AWS that Teads Engineering put
    /// through turbostat (0.10 to 0.13). AMD servers with an I/O die: 65 W of 225 W (Rome) and
    /// 100 W of 280 W (Milan) in AnandTech's review of Milan, without deep sleep of the fabric;
    /// with it a good deal less: 0.25. Siena has half the I/O: 0.22. Desktop parts idle at a few W.
    ///
    /// Watts per core: what is left of a part's TDP (or measured full power) above idle and wake,
    /// over its cores, at its all-core clock, taken to 2.6 GHz: Haswell and Broadwell from
    /// E5-2690 v3, 2699 v3 and 2699 v4 (4.3 to 5.8, of which the upper, as parts at their limit
    /// lower their clock), Skylake to Cascade Lake from Teads' full power of 8275CL (4.9), Ice Lake
    /// and later from 8380 and 8480+, Zen from the cores' part of a Ryzen 7 1700X (62 of 82 W,
    /// AnandTech), Zen 2 to Zen 5 servers from the flagships and Bergamo (9754: 128 cores in 360 W),
    /// their desktop siblings from a Ryzen 9 5950X (6.1 W a core at 3.8 GHz, 142 W in all, AnandTech);
    /// AMD lets those take 1.35 of their TDP for as long as they like.
    pub fn of(microarchitecture: &str, class: Class) -> Option<Self> {
        let name = microarchitecture.trim();
        let server = class == Class::Server;
        let client_idle = 0.08;
        let known = match name {
            "Sandy Bridge" | "Ivy Bridge" => family(if server { 0.116 } else { client_idle }, 6.0),
            "Haswell" | "Broadwell" if server => family(0.116, 5.8),
            "Haswell" | "Broadwell" => family(client_idle, 5.8),
            "Skylake"
            | "Skylake-SP"
            | "Cascade Lake"
            | "Cascade Lake-SP"
            | "Skylake or Cascade Lake"
            | "Cooper Lake"
                if server =>
            {
                family(0.116, 4.9)
            }
            "Skylake" | "Kaby Lake" | "Kaby Lake R" | "Coffee Lake" | "Comet Lake"
            | "Whiskey Lake" => family(client_idle, 4.9),
            "Ice Lake" | "Ice Lake-SP" if server => family(0.116, 4.0),
            "Sapphire Rapids" | "Emerald Rapids" if server => family(0.116, 3.8),
            // AMD's servers keep to their TDP.
            "Naples" => firm(family(0.25, 3.0)),
            "Zen" | "Zen+" => family(0.12, 4.2),
            "Zen 2" | "Zen 3" | "Zen 4" | "Zen 5" if class == Class::Desktop => Self {
                limit: 1.35,
                ..family(0.18, 2.5)
            },
            "Rome" | "Milan" | "Milan-X" => firm(family(0.25, 1.6)),
            "Genoa" | "Genoa-X" | "Bergamo" | "Turin" | "Turin Dense" => firm(family(0.25, 1.5)),
            "Siena" => firm(family(0.22, 1.5)),
            _ => return None,
        };
        Some(known)
    }
}

/// Idle power and power at full load as parts of the TDP, for a class of which no more is known.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClassShares {
    /// Idle package power as a part of the TDP.
    pub idle: f64,
    /// Package power at full load as a part of the TDP.
    pub full: f64,
}

impl ClassShares {
    /// The shares of the TDP for a class of processors.
    ///
    /// Servers: the geometric mean of Teads' seven hosts (full 0.88 to 1.31). Desktop and laptop:
    /// the TDP is what they settle at under sustained load; an assumption. Low-power parts: vendors
    /// of small machines set their limit from the TDP to twice of it, and what does not scale with
    /// the cores is a larger part; an assumption. Single-board computers
    /// (watts of the board): Raspberry Pi 3 B, 3 B+ and 4 B idle at 0.38 to 0.42 of their full
    /// load (<https://www.pidramble.com/wiki/benchmarks/power-consumption>).
    pub fn of(class: Class) -> Self {
        let (idle, full) = match class {
            Class::Server | Class::ArmServer => (0.116, 1.01),
            Class::Desktop | Class::Laptop => (0.08, 1.0),
            Class::LowPower => (0.18, 1.3),
            Class::SingleBoard => (0.40, 1.0),
        };
        Self { idle, full }
    }
}

/// Facts of a processor from which its curve is made, per socket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Facts {
    /// Kind of processor.
    pub class: Class,
    /// Its family, where that is known.
    pub family: Option<Family>,
    /// Thermal design power (W).
    pub tdp_w: f64,
    /// Measured idle and full power (W), where somebody published them.
    pub measured: Option<(f64, f64)>,
    /// Cores, where known.
    pub cores: Option<u32>,
    /// Clock (MHz) with all cores busy, where it is known or follows from the others.
    pub full_mhz: Option<f64>,
    /// Whether the host keeps its clock up at low load, as clouds do.
    pub steady_clock: bool,
}

/// Clock (MHz) with all cores busy: as published, else between base and boost clock.
///
/// Intel's servers reach a quarter (E5-2620 v3) to two thirds (8380) of the way by Intel's turbo
/// tables, AMD's nearly all of it while power allows, and desktop parts too.
pub fn full_clock(
    class: Class,
    maker: &str,
    base_mhz: Option<f64>,
    boost_mhz: Option<f64>,
    allcore_mhz: Option<f64>,
) -> Option<f64> {
    let part = match (class, maker) {
        (Class::Server, "Intel") => 0.45,
        _ => 0.9,
    };
    allcore_mhz.or(match (base_mhz, boost_mhz) {
        (Some(base), Some(boost)) if boost >= base => Some(base + part * (boost - base)),
        (Some(base), _) => Some(base * 1.1),
        (None, Some(boost)) => Some(boost * 0.9),
        _ => None,
    })
}

/// Power (W) of all packages of a host against load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Curve {
    /// Idle power (W) of all sockets.
    pub idle_w: f64,
    /// What awake uncores add (W), all sockets.
    pub wake_w: f64,
    /// What all cores add at full load (W), all sockets.
    pub core_w: f64,
    /// Cores of one socket, any of which wakes it.
    pub cores_per_socket: f64,
    /// Clock (MHz) at full load, where known.
    pub full_mhz: Option<f64>,
    /// What all processors have in common.
    pub shape: Shape,
}

impl Curve {
    /// The curve of `sockets` such processors.
    pub fn new(facts: &Facts, sockets: u32, shape: Shape) -> Self {
        let shares = ClassShares::of(facts.class);
        let tdp = facts.tdp_w;
        let idle = match (facts.measured, facts.family) {
            (Some((idle, _)), _) => idle,
            (None, Some(family)) => family.idle_share * tdp,
            (None, None) => shares.idle * tdp,
        };
        let board = facts.class == Class::SingleBoard;
        let full = match (facts.measured, facts.family, facts.cores, facts.full_mhz) {
            (Some((_, full)), ..) => full,
            (None, Some(family), Some(cores), Some(mhz)) => {
                let rated = (mhz / REFERENCE_MHZ).powf(RATED_CLOCK_EXPONENT);
                let cores = f64::from(cores) * family.core_w * rated;
                (idle * (1.0 + shape.wake) + cores).min(tdp * family.limit)
            }
            _ => shares.full * tdp,
        }
        .max(idle);
        // A board's uncore never sleeps; of others the wake is at most half of what there is.
        let wake = if board {
            0.0
        } else {
            (shape.wake * idle).min(0.5 * (full - idle))
        };
        let sockets = f64::from(sockets);
        Self {
            idle_w: idle * sockets,
            wake_w: wake * sockets,
            core_w: (full - idle - wake) * sockets,
            cores_per_socket: f64::from(facts.cores.unwrap_or(8).max(1)),
            full_mhz: facts.full_mhz,
            shape: Shape {
                low_clock: if facts.steady_clock || board {
                    1.0
                } else {
                    shape.low_clock
                },
                ..shape
            },
        }
    }

    /// Power (W) of all sockets at full load and clock.
    pub fn full_w(&self) -> f64 {
        self.idle_w + self.wake_w + self.core_w
    }

    /// Watts above idle at load `u`, which is clamped to 0..1; never falls when it grows.
    pub fn active(&self, u: f64) -> f64 {
        self.active_at(u, 1.0, None)
    }

    /// [`Curve::active`] where more is known: the part of the CPUs on which the load runs
    /// (`spread`, 0..1; at 1 it runs on all), and the mean clock of all CPUs.
    ///
    /// Some CPUs that are always busy keep their socket awake all the time; the same load spread
    /// over all of them leaves it moments of sleep.
    pub fn active_at(&self, u: f64, spread: f64, mhz: Option<f64>) -> f64 {
        let u = u.clamp(0.0, 1.0);
        if u == 0.0 {
            return 0.0;
        }
        let spread = spread.clamp(u, 1.0);
        let cores = (self.cores_per_socket * spread).max(1.0);
        let asleep = (1.0 - u / spread).powf(cores);
        // Of two threads on a core the second adds less.
        let sharing = self.shape.sharing;
        let busy = (1.0 - (1.0 - u) * (1.0 - u)) * (1.0 - sharing) + sharing * u;
        let clock = match (mhz, self.full_mhz) {
            (Some(mhz), Some(full)) => (mhz / full).clamp(0.2, 1.2),
            _ => self.shape.low_clock + (1.0 - self.shape.low_clock) * u,
        };
        self.wake_w * (1.0 - asleep) + self.core_w * busy * clock.powf(self.shape.clock_exponent)
    }
}

/// Factors by which the truth may lie above or below, for 95 % of cases.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// For the idle part: the truth is within `idle / factor` and `idle * factor`.
    pub idle: f64,
    /// For the part above idle.
    pub active: f64,
}

impl Spread {
    /// A processor of a known family. Chosen so that it covers 42 of the 44 measured rows when
    /// the shape comes from the other machine alone, without and with cores and clock; within
    /// ±45 % at any load.
    pub const FAMILY: Self = Self {
        idle: 1.45,
        active: 1.42,
    };
    /// Only the class and the TDP are known.
    pub const FROM_TDP: Self = Self {
        idle: 2.2,
        active: 1.9,
    };
    /// Idle and full watts of this very part were measured by somebody: what remains is the
    /// difference between boards and between workloads.
    pub const MEASURED: Self = Self {
        idle: 1.35,
        active: 1.35,
    };
    /// The name only hints at the part (`Intel(R) Xeon(R) Processor @ 2.50GHz`).
    pub const LIKELY_PART: Self = Self {
        idle: 1.4,
        active: 1.4,
    };
    /// The part is not known at all: a class default stands in.
    pub const CLASS_DEFAULT: Self = Self {
        idle: 2.0,
        active: 1.8,
    };
    /// Not even the kind of machine is known: from a fanless part of 5 W to a desktop of 200 W.
    pub const ANY_MACHINE: Self = Self {
        idle: 5.0,
        active: 5.5,
    };
    /// No machine of this class was measured.
    pub const UNSEEN_CLASS: Self = Self {
        idle: 1.5,
        active: 1.3,
    };
    /// We hold a share of a host whose other load is unknown. A busy thread of a host that is 20 %
    /// busy costs about twice what it costs on a full host, and hosts are oversubscribed. Wide enough that the watts per vCPU of the public methods we know fall
    /// inside (a test keeps it so).
    pub const SHARE_OF_HOST: Self = Self {
        idle: 1.5,
        active: 1.7,
    };

    /// Combines independent spreads: their logarithms add in quadrature.
    pub fn and(self, other: Self) -> Self {
        let join = |a: f64, b: f64| a.ln().hypot(b.ln()).exp();
        Self {
            idle: join(self.idle, other.idle),
            active: join(self.active, other.active),
        }
    }

    /// This spread, weakened to a fraction `weight` (0..1) of its logarithm.
    pub(crate) fn scaled(self, weight: f64) -> Self {
        Self {
            idle: self.idle.powf(weight),
            active: self.active.powf(weight),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve() -> Curve {
        let facts = Facts {
            class: Class::Server,
            family: Family::of("Haswell", Class::Server),
            tdp_w: 85.0,
            measured: None,
            cores: Some(6),
            full_mhz: Some(2600.0),
            steady_clock: false,
        };
        Curve::new(&facts, 2, Shape::SHIPPED)
    }

    #[test]
    fn concave_and_anchored() {
        let curve = curve();
        assert_eq!(curve.active(0.0), 0.0);
        assert!((curve.active(1.0) - (curve.full_w() - curve.idle_w)).abs() < 1e-9);
        assert_eq!(curve.active(7.0), curve.active(1.0));
        assert!(curve.active(0.5) > 0.5 * curve.active(1.0));
        let mut last = 0.0;
        for step in 1..=1000 {
            let now = curve.active(f64::from(step) / 1000.0);
            assert!(now > last);
            last = now;
        }
    }

    #[test]
    fn one_busy_core_wakes_the_socket() {
        let curve = curve();
        let one = curve.active_at(1.0 / 24.0, 1.0 / 24.0, None);
        assert!(one > curve.wake_w && one < curve.wake_w + 0.1 * curve.core_w);
        assert!(curve.active(1.0 / 24.0) < one);
    }

    #[test]
    fn a_slower_clock_costs_less() {
        let curve = curve();
        let fast = curve.active_at(0.7, 1.0, Some(2600.0));
        let slow = curve.active_at(0.7, 1.0, Some(1300.0));
        assert!(slow < fast && slow > curve.wake_w);
        assert!(curve.active_at(0.7, 1.0, Some(1e9)).is_finite());
    }

    #[test]
    fn measured_power_is_taken_as_it_is() {
        let facts = Facts {
            class: Class::Server,
            family: Family::of("Cascade Lake", Class::Server),
            tdp_w: 240.0,
            measured: Some((29.0, 313.0)),
            cores: Some(24),
            full_mhz: Some(3600.0),
            steady_clock: true,
        };
        let curve = Curve::new(&facts, 1, Shape::SHIPPED);
        assert_eq!(curve.idle_w, 29.0);
        assert!((curve.full_w() - 313.0).abs() < 1e-9);
    }

    /// Full power of AWS hosts (one socket; cores, all-core clock in GHz as AWS states it for the
    /// instances, TDP, measured idle and full W by Teads Engineering): none but 8275CL went into the families.
    #[test]
    fn families_tell_the_full_power_of_measured_hosts() {
        for (name, family, cores, ghz, tdp, idle, full) in [
            ("8259CL", "Cascade Lake", 24, 3.1, 210.0, 27.36, 222.69),
            ("8124M", "Skylake", 18, 3.4, 240.0, 25.33, 211.84),
            ("8175M", "Skylake", 24, 3.1, 240.0, 28.94, 238.99),
            ("8252C", "Cascade Lake", 12, 4.5, 240.0, 28.5, 235.88),
            ("8151", "Skylake", 12, 4.0, 240.0, 24.0, 220.5),
        ] {
            let facts = Facts {
                class: Class::Server,
                family: Family::of(family, Class::Server),
                tdp_w: tdp,
                measured: None,
                cores: Some(cores),
                full_mhz: Some(ghz * 1000.0),
                steady_clock: true,
            };
            let curve = Curve::new(&facts, 1, Shape::SHIPPED);
            let off = |found: f64, truth: f64| found / truth - 1.0;
            println!(
                "{name}: idle {:+.0} %, full {:+.0} %",
                100.0 * off(curve.idle_w, idle),
                100.0 * off(curve.full_w(), full)
            );
            assert!(off(curve.idle_w, idle).abs() < 0.2, "{name}");
            assert!(off(curve.full_w(), full).abs() < 0.15, "{name}");
        }
    }

    #[test]
    fn spreads_combine_in_quadrature() {
        let one = Spread {
            idle: 1.0,
            active: 1.0,
        };
        let both = Spread::FROM_TDP.and(one);
        assert!((both.idle - 2.2).abs() < 1e-12 && (both.active - 1.9).abs() < 1e-12);
        let wide = Spread::FROM_TDP.and(Spread::SHARE_OF_HOST);
        assert!(wide.active > 1.9 && wide.active < 1.9 * 1.7);
        assert!((Spread::FROM_TDP.scaled(0.0).idle - 1.0).abs() < 1e-12);
    }
}

//! Package power against load: its parts, their coefficients and how far to trust them.
//!
//! Package power has three parts, and all three follow from public facts of a processor:
//!
//! - *idle*, which is always there;
//! - *wake*: as soon as any core runs, the uncore of every socket (mesh, caches, memory controllers,
//!   I/O die) leaves its sleep. It is there in the share of time in which at least one core is
//!   awake, so a load of 10 % on all cores costs much more than a tenth;
//! - *cores*: so many watts for each, by microarchitecture and clock. One thread a core comes first;
//!   the second thread of a core adds much less.
//!
//! How the numbers were found, and how far they are off, is in `docs/explanation/power-model.md`.

use serde::Serialize;

use super::table::Class;
use crate::source::busy::{BusyCpus, Clock};

/// What all processors have in common.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Shape {
    /// What the second thread of a core adds, as a part of what the first one takes.
    pub second_thread: f64,
    /// Exponent of the clock in a core's power, within one machine (voltage falls with it, but
    /// not in proportion, and leakage stays): 1.2 for kernels that wait for memory to 1.76 for
    /// arithmetic on two EPYC 7502.
    pub clock_exponent: f64,
    /// Clock of a CPU that has next to nothing to do, as a part of the clock at full load, where a
    /// governor lowers it; above it the clock rises with the square of the CPU's own load.
    pub low_clock: f64,
    /// CPUs of a socket that sleep independently of each other. Timers and the workers of one
    /// program wake many at the same moment, so more than that do not keep a socket awake longer.
    pub sleepers: f64,
}

impl Shape {
    /// Between the best for package power of the machines that were measured and for the shape of
    /// the curves that SPEC published (`docs/explanation/power-model.md`).
    pub const SHIPPED: Self = Self {
        second_thread: 0.35,
        clock_exponent: 1.4,
        low_clock: 0.48,
        sleepers: 8.0,
    };
}

/// [`Shape::low_clock`] of parts of no known family: between those whose clock falls and old ones
/// whose clock hardly did (SPECpower's servers of 2006 to 2008).
const UNKNOWN_LOW_CLOCK: f64 = 0.7;

/// Exponent of a CPU's own load in what the governor raises its clock by.
const CLOCK_RISE: f64 = 2.0;

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
    /// What an awake uncore adds, as a part of the TDP.
    pub wake_share: f64,
    /// Power (W) of one busy core, both its threads, at [`REFERENCE_MHZ`].
    pub core_w: f64,
    /// Most power as a part of the TDP.
    pub limit: f64,
    /// Clock of an idle CPU as a part of the clock at full load, where the governor is not known
    /// to hold it up; `None`: [`Shape::low_clock`].
    pub low_clock: Option<f64>,
    /// Factor by which the cores' power of one program may lie above or below that of another.
    pub workload: f64,
}

const fn family(idle_share: f64, wake_share: f64, core_w: f64) -> Family {
    Family {
        idle_share,
        wake_share,
        core_w,
        limit: LIMIT,
        low_clock: None,
        workload: WORKLOAD,
    }
}

/// AMD's servers keep to their TDP and hold their clock up; their core power is the most
/// different from program to program.
const fn epyc(idle_share: f64, wake_share: f64, core_w: f64) -> Family {
    Family {
        limit: 1.0,
        low_clock: Some(0.75),
        workload: EPYC_WORKLOAD,
        ..family(idle_share, wake_share, core_w)
    }
}

/// Core power of two programs at the same threads and clock: 95 % of pairs on two Intel servers
/// are within a factor of 1.1 to 1.6 of each other.
pub const WORKLOAD: f64 = 1.5;

/// The same on two EPYC 7502 (Schöne et al., CLUSTER 2021): a factor of 2.4 for 95 % of pairs, 4.0
/// between square roots and matrix products.
pub const EPYC_WORKLOAD: f64 = 2.6;

impl Family {
    /// The family of a microarchitecture as the table names it; `None` where nothing is known
    /// but its class.
    ///
    /// Idle shares: 0.116 for Intel servers up to Cascade Lake, the mean of seven hosts of AWS that
    /// Teads Engineering put through turbostat (0.10 to 0.13); two E5-2650 v4 idle at 0.14 (Alt et
    /// al., ICPE 2024), two E5-2620 v3 at 0.09. EPYC 7502: 77 W of 360 W (Schöne et al., CLUSTER
    /// 2021), EPYC 8024P: 18 of 90 W. Of the others only the wall power of whole servers is
    /// public: SPECpower's idle over full power is 0.14 to 0.16 on Skylake and Cascade Lake, which puts
    /// 5 % of full power outside the packages, and with the same 5 % the families' 0.22
    /// (Ice Lake), 0.20 to 0.27 (Sapphire Rapids to Granite Rapids), 0.22 (Milan) and 0.17 to 0.18
    /// (EPYC 9004 and 9005) are the idle shares below. Desktop parts idle at a few W.
    ///
    /// Wake: idle and one busy thread together take 0.31 of the TDP on two E5-2650 v4 and two EPYC
    /// 7502, 0.42 on an EPYC 8024P, 0.43 on two 16-core Skylakes at 2.1 GHz, 0.20 on two E5-2620 v3
    /// whose governor keeps the clock down; of the others from the first tenth of load
    /// in SPECpower's curves.
    ///
    /// Watts per core: what is left of a part's full power above idle and wake, over its cores, at its
    /// all-core clock, taken to 2.6 GHz: Haswell and Broadwell between E5-2690 v3 and 2699 v4 at
    /// their TDP and what two E5-2620 v3 and two E5-2650 v4 took, Skylake and Cascade Lake from Teads'
    /// full power of six hosts (3.6 to 4.5), Ice Lake to Granite Rapids from 0.95 of the TDP of 8380, 8480+,
    /// 6980P and 6780E, Zen from the cores' part of a Ryzen 7 1700X (62 of 82 W,
    /// AnandTech), Rome and Siena from the measured machines, Milan to Turin from the flagships and Bergamo (9754:
    /// 128 cores in 360 W), their desktop siblings from a Ryzen 9 5950X (6.1 W a core at 3.8 GHz, 142 W in
    /// all, AnandTech); AMD lets those take 1.35 of their TDP for as long as they like.
    pub fn of(microarchitecture: &str, class: Class) -> Option<Self> {
        let name = microarchitecture.trim();
        let server = class == Class::Server;
        let client = |core_w| Self {
            low_clock: Some(0.58),
            ..family(0.08, 0.07, core_w)
        };
        let known = match name {
            "Nehalem" | "Westmere" if server => Self {
                low_clock: Some(0.65),
                ..family(0.116, 0.18, 7.0)
            },
            "Sandy Bridge" | "Ivy Bridge" if server => family(0.116, 0.1, 6.0),
            "Sandy Bridge" | "Ivy Bridge" => client(6.0),
            "Haswell" if server => family(0.105, 0.12, 5.7),
            "Broadwell" if server => family(0.13, 0.17, 3.6),
            "Haswell" | "Broadwell" => client(5.8),
            "Skylake"
            | "Skylake-SP"
            | "Cascade Lake"
            | "Cascade Lake-SP"
            | "Skylake or Cascade Lake"
            | "Cooper Lake"
                if server =>
            {
                family(0.116, 0.22, 4.4)
            }
            "Skylake" | "Kaby Lake" | "Kaby Lake R" | "Coffee Lake" | "Comet Lake"
            | "Whiskey Lake" => client(4.9),
            "Rocket Lake" => client(5.5),
            "Ice Lake" | "Ice Lake-SP" if server => family(0.23, 0.13, 3.0),
            "Sapphire Rapids" | "Emerald Rapids" if server => family(0.22, 0.13, 2.7),
            "Granite Rapids" if server => family(0.2, 0.14, 1.5),
            "Sierra Forest" if server => family(0.22, 0.14, 1.0),
            "Naples" => epyc(0.25, 0.12, 2.7),
            "Zen" | "Zen+" => family(0.15, 0.1, 4.2),
            "Zen 2" | "Zen 3" | "Zen 4" | "Zen 5" if class == Class::Desktop => Self {
                limit: 1.35,
                ..family(0.18, 0.1, 2.5)
            },
            "Rome" => epyc(0.21, 0.12, 1.4),
            "Milan" | "Milan-X" => Self {
                low_clock: Some(0.6),
                ..epyc(0.23, 0.13, 1.4)
            },
            "Genoa" | "Genoa-X" => epyc(0.17, 0.14, 1.4),
            "Bergamo" => epyc(0.14, 0.12, 1.3),
            "Turin" | "Turin Dense" => epyc(0.15, 0.13, 1.3),
            "Siena" => epyc(0.2, 0.18, 1.6),
            _ => return None,
        };
        Some(known)
    }
}

/// Idle power, what an awake uncore adds, and power at full load, as parts of the TDP, for a class
/// of which no more is known.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClassShares {
    /// Idle package power as a part of the TDP.
    pub idle: f64,
    /// What an awake uncore adds, as a part of the TDP.
    pub wake: f64,
    /// Package power at full load as a part of the TDP.
    pub full: f64,
}

impl ClassShares {
    /// The shares of the TDP for a class of processors.
    ///
    /// Servers: between the families of [`Family::of`]; full 0.88 to 1.31 on Teads' seven hosts, 0.6
    /// to 0.85 on the other servers that were measured. Arm servers: SPECpower's idle over full
    /// power of Ampere Altra is 0.39 to 0.41, on servers that have about 5 % of it outside the packages;
    /// its curve has no wake to speak of. Desktop and laptop:
    /// the TDP is what they settle at under sustained load; an assumption. Low-power parts: vendors
    /// of small machines set their limit from the TDP to twice of it, and what does not scale with
    /// the cores is a larger part; an assumption. Single-board computers
    /// (watts of the board): Raspberry Pi 3 B, 3 B+ and 4 B idle at 0.38 to 0.42 of their full
    /// load (<https://www.pidramble.com/wiki/benchmarks/power-consumption>).
    pub fn of(class: Class) -> Self {
        let (idle, wake, full) = match class {
            Class::Server => (0.15, 0.15, 0.9),
            Class::ArmServer => (0.25, 0.05, 0.85),
            Class::Desktop | Class::Laptop => (0.08, 0.07, 1.0),
            Class::LowPower => (0.18, 0.16, 1.3),
            // A board's uncore never sleeps.
            Class::SingleBoard => (0.40, 0.0, 1.0),
        };
        Self { idle, wake, full }
    }
}

/// What the clock does at low load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClockPolicy {
    /// It stays up: `performance`, a fixed clock, or a host that is rented out.
    Steady,
    /// A governor lowers it on CPUs that have little to do.
    Saving,
    /// Not known: the band holds both.
    #[default]
    Unknown,
}

impl ClockPolicy {
    /// By the name of the kernel's cpufreq governor.
    pub fn of_governor(governor: &str) -> Self {
        match governor.trim() {
            "performance" | "userspace" => Self::Steady,
            "powersave" | "schedutil" | "ondemand" | "conservative" | "interactive" => Self::Saving,
            _ => Self::Unknown,
        }
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
    /// Hardware threads that a core runs, 1 with SMT off.
    pub threads_per_core: u32,
    /// Clock (MHz) with all cores busy, where it is known or follows from the others.
    pub full_mhz: Option<f64>,
    /// What the clock does at low load.
    pub clock: ClockPolicy,
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
    /// Hardware threads that a core runs.
    pub threads_per_core: f64,
    /// Clock (MHz) at full load, where known.
    pub full_mhz: Option<f64>,
    /// What the clock does at low load.
    pub clock: ClockPolicy,
    /// Whether the uncore runs at the cores' clock, as the ring of client dies does. The I/O die
    /// of two EPYC 7502 takes 113 W at 1.5 GHz and 116 W at 2.5.
    pub uncore_follows: bool,
    /// What all processors have in common.
    pub shape: Shape,
}

/// Watts above idle by their parts.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Active {
    /// Of awake uncores.
    pub wake: f64,
    /// Of the cores.
    pub cores: f64,
    /// All of it at the lowest clock that may be: where it is not known, that of a governor which lowers it.
    pub least: f64,
    /// All of it at the highest.
    pub most: f64,
}

impl Active {
    /// All of it.
    pub fn total(&self) -> f64 {
        self.wake + self.cores
    }

    /// A part of it.
    pub fn scaled(&self, part: f64) -> Self {
        Self {
            wake: self.wake * part,
            cores: self.cores * part,
            least: self.least * part,
            most: self.most * part,
        }
    }
}

impl Curve {
    /// The curve of `sockets` such processors.
    pub fn new(facts: &Facts, sockets: u32, shape: Shape) -> Self {
        let shares = ClassShares::of(facts.class);
        let tdp = facts.tdp_w;
        let smt = f64::from(facts.threads_per_core.max(1));
        let (idle_share, wake_share) = facts.family.map_or((shares.idle, shares.wake), |family| {
            (family.idle_share, family.wake_share)
        });
        let idle = facts
            .measured
            .map_or(idle_share * tdp, |(measured, _)| measured);
        let full = match (facts.measured, facts.family, facts.cores, facts.full_mhz) {
            (Some((_, full)), ..) => full,
            (None, Some(family), Some(cores), Some(mhz)) => {
                let rated = (mhz / REFERENCE_MHZ).powf(RATED_CLOCK_EXPONENT);
                // The family's watts are of both threads.
                let threads = if smt > 1.0 {
                    1.0
                } else {
                    1.0 / (1.0 + shape.second_thread)
                };
                let cores = f64::from(cores) * family.core_w * rated * threads;
                (idle + wake_share * tdp + cores).min(tdp * family.limit)
            }
            _ => shares.full * tdp,
        }
        .max(idle);
        // The wake is at most half of what there is above idle.
        let wake = (wake_share * tdp).min(0.5 * (full - idle));
        let sockets = f64::from(sockets);
        let board = facts.class == Class::SingleBoard;
        Self {
            idle_w: idle * sockets,
            wake_w: wake * sockets,
            core_w: (full - idle - wake) * sockets,
            cores_per_socket: f64::from(facts.cores.unwrap_or(8).max(1)),
            threads_per_core: smt,
            full_mhz: facts.full_mhz,
            clock: if board {
                ClockPolicy::Steady
            } else {
                facts.clock
            },
            uncore_follows: !matches!(facts.class, Class::Server | Class::ArmServer),
            shape: Shape {
                low_clock: match facts.family {
                    Some(family) => family.low_clock.unwrap_or(shape.low_clock),
                    None => shape.low_clock.max(UNKNOWN_LOW_CLOCK),
                },
                ..shape
            },
        }
    }

    /// The same with the clock kept below `mhz`.
    pub fn kept_below(self, mhz: Option<f64>) -> Self {
        match (mhz, self.full_mhz) {
            (Some(limit), Some(full)) if limit > 0.0 && limit < full => Self {
                core_w: self.core_w * (limit / full).powf(self.shape.clock_exponent),
                full_mhz: Some(limit),
                ..self
            },
            _ => self,
        }
    }

    /// Power (W) of all sockets at full load and clock.
    pub fn full_w(&self) -> f64 {
        self.idle_w + self.wake_w + self.core_w
    }

    /// Watts above idle at load `u`, which is clamped to 0..1; never falls when it grows.
    pub fn active(&self, u: f64) -> f64 {
        self.active_at(u, BusyCpus::default()).total()
    }

    /// Watts above idle where more may be `seen`: on what part of the CPUs the load runs (on all
    /// where that is not known), on how many threads of a core, and at what clock.
    ///
    /// Where it is not seen, the load is taken to fill cores before it fills second threads. Some CPUs that are
    /// always busy keep the sockets awake all the time; the same load spread over all of them leaves moments of
    /// sleep.
    pub fn active_at(&self, u: f64, seen: BusyCpus) -> Active {
        let u = u.clamp(0.0, 1.0);
        if u == 0.0 {
            return Active::default();
        }
        let spread = seen.spread.filter(|part| *part > 0.0).unwrap_or(1.0);
        let spread = spread.clamp(u, 1.0);
        let duty = u / spread;
        let sleepers = self.shape.sleepers.min(self.cores_per_socket);
        // Fewer CPUs than sleepers each sleep for themselves.
        let sleepers = (self.cores_per_socket * self.threads_per_core * spread)
            .min(sleepers)
            .max(1.0);
        let awake = 1.0 - (1.0 - duty).powf(sleepers);
        let cores = self.busy_cores(spread, duty, seen.threads);
        let relative = |mhz: f64, full: f64| (mhz / full).clamp(0.2, 1.2);
        let at = |clock: f64| {
            let clock = clock.powf(self.shape.clock_exponent);
            let uncore = if self.uncore_follows { clock } else { 1.0 };
            (self.wake_w * awake * uncore, self.core_w * cores * clock)
        };
        let saving = self.shape.low_clock + (1.0 - self.shape.low_clock) * duty.powf(CLOCK_RISE);
        let (lowest, clock, highest) = match (seen.clock.zip(self.full_mhz), self.clock) {
            (Some((Clock { low, mhz, high }, full)), _) => (
                relative(low.min(mhz), full),
                relative(mhz, full),
                relative(high.max(mhz), full),
            ),
            (None, ClockPolicy::Steady) => (1.0, 1.0, 1.0),
            (None, ClockPolicy::Saving) => (saving, saving, saving),
            (None, ClockPolicy::Unknown) => (saving, saving, 1.0),
        };
        let (wake, cores) = at(clock);
        let sum = |(wake, cores): (f64, f64)| wake + cores;
        Active {
            wake,
            cores,
            least: sum(at(lowest)),
            most: sum(at(highest)),
        }
    }

    /// The cores' power as a part of that with all threads busy: `spread` of the CPUs are busy for
    /// the part `duty` of the time, so many `threads` of a core at once.
    fn busy_cores(&self, spread: f64, duty: f64, threads: Option<f64>) -> f64 {
        let second = self.shape.second_thread;
        if self.threads_per_core <= 1.0 {
            return spread * duty;
        }
        // The part of the cores that have work, of one thread and of all.
        let all = spread * self.threads_per_core;
        let threads = threads.filter(|n| *n >= 1.0).unwrap_or(1.0);
        let cores = (all / threads).clamp(spread, all.min(1.0));
        let two = (all - cores) / (self.threads_per_core - 1.0);
        let one = cores - two;
        let either = 1.0 - (1.0 - duty) * (1.0 - duty);
        (one * duty + two * (either + second * duty * duty)) / (1.0 + second)
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
            threads_per_core: 2,
            clock: ClockPolicy::Unknown,
        };
        Curve::new(&facts, 2, Shape::SHIPPED)
    }

    #[test]
    fn concave_and_anchored() {
        let curve = curve();
        assert_eq!(curve.active(0.0), 0.0);
        assert!((curve.active(1.0) - (curve.full_w() - curve.idle_w)).abs() < 1e-9);
        assert_eq!(curve.active(7.0), curve.active(1.0));
        let steady = Curve {
            clock: ClockPolicy::Steady,
            ..curve
        };
        assert!(steady.active(0.5) > 0.5 * steady.active(1.0));
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
        let one = curve
            .active_at(1.0 / 24.0, BusyCpus::on(1.0 / 24.0))
            .total();
        assert!(one > curve.wake_w && one < curve.wake_w + 0.1 * curve.core_w);
        assert!(curve.active(1.0 / 24.0) < one);
    }

    #[test]
    fn both_threads_of_a_core_cost_less_than_two_cores() {
        let curve = Curve {
            clock: ClockPolicy::Steady,
            ..curve()
        };
        let cores = |spread: f64, threads: Option<f64>| {
            let seen = BusyCpus {
                spread: Some(spread),
                threads,
                clock: None,
            };
            curve.active_at(spread, seen).cores / curve.core_w
        };
        // All cores with one thread each, and half of them with both.
        let (apart, together) = (cores(0.5, Some(1.0)), cores(0.5, Some(2.0)));
        assert!((apart - 1.0 / 1.35).abs() < 1e-9 && (together - 0.5).abs() < 1e-9);
        assert_eq!(cores(0.5, None), apart);
        let between = cores(0.5, Some(1.5));
        assert!(together < between && between < apart);
        // More CPUs than cores have work: some cores have two.
        assert!(cores(0.75, Some(1.0)) < 1.0 && cores(0.75, Some(1.0)) > apart);
        for (spread, threads) in [(1.0, 1.0), (1.0, 2.0), (1.0, 9.0)] {
            assert!((cores(spread, Some(threads)) - 1.0).abs() < 1e-9);
        }
        assert!((cores(0.1, Some(9.0)) - 0.1).abs() < 1e-9);
    }

    /// Watts above idle with all CPUs at work, at a clock.
    fn at_clock(curve: &Curve, clock: Clock) -> Active {
        let seen = BusyCpus {
            clock: Some(clock),
            ..BusyCpus::default()
        };
        curve.active_at(0.7, seen)
    }

    #[test]
    fn a_slower_clock_costs_less() {
        let curve = curve();
        let at = |mhz: f64| at_clock(&curve, Clock::exactly(mhz));
        let fast = at(2600.0).total();
        let slow = at(1300.0).total();
        assert!(slow < fast && slow > curve.wake_w);
        assert!(at(1e9).total().is_finite());
    }

    #[test]
    fn a_clock_that_is_seen_to_vary_has_a_band() {
        let curve = curve();
        let at = |clock: Clock| at_clock(&curve, clock);
        let exact = at(Clock::exactly(2000.0));
        assert_eq!((exact.least, exact.most), (exact.total(), exact.total()));
        let seen = at(Clock {
            low: 1500.0,
            mhz: 2000.0,
            high: 2500.0,
        });
        assert_eq!(seen.total(), exact.total());
        assert!(seen.least < seen.total() && seen.total() < seen.most);
        let slow = at(Clock::exactly(1500.0));
        assert_eq!(seen.least, slow.total());
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
            threads_per_core: 2,
            clock: ClockPolicy::Steady,
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
                threads_per_core: 2,
                clock: ClockPolicy::Steady,
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

//! What does not change while a process lives: processor, surroundings, model, calibration.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use serde::{Deserialize, Serialize};

use crate::calibration::Calibration;
use crate::cgroup::limits::SandboxCpu;
use crate::machine::allotted::Allotted;
use crate::machine::cpu::CpuIdentity;
use crate::machine::environment::Environment;
use crate::machine::idle_power::IdleLearner;
use crate::model::estimation::{Estimation, Power};
use crate::model::{PowerModel, RawPower, Traffic};
use crate::source::busy::BusyCpus;
use crate::source::procfs::online_cpus;
use crate::source::{Domain, Method, Zone};

/// Idle power of one slot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IdlePower {
    /// Best value, W.
    pub watts: f64,
    /// 95 % band, W.
    pub low: f64,
    /// 95 % band, W.
    pub high: f64,
    /// Where it comes from.
    pub source: IdleSource,
}

/// Where an idle power comes from. Its place is its number in an agent's account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum IdleSource {
    /// None is known.
    #[default]
    Unknown,
    /// Seen by this process while the machine was less than 5 % busy.
    Learned,
    /// Measured before by `lithowatt calibrate`.
    Calibrated,
    /// Set by the user.
    Configured,
    /// The power model's.
    Modelled,
    /// A host's, and in no value that it hands on to its guest.
    Host,
}

impl IdleSource {
    /// All of them, by number.
    pub const ALL: [Self; 6] = [
        Self::Unknown,
        Self::Learned,
        Self::Calibrated,
        Self::Configured,
        Self::Modelled,
        Self::Host,
    ];

    /// The source with this number in an account; `Unknown` where there is none.
    ///
    /// ```
    /// use lithowatt::machine::facts::IdleSource;
    /// assert!(IdleSource::ALL.iter().all(|s| IdleSource::numbered(s.number()) == *s));
    /// assert_eq!((IdleSource::numbered(1), IdleSource::numbered(9)), (IdleSource::Learned, IdleSource::Unknown));
    /// ```
    pub fn numbered(number: u64) -> Self {
        let known = Self::ALL
            .into_iter()
            .find(|source| source.number() == number);
        known.unwrap_or(Self::Unknown)
    }

    /// Its number in an account.
    pub fn number(self) -> u64 {
        self as u64
    }

    /// The name in readings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Learned => "learned",
            Self::Calibrated => "calibrated",
            Self::Configured => "configured",
            Self::Modelled => "modelled",
            Self::Host => "host",
        }
    }
}

/// What does not change while the process lives.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The processor.
    pub cpu: CpuIdentity,
    /// Container, cloud, limits.
    pub environment: Environment,
    /// The power model for them.
    pub model: PowerModel,
    /// Logical CPUs of the machine.
    pub cpus: u32,
    /// Stored calibration of this machine, if any.
    pub calibration: Option<Calibration>,
    /// Why a stored calibration is not used.
    pub calibration_unused: Option<String>,
    /// CPU accounting of the cgroup that limits this process, if one does.
    pub sandbox: Option<Arc<SandboxCpu>>,
}

/// Energy of one interval by the model, J.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Modelled {
    pub(crate) package: f64,
    pub(crate) memory: f64,
    pub(crate) band: ModelBand,
}

impl Modelled {
    /// Adds what flows in `seconds`.
    fn add(&mut self, watts: Power, seconds: f64) {
        let of = |(low, high): (f64, f64)| (low * seconds, high * seconds);
        self.package += watts.package * seconds;
        self.memory += watts.memory * seconds;
        self.band.add(ModelBand {
            idle: of(watts.idle_band),
            active: of(watts.active_band),
        });
    }
}

/// 95 % bands of modelled energies of the machine, J.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelBand {
    /// Of the energy at rest.
    pub idle: (f64, f64),
    /// Of the energy above rest.
    pub active: (f64, f64),
}

impl ModelBand {
    /// Adds that of another interval: what the model does not know errs the same way in both.
    pub(crate) fn add(&mut self, other: Self) {
        for (sum, part) in [
            (&mut self.idle, other.idle),
            (&mut self.active, other.active),
        ] {
            sum.0 += part.0;
            sum.1 += part.1;
        }
    }
}

/// What the model is asked about: vCPUs and memory of the machine, or of the part that is ours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Modelling {
    pub(crate) estimation: Estimation,
    /// Hardware threads of the host.
    pub(crate) vcpus: f64,
    /// Memory, GiB; `None` where its size is not known.
    pub(crate) gib: Option<f64>,
    /// It is the whole machine, with all of its memory.
    pub(crate) whole: bool,
}

/// The facts of the root that was asked for first, which nearly always is the only one. They
/// outlive a fork, so that a worker's child need not find them out again.
static FOUND: AtomicPtr<(PathBuf, Arc<Facts>)> = AtomicPtr::new(std::ptr::null_mut());

impl Facts {
    /// The facts below `root`, if they were found out before, by this process or by the one it was
    /// forked from.
    pub fn known(root: &Path) -> Option<Arc<Self>> {
        // SAFETY: the pointer is null or came from Box::into_raw below and is never freed.
        let (known, facts) = unsafe { FOUND.load(Ordering::Acquire).as_ref() }?;
        (known == root).then(|| Arc::clone(facts))
    }

    /// What can be known of `root` now, kept by nobody: files could not be opened.
    pub fn provisional(root: &Path) -> Arc<Self> {
        Arc::new(find_facts(root))
    }

    /// The facts below `root`, found out once.
    pub fn of(root: &Path) -> Arc<Self> {
        if let Some(facts) = Self::known(root) {
            return facts;
        }
        let found = FOUND.load(Ordering::Acquire);
        let facts = Arc::new(find_facts(root));
        if found.is_null() {
            let fresh = Box::into_raw(Box::new((root.to_owned(), Arc::clone(&facts))));
            if FOUND
                .compare_exchange(found, fresh, Ordering::AcqRel, Ordering::Acquire)
                .is_err()
            {
                // SAFETY: `fresh` was made above and never shared, as the exchange failed.
                drop(unsafe { Box::from_raw(fresh) });
            }
        }
        facts
    }
}

fn find_facts(root: &Path) -> Facts {
    let cpu = CpuIdentity::read(root);
    let cpus = online_cpus(root);
    let environment = Environment::read(root, cpus);
    let (calibration, calibration_unused) = Calibration::load(root, &cpu);
    let sandbox = environment.allotted.open().map(Arc::new);
    Facts {
        sandbox,
        calibration_unused,
        ..Facts::of_parts(root, cpu, environment, cpus, calibration)
    }
}

impl Facts {
    /// The facts of a machine below `root` that were found, or recorded: nothing is looked for here.
    pub fn of_parts(
        root: &Path,
        cpu: CpuIdentity,
        environment: Environment,
        cpus: u32,
        calibration: Option<Calibration>,
    ) -> Self {
        let model = environment.model(&cpu);
        // Machines of which memory buys a part come and go: nobody calibrated this one.
        let model = match &calibration {
            Some(stored) if !environment.memory_buys_cpus() => stored.model(root, &cpu, model),
            _ => model,
        };
        Self {
            cpu,
            environment,
            model,
            cpus,
            calibration,
            calibration_unused: None,
            sandbox: None,
        }
    }

    /// The same machine as a recording found it when its window ended.
    pub fn with_end(&self, cpus: u32, allotted: &Allotted) -> Self {
        let mut facts = self.clone();
        facts.cpus = cpus;
        facts.environment.allotted = allotted.clone();
        facts.sandbox = None;
        facts
    }

    /// The same processor and model where `cpus` are online now and the threads may run on
    /// `affinity` of them; limits are read anew below `root` where they have changed.
    pub(crate) fn renewed(&self, cpus: u32, affinity: Option<u32>, limits: Option<&Path>) -> Self {
        let mut facts = self.clone();
        facts.cpus = cpus;
        if let Some(root) = limits {
            facts.environment.renew(root, cpus);
        } else {
            facts.environment.allotted.machine_cpus = cpus;
        }
        let allotted = facts.environment.allotted.with_affinity(affinity);
        let anew = limits.is_some() || cpus != self.cpus;
        if anew || allotted.set_by != self.environment.allotted.set_by {
            facts.sandbox = allotted.open().map(Arc::new);
        }
        facts.environment.allotted = allotted;
        facts
    }

    /// Whether what [`Self::renewed`] may change is as in `other`.
    pub(crate) fn is_as(&self, other: &Self) -> bool {
        self.cpus == other.cpus
            && self.environment == other.environment
            && self.sandbox.is_some() == other.sandbox.is_some()
    }

    /// The part of the machine's CPUs that this function may use, 0..1.
    pub fn allotted_share(&self) -> f64 {
        let machine = f64::from(self.cpus.max(1));
        (self.environment.allotted.cpus / machine).clamp(0.0, 1.0)
    }

    /// CPUs of the sandbox that the model takes for the whole, where a quota, a cpuset or memory
    /// divides the machine.
    pub fn sandbox_cpus(&self) -> Option<f64> {
        self.environment.allotted.sandbox_cpus()
    }

    /// What the model is asked about: the sandbox where there is one and `ours` is in it, else the
    /// machine (in a virtual machine: its CPUs).
    pub(crate) fn modelling(&self, estimation: Estimation, ours: bool) -> Modelling {
        let share = &self.environment.allotted;
        let machine_gib = self.environment.memory_gib;
        // Where memory buys CPUs all sandboxes show as many: there the machine is the sandbox.
        let inside = ours || self.environment.memory_buys_cpus();
        match self.sandbox_cpus().filter(|_| inside) {
            Some(vcpus) => Modelling {
                estimation,
                vcpus,
                gib: share
                    .memory_gib
                    .or(machine_gib.map(|gib| gib * self.allotted_share())),
                whole: false,
            },
            None => Modelling {
                estimation,
                vcpus: f64::from(self.cpus),
                gib: machine_gib,
                whole: !self.environment.memory_buys_cpus(),
            },
        }
    }

    /// Power with `busy_cpus` busy.
    pub(crate) fn model_power(&self, what: Modelling, busy_cpus: f64) -> Power {
        what.estimation
            .power(&self.model, what.vcpus, busy_cpus, what.gib)
    }

    /// Modelled joules above idle of one cycle at full load and the processor's top clock; `None`
    /// where that clock is unknown.
    pub(crate) fn model_joules_per_cycle(&self) -> Option<f64> {
        let cpus = f64::from(self.cpus.max(1));
        let full = self.model.vcpus_watts_raw(cpus, cpus);
        let hertz = self.cpu.max_mhz.or(self.cpu.base_mhz)? * 1e6;
        (hertz > 0.0).then(|| (full.total - full.idle).max(0.0) / cpus / hertz)
    }

    /// Energy of `seconds` with `busy_cpus` busy, J, by what was `seen` of the CPUs that had work. Where memory's
    /// traffic was counted, for all of it or a part, that part goes by the bytes.
    pub(crate) fn model_joules(
        &self,
        what: Modelling,
        busy_cpus: f64,
        seconds: f64,
        traffic: Option<Traffic>,
        seen: BusyCpus,
    ) -> Modelled {
        let seen = BusyCpus {
            // Where the load of a sandbox runs is not known, and the clock of one busy CPU is as good as another's.
            spread: seen.spread.filter(|_| what.whole),
            threads: seen.threads.filter(|_| what.whole),
            ..seen
        };
        let estimation = what.estimation;
        let mut sum = Modelled::default();
        let mut left = seconds;
        // The traffic is the machine's: nobody knows what part of it is a sandbox's.
        if let Some(traffic) = traffic.filter(|_| what.whole) {
            let known = traffic.seconds.min(seconds);
            let cpus = (what.vcpus, busy_cpus);
            sum.add(
                estimation.power_with(&self.model, cpus, what.gib, traffic, seen),
                known,
            );
            left -= known;
        }
        let cpus = (what.vcpus, busy_cpus);
        sum.add(estimation.power_of(&self.model, cpus, what.gib, seen), left);
        sum
    }

    /// Modelled power of the machine's memory at rest, W.
    fn memory_at_rest(&self) -> RawPower {
        let (gib, cpus) = (self.environment.memory_gib, f64::from(self.cpus));
        self.model.memory_watts_of(gib, cpus, Some(0.0))
    }

    /// Modelled watts above idle of a zone with a part of the machine busy (0..1): on all CPUs alike, and on
    /// as few as can have that load.
    fn active_of(&self, zone: &Zone, zones: &[Zone], busy: f64) -> [f64; 2] {
        let cpus = f64::from(self.cpus);
        let alike = zones
            .iter()
            .filter(|z| z.method == zone.method && z.domain == zone.domain)
            .count()
            .max(1) as f64;
        let watts = match zone.domain {
            Domain::Dram => {
                let gib = self.environment.memory_gib;
                let raw = self.model.memory_watts_of(gib, cpus, Some(busy));
                [raw.total - raw.idle; 2]
            }
            _ => self
                .model
                .active_watts_of_cores(cpus, busy * cpus, cpus / alike),
        };
        watts.map(|watts| watts / alike)
    }

    /// Idle power of a zone: learned, calibrated, configured, or the model's.
    pub fn idle_of(&self, zone: &Zone, zones: &[Zone], learner: &IdleLearner) -> Option<IdlePower> {
        if let Some(seen) = learner.idle(|busy| self.active_of(zone, zones, busy)) {
            return Some(IdlePower {
                watts: seen.watts,
                low: seen.low,
                high: seen.high,
                source: IdleSource::Learned,
            });
        }
        let stored = self.calibration.as_ref();
        if let Some(watts) = stored.and_then(|c| c.idle_watts(zone)) {
            return Some(IdlePower {
                watts,
                low: watts * 0.9,
                high: watts * 1.05,
                source: IdleSource::Calibrated,
            });
        }
        if zone.method == Method::Guest && self.environment.idle_watts.is_none() {
            // Hosts divide by CPU time, so a guest at rest has nearly nothing.
            return Some(IdlePower {
                watts: 0.0,
                low: 0.0,
                high: 0.0,
                source: IdleSource::Host,
            });
        }
        let raw = self.model.vcpus_watts_raw(f64::from(self.cpus), 0.0);
        let at_rest = self.memory_at_rest();
        let memory = at_rest.idle;
        let packages = zones
            .iter()
            .filter(|z| z.method == zone.method && z.domain == Domain::Package)
            .count()
            .max(1) as f64;
        let drams = zones
            .iter()
            .filter(|z| z.method == zone.method && z.domain == Domain::Dram)
            .count()
            .max(1) as f64;
        if let Some(total) = self.environment.idle_watts {
            let has_dram = zones
                .iter()
                .any(|z| z.method == zone.method && z.domain == Domain::Dram);
            let all = if has_dram {
                raw.idle + memory
            } else {
                raw.idle
            };
            let part = match zone.domain {
                Domain::Package => raw.idle / packages,
                Domain::Dram => memory / drams,
                _ => return None,
            };
            let watts = if all > 0.0 {
                total * part / all
            } else {
                total / packages
            };
            return Some(IdlePower {
                watts,
                low: watts * 0.95,
                high: watts * 1.05,
                source: IdleSource::Configured,
            });
        }
        let (watts, low, high) = match zone.domain {
            Domain::Package => {
                let held = if zone.holds_memory() { 1.0 } else { 0.0 };
                (
                    (raw.idle + held * memory) / packages,
                    (raw.idle_low + held * at_rest.idle_low) / packages,
                    (raw.idle_high + held * at_rest.idle_high) / packages,
                )
            }
            Domain::Dram => (
                memory / drams,
                at_rest.idle_low / drams,
                at_rest.idle_high / drams,
            ),
            _ => return None,
        };
        Some(IdlePower {
            watts,
            low,
            high,
            source: IdleSource::Modelled,
        })
    }
}

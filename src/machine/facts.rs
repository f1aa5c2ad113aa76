//! What does not change while a process lives: processor, surroundings, model, calibration.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::calibration::Calibration;
use crate::machine::cpu::CpuIdentity;
use crate::machine::environment::Environment;
use crate::source::model::PowerModel;
use crate::source::procfs::online_cpus;
use crate::source::{Domain, Zone};

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

/// Where an idle power comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleSource {
    /// Seen by this process while the machine was less than 5 % busy.
    Learned,
    /// Measured before by `lithowatt calibrate`.
    Calibrated,
    /// Set by the user.
    Configured,
    /// The power model's.
    Modelled,
}

impl IdleSource {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Learned => "learned",
            Self::Calibrated => "calibrated",
            Self::Configured => "configured",
            Self::Modelled => "modelled",
        }
    }
}

/// What does not change while the process lives.
#[derive(Debug)]
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
}

/// Energy of one interval by the model, J.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Modelled {
    pub(crate) package: f64,
    pub(crate) memory: f64,
    low: f64,
    high: f64,
}

impl Modelled {
    pub(crate) fn band(self) -> [f64; 3] {
        [self.package + self.memory, self.low, self.high]
    }
}

/// The facts of the root that was asked for first, which nearly always is the only one. They
/// outlive a fork, so that a worker's child need not find them out again.
static FOUND: AtomicPtr<(PathBuf, Arc<Facts>)> = AtomicPtr::new(std::ptr::null_mut());

impl Facts {
    /// The facts below `root`, found out once.
    pub fn of(root: &Path) -> Arc<Self> {
        let found = FOUND.load(Ordering::Acquire);
        // SAFETY: the pointer is null or came from Box::into_raw below and is never freed.
        if let Some((known, facts)) = unsafe { found.as_ref() }
            && known == root
        {
            return Arc::clone(facts);
        }
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
    let environment = Environment::read(root);
    let model = environment.model(&cpu);
    let cpus = online_cpus(root);
    let calibration = Calibration::load(&cpu);
    Facts {
        cpu,
        environment,
        model,
        cpus,
        calibration,
    }
}

impl Facts {
    /// The part of the machine's CPUs that this function may use, 0..1.
    pub fn allotted_share(&self) -> f64 {
        (self.environment.allotted_cpus / f64::from(self.cpus.max(1))).clamp(0.0, 1.0)
    }

    /// Energy of the machine (in a virtual machine: of its CPUs) with `busy_cpus` busy, J.
    pub(crate) fn model_joules(&self, busy_cpus: f64, seconds: f64) -> Modelled {
        let watts = self.model.vcpus_watts_raw(self.modelled_cpus(), busy_cpus);
        let memory = self.memory_watts();
        Modelled {
            package: watts.total * seconds,
            memory: memory * seconds,
            low: (watts.low + 0.5 * memory) * seconds,
            high: (watts.high + 1.5 * memory) * seconds,
        }
    }

    /// CPUs that the model counts: Lambda shows two whatever it allots.
    pub fn modelled_cpus(&self) -> f64 {
        self.model.allotted_vcpus().unwrap_or(f64::from(self.cpus))
    }

    /// Modelled memory power of the machine, W.
    pub fn memory_watts(&self) -> f64 {
        self.environment
            .memory_gib
            .map_or(0.0, |gib| self.model.memory_watts(gib).value)
    }

    /// Idle power of a zone: learned, calibrated, configured, or the model's.
    pub fn idle_of(&self, zone: &Zone, zones: &[Zone], learned: Option<f64>) -> Option<IdlePower> {
        if let Some(watts) = learned {
            return Some(IdlePower {
                watts,
                // Up to 5 % of the machine was busy while it was learned.
                low: watts * 0.9,
                high: watts * 1.02,
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
        let raw = self.model.vcpus_watts_raw(self.modelled_cpus(), 0.0);
        let memory = self.memory_watts();
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
            Domain::Package => (
                raw.idle / packages,
                raw.idle_low / packages,
                raw.idle_high / packages,
            ),
            Domain::Dram => (memory / drams, 0.5 * memory / drams, 1.5 * memory / drams),
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

//! What was measured on this machine once and holds for later: idle power, the factor of one method
//! against a reference, and the curve of its power against load. Stored as JSON with its date; written only when asked.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::json::{self, from_json};
use crate::machine::cpu::CpuIdentity;
use crate::machine::identity::identity;
use crate::model::PowerModel;
use crate::model::fitted::Fitted;
use crate::reference::Slope;
use crate::source::Zone;
use crate::source::plain;

/// A stored calibration.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// Version of this layout.
    pub schema: u32,
    /// The processor's name.
    pub machine: String,
    /// The machine ([`identity`]): another machine's file is not used. Older files have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// When, seconds since the epoch.
    pub date: f64,
    /// Idle watts by zone name, measured while the machine was less than 5 % busy.
    pub idle_watts: BTreeMap<String, f64>,
    /// Joules of the reference per joule of the method, by zone name.
    pub factors: BTreeMap<String, f64>,
    /// What the factors were measured against.
    pub reference: Option<String>,
    /// Power against load, where a load ladder was run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub curve: Option<Fitted>,
    /// The counters against meters of the whole machine, where there were any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whole_machine: Option<Vec<WholeMachine>>,
}

/// `meter = offset + slope × counter`, W, as one calibration saw it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WholeMachine {
    /// The meter's name.
    pub reference: String,
    /// The method of the counter.
    pub counter: String,
    /// The counter's joules for each of the meter's.
    pub part: Slope,
    /// Watts of the meter for each of the counter.
    pub slope: Option<Slope>,
    /// Watts of the meter where the counter has none.
    pub offset: Option<Slope>,
}

from_json!(Slope { value, low, high });

from_json!(WholeMachine {
    reference,
    counter,
    part,
    slope,
    offset
});

from_json!(Calibration {
    schema,
    machine,
    on,
    date,
    idle_watts,
    factors,
    reference,
    curve,
    whole_machine
});

/// More than any calibration has: the 1000 steps that a ladder may have come to a third of it.
const MOST_BYTES: u64 = 1 << 20;

/// Layout version written today.
pub const SCHEMA: u32 = 1;

impl Calibration {
    /// The file: `$LITHOWATT_STATE_DIR`, else `$XDG_STATE_HOME/lithowatt`, else
    /// `~/.local/state/lithowatt`; `/var/lib/lithowatt` is read where none of them has one.
    pub fn path() -> Option<PathBuf> {
        let var = |name: &str| {
            env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        let dir = var("LITHOWATT_STATE_DIR")
            .or_else(|| var("XDG_STATE_HOME").map(|d| d.join("lithowatt")))
            .or_else(|| var("HOME").map(|d| d.join(".local/state/lithowatt")))?;
        Some(dir.join("calibration.json"))
    }

    /// The stored calibration, if there is one of the machine below `root`; else why those that there are
    /// are not used. A file that cannot be read or understood counts as none: `lithowatt doctor` reads
    /// it again and reports what is wrong.
    pub fn load(root: &Path, cpu: &CpuIdentity) -> (Option<Self>, Option<String>) {
        let system = PathBuf::from("/var/lib/lithowatt/calibration.json");
        let mut unused = None;
        for path in Self::path().into_iter().chain([system]) {
            let Ok(stored) = Self::read(&path) else {
                continue;
            };
            match stored.unused(root, cpu) {
                None => return (Some(stored), None),
                Some(why) => unused = unused.or(Some(why)),
            }
        }
        (None, unused)
    }

    /// Why it is not used for the machine below `root`, in words; `None` where it is.
    pub fn unused(&self, root: &Path, cpu: &CpuIdentity) -> Option<String> {
        if self.machine != cpu.name {
            return Some(format!("it is of another processor, {}", self.machine));
        }
        match &self.on {
            Some(on) => {
                let here = identity(root);
                (*on != here).then(|| format!("it is of another machine ({on}), this is {here}"))
            }
            None if root != Path::new("/") => Some(
                "it does not say which machine it is of, so it is not used with another root"
                    .into(),
            ),
            None => None,
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Malformed`] naming it.
    pub fn read(path: &Path) -> Result<Self> {
        let text = plain::read_text(path, MOST_BYTES).map_err(|e| Error::io(path, e))?;
        let stored = Self::parse(text.as_bytes(), path)?;
        stored.check(path)?;
        Ok(stored)
    }

    /// Reads the text of what is, or is to be, the file at `path`.
    ///
    /// # Errors
    /// [`Error::Malformed`] naming the path.
    pub fn parse(text: &[u8], path: &Path) -> Result<Self> {
        json::read(text).map_err(|why| Error::malformed(path, &why, "a lithowatt calibration"))
    }

    fn check(&self, path: &Path) -> Result<()> {
        let all = || self.idle_watts.iter().chain(&self.factors);
        let wrong = if self.schema != SCHEMA {
            Some(format!("schema {}", self.schema))
        } else {
            all()
                .find(|(_, value)| !(value.is_finite() && **value >= 0.0))
                .map(|(name, value)| format!("{name}: {value}"))
                .or_else(|| self.curve.as_ref().and_then(Fitted::wrong))
        };
        match wrong {
            None => Ok(()),
            Some(given) => Err(Error::malformed(
                path,
                &given,
                "schema 1 with finite, non-negative values",
            )),
        }
    }

    /// Writes the file atomically, readable by its owner only.
    ///
    /// # Errors
    /// [`Error::Write`] or [`Error::Malformed`] naming the path; the old file, if any, is untouched.
    pub fn write(&self, path: &Path) -> Result<()> {
        self.check(path)?;
        let failed = |e| Error::write(path, e);
        let dir = path.parent().unwrap_or(Path::new("."));
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(failed)?;
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        let text = serde_json::to_string_pretty(self).map_err(|e| failed(e.into()))?;
        let written = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            // Best effort: the error that matters is the one already at hand.
            let _ = fs::remove_file(&temporary);
        }
        written.map_err(failed)
    }

    /// The stored curve, if it is that of the machine at hand.
    ///
    /// # Errors
    /// Why it is not, in words.
    pub fn curve_of(&self, root: &Path, cpu: &CpuIdentity) -> std::result::Result<&Fitted, String> {
        let Some(curve) = &self.curve else {
            return Err("no load ladder was run".into());
        };
        if root != Path::new("/") {
            return Err(format!("{} is not this machine's root", root.display()));
        }
        if self.machine != cpu.name {
            return Err(format!("it is of another processor, {}", self.machine));
        }
        if curve.logical_cpus != cpu.logical_cpus {
            return Err(format!(
                "it is of a machine with {} CPUs, here are {}",
                curve.logical_cpus, cpu.logical_cpus
            ));
        }
        Ok(curve)
    }

    /// `model`, by the stored curve where that is this machine's.
    pub fn model(&self, root: &Path, cpu: &CpuIdentity, model: PowerModel) -> PowerModel {
        match self.curve_of(root, cpu) {
            Ok(curve) => model.calibrated(curve),
            Err(_) => model,
        }
    }

    /// Idle power of a zone, W.
    pub fn idle_watts(&self, zone: &Zone) -> Option<f64> {
        self.idle_watts.get(&zone.name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fitted::{FittedMemory, MeasuredBy};

    #[test]
    fn what_is_written_is_read_back_and_nonsense_is_named() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("a/calibration.json");
        let stored = Calibration {
            schema: SCHEMA,
            machine: "cpu".into(),
            on: None,
            date: 1.0,
            idle_watts: BTreeMap::from([("package-0".into(), 20.5)]),
            factors: BTreeMap::new(),
            reference: None,
            curve: None,
            whole_machine: Some(vec![WholeMachine {
                reference: "battery".into(),
                counter: "rapl".into(),
                part: Slope {
                    value: 0.6,
                    low: 0.5,
                    high: 0.7,
                },
                slope: None,
                offset: None,
            }]),
        };
        stored.write(&path).unwrap();
        stored.write(&path).unwrap();
        assert_eq!(Calibration::read(&path).unwrap(), stored);
        assert_eq!(fs::read_dir(tmp.path().join("a")).unwrap().count(), 1);
        fs::write(&path, "{\"schema\": 1, ").unwrap();
        let error = Calibration::read(&path).unwrap_err().to_string();
        assert!(error.contains("calibration.json"), "{error}");
    }

    fn stored() -> (Calibration, CpuIdentity) {
        let cpu = CpuIdentity::read(Path::new("/"));
        let curve = Fitted {
            date: 1.6e9,
            method: MeasuredBy::Rapl,
            lithowatt: "0".into(),
            logical_cpus: cpu.logical_cpus,
            idle_w: 20.0,
            wake_w: 5.0,
            core_w: 50.0,
            cores_per_socket: 4.0,
            low_clock: 1.0,
            second_thread: None,
            full_mhz: None,
            residual_percent: 1.0,
            band: 1.08,
            memory: Some(FittedMemory {
                idle_w: 3.0,
                active_w: 5.0,
                gib: 16.0,
            }),
            points: Vec::new(),
        };
        let calibration = Calibration {
            schema: SCHEMA,
            machine: cpu.name.clone(),
            on: None,
            date: 1.6e9,
            idle_watts: BTreeMap::new(),
            factors: BTreeMap::new(),
            reference: None,
            curve: Some(curve),
            whole_machine: None,
        };
        (calibration, cpu)
    }

    #[test]
    fn a_curve_is_used_on_its_own_machine_only() {
        let (stored, cpu) = stored();
        let shipped = PowerModel::for_identity(&cpu);
        let root = Path::new("/");
        let model = stored.model(root, &cpu, shipped.clone());
        assert!(model.describe().starts_with("model:calibrated-"));
        assert!(
            model
                .tdp()
                .1
                .starts_with("calibrated on 2020-09-13 by rapl")
        );
        let full = model.watts(100.0, None, None).unwrap();
        assert!((full.value - 75.0).abs() < 1e-9);
        assert!((full.high / full.value - 1.08).abs() < 1e-9);
        let all = f64::from(cpu.logical_cpus);
        assert!((model.vcpus_watts_raw(all, all).total - 75.0).abs() < 1e-9);
        assert!((model.memory_watts_raw(16.0, Some(1.0)).total - 8.0).abs() < 1e-9);
        assert!((model.memory_watts_raw(8.0, Some(0.0)).total - 1.5).abs() < 1e-9);

        let other = CpuIdentity {
            logical_cpus: cpu.logical_cpus + 1,
            ..cpu.clone()
        };
        let named = CpuIdentity {
            name: "another".into(),
            ..cpu.clone()
        };
        for (root, cpu) in [("/tmp", &cpu), ("/", &other), ("/", &named)] {
            let model = stored.model(Path::new(root), cpu, shipped.clone());
            assert_eq!(model.describe(), shipped.describe());
        }
    }

    #[test]
    fn a_curve_of_packages_leaves_a_guest_its_part_of_the_hosts_memory() {
        let (mut stored, cpu) = stored();
        if let Some(curve) = &mut stored.curve {
            curve.memory = None;
        }
        for hypervisor in [true, false] {
            let cpu = CpuIdentity {
                hypervisor,
                ..cpu.clone()
            };
            let all = f64::from(cpu.logical_cpus);
            let shipped = PowerModel::for_identity(&cpu).with_memory(cpu.logical_cpus, 24.0, None);
            let model = stored.model(Path::new("/"), &cpu, shipped.clone());
            assert!(model.describe().starts_with("model:calibrated-"));
            let [of_curve, of_name] =
                [&model, &shipped].map(|model| model.memory_watts_of(24.0, all, Some(1.0)));
            assert_eq!(of_curve, of_name, "hypervisor: {hypervisor}");
        }
    }

    #[test]
    fn what_was_measured_below_a_root_holds_there_only() {
        let (mut stored, cpu) = stored();
        let tree = tempfile::tempdir().unwrap();
        let here = Path::new("/");
        assert_eq!(stored.unused(here, &cpu), None);
        let why = stored.unused(tree.path(), &cpu).unwrap();
        assert!(why.contains("does not say which machine"), "{why}");
        stored.on = Some(identity(tree.path()));
        assert_eq!(stored.unused(tree.path(), &cpu), None);
        let why = stored.unused(here, &cpu).unwrap();
        assert!(why.contains("another machine (files at /"), "{why}");
        stored.on = Some(identity(here));
        assert_eq!(stored.unused(here, &cpu), None);
        assert!(stored.unused(tree.path(), &cpu).is_some());
    }

    #[test]
    fn an_external_meter_has_the_memory_in_its_curve() {
        let (mut stored, cpu) = stored();
        if let Some(curve) = &mut stored.curve {
            curve.method = MeasuredBy::MeterFile;
        }
        let model = stored.model(Path::new("/"), &cpu, PowerModel::for_identity(&cpu));
        assert_eq!(model.memory_watts(64.0).value, 0.0);
        assert!(model.tdp().1.contains("wall power"));
    }

    #[test]
    fn a_curve_of_nonsense_is_refused() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("calibration.json");
        let spoil: [fn(&mut Fitted); 5] = [
            |c| c.idle_w = -1.0,
            |c| c.band = 0.5,
            |c| c.low_clock = 0.0,
            |c| c.logical_cpus = 0,
            |c| c.core_w = 1e300,
        ];
        for spoil in spoil {
            let (mut stored, _) = stored();
            stored.curve.iter_mut().for_each(spoil);
            let error = stored.write(&path).unwrap_err().to_string();
            assert!(error.contains("curve."), "{error}");
        }
    }
}

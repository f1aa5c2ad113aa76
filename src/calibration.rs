//! What was measured on this machine once and holds for later: idle power, and the factor of one
//! method against a reference. Stored as JSON with its date; written only when asked.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::machine::cpu::CpuIdentity;
use crate::source::Zone;

/// A stored calibration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Version of this layout.
    pub schema: u32,
    /// The processor's name: another machine's file is not used.
    pub machine: String,
    /// When, seconds since the epoch.
    pub date: f64,
    /// Idle watts by zone name, measured while the machine was less than 5 % busy.
    #[serde(default)]
    pub idle_watts: BTreeMap<String, f64>,
    /// Joules of the reference per joule of the method, by zone name.
    #[serde(default)]
    pub factors: BTreeMap<String, f64>,
    /// What the factors were measured against.
    #[serde(default)]
    pub reference: Option<String>,
}

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

    /// The stored calibration, if there is one for this processor. A file that cannot be read or
    /// understood counts as none: `lithowatt doctor` reads it again and says what is wrong.
    pub fn load(cpu: &CpuIdentity) -> Option<Self> {
        let system = PathBuf::from("/var/lib/lithowatt/calibration.json");
        Self::path()
            .into_iter()
            .chain([system])
            .find_map(|path| Self::read(&path).ok())
            .filter(|stored| stored.machine == cpu.name)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Malformed`] naming it.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        let stored: Self = serde_json::from_str(&text)
            .map_err(|e| Error::malformed(path, &e.to_string(), "a lithowatt calibration"))?;
        stored.check(path)?;
        Ok(stored)
    }

    fn check(&self, path: &Path) -> Result<()> {
        let all = || self.idle_watts.iter().chain(&self.factors);
        let wrong = if self.schema != SCHEMA {
            Some(format!("schema {}", self.schema))
        } else {
            all()
                .find(|(_, value)| !(value.is_finite() && **value >= 0.0))
                .map(|(name, value)| format!("{name}: {value}"))
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
    /// [`Error::Io`] or [`Error::Malformed`] naming the path; the old file, if any, is untouched.
    pub fn write(&self, path: &Path) -> Result<()> {
        self.check(path)?;
        let failed = |e| Error::io(path, e);
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

    /// Idle power of a zone, W.
    pub fn idle_watts(&self, zone: &Zone) -> Option<f64> {
        self.idle_watts.get(&zone.name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_nonsense_is_named() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("a/calibration.json");
        let stored = Calibration {
            schema: SCHEMA,
            machine: "cpu".into(),
            date: 1.0,
            idle_watts: BTreeMap::from([("package-0".into(), 20.5)]),
            factors: BTreeMap::new(),
            reference: None,
        };
        stored.write(&path).unwrap();
        stored.write(&path).unwrap();
        assert_eq!(Calibration::read(&path).unwrap(), stored);
        assert_eq!(fs::read_dir(tmp.path().join("a")).unwrap().count(), 1);
        fs::write(&path, "{\"schema\": 1, ").unwrap();
        let error = Calibration::read(&path).unwrap_err().to_string();
        assert!(error.contains("calibration.json"), "{error}");
    }
}

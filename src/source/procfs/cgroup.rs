//! CPU time of a cgroup.

use std::path::{Path, PathBuf};

use crate::source::kept::Kept;

/// CPU time of a cgroup, ns, kept open: `cpu.stat` of v2 or `cpuacct.usage` of v1.
#[derive(Debug)]
pub struct CgroupCpu {
    kept: Kept,
    /// cpu.stat of version 2, not cpuacct.usage.
    unified: bool,
    path: PathBuf,
}

impl CgroupCpu {
    /// Opens the CPU accounting of the cgroup directory `path`.
    ///
    /// # Errors
    /// [`Error::NoCgroup`](crate::error::Error::NoCgroup) naming the path where it has none.
    pub fn open(path: &Path) -> crate::error::Result<Self> {
        if let Ok(kept) = Kept::open(&path.join("cpu.stat")) {
            let group = Self {
                kept,
                unified: true,
                path: path.to_owned(),
            };
            if group.cpu_ns().is_some() {
                return Ok(group);
            }
        }
        Kept::open(&path.join("cpuacct.usage"))
            .map(|kept| Self {
                kept,
                unified: false,
                path: path.to_owned(),
            })
            .map_err(|e| crate::error::Error::NoCgroup {
                path: path.to_owned(),
                source: e,
            })
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// CPU time since the cgroup was made, ns; `None` where it was removed.
    pub fn cpu_ns(&self) -> Option<u64> {
        if self.kept.is_removed() {
            return None;
        }
        let mut buffer = [0u8; 4096];
        let text = self.kept.read(&mut buffer).ok()?;
        if self.unified {
            cgroup_usage_usec(text).map(|us| us * 1000)
        } else {
            text.trim().parse().ok()
        }
    }
}

/// `usage_usec` of a v2 `cpu.stat`.
pub fn cgroup_usage_usec(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("usage_usec "))?
        .trim()
        .parse()
        .ok()
}

//! CPU time of a cgroup.

use std::io;
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
            if group.cpu_ns().used().is_some() {
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

    /// Whether it is of version 2.
    pub fn is_unified(&self) -> bool {
        self.unified
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// CPU time since the cgroup was made.
    pub fn cpu_ns(&self) -> CgroupCount {
        if self.kept.is_removed() {
            return CgroupCount::Removed;
        }
        let mut buffer = [0u8; 4096];
        let text = match self.kept.read(&mut buffer) {
            Ok(text) => text,
            // Of a file of the kernel's that is open, and of one that is to be opened anew.
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => return CgroupCount::Removed,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return CgroupCount::Removed,
            Err(_) => return CgroupCount::Unreadable,
        };
        let ns = if self.unified {
            cgroup_usage_usec(text).and_then(|us| us.checked_mul(1000))
        } else {
            text.trim().parse().ok()
        };
        ns.map_or(CgroupCount::Unreadable, CgroupCount::Used)
    }
}

/// What the CPU accounting of a cgroup shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupCount {
    /// CPU time since it was made, ns.
    Used(u64),
    /// The cgroup is there no more.
    Removed,
    /// It is there, but no number can be read of it now.
    Unreadable,
}

impl CgroupCount {
    /// CPU time since the cgroup was made, ns, where it is known.
    pub fn used(self) -> Option<u64> {
        match self {
            Self::Used(ns) => Some(ns),
            Self::Removed | Self::Unreadable => None,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_has_no_cpu_time() {
        for text in [
            "",
            "usage_usec",
            "usage_usec -1",
            "usage_usec x",
            "\u{fffd}",
        ] {
            assert_eq!(cgroup_usage_usec(text), None, "{text:?}");
        }
    }
}

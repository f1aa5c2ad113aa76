//! What a GPU shows, whoever tells it: NVML, or the kernel's hwmon and DRM.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The inode of the first PID namespace (PROC_PID_INIT_INO in the kernel's proc_ns.h).
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Whether this process is in a PID namespace of its own, so that it does not see all processes of the
/// machine; `None` where this directory of processes does not say so.
pub fn is_nested(proc: &Path) -> Option<bool> {
    let namespace = fs::metadata(proc.join("self/ns/pid")).ok()?;
    Some(namespace.ino() != FIRST_PID_NAMESPACE)
}

/// One GPU. MIG's instances are parts of it and are no devices of their own here.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// As nvidia-smi numbers it, or its place among the chips of hwmon.
    pub index: u32,
    /// As its maker or the kernel names it.
    pub name: String,
    /// What stays the same when numbers change.
    pub uuid: String,
    /// The most that it may draw, W, where it is known.
    pub limit_watts: Option<f64>,
    /// It is divided by MIG.
    pub divided: bool,
    /// Between two changes of its counter of energy, s.
    pub update_seconds: f64,
}

/// The use of a GPU by a process, or by several that share one open device.
#[derive(Debug, Clone, PartialEq)]
pub struct Use {
    /// Those processes.
    pub pids: Vec<i32>,
    /// Percent of the time: kernels of theirs were running, or engines worked for them. Several engines
    /// at once add up.
    pub percent: f64,
}

/// Which processes kept a GPU busy since it was last asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Busy {
    /// These did. It is of the time up to so many ns on `CLOCK_MONOTONIC`, where that is told.
    Processes(Vec<Use>, Option<u64>),
    /// Nobody did, in the last period of which the driver knows it.
    Nobody,
    /// Somebody did, and the driver has no new sample yet.
    NoNews,
    /// Nobody was asked this time: it will be told with a later look.
    Later,
    /// There is no such sample here. These processes have it open; the GPU was busy for so many
    /// percent of the time, where it says so.
    Open(Vec<i32>, Option<f64>),
    /// It cannot be known, and why.
    Unknown(String),
}

/// What one GPU showed.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// Energy since the driver was loaded, mJ; `None` where the GPU has no such counter.
    pub millijoules: Option<u64>,
    /// Power, W; `None` where the counter was read.
    pub watts: Option<f64>,
    /// Percent of the time in which a kernel was running on it.
    pub busy_percent: Option<f64>,
    /// Who kept it busy.
    pub busy: Busy,
    /// Of how long a time that is, s, where it is known.
    pub news_seconds: Option<f64>,
    /// Processes may have used it that are not among them.
    pub hidden: bool,
    /// Those of which it is known that they cannot be asked.
    pub unreadable: Vec<i32>,
}

impl Shown {
    /// What a look without a word on processes shows.
    pub fn of(millijoules: Option<u64>, watts: Option<f64>, busy: Busy) -> Self {
        Self {
            millijoules,
            watts,
            busy_percent: None,
            busy,
            news_seconds: None,
            hidden: false,
            unreadable: Vec::new(),
        }
    }
}

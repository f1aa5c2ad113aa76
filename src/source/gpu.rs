//! What a GPU shows, whoever tells it: NVML or the kernel's hwmon.

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

/// Which processes kept a GPU busy since it was last asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Busy {
    /// In percent of the time: kernels of the process were running. It is of the time up to so many ns
    /// on `CLOCK_MONOTONIC`, where that is told.
    Processes(Vec<(i32, f64)>, Option<u64>),
    /// Nobody did, in the last period of which the driver knows it.
    Nobody,
    /// Somebody did, and the driver has no new sample yet.
    NoNews,
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
}

//! Whose CPU time a meter weighs.

use std::sync::Arc;

use crate::cgroup::cpu::CgroupCpu;
use crate::task::TaskClock;

/// Whose CPU time is weighed.
#[derive(Debug)]
pub enum Subject {
    /// This process or another, with its descendants or alone.
    Process {
        /// `None`: this process.
        pid: Option<i32>,
        /// Descendants too.
        children: bool,
    },
    /// One thread of this process.
    Thread(i32),
    /// One coroutine or generator.
    Task(Arc<TaskClock>),
    /// Everything in a cgroup.
    Cgroup(CgroupCpu),
}

impl Subject {
    /// The word for it in readings.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Process { .. } => "process",
            Self::Thread(_) => "thread",
            Self::Task(_) => "task",
            Self::Cgroup(_) => "cgroup",
        }
    }

    /// Whether it is in the sandbox of this process.
    pub(super) fn is_ours(&self) -> bool {
        matches!(
            self,
            Self::Process { pid: None, .. } | Self::Thread(_) | Self::Task(_)
        )
    }
}

//! Whose CPU time a meter weighs.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cgroup::several::Groups;
use crate::error::{Error, Result};
use crate::task::TaskClock;

/// What kind of thing is metered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// A process and, by default, its descendants.
    Process,
    /// The thread that starts the meter.
    Thread,
    /// One coroutine or generator.
    Task,
    /// Everything in a cgroup.
    Cgroup,
}

impl Scope {
    /// Reads the name of a scope that a meter may be given.
    ///
    /// # Errors
    /// [`Error::UnknownScope`].
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "process" => Ok(Self::Process),
            "thread" => Ok(Self::Thread),
            "task" => Ok(Self::Task),
            _ => Err(Error::UnknownScope {
                given: name.chars().take(64).collect(),
            }),
        }
    }

    /// The name in readings and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Thread => "thread",
            Self::Task => "task",
            Self::Cgroup => "cgroup",
        }
    }

    /// It is one thread or coroutine, which runs on one CPU at a time.
    pub fn is_one_thread(self) -> bool {
        matches!(self, Self::Thread | Self::Task)
    }
}

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
    /// Several processes, none inside another's tree, with their descendants or alone.
    Processes {
        /// This one may be among them.
        pids: Vec<i32>,
        /// Descendants too.
        children: bool,
    },
    /// One thread of this process.
    Thread(i32),
    /// One coroutine or generator.
    Task(Arc<TaskClock>),
    /// Everything in a cgroup, or in several.
    Cgroup(Groups),
}

impl Subject {
    /// What kind it is.
    pub(super) fn scope(&self) -> Scope {
        match self {
            Self::Process { .. } | Self::Processes { .. } => Scope::Process,
            Self::Thread(_) => Scope::Thread,
            Self::Task(_) => Scope::Task,
            Self::Cgroup(_) => Scope::Cgroup,
        }
    }

    /// Whether it is a tree of processes, or several.
    pub(super) fn is_tree(&self) -> bool {
        matches!(
            self,
            Self::Process { children: true, .. } | Self::Processes { children: true, .. }
        )
    }

    /// Whether it is inside this process's own cgroup limit: only then may the model charge the
    /// sandbox instead of the machine.
    pub(super) fn is_ours(&self) -> bool {
        matches!(
            self,
            Self::Process { pid: None, .. } | Self::Thread(_) | Self::Task(_)
        )
    }
}

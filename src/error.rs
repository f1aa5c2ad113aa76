//! One error type. Each variant maps to a named Python exception (`lithowatt.errors`).

use std::io;
use std::path::{Path, PathBuf};

/// The intervals that are accepted, in the words of Python.
pub const INTERVALS: &str = "a number of seconds from 0.001 to 3600, \"auto\", or None";

/// What can go wrong when a user asks for something that cannot be done.
///
/// A counter that cannot be read is *not* an error: it is an [`Unavailable`](crate::source::Unavailable)
/// value with its reason, because a meter never breaks the function it watches.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A method name that does not exist.
    #[error(
        "unknown method {given:?}{place}; expected \"auto\", \"all\", or names among \"rapl\", \
         \"perf\", \"hwmon\", \"guest\", \"nvml\", \"ebpf\", \"psutil\", \
         \"counters\" and \"model\" (\"procfs\" is another name of \"psutil\"; \
         \"tdp\", \"estimation\" and \"curve\" of \"model\")"
    )]
    UnknownMethod {
        /// The name as it was given.
        given: String,
        /// Where it was given, if not by the caller: ` in $ENERGY_METHODS`, else empty.
        place: &'static str,
    },

    /// A way to make the model's watts that does not exist.
    #[error("unknown estimation {given:?}; expected \"curve\", \"tdp_based\" or \"vcpu\"")]
    UnknownEstimation {
        /// The name as it was given.
        given: String,
    },

    /// A definition of the headline that does not exist.
    #[error("unknown definition {given:?}; expected \"marginal\" or \"amortised\"")]
    UnknownDefinition {
        /// The name as it was given.
        given: String,
    },

    /// A scope name that does not exist.
    #[error("unknown scope {given:?}; expected \"process\", \"thread\" or \"task\"")]
    UnknownScope {
        /// The name as it was given.
        given: String,
    },

    /// An interval outside what the sampler can keep.
    #[error("interval must be {INTERVALS}, not {given}")]
    InvalidInterval {
        /// The interval as it was given.
        given: String,
    },

    /// Options that exclude each other.
    #[error("{given} cannot be combined: {accepted}")]
    Conflict {
        /// The options as they were given.
        given: String,
        /// What is accepted instead.
        accepted: String,
    },

    /// A root without a name.
    #[error("root must be a directory that holds sys and proc, not \"\"")]
    EmptyRoot,

    /// The process to be metered does not exist.
    #[error("no process with pid {pid}; expected the pid of a running process")]
    NoSuchProcess {
        /// The pid as it was given.
        pid: String,
    },

    /// A directory that is no cgroup, or keeps no CPU time.
    #[error(
        "{} is no cgroup with CPU accounting ({source}); expected a directory with cpu.stat or \
         cpuacct.usage",
        shown(path)
    )]
    NoCgroup {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },

    /// A pattern, a unit or a job that no cgroup is of.
    #[error(
        "no cgroup is there for {given:?} (looked for below {}); expected {expected}",
        shown(place)
    )]
    NoGroups {
        /// What was asked for.
        given: String,
        /// What it has to be, by its form.
        expected: &'static str,
        /// Where the cgroups are.
        place: PathBuf,
    },

    /// The process has reached its memory limit.
    #[error("no memory is free: the process has reached its limit")]
    Memory,

    /// A file cannot be written.
    #[error("cannot write {}: {source}; nothing was stored", path.display())]
    Write {
        /// The path.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },

    /// A path that must exist does not, or cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },

    /// A value in a file that does not have the expected format.
    #[error("malformed value {given:?} in {}; expected {expected}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The text that was found, cut to 64 characters.
        given: String,
        /// What the format wants there.
        expected: &'static str,
    },

    /// A file that is cut off or no profile.
    #[error("{}{what}", path.display())]
    Profile {
        /// The file.
        path: PathBuf,
        /// What is wrong and where; begins with what separates it from the path.
        what: String,
    },

    /// The node agent cannot do its work.
    #[error("the agent cannot run: {reason}; expected {accepted}")]
    Agent {
        /// What is in the way.
        reason: String,
        /// What would do.
        accepted: &'static str,
    },

    /// There is no ring of an agent, or none that can be believed.
    #[error("{reason}; expected the ring of a running agent{}", remedy(fix))]
    Ring {
        /// What is wrong with it.
        reason: String,
        /// What brings one.
        fix: Option<String>,
    },

    /// Something that was asked for by name is not there, or may not be used.
    #[error("{reason}{}", remedy(fix))]
    Unavailable {
        /// Why.
        reason: String,
        /// The one command that changes it.
        fix: Option<String>,
    },

    /// `stop` or a reading was asked of a meter that was never started, or `start` of one that runs.
    #[error("the meter is {state}; {accepted}")]
    State {
        /// "not running", "running already", …
        state: &'static str,
        /// What is accepted in this state.
        accepted: &'static str,
    },
}

/// A path as errors name it: an empty one is to be seen, too.
fn shown(path: &Path) -> String {
    if path.as_os_str().is_empty() {
        return "\"\"".to_owned();
    }
    path.display().to_string()
}

fn remedy(fix: &Option<String>) -> String {
    fix.as_ref()
        .map_or_else(String::new, |fix| format!("; fix: {fix}"))
}

/// The result of the fallible calls of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The name of the Python exception that stands for this error: one of `lithowatt.errors`, or
    /// Python's own `MemoryError`.
    pub fn python_name(&self) -> &'static str {
        match self {
            Self::Memory => "MemoryError",
            Self::UnknownMethod { .. } | Self::UnknownEstimation { .. } => "UnknownMethodError",
            Self::UnknownDefinition { .. } => "UnknownDefinitionError",
            Self::UnknownScope { .. } => "UnknownScopeError",
            Self::InvalidInterval { .. } => "InvalidIntervalError",
            Self::Conflict { .. } | Self::EmptyRoot => "ConflictingOptionsError",
            Self::NoSuchProcess { .. } => "ProcessNotFoundError",
            Self::Io { .. } | Self::NoCgroup { .. } | Self::NoGroups { .. } => {
                "UnreadableFileError"
            }
            Self::Write { .. } => "UnwritableFileError",
            Self::Malformed { .. } | Self::Profile { .. } => "MalformedValueError",
            Self::Unavailable { .. } => "UnavailableError",
            Self::State { .. } => "MeterStateError",
            Self::Agent { .. } | Self::Ring { .. } => "AgentError",
        }
    }

    pub(crate) fn malformed(path: &Path, given: &str, expected: &'static str) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            given: given.chars().take(64).collect(),
            expected,
        }
    }

    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

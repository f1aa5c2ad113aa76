//! Sources read counters, nothing else: they know no functions, no files of ours and no Python.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub mod ebpf;
pub mod kept;
pub mod mirrors;
pub mod opened;
pub mod perf;
pub mod plain;
pub mod procfs;
pub mod rapl;
pub mod ring;
pub mod throttle;
pub mod topology;

/// A part of the machine that has an energy counter of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Domain {
    /// The whole socket (PKG).
    #[doc(alias = "pkg")]
    Package,
    /// All cores of a socket (PP0).
    #[doc(alias = "pp0")]
    Core,
    /// Usually the integrated graphics (PP1).
    #[doc(alias = "pp1")]
    Uncore,
    /// Memory of a socket, outside its package.
    Dram,
    /// The whole platform. It holds the packages and is reported, never added to them.
    #[doc(alias = "platform")]
    Psys,
}

impl Domain {
    /// All domains, in the order in which they are reported.
    pub const ALL: [Self; 5] = [
        Self::Package,
        Self::Core,
        Self::Uncore,
        Self::Dram,
        Self::Psys,
    ];

    /// The name used everywhere: Rust, Python, stats keys, documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Package => "package",
            Self::Core => "core",
            Self::Uncore => "uncore",
            Self::Dram => "dram",
            Self::Psys => "psys",
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A way to obtain a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Energy counters through powercap.
    Rapl,
    /// perf_event_open: the `power` PMU, cycles, instructions, task clock.
    Perf,
    /// Kernel probes.
    Ebpf,
    /// System and process metrics as psutil defines them, from /proc.
    Psutil,
    /// The power model, for where there is no counter.
    Tdp,
}

impl Method {
    /// All methods, in the order in which they are reported.
    pub const ALL: [Self; 5] = [Self::Rapl, Self::Perf, Self::Ebpf, Self::Psutil, Self::Tdp];

    /// The name used in stats keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rapl => "rapl",
            Self::Perf => "perf",
            Self::Ebpf => "ebpf",
            Self::Psutil => "psutil",
            Self::Tdp => "tdp",
        }
    }
}

/// The methods that a meter was asked to use.
///
/// ```
/// use lithowatt::source::{Method, Methods};
/// let asked = Methods::parse(["rapl", "psutil"]).unwrap();
/// assert!(asked.has(Method::Rapl) && !asked.has(Method::Perf));
/// assert!(Methods::parse(["rappl"]).unwrap_err().to_string().contains("\"rappl\""));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Methods(u8);

/// perf was asked for by name.
const PERF_BY_NAME: u8 = 1 << 7;
/// eBPF was asked for by name.
const EBPF_BY_NAME: u8 = 1 << 6;

impl Methods {
    /// Every method there is.
    pub const AUTO: Self = Self(0b1_1111);

    /// Whether `method` was asked for.
    pub fn has(self, method: Method) -> bool {
        self.0 & (1 << method as u8) != 0
    }

    /// Whether counters of the process tree are wanted at any price, for perf was named.
    pub fn wants_tree_at_once(self) -> bool {
        self.0 & PERF_BY_NAME != 0
    }

    /// Whether kernel probes may be loaded, for eBPF was named.
    pub fn loads_probes(self) -> bool {
        self.0 & EBPF_BY_NAME != 0
    }

    /// What either of the two asks for.
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Nothing at all.
    pub fn none() -> Self {
        Self(0)
    }

    /// Reads method names, case-insensitively. No name at all means [`Methods::AUTO`].
    ///
    /// # Errors
    /// [`Error::UnknownMethod`] naming the first name that is none.
    pub fn parse<I, S>(names: I) -> Result<Self>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        let mut bits = 0u8;
        for name in names {
            let given = name.as_ref();
            bits |= match given.trim().to_ascii_lowercase().as_str() {
                "auto" | "all" => Self::AUTO.0,
                "rapl" => 1 << Method::Rapl as u8,
                "perf" => (1 << Method::Perf as u8) | PERF_BY_NAME,
                "ebpf" => (1 << Method::Ebpf as u8) | EBPF_BY_NAME,
                "psutil" | "procfs" => 1 << Method::Psutil as u8,
                "tdp" | "model" | "estimation" | "curve" => 1 << Method::Tdp as u8,
                _ => {
                    return Err(Error::UnknownMethod {
                        given: given.chars().take(64).collect(),
                    });
                }
            };
        }
        Ok(if bits == 0 { Self::AUTO } else { Self(bits) })
    }
}

/// Why a value is not there, and what would bring it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unavailable {
    /// One line, for the user.
    pub reason: String,
    /// The one command that changes it, where there is one.
    pub fix: Option<String>,
    /// The thing exists but may not be read, as opposed to being absent.
    pub denied: bool,
    /// Only now: the process lacks descriptors or memory, and may have them the next time.
    #[serde(skip)]
    pub passing: bool,
}

impl Unavailable {
    /// Something that is not there.
    pub fn absent(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            fix: None,
            denied: false,
            passing: false,
        }
    }

    /// Something that is there and may not be read.
    pub fn denied(reason: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            fix: Some(fix.into()),
            denied: true,
            passing: false,
        }
    }

    /// Something that cannot be had at this moment, and is to be tried again.
    pub fn passing(reason: impl Into<String>) -> Self {
        Self {
            passing: true,
            ..Self::absent(reason)
        }
    }

    /// Something that could not be opened, for the reason that the system gave.
    pub fn of(what: impl fmt::Display, error: &std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EMFILE) => Self::passing(format!(
                "{what}: the process had no file descriptor free (ulimit -n); tried again at the \
                 next window"
            )),
            Some(libc::ENFILE) => Self::passing(format!(
                "{what}: the machine had no file descriptor free (fs.file-max); tried again at the \
                 next window"
            )),
            _ if kept::is_shortage(error) => Self::passing(format!(
                "{what}: there was no memory for it; tried again at the next window"
            )),
            _ => Self::absent(format!("{what}: {error}")),
        }
    }

    /// Adds the command that would change it.
    pub fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// One energy counter of the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Zone {
    /// Which method reads it.
    pub method: Method,
    /// What it measures.
    pub domain: Domain,
    /// Package (socket) number; 0 for psys.
    pub package: u32,
    /// Its name as the kernel gives it, e.g. `package-0`.
    pub name: String,
    /// Joules per counted unit.
    pub unit_joules: f64,
    /// The counter returns to 0 after this many units; `None` where it is 64 bits wide.
    pub modulus: Option<u64>,
}

/// Why one read of one counter gave no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadFault {
    /// The zone is gone (unplugged, module removed).
    Vanished,
    /// Permission was taken away.
    Denied,
    /// The text is not a counter value.
    Malformed,
    /// The value is above the counter's own range.
    Beyond,
    /// Any other I/O error.
    Failed,
    /// The node agent gives no sign of life.
    Stale,
    /// The node agent said that it ends.
    Stopped,
}

impl fmt::Display for ReadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vanished => "the zone vanished",
            Self::Denied => "permission was denied",
            Self::Malformed => "the counter held no number",
            Self::Beyond => "the counter showed more than its own max_energy_range_uj",
            Self::Failed => "the counter could not be read",
            Self::Stale => "the node agent gave no sign of life",
            Self::Stopped => "the node agent was stopped",
        })
    }
}

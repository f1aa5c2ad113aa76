//! Every way to obtain a number, one line each.
//!
//! A new source of energy is a file with an [`EnergyCounter`](super::EnergyCounter) and a line here.
//! One that cannot be read within microseconds is read by a thread of its own, as GPUs are.
//! The place of a line is the method's number in an agent's ring, so lines are added at the end.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::energy::Open;
use super::{Domain, Zone, guest, hwmon, perf, rapl};
use crate::counter::Counter;
use crate::error::{Error, Result};
use crate::json::{self, FromJson};

macro_rules! methods {
    ($(
        $(#[doc = $doc:literal])+
        $(#[cfg($cfg:meta)])?
        $variant:ident: $name:literal $(| $alias:literal)*, $title:literal, $open:expr;
    )+) => {
        /// A way to obtain a number.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(rename_all = "lowercase")]
        pub enum Method {
            $( $(#[doc = $doc])+ $(#[cfg($cfg)])? $variant, )+
        }

        impl Method {
            /// All methods, in the order in which they are reported and preferred.
            pub const ALL: &'static [Self] = &[$( $(#[cfg($cfg)])? Self::$variant, )+];

            /// The name used in stats keys.
            pub fn name(self) -> &'static str {
                match self {
                    $( $(#[cfg($cfg)])? Self::$variant => $name, )+
                }
            }

            /// What it reads, in words.
            pub fn title(self) -> &'static str {
                match self {
                    $( $(#[cfg($cfg)])? Self::$variant => $title, )+
                }
            }

            /// Reads a name or another word for it; lower case.
            pub fn parse(name: &str) -> Option<Self> {
                match name {
                    $( $(#[cfg($cfg)])? $name $(| $alias)* => Some(Self::$variant), )+
                    _ => None,
                }
            }

            /// How its energy counters are opened; `None` where it counts no energy.
            pub fn energy_counter(self) -> Option<Open> {
                match self {
                    $( $(#[cfg($cfg)])? Self::$variant => $open, )+
                }
            }
        }
    };
}

methods! {
    /// Energy counters through powercap.
    Rapl: "rapl", "RAPL", Some(rapl::open);
    /// perf_event_open: the `power` PMU, cycles, instructions, task clock.
    Perf: "perf", "the power PMU", Some(perf::open);
    /// Kernel probes.
    Ebpf: "ebpf", "kernel probes", None;
    /// System and process metrics as psutil defines them, from /proc.
    Psutil: "psutil" | "procfs", "/proc/stat", None;
    /// The power model, for where there is no counter.
    Tdp: "tdp" | "model" | "estimation" | "curve", "the power model", None;
    /// Energy of NVIDIA's GPUs, which a thread of its own reads.
    Nvml: "nvml" | "gpu", "NVML", None;
    /// Sensors of energy and power through hwmon.
    Hwmon: "hwmon", "hwmon", Some(hwmon::open);
    /// A virtual machine's part of its host's energy, as the host states it.
    Guest: "guest", "the host's account of this virtual machine", Some(guest::open);
    /// Counters in plain files, for tests of what every source goes through.
    #[cfg(test)]
    Files: "files", "counter files", Some(super::files::open);
}

impl FromJson for Method {
    fn from_json(value: &Value) -> std::result::Result<Self, String> {
        json::word(Self::ALL, value)
    }
}

impl Method {
    /// The methods that count energy, in the order in which they are preferred.
    pub fn energy_counters() -> impl Iterator<Item = (Self, Open)> {
        let all = Self::ALL.iter().copied();
        all.filter_map(|method| Some((method, method.energy_counter()?)))
    }

    /// Whether it counts what the others count better: it is opened where none of them counts the
    /// packages, so that no domain has two sources.
    pub fn stands_in(self) -> bool {
        self == Self::Hwmon
    }
}

/// A counter that did not move between its first reading and one so much later does not count, ns.
pub const NEVER_MOVED_NS: u64 = 500_000_000;

/// Whether a source of the first choice counts the packages, for all that was seen so far of these counters
/// (`None`: nothing). Where none does, the stand-ins have their place.
pub fn packages_are_counted<'z>(
    all: impl IntoIterator<Item = (&'z Zone, Option<&'z Counter>)>,
) -> bool {
    all.into_iter().any(|(zone, counter)| {
        let is_still = !zone.may_stand_still()
            && counter.is_some_and(|counter| counter.never_moved(NEVER_MOVED_NS));
        zone.domain == Domain::Package && !zone.method.stands_in() && !is_still
    })
}

/// Whether a method was asked for, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Asked {
    /// It was not.
    No,
    /// Among all there are.
    Among,
    /// By its name, so that it may cost more.
    ByName,
}

/// The methods that a meter was asked to use.
///
/// ```
/// use lithowatt::source::{Method, Methods};
/// let asked = Methods::parse(["rapl", "psutil"]).unwrap();
/// assert!(asked.has(Method::Rapl) && !asked.has(Method::Perf));
/// assert!(Methods::parse(["rappl"]).unwrap_err().to_string().contains("\"rappl\""));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Methods([Asked; Method::ALL.len()]);

impl Methods {
    /// Every method there is.
    pub const AUTO: Self = Self([Asked::Among; Method::ALL.len()]);

    /// Whether `method` was asked for.
    pub fn has(self, method: Method) -> bool {
        self.0[method as usize] != Asked::No
    }

    /// Whether `method` is to be opened: it was asked for, and where it stands in for others that have
    /// the packages `counted`, by its name.
    pub fn wants(self, method: Method, counted: bool) -> bool {
        self.has(method) && !(counted && method.stands_in() && !self.has_by_name(method))
    }

    /// Whether `method` was asked for by its name: what costs more is done for it, too.
    pub fn has_by_name(self, method: Method) -> bool {
        self.0[method as usize] == Asked::ByName
    }

    /// What either of the two asks for.
    pub fn union(mut self, other: Self) -> Self {
        for (asked, other) in self.0.iter_mut().zip(other.0) {
            *asked = (*asked).max(other);
        }
        self
    }

    /// All of these but `method`.
    #[must_use]
    pub fn without(mut self, method: Method) -> Self {
        self.0[method as usize] = Asked::No;
        self
    }

    /// Exactly these.
    pub fn of(methods: &[Method]) -> Self {
        let mut of = Self::none();
        for method in methods {
            of.0[*method as usize] = Asked::Among;
        }
        of
    }

    /// Nothing at all.
    pub fn none() -> Self {
        Self([Asked::No; Method::ALL.len()])
    }

    /// Reads method names, case-insensitively. No name at all means [`Methods::AUTO`]; `counters` are
    /// those that count energy, each where it would be used among all.
    ///
    /// # Errors
    /// [`Error::UnknownMethod`] naming the first name that is none.
    pub fn parse<I, S>(names: I) -> Result<Self>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        let mut methods = Self::none();
        for name in names {
            let given = name.as_ref();
            let name = given.trim().to_ascii_lowercase();
            if matches!(name.as_str(), "auto" | "all") {
                methods = methods.union(Self::AUTO);
            } else if name == "counters" {
                for (method, _) in Method::energy_counters() {
                    methods.0[method as usize] = methods.0[method as usize].max(Asked::Among);
                }
            } else if let Some(method) = Method::parse(&name) {
                methods.0[method as usize] = Asked::ByName;
            } else {
                return Err(Error::UnknownMethod {
                    given: given.chars().take(64).collect(),
                    place: "",
                });
            }
        }
        Ok(if methods == Self::none() {
            Self::AUTO
        } else {
            methods
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_weighs_more_than_all() {
        let named = Methods::parse(["perf", "auto"]).unwrap();
        assert!(named.has_by_name(Method::Perf) && !named.has_by_name(Method::Ebpf));
        assert!(Method::ALL.iter().all(|method| named.has(*method)));
        let none: [&str; 0] = [];
        assert_eq!(Methods::parse(none).unwrap(), Methods::AUTO);
        assert!(!Methods::AUTO.has_by_name(Method::Perf));
        let counters = Methods::parse(["Counters", "model"]).unwrap();
        assert!(counters.has(Method::Hwmon) && counters.has(Method::Guest));
        assert!(counters.wants(Method::Hwmon, false) && !counters.wants(Method::Hwmon, true));
        assert!(counters.has(Method::Tdp) && !counters.has(Method::Psutil));
        let model = Methods::parse([" Curve"]).unwrap();
        assert!(model.has(Method::Tdp) && !model.has(Method::Rapl));
    }

    #[test]
    fn numbers_in_rings_are_kept() {
        let numbers = [Method::Rapl, Method::Perf, Method::Hwmon].map(|method| method as u64);
        assert_eq!(numbers, [0, 1, 6]);
    }
}

//! How the model's watts are made where there is no counter: `ENERGY_ESTIMATION_METHOD`.

use serde::{Deserialize, Serialize};

use super::{PowerModel, RawPower, Traffic};
use crate::source::busy::BusyCpus;

/// The way from load to watts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Estimation {
    /// The power model's curve, memory included.
    #[default]
    Curve,
    /// TDP of the share × utilisation: no idle power, no memory: the method of the FlexExecutor energy
    /// prototype, of the share alone.
    TdpBased,
    /// A straight line from idle to full load per vCPU, memory included.
    Vcpu,
}

/// The power of a share of a machine, W.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Power {
    /// Packages.
    pub package: f64,
    /// Memory.
    pub memory: f64,
    /// The part of `package` and `memory` that flows at rest.
    pub idle: f64,
    /// 95 % band of `idle`.
    pub idle_band: (f64, f64),
    /// 95 % band of what is above `idle`.
    pub active_band: (f64, f64),
}

/// Fewer vCPUs than that are none.
const LEAST_VCPUS: f64 = 1e-6;

impl Estimation {
    /// All of them, the default first.
    pub const ALL: [Self; 3] = [Self::Curve, Self::TdpBased, Self::Vcpu];

    /// Reads a name, case-insensitively; `None` where it is none.
    ///
    /// ```
    /// use lithowatt::model::estimation::Estimation;
    /// assert_eq!(Estimation::parse("tdp_based"), Some(Estimation::TdpBased));
    /// assert_eq!(Estimation::parse("guess"), None);
    /// ```
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.trim().to_ascii_lowercase();
        Self::ALL.into_iter().find(|e| e.name() == name)
    }

    /// By `ENERGY_ESTIMATION_METHOD`, and why the default is used in spite of what is set there.
    pub fn from_environment() -> (Self, Option<String>) {
        let Some(text) = std::env::var_os("ENERGY_ESTIMATION_METHOD").filter(|v| !v.is_empty())
        else {
            return (Self::default(), None);
        };
        match text.to_str().and_then(Self::parse) {
            Some(found) => (found, None),
            None => (
                Self::default(),
                Some(
                    "ENERGY_ESTIMATION_METHOD is none of curve, tdp_based and vcpu: curve is used"
                        .into(),
                ),
            ),
        }
    }

    /// The name that [`Estimation::parse`] reads.
    pub fn name(self) -> &'static str {
        match self {
            Self::Curve => "curve",
            Self::TdpBased => "tdp_based",
            Self::Vcpu => "vcpu",
        }
    }

    /// The method's name in results: `model:lambda-arm64` with the curve,
    /// `model:tdp_based:lambda-arm64` with another.
    pub fn method(self, model: &PowerModel) -> String {
        let model = model.describe();
        match self {
            Self::Curve => model,
            _ => {
                let bare = model.strip_prefix("model:").unwrap_or(&model);
                format!("model:{}:{bare}", self.name())
            }
        }
    }

    /// Watts of `vcpus` hardware threads of the model's host, `busy_vcpus` of them busy, with
    /// `gib` GiB of memory: `None` where that is not known ([`PowerModel::memory_watts_of`]).
    ///
    /// Whoever is busier than what was allotted (a burst) is charged the threads it kept busy. The
    /// band of the plainer methods holds the curve's, since theirs is not known to be better.
    ///
    /// ```
    /// use lithowatt::model::estimation::Estimation;
    /// use lithowatt::model::PowerModel;
    /// let model = PowerModel::for_lambda(1769, "arm64", None);
    /// let half = |e: Estimation| e.power(&model, 1.0, 0.5, 0.0).package;
    /// let (idle, full) = (
    ///     Estimation::Vcpu.power(&model, 1.0, 0.0, 0.0).package,
    ///     Estimation::Vcpu.power(&model, 1.0, 1.0, 0.0).package,
    /// );
    /// assert!((half(Estimation::Vcpu) - (idle + full) / 2.0).abs() < 1e-9);
    /// assert_eq!(Estimation::TdpBased.power(&model, 1.0, 0.0, 4.0).package, 0.0);
    /// ```
    pub fn power(
        self,
        model: &PowerModel,
        vcpus: f64,
        busy_vcpus: f64,
        gib: impl Into<Option<f64>>,
    ) -> Power {
        self.power_of(model, (vcpus, busy_vcpus), gib, BusyCpus::default())
    }

    /// The same where it was seen on how many of the CPUs the load runs and at what clock.
    pub fn power_of(
        self,
        model: &PowerModel,
        (vcpus, busy_vcpus): (f64, f64),
        gib: impl Into<Option<f64>>,
        seen: BusyCpus,
    ) -> Power {
        let gib = gib.into();
        let (vcpus, busy) = at_least(vcpus, busy_vcpus);
        let load = if vcpus > 0.0 { busy / vcpus } else { 0.0 };
        let memory = if vcpus > LEAST_VCPUS {
            model.memory_watts_of(gib, vcpus, Some(load))
        } else {
            // Who has no CPU says nothing of what the machine's CPUs do with its memory.
            model.memory_watts_raw(gib.unwrap_or(0.0), None)
        };
        self.with(model, (vcpus, busy), memory, seen)
    }

    /// The same with the traffic of its memory as the machine counted it.
    pub fn power_with(
        self,
        model: &PowerModel,
        (vcpus, busy_vcpus): (f64, f64),
        gib: Option<f64>,
        traffic: Traffic,
        seen: BusyCpus,
    ) -> Power {
        let cpus = at_least(vcpus, busy_vcpus);
        let memory = model.memory_watts_with(gib, cpus.0, traffic);
        self.with(model, cpus, memory, seen)
    }

    fn with(
        self,
        model: &PowerModel,
        (vcpus, busy): (f64, f64),
        memory_raw: RawPower,
        seen: BusyCpus,
    ) -> Power {
        let load = if vcpus > 0.0 { busy / vcpus } else { 0.0 };
        let memory = memory_raw.total;
        let raw = model.vcpus_watts_at(vcpus, busy, seen);
        let curve = Power {
            package: raw.total,
            memory,
            idle: raw.idle + memory_raw.idle,
            idle_band: (
                raw.idle_low + memory_raw.idle_low,
                raw.idle_high + memory_raw.idle_high,
            ),
            active_band: (
                raw.low - raw.idle_low + memory_raw.low - memory_raw.idle_low,
                raw.high - raw.idle_high + memory_raw.high - memory_raw.idle_high,
            ),
        };
        match self {
            Self::Curve => curve,
            Self::Vcpu => {
                let full = model.vcpus_watts_raw(vcpus, vcpus);
                let line = raw.idle + (full.total - raw.idle) * load;
                curve.around(line, memory, curve.idle)
            }
            Self::TdpBased => curve.around(tdp_per_thread(model) * busy, 0.0, 0.0),
        }
    }
}

/// Threads and how many of them are busy: at least as many as that. NaN is nobody busy.
fn at_least(vcpus: f64, busy: f64) -> (f64, f64) {
    let busy = if busy > 0.0 { busy } else { 0.0 };
    (if vcpus > busy { vcpus } else { busy }, busy)
}

impl Power {
    /// Another value, inside a band that holds this one's and it.
    fn around(self, package: f64, memory: f64, idle: f64) -> Self {
        let total = package + memory;
        let active = total - idle;
        let ((idle_low, idle_high), (active_low, active_high)) = (self.idle_band, self.active_band);
        Self {
            package,
            memory,
            idle,
            idle_band: (idle_low.min(idle), idle_high.max(idle)),
            active_band: (active_low.min(active), active_high.max(active)),
        }
    }

    /// Packages and memory, W.
    pub fn total(self) -> f64 {
        self.package + self.memory
    }

    /// What flows above idle, W.
    pub fn active(self) -> f64 {
        self.total() - self.idle
    }

    /// 95 % band of [`Power::total`], W: what the model does not know of a processor makes it err
    /// the same way at rest and at work.
    pub fn band(self) -> (f64, f64) {
        let (idle, active) = (self.idle_band, self.active_band);
        (idle.0 + active.0, idle.1 + active.1)
    }
}

/// TDP (W) of one hardware thread of the host: never the package's. Where no TDP is known, the
/// model's watts at full load stand in.
pub fn tdp_per_thread(model: &PowerModel) -> f64 {
    let host = model.assumptions();
    let threads = f64::from(host.host_threads.max(1));
    match host.tdp_w {
        Some(tdp) => tdp * f64::from(host.sockets.max(1)) / threads,
        None => host.full_w / threads,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_tdp_is_never_charged_to_a_share() {
        let model = PowerModel::for_lambda(1769, "x86_64", Some("AMD EPYC"));
        let tdp = model.assumptions().tdp_w.unwrap();
        let power = Estimation::TdpBased.power(&model, 1.0, 1.0, 1.0);
        let (low, high) = power.band();
        assert!(power.package < tdp / 16.0);
        assert!((power.package - tdp_per_thread(&model)).abs() < 1e-12);
        assert_eq!((power.memory, power.idle), (0.0, 0.0));
        assert!(low <= power.total() && power.total() <= high);
    }

    #[test]
    fn a_burst_is_charged_the_threads_it_used() {
        let model = PowerModel::for_lambda(512, "arm64", None);
        for method in Estimation::ALL {
            let quota = method.power(&model, 0.29, 0.29, 0.5).total();
            let burst = method.power(&model, 0.29, 1.0, 0.5).total();
            assert!(burst > 2.0 * quota, "{}", method.name());
        }
    }

    #[test]
    fn no_input_makes_a_number_that_is_none() {
        let model = PowerModel::for_cpu("nonsense", None, None);
        for method in Estimation::ALL {
            for bad in [f64::NAN, -1.0, 0.0, 1e300] {
                let power = method.power(&model, bad, bad, bad);
                let (low, high) = power.band();
                assert!(power.total().is_finite() && low <= high);
            }
        }
    }
}

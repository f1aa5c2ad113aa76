//! The power model: watts where no counter exists.
//!
//! A processor is identified by name, its TDP or measured watts come from an embedded table of
//! public facts, and a concave curve gives package power against load. A guest or a Lambda function
//! is charged its *share* of the host, per hardware thread, never the package. Every answer carries
//! a 95 % band, wide where little is known. Formula, coefficients and residuals:
//! `docs/explanation/power-model.md`.
//!
//! ```
//! use lithowatt::model::PowerModel;
//!
//! // Two of the 96 vCPUs of such a host, both busy: a few watts, not the package's 210 W TDP.
//! let model = PowerModel::for_cpu("Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz", Some(2), None);
//! let power = model.vcpus_watts(2.0, 2.0);
//! assert!(power.total.value < 20.0);
//! assert!(power.total.low < power.total.value && power.total.value < power.total.high);
//! assert_eq!(model.describe(), "model:xeon-platinum-8259cl");
//! ```

pub mod curve;
pub mod estimation;
pub mod fit;
pub mod fitted;
pub mod lambda;
mod memory;
mod pattern;
pub mod table;
mod unknown;

use serde::Serialize;

use crate::bands::WORKLOAD_SPREAD;
use crate::estimate::Estimate;
use crate::machine::cpu::CpuIdentity;
use crate::source::busy::{BusyCpus, Clock};
use curve::{Active, ClockPolicy, Curve, Facts, Family, Shape, Spread, WORKLOAD, full_clock};
use fitted::Fitted;
use memory::Memory;
pub use memory::Traffic;
pub(crate) use memory::{JOULES_A_BYTE, UNKNOWN_GIB};
use table::{Certainty, Class, CpuSpec};

/// [`PowerModel::workload_spread`] of AMD's servers.
const EPYC_PAIRS: f64 = 2.4;

/// The model was asked for something that no machine does.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// Load must be a number of percent, zero or more.
    #[error("CPU load must be a percentage of zero or more, not {0}")]
    Load(f64),
    /// The clock must be a positive number of MHz.
    #[error("CPU frequency must be a positive number of MHz, not {0}")]
    Frequency(f64),
}

/// Power (W) of a share of a host, with its idle part.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelPower {
    /// Watts of the share, idle part included.
    pub total: Estimate,
    /// The idle part of those watts.
    pub idle: Estimate,
}

/// [`ModelPower`] as bare numbers (W), for the sampler: computing it allocates nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct RawPower {
    /// Watts of the share, idle part included.
    pub total: f64,
    /// Lower end of the 95 % band of `total` (W).
    pub low: f64,
    /// Upper end of the 95 % band of `total` (W).
    pub high: f64,
    /// Idle part (W).
    pub idle: f64,
    /// Lower end of the 95 % band of `idle` (W).
    pub idle_low: f64,
    /// Upper end of the 95 % band of `idle` (W).
    pub idle_high: f64,
}

/// Everything that the model assumed, to travel with the result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Assumptions {
    /// The name that was looked up.
    pub cpu: String,
    /// The table's pattern that matched; `None` for a class default.
    pub matched: Option<String>,
    /// Kind of processor.
    pub class: Class,
    /// Whether the name pins the part; `None` for a class default.
    pub certainty: Option<Certainty>,
    /// TDP (W) per socket that was used; `None` where measured watts replace it.
    pub tdp_w: Option<f64>,
    /// Sockets of the host.
    pub sockets: u32,
    /// Hardware threads per socket.
    pub threads_per_socket: u32,
    /// Hardware threads of the host.
    pub host_threads: u32,
    /// True if we are taken to own only a share of the host.
    pub shared_host: bool,
    /// Idle power (W) of all packages.
    pub idle_w: f64,
    /// Power (W) of all packages at full load.
    pub full_w: f64,
    /// Idle power over full power.
    pub idle_share: f64,
    /// What awake uncores add (W), all packages.
    pub wake_w: f64,
    /// What the cores add at full load (W), all packages.
    pub core_w: f64,
    /// Clock (MHz) at full load, where it is known.
    pub full_mhz: Option<f64>,
    /// 95 % band of a small share (or of the whole, unless shared) as factors.
    pub band: Spread,
    /// vCPUs that were bought with the memory, else `None`.
    pub allotted_vcpus: Option<f64>,
    /// Power (W) of a GiB of memory at rest: of a machine of 64 GiB, or of the host of a guest.
    pub memory_rest_w_per_gib: f64,
    /// The same with all CPUs at work.
    pub memory_full_w_per_gib: f64,
    /// Where the figures come from.
    pub source: String,
}

/// The power model of one host. Cheap to use, built once.
#[derive(Debug, Clone)]
pub struct PowerModel {
    cpu: String,
    method: String,
    spec: Option<&'static CpuSpec>,
    class: Class,
    tdp_w: Option<f64>,
    sockets: u32,
    threads_per_socket: u32,
    host_threads: f64,
    facts: Facts,
    curve: Curve,
    spread: Spread,
    /// Factor between the cores' power of one program and of another.
    workload: f64,
    shared: bool,
    /// The curve was fitted to this machine.
    fitted: bool,
    allotted_vcpus: Option<f64>,
    memory: Memory,
    source: String,
}

/// What is known of the machine besides the processor's name.
#[derive(Debug, Clone, Copy, Default)]
struct Host<'a> {
    logical_cpus: Option<u32>,
    sockets: Option<u32>,
    /// `None`: find out from the counts.
    guest: Option<bool>,
    architecture: Option<&'a str>,
    cores: Option<u32>,
    clock: ClockPolicy,
    limit_mhz: Option<f64>,
}

impl PowerModel {
    /// The model of a processor by its name, as `/proc/cpuinfo` or a data sheet writes it.
    ///
    /// `logical_cpus` are those that the system shows and `sockets` those of the machine. Fewer
    /// logical CPUs than one socket has threads mean a share of a host; more mean several sockets.
    /// Without either the answer is about one whole socket. A name that is not in the table gets a
    /// class default with a wide band, and [`PowerModel::tdp`] names it.
    ///
    /// ```
    /// use lithowatt::model::PowerModel;
    /// let model = PowerModel::for_cpu("Intel(R) Xeon(R) CPU E5-2620 v3 @ 2.40GHz", Some(24), None);
    /// assert_eq!(model.assumptions().sockets, 2);
    /// ```
    pub fn for_cpu(name: &str, logical_cpus: Option<u32>, sockets: Option<u32>) -> Self {
        Self::build(
            name,
            Host {
                logical_cpus,
                sockets,
                ..Host::default()
            },
        )
    }

    /// The model of the machine that was identified. Without a hypervisor its logical CPUs are the
    /// whole host; with one they are a share of a host whose size is in the table.
    pub fn for_identity(identity: &CpuIdentity) -> Self {
        Self::build(
            &identity.name,
            Host {
                logical_cpus: Some(identity.logical_cpus),
                sockets: identity.sockets,
                guest: Some(identity.hypervisor),
                architecture: Some(&identity.architecture),
                cores: identity.physical_cores,
                clock: identity
                    .governor
                    .as_deref()
                    .map_or(ClockPolicy::Unknown, ClockPolicy::of_governor),
                limit_mhz: identity.limit_mhz.filter(|_| !identity.hypervisor),
            },
        )
    }

    fn build(name: &str, host: Host<'_>) -> Self {
        let spec = table::find(name);
        let logical = host.logical_cpus.filter(|n| *n > 0);
        let sockets_told = host.sockets.filter(|n| *n > 0);

        // The threads of one socket if this system shows the whole host.
        let seen_per_socket = logical.map(|n| n.div_ceil(sockets_told.unwrap_or(1)).max(1));
        let table_threads = spec.and_then(|spec| spec.threads);
        let guest = host
            .guest
            .unwrap_or_else(|| match (table_threads, logical) {
                // Who tells the sockets means a machine, perhaps with SMT off.
                (Some(threads), Some(logical)) => {
                    let cores = spec.and_then(|spec| spec.cores).unwrap_or(threads);
                    logical < sockets_told.map_or(threads, |sockets| cores.saturating_mul(sockets))
                }
                // A server-class machine with a handful of CPUs is a guest.
                (None, Some(logical)) => {
                    virtual_name(name)
                        || sockets_told.is_none() && logical <= 8 && server_name(name)
                }
                _ => false,
            });
        let fallback = unknown::class_default(
            name,
            if guest {
                table_threads
            } else {
                table_threads.or(seen_per_socket)
            },
            host.cores
                .filter(|_| !guest)
                .map(|cores| cores.div_ceil(sockets_told.unwrap_or(1))),
            guest,
            host.architecture,
        );

        let class = spec.map_or(fallback.class, |spec| spec.class);
        let sockets = match (guest, sockets_told, logical, table_threads) {
            // A guest's sockets are the hypervisor's invention; watts per thread do not depend on them.
            (true, ..) => 1,
            (false, Some(sockets), ..) => sockets,
            (false, None, Some(logical), Some(threads)) => logical.div_ceil(threads),
            _ => 1,
        };
        let threads_per_socket = match (guest, logical) {
            (false, Some(logical)) => logical.div_ceil(sockets).max(1),
            _ => table_threads.unwrap_or(fallback.threads).max(1),
        };
        let host_threads = match (guest, logical) {
            (false, Some(logical)) => f64::from(logical),
            _ => f64::from(threads_per_socket) * f64::from(sockets),
        };

        let cores = spec.and_then(|spec| spec.cores).or_else(|| {
            let seen = host.cores.filter(|_| !guest)?;
            Some(seen.div_ceil(sockets))
        });
        let threads_per_core = match cores {
            // SMT that is switched off shows in the machine's own count.
            Some(cores) => (f64::from(threads_per_socket) / f64::from(cores.max(1)))
                .round()
                .clamp(1.0, 8.0) as u32,
            None if matches!(class, Class::ArmServer | Class::SingleBoard) => 1,
            None => 2,
        };
        let tdp_w = spec.and_then(|spec| spec.tdp_w);
        let measured = spec.and_then(|spec| spec.idle_w.zip(spec.full_w));
        let known = measured.is_some() || tdp_w.is_some();
        // Of low-power parts the maker of the machine sets the limit, not the cores.
        let family = spec
            .filter(|_| class != Class::LowPower)
            .and_then(|spec| Family::of(&spec.microarchitecture, class));
        let facts = Facts {
            class,
            family,
            tdp_w: tdp_w.unwrap_or(fallback.tdp_w),
            measured,
            cores,
            full_mhz: spec.and_then(|spec| {
                full_clock(
                    class,
                    &spec.maker,
                    spec.base_mhz,
                    spec.boost_mhz,
                    spec.allcore_mhz,
                )
            }),
            threads_per_core,
            // Clouds keep the clock up, on their metal too; so does whoever made a host for guests.
            clock: if guest || spec.is_some_and(CpuSpec::made_for_a_cloud) {
                ClockPolicy::Steady
            } else {
                host.clock
            },
        };

        let mut spread = if measured.is_some() {
            Spread::MEASURED
        } else if family.is_some() && tdp_w.is_some() {
            Spread::FAMILY
        } else {
            Spread::FROM_TDP
        };
        if spec.is_some_and(|spec| spec.certainty == Certainty::Likely) {
            spread = spread.and(Spread::LIKELY_PART);
        }
        if !known {
            spread = spread.and(fallback.spread);
        }
        if class != Class::Server && measured.is_none() {
            // Of a known family it is the class's idle power and limit that nobody measured.
            let weight = if family.is_some() { 0.4 } else { 1.0 };
            spread = spread.and(Spread::UNSEEN_CLASS.scaled(weight));
        }

        let (method, source) = match (spec, known) {
            (Some(spec), true) => (
                table::slug(spec.pattern.trim_start_matches('=')),
                spec.source.clone(),
            ),
            _ => (
                format!("class-{}", class.label()),
                format!(
                    "class default {}: {} W per socket, {} threads ({}){}",
                    class.label(),
                    (fallback.tdp_w * 10.0).round() / 10.0,
                    threads_per_socket,
                    fallback.reason,
                    spec.map_or(String::new(), |spec| format!("; {}", spec.source)),
                ),
            ),
        };
        Self {
            cpu: name.to_owned(),
            method: format!("model:{method}"),
            spec,
            class,
            tdp_w: if known { tdp_w } else { Some(fallback.tdp_w) },
            sockets,
            threads_per_socket,
            host_threads,
            facts,
            curve: Curve::new(&facts, sockets, Shape::SHIPPED).kept_below(host.limit_mhz),
            spread,
            workload: family.map_or(WORKLOAD, |family| family.workload),
            shared: guest,
            fitted: false,
            allotted_vcpus: None,
            memory: if guest {
                Memory::of_a_host(None)
            } else {
                Memory::WHOLE
            },
            source,
        }
    }

    /// The same machine by the curve that was fitted to it: its CPUs are then the whole, not a share
    /// of a host, and the band is that of the fit.
    pub(crate) fn calibrated(&self, fitted: &Fitted) -> Self {
        let threads = f64::from(fitted.logical_cpus.max(1));
        let band = Spread {
            idle: fitted.band,
            active: fitted.band,
        };
        let name = self
            .spec
            .map_or(self.cpu.as_str(), |s| s.pattern.trim_start_matches('='));
        Self {
            method: format!("model:calibrated-{}", table::slug(name)),
            // Of a guest's host only the part that was measured remains.
            tdp_w: self.tdp_w.map(|tdp| tdp * threads / self.host_threads),
            threads_per_socket: fitted.logical_cpus.div_ceil(self.sockets).max(1),
            host_threads: threads,
            curve: Curve {
                idle_w: fitted.idle_w,
                wake_w: fitted.wake_w,
                core_w: fitted.core_w,
                cores_per_socket: fitted.cores_per_socket,
                threads_per_core: fitted.threads_per_core(self.sockets),
                full_mhz: fitted.full_mhz,
                // The fitted low clock says it.
                clock: ClockPolicy::Saving,
                uncore_follows: false,
                shape: Shape {
                    low_clock: fitted.low_clock,
                    second_thread: fitted.second_thread.unwrap_or(Shape::SHIPPED.second_thread),
                    ..Shape::SHIPPED
                },
            },
            spread: band,
            workload: 1.0,
            shared: false,
            fitted: true,
            memory: match fitted.memory {
                _ if fitted.whole_machine() => Memory::InCurve,
                Some(memory) if memory.gib > 0.0 => Memory::Measured {
                    gib: memory.gib,
                    idle: memory.idle_w,
                    active: memory.active_w,
                    band: fitted.band,
                },
                _ => self.memory,
            },
            source: format!("{}; shipped: {}", fitted.describe(), self.source),
            ..self.clone()
        }
    }

    /// The same processor with another shape of the curve: how the shape is validated on machines that
    /// it was not fitted to.
    #[doc(hidden)]
    pub fn with_shape(&self, shape: Shape) -> Self {
        Self {
            curve: Curve::new(&self.facts, self.sockets, shape),
            ..self.clone()
        }
    }

    /// The same processor as one of another family whose watts nobody measured: how families are
    /// validated on machines that they were not taken from.
    #[doc(hidden)]
    pub fn with_family(&self, family: Family) -> Self {
        let facts = Facts {
            family: Some(family),
            measured: None,
            ..self.facts
        };
        Self {
            curve: Curve::new(&facts, self.sockets, Shape::SHIPPED),
            workload: family.workload,
            spread: Spread::FAMILY,
            facts,
            ..self.clone()
        }
    }

    /// Facts from which the curve was made.
    #[doc(hidden)]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Package power (W) of the whole host, all sockets, at `load_percent` of its CPUs (0..100;
    /// more counts as 100), with the 95 % band.
    ///
    /// `cores_used` is the number of logical CPUs on which the load runs: two that are always busy
    /// cost more than the same load spread over all. `frequency_mhz` is the mean clock of all CPUs;
    /// it counts where the clock at full load is known from the table. Both make the answer better
    /// (`docs/explanation/power-model.md`), not the band narrower.
    ///
    /// # Errors
    ///
    /// [`ModelError::Load`] for a negative or NaN load, [`ModelError::Frequency`] for a clock that
    /// is not a positive number.
    ///
    /// ```
    /// use lithowatt::model::PowerModel;
    /// let model = PowerModel::for_cpu("AMD EPYC 8024P 8-Core Processor", Some(16), None);
    /// let half = model.watts(50.0, None, None)?;
    /// assert!(half.low < half.value && half.value < half.high);
    /// assert!(model.watts(f64::NAN, None, None).is_err());
    /// # Ok::<(), lithowatt::model::ModelError>(())
    /// ```
    pub fn watts(
        &self,
        load_percent: f64,
        cores_used: Option<u32>,
        frequency_mhz: Option<f64>,
    ) -> Result<Estimate, ModelError> {
        if load_percent.is_nan() || load_percent < 0.0 {
            return Err(ModelError::Load(load_percent));
        }
        if let Some(mhz) = frequency_mhz.filter(|mhz| !mhz.is_finite() || *mhz <= 0.0) {
            return Err(ModelError::Frequency(mhz));
        }
        let load = (load_percent / 100.0).min(1.0);
        // No CPU used and yet a load: the number is of no use.
        let used = cores_used.filter(|cores| *cores > 0);
        let seen = BusyCpus {
            spread: used.map(|cores| f64::from(cores) / self.host_threads),
            threads: None,
            clock: frequency_mhz.map(Clock::exactly),
        };
        let active = self.curve.active_at(load, seen);
        let raw = self.banded(self.curve.idle_w, &active, self.spread);
        Ok(self.estimate(raw.total, raw.low, raw.high))
    }

    /// Power (W) of `vcpus` hardware threads of the host, `busy_vcpus` of them busy, as bare numbers.
    ///
    /// The host's watts per thread for each of `vcpus`, at the load `busy_vcpus / vcpus`: the rest
    /// of the host is taken to be as busy as we are, and the band covers that it is not. With all
    /// threads ours this is [`PowerModel::watts`]. It never falls when `busy_vcpus` grows.
    ///
    /// Inputs that are negative or NaN count as 0, more busy than `vcpus` counts as all, and an
    /// infinite `vcpus` counts as the whole host: a sampler must not stop over a bad sample.
    pub fn vcpus_watts_raw(&self, vcpus: f64, busy_vcpus: f64) -> RawPower {
        self.vcpus_watts_at(vcpus, busy_vcpus, BusyCpus::default())
    }

    /// The same where it was seen on how many of the CPUs the load runs and at what clock. A curve that was fitted
    /// to this machine has its clock in it.
    pub fn vcpus_watts_at(&self, vcpus: f64, busy_vcpus: f64, seen: BusyCpus) -> RawPower {
        let vcpus = if vcpus.is_infinite() && vcpus > 0.0 {
            self.host_threads
        } else {
            at_least_zero(vcpus)
        };
        let busy = at_least_zero(busy_vcpus).min(vcpus);
        let share = vcpus / self.host_threads;

        let idle = self.curve.idle_w * share;
        let seen = BusyCpus {
            clock: seen.clock.filter(|_| self.wants_clock()),
            ..seen
        };
        let active = self.active_share(&self.curve, vcpus, busy, seen);
        // The rest of the host matters in proportion to how much of it is not ours.
        let others = 1.0 - share;
        let spread = if others > 0.0 {
            self.spread.and(Spread::SHARE_OF_HOST.scaled(others))
        } else {
            self.spread
        };
        self.banded(idle, &active, spread)
    }

    /// Watts above idle of `vcpus` hardware threads, `busy_vcpus` of them busy, as in
    /// [`PowerModel::vcpus_watts_raw`], where no more than `cores` cores of a socket can wake it: with
    /// the load on all of them alike, and on as few as can have it.
    ///
    /// An energy counter on a small virtual machine is that machine's: the cores that only its
    /// host's processor has wake nothing there.
    pub fn active_watts_of_cores(&self, vcpus: f64, busy_vcpus: f64, cores: f64) -> [f64; 2] {
        let curve = Curve {
            cores_per_socket: cores.max(1.0).min(self.curve.cores_per_socket),
            ..self.curve
        };
        let vcpus = at_least_zero(vcpus);
        let busy = at_least_zero(busy_vcpus).min(vcpus);
        let few = (busy.max(1.0) / vcpus).min(1.0);
        [1.0, few].map(|spread| {
            self.active_share(&curve, vcpus, busy, BusyCpus::on(spread))
                .total()
        })
    }

    /// Whether it can use what is seen of the CPUs that have work: of a guest's nobody sees on which of the host's
    /// CPUs they run, nor at what clock.
    pub(crate) fn wants_busy_cpus(&self) -> bool {
        !self.shared
    }

    /// Whether it can use the clock of those.
    pub(crate) fn wants_clock(&self) -> bool {
        self.wants_busy_cpus() && !self.fitted && self.curve.full_mhz.is_some()
    }

    /// Watts above idle of `vcpus` by the host's `curve`, `busy` of them busy, by what was `seen` of them.
    fn active_share(&self, curve: &Curve, vcpus: f64, busy: f64, seen: BusyCpus) -> Active {
        if busy > 0.0 {
            curve
                .active_at(busy / vcpus, seen)
                .scaled(vcpus / self.host_threads)
        } else {
            Active::default()
        }
    }

    /// What is not known of the machine, of the program that runs and of the clock are independent
    /// of each other: the logarithms of their factors add in quadrature.
    fn banded(&self, idle: f64, active: &Active, spread: Spread) -> RawPower {
        let above = active.total();
        let (mut low, mut high) = (1.0, 1.0);
        if above > 0.0 {
            let part = |watts: f64| (watts / above).ln();
            let factor = |program: f64, clock: f64| {
                let machine = spread.active.ln();
                (machine * machine + program * program + clock * clock)
                    .sqrt()
                    .exp()
            };
            low = 1.0
                / factor(
                    part(active.wake + active.cores / self.workload),
                    part(active.least),
                );
            high = factor(
                part(active.wake + active.cores * self.workload),
                part(active.most),
            );
        }
        RawPower {
            total: idle + above,
            low: idle / spread.idle + above * low,
            high: idle * spread.idle + above * high,
            idle,
            idle_low: idle / spread.idle,
            idle_high: idle * spread.idle,
        }
    }

    /// [`PowerModel::vcpus_watts_raw`] with the source in words.
    pub fn vcpus_watts(&self, vcpus: f64, busy_vcpus: f64) -> ModelPower {
        let raw = self.vcpus_watts_raw(vcpus, busy_vcpus);
        ModelPower {
            total: self.estimate(raw.total, raw.low, raw.high),
            idle: self.estimate(raw.idle, raw.idle_low, raw.idle_high),
        }
    }

    /// The same machine with its `cpus` logical CPUs, the size of its memory (GiB) and, where they are shown, the
    /// number of its modules: what a container or a function is given is then a part of it, and what a guest has
    /// is a part of its host.
    #[must_use]
    pub fn with_memory(mut self, cpus: u32, gib: f64, modules: Option<u32>) -> Self {
        if self.shared {
            self.memory = Memory::of_a_host(Some(gib / f64::from(cpus.max(1))));
        } else if let Memory::BySize { .. } = self.memory {
            self.memory = Memory::of_size(gib, modules.filter(|n| *n > 0));
        }
        self
    }

    /// Power (W) of so many GiB of memory where the load is not known, of a machine of whose CPUs the
    /// same part is taken as of its memory. Negative or NaN counts as none.
    pub fn memory_watts(&self, gib: f64) -> Estimate {
        let raw = self.memory_watts_raw(gib, None);
        Estimate {
            value: raw.total,
            low: raw.low,
            high: raw.high,
            source: self.memory.source().to_owned(),
        }
    }

    /// Power (W) of so many GiB of memory at a `load` (0..1) of the CPUs, `None` where that is not
    /// known, as bare numbers. None of its own where the curve is that of an external meter.
    pub fn memory_watts_raw(&self, gib: f64, load: Option<f64>) -> RawPower {
        self.memory.watts(gib, None, load)
    }

    /// Power (W) of so many GiB of memory and of what `vcpus` hardware threads do with them at a `load` (0..1),
    /// `None` where that is not known: the modules' rest by the GiB, traffic by the threads. Where the GiB are not
    /// known (`None`) the usual ones of so many threads are taken, and the band is wider.
    pub fn memory_watts_of(
        &self,
        gib: impl Into<Option<f64>>,
        vcpus: f64,
        load: Option<f64>,
    ) -> RawPower {
        let vcpus = at_least_zero(vcpus).min(1e9);
        let host = self.memory.host_vcpus().unwrap_or(self.host_threads);
        let (memory, gib) = self.memory.sized(gib.into(), vcpus, host);
        memory
            .in_proportion(gib, vcpus, host)
            .watts(gib, Some(vcpus / host.max(vcpus)), load)
    }

    /// The same with the traffic that the machine counted, in the place of a load.
    pub fn memory_watts_with(&self, gib: Option<f64>, vcpus: f64, traffic: Traffic) -> RawPower {
        let vcpus = at_least_zero(vcpus).min(1e9);
        let host = self.memory.host_vcpus().unwrap_or(self.host_threads);
        let (memory, gib) = self.memory.sized(gib, vcpus, host);
        memory.watts_with(gib, traffic)
    }

    /// The TDP (W) of one socket that the model used, and where it comes from. `None` where the
    /// maker publishes none and measured watts stand in.
    #[doc(alias = "thermal design power")]
    pub fn tdp(&self) -> (Option<f64>, String) {
        (self.tdp_w, self.source.clone())
    }

    /// The method's name, e.g. `model:xeon-platinum-8259cl`,
    /// `model:class-server-x86_64`.
    pub fn describe(&self) -> String {
        self.method.clone()
    }

    /// How much more or less a CPU-second of one program may cost than one of another here: 2.4 on
    /// EPYC, where that holds 95 % of pairs of programs (Schöne et al., CLUSTER 2021), else
    /// [`WORKLOAD_SPREAD`].
    pub fn workload_spread(&self) -> f64 {
        match self.facts.family {
            Some(family) if family.workload > WORKLOAD => EPYC_PAIRS,
            _ => WORKLOAD_SPREAD,
        }
    }

    /// vCPUs that were bought with the memory; `None` where memory buys none.
    pub fn allotted_vcpus(&self) -> Option<f64> {
        self.allotted_vcpus
    }

    /// Everything that was assumed.
    pub fn assumptions(&self) -> Assumptions {
        let band = if self.shared {
            self.spread.and(Spread::SHARE_OF_HOST)
        } else {
            self.spread
        };
        let memory = |load: f64| {
            let gib = 64.0;
            self.memory_watts_raw(gib, Some(load)).total / gib
        };
        Assumptions {
            cpu: self.cpu.clone(),
            matched: self.spec.map(|spec| spec.pattern.clone()),
            class: self.class,
            certainty: self.spec.map(|spec| spec.certainty),
            tdp_w: self.tdp_w,
            sockets: self.sockets,
            threads_per_socket: self.threads_per_socket,
            host_threads: self.host_threads as u32,
            shared_host: self.shared,
            idle_w: self.curve.idle_w,
            full_w: self.curve.full_w(),
            idle_share: self.curve.idle_w / self.curve.full_w(),
            wake_w: self.curve.wake_w,
            core_w: self.curve.core_w,
            full_mhz: self.curve.full_mhz,
            band,
            allotted_vcpus: self.allotted_vcpus,
            memory_rest_w_per_gib: memory(0.0),
            memory_full_w_per_gib: memory(1.0),
            source: self.source.clone(),
        }
    }

    fn estimate(&self, value: f64, low: f64, high: f64) -> Estimate {
        Estimate {
            value,
            low,
            high,
            source: format!("{} ({})", self.method, self.source),
        }
    }
}

/// Energy (J) by the method `tdp`, by name: `tdp_watts` × load × time.
///
/// It charges a whole package's TDP, knows no idle power and no share of a host; it is here for
/// comparison, with its units put right (the prototype left the watts out).
///
/// ```
/// use lithowatt::model::tdp_energy;
/// assert_eq!(tdp_energy(50.0, 10.0, 100.0), 500.0);
/// ```
#[doc(alias = "calculate_tdp_energy")]
pub fn tdp_energy(cpu_percent: f64, seconds: f64, tdp_watts: f64) -> f64 {
    tdp_watts * cpu_percent / 100.0 * seconds
}

fn at_least_zero(value: f64) -> f64 {
    if value > 0.0 { value } else { 0.0 } // NaN too
}

/// Names that hypervisors make up.
fn virtual_name(name: &str) -> bool {
    let name = name.to_lowercase();
    ["qemu", "kvm", "virtual", "lambda"]
        .iter()
        .any(|word| name.contains(word))
}

fn server_name(name: &str) -> bool {
    let name = name.to_lowercase();
    // Client dies that are sold as servers have few CPUs on metal, too.
    let client = [
        "xeon(r) e3",
        "xeon e3",
        "xeon(r) e-",
        "xeon e-",
        "xeon(r) cpu e3",
        "xeon(r) w-1",
        "xeon w-1",
    ];
    if client.iter().any(|word| name.contains(word)) {
        return false;
    }
    ["xeon", "epyc", "graviton", "neoverse", "ampere", "altra"]
        .iter()
        .any(|word| name.contains(word))
}

#[cfg(test)]
mod tests;

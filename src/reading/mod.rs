//! What a window came to: value, unit, method, quality and band, per method and domain.

mod allotted;
mod availability;
mod counters;
mod divided;
mod domains;
mod doubts;
mod gpu;
mod headline;
mod idle;
mod memory;
mod probes;
mod system;

use std::collections::BTreeMap;

use serde::Serialize;

pub use crate::bands::{Bands, Energy};
pub use availability::Availability;
pub use gpu::GpuReading;
pub use memory::MemoryReading;
pub use probes::ProbeReading;
pub use system::{SandboxReading, SystemReading};

use crate::attribution::Division;
use crate::bands::{Share, rss};
use crate::definition::Definition;
use crate::machine::facts::{Facts, IdleSource};
use crate::sampler::{Outcome, Scope};
use crate::source::{Domain, Method};
use crate::validate::Verdict;
use counters::{method_reading, note_faults, verify, zone_readings};
use doubts::{no_counter, no_model, note_busy, note_missed};
use gpu::gpu_reading;
use headline::{measured, modelled};
use probes::probe_reading;
use system::{note_held_back, sandbox_reading, steal_seconds, system_reading};

/// RAPL counters change about once a millisecond (Intel SDM vol. 3B, 16.10.2), so each edge of a
/// window is off by up to this, s.
pub const UPDATE_SECONDS: f64 = 1e-3;

/// Why there is no headline though there is a counter.
const UNDIVIDED: &str =
    "the machine's energy was read but not divided: the CPU time of what is metered is unknown";

/// How sure a headline is by its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Quality {
    /// A counter, and the whole machine was ours.
    Measured,
    /// A counter × our share.
    Attributed,
    /// No counter.
    Modelled,
}

impl Quality {
    /// The name in readings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Attributed => "attributed",
            Self::Modelled => "modelled",
        }
    }
}

/// What one method saw of the machine, by domain, all packages summed.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct MethodReading {
    /// Where its energy is from, or why none was read.
    #[serde(flatten)]
    pub availability: Availability,
    /// Energy of the machine by domain.
    pub domains: BTreeMap<Domain, Energy>,
    /// Why a domain is missing.
    pub reasons: BTreeMap<Domain, String>,
    /// Packages + DRAM.
    pub total: Option<Energy>,
}

/// What one counter showed of the machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ZoneReading {
    /// Which method reads it.
    pub method: Method,
    /// What it measures.
    pub domain: Domain,
    /// Package (socket) number; `None` of a counter that was left out.
    pub package: Option<u32>,
    /// Its name as the kernel gives it.
    pub name: String,
    /// Energy in the window; `None` where it has none that can be believed.
    pub energy: Option<Energy>,
    /// Why there is no energy.
    pub reason: Option<String>,
}

/// The headline and what it is made of.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Headline {
    /// Best estimate of this call's joules.
    pub energy: Energy,
    /// How it was obtained.
    pub quality: Quality,
    /// How it was made, e.g. `rapl+cputime`.
    pub method: String,
    /// Which of its energies `energy` is.
    pub definition: Definition,
    /// The machine's energy, divided.
    pub division: Division,
    /// The machine's energy and idle's with their bands.
    pub bands: Bands,
    /// The call's joules by the definition that `energy` is not of.
    pub other: Energy,
    /// Where idle power comes from.
    pub idle_source: IdleSource,
    /// Share of the machine's busy time.
    pub share: Share,
}

/// One phase of the window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhaseReading {
    /// The phase's name.
    pub name: String,
    /// Time in it, s.
    pub duration: f64,
    /// CPU time of the function in it, s; `None` where that of the window is unknown.
    pub cpu_seconds: Option<f64>,
    /// Joules, by the headline's definition and method.
    pub joules: Option<f64>,
    /// Times it was entered.
    pub entries: u32,
}

/// A window, read.
#[derive(Debug, Clone, Serialize)]
pub struct Reading {
    /// The user's name for it.
    pub label: Option<String>,
    /// Length on the monotonic clock, s.
    pub duration: f64,
    /// Start and end on `CLOCK_MONOTONIC`, ns.
    pub window_ns: (u64, u64),
    /// The meter still runs.
    pub running: bool,
    /// What kind of thing was metered.
    pub scope: Scope,
    /// Samples taken in between.
    pub samples: u64,
    /// Sampler interval, s.
    pub interval: Option<f64>,
    /// CPU time of the function, s.
    pub cpu_seconds: Option<f64>,
    /// CPUs that this function may use.
    pub allotted_cpus: f64,
    /// CPUs of the machine that are online.
    #[serde(skip)]
    pub cpus: f64,
    /// The best estimate, or why there is none.
    pub headline: Option<Headline>,
    /// Why there is no headline.
    pub headline_reason: Option<String>,
    /// The machine's energy by each method that counts it.
    #[serde(flatten)]
    pub counters: BTreeMap<Method, MethodReading>,
    /// The same counter by counter, with those that were left out.
    pub zones: Vec<ZoneReading>,
    /// Memory's part of the energy that the headline divides.
    pub memory: MemoryReading,
    /// The machine's GPUs; no part of any other energy here.
    pub gpu: GpuReading,
    /// Kernel probes: **this call's** energy by domain, not the machine's.
    pub ebpf: MethodReading,
    /// What else they saw.
    pub probes: Option<ProbeReading>,
    /// The model: this call's energy, by the same division as a counter's.
    pub model: Option<Headline>,
    /// Where the model is from, or why it is not there.
    #[serde(serialize_with = "as_text")]
    pub model_source: Availability,
    /// On-CPU time by perf, s; cycles; instructions, of the tree.
    pub perf_task_clock: Option<f64>,
    /// CPU cycles of the tree.
    pub perf_cycles: Option<u64>,
    /// Instructions of the tree.
    pub perf_instructions: Option<u64>,
    /// Why cycles and instructions are missing.
    pub perf_hardware_reason: Option<String>,
    /// System metrics.
    pub system: Option<SystemReading>,
    /// Why there are no system metrics.
    pub system_reason: Option<String>,
    /// The cgroup that limits this process, where one does.
    pub sandbox: Option<SandboxReading>,
    /// CPU time that the hypervisor took from the machine, s, all CPUs.
    pub steal_seconds: Option<f64>,
    /// Phases.
    pub phases: Vec<PhaseReading>,
    /// Methods against each other.
    pub verdict: Verdict,
    /// Short texts that a careful user wants to read.
    pub warnings: Vec<String>,
    /// What its values hold and do not hold on every machine of this kind.
    pub notes: Vec<String>,
    /// The processor.
    pub cpu: crate::machine::cpu::CpuIdentity,
    /// The surroundings.
    pub environment: crate::machine::environment::Environment,
    /// What the model assumes.
    pub tdp_watts: Option<f64>,
    /// Where the TDP is from.
    pub tdp_source: String,
    /// The part of the machine that the model charges, in words.
    pub model_share: String,
}

impl Reading {
    /// Reads an outcome. `definition` is what the headline holds.
    pub fn new(
        outcome: &Outcome,
        facts: &Facts,
        definition: Definition,
        label: Option<&str>,
    ) -> Self {
        let ledger = &outcome.ledger;
        let duration = ledger.dt_ns * 1e-9;
        let mut warnings = facts.environment.problems.clone();
        let shown = outcome.shown(duration);
        let counters: BTreeMap<Method, MethodReading> = Method::energy_counters()
            .map(|(method, _)| (method, method_reading(outcome, method, &shown)))
            .collect();
        let missing = |method: Method| outcome.missing(method);
        let cpu_seconds = outcome.own_known.then_some(ledger.own_ns * 1e-9);
        let model = missing(Method::Tdp)
            .is_none()
            .then(|| modelled(outcome, facts, definition))
            .flatten();
        let mut headline_reason = None;
        // The methods are in the order in which they are preferred; a stand-in counted while the first choice
        // stood still.
        let counter = counters
            .iter()
            .filter(|(_, reading)| reading.total.is_some())
            .min_by_key(|(method, _)| outcome.dead_ns_of(**method))
            .map(|(method, reading)| (*method, reading));
        let measured =
            counter.and_then(|read| measured(outcome, facts, definition, read, &mut warnings));
        if counter.is_some() && measured.is_none() {
            warnings.push(UNDIVIDED.into());
        }
        note_busy(outcome, &mut warnings);
        note_missed(outcome, &mut warnings);
        let probed = measured.as_ref().zip(counter);
        let (ebpf, probes) = probe_reading(
            outcome,
            facts,
            probed.map(|((headline, divided), (_, read))| (divided, headline.energy, read)),
        );
        let notes = match (&measured, counter) {
            (Some(_), Some((Method::Guest, _))) => counters::rule_of(outcome, Method::Guest),
            (Some(_), Some((method, read))) => memory::note(outcome, facts, method, read),
            _ if model.is_some() => memory::note_modelled(outcome, facts),
            _ => None,
        };
        let notes = notes.into_iter().chain(memory::traffic(
            outcome,
            facts,
            measured.is_some(),
            duration,
        ));
        let is_modelled = measured.is_none() && model.is_some();
        let of_model = is_modelled.then(|| {
            let part = headline::part(outcome, facts);
            let clock = headline::clock(outcome, facts, duration);
            part.into_iter().chain(clock)
        });
        let notes = notes.chain(of_model.into_iter().flatten());
        if let (Some(watts), None) = (facts.environment.idle_watts, counter) {
            warnings.push(format!(
                "the idle power that was set ({watts} W) is not used: no counter is read here"
            ));
        }
        let memory = match (measured.as_ref().zip(counter), &model) {
            (Some((_, (method, read))), _) => MemoryReading::counted(outcome, method, read),
            (None, Some((_, divided))) => MemoryReading::modelled(outcome, facts, divided),
            (None, None) => MemoryReading::absent("there is no energy"),
        };
        let (headline, divided) = measured.or_else(|| model.clone()).unzip();
        let model = model.map(|(headline, _)| headline);
        if headline.is_none() && counter.is_some() {
            headline_reason = Some(UNDIVIDED.into());
        } else if headline.is_none() {
            headline_reason = Some(format!(
                "no counter ({}) and {}",
                no_counter(outcome, &counters),
                no_model(outcome)
            ));
        }
        if let Some(why) = ebpf.availability.reason()
            && outcome.methods.has_by_name(Method::Ebpf)
            && outcome.seen.is_err()
        {
            warnings.push(format!("ebpf was asked for and is not there: {why}"));
        }
        let verdict = verify(&counters, &mut warnings);
        let system_reason = missing(Method::Psutil);
        let system = outcome
            .system
            .as_ref()
            .map(|s| system_reading(outcome, s, duration));
        note_faults(outcome, &shown, duration, &mut warnings);
        let mut zones = zone_readings(outcome, shown);
        let gpu = gpu_reading(outcome, &mut zones, &mut warnings);
        let sandbox = sandbox_reading(outcome, facts);
        let steal_seconds = steal_seconds(outcome);
        note_held_back(facts, sandbox, steal_seconds, duration, &mut warnings);
        let phases = outcome
            .phases
            .iter()
            .map(|phase| PhaseReading {
                name: phase.name.clone(),
                duration: phase.ledger.dt_ns * 1e-9,
                cpu_seconds: outcome.own_known.then_some(phase.ledger.own_ns * 1e-9),
                joules: divided.as_ref().and_then(|d| d.joules_in(phase)),
                entries: phase.entries,
            })
            .collect();
        let count = outcome.tree_count;
        let (tdp_watts, tdp_source) = facts.model.tdp();
        Self {
            label: label.map(str::to_owned),
            duration,
            window_ns: outcome.window_ns,
            running: outcome.running,
            scope: outcome.scope,
            samples: outcome.samples,
            interval: outcome.interval_ns.map(|ns| ns as f64 * 1e-9),
            cpu_seconds,
            allotted_cpus: facts.environment.allotted.cpus,
            cpus: f64::from(facts.cpus.max(1)),
            headline,
            headline_reason,
            counters,
            zones,
            memory,
            gpu,
            ebpf,
            probes,
            model_source: match (&model, missing(Method::Tdp)) {
                (Some(_), _) => Availability::From(outcome.estimation.method(&facts.model)),
                (None, why) => {
                    Availability::Unavailable(why.unwrap_or_else(|| "CPU time is unknown".into()))
                }
            },
            model,
            perf_task_clock: count.and_then(|c| Some(c.task_clock_ns? as f64 * 1e-9)),
            perf_cycles: count.and_then(|c| c.cycles),
            perf_instructions: count.and_then(|c| c.instructions),
            perf_hardware_reason: outcome.hardware_missing().map(str::to_owned),
            system,
            system_reason,
            sandbox,
            steal_seconds,
            phases,
            verdict,
            warnings,
            notes: notes.collect(),
            cpu: facts.cpu.clone(),
            environment: facts.environment.clone(),
            tdp_watts,
            tdp_source,
            model_share: facts.environment.allotted.describe(),
        }
    }

    /// A reading without any value, and why.
    pub fn absent(reason: &str, facts: &Facts, label: Option<&str>) -> Self {
        let none = MethodReading {
            availability: Availability::Unavailable(reason.into()),
            ..MethodReading::default()
        };
        Self {
            label: label.map(str::to_owned),
            duration: 0.0,
            window_ns: (0, 0),
            running: false,
            scope: Scope::Process,
            samples: 0,
            interval: None,
            cpu_seconds: None,
            allotted_cpus: facts.environment.allotted.cpus,
            cpus: f64::from(facts.cpus.max(1)),
            headline: None,
            headline_reason: Some(reason.into()),
            counters: Method::energy_counters()
                .map(|(method, _)| (method, none.clone()))
                .collect(),
            zones: Vec::new(),
            memory: MemoryReading::absent(reason),
            gpu: GpuReading::absent(reason),
            ebpf: none.clone(),
            probes: None,
            model: None,
            model_source: none.availability,
            perf_task_clock: None,
            perf_cycles: None,
            perf_instructions: None,
            perf_hardware_reason: Some(reason.into()),
            system: None,
            system_reason: Some(reason.into()),
            sandbox: None,
            steal_seconds: None,
            phases: Vec::new(),
            verdict: Verdict::default(),
            warnings: vec![reason.into()],
            notes: Vec::new(),
            cpu: facts.cpu.clone(),
            environment: facts.environment.clone(),
            tdp_watts: None,
            tdp_source: String::new(),
            model_share: String::new(),
        }
    }

    /// The machine's energy as one method counted it; empty where it counts none.
    pub fn counter(&self, method: Method) -> &MethodReading {
        static NONE: MethodReading = MethodReading {
            availability: Availability::Unavailable(String::new()),
            domains: BTreeMap::new(),
            reasons: BTreeMap::new(),
            total: None,
        };
        self.counters.get(&method).unwrap_or(&NONE)
    }

    /// Mean power of the headline, W; `None` where there is no headline or no time passed.
    pub fn watts(&self) -> Option<f64> {
        let headline = self.headline.as_ref()?;
        (self.duration > 0.0).then(|| headline.energy.joules / self.duration)
    }
}

/// A value as it is printed.
fn as_text<T: std::fmt::Display, S: serde::Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

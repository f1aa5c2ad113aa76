//! What a window came to: value, unit, method, quality and band, per method and domain.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::attribution::{Division, Ledger, Share, Weight, divide};
use crate::machine::estimation::Estimation;
use crate::machine::facts::{Facts, IdleSource};
use crate::machine::share::Limit;
use crate::sampler::{Outcome, SeenWindow};
use crate::source::{Domain, Method};
use crate::validate::{Pair, TOLERANCE, Verdict, compare};

/// RAPL counters change about once a millisecond (Intel SDM vol. 3B, 16.10.2), so each edge of a
/// window is off by up to this, s.
pub const UPDATE_SECONDS: f64 = 1e-3;

/// Half-width of the band from the two edges, in updates. The difference of two uniform delays is
/// triangular: 0.78 covers 95 %, this 98 %, as updates are not exactly one millisecond apart.
const EDGE_UPDATES: f64 = 0.86;

/// Wall clock and monotonic clock apart by more than this part of the window is said.
const DRIFT: f64 = 0.01;

/// A window from which idle power matters enough to be talked about, ns.
const LONG_NS: f64 = 100e6;

/// Being kept from running for more than this part of the window is said.
const HELD_BACK: f64 = 0.10;

/// /proc/stat counts in this, s.
const TICK_SECONDS: f64 = 0.01;

/// MiB in bytes.
const MIB: f64 = 1_048_576.0;

/// An energy with its 95 % band, J.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Energy {
    /// Best estimate, J.
    pub joules: f64,
    /// Lower end of the 95 % band, J.
    pub low: f64,
    /// Upper end of the 95 % band, J.
    pub high: f64,
}

impl Energy {
    fn half(self) -> f64 {
        (self.high - self.low) / 2.0
    }

    fn plus(self, other: Self) -> Self {
        Self {
            joules: self.joules + other.joules,
            low: self.low + other.low,
            high: self.high + other.high,
        }
    }
}

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
    /// The word for it.
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
    /// Any energy was read.
    pub available: bool,
    /// Where it comes from, or `unavailable: <reason>`.
    pub source: String,
    /// Energy of the machine by domain.
    pub domains: BTreeMap<Domain, Energy>,
    /// Why a domain is missing.
    pub reasons: BTreeMap<Domain, String>,
    /// Packages + DRAM.
    pub total: Option<Energy>,
}

/// The headline and what it is made of.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Headline {
    /// Best estimate of this call's joules.
    pub energy: Energy,
    /// Its kind.
    pub quality: Quality,
    /// How it was made, e.g. `rapl+cputime`.
    pub method: String,
    /// "amortised" or "marginal": which of the two `energy` is.
    pub definition: &'static str,
    /// The machine's energy, divided.
    pub division: Division,
    /// Where idle power comes from.
    pub idle_source: String,
    /// Share of the machine's busy time.
    pub share: Share,
}

/// The cgroup that limits this process, over the window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SandboxReading {
    /// CPUs that it may use.
    pub cpus: f64,
    /// CPU time of everything in it, s.
    pub cpu_seconds: Option<f64>,
    /// Periods of its quota in which something ran.
    pub periods: u64,
    /// Periods in which the quota was used up.
    pub throttled_periods: u64,
    /// Time that run queues waited for the next period, s, summed over CPUs.
    pub throttled_seconds: f64,
}

/// psutil's metrics over the window.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct SystemReading {
    /// Machine, percent of all CPUs.
    pub cpu_percent: Option<f64>,
    /// Machine memory in use at the end, percent.
    pub memory_percent: Option<f64>,
    /// Machine memory in use at the end, MiB.
    pub memory_used_mb: Option<f64>,
    /// Load average over a minute at the end.
    pub load_1m: Option<f64>,
    /// Read from disks in the window, MiB.
    pub disk_io_read_mb: Option<f64>,
    /// Written to disks in the window, MiB.
    pub disk_io_write_mb: Option<f64>,
    /// Sent in the window, MiB.
    pub network_sent_mb: Option<f64>,
    /// Received in the window, MiB.
    pub network_recv_mb: Option<f64>,
    /// The function's tree, percent of one CPU.
    pub process_cpu_percent: Option<f64>,
    /// Resident memory of the tree at the end, MiB.
    pub process_memory_mb: Option<f64>,
    /// Its peak in the window, MiB.
    pub process_memory_peak_mb: Option<f64>,
    /// Mean CPU frequency at the end, MHz.
    pub cpu_freq_current: Option<f64>,
    /// CPU temperature at the end, degrees Celsius.
    pub cpu_temp_celsius: Option<f64>,
}

/// What kernel probes saw in the window.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ProbeReading {
    /// On-CPU time of the function, s.
    pub cpu_seconds: Option<f64>,
    /// Cycles of the function.
    pub cycles: Option<u64>,
    /// Instructions of the function.
    pub instructions: Option<u64>,
    /// Cycles × the model's joules per cycle, J.
    pub energy_from_cycles: Option<f64>,
    /// Frequency changes of the machine's CPUs.
    pub frequency_changes: Option<u64>,
    /// Times a CPU of the machine went into an idle state.
    pub idle_transitions: Option<u64>,
    /// Time in idle states, all CPUs of the machine, s.
    pub idle_seconds: Option<f64>,
    /// Thermal interrupts or trips of the machine.
    pub thermal_events: Option<u64>,
    /// What the machine's energy was shared by.
    pub weight: Option<Weight>,
    /// Slices of the machine that began unseen.
    pub lost_slices: u64,
    /// Why a value is missing.
    pub reasons: BTreeMap<&'static str, String>,
}

/// One phase of the window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhaseReading {
    /// Its name.
    pub name: String,
    /// Its length, s.
    pub duration: f64,
    /// CPU time of the function in it, s.
    pub cpu_seconds: f64,
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
    /// "process", "thread", "task" or "cgroup".
    pub scope: &'static str,
    /// Samples taken in between.
    pub samples: u64,
    /// Sampler interval, s.
    pub interval: Option<f64>,
    /// CPU time of the function, s.
    pub cpu_seconds: Option<f64>,
    /// CPUs that this function may use.
    pub allotted_cpus: f64,
    /// The best estimate, or why there is none.
    pub headline: Option<Headline>,
    /// Why there is no headline.
    pub headline_reason: Option<String>,
    /// powercap.
    pub rapl: MethodReading,
    /// The power PMU.
    pub perf: MethodReading,
    /// Kernel probes: **this call's** energy by domain, not the machine's.
    pub ebpf: MethodReading,
    /// What else they saw.
    pub probes: Option<ProbeReading>,
    /// The model: this call's energy, by the same division as a counter's.
    pub model: Option<Headline>,
    /// Where the model is from, or why it is not there.
    pub model_source: String,
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
    /// Reads an outcome.
    pub fn new(outcome: &Outcome, facts: &Facts, label: Option<&str>) -> Self {
        let ledger = &outcome.ledger;
        let duration = ledger.dt_ns * 1e-9;
        let mut warnings = facts.environment.problems.clone();
        let rapl = method_reading(outcome, Method::Rapl, duration);
        let perf = method_reading(outcome, Method::Perf, duration);
        let missing = |method: Method| outcome.missing(method);
        let cpu_seconds = outcome.own_known.then_some(ledger.own_ns * 1e-9);
        let model = missing(Method::Tdp)
            .is_none()
            .then(|| modelled(outcome, facts))
            .flatten();
        let mut headline_reason = None;
        let counter = [(Method::Rapl, &rapl), (Method::Perf, &perf)]
            .into_iter()
            .find(|(_, reading)| reading.total.is_some());
        let measured = counter
            .and_then(|(method, reading)| measured(outcome, facts, method, reading, &mut warnings));
        if counter.is_some() && measured.is_none() {
            warnings.push(
                "the machine's energy was read but not divided: its CPU time is unknown".into(),
            );
        }
        let headline = measured.or_else(|| model.clone());
        if headline.is_none() {
            headline_reason = Some(format!(
                "no counter ({}) and the model was not asked for",
                missing(Method::Rapl)
                    .or_else(|| rapl.reasons.get(&Domain::Package).cloned())
                    .unwrap_or_else(|| "no reading".into())
            ));
        }
        let (ebpf, probes) = probe_reading(outcome, facts, counter, headline.as_ref());
        if outcome.methods.loads_probes() && !ebpf.available && outcome.seen.is_err() {
            let why = ebpf.source.trim_start_matches("unavailable: ");
            warnings.push(format!("ebpf was asked for and is not there: {why}"));
        }
        let verdict = verify(&rapl, &perf, &mut warnings);
        let system_reason = missing(Method::Psutil);
        let system = outcome
            .system
            .as_ref()
            .map(|s| system_reading(outcome, s, duration));
        note_faults(outcome, duration, &mut warnings);
        let sandbox = sandbox_reading(outcome, facts);
        let steal_seconds = steal_seconds(outcome);
        note_held_back(facts, sandbox, steal_seconds, duration, &mut warnings);
        let phases = outcome
            .phases
            .iter()
            .map(|phase| PhaseReading {
                name: phase.name.clone(),
                duration: phase.ledger.dt_ns * 1e-9,
                cpu_seconds: phase.ledger.own_ns * 1e-9,
                joules: headline.as_ref().and_then(|h| {
                    let ledger = match (h.quality, &phase.sandbox) {
                        (Quality::Modelled, Some(sandbox)) => sandbox,
                        _ => &phase.ledger,
                    };
                    phase_joules(outcome, facts, h, ledger)
                }),
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
            allotted_cpus: facts.environment.share.cpus,
            headline,
            headline_reason,
            rapl,
            perf,
            ebpf,
            probes,
            model_source: match (&model, missing(Method::Tdp)) {
                (Some(_), _) => outcome.estimation.method(&facts.model),
                (None, why) => unavailable(why.or_else(|| Some("CPU time is unknown".into()))),
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
            cpu: facts.cpu.clone(),
            environment: facts.environment.clone(),
            tdp_watts,
            tdp_source,
            model_share: facts.environment.share.describe(),
        }
    }

    /// A reading without any value, and why.
    pub fn absent(reason: &str, facts: &Facts, label: Option<&str>) -> Self {
        let none = MethodReading {
            source: unavailable(Some(reason.into())),
            ..MethodReading::default()
        };
        Self {
            label: label.map(str::to_owned),
            duration: 0.0,
            window_ns: (0, 0),
            running: false,
            scope: "process",
            samples: 0,
            interval: None,
            cpu_seconds: None,
            allotted_cpus: facts.environment.share.cpus,
            headline: None,
            headline_reason: Some(reason.into()),
            rapl: none.clone(),
            perf: none.clone(),
            ebpf: none.clone(),
            probes: None,
            model: None,
            model_source: none.source,
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
            cpu: facts.cpu.clone(),
            environment: facts.environment.clone(),
            tdp_watts: None,
            tdp_source: String::new(),
            model_share: String::new(),
        }
    }

    /// Mean power of the headline, W; `None` where there is no headline or no time passed.
    pub fn watts(&self) -> Option<f64> {
        let headline = self.headline.as_ref()?;
        (self.duration > 0.0).then(|| headline.energy.joules / self.duration)
    }
}

fn unavailable(reason: Option<String>) -> String {
    format!(
        "unavailable: {}",
        reason.unwrap_or_else(|| "no reading".into())
    )
}

impl Outcome {
    /// Names of the timeline's columns: `cpu_seconds`, one per zone, then the model's two.
    pub fn column_names(&self) -> Vec<String> {
        let zones = self
            .zones()
            .iter()
            .map(|z| format!("{}:{}", z.method.name(), z.name));
        std::iter::once("cpu_seconds".to_owned())
            .chain(zones)
            .chain(["model:package".to_owned(), "model:dram".to_owned()])
            .collect()
    }

    fn slots_of(&self, method: Method, domain: Domain) -> Vec<usize> {
        (0..self.width)
            .filter(|i| self.zones()[*i].method == method && self.zones()[*i].domain == domain)
            .collect()
    }

    /// The band that the two edges of the window leave: the counter shows the energy of a window
    /// that began and ended up to one update earlier, so its length is off by `a` either way.
    fn edge_band(&self, joules: f64, seconds: f64) -> Energy {
        let update = EDGE_UPDATES * UPDATE_SECONDS;
        let a = (rss(&[update, self.slack_ns as f64 * 1e-9]) / seconds).min(0.9);
        Energy {
            joules,
            low: joules / (1.0 + a),
            high: joules / (1.0 - a),
        }
    }

    /// " via agent" where the agent reads the counters of `method`.
    fn via(&self, method: Method) -> &'static str {
        match &self.catalog.via {
            Some(via) if via.method == method => " via agent",
            _ => "",
        }
    }

    /// A live counter changes within a millisecond, and is looked at once in an interval.
    fn standstill_ns(&self) -> u64 {
        let interval = self.interval_ns.unwrap_or(0);
        // An agent that is kept waiting is not dead yet.
        let agent = self.catalog.via.as_ref().map_or(0, |via| via.stale_ns);
        (interval * 5 / 2).max(50_000_000).max(agent)
    }

    /// One domain of one method, all packages; or why not.
    fn domain(&self, method: Method, domain: Domain, seconds: f64) -> Result<Energy, String> {
        let slots = self.slots_of(method, domain);
        if slots.is_empty() {
            let prefix = format!("{}: {domain}: ", method.name());
            let left_out = self
                .catalog
                .notes
                .iter()
                .find_map(|n| n.strip_prefix(&prefix));
            return Err(match left_out {
                Some(why) => why.to_owned(),
                None => format!("this machine has no {domain} counter"),
            });
        }
        let hole = self.catalog.holes.iter().find(|(d, _)| *d == domain);
        if let Some((_, why)) = hole.filter(|_| method == Method::Rapl) {
            return Err(why.clone());
        }
        let mut sum = Energy {
            joules: 0.0,
            low: 0.0,
            high: 0.0,
        };
        for i in slots {
            let zone = &self.zones()[i];
            if let Some(fault) = self.faults[i] {
                return Err(format!("{}: {fault} within the window", zone.name));
            }
            let joules = self.ledger.joules[i];
            if joules <= 0.0 {
                return Err(if seconds < 2.0 * UPDATE_SECONDS {
                    format!(
                        "the window of {:.3} ms is shorter than the counter's update of about 1 ms",
                        seconds * 1e3
                    )
                } else {
                    format!("{}: the counter did not move", zone.name)
                });
            }
            // Graphics may truly rest; nothing else draws no power at all.
            if domain != Domain::Uncore && self.stood_ns[i] > self.standstill_ns() {
                return Err(format!(
                    "{}: the counter stood still for the last {:.2} s",
                    zone.name,
                    self.stood_ns[i] as f64 * 1e-9
                ));
            }
            let watts = joules / seconds;
            let mut energy = self.edge_band(joules, seconds);
            energy.low = (energy.low - zone.unit_joules).max(0.0);
            energy.high += zone.unit_joules;
            if self.resets[i] > 0 {
                let Some(interval) = self.interval_ns else {
                    return Err(format!(
                        "{}: the counter was reset within the window",
                        zone.name
                    ));
                };
                // Up to one interval of energy is lost at each reset.
                let lost = f64::from(self.resets[i]) * watts * interval as f64 * 1e-9;
                energy.high += lost;
            }
            sum = sum.plus(energy);
        }
        Ok(sum)
    }
}

fn method_reading(outcome: &Outcome, method: Method, seconds: f64) -> MethodReading {
    if let Some(why) = outcome.missing(method) {
        return MethodReading {
            source: unavailable(Some(why)),
            ..MethodReading::default()
        };
    }
    let mut reading = MethodReading::default();
    for domain in Domain::ALL {
        match outcome.domain(method, domain, seconds) {
            Ok(energy) => {
                reading.domains.insert(domain, energy);
            }
            Err(why) => {
                reading.reasons.insert(domain, why);
            }
        }
    }
    let dram = reading.domains.get(&Domain::Dram);
    reading.total = reading
        .domains
        .get(&Domain::Package)
        .map(|package| dram.map_or(*package, |dram| package.plus(*dram)));
    reading.available = !reading.domains.is_empty();
    reading.source = if reading.available {
        let names: Vec<_> = outcome
            .zones()
            .iter()
            .filter(|z| z.method == method)
            .map(|z| z.name.as_str())
            .collect();
        format!("measured: {}{}", names.join(", "), outcome.via(method))
    } else {
        unavailable(reading.reasons.get(&Domain::Package).cloned())
    };
    reading
}

/// Idle power of some slots together: best, low, high, W.
struct Idle {
    watts: f64,
    low: f64,
    high: f64,
    source: String,
}

fn idle_of(outcome: &Outcome, facts: &Facts, slots: &[usize]) -> Idle {
    let mut idle = Idle {
        watts: 0.0,
        low: 0.0,
        high: 0.0,
        source: "unknown".into(),
    };
    let mut source = None;
    let mut ceilings = 0.0;
    for i in slots {
        let zone = &outcome.zones()[*i];
        // Idle power is not above the least power that was seen.
        let ceiling = outcome.ledger.least_watts[*i];
        ceilings += ceiling;
        let Some(power) = facts.idle_of(zone, outcome.zones(), &outcome.rests[*i]) else {
            continue;
        };
        idle.watts += power.watts.min(ceiling);
        idle.low += power.low.min(ceiling);
        idle.high += match power.source {
            // A guess: the machine may rest at nearly all of the least power that was seen.
            IdleSource::Modelled if ceiling.is_finite() => {
                power.high.max(MOST_IDLE * ceiling).min(ceiling)
            }
            _ => power.high.min(ceiling),
        };
        source = Some(power.source);
    }
    // What the user set is for all of them together, however the model would split it.
    if let (Some(IdleSource::Configured), Some(watts)) = (source, facts.environment.idle_watts) {
        idle.watts = watts.min(ceilings);
        idle.low = (0.95 * watts).min(ceilings);
        idle.high = (1.05 * watts).min(ceilings);
    }
    if let Some(source) = source {
        idle.source = source.name().into();
    }
    idle
}

/// Machines at rest take up to this part of what they take at the lowest load of a busy window.
const MOST_IDLE: f64 = 0.75;

/// The energy of the call as a function of machine energy, idle energy and share.
fn energy_of(machine: f64, idle: f64, share: f64, idle_share: Option<f64>) -> f64 {
    let active = (machine - idle).max(0.0);
    share * active + idle_share.map_or(0.0, |part| part * idle.min(machine))
}

/// Combines deviations that have nothing to do with each other.
fn rss(parts: &[f64]) -> f64 {
    parts.iter().map(|p| p * p).sum::<f64>().sqrt()
}

fn measured(
    outcome: &Outcome,
    facts: &Facts,
    method: Method,
    reading: &MethodReading,
    warnings: &mut Vec<String>,
) -> Option<Headline> {
    let total = reading.total?;
    if !outcome.own_known {
        return None;
    }
    let slots: Vec<usize> = [Domain::Package, Domain::Dram]
        .into_iter()
        .filter(|d| reading.domains.contains_key(d))
        .flat_map(|d| outcome.slots_of(method, d))
        .collect();
    let idle = idle_of(outcome, facts, &slots);
    let ledger = &outcome.ledger;
    if idle.source == IdleSource::Modelled.name() && ledger.dt_ns >= LONG_NS {
        warnings.push(
            "idle power is the model's guess and marginal energy depends on it: `lithowatt \
             calibrate` measures it once"
                .into(),
        );
    }
    let allotted = allotted(outcome, facts);
    let division = divide(ledger, &slots, idle.watts, allotted);
    let share = ledger.share();
    let alone = ledger.alone() && outcome.scope != "task";
    let (value, idle_share, definition) = if alone {
        (division.amortised, Some(allotted), "amortised")
    } else {
        (division.marginal, None, "marginal")
    };
    if !ledger.busy_known {
        warnings.push(
            "how busy the machine was is unknown, so others' work may be counted as ours".into(),
        );
    }
    let seconds = ledger.dt_ns * 1e-9;
    // The share by energy, which weighs intervals by their power, stands for the plain one.
    let active = (division.machine - division.idle).max(0.0);
    let s = if active > 0.0 {
        division.marginal / active
    } else {
        share.value
    };
    let scale = |end: f64| {
        if share.value > 0.0 {
            (s * end / share.value).min(1.0)
        } else {
            end
        }
    };
    let base = energy_of(total.joules, division.idle, s, idle_share);
    let at = |machine: f64, idle_w: f64, part: f64| {
        energy_of(machine, (idle_w * seconds).min(machine), part, idle_share) - base
    };
    let down = rss(&[
        at(total.low, idle.watts, s).min(0.0),
        at(total.joules, idle.high, s).min(0.0) + at(total.joules, idle.low, s).min(0.0),
        at(total.joules, idle.watts, scale(share.low)).min(0.0),
    ]);
    let up = rss(&[
        at(total.high, idle.watts, s).max(0.0),
        at(total.joules, idle.low, s).max(0.0) + at(total.joules, idle.high, s).max(0.0),
        at(total.joules, idle.watts, scale(share.high)).max(0.0),
    ]);
    let weight = match outcome.scope {
        _ if followed(outcome).is_some() => "ebpf",
        "cgroup" => "cgroup",
        _ => "cputime",
    };
    Some(Headline {
        energy: Energy {
            joules: value,
            low: (value - down).max(0.0),
            high: value + up,
        },
        quality: if alone && allotted >= 0.999 {
            Quality::Measured
        } else {
            Quality::Attributed
        },
        method: format!("{}+{weight}{}", method.name(), outcome.via(method)),
        definition,
        division,
        idle_source: idle.source,
        share,
    })
}

/// What kernel probes saw, if they saw all of the window and of what is metered.
fn followed(outcome: &Outcome) -> Option<&SeenWindow> {
    let seen = outcome.seen.as_ref().ok()?;
    (outcome.ledger.seen && seen.own.is_some()).then_some(seen)
}

/// The call's energy by domain as kernel probes share the machine's, and what else they saw.
fn probe_reading(
    outcome: &Outcome,
    facts: &Facts,
    counter: Option<(Method, &MethodReading)>,
    headline: Option<&Headline>,
) -> (MethodReading, Option<ProbeReading>) {
    let not = |why: String| MethodReading {
        source: unavailable(Some(why)),
        ..MethodReading::default()
    };
    if let Some(why) = outcome.missing(Method::Ebpf) {
        return (not(why), None);
    }
    let seen = match &outcome.seen {
        Err(why) => return (not(why.clone()), None),
        Ok(_) if !outcome.ledger.seen => {
            return (not("they saw only a part of the window".into()), None);
        }
        Ok(seen) => seen,
    };
    let probes = seen_reading(outcome, facts, seen);
    let Some(weight) = outcome.ledger.weight.filter(|_| seen.own.is_some()) else {
        let why = format!(
            "of a {} the CPU clock tells the time; kernel probes see the machine's",
            outcome.scope
        );
        return (not(why), None);
    };
    let mut reading = MethodReading {
        available: true,
        source: format!("attributed: {} seen by kernel probes", weight.name()),
        ..MethodReading::default()
    };
    let energy = headline.filter(|h| h.quality != Quality::Modelled);
    match (counter, energy) {
        (Some((method, machine)), Some(headline)) => {
            let scale = |end: f64| {
                let joules = headline.energy.joules;
                if joules > 0.0 { end / joules } else { 1.0 }
            };
            for domain in [Domain::Package, Domain::Core, Domain::Dram] {
                if !machine.domains.contains_key(&domain) {
                    continue;
                }
                let slots = outcome.slots_of(method, domain);
                let idle = idle_of(outcome, facts, &slots);
                let share = allotted(outcome, facts);
                let division = divide(&outcome.ledger, &slots, idle.watts, share);
                let joules = match headline.definition {
                    "amortised" => division.amortised,
                    _ => division.marginal,
                };
                let energy = Energy {
                    joules,
                    low: joules * scale(headline.energy.low),
                    high: joules * scale(headline.energy.high),
                };
                reading.domains.insert(domain, energy);
            }
            reading.total = Some(headline.energy);
        }
        _ => {
            let why = "no energy counter whose joules could be shared".to_owned();
            reading.reasons.insert(Domain::Package, why);
        }
    }
    (reading, Some(probes))
}

fn seen_reading(outcome: &Outcome, facts: &Facts, seen: &SeenWindow) -> ProbeReading {
    let mut reading = ProbeReading {
        weight: outcome.ledger.weight,
        lost_slices: seen.machine.lost,
        cycles: seen.own.and_then(|own| own.cycles),
        instructions: seen.own.and_then(|own| own.instructions),
        // Without the sampler's, as everywhere.
        cpu_seconds: seen.own.map(|_| outcome.ledger.own_ns * 1e-9),
        ..ProbeReading::default()
    };
    let mut reasons = BTreeMap::new();
    if reading.cycles.is_none() {
        let why = if seen.own.is_some() {
            "no PMU counts cycles on this machine"
        } else {
            "followed for processes and cgroups only"
        };
        reasons.insert("cycles", why.to_owned());
    }
    reading.energy_from_cycles = reading
        .cycles
        .and_then(|cycles| Some(cycles as f64 * facts.model_joules_per_cycle()?));
    if reading.energy_from_cycles.is_none() && reading.cycles.is_some() {
        let why = "the processor's clock is unknown";
        reasons.insert("energy_from_cycles", why.to_owned());
    }
    if !seen.sees_frequency {
        reasons.insert("frequency_changes", "no such tracepoint".into());
    } else if seen.frequency_changes_ever == 0 {
        let why = "none was ever reported: the processor or its host changes clocks by itself";
        reasons.insert("frequency_changes", why.into());
    } else {
        reading.frequency_changes = Some(seen.machine.frequency_changes);
    }
    if seen.sees_idle {
        reading.idle_transitions = Some(seen.machine.idle_transitions);
        reading.idle_seconds = Some(seen.machine.idle_ns as f64 * 1e-9);
    } else {
        reasons.insert("idle", "no such tracepoint".into());
    }
    if let Some(throttled) = seen.throttled {
        reading.thermal_events = Some(throttled);
    } else if !seen.sees_thermal {
        reasons.insert("thermal_events", "no such tracepoint".into());
    } else if facts.cpu.hypervisor {
        let why = "a virtual machine gets no thermal interrupts";
        reasons.insert("thermal_events", why.into());
    } else {
        reading.thermal_events = Some(seen.machine.thermal_events);
    }
    reading.reasons = reasons;
    reading
}

/// The part of the machine's CPUs that the metered thing may use, 0..1.
fn allotted(outcome: &Outcome, facts: &Facts) -> f64 {
    let share = facts.allotted_share();
    match outcome.scope {
        // A thread or a coroutine runs on one CPU at a time.
        "thread" | "task" => share.min(1.0 / f64::from(facts.cpus.max(1))),
        _ => share,
    }
}

/// The part of what the model charges that the metered thing may use, 0..1.
fn allotted_of_model(outcome: &Outcome, facts: &Facts) -> f64 {
    let what = facts.modelling(outcome.estimation, outcome.ours);
    let cpus = facts.environment.share.cpus;
    let may = match outcome.scope {
        // A thread or a coroutine runs on one CPU at a time.
        "thread" | "task" => cpus.min(1.0),
        _ => cpus,
    };
    (may / what.vcpus).clamp(0.0, 1.0)
}

fn modelled(outcome: &Outcome, facts: &Facts) -> Option<Headline> {
    if !outcome.own_known {
        return None;
    }
    let ledger = outcome.sandbox.as_ref().unwrap_or(&outcome.ledger);
    let width = outcome.width;
    let slots = [width, width + 1];
    let what = facts.modelling(outcome.estimation, outcome.ours);
    let idle_watts = facts.model_power(what, 0.0).idle;
    let allotted = allotted_of_model(outcome, facts);
    let division = divide(ledger, &slots, idle_watts, allotted);
    let share = ledger.share();
    let alone = ledger.alone() && outcome.scope != "task";
    let value = if alone {
        division.amortised
    } else {
        division.marginal
    };
    let [best, low, high] = outcome.model_joules;
    // By the TDP a machine at rest takes nothing.
    if best < 0.0 || best == 0.0 && outcome.estimation != Estimation::TdpBased {
        return None;
    }
    let relative = |end: f64, of: f64| if of > 0.0 { end / of - 1.0 } else { 0.0 };
    let down = rss(&[relative(low, best), relative(share.low, share.value)]);
    let up = rss(&[relative(high, best), relative(share.high, share.value)]);
    // Nothing by the TDP is something by the curve.
    let least_high = if best > 0.0 { 0.0 } else { high * allotted };
    Some(Headline {
        energy: Energy {
            joules: value,
            low: (value * (1.0 - down)).max(0.0),
            high: (value * (1.0 + up)).max(least_high),
        },
        quality: Quality::Modelled,
        method: outcome.estimation.method(&facts.model),
        definition: if alone { "amortised" } else { "marginal" },
        division,
        idle_source: "modelled".into(),
        share,
    })
}

fn phase_joules(
    outcome: &Outcome,
    facts: &Facts,
    headline: &Headline,
    ledger: &Ledger,
) -> Option<f64> {
    let seconds = outcome.ledger.dt_ns * 1e-9;
    if seconds <= 0.0 {
        return None;
    }
    let width = outcome.width;
    let slots: Vec<usize> = match headline.quality {
        Quality::Modelled => vec![width, width + 1],
        _ => {
            let method = if headline.method.starts_with("rapl") {
                Method::Rapl
            } else {
                Method::Perf
            };
            let mut slots = outcome.slots_of(method, Domain::Package);
            slots.extend(outcome.slots_of(method, Domain::Dram));
            slots
        }
    };
    // The window's idle power and idle share hold for each of its phases, so phases that cover
    // the window sum to its headline.
    let idle_watts = headline.division.idle / seconds;
    let division = divide(ledger, &slots, idle_watts, 0.0);
    let idle_share = match (headline.definition, headline.quality) {
        ("amortised", Quality::Modelled) => allotted_of_model(outcome, facts),
        ("amortised", _) => allotted(outcome, facts),
        _ => 0.0,
    };
    Some(division.marginal + idle_share * division.idle)
}

fn verify(rapl: &MethodReading, perf: &MethodReading, warnings: &mut Vec<String>) -> Verdict {
    let pairs: Vec<Pair> = Domain::ALL
        .iter()
        .filter_map(|domain| {
            let (a, b) = (rapl.domains.get(domain)?, perf.domains.get(domain)?);
            Some(Pair {
                domain: *domain,
                a: (a.joules, a.half()),
                b: (b.joules, b.half()),
            })
        })
        .collect();
    let verdict = compare(&pairs);
    if verdict.validated == Some(false)
        && let (Some(worst), Some(domain)) = (verdict.discrepancy, verdict.domain)
    {
        warnings.push(format!(
            "rapl and perf differ by {:.0} % on {domain} (tolerance {:.0} %)",
            worst * 100.0,
            TOLERANCE * 100.0
        ));
    }
    verdict
}

fn note_faults(outcome: &Outcome, seconds: f64, warnings: &mut Vec<String>) {
    for (zone, fault) in outcome.zones().iter().zip(&outcome.faults) {
        if let Some(fault) = fault {
            warnings.push(format!("{}: {fault} within the window", zone.name));
        }
    }
    // A domain that is missing in part is missed more than one that never was.
    for (domain, why) in &outcome.catalog.holes {
        warnings.push(format!("{domain}: {why}"));
    }
    for (i, zone) in outcome.zones().iter().enumerate() {
        if outcome.stood_ns[i] > outcome.standstill_ns() && zone.domain != Domain::Uncore {
            warnings.push(format!(
                "{}: the counter stood still for the last {:.2} s",
                zone.name,
                outcome.stood_ns[i] as f64 * 1e-9
            ));
        }
    }
    for (zone, resets) in outcome.zones().iter().zip(&outcome.resets) {
        if *resets > 0 {
            warnings.push(format!(
                "{}: the counter was reset {resets} time(s); up to one interval of its energy is \
                 missing each time",
                zone.name
            ));
        }
    }
    if outcome.sampler_refused {
        warnings.push(
            "no sampler thread could be started: counters were read at the edges only".into(),
        );
    }
    if outcome.ambiguous > 0 {
        warnings.push(
            "readings were so far apart that a counter may have wrapped more than once".into(),
        );
    }
    let drift = outcome.drift_ns as f64 * 1e-9;
    if drift.abs() > 0.001 && drift.abs() > DRIFT * seconds {
        warnings.push(format!(
            "the wall clock moved {drift:+.3} s against the monotonic clock within the window"
        ));
    }
}

fn sandbox_reading(outcome: &Outcome, facts: &Facts) -> Option<SandboxReading> {
    let count = outcome.sandbox_count?;
    Some(SandboxReading {
        cpus: facts.environment.share.cpus,
        cpu_seconds: count.used_ns.map(|ns| ns as f64 * 1e-9),
        periods: count.periods,
        throttled_periods: count.throttled_periods,
        throttled_seconds: count.throttled_ns as f64 * 1e-9,
    })
}

/// CPU time that the hypervisor gave to others though this machine wanted it, s.
fn steal_seconds(outcome: &Outcome) -> Option<f64> {
    let (start, end, _) = outcome.system.as_ref()?;
    let (then, now) = (start.stat?, end.stat?);
    Some(now.steal.saturating_sub(then.steal) as f64 * TICK_SECONDS)
}

/// A function that was kept from running says nothing of its own by its duration.
fn note_held_back(
    facts: &Facts,
    sandbox: Option<SandboxReading>,
    steal_seconds: Option<f64>,
    seconds: f64,
    warnings: &mut Vec<String>,
) {
    let share = &facts.environment.share;
    if let Some(s) = sandbox
        && share.set_by == Limit::Quota
        && s.throttled_seconds > HELD_BACK * seconds
    {
        warnings.push(format!(
            "throttled: the quota of {:.2} CPUs was used up in {} of {} periods; run queues waited \
             {:.2} s in a window of {seconds:.2} s",
            s.cpus, s.throttled_periods, s.periods, s.throttled_seconds
        ));
    }
    if let Some(stolen) = steal_seconds
        // A step of the clock is no steal.
        && stolen > HELD_BACK * seconds * f64::from(facts.cpus.max(1))
        && stolen > 2.0 * TICK_SECONDS
    {
        warnings.push(format!(
            "steal: the hypervisor took {stolen:.2} s of CPU time from this machine's {} CPUs in a \
             window of {seconds:.2} s",
            facts.cpus
        ));
    }
}

fn system_reading(
    outcome: &Outcome,
    (start, end, state): &(
        crate::source::procfs::SystemEdge,
        crate::source::procfs::SystemEdge,
        crate::source::procfs::SystemState,
    ),
    seconds: f64,
) -> SystemReading {
    let mib = |now: u64, then: u64| now.saturating_sub(then) as f64 / MIB;
    let disk = end.disk.zip(start.disk);
    let net = end.net.zip(start.net);
    SystemReading {
        cpu_percent: end
            .stat
            .zip(start.stat)
            .and_then(|(now, then)| now.percent_since(then)),
        memory_percent: state.memory.map(|m| m.percent()),
        memory_used_mb: state.memory.map(|m| m.used() as f64 / MIB),
        load_1m: state.load_1m,
        disk_io_read_mb: disk.map(|(now, then)| mib(now.input, then.input)),
        disk_io_write_mb: disk.map(|(now, then)| mib(now.output, then.output)),
        network_sent_mb: net.map(|(now, then)| mib(now.output, then.output)),
        network_recv_mb: net.map(|(now, then)| mib(now.input, then.input)),
        // Within microseconds the CPU clock and the window's edges do not quite belong together.
        process_cpu_percent: (outcome.own_known && seconds >= UPDATE_SECONDS)
            .then(|| 100.0 * outcome.ledger.own_ns * 1e-9 / seconds),
        process_memory_mb: outcome.rss.0.map(|b| b as f64 / MIB),
        process_memory_peak_mb: outcome.rss.1.map(|b| b as f64 / MIB),
        cpu_freq_current: state.frequency_mhz,
        cpu_temp_celsius: state.temperature_celsius,
    }
}

//! What the machine and the sandbox did in the window, beside energy.

use serde::Serialize;

use super::UPDATE_SECONDS;
use crate::machine::allotted::Limit;
use crate::machine::facts::Facts;
use crate::sampler::Outcome;

/// Being kept from running for more than this part of the window is a warning.
pub(super) const HELD_BACK: f64 = 0.10;

/// /proc/stat counts in this, s.
pub(super) const TICK_SECONDS: f64 = 0.01;

/// MiB in bytes.
pub(super) const MIB: f64 = 1_048_576.0;

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

pub(super) fn sandbox_reading(outcome: &Outcome, facts: &Facts) -> Option<SandboxReading> {
    let count = outcome.sandbox_count?;
    Some(SandboxReading {
        cpus: facts.environment.allotted.cpus,
        cpu_seconds: count.used_ns.map(|ns| ns as f64 * 1e-9),
        periods: count.periods,
        throttled_periods: count.throttled_periods,
        throttled_seconds: count.throttled_ns as f64 * 1e-9,
    })
}

/// CPU time that the hypervisor gave to others though this machine wanted it, s.
pub(super) fn steal_seconds(outcome: &Outcome) -> Option<f64> {
    let (start, end, _) = outcome.system.as_ref()?;
    let (then, now) = (start.stat?, end.stat?);
    Some(now.steal.saturating_sub(then.steal) as f64 * TICK_SECONDS)
}

/// The duration of a function that was kept from running is not its own.
pub(super) fn note_held_back(
    facts: &Facts,
    sandbox: Option<SandboxReading>,
    steal_seconds: Option<f64>,
    seconds: f64,
    warnings: &mut Vec<String>,
) {
    let share = &facts.environment.allotted;
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

pub(super) fn system_reading(
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
        process_memory_mb: outcome.resident.now_bytes.map(|b| b as f64 / MIB),
        process_memory_peak_mb: outcome.resident.peak_bytes.map(|b| b as f64 / MIB),
        cpu_freq_current: state.frequency_mhz,
        cpu_temp_celsius: state.temperature_celsius,
    }
}

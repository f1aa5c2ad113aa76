//! What each key of the table is of a reading.

use serde_json::{Map, Value, json};

use super::keys::Key;
use crate::reading::{Energy, Headline, MethodReading, Reading, SystemReading, ZoneReading};
use crate::source::{Domain, Method};

/// The value of one key, `null` where it is not available. The match has an arm per row of the
/// table, or it does not compile.
#[allow(clippy::too_many_lines, reason = "a line per key")]
pub(super) fn value(reading: &Reading, key: Key) -> Value {
    use Key as K;
    let rapl = || reading.counter(Method::Rapl);
    let perf = || reading.counter(Method::Perf);
    let hwmon = || reading.counter(Method::Hwmon);
    let guest = || reading.counter(Method::Guest);
    let ebpf = &reading.ebpf;
    let probes = reading.probes.as_ref();
    let system = reading.system.as_ref();
    let sandbox = reading.sandbox.as_ref();
    let cpu = &reading.cpu;
    let environment = &reading.environment;
    let head = reading.headline.as_ref();
    let headline = |f: fn(&Headline) -> f64| number(head.map(f));
    let model = |f: fn(&Energy) -> f64| number(reading.model.as_ref().map(|m| f(&m.energy)));
    let gpu = |f: fn(&Energy) -> f64| number(reading.gpu.energy.as_ref().map(f));
    let gpu_part = |f: fn(&Energy) -> f64| number(reading.gpu.attributed.as_ref().map(f));
    let measured = reading.window_ns.1 > reading.window_ns.0;
    let metric = |f: fn(&SystemReading) -> Option<f64>| number(system.and_then(f));
    match key {
        K::EnergyConsumption => headline(|h| h.energy.joules),
        K::EnergyLow => headline(|h| h.energy.low),
        K::EnergyHigh => headline(|h| h.energy.high),
        K::EnergyQuality => head.map(|h| h.quality.name()).into(),
        K::EnergyMethod => head.map_or(Value::Null, |h| line(&h.method)),
        K::EnergySource => match head {
            Some(h) => line(&format!("{}: {}", h.quality.name(), h.method)),
            None => unavailable(reading.headline_reason.as_deref()),
        },
        K::EnergyMethodUsed => methods_used(reading).into(),
        K::EnergyDuration => number(measured.then_some(reading.duration)),
        K::EnergyScope => reading.scope.name().into(),
        K::EnergyCpuTime => number(reading.cpu_seconds),
        K::EnergyMarginal => headline(|h| h.division.marginal),
        K::EnergyAmortised => headline(|h| h.division.amortised),
        K::EnergyDefinition => head.map(|h| h.definition.name()).into(),
        K::EnergyMachine => headline(|h| h.division.machine),
        K::EnergyIdle => headline(|h| h.division.idle),
        K::EnergyOthers => headline(|h| h.division.others),
        K::EnergyIdleSource => head.map(|h| h.idle_source.name()).into(),
        K::EnergyWatts => number(reading.watts()),
        K::EnergyPhaseRead => number(phase_joules(reading, "read")),
        K::EnergyPhaseCompute => number(phase_joules(reading, "compute")),
        K::EnergyPhaseWrite => number(phase_joules(reading, "write")),
        K::EnergyValidated => reading.verdict.validated.into(),
        K::EnergyDiscrepancy => number(reading.verdict.discrepancy),
        K::EnergyWarnings => reading.warnings.iter().map(|text| line(text)).collect(),
        K::AvgCpuUsage => number(cpu_usage(reading)),

        K::RaplEnergyPackage => domain(rapl(), Domain::Package),
        K::RaplEnergyCore => domain(rapl(), Domain::Core),
        K::RaplEnergyUncore => domain(rapl(), Domain::Uncore),
        K::RaplEnergyDram => domain(rapl(), Domain::Dram),
        K::RaplEnergyPsys => domain(rapl(), Domain::Psys),
        K::RaplEnergyTotal => total(rapl()),
        K::RaplAvailable => rapl().availability.is_available().into(),
        K::RaplSource => line(&rapl().availability.to_string()),
        K::PerfEnergyPackage => domain(perf(), Domain::Package),
        K::PerfEnergyCore => domain(perf(), Domain::Core),
        K::PerfEnergyDram => domain(perf(), Domain::Dram),
        K::PerfEnergyPsys => domain(perf(), Domain::Psys),
        K::PerfEnergyTotal => total(perf()),
        K::PerfAvailable => perf().availability.is_available().into(),
        K::PerfSource => line(&perf().availability.to_string()),
        K::HwmonEnergyPackage => domain(hwmon(), Domain::Package),
        K::HwmonEnergyDram => domain(hwmon(), Domain::Dram),
        K::HwmonEnergyTotal => total(hwmon()),
        K::HwmonAvailable => hwmon().availability.is_available().into(),
        K::HwmonSource => line(&hwmon().availability.to_string()),
        K::MachineScope => true.into(),
        K::GuestEnergy => total(guest()),
        K::GuestAvailable => guest().availability.is_available().into(),
        K::GuestSource => line(&guest().availability.to_string()),

        K::EnergyZones => zones(reading),
        K::GpuEnergy => gpu(|e| e.joules),
        K::GpuEnergyAttributed => gpu_part(|e| e.joules),
        K::GpuEnergyUnattributed => number(
            (reading.gpu.energy.zip(reading.gpu.attributed))
                .map(|(all, part)| all.joules - part.joules),
        ),
        K::GpuAvailable => reading.gpu.energy.is_some().into(),
        K::GpuSource => line(&reading.gpu.availability.to_string()),
        K::GpuAttributedSource => line(&reading.gpu.attributed_source.to_string()),

        K::PerfCycles => reading.perf_cycles.into(),
        K::PerfInstructions => reading.perf_instructions.into(),
        K::PerfTaskClock => number(reading.perf_task_clock),
        K::PerfHardwareSource => match &reading.perf_hardware_reason {
            Some(why) => unavailable(Some(why)),
            None if reading.perf_cycles.is_some() => "measured: cycles, instructions".into(),
            None => unavailable(Some("not asked for")),
        },
        K::EbpfEnergyPackage => domain(ebpf, Domain::Package),
        K::EbpfEnergyCore => domain(ebpf, Domain::Core),
        K::EbpfEnergyTotal => total(ebpf),
        K::EbpfCpuTime => number(probes.and_then(|p| p.cpu_seconds)),
        K::EbpfCpuCycles => probes.and_then(|p| p.cycles).into(),
        K::EbpfEnergyFromCycles => number(probes.and_then(|p| p.energy_from_cycles)),
        K::EbpfFreqChanges => probes.and_then(|p| p.frequency_changes).into(),
        K::EbpfIdleTransitions => probes.and_then(|p| p.idle_transitions).into(),
        K::EbpfIdleTime => number(probes.and_then(|p| p.idle_seconds)),
        K::EbpfThermalEvents => probes.and_then(|p| p.thermal_events).into(),
        K::EbpfAvailable => ebpf.availability.is_available().into(),
        K::EbpfSource => line(&ebpf_source(reading)),

        K::TdpEnergy => model(|e| e.joules),
        K::TdpWatts => number(reading.tdp_watts),
        K::TdpAvailable => reading.model.is_some().into(),
        K::TdpSource => line(&tdp_source(reading)),

        K::PsutilCpuPercent => metric(|s| s.cpu_percent),
        K::PsutilMemoryPercent => metric(|s| s.memory_percent),
        K::PsutilMemoryUsedMb => metric(|s| s.memory_used_mb),
        K::PsutilLoad1m => metric(|s| s.load_1m),
        K::PsutilDiskIoReadMb => metric(|s| s.disk_io_read_mb),
        K::PsutilDiskIoWriteMb => metric(|s| s.disk_io_write_mb),
        K::PsutilNetworkSentMb => metric(|s| s.network_sent_mb),
        K::PsutilNetworkRecvMb => metric(|s| s.network_recv_mb),
        K::PsutilProcessCpuPercent => metric(|s| s.process_cpu_percent),
        K::PsutilProcessMemoryMb => metric(|s| s.process_memory_mb),
        K::PsutilProcessMemoryPeakMb => metric(|s| s.process_memory_peak_mb),
        K::PsutilCpuFreqCurrent => metric(|s| s.cpu_freq_current),
        K::PsutilCpuTempCelsius => metric(|s| s.cpu_temp_celsius),
        K::PsutilAvailable => system.is_some().into(),
        K::PsutilSource => system.map_or_else(
            || unavailable(reading.system_reason.as_deref()),
            |system| line(&psutil_source(system)),
        ),

        K::ProcessorName => line(&cpu.name),
        K::ProcessorBrand => line(&cpu.brand),
        K::ProcessorArchitecture => line(&cpu.architecture),
        K::ProcessorCores => cpu.physical_cores.into(),
        K::ProcessorThreads => cpu.logical_cpus.into(),
        K::ProcessorFrequency => number(cpu.max_mhz.or(cpu.base_mhz)),
        K::ProcessorInfo => json!({
            "architecture": cpu.architecture,
            "vendor": optional(cpu.vendor.as_deref()),
            "sockets": cpu.sockets,
            "base_mhz": cpu.base_mhz,
            "max_mhz": cpu.max_mhz,
            "hypervisor": cpu.hypervisor,
        }),

        K::AwsInstanceType if environment.is_lambda() => "lambda".into(),
        K::AwsInstanceType => optional(environment.instance_type.as_deref()),
        K::AwsIsLambda => environment.is_lambda().into(),
        K::AwsMemorySize => environment.lambda_memory_mb.into(),
        K::ContainerRuntime => optional(environment.container_runtime.as_deref()),
        K::K8sPod => optional(environment.k8s_pod.as_deref()),
        K::K8sNode => optional(environment.k8s_node.as_deref()),
        K::EnergySchema => super::SCHEMA.into(),

        K::Label => optional(reading.label.as_deref()),
        K::Running => reading.running.into(),
        K::Samples => reading.samples.into(),
        K::Interval => number(reading.interval),
        K::WindowStart => measured.then_some(reading.window_ns.0).into(),
        K::WindowEnd => measured.then_some(reading.window_ns.1).into(),
        K::AllottedCpus => number(Some(reading.allotted_cpus)),
        K::EnergyShare => headline(|h| h.share.value),
        K::EnergyShareLow => headline(|h| h.share.low),
        K::EnergyShareHigh => headline(|h| h.share.high),
        K::EnergyMachineLow => headline(|h| h.bands.machine.low),
        K::EnergyMachineHigh => headline(|h| h.bands.machine.high),
        K::EnergyIdleLow => headline(|h| h.bands.idle.low),
        K::EnergyIdleHigh => headline(|h| h.bands.idle.high),
        K::TdpEnergyLow => model(|e| e.low),
        K::TdpEnergyHigh => model(|e| e.high),
        K::GpuEnergyLow => gpu(|e| e.low),
        K::GpuEnergyHigh => gpu(|e| e.high),
        K::GpuEnergyAttributedLow => gpu_part(|e| e.low),
        K::GpuEnergyAttributedHigh => gpu_part(|e| e.high),
        K::StealTime => number(reading.steal_seconds),
        K::SandboxCpuTime => number(sandbox.and_then(|s| s.cpu_seconds)),
        K::SandboxThrottledPeriods => sandbox.map(|s| s.throttled_periods).into(),
        K::SandboxThrottledTime => number(sandbox.map(|s| s.throttled_seconds)),
        K::EbpfInstructions => probes.and_then(|p| p.instructions).into(),
        K::EbpfLostSlices => probes.map(|p| p.lost_slices).into(),
    }
}

/// JSON has no NaN and no infinity; neither has an honest reading.
pub(super) fn number(value: Option<f64>) -> Value {
    value
        .filter(|v| v.is_finite())
        .map_or(Value::Null, Value::from)
}

/// The joules of the phase of that name.
fn phase_joules(reading: &Reading, name: &str) -> Option<f64> {
    reading.phases.iter().find(|p| p.name == name)?.joules
}

fn domain(method: &MethodReading, domain: Domain) -> Value {
    number(method.domains.get(&domain).map(|e| e.joules))
}

fn total(method: &MethodReading) -> Value {
    number(method.total.map(|e| e.joules))
}

fn optional(text: Option<&str>) -> Value {
    text.map_or(Value::Null, line)
}

fn unavailable(why: Option<&str>) -> Value {
    line(&format!("unavailable: {}", why.unwrap_or("no reading")))
}

/// Longest text that a value may be, characters.
const LONGEST: usize = 400;

/// A text that may come from outside (a pod's name, a path, a processor's name), made fit for one
/// line of somebody's log or stats file: no control characters, no end, never empty.
fn line(text: &str) -> Value {
    let forged =
        |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let line: String = text
        .chars()
        .map(|c| if forged(c) { ' ' } else { c })
        .take(LONGEST)
        .collect();
    match line.trim() {
        "" => Value::Null,
        line => Value::from(line),
    }
}

fn methods_used(reading: &Reading) -> String {
    let used = |available: bool, name: &'static str| if available { name } else { "null" };
    let counter = |method: Method| reading.counter(method).availability.is_available();
    let mut names = vec![
        used(counter(Method::Perf), "perf"),
        used(counter(Method::Rapl), "rapl"),
        used(reading.ebpf.availability.is_available(), "ebpf"),
        used(reading.system.is_some(), "psutil"),
    ];
    // Few machines have it: elsewhere the text stays as it always was.
    if counter(Method::Hwmon) {
        names.push("hwmon");
    }
    names.join(", ")
}

/// Percent of the CPUs that the function may use.
fn cpu_usage(reading: &Reading) -> Option<f64> {
    // The CPU clock is read some microseconds before and after the window's own edges: of a window
    // that is hardly longer, that would be a usage beyond all CPUs.
    let cpu = reading.cpu_seconds?;
    let capacity = reading.duration * reading.allotted_cpus;
    let most = reading.duration * reading.cpus;
    (capacity > 0.0).then(|| 100.0 * cpu.min(most) / capacity)
}

/// Joules of each counter of a socket, its memory or a GPU, where a method has several of the kind:
/// a sum has no more to say of one. Not of cores, of which a processor may have hundreds.
fn zones(reading: &Reading) -> Value {
    let of =
        |zone: &&ZoneReading| matches!(zone.domain, Domain::Package | Domain::Dram | Domain::Gpu);
    let alike = |zone: &ZoneReading, other: &ZoneReading| {
        (zone.method, zone.domain) == (other.method, other.domain)
    };
    let mut methods = Map::new();
    for zone in reading.zones.iter().filter(of) {
        if reading
            .zones
            .iter()
            .filter(|other| alike(zone, other))
            .nth(1)
            .is_none()
        {
            continue;
        }
        let method = methods
            .entry(zone.method.name())
            .or_insert_with(|| Map::new().into());
        if let Value::Object(names) = method {
            names.insert(zone.name.clone(), number(zone.energy.map(|e| e.joules)));
        }
    }
    match methods.is_empty() {
        true => Value::Null,
        false => methods.into(),
    }
}

fn tdp_source(reading: &Reading) -> String {
    if reading.model.is_some() {
        format!(
            "{}; {}; TDP: {}",
            reading.model_source, reading.model_share, reading.tdp_source
        )
    } else {
        reading.model_source.to_string()
    }
}

/// Where the metrics are from, and why one is missing.
fn psutil_source(system: &SystemReading) -> String {
    let without: Vec<&str> = [
        (system.cpu_percent, "cpu_percent (no clock tick passed)"),
        (system.memory_percent, "memory (no /proc/meminfo)"),
        (system.load_1m, "load_1m (no /proc/loadavg)"),
        (system.disk_io_read_mb, "disk_io (no /proc/diskstats)"),
        (system.network_sent_mb, "network (no /proc/net/dev)"),
        (
            system.process_memory_mb,
            "process_memory (the process is gone)",
        ),
        (system.cpu_freq_current, "cpu_freq_current (no cpufreq)"),
        (system.cpu_temp_celsius, "cpu_temp_celsius (no sensor)"),
    ]
    .iter()
    .filter(|(value, _)| value.is_none())
    .map(|(_, why)| *why)
    .collect();
    if without.is_empty() {
        "measured: /proc".to_owned()
    } else {
        format!("measured: /proc; without {}", without.join(", "))
    }
}

/// How the call's joules were shared, and why something else is missing.
fn ebpf_source(reading: &Reading) -> String {
    let mut parts = vec![reading.ebpf.availability.to_string()];
    if reading.ebpf.availability.is_available() {
        let energy = reading.ebpf.reasons.values();
        let probes = reading.probes.iter().flat_map(|p| &p.reasons);
        let without: Vec<String> = energy
            .map(|why| format!("energy ({why})"))
            .chain(probes.map(|(what, why)| format!("{what} ({why})")))
            .collect();
        if !without.is_empty() {
            parts.push(format!("without {}", without.join(", ")));
        }
    }
    parts.join("; ")
}

//! A reading as the flat dict that Lithops carries in `future.stats` and FlexExecutor in its
//! profiles: one key per value, `worker_func_` in front, J, W, s, MiB, percent 0..100.
//!
//! What is not available is `null` with `*_available` false and `*_source` =
//! `unavailable: <reason>`; the keys are always there, unless the compact form is asked for.

use serde_json::{Map, Value, json};

use crate::reading::{Headline, MethodReading, Reading, SystemReading};
use crate::source::{Domain, Method};

/// Version of the table below.
pub const SCHEMA: u32 = 1;

/// Prefix of a function's keys.
pub const PREFIX: &str = "worker_func_";

struct Table {
    map: Map<String, Value>,
}

impl Table {
    fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.put_as(format!("{PREFIX}{key}"), value.into());
    }

    fn put_as(&mut self, key: String, value: Value) {
        let value = match value {
            Value::String(text) => clean(&text),
            Value::Array(items) => Value::Array(
                items
                    .into_iter()
                    .map(|item| match item {
                        Value::String(text) => clean(&text),
                        other => other,
                    })
                    .collect(),
            ),
            other => other,
        };
        self.map.insert(key, value);
    }

    fn number(&mut self, key: &str, value: Option<f64>) {
        // JSON has no NaN and no infinity; neither has an honest reading.
        let value = value.filter(|v| v.is_finite());
        self.put(key, value.map_or(Value::Null, Value::from));
    }
}

/// Longest text that a value may be, characters.
const LONGEST: usize = 400;

/// A text that may come from outside (a pod's name, a path, a processor's name), made fit for one
/// line of somebody's log or stats file: no control characters, no end, never empty.
fn clean(text: &str) -> Value {
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

/// The stats of a reading. With `compact`, keys without a value are left out.
pub fn stats(reading: &Reading, compact: bool) -> Map<String, Value> {
    let mut t = Table { map: Map::new() };
    headline(&mut t, reading);
    domains(
        &mut t,
        "rapl",
        reading.counter(Method::Rapl),
        &["pkg", "cores", "uncore", "dram", "psys"],
    );
    domains(
        &mut t,
        "perf",
        reading.counter(Method::Perf),
        &["pkg", "cores", "dram", "psys"],
    );
    t.put("machine_scope", true);
    t.put("perf_cycles", reading.perf_cycles);
    t.put("perf_instructions", reading.perf_instructions);
    t.number("perf_task_clock", reading.perf_task_clock);
    t.put(
        "perf_hardware_source",
        reading.perf_hardware_reason.as_ref().map_or_else(
            || {
                Value::from(if reading.perf_cycles.is_some() {
                    "measured: cycles, instructions"
                } else {
                    "unavailable: not asked for"
                })
            },
            |why| Value::from(format!("unavailable: {why}")),
        ),
    );
    let call = |domain: Domain| reading.ebpf.domains.get(&domain).map(|e| e.joules);
    t.number("ebpf_energy_pkg", call(Domain::Package));
    t.number("ebpf_energy_cores", call(Domain::Core));
    t.number("ebpf_energy_total", reading.ebpf.total.map(|e| e.joules));
    let probes = reading.probes.clone().unwrap_or_default();
    t.number("ebpf_cpu_time", probes.cpu_seconds);
    t.put("ebpf_cpu_cycles", probes.cycles);
    t.number("ebpf_energy_from_cycles", probes.energy_from_cycles);
    t.put("ebpf_freq_changes", probes.frequency_changes);
    t.put("ebpf_idle_transitions", probes.idle_transitions);
    t.number("ebpf_idle_time", probes.idle_seconds);
    t.put("ebpf_thermal_events", probes.thermal_events);
    t.put("ebpf_available", reading.ebpf.availability.is_available());
    t.put("ebpf_source", ebpf_source(reading));
    model(&mut t, reading);
    system(&mut t, reading);
    processor(&mut t, reading);
    surroundings(&mut t, reading);
    t.put("energy_schema", SCHEMA);
    if compact {
        t.map.retain(|_, value| !value.is_null());
    }
    t.map
}

fn headline(t: &mut Table, reading: &Reading) {
    let h = reading.headline.as_ref();
    let of = |f: fn(&Headline) -> f64| h.map(f);
    t.number("energy_consumption", of(|h| h.energy.joules));
    t.number("energy_low", of(|h| h.energy.low));
    t.number("energy_high", of(|h| h.energy.high));
    t.put("energy_quality", h.map(|h| h.quality.name()));
    t.put("energy_method", h.map(|h| h.method.clone()));
    t.put(
        "energy_source",
        match (h, &reading.headline_reason) {
            (Some(h), _) => format!("{}: {}", h.quality.name(), h.method),
            (None, why) => format!("unavailable: {}", why.as_deref().unwrap_or("no reading")),
        },
    );
    let used = |available: bool, name: &'static str| if available { name } else { "null" };
    t.put(
        "energy_method_used",
        [
            used(
                reading.counter(Method::Perf).availability.is_available(),
                "perf",
            ),
            used(
                reading.counter(Method::Rapl).availability.is_available(),
                "rapl",
            ),
            used(reading.ebpf.availability.is_available(), "ebpf"),
            used(reading.system.is_some(), "psutil"),
        ]
        .join(", "),
    );
    let measured = reading.window_ns.1 > reading.window_ns.0;
    t.number("energy_duration", measured.then_some(reading.duration));
    t.put("energy_scope", reading.scope.name());
    t.number("energy_cpu_time", reading.cpu_seconds);
    t.number("energy_marginal", of(|h| h.division.marginal));
    t.number("energy_amortised", of(|h| h.division.amortised));
    t.put("energy_definition", h.map(|h| h.definition.name()));
    t.number("energy_machine", of(|h| h.division.machine));
    t.number("energy_idle", of(|h| h.division.idle));
    t.number("energy_others", of(|h| h.division.others));
    t.put("energy_idle_source", h.map(|h| h.idle_source.name()));
    t.number("energy_watts", reading.watts());
    for name in ["read", "compute", "write"] {
        let phase = reading.phases.iter().find(|p| p.name == name);
        t.number(
            &format!("energy_phase_{name}"),
            phase.and_then(|p| p.joules),
        );
    }
    t.put("energy_validated", reading.verdict.validated);
    t.number("energy_discrepancy", reading.verdict.discrepancy);
    t.put("energy_warnings", reading.warnings.clone());
    // The CPU clock is read some microseconds before and after the window's own edges: of a window
    // that is hardly longer, that would be a usage beyond all CPUs.
    let usage = reading.cpu_seconds.and_then(|cpu| {
        let capacity = reading.duration * reading.allotted_cpus;
        let most = reading.duration * reading.cpus;
        (capacity > 0.0).then(|| 100.0 * cpu.min(most) / capacity)
    });
    t.number("avg_cpu_usage", usage);
}

fn domains(t: &mut Table, method: &str, reading: &MethodReading, keys: &[&str]) {
    for key in keys {
        let domain = match *key {
            "pkg" => Domain::Package,
            "cores" => Domain::Core,
            "uncore" => Domain::Uncore,
            "dram" => Domain::Dram,
            _ => Domain::Psys,
        };
        let joules = reading.domains.get(&domain).map(|e| e.joules);
        t.number(&format!("{method}_energy_{key}"), joules);
    }
    t.number(
        &format!("{method}_energy_total"),
        reading.total.map(|e| e.joules),
    );
    t.put(
        &format!("{method}_available"),
        reading.availability.is_available(),
    );
    t.put(
        &format!("{method}_source"),
        reading.availability.to_string(),
    );
}

fn model(t: &mut Table, reading: &Reading) {
    t.number(
        "tdp_energy",
        reading.model.as_ref().map(|m| m.energy.joules),
    );
    t.number("tdp_watts", reading.tdp_watts);
    t.put("tdp_available", reading.model.is_some());
    t.put(
        "tdp_source",
        if reading.model.is_some() {
            format!(
                "{}; {}; TDP: {}",
                reading.model_source, reading.model_share, reading.tdp_source
            )
        } else {
            reading.model_source.to_string()
        },
    );
}

fn system(t: &mut Table, reading: &Reading) {
    let system = reading.system.clone().unwrap_or_default();
    t.number("psutil_cpu_percent", system.cpu_percent);
    t.number("psutil_memory_percent", system.memory_percent);
    t.number("psutil_memory_used_mb", system.memory_used_mb);
    t.number("psutil_load_1m", system.load_1m);
    t.number("psutil_disk_io_read_mb", system.disk_io_read_mb);
    t.number("psutil_disk_io_write_mb", system.disk_io_write_mb);
    t.number("psutil_network_sent_mb", system.network_sent_mb);
    t.number("psutil_network_recv_mb", system.network_recv_mb);
    t.number("psutil_process_cpu_percent", system.process_cpu_percent);
    t.number("psutil_process_memory_mb", system.process_memory_mb);
    t.number(
        "psutil_process_memory_peak_mb",
        system.process_memory_peak_mb,
    );
    t.number("psutil_cpu_freq_current", system.cpu_freq_current);
    t.number("psutil_cpu_temp_celsius", system.cpu_temp_celsius);
    t.put("psutil_available", reading.system.is_some());
    t.put(
        "psutil_source",
        match (&reading.system, &reading.system_reason) {
            (Some(system), _) => psutil_source(system),
            (None, why) => format!("unavailable: {}", why.as_deref().unwrap_or("no reading")),
        },
    );
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

fn processor(t: &mut Table, reading: &Reading) {
    let cpu = &reading.cpu;
    t.put("psutil_cpu_name", cpu.name.clone());
    t.put("psutil_cpu_brand", cpu.brand.clone());
    t.put("psutil_cpu_architecture", cpu.architecture.clone());
    t.put("psutil_cpu_cores_physical", cpu.physical_cores);
    t.put("psutil_cpu_cores_logical", cpu.logical_cpus);
    t.number("psutil_cpu_frequency", cpu.max_mhz.or(cpu.base_mhz));
    let mut put = |key: &str, value: Value| t.put_as(format!("worker_processor_{key}"), value);
    put("name", cpu.name.clone().into());
    put("brand", cpu.brand.clone().into());
    put("cores", cpu.physical_cores.into());
    put("threads", cpu.logical_cpus.into());
    put(
        "info",
        json!({
            "architecture": cpu.architecture,
            "vendor": cpu.vendor.as_deref().map(clean),
            "sockets": cpu.sockets,
            "base_mhz": cpu.base_mhz,
            "max_mhz": cpu.max_mhz,
            "hypervisor": cpu.hypervisor,
        }),
    );
}

fn surroundings(t: &mut Table, reading: &Reading) {
    let environment = &reading.environment;
    let lambda = environment.is_lambda();
    t.put(
        "aws_instance_type",
        if lambda {
            Some("lambda".to_owned())
        } else {
            environment.instance_type.clone()
        },
    );
    t.put("aws_architecture", reading.cpu.architecture.clone());
    t.put("aws_is_lambda", lambda);
    t.put("aws_memory_size", environment.lambda_memory_mb);
    t.put("container_runtime", environment.container_runtime.clone());
    t.put("k8s_pod", environment.k8s_pod.clone());
    t.put("k8s_node", environment.k8s_node.clone());
}

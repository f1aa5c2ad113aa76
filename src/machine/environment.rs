//! Where the function runs: container, Kubernetes, AWS Lambda, and the limits they set.
//!
//! Everything comes from the environment and from files; no metadata service is asked.

use std::env;
use std::fs;
use std::path::Path;

use serde::Serialize;

use super::cpu::CpuIdentity;
use crate::source::model::PowerModel;

/// The surroundings of this process.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Environment {
    /// CPUs that this process may use: affinity and cgroup quota, at least 0.01.
    pub allotted_cpus: f64,
    /// Memory of the machine, GiB.
    pub memory_gib: Option<f64>,
    /// AWS Lambda's memory size, MB.
    pub lambda_memory_mb: Option<u32>,
    /// "docker", "podman", "kubernetes", "lambda", …
    pub container_runtime: Option<String>,
    /// Pod name.
    pub k8s_pod: Option<String>,
    /// Node name, from the downward API.
    pub k8s_node: Option<String>,
    /// EC2 instance type, where the environment names it.
    pub instance_type: Option<String>,
    /// Idle power of packages and memory together, W, set by the user (`LITHOWATT_IDLE_WATTS`).
    pub idle_watts: Option<f64>,
    /// What was set and cannot be used, for the warnings of a reading.
    pub problems: Vec<String>,
}

impl Environment {
    /// Looks round. Never fails: what is not known is `None`.
    pub fn read(root: &Path) -> Self {
        let var = |name: &str| env::var(name).ok().filter(|v| !v.is_empty());
        let lambda = var("AWS_LAMBDA_FUNCTION_NAME").is_some();
        let kubernetes = var("KUBERNETES_SERVICE_HOST").is_some();
        let memory_gib = fs::read_to_string(root.join("proc/meminfo"))
            .ok()
            .and_then(|text| crate::source::procfs::Memory::parse(&text))
            .map(|m| m.total as f64 / f64::from(1u32 << 30));
        let mut problems = Vec::new();
        if !root.join("proc").is_dir() {
            problems.push(format!(
                "{} holds no proc: nothing is known of the machine below it",
                root.display()
            ));
        }
        let idle_watts = var("LITHOWATT_IDLE_WATTS").and_then(|text| {
            let watts = text.trim().parse::<f64>().ok();
            let watts = watts.filter(|w| w.is_finite() && *w >= 0.0);
            if watts.is_none() {
                problems.push(
                    "LITHOWATT_IDLE_WATTS is ignored: it is no number of watts, 0 or more".into(),
                );
            }
            watts
        });
        Self {
            allotted_cpus: allotted(root),
            memory_gib,
            lambda_memory_mb: lambda
                .then(|| var("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")?.parse().ok())
                .flatten(),
            container_runtime: if lambda {
                Some("lambda".into())
            } else if kubernetes {
                Some("kubernetes".into())
            } else {
                container_runtime(root)
            },
            k8s_pod: kubernetes
                .then(|| var("POD_NAME").or_else(|| var("HOSTNAME")))
                .flatten(),
            k8s_node: kubernetes.then(|| var("NODE_NAME")).flatten(),
            instance_type: var("LITHOWATT_INSTANCE_TYPE"),
            idle_watts,
            problems,
        }
    }

    /// Whether this is an AWS Lambda sandbox.
    pub fn is_lambda(&self) -> bool {
        self.container_runtime.as_deref() == Some("lambda")
    }

    /// The power model for this processor in these surroundings.
    pub fn model(&self, cpu: &CpuIdentity) -> PowerModel {
        match self.lambda_memory_mb {
            Some(mb) => PowerModel::for_lambda(mb, &cpu.architecture, Some(&cpu.name)),
            None => PowerModel::for_identity(cpu),
        }
    }
}

fn container_runtime(root: &Path) -> Option<String> {
    if let Some(named) = env::var("container").ok().filter(|v| !v.is_empty()) {
        return Some(named.chars().take(32).collect());
    }
    if root.join(".dockerenv").exists() {
        return Some("docker".into());
    }
    if root.join("run/.containerenv").exists() {
        return Some("podman".into());
    }
    None
}

/// CPUs by affinity, cut to the cgroup's quota.
fn allotted(root: &Path) -> f64 {
    let affinity = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
    // std already looks at cgroup quotas, rounded down to whole CPUs; a fraction needs the file.
    let quota = fs::read_to_string(root.join("sys/fs/cgroup/cpu.max"))
        .ok()
        .and_then(|text| cpu_max(&text));
    quota
        .map_or(affinity, |q| q.min(affinity_only().unwrap_or(affinity)))
        .max(0.01)
}

fn affinity_only() -> Option<f64> {
    // SAFETY: the set lives on this stack and its true size is passed; CPU_COUNT only reads it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let size = std::mem::size_of::<libc::cpu_set_t>();
        if libc::sched_getaffinity(0, size, &mut set) == 0 {
            let count = libc::CPU_COUNT(&set);
            return (count > 0).then(|| f64::from(count));
        }
    }
    None
}

/// CPUs by a cgroup v2 `cpu.max`: quota over period, `None` where it is `max`.
///
/// ```
/// use lithowatt::machine::environment::cpu_max;
/// assert_eq!(cpu_max("150000 100000\n"), Some(1.5));
/// assert_eq!(cpu_max("max 100000\n"), None);
/// ```
pub fn cpu_max(text: &str) -> Option<f64> {
    let mut fields = text.split_ascii_whitespace();
    let quota: f64 = fields.next()?.parse().ok()?;
    let period: f64 = fields.next()?.parse().ok()?;
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

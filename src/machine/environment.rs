//! Where the function runs: container, Kubernetes, AWS Lambda, and the limits they set.
//!
//! Everything comes from the environment and from files; no metadata service is asked.

use std::env;
use std::path::Path;

use serde::Serialize;

use super::allotted::Allotted;
use super::cpu::{CpuIdentity, odd_clocks};
use super::service::{self, Service};
use crate::cgroup::identity;
use crate::json::from_json;
use crate::model::{PowerModel, lambda};

/// The surroundings of this process.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Environment {
    /// The part of the machine that this process may use.
    pub allotted: Allotted,
    /// Memory of the machine, GiB.
    pub memory_gib: Option<f64>,
    /// Memory modules of the machine, where its memory controllers show them (EDAC).
    pub memory_modules: Option<u32>,
    /// The cloud's service that made this sandbox, and the variable that shows it.
    pub service: Option<Service>,
    /// AWS Lambda's memory size, MB.
    pub lambda_memory_mb: Option<u32>,
    /// "lambda", "ecs", "kubernetes", "docker", "podman", "containerd", "lxc", …
    pub container_runtime: Option<String>,
    /// The sandbox exists for this function alone, as on AWS Lambda: its idle power is there
    /// because of the function. A container, a pod or a virtual machine is a machine.
    pub function_sandbox: bool,
    /// Pod name.
    pub k8s_pod: Option<String>,
    /// Node name, from the downward API.
    pub k8s_node: Option<String>,
    /// Instance type: `LITHOWATT_INSTANCE_TYPE`, else by the firmware of an EC2 instance.
    pub instance_type: Option<String>,
    /// Idle power of packages and memory together, W, set by the user (`LITHOWATT_IDLE_WATTS`).
    pub idle_watts: Option<f64>,
    /// What was set and cannot be used, for the warnings of a reading.
    pub problems: Vec<String>,
}

from_json!(Environment {
    allotted,
    memory_gib,
    memory_modules,
    service,
    lambda_memory_mb,
    container_runtime,
    function_sandbox,
    k8s_pod,
    k8s_node,
    instance_type,
    idle_watts,
    problems
});

impl Environment {
    /// Looks round on a machine of `cpus`. Never fails: what is not known is `None`.
    pub fn read(root: &Path, cpus: u32) -> Self {
        let var = |name: &str| env::var(name).ok().filter(|v| !v.is_empty());
        let service = Service::found();
        let lambda = service.is_some_and(|one| one.is_lambda());
        let ecs = service.is_some_and(|one| one.is_ecs());
        let kubernetes = var("KUBERNETES_SERVICE_HOST").is_some();
        let memory_gib = crate::source::plain::kernel_text(&root.join("proc/meminfo"))
            .ok()
            .and_then(|text| crate::source::procfs::Memory::total_in(&text))
            .map(|bytes| bytes as f64 / f64::from(1u32 << 30));
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
        let bought = var("AWS_LAMBDA_FUNCTION_MEMORY_SIZE").filter(|_| lambda);
        let lambda_memory_mb = bought.and_then(|text| {
            let mb = text.trim().parse().ok();
            let mb = mb.filter(|mb| lambda::SOLD_MB.contains(mb));
            if mb.is_none() {
                let (least, most) = (lambda::SOLD_MB.start(), lambda::SOLD_MB.end());
                let text: String = text.chars().take(32).collect();
                problems.push(format!(
                    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE is {text:?} and ignored: AWS Lambda sells {least} to {most} MB"
                ));
            }
            mb
        });
        let allotted = allotted(root, cpus, memory_gib, lambda_memory_mb);
        problems.extend_from_slice(&allotted.unreadable);
        problems.extend(odd_clocks(root));
        Self {
            allotted,
            memory_gib,
            memory_modules: memory_modules(root),
            lambda_memory_mb,
            container_runtime: if lambda {
                Some("lambda".into())
            } else if ecs {
                Some("ecs".into())
            } else if kubernetes {
                Some("kubernetes".into())
            } else {
                container_runtime(root)
            },
            // Knative and KEDA set some of the variables in pods of anybody's cluster.
            function_sandbox: !kubernetes && service::of_one_function(),
            service,
            k8s_pod: kubernetes
                .then(|| var("POD_NAME").or_else(|| var("HOSTNAME")))
                .flatten(),
            k8s_node: kubernetes.then(|| var("NODE_NAME")).flatten(),
            instance_type: var("LITHOWATT_INSTANCE_TYPE")
                .or_else(|| (!lambda).then(|| ec2_type(root)).flatten()),
            idle_watts,
            problems,
        }
    }

    /// Looks again for what may change while a process lives: the part of the machine that it may
    /// use.
    pub fn renew(&mut self, root: &Path, cpus: u32) {
        let before = std::mem::take(&mut self.allotted.unreadable);
        self.problems.retain(|problem| !before.contains(problem));
        self.allotted = allotted(root, cpus, self.memory_gib, self.lambda_memory_mb);
        self.problems.extend_from_slice(&self.allotted.unreadable);
    }

    /// Whether this is an AWS Lambda sandbox.
    pub fn is_lambda(&self) -> bool {
        self.container_runtime.as_deref() == Some("lambda")
    }

    /// Whether the memory of this sandbox bought its CPU time.
    pub fn memory_buys_cpus(&self) -> bool {
        self.lambda_memory_mb.is_some()
    }

    /// The power model for this processor in these surroundings.
    pub fn model(&self, cpu: &CpuIdentity) -> PowerModel {
        if let Some(mb) = self.lambda_memory_mb {
            return PowerModel::for_lambda(mb, &cpu.architecture, Some(&cpu.name));
        }
        let model = PowerModel::for_identity(cpu);
        match self.memory_gib {
            Some(gib) => model.with_memory(cpu.logical_cpus, gib, self.memory_modules),
            None => model,
        }
    }
}

/// Memory modules by the kernel's error detection, which makes a folder for each that is there.
fn memory_modules(root: &Path) -> Option<u32> {
    let controllers = std::fs::read_dir(root.join("sys/devices/system/edac/mc")).ok()?;
    let modules = controllers
        .filter_map(|entry| std::fs::read_dir(entry.ok()?.path()).ok())
        .flat_map(|folder| folder.filter_map(Result::ok))
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("dimm"))
        .count();
    u32::try_from(modules).ok().filter(|n| *n > 0)
}

fn allotted(
    root: &Path,
    cpus: u32,
    machine_gib: Option<f64>,
    lambda_memory_mb: Option<u32>,
) -> Allotted {
    let mut allotted = Allotted::read(root, cpus);
    // More than the machine has is no limit.
    let below = |limit: &f64| machine_gib.is_none_or(|gib| *limit <= gib);
    allotted.memory_gib = allotted.memory_gib.filter(below);
    match lambda_memory_mb {
        Some(mb) => allotted.with_bought(lambda::vcpus(f64::from(mb)), mb),
        None => allotted,
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
    let path = root.join("proc/self/cgroup");
    let most = crate::source::plain::MOST_OF_KERNEL_TEXT;
    let groups = crate::source::plain::read(&path, most).unwrap_or_default();
    identity::runtime_of_cgroup(&String::from_utf8_lossy(&groups)).map(str::to_owned)
}

/// The instance type that the firmware of an EC2 instance (Nitro) shows as its product.
fn ec2_type(root: &Path) -> Option<String> {
    let of = |name: &str| {
        crate::source::plain::kernel_text(&root.join("sys/class/dmi/id").join(name)).ok()
    };
    if of("sys_vendor")?.trim() != "Amazon EC2" {
        return None;
    }
    let product = of("product_name")?;
    // "HVM domU" on Xen.
    let word = product.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    (word.contains('.') && word.len() <= 32 && word.chars().all(plain)).then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_counted_over_all_memory_controllers() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(memory_modules(root.path()), None);
        let controllers = root.path().join("sys/devices/system/edac/mc");
        for name in ["mc0/dimm0", "mc0/dimm3", "mc0/power", "mc1/dimm0", "power"] {
            std::fs::create_dir_all(controllers.join(name)).unwrap();
        }
        assert_eq!(memory_modules(root.path()), Some(3));
    }
}

//! The hosts of AWS Lambda, of which a function has a share that its memory buys.

use super::curve::Curve;
use super::memory::Memory;
use super::{Host, PowerModel};

/// Memory (MiB) that buys one vCPU on AWS Lambda,
/// <https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html>.
pub const MIB_PER_VCPU: f64 = 1769.0;

/// The memory (MB) that AWS Lambda sells, the same source.
pub const SOLD_MB: std::ops::RangeInclusive<u32> = 128..=10_240;

/// vCPUs that so many MiB of memory buy on AWS Lambda, where both are sold together.
pub fn vcpus(memory_mib: f64) -> f64 {
    memory_mib / MIB_PER_VCPU
}

/// What sets the CPUs of a function, in words.
pub fn limit() -> String {
    format!("Lambda memory, {MIB_PER_VCPU} MB a vCPU")
}

impl PowerModel {
    /// The model of an AWS Lambda function with `memory_mb` MiB: [`MIB_PER_VCPU`] buy one
    /// vCPU, linearly, of a shared host ([`PowerModel::allotted_vcpus`]).
    ///
    /// `architecture` is `arm64` / `aarch64` or anything else for x86_64; `cpu_name` is what
    /// `/proc/cpuinfo` shows there, if known. Without it arm64 is taken to be Graviton2 and x86_64
    /// the geometric mean of the processors that were seen on Lambda.
    ///
    /// ```
    /// use lithowatt::model::PowerModel;
    /// let model = PowerModel::for_lambda(1769, "arm64", None);
    /// assert_eq!(model.allotted_vcpus(), Some(1.0));
    /// assert_eq!(model.describe(), "model:lambda-arm64");
    /// assert!(model.vcpus_watts(1.0, 1.0).total.value < 5.0);
    /// ```
    pub fn for_lambda(memory_mb: u32, architecture: &str, cpu_name: Option<&str>) -> Self {
        let architecture = architecture.to_ascii_lowercase();
        let arm = architecture.starts_with("arm") || architecture.starts_with("aarch64");
        let host = Host {
            guest: Some(true),
            architecture: Some(if arm { "aarch64" } else { "x86_64" }),
            ..Host::default()
        };
        let named = cpu_name
            .map(str::trim)
            .filter(|name| !name.is_empty() && *name != "unknown");
        let mut model = match (named, arm) {
            (Some(name), _) => Self::build(name, host),
            (None, true) => {
                let mut model = Self::build("AWS Graviton2", host);
                model.source = format!("Lambda arm64 taken as Graviton2: {}", model.source);
                model
            }
            (None, false) => Self::lambda_mix(host),
        };
        model.method = format!("model:lambda-{}", if arm { "arm64" } else { "x86_64" });
        model.allotted_vcpus = Some(vcpus(f64::from(memory_mb)));
        model.memory = Memory::of_a_host(Some(MIB_PER_VCPU / 1024.0));
        model
    }

    /// Lambda on x86_64 with no name: the geometric mean per thread of the parts seen there.
    fn lambda_mix(host: Host<'_>) -> Self {
        const SEEN: [&str; 4] = [
            "Intel(R) Xeon(R) Processor @ 2.50GHz",
            "Intel(R) Xeon(R) Processor @ 2.90GHz",
            "Intel(R) Xeon(R) Processor @ 3.00GHz",
            "AMD EPYC",
        ];
        let mut model = Self::build("AWS Lambda x86_64", host);
        let parts = SEEN.map(|name| Self::build(name, host));
        let mean = |of: fn(&Self) -> f64| {
            (parts.iter().map(|part| of(part).ln()).sum::<f64>() / parts.len() as f64).exp()
        };
        let threads = mean(|part| part.host_threads).round();
        model.curve = Curve {
            idle_w: mean(|part| part.curve.idle_w / part.host_threads) * threads,
            wake_w: mean(|part| part.curve.wake_w / part.host_threads) * threads,
            core_w: mean(|part| part.curve.core_w / part.host_threads) * threads,
            cores_per_socket: mean(|part| part.curve.cores_per_socket),
            ..parts[0].curve
        };
        model.host_threads = threads;
        model.threads_per_socket = threads as u32;
        model.tdp_w = Some(mean(|part| part.tdp_w.unwrap_or(part.curve.full_w())));
        model.source = "Lambda x86_64, processor unknown: geometric mean of Xeon Platinum 8259CL, \
                        8375C, 8124M and EPYC 7R13 class"
            .to_owned();
        model
    }
}

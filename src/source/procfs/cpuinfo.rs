//! /proc/cpuinfo: a pure parser, and the maker of the processors.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use serde::Serialize;

use super::online_cpus;
use crate::source::kept::Kept;
use crate::source::plain;

/// More of /proc/cpuinfo is not read, bytes: the CPUs behind it are like those before. It holds 40 of
/// a large x86 server's CPUs, and 300 of ARM's; all of those machines whose CPUs differ.
const MOST_BYTES: usize = 1 << 16;

/// What `/proc/cpuinfo` holds, x86 or ARM. Every field is `None` or zero where the text is silent.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CpuInfo {
    /// `model name` of the first processor that has a meaningful one; what RISC-V (`uarch`),
    /// LoongArch (`Model Name`), MIPS (`cpu model`), Power (`cpu`) and IBM Z (`machine`) write
    /// instead.
    pub model_name: Option<String>,
    /// `vendor_id` (x86).
    pub vendor_id: Option<String>,
    /// `cpu family` (x86) of the first processor.
    pub family: Option<u32>,
    /// `model` (x86): which processor of its family.
    pub model: Option<u32>,
    /// `stepping` (x86): which edition of it.
    pub stepping: Option<u32>,
    /// `CPU implementer` (ARM, the top byte of MIDR).
    #[doc(alias = "MIDR_EL1")]
    pub implementer: Option<u32>,
    /// `CPU part` (ARM) of the last processor: on big.LITTLE parts the big cores come last.
    #[doc(alias = "MIDR_EL1")]
    pub part: Option<u32>,
    /// `CPU architecture` (ARM): 7 or 8.
    pub arm_architecture: Option<u32>,
    /// `Model`, the board's name (Raspberry Pi and other single-board computers).
    pub board: Option<String>,
    /// Instruction set where the text is of neither x86 nor ARM: `riscv64`, `loongarch64`,
    /// `ppc64le`, `s390x`, `mips64`.
    pub architecture: Option<&'static str>,
    /// Number of `processor` entries.
    pub processors: u32,
    /// Distinct `physical id` values.
    pub sockets: Option<u32>,
    /// Distinct (`physical id`, `core id`) pairs, or `cpu cores` × sockets.
    pub physical_cores: Option<u32>,
    /// `siblings`: logical CPUs per socket.
    pub siblings: Option<u32>,
    /// `cpu cores`: cores per socket.
    pub cores_per_socket: Option<u32>,
    /// Mean of `cpu MHz` over the processors: the clock now, not the base clock.
    pub mhz: Option<f64>,
    /// The `hypervisor` flag (x86), a guest's platform (Power), or IBM Z, which always runs in a
    /// partition.
    pub hypervisor: bool,
}

/// Parses `/proc/cpuinfo` of an x86 or ARM kernel, and of the others as far as they name their
/// processor. Malformed lines are passed over.
///
/// ```
/// use lithowatt::source::procfs::parse_cpuinfo;
/// let info = parse_cpuinfo("processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu hypervisor\n");
/// assert_eq!(info.model_name.as_deref(), Some("AMD EPYC"));
/// assert!(info.hypervisor);
/// ```
pub fn parse_cpuinfo(text: &str) -> CpuInfo {
    let mut info = CpuInfo::default();
    let mut sockets = BTreeSet::new();
    let mut cores = BTreeSet::new();
    let mut socket = None;
    let mut mhz_sum = 0.0;
    let mut mhz_count = 0u32;

    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let (key, value) = (key.trim(), value.trim());
        match key {
            // Old ARM kernels write "Processor : ARMv7 …" once; only the lower-case one counts CPUs.
            "processor" => {
                info.processors = info.processors.saturating_add(1);
                socket = None;
            }
            "model name" if info.model_name.is_none() && meaningful(value) => {
                info.model_name = Some(value.to_owned());
            }
            "vendor_id" if info.vendor_id.is_none() && meaningful(value) => {
                if value == "IBM/S390" {
                    info.architecture = Some("s390x");
                    info.hypervisor = true;
                }
                info.vendor_id = Some(value.to_owned());
            }
            "Model Name" | "cpu model" | "uarch" | "cpu"
                if info.model_name.is_none() && meaningful(value) =>
            {
                let architecture = match key {
                    "Model Name" => "loongarch64",
                    "cpu model" => "mips64",
                    "uarch" => "riscv64",
                    _ => "ppc64le",
                };
                info.architecture.get_or_insert(architecture);
                let name = value
                    .split_once(", altivec")
                    .map_or(value, |(name, _)| name);
                info.model_name = Some(name.to_owned());
            }
            "isa" if value.starts_with("rv") => info.architecture = Some("riscv64"),
            "platform" if value == "pSeries" => info.hypervisor = true,
            // IBM Z writes "processor 0: version = 00, identification = …, machine = 8561".
            _ if key
                .strip_prefix("processor ")
                .is_some_and(|n| n.parse::<u32>().is_ok()) =>
            {
                info.processors = info.processors.saturating_add(1);
                if let (None, Some((_, machine))) =
                    (&info.model_name, value.split_once("machine = "))
                {
                    info.model_name = Some(format!("IBM Z machine {}", machine.trim()));
                }
            }
            "cpu family" => info.family = info.family.or_else(|| parse_number(value)),
            "model" => info.model = info.model.or_else(|| parse_number(value)),
            "stepping" => info.stepping = info.stepping.or_else(|| parse_number(value)),
            "CPU implementer" => info.implementer = parse_number(value).or(info.implementer),
            "CPU part" => info.part = parse_number(value).or(info.part),
            "CPU architecture" => {
                info.arm_architecture = parse_number(value)
                    .or_else(|| value.starts_with("AArch64").then_some(8))
                    .or(info.arm_architecture);
            }
            "Model" if meaningful(value) => info.board = Some(value.to_owned()),
            "physical id" => {
                socket = value.parse::<u32>().ok();
                if let Some(id) = socket {
                    sockets.insert(id);
                }
            }
            "core id" => {
                if let (Some(package), Ok(core)) = (socket, value.parse::<u32>()) {
                    cores.insert((package, core));
                }
            }
            "cpu cores" => {
                info.cores_per_socket = value.parse::<u32>().ok().or(info.cores_per_socket);
            }
            "siblings" => info.siblings = value.parse::<u32>().ok().or(info.siblings),
            "cpu MHz" => {
                if let Some(mhz) = positive(value).filter(|mhz| is_a_clock(*mhz)) {
                    mhz_sum += mhz;
                    mhz_count += 1;
                }
            }
            "flags" => {
                info.hypervisor = info.hypervisor
                    || value
                        .split_ascii_whitespace()
                        .any(|flag| flag == "hypervisor");
            }
            _ => {}
        }
    }

    info.sockets = count(sockets.len());
    info.physical_cores = count(cores.len()).or_else(|| {
        let per_socket = info.cores_per_socket?;
        Some(per_socket.saturating_mul(info.sockets.unwrap_or(1))).filter(|n| *n > 0)
    });
    if mhz_count > 0 {
        info.mhz = Some(mhz_sum / f64::from(mhz_count));
    }
    info
}

impl CpuInfo {
    /// Reads `/proc/cpuinfo` below `root`. Of a long one the start is read, and numbers of CPUs,
    /// sockets and cores are made of what each CPU there says and of how many are online.
    pub fn read(root: &Path) -> Self {
        let (text, whole) = start(root);
        let mut info = parse_cpuinfo(&text);
        if whole {
            return info;
        }
        let cpus = online_cpus(root);
        info.processors = cpus;
        info.sockets = info
            .siblings
            .filter(|n| *n > 0)
            .map(|siblings| cpus.div_ceil(siblings));
        let cores = info.sockets.zip(info.cores_per_socket);
        info.physical_cores = cores.map(|(sockets, cores)| sockets.saturating_mul(cores));
        info
    }
}

/// The start of `/proc/cpuinfo` below `root`, up to the end of a CPU, and whether that is all of it.
pub(super) fn start(root: &Path) -> (String, bool) {
    let mut bytes = Vec::new();
    if let Ok((file, _)) = plain::open(&root.join("proc/cpuinfo")) {
        // What was read before an error is there all the same.
        let _ = file.take(MOST_BYTES as u64 + 1).read_to_end(&mut bytes);
    }
    let whole = bytes.len() <= MOST_BYTES;
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    if !whole {
        text.truncate(text.rfind("\n\n").map_or(0, |end| end + 1));
    }
    (text, whole)
}

/// The maker's processors count energy as AMD's do.
pub fn is_amd(vendor: &str) -> bool {
    matches!(vendor, "AuthenticAMD" | "HygonGenuine")
}

/// `vendor_id` of the first processor, without reading all of a long /proc/cpuinfo.
pub fn cpu_vendor(root: &Path) -> Option<String> {
    let mut buffer = [0u8; 1024];
    let kept = Kept::open(&root.join("proc/cpuinfo")).ok()?;
    parse_cpuinfo(kept.read_start(&mut buffer).ok()?).vendor_id
}

/// A value with a meaning: some kernels write `unknown`, `N/A` or a bare number.
pub(crate) fn meaningful(value: &str) -> bool {
    !value.is_empty() && !matches!(value, "unknown" | "N/A" | "0" | "(null)")
}

fn parse_number(value: &str) -> Option<u32> {
    match value
        .strip_prefix("0x")
        .or_else(|| value.strip_prefix("0X"))
    {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => value.parse().ok(),
    }
}

pub(crate) fn positive(value: &str) -> Option<f64> {
    value
        .parse::<f64>()
        .ok()
        .filter(|v| v.is_finite() && *v > 0.0)
}

/// Whether a processor may have a clock of so many MHz: none was made to run at twice the 9.1 GHz of the records.
/// Drivers set some 100 MHz at least; one that is too hot and is stopped for seven eighths of the time at 400 MHz
/// comes to 50.
pub(crate) fn is_a_clock(mhz: f64) -> bool {
    (50.0..=20_000.0).contains(&mhz)
}

pub(crate) fn count(n: usize) -> Option<u32> {
    u32::try_from(n).ok().filter(|n| *n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_one_the_start_says_all() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let flags = "flag ".repeat(200);
        let text = |cpus: u32| -> String {
            let one = |cpu: u32| {
                let package = cpu % 512 / 64;
                format!(
                    "processor\t: {cpu}\nvendor_id\t: GenuineIntel\nmodel name\t: Xeon\n\
                     physical id\t: {package}\nsiblings\t: 128\ncore id\t\t: {}\n\
                     cpu cores\t: 64\nflags\t\t: {flags} hypervisor\n\n",
                    cpu % 64
                )
            };
            (0..cpus).map(one).collect()
        };
        let (few, many) = (text(16), text(1024));
        assert!(few.len() < MOST_BYTES && many.len() > MOST_BYTES);
        write("proc/cpuinfo", &few);
        assert_eq!(CpuInfo::read(root.path()), parse_cpuinfo(&few));
        write("proc/cpuinfo", &many);
        write("sys/devices/system/cpu/online", "0-1023\n");
        let found = CpuInfo::read(root.path());
        assert_eq!(found, parse_cpuinfo(&many));
        assert_eq!((found.sockets, found.physical_cores), (Some(8), Some(512)));
        // Without a word of sysfs, /proc/stat counts the CPUs.
        std::fs::remove_dir_all(root.path().join("sys")).unwrap();
        write(
            "proc/stat",
            &("cpu 1\n".to_owned() + &"cpu7 1\n".repeat(1024)),
        );
        assert_eq!(CpuInfo::read(root.path()), found);
    }
}

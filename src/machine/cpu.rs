//! Which processor is this, how many CPUs does it show, and is a hypervisor between us and it?
//!
//! The parsers are pure functions of text; [`CpuIdentity::read`] is the thin shell that opens files
//! below a `root`. Nothing here fails: what the kernel does not tell is `None`, and a machine that
//! tells nothing still has a name (`"unknown"`) and at least one logical CPU.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use serde::Serialize;

/// The largest CPU number that is believed (exclusive): the kernel's own limit is 8192 (`NR_CPUS`).
const MAX_CPUS: u32 = 8192;

/// No file read here is larger than a few MB even with thousands of CPUs.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// The processor of a machine as seen from here, which may be a guest or a container.
///
/// ```
/// use lithowatt::machine::cpu::CpuIdentity;
/// let cpu = CpuIdentity::read(std::path::Path::new("/"));
/// assert!(cpu.logical_cpus >= 1);
/// assert!(!cpu.name.is_empty());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CpuIdentity {
    /// Model name, e.g. `Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz`, `AWS Graviton2
    /// (Neoverse-N1)`, `Raspberry Pi 4 Model B Rev 1.4`; `"unknown"` where nothing says it.
    pub name: String,
    /// Short brand: `Intel`, `AMD`, `AWS`, `Ampere`, `Apple`, `ARM`, …; `"unknown"` otherwise.
    pub brand: String,
    /// The vendor as the processor states it: `GenuineIntel`, `AuthenticAMD`, `ARM`, …
    #[doc(alias = "vendor_id")]
    pub vendor: Option<String>,
    /// Instruction set, spelt as Python's `platform.machine()`: `x86_64`, `aarch64`, …
    pub architecture: String,
    /// Physical cores of all sockets that this system sees.
    pub physical_cores: Option<u32>,
    /// Logical CPUs (hardware threads) online, at least 1.
    pub logical_cpus: u32,
    /// Sockets (physical packages) that this system sees. In a guest this is the hypervisor's
    /// invention.
    pub sockets: Option<u32>,
    /// Base clock (MHz).
    pub base_mhz: Option<f64>,
    /// Highest clock (MHz) that the governor may choose.
    pub max_mhz: Option<f64>,
    /// True in a virtual machine: the CPUs seen are then a share of a host that is not seen.
    pub hypervisor: bool,
}

/// What `/proc/cpuinfo` says, x86 or ARM. Every field is `None` or zero where the text is silent.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CpuInfo {
    /// `model name` of the first processor that has a meaningful one.
    pub model_name: Option<String>,
    /// `vendor_id` (x86).
    pub vendor_id: Option<String>,
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
    /// Number of `processor` entries.
    pub processors: u32,
    /// Distinct `physical id` values.
    pub sockets: Option<u32>,
    /// Distinct (`physical id`, `core id`) pairs, or `cpu cores` × sockets.
    pub physical_cores: Option<u32>,
    /// `siblings`: logical CPUs per socket.
    pub siblings: Option<u32>,
    /// Mean of `cpu MHz` over the processors: the clock now, not the base clock.
    pub mhz: Option<f64>,
    /// The `hypervisor` flag (x86).
    pub hypervisor: bool,
}

/// Parses `/proc/cpuinfo` of an x86 or ARM kernel. Malformed lines are passed over.
///
/// ```
/// use lithowatt::machine::cpu::parse_cpuinfo;
/// let info = parse_cpuinfo("processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu hypervisor\n");
/// assert_eq!(info.model_name.as_deref(), Some("AMD EPYC"));
/// assert!(info.hypervisor);
/// ```
pub fn parse_cpuinfo(text: &str) -> CpuInfo {
    let mut info = CpuInfo::default();
    let mut sockets = BTreeSet::new();
    let mut cores = BTreeSet::new();
    let mut cores_per_socket = None;
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
                info.vendor_id = Some(value.to_owned());
            }
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
            "cpu cores" => cores_per_socket = value.parse::<u32>().ok().or(cores_per_socket),
            "siblings" => info.siblings = value.parse::<u32>().ok().or(info.siblings),
            "cpu MHz" => {
                if let Some(mhz) = positive(value) {
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
        let per_socket: u32 = cores_per_socket?;
        Some(per_socket.saturating_mul(info.sockets.unwrap_or(1))).filter(|n| *n > 0)
    });
    if mhz_count > 0 {
        info.mhz = Some(mhz_sum / f64::from(mhz_count));
    }
    info
}

/// Parses a kernel CPU list such as `0-3,8,10-11` into sorted CPU numbers.
///
/// Pieces that make no sense are passed over, and numbers beyond the kernel's limit of 8192 CPUs
/// are not believed, so that a hostile text cannot ask for gigabytes.
///
/// ```
/// use lithowatt::machine::cpu::parse_cpu_list;
/// assert_eq!(parse_cpu_list("0-2,5\n"), vec![0, 1, 2, 5]);
/// assert_eq!(parse_cpu_list("7-3,x,,-"), Vec::<u32>::new());
/// ```
#[doc(alias = "online")]
#[doc(alias = "cpumask")]
pub fn parse_cpu_list(text: &str) -> Vec<u32> {
    let mut cpus = BTreeSet::new();
    for piece in text.trim().split(',') {
        let piece = piece.trim();
        let (first, last) = piece.split_once('-').unwrap_or((piece, piece));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<u32>(), last.trim().parse::<u32>()) {
            cpus.extend((first..=last).take_while(|cpu| *cpu < MAX_CPUS));
        }
    }
    cpus.into_iter().collect()
}

/// The clock (MHz) that a model name carries after its `@`, e.g. `… @ 2.50GHz` is 2500.
pub fn mhz_in_name(name: &str) -> Option<f64> {
    let clock = name.rsplit_once('@')?.1.trim().to_ascii_lowercase();
    if let Some(ghz) = clock.strip_suffix("ghz") {
        positive(ghz.trim()).map(|ghz| ghz * 1000.0)
    } else {
        positive(clock.strip_suffix("mhz")?.trim())
    }
}

/// Names an ARM core from its MIDR implementer and part: `(brand, core name)`.
///
/// Numbers from Arm's technical reference manuals and from the table in util-linux `lscpu`, where
/// vendors publish them. `None` for a pair that is not known.
///
/// ```
/// use lithowatt::machine::cpu::arm_core;
/// assert_eq!(arm_core(0x41, 0xd0c), Some(("ARM", "Neoverse-N1")));
/// assert_eq!(arm_core(0xff, 0), None);
/// ```
#[doc(alias = "MIDR_EL1")]
pub fn arm_core(implementer: u32, part: u32) -> Option<(&'static str, &'static str)> {
    Some(match (implementer, part) {
        (0x41, 0xc07) => ("ARM", "Cortex-A7"),
        (0x41, 0xd03) => ("ARM", "Cortex-A53"),
        (0x41, 0xd04) => ("ARM", "Cortex-A35"),
        (0x41, 0xd05) => ("ARM", "Cortex-A55"),
        (0x41, 0xd07) => ("ARM", "Cortex-A57"),
        (0x41, 0xd08) => ("ARM", "Cortex-A72"),
        (0x41, 0xd09) => ("ARM", "Cortex-A73"),
        (0x41, 0xd0a) => ("ARM", "Cortex-A75"),
        (0x41, 0xd0b) => ("ARM", "Cortex-A76"),
        (0x41, 0xd0c) => ("ARM", "Neoverse-N1"),
        (0x41, 0xd0d) => ("ARM", "Cortex-A77"),
        (0x41, 0xd40) => ("ARM", "Neoverse-V1"),
        (0x41, 0xd41) => ("ARM", "Cortex-A78"),
        (0x41, 0xd42) => ("ARM", "Cortex-A78AE"),
        (0x41, 0xd44) => ("ARM", "Cortex-X1"),
        (0x41, 0xd49) => ("ARM", "Neoverse-N2"),
        (0x41, 0xd4a) => ("ARM", "Neoverse-E1"),
        (0x41, 0xd4f) => ("ARM", "Neoverse-V2"),
        (0x41, 0xd84) => ("ARM", "Neoverse-V3"),
        (0x41, 0xd8e) => ("ARM", "Neoverse-N3"),
        (0x42, 0x516) | (0x43, 0x0af) => ("Cavium", "ThunderX2"),
        (0x43, 0x0a1) => ("Cavium", "ThunderX"),
        (0x46, 0x001) => ("Fujitsu", "A64FX"),
        (0x48, 0xd01) => ("HiSilicon", "Kunpeng-920"),
        (0x61, 0x022 | 0x023) => ("Apple", "M1"),
        (0x61, 0x024 | 0x025) => ("Apple", "M1 Pro"),
        (0x61, 0x028 | 0x029) => ("Apple", "M1 Max"),
        (0x61, 0x032 | 0x033) => ("Apple", "M2"),
        (0x61, 0x034 | 0x035) => ("Apple", "M2 Pro"),
        (0x61, 0x038 | 0x039) => ("Apple", "M2 Max"),
        (0xc0, 0xac3) => ("Ampere", "AmpereOne"),
        (0xc0, 0xac4) => ("Ampere", "AmpereOne A"),
        (0xc0, 0xac5) => ("Ampere", "AmpereOne B"),
        _ => return None,
    })
}

/// True when the firmware's `sys_vendor` and `product_name` (DMI) are those of a virtual machine.
///
/// Needed on ARM, whose `/proc/cpuinfo` has no hypervisor flag. Amazon's bare-metal instances carry
/// Amazon's vendor name too and are told apart by their product name.
///
/// ```
/// use lithowatt::machine::cpu::dmi_is_virtual;
/// assert!(dmi_is_virtual("Amazon EC2", "c6g.large"));
/// assert!(!dmi_is_virtual("Amazon EC2", "c6g.metal"));
/// assert!(!dmi_is_virtual("Dell Inc.", "PowerEdge R630"));
/// ```
#[doc(alias = "DMI")]
pub fn dmi_is_virtual(vendor: &str, product: &str) -> bool {
    let (vendor, product) = (vendor.to_ascii_lowercase(), product.to_ascii_lowercase());
    if vendor.contains("amazon ec2") {
        return !product.contains("metal");
    }
    [
        "qemu",
        "google",
        "vmware",
        "innotek",
        "xen",
        "parallels",
        "openstack",
        "nutanix",
        "digitalocean",
        "hetzner",
        "alibaba",
        "firecracker",
    ]
    .iter()
    .any(|word| vendor.contains(word))
        || [
            "virtual machine",
            "virtualbox",
            "vmware",
            "kvm",
            "compute engine",
            "openstack",
            "bhyve",
        ]
        .iter()
        .any(|word| product.contains(word))
}

impl CpuIdentity {
    /// Reads the identity below `root` (`/` for this machine; a test or a container may point at
    /// another tree that has `proc` and `sys`). Never fails.
    pub fn read(root: &Path) -> Self {
        let info = parse_cpuinfo(&slurp(root, "proc/cpuinfo").unwrap_or_default());
        let online =
            parse_cpu_list(&slurp(root, "sys/devices/system/cpu/online").unwrap_or_default());
        let board = slurp(root, "proc/device-tree/model")
            .or_else(|| slurp(root, "sys/firmware/devicetree/base/model"));
        let dmi_vendor = slurp(root, "sys/class/dmi/id/sys_vendor").unwrap_or_default();
        let dmi_product = slurp(root, "sys/class/dmi/id/product_name").unwrap_or_default();
        let guest_tree = slurp(root, "sys/hypervisor/type").is_some()
            || root.join("proc/device-tree/hypervisor").exists();
        let cpufreq = |file: &str| {
            slurp(root, &format!("sys/devices/system/cpu/cpu0/cpufreq/{file}"))
                .and_then(|khz| positive(&khz))
                .map(|khz| khz / 1000.0)
        };
        let topology = read_topology(root, &online);

        let mut identity = Self::from_parts(
            &info,
            board.as_deref(),
            &dmi_vendor,
            info.hypervisor || guest_tree || dmi_is_virtual(&dmi_vendor, &dmi_product),
        );
        if let Some(online) = count(online.len()) {
            identity.logical_cpus = online;
        }
        if let Some((sockets, cores)) = topology {
            identity.sockets = Some(sockets);
            identity.physical_cores = Some(cores);
        }
        identity.base_mhz = cpufreq("base_frequency").or(identity.base_mhz);
        identity.max_mhz = cpufreq("cpuinfo_max_freq");
        identity
    }

    /// Puts the identity together from parsed texts: `board` is the device tree's model name,
    /// `dmi_vendor` the firmware's vendor.
    pub fn from_parts(
        info: &CpuInfo,
        board: Option<&str>,
        dmi_vendor: &str,
        hypervisor: bool,
    ) -> Self {
        let board = board
            .map(|text| text.trim_matches(['\0', ' ', '\n', '\t']))
            .filter(|text| meaningful(text))
            .or(info.board.as_deref());
        let core = info
            .implementer
            .zip(info.part)
            .and_then(|(i, p)| arm_core(i, p));
        let arm = info.implementer.is_some();
        let amazon = dmi_vendor.to_ascii_lowercase().contains("amazon ec2");

        let name = match (core, board) {
            _ if arm && board.is_some_and(|b| b.contains("Raspberry Pi")) => {
                board.unwrap_or_default().to_owned()
            }
            (Some(("ARM", core)), _) if amazon => match core {
                "Cortex-A72" => format!("AWS Graviton ({core})"),
                "Neoverse-N1" => format!("AWS Graviton2 ({core})"),
                "Neoverse-V1" => format!("AWS Graviton3 ({core})"),
                "Neoverse-V2" => format!("AWS Graviton4 ({core})"),
                _ => format!("ARM {core}"),
            },
            (Some((brand, core)), _) => format!("{brand} {core}"),
            (None, _) => info
                .model_name
                .clone()
                .unwrap_or_else(|| "unknown".to_owned()),
        };
        let brand = match core {
            _ if name.starts_with("AWS ") => "AWS",
            Some((brand, _)) => brand,
            None => brand_of(&name, info.vendor_id.as_deref()),
        };
        let architecture = match (info.arm_architecture, arm, info.vendor_id.is_some()) {
            (Some(7), _, _) => "armv7l",
            (_, true, _) => "aarch64",
            (_, _, true) => "x86_64",
            _ => std::env::consts::ARCH,
        };
        let vendor = info
            .vendor_id
            .clone()
            .or_else(|| core.map(|(brand, _)| brand.to_owned()));
        let logical_cpus = if info.processors > 0 {
            info.processors
        } else {
            std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1))
        };
        Self {
            base_mhz: mhz_in_name(&name),
            brand: brand.to_owned(),
            name,
            vendor,
            architecture: architecture.to_owned(),
            physical_cores: info.physical_cores,
            logical_cpus,
            sockets: info.sockets,
            max_mhz: None,
            hypervisor,
        }
    }
}

/// Sockets and physical cores of the online CPUs from sysfs, or `None` unless every CPU tells both.
fn read_topology(root: &Path, online: &[u32]) -> Option<(u32, u32)> {
    let mut sockets = BTreeSet::new();
    let mut cores = BTreeSet::new();
    for cpu in online {
        let read = |file: &str| {
            slurp(
                root,
                &format!("sys/devices/system/cpu/cpu{cpu}/topology/{file}"),
            )?
            .parse::<u32>() // -1 means that the firmware does not say
            .ok()
        };
        let package = read("physical_package_id")?;
        sockets.insert(package);
        cores.insert((
            package,
            read("die_id").unwrap_or(0),
            read("cluster_id").unwrap_or(0),
            read("core_id")?,
        ));
    }
    Some((count(sockets.len())?, count(cores.len())?))
}

fn brand_of(name: &str, vendor: Option<&str>) -> &'static str {
    match vendor {
        Some("GenuineIntel") => return "Intel",
        Some("AuthenticAMD") => return "AMD",
        Some("HygonGenuine") => return "Hygon",
        Some("CentaurHauls" | "  Shanghai  " | "Shanghai") => return "Zhaoxin",
        _ => {}
    }
    let lower = name.to_ascii_lowercase();
    for (word, brand) in [
        ("intel", "Intel"),
        ("amd", "AMD"),
        ("graviton", "AWS"),
        ("ampere", "Ampere"),
        ("apple", "Apple"),
        ("raspberry", "ARM"),
        ("armv", "ARM"),
        ("cortex", "ARM"),
        ("neoverse", "ARM"),
    ] {
        if lower.contains(word) {
            return brand;
        }
    }
    "unknown"
}

/// The trimmed text of a file below `root`; `None` if it cannot be read or says nothing.
fn slurp(root: &Path, relative: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(root.join(relative)).ok()?;
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes)
        .trim_matches(['\0', ' ', '\n', '\t'])
        .to_owned();
    (!text.is_empty()).then_some(text)
}

/// A value that says something: some kernels write `unknown`, `N/A` or a bare number.
fn meaningful(value: &str) -> bool {
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

fn positive(value: &str) -> Option<f64> {
    value
        .parse::<f64>()
        .ok()
        .filter(|v| v.is_finite() && *v > 0.0)
}

fn count(n: usize) -> Option<u32> {
    u32::try_from(n).ok().filter(|n| *n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn x86(processor: u32, socket: u32, core: u32) -> String {
        format!(
            "processor\t: {processor}\nvendor_id\t: GenuineIntel\ncpu family\t: 6\n\
             model name\t: Intel(R) Xeon(R) CPU E5-2620 v3 @ 2.40GHz\ncpu MHz\t\t: 1200.000\n\
             physical id\t: {socket}\nsiblings\t: 4\ncore id\t\t: {core}\ncpu cores\t: 2\n\
             flags\t\t: fpu vme sse2\n\n"
        )
    }

    #[test]
    fn two_sockets_with_hyper_threading() {
        let text: String = (0..8).map(|i| x86(i, i % 2, (i / 2) % 2)).collect();
        let info = parse_cpuinfo(&text);
        assert_eq!(info.processors, 8);
        assert_eq!(info.sockets, Some(2));
        assert_eq!(info.physical_cores, Some(4));
        assert_eq!(info.siblings, Some(4));
        assert_eq!(info.mhz, Some(1200.0));
        assert!(!info.hypervisor);
        let cpu = CpuIdentity::from_parts(&info, None, "", false);
        assert_eq!(
            (cpu.brand.as_str(), cpu.architecture.as_str()),
            ("Intel", "x86_64")
        );
        assert_eq!(cpu.base_mhz, Some(2400.0));
    }

    #[test]
    fn graviton_from_midr() {
        let text = "processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd\n\
                    CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x3\n\
                    CPU part\t: 0xd0c\nCPU revision\t: 1\n\nprocessor\t: 1\n\
                    CPU implementer\t: 0x41\nCPU part\t: 0xd0c\n";
        let info = parse_cpuinfo(text);
        let aws = CpuIdentity::from_parts(&info, None, "Amazon EC2\n", true);
        assert_eq!(aws.name, "AWS Graviton2 (Neoverse-N1)");
        assert_eq!(aws.brand, "AWS");
        assert_eq!(aws.architecture, "aarch64");
        assert_eq!(aws.logical_cpus, 2);
        let other = CpuIdentity::from_parts(&info, None, "GIGABYTE", false);
        assert_eq!(
            (other.name.as_str(), other.brand.as_str()),
            ("ARM Neoverse-N1", "ARM")
        );
    }

    #[test]
    fn raspberry_pi_is_named_after_its_board() {
        let text = "processor\t: 0\nCPU implementer\t: 0x41\nCPU architecture: 8\n\
                    CPU part\t: 0xd08\n\nHardware\t: BCM2835\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n";
        let cpu = CpuIdentity::from_parts(&parse_cpuinfo(text), None, "", false);
        assert_eq!(cpu.name, "Raspberry Pi 4 Model B Rev 1.4");
        assert_eq!(cpu.brand, "ARM");
        let cpu = CpuIdentity::from_parts(
            &parse_cpuinfo(text),
            Some("Raspberry Pi 5 Model B Rev 1.0\0"),
            "",
            false,
        );
        assert_eq!(cpu.name, "Raspberry Pi 5 Model B Rev 1.0");
    }

    #[test]
    fn apple_and_ampere() {
        let info =
            |i: &str, p: &str| parse_cpuinfo(&format!("CPU implementer : {i}\nCPU part : {p}\n"));
        let name = |i, p| CpuIdentity::from_parts(&info(i, p), None, "", false).name;
        assert_eq!(name("0x61", "0x023"), "Apple M1");
        assert_eq!(name("0xc0", "0xac3"), "Ampere AmpereOne");
        assert_eq!(name("0x99", "0x999"), "unknown");
    }

    #[test]
    fn hostile_text_never_panics() {
        let texts = [
            "",
            ":",
            "::::",
            "processor",
            "processor: 99999999999999999999\nphysical id: -1\ncore id: x\ncpu MHz: NaN\ncpu MHz: inf",
            "CPU implementer: 0x\nCPU part: 0xfffffffffffff\nCPU architecture: \u{1F980}",
            "cpu cores: 4294967295\nphysical id: 1\nprocessor: 1\nphysical id: 2",
            "model name: \0\0\0\nflags:",
            "\u{feff}model name\t: \u{202e}evil @ GHz",
        ];
        for text in texts {
            let info = parse_cpuinfo(text);
            let cpu = CpuIdentity::from_parts(&info, Some("\0"), text, true);
            assert!(cpu.logical_cpus >= 1, "{text:?}");
            assert!(!cpu.name.is_empty(), "{text:?}");
            let _ = parse_cpu_list(text);
            let _ = mhz_in_name(text);
        }
        assert_eq!(parse_cpuinfo("cpu MHz: NaN\n").mhz, None);
        let mut state = 0x2545_f491_4f6c_dd1du64;
        for _ in 0..2000 {
            let noise: String = (0..64)
                .map(|_| {
                    state = state
                        .wrapping_mul(6364136223846793005)
                        .wrapping_add(1442695040888963407);
                    b"processor:\n0123456789-,@xGHzcpu MHzid "[(state >> 33) as usize % 38] as char
                })
                .collect();
            let _ = parse_cpuinfo(&noise);
            let _ = parse_cpu_list(&noise);
            let _ = mhz_in_name(&noise);
        }
    }

    #[test]
    fn cpu_lists() {
        assert_eq!(parse_cpu_list("0"), [0]);
        assert_eq!(parse_cpu_list(" 0-1, 4 ,4,3-2\n"), [0, 1, 4]);
        assert_eq!(parse_cpu_list("0-4294967295").len(), MAX_CPUS as usize);
        assert!(parse_cpu_list("-1,a-b,99999999999").is_empty());
    }

    #[test]
    fn clocks_in_names() {
        assert_eq!(
            mhz_in_name("Intel(R) Xeon(R) Processor @ 2.50GHz"),
            Some(2500.0)
        );
        assert_eq!(mhz_in_name("x @ 800MHz"), Some(800.0));
        assert_eq!(mhz_in_name("AMD EPYC 7571"), None);
        assert_eq!(mhz_in_name("x @ -1GHz"), None);
    }

    #[test]
    fn reads_a_tree_and_survives_an_empty_one() {
        let root = tempfile::tempdir().unwrap();
        let empty = CpuIdentity::read(root.path());
        assert_eq!(empty.name, "unknown");
        assert!(empty.logical_cpus >= 1);
        assert_eq!(empty.sockets, None);

        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(
            "proc/cpuinfo",
            &(0..4).map(|i| x86(i, 0, i / 2)).collect::<String>(),
        );
        write("sys/devices/system/cpu/online", "0-3\n");
        for cpu in 0..4 {
            let dir = format!("sys/devices/system/cpu/cpu{cpu}/topology");
            write(
                &format!("{dir}/physical_package_id"),
                &format!("{}\n", cpu / 2),
            );
            write(&format!("{dir}/core_id"), "0\n");
        }
        write(
            "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq",
            "3200000\n",
        );
        let cpu = CpuIdentity::read(root.path());
        assert_eq!(cpu.logical_cpus, 4);
        assert_eq!((cpu.sockets, cpu.physical_cores), (Some(2), Some(2)));
        assert_eq!((cpu.base_mhz, cpu.max_mhz), (Some(2400.0), Some(3200.0)));
        assert!(!cpu.hypervisor);

        write("sys/class/dmi/id/sys_vendor", "QEMU\n");
        assert!(CpuIdentity::read(root.path()).hypervisor);
        write(
            "sys/devices/system/cpu/cpu3/topology/physical_package_id",
            "-1\n",
        );
        // The sysfs topology is no longer whole: back to what cpuinfo says.
        assert_eq!(CpuIdentity::read(root.path()).physical_cores, Some(2));
    }

    #[test]
    fn serialises() {
        let text = serde_json::to_string(&CpuIdentity::read(Path::new("/nonexistent"))).unwrap();
        assert!(text.contains("\"name\":\"unknown\""), "{text}");
    }
}

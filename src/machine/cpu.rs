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
    /// `model name` of the first processor that has a meaningful one; what RISC-V (`uarch`),
    /// LoongArch (`Model Name`), MIPS (`cpu model`), Power (`cpu`) and IBM Z (`machine`) write
    /// instead.
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

/// The maker of an ARM processor by its MIDR implementer.
///
/// Numbers from Arm's architecture reference manual (`MIDR_EL1`) and the Linux kernel's
/// `arch/arm64/include/asm/cputype.h`.
///
/// ```
/// use lithowatt::machine::cpu::arm_implementer;
/// assert_eq!(arm_implementer(0x61), Some("Apple"));
/// ```
#[doc(alias = "MIDR_EL1")]
pub fn arm_implementer(implementer: u32) -> Option<&'static str> {
    Some(match implementer {
        0x41 => "ARM",
        0x42 => "Broadcom",
        0x43 => "Cavium",
        0x44 => "DEC",
        0x46 => "Fujitsu",
        0x48 => "HiSilicon",
        0x49 => "Infineon",
        0x4d => "Motorola",
        0x4e => "NVIDIA",
        0x50 => "AppliedMicro",
        0x51 => "Qualcomm",
        0x53 => "Samsung",
        0x56 => "Marvell",
        0x61 => "Apple",
        0x66 => "Faraday",
        0x69 => "Intel",
        0x6d => "Microsoft",
        0x70 => "Phytium",
        0xc0 => "Ampere",
        _ => return None,
    })
}

/// Names an ARM core from its MIDR implementer and part: `(brand, core name)`.
///
/// Numbers from Arm's technical reference manuals (register `MIDR_EL1`), for other makers from the
/// Linux kernel's `arch/arm64/include/asm/cputype.h` and their own manuals. Apple's numbers name
/// the chip; one that is not known is still `silicon`, which is also what a guest on a Mac shows.
/// `None` for a pair that is not known.
///
/// ```
/// use lithowatt::machine::cpu::arm_core;
/// assert_eq!(arm_core(0x41, 0xd0c), Some(("ARM", "Neoverse-N1")));
/// assert_eq!(arm_core(0x6d, 0xd49), Some(("Microsoft", "Cobalt 100")));
/// assert_eq!(arm_core(0xff, 0), None);
/// ```
#[doc(alias = "MIDR_EL1")]
pub fn arm_core(implementer: u32, part: u32) -> Option<(&'static str, &'static str)> {
    let core = match (implementer, part) {
        // Arm, 32 bits
        (0x41, 0xb36) => "ARM1136",
        (0x41, 0xb56) => "ARM1156",
        (0x41, 0xb76) => "ARM1176",
        (0x41, 0xc05) => "Cortex-A5",
        (0x41, 0xc07) => "Cortex-A7",
        (0x41, 0xc08) => "Cortex-A8",
        (0x41, 0xc09) => "Cortex-A9",
        (0x41, 0xc0d | 0xc0e) => "Cortex-A17",
        (0x41, 0xc0f) => "Cortex-A15",
        (0x41, 0xd01) => "Cortex-A32",
        // Arm, 64 bits
        (0x41, 0xd02) => "Cortex-A34",
        (0x41, 0xd03) => "Cortex-A53",
        (0x41, 0xd04) => "Cortex-A35",
        (0x41, 0xd05) => "Cortex-A55",
        (0x41, 0xd06) => "Cortex-A65",
        (0x41, 0xd07) => "Cortex-A57",
        (0x41, 0xd08) => "Cortex-A72",
        (0x41, 0xd09) => "Cortex-A73",
        (0x41, 0xd0a) => "Cortex-A75",
        (0x41, 0xd0b) => "Cortex-A76",
        (0x41, 0xd0c) => "Neoverse-N1",
        (0x41, 0xd0d) => "Cortex-A77",
        (0x41, 0xd0e) => "Cortex-A76AE",
        (0x41, 0xd40) => "Neoverse-V1",
        (0x41, 0xd41) => "Cortex-A78",
        (0x41, 0xd42) => "Cortex-A78AE",
        (0x41, 0xd43) => "Cortex-A65AE",
        (0x41, 0xd44) => "Cortex-X1",
        (0x41, 0xd46) => "Cortex-A510",
        (0x41, 0xd47) => "Cortex-A710",
        (0x41, 0xd48) => "Cortex-X2",
        (0x41, 0xd49) => "Neoverse-N2",
        (0x41, 0xd4a) => "Neoverse-E1",
        (0x41, 0xd4b) => "Cortex-A78C",
        (0x41, 0xd4c) => "Cortex-X1C",
        (0x41, 0xd4d) => "Cortex-A715",
        (0x41, 0xd4e) => "Cortex-X3",
        (0x41, 0xd4f) => "Neoverse-V2",
        (0x41, 0xd80) => "Cortex-A520",
        (0x41, 0xd81) => "Cortex-A720",
        (0x41, 0xd82) => "Cortex-X4",
        (0x41, 0xd83) => "Neoverse-V3AE",
        (0x41, 0xd84) => "Neoverse-V3",
        (0x41, 0xd85) => "Cortex-X925",
        (0x41, 0xd87) => "Cortex-A725",
        (0x41, 0xd88) => "Cortex-A520AE",
        (0x41, 0xd89) => "Cortex-A720AE",
        (0x41, 0xd8a) => "C1-Nano",
        (0x41, 0xd8b) => "C1-Pro",
        (0x41, 0xd8c) => "C1-Ultra",
        (0x41, 0xd8e) => "Neoverse-N3",
        (0x41, 0xd8f) => "Cortex-A320",
        (0x41, 0xd90) => "C1-Premium",
        // Broadcom, Cavium and Marvell: ThunderX2 began as Broadcom's Vulcan
        (0x42, 0x00f) => "Brahma-B15",
        (0x42, 0x100) => "Brahma-B53",
        (0x42, 0x516) | (0x43, 0x516 | 0x0af) => return Some(("Cavium", "ThunderX2")),
        (0x43, 0x0a0..=0x0a3) => "ThunderX",
        (0x43, 0x0b0..=0x0b6) => "OcteonTX2",
        (0x43, 0x0b8) => "ThunderX3",
        // Fujitsu
        (0x46, 0x001) => "A64FX",
        (0x46, 0x003) => "MONAKA",
        // HiSilicon: TSV110 is the core of the Kunpeng 920
        (0x48, 0xd01) => "Kunpeng-920",
        (0x48, 0xd02) => "HIP09",
        (0x48, 0xd06) => "HIP12",
        // NVIDIA; Grace has Arm's Neoverse-V2
        (0x4e, 0x000) => "Denver",
        (0x4e, 0x003) => "Denver 2",
        (0x4e, 0x004) => "Carmel",
        (0x4e, 0x010) => "Olympus",
        // AppliedMicro
        (0x50, 0x000) => "X-Gene",
        // Qualcomm
        (0x51, 0x001) => "Oryon",
        (0x51, 0x02d) => "Scorpion",
        (0x51, 0x04d | 0x06f) => "Krait",
        (0x51, 0x200 | 0x201 | 0x205 | 0x211) => "Kryo",
        (0x51, 0x800 | 0x801) => "Kryo 2xx",
        (0x51, 0x802 | 0x803) => "Kryo 3xx",
        (0x51, 0x804 | 0x805) => "Kryo 4xx",
        (0x51, 0xc00) => "Falkor",
        (0x51, 0xc01) => "Saphira",
        // Samsung
        (0x53, 0x001) => "Exynos-M1",
        (0x53, 0x002) => "Exynos-M3",
        (0x53, 0x003) => "Exynos-M4",
        (0x53, 0x004) => "Exynos-M5",
        // Apple: efficiency and performance cores of one chip
        (0x61, 0x022 | 0x023) => "M1",
        (0x61, 0x024 | 0x025) => "M1 Pro",
        (0x61, 0x028 | 0x029) => "M1 Max",
        (0x61, 0x032 | 0x033) => "M2",
        (0x61, 0x034 | 0x035) => "M2 Pro",
        (0x61, 0x038 | 0x039) => "M2 Max",
        (0x61, _) => "silicon",
        // Microsoft: a Neoverse-N2 under its own number
        (0x6d, 0xd49) => "Cobalt 100",
        // Phytium
        (0x70, 0x660 | 0x661) => "FTC660",
        (0x70, 0x662) => "FTC662",
        (0x70, 0x663) => "FTC663",
        (0x70, 0x664) => "FTC664",
        (0x70, 0x862) => "FTC862",
        // Ampere; Altra has Arm's Neoverse-N1
        (0xc0, 0xac3) => "AmpereOne",
        (0xc0, 0xac4) => "AmpereOne A",
        (0xc0, 0xac5) => "AmpereOne B",
        _ => return None,
    };
    Some((arm_implementer(implementer)?, core))
}

/// The processor that a cloud builds around one of Arm's own cores, by the firmware's vendor:
/// `(brand, product)`. Arm sells its cores to many, so that the core alone does not tell.
fn arm_product(core: &str, dmi_vendor: &str) -> Option<(&'static str, &'static str)> {
    let vendor = dmi_vendor.to_ascii_lowercase();
    let by = |word: &str| vendor.contains(word);
    Some(match core {
        "Cortex-A72" if by("amazon ec2") => ("AWS", "Graviton"),
        "Neoverse-N1" if by("amazon ec2") => ("AWS", "Graviton2"),
        "Neoverse-V1" if by("amazon ec2") => ("AWS", "Graviton3"),
        "Neoverse-V2" if by("amazon ec2") => ("AWS", "Graviton4"),
        // Tau T2A of Google, Dpsv5 of Azure, A1 of Oracle, CAX of Hetzner: all are Altra.
        "Neoverse-N1"
            if [
                "google",
                "microsoft",
                "oracle",
                "hetzner",
                "scaleway",
                "alibaba",
                "ampere",
            ]
            .into_iter()
            .any(by) =>
        {
            ("Ampere", "Altra")
        }
        "Neoverse-N2" if by("microsoft") => ("Microsoft", "Cobalt 100"),
        "Neoverse-N2" if by("alibaba") => ("Alibaba", "Yitian 710"),
        "Neoverse-V2" if by("google") => ("Google", "Axion"),
        "Neoverse-N3" if by("google") => ("Google", "Axion N4A"),
        "Neoverse-V2" if by("nvidia") => ("NVIDIA", "Grace"),
        _ => return None,
    })
}

/// Boards that the device tree names better than their core does.
const BOARDS: [&str; 10] = [
    "Raspberry Pi",
    "Jetson",
    "ROCK",
    "Orange Pi",
    "Rock64",
    "RockPro64",
    "ODROID",
    "BeagleBone",
    "Khadas",
    "Banana Pi",
];

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
        let product = core
            .filter(|(brand, _)| *brand == "ARM")
            .and_then(|(_, core)| Some((core, arm_product(core, dmi_vendor)?)));
        let board = board
            .filter(|_| arm && product.is_none())
            .filter(|board| BOARDS.iter().any(|known| board.contains(known)));

        let name = match (board, product, core) {
            (Some(board), ..) => board.to_owned(),
            (_, Some((core, (brand, product))), _) => format!("{brand} {product} ({core})"),
            (.., Some((brand, core))) => format!("{brand} {core}"),
            _ => match (&info.model_name, info.implementer, info.part) {
                (Some(name), ..) => name.clone(),
                (None, Some(maker), Some(part)) => arm_implementer(maker)
                    .map_or("unknown".to_owned(), |maker| {
                        format!("{maker} part {part:#05x}")
                    }),
                _ => "unknown".to_owned(),
            },
        };
        let brand = match (product, core) {
            (Some((_, (brand, _))), _) => brand,
            (None, Some((brand, _))) => brand,
            _ => info
                .implementer
                .and_then(arm_implementer)
                .unwrap_or_else(|| brand_of(&name, info.vendor_id.as_deref())),
        };
        let architecture = match (info.architecture, info.arm_architecture, arm) {
            (Some(architecture), ..) => architecture,
            (None, Some(7), _) => "armv7l",
            (None, _, true) => "aarch64",
            _ if info.vendor_id.is_some() => "x86_64",
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

impl CpuIdentity {
    /// The identity from what `lscpu` printed in English, say in a report from another machine.
    /// Nothing here runs `lscpu`. Never fails; a text that tells nothing gives `"unknown"`.
    ///
    /// On ARM the firmware's name of the processor (`BIOS Model name`) is taken where it is more
    /// than the machine type of an emulator.
    ///
    /// ```
    /// use lithowatt::machine::cpu::CpuIdentity;
    /// let cpu = CpuIdentity::from_lscpu(
    ///     "Architecture: aarch64\nCPU(s): 4\nVendor ID: ARM\nBIOS Model name: AWS Graviton3\n\
    ///      Model name: Neoverse-V1\nThread(s) per core: 1\nCore(s) per socket: 4\nSocket(s): 1\n",
    /// );
    /// assert_eq!(cpu.name, "AWS Graviton3 (Neoverse-V1)");
    /// assert_eq!((cpu.logical_cpus, cpu.physical_cores), (4, Some(4)));
    /// ```
    pub fn from_lscpu(text: &str) -> Self {
        let mut fields: Vec<(&str, &str)> = Vec::new();
        for line in text.lines() {
            if let Some((key, value)) = line.split_once(':') {
                let value = value.trim();
                if meaningful(value) && value != "-" {
                    fields.push((key.trim(), value));
                }
            }
        }
        let first = |wanted: &str| Some(fields.iter().find(|(key, _)| *key == wanted)?.1);
        let number = |wanted: &str| first(wanted)?.parse::<u32>().ok().filter(|n| *n > 0);

        let architecture = first("Architecture").unwrap_or(std::env::consts::ARCH);
        let arm = architecture.starts_with("aarch64") || architecture.starts_with("arm");
        let vendor = first("Vendor ID");
        // Of several kinds of cores the fast ones come last on ARM.
        let model = if arm {
            fields
                .iter()
                .rev()
                .find(|(key, _)| *key == "Model name")
                .map(|(_, value)| *value)
        } else {
            first("Model name")
        };
        let firmware = first("BIOS Model name").map(firmware_name).filter(|name| {
            let name = name.to_ascii_lowercase();
            [
                "graviton", "altra", "cobalt", "axion", "grace", "kunpeng", "yitian", "thunderx",
            ]
            .iter()
            .any(|known| name.contains(known))
        });
        let name = match (arm, firmware, model, vendor) {
            (true, Some(firmware), Some(core), _) => format!("{firmware} ({core})"),
            (true, Some(firmware), None, _) => firmware.to_owned(),
            // "Firestorm-M1-Pro" is lscpu's name of a core of Apple's M1 Pro.
            (true, None, Some(core), Some("Apple")) => core.split_once("-M").map_or_else(
                || "Apple silicon".to_owned(),
                |(_, chip)| format!("Apple M{}", chip.replace('-', " ")),
            ),
            (true, None, Some(core), Some(maker)) => format!("{maker} {core}"),
            (_, _, Some(model), _) => model.to_owned(),
            _ => "unknown".to_owned(),
        };
        let sockets = number("Socket(s)");
        let per_socket = number("Core(s) per socket").or_else(|| {
            Some(number("Core(s) per cluster")?.saturating_mul(number("Cluster(s)").unwrap_or(1)))
        });
        let brand = match vendor {
            Some(maker) if arm && firmware.is_none() => maker,
            _ => brand_of(&name, vendor),
        };
        Self {
            base_mhz: mhz_in_name(&name),
            brand: brand.to_owned(),
            vendor: vendor.map(str::to_owned),
            architecture: architecture.to_owned(),
            physical_cores: per_socket.map(|cores| cores.saturating_mul(sockets.unwrap_or(1))),
            logical_cpus: number("CPU(s)").unwrap_or(1),
            sockets,
            max_mhz: first("CPU max MHz").and_then(positive),
            hypervisor: first("Hypervisor vendor").is_some()
                || first("Virtualization type").is_some()
                || first("Flags").is_some_and(|flags| {
                    flags
                        .split_ascii_whitespace()
                        .any(|flag| flag == "hypervisor")
                }),
            name,
        }
    }
}

/// The processor in `lscpu`'s `BIOS Model name`, which joins the firmware's version, part number and
/// clock: `AWS Graviton2 AWS Graviton2 CPU @ 2.5GHz` is `AWS Graviton2`.
fn firmware_name(text: &str) -> &str {
    let name = text
        .split_once(" CPU @")
        .map_or(text, |(name, _)| name)
        .trim();
    match name.split_at_checked(name.len() / 2) {
        Some((first, second)) if !first.is_empty() && second.trim_start() == first => first,
        _ => name,
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
        Some("IBM/S390") => return "IBM",
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
        ("hygon", "Hygon"),
        ("zhaoxin", "Zhaoxin"),
        ("loongson", "Loongson"),
        ("power", "IBM"),
        ("ibm", "IBM"),
        ("sifive", "SiFive"),
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
    let (file, _) = crate::source::plain::open(&root.join(relative)).ok()?;
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

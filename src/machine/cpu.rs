//! Which processor is this, how many CPUs does it show, and is a hypervisor between us and it?
//!
//! The parsers are pure functions of text; [`CpuIdentity::read`] is the thin shell that opens files
//! below a `root`. Nothing here fails: what the kernel does not show is `None`, and a machine that
//! shows nothing still has a name (`"unknown"`) and at least one logical CPU.

use std::io::Read;
use std::path::Path;

use serde::Serialize;

use super::cores::sockets_and_cores;
use crate::json::from_json;
use crate::source::procfs::{CpuInfo, count, is_a_clock, meaningful, parse_cpu_list, positive};

/// No file read here is longer, bytes: the list of CPUs that are online is, where every other one is.
const MAX_FILE_BYTES: u64 = 1 << 16;

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
    /// (Neoverse-N1)`, `Raspberry Pi 4 Model B Rev 1.4`; `"unknown"` where nothing shows it.
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
    /// The cpufreq governor, e.g. `performance`: whether the clock falls at low load.
    pub governor: Option<String>,
    /// The clock (MHz) that CPUs are kept below, by a limit that was set or with turbo switched off.
    pub limit_mhz: Option<f64>,
    /// True in a virtual machine: the CPUs seen are then a share of a host that is not seen.
    pub hypervisor: bool,
}

from_json!(CpuIdentity {
    name,
    brand,
    vendor,
    architecture,
    physical_cores,
    logical_cpus,
    sockets,
    base_mhz,
    max_mhz,
    governor,
    limit_mhz,
    hypervisor
});

/// Whether a hypervisor left nothing of the name but the maker's line of products, as Firecracker does.
fn hides_the_part(name: &str) -> bool {
    matches!(
        name.trim(),
        "Intel(R) Xeon(R) Processor" | "AMD EPYC" | "AMD EPYC Processor"
    )
}

/// The generation of a server's processor by its numbers, which hypervisors leave as they are: Intel's as
/// QEMU names them, from Linux's arch/x86/include/asm/intel-family.h (5 to 7 of model 85 are the steppings of
/// Cascade Lake, 10 and 11 of Cooper Lake), AMD's from its revision guides.
fn generation(info: &CpuInfo) -> Option<&'static str> {
    let intel = match info.vendor_id.as_deref()? {
        "GenuineIntel" => true,
        "AuthenticAMD" => false,
        _ => return None,
    };
    Some(match (intel, info.family?, info.model?) {
        (true, 6, 63) => "Haswell",
        (true, 6, 79 | 86) => "Broadwell",
        (true, 6, 85) => match info.stepping? {
            0..=4 => "Skylake",
            5..=7 => "Cascadelake",
            10..=11 => "Cooperlake",
            _ => return None,
        },
        (true, 6, 106 | 108) => "Icelake",
        (true, 6, 143) => "SapphireRapids",
        (true, 6, 207) => "EmeraldRapids",
        (true, 6, 173 | 174) => "GraniteRapids",
        (true, 6, 175) => "SierraForest",
        (false, 23, 1) => "Naples",
        (false, 23, 49) => "Rome",
        (false, 25, 17) => "Genoa",
        (false, 25, 160..=175) => "Bergamo",
        (false, 26, 0..=15) => "Turin",
        (false, 26, 16..=31) => "Turin Dense",
        // The table takes an EPYC of no name for a Milan.
        _ => return None,
    })
}

/// The clocks that the kernel's cpufreq shows for the first CPU and that no processor has: none of them is
/// used.
pub(super) fn odd_clocks(root: &Path) -> Vec<String> {
    // Not the clock of now: some kernels wait for 10 ms to know it.
    const FILES: [&str; 3] = ["base_frequency", "cpuinfo_max_freq", "scaling_max_freq"];
    let odd = FILES.iter().filter_map(|file| {
        let path = format!("sys/devices/system/cpu/cpu0/cpufreq/{file}");
        // 0 is said where it is not known.
        let khz = positive(&slurp(root, &path)?)?;
        (!is_a_clock(khz / 1000.0)).then(|| {
            format!(
                "/{path} shows {} MHz, which no processor runs at: it is not used",
                khz / 1000.0
            )
        })
    });
    odd.collect()
}

/// The clock (MHz) that a model name carries after its `@`, e.g. `… @ 2.50GHz` is 2500.
pub fn mhz_in_name(name: &str) -> Option<f64> {
    let clock = name.rsplit_once('@')?.1.trim().to_ascii_lowercase();
    let mhz = if let Some(ghz) = clock.strip_suffix("ghz") {
        positive(ghz.trim()).map(|ghz| ghz * 1000.0)
    } else {
        positive(clock.strip_suffix("mhz")?.trim())
    };
    mhz.filter(|mhz| is_a_clock(*mhz))
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
/// `(brand, product)`. Arm sells its cores to many, so that the core alone does not show which.
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
/// Amazon's vendor name too and are distinguished by their product name.
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
        let info = CpuInfo::read(root);
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
                .filter(|mhz| is_a_clock(*mhz))
        };
        let topology = sockets_and_cores(root, &online);

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
        identity.governor = slurp(root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
            .map(|name| name.trim().to_owned())
            .filter(|name| meaningful(name) && name.chars().all(|c| c.is_ascii_graphic()));
        let says = |file: &str, value: &str| {
            slurp(root, &format!("sys/devices/system/cpu/{file}"))
                .is_some_and(|text| text.trim() == value)
        };
        let turbo_off = says("intel_pstate/no_turbo", "1") || says("cpufreq/boost", "0");
        identity.limit_mhz = match (cpufreq("scaling_max_freq"), identity.base_mhz) {
            (Some(limit), Some(base)) if turbo_off => Some(limit.min(base)),
            (None, base) if turbo_off => base,
            (limit, _) => limit,
        };
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
                (Some(name), ..) => match generation(info) {
                    Some(generation) if hides_the_part(name) => format!("{name} ({generation})"),
                    _ => name.clone(),
                },
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
            governor: None,
            limit_mhz: None,
            hypervisor,
        }
    }
}

/// The brand by the name and the stated vendor of a processor; `"unknown"` where neither shows it.
pub fn brand_of(name: &str, vendor: Option<&str>) -> &'static str {
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

/// The trimmed text of a file below `root`; `None` if it cannot be read or is empty.
fn slurp(root: &Path, relative: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let (file, _) = crate::source::plain::open(&root.join(relative)).ok()?;
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes)
        .trim_matches(['\0', ' ', '\n', '\t'])
        .to_owned();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::procfs::parse_cpuinfo;

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
    fn a_name_that_hides_the_part_gets_its_generation() {
        let named = |vendor: &str, name: &str, (family, model, stepping): (u32, u32, u32)| {
            let text = format!(
                "vendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\n\
                 model name\t: {name}\nstepping\t: {stepping}\n"
            );
            CpuIdentity::from_parts(&parse_cpuinfo(&text), None, "", true).name
        };
        let intel = |name: &str, numbers| named("GenuineIntel", name, numbers);
        let bare = "Intel(R) Xeon(R) Processor";
        for (numbers, generation) in [
            ((6, 85, 4), "Skylake"),
            ((6, 85, 7), "Cascadelake"),
            ((6, 143, 8), "SapphireRapids"),
            ((6, 207, 2), "EmeraldRapids"),
        ] {
            assert_eq!(intel(bare, numbers), format!("{bare} ({generation})"));
        }
        assert_eq!(
            named("AuthenticAMD", "AMD EPYC", (25, 17, 1)),
            "AMD EPYC (Genoa)"
        );
        // What is known better, and what nobody knows.
        let named_part = "Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz";
        assert_eq!(intel(named_part, (6, 85, 7)), named_part);
        assert_eq!(intel(bare, (6, 999, 0)), bare);
        assert_eq!(named("AuthenticAMD", "AMD EPYC", (25, 1, 1)), "AMD EPYC");
        for generation in ["Haswell", "EmeraldRapids", "GraniteRapids", "SierraForest"] {
            let model =
                crate::model::PowerModel::for_cpu(&format!("{bare} ({generation})"), Some(2), None);
            assert!(model.assumptions().matched.is_some(), "{generation}");
        }
        for generation in ["Naples", "Rome", "Genoa", "Bergamo", "Turin", "Turin Dense"] {
            let model = crate::model::PowerModel::for_cpu(
                &format!("AMD EPYC ({generation})"),
                Some(2),
                None,
            );
            let matched = model.assumptions().matched.unwrap_or_default();
            assert!(
                matched.ends_with(&generation.to_lowercase()),
                "{generation}: {matched}"
            );
        }
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
        // The sysfs topology is no longer whole: back to cpuinfo's.
        assert_eq!(CpuIdentity::read(root.path()).physical_cores, Some(2));
    }

    #[test]
    fn serialises() {
        let text = serde_json::to_string(&CpuIdentity::read(Path::new("/nonexistent"))).unwrap();
        assert!(text.contains("\"name\":\"unknown\""), "{text}");
    }
}

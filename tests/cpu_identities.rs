//! Which processor is it? Texts as kernels print them, from clouds, laptops, boards and odd places,
//! each to its name and to its row of the table or to a class default that says so. And names that
//! nobody should print, which must not break anything.

use lithowatt::machine::cpu::{CpuIdentity, brand_of, dmi_is_virtual, mhz_in_name};
use lithowatt::model::PowerModel;
use lithowatt::model::table::{self, Class};
use lithowatt::source::procfs::parse_cpuinfo;

/// What a text must lead to.
enum Row {
    /// The row with this pattern, whose TDP or measured watts are used.
    Table(&'static str),
    /// A row with this pattern that has no watts: a class default of this class and its TDP.
    NoWatts(&'static str, Class),
    /// No row: a class default of this class.
    Default(Class),
}

struct Case {
    /// Where such a text is found.
    what: &'static str,
    text: String,
    /// The device tree's model.
    board: Option<&'static str>,
    /// `sys_vendor` and `product_name`.
    dmi: (&'static str, &'static str),
    name: &'static str,
    brand: &'static str,
    architecture: &'static str,
    logical: u32,
    guest: bool,
    row: Row,
}

/// `/proc/cpuinfo` of an x86 kernel: `cpus` threads of one socket, two to a core.
fn x86(
    vendor: &str,
    family: u32,
    model: u32,
    name: &str,
    mhz: f64,
    cpus: u32,
    flags: &str,
) -> String {
    (0..cpus)
        .map(|cpu| {
            format!(
                "processor\t: {cpu}\nvendor_id\t: {vendor}\ncpu family\t: {family}\n\
                 model\t\t: {model}\nmodel name\t: {name}\nstepping\t: 7\nmicrocode\t: 0x1\n\
                 cpu MHz\t\t: {mhz:.3}\ncache size\t: 36608 KB\nphysical id\t: 0\n\
                 siblings\t: {cpus}\ncore id\t\t: {}\ncpu cores\t: {}\napicid\t\t: {cpu}\n\
                 initial apicid\t: {cpu}\nfpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: 13\n\
                 wp\t\t: yes\nflags\t\t: fpu vme de pse tsc msr sse sse2 ht {flags}\n\
                 bugs\t\t: spectre_v1 spectre_v2\nbogomips\t: {:.2}\nclflush size\t: 64\n\
                 cache_alignment\t: 64\naddress sizes\t: 46 bits physical, 48 bits virtual\n\
                 power management:\n\n",
                cpu / 2,
                cpus.div_ceil(2),
                mhz * 2.0,
            )
        })
        .collect()
}

/// `/proc/cpuinfo` of a 64-bit ARM kernel; `cores` are (implementer, variant, part, revision).
fn arm(cores: &[(u32, u32, u32, u32)], tail: &str) -> String {
    let mut text: String = cores
        .iter()
        .enumerate()
        .map(|(cpu, (implementer, variant, part, revision))| {
            format!(
                "processor\t: {cpu}\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd evtstrm aes pmull\n\
                 CPU implementer\t: {implementer:#04x}\nCPU architecture: 8\n\
                 CPU variant\t: {variant:#x}\nCPU part\t: {part:#05x}\nCPU revision\t: {revision}\n\n"
            )
        })
        .collect();
    text.push_str(tail);
    text
}

const EC2: (&str, &str) = ("Amazon EC2", "m7g.large");
const AZURE: (&str, &str) = ("Microsoft Corporation", "Virtual Machine");
const GOOGLE: (&str, &str) = ("Google", "Google Compute Engine");
const NONE: (&str, &str) = ("", "");

fn intel(
    what: &'static str,
    model: u32,
    name: &'static str,
    cpus: u32,
    guest: bool,
    row: Row,
) -> Case {
    let flags = if guest { "hypervisor" } else { "" };
    Case {
        what,
        text: x86("GenuineIntel", 6, model, name, 2500.0, cpus, flags),
        board: None,
        dmi: NONE,
        name,
        brand: "Intel",
        architecture: "x86_64",
        logical: cpus,
        guest,
        row,
    }
}

fn amd(
    what: &'static str,
    family: u32,
    name: &'static str,
    cpus: u32,
    guest: bool,
    row: Row,
) -> Case {
    Case {
        text: x86(
            "AuthenticAMD",
            family,
            1,
            name,
            2650.0,
            cpus,
            if guest { "hypervisor" } else { "" },
        ),
        brand: "AMD",
        ..intel(what, 0, name, cpus, guest, row)
    }
}

fn on_arm(
    what: &'static str,
    cores: &[(u32, u32, u32, u32)],
    dmi: (&'static str, &'static str),
    name: &'static str,
    brand: &'static str,
    row: Row,
) -> Case {
    Case {
        what,
        text: arm(cores, ""),
        board: None,
        dmi,
        name,
        brand,
        architecture: "aarch64",
        logical: cores.len() as u32,
        guest: dmi_is_virtual(dmi.0, dmi.1),
        row,
    }
}

fn board(what: &'static str, part: u32, model: &'static str, row: Row) -> Case {
    let core = (0x41, 0, part, 3);
    Case {
        text: arm(
            &[core; 4],
            &format!(
                "Hardware\t: BCM2835\nRevision\t: c03111\nSerial\t\t: 0\nModel\t\t: {model}\n"
            ),
        ),
        ..on_arm(what, &[core; 4], NONE, model, "ARM", row)
    }
}

fn odd(
    what: &'static str,
    text: &str,
    name: &'static str,
    brand: &'static str,
    architecture: &'static str,
    logical: u32,
    row: Row,
) -> Case {
    Case {
        text: text.to_owned(),
        guest: parse_cpuinfo(text).hypervisor,
        ..on_arm(what, &[(0x41, 0, 0, 0)], NONE, name, brand, row)
    }
    .of(architecture, logical)
}

impl Case {
    fn of(self, architecture: &'static str, logical: u32) -> Self {
        Self {
            architecture,
            logical,
            ..self
        }
    }
}

fn clouds() -> Vec<Case> {
    use Row::{Default, NoWatts, Table};
    let n1 = (0x41, 3, 0xd0c, 1);
    let n2 = (0x41, 0, 0xd49, 3);
    let v1 = (0x41, 1, 0xd40, 1);
    let v2 = (0x41, 0, 0xd4f, 1);
    vec![
        // AWS
        intel(
            "AWS Lambda",
            63,
            "Intel(R) Xeon(R) Processor @ 2.50GHz",
            2,
            true,
            Table("xeon @ 2.50ghz"),
        ),
        intel(
            "AWS Lambda",
            106,
            "Intel(R) Xeon(R) Processor @ 2.90GHz",
            2,
            true,
            Table("xeon @ 2.90ghz"),
        ),
        intel(
            "AWS Lambda",
            85,
            "Intel(R) Xeon(R) Processor @ 3.00GHz",
            2,
            true,
            Table("xeon @ 3.00ghz"),
        ),
        amd("AWS Lambda", 25, "AMD EPYC", 2, true, Table("=amd epyc")),
        intel(
            "EC2 m3",
            62,
            "Intel(R) Xeon(R) CPU E5-2670 v2 @ 2.50GHz",
            2,
            true,
            Table("xeon e5-2670 v2"),
        ),
        intel(
            "EC2 m4",
            63,
            "Intel(R) Xeon(R) CPU E5-2676 v3 @ 2.40GHz",
            2,
            true,
            Table("xeon e5-2676 v3"),
        ),
        intel(
            "EC2 t2",
            79,
            "Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz",
            1,
            true,
            Table("xeon e5-2686 v4"),
        ),
        intel(
            "EC2 x1",
            63,
            "Intel(R) Xeon(R) CPU E7-8880 v3 @ 2.30GHz",
            64,
            true,
            Table("xeon e7-8880 v3"),
        ),
        intel(
            "EC2 c5",
            85,
            "Intel(R) Xeon(R) Platinum 8275CL CPU @ 3.00GHz",
            4,
            true,
            Table("xeon platinum 8275cl"),
        ),
        intel(
            "EC2 m6i",
            106,
            "Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz",
            4,
            true,
            Table("xeon platinum 8375c"),
        ),
        intel(
            "EC2 m7i",
            143,
            "Intel(R) Xeon(R) Platinum 8488C",
            4,
            true,
            Table("xeon platinum 8488c"),
        ),
        intel(
            "EC2 r7iz",
            143,
            "Intel(R) Xeon(R) Gold 6455B",
            4,
            true,
            NoWatts("xeon gold 6455b", Class::Server),
        ),
        intel(
            "EC2 m8i",
            173,
            "Intel(R) Xeon(R) 6975P-C",
            4,
            true,
            NoWatts("xeon 6975p-c", Class::Server),
        ),
        amd("EC2 m5a", 23, "AMD EPYC 7571", 4, true, Table("epyc 7571")),
        amd(
            "EC2 m6a",
            25,
            "AMD EPYC 7R13 Processor",
            4,
            true,
            Table("epyc 7r13"),
        ),
        amd("EC2 m7a", 25, "AMD EPYC 9R14", 4, true, Table("epyc 9r14")),
        amd(
            "EC2 m8a",
            26,
            "AMD EPYC 9R45",
            4,
            true,
            NoWatts("epyc 9r45", Class::Server),
        ),
        on_arm(
            "EC2 a1",
            &[(0x41, 0, 0xd08, 3); 2],
            EC2,
            "AWS Graviton (Cortex-A72)",
            "AWS",
            Table("graviton"),
        ),
        on_arm(
            "EC2 m6g",
            &[n1; 2],
            EC2,
            "AWS Graviton2 (Neoverse-N1)",
            "AWS",
            Table("graviton2"),
        ),
        on_arm(
            "EC2 m7g",
            &[v1; 2],
            EC2,
            "AWS Graviton3 (Neoverse-V1)",
            "AWS",
            Table("graviton3"),
        ),
        on_arm(
            "EC2 m8g",
            &[v2; 2],
            EC2,
            "AWS Graviton4 (Neoverse-V2)",
            "AWS",
            Table("graviton4"),
        ),
        on_arm(
            "EC2 m6g.metal",
            &[n1; 64],
            ("Amazon EC2", "m6g.metal"),
            "AWS Graviton2 (Neoverse-N1)",
            "AWS",
            Table("graviton2"),
        ),
        on_arm(
            "AWS Lambda arm64, no firmware tables",
            &[n1; 2],
            NONE,
            "ARM Neoverse-N1",
            "ARM",
            Table("neoverse-n1"),
        ),
        // Google
        intel(
            "Google N1",
            85,
            "Intel(R) Xeon(R) CPU @ 2.00GHz",
            2,
            true,
            NoWatts("=intel xeon @ 2.00ghz", Class::Server),
        ),
        intel(
            "Google N1",
            79,
            "Intel(R) Xeon(R) CPU @ 2.20GHz",
            2,
            true,
            NoWatts("=intel xeon @ 2.20ghz", Class::Server),
        ),
        intel(
            "Google C2",
            85,
            "Intel(R) Xeon(R) CPU @ 3.10GHz",
            4,
            true,
            NoWatts("=intel xeon @ 3.10ghz", Class::Server),
        ),
        intel(
            "Google C3",
            143,
            "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
            4,
            true,
            NoWatts("xeon platinum 8481c", Class::Server),
        ),
        amd(
            "Google N2D",
            23,
            "AMD EPYC 7B12",
            2,
            true,
            Table("epyc 7b12"),
        ),
        amd(
            "Google C3D",
            25,
            "AMD EPYC 9B14",
            4,
            true,
            NoWatts("epyc 9b14", Class::Server),
        ),
        on_arm(
            "Google T2A",
            &[n1; 4],
            GOOGLE,
            "Ampere Altra (Neoverse-N1)",
            "Ampere",
            Table("ampere altra"),
        ),
        on_arm(
            "Google C4A",
            &[v2; 4],
            GOOGLE,
            "Google Axion (Neoverse-V2)",
            "Google",
            NoWatts("axion", Class::ArmServer),
        ),
        // Azure
        intel(
            "Azure Dv2",
            85,
            "Intel(R) Xeon(R) Platinum 8171M CPU @ 2.60GHz",
            2,
            true,
            NoWatts("xeon platinum 8171m", Class::Server),
        ),
        intel(
            "Azure Dv5",
            106,
            "Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz",
            2,
            true,
            Table("xeon platinum 8370c"),
        ),
        intel(
            "Azure Dv6",
            207,
            "INTEL(R) XEON(R) PLATINUM 8573C",
            2,
            true,
            NoWatts("xeon platinum 8573c", Class::Server),
        ),
        amd(
            "Azure Dav5",
            25,
            "AMD EPYC 7763 64-Core Processor",
            2,
            true,
            Table("epyc 7763"),
        ),
        amd(
            "Azure Dav6",
            25,
            "AMD EPYC 9V74 80-Core Processor",
            4,
            true,
            NoWatts("epyc 9v74", Class::Server),
        ),
        on_arm(
            "Azure Dpsv5",
            &[n1; 2],
            AZURE,
            "Ampere Altra (Neoverse-N1)",
            "Ampere",
            Table("ampere altra"),
        ),
        on_arm(
            "Azure Dpsv6",
            &[(0x6d, 0, 0xd49, 0); 2],
            AZURE,
            "Microsoft Cobalt 100",
            "Microsoft",
            NoWatts("cobalt 100", Class::ArmServer),
        ),
        on_arm(
            "Azure Dpsv6, as Arm's own core",
            &[n2; 2],
            AZURE,
            "Microsoft Cobalt 100 (Neoverse-N2)",
            "Microsoft",
            NoWatts("cobalt 100", Class::ArmServer),
        ),
        // Others
        on_arm(
            "Oracle A1 metal",
            &[n1; 80],
            ("Oracle Corporation", "ORACLE SERVER"),
            "Ampere Altra (Neoverse-N1)",
            "Ampere",
            Table("ampere altra"),
        ),
        on_arm(
            "Alibaba g8y",
            &[n2; 2],
            ("Alibaba Cloud", "Alibaba Cloud ECS"),
            "Alibaba Yitian 710 (Neoverse-N2)",
            "Alibaba",
            NoWatts("yitian 710", Class::ArmServer),
        ),
        on_arm(
            "Huawei kc1",
            &[(0x48, 1, 0xd01, 0); 2],
            ("OpenStack Foundation", "OpenStack Nova"),
            "HiSilicon Kunpeng-920",
            "HiSilicon",
            NoWatts("kunpeng-920", Class::ArmServer),
        ),
        on_arm(
            "AmpereOne server",
            &[(0xc0, 0, 0xac3, 0); 96],
            ("Supermicro", "ARS-211M"),
            "Ampere AmpereOne",
            "Ampere",
            NoWatts("ampereone", Class::ArmServer),
        ),
        on_arm(
            "NVIDIA Grace server",
            &[v2; 72],
            ("NVIDIA", "Grace CPU"),
            "NVIDIA Grace (Neoverse-V2)",
            "NVIDIA",
            Table("nvidia grace"),
        ),
        on_arm(
            "Fugaku-like node",
            &[(0x46, 1, 0x001, 0); 48],
            ("FUJITSU", "FX700"),
            "Fujitsu A64FX",
            "Fujitsu",
            NoWatts("a64fx", Class::ArmServer),
        ),
        on_arm(
            "ThunderX2 server",
            &[(0x43, 1, 0x0af, 2); 128],
            ("GIGABYTE", "R281-T99"),
            "Cavium ThunderX2",
            "Cavium",
            Table("thunderx2"),
        ),
        on_arm(
            "a core newer than this table",
            &[(0x41, 0, 0xdff, 0); 64],
            ("Dell Inc.", "R999"),
            "ARM part 0xdff",
            "ARM",
            Default(Class::ArmServer),
        ),
    ]
}

fn machines() -> Vec<Case> {
    use Row::{Default, NoWatts, Table};
    vec![
        intel("server", 63, "Intel(R) Xeon(R) CPU E5-2620 v3 @ 2.40GHz", 12, false, Table("xeon e5-2620 v3")),
        intel("server", 45, "Intel(R) Xeon(R) CPU E5-2670 0 @ 2.60GHz", 16, false, Table("xeon e5-2670")),
        intel("small server", 158, "Intel(R) Xeon(R) E-2288G CPU @ 3.70GHz", 16, false, Table("xeon e-2288g")),
        intel("hybrid desktop", 183, "13th Gen Intel(R) Core(TM) i9-13900K", 32, false, Table("i9-13900k")),
        intel("hybrid laptop", 154, "12th Gen Intel(R) Core(TM) i7-12700H", 20, false, Table("i7-12700h")),
        intel("hybrid laptop", 170, "Intel(R) Core(TM) Ultra 7 155H", 22, false, Table("ultra 7 155h")),
        intel("mini PC", 190, "Intel(R) N100", 4, false, Table("intel n100")),
        intel("workstation", 143, "Intel(R) Xeon(R) w9-3495X", 112, false, Table("w9-3495x")),
        intel("E-core server", 175, "Intel(R) Xeon(R) 6780E", 144, false, Table("6780e")),
        amd("desktop", 25, "AMD Ryzen 9 5950X 16-Core Processor", 32, false, Table("ryzen 9 5950x")),
        amd("laptop", 25, "AMD Ryzen 7 PRO 6850U with Radeon Graphics", 16, false, Table("ryzen 7 pro 6850u")),
        amd("workstation", 25, "AMD Ryzen Threadripper PRO 5995WX 64-Cores", 128, false, Table("5995wx")),
        amd("server", 26, "AMD EPYC 9755 128-Core Processor", 256, false, Table("epyc 9755")),
        // Hypervisors that invent a name
        amd("KVM guest", 23, "AMD EPYC-Rome Processor", 2, true, NoWatts("epyc-rome", Class::Server)),
        intel("KVM guest", 6, "QEMU Virtual CPU version 2.5+", 2, true, Default(Class::Server)),
        intel("Proxmox guest", 15, "Common KVM processor", 2, true, Default(Class::Server)),
        intel("KVM guest", 85, "Intel Xeon Processor (Cascadelake)", 4, true, NoWatts("xeon cascadelake", Class::Server)),
        intel("KVM guest", 60, "Intel Core Processor (Haswell, no TSX, IBRS)", 2, true, NoWatts("core haswell", Class::Server)),
        intel("KVM guest", 58, "Intel Xeon E3-12xx v2 (Ivy Bridge, IBRS)", 1, true, NoWatts("xeon e3-12xx v2", Class::Server)),
        // Apple
        on_arm("Asahi Linux", &[(0x61, 1, 0x022, 1), (0x61, 1, 0x022, 1), (0x61, 1, 0x023, 1), (0x61, 1, 0x023, 1)], NONE, "Apple M1", "Apple", Table("apple m1")),
        on_arm("Asahi Linux", &[(0x61, 1, 0x034, 0), (0x61, 1, 0x035, 0)], NONE, "Apple M2 Pro", "Apple", Table("apple m2 pro")),
        on_arm("Docker Desktop on a Mac", &[(0x61, 0, 0x000, 0); 4], ("Apple Inc.", "Apple Virtualization Generic Platform"), "Apple silicon", "Apple", NoWatts("apple silicon", Class::Laptop)),
        on_arm("Snapdragon laptop", &[(0x51, 2, 0x001, 1); 12], ("LENOVO", "21N1"), "Qualcomm Oryon", "Qualcomm", NoWatts("oryon", Class::Laptop)),
        // Boards
        board("board", 0xd03, "Raspberry Pi 3 Model B Plus Rev 1.3", Table("raspberry pi 3 model b plus")),
        board("board", 0xd08, "Raspberry Pi 4 Model B Rev 1.5", Table("raspberry pi 4")),
        board("board", 0xd0b, "Raspberry Pi 5 Model B Rev 1.0", NoWatts("raspberry pi 5", Class::SingleBoard)),
        board("board", 0xd03, "Raspberry Pi Zero 2 W Rev 1.0", NoWatts("raspberry pi zero 2", Class::SingleBoard)),
        board("board", 0xd57, "NVIDIA Jetson Nano Developer Kit", NoWatts("jetson nano", Class::SingleBoard)),
        on_arm("board with two kinds of cores", &[(0x41, 2, 0xd05, 0), (0x41, 4, 0xd0b, 0)], NONE, "ARM Cortex-A76", "ARM", Default(Class::SingleBoard)),
        Case {
            text: "processor\t: 0\nmodel name\t: ARMv7 Processor rev 4 (v7l)\nBogoMIPS\t: 38.40\n\
                   Features\t: half thumb fastmult vfp edsp neon\nCPU implementer\t: 0x41\n\
                   CPU architecture: 7\nCPU variant\t: 0x0\nCPU part\t: 0xd03\nCPU revision\t: 4\n\n\
                   Hardware\t: BCM2835\nRevision\t: a02082\n"
                .to_owned(),
            board: Some("Raspberry Pi 3 Model B Rev 1.2\0"),
            ..board("32-bit system on a 64-bit board", 0, "Raspberry Pi 3 Model B Rev 1.2", Table("raspberry pi 3 model b")).of("armv7l", 1)
        },
        // Other makers and architectures
        Case {
            text: x86("HygonGenuine", 24, 1, "Hygon C86 7285 32-core Processor", 2000.0, 64, ""),
            ..intel("Hygon server", 0, "Hygon C86 7285 32-core Processor", 64, false, Default(Class::Server))
        }
        .by("Hygon"),
        Case {
            text: x86("CentaurHauls", 7, 59, "ZHAOXIN KaiXian KX-6780A@2.7GHz", 2700.0, 8, ""),
            ..intel("Zhaoxin desktop", 0, "ZHAOXIN KaiXian KX-6780A@2.7GHz", 8, false, Default(Class::Desktop))
        }
        .by("Zhaoxin"),
        odd(
            "IBM Z",
            "vendor_id       : IBM/S390\n# processors    : 2\nbogomips per cpu: 3241.00\n\
             max thread id   : 0\nfeatures\t: esan3 zarch stfle msa ldisp eimm\n\
             facilities      : 0 1 2 3 4 6 7\n\
             processor 0: version = 00,  identification = 0A2F58,  machine = 8561\n\
             processor 1: version = 00,  identification = 0A2F58,  machine = 8561\n\n\
             cpu number      : 0\ncpu MHz dynamic : 5200\ncpu MHz static  : 5200\n",
            "IBM Z machine 8561", "IBM", "s390x", 2, Default(Class::Server),
        ),
        odd(
            "POWER9 partition",
            "processor\t: 0\ncpu\t\t: POWER9 (architected), altivec supported\n\
             clock\t\t: 2500.000000MHz\nrevision\t: 2.2 (pvr 004e 0202)\n\n\
             timebase\t: 512000000\nplatform\t: pSeries\nmodel\t\t: IBM pSeries (emulated by qemu)\n\
             machine\t\t: CHRP IBM pSeries (emulated by qemu)\nMMU\t\t: Radix\n",
            "POWER9 (architected)", "IBM", "ppc64le", 1, Default(Class::Server),
        ),
        odd(
            "RISC-V board",
            "processor\t: 0\nhart\t\t: 1\nisa\t\t: rv64imafdc_zicntr_zicsr_zifencei_zihpm_zba_zbb\n\
             mmu\t\t: sv39\nuarch\t\t: sifive,u74-mc\nmvendorid\t: 0x489\n\
             marchid\t\t: 0x8000000000000007\nmimpid\t\t: 0x4210427\n\n\
             processor\t: 1\nhart\t\t: 2\nisa\t\t: rv64imafdc\nuarch\t\t: sifive,u74-mc\n",
            "sifive,u74-mc", "SiFive", "riscv64", 2, Default(Class::SingleBoard),
        ),
        odd(
            "Loongson desktop",
            "system type\t\t: generic-loongson-machine\n\nprocessor\t\t: 0\npackage\t\t\t: 0\n\
             core\t\t\t: 0\nCPU Family\t\t: Loongson-64bit\nModel Name\t\t: Loongson-3A5000\n\
             CPU Revision\t\t: 0x10\nFPU Revision\t\t: 0x00\nCPU MHz\t\t\t: 2500.00\n\
             BogoMIPS\t\t: 5000.00\nTLB Entries\t\t: 2112\n",
            "Loongson-3A5000", "Loongson", "loongarch64", 1, Default(Class::Desktop),
        ),
    ]
}

impl Case {
    fn by(self, brand: &'static str) -> Self {
        Self { brand, ..self }
    }

    fn check(&self) {
        let info = parse_cpuinfo(&self.text);
        let guest = info.hypervisor || dmi_is_virtual(self.dmi.0, self.dmi.1);
        let cpu = CpuIdentity::from_parts(&info, self.board, self.dmi.0, guest);
        let what = format!("{}: {}", self.what, self.name);
        assert_eq!(cpu.name, self.name, "{what}");
        assert_eq!(cpu.brand, self.brand, "{what}");
        assert_eq!(cpu.architecture, self.architecture, "{what}");
        assert_eq!(cpu.logical_cpus, self.logical, "{what}");
        assert_eq!(cpu.hypervisor, self.guest, "{what}");

        let row = table::find(&cpu.name).map(|row| row.pattern.as_str());
        let model = PowerModel::for_identity(&cpu);
        let facts = model.assumptions();
        assert_eq!(facts.shared_host, self.guest, "{what}");
        match self.row {
            Row::Table(pattern) => {
                assert_eq!(row, Some(pattern), "{what}");
                assert!(
                    !facts.source.contains("class default"),
                    "{what}: {}",
                    facts.source
                );
            }
            Row::NoWatts(pattern, class) => {
                assert_eq!(row, Some(pattern), "{what}");
                self.defaults(&facts.source, facts.class, class);
            }
            Row::Default(class) => {
                assert_eq!(row, None, "{what}");
                self.defaults(&facts.source, facts.class, class);
            }
        }
        sound(&model, &what);
    }

    fn defaults(&self, source: &str, is: Class, should: Class) {
        assert_eq!(is, should, "{}: {}", self.what, self.name);
        let start = format!("class default {}: ", should.label());
        assert!(source.starts_with(&start), "{}: {source}", self.name);
    }
}

/// Finite positive watts, ordered, with a band and a source.
fn sound(model: &PowerModel, what: &str) {
    for load in [0.0, 3.0, 50.0, 100.0] {
        let watts = model
            .watts(load, None, None)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(
            watts.value.is_finite() && watts.value > 0.0,
            "{what}: {watts:?}"
        );
        assert!(
            watts.low.is_finite() && watts.low >= 0.0,
            "{what}: {watts:?}"
        );
        assert!(watts.high.is_finite(), "{what}: {watts:?}");
        assert!(
            watts.low < watts.value && watts.value < watts.high,
            "{what}: {watts:?}"
        );
        assert!(!watts.source.is_empty(), "{what}");
    }
    assert!(
        model.describe().starts_with("model:"),
        "{what}: {}",
        model.describe()
    );
    let share = model.vcpus_watts(2.0, 1.0).total;
    assert!(
        share.value.is_finite() && share.value > 0.0,
        "{what}: {share:?}"
    );
}

#[test]
fn processors_of_clouds() {
    clouds().iter().for_each(Case::check);
}

#[test]
fn processors_of_other_machines() {
    machines().iter().for_each(Case::check);
}

#[test]
fn there_are_enough_of_them() {
    assert!(clouds().len() + machines().len() >= 70);
}

/// The identity from what `lscpu` printed in English in a report from another machine.
///
/// On ARM the firmware's name of the processor (`BIOS Model name`) is taken where it is more than the
/// machine type of an emulator.
fn from_lscpu(text: &str) -> CpuIdentity {
    let mut fields: Vec<(&str, &str)> = Vec::new();
    for line in text.lines() {
        if let Some((key, value)) = line.split_once(':') {
            let value = value.trim();
            if !matches!(value, "" | "-" | "unknown" | "N/A" | "0" | "(null)") {
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
    CpuIdentity {
        base_mhz: mhz_in_name(&name),
        brand: brand.to_owned(),
        vendor: vendor.map(str::to_owned),
        architecture: architecture.to_owned(),
        physical_cores: per_socket.map(|cores| cores.saturating_mul(sockets.unwrap_or(1))),
        logical_cpus: number("CPU(s)").unwrap_or(1),
        sockets,
        max_mhz: first("CPU max MHz").and_then(|mhz| mhz.parse().ok()),
        governor: None,
        limit_mhz: None,
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

#[test]
fn what_lscpu_prints() {
    let x86 = "Architecture:                         x86_64\n\
        CPU op-mode(s):                       32-bit, 64-bit\n\
        Address sizes:                        46 bits physical, 48 bits virtual\n\
        Byte Order:                           Little Endian\n\
        CPU(s):                               24\n\
        On-line CPU(s) list:                  0-23\n\
        Vendor ID:                            GenuineIntel\n\
        Model name:                           Intel(R) Xeon(R) CPU E5-2620 v3 @ 2.40GHz\n\
        CPU family:                           6\n\
        Model:                                63\n\
        Thread(s) per core:                   2\n\
        Core(s) per socket:                   6\n\
        Socket(s):                            2\n\
        CPU max MHz:                          3200.0000\n\
        CPU min MHz:                          1200.0000\n\
        Virtualization:                       VT-x\n\
        NUMA node0 CPU(s):                    0-5,12-17\n";
    let graviton = "Architecture:           aarch64\n  CPU op-mode(s):       32-bit, 64-bit\n\
        CPU(s):                 2\n  On-line CPU(s) list:  0,1\nVendor ID:              ARM\n  \
        BIOS Vendor ID:       AWS\n  Model name:           Neoverse-N1\n    \
        BIOS Model name:    AWS Graviton2 AWS Graviton2 CPU @ 2.5GHz\n    BIOS CPU family:    257\n    \
        Thread(s) per core: 1\n    Core(s) per socket: 2\n    Socket(s):          1\n";
    let mac = "Architecture:             aarch64\nCPU(s):                   8\n\
        Vendor ID:                Apple\n  Model name:             Icestorm-M1\n    \
        Thread(s) per core:     1\n    Core(s) per socket:     4\n    Socket(s):              1\n  \
        Model name:             Firestorm-M1\n    Core(s) per socket:     4\n";
    let qemu = "Architecture:        aarch64\nCPU(s):              4\nVendor ID:           ARM\n\
        BIOS Vendor ID:      QEMU\nModel name:          Neoverse-N1\n\
        BIOS Model name:     virt-7.2  CPU @ 2.0GHz\nThread(s) per core:  1\n\
        Core(s) per cluster: 4\nSocket(s):           -\nCluster(s):          1\n";
    let guest = "Architecture:          x86_64\nCPU(s):                2\n\
        Vendor ID:             AuthenticAMD\nModel name:            AMD EPYC 7763 64-Core Processor\n\
        Thread(s) per core:    2\nCore(s) per socket:    1\nSocket(s):             1\n\
        Hypervisor vendor:     Microsoft\nVirtualization type:   full\n";
    for (text, name, brand, cpus, cores, sockets, hypervisor, pattern) in [
        (
            x86,
            "Intel(R) Xeon(R) CPU E5-2620 v3 @ 2.40GHz",
            "Intel",
            24,
            Some(12),
            Some(2),
            false,
            "xeon e5-2620 v3",
        ),
        (
            graviton,
            "AWS Graviton2 (Neoverse-N1)",
            "AWS",
            2,
            Some(2),
            Some(1),
            false,
            "graviton2",
        ),
        (
            mac,
            "Apple M1",
            "Apple",
            8,
            Some(4),
            Some(1),
            false,
            "apple m1",
        ),
        (
            qemu,
            "ARM Neoverse-N1",
            "ARM",
            4,
            Some(4),
            None,
            false,
            "neoverse-n1",
        ),
        (
            guest,
            "AMD EPYC 7763 64-Core Processor",
            "AMD",
            2,
            Some(1),
            Some(1),
            true,
            "epyc 7763",
        ),
    ] {
        let cpu = from_lscpu(text);
        assert_eq!(cpu.name, name);
        assert_eq!(cpu.brand, brand, "{name}");
        assert_eq!(
            (
                cpu.logical_cpus,
                cpu.physical_cores,
                cpu.sockets,
                cpu.hypervisor
            ),
            (cpus, cores, sockets, hypervisor),
            "{name}"
        );
        let row = table::find(&cpu.name).unwrap_or_else(|| panic!("{name} is in no row"));
        assert_eq!(row.pattern, pattern);
        sound(&PowerModel::for_identity(&cpu), name);
    }
    assert_eq!(from_lscpu(x86).max_mhz, Some(3200.0));
    assert_eq!(from_lscpu(x86).base_mhz, Some(2400.0));
    for text in [
        "",
        ":",
        "Model name:",
        "CPU(s): -1\nSocket(s): 99999999999",
        "\0\u{202e}: \u{1F980}",
    ] {
        let cpu = from_lscpu(text);
        assert_eq!(
            (cpu.name.as_str(), cpu.logical_cpus),
            ("unknown", 1),
            "{text:?}"
        );
        sound(&PowerModel::for_identity(&cpu), text);
    }
}

#[test]
fn bare_architectures_are_what_lambda_runs_on() {
    for name in ["aarch64", "arm64"] {
        let model = PowerModel::for_cpu(name, Some(2), None);
        let facts = model.assumptions();
        assert_eq!(facts.class, Class::ArmServer);
        assert!(facts.source.contains("Graviton2"), "{}", facts.source);
        sound(&model, name);
    }
}

/// A generator of pseudo-random numbers: the same names on every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

#[test]
fn adversarial_names_never_panic() {
    let words = [
        "EPYC",
        "AMD",
        "Intel(R)",
        "Xeon(R)",
        "CPU",
        "Processor",
        "@",
        "2.50GHz",
        "(",
        ")",
        "=",
        ",",
        "7763",
        "64-Core",
        "Core(TM)",
        "i7-8700K",
        "Graviton",
        "Neoverse",
        "Apple",
        "M1",
        "Ryzen",
        "\u{0}",
        "\u{7f}",
        "\u{1b}[31m",
        "\n",
        "\t",
        "\u{202e}",
        "\u{1F980}",
        "ÄÖÜ",
        "İ",
        "ß",
        "ﬁ",
        "龍芯",
        "-1",
        "NaN",
        "inf",
        "1e308",
        "99999999999999999999",
        "%s%n",
        "'; DROP TABLE",
        "../..",
        "v2",
        "E5-2670",
        "0",
        "+",
        "++",
        "®",
        "™",
        "(R)(R)",
        "",
        " ",
        "ARMv8",
        "QEMU",
        "KVM",
        "Core",
    ];
    let mut names: Vec<String> = [
        "\0".repeat(1000),
        "EPYC ".repeat(100_000),
        "(R)".repeat(100_000),
        "\u{1F980}".repeat(10_000),
        "İ".repeat(10_000),
        "9".repeat(1_000_000),
        "=".repeat(5000),
        String::from_utf8_lossy(&[0xff, 0xfe, 0x41, 0xc3, 0x28]).into_owned(),
    ]
    .into();
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    for _ in 0..1500 {
        let glue = ["", " ", "-"][dice.below(3)];
        let many = 1 + dice.below(9);
        let pieces: Vec<&str> = (0..many).map(|_| words[dice.below(words.len())]).collect();
        names.push(pieces.join(glue));
    }
    for (at, name) in names.iter().enumerate() {
        let counts = [None, Some(0), Some(1), Some(7), Some(u32::MAX)];
        let what = format!("{:?}", name.chars().take(60).collect::<String>());
        sound(
            &PowerModel::for_cpu(name, counts[at % 5], counts[at % 3]),
            &what,
        );
        sound(&PowerModel::for_lambda(1769, "arm64", Some(name)), &what);
        sound(&PowerModel::for_lambda(128, name, None), &what);
        let info = parse_cpuinfo(&format!(
            "processor\t: 0\nmodel name\t: {name}\nCPU part\t: {name}\n"
        ));
        sound(
            &PowerModel::for_identity(&CpuIdentity::from_parts(
                &info,
                Some(name),
                name,
                at % 2 == 0,
            )),
            &what,
        );
        sound(
            &PowerModel::for_identity(&from_lscpu(&format!("Model name: {name}"))),
            &what,
        );
    }
}

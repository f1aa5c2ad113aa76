//! What stands in for a processor that is not in the table: a kind of machine by its name, its
//! threads and its architecture, with a band that reaches from the least to the most of that kind.

use super::curve::Spread;
use super::table::{Class, normalise};

/// What stands in for a processor that nobody knows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Default {
    pub(super) class: Class,
    /// W per socket.
    pub(super) tdp_w: f64,
    /// Hardware threads per socket.
    pub(super) threads: u32,
    /// What not knowing the part adds to the band.
    pub(super) spread: Spread,
    pub(super) reason: &'static str,
}

/// A kind of client machine, by the words that makers put into names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// 2 to 15 W: Atom, the N and J series, Y and m, AMD's G series and e.
    LowPower,
    /// 4 to 30 W: handhelds and embedded parts whose limit their maker sets.
    Handheld,
    /// 15 to 55 W.
    Laptop,
    /// 35 W: T, TE, GE.
    LowDesktop,
    /// 65 W and more.
    Desktop,
    /// Its name shows nothing, or parts of all kinds bear it.
    Any,
}

impl Kind {
    fn default(self, threads: Option<u32>) -> Default {
        let (class, tdp_w, usual_threads, reason) = match self {
            Self::LowPower => (
                Class::LowPower,
                8.0,
                4,
                "low-power parts of 2 to 15 W by their makers",
            ),
            Self::Handheld => (
                Class::Laptop,
                15.0,
                8,
                "handheld and embedded parts of 4 to 30 W by their makers",
            ),
            Self::Laptop => (Class::Laptop, 28.0, 8, "laptop parts of 15 to 45 W"),
            Self::LowDesktop => (Class::Desktop, 35.0, 8, "desktop parts of 35 W"),
            Self::Desktop => (Class::Desktop, 65.0, 12, "desktop parts of 65 W"),
            Self::Any => (
                Class::Desktop,
                32.0,
                12,
                "its name does not show which: a fanless part of 5 W or a desktop of 200 W",
            ),
        };
        Default {
            class,
            tdp_w,
            threads: threads.unwrap_or(usual_threads),
            spread: match self {
                Self::Any => Spread::ANY_MACHINE,
                _ => Spread::CLASS_DEFAULT,
            },
            reason,
        }
    }
}

/// A class default from what is known of the machine: its name, its threads and cores per socket
/// (`None` when unknown or when they are only a guest's), whether it is a guest, and its
/// architecture.
pub(super) fn class_default(
    name: &str,
    threads: Option<u32>,
    cores: Option<u32>,
    guest: bool,
    architecture: Option<&str>,
) -> Default {
    let name = normalise(name);
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    let architecture = architecture.unwrap_or_default();
    let arm_server = has(&[
        "graviton",
        "neoverse",
        "ampere",
        "altra",
        "cobalt",
        "axion",
        "grace",
        "yitian",
        "kunpeng",
        "hisilicon",
        "phytium",
        "thunderx",
        "cavium",
        "octeon",
        "x-gene",
        "a64fx",
    ]);
    let arm_client = has(&["apple", "oryon", "snapdragon x", "x1e", "x1p"]);
    let phone = !arm_client && has(&["kryo", "snapdragon", "mediatek", "exynos", "qualcomm"]);
    let arm = arm_server
        || arm_client
        || phone
        || has(&["aarch64", "arm64", "armv", "cortex"])
        || name.split(' ').any(|word| word == "arm")
        || architecture.starts_with("aarch64")
        || architecture.starts_with("arm");
    let few = |most: u32| threads.is_some_and(|threads| threads <= most);

    let board = has(&[
        "raspberry",
        "rockchip",
        "broadcom bcm",
        "allwinner",
        "amlogic",
        "jetson",
        "tegra",
        "orange pi",
        "odroid",
        "rock pi",
        "rock 5",
        "rockpro64",
        "beaglebone",
        "khadas",
        "banana pi",
        "sifive",
        "starfive",
        "spacemit",
    ]);
    if board || !guest && has(&["cortex"]) {
        return board_default(threads, has(&["jetson", "tegra"]));
    }
    if arm_client {
        return Kind::Laptop.default(threads);
    }
    if phone && !guest {
        return Kind::LowPower.default(threads.or(Some(8)));
    }
    let small_isa = arm && !arm_server || architecture.starts_with("riscv");
    if small_isa && !guest && few(8) {
        return board_default(threads, false);
    }
    // Hypervisors call a server's CPUs "Intel Core Processor (Haswell)", without a part's number.
    let kind = kind_of(&name).filter(|kind| !guest || *kind != Kind::Any);
    if let Some(kind) = kind {
        return kind.default(threads);
    }
    let known_server = arm_server
        || has(&[
            "xeon", "epyc", "opteron", "ibm", "power8", "power9", "power1",
        ])
        || architecture.starts_with("s390")
        || architecture.starts_with("ppc");
    if !guest && !known_server && !arm && few(16) {
        return Kind::Any.default(threads);
    }
    let server = |class, threads: u32| Default {
        class,
        // The same chip has the same TDP with SMT switched off: the table's x86 servers have it.
        tdp_w: server_tdp(match (class, cores) {
            (Class::Server, Some(cores)) => threads.max(cores.saturating_mul(2)),
            _ => threads,
        }),
        threads,
        spread: Spread::CLASS_DEFAULT,
        reason: SERVER_REASON,
    };
    if arm {
        return server(Class::ArmServer, threads.unwrap_or(64));
    }
    // Guests see a slice: take the host of the vendor's common cloud part.
    let usual = if has(&["amd", "epyc"]) { 128 } else { 56 };
    server(Class::Server, threads.unwrap_or(usual))
}

/// Watts of a board grow with its cores.
fn board_default(threads: Option<u32>, large: bool) -> Default {
    let threads = threads.unwrap_or(4).max(1);
    let (per_core, reason) = if large {
        (
            2.5,
            "2.5 W a core, from the power modes of NVIDIA's Jetson modules (10 W with 4 cores, \
             15 to 60 W with 12)",
        )
    } else {
        (
            1.6,
            "1.6 W a core, as a Raspberry Pi 4 board of four takes 6.4 W at full load",
        )
    };
    Default {
        class: Class::SingleBoard,
        tdp_w: per_core * f64::from(threads),
        threads,
        spread: Spread::CLASS_DEFAULT,
        reason,
    }
}

/// The kind of a client by its name, which is normalised; `None` for servers and for names that say
/// nothing.
fn kind_of(name: &str) -> Option<Kind> {
    // What follows names the clock or the graphics: "@ 2.40ghz", "w/ radeon 780m graphics".
    let end = [" @", " w/ ", " with "]
        .iter()
        .filter_map(|mark| name.find(mark))
        .min()
        .unwrap_or(name.len());
    let name = &name[..end];
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    if has(&["xeon", "epyc", "opteron", "threadripper"]) {
        return has(&["threadripper"]).then_some(Kind::Desktop);
    }
    let words = || name.split([' ', '-', '/']).filter(|word| !word.is_empty());
    let models: Vec<Model<'_>> = words().filter_map(Model::of).collect();
    let any = |is: &dyn Fn(&Model<'_>) -> bool| models.iter().any(is);

    if has(&["custom apu"]) || has(&["ryzen"]) && any(&|m| m.head == "z" && m.digits.len() == 1) {
        return Some(Kind::Handheld);
    }
    let intel = has(&["intel", "celeron", "pentium"]);
    let amd = has(&["amd", "ryzen", "athlon"]);
    let low = has(&[
        "atom", "quark", "via c7", "via nano", "via eden", "via quadcore", "vortex86", "geode",
    ])
        // N100, N97, N355, J5040: one letter and two to four digits; i3-N305.
        || intel && any(&|m| matches!(m.head, "n" | "j") && (2..=4).contains(&m.digits.len()))
        // m3-7Y30, i7-8500Y, 5Y71: the Y stands within or behind the digits.
        || intel && any(&|m| m.tail == "y" || m.inner == "y")
        || intel && words().any(|word| matches!(word, "m3" | "m5" | "m7"))
        // GX-412TC, G-T40E, E-350, E2-9000e.
        || amd && words().any(|word| matches!(word, "gx" | "e1" | "e2" | "t40e" | "t56n" | "e"))
        // 3020e, 3050e: no desktop part of AMD's ends in a plain e.
        || amd && any(&|m| m.tail == "e" && m.head.is_empty())
        || has(&["geode"]);
    if low {
        return Some(Kind::LowPower);
    }
    if has(&["ryzen embedded"]) || amd && has(&["embedded"]) {
        return Some(Kind::Handheld);
    }
    let series = |names: &[&str]| words().any(|word| names.contains(&word));
    let a_series = amd && series(&["a4", "a6", "a8", "a9", "a10", "a12"]);
    let client = a_series
        || has(&[
            "core", "ryzen", "pentium", "celeron", "athlon", "phenom", "turion", "sempron", "fx-",
        ])
        || intel && any(&|m| m.head == "u" && m.digits.len() == 3);
    // "AMD EPYC-Rome … 8-Core" and "… 16-Core Processor" are not Intel Core.
    if !client || name.contains("-core") && !has(&["ryzen", "athlon", "fx-", "phenom"]) {
        return None;
    }
    // AI Max: 45 to 120 W.
    if has(&["ryzen ai max"]) {
        return Some(Kind::Desktop);
    }
    let short = has(&["ryzen"]) && any(&|m| m.digits.len() == 3);
    if short || has(&["ryzen ai", "turion"]) || any(&|m| m.is_mobile()) {
        return Some(Kind::Laptop);
    }
    // Core 2 Duo T7300, P8400, L7100, SU7300: the letters stand in front.
    let old_mobile = |m: &Model<'_>| {
        matches!(m.head, "t" | "p" | "l" | "u" | "sl" | "sp" | "su") && m.digits.len() >= 3
    };
    if any(&old_mobile) {
        return Some(Kind::Laptop);
    }
    if any(&|m| m.digits.len() >= 3 && matches!(m.tail, "t" | "te" | "ge" | "tf")) {
        return Some(Kind::LowDesktop);
    }
    // Of these there are parts of 4 to 95 W whose numbers do not show which is which.
    let mixed = a_series && !any(&|m| m.tail == "k")
        || has(&["athlon", "sempron"])
        || has(&["celeron", "pentium"]) && !any(&|m| matches!(m.head, "g" | "e"))
        || !any(&|m| m.digits.len() >= 3);
    Some(if mixed { Kind::Any } else { Kind::Desktop })
}

/// A word that names a part: letters, digits, letters.
struct Model<'a> {
    head: &'a str,
    digits: &'a str,
    /// Letters between the first digits and others: the "y" of 7Y30.
    inner: &'a str,
    tail: &'a str,
}

impl<'a> Model<'a> {
    fn of(word: &'a str) -> Option<Self> {
        let letters = |text: &str| {
            text.find(|c: char| !c.is_ascii_alphabetic())
                .unwrap_or(text.len())
        };
        let digits = |text: &str| {
            text.find(|c: char| !c.is_ascii_digit())
                .unwrap_or(text.len())
        };
        let (head, rest) = word.split_at(letters(word));
        let (first, rest) = rest.split_at(digits(rest));
        if first.is_empty() {
            return None;
        }
        let (between, rest) = rest.split_at(letters(rest));
        let whole = rest.is_empty();
        Some(Self {
            head,
            digits: first,
            inner: if whole { "" } else { between },
            tail: if whole { between } else { "" },
        })
    }

    /// By Intel's and AMD's suffixes for laptops: U, H, HX, HS, P, V, M, MX, MQ, QM, UE, HE, LM,
    /// C (AMD's Chromebooks), and G1 to G7 of the tenth and eleventh generation.
    fn is_mobile(&self) -> bool {
        let graphics = matches!(self.inner, "g" | "ng") && self.digits.len() >= 4;
        let letter = self.digits.len() >= 3
            && matches!(
                self.tail,
                "u" | "ue"
                    | "um"
                    | "ul"
                    | "h"
                    | "hx"
                    | "hs"
                    | "hk"
                    | "hq"
                    | "he"
                    | "hl"
                    | "hf"
                    | "p"
                    | "pe"
                    | "ps"
                    | "v"
                    | "m"
                    | "mx"
                    | "mq"
                    | "qm"
                    | "xm"
                    | "lm"
                    | "le"
                    | "eq"
                    | "ec"
                    | "kh"
                    | "xh"
                    | "sh"
                    | "qh"
                    | "ce"
            );
        // U300: the letter stands in front.
        graphics || letter || self.head == "u" && self.digits.len() == 3
    }
}

const SERVER_REASON: &str =
    "TDP grows with threads as in the table: 27 W times the square root of the threads";

/// TDP (W) of a server socket by its threads: a curve through the table's server parts, from which
/// they scatter by a quarter (standard deviation of the logarithm); a test keeps it so.
pub(super) fn server_tdp(threads: u32) -> f64 {
    (27.0 * f64::from(threads).sqrt()).min(500.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str) -> Option<Kind> {
        kind_of(&normalise(name))
    }

    #[test]
    fn makers_names_tell_the_kind() {
        for (kind_expected, names) in [
            (
                Kind::LowPower,
                &[
                    "Intel(R) N97",
                    "Intel(R) N250",
                    "Intel(R) Core(TM) 3 N350",
                    "Intel(R) Core(TM) i3-N300",
                    "Intel(R) Pentium(R) Silver N6005 @ 2.00GHz",
                    "Intel(R) Pentium(R) CPU J3710 @ 1.60GHz",
                    "Intel(R) Celeron(R) CPU J1900 @ 1.99GHz",
                    "Intel(R) Celeron(R) J6412 @ 2.00GHz",
                    "Intel(R) Atom(TM) CPU D2550 @ 1.86GHz",
                    "Intel Atom(R) x7425E",
                    "Intel(R) Core(TM) m3-8100Y CPU @ 1.10GHz",
                    "Intel(R) Core(TM) M-5Y71 CPU @ 1.20GHz",
                    "Intel(R) Core(TM) i5-7Y57 CPU @ 1.20GHz",
                    "Intel(R) Pentium(R) CPU 4410Y @ 1.50GHz",
                    "AMD GX-412TC SOC",
                    "AMD G-T40E Processor",
                    "AMD 3020e with Radeon Graphics",
                    "AMD Athlon Silver 3050e with Radeon Graphics",
                    "AMD E2-9000e RADEON R2, 4 COMPUTE CORES 2C+2G",
                ][..],
            ),
            (
                Kind::Handheld,
                &[
                    "AMD Ryzen Z1",
                    "AMD Ryzen Z2 Go",
                    "AMD Custom APU 0932",
                    "AMD Ryzen Embedded V1500B",
                ],
            ),
            (
                Kind::Laptop,
                &[
                    "Intel(R) Core(TM) i5-4310U CPU @ 2.00GHz",
                    "Intel(R) Core(TM) i5-1038NG7 CPU @ 2.00GHz",
                    "Intel(R) Core(TM) Ultra 9 275HX",
                    "Intel(R) Core(TM) Ultra 5 226V",
                    "Intel(R) Core(TM) 7 150U",
                    "Intel(R) Core(TM)2 Duo CPU     T7300  @ 2.00GHz",
                    "Intel(R) Celeron(R) CPU 1007U @ 1.50GHz",
                    "Intel(R) U300",
                    "AMD Ryzen 7 8840U w/ Radeon 780M Graphics",
                    "AMD Ryzen AI 7 350 w/ Radeon 860M",
                    "AMD Ryzen 7 260 w/ Radeon 780M Graphics",
                    "AMD Ryzen 9 8945HS w/ Radeon 780M Graphics",
                ],
            ),
            (
                Kind::LowDesktop,
                &[
                    "Intel(R) Core(TM) i5-9500T CPU @ 2.20GHz",
                    "AMD Ryzen 5 PRO 4650GE with Radeon Graphics",
                ],
            ),
            (
                Kind::Desktop,
                &[
                    "Intel(R) Core(TM) i5-9500 CPU @ 3.00GHz",
                    "Intel(R) Core(TM) i9-11900KF @ 3.50GHz",
                    "Intel(R) Core(TM) Ultra 7 265",
                    "Intel(R) Pentium(R) CPU G4560 @ 3.50GHz",
                    "AMD Ryzen 5 8500G w/ Radeon 740M Graphics",
                    "AMD Ryzen 5 PRO 4650G with Radeon Graphics",
                    "AMD FX-8350 Eight-Core Processor",
                    "AMD Ryzen 7 9999X3D 8-Core Processor",
                    "Intel(R) Core(TM)2 Quad CPU    Q6600  @ 2.40GHz",
                ],
            ),
        ] {
            for name in names {
                assert_eq!(kind(name), Some(kind_expected), "{name}");
            }
        }
    }

    #[test]
    fn names_that_parts_of_all_kinds_bear() {
        for name in [
            "AMD A4-5000 APU with Radeon(TM) HD Graphics",
            "AMD Athlon(tm) 5350 APU with Radeon(tm) R3",
            "AMD Ryzen 5 Microsoft Surface (R) Edition",
            "Intel(R) Celeron(R) CPU 847 @ 1.10GHz",
            "Intel Core Processor (Haswell, no TSX)",
        ] {
            assert_eq!(kind(name), Some(Kind::Any), "{name}");
        }
    }

    #[test]
    fn servers_and_names_that_say_nothing_are_no_clients() {
        for name in [
            "Intel(R) Xeon(R) CPU E3-1220L V2 @ 2.30GHz",
            "Intel Xeon Processor (Skylake)",
            "AMD EPYC-Rome Processor",
            "AMD Eng Sample: 100-000000897-03",
            "QEMU Virtual CPU version 2.5+",
            "unknown",
            "",
            "16-Core Processor",
        ] {
            assert_eq!(kind(name), None, "{name}");
        }
    }
}

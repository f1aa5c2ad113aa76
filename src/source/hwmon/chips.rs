//! What the channels of known hwmon chips measure, by the table of chips; no file is read here.
//!
//! A chip is known by the text of its `name`. A channel is known by its label, or by its number where the
//! driver gives no label. What is not in the table is never counted.

use std::collections::BTreeMap;

use crate::source::Domain;

/// How well a chip's channels are known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Blur {
    /// The sensor may be off by this part.
    pub part: f64,
    /// What it shows is the mean of so long a time, or so old, s.
    pub seconds: f64,
}

/// Part by which sensors are taken to be off of which their makers state nothing. Sensors of GPU boards
/// are off by 5 % (Yang et al., SC 2024), regulators' telemetry is mostly specified to within 3 to 5 %.
const UNSTATED: f64 = 0.05;

/// … and estimates of firmware, which are no sensors at all.
const ESTIMATED: f64 = 0.15;

/// What a channel of the table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    /// A domain of the machine, or a part of one: several of a chip are added up.
    Is(Domain),
    /// The first that is there of several which show the same domain.
    Either(Domain),
    /// A graphics card; where it is integrated, its processor's package.
    CardOrPackage,
    /// A graphics card; where it is integrated, it is a part of a package and left out.
    CardAlone,
}

/// Which channel it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// By its label, whatever its case; `#` stands for the number of a socket.
    Label(&'static str),
    /// By its name.
    Channel(&'static str),
}

use Means::{CardAlone, CardOrPackage, Either, Is};
use Which::{Channel, Label};

/// A driver.
struct Row {
    name: &'static str,
    channels: &'static [(Which, Means)],
    blur: Blur,
    /// Read within microseconds, by whoever needs it.
    quick: bool,
    /// The architecture of the machine that is measured, where a service processor has the driver, too.
    of: Option<&'static str>,
    /// What its packages show holds the machine's memory.
    with_memory: bool,
    /// Its channels are rails of a part, which may be off: 0 W is true of them.
    rails: bool,
}

const fn row(name: &'static str, channels: &'static [(Which, Means)]) -> Row {
    Row {
        name,
        channels,
        blur: Blur {
            part: UNSTATED,
            seconds: 0.1,
        },
        quick: false,
        of: None,
        with_memory: false,
        rails: false,
    }
}

impl Row {
    const fn quick(mut self) -> Self {
        self.quick = true;
        self.blur.part = 0.0;
        // How often it changes is learned from its steps.
        self.blur.seconds = 0.0;
        self
    }

    const fn blurred(mut self, part: f64, seconds: f64) -> Self {
        self.blur = Blur { part, seconds };
        self
    }

    const fn of(mut self, architecture: &'static str) -> Self {
        self.of = Some(architecture);
        self
    }

    const fn with_memory(mut self) -> Self {
        self.with_memory = true;
        self
    }

    const fn rails(mut self) -> Self {
        self.rails = true;
        self
    }
}

/// Known chips, the better source of a domain before the others.
const TABLE: &[Row] = &[
    // RAPL's registers by drivers of their own (Documentation/hwmon/amd_energy.rst, Linux 5.8 to 5.12, then
    // github.com/amd/amd_energy; github.com/boukehaarsma23/zenergy has the same labels). Their cores are
    // shown one by one and are inside the sockets.
    row("zenergy", &[(Label("Esocket#"), Is(Domain::Package))]).quick(),
    row("amd_energy", &[(Label("Esocket#"), Is(Domain::Package))]).quick(),
    // ACPI's power meter. On NVIDIA Grace the firmware says in power1_oem_info what it measures (Grace
    // Performance Tuning Guide, "Power Telemetry"): the Grace socket with its memory, the rail of its
    // cores, and the module with GPU and regulators. It is the mean of 50 ms or 1 s (power1_average_interval).
    // On other machines it is the whole machine, in steps of up to minutes, and not in this table.
    row(
        "power_meter",
        &[
            (Label("Grace Power Socket #"), Is(Domain::Package)),
            (Label("CPU Power Socket #"), Is(Domain::Core)),
            (Label("Module Power Socket #"), Is(Domain::Psys)),
        ],
    )
    .blurred(UNSTATED, 1.0)
    .with_memory(),
    // Ampere Altra, eMAG and X-Gene (drivers/hwmon/xgene-hwmon.c: "CPU power" and "IO power" of the SoC by
    // its SLIMpro, which are all of it).
    row(
        "apm_xgene",
        &[
            (Label("CPU power"), Is(Domain::Package)),
            (Label("IO power"), Is(Domain::Package)),
        ],
    )
    .blurred(UNSTATED, 1.0),
    // Ampere Altra by its SMpro (Documentation/hwmon/smpro-hwmon.rst): regulators of cores, SoC and PCIe
    // (RCA), and two of the DIMMs. Management controllers have this driver, too.
    row(
        "smpro_hwmon",
        &[
            (Channel("power1"), Is(Domain::Package)),
            (Channel("power2"), Is(Domain::Package)),
            (Channel("power5"), Is(Domain::Package)),
            (Channel("power3"), Is(Domain::Dram)),
            (Channel("power4"), Is(Domain::Dram)),
        ],
    )
    .blurred(UNSTATED, 1.0)
    .rails()
    .of("aarch64"),
    // POWER8 and 9 under OPAL (Documentation/hwmon/ibmpowernv.rst; labels as of a POWER9 in the OPAL team's
    // "Hwmon sensors in P9"): each chip and the system, as energy since Linux 4.19.
    row(
        "ibmpowernv",
        &[
            (Label("Chip #"), Is(Domain::Package)),
            (Label("System"), Is(Domain::Psys)),
        ],
    )
    .blurred(UNSTATED, 0.25),
    // POWER's on-chip controller (Documentation/hwmon/occ.rst, power sensors of version 0xa0). Management
    // controllers have this driver, too, and measure their host by it.
    row(
        "occ",
        &[
            (Label("#_proc"), Is(Domain::Package)),
            (Label("#_system"), Is(Domain::Psys)),
        ],
    )
    .blurred(UNSTATED, 1.0)
    .of("powerpc64"),
    // AMD's family 15h before RAPL (Documentation/hwmon/fam15h_power.rst): the processor, as it estimates
    // itself.
    row("fam15h_power", &[(Channel("power1"), Is(Domain::Package))]).blurred(ESTIMATED, 0.5),
    // ARM's Juno by SCPI or SCMI (ARM, "Energy monitoring on Juno"): meters of the fabric, both clusters and
    // the GPU of the SoC, whose sum is the SoC. Other firmware names its sensors as it likes.
    row("scpi_sensors", JUNO),
    row("scmi_sensors", JUNO),
    row("vexpress_energy", JUNO),
    // Apple silicon (drivers/hwmon/macsmc-hwmon.c and Asahi's device trees): PHPC is the SMC's estimate of
    // the heat of the SoC, once named "Total CPU Core Power", and PSTR the whole machine.
    row(
        "macsmc_hwmon",
        &[
            (Label("Heatpipe Power"), Either(Domain::Package)),
            (Label("Total CPU Core Power"), Either(Domain::Package)),
            (Label("Total System Power"), Is(Domain::Psys)),
        ],
    )
    .blurred(ESTIMATED, 1.0),
    // Jetson Orin's shunts (arch/arm64/boot/dts/nvidia/tegra234-p3701.dtsi and -p3767.dtsi): volts × amperes
    // of the rails of the SoC, of memory, and of the module.
    row(
        "ina3221",
        &[
            (Label("VDD_CPU_CV"), Is(Domain::Package)),
            (Label("VDD_GPU_SOC"), Is(Domain::Package)),
            (Label("VDD_CPU_GPU_CV"), Is(Domain::Package)),
            (Label("VDD_SOC"), Is(Domain::Package)),
            (Label("VDDQ_VDD2_1V8AO"), Is(Domain::Dram)),
            (Label("VDD_IN"), Is(Domain::Psys)),
        ],
    )
    .rails(),
    // AMD's GPUs (drivers/gpu/drm/amd/pm/amdgpu_pm.c: "average power used by the SoC in microWatts. On APUs
    // this includes the CPU").
    row("amdgpu", &[(Channel("power1"), CardOrPackage)]).blurred(0.1, 1.0),
    // Intel's (Documentation/ABI/testing/sysfs-driver-intel-xe-hwmon and …-i915-hwmon): the card, or the
    // package of the GPU alone where the card is not counted.
    row(
        "xe",
        &[
            (Label("card"), CardAlone),
            (Label("pkg"), CardAlone),
            (Channel("energy1"), CardAlone),
        ],
    ),
    row("i915", &[(Channel("energy1"), CardAlone)]),
    // NVIDIA's by nouveau (Documentation/gpu/… nouveau_hwmon.c, power1_input): boards with a sensor.
    row("nouveau", &[(Channel("power1"), CardAlone)]).blurred(0.1, 0.1),
];

const JUNO: &[(Which, Means)] = &[
    (Label("BOARD_ENERGY_SYS"), Is(Domain::Package)),
    (Label("BOARD_ENERGY_BIG"), Is(Domain::Package)),
    (Label("BOARD_ENERGY_LITTLE"), Is(Domain::Package)),
    (Label("BOARD_ENERGY_GPU"), Is(Domain::Package)),
];

/// Chips of GPU cards.
pub(super) const CARDS: [&str; 4] = ["amdgpu", "xe", "i915", "nouveau"];

/// PCI devices of AMD that are a processor with its GPU though they have no `vddnb`: MI300A.
const ACCELERATED: [&str; 1] = ["1002:74A0"];

/// What one chip shows: the names of its files, with the text of those that are labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Its directory's name, `hwmon3`.
    pub id: String,
    /// The text of `name`.
    pub name: String,
    /// Names of files; the text of labels.
    pub files: BTreeMap<String, String>,
    /// Where it is on the PCI bus, `0000:03:00.0`.
    pub slot: Option<String>,
    /// Vendor and device, `1002:744C`.
    pub device: Option<String>,
}

/// How a channel is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// A count of µJ in this file.
    Energy(String),
    /// µW in this file.
    Power(String),
    /// mV and mA in these.
    Product(String, String),
}

impl Read {
    /// Its files.
    pub fn files(&self) -> Vec<&str> {
        match self {
            Self::Energy(file) | Self::Power(file) => vec![file],
            Self::Product(volts, amperes) => vec![volts, amperes],
        }
    }
}

/// A channel that is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The place of its chip among the listings.
    pub chip: usize,
    /// What it measures.
    pub domain: Domain,
    /// Number of the socket or card.
    pub package: u32,
    /// Chip and label.
    pub name: String,
    /// How it is read.
    pub read: Read,
    /// Within microseconds.
    pub quick: bool,
    /// It may be off, and show no power.
    pub may_rest: bool,
}

/// What was found out of all chips.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sorted {
    /// The channels that are counted.
    pub known: Vec<Known>,
    /// What measures a domain and is not counted: chip, domain, why.
    pub left: Vec<(String, Domain, String)>,
}

/// The row of the table that a zone of that name is of.
fn row_of(name: &str) -> Option<&'static Row> {
    let chip = name.split(' ').next()?;
    TABLE.iter().find(|row| row.name == chip)
}

/// How well a zone of that name is known; `None` where its chip is not in the table.
pub fn blur_of(name: &str) -> Option<Blur> {
    row_of(name).map(|row| row.blur)
}

/// Whether the package of a zone of that name is shown with the machine's memory.
pub fn holds_memory(name: &str) -> bool {
    row_of(name).is_some_and(|row| row.with_memory)
}

/// Whether a zone of that name is a rail, which may be off.
pub fn is_rail(name: &str) -> bool {
    row_of(name).is_some_and(|row| row.rails)
}

/// Whether chips of that name are in the table.
pub(super) fn is_known(name: &str) -> bool {
    TABLE.iter().any(|row| row.name == name)
}

/// A channel as its files show it, `power1` or `in2`.
struct Shown<'l> {
    channel: String,
    label: &'l str,
    read: Read,
}

impl Listing {
    /// Every channel that shows energy or power, in the order of their numbers; power by its mean
    /// where there is one.
    fn shown(&self) -> Vec<Shown<'_>> {
        let mut all = Vec::new();
        for kind in ["energy", "power", "in"] {
            let mut numbers: Vec<u32> = Vec::new();
            for file in self.files.keys() {
                let rest = file.strip_prefix(kind).unwrap_or("");
                let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
                let is_value = matches!(&rest[digits..], "_input" | "_average");
                numbers.extend(rest[..digits].parse::<u32>().ok().filter(|_| is_value));
            }
            numbers.sort_unstable();
            numbers.dedup();
            for number in numbers {
                all.extend(self.channel(kind, number));
            }
        }
        all
    }

    fn channel(&self, kind: &str, number: u32) -> Option<Shown<'_>> {
        let channel = format!("{kind}{number}");
        let has = |file: String| self.files.contains_key(&file).then_some(file);
        let read = match kind {
            "energy" => Read::Energy(has(format!("{channel}_input"))?),
            "power" => {
                // The mean of the POWER's controller is of all the time since it began.
                let mean = has(format!("{channel}_average")).filter(|_| self.name != "occ");
                Read::Power(mean.or_else(|| has(format!("{channel}_input")))?)
            }
            _ => Read::Product(
                has(format!("{channel}_input"))?,
                has(format!("curr{number}_input"))?,
            ),
        };
        let text = |suffix: &str| self.files.get(&format!("{channel}_{suffix}"));
        let label = text("label").or_else(|| text("oem_info"));
        Some(Shown {
            label: label.map_or("", |text| text.trim()),
            channel,
            read,
        })
    }

    /// The channels by the names that a person gives them.
    pub fn channels(&self) -> Vec<String> {
        let shown = self.shown();
        // Volts and amperes are no power where the driver computes it.
        let has_more = |shown: &Shown<'_>| !matches!(shown.read, Read::Product(..));
        let counted = shown
            .iter()
            .filter(|one| has_more(one) || self.name == "ina3221");
        counted
            .map(|one| match one.label {
                "" => one.channel.clone(),
                label => format!("{} ({label})", one.channel),
            })
            .collect()
    }

    /// Whether a GPU's chip is of one that shares its package with a processor.
    fn is_integrated(&self) -> bool {
        // Of all GPUs of amdgpu only those of processors show the voltage of a northbridge, and only
        // Van Gogh has limits by two names (amdgpu_pm.c: "only APUs have vddnb", slowPPT and fastPPT).
        let of_processor = |text: &String| matches!(text.trim(), "vddnb" | "slowPPT" | "fastPPT");
        let device = self.device.as_deref().unwrap_or("").to_ascii_uppercase();
        let on_root_bus =
            self.slot.as_deref().and_then(|slot| slot.split(':').nth(1)) == Some("00");
        self.files.values().any(of_processor)
            || on_root_bus
            || ACCELERATED.contains(&device.as_str())
    }
}

/// Whether a label is that of the pattern; with the number that is in it.
fn matches(pattern: &str, label: &str) -> Option<Option<u32>> {
    let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    let Some((before, after)) = pattern.split_once('#') else {
        return same(pattern, label).then_some(None);
    };
    let head = label
        .get(..before.len())
        .filter(|head| same(head, before))?;
    let rest = &label[head.len()..];
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let number = rest[..digits].parse().ok()?;
    same(after, &rest[digits..]).then_some(Some(number))
}

/// Decides of every channel of every chip whether it is counted, and as what. No domain has more than
/// one driver's channels. `architecture` is this machine's.
pub fn sort(listings: &[Listing], architecture: &str) -> Sorted {
    let mut sorted = Sorted::default();
    for row in TABLE {
        let chips = listings.iter().enumerate();
        let chips = chips.filter(|(_, listing)| listing.name == row.name);
        for (nth, (chip, listing)) in chips.enumerate() {
            for one in of_chip(row, listing, chip, nth as u32) {
                let why = match row.of {
                    Some(of) if of != architecture => Some(
                        "it measures the host of a management controller, not this machine"
                            .to_owned(),
                    ),
                    _ => sorted
                        .known
                        .iter()
                        .find(|known| {
                            known.domain == one.domain
                                && one.domain != Domain::Gpu
                                && listings[known.chip].name != row.name
                        })
                        .map(|known| format!("{} counts it already", listings[known.chip].name)),
                };
                match why {
                    None => sorted.known.push(one),
                    Some(why) => sorted.left.push((one.name, one.domain, why)),
                }
            }
            if CARDS.contains(&row.name) && listing.is_integrated() && row.channels_are_cards() {
                let why = "it is in a processor's package, whose counters hold it";
                let name = format!("{} {}", listing.name, listing.id);
                sorted.left.push((name, Domain::Gpu, why.into()));
            }
        }
    }
    sorted
}

impl Row {
    fn channels_are_cards(&self) -> bool {
        self.channels.iter().all(|(_, means)| *means == CardAlone)
    }
}

fn of_chip(row: &Row, listing: &Listing, chip: usize, nth: u32) -> Vec<Known> {
    let shown = listing.shown();
    let integrated = listing.is_integrated();
    let mut found: Vec<Known> = Vec::new();
    for (which, means) in row.channels {
        let domain = match means {
            Is(domain) | Either(domain) => *domain,
            CardOrPackage if integrated => Domain::Package,
            CardAlone if integrated => continue,
            CardOrPackage | CardAlone => Domain::Gpu,
        };
        let one_only = !matches!(means, Is(_));
        for one in &shown {
            let number = match which {
                Label(pattern) => matches(pattern, one.label),
                Channel(name) => (one.channel == *name).then_some(None),
            };
            let Some(number) = number else { continue };
            if one_only && found.iter().any(|known| known.domain == domain) {
                continue;
            }
            let label = if one.label.is_empty() {
                &one.channel
            } else {
                one.label
            };
            let name = match &listing.slot {
                Some(slot) if domain == Domain::Gpu => format!("{} {slot}", row.name),
                _ if nth > 0 && number.is_none() => format!("{} {label}, chip {nth}", row.name),
                _ => format!("{} {label}", row.name),
            };
            // Energy and power of one label are one thing; energy comes first.
            if found.iter().any(|known| known.name == name) {
                continue;
            }
            found.push(Known {
                chip,
                domain,
                package: number.unwrap_or(nth),
                name,
                read: one.read.clone(),
                quick: row.quick,
                may_rest: row.rails || domain == Domain::Gpu,
            });
        }
    }
    found
}

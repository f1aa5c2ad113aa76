//! Trees of real machines, retyped from public reports, and what is counted of them.

use std::fs;
use std::path::Path;

use super::chips::{Known, Listing, Read, sort};
use super::*;

/// Chips as `grep . hwmon*/*` shows them: `hwmon3/power1_label PPT`.
fn listings(text: &str) -> Vec<Listing> {
    let mut chips: Vec<Listing> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (path, value) = line.split_once(' ').unwrap_or((line, ""));
        let (id, file) = path.split_once('/').unwrap();
        if chips.last().is_none_or(|chip| chip.id != id) {
            let id = id.to_owned();
            chips.push(Listing {
                id,
                ..Listing::default()
            });
        }
        let chip = chips.last_mut().unwrap();
        let value = value.trim().to_owned();
        match file {
            "name" => chip.name = value,
            "slot" => chip.slot = Some(value),
            "device" => chip.device = Some(value),
            _ => {
                let is_label = file.ends_with("label") || file.ends_with("oem_info");
                let text = if is_label { value } else { String::new() };
                chip.files.insert(file.to_owned(), text);
            }
        }
    }
    chips
}

/// What is counted, in lines: domain, package, name, files.
fn counted(text: &str, architecture: &str) -> Vec<String> {
    let known = sort(&listings(text), architecture).known;
    let line = |one: &Known| {
        let files = one.read.files().join("*");
        format!("{} {} [{}] {files}", one.domain, one.package, one.name)
    };
    known.iter().map(line).collect()
}

/// github.com/UshakovVasilii/gnome-shell-extension-freon/pull/249: ThinkPad T14s gen 3, Ryzen 7 PRO 6850U.
const LAPTOP_OF_AMD: &str = "
    hwmon5/name amdgpu
    hwmon5/slot 0000:33:00.0
    hwmon5/in0_label vddgfx
    hwmon5/in0_input 830
    hwmon5/in1_label vddnb
    hwmon5/in1_input 724
    hwmon5/power1_label PPT
    hwmon5/power1_average 17080000
";

/// github.com/marazmista/radeon-profile/issues/140: a Radeon card in slot 1e:00.
const CARD_OF_AMD: &str = "
    hwmon3/name amdgpu
    hwmon3/slot 0000:1e:00.0
    hwmon3/in0_label vddgfx
    hwmon3/in0_input 920
    hwmon3/power1_average 18000000
    hwmon3/power1_cap 220000000
";

/// github.com/aristocratos/btop/pull/1457: Arc Pro B70, Linux 7.0.
const BATTLEMAGE: &str = "
    hwmon7/name xe
    hwmon7/slot 0000:03:00.0
    hwmon7/device 8086:E223
    hwmon7/energy1_label card
    hwmon7/energy1_input 91310041
    hwmon7/energy2_label pkg
    hwmon7/energy2_input 60310041
    hwmon7/power1_label card
    hwmon7/power1_cap 275000000
";

/// github.com/clambin/intel-gpu-exporter/issues/10: Arc A-series by i915.
const ALCHEMIST: &str = "
    hwmon4/name i915
    hwmon4/slot 0000:03:00.0
    hwmon4/energy1_input 8123456789
    hwmon4/in0_input 650
";

/// gitlab.dkrz.de/eeclips/scorep_plugin_hwmongh, README: a Grace Hopper node.
const GRACE_HOPPER: &str = "
    hwmon1/name power_meter
    hwmon1/power1_average 221200000
    hwmon1/power1_average_interval 1000
    hwmon1/power1_oem_info Module Power Socket 0
    hwmon2/name power_meter
    hwmon2/power1_average 97300000
    hwmon2/power1_oem_info Grace Power Socket 0
    hwmon3/name power_meter
    hwmon3/power1_average 42100000
    hwmon3/power1_oem_info CPU Power Socket 0
    hwmon4/name power_meter
    hwmon4/power1_average 15200000
    hwmon4/power1_oem_info SysIO Power Socket 0
";

/// github.com/AmpereComputing/ampere-lts-kernel---DEPRECATED/issues/7 and a System76 Thelio Astra's sensors:
/// Ampere Altra.
const ALTRA: &str = "
    hwmon0/name altra_hwmon
    hwmon0/energy1_label Core Energy 000
    hwmon0/energy1_input 2790000000
    hwmon0/energy2_label Core Energy 001
    hwmon0/energy2_input 2690000000
    hwmon2/name apm_xgene
    hwmon2/power1_label CPU power
    hwmon2/power1_input 46000000
    hwmon2/power2_label IO power
    hwmon2/power2_input 28000000
";

/// "Hwmon sensors in P9" of the OPAL team: a POWER9 of two chips.
const POWER9: &str = "
    hwmon0/name ibmpowernv
    hwmon0/power1_label Chip 0
    hwmon0/power1_input 157000000
    hwmon0/power2_label Chip 0 Vdd
    hwmon0/power2_input 113000000
    hwmon0/power4_label Chip 8
    hwmon0/power4_input 99000000
    hwmon0/power7_label System
    hwmon0/power7_input 426000000
    hwmon0/power8_label APSS 1
    hwmon0/power8_input 127000000
    hwmon0/energy1_label Chip 0
    hwmon0/energy1_input 7510000000000
    hwmon0/energy2_label Chip 0 Vdd
    hwmon0/energy2_input 2680000000000
    hwmon0/energy4_label Chip 8
    hwmon0/energy4_input 5090000000000
    hwmon0/energy7_label System
    hwmon0/energy7_input 21290000000000
";

/// ubuntuforums.org, "amd_energy", 2020-07-10: a Ryzen of six cores, Linux 5.8.
const RYZEN: &str = "
    hwmon2/name amd_energy
    hwmon2/energy1_label Ecore000
    hwmon2/energy1_input 594130000000
    hwmon2/energy6_label Ecore005
    hwmon2/energy6_input 594050000000
    hwmon2/energy7_label Esocket0
    hwmon2/energy7_input 3510000000000
    hwmon3/name k10temp
    hwmon3/temp1_input 45000
";

/// A Jetson AGX Orin's two INA3221, as several guides list them (nodes 1-0040 and 1-0041).
const ORIN: &str = "
    hwmon3/name ina3221
    hwmon3/in1_label VDD_GPU_SOC
    hwmon3/in1_input 843
    hwmon3/curr1_input 6170
    hwmon3/in2_label VDD_CPU_CV
    hwmon3/in2_input 780
    hwmon3/curr2_input 3437
    hwmon3/in3_label VIN_SYS_5V0
    hwmon3/in3_input 4968
    hwmon3/curr3_input 953
    hwmon4/name ina3221
    hwmon4/in2_label VDDQ_VDD2_1V8AO
    hwmon4/in2_input 1800
    hwmon4/curr2_input 341
";

/// community.arm.com/oss-platforms/w/docs/482/energy-monitoring-on-juno: an ARM Juno.
const JUNO: &str = "
    hwmon0/name scpi_sensors
    hwmon0/energy1_label BOARD_ENERGY_SYS
    hwmon0/energy1_input 27697142
    hwmon0/energy2_label BOARD_ENERGY_BIG
    hwmon0/energy2_input 3956123
    hwmon0/energy3_label BOARD_ENERGY_LITTLE
    hwmon0/energy3_input 778037
    hwmon0/energy4_label BOARD_ENERGY_GPU
    hwmon0/energy4_input 2142136
    hwmon0/power1_label BOARD_POWER_SYS
    hwmon0/power1_input 700000
    hwmon0/in3_label BOARD_VOLT_SYS
    hwmon0/in3_input 889
    hwmon0/curr1_label BOARD_CURR_SYS
    hwmon0/curr1_input 787
";

/// Asahi's device trees for laptops (hwmon-common.dtsi, hwmon-laptop.dtsi): a MacBook with Apple silicon.
const MACBOOK: &str = "
    hwmon1/name macsmc_hwmon
    hwmon1/power1_label Total System Power
    hwmon1/power1_input 9100000
    hwmon1/power2_label AC Input Power
    hwmon1/power2_input 0
    hwmon1/power3_label 3.8 V Rail Power
    hwmon1/power3_input 2100000
    hwmon1/power4_label Heatpipe Power
    hwmon1/power4_input 4100000
";

/// github.com/lm-sensors/lm-sensors/issues/160: HPE MicroServer, Opteron X3216.
const MICROSERVER: &str = "
    hwmon0/name fam15h_power
    hwmon0/slot 0000:00:18.4
    hwmon0/power1_input 26410
    hwmon0/power1_average 2600
    hwmon0/power1_average_interval 0
    hwmon0/power1_crit 15000000
    hwmon1/name amdgpu
    hwmon1/slot 0000:00:01.0
    hwmon1/fan1_input
";

/// github.com/lm-sensors/lm-sensors/issues/460 and github.com/ocerman/zenpower/issues/24: a server's power
/// meter without a word of what it measures, and a driver that is not in the kernel.
const UNKNOWN: &str = "
    hwmon1/name power_meter
    hwmon1/power1_average 4294967295000
    hwmon1/power1_average_interval 4294967295
    hwmon1/power1_oem_info
    hwmon2/name zenpower
    hwmon2/power1_label SVI2_P_Core
    hwmon2/power1_input 714830
";

#[test]
fn real_machines_have_these_domains() {
    let cases: &[(&str, &str, &[&str])] = &[
        (
            LAPTOP_OF_AMD,
            "x86_64",
            &["package 0 [amdgpu PPT] power1_average"],
        ),
        (
            CARD_OF_AMD,
            "x86_64",
            &["gpu 0 [amdgpu 0000:1e:00.0] power1_average"],
        ),
        (
            BATTLEMAGE,
            "x86_64",
            &["gpu 0 [xe 0000:03:00.0] energy1_input"],
        ),
        (
            ALCHEMIST,
            "x86_64",
            &["gpu 0 [i915 0000:03:00.0] energy1_input"],
        ),
        (
            GRACE_HOPPER,
            "aarch64",
            &[
                "psys 0 [power_meter Module Power Socket 0] power1_average",
                "package 0 [power_meter Grace Power Socket 0] power1_average",
                "core 0 [power_meter CPU Power Socket 0] power1_average",
            ],
        ),
        (
            ALTRA,
            "aarch64",
            &[
                "package 0 [apm_xgene CPU power] power1_input",
                "package 0 [apm_xgene IO power] power2_input",
            ],
        ),
        (
            POWER9,
            "powerpc64",
            &[
                "package 0 [ibmpowernv Chip 0] energy1_input",
                "package 8 [ibmpowernv Chip 8] energy4_input",
                "psys 0 [ibmpowernv System] energy7_input",
            ],
        ),
        (
            RYZEN,
            "x86_64",
            &["package 0 [amd_energy Esocket0] energy7_input"],
        ),
        (
            ORIN,
            "aarch64",
            &[
                "package 0 [ina3221 VDD_CPU_CV] in2_input*curr2_input",
                "package 0 [ina3221 VDD_GPU_SOC] in1_input*curr1_input",
                "dram 1 [ina3221 VDDQ_VDD2_1V8AO, chip 1] in2_input*curr2_input",
            ],
        ),
        (
            JUNO,
            "aarch64",
            &[
                "package 0 [scpi_sensors BOARD_ENERGY_SYS] energy1_input",
                "package 0 [scpi_sensors BOARD_ENERGY_BIG] energy2_input",
                "package 0 [scpi_sensors BOARD_ENERGY_LITTLE] energy3_input",
                "package 0 [scpi_sensors BOARD_ENERGY_GPU] energy4_input",
            ],
        ),
        (
            MACBOOK,
            "aarch64",
            &[
                "package 0 [macsmc_hwmon Heatpipe Power] power4_input",
                "psys 0 [macsmc_hwmon Total System Power] power1_input",
            ],
        ),
        (
            MICROSERVER,
            "x86_64",
            &["package 0 [fam15h_power power1] power1_average"],
        ),
        (UNKNOWN, "x86_64", &[]),
    ];
    for (text, architecture, expected) in cases {
        assert_eq!(counted(text, architecture), *expected, "{text}");
    }
}

#[test]
fn no_domain_has_two_drivers() {
    // A laptop of AMD with the driver of its registers, too, and a card in it.
    let both = format!("{LAPTOP_OF_AMD}{RYZEN}{BATTLEMAGE}").replace("hwmon7", "hwmon9");
    let sorted = sort(&listings(&both), "x86_64");
    let names: Vec<&str> = sorted.known.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["amd_energy Esocket0", "xe 0000:03:00.0"]);
    let left = &sorted.left[0];
    assert_eq!((left.0.as_str(), left.1), ("amdgpu PPT", Domain::Package));
    assert_eq!(left.2, "amd_energy counts it already");
}

#[test]
fn graphics_in_a_package_is_no_card() {
    let of = |slot: &str, device: &str, name: &str| {
        let text = format!(
            "hwmon0/name {name}\nhwmon0/slot {slot}\nhwmon0/device {device}\n\
             hwmon0/energy1_input 5\nhwmon0/power1_input 5"
        );
        let sorted = sort(&listings(&text), "x86_64");
        let domains: Vec<Domain> = sorted.known.iter().map(|one| one.domain).collect();
        (domains, sorted.left.len())
    };
    // Intel's own graphics is on the root bus; i915 and xe show no sensors of it today.
    assert_eq!(of("0000:00:02.0", "8086:7D55", "xe"), (vec![], 1));
    assert_eq!(
        of("0000:03:00.0", "8086:E20B", "xe"),
        (vec![Domain::Gpu], 0)
    );
    // MI300A is a whole socket, MI300X is a card.
    let package = (vec![Domain::Package], 0);
    assert_eq!(of("0001:01:00.0", "1002:74A0", "amdgpu"), package);
    assert_eq!(
        of("0001:01:00.0", "1002:74a1", "amdgpu"),
        (vec![Domain::Gpu], 0)
    );
}

#[test]
fn a_management_controller_does_not_count_its_host() {
    let smpro = "
        hwmon0/name smpro_hwmon
        hwmon0/power1_input 20000000
        hwmon0/power3_input 4000000
    ";
    assert_eq!(counted(smpro, "aarch64").len(), 2);
    let sorted = sort(&listings(smpro), "arm");
    assert!(sorted.known.is_empty());
    assert!(sorted.left[0].2.contains("management controller"));
    let occ = "hwmon0/name occ\nhwmon0/power2_label 0_proc\nhwmon0/power2_input 1\n\
               hwmon0/power2_average 2";
    let lines = counted(occ, "powerpc64");
    assert_eq!(lines, ["package 0 [occ 0_proc] power2_input"]);
    assert!(counted(occ, "aarch64").is_empty());
}

#[test]
fn two_chips_of_a_name_are_two_sockets() {
    let two = format!(
        "{ALTRA}{}",
        ALTRA
            .replace("hwmon0", "hwmon4")
            .replace("hwmon2", "hwmon5")
    );
    assert_eq!(
        counted(&two, "aarch64")[2..],
        [
            "package 1 [apm_xgene CPU power, chip 1] power1_input",
            "package 1 [apm_xgene IO power, chip 1] power2_input"
        ]
    );
}

#[test]
fn what_a_zone_is_known_by_is_in_its_name() {
    assert_eq!(
        blur_of("power_meter Grace Power Socket 0").unwrap().seconds,
        1.0
    );
    assert_eq!(blur_of("amd_energy Esocket0").unwrap().part, 0.0);
    assert_eq!(blur_of("package-0"), None);
}

/// Writes such a tree below a root, with the values.
fn write(root: &Path, text: &str) {
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (path, value) = line.split_once(' ').unwrap_or((line, ""));
        let path = root.join("sys/class/hwmon").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{value}\n")).unwrap();
    }
}

#[test]
fn counts_of_energy_are_read_at_once() {
    let tmp = tempfile::tempdir().unwrap();
    write(tmp.path(), RYZEN);
    let mut counter = open_as(tmp.path(), "x86_64").unwrap();
    let mut out = Vec::new();
    counter.read(&mut out);
    assert_eq!(out, [Ok(3_510_000_000_000)]);
    write(tmp.path(), "hwmon2/energy7_input lots");
    out.clear();
    counter.read(&mut out);
    assert_eq!(out, [Err(ReadFault::Malformed)]);
}

#[test]
fn files_at_the_device_are_found_and_power_is_integrated() {
    let tmp = tempfile::tempdir().unwrap();
    let moved = GRACE_HOPPER.replace("/power1", "/device/power1");
    write(tmp.path(), &moved);
    let mut counter = open_as(tmp.path(), "aarch64").unwrap();
    let begun = std::time::Instant::now();
    let mut out = Vec::new();
    counter.read(&mut out);
    // Nothing is known yet, and nobody waited for it.
    assert_eq!(out, [Ok(0), Ok(0), Ok(0)]);
    let mut shown = 0;
    while shown == 0 && begun.elapsed().as_secs() < 20 {
        std::thread::sleep(std::time::Duration::from_millis(5));
        out.clear();
        counter.read(&mut out);
        shown = out[1].unwrap();
    }
    let most = 97_300_000.0 * begun.elapsed().as_secs_f64();
    assert!(shown > 0 && shown as f64 <= most, "{shown} {most}");
    // One place for all, so that their proportions are those of the powers.
    let parts: Vec<f64> = out.iter().map(|one| one.unwrap() as f64).collect();
    assert!(
        (parts[0] / parts[1] - 221.2 / 97.3).abs() < 0.05,
        "{parts:?}"
    );
}

#[test]
fn what_is_not_known_is_said_and_not_counted() {
    let tmp = tempfile::tempdir().unwrap();
    let why = open_as(tmp.path(), "x86_64").unwrap_err();
    assert!(why.reason.contains("no sensor of"), "{why}");
    write(tmp.path(), UNKNOWN);
    write(tmp.path(), "hwmon3/name nvme\nhwmon3/temp1_input 30000");
    assert!(open_as(tmp.path(), "x86_64").is_err());
    assert_eq!(
        survey(tmp.path()),
        [
            "power_meter hwmon1: power1",
            "zenpower hwmon2: power1 (SVI2_P_Core)"
        ]
    );
}

#[test]
fn power_beyond_reason_is_a_fault() {
    let tmp = tempfile::tempdir().unwrap();
    write(
        tmp.path(),
        "hwmon0/power1_average 4294967295000\nhwmon0/in1_input 843\nhwmon0/curr1_input 6170\n\
         hwmon0/power2_input 0",
    );
    let place = tmp.path().join("sys/class/hwmon/hwmon0");
    let open = |read: Read, may_rest| Sensor::open(&read, may_rest, &place).unwrap();
    let of = |read: Read| open(read, false).read();
    let beyond = of(Read::Power("power1_average".into()));
    assert_eq!(beyond, Err(ReadFault::Failed));
    let product = of(Read::Product("in1_input".into(), "curr1_input".into()));
    assert_eq!(product, Ok(843.0 * 6170.0));
    // Nor is there none, but of what may be off.
    let none = Read::Power("power2_input".into());
    assert_eq!(of(none.clone()), Err(ReadFault::Failed));
    assert_eq!(open(none, true).read(), Ok(0.0));
}

#[test]
fn one_command_opens_the_channels_of_all_sockets() {
    let why = denied(Path::new("/sys/class/hwmon/hwmon2"), "energy17_input");
    assert!(
        why.denied
            && why
                .reason
                .contains("hwmon2/energy17_input is readable by root only")
    );
    let fix = "sudo chmod a+r /sys/class/hwmon/hwmon2/energy*_input";
    assert_eq!(why.fix.as_deref(), Some(fix));
}

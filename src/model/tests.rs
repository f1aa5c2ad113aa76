use super::table::{find, processors};
use super::*;

fn row(name: &str) -> &'static CpuSpec {
    find(name).unwrap_or_else(|| panic!("{name} is not in the table"))
}

#[test]
fn table_is_whole() {
    let rows = processors();
    let lines = include_str!("cpus.csv")
        .lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with("pattern,"))
        .count();
    assert_eq!(rows.len(), lines, "a row did not parse");
    assert!(rows.len() >= 80);
    for row in rows {
        assert!(row.source.len() > 10, "{row:?} has no source");
        assert_eq!(row.idle_w.is_some(), row.full_w.is_some(), "{row:?}");
        if let (Some(idle), Some(full)) = (row.idle_w, row.full_w) {
            assert!(idle < full, "{row:?}");
        }
        if let (Some(cores), Some(threads)) = (row.cores, row.threads) {
            assert!(
                threads == cores || threads >= cores && threads <= 2 * cores,
                "{row:?}"
            );
        }
        if let Some(tdp) = row.tdp_w {
            assert!((2.0..=500.0).contains(&tdp), "{row:?}");
        }
        if let Some(year) = row.year {
            assert!((2004..=2026).contains(&year), "{row:?}");
        }
    }
}

#[test]
fn no_row_is_shadowed() {
    for row in processors() {
        let name = row.pattern.trim_start_matches('=');
        assert_eq!(row, find(name).unwrap(), "an earlier row takes {name}");
    }
}

#[test]
fn names_as_kernels_write_them() {
    for (name, tdp, threads) in [
        ("Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz", 210.0, 48),
        ("Intel(R) Xeon(R) Platinum 8124M CPU @ 3.00GHz", 240.0, 36),
        ("Intel(R) Xeon(R) Platinum 8175M CPU @ 2.50GHz", 240.0, 48),
        ("Intel(R) Xeon(R) Platinum 8275CL CPU @ 3.00GHz", 240.0, 48),
        ("Intel(R) Xeon(R) Platinum 8252C CPU @ 3.80GHz", 240.0, 24),
        ("Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz", 300.0, 64),
        ("Intel(R) Xeon(R) Platinum 8488C", 385.0, 96),
        ("Intel(R) Xeon(R) CPU E5-2676 v3 @ 2.40GHz", 120.0, 24),
        ("Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz", 145.0, 36),
        ("Intel(R) Xeon(R) Processor @ 2.50GHz", 210.0, 48),
        ("Intel(R) Xeon(R) Processor @ 2.90GHz", 300.0, 64),
        ("Intel(R) Xeon(R) Processor @ 3.00GHz", 240.0, 48),
        ("AMD EPYC", 225.0, 96),
        ("AMD EPYC 7571", 200.0, 64),
        ("AMD EPYC 7R13 Processor", 225.0, 96),
        ("AMD EPYC 7R32", 280.0, 96),
        ("AMD EPYC 9R14", 280.0, 96),
        ("AMD EPYC 7763v 64-Core Processor", 280.0, 128),
        ("AMD EPYC 7763 64-Core Processor", 280.0, 128),
        ("AMD EPYC 7B12", 240.0, 128),
        ("Intel(R) Xeon(R) Platinum 8272CL CPU @ 2.60GHz", 195.0, 52),
        ("Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz", 270.0, 64),
        ("Intel(R) Xeon(R) CPU E5-2620 v3 @ 2.40GHz", 85.0, 12),
        ("AMD EPYC 8024P 8-Core Processor", 90.0, 16),
        ("Intel(R) Xeon(R) Silver 4416+", 165.0, 40),
        ("Intel(R) Xeon(R) CPU E5-2650 0 @ 2.00GHz", 95.0, 16),
        ("Intel(R) Xeon(R) CPU E5-2650 v2 @ 2.60GHz", 95.0, 16),
        ("Intel(R) Xeon(R) CPU E5-2650 v4 @ 2.20GHz", 105.0, 24),
        ("Intel(R) Xeon(R) CPU E5-4669 v4 @ 2.20GHz", 135.0, 44),
        ("Intel(R) Xeon(R) CPU E7- 4870  @ 2.40GHz", 130.0, 20),
        ("Intel(R) Xeon(R) CPU E7-4870 v2 @ 2.30GHz", 130.0, 30),
        ("INTEL(R) XEON(R) 8480+", 350.0, 112),
        ("Intel(R) Xeon(R) Platinum 8480+", 350.0, 112),
        ("Intel(R) Xeon(R) Platinum 8380H CPU @ 2.90GHz", 250.0, 56),
        ("Intel(R) Xeon(R) 6788P", 350.0, 172),
        ("Intel(R) Xeon(R) 6780E", 330.0, 144),
        ("Intel(R) Xeon(R) E-2488", 95.0, 16),
        ("Intel(R) Xeon(R) CPU            5120  @ 1.86GHz", 65.0, 2),
        ("Intel(R) Xeon(R) Gold 5120 CPU @ 2.20GHz", 105.0, 28),
        ("AMD EPYC 4565P 16-Core Processor", 170.0, 32),
        ("AMD EPYC 8635P 84-Core Processor", 225.0, 168),
        ("AMD FX(tm)-8350 Eight-Core Processor", 125.0, 8),
        ("Intel(R) Core(TM) i7-8700K CPU @ 3.70GHz", 95.0, 12),
        ("Intel(R) Core(TM) i7-8700 CPU @ 3.20GHz", 65.0, 12),
        ("12th Gen Intel(R) Core(TM) i7-12700H", 45.0, 20),
        ("AMD Ryzen 9 5950X 16-Core Processor", 105.0, 32),
        ("AWS Graviton (Cortex-A72)", 40.0, 16),
        ("AWS Graviton2 (Neoverse-N1)", 150.0, 64),
        ("AWS Graviton3 (Neoverse-V1)", 220.0, 64),
        ("AWS Graviton4 (Neoverse-V2)", 300.0, 96),
        ("ARM Neoverse-N1", 150.0, 64),
        ("Apple M1", 20.0, 8),
    ] {
        let row = row(name);
        assert_eq!(
            (row.tdp_w, row.threads),
            (Some(tdp), Some(threads)),
            "{name}"
        );
    }
    // A suffix makes another part; a longer name never falls to a shorter row.
    assert!(find("AMD EPYC 76539 64-Core").is_none());
    assert_eq!(row("AMD EPYC-Rome Processor").microarchitecture, "Rome");
    assert!(find("Intel(R) Core(TM) i7-8700XYZ").is_none());
    assert!(find("Intel(R) Xeon(R) CPU E5-2650 v9 @ 2.00GHz").is_none());
    assert!(find("Intel(R) Xeon(R) 84801+").is_none());
    assert_eq!(
        row("Raspberry Pi 4 Model B Rev 1.4").class,
        Class::SingleBoard
    );
}

#[test]
fn the_server_default_follows_the_table() {
    let logs: Vec<f64> = processors()
        .iter()
        .filter(|row| matches!(row.class, Class::Server) && row.certainty == Certainty::Exact)
        // Embedded parts take half as much a thread; they are named, row by row.
        .filter(|row| !row.pattern.starts_with("xeon d-") && !row.pattern.starts_with("atom"))
        .filter_map(|row| Some((row.tdp_w? / unknown::server_tdp(row.threads?)).ln()))
        .collect();
    let n = logs.len() as f64;
    let mean = logs.iter().sum::<f64>() / n;
    let sd = (logs.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / n).sqrt();
    assert!(mean.abs() < 0.1 && sd < 0.3, "mean {mean}, sd {sd}");
}

#[test]
fn an_unknown_server_has_its_tdp_with_smt_off_too() {
    let of = |logical_cpus: u32| {
        PowerModel::for_identity(&CpuIdentity {
            name: "Intel(R) Xeon(R) Platinum 9999".to_owned(),
            brand: "Intel".to_owned(),
            vendor: None,
            architecture: "x86_64".to_owned(),
            physical_cores: Some(64),
            logical_cpus,
            sockets: Some(2),
            base_mhz: None,
            max_mhz: None,
            governor: None,
            limit_mhz: None,
            hypervisor: false,
        })
    };
    let (on, off) = (of(128), of(64));
    assert!(on.describe().starts_with("model:class-server"));
    assert_eq!(on.tdp().0, off.tdp().0);
}

#[test]
fn a_governor_says_what_the_clock_does() {
    let of = |governor: Option<&str>, limit_mhz: Option<f64>| {
        PowerModel::for_identity(&CpuIdentity {
            name: "Intel(R) Xeon(R) Gold 6130 CPU @ 2.10GHz".to_owned(),
            brand: "Intel".to_owned(),
            vendor: None,
            architecture: "x86_64".to_owned(),
            physical_cores: Some(32),
            logical_cpus: 64,
            sockets: Some(2),
            base_mhz: Some(2100.0),
            max_mhz: Some(3700.0),
            governor: governor.map(str::to_owned),
            limit_mhz,
            hypervisor: false,
        })
        .watts(30.0, None, None)
        .unwrap()
    };
    let (steady, saving, unknown) = (
        of(Some("performance"), None),
        of(Some("schedutil"), None),
        of(None, None),
    );
    assert!(saving.value < 0.85 * steady.value);
    // Where it is not known the band holds both.
    assert!(unknown.low <= saving.value && steady.value <= unknown.high);
    assert!(unknown.high - unknown.low > saving.high - saving.low);
    // Turbo that is switched off, or a limit that was set.
    assert!(of(Some("performance"), Some(2100.0)).value < 0.95 * steady.value);
}

#[test]
fn hosts_made_for_a_cloud_keep_their_clock() {
    for (name, is) in [
        ("Intel(R) Xeon(R) Platinum 8275CL CPU @ 3.00GHz", true),
        ("Intel(R) Xeon(R) Platinum 8175M CPU @ 2.50GHz", true),
        ("Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz", true),
        ("AMD EPYC 7R13 Processor", true),
        ("AMD EPYC 9R14", true),
        ("AWS Graviton3 (Neoverse-V1)", true),
        ("Intel(R) Xeon(R) Gold 6130 CPU @ 2.10GHz", false),
        ("Intel(R) Xeon(R) Platinum 8280 CPU @ 2.70GHz", false),
        ("AMD EPYC 72F3 8-Core Processor", false),
        ("AMD EPYC 7763 64-Core Processor", false),
    ] {
        assert_eq!(row(name).made_for_a_cloud(), is, "{name}");
    }
}

#[test]
fn sockets_are_counted() {
    let name = "Intel(R) Xeon(R) CPU E5-2620 v3 @ 2.40GHz";
    let two = PowerModel::for_cpu(name, Some(24), None);
    let one = PowerModel::for_cpu(name, Some(12), None);
    let told = PowerModel::for_cpu(name, Some(24), Some(2));
    let watts = |model: &PowerModel| model.watts(70.0, None, None).unwrap().value;
    assert!((watts(&two) - 2.0 * watts(&one)).abs() < 1e-9);
    assert_eq!(watts(&two), watts(&told));
    assert_eq!(two.tdp().0, Some(85.0));
    let plain = PowerModel::for_cpu(name, None, None);
    assert!((watts(&plain) - watts(&one)).abs() < 1e-9);
}

fn models() -> Vec<PowerModel> {
    // Every third row: many are alike, and an unoptimised build is slow.
    let mut models: Vec<PowerModel> = processors()
        .iter()
        .step_by(3)
        .flat_map(|row| {
            [None, Some(1), Some(2), Some(24), Some(192)]
                .map(|cpus| PowerModel::for_cpu(row.pattern.trim_start_matches('='), cpus, None))
        })
        .collect();
    for name in [
        "",
        "unknown",
        "?",
        "\0",
        "Imaginary 9000",
        "Intel(R) Xeon(R) W-9999",
        "ARMv7 rev 4",
    ] {
        for cpus in [None, Some(0), Some(1), Some(u32::MAX)] {
            models.push(PowerModel::for_cpu(name, cpus, Some(0)));
            models.push(PowerModel::for_cpu(name, cpus, Some(u32::MAX)));
        }
        for memory in [0, 128, 1769, 10_240, u32::MAX] {
            models.push(PowerModel::for_lambda(memory, "arm64", Some(name)));
            models.push(PowerModel::for_lambda(memory, name, None));
        }
    }
    models
}

#[test]
fn finite_ordered_and_monotone_for_every_model() {
    for model in models() {
        let name = model.describe();
        for vcpus in [0.0, 0.3, 1.0, 2.0, 24.0, 96.0, 1e6] {
            let mut before = RawPower::default();
            for step in 0..=20 {
                let busy = vcpus * f64::from(step) / 20.0;
                let now = model.vcpus_watts_raw(vcpus, busy);
                for value in [
                    now.total,
                    now.low,
                    now.high,
                    now.idle,
                    now.idle_low,
                    now.idle_high,
                ] {
                    assert!(value.is_finite() && value >= 0.0, "{name} {now:?}");
                }
                assert!(
                    now.low <= now.total && now.total <= now.high,
                    "{name} {now:?}"
                );
                assert!(
                    now.idle_low <= now.idle && now.idle <= now.idle_high,
                    "{name} {now:?}"
                );
                assert!(now.idle <= now.total, "{name} {now:?}");
                assert!(
                    now.total >= before.total,
                    "{name}: {now:?} after {before:?}"
                );
                assert!(now.low >= before.low && now.high >= before.high, "{name}");
                before = now;
            }
        }
        for bad in [f64::NAN, f64::NEG_INFINITY, -1.0] {
            assert_eq!(
                model.vcpus_watts_raw(2.0, bad),
                model.vcpus_watts_raw(2.0, 0.0)
            );
            assert_eq!(model.vcpus_watts_raw(bad, 1.0), RawPower::default());
        }
        let all = model.vcpus_watts_raw(f64::INFINITY, f64::INFINITY);
        assert!(all.total.is_finite(), "{name}");
        assert!(!model.watts(100.0, None, None).unwrap().source.is_empty());
    }
}

#[test]
fn bad_input_is_an_error() {
    let model = PowerModel::for_cpu("AMD EPYC 7763", None, None);
    assert_eq!(model.watts(-0.1, None, None), Err(ModelError::Load(-0.1)));
    assert!(matches!(model.watts(f64::NAN, None, None), Err(ModelError::Load(v)) if v.is_nan()));
    assert_eq!(
        model.watts(1.0, None, Some(0.0)),
        Err(ModelError::Frequency(0.0))
    );
    let full = model.watts(100.0, Some(64), None).unwrap();
    assert_eq!(model.watts(f64::INFINITY, None, None).unwrap(), full);
    assert!(ModelError::Load(-1.0).to_string().contains("percentage"));
}

#[test]
fn bare_metal_share_of_everything_is_the_machine() {
    let model = PowerModel::for_cpu("AMD EPYC 8024P 8-Core Processor", Some(16), None);
    assert!(!model.shared);
    for load in [0.0, 7.0, 50.0, 100.0] {
        let whole = model.watts(load, None, None).unwrap();
        let share = model.vcpus_watts(16.0, load / 100.0 * 16.0).total;
        assert!((whole.value - share.value).abs() < 1e-9);
        assert!((whole.low - share.low).abs() < 1e-9 && (whole.high - share.high).abs() < 1e-9);
    }
}

#[test]
fn a_share_is_host_watts_per_thread() {
    let name = "AMD EPYC 7763 64-Core Processor";
    let host = PowerModel::for_cpu(name, Some(128), Some(1));
    let guest = PowerModel::for_cpu(name, Some(2), None);
    assert!(guest.shared && !host.shared);
    let of = |load: f64| {
        let whole = host.watts(load, None, None).unwrap().value;
        let part = guest.vcpus_watts_raw(2.0, 2.0 * load / 100.0).total;
        (part, whole * 2.0 / 128.0)
    };
    for load in [0.0, 100.0] {
        let (part, thread) = of(load);
        assert!((part - thread).abs() < 1e-9);
    }
    // In between, whoever rents a host out keeps its clock up.
    let (part, thread) = of(30.0);
    assert!(part > thread && part < 2.0 * thread);
}

#[test]
fn two_vcpus_never_pay_for_the_package() {
    let guest = |name: &str| CpuIdentity {
        name: name.to_owned(),
        brand: "unknown".to_owned(),
        vendor: None,
        architecture: if name.contains("Gravi") || name.contains("Neov") {
            "aarch64"
        } else {
            "x86_64"
        }
        .to_owned(),
        physical_cores: Some(1),
        logical_cpus: 2,
        sockets: Some(1),
        base_mhz: None,
        max_mhz: None,
        governor: None,
        limit_mhz: None,
        hypervisor: true,
    };
    for name in [
        "AMD EPYC",
        "AMD EPYC-Rome Processor",
        "Intel(R) Xeon(R) Processor @ 2.50GHz",
        "Intel(R) Xeon(R) CPU @ 2.20GHz",
        "QEMU Virtual CPU version 2.5+",
        "Common KVM processor",
        "unknown",
        "AWS Graviton2 (Neoverse-N1)",
        "ARM Neoverse-N2",
    ] {
        let model = PowerModel::for_identity(&guest(name));
        assert!(model.shared, "{name}");
        let power = model.vcpus_watts(2.0, 2.0);
        assert!(
            (1.5..20.0).contains(&power.total.value),
            "{name}: {power:?}"
        );
        assert!(
            power.total.high / power.total.low > 3.0,
            "{name}: too sure of itself: {power:?}"
        );
    }
    // More is known of a named part than of a hidden one, and of a hidden one than of nothing.
    let width = |name: &str| {
        let power = PowerModel::for_identity(&guest(name))
            .vcpus_watts(2.0, 1.0)
            .total;
        power.high / power.low
    };
    assert!(
        width("Intel(R) Xeon(R) Platinum 8259CL") < width("Intel(R) Xeon(R) Processor @ 2.50GHz")
    );
    assert!(width("Intel(R) Xeon(R) Processor @ 2.50GHz") < width("AMD EPYC"));
    assert!(width("AMD EPYC") < width("QEMU Virtual CPU version 2.5+"));
}

#[test]
fn published_watts_per_vcpu_fall_inside_the_band() {
    // Full-load watts per vCPU of other public methods (Cloud Carbon Footprint coefficients for the
    // microarchitecture, SPECpower based, whole server): none of them is the truth, and none may be
    // outside what we call plausible.
    for (name, idle, full) in [
        ("Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz", 0.69, 4.06),
        ("Intel(R) Xeon(R) Platinum 8175M CPU @ 2.50GHz", 0.61, 4.10),
        ("Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz", 0.77, 3.76),
        ("AMD EPYC 7R32", 0.47, 1.69),
        ("AMD EPYC 7R13 Processor", 0.46, 1.96),
        ("AWS Graviton2 (Neoverse-N1)", 0.47, 1.69),
    ] {
        let model = PowerModel::for_cpu(name, Some(2), None);
        let busy = model.vcpus_watts_raw(1.0, 1.0);
        let idle_now = model.vcpus_watts_raw(1.0, 0.0);
        assert!(
            (busy.low..=busy.high).contains(&full),
            "{name}: {full} not in {busy:?}"
        );
        assert!(
            (idle_now.low..=idle_now.high).contains(&idle),
            "{name}: {idle} not in {idle_now:?}"
        );
    }
}

#[test]
fn lambda() {
    for (arch, expected) in [
        ("arm64", "model:lambda-arm64"),
        ("x86_64", "model:lambda-x86_64"),
    ] {
        let model = PowerModel::for_lambda(1024, arch, None);
        assert_eq!(model.describe(), expected);
        assert!((model.allotted_vcpus().unwrap() - 1024.0 / 1769.0).abs() < 1e-12);
        let vcpu = model.vcpus_watts(1.0, 1.0).total;
        // One open methodology has 3.5 W at full load on x86 and 1.7 W on Graviton2.
        assert!((1.0..8.0).contains(&vcpu.value), "{arch}: {vcpu:?}");
    }
    let arm = PowerModel::for_lambda(1769, "aarch64", Some("ARM Neoverse-N1"));
    assert_eq!(arm.describe(), "model:lambda-arm64");
    let named =
        PowerModel::for_lambda(1769, "x86_64", Some("Intel(R) Xeon(R) Processor @ 2.90GHz"));
    assert_eq!(named.assumptions().tdp_w, Some(300.0));
    let mix = PowerModel::for_lambda(1769, "x86_64", None);
    let width = |model: &PowerModel| {
        let raw = model.vcpus_watts_raw(1.0, 1.0);
        raw.high / raw.low
    };
    assert!(width(&mix) > width(&named));
}

#[test]
fn class_defaults_say_so() {
    for (name, cpus, class) in [
        ("Intel(R) Xeon(R) Gold 9999", Some(64), Class::Server),
        ("AMD EPYC 9999X", Some(4), Class::Server),
        ("Intel(R) Core(TM) i5-99999", Some(12), Class::Desktop),
        (
            "Intel(R) Core(TM) i5-9999U CPU @ 1.60GHz",
            Some(8),
            Class::Laptop,
        ),
        (
            "AMD Ryzen 5 9999 6-Core Processor",
            Some(12),
            Class::Desktop,
        ),
        (
            "AMD Ryzen 7 9999U with Radeon Graphics",
            Some(16),
            Class::Laptop,
        ),
        ("ARM Neoverse-V3", Some(96), Class::ArmServer),
        ("ARM Cortex-A55", Some(4), Class::SingleBoard),
        ("Intel(R) N360", Some(8), Class::LowPower),
        ("Intel(R) Celeron(R) N9999", Some(2), Class::LowPower),
        ("AMD Ryzen Z9 Extreme", Some(16), Class::Laptop),
        ("NVIDIA Jetson AGX Nobody", Some(12), Class::SingleBoard),
        ("unknown", Some(4), Class::Desktop),
        ("unknown", Some(128), Class::Server),
    ] {
        let model = PowerModel::for_cpu(name, cpus, None);
        let facts = model.assumptions();
        assert_eq!(facts.class, class, "{name}");
        assert!(
            facts.source.starts_with("class default"),
            "{name}: {}",
            facts.source
        );
        assert!(model.describe().starts_with("model:class-"), "{name}");
        assert!(model.tdp().1.contains("class default"));
        assert!(
            model
                .watts(50.0, None, None)
                .unwrap()
                .source
                .contains("class default")
        );
    }
}

/// What the makers say of parts of all kinds, by names that are in the table and names that are
/// not: at full load a part takes its TDP, and small machines are often let take half as much more.
#[test]
fn the_band_of_a_bare_machine_reaches_what_its_maker_says() {
    for (name, cpus, watts) in [
        ("Intel(R) N97", 4, 12.0),
        ("Intel(R) N100", 4, 6.0),
        ("Intel(R) N250", 4, 6.0),
        ("Intel(R) Core(TM) 3 N350", 8, 7.0),
        ("Intel(R) Pentium(R) Silver N5000 CPU @ 1.10GHz", 4, 6.0),
        ("Intel(R) Celeron(R) CPU N2807 @ 1.58GHz", 2, 4.3),
        ("Intel(R) Celeron(R) J6413 @ 1.80GHz", 4, 10.0),
        ("Intel(R) Atom(TM) CPU E3815 @ 1.46GHz", 1, 5.0),
        ("Intel(R) Atom(TM) CPU D2550 @ 1.86GHz", 4, 10.0),
        ("Intel(R) Core(TM) m3-7Y32 CPU @ 1.10GHz", 4, 4.5),
        ("Intel(R) Core(TM) i7-4610Y CPU @ 1.70GHz", 4, 11.5),
        ("AMD GX-412TC SOC", 4, 6.0),
        ("AMD GX-210JA SOC with Radeon(tm) HD Graphics", 2, 6.0),
        ("AMD Ryzen Embedded R1102G with Radeon Vega Gfx", 2, 6.0),
        ("AMD Custom APU 0405", 8, 15.0),
        ("AMD Ryzen Z1 Extreme", 16, 28.0),
        ("AMD A6-9225 RADEON R4, 5 COMPUTE CORES 2C+3G", 2, 15.0),
        ("AMD Ryzen 5 Microsoft Surface (R) Edition", 12, 15.0),
        ("Intel(R) Core(TM) i5-4310U CPU @ 2.00GHz", 4, 15.0),
        ("Intel(R) Core(TM) Ultra 9 275HX", 24, 55.0),
        ("Intel(R) Core(TM) i5-9600T CPU @ 2.30GHz", 6, 35.0),
        ("Intel(R) Core(TM) i5-9500 CPU @ 3.00GHz", 6, 65.0),
        ("AMD Ryzen 5 8500G w/ Radeon 740M Graphics", 12, 65.0),
        ("AMD FX(tm)-8350 Eight-Core Processor", 8, 125.0),
        ("Intel(R) Celeron(R) CPU 847 @ 1.10GHz", 2, 17.0),
        ("NVIDIA Jetson AGX Orin Developer Kit", 12, 30.0),
        ("NVIDIA Jetson Orin Nano", 6, 15.0),
        ("unknown", 4, 6.0),
        ("unknown", 8, 105.0),
        ("unknown", 16, 165.0),
    ] {
        let full = PowerModel::for_cpu(name, Some(cpus), None)
            .watts(100.0, None, None)
            .unwrap();
        assert!(full.low <= watts, "{name}: {watts} W, {full:?}");
        assert!(1.2 * watts <= full.high, "{name}: {watts} W, {full:?}");
    }
}

#[test]
fn memory() {
    let model = PowerModel::for_lambda(1024, "arm64", None);
    let one = model.memory_watts(1.0);
    assert!(one.low < one.value && one.value < one.high);
    assert_eq!(model.memory_watts(f64::NAN).value, 0.0);
    assert_eq!(model.memory_watts(-3.0).high, 0.0);
    assert!(model.memory_watts(f64::INFINITY).high.is_finite());
    // The memory of a function is a part of its host's: twice as much takes twice as much.
    let two = model.memory_watts(2.0);
    assert!((two.value - 2.0 * one.value).abs() < 1e-12);
    // 2 TiB at rest took 123 W, where 0.392 W a GB said 848.
    let host = PowerModel::for_cpu(
        "Intel(R) Xeon(R) CPU E5-4669 v4 @ 2.20GHz",
        Some(176),
        Some(4),
    );
    let rest = host.memory_watts_raw(2015.0, Some(0.0));
    assert!(rest.low < 123.0 && 123.0 < rest.high && rest.total < 200.0);
    // A container's part, where the machine's size is known.
    let container = host
        .with_memory(176, 2015.0, None)
        .memory_watts_raw(20.15, Some(0.0));
    assert!((container.total - 0.01 * rest.total).abs() < 1e-9);
}

#[test]
fn memory_of_an_unknown_size_is_a_usual_one_in_a_band_for_others() {
    for (cpu, threads) in [
        ("Intel(R) Core(TM) i7-8700K", 12.0),
        ("AMD EPYC 7B13", 64.0),
    ] {
        let model = PowerModel::for_cpu(cpu, Some(threads as u32), None);
        for load in [None, Some(0.0), Some(0.6)] {
            let unknown = model.memory_watts_of(None, threads, load);
            assert!(unknown.total > 0.0 && (load.is_none() || unknown.idle > 0.0));
            for gib_a_thread in [2.0, 4.0, 8.0] {
                let known = model.memory_watts_of(gib_a_thread * threads, threads, load);
                assert!(
                    unknown.low < known.total && known.total < unknown.high,
                    "{cpu} {load:?} {gib_a_thread}: {known:?} in {unknown:?}"
                );
            }
            let part = model.memory_watts_of(None, threads / 4.0, load);
            assert!((4.0 * part.total - unknown.total).abs() < 1e-9);
        }
    }
    let traffic = Traffic {
        seconds: 1.0,
        bytes: 1e9,
        part: (1.0, 1.0),
    };
    let model = PowerModel::for_cpu("Intel(R) Core(TM) i7-8700K", Some(12), None);
    let unknown = model.memory_watts_with(None, 12.0, traffic);
    let usual = model.memory_watts_with(Some(48.0), 12.0, traffic);
    assert_eq!(unknown.total, usual.total);
    assert!(unknown.low < usual.low && usual.high < unknown.high);
}

#[test]
fn assumptions_travel_as_json() {
    let model = PowerModel::for_cpu("AMD EPYC", Some(2), None);
    let json = serde_json::to_value(model.assumptions()).unwrap();
    assert_eq!(json["certainty"], "likely");
    assert_eq!(json["shared_host"], true);
    assert_eq!(json["threads_per_socket"], 96);
    assert_eq!(json["class"], "server");
    let lambda =
        serde_json::to_value(PowerModel::for_lambda(512, "x86_64", None).assumptions()).unwrap();
    assert!(lambda["allotted_vcpus"].as_f64().unwrap() < 0.3);
}

#[test]
fn tdp_energy_is_a_product() {
    assert_eq!(tdp_energy(100.0, 1.0, 85.0), 85.0);
    assert_eq!(tdp_energy(0.0, 1.0, 85.0), 0.0);
}

#[test]
fn slugs() {
    assert_eq!(table::slug("Xeon Silver 4416+"), "xeon-silver-4416plus");
    assert_eq!(
        table::slug("Intel(R) Xeon(R) Processor @ 2.50GHz"),
        "intel-xeon-2.50ghz"
    );
    assert_eq!(
        PowerModel::for_cpu("AMD EPYC", None, None).describe(),
        "model:amd-epyc"
    );
}

/// Two CPUs of a server's many, with a counter of their own: a little load wakes their socket a
/// little of the time, where the same part of a whole server keeps it awake.
#[test]
fn cores_that_a_machine_does_not_have_wake_nothing() {
    let model = PowerModel::for_cpu("AMD EPYC 7R13", None, None);
    let of = |cores: f64, busy: f64| model.active_watts_of_cores(2.0, 2.0 * busy, cores)[0];
    let raw = |busy: f64| {
        let raw = model.vcpus_watts_raw(2.0, 2.0 * busy);
        raw.total - raw.idle
    };
    assert!(of(2.0, 0.02) < 0.7 * raw(0.02));
    assert!((of(2.0, 1.0) - raw(1.0)).abs() < 1e-9);
    // No more wake it than the processor has.
    assert!((of(1e6, 0.02) - raw(0.02)).abs() < 1e-9);
    assert_eq!(of(f64::NAN, 0.0), 0.0);
    assert_eq!(model.active_watts_of_cores(0.0, 1.0, 2.0), [0.0; 2]);
}

#[test]
fn one_busy_thread_wakes_a_server_as_measured() {
    // Two E5-2650 v4: 27 to 32 W at rest, 64 to 68 W with one thread busy (Alt et al., ICPE 2024).
    let name = "Intel(R) Xeon(R) CPU E5-2650 v4 @ 2.20GHz";
    let model = PowerModel::for_cpu(name, Some(48), Some(2));
    let [alike, few] = model.active_watts_of_cores(48.0, 1.0, 12.0);
    assert!(alike < 15.0 && (25.0..45.0).contains(&few), "{alike} {few}");
    let [alike, few] = model.active_watts_of_cores(48.0, 48.0, 12.0);
    assert!((alike - few).abs() < 1e-9);
}

#[test]
fn memory_of_a_machine_that_is_known_by_name_is_divided() {
    let name = "Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz";
    let model = PowerModel::for_cpu(name, Some(64), None);
    let whole = model.memory_watts_of(256.0, 64.0, Some(0.5));
    for parts in [2.0, 8.0, 64.0, 6400.0] {
        let part = model.memory_watts_of(256.0 / parts, 64.0 / parts, Some(0.5));
        assert!((part.total * parts - whole.total).abs() < 1e-6, "{parts}");
        assert!((part.idle * parts - whole.idle).abs() < 1e-6, "{parts}");
    }
    // Much memory and little of a CPU is no part of a machine of that memory a CPU.
    let much = model.memory_watts_of(64.0, 0.1, Some(1.0));
    let less = model.memory_watts_of(64.0, 8.0, Some(1.0));
    assert!(much.total - much.idle < 0.1 * (less.total - less.idle));
    for bad in [0.0, f64::NAN, f64::INFINITY] {
        assert!(model.memory_watts_of(64.0, bad, Some(0.5)).high.is_finite());
        assert!(model.memory_watts_of(bad, 8.0, Some(0.5)).high.is_finite());
    }
}

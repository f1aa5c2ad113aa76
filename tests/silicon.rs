//! The power model against public measurements of other people's machines.
//!
//! The tables (package watts of servers, SPECpower's curves, memory watts) are not part of the
//! repository. The folder that holds `silicon/*.csv` is named by `LITHOWATT_DATA`, by default
//! `../shared/data` beside the crate; without it these tests say so and pass.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests: a panic is the report"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use lithowatt::model::PowerModel;
use lithowatt::model::curve::Family;
use lithowatt::source::busy::{BusyCpus, Clock};

/// Columns of one row by name.
type Row = BTreeMap<String, String>;

/// The rows of a table, or `None` (with a message) where it is absent.
fn table(name: &str) -> Option<Vec<Row>> {
    let root = std::env::var_os("LITHOWATT_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
        PathBuf::from,
    );
    let path = root.join("silicon").join(name);
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!(
            "SKIPPED: no {} (set LITHOWATT_DATA to the folder that holds silicon/*.csv)",
            path.display()
        );
        return None;
    };
    let mut lines = text.lines().map(fields);
    let header = lines.next().unwrap();
    Some(
        lines
            .map(|row| header.iter().cloned().zip(row).collect())
            .collect(),
    )
}

/// The fields of a line; a field in quotation marks may hold commas.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            _ => fields.last_mut().unwrap().push(c),
        }
    }
    fields
}

fn number(row: &Row, column: &str) -> Option<f64> {
    row[column].parse().ok()
}

/// Package watts of a machine at one load.
struct Point {
    load: f64,
    busy: Option<u32>,
    /// Threads of a core that have work, where the source says it.
    threads: Option<f64>,
    mhz: Option<f64>,
    watts: f64,
    workload: String,
}

struct Machine {
    cpu: String,
    sockets: u32,
    logical: u32,
    points: Vec<Point>,
}

/// Machines with their points at loads of 5 % or more, each clock of EPYC 7502 a machine of its own.
fn machines() -> Option<BTreeMap<String, Machine>> {
    machines_at(|load| load >= 5.0)
}

/// The same with their points at the loads (%) that are `wanted`.
fn machines_at(wanted: impl Fn(f64) -> bool) -> Option<BTreeMap<String, Machine>> {
    let mut machines: BTreeMap<String, Machine> = BTreeMap::new();
    for row in table("package_power.csv")? {
        let (source, placement) = (row["source"].as_str(), row["placement"].as_str());
        let rome = source == "2021-rome-ee";
        let load = number(&row, "load_percent").unwrap();
        if row["cpu_name"] == "unknown"
            || placement == "socket1"
            || rome && placement == "block0"
            || !wanted(load)
        {
            continue;
        }
        let mhz = number(&row, "mean_mhz").filter(|_| source != "teads" && source != "icpe-2024");
        let mut name = row["machine"].clone();
        if let Some(mhz) = mhz.filter(|_| rome) {
            name = format!("{name}-{mhz:.0}MHz");
        }
        let spread_out = source == "teads" || placement == "all-cores";
        let busy = number(&row, "busy_threads")
            .filter(|n| !spread_out && *n >= 0.5)
            .map(|n| n.round() as u32);
        // Cores on which they can run: those of one socket, whole ones, or all.
        let cores = number(&row, "cores_per_socket").unwrap();
        let threads = busy.map(f64::from).map(|busy| match placement {
            "socket0" => (busy / cores).max(1.0),
            "both-threads" => 2.0,
            _ => (busy / (cores * number(&row, "sockets").unwrap())).max(1.0),
        });
        machines
            .entry(name)
            .or_insert_with(|| Machine {
                cpu: row["cpu_name"].replace(" (inferred)", ""),
                sockets: row["sockets"].parse().unwrap(),
                logical: row["logical_cpus"].parse().unwrap(),
                points: Vec::new(),
            })
            .points
            .push(Point {
                load,
                busy,
                threads,
                mhz,
                watts: number(&row, "package_w").unwrap(),
                workload: row["workload"].clone(),
            });
    }
    Some(machines)
}

fn model_of(machine: &Machine) -> PowerModel {
    PowerModel::for_cpu(&machine.cpu, Some(machine.logical), Some(machine.sockets))
}

/// Mean absolute error (%), bias (%) and the part (%) of the points inside the band.
struct Judged {
    error: f64,
    bias: f64,
    inside: f64,
}

fn judge(machine: &Machine, model: &PowerModel) -> Judged {
    let (mut error, mut bias, mut inside) = (0.0, 0.0, 0.0);
    for point in &machine.points {
        let told = model.watts(point.load, point.busy, point.mhz).unwrap();
        let off = told.value / point.watts - 1.0;
        error += off.abs();
        bias += off;
        inside += f64::from(u8::from(
            told.low <= point.watts && point.watts <= told.high,
        ));
    }
    let percent = 100.0 / machine.points.len() as f64;
    Judged {
        error: error * percent,
        bias: bias * percent,
        inside: inside * percent,
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0.0), |(sum, n), x| (sum + x, n + 1.0));
    sum / n
}

/// Prints a table and returns mean error, the worst machine's, and the mean part inside.
fn report(title: &str, judged: &BTreeMap<String, Judged>) -> (f64, f64, f64) {
    println!("{title}: mean absolute error, bias, points inside the band, %");
    for (name, j) in judged {
        println!("{name:28} {:5.1} {:+6.1} {:4.0}", j.error, j.bias, j.inside);
    }
    let error = mean(judged.values().map(|j| j.error));
    let worst = judged.values().map(|j| j.error).fold(0.0, f64::max);
    let inside = mean(judged.values().map(|j| j.inside));
    println!("mean {error:.1}, worst {worst:.1}, inside {inside:.0}");
    (error, worst, inside)
}

#[test]
fn shipped_model_on_every_machine() {
    let Some(machines) = machines() else { return };
    let judged = machines
        .iter()
        .map(|(name, machine)| (name.clone(), judge(machine, &model_of(machine))))
        .collect();
    let (error, worst, inside) = report("shipped model", &judged);
    assert!(error <= 12.0, "{error:.1} %");
    assert!(worst <= 30.0, "{worst:.1} %");
    assert!(inside >= 93.0, "{inside:.1} %");
    for (name, j) in &judged {
        // Square roots against matrix products: four-fold at the same threads and clock.
        if name.contains("7502") {
            assert!(j.inside >= 95.0, "{name}: {:.1} %", j.inside);
        }
    }
}

/// What programs do to an EPYC 7502, each alone.
#[test]
fn every_kernel_of_rome_is_inside_the_band() {
    let Some(machines) = machines() else { return };
    let mut kernels: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for machine in machines
        .iter()
        .filter(|(name, _)| name.contains("7502"))
        .map(|(_, m)| m)
    {
        let model = model_of(machine);
        for point in &machine.points {
            let told = model.watts(point.load, point.busy, point.mhz).unwrap();
            let (inside, n) = kernels.entry(point.workload.clone()).or_default();
            *n += 1.0;
            *inside += f64::from(u8::from(
                told.low <= point.watts && point.watts <= told.high,
            ));
        }
    }
    for (kernel, (inside, n)) in &kernels {
        println!("{kernel:12} {:4.0} % of {n} inside", 100.0 * inside / n);
        assert!(inside / n >= 0.95, "{kernel}: {inside} of {n}");
    }
}

/// Where threads share cores though others are free, that is told by what the meter sees of each CPU.
#[test]
fn threads_that_share_cores_are_told_from_cores() {
    let Some(machines) = machines() else { return };
    println!(
        "threads that share cores: points, mean absolute error by threads and clock, with cores, %"
    );
    let mut seen = 0;
    for (name, machine) in machines {
        let model = model_of(&machine);
        let host = f64::from(machine.logical);
        let cores = host / 2.0;
        let (mut told, mut with_cores, mut n) = (0.0, 0.0, 0.0);
        for point in &machine.points {
            let (Some(busy), Some(threads)) = (point.busy.map(f64::from), point.threads) else {
                continue;
            };
            if threads <= (busy / cores).max(1.0) {
                continue;
            }
            let seen = BusyCpus {
                threads: Some(threads),
                clock: point.mhz.map(Clock::exactly),
                ..BusyCpus::on(busy / host)
            };
            let alone = model.watts(point.load, point.busy, point.mhz).unwrap();
            let found = model.vcpus_watts_at(host, host * point.load / 100.0, seen);
            assert!(
                found.low <= point.watts && point.watts <= found.high,
                "{name}"
            );
            told += (alone.value / point.watts - 1.0).abs();
            with_cores += (found.total / point.watts - 1.0).abs();
            n += 1.0;
        }
        if n > 0.0 {
            println!(
                "{name:28} {n:3} {:5.1} {:5.1}",
                100.0 * told / n,
                100.0 * with_cores / n
            );
            assert!(with_cores < told, "{name}");
            seen += 1;
        }
    }
    assert!(seen >= 4);
}

/// One busy thread wakes what all share: told by its load alone it would be lost among all CPUs.
#[test]
fn a_few_busy_threads_are_more_than_their_load() {
    let Some(machines) = machines_at(|load| (0.1..5.0).contains(&load)) else {
        return;
    };
    for (name, mut machine) in machines {
        machine.points.retain(|point| point.busy.is_some());
        if machine.points.is_empty() {
            continue;
        }
        let model = model_of(&machine);
        let told = judge(&machine, &model);
        let off = |point: &Point| {
            let alone = model.watts(point.load, None, None).unwrap();
            100.0 * (alone.value / point.watts - 1.0).abs()
        };
        let alone = mean(machine.points.iter().map(off));
        println!(
            "{name}: {alone:.0} % by load alone, {:.0} % told",
            told.error
        );
        assert_eq!(told.inside, 100.0, "{name}");
        assert!(told.error < 0.5 * alone, "{name}");
    }
}

/// Each family told by the others of its maker: their shares of the TDP, and watts of a core
/// between theirs and what its TDP leaves.
#[test]
fn families_that_were_left_out() {
    let Some(machines) = machines() else { return };
    let facts = |machine: &Machine| *model_of(machine).facts();
    let amd = |machine: &Machine| machine.cpu.contains("AMD");
    let judged: BTreeMap<String, Judged> = machines
        .iter()
        .map(|(name, machine)| {
            let own = facts(machine);
            let mut others: Vec<Family> = Vec::new();
            for other in machines.values().filter(|m| amd(m) == amd(machine)) {
                let family = facts(other).family.unwrap();
                if Some(family) != own.family && !others.contains(&family) {
                    others.push(family);
                }
            }
            let of = |part: fn(&Family) -> f64| mean(others.iter().map(|f| part(f).ln())).exp();
            let (idle, wake) = (of(|f| f.idle_share), of(|f| f.wake_share));
            let cores = f64::from(own.cores.unwrap());
            let rated = (own.full_mhz.unwrap() / 2600.0).powf(2.4);
            let from_tdp = (0.8 - idle - wake) * own.tdp_w / cores / rated;
            let family = Family {
                idle_share: idle,
                wake_share: wake,
                core_w: (from_tdp * of(|f| f.core_w)).sqrt(),
                ..others[0]
            };
            (
                name.clone(),
                judge(machine, &model_of(machine).with_family(family)),
            )
        })
        .collect();
    let (error, worst, inside) = report("families left out", &judged);
    assert!(error <= 20.0, "{error:.1} %");
    assert!(worst <= 35.0, "{worst:.1} %");
    assert!(inside >= 90.0, "{inside:.1} %");
}

/// Wall power of whole servers: only the curve's shape between idle and full load counts.
#[test]
fn shape_of_published_curves() {
    let Some(rows) = table("specpower.csv") else {
        return;
    };
    // Of each server its mean absolute difference, and the differences at 10, 50 and 90 % load.
    let mut families: BTreeMap<String, Vec<[f64; 4]>> = BTreeMap::new();
    for row in rows {
        let count = |column: &str| row[column].parse::<u32>().ok();
        let (Some(threads), Some(sockets)) = (count("threads"), count("sockets")) else {
            continue;
        };
        let at = |column: &str| number(&row, column).unwrap();
        let (idle, full) = (at("idle_w"), at("w100"));
        if full <= idle || row["cores"].is_empty() {
            continue;
        }
        let model = PowerModel::for_cpu(&row["cpu_name"], Some(threads), Some(sockets));
        let watts = |load: f64| model.watts(load, None, None).unwrap().value;
        let (low, high) = (watts(0.0), watts(100.0));
        let off: Vec<f64> = (1..10)
            .map(|tenth| {
                let told = (watts(10.0 * f64::from(tenth)) - low) / (high - low);
                let truth = (at(&format!("w{}", 10 * tenth)) - idle) / (full - idle);
                100.0 * (told - truth)
            })
            .collect();
        let absolute = mean(off.iter().map(|off| off.abs()));
        families
            .entry(row["family"].clone())
            .or_default()
            .push([absolute, off[0], off[4], off[8]]);
    }
    println!("difference in points: servers, mean absolute, at 10, 50 and 90 % load");
    for (family, off) in &families {
        let of = |i: usize| mean(off.iter().map(|off| off[i]));
        println!(
            "{family:14} {:4} {:5.1} {:+6.1} {:+6.1} {:+6.1}",
            off.len(),
            of(0),
            of(1),
            of(2),
            of(3)
        );
    }
    let all = mean(
        families
            .values()
            .map(|off| mean(off.iter().map(|off| off[0]))),
    );
    println!("mean over families {all:.1} points");
    assert!(all <= 5.0, "{all:.1} points");
}

#[test]
fn memory_of_measured_machines() {
    let Some(rows) = table("package_power.csv") else {
        return;
    };
    let gib = |machine: &str| {
        Some(match machine {
            "2x-xeon-e5-2650v4" => 32.0,
            "c5.metal" | "c5n.metal" | "m5zn.metal" => 179.0,
            "m5.metal" | "m5n.metal" | "z1d.metal" => 358.0,
            _ => return None,
        })
    };
    let (mut known, mut unknown, mut n) = (0, 0, 0);
    for row in rows.iter().filter(|row| row["placement"] != "socket1") {
        let (Some(gib), Some(truth)) = (gib(&row["machine"]), number(row, "dram_w")) else {
            continue;
        };
        let model = PowerModel::for_cpu(&row["cpu_name"], None, None);
        let load = number(row, "load_percent").unwrap() / 100.0;
        let inside = |load| {
            let told = model.memory_watts_raw(gib, load);
            assert!(told.high / told.total <= 2.5 + 1e-9);
            told.low <= truth && truth <= told.high
        };
        known += u32::from(inside(Some(load)));
        unknown += u32::from(inside(None));
        n += 1;
    }
    println!("inside the band of {n} rows: {known} with the load, {unknown} without");
    assert!(f64::from(known) >= 0.85 * f64::from(n), "{known} of {n}");
    assert!(
        f64::from(unknown) >= 0.85 * f64::from(n),
        "{unknown} of {n}"
    );
}

//! The power model against machines that were measured.
//!
//! The data (RAPL energy against CPU load of two machines) are not part of the repository. The
//! folder that holds `power/*.csv` is named by `LITHOWATT_DATA`, by default `../shared/data` beside
//! the crate; without it these tests say so and pass.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests: a panic is the report"
)]

use std::path::PathBuf;

use lithowatt::source::model::PowerModel;
use lithowatt::source::model::curve::{LARGE_SERVER, SMALL_SERVER, Shape, Spread};

struct Row {
    file: String,
    cpu: String,
    cores_used: u32,
    load: f64,
    mhz: f64,
    watts: f64,
    tracker_watts: f64,
}

/// Every row of every file, or `None` (with a message) where there are none.
fn rows() -> Option<Vec<Row>> {
    let root = std::env::var_os("LITHOWATT_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
        PathBuf::from,
    );
    let folder = root.join("power");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .map(|entries| {
            entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .collect()
        })
        .unwrap_or_default();
    files.retain(|path| path.extension().is_some_and(|ext| ext == "csv"));
    files.sort();
    if files.is_empty() {
        eprintln!(
            "SKIPPED: no measured data in {} (set LITHOWATT_DATA to the folder that holds power/*.csv)",
            folder.display()
        );
        return None;
    }
    let mut rows = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines = text.lines();
        let header: Vec<&str> = lines.next().unwrap().split(',').collect();
        let column = |name: &str| header.iter().position(|h| *h == name).unwrap();
        for line in lines.filter(|line| !line.trim().is_empty()) {
            let fields: Vec<&str> = line.split(',').collect();
            let number = |name: &str| fields[column(name)].parse::<f64>().unwrap();
            rows.push(Row {
                file: path.file_stem().unwrap().to_string_lossy().into_owned(),
                cpu: fields[column("cpu_name")].to_owned(),
                cores_used: number("cores_used") as u32,
                load: number("cpu_load"),
                mhz: number("cpu_freq"),
                // rapl_power lags by one row; energy (kWh) over time does not.
                watts: number("rapl_energy") * 3.6e6 / number("duration"),
                tracker_watts: number("estimated_power"),
            });
        }
    }
    Some(rows)
}

/// Logical CPUs of the machine that a file is of: its highest `cores_used` over all files.
fn logical_cpus(rows: &[Row], cpu: &str) -> u32 {
    rows.iter()
        .filter(|row| row.cpu == cpu)
        .map(|row| row.cores_used)
        .max()
        .unwrap()
}

fn names(rows: &[Row], of: fn(&Row) -> &str) -> Vec<String> {
    let mut names: Vec<String> = rows.iter().map(|row| of(row).to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn shipped_model_on_every_file() {
    let Some(rows) = rows() else { return };
    println!(
        "{:32} {:>4} {:>6} {:>7} {:>8} {:>8}",
        "file", "rows", "MAE W", "MAE %", "tracker %", "covered"
    );
    let mut covered_all = 0;
    for file in names(&rows, |row| &row.file) {
        let (mut n, mut covered, mut watts, mut share, mut loaded, mut tracker) =
            (0, 0, 0.0, 0.0, 0, 0.0);
        for row in rows.iter().filter(|row| row.file == file) {
            let model = PowerModel::for_cpu(&row.cpu, Some(logical_cpus(&rows, &row.cpu)), None);
            let guess = model
                .watts(row.load, Some(row.cores_used), Some(row.mhz))
                .unwrap();
            n += 1;
            covered += usize::from(guess.low <= row.watts && row.watts <= guess.high);
            watts += (guess.value - row.watts).abs();
            if row.load >= 10.0 {
                loaded += 1;
                share += (guess.value - row.watts).abs() / row.watts;
                tracker += (row.tracker_watts - row.watts).abs() / row.watts;
            }
        }
        let (mae, mape) = (watts / n as f64, 100.0 * share / loaded as f64);
        let tracker = 100.0 * tracker / loaded as f64;
        println!("{file:32} {n:>4} {mae:>6.1} {mape:>7.1} {tracker:>8.1} {covered:>5}/{n}");
        assert!(mape < 50.0, "{file}: {mape:.1} % off");
        covered_all += covered;
    }
    assert!(
        covered_all as f64 >= 0.95 * rows.len() as f64,
        "{covered_all} of {}",
        rows.len()
    );
}

#[test]
fn band_covers_a_machine_that_was_left_out() {
    let Some(rows) = rows() else { return };
    let cpus = names(&rows, |row| &row.cpu);
    if cpus.len() < 2 {
        eprintln!("SKIPPED: leaving one machine out takes two");
        return;
    }
    let tdp = |cpu: &str| {
        let facts = PowerModel::for_cpu(cpu, Some(logical_cpus(&rows, cpu)), None).assumptions();
        facts.tdp_w.unwrap() * f64::from(facts.sockets)
    };
    let points = |cpu: &str| -> Vec<(f64, f64)> {
        let watts = tdp(cpu);
        rows.iter()
            .filter(|row| row.cpu == cpu)
            .map(|row| (row.load / 100.0, row.watts / watts))
            .collect()
    };
    let fits: Vec<Shape> = cpus.iter().map(|cpu| fit(&points(cpu))).collect();
    let mut covered_all = 0;
    for (left_out, cpu) in cpus.iter().enumerate() {
        let mut known: Vec<(f64, Shape)> = fits
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != left_out)
            .map(|(_, fit)| (1.0, *fit))
            .collect();
        known.push((0.25, LARGE_SERVER));
        let shape = mean(&known);
        let (mut covered, mut error, mut n, mut loaded) = (0, 0.0, 0, 0);
        for (load, truth) in points(cpu) {
            let active = (shape.full_share - shape.idle_share) * load.min(1.0).powf(shape.gamma);
            let low = shape.idle_share / Spread::FROM_TDP.idle + active / Spread::FROM_TDP.active;
            let high = shape.idle_share * Spread::FROM_TDP.idle + active * Spread::FROM_TDP.active;
            n += 1;
            covered += usize::from(low <= truth && truth <= high);
            if load >= 0.1 {
                loaded += 1;
                error += (shape.idle_share + active - truth).abs() / truth;
            }
        }
        println!(
            "left out {cpu}: {shape:.3?}, MAE {:.1} % at load >= 10 %, covered {covered}/{n}",
            100.0 * error / f64::from(loaded)
        );
        covered_all += covered;
    }
    assert!(
        covered_all as f64 >= 0.95 * rows.len() as f64,
        "{covered_all} of {}",
        rows.len()
    );

    // What is shipped for small sockets is what this procedure gives with both machines in.
    if cpus.len() == 2 {
        let shape = mean(&[(1.0, fits[0]), (1.0, fits[1]), (0.25, LARGE_SERVER)]);
        for (found, shipped) in [
            (shape.idle_share, SMALL_SERVER.idle_share),
            (shape.full_share, SMALL_SERVER.full_share),
            (shape.gamma, SMALL_SERVER.gamma),
        ] {
            assert!(
                (found / shipped).ln().abs() < 0.05,
                "{shape:?} against {SMALL_SERVER:?}"
            );
        }
    }
}

/// Least squares of the logarithm over a grid: 1 % of TDP, 2 % of TDP, 0.05.
fn fit(points: &[(f64, f64)]) -> Shape {
    let mut best = (f64::INFINITY, SMALL_SERVER);
    for idle in 5..26 {
        for full in 20..60 {
            for gamma in 3..21 {
                let shape = Shape {
                    idle_share: f64::from(idle) * 0.01,
                    full_share: f64::from(full) * 0.02,
                    gamma: f64::from(gamma) * 0.05,
                };
                let error: f64 = points
                    .iter()
                    .map(|(load, truth)| {
                        let active = (shape.full_share - shape.idle_share) * load.powf(shape.gamma);
                        (shape.idle_share + active).ln() - truth.ln()
                    })
                    .map(|residual| residual * residual)
                    .sum();
                if error < best.0 {
                    best = (error, shape);
                }
            }
        }
    }
    best.1
}

/// Weighted geometric mean of coefficients.
fn mean(shapes: &[(f64, Shape)]) -> Shape {
    let weight: f64 = shapes.iter().map(|(weight, _)| weight).sum();
    let of = |get: fn(&Shape) -> f64| {
        (shapes
            .iter()
            .map(|(weight, shape)| weight * get(shape).ln())
            .sum::<f64>()
            / weight)
            .exp()
    };
    Shape {
        idle_share: of(|shape| shape.idle_share),
        full_share: of(|shape| shape.full_share),
        gamma: of(|shape| shape.gamma),
    }
}

//! What the meter's parts cost: `cargo bench --bench meter`.
//!
//! Four static RAPL zones (two sockets, package and DRAM) in memory: what is timed is the meter and
//! its system calls. Real zones add a register read each.

#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::fs;
use std::hint::black_box;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use lithowatt::attribution::{Interval, Ledger};
use lithowatt::counter::{At, Counter};
use lithowatt::machine::facts::Facts;
use lithowatt::meter::{Meter, Options};
use lithowatt::model::estimation::Estimation;
use lithowatt::sampler::{Rules, replay};
use lithowatt::source::procfs::{MachineCpu, MachineShown, Tree};
use lithowatt::source::rapl::Rapl;
use lithowatt::source::{Domain, EnergyCounter, Method, Methods, Zone};
use lithowatt::trace::{BLOCK_ROWS, CpuTimes, Header, Kind, Layout, Machine, Trace, encode};

use tempfile::TempDir;

/// `max_energy_range_uj` of most Intel packages.
const RANGE_UJ: &str = "262143328850\n";
const ZONES: [(&str, &str); 4] = [
    ("intel-rapl:0", "package-0"),
    ("intel-rapl:0:0", "dram"),
    ("intel-rapl:1", "package-1"),
    ("intel-rapl:1:0", "dram"),
];

/// A root with four zones; the rest is the machine's own.
fn static_root() -> TempDir {
    let shm = Path::new("/dev/shm");
    let dir = if shm.is_dir() {
        tempfile::tempdir_in(shm)
    } else {
        tempfile::tempdir()
    };
    let dir = dir.expect("a temporary directory");
    let root = dir.path();
    for (id, name) in ZONES {
        let zone = root.join("sys/class/powercap").join(id);
        fs::create_dir_all(&zone).expect("a zone directory");
        for (file, text) in [
            ("name", format!("{name}\n")),
            ("energy_uj", "123456789\n".into()),
            ("max_energy_range_uj", RANGE_UJ.into()),
        ] {
            fs::write(zone.join(file), text).expect("a zone file");
        }
    }
    for (real, here) in [
        ("/proc", "proc"),
        ("/sys/devices", "sys/devices"),
        ("/sys/block", "sys/block"),
        ("/sys/fs", "sys/fs"),
        ("/sys/bus", "sys/bus"),
    ] {
        symlink(real, root.join(here)).expect("a link to the machine");
    }
    dir
}

fn parts(c: &mut Criterion) {
    c.bench_function("counter advance", |b| {
        let mut counter = Counter::new(1e-6, Some(262_143_328_851));
        let (mut t_ns, mut raw) = (0u64, 0u64);
        b.iter(|| {
            t_ns += 1_000_000;
            raw = (raw + 50_000) % 262_143_328_851;
            black_box(counter.advance(black_box(At::exactly(t_ns)), black_box(raw)))
        });
    });

    c.bench_function("ledger add, 4 zones and the model", |b| {
        let mut ledger = Ledger::new(6);
        let interval = Interval {
            dt_ns: 100_000_000,
            cpus: 2.0,
            idle_ns: Some(90_000_000),
            own_ns: 80_000_000,
            inside_ns: 80_000_000,
            outside_rate: Some(0.3),
            seen: None,
        };
        let joules = [2.5, 0.4, 2.5, 0.4, 3.0, 0.5];
        b.iter(|| {
            let split = ledger.split(black_box(&interval));
            ledger.add(&interval, split, black_box(&joules));
        });
    });

    let root = static_root();
    c.bench_function("rapl read, 4 zones", |b| {
        let mut rapl = Rapl::open(root.path()).expect("four zones");
        assert_eq!(rapl.zones().len(), ZONES.len());
        let mut out = Vec::with_capacity(ZONES.len());
        b.iter(|| {
            out.clear();
            rapl.read(black_box(&mut out));
        });
    });
    c.bench_function("rapl open, 4 zones", |b| {
        b.iter(|| Rapl::open(black_box(root.path())));
    });

    c.bench_function("process tree cpu, no children", |b| {
        let mut tree = Tree::new(None);
        b.iter(|| black_box(tree.cpu_ns()));
    });
    c.bench_function("process tree cpu, one child", |b| {
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .expect("sleep");
        let mut tree = Tree::new(None);
        b.iter(|| black_box(tree.cpu_ns()));
        child.kill().expect("the child to end");
        child.wait().expect("the child's status");
    });
    c.bench_function("machine idle time, every 10 ms", |b| {
        let mut machine = MachineCpu::open(Path::new("/"));
        let mut t_ns = 0;
        b.iter(|| {
            t_ns += 10_000_000;
            black_box(machine.idle_ns(t_ns, None))
        });
    });
}

fn meters(c: &mut Criterion) {
    let root = static_root();
    let meter = |methods: Methods, interval: Option<f64>| {
        Meter::new(Options {
            methods,
            interval,
            root: root.path().to_owned(),
            ..Options::default()
        })
        .expect("a meter")
    };
    let rapl = Methods::parse(["rapl"]).expect("a method");
    // In this order: what a later one opens in the hub is then no cost of an earlier one.
    for (name, methods, interval) in [
        ("start and stop, rapl, edges only", rapl, None),
        ("start and stop, rapl, 0.1 s sampler", rapl, Some(0.1)),
        (
            "start and stop, all methods, edges only",
            Methods::AUTO,
            None,
        ),
        (
            "start and stop, all methods, 0.1 s sampler",
            Methods::AUTO,
            Some(0.1),
        ),
    ] {
        let mut meter = meter(methods, interval);
        c.bench_function(name, |b| {
            b.iter(|| {
                meter.start().expect("a start");
                meter.stop().expect("a stop");
            });
        });
    }
    let mut all = meter(Methods::AUTO, None);
    all.start().expect("a start");
    all.stop().expect("a stop");
    c.bench_function("reading of a stopped meter, all methods", |b| {
        b.iter(|| black_box(all.reading(None)));
    });
}

/// One hour at 10 Hz of eight counters, with CPU times at each sample.
fn recorded_hour() -> Trace {
    const ROWS: u64 = 36_000;
    const SAMPLE_NS: u64 = 100_000_000;
    let domains = [Domain::Package, Domain::Core, Domain::Uncore, Domain::Dram];
    let zone = |package: u32, domain: Domain| Zone {
        method: Method::Rapl,
        domain,
        package,
        name: format!("{domain}-{package}"),
        unit_joules: 1e-6,
        modulus: Some(262_143_328_851),
    };
    let zones: Vec<Zone> = (0..2)
        .flat_map(|package| domains.map(|domain| zone(package, domain)))
        .collect();
    let layout = Layout::of(&zones);
    let columns = layout.columns();
    let mut rows = Vec::new();
    for n in 0..ROWS {
        let t_ns = 1_000_000_000_000 + n * SAMPLE_NS + n * 7_919 % 60_000;
        let mut frame = layout.frame();
        frame.kind = match n {
            0 => Kind::Begin,
            _ if n == ROWS - 1 => Kind::End,
            _ => Kind::Sample,
        };
        (frame.t_ns, frame.slack_ns) = (t_ns, 20_000);
        frame.reads = vec![Some((t_ns - 3_000, 15_000))];
        frame.raw = (0..8u64)
            .map(|i| Ok((n * (4_000_000 + i * 500_000) + n * 6_007 % 90_000) % 262_143_328_851))
            .collect();
        frame.cpu = Some(CpuTimes {
            own_ns: Some(n * SAMPLE_NS / 2 + n * 104_729 % 700_000),
            inside_ns: Some(n * SAMPLE_NS / 2 + n * 104_729 % 700_000 + n * 50),
            began_ns: t_ns + 20_000,
            ended_ns: t_ns + 60_000,
            ..CpuTimes::default()
        });
        frame.busy = Some(MachineShown {
            cpus: 64,
            looked_at_ns: t_ns,
            capacity_ns: 64 * t_ns,
            idle_ns: Some(n * SAMPLE_NS * 63),
            genuine: true,
            ..MachineShown::default()
        });
        layout.write(&mut frame, &mut rows);
    }
    let width = columns.len();
    let header = Header {
        machine: Machine::of(&Facts::of(Path::new("/"))),
        at_end: None,
        zones,
        limits: Vec::new(),
        notes: Vec::new(),
        holes: Vec::new(),
        missing: Vec::new(),
        hardware_missing: None,
        methods: vec![Method::Rapl, Method::Tdp],
        interval_ns: Some(SAMPLE_NS),
        children: true,
        estimation: ("curve".into(), None),
        definition: None,
        columns,
    };
    let text = serde_json::to_vec(&header).expect("a header");
    let blocks = rows
        .chunks(BLOCK_ROWS * width)
        .map(|rows| encode(rows, width));
    Trace::new(&text, blocks.collect()).expect("a trace")
}

fn traces(c: &mut Criterion) {
    let trace = Arc::new(recorded_hour());
    let rules = Rules {
        methods: Methods::of(&trace.header.methods),
        estimation: Estimation::default(),
        idle_watts: None,
        window: None,
    };
    c.bench_function("replay of 1 h at 10 Hz, 8 zones", |b| {
        b.iter(|| replay(&trace, rules).expect("an outcome"));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(50);
    targets = parts, meters, traces
}
criterion_main!(benches);

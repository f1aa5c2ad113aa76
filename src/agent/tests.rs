use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;

use super::*;
use crate::source::ring::Ring;

const RANGE: u64 = 262_143_328_850;

/// A root with two counters; clocks are the machine's own.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        for (id, name) in [("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "dram")] {
            let dir = machine.root().join("sys/class/powercap").join(id);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("name"), format!("{name}\n")).unwrap();
            fs::write(dir.join("max_energy_range_uj"), format!("{RANGE}\n")).unwrap();
        }
        machine.set(5_000_123, 700_456);
        symlink("/proc", machine.root().join("proc")).unwrap();
        fs::create_dir(machine.root().join("run")).unwrap();
        machine
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    fn set(&self, package: u64, dram: u64) {
        let class = self.root().join("sys/class/powercap");
        fs::write(class.join("intel-rapl:0/energy_uj"), format!("{package}\n")).unwrap();
        fs::write(class.join("intel-rapl:0:0/energy_uj"), format!("{dram}\n")).unwrap();
    }

    fn cgroup(&self, path: &str, usec: u64) {
        let top = self.root().join("sys/fs/cgroup");
        fs::create_dir_all(top.join(path)).unwrap();
        fs::write(top.join("cgroup.controllers"), "cpu\n").unwrap();
        fs::write(
            top.join(path).join("cpu.stat"),
            format!("usage_usec {usec}\n"),
        )
        .unwrap();
    }

    fn options(&self) -> Options {
        Options {
            root: self.root().to_owned(),
            rate: 50.0,
            round: 0.1,
            ..Options::new(self.root().join("run/lithowatt/ring"))
        }
    }

    fn ring(&self) -> Ring {
        Ring::open(&self.options().path, self.root()).unwrap()
    }
}

fn totals(ring: &mut Ring) -> Vec<u64> {
    ring.look(clock::monotonic_ns()).unwrap();
    let mut out = Vec::new();
    ring.read(&mut out);
    out.into_iter().map(|r| r.unwrap()).collect()
}

#[test]
fn what_the_counters_say_is_in_the_ring_in_steps() {
    let machine = Machine::new();
    let mut agent = Agent::open(machine.options()).unwrap();
    let mut ring = machine.ring();
    assert_eq!(totals(&mut ring), [5_000_000, 700_000]);
    machine.set(5_042_900, 701_999);
    agent.step();
    assert_eq!(ring.last().totals, [5_000_000, 700_000]);
    ring.look(clock::monotonic_ns()).unwrap();
    assert_eq!(ring.last().totals, [5_042_000, 701_000]);
    let meta = fs::metadata(machine.options().path).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o644);
    let dir = fs::metadata(machine.root().join("run/lithowatt")).unwrap();
    assert_eq!(dir.permissions().mode() & 0o777, 0o755);
}

#[test]
fn a_second_agent_is_refused_while_the_first_lives() {
    let machine = Machine::new();
    let first = Agent::open(machine.options()).unwrap();
    let why = Agent::open(machine.options()).unwrap_err().to_string();
    assert!(
        why.contains(&format!("pid {}", std::process::id())),
        "{why}"
    );
    drop(first);
    Agent::open(machine.options()).unwrap();
}

#[test]
fn an_agent_goes_on_from_one_that_was_killed() {
    let machine = Machine::new();
    machine.set(RANGE - 1_000_000, 700_456);
    let first = Agent::open(machine.options()).unwrap();
    let mut ring = machine.ring();
    let before = totals(&mut ring);
    // As after kill -9: no word of farewell.
    drop(first);
    // 3 J over the counter's end.
    machine.set(1_999_999, 900_456);
    std::thread::sleep(Duration::from_millis(20));
    let mut second = Agent::open(machine.options()).unwrap();
    assert!(second.snapshot().adopted);
    ring.look_again();
    let after = totals(&mut ring);
    assert_eq!(after[0] - before[0], 3_000_000);
    assert_eq!(after[1] - before[1], 200_000);
    assert_eq!(ring.resets(), 0);
    machine.set(2_999_999, 900_456);
    std::thread::sleep(Duration::from_millis(20));
    second.step();
    totals(&mut ring);
    assert_eq!(ring.last().totals[0] - before[0], 4_000_000);
}

#[test]
fn a_counter_that_cannot_be_followed_over_a_gap_begins_anew() {
    let machine = Machine::new();
    let first = Agent::open(machine.options()).unwrap();
    let mut ring = machine.ring();
    let before = totals(&mut ring);
    drop(first);
    // Back by 4 J: a reset, or 262 kJ in a moment.
    machine.set(1_000_000, 700_456);
    let second = Agent::open(machine.options()).unwrap();
    assert!(!second.snapshot().adopted);
    ring.look_again();
    assert_eq!(totals(&mut ring), before);
    assert_eq!(ring.resets(), 1);
}

#[test]
fn the_account_adds_up_and_goes_on() {
    let machine = Machine::new();
    let (a, b) = ("a".repeat(64), "b".repeat(64));
    machine.cgroup(&format!("docker/{a}"), 1_000);
    machine.cgroup(&format!("docker/{b}"), 0);
    let mut agent = Agent::open(machine.options()).unwrap();
    let ring = machine.ring();
    let mut uj = 5_000_123;
    let mut last = (Account::default(), Vec::new());
    for turn in 1..4u64 {
        machine.cgroup(&format!("docker/{a}"), 1_000 + 30_000 * turn);
        machine.cgroup(&format!("docker/{b}"), 10_000 * turn);
        uj += 20_000_000;
        machine.set(uj, 700_456);
        std::thread::sleep(Duration::from_millis(110));
        agent.step();
        last = ring.groups().unwrap();
    }
    let check = |(account, rows): &(Account, Vec<crate::source::ring::layout::GroupRow>)| {
        let sum: u64 = rows.iter().filter(|r| r.counted).map(|r| r.active_uj).sum();
        let parts = account.idle_uj + account.rest_uj + account.gone_uj + sum;
        assert_eq!(parts, account.machine_uj);
    };
    check(&last);
    assert_eq!((last.0.round, last.0.machine_uj), (3, 60_000_000));
    let of = |rows: &[crate::source::ring::layout::GroupRow], cpu: u64| {
        rows.iter().find(|r| r.cpu_ns == cpu).unwrap().active_uj as f64
    };
    let ratio = of(&last.1, 91_000_000) / of(&last.1, 30_000_000);
    assert!((ratio - 3.0).abs() < 0.001, "{ratio}");
    drop(agent);
    uj += 5_000_000;
    machine.set(uj, 700_456);
    std::thread::sleep(Duration::from_millis(20));
    let _second = Agent::open(machine.options()).unwrap();
    let next = machine.ring().groups().unwrap();
    check(&next);
    assert_eq!(next.0.machine_uj, 65_000_000);
    assert!(of(&next.1, 91_000_000) >= of(&last.1, 91_000_000));
}

#[test]
fn idle_power_that_may_be_far_less_is_told_to_nobody() {
    let machine = Machine::new();
    let mut agent = Agent::open(machine.options()).unwrap();
    let ring = machine.ring();
    let mut told = |busy: f64| {
        agent.idle_learners[0].forget();
        agent.idle_learners[0].see(1.0, busy, 0.0, 0.5);
        agent.publish_idle();
        ring.idle_watts()[0]
    };
    assert_eq!(told(0.0), Some(0.5));
    // By the model that load may cost half of it.
    assert_eq!(told(0.045), None);
}

#[test]
fn a_counter_that_stood_still_makes_idle_power_no_less() {
    let machine = Machine::new();
    let mut agent = Agent::open(machine.options()).unwrap();
    let ring = machine.ring();
    let mut idle = Vec::new();
    let mut uj = 5_000_123;
    for moves in [true, true, false, true] {
        if moves {
            uj += 2_000_000;
            machine.set(uj, uj);
        }
        std::thread::sleep(Duration::from_millis(110));
        agent.step();
        idle.push(ring.groups().unwrap().0.idle_uj);
    }
    assert!(idle[0] > 0 && idle[3] - idle[2] > idle[0] / 2, "{idle:?}");
}

#[test]
fn a_directory_of_others_is_refused() {
    let machine = Machine::new();
    let dir = machine.root().join("run/lithowatt");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    let why = Agent::open(machine.options()).unwrap_err().to_string();
    assert!(why.contains("may be written by others"), "{why}");
    fs::remove_dir(&dir).unwrap();
    symlink("/tmp", &dir).unwrap();
    let why = Agent::open(machine.options()).unwrap_err().to_string();
    assert!(why.contains("is no directory"), "{why}");
}

#[test]
fn what_is_too_fine_for_everybody_is_for_a_group() {
    let machine = Machine::new();
    let fine = Options {
        rate: 500.0,
        quantum_uj: 1,
        ..machine.options()
    };
    let why = Agent::open(fine.clone()).unwrap_err().to_string();
    assert!(why.contains("too fine"), "{why}");
    // SAFETY: getegid has no preconditions.
    let group = Some(unsafe { libc::getegid() });
    let _agent = Agent::open(Options { group, ..fine }).unwrap();
    let meta = fs::metadata(machine.options().path).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o640);
}

#[test]
fn options_that_make_no_sense_are_named() {
    let machine = Machine::new();
    for options in [
        Options {
            rate: f64::NAN,
            ..machine.options()
        },
        Options {
            rate: 0.0,
            ..machine.options()
        },
        Options {
            round: 0.0,
            ..machine.options()
        },
        Options {
            quantum_uj: 0,
            ..machine.options()
        },
        Options {
            methods: Methods::parse(["tdp"]).unwrap(),
            ..machine.options()
        },
        Options {
            path: "ring".into(),
            ..machine.options()
        },
        Options {
            root: "/nonexistent".into(),
            ..machine.options()
        },
    ] {
        assert!(matches!(Agent::open(options), Err(Error::Agent { .. })));
    }
}

#[test]
fn an_agent_in_a_thread_samples_and_says_good_bye() {
    let machine = Machine::new();
    let mut running = Running::start(Agent::open(machine.options()).unwrap()).unwrap();
    let mut ring = machine.ring();
    let until = clock::monotonic_ns() + 5_000_000_000;
    while ring.last().number < 5 && clock::monotonic_ns() < until {
        std::thread::sleep(Duration::from_millis(5));
        ring.look(clock::monotonic_ns()).unwrap();
    }
    assert!(ring.last().number >= 5 && running.is_alive());
    running.stop();
    assert!(!running.is_alive());
    assert_eq!(ring.look(clock::monotonic_ns()), Err(ReadFault::Stopped));
}

#[test]
fn a_source_is_published_by_its_line_in_the_registry() {
    let machine = Machine::new();
    let energy = machine.root().join("energy");
    fs::create_dir(&energy).unwrap();
    let set = |package: u64, dram: u64| {
        fs::write(energy.join("package"), package.to_string()).unwrap();
        fs::write(energy.join("dram"), dram.to_string()).unwrap();
    };
    set(3_000_123, 20_000);
    let options = Options {
        methods: Methods::parse(["files"]).unwrap(),
        ..machine.options()
    };
    let mut agent = Agent::open(options).unwrap();
    let mut ring = machine.ring();
    assert_eq!(totals(&mut ring), [3_000_000, 20_000]);
    assert_eq!(ring.method(), Method::Files);
    let names: Vec<_> = ring.zones().iter().map(|z| z.name.as_str()).collect();
    assert_eq!(names, ["file package", "file dram"]);
    set(3_500_500, 30_500);
    agent.step();
    ring.look(clock::monotonic_ns()).unwrap();
    assert_eq!(ring.last().totals, [3_500_000, 30_000]);
}

#[test]
fn where_rapl_stands_still_its_stand_in_is_published() {
    let machine = Machine::new();
    let chip = machine.root().join("sys/class/hwmon/hwmon0");
    fs::create_dir_all(&chip).unwrap();
    fs::write(chip.join("name"), "amd_energy\n").unwrap();
    fs::write(chip.join("energy1_label"), "Esocket0\n").unwrap();
    fs::write(chip.join("energy1_input"), "7000000\n").unwrap();
    let method = || {
        let mut agent = Agent::open(machine.options()).unwrap();
        let method = agent.zones[0].method;
        agent.close();
        method
    };
    assert_eq!(method(), Method::Hwmon);
    let moves = AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let zone = machine
                .root()
                .join("sys/class/powercap/intel-rapl:0/energy_uj");
            // In place: to truncate a file may wait for the disk.
            let counter = fs::File::options().write(true).open(zone).unwrap();
            let mut uj = 5_000_123_u64;
            while moves.load(Ordering::Relaxed) {
                uj += 20_000;
                let text = format!("{uj:012}\n");
                counter.write_all_at(text.as_bytes(), 0).unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let found = method();
        moves.store(false, Ordering::Relaxed);
        assert_eq!(found, Method::Rapl);
    });
    // Without hwmon nobody waits for it to move.
    fs::remove_dir_all(chip).unwrap();
    assert_eq!(method(), Method::Rapl);
}

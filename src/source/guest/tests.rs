use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::agent::writer::Writer;
use crate::source::ring::layout::{Header, Sample};

/// A machine that says it is virtual.
fn virtual_machine() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("proc")).unwrap();
    let cpuinfo = "processor\t: 0\nmodel name\t: QEMU\nflags\t\t: fpu hypervisor\n";
    fs::write(root.path().join("proc/cpuinfo"), cpuinfo).unwrap();
    root
}

fn put(root: &Path, name: &str, text: &str) -> PathBuf {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    path
}

fn header(method: Method) -> Header {
    Header {
        generation: 7,
        lineage: 7,
        boot_id: [0, 0],
        period_ns: 100_000_000,
        quantum_uj: 1000,
        stale_ns: 1_000_000_000,
        round_ns: 100_000_000,
        cpus: 8,
        cgroup_version: 0,
        slots: 16,
        groups: 0,
        node: "web".into(),
        version: "1".into(),
        zones: vec![Zone {
            method,
            domain: Domain::Package,
            package: 0,
            name: "above idle".into(),
            unit_joules: 1e-6,
            modulus: None,
        }],
    }
}

fn sample(t_ns: u64, uj: u64) -> Sample {
    Sample {
        t_ns,
        totals: vec![uj],
        ..Sample::default()
    }
}

fn ring(root: &Path, method: Method) -> Writer {
    let path = root.join(DEFAULT_RING);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    Writer::create(&path, header(method), 0o644, None, sample(1, 0)).unwrap()
}

#[test]
fn where_there_is_nothing_two_places_are_named() {
    let root = virtual_machine();
    let why = open(root.path()).unwrap_err();
    assert!(why.reason.contains("/var/lithowatt/ring") && why.reason.contains("/var/scaphandre"));
}

#[test]
fn a_hosts_own_folder_is_not_its_energy() {
    let root = tempfile::tempdir().unwrap();
    put(
        root.path(),
        "proc/cpuinfo",
        "processor\t: 0\nflags\t\t: fpu\n",
    );
    put(root.path(), "var/scaphandre/intel-rapl:0/energy_uj", "5");
    let why = open(root.path()).unwrap_err();
    assert!(why.reason.contains("no virtual machine"), "{why}");
}

#[test]
fn a_ring_of_the_whole_machine_is_refused() {
    let root = virtual_machine();
    let _writer = ring(root.path(), Method::Rapl);
    let why = open(root.path()).unwrap_err();
    assert!(why.reason.contains("whole machine"), "{why}");
}

#[test]
fn a_file_that_others_may_write_is_refused() {
    let root = virtual_machine();
    let path = put(root.path(), "var/scaphandre/intel-rapl:0/energy_uj", "5");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let why = open(root.path()).unwrap_err();
    assert!(why.reason.contains("others than its owner"), "{why}");
}

#[test]
fn a_ring_is_believed_once_it_changed() {
    let root = virtual_machine();
    let mut writer = ring(root.path(), Method::Guest);
    let mut totals = 0;
    for i in 1..20 {
        totals += 1_000_000;
        writer.publish(&mut sample(1 + i * 100_000_000, totals));
    }
    let mut guest = open(root.path()).unwrap();
    assert_eq!(guest.zones()[0].name, "guest web");
    assert!(guest.notes()[0].why.contains("above idle"));
    let mut out = Vec::new();
    guest.read(&mut out);
    // It may have been left by a host's agent long ago.
    assert_eq!(out, [Err(ReadFault::Waiting)]);
    writer.publish(&mut sample(1 + 20 * 100_000_000, totals + 1_000_000));
    std::thread::sleep(std::time::Duration::from_millis(6));
    out.clear();
    guest.read(&mut out);
    let begun = clock::monotonic_ns();
    std::thread::sleep(std::time::Duration::from_millis(30));
    guest.read(&mut out);
    let passed = (clock::monotonic_ns() - begun) as f64 * 1e-9;
    // 10 W, carried on by time as no stretch was seen, and wholly in doubt.
    let joules = (out[1].unwrap() - out[0].unwrap()) as f64 * 1e-6;
    assert!(
        joules >= 10.0 * 0.03 * 0.99 && joules <= 10.0 * passed * 1.2 + 0.01,
        "{joules}"
    );
    let carry = guest.carries()[0];
    assert!(carry.ahead as f64 * 1e-6 >= joules * 0.99);
}

#[test]
fn an_agent_that_ended_and_one_that_came_after_it() {
    let root = virtual_machine();
    let mut writer = ring(root.path(), Method::Guest);
    writer.publish(&mut sample(100_000_000, 1_000_000));
    let mut guest = open(root.path()).unwrap();
    let mut out = Vec::new();
    writer.publish(&mut sample(200_000_000, 2_000_000));
    std::thread::sleep(std::time::Duration::from_millis(6));
    guest.read(&mut out);
    assert!(out[0].is_ok());
    writer.beat(200_000_000, true);
    let mut part = Part::open(&root.path().join(DEFAULT_RING), Moment::default());
    assert!(part.is_err(), "it is closed");
    std::thread::sleep(std::time::Duration::from_millis(6));
    guest.read(&mut out);
    // Carried on until it is surely silent.
    assert!(out[1].is_ok());
    drop(writer);
    let mut writer = ring(root.path(), Method::Guest);
    writer.publish(&mut sample(300_000_000, 10));
    part = Part::open(&root.path().join(DEFAULT_RING), Moment::default());
    assert!(part.is_ok());
}

#[test]
fn scaphandres_sockets_are_zones_and_what_is_inside_them_is_not() {
    let root = virtual_machine();
    for name in ["intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"] {
        put(
            root.path(),
            &format!("var/scaphandre/{name}/energy_uj"),
            "5000000",
        );
    }
    let mut guest = open(root.path()).unwrap();
    let names: Vec<_> = guest
        .zones()
        .iter()
        .map(|zone| zone.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["scaphandre intel-rapl:0", "scaphandre intel-rapl:1"]
    );
    let mut out = Vec::new();
    guest.read(&mut out);
    assert_eq!(out, [Err(ReadFault::Waiting), Err(ReadFault::Waiting)]);
}

/// A guest with one busy CPU, after so many ms.
fn busy_to(ms: u64) -> Moment {
    let ns = ms * 1_000_000;
    Moment {
        t_ns: ns,
        busy_ns: ns,
        ..Moment::default()
    }
}

/// A host's file, as it was written so many ms after a moment.
fn write_at(path: &Path, text: &str, ms: u64) {
    fs::write(path, text).unwrap();
    let file = fs::File::options().append(true).open(path).unwrap();
    let began = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    file.set_modified(began + std::time::Duration::from_millis(ms))
        .unwrap();
}

/// Writes a value each `period` ms but from `outage.0` to `outage.1`, and looks at it at least each 100 ms; the
/// totals (J) and what is not known of them at the end of the outage's first 5 s and 5 periods after it.
fn through_an_outage(name: &str, period: u64, value: impl Fn(u64) -> String) -> [(f64, Carry); 2] {
    let root = tempfile::tempdir().unwrap();
    let path = put(root.path(), name, &value(0));
    write_at(&path, &value(0), 0);
    let mut part = Part::open(&path, busy_to(0)).unwrap();
    let (from, to) = (10 * period, 70 * period);
    let mut found = Vec::new();
    for ms in (100..=to + 5 * period).step_by(100) {
        if ms % period == 0 && !(from < ms && ms < to) {
            write_at(&path, &value(ms), ms);
        }
        part.look(busy_to(ms));
        let total = part.total(busy_to(ms));
        match ms {
            _ if ms == from || ms == to + 5 * period => found.push(total.unwrap()),
            _ if ms == to - 100 => assert_eq!(total, Err(ReadFault::Silent)),
            _ => {}
        }
    }
    found.try_into().unwrap()
}

#[test]
fn watts_that_come_again_say_nothing_of_the_time_without_them() {
    let [then, now] = through_an_outage("watts", 1000, |_| "20.0\n".into());
    let gained = now.0 - then.0;
    assert!((100.0..160.0).contains(&gained), "{gained}");
    assert_eq!(now.1.breaks - then.1.breaks, 1);
    assert_eq!(now.1.broken_ns - then.1.broken_ns, 60_000_000_000);
}

#[test]
fn a_program_that_did_not_run_added_nothing_meanwhile() {
    // 20 W, once in 5 s, and once after the outage.
    let steps = |ms: u64| {
        let steps = ms.min(50_000) / 5000 + (ms.saturating_sub(345_000)) / 5000;
        format!("{}\n", 20_000_000 * steps)
    };
    let [then, now] = through_an_outage("energy_uj", 5000, steps);
    let gained = now.0 - then.0;
    assert!((500.0..800.0).contains(&gained), "{gained}");
    assert_eq!(now.1.broken_ns - then.1.broken_ns, 300_000_000_000);
}

/// A file of 20 W that was written each second for 5 s and looked at ten times a second.
fn seen_for_five_seconds(root: &Path) -> (PathBuf, Part) {
    let path = put(root, "watts", "20.0\n");
    write_at(&path, "20.0\n", 0);
    let mut part = Part::open(&path, busy_to(0)).unwrap();
    for ms in (100..=5000).step_by(100) {
        if ms % 1000 == 0 {
            write_at(&path, "20.0\n", ms);
        }
        part.look(busy_to(ms));
    }
    (path, part)
}

#[test]
fn a_file_that_nobody_looked_at_was_not_silent() {
    let root = tempfile::tempdir().unwrap();
    let (path, mut part) = seen_for_five_seconds(root.path());
    // Two windows without samples; in the second one the last second was at rest by that file.
    let mut then = part.total(busy_to(5000)).unwrap();
    for (ms, watts) in [(13_000, 20.0), (21_000, 2.0)] {
        write_at(&path, &format!("{watts:.1}\n"), ms);
        part.look(busy_to(ms + 300));
        let now = part.total(busy_to(ms + 300)).unwrap();
        let gained = now.0 - then.0;
        let units = now.1.broken_units - then.1.broken_units;
        let doubt = (units + now.1.doubt_since(&then.1)) as f64 * UNIT_JOULES;
        assert!((gained - 8.0 * watts).abs() < 10.0, "{ms}: {gained}");
        assert!(
            (gained - 160.0).abs() < doubt + 10.0,
            "{ms}: {gained} {doubt}"
        );
        assert!(watts < 20.0 || doubt < 30.0, "{doubt}");
        assert_eq!((now.1.breaks, now.1.broken_ns), (0, 0));
        then = now;
    }
}

#[test]
fn watts_of_one_moment_are_not_those_of_a_first_stretch_that_nobody_saw() {
    let root = tempfile::tempdir().unwrap();
    let path = put(root.path(), "watts", "20.0\n");
    write_at(&path, "20.0\n", 0);
    let mut part = Part::open(&path, busy_to(600)).unwrap();
    write_at(&path, "2.0\n", 8000);
    part.look(busy_to(8700));
    // What it shows is of the time from then on.
    let (joules, carry) = part.total(busy_to(8700)).unwrap();
    assert!(joules < 2.0, "{joules}");
    assert_eq!(carry.arrears.since_ns, busy_to(8700).t_ns);
}

#[test]
fn a_file_that_is_being_written_is_not_left() {
    let root = tempfile::tempdir().unwrap();
    let (path, mut part) = seen_for_five_seconds(root.path());
    // A window without samples ends while the file is empty.
    let then = part.total(busy_to(5000)).unwrap();
    write_at(&path, "", 15_000);
    part.look(busy_to(15_000));
    assert!(part.is_just_written(busy_to(15_002).t_ns));
    let now = part.total(busy_to(15_000)).unwrap();
    let doubt = now.1.doubt_since(&then.1) as f64 * UNIT_JOULES;
    let off = (now.0 - then.0 - 200.0).abs();
    assert!(off <= doubt, "{off} {doubt}");
    // What it then holds is of a time that nobody looked at, which is no silence of its host.
    write_at(&path, "20.0\n", 15_010);
    part.look(busy_to(15_050));
    let now = part.total(busy_to(15_050)).unwrap();
    let gained = now.0 - then.0;
    assert!((gained - 201.0).abs() < 3.0, "{gained}");
    assert_eq!(now.1.breaks, 0);
    // One that stays empty is left.
    write_at(&path, "", 16_000);
    part.look(busy_to(16_000));
    part.look(busy_to(21_000));
    assert!(!part.is_just_written(busy_to(21_000).t_ns));
    assert_eq!(part.total(busy_to(21_000)), Err(ReadFault::Silent));
}

#[test]
fn what_came_since_a_value_that_was_seen_late_is_in_doubt() {
    let root = tempfile::tempdir().unwrap();
    let (path, mut part) = seen_for_five_seconds(root.path());
    // Nobody looks, and one CPU works from 12 s on alone.
    let at = |ms: u64| Moment {
        t_ns: ms * 1_000_000,
        busy_ns: (5000 + ms.saturating_sub(12_000)) * 1_000_000,
        ..Moment::default()
    };
    write_at(&path, "0.0\n", 12_000);
    part.look(at(12_900));
    let then = part.total(at(12_900)).unwrap();
    for ms in (13_000..=15_400).step_by(100) {
        if ms % 1000 == 0 {
            write_at(&path, "20.0\n", ms);
        }
        part.look(at(ms));
    }
    let now = part.total(at(15_400)).unwrap();
    let (gained, doubt) = (
        now.0 - then.0,
        now.1.doubt_since(&then.1) as f64 * UNIT_JOULES,
    );
    let doubt = doubt + (now.1.broken_units - then.1.broken_units) as f64 * UNIT_JOULES;
    println!("{gained} {doubt}");
    assert!((gained - 50.0).abs() <= doubt, "{gained} {doubt}");
    assert!(doubt < 25.0, "{doubt}");
}

#[test]
fn a_host_s_clock_that_was_not_seen_well_is_in_doubt() {
    let root = tempfile::tempdir().unwrap();
    let path = put(root.path(), "watts", "20.0\n");
    write_at(&path, "20.0\n", 0);
    let mut part = Part::open(&path, busy_to(700)).unwrap();
    // Windows without samples: no value is seen before it is 0.3 s old.
    for ms in (3300..=24_300).step_by(3000) {
        write_at(&path, "20.0\n", ms - 300);
        part.look(busy_to(ms));
        part.total(busy_to(ms)).unwrap();
    }
    let then = part.total(busy_to(24_300)).unwrap();
    for ms in (24_400..=26_800).step_by(100) {
        if ms % 1000 == 0 {
            write_at(&path, "20.0\n", ms);
        }
        part.look(busy_to(ms));
    }
    let now = part.total(busy_to(26_800)).unwrap();
    let (gained, doubt) = (
        now.0 - then.0,
        now.1.doubt_since(&then.1) as f64 * UNIT_JOULES,
    );
    println!("{gained} {doubt}");
    assert!(
        (gained - 50.0).abs() <= doubt && doubt < 20.0,
        "{gained} {doubt}"
    );
    // Values that were seen soon tell the offset.
    assert_eq!(part.unsure_ns(), 0);
}

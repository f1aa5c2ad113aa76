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

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::layout::{Account, GroupRow, Kind, SAMPLES_AT, seal, to_bytes};
use super::*;
use crate::source::Domain;

const PERIOD: u64 = 10_000_000;

/// A ring that a test writes, right or wrong.
struct Forge {
    dir: tempfile::TempDir,
    header: Header,
    file: File,
}

impl Forge {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let header = Header {
            generation: 7,
            lineage: 7,
            boot_id: [0, 0],
            period_ns: PERIOD,
            quantum_uj: 1000,
            stale_ns: 1_000_000_000,
            round_ns: 1_000_000_000,
            cpus: 2,
            cgroup_version: 2,
            slots: 8,
            groups: 4,
            node: String::new(),
            version: "0".into(),
            zones: vec![Zone {
                method: Method::Rapl,
                domain: Domain::Package,
                package: 0,
                name: "package-0".into(),
                unit_joules: 1e-6,
                modulus: None,
            }],
        };
        let path = dir.path().join("ring");
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let forge = Self { dir, header, file };
        forge.file.set_len(forge.header.file_bytes()).unwrap();
        forge.header(&forge.header.encode());
        forge
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("ring")
    }

    fn header(&self, words: &[u64]) {
        self.file.write_all_at(&to_bytes(words), 0).unwrap();
    }

    fn head(&self, count: u64, heartbeat_ns: u64) {
        let head = Head {
            count,
            heartbeat_ns,
            closed: false,
            generation: self.header.generation,
        };
        self.file
            .write_all_at(&to_bytes(&head.encode()), HEAD_AT)
            .unwrap();
    }

    fn sample(&self, number: u64, t_ns: u64, total: u64) {
        let sample = Sample {
            number,
            t_ns,
            idle_ns: Some(t_ns),
            idle_t_ns: t_ns,
            totals: vec![total],
            ..Sample::default()
        };
        let mut words = Vec::new();
        sample.encode(&mut words);
        let at = self.header.sample_at(number);
        self.file.write_all_at(&to_bytes(&words), at).unwrap();
    }

    /// Samples 1 to `count`, a period and 1 J apart, the last at `now`.
    fn run(&self, count: u64, now: u64) {
        for number in 1..=count {
            self.sample(number, now - (count - number) * PERIOD, number * 1_000_000);
        }
        self.head(count, now);
    }

    fn open(&self) -> Result<Ring, Unavailable> {
        Ring::open(&self.path(), Path::new("/nonexistent"))
    }

    fn refusal(&self) -> String {
        self.open().unwrap_err().reason
    }
}

fn value(ring: &Ring) -> u64 {
    let mut out = Vec::new();
    ring.read(&mut out);
    out[0].unwrap()
}

#[test]
fn a_value_is_carried_on_and_never_back() {
    let forge = Forge::new();
    let now = clock::monotonic_ns();
    forge.run(20, now);
    let mut ring = forge.open().unwrap();
    ring.look(now).unwrap();
    let opened = value(&ring);
    let begin = now + PERIOD;
    ring.look(begin).unwrap();
    // 1 J a period: one period later it is 1 J more, and what was shown at opening stays.
    assert_eq!(value(&ring), opened.max(21_000_000));
    ring.look(begin + 60 * PERIOD).unwrap();
    let carried = value(&ring);
    assert_eq!(carried, 20_000_000 + CARRY_PERIODS * 1_000_000);
    // The machine rested meanwhile: nothing runs backwards.
    forge.sample(21, now + 70 * PERIOD, 20_001_000);
    forge.head(21, now + 70 * PERIOD);
    ring.look(now + 70 * PERIOD).unwrap();
    assert_eq!(value(&ring), carried);
    forge.sample(22, now + 71 * PERIOD, 30_000_000);
    forge.head(22, now + 71 * PERIOD);
    ring.look(now + 71 * PERIOD).unwrap();
    assert_eq!(value(&ring), 30_000_000);
}

#[test]
fn a_ring_whose_descriptor_became_another_file_is_opened_anew() {
    let forge = Forge::new();
    let now = clock::monotonic_ns();
    forge.run(20, now);
    let mut ring = forge.open().unwrap();
    let fd = ring.file.get().unwrap().as_raw_fd();
    let theirs = tempfile::tempfile().unwrap();
    // SAFETY: both are open descriptors of this test.
    assert_eq!(unsafe { libc::dup2(theirs.as_raw_fd(), fd) }, fd);
    forge.sample(21, now + PERIOD, 21_000_000);
    forge.head(21, now + PERIOD);
    ring.look(now + PERIOD).unwrap();
    assert_eq!(ring.last().number, 21);
    drop(ring);
    // SAFETY: put there above.
    let still = unsafe { <File as std::os::fd::FromRawFd>::from_raw_fd(fd) };
    assert_eq!(still.metadata().unwrap().len(), 0);
}

#[test]
fn a_ring_without_a_heartbeat_is_stale() {
    let forge = Forge::new();
    let now = clock::monotonic_ns();
    forge.run(3, now - 2_000_000_000);
    assert!(forge.refusal().contains("no sign of life"));
    forge.run(3, now);
    let mut ring = forge.open().unwrap();
    assert_eq!(ring.look(now + 1_100_000_000), Err(ReadFault::Stale));
    // It comes back to life.
    forge.sample(4, now + 1_100_000_000, 9_000_000);
    forge.head(4, now + 1_100_000_000);
    assert_eq!(ring.look(now + 1_100_000_000), Ok(()));
}

#[test]
fn a_hostile_writer_hurts_nobody() {
    let forge = Forge::new();
    let now = clock::monotonic_ns();
    let far = now + 60_000_000_000;
    forge.run(12, now);
    let mut ring = forge.open().unwrap();
    let refused = |ring: &mut Ring, what: &str| {
        let fault = ring.look(now + PERIOD);
        assert!(fault.is_err(), "{what}");
    };
    // Time and energy that run backwards.
    forge.sample(13, now - 5 * PERIOD, 13_000_000);
    forge.head(13, now);
    refused(&mut ring, "time back");
    forge.sample(13, now, 1_000);
    refused(&mut ring, "energy back");
    // Fewer samples than before, samples that are not there, none at all.
    forge.head(3, now);
    refused(&mut ring, "count back");
    forge.head(u64::MAX, now);
    refused(&mut ring, "count too high");
    forge.head(0, now);
    refused(&mut ring, "no sample");
    // From the future.
    forge.head(12, far);
    refused(&mut ring, "heartbeat ahead");
    // A head of another generation, a damaged head.
    let mut words = Head {
        count: 12,
        heartbeat_ns: now,
        closed: false,
        generation: 8,
    }
    .encode();
    forge.file.write_all_at(&to_bytes(&words), HEAD_AT).unwrap();
    refused(&mut ring, "another generation");
    words[3] = 7;
    forge.file.write_all_at(&to_bytes(&words), HEAD_AT).unwrap();
    refused(&mut ring, "damaged head");
    // Totals at the end of numbers.
    forge.sample(13, now, u64::MAX - 1);
    forge.head(13, now);
    ring.look(now + PERIOD).unwrap();
    ring.look(now + 100 * PERIOD).unwrap();
    value(&ring);
    // The file shrinks under the reader: an error, no signal.
    forge.file.set_len(100).unwrap();
    refused(&mut ring, "cut");
    forge.file.set_len(0).unwrap();
    refused(&mut ring, "empty");
    assert!(ring.groups().is_none());
}

#[test]
fn files_that_are_no_ring_are_refused_with_the_reason() {
    let forge = Forge::new();
    forge.run(3, clock::monotonic_ns());
    let path = forge.path();
    for mode in [0o666, 0o664] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert!(forge.refusal().contains("others than its owner"));
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let mut words = forge.header.encode();
    words[1] = 2;
    seal(&mut words);
    forge.header(&words);
    assert!(forge.refusal().contains("layout is version 2"));
    words[0] = 1;
    forge.header(&words);
    assert!(forge.refusal().contains("is no ring"));
    forge.header(&forge.header.encode());
    forge.file.set_len(SAMPLES_AT).unwrap();
    assert!(forge.refusal().contains("length"));
    forge.file.set_len(10).unwrap();
    assert!(forge.refusal().contains("shorter"));
    fs::remove_file(&path).unwrap();
    assert!(forge.refusal().contains("no agent"));
    fs::create_dir(&path).unwrap();
    assert!(forge.refusal().contains("no plain file"));
    fs::remove_dir(&path).unwrap();
    let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: the name is a C string that outlives the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o644) }, 0);
    // Nobody writes into it: whoever opened it for reading as usual would wait for ever.
    assert!(forge.refusal().contains("no plain file"));
}

#[test]
fn a_ring_of_another_boot_is_refused() {
    let mut forge = Forge::new();
    forge.header.boot_id = [1, 2];
    forge.header(&forge.header.encode());
    forge.run(3, clock::monotonic_ns());
    assert!(forge.open().is_ok());
    let Err(why) = Ring::open(&forge.path(), Path::new("/")) else {
        panic!("opened");
    };
    assert!(why.reason.contains("another boot"), "{why}");
}

#[test]
fn groups_are_read_whole_or_not_at_all() {
    let forge = Forge::new();
    forge.run(3, clock::monotonic_ns());
    let ring = forge.open().unwrap();
    let row = |round, id| GroupRow {
        round,
        id,
        parent: 0,
        kind: Kind::Container,
        counted: true,
        cpu_ns: 1,
        active_uj: 2,
        since_ns: 3,
    };
    let write = |account: Account, rows: &[GroupRow]| {
        let mut at = forge.header.groups_at();
        for row in rows {
            let bytes = to_bytes(&row.encode());
            forge.file.write_all_at(&bytes, at).unwrap();
            at += bytes.len() as u64;
        }
        let bytes = to_bytes(&account.encode());
        forge.file.write_all_at(&bytes, ACCOUNT_AT).unwrap();
    };
    let account = |round, rows| Account {
        round,
        rows,
        ..Account::default()
    };
    write(account(4, 2), &[row(4, 1), row(4, 2)]);
    assert_eq!(ring.groups().unwrap().1.len(), 2);
    write(account(4, 2), &[row(4, 1), row(5, 2)]);
    assert!(ring.groups().is_none());
    write(account(4, 5), &[]);
    assert!(ring.groups().is_none());
    write(account(4, u64::MAX), &[]);
    assert!(ring.groups().is_none());
}

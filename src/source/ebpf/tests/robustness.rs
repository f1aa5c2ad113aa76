//! Loaders that are killed, that race, that find no room or no file system; readers without rights,
//! and readers of a probe that is taken away. On a BPF file system of the test's own.

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

/// A directory that stands for `/`: this kernel's files, and pins of its own.
struct Root {
    at: tempfile::TempDir,
    sizes: Sizes,
}

impl Root {
    /// With a BPF file system, or `None` where none may be mounted. `slots` distinguishes its maps
    /// from all
    /// others of this machine.
    fn new(slots: u32) -> Option<Self> {
        let root = Self::bare(slots);
        let bpf = root.bpffs();
        fs::create_dir_all(&bpf).unwrap();
        let path = std::ffi::CString::new(bpf.to_str().unwrap()).unwrap();
        // SAFETY: all are strings with their NUL.
        let mounted = unsafe {
            libc::mount(
                c"bpf".as_ptr(),
                path.as_ptr(),
                c"bpf".as_ptr(),
                0,
                std::ptr::null(),
            )
        };
        if mounted != 0 {
            println!("skipped: no BPF file system may be mounted");
            return None;
        }
        fs::set_permissions(&bpf, fs::Permissions::from_mode(0o755)).unwrap();
        Some(root)
    }

    fn bare(slots: u32) -> Self {
        let at = tempfile::tempdir().unwrap();
        fs::set_permissions(at.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(at.path().join("sys/fs")).unwrap();
        for part in ["kernel", "devices"] {
            symlink(
                Path::new("/sys").join(part),
                at.path().join("sys").join(part),
            )
            .unwrap();
        }
        let sizes = Sizes {
            slots,
            ..Sizes::default()
        };
        Self { at, sizes }
    }

    fn path(&self) -> &Path {
        self.at.path()
    }

    fn bpffs(&self) -> PathBuf {
        self.path().join("sys/fs/bpf")
    }

    fn load(&self) -> Result<PathBuf, Unavailable> {
        load(self.path(), self.sizes)?.pin(self.path())
    }

    fn open(&self) -> Result<Probes, Unavailable> {
        Probes::open(self.path(), Absent::Leave)
    }

    /// The kernel's maps of this root's probes.
    fn maps(&self) -> BTreeSet<u32> {
        sys::testing::maps_named("slots", self.sizes.slots)
    }

    fn pinned(&self) -> Vec<String> {
        let ours = fs::read_dir(self.bpffs().join("lithowatt"));
        ours.into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect()
    }

    fn unload_all(&self) {
        unload(self.path()).unwrap();
        assert!(self.pinned().is_empty());
        // The kernel frees what nobody holds any more a moment later.
        wait_until(|| self.maps().is_empty());
        assert!(self.maps().is_empty(), "maps of the probe are left");
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let path = std::ffi::CString::new(self.bpffs().to_str().unwrap()).unwrap();
        // SAFETY: a string with its NUL.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    }
}

/// Whether `check` holds in a process of its own.
fn in_child(check: impl FnOnce() -> bool) -> i32 {
    let pid = bare_fork();
    if pid == 0 {
        let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
        // SAFETY: it does not return, and runs nothing of the parent's.
        unsafe { libc::_exit(i32::from(!matches!(held, Ok(true)))) }
    }
    pid
}

fn held(pid: i32) -> bool {
    let mut status = 0;
    // SAFETY: `status` is live.
    unsafe { libc::waitpid(pid, &mut status, 0) };
    libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}

/// Tests here change what others would see of the machine; `probe` shows whether there is one at
/// all.
macro_rules! root {
    ($slots:literal) => {{
        let Some(alone) = probe() else { return };
        let Some(root) = Root::new($slots) else {
            return;
        };
        (alone, root)
    }};
}

#[test]
fn a_loader_that_is_killed_leaves_nothing_that_counts() {
    let (_alone, root) = root!(37);
    let start = Instant::now();
    assert!(held(in_child(|| root.load().is_ok())));
    let took = start.elapsed();
    root.unload_all();
    let mut whole = 0;
    for round in 0..60 {
        let pid = in_child(|| root.load().is_ok());
        std::thread::sleep(took * round / 50);
        // SAFETY: it is our child.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        held(pid);
        match root.open() {
            Ok(probes) => {
                whole += 1;
                assert!(probes.is_alive() && probes.follow(None).is_ok());
                drop(probes);
                root.unload_all();
            }
            Err(why) => assert!(why.reason.contains("not loaded"), "{}", why.reason),
        }
    }
    println!("60 loaders killed, {whole} of them too late");
    // What one leaves that is killed while it pins, the next takes away.
    let ours = root.load().unwrap();
    let left = ours.with_file_name("loading-1-1");
    fs::rename(&ours, &left).unwrap();
    assert!(root.open().is_err());
    root.load().unwrap();
    assert!(!left.exists() && root.pinned().len() == 1);
    assert!(root.open().unwrap().follow(None).is_ok());
    wait_until(|| root.maps().len() == 1);
    assert_eq!(root.maps().len(), 1);
    root.unload_all();
}

#[test]
fn loaders_that_race_leave_one_probe() {
    let (_alone, root) = root!(38);
    for _ in 0..5 {
        let loaders: Vec<_> = (0..4)
            .map(|_| {
                in_child(|| {
                    root.load().unwrap();
                    let probes = root.open().unwrap();
                    let tree = probes.follow(None).unwrap();
                    // It may have been running since before the winner's probe was there.
                    let now = || {
                        let own = || Some(clock::own_process_cpu_ns());
                        probes.used(&tree, own).unwrap().ns
                    };
                    let start = now();
                    burn(Duration::from_millis(5));
                    now() - start >= 4_000_000
                })
            })
            .collect();
        for pid in loaders {
            assert!(held(pid));
        }
        assert_eq!(root.pinned().len(), 1);
        wait_until(|| root.maps().len() == 1);
        assert_eq!(root.maps().len(), 1);
        root.unload_all();
    }
}

#[test]
fn versions_do_not_meet() {
    let (_alone, root) = root!(39);
    let ours = root.load().unwrap();
    let other = ours.with_file_name("v9-0123456789ab");
    fs::rename(&ours, &other).unwrap();
    // Another version's probe is none of ours, and ours goes beside it.
    assert!(root.open().is_err());
    root.load().unwrap();
    assert!(root.open().is_ok());
    assert_eq!(root.maps().len(), 2);
    // Something else under our name is not read, with that as the reason.
    fs::remove_dir_all(&ours).unwrap();
    fs::create_dir(&ours).unwrap();
    let control = sys::open_pinned(&other.join("control"), sys::Access::Map).unwrap();
    sys::pin(control.as_fd(), &ours.join("identity")).unwrap();
    let why = root.open().unwrap_err();
    println!("something else under our name: {}", why.reason);
    assert_eq!(why.fix.as_deref(), Some(as_root!("doctor --unload")));
    root.unload_all();
}

#[test]
fn without_a_file_system_for_pins_the_probe_is_this_process_s_own() {
    let Some(_alone) = probe() else { return };
    let root = Root::bare(40);
    let why = root.open().unwrap_err();
    assert!(
        why.reason.starts_with("no BPF file system at"),
        "{}",
        why.reason
    );
    assert!(why.fix.unwrap().starts_with("sudo mount -t bpf bpf "));
    let probes = Probes::open(root.path(), Absent::Load).unwrap();
    assert!(probes.is_alive() && probes.follow(None).is_ok());
    assert!(root.load().is_err());
}

#[test]
fn readers_notice_that_the_probe_is_gone() {
    let (_alone, root) = root!(41);
    root.load().unwrap();
    let probes = root.open().unwrap();
    let tree = probes.follow(None).unwrap();
    let reader = in_child(|| {
        let end = Instant::now() + Duration::from_secs(10);
        let mut last = 0;
        while probes.is_alive() && Instant::now() < end {
            let now = probes.machine().busy.ns;
            assert!(now >= last / 2, "{now} after {last}");
            last = now;
        }
        // The kernel takes it off a moment later.
        wait_until(|| probes.follow(None).is_err());
        !probes.is_alive() && probes.follow(None).is_err()
    });
    std::thread::sleep(Duration::from_millis(50));
    assert!(probes.is_alive());
    unload(root.path()).unwrap();
    assert!(held(reader));
    assert!(!probes.is_alive());
    assert!(probes.used(&tree, || None).is_some());
    // A new one is another one.
    root.load().unwrap();
    assert!(!probes.is_alive() && root.open().unwrap().is_alive());
    drop(probes);
    drop(tree);
    root.unload_all();
}

#[test]
fn anybody_may_read_and_nobody_may_write() {
    let (_alone, root) = root!(42);
    const NOBODY: u32 = 65534;
    let as_nobody = |check: &dyn Fn() -> bool| {
        held(in_child(|| {
            // SAFETY: plain numbers; it is the child's own identity that changes.
            unsafe {
                libc::setgroups(0, std::ptr::null()) == 0
                    && libc::setgid(NOBODY) == 0
                    && libc::setuid(NOBODY) == 0
            }
            .then(check)
                == Some(true)
        }))
    };
    // SAFETY: no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        println!("skipped: only root becomes somebody else");
        return;
    }
    root.load().unwrap();
    assert!(as_nobody(&|| {
        let probes = root.open().unwrap();
        let tree = probes.follow(None).unwrap();
        burn(Duration::from_millis(20));
        probes.used(&tree, || None).unwrap().ns > 19_000_000
    }));
    let ours = directory(root.path());
    let write = || {
        let open = |name: &str, access| sys::open_pinned(&ours.join(name), access).unwrap();
        let slots = open("slots", sys::Access::Map);
        let index = open("process_index", sys::Access::Lookup);
        assert!(sys::update(slots.as_fd(), &0u32, &Slot::default()).is_err());
        assert!(sys::update(index.as_fd(), &1u32, &1u32).is_err());
        assert!(sys::open_pinned(&ours.join("process_index"), sys::Access::Map).is_err());
        assert!(unload(root.path()).is_err());
        // A link that may be opened may be taken off.
        fs::File::open(ours.join("link_on_switch")).is_err()
            && sys::open_pinned(&ours.join("link_on_switch"), sys::Access::Lookup).is_err()
    };
    assert!(as_nobody(&write));
    assert!(root.open().unwrap().is_alive());

    fs::set_permissions(root.bpffs(), fs::Permissions::from_mode(0o700)).unwrap();
    assert!(as_nobody(&|| {
        let why = root.open().unwrap_err();
        let fix = format!("sudo chmod o+x {}", root.bpffs().display());
        why.denied && why.fix == Some(fix)
    }));
    assert!(as_nobody(&|| {
        let why = load(Path::new("/"), root.sizes).unwrap_err();
        why.denied && why.reason.contains("CAP_BPF")
    }));
    root.unload_all();
}

#[test]
fn tables_that_are_full_say_so() {
    let sizes = Sizes {
        slots: 1,
        cgroups: 1,
        processes: 6,
    };
    let Some(probes) = probe_of(sizes) else {
        return;
    };
    // Of this many at once some find no room.
    let root = fork(|to| {
        for _ in 0..20 {
            if bare_fork() == 0 {
                burn(Duration::from_millis(5));
                std::thread::sleep(Duration::from_millis(50));
                finish(to);
            }
        }
        wait_for_all();
    });
    let followed = probes.follow(Some(root.pid as u32));
    let other = probes.follow(None);
    let ended = root.wait();
    let control = probes.control();
    println!("{control:?} {:?}", followed.as_ref().err());
    assert!(control.process_overflow > 0);
    match &followed {
        Ok(tree) => {
            if let Some(used) = probes.used(tree, || None) {
                assert!(used.ns as f64 > 0.99 * ended.said_ns as f64);
            }
            let why = other.unwrap_err().reason;
            assert!(
                why.contains("are taken") || why.contains("not seen"),
                "{why}"
            );
        }
        Err(why) => assert!(
            why.reason.contains("not seen") || why.reason.contains("are taken"),
            "{}",
            why.reason
        ),
    }
    assert!(probes.machine().untracked_ns > 0);

    // The processes outside of it have taken the one place for a cgroup, if they are many enough.
    let Some(cgroup) = accuracy::Cgroup::new() else {
        println!("skipped: no cgroup of version 2 may be made");
        return;
    };
    let roomy = Sizes {
        cgroups: 1,
        ..Sizes::default()
    };
    let probes = load(Path::new("/"), roomy).and_then(Probes::of).unwrap();
    std::thread::sleep(Duration::from_millis(5));
    let group = probes.cgroup(&cgroup.at).unwrap();
    fork(|_| {
        cgroup.enter();
        burn(Duration::from_millis(20));
    })
    .wait();
    let used = probes.used_by_cgroup(&group);
    if probes.control().cgroup_overflow > 0 {
        assert_eq!(used, None, "a cgroup without a place has not used nothing");
    } else {
        assert!(used.unwrap().ns >= 20_000_000);
    }
}

#[test]
fn ten_thousand_processes() {
    const MANY: u64 = 10_000;
    let Some(probes) = probe() else { return };
    let (wait, go) = pipe();
    let (is_ready, ready) = pipe();
    let mut root = fork(|to| {
        // All begin when the last that could speak has gone.
        // SAFETY: the child's own copy, which nothing uses.
        unsafe { libc::close(go.as_raw_fd()) };
        let mut made = 0;
        for _ in 0..MANY {
            // SAFETY: as in `bare_fork`, but it may fail.
            match unsafe { libc::fork() } {
                0 => {
                    hear(&wait);
                    finish(to);
                }
                -1 => break,
                _ => made += 1,
            }
        }
        say(&ready, made);
        wait_for_all();
    });
    let tree = probes.follow(Some(root.pid as u32)).unwrap();
    let start = Instant::now();
    root.begin();
    let mut made = [0u8; 8];
    io::Read::read_exact(&mut fs::File::from(is_ready), &mut made).unwrap();
    let made = u64::from_ne_bytes(made);
    let slot = || probes.slots.get(tree.slot as usize);
    let (members, listed) = (slot().members, probes.processes().unwrap().len() as u64);
    let reading = Instant::now();
    probes.processes().unwrap();
    let reading = reading.elapsed();
    drop(go);
    let ended = root.wait();
    wait_until(|| slot().members == 0);
    let used = probes.used(&tree, || None).unwrap().ns;
    println!(
        "{made} processes in {:?}, {members} members, {listed} listed in {reading:?}, {:+.3} % against rusage",
        start.elapsed(),
        off(used, ended.rusage_ns)
    );
    assert_eq!(u64::from(members), made + 1);
    assert!(listed > made);
    assert!(off(used, ended.rusage_ns).abs() < 1.0);
    assert_eq!((slot().members, slot().lost), (0, 0));
    assert_eq!(probes.control().process_overflow, 0);
    if made < MANY {
        println!("only {made} were allowed");
    }
}

#[test]
fn maps_of_another_layout_are_refused_before_they_are_read() {
    let (_alone, root) = root!(43);
    let ours = root.load().unwrap();
    let shape = |value_size, max_entries| sys::MapShape {
        kind: 1,
        key_size: 8,
        value_size,
        max_entries,
        flags: 0,
    };
    let right = size_of::<CgroupPlace>() as u32;
    // Values that are larger than a reader's buffer, and fewer of them than stated.
    for wrong in [shape(4096, layout::CGROUPS), shape(right, 1)] {
        let other = sys::create_map("cgroups", wrong).unwrap();
        fs::remove_file(ours.join("cgroups")).unwrap();
        sys::pin(other.as_fd(), &ours.join("cgroups")).unwrap();
        let why = root.open().unwrap_err();
        assert!(why.reason.contains("another layout"), "{}", why.reason);
    }
    let same = sys::create_map("cgroups", shape(right, layout::CGROUPS)).unwrap();
    fs::remove_file(ours.join("cgroups")).unwrap();
    sys::pin(same.as_fd(), &ours.join("cgroups")).unwrap();
    assert!(root.open().is_ok());
    root.unload_all();
}

#[test]
fn pins_that_others_may_have_made_are_refused() {
    let (_alone, root) = root!(44);
    // SAFETY: no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        println!("skipped: only root gives files away");
        return;
    }
    let ours = root.load().unwrap();
    let refused = |what: &str| {
        let why = root.open().unwrap_err();
        assert!(why.reason.contains(what), "{}", why.reason);
    };
    fs::set_permissions(&ours, fs::Permissions::from_mode(0o777)).unwrap();
    refused("its owner alone");
    fs::set_permissions(&ours, fs::Permissions::from_mode(0o755)).unwrap();
    // What belongs to nobody is trusted as little, in whatever user namespace that is read.
    for uid in [1000, 65534] {
        for path in [ours.join("cgroups"), ours.clone()] {
            std::os::unix::fs::chown(&path, Some(uid), None).unwrap();
            refused(&format!("belongs to user {uid}"));
            std::os::unix::fs::chown(&path, Some(0), None).unwrap();
        }
    }
    assert!(root.open().is_ok());
    root.unload_all();
}

#[test]
fn a_descriptor_of_a_map_that_became_another_file_is_left_alone() {
    let Some(_alone) = probe() else { return };
    let map = sys::create_map(
        "mine",
        sys::MapShape {
            kind: 1,
            key_size: 8,
            value_size: 8,
            max_entries: 4,
            flags: 0,
        },
    )
    .unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&map);
    let held = sys::Held::map(map, sys::Layout::hash::<u64, u64>(4)).unwrap();
    assert_eq!(sys::lookup::<u64, u64>(&held, &1).unwrap(), None);
    let theirs = tempfile::tempfile().unwrap();
    // SAFETY: both are open descriptors of this test.
    let put = unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&theirs), fd) };
    assert_eq!(put, fd);
    assert!(sys::lookup::<u64, u64>(&held, &1).is_err());
    drop(held);
    // SAFETY: put there above.
    let still = unsafe { <fs::File as std::os::fd::FromRawFd>::from_raw_fd(fd) };
    assert!(still.metadata().unwrap().is_file());
}

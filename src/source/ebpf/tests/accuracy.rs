//! The probe against the kernel's own accounts.

use super::*;

/// Uses the CPU for `on`, sleeps for `off`, again and again, for `all`.
fn now_and_then(on: Duration, off: Duration, all: Duration) {
    let end = Instant::now() + all;
    while Instant::now() < end {
        burn(on);
        std::thread::sleep(off);
    }
}

/// Burns on every CPU until dropped.
struct Load(std::sync::Arc<std::sync::atomic::AtomicBool>);

impl Load {
    fn new() -> Self {
        let go_on = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            let flag = go_on.clone();
            std::thread::spawn(move || {
                while flag.load(Ordering::Relaxed) {
                    std::hint::black_box(clock::monotonic_ns());
                }
            });
        }
        Self(go_on)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Runs children that each do their own work at the same time, each in a tree of its own; what the
/// probe and rusage say of each.
fn at_once(probes: &Probes, works: Vec<Box<dyn Fn()>>) -> Vec<(u64, u64)> {
    let mut all: Vec<_> = works
        .into_iter()
        .map(|work| {
            let child = fork(|_| work());
            let tree = probes.follow(Some(child.pid as u32)).unwrap();
            let start = probes.used(&tree, || None).unwrap().ns;
            // It waits to begin.
            let before = clock::process_cpu_ns(child.pid).unwrap();
            (child, tree, start, before)
        })
        .collect();
    all.iter_mut().for_each(|(child, ..)| child.begin());
    all.into_iter()
        .map(|(child, tree, start, before)| {
            let ended = child.wait();
            let used = probes.used(&tree, || None).unwrap().ns - start;
            (used, ended.rusage_ns - before)
        })
        .collect()
}

fn split(ratio: u64, loaded: bool) {
    let Some(probes) = probe() else { return };
    let _load = loaded.then(Load::new);
    let work = |ms: u64| -> Box<dyn Fn()> { Box::new(move || burn(Duration::from_millis(ms))) };
    let works = vec![work(60 * ratio), work(60)];
    let used = on_cpu(a_cpu(), || at_once(&probes, works));
    let tolerance = if loaded { 2.0 } else { 1.0 };
    let mut shown = Vec::new();
    for (probe, rusage) in &used {
        shown.push(off(*probe, *rusage));
        assert!(off(*probe, *rusage).abs() < tolerance, "{used:?}");
    }
    let total = |which: fn(&(u64, u64)) -> u64| used.iter().map(which).sum::<u64>() as f64;
    let share = used[0].0 as f64 / total(|u| u.0);
    let truth = used[0].1 as f64 / total(|u| u.1);
    println!(
        "{ratio}:1, loaded {loaded}: each off by {shown:.3?} %, share {share:.5} against {truth:.5}"
    );
}

#[test]
fn three_to_one() {
    split(3, false);
    split(3, true);
}

#[test]
fn ten_to_one() {
    split(10, false);
    split(10, true);
}

#[test]
fn sleepers_are_counted_in_full() {
    let Some(probes) = probe() else { return };
    let rates = [(50, 950), (100, 1900), (1000, 19_000), (5000, 95_000)];
    for (loaded, tolerance) in [(false, 5.0), (true, 5.0)] {
        let _load = loaded.then(Load::new);
        let works = rates.map(|(on, off)| -> Box<dyn Fn()> {
            let time = Duration::from_micros;
            Box::new(move || now_and_then(time(on), time(off), Duration::from_millis(1200)))
        });
        for ((on, off_us), (probe, rusage)) in rates.iter().zip(at_once(&probes, works.into())) {
            let off = off(probe, rusage);
            println!(
                "{on} us of {} us, loaded {loaded}: off by {off:.3} %",
                on + off_us
            );
            assert!(off.abs() < tolerance, "{probe} {rusage}");
        }
    }
}

/// A cgroup (version 2) for a test, removed in the end.
pub(super) struct Cgroup {
    pub(super) at: PathBuf,
    procs: std::ffi::CString,
}

impl Cgroup {
    /// `None` where none may be made.
    pub(super) fn new() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        let root = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (at, kind) = (fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(at))
        })?;
        let at = root.join(format!("lithowatt-test-{}", std::process::id()));
        fs::create_dir(&at).ok()?;
        let procs = std::ffi::CString::new(at.join("cgroup.procs").to_str()?).ok()?;
        Some(Self { at, procs })
    }

    /// Moves the process that calls it.
    pub(super) fn enter(&self) {
        // SAFETY: the path ends in NUL and the buffer has this length.
        unsafe {
            let fd = libc::open(self.procs.as_ptr(), libc::O_WRONLY);
            libc::write(fd, b"0".as_ptr().cast(), 1);
            libc::close(fd);
        }
    }

    /// CPU time, ns.
    fn usage(&self) -> u64 {
        let text = fs::read_to_string(self.at.join("cpu.stat")).unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix("usage_usec "));
        line.unwrap().parse::<u64>().unwrap() * 1000
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The last process may still be leaving.
        wait_until(|| fs::remove_dir(&self.at).is_ok() || !self.at.exists());
    }
}

/// How a child of 1 to 5 ms is started and left.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Reaped,
    /// Its parent waits for nobody.
    Unreaped,
    /// By a process that ends at once.
    DoubleForked,
}

fn many(way: Way, children: u64) {
    const AT_ONCE: u64 = 8;
    let Some(probes) = probe() else { return };
    let cgroup = Cgroup::new();
    let root = fork(|to| {
        if let Some(cgroup) = &cgroup {
            cgroup.enter();
        }
        for i in 0..children {
            let pid = bare_fork();
            if pid == 0 {
                if way == Way::DoubleForked && bare_fork() != 0 {
                    finish(to);
                }
                burn(Duration::from_millis(1 + i % 5));
                finish(to);
            }
            if way != Way::Unreaped && i >= AT_ONCE {
                // SAFETY: it may be null.
                unsafe { libc::wait(std::ptr::null_mut()) };
            } else if way == Way::Unreaped && i % AT_ONCE == 0 {
                // SAFETY: all-zero is a valid siginfo_t, and the call fills it.
                unsafe {
                    let mut info: libc::siginfo_t = std::mem::zeroed();
                    libc::waitid(
                        libc::P_PID,
                        pid as u32,
                        &mut info,
                        libc::WEXITED | libc::WNOWAIT,
                    );
                }
            }
        }
        if way != Way::Unreaped {
            wait_for_all();
        }
    });
    let tree = probes.follow(Some(root.pid as u32)).unwrap();
    let start = Instant::now();
    let ended = root.wait();
    let slot = || probes.slots.get(tree.slot as usize);
    wait_until(|| slot().members == 0);
    let used = probes.used(&tree, || None).unwrap().ns;
    println!(
        "{children} children, {way:?}: {:.3} % of what they said, which is before they end ({:?})",
        100.0 + off(used, ended.said_ns),
        start.elapsed()
    );
    assert!(
        used as f64 >= 0.99 * ended.said_ns as f64,
        "{used} of {}",
        ended.said_ns
    );
    // What they use to end is in these accounts alone.
    if way == Way::Reaped {
        println!("against rusage {:+.3} %", off(used, ended.rusage_ns));
        assert!(off(used, ended.rusage_ns).abs() < 1.0);
    }
    if let Some(cgroup) = cgroup {
        println!("against cpu.stat {:+.3} %", off(used, cgroup.usage()));
        assert!(off(used, cgroup.usage()).abs() < 1.0);
    }
    assert_eq!((slot().members, slot().lost), (0, 0));
    assert_ne!(slot().ended, 0);
}

#[test]
fn short_lived_children_are_found() {
    many(Way::Reaped, 2000);
}

#[test]
fn children_of_parents_that_ended_are_found() {
    many(Way::DoubleForked, 1000);
}

#[test]
fn children_that_nobody_waits_for_are_found() {
    many(Way::Unreaped, 1000);
}

#[test]
fn a_cgroup_is_counted_as_its_cpu_stat_counts_it() {
    let Some(probes) = probe() else { return };
    let Some(cgroup) = Cgroup::new() else {
        println!("skipped: no cgroup of version 2 may be made");
        return;
    };
    let group = probes.cgroup(&cgroup.at).unwrap();
    let before = probes.used_by_cgroup(&group).unwrap().ns;
    let child = fork(|_| {
        cgroup.enter();
        for _ in 0..40 {
            if bare_fork() == 0 {
                burn(Duration::from_millis(3));
                end();
            }
            wait_for_all();
        }
        now_and_then(
            Duration::from_millis(2),
            Duration::from_millis(3),
            Duration::from_millis(500),
        );
    });
    child.wait();
    // Who is reaped may still be on its way off a CPU: its last slice is counted when it is off. Both
    // counts only grow, so that what is lost stays lost.
    let deadline = Instant::now() + Duration::from_secs(2);
    let (used, truth) = loop {
        let used = probes.used_by_cgroup(&group).unwrap().ns - before;
        let truth = cgroup.usage();
        if off(used, truth).abs() < 1.0 || Instant::now() > deadline {
            break (used, truth);
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    println!(
        "cgroup: {used} of {truth} ns: off by {:.3} %",
        off(used, truth)
    );
    let index = |probes: &Probes| -> Option<CgroupPlace> {
        sys::lookup(&probes.cgroups, &group.id).unwrap()
    };
    let known = index(&probes).is_some();
    drop(cgroup);
    assert!(off(used, truth).abs() < 1.0);
    assert!(
        known && index(&probes).is_none(),
        "a cgroup that is gone is forgotten"
    );
}

/// What the kernel counts of a slice is less than the time that passed where the hypervisor took some.
#[test]
fn time_that_was_taken_from_the_first_slice_is_not_counted() {
    const TAKEN: Duration = Duration::from_millis(3);
    let taken_ns = TAKEN.as_nanos() as u64;
    let Some(probes) = probe() else { return };
    let cpus = probes.identity().cpus;
    let starts = probes._own.as_ref().unwrap().map("slice_starts").unwrap();
    // Of `struct slice_start`, the second word is what the task had run.
    let starts = Held::map(starts, Layout::array::<[u64; 8]>(cpus)).unwrap();
    let own = || Some(clock::own_process_cpu_ns());
    // Another process may end the slice at any moment: then it is tried again.
    for _ in 0..50 {
        let cpu = a_cpu();
        let mut child = on_cpu(cpu, || {
            fork(|to| {
                burn(TAKEN + TAKEN);
                let tree = probes.follow(None).unwrap();
                let (clock, seen) = (own().unwrap(), probes.used(&tree, own).unwrap());
                let mut start: [u64; 8] = sys::lookup(&starts, &(cpu as u32)).unwrap().unwrap();
                start[1] += taken_ns;
                sys::update(starts.as_fd(), &(cpu as u32), &start).unwrap();
                let created = probes.slots.get(tree.slot as usize).created;
                let is_first = probes.states.get(cpu).since + taken_ns < created;
                std::thread::sleep(Duration::from_millis(1));
                burn(Duration::from_millis(5));
                let used = probes.used(&tree, own).unwrap().ns - seen.ns;
                let took = own().unwrap() - clock;
                say(to, u64::from(is_first) * (1 + used.abs_diff(took)));
                end()
            })
        });
        child.begin();
        let off_ns = child.wait().said_ns;
        if off_ns > 0 {
            assert!(off_ns < taken_ns / 10, "{off_ns}");
            return;
        }
    }
    println!("skipped: no slice was as long as this");
}

#[test]
fn a_process_that_is_followed_again_has_used_nothing_since() {
    let Some(probes) = probe() else { return };
    let own = || Some(clock::own_process_cpu_ns());
    let first = probes.follow(None).unwrap();
    burn(Duration::from_millis(20));
    let before = own().unwrap();
    let second = probes.follow(None).unwrap();
    let used = |tree| probes.used(tree, own).unwrap().ns;
    let (of_first, of_second) = (used(&first), used(&second));
    let since = own().unwrap() - before;
    assert!(of_first > 19_000_000, "{of_first}");
    assert!(of_second <= since, "{of_second} of {since}");
}

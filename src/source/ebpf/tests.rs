//! The probe in this machine's kernel. What needs privilege prints that and passes.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::*;

mod accuracy;
mod events;
mod family;
mod robustness;

/// A probe of a test's own. One such test runs at a time: they fork, and measure.
struct Alone {
    probes: Probes,
    _alone: std::sync::MutexGuard<'static, ()>,
}

impl std::ops::Deref for Alone {
    type Target = Probes;

    fn deref(&self) -> &Probes {
        &self.probes
    }
}

/// A probe, or `None` where the kernel does not let us.
fn probe() -> Option<Alone> {
    probe_of(Sizes::default())
}

fn probe_of(sizes: Sizes) -> Option<Alone> {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    match load(Path::new("/"), sizes).and_then(Probes::of) {
        Ok(probes) => Some(Alone { probes, _alone }),
        Err(why) => {
            // A verifier that refuses the probe for no lack of the kernel has found a fault of the probe.
            let lacks = ["is needed)", "is locked down)"].map(|end| why.reason.ends_with(end));
            let refuses = why.reason.contains("verifier says");
            assert!(!refuses || lacks.contains(&true), "{}", why.reason);
            println!("skipped: {}", why.reason);
            None
        }
    }
}

fn burn(time: Duration) {
    let end = clock::own_thread_cpu_ns() + time.as_nanos() as u64;
    let mut x = 1u64;
    while clock::own_thread_cpu_ns() < end {
        x = std::hint::black_box(x.wrapping_mul(3));
    }
}

#[test]
fn a_busy_process_is_counted_as_its_cpu_clock_counts_it() {
    let start = Instant::now();
    let Some(probes) = probe() else { return };
    println!("\nloaded in {:?}: {:?}", start.elapsed(), probes.gives());
    let start = Instant::now();
    let tree = probes.follow(None).unwrap();
    println!("followed in {:?}", start.elapsed());
    let own = || Some(clock::own_process_cpu_ns());
    let (clock, seen) = (
        clock::own_process_cpu_ns(),
        probes.used(&tree, own).unwrap(),
    );
    burn(Duration::from_millis(300));
    let used = probes.used(&tree, own).unwrap().ns - seen.ns;
    let took = clock::own_process_cpu_ns() - clock;
    println!(
        "{used} of {took}; {:?} {:?}",
        probes.machine(),
        probes.control()
    );
    assert!(used.abs_diff(took) < took / 100, "{used} {took}");
    let start = Instant::now();
    for _ in 0..1000 {
        std::hint::black_box(probes.used(&tree, own));
    }
    println!("read in {:?}", start.elapsed() / 1000);
    let start = Instant::now();
    for _ in 0..1000 {
        std::hint::black_box(probes.machine());
    }
    println!("machine in {:?}", start.elapsed() / 1000);
    let start = Instant::now();
    drop(probes);
    println!("gone in {:?}", start.elapsed());
}

/// Nanoseconds per run of each program, by the kernel's own statistics, while `load` runs.
fn cost(probes: &Probes, load: impl FnOnce()) -> Vec<(&'static str, u64, f64)> {
    let _on = sys::testing::statistics().unwrap();
    let loaded = probes._own.as_ref().unwrap();
    let read = || -> Vec<_> {
        let all = loaded.programs.iter();
        all.map(|(name, fd)| (*name, sys::testing::runs(fd.as_fd()).unwrap()))
            .collect()
    };
    let before = read();
    load();
    before
        .into_iter()
        .zip(read())
        .map(|((name, (time, count, _)), (_, (later, now, _)))| {
            let runs = now - count;
            (name, runs, (later - time) as f64 / runs.max(1) as f64)
        })
        .collect()
}

fn ping_pong() {
    let (mut a, mut b) = (
        std::os::unix::net::UnixStream::pair().unwrap(),
        std::os::unix::net::UnixStream::pair().unwrap(),
    );
    use std::io::{Read, Write};
    std::thread::scope(|s| {
        s.spawn(|| {
            let mut one = [0];
            for _ in 0..50_000 {
                a.1.read_exact(&mut one).unwrap();
                b.0.write_all(&one).unwrap();
            }
        });
        let mut one = [0];
        for _ in 0..50_000 {
            a.0.write_all(&one).unwrap();
            b.1.read_exact(&mut one).unwrap();
        }
    });
}

#[test]
fn a_switch_costs_little() {
    let Some(probes) = probe() else { return };
    // The shortest program, at the same event, shows what the kernel's own statistics cost.
    let shortest = probes._own.as_ref().unwrap().program("on_thermal");
    let _floor = sys::attach(shortest, "sched_switch").unwrap();
    for round in ["untracked", "tracked"] {
        for (name, runs, ns) in cost(&probes, ping_pong) {
            println!("{round}: {name} {runs} runs, {ns:.0} ns each");
        }
        let _ = probes.follow(None).unwrap();
    }
}

/// Name, size and members of every structure, here and in the object's own type information.
#[test]
fn the_layout_is_the_probes() {
    let object = load::object_bytes();
    let types = aya_obj::Object::parse(object)
        .unwrap()
        .btf
        .unwrap()
        .to_bytes();
    for (name, size, fields) in layout::structures() {
        assert_eq!(
            btf::size(&types, &name),
            Some(size as u32),
            "size of {name}"
        );
        let names: Vec<&str> = fields.iter().map(|(field, _)| *field).collect();
        let found = btf::offsets(&types, &[(&name, &names)]).unwrap();
        for ((field, here), there) in fields.iter().zip(&found[0]) {
            assert_eq!(Some(*here as u32), *there, "offset of {name}.{field}");
        }
        // Nothing lies between or behind: all is copied word by word.
        assert_eq!(size % 8, 0, "{name} is not whole words");
    }
}

#[test]
fn the_checksum_is_the_objects() {
    use sha2::{Digest, Sha256};
    let digest: [u8; 32] = Sha256::digest(load::object_bytes()).into();
    assert_eq!(digest, *DIGEST, "run ebpf-probes/build.sh");
}

/// A child that waits for a sign to begin.
struct Child {
    pid: i32,
    begin: Option<OwnedFd>,
    report: std::fs::File,
}

fn pipe() -> (OwnedFd, OwnedFd) {
    let (read, write) = io::pipe().unwrap();
    (read.into(), write.into())
}

/// Writes a number to a pipe.
fn say(to: &OwnedFd, number: u64) {
    let bytes = number.to_ne_bytes();
    // SAFETY: the buffer lives and has this length; a pipe takes so little as a whole.
    unsafe { libc::write(to.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
}

/// Waits until something is written.
fn hear(from: &OwnedFd) {
    let mut bytes = [0u8; 8];
    // SAFETY: the buffer lives and has this length.
    unsafe { libc::read(from.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) };
}

/// Ends this process without running anything of its parent's.
fn end() -> ! {
    // SAFETY: it does not return, and runs nothing.
    unsafe { libc::_exit(0) }
}

/// Ends this process, with the CPU time it used written last.
fn finish(to: &OwnedFd) -> ! {
    say(to, clock::own_process_cpu_ns());
    end()
}

/// The child's process number, or 0 in the child.
fn bare_fork() -> i32 {
    // SAFETY: children call only what needs no lock that another thread may have held: the clock,
    // pipes, fork, and malloc, which the C library makes ready after a fork.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    pid
}

/// Whether a process with one thread waits for something.
fn waits(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().starts_with(" S")
}

/// Forks; the child runs `work` once the parent has called `begin`, and writes what it used.
fn fork(work: impl FnOnce(&OwnedFd)) -> Child {
    let (wait, begin) = pipe();
    let (is_ready, ready) = pipe();
    let (report, to) = pipe();
    let pid = bare_fork();
    if pid == 0 {
        say(&ready, 1);
        hear(&wait);
        work(&to);
        finish(&to);
    }
    hear(&is_ready);
    // While it runs, a hypervisor may take time from the slice that whoever follows it now has seen in part.
    wait_until(|| waits(pid));
    Child {
        pid,
        begin: Some(begin),
        report: report.into(),
    }
}

/// Waits for all children of this process.
fn wait_for_all() {
    // SAFETY: it may be null.
    while unsafe { libc::wait(std::ptr::null_mut()) } > 0 {}
}

/// What a process and those it has waited for used, ns.
struct Ended {
    rusage_ns: u64,
    /// CPU times that it and its descendants have written.
    said_ns: u64,
}

impl Child {
    fn begin(&mut self) {
        if let Some(begin) = self.begin.take() {
            say(&begin, 1);
        }
    }

    /// Waits for the end of it and of every descendant that has its pipe.
    fn wait(mut self) -> Ended {
        use std::io::Read;
        self.begin();
        // SAFETY: all-zero is a valid rusage.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        let mut said = Vec::new();
        self.report.read_to_end(&mut said).unwrap();
        // SAFETY: `usage` is live and of the kernel's layout; the child is ours.
        let pid = unsafe { libc::wait4(self.pid, std::ptr::null_mut(), 0, &mut usage) };
        assert_eq!(pid, self.pid);
        let ns = |t: libc::timeval| t.tv_sec as u64 * 1_000_000_000 + t.tv_usec as u64 * 1000;
        Ended {
            rusage_ns: ns(usage.ru_utime) + ns(usage.ru_stime),
            said_ns: said
                .chunks_exact(8)
                .map(|ns| u64::from_ne_bytes(ns.try_into().unwrap()))
                .sum(),
        }
    }
}

/// Has what `start` starts run on one CPU alone.
fn on_cpu<T>(cpu: usize, start: impl FnOnce() -> T) -> T {
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: the sets are plain bits, live, and of the size that is passed.
    let (before, mut one): (libc::cpu_set_t, libc::cpu_set_t) = unsafe {
        let mut before = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size, &mut before), 0);
        (before, std::mem::zeroed())
    };
    // SAFETY: as above.
    unsafe {
        libc::CPU_SET(cpu, &mut one);
        assert_eq!(libc::sched_setaffinity(0, size, &one), 0);
    }
    let started = start();
    // SAFETY: as above.
    unsafe { libc::sched_setaffinity(0, size, &before) };
    started
}

/// The first CPU that this process may run on.
fn a_cpu() -> usize {
    // SAFETY: as above.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set);
        (0..1024).find(|cpu| libc::CPU_ISSET(*cpu, &set)).unwrap()
    }
}

/// Waits for what happens at once on an idle machine.
fn wait_until(done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !done() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// `a` as a part of `b`, per cent over or under.
fn off(a: u64, b: u64) -> f64 {
    (a as f64 / b as f64 - 1.0) * 100.0
}

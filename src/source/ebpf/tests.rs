//! The probe in this machine's kernel. What needs privilege says so and passes.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

/// A probe of this test's own, or `None` where the kernel does not let us.
pub(super) fn probe() -> Option<Probes> {
    probe_of(Sizes::default())
}

pub(super) fn probe_of(sizes: Sizes) -> Option<Probes> {
    match load(Path::new("/"), sizes).and_then(Probes::of) {
        Ok(probes) => Some(probes),
        Err(why) => {
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
fn cost(probes: &Probes, load: impl FnOnce()) -> Vec<(String, u64, f64)> {
    let _stats = aya::sys::enable_stats(aya::sys::Stats::RunTime).unwrap();
    let loaded = probes._own.as_ref().unwrap();
    let read = || -> Vec<_> {
        loaded
            .ebpf
            .programs()
            .map(|(name, program)| {
                let info = program.info().unwrap();
                (name.to_owned(), info.run_count(), info.run_time())
            })
            .collect()
    };
    let before = read();
    load();
    before
        .into_iter()
        .zip(read())
        .map(|((name, count, time), (_, now, later))| {
            let runs = now - count;
            let ns = (later - time).as_nanos() as f64 / runs.max(1) as f64;
            (name, runs, ns)
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
    let Some(mut probes) = probe() else { return };
    // The shortest program, at the same event, tells what the kernel's own statistics cost.
    let loaded = probes._own.as_mut().unwrap();
    let shortest: &mut aya::programs::RawTracePoint = loaded
        .ebpf
        .program_mut("on_thermal")
        .unwrap()
        .try_into()
        .unwrap();
    shortest.attach("sched_switch").unwrap();
    for round in ["untracked", "tracked"] {
        for (name, runs, ns) in cost(&probes, ping_pong) {
            println!("{round}: {name} {runs} runs, {ns:.0} ns each");
        }
        let _ = probes.follow(None).unwrap();
    }
}

//! Events that this machine may never see, injected into the very programs that would get them.

use super::*;

/// A probe whose programs of the processor's state get nothing but what is injected.
fn undisturbed() -> Option<Alone> {
    let mut probes = probe()?;
    let loaded = probes.probes._own.as_mut().unwrap();
    for name in ["on_frequency", "on_idle", "on_thermal"] {
        loaded.detach(name);
    }
    Some(probes)
}

fn inject(probes: &Probes, program: &str, args: &[u64], cpu: usize) {
    let loaded = probes._own.as_ref().unwrap();
    sys::testing::run(loaded.program(program), args, cpu as u32).unwrap();
}

#[test]
fn frequency_weighs_time() {
    const SLOW: u64 = 1_000_000;
    const FAST: u64 = 3_000_000;
    let Some(probes) = undisturbed() else { return };
    let cpu = a_cpu();
    let mut child = on_cpu(cpu, || fork(|_| burn(Duration::from_millis(200))));
    let tree = probes.follow(Some(child.pid as u32)).unwrap();
    inject(&probes, "on_frequency", &[SLOW, cpu as u64], cpu);
    child.begin();
    let now = || probes.used(&tree, || None).unwrap();
    while now().ns < 100_000_000 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let before = now();
    inject(&probes, "on_frequency", &[FAST, cpu as u64], cpu);
    child.wait();
    let used = now();
    let expected =
        before.ns as f64 * SLOW as f64 * 1e-6 + (used.ns - before.ns) as f64 * FAST as f64 * 1e-6;
    println!(
        "frequency: {:.0} cycles, {expected:.0} expected: {used:?}",
        used.scaled
    );
    // A slice in which the frequency changed is weighed by its mean over the slice, and the reading
    // was taken a moment before the change.
    assert!((used.scaled / expected - 1.0).abs() < 0.05);
    // Waiting to begin was at an unknown frequency.
    assert!(used.scaled_ns <= used.ns && used.scaled_ns as f64 > 0.98 * used.ns as f64);
    assert_eq!(probes.machine().frequency_changes, 2);
    let power = probes.powers.get(cpu);
    assert_eq!((power.khz, power.changes), (FAST, 2));
}

#[test]
fn a_frequency_adds_up_over_time() {
    let Some(probes) = undisturbed() else { return };
    let last = probes.identity.cpus as usize - 1;
    let cpu = a_cpu();
    for khz in [1_000_000, 2_000_000, 500_000, 0] {
        inject(&probes, "on_frequency", &[khz, last as u64], cpu);
        std::thread::sleep(Duration::from_millis(20));
    }
    let power = probes.powers.get(last);
    let cycles = power.integral as f64 * 1024.0 * 1e-6;
    // Three intervals of at least 20 ms.
    let least = 0.02 * (1e9 + 2e9 + 0.5e9);
    println!("integral: {cycles:.3e} of at least {least:.3e}");
    assert!(cycles >= least && cycles < 3.0 * least);
    assert_eq!((power.changes, power.khz), (4, 0));
    // Beyond the last CPU there is nothing to write to.
    inject(&probes, "on_frequency", &[1, u64::from(u32::MAX)], cpu);
    assert_eq!(probes.machine().frequency_changes, 4);
}

#[test]
fn idle_states_are_timed() {
    const LEFT: u64 = 0xffff_ffff;
    let Some(probes) = undisturbed() else { return };
    let (cpu, of) = (a_cpu(), probes.identity.cpus as usize - 1);
    // It may have been idle when the program was taken off.
    inject(&probes, "on_idle", &[LEFT, of as u64], cpu);
    let before = probes.powers.get(of);
    let stay = |state: u64| {
        let start = clock::monotonic_ns();
        inject(&probes, "on_idle", &[state, of as u64], cpu);
        std::thread::sleep(Duration::from_millis(10));
        inject(&probes, "on_idle", &[LEFT, of as u64], cpu);
        clock::monotonic_ns() - start
    };
    // Leaving twice changes nothing; a state beyond the table counts as the deepest.
    let (first, last) = (stay(1), stay(99));
    inject(&probes, "on_idle", &[LEFT, of as u64], cpu);
    let after = probes.powers.get(of);
    let spent = |state: usize| after.idle_ns[state] - before.idle_ns[state];
    println!("idle: {} of {first}, {} of {last} ns", spent(1), spent(11));
    assert!((10_000_000..=first).contains(&spent(1)));
    assert!((10_000_000..=last).contains(&spent(layout::IDLE_STATES - 1)));
    assert_eq!(after.idle_transitions - before.idle_transitions, 2);
    let others: u64 = (2..layout::IDLE_STATES - 1).map(spent).sum();
    assert_eq!((spent(0), others, after.idle_since), (0, 0, 0));
    // One that goes on is counted up to now.
    inject(&probes, "on_idle", &[0, of as u64], cpu);
    let start = probes.machine().idle_ns;
    std::thread::sleep(Duration::from_millis(5));
    assert!(probes.machine().idle_ns - start >= 5_000_000);
}

#[test]
fn thermal_events_are_counted() {
    let Some(probes) = undisturbed() else { return };
    let before = probes.machine().thermal_events;
    for _ in 0..3 {
        inject(&probes, "on_thermal", &[0xfa], a_cpu());
    }
    assert_eq!(probes.machine().thermal_events - before, 3);
}

#[test]
fn cycles_are_counted() {
    let Some(probes) = probe() else { return };
    if !probes.sees(FLAG_CYCLES) {
        println!("skipped: no hardware counters of cycles and instructions here");
        return;
    }
    let child = fork(|_| {
        for _ in 0..20 {
            burn(Duration::from_millis(5));
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let tree = probes.follow(Some(child.pid as u32)).unwrap();
    // An emulated machine takes milliseconds to start a process, which waits to begin now.
    let before = clock::process_cpu_ns(child.pid).unwrap();
    let ended = child.wait();
    let used = probes.used(&tree, || None).unwrap();
    let (cycles, instructions) = (used.cycles.unwrap(), used.instructions.unwrap());
    let rate = cycles as f64 / used.ns as f64;
    println!("{cycles} cycles ({rate:.3} GHz), {instructions} instructions: {used:?}");
    assert!(off(used.ns, ended.rusage_ns - before).abs() < 2.0);
    assert!((0.1..10.0).contains(&rate));
    let per_cycle = instructions as f64 / cycles as f64;
    assert!((0.01..10.0).contains(&per_cycle));
    let machine = probes.machine().busy;
    assert!(machine.cycles.unwrap() >= cycles && machine.instructions.unwrap() >= instructions);
}

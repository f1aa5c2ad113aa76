//! Clocks: monotonic time and the CPU clocks of processes and threads.

/// Now on `CLOCK_MONOTONIC`, in ns.
pub fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC).unwrap_or(0)
}

/// Now on `CLOCK_REALTIME`, in ns since the epoch; only to notice that clocks drift apart.
pub fn realtime_ns() -> u64 {
    read(libc::CLOCK_REALTIME).unwrap_or(0)
}

/// CPU time of this process, all threads, dead ones included, in ns.
pub fn own_process_cpu_ns() -> u64 {
    read(libc::CLOCK_PROCESS_CPUTIME_ID).unwrap_or(0)
}

/// CPU time of the calling thread in ns.
pub fn own_thread_cpu_ns() -> u64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID).unwrap_or(0)
}

/// CPU time of any process in ns; `None` when it is gone.
///
/// The same clock that `clock_getcpuclockid(3)` names: no privilege is needed.
pub fn process_cpu_ns(pid: i32) -> Option<u64> {
    // CPUCLOCK_SCHED, per process: see include/linux/posix-timers.h of the kernel.
    read((!pid << 3) | 2)
}

/// CPU time of a thread of this process in ns; `None` when it is gone.
pub fn thread_cpu_ns(tid: i32) -> Option<u64> {
    // CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED.
    read((!tid << 3) | 4 | 2)
}

/// CPU time in ns of the children of this process that were waited for, and of theirs.
pub fn reaped_children_cpu_ns() -> u64 {
    usage(libc::RUSAGE_CHILDREN)
        .map(|u| {
            let ns = |t: libc::timeval| t.tv_sec as u64 * 1_000_000_000 + t.tv_usec as u64 * 1_000;
            ns(u.ru_utime) + ns(u.ru_stime)
        })
        .unwrap_or(0)
}

/// Whether this process has any child, living or not yet waited for.
pub fn has_children() -> bool {
    // SAFETY: waitid only writes to `info`; WNOWAIT leaves every child as it is.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        libc::waitid(libc::P_ALL, 0, &mut info, flags) == 0
    }
}

/// The calling thread's id.
pub fn gettid() -> i32 {
    // SAFETY: gettid has no preconditions.
    unsafe { libc::gettid() }
}

/// This process's id, from the kernel: it must be right after a fork.
pub fn getpid() -> i32 {
    // SAFETY: getpid has no preconditions.
    unsafe { libc::getpid() }
}

fn usage(who: i32) -> Option<libc::rusage> {
    // SAFETY: getrusage fills the zeroed struct, for which all-zero is a valid value.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::getrusage(who, &mut usage) == 0).then_some(usage)
    }
}

fn read(clock: libc::clockid_t) -> Option<u64> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` outlives the call; an unknown clock id is an error, not a fault.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    (result == 0).then(|| time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_advance_and_agree() {
        let (wall, cpu) = (monotonic_ns(), own_thread_cpu_ns());
        let mut x = 1u64;
        while own_thread_cpu_ns() - cpu < 5_000_000 {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert!(monotonic_ns() - wall >= 5_000_000);
        assert!(own_process_cpu_ns() >= cpu);
        let by_id = thread_cpu_ns(gettid()).unwrap();
        assert!(own_thread_cpu_ns().abs_diff(by_id) < 5_000_000);
        assert!(process_cpu_ns(getpid()).unwrap() > 0);
    }

    #[test]
    fn a_child_that_is_not_reaped_keeps_its_clock() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"])
            .spawn()
            .unwrap();
        let pid = child.id() as i32;
        assert!(has_children());
        let mut last = 0;
        // Until it is a zombie.
        for _ in 0..500 {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            last = process_cpu_ns(pid).unwrap();
            if stat.contains(") Z") {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let zombie = process_cpu_ns(pid).unwrap();
        assert!(zombie >= last && zombie > 0);
        let before = reaped_children_cpu_ns();
        child.wait().unwrap();
        let reaped = reaped_children_cpu_ns() - before;
        assert!(process_cpu_ns(pid).is_none());
        // rusage rounds to µs, user and system each.
        assert!(reaped.abs_diff(zombie) < 20_000_000, "{reaped} {zombie}");
    }
}

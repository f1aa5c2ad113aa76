//! Clocks: monotonic time and the CPU clocks of processes and threads.

use std::fs;
use std::os::unix::fs::MetadataExt;

/// Now on `CLOCK_MONOTONIC`, in ns.
pub fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC).unwrap_or(0)
}

/// How far the clock of a time namespace is ahead of the kernel's, by the text of
/// /proc/self/timens_offsets, ns.
///
/// ```
/// use lithowatt::clock::kernel_offset_of;
/// assert_eq!(kernel_offset_of("monotonic  -2  500000000\nboottime 0 0\n"), -1_500_000_000);
/// assert_eq!(kernel_offset_of(""), 0);
/// ```
pub fn kernel_offset_of(text: &str) -> i64 {
    let offset = text.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        (fields.next()? == "monotonic").then_some(())?;
        let seconds: i64 = fields.next()?.parse().ok()?;
        let ns: i64 = fields.next()?.parse().ok()?;
        seconds.checked_mul(1_000_000_000)?.checked_add(ns)
    });
    offset.unwrap_or(0)
}

/// How far this process's `CLOCK_MONOTONIC` is ahead of the kernel's, ns: not 0 in a time namespace.
pub fn kernel_offset_ns() -> i64 {
    let namespace = |name: &str| fs::metadata(format!("/proc/self/ns/{name}")).map(|ns| ns.ino());
    match (namespace("time"), namespace("time_for_children")) {
        // The offsets are those of the children, which are not this process's yet.
        (Ok(ours), Ok(theirs)) if ours != theirs => 0,
        // Not below a root: it is this process's clock that is read.
        _ => kernel_offset_of(&fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default()),
    }
}

/// Now on the kernel's monotonic clock, for a process whose own is `offset_ns` ahead of it.
pub fn kernel_ns(offset_ns: i64) -> u64 {
    monotonic_ns().saturating_add_signed(offset_ns.saturating_neg())
}

/// Now on the kernel's monotonic clock, whatever namespace this process is in, ns.
pub fn kernel_monotonic_ns() -> u64 {
    kernel_ns(kernel_offset_ns())
}

/// Now on `CLOCK_REALTIME`, in ns since the epoch; only to notice that clocks drift apart.
pub fn realtime_ns() -> u64 {
    read(libc::CLOCK_REALTIME).unwrap_or(0)
}

/// How long the machine was suspended since it booted, ns: what `CLOCK_BOOTTIME` is ahead of
/// `CLOCK_MONOTONIC`. `None` where the two cannot be read next to each other.
pub fn asleep_ns() -> Option<u64> {
    // Another thread or guest may run between two reads of a clock.
    const NEAR_NS: u64 = 1_000_000;
    for _ in 0..3 {
        let before = read(libc::CLOCK_MONOTONIC)?;
        let boot = read(libc::CLOCK_BOOTTIME)?;
        if read(libc::CLOCK_MONOTONIC)?.saturating_sub(before) < NEAR_NS {
            return Some(boot.saturating_sub(before));
        }
    }
    None
}

/// CPU time of this process, all threads, dead ones included, in ns.
pub fn own_process_cpu_ns() -> u64 {
    read(libc::CLOCK_PROCESS_CPUTIME_ID).unwrap_or(0)
}

/// CPU time of the calling thread in ns.
pub fn own_thread_cpu_ns() -> u64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID).unwrap_or(0)
}

/// No process or thread has a number above it: PID_MAX_LIMIT in include/linux/threads.h of the
/// kernel. The clock of a larger one would be another's, as its uppermost bits are shifted out.
const MOST_PIDS: i32 = 4 * 1024 * 1024;

/// CPU time of any process in ns; `None` when it is gone.
///
/// The same clock that `clock_getcpuclockid(3)` names: no privilege is needed.
///
/// ```
/// use lithowatt::clock::process_cpu_ns;
/// assert!(process_cpu_ns(std::process::id() as i32).is_some());
/// assert_eq!(process_cpu_ns(i32::MAX), None);
/// ```
pub fn process_cpu_ns(pid: i32) -> Option<u64> {
    // CPUCLOCK_SCHED, per process: see include/linux/posix-timers.h of the kernel.
    read(numbered(pid)? | 2)
}

/// CPU time of a thread of this process in ns; `None` when it is gone.
pub fn thread_cpu_ns(tid: i32) -> Option<u64> {
    // CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED.
    read(numbered(tid)? | 4 | 2)
}

/// The kernel's number of a process or thread in its clock's.
fn numbered(id: i32) -> Option<i32> {
    (1..=MOST_PIDS).contains(&id).then_some(!id << 3)
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

/// Whether the kernel discards this process's children as they end, with their CPU time.
pub fn discards_children() -> bool {
    // SAFETY: without a new action sigaction only writes the old one, for which all-zero is a valid
    // value.
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGCHLD, std::ptr::null(), &mut old) == 0
            && (old.sa_sigaction == libc::SIG_IGN || old.sa_flags & libc::SA_NOCLDWAIT != 0)
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

/// The most memory of this process that was ever resident, bytes; where it was started as another
/// program, that of what it was before, too.
pub fn own_peak_bytes() -> Option<u64> {
    let kib = u64::try_from(usage(libc::RUSAGE_SELF)?.ru_maxrss).ok()?;
    kib.checked_mul(1024)
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
    fn the_kernel_s_clock_is_told_from_a_namespace_s() {
        let (ours, ahead) = (monotonic_ns(), 1_000_000);
        assert!(kernel_ns(ahead) + ahead as u64 >= ours);
        assert!(kernel_ns(-ahead) >= ours + ahead as u64);
        // More than the clock shows: it stops at 0.
        assert_eq!(kernel_ns(i64::MAX), 0);
    }

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

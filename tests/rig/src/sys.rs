//! The system calls that std does not have, made safe once.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// Nanoseconds of a clock; `None` when the clock is gone (its process has ended).
pub fn clock_ns(clock: libc::clockid_t) -> Option<u64> {
    let mut t = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `t` is a valid timespec for the kernel to write to.
    let result = unsafe { libc::clock_gettime(clock, &raw mut t) };
    (result == 0).then(|| t.tv_sec.cast_unsigned() * 1_000_000_000 + t.tv_nsec.cast_unsigned())
}

/// ns of `CLOCK_MONOTONIC`.
pub fn now_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC).unwrap_or(0)
}

/// CPU time of this process, ns.
pub fn own_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID).unwrap_or(0)
}

/// The CPU clock of another process.
pub fn cpu_clock_of(pid: i32) -> io::Result<libc::clockid_t> {
    let mut clock = 0;
    // SAFETY: `clock` is a valid place for the result.
    match unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) } {
        0 => Ok(clock),
        e => Err(io::Error::from_raw_os_error(e)),
    }
}

/// Sleeps until `t_ns` of `CLOCK_MONOTONIC`; a signal may end it early.
pub fn sleep_until(t_ns: u64) {
    let t = libc::timespec {
        tv_sec: (t_ns / 1_000_000_000).cast_signed(),
        tv_nsec: (t_ns % 1_000_000_000).cast_signed(),
    };
    // SAFETY: `t` is valid; no remainder is asked for.
    unsafe {
        libc::clock_nanosleep(
            libc::CLOCK_MONOTONIC,
            libc::TIMER_ABSTIME,
            &raw const t,
            std::ptr::null_mut(),
        );
    }
}

/// Puts the calling thread, and those it creates from now on, ahead of ordinary work.
pub fn realtime() -> io::Result<()> {
    let param = libc::sched_param { sched_priority: 1 };
    // SAFETY: `param` is valid; 0 is the calling thread.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param) }).map(drop)
}

/// Takes the lock of a file without waiting.
pub fn try_lock(file: &std::fs::File) -> bool {
    // SAFETY: the descriptor is open for the length of the call.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
}

/// A descriptor that becomes readable when the process ends.
pub fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain integers; a result of 0 or more is a descriptor that nobody else owns.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        let fd = check(libc::c_int::try_from(fd).unwrap_or(-1))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Blocks SIGTERM, SIGINT and SIGHUP in this thread and those to come; returns a descriptor that
/// becomes readable on SIGTERM or SIGHUP. (SIGINT goes to whole foreground groups: the parent
/// decides what it means.)
pub fn termination() -> io::Result<OwnedFd> {
    // SAFETY: the sets are initialised by sigemptyset before use; the descriptor is new.
    unsafe {
        let mut ignored: libc::sigset_t = std::mem::zeroed();
        let mut asked: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut ignored);
        libc::sigemptyset(&raw mut asked);
        for signal in [libc::SIGTERM, libc::SIGHUP] {
            libc::sigaddset(&raw mut ignored, signal);
            libc::sigaddset(&raw mut asked, signal);
        }
        libc::sigaddset(&raw mut ignored, libc::SIGINT);
        check(libc::pthread_sigmask(
            libc::SIG_BLOCK,
            &raw const ignored,
            std::ptr::null_mut(),
        ))?;
        let fd = check(libc::signalfd(-1, &raw const asked, libc::SFD_CLOEXEC))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Waits until one of the descriptors is readable.
pub fn wait_readable(fds: &[&OwnedFd]) -> io::Result<()> {
    let mut polled: Vec<libc::pollfd> = fds
        .iter()
        .map(|fd| libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    loop {
        let n = polled.len() as libc::nfds_t;
        // SAFETY: the array has `n` valid entries.
        match check(unsafe { libc::poll(polled.as_mut_ptr(), n, -1) }) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map(drop),
        }
    }
}

/// `mount(2)`.
pub fn mount(
    source: &Path,
    target: &Path,
    kind: &str,
    flags: libc::c_ulong,
    data: &str,
) -> io::Result<()> {
    let (s, t) = (c_path(source)?, c_path(target)?);
    let (k, d) = (CString::new(kind)?, CString::new(data)?);
    // SAFETY: four NUL-terminated strings that live for the length of the call.
    let result = unsafe {
        libc::mount(
            s.as_ptr(),
            t.as_ptr(),
            k.as_ptr(),
            flags,
            d.as_ptr().cast::<libc::c_void>(),
        )
    };
    check(result).map(drop).map_err(|e| {
        let (s, t) = (source.display(), target.display());
        io::Error::new(e.kind(), format!("mount {s} on {t}: {e}"))
    })
}

/// Lazy `umount2(2)`: the name is gone at once, open files live on.
pub fn unmount(target: &Path) -> io::Result<()> {
    let t = c_path(target)?;
    // SAFETY: a NUL-terminated string.
    check(unsafe { libc::umount2(t.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) }).map(drop)
}

/// Gives this process a mount namespace of its own, from which nothing propagates.
pub fn private_mounts() -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    let root = Path::new("/");
    mount(root, root, "", libc::MS_REC | libc::MS_PRIVATE, "")
}

/// `struct perf_event_attr`, first published size.
#[repr(C)]
#[derive(Default)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    config1: u64,
}

const PERF_TYPE_SOFTWARE: u32 = 1;
const PERF_COUNT_SW_TASK_CLOCK: u64 = 1;
const PERF_FLAG_INHERIT: u64 = 1 << 1;
const PERF_FLAG_INHERIT_THREAD: u64 = 1 << 35;
const PERF_OPEN_CLOEXEC: libc::c_ulong = 1 << 3;

/// Counts the on-CPU ns of thread `tid` and of the threads (with `tree`, also the processes) that
/// it creates from now on, exact at the moment of reading.
pub fn task_clock(tid: i32, tree: bool) -> io::Result<OwnedFd> {
    let threads = if tree { 0 } else { PERF_FLAG_INHERIT_THREAD };
    let attr = PerfEventAttr {
        kind: PERF_TYPE_SOFTWARE,
        size: u32::try_from(size_of::<PerfEventAttr>()).unwrap_or(0),
        config: PERF_COUNT_SW_TASK_CLOCK,
        flags: PERF_FLAG_INHERIT | threads,
        ..PerfEventAttr::default()
    };
    // SAFETY: `attr` is as large as its `size`; the descriptor is new.
    unsafe {
        let fd = libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attr,
            tid,
            -1,
            -1,
            PERF_OPEN_CLOEXEC,
        );
        let fd = check(libc::c_int::try_from(fd).unwrap_or(-1))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Reads the value of a [`task_clock`].
pub fn read_counter(fd: &OwnedFd) -> Option<u64> {
    let mut value = [0u8; 8];
    // SAFETY: eight bytes are there to be written.
    let n = unsafe { libc::read(fd.as_raw_fd(), value.as_mut_ptr().cast(), value.len()) };
    (n == 8).then(|| u64::from_ne_bytes(value))
}

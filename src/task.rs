//! The CPU clock of one coroutine or generator: it runs only while its thread runs *it*.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use crate::clock;

/// CPU time of a task that is resumed and suspended, perhaps on different threads.
///
/// ```
/// use lithowatt::task::TaskClock;
/// let task = TaskClock::default();
/// task.resume();
/// let inside = (0..100_000u64).fold(0, |a, b| std::hint::black_box(a ^ b));
/// task.suspend();
/// let spent = task.cpu_ns();
/// assert!(spent > 0 || inside > 0);
/// assert_eq!(task.cpu_ns(), spent);
/// ```
#[derive(Debug, Default)]
pub struct TaskClock {
    spent_ns: AtomicU64,
    /// The thread that runs the task now, or 0.
    tid: AtomicI32,
    since_ns: AtomicU64,
}

impl TaskClock {
    /// The task goes on, on the calling thread.
    pub fn resume(&self) {
        self.since_ns
            .store(clock::own_thread_cpu_ns(), Ordering::Relaxed);
        self.tid.store(clock::gettid(), Ordering::Release);
    }

    /// The task waits, or ended.
    pub fn suspend(&self) {
        if self.tid.swap(0, Ordering::AcqRel) != 0 {
            let now = clock::own_thread_cpu_ns();
            let ran = now.saturating_sub(self.since_ns.load(Ordering::Relaxed));
            self.spent_ns.fetch_add(ran, Ordering::AcqRel);
        }
    }

    /// Whether it was ever resumed.
    pub fn has_run(&self) -> bool {
        self.since_ns.load(Ordering::Relaxed) != 0
    }

    /// CPU time so far, the stretch that still runs included, ns.
    ///
    /// Read from the sampler thread while the task is being suspended it may miss that stretch;
    /// the next reading has it, and readers keep the larger value.
    pub fn cpu_ns(&self) -> u64 {
        let spent = self.spent_ns.load(Ordering::Acquire);
        let since = self.since_ns.load(Ordering::Relaxed);
        match self.tid.load(Ordering::Acquire) {
            0 => spent,
            tid => {
                let running = clock::thread_cpu_ns(tid).map_or(0, |now| now.saturating_sub(since));
                spent + running
            }
        }
    }
}

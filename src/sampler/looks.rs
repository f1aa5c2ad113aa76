//! What the sampler's thread looks at outside of the hub's lock, as it may take long: no more often than it is worth.

/// Between two looks at least, ns: as an interval of attribution lasts …
pub(super) const LOOK_NS: u64 = 95_000_000;

/// … and so many times as long as a look takes: it may take 1 % of the time …
const LOOK_PART: u64 = 100;

/// … and at most, ns: whoever waits for a CPU that long has no more of it for that.
pub(super) const MOST_LOOK_NS: u64 = 10_000_000_000;

/// Stretches between looks that are kept: those of the last minute, for windows without samples of their own.
pub(super) const MOST_STRETCHES: usize = 1024;

/// Where there is nothing to look at, that is looked for again after this, ns: it may have come since.
pub(super) const ABSENT_AGAIN_NS: u64 = 60_000_000_000;

/// What was found when it was looked for.
#[derive(Debug, Default)]
pub(super) enum Found<T> {
    /// It was not looked for.
    #[default]
    Unknown,
    Absent,
    There(Box<T>),
    /// The thread has it.
    Lent,
}

/// When to look, ns.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    /// The next look may be then.
    pub(super) next_ns: u64,
    /// So long the last one took …
    pub(super) took_ns: u64,
    /// … and so long after it the next one may be.
    pub(super) pause_ns: u64,
}

impl Pace {
    /// A look took `took_ns` and ended at `t_ns`.
    pub(super) fn looked(&mut self, t_ns: u64, took_ns: u64) {
        // The first one finds nothing in the kernel's caches, and any may be kept waiting by others.
        let dear_ns = took_ns.min(std::mem::replace(&mut self.took_ns, took_ns));
        self.pause_ns = dear_ns
            .saturating_mul(LOOK_PART)
            .clamp(LOOK_NS, MOST_LOOK_NS);
        self.next_ns = t_ns.saturating_add(self.pause_ns);
    }

    /// There was nothing to look at.
    pub(super) fn absent(&mut self, t_ns: u64) {
        self.next_ns = t_ns.saturating_add(ABSENT_AGAIN_NS);
    }
}

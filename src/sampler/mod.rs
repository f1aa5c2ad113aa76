//! One hub per process and root: the open sources, the meters that run, and the background thread
//! that samples for them.
//!
//! The route of a window:
//!
//! 1. [`Hub::start`] opens what its methods ask for (`state.rs`; `ring.rs` where only an agent may
//!    read a counter; `probed.rs` for kernel probes) and makes its record (`window.rs`). CPU time is
//!    read first and the counters last (`settle.rs`, `begin`).
//! 2. The thread reads all counters at every sample (`tick`). Every 100 ms it also reads CPU time: that
//!    is an [`Edge`]. An edge is settled when the next one has come, so that CPU time which turns up late
//!    finds room in it, and where memory's traffic is counted, when that was looked at after it. The record
//!    holds the edge that is `settled`, and those after it that are `pending`.
//! 3. To settle an edge is to divide its interval (`settle`): the energy of every slot (`slots.rs`) and
//!    the share of the subject (`subject.rs`) go into the record's ledger.
//! 4. [`Hub::stop`] reads the counters first, as this ends the window, settles what is left, and closes
//!    the record into an [`Outcome`] (`close`), which [`crate::reading`] turns into numbers with bands.
//!
//! Windows without an interval have no samples: their two edges are settled at the end.
//!
//! The thread never touches Python, blocks all signals, and exists only from the first meter that
//! wants samples. A forked child has no thread and perhaps a locked mutex, so it gets a new hub.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::clock;
use crate::machine::facts::Facts;
use crate::memory;
use crate::model::estimation::Estimation;
use crate::source::kept;
use crate::source::perf::TreeCounters;
use crate::source::{Domain, Method, Methods, ReadFault, Unavailable, Zone};
use crate::thread;
use crate::timeline::Timeline;

mod busy;
mod gpus;
mod handed;
mod looks;
mod probed;
mod ring;
mod seen;
mod settle;
mod slots;
mod state;
mod subject;
mod tape;
mod traffic;
pub mod weight;
mod window;

pub use busy::ClockSeen;
pub use gpus::{GpuSeen, GpusSeen};
pub use handed::Heir;
pub use probed::load_probes;
pub use ring::Via;
pub use seen::SeenWindow;
pub use slots::{Part, Slot, Slots};
use state::State;
pub use subject::{Scope, Subject};
pub use tape::{Recorded, Rules, replay};
pub use traffic::TrafficSeen;
use window::Mark;
pub use window::{Catalog, Edge, Outcome, Phase, Resident};

/// Without meters the thread goes on waiting this long before it parks, so that a loop of short
/// meters does not wake it every time.
const LINGER: Duration = Duration::from_secs(2);
/// … in naps of this length, so that a meter that comes meanwhile need not wake it.
const LINGER_STEP: Duration = Duration::from_millis(100);

/// How often a counter changes is learned by looking again shortly after a sample, so many times, …
const LOOKS: u32 = 3;
/// … after a pause in which a counter that changes evenly every millisecond surely does, and one
/// that does so unevenly may not, …
const LOOK_PAUSE: Duration = Duration::from_micros(1_100);
/// … until it is known, and where samples are not near to each other anyway, ns.
const LOOKS_FROM_NS: u64 = 20_000_000;

/// What finding out the facts of a machine may allocate at once, bytes: most is the table of
/// processors.
pub const FACTS_BYTES: usize = 1 << 20;

/// A diagnosis looks at counters until each has moved, for so long at most: they change within 20 ms,
/// their agents' within 0.1 s and a host's files within a second.
const MOVES_WITHIN: Duration = Duration::from_millis(1_500);
/// … and for so long at what a host may have left, which shows within this time.
const LEFT_WITHIN: Duration = Duration::from_millis(3_500);

/// The thread leaves the lock alone for so long at first, or for half an interval, ns: whoever
/// starts it is about to use it, and is short of time where it was forked for one call.
const UNTOUCHED_NS: u64 = 5_000_000;

/// Where no thread was to be had, one is asked for again after this, ns.
const THREAD_AGAIN_NS: u64 = 1_000_000_000;

/// Roots whose hubs are kept while no meter of theirs runs, beside `/`: each has a thread and some
/// ten descriptors.
const IDLE_ROOTS: usize = 8;

/// Why a meter that was started cannot be stopped: a bug.
pub const BROKEN: &str = "the meter failed inside; please report it";

/// The shared state of all meters of one root in one process.
pub struct Hub {
    pid: i32,
    root: PathBuf,
    facts: OnceLock<Arc<Facts>>,
    /// Boxed, as what runs is: moved as they are, they would take a fresh fork's stack pages.
    state: Mutex<Box<State>>,
    wake: Condvar,
    /// Whether the thread is to end, if no meter runs, and what rouses it from its first sleep.
    ends: (Mutex<bool>, Condvar),
    /// It was let go, and another stands for its root.
    retired: AtomicBool,
}

/// A window that has ended, and is not settled yet.
#[derive(Debug)]
pub struct Ended {
    active: Box<window::Active>,
    edge: Edge,
}

/// The hubs of a process, the one that was asked for last at the end.
type Hubs = Vec<(PathBuf, Arc<Hub>)>;

struct Registry {
    pid: i32,
    /// Of the process that forked this one, as it was then.
    parent: Option<&'static Registry>,
    hubs: Mutex<Hubs>,
}

static REGISTRY: AtomicPtr<Registry> = AtomicPtr::new(std::ptr::null_mut());

fn registry() -> &'static Registry {
    let pid = clock::getpid();
    loop {
        let current = REGISTRY.load(Ordering::Acquire);
        // SAFETY: the pointer is null or came from Box::leak below and is never freed.
        let parent: Option<&'static Registry> = unsafe { current.as_ref() };
        if let Some(registry) = parent
            && registry.pid == pid
        {
            return registry;
        }
        let fresh = Box::into_raw(Box::new(Registry {
            pid,
            parent,
            hubs: Mutex::new(Vec::new()),
        }));
        if REGISTRY
            .compare_exchange(current, fresh, Ordering::AcqRel, Ordering::Acquire)
            .is_err()
        {
            // SAFETY: `fresh` was made above and never shared, as the exchange failed.
            drop(unsafe { Box::from_raw(fresh) });
        }
    }
}

impl Registry {
    /// The state that a hub of the process before the fork leaves to this one. A lock that is held
    /// was held by a thread that does not exist here, and guards what it was in the middle of.
    fn inheritance(&self, root: &Path) -> Option<Box<State>> {
        let hubs = self.hubs.try_lock().ok()?;
        let hub = hub_of(&hubs, root)?;
        let mut state = hub.state.try_lock().ok()?;
        memory::in_forked_child();
        Some(State::forked(root, &mut state))
    }
}

fn hub_of(hubs: &Hubs, root: &Path) -> Option<Arc<Hub>> {
    let (_, hub) = hubs.iter().rfind(|(of, _)| of == root)?;
    Some(Arc::clone(hub))
}

/// Lets hubs go that no meter runs in, those first that were not asked for longest.
fn retire_idle(hubs: &mut Hubs) {
    let spared = |root: &Path| root == Path::new("/");
    let mut idle: Vec<usize> = Vec::new();
    for (i, (root, hub)) in hubs.iter().enumerate() {
        if !spared(root) && hub.is_idle() {
            idle.push(i);
        }
    }
    let surplus = idle.len().saturating_sub(IDLE_ROOTS);
    for i in idle.into_iter().take(surplus).rev() {
        let (_, hub) = hubs.remove(i);
        hub.retire();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while sampling must not take the user's function down with it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

/// Whether a root is there.
///
/// # Errors
/// The system's, also for something that is no directory.
pub fn require_directory(root: &Path) -> io::Result<()> {
    if std::fs::metadata(root)?.is_dir() {
        return Ok(());
    }
    Err(io::ErrorKind::NotADirectory.into())
}

impl Hub {
    /// The hub of this process for `root`, which is looked for once: when its hub is made.
    ///
    /// # Errors
    /// The system's where there is no such directory.
    pub fn get(root: &Path) -> io::Result<Arc<Self>> {
        let registry = registry();
        let mut hubs = lock(&registry.hubs);
        if let Some(i) = hubs.iter().position(|(of, _)| of == root) {
            let found = hubs.remove(i);
            let hub = Arc::clone(&found.1);
            hubs.push(found);
            return Ok(hub);
        }
        let inherited = registry.parent.and_then(|parent| parent.inheritance(root));
        let state = match inherited {
            Some(state) => state,
            None => {
                require_directory(root)?;
                Box::new(State::new(root))
            }
        };
        let hub = Arc::new(Self::with(root, registry.pid, state));
        retire_idle(&mut hubs);
        hubs.push((root.to_owned(), Arc::clone(&hub)));
        Ok(hub)
    }

    /// A hub of its own, for a diagnosis that must not go by what was true before.
    pub fn apart(root: &Path) -> Self {
        Self::with(root, clock::getpid(), Box::new(State::new(root)))
    }

    fn with(root: &Path, pid: i32, state: Box<State>) -> Self {
        Self {
            pid,
            root: root.to_owned(),
            facts: OnceLock::new(),
            state: Mutex::new(state),
            wake: Condvar::new(),
            ends: (Mutex::new(false), Condvar::new()),
            retired: AtomicBool::new(false),
        }
    }

    /// Whether this hub belongs to another process: the meter was started before a fork.
    pub fn is_foreign(&self) -> bool {
        self.pid != clock::getpid()
    }

    /// Whether it was let go: [`Hub::get`] gives another.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Whether no meter runs in it. A hub that is being used at this moment is not idle.
    fn is_idle(&self) -> bool {
        match self.state.try_lock() {
            Ok(state) => state.active.is_empty(),
            Err(TryLockError::Poisoned(state)) => state.into_inner().active.is_empty(),
            Err(TryLockError::WouldBlock) => false,
        }
    }

    /// Ends its thread and closes what it has open. A meter that still knows it gets another.
    pub fn retire(&self) {
        let mut state = lock(&self.state);
        self.retired.store(true, Ordering::Relaxed);
        state.close_all();
        self.rouse(&state);
    }

    /// Has its thread end, if no meter runs: a process that is about to end has one thread less to wait
    /// for.
    pub fn end_thread(&self) {
        let state = lock(&self.state);
        if state.active.is_empty() {
            self.rouse(&state);
        }
    }

    /// Has the thread, if there is one, look whether it is to end: one that comes later must not find that.
    fn rouse(&self, state: &State) {
        let (ends, roused) = &self.ends;
        if state.thread.runs {
            *lock(ends) = true;
            roused.notify_one();
            self.wake.notify_one();
        }
    }

    /// The machine, found out once. Where no descriptor is free, it is what can be
    /// known without files, and it is found out again the next time.
    pub fn facts(&self) -> Arc<Facts> {
        if let Some(facts) = self.facts.get() {
            return Arc::clone(facts);
        }
        if kept::no_descriptor_free() {
            return Facts::provisional(&self.root);
        }
        Arc::clone(self.facts.get_or_init(|| Facts::of(&self.root)))
    }

    /// Whether the machine's facts were found out.
    pub fn knows_facts(&self) -> bool {
        self.facts.get().is_some()
    }

    /// Starts a meter and returns its id.
    ///
    /// # Errors
    /// Why no meter can be started now.
    pub fn start(
        self: &Arc<Self>,
        methods: Methods,
        interval_ns: Option<u64>,
        subject: Subject,
        estimation: Estimation,
    ) -> Result<u64, &'static str> {
        if memory::is_short() {
            return Err(memory::SHORT);
        }
        let mut state = lock(&self.state);
        if state.active.try_reserve(1).is_err() {
            return Err(memory::SHORT);
        }
        self.ready(&mut state, methods, interval_ns);
        Ok(state.begin(methods, interval_ns, subject, estimation))
    }

    /// Forgets a meter that was started only to have all that a start needs at hand.
    pub fn forget(&self, id: u64) {
        let _ = lock(&self.state).take(id);
    }

    fn ready(self: &Arc<Self>, state: &mut State, methods: Methods, interval_ns: Option<u64>) {
        // It may have been let go since its meter looked.
        self.retired.store(false, Ordering::Relaxed);
        if !self.knows_facts() && Facts::known(&self.root).is_none() {
            // Those that it has were found out when no file could be opened.
            state.facts = None;
        }
        state.open(methods);
        if interval_ns.is_some() {
            if !state.thread.runs {
                self.want_thread(state, interval_ns);
            } else if state.thread.parked || interval_ns < state.thread.pace {
                self.wake.notify_one();
            }
        }
    }

    /// Ends a meter's window: its counters and clocks are read, and no more than that is done.
    ///
    /// # Errors
    /// Why nothing is known of its window; it has ended all the same.
    pub fn end(&self, id: u64) -> Result<Ended, &'static str> {
        let mut state = lock(&self.state);
        let mut active = state.take(id).ok_or(BROKEN)?;
        if memory::is_short() {
            return Err(memory::SHORT);
        }
        let edge = state.edge(&mut active.record, &mut active.follow);
        Ok(Ended { active, edge })
    }

    /// What a window came to that has ended.
    ///
    /// # Errors
    /// Why nothing is known of it.
    pub fn close(&self, ended: Ended) -> Result<Outcome, &'static str> {
        if memory::is_short() {
            return Err(memory::SHORT);
        }
        let mut state = lock(&self.state);
        if !self.inform(&mut state) {
            return Err(memory::SHORT);
        }
        let Ended { mut active, edge } = ended;
        Ok(state.close(&mut active.follow, active.record, edge, false))
    }

    /// What a meter has so far, while it runs.
    ///
    /// # Errors
    /// Why that cannot be known now.
    pub fn peek(&self, id: u64) -> Result<Outcome, &'static str> {
        let mut state = lock(&self.state);
        let mut active = state.take(id).ok_or(BROKEN)?;
        let copied = active.record.timeline.as_ref();
        let outcome = if memory::is_short_of(copied.map_or(0, Timeline::bytes)) {
            Err(memory::SHORT)
        } else {
            let edge = state.edge(&mut active.record, &mut active.follow);
            if self.inform(&mut state) {
                Ok(state.close(&mut active.follow, active.record.clone(), edge, true))
            } else {
                Err(memory::SHORT)
            }
        };
        state.active.push(active);
        outcome
    }

    /// Marks the start of a phase.
    pub fn enter_phase(&self, id: u64, name: &str) -> bool {
        self.at_edge(id, Mark::Enters(name.to_owned()))
    }

    /// Marks the end of the phase `name` that was entered last.
    pub fn leave_phase(&self, id: u64, name: &str) -> bool {
        self.at_edge(id, Mark::Leaves(name.to_owned()))
    }

    /// The facts are found out when an interval is first settled, not when a window starts: they
    /// take a millisecond of reading files. False where memory does not suffice for them.
    fn inform(&self, state: &mut State) -> bool {
        if state.facts.is_none() {
            if !self.knows_facts() && memory::is_short_of(FACTS_BYTES) {
                return false;
            }
            state.facts = Some(self.facts());
        }
        state.note_facts();
        state.renew_facts(false, true);
        state.note_facts();
        state.bound_counters();
        true
    }

    fn at_edge(&self, id: u64, mark: Mark) -> bool {
        let mut state = lock(&self.state);
        if memory::is_short() {
            return false;
        }
        let Some(mut active) = state.take(id) else {
            return false;
        };
        let edge = state.edge(&mut active.record, &mut active.follow);
        let known = self.inform(&mut state);
        if known {
            state.end_at(&mut active.record, edge, mark);
        }
        state.active.push(active);
        known
    }

    /// Starts the thread, if the process may have one and if it was not refused just before.
    fn want_thread(self: &Arc<Self>, state: &mut State, interval_ns: Option<u64>) {
        let now = clock::monotonic_ns();
        let refused = state.thread.refused_ns;
        if refused.is_some_and(|then| now.saturating_sub(then) < THREAD_AGAIN_NS) {
            return;
        }
        let first_ns = interval_ns.map_or(0, |interval| (interval / 2).min(UNTOUCHED_NS));
        let hub = Arc::clone(self);
        let started = match memory::allows_thread() {
            true => thread::spawn(Box::new(move || hub.run(Duration::from_nanos(first_ns)))),
            false => None,
        };
        state.thread.tid = started.filter(|id| *id > 0);
        state.thread.runs = started.is_some();
        state.thread.refused_ns = (!state.thread.runs).then_some(now);
    }

    /// The thread: leaves the lock alone for `first`, then samples.
    fn run(&self, first: Duration) {
        let (ends, roused) = &self.ends;
        drop(roused.wait_timeout_while(lock(ends), first, |ends| !*ends));
        let mut state = lock(&self.state);
        let mut next = clock::monotonic_ns();
        let mut lingered = Duration::ZERO;
        loop {
            let now = clock::monotonic_ns();
            let ends = std::mem::take(&mut *lock(ends)) && state.active.is_empty();
            if ends || self.is_retired() {
                (state.thread.runs, state.thread.tid) = (false, None);
                return;
            }
            state.thread.pace = state.shortest_interval();
            let Some(interval) = state.thread.pace else {
                state.traffic.rest();
                state.busy.rest();
                if lingered >= LINGER {
                    state.thread.parked = true;
                    state.idle_since = None;
                    state = self
                        .wake
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                    state.thread.parked = false;
                    state.traffic.look_anew();
                    lingered = Duration::ZERO;
                } else {
                    lingered += LINGER_STEP;
                    state.thread.pace = u64::try_from(LINGER_STEP.as_nanos()).ok();
                    state = self.pause(state, LINGER_STEP);
                }
                next = clock::monotonic_ns();
                continue;
            };
            lingered = Duration::ZERO;
            if next > now + interval {
                // A meter with a shorter interval has come.
                next = now + interval;
            }
            if now < next {
                state = self.pause(state, Duration::from_nanos(next - now));
                continue;
            }
            if memory::is_short()
                || (state.facts.is_none()
                    && !self.knows_facts()
                    && memory::is_short_of(FACTS_BYTES))
            {
                // The counters go on by themselves: the next sample has what this one would have.
                next = now + interval;
                continue;
            }
            if state.facts.is_none() {
                drop(state);
                let facts = self.facts();
                state = lock(&self.state);
                state.facts = Some(facts);
                continue;
            }
            state.bound_counters();
            state.note_facts();
            state.tick();
            let looks = match interval >= LOOKS_FROM_NS && state.begins_looks() {
                true => LOOKS,
                false => 0,
            };
            for _ in 0..looks {
                if !state.wants_looks() {
                    break;
                }
                // Others get the lock meanwhile.
                state = self.pause(state, LOOK_PAUSE);
                if self.is_retired() || memory::is_short() {
                    break;
                }
                state.look_again();
            }
            // After a stall the rhythm goes on from here. There is always a pause, for in it others
            // get the lock.
            let now = clock::monotonic_ns();
            next = (next + interval).max(now + interval / 4);
            if let Some(tids) = state.wants_tree() {
                // Without the lock: this may take the kernel tens of milliseconds.
                drop(state);
                let opened = TreeCounters::open(&tids);
                state = lock(&self.state);
                if self.is_retired() {
                    continue;
                }
                state.adopt_tree(opened);
            }
            if let Some(task) = state.begin_traffic(clock::monotonic_ns()) {
                // Without the lock, too: each cache is asked on one of its CPUs.
                drop(state);
                let done = task.done(&self.root);
                state = lock(&self.state);
                state.end_traffic(done);
            }
            if let Some(task) = state.begin_busy(clock::monotonic_ns()) {
                // The same: a CPU's clock may be asked of that CPU.
                drop(state);
                let done = task.done(&self.root);
                state = lock(&self.state);
                state.end_busy(done);
            }
        }
    }

    fn pause<'s>(
        &self,
        state: MutexGuard<'s, Box<State>>,
        time: Duration,
    ) -> MutexGuard<'s, Box<State>> {
        self.wake
            .wait_timeout(state, time)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    /// Opens what `methods` need and returns which of them there are.
    pub fn probe(&self, methods: Methods) -> Vec<(Method, Result<Vec<Zone>, Unavailable>)> {
        let mut state = lock(&self.state);
        state.open(methods);
        if methods.has(Method::Perf) {
            state.open_tree();
        }
        let catalog = &state.catalog;
        let of = |method: Method| match catalog.missing.iter().find(|(m, _)| *m == method) {
            Some((_, why)) => Err(why.clone()),
            None => {
                let zones = catalog.zones.iter().filter(|z| z.method == method);
                Ok(zones.cloned().collect())
            }
        };
        Method::ALL
            .iter()
            .copied()
            .filter(|m| methods.has(*m))
            .map(|m| (m, of(m)))
            .collect()
    }

    /// The counters of energy that show nothing, and why: they cannot be read, or, as shows only where this
    /// `waits`, they stand still, though what they are of draws power. It waits some milliseconds where there
    /// are none, else a second or more.
    pub fn silent(&self, methods: Methods, waits: bool) -> Vec<(Zone, String)> {
        let begun = Instant::now();
        loop {
            let mut state = lock(&self.state);
            state.read_counters_once(methods);
            // What stands in for a counter that stands still is opened once that is known.
            state.open(methods);
            let silent = state.silent(methods);
            drop(state);
            let left = silent
                .iter()
                .any(|(_, why)| *why == Some(ReadFault::Waiting));
            let counts = silent.iter().any(|(zone, _)| zone.domain != Domain::Psys);
            let patience = match (left, counts) {
                _ if !waits => Duration::ZERO,
                (true, _) => LEFT_WITHIN,
                (false, true) => MOVES_WITHIN,
                // In many virtual machines the platform's counter is there and stays at 0.
                (false, false) => MOVES_WITHIN / 10,
            };
            if silent.is_empty() || begun.elapsed() >= patience {
                let told = |why: Option<ReadFault>| match why {
                    Some(fault) => fault.to_string(),
                    None => "the counter stands still".into(),
                };
                return silent
                    .into_iter()
                    // It is there, and slower than this.
                    .filter(|(_, why)| *why != Some(ReadFault::Waiting) && (waits || why.is_some()))
                    .map(|(zone, why)| (zone, told(why)))
                    .collect();
            }
            std::thread::sleep(LOOK_PAUSE);
        }
    }

    /// The sources as they are now.
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&lock(&self.state).catalog)
    }

    /// What the open kernel probes see, in words.
    pub fn probes_give(&self) -> Vec<String> {
        lock(&self.state).probing.gives()
    }

    /// The GPUs that NVML shows, and whose use of each is known. It may take some seconds.
    ///
    /// # Errors
    /// Why there are none.
    pub fn gpus(&self) -> Result<Vec<(String, String)>, Unavailable> {
        gpus::names(&self.root)
    }

    /// Which counters of the process tree are open.
    pub fn tree_counters(&self) -> Vec<&'static str> {
        let mut state = lock(&self.state);
        let Some(Ok(counters)) = &mut state.tree_counters else {
            return Vec::new();
        };
        let now = counters.read();
        [
            (now.task_clock_ns, "task-clock"),
            (now.cycles, "cycles"),
            (now.instructions, "instructions"),
        ]
        .iter()
        .filter_map(|(value, name)| value.map(|_| *name))
        .collect()
    }
}

//! One hub per process and root: the open sources, the meters that run, and the background thread
//! that samples for them.
//!
//! The thread never touches Python, blocks all signals, and exists only from the first meter that
//! wants samples. A forked child has no thread and perhaps a locked mutex, so it gets a new hub.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::clock;
use crate::machine::estimation::Estimation;
use crate::machine::facts::Facts;
use crate::source::perf::TreeCounters;
use crate::source::{Method, Methods, Unavailable, Zone};

mod probed;
mod ring;
mod settle;
mod state;
mod window;

pub use probed::{SeenWindow, load_probes};
pub use ring::Via;
use state::{Legacy, State};
use window::Record;
pub use window::{Catalog, Edge, Outcome, Phase, Subject};

/// Without meters the thread goes on waiting this long before it parks, so that a loop of short
/// meters does not wake it every time.
const LINGER: Duration = Duration::from_secs(2);
/// … in naps of this length, so that a meter that comes meanwhile need not wake it.
const LINGER_STEP: Duration = Duration::from_millis(100);

/// The shared state of all meters of one root in one process.
pub struct Hub {
    pid: i32,
    root: PathBuf,
    facts: OnceLock<Arc<Facts>>,
    state: Mutex<State>,
    wake: Condvar,
}

struct Registry {
    pid: i32,
    /// Of the process that forked this one, as it was then.
    parent: Option<&'static Registry>,
    hubs: Mutex<HashMap<PathBuf, Arc<Hub>>>,
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
            hubs: Mutex::new(HashMap::new()),
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
    /// What a hub of the process before the fork left open. A lock that is held was held by a
    /// thread that does not exist here, and guards what it was in the middle of.
    fn legacy(&self, root: &Path) -> Option<Legacy> {
        let hub = Arc::clone(self.hubs.try_lock().ok()?.get(root)?);
        let mut state = hub.state.try_lock().ok()?;
        Some(state.bequeath())
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

impl Hub {
    /// The hub of this process for `root`.
    pub fn get(root: &Path) -> Arc<Self> {
        let registry = registry();
        let mut hubs = lock(&registry.hubs);
        if let Some(hub) = hubs.get(root) {
            return Arc::clone(hub);
        }
        let hub = Arc::new(Self::new(root, registry.pid));
        if let Some(legacy) = registry.parent.and_then(|parent| parent.legacy(root)) {
            lock(&hub.state).legacy = legacy;
        }
        hubs.insert(root.to_owned(), Arc::clone(&hub));
        hub
    }

    /// A hub of its own, for a diagnosis that must not go by what was true before.
    pub fn apart(root: &Path) -> Self {
        Self::new(root, clock::getpid())
    }

    fn new(root: &Path, pid: i32) -> Self {
        Self {
            pid,
            root: root.to_owned(),
            facts: OnceLock::new(),
            state: Mutex::new(State::new(root)),
            wake: Condvar::new(),
        }
    }

    /// Whether this hub belongs to another process: the meter was started before a fork.
    pub fn is_foreign(&self) -> bool {
        self.pid != clock::getpid()
    }

    /// The machine, found out once.
    pub fn facts(&self) -> Arc<Facts> {
        Arc::clone(self.facts.get_or_init(|| Facts::of(&self.root)))
    }

    /// Starts a meter and returns its id.
    pub fn start(
        self: &Arc<Self>,
        methods: Methods,
        interval_ns: Option<u64>,
        subject: Subject,
        estimation: Estimation,
    ) -> u64 {
        let mut state = lock(&self.state);
        state.open(methods);
        if interval_ns.is_some() {
            if !state.thread && !state.thread_refused {
                // Once is enough: a process that may not have threads will not have one later.
                state.thread = self.spawn();
                state.thread_refused = !state.thread;
            } else if state.parked || interval_ns < state.pace {
                self.wake.notify_one();
            }
        }
        state.begin(methods, interval_ns, subject, estimation)
    }

    /// Ends a meter. `None` if there is none of that id.
    pub fn stop(&self, id: u64) -> Option<Outcome> {
        let mut state = lock(&self.state);
        let mut active = state.take(id)?;
        let edge = state.edge(&active.record, &mut active.follow);
        self.inform(&mut state);
        Some(state.close(&mut active.follow, active.record, edge, false))
    }

    /// What a meter has so far, while it runs.
    pub fn peek(&self, id: u64) -> Option<Outcome> {
        let mut state = lock(&self.state);
        let mut active = state.take(id)?;
        let edge = state.edge(&active.record, &mut active.follow);
        self.inform(&mut state);
        let outcome = state.close(&mut active.follow, active.record.clone(), edge, true);
        state.active.push(active);
        Some(outcome)
    }

    /// Marks the start of a phase.
    pub fn enter_phase(&self, id: u64, name: &str) -> bool {
        self.at_edge(id, |record| {
            let so_far = record.sums();
            record.open_phases.push((name.to_owned(), so_far));
        })
    }

    /// Marks the end of the phase `name` that was entered last.
    pub fn leave_phase(&self, id: u64, name: &str) -> bool {
        self.at_edge(id, |record| {
            if let Some(at) = record.open_phases.iter().rposition(|(n, _)| n == name) {
                let (name, before) = record.open_phases.remove(at);
                record.end_phase(name, &before);
            }
        })
    }

    /// The facts are found out when an interval is first settled, not when a window starts: they
    /// take a millisecond of reading files.
    fn inform(&self, state: &mut State) {
        if state.facts.is_none() {
            state.facts = Some(self.facts());
        }
    }

    fn at_edge(&self, id: u64, then: impl FnOnce(&mut Record)) -> bool {
        let mut state = lock(&self.state);
        let Some(mut active) = state.take(id) else {
            return false;
        };
        let edge = state.edge(&active.record, &mut active.follow);
        self.inform(&mut state);
        state.settle_all(&mut active.record, edge);
        then(&mut active.record);
        state.active.push(active);
        true
    }

    fn spawn(self: &Arc<Self>) -> bool {
        let hub = Arc::clone(self);
        // Signals are the user's: with all of them blocked here they reach the threads they reach
        // without us. The mask is inherited, so it is set round the spawn.
        // SAFETY: both sets live on this stack; sigfillset and pthread_sigmask only write to them.
        let old = unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut old: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut old);
            old
        };
        let spawned = std::thread::Builder::new()
            .name("lithowatt".into())
            .stack_size(128 * 1024)
            .spawn(move || hub.run());
        // SAFETY: `old` was filled by the call above.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &old, std::ptr::null_mut()) };
        spawned.is_ok()
    }

    fn run(&self) {
        let mut state = lock(&self.state);
        let mut next = clock::monotonic_ns();
        let mut lingered = Duration::ZERO;
        loop {
            let now = clock::monotonic_ns();
            state.pace = state.shortest_interval();
            let Some(interval) = state.pace else {
                if lingered >= LINGER {
                    state.parked = true;
                    state.idle_since = None;
                    state = self
                        .wake
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                    state.parked = false;
                    lingered = Duration::ZERO;
                } else {
                    lingered += LINGER_STEP;
                    state.pace = u64::try_from(LINGER_STEP.as_nanos()).ok();
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
            if state.facts.is_none() {
                drop(state);
                let facts = self.facts();
                state = lock(&self.state);
                state.facts = Some(facts);
                continue;
            }
            state.tick();
            // After a stall the rhythm goes on from here. There is always a pause, for in it others
            // get the lock.
            let now = clock::monotonic_ns();
            next = (next + interval).max(now + interval / 4);
            if let Some(tids) = state.wants_tree() {
                // Without the lock: this may take the kernel tens of milliseconds.
                drop(state);
                let opened = TreeCounters::open(&tids);
                state = lock(&self.state);
                state.tree_counters = Some(opened);
                state.publish();
            }
        }
    }

    fn pause<'s>(&self, state: MutexGuard<'s, State>, time: Duration) -> MutexGuard<'s, State> {
        self.wake
            .wait_timeout(state, time)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    /// Opens what `methods` need and tells which of them there are.
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
            .into_iter()
            .filter(|m| methods.has(*m))
            .map(|m| (m, of(m)))
            .collect()
    }

    /// The sources as they are now.
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&lock(&self.state).catalog)
    }

    /// What the open kernel probes see, in words.
    pub fn probes_give(&self) -> Vec<String> {
        lock(&self.state).probing.gives()
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

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

use crate::attribution::{Interval, Ledger};
use crate::calibration::Calibration;
use crate::clock;
use crate::machine::cpu::CpuIdentity;
use crate::machine::environment::Environment;
use crate::source::model::PowerModel;
use crate::source::perf::{PowerPmu, TreeCount, TreeCounters};
use crate::source::procfs::{CgroupCpu, MachineCpu, System, SystemEdge, SystemState, Tree};
use crate::source::rapl::Rapl;
use crate::source::{Method, Methods, ReadFault, Unavailable, Zone};
use crate::task::TaskClock;
use crate::timeline::{Counter, Step, Timeline};

/// Attribution works on intervals of at least this length, ns: the machine's idle time is printed
/// in steps of 10 ms.
const ATTRIBUTION_NS: u64 = 100_000_000;
/// A rest shorter than this joins the interval before it.
const SHORT_REST_NS: u64 = 50_000_000;
/// Samples that a meter keeps for its timeline.
const TIMELINE_SAMPLES: usize = 2048;
/// Without meters the thread goes on waiting this long before it parks, so that a loop of short
/// meters does not wake it every time.
const LINGER: Duration = Duration::from_secs(2);
/// A window this long is worth counters of the process tree for the windows after it, ns.
const TREE_AFTER_NS: u64 = 1_000_000_000;
/// Reading all counters takes microseconds; if it took this long, something came between, ns.
const INTERRUPTED_NS: u64 = 500_000;
/// Idle power is learned from windows with at least this much capacity, ns of CPU: 1 % resolution.
const IDLE_CAPACITY_NS: u64 = 1_000_000_000;
/// … in which the machine was less busy than this.
const IDLE_BUSY: f64 = 0.05;

/// Columns of a timeline before the energy slots: CPU seconds of the function, and of others.
pub const TIMELINE_CPU_COLUMNS: usize = 1;

/// Whose CPU time is weighed.
#[derive(Debug)]
pub enum Subject {
    /// This process or another, with its descendants or alone.
    Process {
        /// `None`: this process.
        pid: Option<i32>,
        /// Descendants too.
        children: bool,
    },
    /// One thread of this process.
    Thread(i32),
    /// One coroutine or generator.
    Task(Arc<TaskClock>),
    /// Everything in a cgroup.
    Cgroup(CgroupCpu),
}

impl Subject {
    /// The word for it in readings.
    fn name(&self) -> &'static str {
        match self {
            Self::Process { .. } => "process",
            Self::Thread(_) => "thread",
            Self::Task(_) => "task",
            Self::Cgroup(_) => "cgroup",
        }
    }
}

/// A source that was tried.
type Opened<T> = Option<Result<T, Unavailable>>;

/// A pending or settled reading of everything that a meter follows.
#[derive(Debug, Clone)]
pub struct Edge {
    /// `CLOCK_MONOTONIC`, ns.
    pub t_ns: u64,
    /// The counters were read at most this long before or after `t_ns`, ns.
    pub slack_ns: u64,
    /// Counter totals, one per zone, in its units.
    pub totals: Vec<u64>,
    /// Resets of each counter so far.
    pub resets: Vec<u32>,
    idle_ns: Option<u64>,
    own_ns: Option<u64>,
    inside_ns: Option<u64>,
}

/// A phase of a meter.
#[derive(Debug, Clone)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// What was summed in it.
    pub ledger: Ledger,
    /// Times it was entered.
    pub entries: u32,
}

/// A meter that runs.
#[derive(Debug)]
struct Active {
    id: u64,
    follow: Follow,
    record: Record,
}

/// How the function's CPU time is found.
#[derive(Debug)]
struct Follow {
    subject: Subject,
    tree: Option<Tree>,
    last_own_ns: u64,
}

/// When the counters were read, and how far off that may be.
#[derive(Debug, Clone, Copy)]
struct Moment {
    t_ns: u64,
    slack_ns: u64,
}

/// What a meter has written down so far.
#[derive(Debug, Clone)]
struct Record {
    methods: Methods,
    interval_ns: Option<u64>,
    start: Edge,
    group: Edge,
    candidate: Option<Edge>,
    ledger: Ledger,
    phases: Vec<Phase>,
    open_phases: Vec<(String, Ledger)>,
    timeline: Option<Timeline>,
    samples: u64,
    system: Option<SystemEdge>,
    tree_count: Option<TreeCount>,
    rss_peak: Option<u64>,
    high_water: Option<u64>,
    model_joules: [f64; 3],
    realtime_offset: i128,
    ambiguous: u32,
    wraps: u32,
}

impl Record {
    fn end_phase(&mut self, name: String, before: &Ledger) {
        let within = self.ledger.since(before);
        match self.phases.iter_mut().find(|p| p.name == name) {
            Some(phase) => {
                phase.ledger.merge(&within);
                phase.entries += 1;
            }
            None => self.phases.push(Phase {
                name,
                ledger: within,
                entries: 1,
            }),
        }
    }
}

/// What the sources turned out to be. Made when one is opened, shared by the outcomes after it.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Counters, in the order of a ledger's slots.
    pub zones: Vec<Zone>,
    /// Why a method is not there.
    missing: Vec<(Method, Unavailable)>,
    /// Why hardware counters of the tree are not there.
    pub hardware_missing: Option<Unavailable>,
    /// What sources left out.
    pub notes: Vec<String>,
}

/// Everything known about a window when it ends, before it is made into a reading.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Start and end on `CLOCK_MONOTONIC`, ns.
    pub window_ns: (u64, u64),
    /// How far off the two ends may be together, ns.
    pub slack_ns: u64,
    /// The meter still runs.
    pub running: bool,
    /// Asked for.
    pub methods: Methods,
    /// Sampler interval, if it sampled.
    pub interval_ns: Option<u64>,
    /// Samples taken by the background thread within the window.
    pub samples: u64,
    /// "process", "thread", "task" or "cgroup".
    pub scope: &'static str,
    /// Counters that were known when the window began: the first so many of the catalog's.
    pub width: usize,
    /// The sources.
    pub catalog: Arc<Catalog>,
    /// What each zone's last reading ran into, if it failed at an edge.
    pub faults: Vec<Option<ReadFault>>,
    /// Resets of each counter within the window.
    pub resets: Vec<u32>,
    /// Wraps of all counters within the window.
    pub wraps: u32,
    /// Readings so far apart that wraps may be missing.
    pub ambiguous: u32,
    /// Sums over the window: one slot per zone, then model package, then model memory.
    pub ledger: Ledger,
    /// Phases, in the order of their first entry.
    pub phases: Vec<Phase>,
    /// The function's CPU time could be followed.
    pub own_known: bool,
    /// Samples: CPU columns, then the slots.
    pub timeline: Option<Timeline>,
    /// Idle watts of each zone as this process saw them, where it saw the machine at rest.
    pub learned: Vec<Option<f64>>,
    /// Model energy with its band: best, low, high, J, of the machine over the window.
    pub model_joules: [f64; 3],
    /// perf counts of the tree in the window.
    pub tree_count: Option<TreeCount>,
    /// Edges of the system metrics and the state at the end.
    pub system: Option<(SystemEdge, SystemEdge, SystemState)>,
    /// Resident memory of the tree at the end and its peak within the window, bytes.
    pub rss: (Option<u64>, Option<u64>),
    /// How far wall clock and monotonic clock drifted apart within the window, ns.
    pub drift_ns: i128,
}

impl Outcome {
    /// The counters, in the order of the ledger's slots.
    pub fn zones(&self) -> &[Zone] {
        &self.catalog.zones[..self.width]
    }

    /// Why `method` gave nothing; `None` where it is there.
    pub fn missing(&self, method: Method) -> Option<&str> {
        if !self.methods.has(method) {
            return Some("not asked for");
        }
        let known = self.catalog.missing.iter().find(|(m, _)| *m == method);
        known.map(|(_, why)| why.reason.as_str())
    }

    /// Why the process tree was not counted in hardware.
    pub fn hardware_missing(&self) -> Option<&str> {
        if !self.methods.has(Method::Perf) {
            return Some("not asked for");
        }
        if let Some(why) = &self.catalog.hardware_missing {
            return Some(&why.reason);
        }
        self.tree_count.is_none().then_some(OPENED_LATE)
    }
}

/// Why the first window of a process has no counts of its tree.
const OPENED_LATE: &str = "counters of the process tree are opened in the background, for later \
                           windows, unless \"perf\" is named in methods";

/// Idle power of one slot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IdlePower {
    /// Best value, W.
    pub watts: f64,
    /// 95 % band, W.
    pub low: f64,
    /// 95 % band, W.
    pub high: f64,
    /// Where it comes from.
    pub source: IdleSource,
}

/// Where an idle power comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleSource {
    /// Seen by this process while the machine was less than 5 % busy.
    Learned,
    /// Measured before by `lithowatt calibrate`.
    Calibrated,
    /// Set by the user.
    Configured,
    /// The power model's.
    Modelled,
}

impl IdleSource {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Learned => "learned",
            Self::Calibrated => "calibrated",
            Self::Configured => "configured",
            Self::Modelled => "modelled",
        }
    }
}

/// What does not change while the process lives.
#[derive(Debug)]
pub struct Facts {
    /// The processor.
    pub cpu: CpuIdentity,
    /// Container, cloud, limits.
    pub environment: Environment,
    /// The power model for them.
    pub model: PowerModel,
    /// Logical CPUs of the machine.
    pub cpus: u32,
    /// Stored calibration of this machine, if any.
    pub calibration: Option<Calibration>,
}

struct State {
    root: PathBuf,
    facts: Option<Arc<Facts>>,
    rapl: Opened<Rapl>,
    perf: Opened<PowerPmu>,
    tree_counters: Opened<TreeCounters>,
    machine: MachineCpu,
    system: Option<System>,
    tree: Tree,
    zones: Vec<Zone>,
    catalog: Arc<Catalog>,
    counters: Vec<Counter>,
    faults: Vec<Option<ReadFault>>,
    raw: Vec<Result<u64, ReadFault>>,
    active: Vec<Active>,
    next_id: u64,
    outside_rate: Option<f64>,
    idle_since: Option<(u64, u64, Vec<u64>)>,
    learned: Vec<Option<f64>>,
    tree_count: Option<TreeCount>,
    last_count: Option<(u64, u64)>,
    extra_cpu_ns: u64,
    thread: bool,
    parked: bool,
}

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
    hubs: Mutex<HashMap<PathBuf, Arc<Hub>>>,
}

static REGISTRY: AtomicPtr<Registry> = AtomicPtr::new(std::ptr::null_mut());

fn registry() -> &'static Registry {
    let pid = clock::getpid();
    loop {
        let current = REGISTRY.load(Ordering::Acquire);
        // SAFETY: the pointer is null or came from Box::leak below and is never freed.
        if let Some(registry) = unsafe { current.as_ref() }
            && registry.pid == pid
        {
            return registry;
        }
        let fresh = Box::into_raw(Box::new(Registry {
            pid,
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
        hubs.insert(root.to_owned(), Arc::clone(&hub));
        hub
    }

    fn new(root: &Path, pid: i32) -> Self {
        let state = State {
            root: root.to_owned(),
            facts: None,
            rapl: None,
            perf: None,
            tree_counters: None,
            machine: MachineCpu::open(root),
            system: None,
            tree: Tree::new(None),
            zones: Vec::new(),
            catalog: Arc::default(),
            counters: Vec::new(),
            faults: Vec::new(),
            raw: Vec::new(),
            active: Vec::new(),
            next_id: 0,
            outside_rate: None,
            idle_since: None,
            learned: Vec::new(),
            tree_count: None,
            last_count: None,
            extra_cpu_ns: 0,
            thread: false,
            parked: false,
        };
        Self {
            pid,
            root: root.to_owned(),
            facts: OnceLock::new(),
            state: Mutex::new(state),
            wake: Condvar::new(),
        }
    }

    /// Whether this hub belongs to another process: the meter was started before a fork.
    pub fn is_foreign(&self) -> bool {
        self.pid != clock::getpid()
    }

    /// The machine, found out once.
    pub fn facts(&self) -> Arc<Facts> {
        Arc::clone(self.facts.get_or_init(|| Arc::new(find_facts(&self.root))))
    }

    /// Starts a meter and returns its id.
    pub fn start(
        self: &Arc<Self>,
        methods: Methods,
        interval_ns: Option<u64>,
        subject: Subject,
    ) -> u64 {
        // Found out before the lock is taken: it reads files.
        let facts = methods.has(Method::Tdp).then(|| self.facts());
        let mut state = lock(&self.state);
        if state.facts.is_none() {
            state.facts = facts;
        }
        state.open(methods);
        if interval_ns.is_some() {
            if !state.thread {
                state.thread = self.spawn();
            } else if state.parked {
                self.wake.notify_one();
            }
        }
        state.begin(methods, interval_ns, subject)
    }

    /// Ends a meter. `None` if there is none of that id.
    pub fn stop(&self, id: u64) -> Option<Outcome> {
        let mut state = lock(&self.state);
        let mut active = state.take(id)?;
        let edge = state.edge(&active.record, &mut active.follow);
        Some(state.close(&mut active.follow, active.record, edge, false))
    }

    /// What a meter has so far, while it runs.
    pub fn peek(&self, id: u64) -> Option<Outcome> {
        let mut state = lock(&self.state);
        let mut active = state.take(id)?;
        let edge = state.edge(&active.record, &mut active.follow);
        let outcome = state.close(&mut active.follow, active.record.clone(), edge, true);
        state.active.push(active);
        Some(outcome)
    }

    /// Marks the start of a phase.
    pub fn enter_phase(&self, id: u64, name: &str) -> bool {
        self.at_edge(id, |record| {
            let so_far = record.ledger.clone();
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

    fn at_edge(&self, id: u64, then: impl FnOnce(&mut Record)) -> bool {
        let mut state = lock(&self.state);
        let Some(mut active) = state.take(id) else {
            return false;
        };
        let edge = state.edge(&active.record, &mut active.follow);
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
        let mut lingering = Duration::ZERO;
        loop {
            let wanted = state
                .active
                .iter()
                .filter_map(|a| a.record.interval_ns)
                .min();
            let Some(interval) = wanted else {
                let pause = Duration::from_millis(100);
                if lingering >= LINGER {
                    state.parked = true;
                    state.idle_since = None;
                    state = self
                        .wake
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                    state.parked = false;
                    lingering = Duration::ZERO;
                } else {
                    lingering += pause;
                    state = self
                        .wake
                        .wait_timeout(state, pause)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0;
                }
                next = clock::monotonic_ns();
                continue;
            };
            lingering = Duration::ZERO;
            let now = clock::monotonic_ns();
            next = (next + interval).max(now);
            if next > now + interval {
                next = now + interval;
            }
            while clock::monotonic_ns() < next {
                let left = Duration::from_nanos(next - clock::monotonic_ns().min(next));
                state = self
                    .wake
                    .wait_timeout(state, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
            state.tick();
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

/// Wall clock minus monotonic clock, ns.
fn clock_offset() -> i128 {
    i128::from(clock::realtime_ns()) - i128::from(clock::monotonic_ns())
}

/// `now - then`, or 0 where either is unknown.
fn difference(now: Option<u64>, then: Option<u64>) -> u64 {
    now.zip(then)
        .map_or(0, |(now, then)| now.saturating_sub(then))
}

/// Energy of one interval by the model, J.
#[derive(Debug, Clone, Copy, Default)]
struct Modelled {
    package: f64,
    memory: f64,
    low: f64,
    high: f64,
}

impl Modelled {
    fn band(self) -> [f64; 3] {
        [self.package + self.memory, self.low, self.high]
    }
}

fn find_facts(root: &Path) -> Facts {
    let cpu = CpuIdentity::read(root);
    let environment = Environment::read(root);
    let model = environment.model(&cpu);
    let cpus = MachineCpu::open(root).cpus;
    let calibration = Calibration::load(root, &cpu);
    Facts {
        cpu,
        environment,
        model,
        cpus,
        calibration,
    }
}

impl Facts {
    /// The part of the machine's CPUs that this function may use, 0..1.
    pub fn allotted_share(&self) -> f64 {
        (self.environment.allotted_cpus / f64::from(self.cpus.max(1))).clamp(0.0, 1.0)
    }

    /// Energy of the machine (in a virtual machine: of its CPUs) with `busy_cpus` busy, J.
    fn model_joules(&self, busy_cpus: f64, seconds: f64) -> Modelled {
        let watts = self.model.vcpus_watts_raw(self.modelled_cpus(), busy_cpus);
        let memory = self.memory_watts();
        Modelled {
            package: watts.total * seconds,
            memory: memory * seconds,
            low: (watts.low + 0.5 * memory) * seconds,
            high: (watts.high + 1.5 * memory) * seconds,
        }
    }

    /// CPUs that the model counts: Lambda shows two whatever it allots.
    pub fn modelled_cpus(&self) -> f64 {
        self.model.allotted_vcpus().unwrap_or(f64::from(self.cpus))
    }

    /// Modelled memory power of the machine, W.
    pub fn memory_watts(&self) -> f64 {
        self.environment
            .memory_gib
            .map_or(0.0, |gib| self.model.memory_watts(gib).value)
    }

    /// Idle power of a zone: learned, calibrated, configured, or the model's.
    pub fn idle_of(&self, zone: &Zone, zones: &[Zone], learned: Option<f64>) -> Option<IdlePower> {
        use crate::source::Domain;
        if let Some(watts) = learned {
            return Some(IdlePower {
                watts,
                // Up to 5 % of the machine was busy while it was learned.
                low: watts * 0.9,
                high: watts * 1.02,
                source: IdleSource::Learned,
            });
        }
        let stored = self.calibration.as_ref();
        if let Some(watts) = stored.and_then(|c| c.idle_watts(zone)) {
            return Some(IdlePower {
                watts,
                low: watts * 0.9,
                high: watts * 1.05,
                source: IdleSource::Calibrated,
            });
        }
        let raw = self.model.vcpus_watts_raw(self.modelled_cpus(), 0.0);
        let memory = self.memory_watts();
        let packages = zones
            .iter()
            .filter(|z| z.method == zone.method && z.domain == Domain::Package)
            .count()
            .max(1) as f64;
        let drams = zones
            .iter()
            .filter(|z| z.method == zone.method && z.domain == Domain::Dram)
            .count()
            .max(1) as f64;
        if let Some(total) = self.environment.idle_watts {
            let has_dram = zones
                .iter()
                .any(|z| z.method == zone.method && z.domain == Domain::Dram);
            let all = if has_dram {
                raw.idle + memory
            } else {
                raw.idle
            };
            let part = match zone.domain {
                Domain::Package => raw.idle / packages,
                Domain::Dram => memory / drams,
                _ => return None,
            };
            let watts = if all > 0.0 {
                total * part / all
            } else {
                total / packages
            };
            return Some(IdlePower {
                watts,
                low: watts * 0.95,
                high: watts * 1.05,
                source: IdleSource::Configured,
            });
        }
        let (watts, low, high) = match zone.domain {
            Domain::Package => (
                raw.idle / packages,
                raw.idle_low / packages,
                raw.idle_high / packages,
            ),
            Domain::Dram => (memory / drams, 0.5 * memory / drams, 1.5 * memory / drams),
            _ => return None,
        };
        Some(IdlePower {
            watts,
            low,
            high,
            source: IdleSource::Modelled,
        })
    }
}

impl State {
    /// Opens each source that `methods` ask for and that was not tried before.
    fn open(&mut self, methods: Methods) {
        let mut news = false;
        if methods.has(Method::Rapl) && self.rapl.is_none() {
            let vendor = crate::machine::cpu_vendor(&self.root);
            self.rapl = Some(Rapl::open(&self.root, vendor.as_deref()));
            if let Some(Ok(rapl)) = &self.rapl {
                self.zones.extend_from_slice(rapl.zones());
            }
            news = true;
        }
        if methods.has(Method::Perf) && self.perf.is_none() {
            self.perf = Some(PowerPmu::open(&self.root));
            if let Some(Ok(perf)) = &self.perf {
                self.zones.extend_from_slice(perf.zones());
            }
            news = true;
        }
        if methods.has(Method::Psutil) && self.system.is_none() {
            self.system = Some(System::open(&self.root));
            news = true;
        }
        if methods.wants_tree_at_once() && self.tree_counters.is_none() {
            self.open_tree();
        } else if news {
            self.publish();
        }
    }

    /// Opens the counters of the process tree, now.
    ///
    /// The first per-task event on a machine that had none for a second makes the kernel wait for
    /// an RCU grace period, 5 to 25 ms: not a thing to do to a function that did not ask for it.
    fn open_tree(&mut self) {
        if self.tree_counters.is_none() {
            let tids = self.tree.tids();
            self.tree_counters = Some(TreeCounters::open(&tids));
            self.publish();
        }
    }

    /// The threads whose counters are to be opened in the background, once that is worth it.
    fn wants_tree(&mut self) -> Option<Vec<i32>> {
        let now = clock::monotonic_ns();
        let long = |active: &Active| {
            active.record.methods.has(Method::Perf)
                && now.saturating_sub(active.record.start.t_ns) > TREE_AFTER_NS
        };
        (self.tree_counters.is_none() && self.active.iter().any(long)).then(|| self.tree.tids())
    }

    /// Makes the catalog anew.
    fn publish(&mut self) {
        for zone in &self.zones[self.counters.len()..] {
            self.counters
                .push(Counter::new(zone.unit_joules, zone.modulus));
            self.faults.push(None);
            self.learned.push(None);
        }
        let mut missing = Vec::new();
        let mut notes = Vec::new();
        match &self.rapl {
            Some(Ok(rapl)) => notes.extend(rapl.notes().iter().map(|n| format!("rapl: {n}"))),
            Some(Err(why)) => missing.push((Method::Rapl, why.clone())),
            None => {}
        }
        match &self.perf {
            Some(Ok(perf)) => notes.extend(perf.notes().iter().map(|n| format!("perf: {n}"))),
            Some(Err(why)) => missing.push((Method::Perf, why.clone())),
            None => {}
        }
        missing.push((Method::Ebpf, crate::source::ebpf::unavailable()));
        if !self.machine.has_stat() {
            let why = Unavailable::absent("/proc/stat cannot be read");
            missing.push((Method::Psutil, why));
        }
        let hardware_missing = match &self.tree_counters {
            Some(Ok(counters)) => counters.hardware.clone(),
            Some(Err(why)) => Some(why.clone()),
            None => None,
        };
        self.catalog = Arc::new(Catalog {
            zones: self.zones.clone(),
            missing,
            hardware_missing,
            notes,
        });
    }

    /// Reads the energy counters of `methods` and advances their totals. Once more where the
    /// first try was interrupted: at the edge of a window, time is energy.
    fn read_counters(&mut self, methods: Methods) -> Moment {
        let first = self.read_counters_once(methods);
        if first.slack_ns <= INTERRUPTED_NS {
            return first;
        }
        self.read_counters_once(methods)
    }

    fn read_counters_once(&mut self, methods: Methods) -> Moment {
        let before = clock::monotonic_ns();
        for method in [Method::Rapl, Method::Perf] {
            if !methods.has(method) {
                continue;
            }
            self.raw.clear();
            let t_ns = clock::monotonic_ns();
            match (method, &mut self.rapl, &mut self.perf) {
                (Method::Rapl, Some(Ok(rapl)), _) => rapl.read(&mut self.raw),
                (Method::Perf, _, Some(Ok(perf))) => perf.read(&mut self.raw),
                _ => continue,
            }
            let mut raw = self.raw.iter();
            for (i, zone) in self.zones.iter().enumerate() {
                if zone.method != method {
                    continue;
                }
                match raw.next() {
                    Some(Ok(value)) => {
                        self.faults[i] = None;
                        if let Step::Reset(_) = self.counters[i].advance(t_ns, *value) {
                            self.learned[i] = None;
                        }
                    }
                    Some(Err(fault)) => self.faults[i] = Some(*fault),
                    None => {}
                }
            }
        }
        let after = clock::monotonic_ns();
        Moment {
            t_ns: before + (after - before) / 2,
            slack_ns: (after - before) / 2,
        }
    }

    /// CPU time of this process's tree, ns; perf's count where it saw more.
    fn own_tree_ns(&mut self, methods: Methods) -> Option<u64> {
        let tree = self.tree.cpu_ns()?;
        if methods.has(Method::Perf)
            && let Some(Ok(counters)) = &mut self.tree_counters
        {
            self.tree_count = Some(counters.read());
            if let Some(count) = self.tree_count.and_then(|c| c.task_clock_ns) {
                if let Some((count_then, tree_then)) = self.last_count {
                    // Children that nobody waited for are missing from the clocks, not from perf.
                    let by_perf = count.saturating_sub(count_then);
                    let by_clock = tree.saturating_sub(tree_then);
                    self.extra_cpu_ns += by_perf.saturating_sub(by_clock);
                }
                self.last_count = Some((count, tree));
            }
        }
        Some(tree + self.extra_cpu_ns)
    }

    fn own_and_inside(
        &mut self,
        methods: Methods,
        follow: &mut Follow,
    ) -> (Option<u64>, Option<u64>) {
        let (own, inside) = match &follow.subject {
            Subject::Process {
                pid: None,
                children,
            } => {
                let own = if *children {
                    self.own_tree_ns(methods)
                } else {
                    Some(clock::own_process_cpu_ns())
                };
                (own, own)
            }
            Subject::Process {
                pid: Some(_),
                children,
            } => {
                let own = follow.tree.as_mut().and_then(|t| {
                    if *children {
                        t.cpu_ns()
                    } else {
                        t.root_cpu_ns()
                    }
                });
                // A process that ended keeps what it had used.
                let own = own.or(Some(follow.last_own_ns));
                (own, own)
            }
            Subject::Thread(tid) => (
                clock::thread_cpu_ns(*tid).or(Some(follow.last_own_ns)),
                Some(clock::own_process_cpu_ns()),
            ),
            Subject::Task(task) => (Some(task.cpu_ns()), Some(clock::own_process_cpu_ns())),
            Subject::Cgroup(group) => {
                let own = group.cpu_ns();
                (own, own)
            }
        };
        let own = own.map(|ns| ns.max(follow.last_own_ns));
        follow.last_own_ns = own.unwrap_or(follow.last_own_ns);
        (own, inside)
    }

    /// The counts that were just read for this process's tree, if that is what is followed.
    fn count_of(&self, methods: Methods, follow: &Follow) -> Option<TreeCount> {
        let ours = matches!(
            follow.subject,
            Subject::Process {
                pid: None,
                children: true
            }
        );
        self.tree_count
            .filter(|_| ours && methods.has(Method::Perf))
    }

    /// Reads everything that a meter follows: counters first, as this ends a window.
    fn edge(&mut self, record: &Record, follow: &mut Follow) -> Edge {
        let moment = self.read_counters(record.methods);
        let (own_ns, inside_ns) = self.own_and_inside(record.methods, follow);
        self.edge_from(moment, own_ns, inside_ns, record.start.totals.len())
    }

    fn edge_from(
        &mut self,
        moment: Moment,
        own_ns: Option<u64>,
        inside_ns: Option<u64>,
        width: usize,
    ) -> Edge {
        Edge {
            t_ns: moment.t_ns,
            slack_ns: moment.slack_ns,
            totals: self.counters.iter().take(width).map(|c| c.total).collect(),
            resets: self.counters.iter().take(width).map(|c| c.resets).collect(),
            idle_ns: self.machine.idle_ns(moment.t_ns),
            own_ns,
            inside_ns,
        }
    }

    fn take(&mut self, id: u64) -> Option<Active> {
        let position = self.active.iter().position(|a| a.id == id)?;
        Some(self.active.swap_remove(position))
    }

    fn begin(&mut self, methods: Methods, interval_ns: Option<u64>, subject: Subject) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        let width = self.zones.len();
        let mut follow = Follow {
            tree: match subject {
                Subject::Process { pid: Some(pid), .. } => Some(Tree::new(Some(pid))),
                _ => None,
            },
            subject,
            last_own_ns: 0,
        };
        let mut system = None;
        let mut high_water = None;
        if methods.has(Method::Psutil) {
            let stat = self.machine.stat_line(clock::monotonic_ns());
            system = self.system.as_mut().map(|s| s.edge(stat));
            high_water = clock::own_peak_rss_bytes();
        }
        let realtime_offset = clock_offset();
        let ambiguous = self.counters.iter().map(|c| c.ambiguous).sum();
        let wraps = self.counters.iter().map(|c| c.wraps).sum();
        let mut timeline =
            interval_ns.map(|_| Timeline::new(TIMELINE_CPU_COLUMNS + width + 2, TIMELINE_SAMPLES));
        let ledger = Ledger::new(width + 2);
        let (own_ns, inside_ns) = self.own_and_inside(methods, &mut follow);
        let tree_count = self.count_of(methods, &follow);
        let now = Moment {
            t_ns: clock::monotonic_ns(),
            slack_ns: 0,
        };
        let mut start = self.edge_from(now, own_ns, inside_ns, width);
        // The counters come last, so that nothing of the meter's own is inside the window.
        let moment = self.read_counters(methods);
        start.t_ns = moment.t_ns;
        start.slack_ns = moment.slack_ns;
        for (i, counter) in self.counters.iter().enumerate() {
            start.totals[i] = counter.total;
            start.resets[i] = counter.resets;
        }
        if let Some(line) = &mut timeline {
            line.push_zeros(start.t_ns);
        }
        self.active.push(Active {
            id,
            follow,
            record: Record {
                methods,
                interval_ns,
                group: start.clone(),
                start,
                candidate: None,
                ledger,
                phases: Vec::new(),
                open_phases: Vec::new(),
                timeline,
                samples: 0,
                system,
                tree_count,
                rss_peak: None,
                high_water,
                model_joules: [0.0; 3],
                realtime_offset,
                ambiguous,
                wraps,
            },
        });
        id
    }

    /// One round of the background thread.
    fn tick(&mut self) {
        let union = self
            .active
            .iter()
            .filter(|a| a.record.interval_ns.is_some())
            .fold(Methods::none(), |m, a| m.union(a.record.methods));
        let moment = self.read_counters(union);
        let mut running = std::mem::take(&mut self.active);
        for active in running
            .iter_mut()
            .filter(|a| a.record.interval_ns.is_some())
        {
            let (own_ns, inside_ns) =
                self.own_and_inside(active.record.methods, &mut active.follow);
            let record = &mut active.record;
            let edge = self.edge_from(moment, own_ns, inside_ns, record.start.totals.len());
            record.samples += 1;
            if record.methods.has(Method::Psutil) {
                let rss = self.rss_of(&mut active.follow);
                record.rss_peak = record.rss_peak.max(rss);
            }
            self.push_timeline(record, &edge, false);
            let since = |earlier: &Edge| edge.t_ns.saturating_sub(earlier.t_ns);
            match &record.candidate {
                None if since(&record.group) >= ATTRIBUTION_NS => record.candidate = Some(edge),
                Some(candidate) if since(candidate) >= ATTRIBUTION_NS => {
                    if let Some(settled) = record.candidate.replace(edge) {
                        self.settle(record, settled);
                    }
                }
                _ => {}
            }
        }
        self.active = running;
        self.learn_idle(moment.t_ns);
    }

    fn rss_of(&mut self, follow: &mut Follow) -> Option<u64> {
        follow.tree.as_mut().unwrap_or(&mut self.tree).rss_bytes()
    }

    fn push_timeline(&self, record: &mut Record, edge: &Edge, last: bool) {
        let Some(line) = &mut record.timeline else {
            return;
        };
        let width = edge.totals.len();
        let mut row = Vec::with_capacity(TIMELINE_CPU_COLUMNS + width + 2);
        row.push(difference(edge.own_ns, record.start.own_ns) as f64 * 1e-9);
        for (i, counter) in self.counters.iter().take(width).enumerate() {
            let units = edge.totals[i].saturating_sub(record.start.totals[i]);
            row.push(counter.joules(units));
        }
        // The model's energy is known up to the last settled interval.
        row.extend_from_slice(&record.ledger.joules[width..]);
        if last {
            line.push_last(edge.t_ns, &row);
        } else {
            line.push(edge.t_ns, &row);
        }
    }

    /// Adds the interval from the last settled edge to `edge` to the ledger.
    fn settle(&mut self, record: &mut Record, edge: Edge) {
        let from = &record.group;
        let dt_ns = edge.t_ns.saturating_sub(from.t_ns);
        if dt_ns == 0 {
            return;
        }
        let own_ns = difference(edge.own_ns, from.own_ns);
        let interval = Interval {
            dt_ns,
            cpus: self.machine.cpus,
            idle_ns: match (edge.idle_ns, from.idle_ns) {
                (Some(a), Some(b)) => Some(a.saturating_sub(b)),
                _ => None,
            },
            own_ns,
            inside_ns: difference(edge.inside_ns, from.inside_ns).max(own_ns),
            outside_rate: self.outside_rate,
        };
        let split = record.ledger.split(&interval);
        let mut joules: Vec<f64> = edge
            .totals
            .iter()
            .zip(&from.totals)
            .zip(&self.counters)
            .map(|((now, before), counter)| counter.joules(now.saturating_sub(*before)))
            .collect();
        let modelled = match &self.facts {
            Some(facts) if record.methods.has(Method::Tdp) => {
                facts.model_joules(split.busy_cpus, dt_ns as f64 * 1e-9)
            }
            _ => Modelled::default(),
        };
        joules.extend([modelled.package, modelled.memory]);
        for (sum, part) in record.model_joules.iter_mut().zip(modelled.band()) {
            *sum += part;
        }
        record.ledger.add(&interval, split, &joules);
        record.group = edge;
        if dt_ns >= SHORT_REST_NS && interval.idle_ns.is_some() {
            let outside = (split.busy_cpus * dt_ns as f64 - interval.inside_ns as f64).max(0.0);
            let rate = outside / dt_ns as f64;
            self.outside_rate = Some(self.outside_rate.map_or(rate, |old| 0.5 * (old + rate)));
        }
    }

    /// Settles everything up to `edge`; a short rest joins the interval before it.
    fn settle_all(&mut self, record: &mut Record, edge: Edge) {
        if let Some(candidate) = record.candidate.take()
            && edge.t_ns.saturating_sub(candidate.t_ns) >= SHORT_REST_NS
        {
            self.settle(record, candidate);
        }
        self.settle(record, edge);
    }

    fn learn_idle(&mut self, t_ns: u64) {
        let Some(idle_ns) = self.machine.idle_ns(t_ns) else {
            return;
        };
        let totals = |state: &Self| state.counters.iter().map(|c| c.total).collect::<Vec<_>>();
        let Some((since, idle_then, before)) = self.idle_since.take() else {
            self.idle_since = Some((t_ns, idle_ns, totals(self)));
            return;
        };
        let capacity = (t_ns - since) * u64::from(self.machine.cpus);
        if capacity < IDLE_CAPACITY_NS {
            self.idle_since = Some((since, idle_then, before));
            return;
        }
        let busy = 1.0 - idle_ns.saturating_sub(idle_then) as f64 / capacity as f64;
        if busy < IDLE_BUSY {
            let seconds = (t_ns - since) as f64 * 1e-9;
            for (i, then) in before.iter().enumerate() {
                let counter = &self.counters[i];
                let watts = counter.joules(counter.total.saturating_sub(*then)) / seconds;
                if watts > 0.0 && self.faults[i].is_none() {
                    self.learned[i] = Some(self.learned[i].map_or(watts, |w| w.min(watts)));
                }
            }
        }
        self.idle_since = Some((t_ns, idle_ns, totals(self)));
    }

    fn close(&mut self, follow: &mut Follow, mut record: Record, edge: Edge, running: bool) -> Outcome {
        let now = self.count_of(record.methods, follow);
        let tree_count = record.tree_count.zip(now).map(|(then, now)| {
            let since = |a: Option<u64>, b: Option<u64>| Some(a?.saturating_sub(b?));
            TreeCount {
                task_clock_ns: since(now.task_clock_ns, then.task_clock_ns),
                cycles: since(now.cycles, then.cycles),
                instructions: since(now.instructions, then.instructions),
            }
        });
        let system = record.system.take().and_then(|start| {
            let stat = self.machine.stat_line(clock::monotonic_ns());
            let system = self.system.as_mut()?;
            Some((start, system.edge(stat), system.state()))
        });
        let mut rss = (None, None);
        if record.methods.has(Method::Psutil) {
            let now = self.rss_of(follow);
            let mut peak = now.max(record.rss_peak);
            let high_water = clock::own_peak_rss_bytes();
            // The high-water mark is this window's only if it moved within it.
            if follow.tree.is_none() && high_water > record.high_water {
                peak = peak.max(high_water);
            }
            rss = (now, peak);
        }
        let resets = edge
            .resets
            .iter()
            .zip(&record.start.resets)
            .map(|(now, then)| now - then)
            .collect();
        let window_ns = (record.start.t_ns, edge.t_ns);
        let slack_ns = record.start.slack_ns + edge.slack_ns;
        let own_known = edge.own_ns.is_some() && record.start.own_ns.is_some();
        let width = edge.totals.len();
        let last = edge.clone();
        self.settle_all(&mut record, edge);
        self.push_timeline(&mut record, &last, true);
        for (name, before) in std::mem::take(&mut record.open_phases).into_iter().rev() {
            record.end_phase(name, &before);
        }
        let sum = |of: fn(&Counter) -> u32| self.counters.iter().map(of).sum::<u32>();
        Outcome {
            window_ns,
            slack_ns,
            running,
            methods: record.methods,
            interval_ns: record.interval_ns,
            samples: record.samples,
            scope: follow.subject.name(),
            faults: self.zones[..width]
                .iter()
                .zip(&self.faults)
                .map(|(zone, fault)| fault.filter(|_| record.methods.has(zone.method)))
                .collect(),
            width,
            catalog: Arc::clone(&self.catalog),
            resets,
            wraps: sum(|c| c.wraps) - record.wraps,
            ambiguous: sum(|c| c.ambiguous) - record.ambiguous,
            ledger: record.ledger,
            phases: record.phases,
            own_known,
            timeline: record.timeline,
            learned: self.learned[..width].to_vec(),
            model_joules: record.model_joules,
            tree_count,
            system,
            rss,
            drift_ns: clock_offset() - record.realtime_offset,
        }
    }
}

//! The sources of one hub and the windows that run: what is open, and what it reads.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::busy;
use super::gpus::{self, Following};
use super::probed::{CpuCount, Probing, Reading};
use super::subject::Subject;
use super::tape::Tape;
use super::traffic;
use super::window::{Active, Catalog, CountBase, Edge, Follow, Moment, Record};
use crate::cgroup::limits::SandboxCount;
use crate::clock;
use crate::counter::{At, Counter, Step};
use crate::machine::allotted;
use crate::machine::ceilings;
use crate::machine::facts::Facts;
use crate::machine::idle_power::IdleLearner;
use crate::machine::watch::{self, Watch};
use crate::memory;
use crate::source::kept;
use crate::source::mirrors::{Mirror, Mirrors};
use crate::source::opened::{Opened, is_to_be_tried, unless_starved};
use crate::source::perf::{TreeCount, TreeCounters};
use crate::source::procfs::{MachineCpu, System, Tree, is_amd};
use crate::source::{
    EnergyCounter, Method, Methods, Note, Open, ReadFault, Unavailable, Zone, hwmon,
    packages_are_counted,
};

/// Counters of the process tree serve the windows after the one in which they are opened, so they
/// are for processes that meter again and again: a worker that is forked for one call never does.
const TREE_AFTER_WINDOWS: u64 = 3;

/// A window this long is worth counters of the process tree for the windows after it, ns.
const TREE_AFTER_NS: u64 = 1_000_000_000;

/// Whether they are to be opened, or opened anew because threads ended, is looked at so often, ns.
const TREE_AGAIN_NS: u64 = 5_000_000_000;

/// Reading all counters takes microseconds; if it took this long, something came between, ns …
const INTERRUPTED_NS: u64 = 500_000;

/// … or so long for each of them, where there are many: one of another package is read on a CPU there,
/// which may have to wake up first. Servers leave their deepest idle state in 133 to 290 µs (C6 in the
/// tables of the kernel's drivers/idle/intel_idle.c), and a package has two counters.
const AWAKENING_NS: u64 = 150_000;

/// A source of which something was lost is opened anew so often at most, ns.
const LOST_AGAIN_NS: u64 = 1_000_000_000;

/// What was not there when it was looked for is looked for again after this, ns: a driver may have
/// been loaded since, or a right given. A worker lives for hours.
const ABSENT_AGAIN_NS: u64 = 60_000_000_000;

/// Why a source that stands in for others is not opened.
const COUNTED: &str = "another counter has the packages, and none is counted twice; it is read where it is \
                       asked for by its name, or once that counter was seen to stand still";

/// What was counted when idle power was last looked for.
#[derive(Debug)]
pub(super) struct Resting {
    pub(super) t_ns: u64,
    /// CPU time that there was, and that was not used, ns.
    pub(super) capacity_ns: u64,
    pub(super) idle_ns: u64,
    /// [`MachineCpu::turns`].
    pub(super) turns: u32,
    /// Counters' totals, and how much was odd about each.
    pub(super) totals: Vec<(u64, u32)>,
}

/// A method that counts energy, and its counters as far as they were opened.
pub(super) struct Source {
    pub(super) method: Method,
    pub(super) open: Open,
    pub(super) counter: Opened<Box<dyn EnergyCounter>>,
    /// When what was lost of it was last looked for, ns.
    tried_ns: Option<u64>,
    /// When it was last found absent, ns.
    absent_ns: Option<u64>,
}

impl Source {
    pub(super) fn opened(&self) -> Option<&dyn EnergyCounter> {
        self.counter.as_ref()?.as_ref().ok().map(Box::as_ref)
    }

    /// Whether it is to be opened: it was not tried, or could not be had then, or was absent long
    /// ago and nothing stands for it (`replaced`).
    fn is_to_be_opened(&self, now: u64, replaced: bool) -> bool {
        let long_ago = |then: u64| now.saturating_sub(then) >= ABSENT_AGAIN_NS;
        is_to_be_tried(&self.counter) || !replaced && self.absent_ns.is_some_and(long_ago)
    }
}

/// The background thread that samples.
#[derive(Debug, Default)]
pub(super) struct SamplerThread {
    /// It is there.
    pub(super) runs: bool,
    /// Its id, once it runs.
    pub(super) tid: Option<i32>,
    /// It waits until a meter comes.
    pub(super) parked: bool,
    /// The interval that it keeps, ns.
    pub(super) pace: Option<u64>,
    /// When the system last refused one, ns.
    pub(super) refused_ns: Option<u64>,
    /// Its CPU time when that was last looked at, ns: in this process, and not the function's.
    cpu_ns: u64,
}

pub(super) struct State {
    pub(super) root: PathBuf,
    /// The machine, once an interval was settled: finding it out takes a millisecond of reading files.
    pub(super) facts: Option<Arc<Facts>>,
    /// Every method that counts energy, the preferred one first.
    pub(super) sources: Vec<Source>,
    /// An agent's ring, where this process may not read the counters itself.
    pub(super) ring: super::ring::Borrowed,
    /// perf's counters of this process's tree.
    pub(super) tree_counters: Opened<TreeCounters>,
    /// When it was last asked whether they are wanted, ns.
    pub(super) tree_looked_ns: u64,
    pub(super) probing: Probing,
    /// The machine's busy time.
    pub(super) machine: MachineCpu,
    pub(super) system: Option<System>,
    /// It was opened when no descriptor was free, so that parts of it are missing.
    pub(super) system_starved: bool,
    /// This process and its descendants.
    pub(super) tree: Tree,
    /// Every energy counter that was ever opened, in the order of a ledger's slots; `counters`,
    /// `faults` and `idle_learners` have one entry for each.
    pub(super) zones: Vec<Zone>,
    pub(super) catalog: Arc<Catalog>,
    /// The total of each counter, judged step by step.
    pub(super) counters: Vec<Counter>,
    /// What the last reading of each counter ran into.
    pub(super) faults: Vec<Option<ReadFault>>,
    /// What one source showed at one moment: kept, so that reading allocates nothing.
    pub(super) raw: Vec<Result<u64, ReadFault>>,
    #[expect(
        clippy::vec_box,
        reason = "taken out as it is, one fills a page of the stack"
    )]
    pub(super) active: Vec<Box<Active>>,
    pub(super) next_id: u64,
    /// CPUs that others than this process keep busy, smoothed: intervals too short for idle time's
    /// steps of 10 ms lean on it.
    pub(super) outside_rate: Option<f64>,
    /// The start of the stretch of which idle power may be learned: one second of CPU time later it is
    /// looked at how busy the machine was, and a new stretch begins.
    pub(super) idle_since: Option<Resting>,
    /// Counters of which it is known what they can show at most: the first so many.
    pub(super) bounded: usize,
    /// Readings that were made to learn how often the counters change.
    pub(super) looks: u32,
    /// Zones that may show one and the same counter.
    pub(super) mirrors: Mirrors,
    /// Power of each counter while the machine was less than 5 % busy.
    pub(super) idle_learners: Vec<IdleLearner>,
    /// What perf last counted of this process's tree.
    pub(super) tree_count: Option<TreeCount>,
    /// A row of a timeline in the making.
    pub(super) row: Vec<f64>,
    pub(super) thread: SamplerThread,
    /// The files that limit this process, once it has metered for a while.
    pub(super) watch: Option<Watch>,
    /// Since when this process meters, ns: what limits it was found out then, or before the fork.
    pub(super) since_ns: u64,
    /// Whether its reads are written down, or come from what was.
    pub(super) tape: Tape,
    /// Methods that are sampled whether or not a window runs.
    pub(super) always: Methods,
    /// Memory's traffic.
    pub(super) traffic: traffic::Seen,
    /// The CPUs that have work.
    pub(super) busy: busy::Seen,
}

impl State {
    /// Nothing is opened yet but what every window needs.
    pub(super) fn new(root: &Path) -> Self {
        Self::with(root, MachineCpu::open(root))
    }

    /// The same where the machine's busy time is looked at by `machine`.
    pub(super) fn with(root: &Path, machine: MachineCpu) -> Self {
        let sources = Method::energy_counters().map(|(method, open)| Source {
            method,
            open,
            counter: None,
            tried_ns: None,
            absent_ns: None,
        });
        Self::of(root, machine, sources.collect())
    }

    fn of(root: &Path, machine: MachineCpu, sources: Vec<Source>) -> Self {
        Self {
            root: root.to_owned(),
            facts: None,
            sources,
            ring: super::ring::Borrowed::default(),
            tree_counters: None,
            tree_looked_ns: 0,
            probing: Probing::default(),
            machine,
            system: None,
            system_starved: false,
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
            bounded: 0,
            looks: 0,
            mirrors: Mirrors::default(),
            idle_learners: Vec::new(),
            tree_count: None,
            row: Vec::new(),
            thread: SamplerThread::default(),
            watch: None,
            since_ns: clock::monotonic_ns(),
            tape: Tape::Off,
            always: Methods::none(),
            traffic: traffic::Seen::default(),
            busy: busy::Seen::default(),
        }
    }

    /// The state of a forked process, which takes over what its parent had open and knew: `parent` is
    /// not used there any more. To find that out anew costs every call of a worker a hundred system
    /// calls, and each page of memory that it takes a page fault.
    ///
    /// What is of the parent itself stays behind: its windows, its thread, its tree and the counters
    /// of that, what probes follow, and what it saw of others than itself.
    pub(super) fn forked(root: &Path, parent: &mut Self) -> Box<Self> {
        use std::mem::take;
        let machine = std::mem::replace(&mut parent.machine, MachineCpu::replayed());
        let mut own = Box::new(Self::of(root, machine.forked(), take(&mut parent.sources)));
        own.tree.was_forked();
        own.facts = parent.facts.take();
        own.ring = take(&mut parent.ring);
        own.probing = take(&mut parent.probing).forked();
        own.system = parent.system.take();
        own.system_starved = parent.system_starved;
        own.zones = take(&mut parent.zones);
        own.catalog = take(&mut parent.catalog);
        own.counters = take(&mut parent.counters);
        own.faults = take(&mut parent.faults);
        own.raw = take(&mut parent.raw);
        own.mirrors = take(&mut parent.mirrors);
        own.idle_learners = take(&mut parent.idle_learners);
        own.bounded = parent.bounded;
        own.traffic = take(&mut parent.traffic).forked();
        own.busy = take(&mut parent.busy).forked();
        own.looks = parent.looks;
        if parent.tree_counters.is_some() {
            // What the catalog says of counters of the tree is of the parent's.
            own.publish();
        }
        own
    }

    /// Closes every source. Nothing runs here any more.
    pub(super) fn close_all(&mut self) {
        let thread = SamplerThread {
            runs: self.thread.runs,
            tid: self.thread.tid,
            ..SamplerThread::default()
        };
        *self = Self::new(&self.root);
        self.machine.release();
        self.thread = thread;
    }

    /// Opens each source that `methods` ask for and that was not tried before.
    pub(super) fn open(&mut self, methods: Methods) {
        let mut news = false;
        self.forget_lost();
        let now = clock::monotonic_ns();
        news |= self.open_sources(methods, now, |method| !method.stands_in());
        if self.tape.is_off() {
            news |= self.open_ring(methods);
        }
        news |= self.open_sources(methods, now, Method::stands_in);
        if self.system_starved {
            self.system = None;
        }
        if methods.has(Method::Psutil) && self.system.is_none() {
            self.system = Some(System::open(&self.root));
            self.system_starved = kept::no_descriptor_free();
            news = true;
        }
        if self.tape.is_off() {
            news |= self.probing.open(&self.root, methods);
        }
        if methods.has_by_name(Method::Perf) && is_to_be_tried(&self.tree_counters) {
            self.open_tree();
        } else if news {
            self.publish();
        }
    }

    /// Opens the sources that count energy, of those that are `meant`; returns whether any was tried.
    fn open_sources(&mut self, methods: Methods, now: u64, meant: fn(Method) -> bool) -> bool {
        let counted = self.packages_are_counted();
        let mut news = false;
        for source in &mut self.sources {
            let method = source.method;
            let replaced = self.ring.via().is_some_and(|via| via.method == method);
            if !meant(method)
                || !methods.wants(method, counted)
                || !source.is_to_be_opened(now, replaced)
            {
                continue;
            }
            let opened = match method {
                // Nobody else can play again what a host wrote.
                Method::Guest if !self.tape.is_off() => Err(Unavailable::absent(
                    "a trace holds nothing of a host's account",
                )),
                _ => (source.open)(&self.root),
            };
            let opened = unless_starved(method.title(), opened, |c| c.holes().is_empty());
            if let Ok(counter) = &opened {
                self.zones.extend_from_slice(counter.zones());
            }
            source.absent_ns = opened.is_err().then_some(now);
            source.counter = Some(opened);
            news = true;
        }
        news
    }

    /// Whether a source of the first choice counts the packages, for all that was seen of it so far.
    fn packages_are_counted(&self) -> bool {
        let counters = (0..self.zones.len()).map(|i| self.counters.get(i));
        packages_are_counted(self.zones.iter().zip(counters))
    }

    /// Opens the counters of the process tree, now.
    ///
    /// The first per-task event on a machine that had none for a second makes the kernel wait for
    /// an RCU grace period, 5 to 25 ms: not a thing to do to a function that did not ask for it.
    pub(super) fn open_tree(&mut self) {
        if is_to_be_tried(&self.tree_counters) {
            let tids = self.tree.tids();
            self.adopt_tree(TreeCounters::open(&tids));
        }
    }

    /// Takes counters of the process tree that were opened, in the place of those that were there.
    pub(super) fn adopt_tree(&mut self, opened: Result<TreeCounters, Unavailable>) {
        let news = match (&self.tree_counters, &opened) {
            (Some(Err(old)), Err(new)) => old != new,
            // Old ones that still count are better than none.
            (Some(Ok(_)), Err(_)) => return,
            _ => true,
        };
        let old = self.tree_counters.replace(opened);
        if let (Some(Ok(old)), Some(Ok(new))) = (old, &mut self.tree_counters) {
            new.succeed(old);
        }
        if news {
            self.publish();
        }
    }

    /// Lets sources go whose descriptors somebody closed, so that they are opened anew.
    fn forget_lost(&mut self) {
        if matches!(&self.tree_counters, Some(Ok(counters)) if counters.are_lost()) {
            self.tree_counters = None;
        }
        let mut renamed = false;
        for source in &mut self.sources {
            let Some(Ok(counter)) = &mut source.counter else {
                continue;
            };
            if !counter.is_lost() {
                continue;
            }
            // What is lost may not come back soon, and looking for it takes a while.
            let now = clock::monotonic_ns();
            let tried = source.tried_ns.replace(now);
            if tried.is_some_and(|then| now.saturating_sub(then) < LOST_AGAIN_NS) {
                continue;
            }
            let Ok(anew) = (source.open)(&self.root) else {
                continue;
            };
            let method = source.method;
            let zones = anew.zones();
            let same = |(a, b): (&Zone, &Zone)| a.counts_as(b);
            if zones.len() != counter.zones().len()
                || !std::iter::zip(zones, counter.zones()).all(same)
            {
                continue;
            }
            // A package may be read on another CPU now.
            let known = self.zones.iter_mut().filter(|zone| zone.method == method);
            for (known, zone) in std::iter::zip(known, zones) {
                renamed |= known.name != zone.name;
                known.name.clone_from(&zone.name);
            }
            *counter = anew;
            source.tried_ns = None;
        }
        if renamed {
            self.publish();
        }
    }

    /// Follows the GPUs for a window that begins at `begin_ns`, or says why not.
    pub(super) fn follow_gpus(
        &self,
        methods: Methods,
        sampled: bool,
        subject: &Subject,
        begin_ns: u64,
    ) -> Result<Following, String> {
        if !self.tape.is_off() {
            return Err("a trace holds nothing of GPUs".into());
        }
        gpus::follow(&self.root, methods, sampled, subject, begin_ns)
    }

    /// The threads whose counters are to be opened in the background, once that is worth it.
    pub(super) fn wants_tree(&mut self) -> Option<Vec<i32>> {
        let now = clock::monotonic_ns();
        let long = |active: &Active| {
            active.record.methods.has(Method::Perf)
                && now.saturating_sub(active.record.start.t_ns) > TREE_AFTER_NS
        };
        let again = self.next_id >= TREE_AFTER_WINDOWS;
        let due = now.saturating_sub(self.tree_looked_ns) >= TREE_AGAIN_NS;
        if !again || !due || !self.active.iter().any(|active| long(active)) {
            return None;
        }
        self.tree_looked_ns = now;
        let wanted = match &self.tree_counters {
            Some(Ok(counters)) => counters.are_half_ended(),
            other => is_to_be_tried(other),
        };
        wanted.then(|| self.tree.tids())
    }

    /// Makes the catalog anew.
    pub(super) fn publish(&mut self) {
        for zone in &self.zones[self.counters.len()..] {
            self.counters
                .push(Counter::new(zone.unit_joules, zone.modulus));
            self.faults.push(None);
            self.idle_learners.push(IdleLearner::default());
        }
        self.mirrors = std::mem::take(&mut self.mirrors).widened(&self.zones);
        let mut missing = Vec::new();
        let mut notes = Vec::new();
        let mut holes = Vec::new();
        for source in &self.sources {
            let method = source.method;
            match &source.counter {
                Some(Ok(counter)) => {
                    notes.extend(counter.notes().iter().map(|note| (method, note.clone())));
                    holes.extend(counter.holes().iter().map(|hole| (method, hole.clone())));
                }
                Some(Err(why)) => missing.push((method, self.lacking(why))),
                None if method.stands_in() && self.packages_are_counted() => {
                    missing.push((method, Unavailable::absent(COUNTED)));
                }
                None => {}
            }
        }
        if let Some(why) = self.probing.missing() {
            missing.push((Method::Ebpf, why.clone()));
        }
        let recorded = self.missing_recorded(&mut missing);
        if recorded.is_none() && self.machine.stat_line(clock::monotonic_ns()).is_none() {
            let why = Err::<(), _>(Unavailable::absent("/proc/stat cannot be read"));
            let why = unless_starved("/proc/stat", why, |()| true);
            missing.extend(why.err().map(|why| (Method::Psutil, why)));
        }
        let mut hardware_missing = match (recorded, &self.tree_counters) {
            (Some(recorded), _) => recorded,
            (None, Some(Ok(counters))) => counters.hardware.clone(),
            (None, Some(Err(why))) => Some(why.clone()),
            (None, None) => None,
        };
        let via = self.ring.via();
        if let (Some(via), Some(words)) = (&via, self.ring.describe()) {
            missing.retain(|(method, _)| *method != via.method);
            let note = Note {
                domain: None,
                about: String::new(),
                why: words,
            };
            notes.push((via.method, note));
        }
        let reasons = missing.iter_mut().map(|(_, why)| &mut why.reason);
        let reasons = reasons.chain(hardware_missing.as_mut().map(|why| &mut why.reason));
        let reasons = reasons.chain(
            notes
                .iter_mut()
                .flat_map(|(_, n)| [&mut n.about, &mut n.why]),
        );
        for text in reasons.chain(holes.iter_mut().map(|(_, hole)| &mut hole.why)) {
            self.tape.scrub(text);
        }
        self.catalog = Arc::new(Catalog {
            via,
            holes,
            zones: self.zones.clone(),
            missing,
            hardware_missing,
            notes,
        });
    }

    /// Why a counter is missing, and why its stand-in is.
    fn lacking(&self, why: &Unavailable) -> Unavailable {
        match self.ring.refused() {
            Some(other) => Unavailable {
                reason: format!("{}; {}", why.reason, other.reason),
                ..why.clone()
            },
            None => why.clone(),
        }
    }

    /// Reads the energy counters of `methods` and advances their totals. Once more where the
    /// first try was interrupted: at the edge of a window, time is energy.
    pub(super) fn read_counters(&mut self, methods: Methods) -> Moment {
        if let Some(moment) = self.play_counters(methods) {
            return moment;
        }
        let mut moment = self.read_counters_once(methods);
        let usual_ns = INTERRUPTED_NS.max(self.zones.len() as u64 * AWAKENING_NS / 2);
        if moment.slack_ns > usual_ns {
            self.tape.again(moment);
            moment = self.read_counters_once(methods);
        }
        moment.slack_ns += self.ring.slack_ns();
        self.tape.note_moment(moment);
        moment
    }

    pub(super) fn read_counters_once(&mut self, methods: Methods) -> Moment {
        let asleep_ns = clock::asleep_ns();
        let before = clock::monotonic_ns();
        for place in 0..self.sources.len() {
            let method = self.sources[place].method;
            if !methods.has(method) {
                continue;
            }
            self.raw.clear();
            let mut lost_times = 0;
            let from_ns = clock::monotonic_ns();
            match &mut self.sources[place].counter {
                Some(Ok(counter)) => counter.read(&mut self.raw),
                _ => match self.ring.read(method, from_ns, &mut self.raw) {
                    Some(lost) => lost_times = lost,
                    None => continue,
                },
            }
            let at = At::between(from_ns, clock::monotonic_ns(), asleep_ns);
            self.tape.note_counters(method, at, &self.raw, &self.zones);
            self.take_raw(method, at, lost_times);
            self.take_carries(place);
        }
        let after = clock::monotonic_ns();
        Moment {
            t_ns: before + (after - before) / 2,
            slack_ns: (after - before) / 2,
        }
    }

    /// The counters of `methods` that could not be read last, and why, and those that have not moved yet.
    pub(super) fn silent(&self, methods: Methods) -> Vec<(Zone, Option<ReadFault>)> {
        let all = self.zones.iter().zip(&self.faults).enumerate();
        let silent = all.filter(|(i, (zone, fault))| {
            let is_still = || self.counters[*i].total == 0 && !self.may_rest(*i);
            methods.has(zone.method) && (fault.is_some() || is_still())
        });
        silent
            .map(|(_, (zone, fault))| (zone.clone(), *fault))
            .collect()
    }

    /// Whether counter `i` may truly stand still: always, or as another one of its domain moves.
    pub(super) fn may_rest(&self, i: usize) -> bool {
        let own = &self.zones[i];
        let mut all = self.zones.iter().zip(&self.counters).enumerate();
        own.may_stand_still()
            || own.may_rest()
                && all.any(|(j, (zone, counter))| {
                    j != i
                        && (zone.method, zone.domain) == (own.method, own.domain)
                        && counter.total > 0
                })
    }

    /// Keeps what is not known of the totals that the source at `place` carried on.
    fn take_carries(&mut self, place: usize) {
        let source = &self.sources[place];
        let carries = source.opened().map_or(&[][..], EnergyCounter::carries);
        if carries.is_empty() {
            return;
        }
        let its = self.zones.iter().zip(&mut self.counters);
        let its = its.filter(|(zone, _)| zone.method == source.method);
        for ((_, counter), carry) in its.zip(carries) {
            counter.take_carry(*carry);
        }
    }

    /// Judges what the counters of `method` showed at `at`, which is in `raw`.
    pub(super) fn take_raw(&mut self, method: Method, at: At, lost_times: u32) {
        let mut raw = self.raw.iter();
        for (i, zone) in self.zones.iter().enumerate() {
            if zone.method != method {
                continue;
            }
            let counter = &mut self.counters[i];
            counter.lose(lost_times);
            match raw.next() {
                Some(Ok(value)) => {
                    let step = counter.advance(at, *value);
                    self.faults[i] = (step == Step::Beyond).then_some(ReadFault::Beyond);
                    // The counter may be another machine's now.
                    if matches!(step, Step::Reset | Step::Jumped(_)) {
                        self.idle_learners[i].forget();
                    }
                }
                Some(Err(fault)) => self.faults[i] = Some(*fault),
                None => {}
            }
        }
        self.mirrors.compare(method, &self.counters);
    }

    /// CPU time of this process's tree, ns; by perf's count since the window began where that is
    /// more: children that nobody waited for are missing from the clocks, not from perf.
    fn own_tree_ns(&mut self, methods: Methods, base: &mut Option<CountBase>) -> Option<u64> {
        let tree = self.tree.cpu_ns()?;
        if !methods.has(Method::Perf) {
            return Some(tree);
        }
        let Some(Ok(counters)) = &mut self.tree_counters else {
            return Some(tree);
        };
        self.tree_count = Some(counters.read());
        let Some(count) = self.tree_count.and_then(|c| c.task_clock_ns) else {
            return Some(tree);
        };
        let then = *base.get_or_insert(CountBase { count, tree });
        Some(tree.max(then.tree + count.saturating_sub(then.count)))
    }

    /// CPU time of the threads that read until now, ns. They work between windows, too: taken from an
    /// earlier look, a window would lose what was used before it began.
    fn sampler_ns(&mut self) -> u64 {
        if let Some(now) = self.thread.tid.and_then(clock::thread_cpu_ns) {
            self.thread.cpu_ns = now;
        }
        let others_ns = gpus::thread_cpu_ns().saturating_add(hwmon::spent_cpu_ns());
        self.thread.cpu_ns.saturating_add(others_ns)
    }

    pub(super) fn own_and_inside(&mut self, methods: Methods, follow: &mut Follow) -> CpuCount {
        if let Some(count) = self.play_cpu(follow) {
            return count;
        }
        let pid = match follow.subject {
            Subject::Process { pid, .. } => pid,
            _ => None,
        };
        let began_ns = clock::monotonic_ns();
        // Next to the process's own clock; the thread waits for the lock meanwhile.
        let sampler_ns = match &follow.subject {
            Subject::Process { pid: None, .. } => self.sampler_ns(),
            Subject::Processes { pids, .. } if pids.contains(&clock::getpid()) => self.sampler_ns(),
            _ => 0,
        };
        let look = self.probing.look(&follow.probed, pid);
        let seen = look.as_ref().map(|look| look.seen);
        let by_probe = look.and_then(|look| look.own_ns);
        let (own, inside) = match &mut follow.subject {
            Subject::Process { pid: None, .. } if by_probe.is_some() => {
                if methods.has(Method::Perf)
                    && let Some(Ok(counters)) = &mut self.tree_counters
                {
                    self.tree_count = Some(counters.read());
                }
                let own = by_probe.map(|ns| ns.saturating_sub(sampler_ns));
                (own, by_probe)
            }
            _ if by_probe.is_some() => (by_probe, by_probe),
            Subject::Process {
                pid: None,
                children,
            } => {
                let inside = if *children {
                    self.own_tree_ns(methods, &mut follow.count_base)
                } else {
                    Some(clock::own_process_cpu_ns())
                };
                // The sampler's time is known exactly and is not the function's.
                let own = inside.map(|ns| ns.saturating_sub(sampler_ns));
                (own, inside)
            }
            Subject::Process {
                pid: Some(_),
                children,
            } => {
                let own = follow.trees.as_mut().and_then(|t| t.cpu_ns(*children));
                (own, own)
            }
            Subject::Processes { children, .. } => {
                let inside = follow.trees.as_mut().and_then(|t| t.cpu_ns(*children));
                (inside.map(|ns| ns.saturating_sub(sampler_ns)), inside)
            }
            Subject::Thread(tid) => (
                clock::thread_cpu_ns(*tid).or(Some(follow.last_own_ns)),
                Some(clock::own_process_cpu_ns()),
            ),
            Subject::Task(task) => (Some(task.cpu_ns()), Some(clock::own_process_cpu_ns())),
            Subject::Cgroup(groups) => {
                let own = groups.cpu_ns(follow.last_own_ns);
                (own, own)
            }
        };
        let own = own.map(|ns| ns.max(follow.last_own_ns));
        follow.last_own_ns = own.unwrap_or(follow.last_own_ns);
        let count = CpuCount {
            own_ns: own,
            inside_ns: inside,
            may_be_late: follow.subject.is_tree()
                && by_probe.is_none()
                && match &follow.trees {
                    Some(trees) => trees.may_be_late(),
                    None => self.tree.may_be_late(),
                },
            read: Reading {
                began_ns,
                ended_ns: clock::monotonic_ns(),
            },
            seen,
        };
        self.note_cpu(&count);
        count
    }

    /// The counts that were just read for this process's tree, if that is what is followed.
    pub(super) fn count_of(&self, methods: Methods, follow: &Follow) -> Option<TreeCount> {
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
    pub(super) fn edge(&mut self, record: &mut Record, follow: &mut Follow) -> Edge {
        let moment = self.read_counters(record.methods);
        self.count_late(record, moment.t_ns);
        let cpu = self.own_and_inside(record.methods, follow);
        if record.methods.has(Method::Psutil) {
            // It is wanted at the end of the window anyway; here it also bears idle time out.
            self.look_at_stat();
        }
        self.edge_from(moment, cpu, record.start.totals.len())
    }

    pub(super) fn edge_from(&mut self, moment: Moment, cpu: CpuCount, width: usize) -> Edge {
        Edge {
            t_ns: moment.t_ns,
            slack_ns: moment.slack_ns,
            totals: self.counters.iter().take(width).map(|c| c.total).collect(),
            anomalies: self.anomaly_counts(width),
            idle_ns: self.idle_ns(moment.t_ns, cpu.inside_ns),
            waiting_ns: self.machine.waiting_ns(),
            capacity_ns: self.machine.capacity_ns(moment.t_ns),
            may_be_late: cpu.may_be_late,
            cpu_gap_ns: cpu.read.farthest_from(moment.t_ns),
            own_ns: cpu.own_ns,
            inside_ns: cpu.inside_ns,
            seen: cpu.seen,
            sandbox: self.read_sandbox(),
        }
    }

    pub(super) fn anomaly_counts(&self, width: usize) -> Vec<u32> {
        let counters = self.counters.iter().take(width);
        counters.map(|c| c.anomalies.count()).collect()
    }

    /// Zones that only repeat the counter of an earlier one. Only on AMD's processors are there such.
    pub(super) fn mirrors_of(&self, width: usize) -> Vec<Option<Mirror>> {
        let amd = self.may_repeat_counters();
        (0..width)
            .map(|i| self.mirrors.of(i).filter(|_| amd))
            .collect()
    }

    /// The zones of which too little was seen to say that they repeat no other one.
    pub(super) fn possible_mirrors(&self, width: usize) -> Vec<bool> {
        let amd = self.may_repeat_counters();
        (0..width).map(|i| amd && self.mirrors.may_be(i)).collect()
    }

    /// There are dies whose maker shows one counter for several.
    fn may_repeat_counters(&self) -> bool {
        let vendor = self.facts.as_ref().and_then(|f| f.cpu.vendor.as_deref());
        let mut opened = self.sources.iter().filter_map(Source::opened);
        !self.mirrors.is_empty()
            && (vendor.is_some_and(is_amd) || opened.any(EnergyCounter::may_repeat_dies))
    }

    /// Once the machine is known, so is what its counters can show at most.
    pub(super) fn bound_counters(&mut self) {
        if self.bounded == self.counters.len() {
            return;
        }
        let Some(facts) = &self.facts else { return };
        let mut limits = Vec::new();
        for source in &mut self.sources {
            if let Some(Ok(counter)) = &mut source.counter {
                limits.extend_from_slice(counter.limits());
                self.tape.note_limits(source.method, counter.limits());
            }
        }
        for (zone, counter) in self.zones.iter().zip(&mut self.counters) {
            counter.most_watts = ceilings::most_watts(facts, zone, &limits);
        }
        self.bounded = self.counters.len();
    }

    /// Idle time of the machine: by /proc, or by the agent where /proc shows something else.
    pub(super) fn idle_ns(&mut self, t_ns: u64, inside_ns: Option<u64>) -> Option<u64> {
        if let Some(told) = self.play_busy() {
            return told;
        }
        if self.ring.tells_idle() {
            return self.ring.idle_ns();
        }
        let idle_ns = self.machine.idle_ns(t_ns, inside_ns);
        if let Some(frame) = self.tape.writes() {
            frame.busy = Some(self.machine.shown());
        }
        idle_ns
    }

    /// What the cgroup that limits this process has counted so far. Nothing is read where no cgroup
    /// does.
    fn read_sandbox(&mut self) -> Option<SandboxCount> {
        if let Some(frame) = self.tape.frame() {
            return frame.sandbox;
        }
        let count = self.facts.as_ref()?.sandbox.as_ref()?.read();
        if let Some(frame) = self.tape.writes() {
            frame.sandbox = count;
        }
        count
    }

    /// Renews what is known of the part of the machine that this process may use: CPUs come and go,
    /// threads are bound, quotas are set, in a parent before a fork, too. Files are read where
    /// `files`, and only in a process that has metered for a while: a worker that is forked for one
    /// call has its parent's limits. The CPUs that the calling thread may run on are asked for where
    /// `affinity`: where something is settled before the next call.
    pub(super) fn renew_facts(&mut self, files: bool, affinity: bool) {
        let Some(facts) = self.facts.as_ref().filter(|_| !self.tape.plays()) else {
            return;
        };
        let now = clock::monotonic_ns();
        let cpus = self.machine.online().unwrap_or(facts.cpus);
        let share = &facts.environment.allotted;
        let may = match affinity {
            true => allotted::affinity(),
            false => share.affinity,
        };
        let changed = match &mut self.watch {
            Some(watch) => watch.changed(now),
            None => files && now.saturating_sub(self.since_ns) >= watch::EVERY_NS,
        };
        if !changed && cpus == facts.cpus && may == share.affinity || memory::is_short() {
            return;
        }
        let limits = changed.then_some(self.root.as_path());
        let renewed = facts.renewed(cpus, may, limits);
        // The first look at the files finds, as a rule, what the facts were made of.
        let same = self.watch.is_none() && renewed.is_as(facts);
        if changed {
            self.watch = Some(Watch::open(&renewed.environment.allotted, now));
        }
        if !same {
            self.facts = Some(Arc::new(renewed));
        }
    }

    pub(super) fn take(&mut self, id: u64) -> Option<Box<Active>> {
        let position = self.active.iter().position(|a| a.id == id)?;
        Some(self.active.swap_remove(position))
    }
}

//! The sources of one hub and the windows that run: reading, attributing, closing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::probed::{CpuCount, FollowedSince};
use super::window::{Active, Catalog, Edge, Follow, Moment, Outcome, Record, Subject};
use crate::attribution::{Interval, Ledger, Split};
use crate::clock;
use crate::machine::estimation::Estimation;
use crate::machine::facts::{Facts, Modelled};
use crate::machine::rest::Rest;
use crate::machine::share::SandboxCount;
use crate::source::ebpf::Probes;
use crate::source::perf::{PowerPmu, TreeCount, TreeCounters};
use crate::source::procfs::{MachineCpu, System, Tree};
use crate::source::rapl::Rapl;
use crate::source::throttle::Throttle;
use crate::source::{Method, Methods, ReadFault, Unavailable, Zone};
use crate::timeline::{Counter, Step, Timeline};

/// Attribution works on intervals of at least this length, ns: the machine's idle time is printed
/// in steps of 10 ms.
const ATTRIBUTION_NS: u64 = 100_000_000;

/// A rest shorter than this joins the interval before it.
const SHORT_REST_NS: u64 = 50_000_000;

/// Samples that a meter keeps for its timeline.
const TIMELINE_SAMPLES: usize = 2048;

/// Counters of the process tree serve the windows after the one in which they are opened, so they
/// are for processes that meter again and again: a worker that is forked for one call never does.
const TREE_AFTER_WINDOWS: u64 = 3;

/// A window this long is worth counters of the process tree for the windows after it, ns.
const TREE_AFTER_NS: u64 = 1_000_000_000;

/// Reading all counters takes microseconds; if it took this long, something came between, ns.
const INTERRUPTED_NS: u64 = 500_000;

/// Idle power is learned from windows with at least this much capacity, ns of CPU: 1 % resolution.
const IDLE_CAPACITY_NS: u64 = 1_000_000_000;

/// Columns of a timeline before the energy slots: CPU seconds of the function.
const TIMELINE_CPU_COLUMNS: usize = 1;

/// A source that was tried.
type Opened<T> = Option<Result<T, Unavailable>>;

pub(super) struct State {
    pub(super) root: PathBuf,
    pub(super) facts: Option<Arc<Facts>>,
    pub(super) rapl: Opened<Rapl>,
    pub(super) perf: Opened<PowerPmu>,
    pub(super) ring: super::ring::Borrowed,
    pub(super) tree_counters: Opened<TreeCounters>,
    pub(super) probes: Opened<Arc<Probes>>,
    /// Where the probes' pins will be, if they were not there when last looked for.
    pub(super) probes_awaited: Option<PathBuf>,
    /// Somebody asked for the probes by name.
    pub(super) probes_asked: bool,
    /// Thermal events, where the probes cannot see them.
    pub(super) throttle: Option<Throttle>,
    /// This process's tree, as the probes follow it.
    pub(super) ours_followed: Option<Result<FollowedSince, String>>,
    pub(super) machine: MachineCpu,
    pub(super) system: Option<System>,
    pub(super) tree: Tree,
    pub(super) zones: Vec<Zone>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) counters: Vec<Counter>,
    pub(super) faults: Vec<Option<ReadFault>>,
    pub(super) raw: Vec<Result<u64, ReadFault>>,
    pub(super) active: Vec<Active>,
    pub(super) next_id: u64,
    pub(super) outside_rate: Option<f64>,
    pub(super) idle_since: Option<(u64, u64, Vec<u64>)>,
    pub(super) rests: Vec<Rest>,
    pub(super) tree_count: Option<TreeCount>,
    pub(super) last_count: Option<(u64, u64)>,
    pub(super) extra_cpu_ns: u64,
    /// CPU time of the sampler thread so far, ns: in this process, and not the function's.
    pub(super) sampler_cpu_ns: u64,
    /// A row of a timeline in the making.
    pub(super) row: Vec<f64>,
    pub(super) thread: bool,
    pub(super) thread_refused: bool,
    pub(super) parked: bool,
    /// The interval that the thread keeps, ns.
    pub(super) pace: Option<u64>,
}

impl State {
    /// Nothing is opened yet but what every window needs.
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            facts: None,
            rapl: None,
            perf: None,
            ring: super::ring::Borrowed::default(),
            tree_counters: None,
            probes: None,
            probes_awaited: None,
            probes_asked: false,
            throttle: None,
            ours_followed: None,
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
            rests: Vec::new(),
            tree_count: None,
            last_count: None,
            extra_cpu_ns: 0,
            sampler_cpu_ns: 0,
            row: Vec::new(),
            thread: false,
            thread_refused: false,
            parked: false,
            pace: None,
        }
    }

    /// Opens each source that `methods` ask for and that was not tried before.
    pub(super) fn open(&mut self, methods: Methods) {
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
        news |= self.open_ring(methods);
        if methods.has(Method::Psutil) && self.system.is_none() {
            self.system = Some(System::open(&self.root));
            news = true;
        }
        news |= self.open_probes(methods);
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
    pub(super) fn open_tree(&mut self) {
        if self.tree_counters.is_none() {
            let tids = self.tree.tids();
            self.tree_counters = Some(TreeCounters::open(&tids));
            self.publish();
        }
    }

    /// The threads whose counters are to be opened in the background, once that is worth it.
    pub(super) fn wants_tree(&mut self) -> Option<Vec<i32>> {
        let now = clock::monotonic_ns();
        let long = |active: &Active| {
            active.record.methods.has(Method::Perf)
                && now.saturating_sub(active.record.start.t_ns) > TREE_AFTER_NS
        };
        let again = self.next_id >= TREE_AFTER_WINDOWS;
        let wanted = again && self.tree_counters.is_none() && self.active.iter().any(long);
        wanted.then(|| self.tree.tids())
    }

    /// Makes the catalog anew.
    pub(super) fn publish(&mut self) {
        for zone in &self.zones[self.counters.len()..] {
            self.counters
                .push(Counter::new(zone.unit_joules, zone.modulus));
            self.faults.push(None);
            self.rests.push(Rest::default());
        }
        let mut missing = Vec::new();
        let mut notes = Vec::new();
        match &self.rapl {
            Some(Ok(rapl)) => notes.extend(rapl.notes().iter().map(|n| format!("rapl: {n}"))),
            Some(Err(why)) => missing.push((Method::Rapl, self.lacking(why))),
            None => {}
        }
        match &self.perf {
            Some(Ok(perf)) => notes.extend(perf.notes().iter().map(|n| format!("perf: {n}"))),
            Some(Err(why)) => missing.push((Method::Perf, self.lacking(why))),
            None => {}
        }
        if let Some(Err(why)) = &self.probes {
            missing.push((Method::Ebpf, why.clone()));
        }
        if self.machine.stat_line(clock::monotonic_ns()).is_none() {
            let why = Unavailable::absent("/proc/stat cannot be read");
            missing.push((Method::Psutil, why));
        }
        let hardware_missing = match &self.tree_counters {
            Some(Ok(counters)) => counters.hardware.clone(),
            Some(Err(why)) => Some(why.clone()),
            None => None,
        };
        let holes = match &self.rapl {
            Some(Ok(rapl)) => rapl.holes().to_vec(),
            _ => Vec::new(),
        };
        let via = self.ring.via();
        if let (Some(via), Some(words)) = (&via, self.ring.describe()) {
            missing.retain(|(method, _)| *method != via.method);
            notes.push(format!("{}: {words}", via.method.name()));
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
        let mut moment = self.read_counters_once(methods);
        if moment.slack_ns > INTERRUPTED_NS {
            moment = self.read_counters_once(methods);
        }
        moment.slack_ns += self.ring.slack_ns();
        moment
    }

    pub(super) fn read_counters_once(&mut self, methods: Methods) -> Moment {
        let before = clock::monotonic_ns();
        for method in [Method::Rapl, Method::Perf] {
            if !methods.has(method) {
                continue;
            }
            self.raw.clear();
            let mut lost_times = 0;
            let t_ns = clock::monotonic_ns();
            match (method, &mut self.rapl, &mut self.perf) {
                (Method::Rapl, Some(Ok(rapl)), _) => rapl.read(&mut self.raw),
                (Method::Perf, _, Some(Ok(perf))) => perf.read(&mut self.raw),
                _ => match self.ring.read(method, t_ns, &mut self.raw) {
                    Some(lost) => lost_times = lost,
                    None => continue,
                },
            }
            let mut raw = self.raw.iter();
            for (i, zone) in self.zones.iter().enumerate() {
                if zone.method != method {
                    continue;
                }
                self.counters[i].resets += lost_times;
                match raw.next() {
                    Some(Ok(value)) => {
                        self.faults[i] = None;
                        if let Step::Reset(_) = self.counters[i].advance(t_ns, *value) {
                            self.rests[i].forget();
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

    /// CPU time of this process's tree without the sampler, ns; perf's count where it saw more.
    pub(super) fn own_tree_ns(&mut self, methods: Methods) -> Option<u64> {
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
        Some((tree + self.extra_cpu_ns).saturating_sub(self.sampler_cpu_ns))
    }

    pub(super) fn own_and_inside(&mut self, methods: Methods, follow: &mut Follow) -> CpuCount {
        let pid = match follow.subject {
            Subject::Process { pid, .. } => pid,
            _ => None,
        };
        let look = self.look(&follow.probed, pid);
        let seen = look.as_ref().map(|look| look.seen);
        let by_probe = look.and_then(|look| look.own_ns);
        let (own, inside) = match &follow.subject {
            Subject::Process { pid: None, .. } if by_probe.is_some() => {
                if methods.has(Method::Perf)
                    && let Some(Ok(counters)) = &mut self.tree_counters
                {
                    self.tree_count = Some(counters.read());
                }
                let own = by_probe.map(|ns| ns.saturating_sub(self.sampler_cpu_ns));
                (own, by_probe)
            }
            _ if by_probe.is_some() => (by_probe, by_probe),
            Subject::Process {
                pid: None,
                children,
            } => {
                let own = if *children {
                    self.own_tree_ns(methods)
                } else {
                    Some(clock::own_process_cpu_ns().saturating_sub(self.sampler_cpu_ns))
                };
                // The sampler's time is known exactly and is not the function's.
                (own, own.map(|ns| ns + self.sampler_cpu_ns))
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
        CpuCount {
            own_ns: own,
            inside_ns: inside,
            seen,
        }
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
    pub(super) fn edge(&mut self, record: &Record, follow: &mut Follow) -> Edge {
        let moment = self.read_counters(record.methods);
        let cpu = self.own_and_inside(record.methods, follow);
        self.edge_from(moment, cpu, record.start.totals.len())
    }

    pub(super) fn edge_from(&mut self, moment: Moment, cpu: CpuCount, width: usize) -> Edge {
        Edge {
            t_ns: moment.t_ns,
            slack_ns: moment.slack_ns,
            totals: self.counters.iter().take(width).map(|c| c.total).collect(),
            resets: self.counters.iter().take(width).map(|c| c.resets).collect(),
            idle_ns: self.idle_ns(moment.t_ns, cpu.inside_ns),
            own_ns: cpu.own_ns,
            inside_ns: cpu.inside_ns,
            seen: cpu.seen,
            sandbox: self.read_sandbox(),
        }
    }

    /// Idle time of the machine: by /proc, or by the agent where /proc tells of something else.
    fn idle_ns(&mut self, t_ns: u64, inside_ns: Option<u64>) -> Option<u64> {
        match self.ring.idle_ns() {
            Some(ns) => Some(ns),
            None => self.machine.idle_ns(t_ns, inside_ns),
        }
    }

    /// What the cgroup that limits this process has counted so far. Nothing is read where no cgroup
    /// does.
    fn read_sandbox(&self) -> Option<SandboxCount> {
        self.facts.as_ref()?.sandbox.as_ref()?.read()
    }

    pub(super) fn take(&mut self, id: u64) -> Option<Active> {
        let position = self.active.iter().position(|a| a.id == id)?;
        Some(self.active.swap_remove(position))
    }

    pub(super) fn begin(
        &mut self,
        methods: Methods,
        interval_ns: Option<u64>,
        subject: Subject,
        estimation: Estimation,
    ) -> u64 {
        if self.facts.is_none() {
            // No file is read for them here; a parent may have known them.
            self.facts = Facts::known(&self.root);
        }
        let ours = subject.is_ours();
        self.next_id += 1;
        let id = self.next_id;
        let width = self.zones.len();
        let mut tree = match subject {
            Subject::Process { pid: Some(pid), .. } => Some(Tree::new(Some(pid))),
            _ => None,
        };
        let mut follow = Follow {
            probed: self.probe(methods, &subject, tree.as_mut()),
            tree,
            subject,
            last_own_ns: 0,
        };
        let mut system = None;
        let mut high_water = None;
        if methods.has(Method::Psutil) {
            let stat = self.machine.stat_line(clock::monotonic_ns());
            system = self
                .system
                .as_mut()
                .filter(|_| stat.is_some())
                .map(|s| s.edge(stat));
            high_water = follow
                .tree
                .as_mut()
                .unwrap_or(&mut self.tree)
                .root_peak_bytes();
        }
        let realtime_offset = clock_offset();
        let mut timeline =
            interval_ns.map(|_| Timeline::new(TIMELINE_CPU_COLUMNS + width + 2, TIMELINE_SAMPLES));
        let ledger = Ledger::new(width + 2);
        // CPU time is read next to the counters, so that both see the same window; what this
        // reads again below it has read already.
        self.machine.idle_ns(clock::monotonic_ns(), None);
        let cpu = self.own_and_inside(methods, &mut follow);
        let tree_count = self.count_of(methods, &follow);
        let now = Moment {
            t_ns: clock::monotonic_ns(),
            slack_ns: 0,
        };
        let mut start = self.edge_from(now, cpu, width);
        // The counters come last, so that nothing of the meter's own is inside the window.
        let moment = self.read_counters(methods);
        start.t_ns = moment.t_ns;
        start.slack_ns = moment.slack_ns;
        for (i, counter) in self.counters.iter().enumerate() {
            start.totals[i] = counter.total;
            start.resets[i] = counter.resets;
        }
        // What the counters did between windows is no concern of this one.
        let ambiguous = self.counters.iter().map(|c| c.ambiguous).sum();
        let wraps = self.counters.iter().map(|c| c.wraps).sum();
        if let Some(line) = &mut timeline {
            line.push_zeros(start.t_ns);
        }
        self.active.push(Active {
            id,
            follow,
            record: Record {
                methods,
                estimation,
                ours,
                interval_ns,
                group: start.clone(),
                start,
                candidate: None,
                ledger,
                sandbox: None,
                sandbox_from: None,
                phases: Vec::new(),
                open_phases: Vec::new(),
                timeline,
                samples: 0,
                system,
                tree_count,
                rss_peak: None,
                high_water,
                model_joules: [0.0; 3],
                model_watts: [0.0; 2],
                model_shown: [0.0; 2],
                realtime_offset,
                ambiguous,
                wraps,
            },
        });
        id
    }

    /// The interval that serves every meter that runs, ns.
    pub(super) fn shortest_interval(&self) -> Option<u64> {
        self.active
            .iter()
            .filter_map(|a| a.record.interval_ns)
            .min()
    }

    /// One round of the background thread: counters always, the rest where an interval ends.
    pub(super) fn tick(&mut self) {
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
            active.record.samples += 1;
            let from = active.record.candidate.as_ref();
            let from = from.unwrap_or(&active.record.group).t_ns;
            // While the agent is away an interval goes on: its energy comes with the next word.
            if moment.t_ns.saturating_sub(from) >= ATTRIBUTION_NS && !self.ring.is_silent() {
                self.end_interval(active, moment);
            } else {
                self.push_timeline(&mut active.record, moment.t_ns, None, false);
            }
        }
        self.active = running;
        self.learn_idle(moment.t_ns);
    }

    /// An interval of attribution ends; the one before it is settled.
    fn end_interval(&mut self, active: &mut Active, moment: Moment) {
        self.sampler_cpu_ns = clock::own_thread_cpu_ns();
        let cpu = self.own_and_inside(active.record.methods, &mut active.follow);
        let record = &mut active.record;
        let edge = self.edge_from(moment, cpu, record.start.totals.len());
        if record.methods.has(Method::Psutil) {
            let rss = self.rss_of(&mut active.follow);
            record.rss_peak = record.rss_peak.max(rss);
        }
        self.push_timeline(record, edge.t_ns, edge.own_ns, false);
        if let Some(before) = record.candidate.replace(edge) {
            self.settle(record, before);
        }
    }

    pub(super) fn rss_of(&mut self, follow: &mut Follow) -> Option<u64> {
        follow.tree.as_mut().unwrap_or(&mut self.tree).rss_bytes()
    }

    fn push_timeline(&mut self, record: &mut Record, t_ns: u64, own_ns: Option<u64>, last: bool) {
        let Some(line) = &mut record.timeline else {
            return;
        };
        let width = record.start.totals.len();
        let row = &mut self.row;
        row.clear();
        // CPU time is read where intervals end; in between readers interpolate.
        row.push(match own_ns {
            Some(_) => difference(own_ns, record.start.own_ns) as f64 * 1e-9,
            None => f64::NAN,
        });
        for (i, counter) in self.counters.iter().take(width).enumerate() {
            let units = counter.total.saturating_sub(record.start.totals[i]);
            // Another meter may have had a counter read that this one did not ask for.
            let asked = record.methods.has(self.zones[i].method);
            row.push(if asked { counter.joules(units) } else { 0.0 });
        }
        // The model's energy is known up to the last settled interval, and goes on as in it.
        let ahead = t_ns.saturating_sub(record.group.t_ns) as f64 * 1e-9;
        for ((known, watts), shown) in record.ledger.joules[width..]
            .iter()
            .zip(record.model_watts)
            .zip(&mut record.model_shown)
        {
            // What was shown too early is not taken back: energy does not run backwards.
            *shown = shown.max(known + watts * ahead);
            row.push(*shown);
        }
        if last {
            line.push_last(t_ns, row);
        } else {
            line.push(t_ns, row);
        }
    }

    /// Adds the interval from the last settled edge to `edge` to the ledger.
    pub(super) fn settle(&mut self, record: &mut Record, edge: Edge) {
        let from = &record.group;
        let dt_ns = edge.t_ns.saturating_sub(from.t_ns);
        if dt_ns == 0 {
            return;
        }
        // The clocks are read within microseconds of each other, not at once.
        let capacity = dt_ns.saturating_mul(u64::from(self.machine.cpus));
        let own_ns = difference(edge.own_ns, from.own_ns).min(capacity);
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
            seen: edge
                .seen
                .zip(from.seen)
                .and_then(|(now, then)| now.weights(&then, own_ns, self.siblings())),
        };
        let split = record.ledger.split(&interval);
        let mut joules: Vec<f64> = edge
            .totals
            .iter()
            .zip(&from.totals)
            .zip(&self.counters)
            .map(|((now, before), counter)| counter.joules(now.saturating_sub(*before)))
            .collect();
        let seconds = dt_ns as f64 * 1e-9;
        let known = self.facts.as_ref();
        // Where a quota or a cpuset makes a sandbox, the model knows that and no more.
        let sandbox = known
            .filter(|facts| record.ours && facts.environment.lambda_memory_mb.is_none())
            .and_then(|facts| facts.sandbox_cpus());
        record.sandbox_from = record.sandbox_from.or(from.sandbox).or(edge.sandbox);
        let within = sandbox.map(|cpus| {
            let used = edge.sandbox.zip(from.sandbox);
            let used = used.and_then(|(now, then)| now.since(then).used_ns);
            Split::within(cpus, used, &interval, split)
        });
        let modelled = match known {
            Some(facts) if record.methods.has(Method::Tdp) => facts.model_joules(
                facts.modelling(record.estimation, record.ours),
                within.unwrap_or(split).busy_cpus,
                seconds,
            ),
            _ => Modelled::default(),
        };
        joules.extend([modelled.package, modelled.memory]);
        record.model_watts = [modelled.package / seconds, modelled.memory / seconds];
        for (sum, part) in record.model_joules.iter_mut().zip(modelled.band()) {
            *sum += part;
        }
        record.ledger.add(&interval, split, &joules);
        if let Some(within) = within {
            let slots = joules.len();
            record
                .sandbox
                .get_or_insert_with(|| Ledger::new(slots))
                .add(&interval, within, &joules);
        }
        record.group = edge;
        if dt_ns >= SHORT_REST_NS && interval.idle_ns.is_some() {
            let outside = (split.busy_cpus * dt_ns as f64 - interval.inside_ns as f64).max(0.0);
            let rate = outside / dt_ns as f64;
            self.outside_rate = Some(self.outside_rate.map_or(rate, |old| 0.5 * (old + rate)));
        }
    }

    /// Settles everything up to `edge`; a short rest joins the interval before it.
    pub(super) fn settle_all(&mut self, record: &mut Record, edge: Edge) {
        if let Some(candidate) = record.candidate.take()
            && edge.t_ns.saturating_sub(candidate.t_ns) >= SHORT_REST_NS
        {
            self.settle(record, candidate);
        }
        self.settle(record, edge);
    }

    pub(super) fn learn_idle(&mut self, t_ns: u64) {
        let cpus = u64::from(self.machine.cpus);
        let early = |since: u64| t_ns.saturating_sub(since) * cpus < IDLE_CAPACITY_NS;
        if self
            .idle_since
            .as_ref()
            .is_some_and(|(since, ..)| early(*since))
        {
            return;
        }
        let Some(idle_ns) = self.idle_ns(t_ns, None) else {
            return;
        };
        let totals = |state: &Self| state.counters.iter().map(|c| c.total).collect::<Vec<_>>();
        let Some((since, idle_then, before)) = self.idle_since.take() else {
            self.idle_since = Some((t_ns, idle_ns, totals(self)));
            return;
        };
        let capacity = (t_ns - since) * cpus;
        let busy = 1.0 - idle_ns.saturating_sub(idle_then) as f64 / capacity as f64;
        let seconds = (t_ns - since) as f64 * 1e-9;
        for (i, then) in before.iter().enumerate() {
            let counter = &self.counters[i];
            if self.faults[i].is_none() {
                let joules = counter.joules(counter.total.saturating_sub(*then));
                self.rests[i].see(seconds, busy, joules / seconds);
            }
        }
        self.idle_since = Some((t_ns, idle_ns, totals(self)));
    }

    pub(super) fn close(
        &mut self,
        follow: &mut Follow,
        mut record: Record,
        edge: Edge,
        running: bool,
    ) -> Outcome {
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
            let high_water = follow
                .tree
                .as_mut()
                .unwrap_or(&mut self.tree)
                .root_peak_bytes();
            // The high-water mark is this window's only if it moved within it.
            if high_water > record.high_water {
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
        let stood_ns = self.counters[..edge.totals.len()]
            .iter()
            .map(|counter| {
                let moved = counter.changed_ns > window_ns.0;
                let stood = window_ns.1.saturating_sub(counter.changed_ns);
                if moved { stood } else { 0 }
            })
            .collect();
        let slack_ns = record.start.slack_ns + edge.slack_ns;
        let own_known = edge.own_ns.is_some() && record.start.own_ns.is_some();
        let width = edge.totals.len();
        let (end_ns, end_own_ns) = (edge.t_ns, edge.own_ns);
        let seen = self.seen_window(
            &follow.probed,
            record.start.seen.as_ref(),
            edge.seen.as_ref(),
        );
        let sandbox_end = edge.sandbox;
        self.settle_all(&mut record, edge);
        self.push_timeline(&mut record, end_ns, end_own_ns, true);
        for (name, before) in std::mem::take(&mut record.open_phases).into_iter().rev() {
            record.end_phase(name, &before);
        }
        self.learn_from_ring();
        let sum = |of: fn(&Counter) -> u32| self.counters.iter().map(of).sum::<u32>();
        Outcome {
            window_ns,
            slack_ns,
            running,
            methods: record.methods,
            interval_ns: record.interval_ns,
            samples: record.samples,
            sampler_refused: self.thread_refused && record.interval_ns.is_some(),
            scope: follow.subject.name(),
            other_process: follow.tree.is_some(),
            faults: self.zones[..width]
                .iter()
                .zip(&self.faults)
                .map(|(zone, fault)| fault.filter(|_| record.methods.has(zone.method)))
                .collect(),
            width,
            catalog: Arc::clone(&self.catalog),
            resets,
            stood_ns,
            wraps: sum(|c| c.wraps) - record.wraps,
            ambiguous: sum(|c| c.ambiguous) - record.ambiguous,
            ledger: record.ledger,
            sandbox: record.sandbox,
            sandbox_count: sandbox_end
                .zip(record.sandbox_from)
                .filter(|_| record.ours)
                .map(|(now, then)| now.since(then)),
            estimation: record.estimation,
            ours: record.ours,
            phases: record.phases,
            own_known,
            timeline: record.timeline,
            rests: self.rests[..width].to_vec(),
            model_joules: record.model_joules,
            tree_count,
            seen,
            system,
            rss,
            drift_ns: clock_offset() - record.realtime_offset,
        }
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

//! What a meter follows, what it writes down, and what is left when its window ends.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::busy::ClockSeen;
use super::gpus::{Following, GpusSeen};
use super::probed::Probed;
use super::seen::{SeenSoFar, SeenWindow};
use super::slots::{Part, Slot, Slots};
use super::subject::{Scope, Subject};
use super::traffic::TrafficSeen;
use crate::attribution::Ledger;
use crate::cgroup::limits::SandboxCount;
use crate::counter::{Anomalies, Updates};
use crate::machine::facts::Facts;
use crate::machine::facts::ModelBand;
use crate::machine::idle_power::IdleLearner;
use crate::model::estimation::Estimation;
use crate::source::mirrors::Mirror;
use crate::source::perf::TreeCount;
use crate::source::procfs::{Missed, SystemEdge, SystemState, Trees};
use crate::source::{Domain, Hole, Method, Methods, Note, ReadFault, Unavailable, Zone};
use crate::timeline::Timeline;

/// CPU clocks and the edges of a window are read this near to each other, ns.
const SKEW_NS: f64 = 100e3;

/// A pending or settled reading of everything that a meter follows.
#[derive(Debug, Clone)]
pub struct Edge {
    /// `CLOCK_MONOTONIC`, ns.
    pub t_ns: u64,
    /// The counters were read at most this long before or after `t_ns`, ns.
    pub slack_ns: u64,
    /// Counter totals, one per zone, in its units.
    pub totals: Vec<u64>,
    /// What each counter did so far that no counter should: how often.
    pub(super) anomalies: Vec<u32>,
    pub(super) idle_ns: Option<u64>,
    /// The CPU clocks were read at most so long before or after `t_ns`, ns.
    pub(super) cpu_gap_ns: u64,
    /// Some of `own_ns` may have been used before the edge before this.
    pub(super) may_be_late: bool,
    /// CPU time that there was so far.
    pub(super) capacity_ns: u64,
    /// What of `idle_ns` was waiting for I/O or taken by the hypervisor.
    pub(super) waiting_ns: u64,
    pub(super) own_ns: Option<u64>,
    pub(super) inside_ns: Option<u64>,
    /// What the limiting cgroup has counted, where there is one and its files are open.
    pub(super) sandbox: Option<SandboxCount>,
    /// What kernel probes saw so far.
    pub(super) seen: Option<SeenSoFar>,
}

/// A phase of a meter.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Phase {
    /// The phase's name.
    pub name: String,
    /// Energy and CPU time of the whole machine while the phase was open, divided.
    pub ledger: Ledger,
    /// The same of the sandbox.
    pub sandbox: Option<Ledger>,
    /// Times it was entered.
    pub entries: u32,
}

/// The phases of a window that have ended, in the order in which they first did.
#[derive(Debug, Clone, Default)]
pub(super) struct Phases {
    ended: Vec<Phase>,
    /// Where each is, by its name: a window may have a phase per file or per partition.
    place: HashMap<String, usize>,
}

impl Phases {
    /// Adds what the phase of that name was while it was open once more.
    fn add(&mut self, name: String, ledger: Ledger, sandbox: Option<Ledger>) {
        if let Some(phase) = self.place.get(&name).and_then(|at| self.ended.get_mut(*at)) {
            phase.ledger.merge(&ledger);
            match (&mut phase.sandbox, sandbox) {
                (Some(sum), Some(part)) => sum.merge(&part),
                (none, part) => *none = part,
            }
            phase.entries += 1;
            return;
        }
        self.place.insert(name.clone(), self.ended.len());
        self.ended.push(Phase {
            name,
            ledger,
            sandbox,
            entries: 1,
        });
    }

    /// All of them.
    pub(super) fn into_ended(self) -> Vec<Phase> {
        self.ended
    }
}

/// A meter that runs.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) id: u64,
    pub(super) follow: Follow,
    pub(super) record: Record,
}

/// How the function's CPU time is found.
#[derive(Debug)]
pub(super) struct Follow {
    pub(super) subject: Subject,
    /// Of other processes; this one's is the hub's.
    pub(super) trees: Option<Trees>,
    /// As kernel probes follow it, or why they do not.
    pub(super) probed: Result<Probed, String>,
    pub(super) last_own_ns: u64,
    /// Where perf's count and the tree's clocks began in the window.
    pub(super) count_base: Option<CountBase>,
    /// Its use of GPUs, or why that is not followed.
    pub(super) gpus: Result<Following, String>,
    /// What the tree had missed when the window began.
    pub(super) missed: Missed,
    /// It was looked at within the window, and was there.
    pub(super) was_there: bool,
}

/// perf's count and the clocks of a tree when both were first read in a window, ns.
#[derive(Debug, Clone, Copy)]
pub(super) struct CountBase {
    pub(super) count: u64,
    pub(super) tree: u64,
}

/// When the counters were read, and how far off that may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) t_ns: u64,
    pub(super) slack_ns: u64,
}

/// What a meter has written down so far.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) methods: Methods,
    pub(super) estimation: Estimation,
    /// The metered thing is inside this process's own cgroup limit: only then may the model charge the
    /// sandbox instead of the machine.
    pub(super) ours: bool,
    pub(super) interval_ns: Option<u64>,
    pub(super) start: Edge,
    /// The edge up to which the ledger is settled.
    pub(super) settled: Edge,
    /// The edges after it, the first first. One is settled when the next has come, so that a short tail of
    /// the window joins the interval before it, and when memory's traffic up to it is known.
    pub(super) pending: VecDeque<Pending>,
    pub(super) ledger: Ledger,
    /// CPU time of the function that no interval has had room for so far, ns.
    pub(super) late_ns: f64,
    /// The function's CPU time could not be read at an edge within the window.
    pub(super) overdue: bool,
    /// CPU time that there was in the window, ns.
    pub(super) capacity_ns: f64,
    /// The same with the sandbox for the machine, where a quota or a cpuset makes one.
    pub(super) sandbox: Option<Ledger>,
    /// What the limiting cgroup has counted when it was first read, and then.
    pub(super) sandbox_from: Option<SandboxCount>,
    pub(super) phases: Phases,
    pub(super) open_phases: Vec<(String, Sums)>,
    pub(super) timeline: Option<Timeline>,
    pub(super) samples: u64,
    pub(super) system: Option<SystemEdge>,
    pub(super) tree_count: Option<TreeCount>,
    pub(super) rss_peak: Option<u64>,
    pub(super) high_water: Option<u64>,
    pub(super) model_band: ModelBand,
    /// Memory's traffic, where something counts it.
    pub(super) traffic: Option<TrafficSeen>,
    /// The clock of the CPUs that had work, where that is seen.
    pub(super) clock: Option<ClockSeen>,
    pub(super) realtime_offset: i128,
    pub(super) ambiguous: u32,
    pub(super) wraps: u32,
    /// What each counter had done when the window began that no counter should.
    pub(super) anomalies: Vec<Anomalies>,
    /// How each counter first moved within the window.
    pub(super) first_moves: Vec<FirstMove>,
    /// From when on each counter is counted.
    pub(super) counted: Vec<Counted>,
}

/// An edge that is not settled yet.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) edge: Edge,
    /// What the function did there.
    pub(super) mark: Option<Mark>,
}

/// What a function does at an edge of its own.
#[derive(Debug, Clone)]
pub(super) enum Mark {
    /// A phase of that name begins.
    Enters(String),
    /// The phase of that name that began last ends.
    Leaves(String),
}

/// How a counter first moved within a window.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FirstMove {
    /// It had not moved when it was last looked at before that, so long after the window began, ns.
    pub(super) still_ns: u64,
    /// What it then showed at once; `None` until then. Units.
    pub(super) units: Option<u64>,
    /// It was seen to move so long after the window began, ns.
    pub(super) moved_ns: u64,
}

/// From when on a counter is counted in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// From its beginning.
    AtOnce,
    /// It could not be read when the window began, nor since.
    NotYet,
    /// It could first be read so long after the window began, ns.
    After(u64),
}

/// The ledgers of a record as they were when a phase began.
#[derive(Debug, Clone)]
pub(super) struct Sums {
    ledger: Ledger,
    sandbox: Option<Ledger>,
}

impl Record {
    /// The slots of its ledgers.
    pub(super) fn slots(&self) -> Slots {
        Slots::of(self.start.totals.len())
    }

    fn sums(&self) -> Sums {
        Sums {
            ledger: self.ledger.clone(),
            sandbox: self.sandbox.clone(),
        }
    }

    /// Counts what no interval had room for: the clocks are right about the sum. What may have been
    /// used between the edges of the window and the moments at which its CPU clocks were read is none
    /// of the window's, though: a thread that others keep waiting there counts their work, too.
    pub(super) fn keep_late(&mut self) {
        let late_ns = std::mem::take(&mut self.late_ns);
        let gaps_ns = self
            .start
            .cpu_gap_ns
            .saturating_add(self.settled.cpu_gap_ns) as f64;
        let window_ns = self.settled.t_ns.saturating_sub(self.start.t_ns) as f64;
        let cpus = self.capacity_ns / window_ns.max(1.0);
        if late_ns > SKEW_NS + cpus * gaps_ns {
            for ledger in std::iter::once(&mut self.ledger).chain(&mut self.sandbox) {
                ledger.own_ns += late_ns;
            }
        }
    }

    /// The last edge so far.
    pub(super) fn last_edge(&self) -> &Edge {
        self.pending
            .back()
            .map_or(&self.settled, |pending| &pending.edge)
    }

    /// Does what the function did at the edge up to which it is settled.
    pub(super) fn pass(&mut self, mark: Mark) {
        match mark {
            Mark::Enters(name) => {
                let so_far = self.sums();
                self.open_phases.push((name, so_far));
            }
            Mark::Leaves(name) => {
                if let Some(at) = self.open_phases.iter().rposition(|(n, _)| *n == name) {
                    let (name, before) = self.open_phases.remove(at);
                    self.end_phase(name, &before);
                }
            }
        }
    }

    pub(super) fn end_phase(&mut self, name: String, before: &Sums) {
        let within = self.ledger.since(&before.ledger);
        let sandbox = self.sandbox.as_ref().map(|now| match &before.sandbox {
            Some(then) => now.since(then),
            None => now.clone(),
        });
        self.phases.add(name, within, sandbox);
    }
}

/// What the sources turned out to be. Made when one is opened, shared by the outcomes after it.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Counters, in the order of a ledger's slots.
    pub zones: Vec<Zone>,
    /// Why a method is not there.
    pub(super) missing: Vec<(Method, Unavailable)>,
    /// Why hardware counters of the tree are not there.
    pub hardware_missing: Option<Unavailable>,
    /// What sources left out, and why.
    pub notes: Vec<(Method, Note)>,
    /// The counters are the node agent's.
    pub via: Option<super::Via>,
    /// Domains of a method of which a part cannot be read.
    pub holes: Vec<(Method, Hole)>,
}

/// Resident memory of a process tree, bytes.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Resident {
    /// At the end of the window.
    pub now_bytes: Option<u64>,
    /// At its highest within the window.
    pub peak_bytes: Option<u64>,
}

/// Everything known about a window when it ends, before it is made into a reading.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    /// The system did not let us have a thread to sample with.
    pub sampler_refused: bool,
    /// What kind of thing was metered.
    pub scope: Scope,
    /// The process is not this one.
    pub other_process: bool,
    /// The slots of the ledgers. Counters that were known when the window began are the first of the
    /// catalog's.
    pub slots: Slots,
    /// The sources.
    #[serde(skip)]
    pub catalog: Arc<Catalog>,
    /// What each zone's last reading ran into, if it failed at an edge.
    pub faults: Vec<Option<ReadFault>>,
    /// What each counter did within the window that no counter should.
    pub anomalies: Vec<Anomalies>,
    /// How long after the window began each counter could first be read, ns; 0 where it could be
    /// at once.
    pub late_ns: Vec<u64>,
    /// How long after the window began each counter first moved that had stood still before it, as one does
    /// that does not count, ns; 0 for others.
    pub dead_ns: Vec<u64>,
    /// The most that each counter can show, W.
    pub most_watts: Vec<f64>,
    /// The counter that each zone only repeats, where it does.
    pub mirrors: Vec<Option<Mirror>>,
    /// The zones that may only repeat another one: too little was seen of them.
    pub possible_mirrors: Vec<bool>,
    /// For how long each counter had not changed when the window ended, though it did before, ns.
    pub stood_ns: Vec<u64>,
    /// What each counter, one per zone, showed at once after it had stood still from the start of the
    /// window for longer than an update: part of it may be from before the window. Units.
    pub early_units: Vec<u64>,
    /// How often each counter changes, as far as that was learned by the end of the window.
    pub updates: Vec<Updates>,
    /// Wraps of all counters within the window.
    pub wraps: u32,
    /// Readings so far apart that wraps may be missing.
    pub ambiguous: u32,
    /// Sums over the window, by [`Slots`].
    pub ledger: Ledger,
    /// The same with the sandbox for the machine, where a quota or a cpuset makes one.
    pub sandbox: Option<Ledger>,
    /// What the limiting cgroup counted within the window, or within the part of it in which it
    /// was read.
    pub sandbox_count: Option<SandboxCount>,
    /// How the model's watts were made.
    pub estimation: Estimation,
    /// The metered thing is inside this process's own cgroup limit: only then may the model charge the
    /// sandbox instead of the machine.
    pub ours: bool,
    /// Phases, in the order in which they first ended.
    pub phases: Vec<Phase>,
    /// The function's CPU time could be followed.
    pub own_known: bool,
    /// What of the function's CPU time may be missing.
    pub missed: Missed,
    /// The machine as it was when the window ended, where it is not what it was at first.
    #[serde(skip)]
    pub facts: Option<Arc<Facts>>,
    /// Why the machine's busy time is unknown, or not sure.
    pub busy_doubt: Option<Cow<'static, str>>,
    /// Samples: CPU columns, then the slots.
    #[serde(skip)]
    pub timeline: Option<Timeline>,
    /// Idle watts of each zone as this process saw them, where it saw the machine at rest.
    pub idle_learners: Vec<IdleLearner>,
    /// Bands of the model's energy of the machine over the window.
    pub model_band: ModelBand,
    /// Memory's traffic, where something counts it.
    pub traffic: Option<TrafficSeen>,
    /// The clock of the CPUs that had work, where the model of a whole machine went by it.
    pub clock: Option<ClockSeen>,
    /// perf counts of the tree in the window.
    pub tree_count: Option<TreeCount>,
    /// What kernel probes saw in the window, or why not.
    pub seen: Result<SeenWindow, String>,
    /// What the GPUs did in the window, or why that is not known.
    pub gpus: Result<GpusSeen, String>,
    /// Edges of the system metrics and the state at the end.
    pub system: Option<(SystemEdge, SystemEdge, SystemState)>,
    /// Resident memory of the tree.
    pub resident: Resident,
    /// How far wall clock and monotonic clock drifted apart within the window, ns.
    pub drift_ns: i128,
}

impl Outcome {
    /// The counters, in the order of the ledger's slots.
    pub fn zones(&self) -> &[Zone] {
        &self.catalog.zones[..self.slots.zones()]
    }

    /// The counters without those that only repeat another.
    pub fn distinct_zones(&self) -> Cow<'_, [Zone]> {
        if self.mirrors.iter().all(Option::is_none) {
            return Cow::Borrowed(self.zones());
        }
        let distinct = self.zones().iter().zip(&self.mirrors);
        distinct
            .filter(|(_, mirror)| mirror.is_none())
            .map(|(zone, _)| zone.clone())
            .collect()
    }

    /// Names of the timeline's columns: `cpu_seconds`, one per zone, then the model's two. A zone
    /// that shows another's counter is `rapl:repeated:…`.
    pub fn column_names(&self) -> Vec<String> {
        let slots = self.slots.all().map(|slot| match slot {
            Slot::Zone(i) => {
                let zone = &self.zones()[i];
                // Not to be summed with the others.
                let repeated = if self.mirrors[i].is_some() {
                    "repeated:"
                } else {
                    ""
                };
                format!("{}:{repeated}{}", zone.method.name(), zone.name)
            }
            Slot::Model(Part::Package) => "model:package".to_owned(),
            Slot::Model(Part::Memory) => "model:dram".to_owned(),
        });
        std::iter::once("cpu_seconds".to_owned())
            .chain(slots)
            .collect()
    }

    /// Places of the slots of what `method` counts of `domain`, without those that repeat another.
    pub fn slots_of(&self, method: Method, domain: Domain) -> Vec<usize> {
        let wanted = |i: &usize| {
            let zone = &self.zones()[*i];
            zone.method == method && zone.domain == domain && self.mirrors[*i].is_none()
        };
        (0..self.slots.zones()).filter(wanted).collect()
    }

    /// " via agent" where the agent reads the counters of `method`.
    pub fn via(&self, method: Method) -> &'static str {
        match &self.catalog.via {
            Some(via) if via.method == method => " via agent",
            _ => "",
        }
    }

    /// What kernel probes saw, if they saw all of the window and of what is metered.
    pub fn followed(&self) -> Option<&SeenWindow> {
        let seen = self.seen.as_ref().ok()?;
        (self.ledger.seen && seen.own.is_some()).then_some(seen)
    }

    /// How much of the window has no energy of counter `i`, ns.
    pub fn missing_ns(&self, i: usize) -> u64 {
        // Both of these are from the start of the window.
        let before_ns = self.late_ns[i].max(self.dead_ns[i]);
        before_ns.saturating_add(self.anomalies[i].missing_ns)
    }

    /// For how long the counters of `method` of which the machine's energy is made did not count, ns.
    pub fn dead_ns_of(&self, method: Method) -> u64 {
        let zones = self.catalog.zones.iter().zip(&self.dead_ns);
        let its = zones.filter(|(zone, _)| {
            zone.method == method && matches!(zone.domain, Domain::Package | Domain::Dram)
        });
        its.map(|(_, ns)| *ns).max().unwrap_or(0)
    }

    /// Why `method` gave nothing; `None` where it is there.
    pub fn missing(&self, method: Method) -> Option<String> {
        if !self.methods.has(method) {
            return Some("not asked for".into());
        }
        let (_, why) = self.catalog.missing.iter().find(|(m, _)| *m == method)?;
        Some(match &why.fix {
            Some(fix) if why.denied => format!("{}; fix: {fix}", why.reason),
            _ => why.reason.clone(),
        })
    }

    /// Why the process tree was not counted in hardware.
    pub fn hardware_missing(&self) -> Option<&str> {
        if !self.methods.has(Method::Perf) {
            return Some("not asked for");
        }
        if self.scope != Scope::Process || self.other_process {
            return Some(
                "counted for this process's own tree only, not for a part of it or others",
            );
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

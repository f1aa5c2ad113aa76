//! The life of a window: it begins, is settled interval by interval, and is closed.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use super::busy::ClockSeen;
use super::slots::{Part, Slot, Slots};
use super::state::{Resting, State};
use super::subject::Subject;
use super::traffic::TrafficSeen;
use super::window::{
    Active, Counted, Edge, FirstMove, Follow, Mark, Moment, Outcome, Pending, Phases, Record,
    Resident,
};
use crate::attribution::{IDLE_STEP_NS, Interval, Ledger, Split};
use crate::clock;
use crate::counter::{Anomalies, Counter, STILL_NS};
use crate::machine::facts::{Facts, ModelBand, Modelled};
use crate::machine::idle_power::STOOD_PART;
use crate::model::estimation::Estimation;
use crate::source::perf::TreeCount;
use crate::source::procfs::{Missed, Trees, idle_between};
use crate::source::{Domain, Method, Methods, NEVER_MOVED_NS};
use crate::timeline::Timeline;
use crate::trace::Kind;

/// Attribution works on intervals of at least this length, ns: the machine's idle time is printed
/// in steps of 10 ms.
const ATTRIBUTION_NS: u64 = 100_000_000;

/// What is left of a window after its last edge joins the interval before it where it is shorter than
/// this, ns.
const SHORT_TAIL_NS: u64 = 50_000_000;

/// So many edges of a window wait for memory's traffic up to them to be known. In the longest time between two
/// looks at it there are a hundred, where the function has no phases.
const MOST_PENDING: usize = 256;

/// … and why more than those have none.
const HASTY: &str =
    "phases of the window begin and end too often for it to be looked at between them";

/// What the sampler gives to attribution comes from /proc.
const _: () = assert!(IDLE_STEP_NS == crate::source::procfs::TICK_NS);

/// Samples that a meter keeps for its timeline.
const TIMELINE_SAMPLES: usize = 2048;

/// Idle power is learned from windows with at least this much capacity, ns of CPU: 1 % resolution.
const IDLE_CAPACITY_NS: u64 = 1_000_000_000;

/// … and that last at least so long, ns: on a large machine each sample would be one.
const IDLE_STRETCH_NS: u64 = ATTRIBUTION_NS / 2;

/// A function may have used that much more than the capacity by the edges of its clocks.
const MOST_USED: f64 = 1.05;

/// … and that, ns.
const LEAST_TOLD_NS: f64 = 50e6;

/// A counter that did not move for longer than this stands still, ns: two updates.
const UPDATES_NS: u64 = 2_000_000;

/// So many looks at the counters tell how often they change, or nothing does.
const MOST_LOOKS: u32 = 600;

/// Idle time of a stretch may be above its capacity by so much, ns: it is printed in steps of 10 ms.
const IDLE_SLACK_NS: u64 = 2 * IDLE_STEP_NS;

impl State {
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
        let slots = Slots::of(width);
        let mut trees = match &subject {
            Subject::Process { pid: Some(pid), .. } => Some(Trees::new(&[*pid])),
            Subject::Processes { pids, .. } => Some(Trees::new(pids)),
            _ => None,
        };
        let mut follow = Follow {
            probed: self
                .probing
                .follow(methods, &subject, trees.as_mut(), &mut self.tree),
            trees,
            subject,
            last_own_ns: 0,
            count_base: None,
            gpus: Err(String::new()),
            missed: Missed::default(),
            was_there: false,
        };
        let mut system = None;
        let mut high_water = None;
        self.lay_out();
        if methods.has(Method::Psutil) {
            system = self.system_edge();
            high_water = self.high_water_of(&mut follow);
        }
        let realtime_offset = self.clock_offset();
        let mut timeline = interval_ns.map(|_| Timeline::new(slots.columns(), TIMELINE_SAMPLES));
        let ledger = Ledger::new(slots.count());
        // CPU time is read next to the counters, so that both see the same window; what this
        // would read again below it has read already.
        self.idle_ns(clock::monotonic_ns(), None);
        self.machine.hold(true);
        self.renew_facts(id > 1, interval_ns.is_some());
        let cpu = self.own_and_inside(methods, &mut follow);
        follow.missed = self.missed_of(&follow);
        let tree_count = self.count_of(methods, &follow);
        let now = Moment {
            t_ns: clock::monotonic_ns(),
            slack_ns: 0,
        };
        let read = cpu.read;
        let mut start = self.edge_from(now, cpu, width);
        self.machine.hold(false);
        // The counters come last, so that nothing of the meter's own is inside the window.
        let moment = self.read_counters(methods);
        start.t_ns = moment.t_ns;
        start.capacity_ns = self.machine.capacity_ns(moment.t_ns);
        start.slack_ns = moment.slack_ns;
        start.cpu_gap_ns = read.farthest_from(moment.t_ns);
        for (i, counter) in self.counters.iter_mut().enumerate() {
            counter.begin_window();
            start.totals[i] = counter.total;
            start.anomalies[i] = counter.anomalies.count();
        }
        follow.gpus = self.follow_gpus(methods, interval_ns.is_some(), &follow.subject, start.t_ns);
        // What cannot be read now is counted from when it can: what it gained before that may be
        // from before the window.
        let counted = (0..width).map(|i| match self.is_fresh(i) {
            true => Counted::AtOnce,
            false => Counted::NotYet,
        });
        let counted = counted.collect();
        // Start values, so that wraps and gaps before this window are not reported in it.
        let ambiguous = self.counters.iter().map(|c| c.ambiguous).sum();
        let wraps = self.counters.iter().map(|c| c.wraps).sum();
        if let Some(line) = &mut timeline {
            line.push_zeros(start.t_ns);
        }
        self.active.push(Box::new(Active {
            id,
            follow,
            record: Record {
                methods,
                estimation,
                ours,
                interval_ns,
                settled: start.clone(),
                start,
                pending: VecDeque::new(),
                ledger,
                late_ns: 0.0,
                overdue: false,
                capacity_ns: 0.0,
                sandbox: None,
                sandbox_from: None,
                phases: Phases::default(),
                open_phases: Vec::new(),
                timeline,
                samples: 0,
                system,
                tree_count,
                rss_peak: None,
                high_water,
                model_band: ModelBand::default(),
                traffic: None,
                clock: None,
                realtime_offset,
                ambiguous,
                wraps,
                anomalies: self.counters.iter().map(|c| c.anomalies).collect(),
                first_moves: vec![FirstMove::default(); width],
                counted,
            },
        }));
        self.tape.commit(Kind::Begin);
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
        let moment = self.read_counters(self.sampled());
        let mut running = std::mem::take(&mut self.active);
        for active in running
            .iter_mut()
            .filter(|a| a.record.interval_ns.is_some())
        {
            active.record.samples += 1;
            self.count_late(&mut active.record, moment.t_ns);
            self.note_first_moves(&mut active.record, moment.t_ns);
            let from = active.record.last_edge().t_ns;
            // While the agent is away an interval goes on: its energy comes with the next word.
            let due = moment.t_ns.saturating_sub(from) >= ATTRIBUTION_NS;
            if due && !self.ring.is_silent() && self.tape.has_look() {
                self.end_interval(active, moment);
            } else {
                if self.tape.wants_look(moment.t_ns) {
                    let cpu = self.own_and_inside(active.record.methods, &mut active.follow);
                    self.edge_from(moment, cpu, 0);
                } else if self.tape.plays() {
                    // What a look changes, it changed here, too.
                    self.play_look(&mut active.follow);
                } else if active.follow.subject.is_tree() {
                    match &mut active.follow.trees {
                        Some(trees) => trees.watch_discarded(),
                        None => self.tree.watch_discarded(),
                    }
                }
                self.push_timeline(&mut active.record, moment.t_ns, false);
            }
        }
        self.active = running;
        self.learn_idle(moment.t_ns);
        self.tape.commit(Kind::Sample);
    }

    /// The methods of the meters that are sampled.
    pub(super) fn sampled(&self) -> Methods {
        let sampled = self.active.iter().map(|active| &active.record);
        sampled
            .filter(|record| record.interval_ns.is_some())
            .fold(self.always, |m, record| m.union(record.methods))
    }

    /// Whether it is not known yet how often the counters change, of those that `which` is true of. An
    /// agent's are not this process's to look at.
    fn wants_looks_at(&self, which: impl Fn(&Counter) -> bool) -> bool {
        let methods = self.sampled();
        let mut looked = std::iter::zip(&self.zones, &self.counters);
        // A recording has what it is replayed from, and no more.
        self.looks < MOST_LOOKS
            && self.tape.is_off()
            && self.ring.via().is_none()
            && looked.any(|(zone, counter)| {
                let counted = matches!(zone.domain, Domain::Package | Domain::Dram);
                let open = counted && !counter.updates.is_settled() && which(counter);
                open && methods.has(zone.method)
            })
    }

    /// Whether to look again after a sample. A counter that stood still since the sample before is at
    /// rest, and looks would show nothing but that.
    pub(super) fn begins_looks(&self) -> bool {
        self.wants_looks_at(Counter::moved)
    }

    /// Whether to go on with it.
    pub(super) fn wants_looks(&self) -> bool {
        self.wants_looks_at(|_| true)
    }

    /// Reads the counters once more, to learn how often they change.
    pub(super) fn look_again(&mut self) {
        self.looks += 1;
        let methods = self.sampled();
        if methods != Methods::none() {
            self.read_counters_once(methods);
        }
    }

    /// An interval of attribution ends; the one before it is settled.
    fn end_interval(&mut self, active: &mut Active, moment: Moment) {
        let cpu = self.own_and_inside(active.record.methods, &mut active.follow);
        active.follow.was_there |= !self.has_ended(&active.follow);
        let record = &mut active.record;
        let edge = self.edge_from(moment, cpu, record.start.totals.len());
        if record.methods.has(Method::Psutil) {
            let rss = self.rss_of(&mut active.follow);
            record.rss_peak = record.rss_peak.max(rss);
        }
        self.push_timeline(record, edge.t_ns, false);
        record.pending.push_back(Pending { edge, mark: None });
        self.settle_known(record);
    }

    /// An interval ends where the function says so.
    pub(super) fn end_at(&mut self, record: &mut Record, edge: Edge, mark: Mark) {
        let mark = Some(mark);
        self.join_tail(record, edge.t_ns);
        record.pending.push_back(Pending { edge, mark });
        self.settle_known(record);
    }

    /// Whether what is followed, or one of its processes or cgroups, is no more.
    fn has_ended(&self, follow: &Follow) -> bool {
        match (&follow.subject, &follow.trees) {
            (Subject::Cgroup(groups), _) => groups.removed() > 0,
            (_, Some(trees)) => trees.missed().root_ended,
            (_, None) => false,
        }
    }

    /// A short interval that ends at `t_ns` joins the one before it.
    fn join_tail(&self, record: &mut Record, t_ns: u64) {
        let joins = |last: &mut Pending| {
            last.mark.is_none() && t_ns.saturating_sub(last.edge.t_ns) < SHORT_TAIL_NS
        };
        record.pending.pop_back_if(joins);
    }

    /// Settles what nothing more will be known of.
    fn settle_known(&mut self, record: &mut Record) {
        let known_ns = self.traffic_known_ns();
        while let Some(first) = record.pending.front() {
            let may_be_joined = record.pending.len() == 1 && first.mark.is_none();
            let unknown = first.edge.t_ns > known_ns;
            if may_be_joined || unknown && record.pending.len() <= MOST_PENDING {
                break;
            }
            let from_ns = record.settled.t_ns.max(known_ns);
            self.settle_first(record);
            if let Some(traffic) = record.traffic.as_mut().filter(|_| unknown) {
                traffic.give_up(record.settled.t_ns.saturating_sub(from_ns), HASTY);
            }
        }
    }

    /// Settles the first of the edges that are not; false where there is none.
    fn settle_first(&mut self, record: &mut Record) -> bool {
        let Some(Pending { edge, mark }) = record.pending.pop_front() else {
            return false;
        };
        self.settle(record, edge);
        if let Some(mark) = mark {
            record.pass(mark);
        }
        true
    }

    /// The last reading of counter `i` is of that moment.
    fn is_fresh(&self, i: usize) -> bool {
        self.faults[i].is_none() && !self.ring.is_old(self.zones[i].method)
    }

    /// Counters that can be read now and could not when the window began are counted from here on.
    pub(super) fn count_late(&self, record: &mut Record, t_ns: u64) {
        if !record.counted.contains(&Counted::NotYet) {
            return;
        }
        for i in 0..record.counted.len() {
            let asked = record.methods.has(self.zones[i].method);
            if record.counted[i] != Counted::NotYet || !asked || !self.is_fresh(i) {
                continue;
            }
            // What it did up to here is of no window, or of another, but for what its source saw of it.
            let counter = &self.counters[i];
            let arrears = counter.anomalies.carry.arrears;
            let seen = arrears.of(record.start.t_ns);
            let (from_ns, then) = seen.unwrap_or((t_ns, counter.total));
            record.anomalies[i] = counter.anomalies;
            if seen.is_some() {
                let doubt = &mut record.anomalies[i].doubt_units;
                *doubt = doubt.saturating_sub(arrears.doubt);
                record.first_moves[i] = FirstMove {
                    still_ns: 0,
                    units: Some(counter.total - then),
                    moved_ns: 0,
                };
            }
            record.counted[i] = Counted::After(from_ns.saturating_sub(record.start.t_ns));
            let edges = [&mut record.start, &mut record.settled];
            let pending = record.pending.iter_mut().map(|pending| &mut pending.edge);
            for edge in edges.into_iter().chain(pending) {
                edge.totals[i] = then;
                // The interval that ends next has not all of its energy.
                edge.anomalies[i] = counter.anomalies.count().wrapping_sub(1);
            }
        }
    }

    /// A counter that stands still when a window begins brings, when it moves again, energy from
    /// before the window, too.
    fn note_first_moves(&self, record: &mut Record, t_ns: u64) {
        let since_ns = t_ns.saturating_sub(record.start.t_ns);
        let counters = self.counters.iter().zip(&record.start.totals);
        for (first, (counter, then)) in record.first_moves.iter_mut().zip(counters) {
            if first.units.is_some() {
                continue;
            }
            match counter.total.saturating_sub(*then) {
                0 => first.still_ns = since_ns,
                units => {
                    first.units = Some(units);
                    first.moved_ns = since_ns;
                }
            }
        }
    }

    /// For how long each counter did not count, from the start of the window: it had never moved, and for
    /// longer than a slow one takes. Where a stand-in was opened for it, it was taken for dead earlier. When
    /// between two readings it began to count is not known.
    fn dead_ns(&self, record: &Record) -> Vec<u64> {
        let has_stand_in = self.zones.iter().any(|zone| zone.method.stands_in());
        let via = self.ring.via().map(|via| via.method);
        let firsts = record.first_moves.iter().zip(&record.start.totals);
        let dead = firsts.enumerate().map(|(i, (first, then))| {
            let method = self.zones[i].method;
            let least_ns = match has_stand_in && !method.stands_in() {
                true => NEVER_MOVED_NS,
                false => STILL_NS,
            };
            let was_dead =
                *then == 0 && first.units.is_some() && self.counters[i].unmoved_ns >= least_ns;
            match was_dead && !self.may_rest(i) && via != Some(method) {
                true => first.moved_ns,
                false => 0,
            }
        });
        dead.collect()
    }

    /// Writes down what the counters show. CPU time and the model's energy become known when the
    /// interval is settled, see [`fill_timeline`].
    fn push_timeline(&mut self, record: &mut Record, t_ns: u64, last: bool) {
        let Some(line) = &mut record.timeline else {
            return;
        };
        let width = record.start.totals.len();
        let row = &mut self.row;
        row.clear();
        row.push(f64::NAN);
        for (i, counter) in self.counters.iter().take(width).enumerate() {
            let units = counter.total.saturating_sub(record.start.totals[i]);
            // Another meter may have had a counter read that this one did not ask for.
            let asked = record.methods.has(self.zones[i].method);
            row.push(if asked { counter.joules(units) } else { 0.0 });
        }
        row.extend(Part::ALL.map(|_| f64::NAN));
        if last {
            line.push_last(t_ns, row);
        } else {
            line.push(t_ns, row);
        }
    }

    /// Adds the interval from the last settled edge to `edge` to the ledger.
    fn settle(&mut self, record: &mut Record, mut edge: Edge) {
        let from = &record.settled;
        // What could not be read now is counted when it can be.
        let unread = edge.own_ns.is_none() && from.own_ns.is_some();
        let overdue = std::mem::replace(&mut record.overdue, unread);
        edge.own_ns = edge.own_ns.or(from.own_ns);
        edge.inside_ns = edge.inside_ns.or(from.inside_ns);
        let dt_ns = edge.t_ns.saturating_sub(from.t_ns);
        if dt_ns == 0 {
            return;
        }
        let capacity = edge.capacity_ns.saturating_sub(from.capacity_ns);
        let came_ns = difference(edge.own_ns, from.own_ns);
        let inside_ns = difference(edge.inside_ns, from.inside_ns);
        // CPU time may turn up late, as that of a child that was not seen before it was waited for.
        // An interval takes no more of it than was busy in it; the clocks and idle time are read
        // within microseconds of each other, not at once.
        let idle_ns = idle_between(from.idle_ns, edge.idle_ns, capacity);
        let waiting_ns = edge.waiting_ns.saturating_sub(from.waiting_ns);
        let may_be_late = edge.may_be_late || overdue || record.late_ns > 0.0;
        let rested_ns = idle_ns.filter(|_| may_be_late);
        let room_ns = match rested_ns.map(|idle| idle.saturating_sub(waiting_ns)) {
            Some(idle) => capacity.min(capacity.saturating_sub(idle) + 2 * IDLE_STEP_NS),
            None => capacity,
        };
        let due_ns = came_ns.saturating_add(record.late_ns as u64);
        let own_ns = due_ns.min(room_ns);
        let interval = Interval {
            dt_ns,
            cpus: capacity as f64 / dt_ns as f64,
            idle_ns,
            own_ns,
            inside_ns: own_ns + inside_ns.saturating_sub(came_ns),
            outside_rate: self.outside_rate,
            seen: edge
                .seen
                .zip(from.seen)
                .and_then(|(now, then)| now.weights(&then, own_ns, self.probing.siblings())),
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
            .filter(|facts| record.ours && !facts.environment.memory_buys_cpus())
            .and_then(|facts| facts.sandbox_cpus());
        record.sandbox_from = record.sandbox_from.or(from.sandbox).or(edge.sandbox);
        let within = sandbox.map(|cpus| {
            let used = edge.sandbox.zip(from.sandbox);
            let used = used.and_then(|(now, then)| now.since(then).used_ns);
            Split::within(cpus, used, &interval, split)
        });
        let begun_ns = record.start.t_ns;
        let traffic = self.traffic.within(begun_ns, from.t_ns, edge.t_ns);
        let seen = self.busy.within(from.t_ns, edge.t_ns);
        if let Some(clock) = seen.clock {
            record.clock = Some(ClockSeen::add(record.clock, dt_ns, clock));
        }
        let modelled = match known {
            Some(facts) if record.methods.has(Method::Tdp) => facts.model_joules(
                facts.modelling(record.estimation, record.ours),
                within.unwrap_or(split).busy_cpus,
                seconds,
                traffic.as_ref().and_then(TrafficSeen::flow),
                seen,
            ),
            _ => Modelled::default(),
        };
        joules.extend([modelled.package, modelled.memory]);
        record.model_band.add(modelled.band);
        if let Some(seen) = traffic {
            match &mut record.traffic {
                Some(sum) => sum.add(seen),
                None => record.traffic = Some(seen),
            }
        }
        let steady_ns = self.ring.steady_ns();
        record.ledger.steady_ns = steady_ns;
        // Power of an interval that lacks energy is no power.
        let whole = |i: usize| {
            i >= record.counted.len()
                || (record.counted[i] != Counted::NotYet && edge.anomalies[i] == from.anomalies[i])
        };
        let whole: Vec<bool> = (0..joules.len()).map(whole).collect();
        let model_then = model_joules(record);
        record.ledger.add_whole(&interval, split, &joules, &whole);
        fill_timeline(record, &edge, model_then);
        record.capacity_ns += capacity as f64;
        let late_ns = (due_ns - own_ns) as f64;
        record.late_ns = record.ledger.reclaim(late_ns);
        if let Some(within) = within {
            let slots = joules.len();
            let ledger = record.sandbox.get_or_insert_with(|| Ledger::new(slots));
            ledger.steady_ns = steady_ns;
            ledger.add_whole(&interval, within, &joules, &whole);
            ledger.reclaim(late_ns);
        }
        record.settled = edge;
        if dt_ns >= SHORT_TAIL_NS && interval.idle_ns.is_some() {
            let outside = (split.busy_cpus * dt_ns as f64 - interval.inside_ns as f64).max(0.0);
            let rate = outside / dt_ns as f64;
            self.outside_rate = Some(self.outside_rate.map_or(rate, |old| 0.5 * (old + rate)));
        }
    }

    /// Settles everything up to `edge`, which ends the window.
    fn settle_all(&mut self, record: &mut Record, edge: Edge) {
        self.join_tail(record, edge.t_ns);
        while self.settle_first(record) {}
        self.settle(record, edge);
    }

    /// Why busy time is unknown or not sure; it is unknown, too, where the function used more than
    /// there was.
    fn doubt_busy(&self, record: &mut Record) -> Option<&'static str> {
        let there = record.capacity_ns * MOST_USED + LEAST_TOLD_NS;
        if record.ledger.own_ns > there {
            for ledger in std::iter::once(&mut record.ledger).chain(&mut record.sandbox) {
                ledger.busy_known = false;
            }
            return Some("more CPU time was used than the CPUs that are online have");
        }
        match (self.ring.tells_idle(), record.ledger.busy_known) {
            (true, true) => None,
            (true, false) => Some("the agent does not know it for all of the window"),
            (false, true) => self.machine.doubt(),
            (false, false) => self.machine.why_unknown(),
        }
    }

    pub(super) fn learn_idle(&mut self, t_ns: u64) {
        for learner in &mut self.idle_learners {
            learner.of_cpus(self.machine.cpus);
        }
        let capacity_ns = self.machine.capacity_ns(t_ns);
        let there = |since: &Resting| capacity_ns.saturating_sub(since.capacity_ns);
        let lasts = |since: &Resting| t_ns.saturating_sub(since.t_ns);
        if self
            .idle_since
            .as_ref()
            .is_some_and(|since| there(since) < IDLE_CAPACITY_NS || lasts(since) < IDLE_STRETCH_NS)
        {
            return;
        }
        let Some(idle_ns) = self.idle_ns(t_ns, None) else {
            // What is compared must have been known throughout.
            self.idle_since = None;
            return;
        };
        let now = Resting {
            t_ns,
            capacity_ns: self.machine.capacity_ns(t_ns),
            idle_ns,
            turns: self.machine.turns(),
            totals: self
                .counters
                .iter()
                .map(|c| (c.total, c.anomalies.count()))
                .collect(),
        };
        let Some(then) = self.idle_since.replace(now) else {
            return;
        };
        let capacity = self
            .machine
            .capacity_ns(t_ns)
            .saturating_sub(then.capacity_ns);
        // What files say that contradicted each other meanwhile, or more than there was: idle time of
        // before came late, so what ran in this time is unknown.
        let rested = match idle_between(Some(then.idle_ns), Some(idle_ns), capacity) {
            Some(rested) if rested <= capacity + IDLE_SLACK_NS => rested,
            _ => return,
        };
        if then.turns != self.machine.turns() {
            return;
        }
        let busy = 1.0 - rested as f64 / capacity.max(1) as f64;
        let unsure = IDLE_STEP_NS as f64 / capacity.max(1) as f64;
        let seconds = t_ns.saturating_sub(then.t_ns) as f64 * 1e-9;
        for (i, (before, anomalies)) in then.totals.iter().enumerate() {
            let counter = &self.counters[i];
            // Over a stretch in which it stood still for long it showed less than was used.
            let stood_ns = counter.stood_ns(t_ns);
            let moved = stood_ns.saturating_mul(STOOD_PART) <= t_ns.saturating_sub(then.t_ns);
            if self.faults[i].is_none() && moved && counter.anomalies.count() == *anomalies {
                let joules = counter.joules(counter.total.saturating_sub(*before));
                self.idle_learners[i].see(seconds, busy, unsure, joules / seconds);
            }
        }
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
            let (edge, state) = self.system_end()?;
            Some((start, edge, state))
        });
        let mut resident = Resident::default();
        if record.methods.has(Method::Psutil) {
            let now = self.rss_of(follow);
            let mut peak = now.max(record.rss_peak);
            let high_water = self.high_water_of(follow);
            // The high-water mark is this window's only if it moved within it.
            if high_water > record.high_water {
                peak = peak.max(high_water);
            }
            resident = Resident {
                now_bytes: now,
                peak_bytes: peak,
            };
        }
        let anomalies: Vec<Anomalies> = self
            .counters
            .iter()
            .zip(&record.anomalies)
            .map(|(now, then)| now.anomalies.since(then))
            .collect();
        let window_ns = (record.start.t_ns, edge.t_ns);
        self.note_first_moves(&mut record, edge.t_ns);
        let early_units = record.first_moves.iter().map(|first| match first.units {
            Some(units) if first.still_ns > UPDATES_NS => units,
            _ => 0,
        });
        let early_units = early_units.collect();
        let dead_ns = self.dead_ns(&record);
        let stood_ns = self.counters[..edge.totals.len()]
            .iter()
            .map(|counter| {
                let moved = counter.changed_ns > window_ns.0;
                let stood = counter.stood_ns(window_ns.1);
                if moved { stood } else { 0 }
            })
            .collect();
        let slack_ns = record.start.slack_ns + edge.slack_ns;
        let gpus = match &follow.gpus {
            Ok(following) => following.read(edge.t_ns),
            Err(why) => Err(why.clone()),
        };
        let own_ns = edge.own_ns.zip(record.start.own_ns);
        // What ended before anybody looked at it used nothing that was seen, which is no 0.
        let was_seen = |(now, then)| now > then || follow.was_there || !self.has_ended(follow);
        let own_known = own_ns.is_some_and(was_seen);
        let width = edge.totals.len();
        let seen = self.probing.window(
            &follow.probed,
            record.start.seen.as_ref(),
            edge.seen.as_ref(),
        );
        let sandbox_end = edge.sandbox;
        self.push_timeline(&mut record, edge.t_ns, true);
        self.settle_all(&mut record, edge);
        record.keep_late();
        let busy_doubt = self.doubt_busy(&mut record);
        for (name, before) in std::mem::take(&mut record.open_phases).into_iter().rev() {
            record.end_phase(name, &before);
        }
        self.learn_from_ring();
        let traffic = self.traffic_of(&mut record);
        let missed = self.missed_of(follow);
        let drift_ns = self.clock_offset() - record.realtime_offset;
        let refused = self.was_refused();
        if !running {
            self.tape.commit(Kind::End);
        }
        let sum = |of: fn(&Counter) -> u32| self.counters.iter().map(of).sum::<u32>();
        Outcome {
            window_ns,
            slack_ns,
            running,
            methods: record.methods,
            interval_ns: record.interval_ns,
            samples: record.samples,
            sampler_refused: refused && record.interval_ns.is_some(),
            scope: follow.subject.scope(),
            other_process: follow.trees.is_some(),
            faults: self.zones[..width]
                .iter()
                .zip(&self.faults)
                .map(|(zone, fault)| fault.filter(|_| record.methods.has(zone.method)))
                .collect(),
            slots: Slots::of(width),
            catalog: Arc::clone(&self.catalog),
            anomalies,
            late_ns: record
                .counted
                .iter()
                .map(|counted| match counted {
                    Counted::After(ns) => *ns,
                    Counted::AtOnce | Counted::NotYet => 0,
                })
                .collect(),
            dead_ns,
            most_watts: self.counters[..width]
                .iter()
                .map(|c| c.most_watts)
                .collect(),
            mirrors: self.mirrors_of(width),
            possible_mirrors: self.possible_mirrors(width),
            stood_ns,
            early_units,
            updates: self.counters[..width].iter().map(|c| c.updates).collect(),
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
            phases: record.phases.into_ended(),
            own_known,
            busy_doubt: busy_doubt.map(Cow::Borrowed),
            facts: self.facts.clone(),
            missed: {
                let now = missed;
                // perf's clock counts what nobody waits for.
                let counted = tree_count.is_some_and(|count| count.task_clock_ns.is_some());
                match &follow.subject {
                    subject if subject.is_tree() && counted => Missed {
                        discarding: 0,
                        ..now.since(follow.missed)
                    },
                    subject if subject.is_tree() => now.since(follow.missed),
                    Subject::Process { .. } | Subject::Processes { .. } => Missed {
                        root_ended: now.root_ended,
                        ..Missed::default()
                    },
                    Subject::Cgroup(groups) => Missed {
                        removed: groups.removed(),
                        unreadable: groups.unreadable(),
                        ..Missed::default()
                    },
                    Subject::Thread(_) | Subject::Task(_) => Missed::default(),
                }
            },
            timeline: record.timeline,
            idle_learners: self.idle_learners[..width].to_vec(),
            model_band: record.model_band,
            traffic,
            clock: record.clock,
            tree_count,
            seen,
            gpus,
            system,
            resident,
            drift_ns,
        }
    }
}

/// The model's joules so far, by part.
fn model_joules(record: &Record) -> [f64; Part::ALL.len()] {
    record
        .slots()
        .model()
        .map(|place| record.ledger.joules[place])
}

/// CPU time and the model's energy of the interval that was just settled, which ends at `edge`: in
/// each of its samples they have grown evenly.
fn fill_timeline(record: &mut Record, edge: &Edge, model_then: [f64; Part::ALL.len()]) {
    let (slots, now) = (record.slots(), model_joules(record));
    let Some(line) = &mut record.timeline else {
        return;
    };
    let (from, start) = (&record.settled, &record.start);
    let cpu = |edge: &Edge| match (edge.own_ns, start.own_ns) {
        (Some(own), Some(before)) => own.saturating_sub(before) as f64 * 1e-9,
        _ => f64::NAN,
    };
    line.fill(0, (from.t_ns, cpu(from)), (edge.t_ns, cpu(edge)));
    let parts = Part::ALL.into_iter().zip(model_then.into_iter().zip(now));
    for (part, (then, now)) in parts {
        let column = slots.column(Slot::Model(part));
        line.fill(column, (from.t_ns, then), (edge.t_ns, now));
    }
}

/// `now - then`, or 0 where either is unknown.
fn difference(now: Option<u64>, then: Option<u64>) -> u64 {
    now.zip(then)
        .map_or(0, |(now, then)| now.saturating_sub(then))
}

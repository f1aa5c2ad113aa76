//! A hub's reads written down, and read again from what was written: [`crate::trace`].
//!
//! Whatever a hub reads for a window passes one of the `State` methods below or [`State::take_raw`]:
//! where it records, that goes into the frame in the making; where it plays, it comes from the frame
//! at hand, and nothing of this machine is looked at. What follows (judging counters, settling
//! intervals, learning idle power) is one and the same code.

use std::path::Path;
use std::sync::Arc;

use super::Hub;
use super::Subject;
use super::busy;
use super::probed::{CpuCount, Reading};
use super::state::State;
use super::traffic;
use super::window::{Follow, Moment, Outcome};
use crate::clock;
use crate::counter::At;
use crate::machine::facts::Facts;
use crate::machine::idle_power::IdleLearner;
use crate::model::estimation::Estimation;
use crate::source::procfs::{MachineCpu, Missed, SystemEdge, SystemState};
use crate::source::{EnergyCounter, Hole, Method, Methods, Note, ReadFault, Unavailable, Zone};
use crate::trace::encode;
use crate::trace::{AtEnd, BLOCK_ROWS, CpuTimes, Frame, Header, Kind, Layout, Machine, Trace};

/// While it records, CPU times are looked at this often, ns, so that a part of the window can be
/// replayed alone. Attribution has its own, longer intervals.
const LOOK_NS: u64 = 10_000_000;

/// Whether a hub reads the machine, writes down what it reads, or reads what was written.
#[derive(Debug, Default)]
pub(super) enum Tape {
    #[default]
    Off,
    Recording(Box<Recorder>),
    Playing(Box<Player>),
}

/// Frames in the making.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    layout: Layout,
    frame: Frame,
    rows: Vec<i64>,
    width: usize,
    /// The machine when the first interval was settled, and when the window ended.
    machine: Option<(Arc<Facts>, Arc<Facts>)>,
    limits: Vec<(Method, Vec<f64>)>,
    /// Wall clock minus monotonic clock when it began, ns.
    offset: Option<i128>,
    looked_ns: u64,
    /// Below this every path is written without it.
    root: String,
}

/// The frame at hand.
#[derive(Debug)]
pub(super) struct Player {
    trace: Arc<Trace>,
    frame: Frame,
    /// Reads of counters that were done again in this frame.
    again: Vec<Frame>,
}

/// The counters of one method as they were recorded.
#[derive(Debug)]
struct Replayed {
    zones: Vec<Zone>,
    notes: Vec<Note>,
    holes: Vec<Hole>,
    limits: Vec<f64>,
}

impl EnergyCounter for Replayed {
    fn zones(&self) -> &[Zone] {
        &self.zones
    }

    fn read(&mut self, out: &mut Vec<Result<u64, ReadFault>>) {
        // Its values are taken from the frame, by [`State::play_counters`].
        out.extend(self.zones.iter().map(|_| Err(ReadFault::Failed)));
    }

    fn notes(&self) -> &[Note] {
        &self.notes
    }

    fn holes(&self) -> &[Hole] {
        &self.holes
    }

    fn limits(&mut self) -> &[f64] {
        &self.limits
    }
}

/// What belongs to `method` of a list of all.
fn of_method<T: Clone>(all: &[(Method, T)], method: Method) -> Vec<T> {
    let its = all.iter().filter(|(of, _)| *of == method);
    its.map(|(_, one)| one.clone()).collect()
}

impl Tape {
    pub(super) fn is_off(&self) -> bool {
        matches!(self, Self::Off)
    }

    pub(super) fn plays(&self) -> bool {
        matches!(self, Self::Playing(_))
    }

    fn recorder(&mut self) -> Option<&mut Recorder> {
        match self {
            Self::Recording(recorder) => Some(recorder),
            _ => None,
        }
    }

    /// The frame that is being written.
    pub(super) fn writes(&mut self) -> Option<&mut Frame> {
        Some(&mut self.recorder()?.frame)
    }

    /// The frame that is being played.
    pub(super) fn frame(&self) -> Option<&Frame> {
        match self {
            Self::Playing(player) => Some(&player.frame),
            _ => None,
        }
    }

    /// CPU times are known at this sample: always, but for what was not recorded.
    pub(super) fn has_look(&self) -> bool {
        self.frame().is_none_or(|frame| frame.cpu.is_some())
    }

    /// A reason as it is recorded: without the root, which is a path of this machine.
    pub(super) fn scrub(&self, text: &mut String) {
        if let Self::Recording(recorder) = self
            && !recorder.root.is_empty()
        {
            *text = text.replace(&recorder.root, "");
        }
    }

    pub(super) fn note_counters(
        &mut self,
        method: Method,
        at: At,
        raw: &[Result<u64, ReadFault>],
        zones: &[Zone],
    ) {
        let Some(recorder) = self.recorder() else {
            return;
        };
        let frame = &mut recorder.frame;
        frame.asleep_ns = at.asleep_ns;
        let place = recorder.layout.methods.iter().position(|of| *of == method);
        if let Some(read) = place.and_then(|place| frame.reads.get_mut(place)) {
            *read = Some((at.t_ns, at.slack_ns));
        }
        let its = zones.iter().enumerate().filter(|(_, z)| z.method == method);
        for ((i, _), raw) in its.zip(raw) {
            if let Some(slot) = frame.raw.get_mut(i) {
                *slot = *raw;
            }
        }
    }

    pub(super) fn note_moment(&mut self, moment: Moment) {
        if let Some(frame) = self.writes() {
            (frame.t_ns, frame.slack_ns) = (moment.t_ns, moment.slack_ns);
        }
    }

    /// The counters are read once more: what the first read showed was judged all the same.
    pub(super) fn again(&mut self, moment: Moment) {
        let Some(recorder) = self.recorder() else {
            return;
        };
        let mut first = recorder.layout.frame();
        first.kind = Kind::Again;
        (first.t_ns, first.slack_ns) = (moment.t_ns, moment.slack_ns);
        first.asleep_ns = recorder.frame.asleep_ns;
        first.reads.clone_from(&recorder.frame.reads);
        first.raw.clone_from(&recorder.frame.raw);
        recorder.layout.write(&mut first, &mut recorder.rows);
    }

    pub(super) fn note_limits(&mut self, method: Method, limits: &[f64]) {
        if let Some(recorder) = self.recorder() {
            recorder.limits.retain(|(of, _)| *of != method);
            recorder.limits.push((method, limits.to_vec()));
        }
    }

    /// The machine as it is settled by, and as it is when the window ends.
    pub(super) fn note_facts(&mut self, facts: Option<&Arc<Facts>>) {
        if let (Some(recorder), Some(facts)) = (self.recorder(), facts) {
            let first = recorder
                .machine
                .take()
                .map_or_else(|| Arc::clone(facts), |(first, _)| first);
            recorder.machine = Some((first, Arc::clone(facts)));
        }
    }

    /// Whether CPU times are to be looked at for the recording alone.
    pub(super) fn wants_look(&mut self, t_ns: u64) -> bool {
        self.recorder()
            .is_some_and(|recorder| t_ns.saturating_sub(recorder.looked_ns) >= LOOK_NS)
    }

    /// The frame is complete.
    pub(super) fn commit(&mut self, kind: Kind) {
        let Some(recorder) = self.recorder() else {
            return;
        };
        recorder.frame.kind = kind;
        recorder
            .layout
            .write(&mut recorder.frame, &mut recorder.rows);
        let fresh = recorder.layout.frame();
        recorder.frame = fresh;
    }
}

impl State {
    /// A state that reads the machine and writes down what it reads.
    pub(super) fn record(&mut self) {
        let root = self.root.to_string_lossy();
        let root = root.trim_end_matches('/').to_owned();
        self.tape = Tape::Recording(Box::new(Recorder {
            root,
            ..Recorder::default()
        }));
    }

    /// The counters are known: a frame has a place for each.
    pub(super) fn lay_out(&mut self) {
        let layout = Layout::of(&self.zones);
        if let Some(recorder) = self.tape.recorder() {
            recorder.width = layout.columns().len();
            recorder.frame = layout.frame();
            recorder.layout = layout;
        }
    }

    /// Opens what was recorded of `methods`.
    pub(super) fn open_recorded(&mut self, methods: Methods) {
        let Tape::Playing(player) = &self.tape else {
            return;
        };
        let header = &player.trace.header;
        for source in &mut self.sources {
            let method = source.method;
            if !methods.has(method) || source.counter.is_some() {
                continue;
            }
            let zones = header.zones.iter().filter(|zone| zone.method == method);
            let missing = header.missing.iter().find(|(of, _)| *of == method);
            let recorded = header.methods.contains(&method);
            source.counter = Some(match missing {
                Some((_, why)) => Err(why.clone()),
                None if !recorded => Err(Unavailable::absent("the trace holds nothing of it")),
                None => {
                    let zones: Vec<Zone> = zones.cloned().collect();
                    self.zones.extend_from_slice(&zones);
                    Ok(Box::new(Replayed {
                        zones,
                        notes: of_method(&header.notes, method),
                        holes: of_method(&header.holes, method),
                        limits: of_method(&header.limits, method).concat(),
                    }) as Box<dyn EnergyCounter>)
                }
            });
        }
        self.publish();
    }

    /// What a recording knows of methods that count no energy, or a state that reads the machine.
    pub(super) fn missing_recorded(
        &self,
        missing: &mut Vec<(Method, Unavailable)>,
    ) -> Option<Option<Unavailable>> {
        let Tape::Playing(player) = &self.tape else {
            return None;
        };
        let header = &player.trace.header;
        for method in [Method::Ebpf, Method::Psutil, Method::Tdp] {
            let why = header.missing.iter().find(|(of, _)| *of == method);
            let absent = (method == Method::Ebpf)
                .then(|| Unavailable::absent("a trace holds nothing of kernel probes"));
            let why = why.map(|(_, why)| why.clone()).or(absent);
            missing.extend(why.map(|why| (method, why)));
        }
        Some(header.hardware_missing.clone())
    }

    /// Takes the counters from the frame at hand; `None` where nothing is played.
    pub(super) fn play_counters(&mut self, methods: Methods) -> Option<Moment> {
        let Tape::Playing(player) = &mut self.tape else {
            return None;
        };
        let frame = std::mem::take(&mut player.frame);
        let again = std::mem::take(&mut player.again);
        let trace = Arc::clone(&player.trace);
        for read in again.iter().chain([&frame]) {
            for (method, at) in trace.layout().methods.iter().zip(&read.reads) {
                let Some((t_ns, slack_ns)) = at.filter(|_| methods.has(*method)) else {
                    continue;
                };
                self.raw.clear();
                let zones = trace.header.zones.iter().zip(&read.raw);
                let its = zones.filter(|(zone, _)| zone.method == *method);
                self.raw.extend(its.map(|(_, raw)| *raw));
                let asleep_ns = read.asleep_ns;
                self.take_raw(
                    *method,
                    At {
                        t_ns,
                        slack_ns,
                        asleep_ns,
                    },
                    0,
                );
            }
        }
        let moment = Moment {
            t_ns: frame.t_ns,
            slack_ns: frame.slack_ns,
        };
        if let Tape::Playing(player) = &mut self.tape {
            player.frame = frame;
        }
        Some(moment)
    }

    /// CPU times from the frame at hand; `None` where nothing is played.
    pub(super) fn play_cpu(&mut self, follow: &mut Follow) -> Option<CpuCount> {
        let frame = self.tape.frame()?;
        let t_ns = frame.t_ns;
        let cpu = frame.cpu.unwrap_or(CpuTimes {
            began_ns: t_ns,
            ended_ns: t_ns,
            ..CpuTimes::default()
        });
        self.tree_count = cpu.tree;
        follow.last_own_ns = cpu.own_ns.unwrap_or(follow.last_own_ns);
        Some(CpuCount {
            own_ns: cpu.own_ns,
            inside_ns: cpu.inside_ns,
            may_be_late: cpu.may_be_late,
            read: Reading {
                began_ns: cpu.began_ns,
                ended_ns: cpu.ended_ns,
            },
            seen: None,
        })
    }

    pub(super) fn note_cpu(&mut self, count: &CpuCount) {
        let tree = self.tree_count;
        let Some(recorder) = self.tape.recorder() else {
            return;
        };
        recorder.looked_ns = count.read.ended_ns;
        recorder.frame.cpu = Some(CpuTimes {
            own_ns: count.own_ns,
            inside_ns: count.inside_ns,
            may_be_late: count.may_be_late,
            began_ns: count.read.began_ns,
            ended_ns: count.read.ended_ns,
            tree,
        });
    }

    /// The machine's CPU time from the frame at hand; `None` where nothing is played.
    pub(super) fn play_busy(&mut self) -> Option<Option<u64>> {
        let shown = self.tape.frame()?.busy;
        if let Some(shown) = shown {
            self.machine.show(&shown);
        }
        Some(self.machine.told())
    }

    /// Has /proc/stat bear idle time out.
    pub(super) fn look_at_stat(&mut self) {
        if !self.tape.plays() {
            self.machine.stat_line(clock::monotonic_ns());
        }
    }

    /// Flows of the machine at one moment.
    pub(super) fn system_edge(&mut self) -> Option<SystemEdge> {
        if let Some(frame) = self.tape.frame() {
            return frame.system;
        }
        let stat = self.machine.stat_line(clock::monotonic_ns())?;
        let edge = self.system.as_mut()?.edge(Some(stat));
        if let Some(frame) = self.tape.writes() {
            frame.system = Some(edge);
        }
        Some(edge)
    }

    /// Flows and states of the machine where a window ends.
    pub(super) fn system_end(&mut self) -> Option<(SystemEdge, SystemState)> {
        if let Some(frame) = self.tape.frame() {
            return frame.system.zip(frame.state);
        }
        let stat = self.machine.recent_stat_line(clock::monotonic_ns());
        let system = self.system.as_mut()?;
        let (edge, state) = (system.edge(stat), system.state());
        if let Some(frame) = self.tape.writes() {
            (frame.system, frame.state) = (Some(edge), Some(state));
        }
        Some((edge, state))
    }

    /// The high-water mark of the root's resident memory, bytes.
    pub(super) fn high_water_of(&mut self, follow: &mut Follow) -> Option<u64> {
        if let Some(frame) = self.tape.frame() {
            return frame.high_water_bytes;
        }
        let bytes = match &mut follow.trees {
            Some(trees) => trees.root_peak_bytes(),
            None => self.tree.root_peak_bytes(),
        };
        if let Some(frame) = self.tape.writes() {
            frame.high_water_bytes = bytes;
        }
        bytes
    }

    /// Resident memory of the tree, bytes.
    pub(super) fn rss_of(&mut self, follow: &mut Follow) -> Option<u64> {
        if let Some(frame) = self.tape.frame() {
            return frame.rss_bytes;
        }
        let bytes = match &mut follow.trees {
            Some(trees) => trees.rss_bytes(),
            None => self.tree.rss_bytes(),
        };
        if let Some(frame) = self.tape.writes() {
            frame.rss_bytes = bytes;
        }
        bytes
    }

    /// What was missed of the tree so far.
    pub(super) fn missed_of(&mut self, follow: &Follow) -> Missed {
        if let Some(frame) = self.tape.frame() {
            return frame.missed;
        }
        let missed = match &follow.trees {
            Some(trees) => trees.missed(),
            None => self.tree.missed(),
        };
        if let Some(frame) = self.tape.writes() {
            frame.missed = missed;
        }
        missed
    }

    /// Wall clock minus monotonic clock, ns; of a trace since it began.
    pub(super) fn clock_offset(&mut self) -> i128 {
        if let Some(frame) = self.tape.frame() {
            return frame.drift_ns.map_or(0, i128::from);
        }
        let now = i128::from(clock::realtime_ns()) - i128::from(clock::monotonic_ns());
        let Some(recorder) = self.tape.recorder() else {
            return now;
        };
        let drift = now - *recorder.offset.get_or_insert(now);
        recorder.frame.drift_ns = i64::try_from(drift).ok();
        drift
    }

    /// Whether the system refused a thread to sample with.
    pub(super) fn was_refused(&mut self) -> bool {
        if let Some(frame) = self.tape.frame() {
            return frame.refused;
        }
        let refused = self.thread.refused_ns.is_some();
        if let Some(frame) = self.tape.writes() {
            frame.refused = refused;
        }
        refused
    }

    /// The rows that were written since this was last asked, as blocks.
    pub(super) fn take_blocks(&mut self) -> Vec<Vec<u8>> {
        let Some(recorder) = self.tape.recorder() else {
            return Vec::new();
        };
        let (rows, width) = (std::mem::take(&mut recorder.rows), recorder.width);
        let pieces = rows.chunks((BLOCK_ROWS * width).max(1));
        pieces.map(|rows| encode(rows, width)).collect()
    }

    /// What does not change within the trace; `None` before anything was settled.
    pub(super) fn header(&self, options: Recorded) -> Option<Header> {
        let Tape::Recording(recorder) = &self.tape else {
            return None;
        };
        let (first, last) = recorder.machine.as_ref()?;
        let mut machine = Machine::of(first);
        if !recorder.root.is_empty() {
            // A curve is of the machine that this process runs on.
            machine
                .calibration
                .iter_mut()
                .for_each(|stored| stored.curve = None);
            for problem in &mut machine.environment.problems {
                self.tape.scrub(problem);
            }
        }
        let at_end = (!Arc::ptr_eq(first, last)).then(|| AtEnd {
            cpus: last.cpus,
            allotted: last.environment.allotted.clone(),
        });
        let catalog = &self.catalog;
        Some(Header {
            machine,
            at_end,
            zones: self.zones.clone(),
            limits: recorder.limits.clone(),
            notes: catalog.notes.clone(),
            holes: catalog.holes.clone(),
            missing: catalog.missing.clone(),
            hardware_missing: catalog.hardware_missing.clone(),
            methods: options.methods,
            interval_ns: options.interval_ns,
            children: options.children,
            estimation: options.estimation,
            definition: options.definition,
            columns: recorder.layout.columns(),
        })
    }

    /// The machine as it is known now.
    pub(super) fn note_facts(&mut self) {
        self.tape.note_facts(self.facts.as_ref());
    }

    /// Takes what a look at CPU times changes, where there was one for the recording alone.
    pub(super) fn play_look(&mut self, follow: &mut Follow) {
        if self.tape.frame().is_some_and(|frame| frame.cpu.is_some()) {
            self.play_cpu(follow);
            self.play_busy();
        }
    }

    /// Lets the frame be played next.
    fn play(&mut self, next: Frame, before: Vec<Frame>) {
        if let Tape::Playing(player) = &mut self.tape {
            (player.frame, player.again) = (next, before);
        }
    }
}

/// The options of the meter that is recorded.
#[derive(Debug)]
pub struct Recorded {
    /// Methods that it was asked for.
    pub methods: Vec<Method>,
    /// Between samples, ns.
    pub interval_ns: Option<u64>,
    /// Descendants, too.
    pub children: bool,
    /// How the model's watts were made, and what was wrong with what was set for it.
    pub estimation: (String, Option<String>),
    /// What the headline held, where that was asked for.
    pub definition: Option<String>,
}

/// By which rules a trace is played.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Methods to use of those that it holds.
    pub methods: Methods,
    /// How the model's watts are made.
    pub estimation: Estimation,
    /// Idle power of packages and memory, W, in the place of what was learned or stored.
    pub idle_watts: Option<f64>,
    /// Seconds of the recorded window, from and to.
    pub window: Option<(f64, f64)>,
}

impl Hub {
    /// A hub of its own that writes down what it reads. It uses neither kernel probes nor an agent's
    /// ring.
    pub fn recording(root: &Path) -> Self {
        let hub = Self::apart(root);
        super::lock(&hub.state).record();
        hub
    }

    /// The blocks that were written since this was last asked.
    pub fn take_blocks(&self) -> Vec<Vec<u8>> {
        super::lock(&self.state).take_blocks()
    }

    /// What does not change within the trace.
    pub fn header(&self, options: Recorded) -> Option<Header> {
        super::lock(&self.state).header(options)
    }
}

/// Frames of a trace that bound a part of its window: from the first look at CPU times at `from_ns` or
/// later to the last one at `to_ns` or before.
fn bounds(trace: &Trace, window: Option<(f64, f64)>) -> Option<(u64, u64)> {
    let (begun, ended) = trace.window_ns;
    let Some((from, to)) = window else {
        return Some((begun, ended));
    };
    let at = |seconds: f64| begun.saturating_add((seconds * 1e9).round().max(0.0) as u64);
    let (from_ns, to_ns) = (at(from), at(to).min(ended));
    let inside = |frame: &Frame| {
        frame.kind != Kind::Again && frame.cpu.is_some() && (from_ns..=to_ns).contains(&frame.t_ns)
    };
    let mut times = trace.frames().filter(inside).map(|frame| frame.t_ns);
    let first = times.next()?;
    Some((first, times.last()?))
}

/// Plays a trace: what its window, or a part of it, came to.
///
/// # Errors
/// Why there is no such window, in words.
pub fn replay(trace: &Arc<Trace>, rules: Rules) -> Result<Outcome, String> {
    let header = &trace.header;
    let Some((begin_ns, end_ns)) = bounds(trace, rules.window) else {
        let (begun, ended) = trace.window_ns;
        return Err(format!(
            "the trace has no two looks at CPU times there; expected a part of 0 to {} s that holds \
             two samples",
            ended.saturating_sub(begun) as f64 * 1e-9
        ));
    };
    let mut facts = Arc::clone(&trace.facts);
    if let Some(watts) = rules.idle_watts {
        let mut machine = header.machine.clone();
        machine.environment.idle_watts = Some(watts);
        machine.calibration = None;
        facts = Arc::new(machine.facts());
    }
    let mut state = State::with(Path::new("/"), MachineCpu::replayed());
    state.tape = Tape::Playing(Box::new(Player {
        trace: Arc::clone(trace),
        frame: trace.layout().frame(),
        again: Vec::new(),
    }));
    state.traffic = traffic::Seen::recorded(trace.frames().filter_map(|frame| frame.traffic));
    state.busy = busy::Seen::recorded(trace.frames().filter_map(|frame| frame.work));
    state.open_recorded(rules.methods);
    state.always = rules.methods;
    let mut id = None;
    let mut again = Vec::new();
    for frame in trace.frames() {
        if frame.kind == Kind::Again {
            again.push(frame);
            continue;
        }
        let (t_ns, kind) = (frame.t_ns, frame.kind);
        let looked = frame.cpu.is_some();
        state.play(frame, std::mem::take(&mut again));
        match id {
            None if t_ns >= begin_ns && looked => {
                let subject = Subject::Process {
                    pid: None,
                    children: header.children,
                };
                let (methods, interval) = (rules.methods, header.interval_ns);
                id = Some(state.begin(methods, interval, subject, rules.estimation));
                state.facts = Some(Arc::clone(&facts));
            }
            None if kind == Kind::Begin => {
                state.read_counters(rules.methods);
                state.idle_ns(t_ns, None);
                state.facts = Some(Arc::clone(&facts));
            }
            Some(id) if t_ns >= end_ns && looked => {
                let mut active = state.take(id).ok_or(super::BROKEN)?;
                let edge = state.edge(&mut active.record, &mut active.follow);
                if let Some(end) = header.at_end.as_ref().filter(|_| kind == Kind::End) {
                    state.facts = Some(Arc::new(facts.with_end(end.cpus, &end.allotted)));
                }
                state.bound_counters();
                let mut outcome = state.close(&mut active.follow, active.record, edge, false);
                if rules.idle_watts.is_some() {
                    outcome.idle_learners.fill(IdleLearner::default());
                }
                return Ok(outcome);
            }
            _ => {
                state.bound_counters();
                state.tick();
            }
        }
    }
    Err("the trace ends before its window does".into())
}

//! A meter: from start to stop, any number of times.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cgroup::several::Groups;
use crate::cgroup::wanted::Wanted;
use crate::clock;
use crate::definition::Definition;
use crate::error::{Error, Result};
use crate::machine::facts::Facts;
use crate::memory;
use crate::model::estimation::Estimation;
use crate::reading::Reading;
pub use crate::sampler::Scope;
use crate::sampler::{
    BROKEN, Ended, FACTS_BYTES, Heir, Hub, Outcome, Recorded, Rules, Subject,
    replay as replay_trace, require_directory,
};
use crate::source::procfs;
use crate::source::{Method, Methods};
use crate::task::TaskClock;
use crate::timeline::Timeline;
use crate::trace::{Header, Trace};

/// What a meter is asked to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// Methods to use.
    pub methods: Methods,
    /// Sampler interval in s, 0.001 to 3600; `None` reads at the edges only and starts no thread.
    pub interval: Option<f64>,
    /// The processes to meter, as one; none is this one.
    pub pids: Vec<i64>,
    /// Its descendants too.
    pub children: bool,
    /// Whose energy: a process, a thread or a task; [`Options::cgroups`] makes it a cgroup.
    pub scope: Scope,
    /// Cgroups instead of a process, as one: directories, or what [`Wanted::new`] takes.
    pub cgroups: Vec<PathBuf>,
    /// Where /sys and /proc are.
    pub root: PathBuf,
    /// Switched off, a meter reads nothing and its readings say so.
    pub enabled: bool,
    /// How the model's watts are made; `None` is by `ENERGY_ESTIMATION_METHOD`.
    pub estimation: Option<Estimation>,
    /// What the headline holds; `None` is by the surroundings.
    pub definition: Option<Definition>,
    /// Why there is nothing to meter, where that is known beforehand: such a meter reads nothing,
    /// and its readings say this.
    pub absent: Option<String>,
    /// The window is written down while it is metered: see [`Meter::take_blocks`].
    pub record: bool,
    /// A recorded window in the place of this machine.
    pub replay: Option<Replay>,
}

/// A trace, and by which rules it is read.
#[derive(Debug, Clone)]
pub struct Replay {
    /// The trace.
    pub trace: Arc<Trace>,
    /// Idle power of packages and memory, W, in the place of what was learned or stored.
    pub idle_watts: Option<f64>,
    /// Seconds of its window, from and to; all of it where there are none.
    pub window: Option<(f64, f64)>,
}

impl Replay {
    /// That the part which was asked for is longer than the recording, in words.
    fn cut(&self) -> Option<String> {
        let (begun, ended) = self.trace.window_ns;
        let seconds = ended.saturating_sub(begun) as f64 * 1e-9;
        let (_, to) = self.window.filter(|(_, to)| *to > seconds + 1e-6)?;
        Some(format!(
            "the recording ends after {seconds:.4} s, and this part with it, which was to end after {to} s"
        ))
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            methods: Methods::AUTO,
            interval: Some(0.1),
            pids: Vec::new(),
            children: true,
            scope: Scope::Process,
            cgroups: Vec::new(),
            root: PathBuf::from("/"),
            enabled: true,
            estimation: None,
            definition: None,
            absent: None,
            record: false,
            replay: None,
        }
    }
}

#[derive(Debug)]
enum State {
    New,
    Running {
        hub: Arc<Hub>,
        id: u64,
    },
    /// Its window has ended, and what that came to is not known yet.
    Ended {
        hub: Arc<Hub>,
        ended: Box<Ended>,
    },
    Stopped(Box<Outcome>),
    /// A trace is read, and what it came to is known already.
    Played(Box<Outcome>),
    /// It stopped, or runs, without anything to show: why.
    Nothing {
        reason: Cow<'static, str>,
        running: bool,
    },
}

impl State {
    fn nothing(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Nothing {
            reason: reason.into(),
            running: true,
        }
    }
}

/// A meter that was running when its process forked, in the child.
const FORKED: &str = "the meter was started in another process, before a fork";
/// A meter that is switched off.
const DISABLED: &str = "switched off by ENERGY_MONITORING_ENABLED or enabled=False";
/// A meter of a process that is no more.
const GONE: &str = "the process to meter had ended before the window began";

/// A window that is being written down: to look at it would be to change it.
const RECORDING: &str = "the window is being recorded: its reading is there when it has ended";

/// A window that has ended and that nobody asked to be settled.
const UNSETTLED: &str = "the window has ended and was not settled: call stop()";

/// A meter of a task that nobody drives: of a plain function or a block.
const UNDRIVEN: &str =
    "scope \"task\" meters coroutines and generators, and none ran: decorate one";

/// These processes as one subject; this process where there are none.
fn processes(pids: &[i32], children: bool) -> Subject {
    let pids = if children {
        procfs::outermost(pids)
    } else {
        let mut once = pids.to_vec();
        once.sort_unstable();
        once.dedup();
        once
    };
    match pids.as_slice() {
        [] | [_] => Subject::Process {
            pid: pids.first().copied().filter(|p| *p != clock::getpid()),
            children,
        },
        _ => Subject::Processes { pids, children },
    }
}

/// An energy meter.
///
/// ```
/// use lithowatt::meter::{Meter, Options};
/// let mut meter = Meter::new(Options::default()).unwrap();
/// meter.start().unwrap();
/// let sum: u64 = (0..100_000).sum();
/// meter.stop().unwrap();
/// let reading = meter.reading(None).unwrap();
/// assert!(reading.duration > 0.0 && sum > 0);
/// ```
#[derive(Debug)]
pub struct Meter {
    options: Options,
    estimation: Estimation,
    /// Why it is not the one that is set in the environment.
    estimation_problem: Option<String>,
    interval_ns: Option<u64>,
    state: State,
    /// When the metered processes began: their numbers may be given to others.
    began_at: Vec<(i32, Option<u64>)>,
    hub: Option<Arc<Hub>>,
    task: Option<Arc<TaskClock>>,
    heir: Option<Heir>,
}

impl Meter {
    /// A meter that does not run yet.
    ///
    /// # Errors
    /// [`Error::InvalidInterval`], [`Error::Conflict`] or [`Error::NoSuchProcess`].
    pub fn new(options: Options) -> Result<Self> {
        let interval_ns = match options.interval {
            None => None,
            // The comparison is false for NaN, too.
            Some(seconds) if (0.001..=3600.0).contains(&seconds) => {
                Some((seconds * 1e9).round() as u64)
            }
            Some(seconds) => {
                let given = format!("{seconds:?}");
                return Err(Error::InvalidInterval { given });
            }
        };
        let other = !options.pids.is_empty() || !options.cgroups.is_empty();
        if other && options.scope != Scope::Process {
            return Err(Error::Conflict {
                given: "pid or cgroup with a scope of thread or task".into(),
                accepted: "scope=\"process\" with pid or cgroup".into(),
            });
        }
        if !options.pids.is_empty() && !options.cgroups.is_empty() {
            return Err(Error::Conflict {
                given: "pid and cgroup".into(),
                accepted: "one of them".into(),
            });
        }
        let mut began_at = Vec::new();
        let asked = options.absent.is_none();
        for given in options.pids.iter().filter(|_| asked) {
            let alive = i32::try_from(*given)
                .ok()
                .filter(|pid| *pid > 0 && clock::process_cpu_ns(*pid).is_some());
            let Some(pid) = alive else {
                return Err(Error::NoSuchProcess {
                    pid: given.to_string(),
                });
            };
            began_at.push((pid, procfs::began_at(pid)));
        }
        if options.record && (other || options.scope != Scope::Process) {
            return Err(Error::Conflict {
                given: "a recording with pid, cgroup or a scope other than process".into(),
                accepted: "this process and its descendants".into(),
            });
        }
        if options.root.as_os_str().is_empty() {
            return Err(Error::EmptyRoot);
        }
        if asked && !options.cgroups.is_empty() {
            if let Some(path) = options.cgroups.iter().find(|p| p.as_os_str().is_empty()) {
                let source = std::io::ErrorKind::NotFound.into();
                return Err(Error::NoCgroup {
                    path: path.clone(),
                    source,
                });
            }
            Groups::open(&Wanted::new(&options.root, &options.cgroups))?;
        }
        let (estimation, estimation_problem) = match (options.estimation, &options.replay) {
            (Some(asked), _) => (asked, None),
            (None, Some(replay)) => {
                let (name, problem) = &replay.trace.header.estimation;
                (Estimation::parse(name).unwrap_or_default(), problem.clone())
            }
            (None, None) => Estimation::from_environment(),
        };
        Ok(Self {
            options,
            estimation,
            estimation_problem,
            interval_ns,
            state: State::New,
            began_at,
            hub: None,
            task: None,
            heir: None,
        })
    }

    /// Starts, or starts again.
    ///
    /// # Errors
    /// [`Error::State`] if it runs. What it is to meter may be gone by now: it starts all the same,
    /// because whoever starts it is about to do something else, and its readings say why they are
    /// empty.
    pub fn start(&mut self) -> Result<()> {
        if self.is_running() {
            return Err(Error::State {
                state: "running already",
                accepted: "call stop() first, or use another EnergyMeter",
            });
        }
        if let Some(reason) = self.options.absent.clone() {
            self.state = State::nothing(reason);
            return Ok(());
        }
        if !self.options.enabled {
            self.state = State::nothing(DISABLED);
            return Ok(());
        }
        if let Some(replay) = &self.options.replay {
            let rules = Rules {
                methods: self.options.methods,
                estimation: self.estimation,
                idle_watts: replay.idle_watts,
                window: replay.window,
            };
            let played = contained(|| Ok(replay_trace(&replay.trace, rules)));
            self.state = match played.map_err(str::to_owned).and_then(|outcome| outcome) {
                Ok(outcome) => State::Played(Box::new(outcome)),
                Err(reason) => State::nothing(reason),
            };
            return Ok(());
        }
        let there = self.those_there();
        if there.is_empty() && !self.began_at.is_empty() {
            self.state = State::nothing(GONE);
            return Ok(());
        }
        let subject = match self.options.scope {
            _ if !self.options.cgroups.is_empty() => {
                let wanted = Wanted::new(&self.options.root, &self.options.cgroups);
                match Groups::open(&wanted) {
                    Ok(groups) => Subject::Cgroup(groups),
                    Err(error) => {
                        self.state = State::nothing(error.to_string());
                        return Ok(());
                    }
                }
            }
            Scope::Process | Scope::Cgroup => processes(&there, self.options.children),
            Scope::Thread => Subject::Thread(clock::gettid()),
            Scope::Task => {
                let task = Arc::new(TaskClock::default());
                self.task = Some(Arc::clone(&task));
                Subject::Task(task)
            }
        };
        let hub = match self.hub.take() {
            // A trace holds one window.
            _ if self.options.record => {
                if let Err(error) = require_directory(&self.options.root) {
                    let root = self.options.root.display();
                    self.state = State::nothing(format!("the root {root} cannot be used: {error}"));
                    return Ok(());
                }
                Arc::new(Hub::recording(&self.options.root))
            }
            Some(hub) if !hub.is_foreign() && !hub.is_retired() => hub,
            _ => match Hub::get(&self.options.root) {
                Ok(hub) => hub,
                Err(error) => {
                    let root = self.options.root.display();
                    self.state = State::nothing(format!("the root {root} cannot be used: {error}"));
                    return Ok(());
                }
            },
        };
        let (mut methods, interval) = (self.options.methods, self.interval_ns);
        if self.options.record {
            methods = methods.without(Method::Ebpf);
        }
        let estimation = self.estimation;
        self.state = match contained(|| hub.start(methods, interval, subject, estimation)) {
            Ok(id) => State::Running {
                hub: Arc::clone(&hub),
                id,
            },
            Err(reason) => State::nothing(reason),
        };
        self.hub = Some(hub);
        Ok(())
    }

    /// Starts a window and forgets it, so that [`Self::start`] finds at hand what it needs, and the
    /// thread that samples: for a process that was forked to run one function. Without effect on
    /// meters of recordings, and on those that are switched off or run.
    pub fn prepare(&mut self) {
        if self.options.record || self.options.replay.is_some() || self.is_running() {
            return;
        }
        let before = std::mem::replace(&mut self.state, State::New);
        // It cannot run, and where there is nothing to meter that is told by the start to come.
        let _ = self.start();
        if let State::Running { hub, id } = std::mem::replace(&mut self.state, before) {
            hub.forget(id);
        }
    }

    /// Before a fork: the child will meter with its copy of this meter, and this one will make the
    /// numbers of that window. See [`Self::hand_over`] and [`Self::receive`].
    pub fn expect(&mut self) {
        if !self.is_plain() {
            return;
        }
        if let Ok(hub) = Hub::get(&self.options.root) {
            self.heir = Some(Heir::of(&hub));
            self.hub = Some(hub);
        }
    }

    /// In the child: what the parent does not know of the window that was stopped. `None` where it
    /// could not make the same numbers of it, or did not expect it: the child makes them then.
    pub fn hand_over(&self) -> Option<Vec<u8>> {
        match &self.state {
            State::Stopped(outcome) => self.heir.as_ref()?.hand_over(outcome),
            _ => None,
        }
    }

    /// In the parent: takes the window that a child handed over for its own. False where the bytes
    /// hold none.
    pub fn receive(&mut self, bytes: &[u8]) -> bool {
        if self.is_running() {
            return false;
        }
        let Some(outcome) = self.heir.as_ref().and_then(|heir| heir.receive(bytes)) else {
            return false;
        };
        self.state = State::Stopped(Box::new(outcome));
        true
    }

    /// Whether it meters this process, here and now.
    fn is_plain(&self) -> bool {
        let options = &self.options;
        options.pids.is_empty()
            && options.cgroups.is_empty()
            && options.scope == Scope::Process
            && !options.record
            && options.replay.is_none()
    }

    /// Ends the window and does no more: what it came to is found out by [`Self::stop`], which is
    /// still to be called. Whoever meters a function puts that outside of the function's time.
    ///
    /// # Errors
    /// [`Error::State`] if it does not run.
    pub fn end(&mut self) -> Result<()> {
        let State::Running { hub, id } = &self.state else {
            return if self.is_running() {
                Ok(())
            } else {
                Err(NOT_RUNNING)
            };
        };
        if hub.is_foreign() {
            return Ok(());
        }
        let ended = contained(|| hub.end(*id));
        self.state = match ended {
            Ok(ended) => State::Ended {
                hub: Arc::clone(hub),
                ended: Box::new(ended),
            },
            Err(reason) => State::nothing(reason),
        };
        Ok(())
    }

    /// The processes to meter that have not ended since the meter was made.
    fn those_there(&self) -> Vec<i32> {
        let there = self.began_at.iter().filter(|(pid, began_at)| {
            match (began_at, procfs::began_at(*pid)) {
                (Some(then), Some(now)) => *then == now,
                _ => clock::process_cpu_ns(*pid).is_some(),
            }
        });
        there.map(|(pid, _)| *pid).collect()
    }

    /// Stops.
    ///
    /// # Errors
    /// [`Error::State`] if it does not run.
    pub fn stop(&mut self) -> Result<()> {
        if matches!(self.state, State::Played(_)) {
            if let State::Played(outcome) = std::mem::replace(&mut self.state, State::New) {
                self.state = State::Stopped(outcome);
            }
            return Ok(());
        }
        if matches!(&self.state, State::Running { hub, .. } if !hub.is_foreign()) {
            self.end()?;
        }
        let driven = self.is_driven();
        let ended = match std::mem::replace(&mut self.state, State::New) {
            State::Running { .. } => Err(Cow::Borrowed(FORKED)),
            State::Ended { hub, .. } if hub.is_foreign() => Err(Cow::Borrowed(FORKED)),
            State::Ended { hub, ended } => contained(|| hub.close(*ended))
                .map_err(Cow::Borrowed)
                .and_then(|outcome| driven.then_some(outcome).ok_or(Cow::Borrowed(UNDRIVEN))),
            State::Nothing {
                reason,
                running: true,
            } => Err(reason),
            other => {
                self.state = other;
                return Err(NOT_RUNNING);
            }
        };
        self.state = match ended {
            Ok(outcome) => State::Stopped(Box::new(outcome)),
            Err(reason) => State::Nothing {
                reason,
                running: false,
            },
        };
        Ok(())
    }

    /// The hub of a window that has ended and is not settled, if it is this process's.
    pub fn hub_of_ended(&self) -> Option<Arc<Hub>> {
        match &self.state {
            State::Ended { hub, .. } if !hub.is_foreign() => Some(Arc::clone(hub)),
            _ => None,
        }
    }

    /// Whether it runs in this process.
    pub fn is_running(&self) -> bool {
        match &self.state {
            State::Running { hub, .. } | State::Ended { hub, .. } => !hub.is_foreign(),
            State::Nothing { running, .. } => *running,
            State::Played(_) => true,
            _ => false,
        }
    }

    /// Whether whatever runs the task, where one is metered, ever said that it goes on.
    fn is_driven(&self) -> bool {
        self.options.scope != Scope::Task || self.task.as_ref().is_none_or(|task| task.has_run())
    }

    /// The task goes on, on the calling thread. Without effect on other scopes.
    pub fn resume(&self) {
        if let Some(task) = &self.task {
            task.resume();
        }
    }

    /// The task waits. Without effect on other scopes.
    pub fn suspend(&self) {
        if let Some(task) = &self.task {
            task.suspend();
        }
    }

    /// Marks the start of a phase. Without effect on a meter that does not run.
    pub fn enter_phase(&self, name: &str) -> bool {
        match &self.state {
            State::Running { hub, id } if !hub.is_foreign() => hub.enter_phase(*id, name),
            _ => false,
        }
    }

    /// Marks the end of a phase. Without effect on a meter that does not run.
    pub fn leave_phase(&self, name: &str) -> bool {
        match &self.state {
            State::Running { hub, id } if !hub.is_foreign() => hub.leave_phase(*id, name),
            _ => false,
        }
    }

    /// The reading of the last window, or of the running one so far.
    ///
    /// # Errors
    /// [`Error::State`] if it was never started, [`Error::Memory`] where the process has none.
    pub fn reading(&self, label: Option<&str>) -> Result<Reading> {
        self.require_memory(0)?;
        let facts = self.facts();
        let absent = |reason| Ok(Reading::absent(reason, &facts, label));
        match &self.state {
            State::New => Err(NOT_RUNNING),
            State::Stopped(outcome) | State::Played(outcome) => {
                Ok(self.read(outcome, &facts, label))
            }
            State::Running { hub, .. } if hub.is_foreign() => absent(FORKED),
            State::Ended { hub, .. } if hub.is_foreign() => absent(FORKED),
            State::Ended { .. } => absent(UNSETTLED),
            State::Running { .. } if !self.is_driven() => absent(UNDRIVEN),
            State::Running { .. } if self.options.record => absent(RECORDING),
            State::Running { hub, id } => match contained(|| hub.peek(*id)) {
                Ok(outcome) => Ok(self.read(&outcome, &facts, label)),
                Err(reason) => absent(reason),
            },
            State::Nothing { reason, .. } => absent(reason),
        }
    }

    /// What a copy of the last window's samples takes, bytes.
    fn timeline_bytes(&self) -> usize {
        match &self.state {
            State::Stopped(outcome) => outcome.timeline.as_ref().map_or(0, Timeline::bytes),
            _ => 0,
        }
    }

    /// Refuses work for which there is no memory, `bytes` of it at once: a failed allocation would
    /// end the process.
    fn require_memory(&self, bytes: usize) -> Result<()> {
        let facts = if self.knows_facts() { 0 } else { FACTS_BYTES };
        if memory::is_short_of(bytes.max(facts)) {
            return Err(Error::Memory);
        }
        Ok(())
    }

    fn knows_facts(&self) -> bool {
        if self.options.replay.is_some() {
            return true;
        }
        let hub = self.hub.as_ref();
        hub.is_some_and(|hub| !hub.is_foreign() && hub.knows_facts())
            || Facts::known(&self.options.root).is_some()
    }

    fn read(&self, outcome: &Outcome, facts: &Facts, label: Option<&str>) -> Reading {
        let facts = outcome.facts.as_deref().unwrap_or(facts);
        let replay = self.options.replay.as_ref();
        let recorded =
            replay.and_then(|r| Definition::parse(r.trace.header.definition.as_deref()?));
        let asked = self.options.definition.or(recorded);
        let definition =
            asked.unwrap_or_else(|| Definition::usual(facts.environment.function_sandbox));
        let mut reading = Reading::new(outcome, facts, definition, label);
        reading.warnings.extend(self.estimation_problem.clone());
        reading.warnings.extend(replay.and_then(Replay::cut));
        reading
    }

    /// The samples of the last window, or of the running one so far, and the names of their
    /// columns. `None` where none were taken.
    ///
    /// # Errors
    /// [`Error::State`] if it was never started, [`Error::Memory`] where the process has none.
    pub fn timeline(&self) -> Result<Option<(Timeline, Vec<String>)>> {
        let of = |outcome: &Outcome| Some((outcome.timeline.clone()?, outcome.column_names()));
        self.require_memory(self.timeline_bytes())?;
        match &self.state {
            State::New => Err(NOT_RUNNING),
            State::Stopped(outcome) | State::Played(outcome) => Ok(of(outcome)),
            State::Running { hub, id } if !hub.is_foreign() && !self.options.record => {
                Ok(hub.peek(*id).as_ref().ok().and_then(of))
            }
            State::Running { .. } | State::Ended { .. } | State::Nothing { .. } => Ok(None),
        }
    }

    /// What was written down of a window that is recorded since this was last asked: blocks of rows
    /// ([`crate::trace::encode`]).
    pub fn take_blocks(&self) -> Vec<Vec<u8>> {
        let hub = self.hub.as_ref().filter(|_| self.options.record);
        hub.map(|hub| hub.take_blocks()).unwrap_or_default()
    }

    /// What does not change within a recorded window; `None` before it ended.
    pub fn header(&self) -> Option<Header> {
        let hub = self.hub.as_ref().filter(|_| self.options.record)?;
        let methods = self.options.methods.without(Method::Ebpf);
        // A trace has no rows of GPUs.
        let methods = methods.without(Method::Nvml);
        let asked = Method::ALL.iter().copied();
        hub.header(Recorded {
            methods: asked.filter(|method| methods.has(*method)).collect(),
            interval_ns: self.interval_ns,
            children: self.options.children,
            estimation: (
                self.estimation.name().to_owned(),
                self.estimation_problem.clone(),
            ),
            definition: self.options.definition.map(|asked| asked.name().to_owned()),
        })
    }

    /// The machine.
    pub fn facts(&self) -> Arc<Facts> {
        if let Some(replay) = &self.options.replay {
            return Arc::clone(&replay.trace.facts);
        }
        match &self.hub {
            Some(hub) if !hub.is_foreign() => hub.facts(),
            _ => match Hub::get(&self.options.root) {
                Ok(hub) => hub.facts(),
                Err(_) => Hub::apart(&self.options.root).facts(),
            },
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        // A meter that is forgotten while it runs must not keep the sampler awake for ever.
        if self.is_running() {
            let _ = self.stop();
        }
        let recorded = self.hub.as_ref().filter(|_| self.options.record);
        if let Some(hub) = recorded.filter(|hub| !hub.is_foreign()) {
            hub.retire();
        }
    }
}

/// Runs `f` so that a panic in it stays here: the function being metered is not ours to break.
fn contained<T>(
    f: impl FnOnce() -> std::result::Result<T, &'static str>,
) -> std::result::Result<T, &'static str> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_or(Err(BROKEN))
}

const NOT_RUNNING: Error = Error::State {
    state: "not running",
    accepted: "call start() first, or use it in a with statement",
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Quality;
    use crate::source::Domain;
    use std::fs;
    use std::path::Path;

    #[test]
    fn a_source_is_metered_by_its_line_in_the_registry() {
        let root = tempfile::tempdir().unwrap();
        let energy = root.path().join("energy");
        fs::create_dir(&energy).unwrap();
        let set = |package: u64| fs::write(energy.join("package"), package.to_string()).unwrap();
        set(1_000_000);
        std::os::unix::fs::symlink("/proc", root.path().join("proc")).unwrap();
        let mut meter = Meter::new(Options {
            methods: Methods::parse(["files", "rapl"]).unwrap(),
            interval: None,
            root: Path::to_owned(root.path()),
            ..Options::default()
        })
        .unwrap();
        meter.start().unwrap();
        let begun = std::time::Instant::now();
        while begun.elapsed() < std::time::Duration::from_millis(30) {
            std::hint::spin_loop();
        }
        set(1_000_000 + 200_000);
        meter.stop().unwrap();
        let reading = meter.reading(None).unwrap();
        let files = reading.counter(Method::Files);
        assert!((files.domains[&Domain::Package].joules - 0.2).abs() < 1e-9);
        assert_eq!(files.availability.to_string(), "measured: file package");
        assert!(files.reasons[&Domain::Dram].starts_with("it has no file"));
        let headline = reading.headline.as_ref().unwrap();
        assert_eq!(headline.method, "files+cputime");
        assert_ne!(headline.quality, Quality::Modelled);
        assert!((headline.division.machine - 0.2).abs() < 1e-9);
        assert!(!reading.counter(Method::Rapl).availability.is_available());
        let told = serde_json::to_value(&reading).unwrap();
        assert_eq!(told["files"]["available"], true);
        assert_eq!(told["rapl"]["available"], false);
    }
}

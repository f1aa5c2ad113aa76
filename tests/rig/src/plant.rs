//! The simulated machine at work: it steps the load, keeps the ledger, shows the counters.

use crate::config::Config;
use crate::cpu::{self, Busy, Clock, Others};
use crate::ledger::{AccountId, Ledger, Segments, Spent};
use crate::power::{self, Counter, Domain, Power, Ticks, Zone};
use crate::sys;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Two readings of the CPU clocks closer than this say more about the clocks than about the load.
const SHORTEST_STEP_NS: u64 = 50_000;

/// What can go wrong with a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// `energy_uj` cannot be opened or read: permission denied.
    Eacces,
    /// The zone and its sub-zones are gone; open files give ENODEV.
    Vanish,
    /// `energy_uj` holds text that is no number.
    Garbage,
    /// `energy_uj` is empty.
    Empty,
    /// The counter stands still (and jumps to its true value when cleared).
    Freeze,
    /// The counter restarts at 0, once; nothing to clear.
    Reset,
    /// Takes back every other fault.
    Clear,
}

/// What a reader of `energy_uj` gets.
#[derive(Debug, PartialEq, Eq)]
pub enum Shown {
    /// A counter value, µJ.
    Value(u64),
    /// Some other text.
    Text(&'static str),
    /// Permission denied.
    Denied,
    /// The zone is gone.
    Gone,
}

/// Faults and resets of one zone.
#[derive(Clone, Copy, Debug, Default)]
struct Condition {
    fault: Option<Fault>,
    /// Value that a frozen counter shows.
    frozen: u64,
    /// J at the last reset; `None` when the counter still has its start value.
    reset: Option<f64>,
}

/// A registered process.
#[derive(Debug)]
struct Task {
    pid: i32,
    tree: bool,
    weight: f64,
    account: AccountId,
    clock: Clock,
    /// The registered ancestor whose clock counts this process too.
    inside: Option<i32>,
}

#[derive(Debug)]
struct Load {
    busy: Busy,
    busy_last: u64,
    own_last: u64,
    others: Others,
    tasks: Vec<Task>,
    ledger: Ledger,
    steps: u64,
    longest_step_ns: u64,
    /// Load and W of all packages in the last step.
    cpus: f64,
    watts: f64,
}

#[derive(Debug)]
enum Drive {
    Constant(Segments),
    Load(Box<Load>),
}

#[derive(Debug)]
struct State {
    drive: Drive,
    conditions: Vec<Condition>,
}

/// The truth about a window, in joules. `idle` + `others` + the sum of `pids` = `machine`.
#[derive(Debug, Serialize)]
pub struct Truth {
    /// Each zone of the tree by key.
    pub zones: BTreeMap<String, f64>,
    /// Packages and memory.
    pub machine: f64,
    /// All packages.
    pub package: f64,
    /// All cores (also where the core zone shows one core only).
    pub core: Option<f64>,
    /// All uncore parts.
    pub uncore: Option<f64>,
    /// All memory.
    pub dram: Option<f64>,
    /// The platform.
    pub psys: Option<f64>,
    /// What the machine would have used idle.
    pub idle: f64,
    /// Above idle, by registered process.
    pub pids: BTreeMap<i32, f64>,
    /// Above idle, everybody else.
    pub others: f64,
}

/// The simulated machine.
#[derive(Debug)]
pub struct Plant {
    /// All zones, parents first.
    pub zones: Vec<Zone>,
    power: Power,
    counter: Counter,
    ticks: Ticks,
    begin: u64,
    step_ns: u64,
    dram_share: f64,
    domains: Vec<Domain>,
    core_share: f64,
    uncore_share: f64,
    psys_watts: Option<f64>,
    count_self: bool,
    state: Mutex<State>,
    /// Reads of `energy_uj` served.
    pub reads: AtomicU64,
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text.into())
}

impl Plant {
    /// Starts the simulation now.
    pub fn new(config: &Config) -> io::Result<Self> {
        let shape = config.shape();
        let zones = shape.zones();
        let begin = sys::now_ns();
        let drive = match config.watts {
            Some(watts) => Drive::Constant(Segments::new(begin, watts)),
            None => {
                let busy = Busy::open()?;
                let busy_last = busy.read().unwrap_or(0);
                let steps = config.history_s * 1_000_000 / config.step_us;
                Drive::Load(Box::new(Load {
                    busy,
                    busy_last,
                    own_last: sys::own_cpu_ns(),
                    others: Others::default(),
                    tasks: Vec::new(),
                    ledger: Ledger::new(begin, usize::try_from(steps).unwrap_or(usize::MAX)),
                    steps: 0,
                    longest_step_ns: 0,
                    cpus: 0.0,
                    watts: config.idle_watts,
                }))
            }
        };
        Ok(Self {
            power: config.power(),
            counter: config.counter(),
            ticks: config.ticks(),
            begin,
            step_ns: config.step_us * 1000,
            dram_share: shape.dram_share(),
            domains: shape.domains,
            core_share: config.fractions.core,
            uncore_share: config.fractions.uncore,
            psys_watts: config.psys_watts,
            count_self: config.count_self,
            state: Mutex::new(State {
                drive,
                conditions: vec![Condition::default(); zones.len()],
            }),
            zones,
            reads: AtomicU64::new(0),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a load to follow, and so an integrator to run.
    pub fn follows_load(&self) -> bool {
        matches!(self.lock().drive, Drive::Load(_))
    }

    /// Steps for ever, one step per period, on the period's boundaries.
    pub fn integrate(&self) {
        loop {
            let next = (sys::now_ns() / self.step_ns + 1) * self.step_ns;
            sys::sleep_until(next);
            if let Drive::Load(load) = &mut self.lock().drive {
                self.step(load);
            }
        }
    }

    /// One step, from the last one to now.
    fn step(&self, load: &mut Load) {
        let now = sys::now_ns();
        let ran = now.saturating_sub(load.ledger.end());
        if ran < SHORTEST_STEP_NS {
            return;
        }
        let dt = ran as f64;
        let counted: Vec<f64> = load
            .tasks
            .iter_mut()
            .map(|t| t.clock.advance() as f64)
            .collect();
        // What a clock inside another one counted belongs to the inner process only.
        let used: Vec<f64> = load
            .tasks
            .iter()
            .zip(&counted)
            .map(|(task, own)| {
                let inner = load.tasks.iter().zip(&counted);
                let inner = inner.filter(|(t, _)| t.inside == Some(task.pid));
                (own - inner.map(|(_, c)| c).sum::<f64>()).max(0.0)
            })
            .collect();
        let busy = load.busy.read().unwrap_or(load.busy_last);
        let mut seen = busy.saturating_sub(load.busy_last) as f64 - used.iter().sum::<f64>();
        load.busy_last = load.busy_last.max(busy);
        if !self.count_self {
            let own = sys::own_cpu_ns();
            seen -= own.saturating_sub(load.own_last) as f64;
            load.own_last = own;
        }
        let others = load.others.flow(seen, dt);

        let mut weighted: Vec<f64> = used
            .iter()
            .zip(&load.tasks)
            .map(|(u, t)| u * t.weight / dt)
            .collect();
        weighted.push(others / dt);
        let cpus = weighted.iter().sum();
        let active = self.power.active_watts(cpus);
        let mut joules = power::share(active * dt * 1e-9, &weighted);
        let others = joules.pop().unwrap_or(0.0);
        let pids: Vec<_> = load.tasks.iter().map(|t| t.account).zip(joules).collect();
        let idle = self.power.idle_watts * dt * 1e-9;
        load.ledger.push(now, idle, others, &pids);
        load.steps += 1;
        load.longest_step_ns = load.longest_step_ns.max(ran);
        load.cpus = cpus;
        load.watts = self.power.idle_watts + active;
    }

    /// J of all packages since the start, as of the last counter update.
    fn package_joules(&self, drive: &mut Drive) -> (f64, f64) {
        let now = sys::now_ns();
        let t = self.ticks.last(now).max(self.begin);
        match drive {
            Drive::Constant(segments) => (segments.total_at(t), (t - self.begin) as f64 * 1e-9),
            Drive::Load(load) => {
                if t > load.ledger.end() {
                    self.step(load);
                }
                let t = t.min(load.ledger.end());
                (
                    load.ledger.total_at(t),
                    t.saturating_sub(self.begin) as f64 * 1e-9,
                )
            }
        }
    }

    /// What `energy_uj` of a zone holds now.
    pub fn show(&self, zone: usize) -> Shown {
        self.reads.fetch_add(1, Relaxed);
        let state = &mut *self.lock();
        if self.gone(state, zone) {
            return Shown::Gone;
        }
        let condition = state.conditions[zone];
        match condition.fault {
            Some(Fault::Eacces) => Shown::Denied,
            Some(Fault::Garbage) => Shown::Text("not-a-number\n"),
            Some(Fault::Empty) => Shown::Text(""),
            Some(Fault::Freeze) => Shown::Value(condition.frozen),
            _ => {
                let (joules, seconds) = self.package_joules(&mut state.drive);
                Shown::Value(self.value(zone, condition, joules, seconds))
            }
        }
    }

    fn value(&self, zone: usize, condition: Condition, package: f64, seconds: f64) -> u64 {
        let joules = self.zones[zone].joules(package, seconds);
        match condition.reset {
            None => self.counter.show(joules, self.counter.start_uj),
            Some(before) => self.counter.show(joules - before, 0),
        }
    }

    fn gone(&self, state: &State, zone: usize) -> bool {
        let here = state.conditions[zone].fault == Some(Fault::Vanish);
        here || self.zones[zone].parent.is_some_and(|p| self.gone(state, p))
    }

    /// Whether a zone has vanished, itself or with its parent.
    pub fn vanished(&self, zone: usize) -> bool {
        self.gone(&self.lock(), zone)
    }

    /// Whether opening `energy_uj` of a zone is refused.
    pub fn denied(&self, zone: usize) -> bool {
        self.lock().conditions[zone].fault == Some(Fault::Eacces)
    }

    /// Largest counter value.
    pub fn max_range_uj(&self) -> u64 {
        self.counter.max_range_uj
    }

    /// Zones that `pattern` means: a key, else a directory name, else every zone of that name;
    /// `*` is all of them.
    fn matching(&self, pattern: &str) -> Vec<usize> {
        let by = |f: &dyn Fn(&Zone) -> bool| -> Vec<usize> {
            (0..self.zones.len())
                .filter(|k| f(&self.zones[*k]))
                .collect()
        };
        if pattern == "*" {
            return by(&|_| true);
        }
        let mut found = by(&|z| z.key == pattern);
        if found.is_empty() {
            found = by(&|z| z.dir == pattern);
        }
        if found.is_empty() {
            found = by(&|z| z.name == pattern && !z.mmio);
        }
        found
    }

    /// Makes something go wrong, or right again.
    pub fn fault(&self, kind: Fault, pattern: &str) -> io::Result<Vec<String>> {
        let zones = self.matching(pattern);
        if zones.is_empty() {
            let keys: Vec<_> = self.zones.iter().map(|z| z.key.as_str()).collect();
            return Err(invalid(format!(
                "no zone {pattern:?}; there are {}",
                keys.join(", ")
            )));
        }
        let state = &mut *self.lock();
        let (joules, seconds) = self.package_joules(&mut state.drive);
        for zone in &zones {
            let condition = state.conditions[*zone];
            let changed = &mut state.conditions[*zone];
            match kind {
                Fault::Clear => changed.fault = None,
                Fault::Reset => {
                    changed.reset = Some(self.zones[*zone].joules(joules, seconds));
                }
                Fault::Freeze => {
                    changed.frozen = self.value(*zone, condition, joules, seconds);
                    changed.fault = Some(kind);
                }
                other => changed.fault = Some(other),
            }
        }
        Ok(zones.iter().map(|z| self.zones[*z].key.clone()).collect())
    }

    /// Counts a process on its own account from now on; returns the name of its clock.
    pub fn register(&self, pid: i32, weight: f64, tree: bool) -> io::Result<&'static str> {
        if !(weight.is_finite() && weight >= 0.0) {
            return Err(invalid("weight must be 0 or more"));
        }
        let registered = self.registered(pid)?;
        let mut except: Vec<i32> = registered.iter().map(|(p, _)| *p).collect();
        except.extend(i32::try_from(std::process::id()));
        let mut up = cpu::parent(pid);
        let inside = loop {
            match up {
                Some(p) if registered.contains(&(p, true)) => break Some(p),
                Some(p) if p > 1 => up = cpu::parent(p),
                _ => break None,
            }
        };
        // Takes milliseconds on a machine with many processes: not under the lock.
        let mut clock = Clock::start(pid, tree, &except)?;
        let name = clock.name();
        self.registered(pid)?;
        if let Drive::Load(load) = &mut self.lock().drive {
            self.step(load);
            clock.advance();
            load.tasks.push(Task {
                pid,
                tree,
                weight,
                account: load.ledger.open(pid),
                clock,
                inside,
            });
        }
        Ok(name)
    }

    /// Who is registered, and whether with its tree; an error if `pid` cannot be.
    fn registered(&self, pid: i32) -> io::Result<Vec<(i32, bool)>> {
        let state = self.lock();
        let Drive::Load(load) = &state.drive else {
            return Err(invalid(
                "constant watts do not follow the load: there is nothing to register for",
            ));
        };
        if load.tasks.iter().any(|t| t.pid == pid) {
            return Err(invalid(format!("{pid} is registered already")));
        }
        Ok(load.tasks.iter().map(|t| (t.pid, t.tree)).collect())
    }

    /// Ends a process's account; what it uses from now on is others'.
    pub fn unregister(&self, pid: i32) -> io::Result<()> {
        let state = &mut *self.lock();
        let Drive::Load(load) = &mut state.drive else {
            return Ok(());
        };
        self.step(load);
        let Some(k) = load.tasks.iter().position(|t| t.pid == pid) else {
            return Err(invalid(format!("{pid} is not registered")));
        };
        let task = load.tasks.remove(k);
        load.ledger.close(task.account);
        for other in &mut load.tasks {
            if other.inside == Some(pid) {
                other.inside = task.inside;
            }
        }
        Ok(())
    }

    /// The truth about a window that lies in the past.
    pub fn energy(&self, t0_ns: u64, t1_ns: u64) -> io::Result<Truth> {
        let now = sys::now_ns();
        if t1_ns > now || t0_ns > t1_ns {
            return Err(invalid("the window must lie in the past, t0_ns <= t1_ns"));
        }
        let late = t1_ns + SHORTEST_STEP_NS;
        if now < late {
            sys::sleep_until(late);
        }
        let spent = match &mut self.lock().drive {
            Drive::Constant(segments) => {
                if t0_ns < segments.begin() {
                    return Err(invalid("the window begins before the rig"));
                }
                Spent {
                    idle: segments.total_at(t1_ns) - segments.total_at(t0_ns),
                    ..Spent::default()
                }
            }
            Drive::Load(load) => {
                if t1_ns > load.ledger.end() {
                    self.step(load);
                }
                let kept = load.ledger.begin();
                load.ledger.between(t0_ns, t1_ns).ok_or_else(|| {
                    invalid(format!("the ledger begins at {kept} ns: window too old"))
                })?
            }
        };
        Ok(self.truth(spent, (t1_ns - t0_ns) as f64 * 1e-9))
    }

    fn truth(&self, spent: Spent, seconds: f64) -> Truth {
        let package = spent.total();
        let of =
            |domain: Domain, share: f64| self.domains.contains(&domain).then_some(package * share);
        let all = 1.0 + self.dram_share;
        Truth {
            zones: self
                .zones
                .iter()
                .map(|z| (z.key.clone(), z.joules(package, seconds)))
                .collect(),
            machine: package * all,
            package,
            core: of(Domain::Core, self.core_share),
            uncore: of(Domain::Uncore, self.uncore_share),
            dram: of(Domain::Dram, self.dram_share),
            psys: self.psys_watts.map(|w| package * all + w * seconds),
            idle: spent.idle * all,
            pids: spent
                .pids
                .into_iter()
                .map(|(pid, j)| (pid, j * all))
                .collect(),
            others: spent.others * all,
        }
    }

    /// W of all packages now (in the last step), and the load in busy CPUs.
    pub fn watts(&self) -> (f64, f64) {
        match &self.lock().drive {
            Drive::Constant(segments) => (segments.watts(), 0.0),
            Drive::Load(load) => (load.watts, load.cpus),
        }
    }

    /// J of memory per J of packages.
    pub fn dram_share(&self) -> f64 {
        self.dram_share
    }

    /// Changes the constant watts from now on.
    pub fn set_watts(&self, watts: f64) -> io::Result<()> {
        match &mut self.lock().drive {
            Drive::Constant(segments) if watts.is_finite() && watts >= 0.0 => {
                segments.set(sys::now_ns(), watts);
                Ok(())
            }
            Drive::Constant(_) => Err(invalid("watts must be 0 or more")),
            Drive::Load(_) => Err(invalid("the watts follow the load")),
        }
    }

    /// Steps done, longest step in ns, and the source of the machine's CPU time.
    pub fn steps(&self) -> (u64, u64, &'static str) {
        match &self.lock().drive {
            Drive::Constant(_) => (0, 0, "constant"),
            Drive::Load(load) => (load.steps, load.longest_step_ns, load.busy.name()),
        }
    }
}

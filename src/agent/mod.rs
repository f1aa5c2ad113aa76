//! The node agent: one process holds the counters, samples them once for all, and publishes a ring
//! that anybody may read.
//!
//! An agent that comes after a killed one goes on from what the ring holds: the counters went on
//! meanwhile, so nothing is lost and nothing is counted twice.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;

use crate::attribution::IDLE_STEP_NS;
use crate::cgroup::identity::Identity;
use crate::cgroup::own;
use crate::clock;
use crate::counter::{At, Counter, Step};
use crate::error::{Error, Result};
use crate::machine::ceilings;
use crate::machine::facts::{Facts, IdleSource};
use crate::machine::idle_power::{IdleLearner, LEAST_TOLD, STOOD_PART};
use crate::source::procfs::{MachineCpu, idle_between, is_amd};
use crate::source::ring::layout::{Account, Header, LAYOUT, MOST_ZONES, Sample, boot_id};
use crate::source::{
    Domain, EnergyCounter, Method, Methods, NEVER_MOVED_NS, ReadFault, Unavailable, Zone,
    packages_are_counted,
};

pub mod groups;
pub mod guests;
pub(crate) mod writer;

use groups::{Groups, Round};
use guests::{Guests, Wanted};
use writer::{Left, Lock, Writer, left_at};

/// Samples a second by default.
pub const DEFAULT_RATE: f64 = 100.0;

/// Most samples a second in a ring that everybody may read. Power at a higher rate reveals what
/// other programs compute (PLATYPUS, Lipp et al., IEEE S&P 2021; CVE-2020-8694).
pub const MOST_PUBLIC_RATE: f64 = 100.0;

/// … and the least step of its counters, µJ: sixteen of RAPL's 61 µJ.
pub const LEAST_PUBLIC_QUANTUM_UJ: u64 = 1_000;

/// Most samples a second in a ring for a group of users: RAPL has no more.
const MOST_RATE: f64 = 1_000.0;

/// How far back the ring goes, s.
const HISTORY_SECONDS: f64 = 10.0;

/// Rows for containers and pods; each keeps a descriptor open.
const GROUP_ROWS: u64 = 700;

/// Idle time is read at most this often, ns: it is printed in steps of 10 ms.
const IDLE_EVERY_NS: u64 = 50_000_000;

/// A counter that has not moved for so long is not told of, ns: it would look like 0 W.
const STILL_NS: u64 = 2_000_000_000;

/// A counter is looked at so often until it moves: RAPL's do in a millisecond.
const LOOK_PAUSE: Duration = Duration::from_millis(2);

/// What an agent is asked to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the ring is put.
    pub path: PathBuf,
    /// Where /sys and /proc are.
    pub root: PathBuf,
    /// Samples a second, 1 to 1000; at most 100 in a ring for everybody.
    pub rate: f64,
    /// Step of the totals, µJ; at least 1000 in a ring for everybody.
    pub quantum_uj: u64,
    /// Seconds between two rounds of the containers, 0.1 to 60.
    pub round: f64,
    /// The group that may read the ring; `None` is everybody.
    pub group: Option<u32>,
    /// Those whose counters may be taken: the first that is there.
    pub methods: Methods,
    /// Containers and pods are followed and published.
    pub containers: bool,
    /// Name of this node.
    pub node: String,
    /// Virtual machines whose part is written into a ring of their own each …
    pub guests: Vec<Wanted>,
    /// … below this folder.
    pub guest_folder: PathBuf,
}

impl Options {
    /// The usual ones for a ring at `path`.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            root: PathBuf::from("/"),
            rate: DEFAULT_RATE,
            quantum_uj: LEAST_PUBLIC_QUANTUM_UJ,
            round: 1.0,
            group: None,
            methods: Methods::AUTO,
            containers: true,
            node: String::new(),
            guests: Vec::new(),
            guest_folder: guests::DEFAULT_FOLDER.into(),
        }
    }

    fn check(&self) -> Result<()> {
        let refuse = |reason: String, accepted| Err(Error::Agent { reason, accepted });
        if !(1.0..=MOST_RATE).contains(&self.rate) {
            let reason = format!("its rate is {}", self.rate);
            return refuse(reason, "1 to 1000 samples a second");
        }
        if !(0.1..=60.0).contains(&self.round) {
            let reason = format!("its round is {}", self.round);
            return refuse(reason, "0.1 to 60 seconds");
        }
        if !(1..=1_000_000).contains(&self.quantum_uj) {
            let reason = format!("its quantum is {}", self.quantum_uj);
            return refuse(reason, "1 to 1000000 µJ");
        }
        if self.group.is_none()
            && (self.rate > MOST_PUBLIC_RATE || self.quantum_uj < LEAST_PUBLIC_QUANTUM_UJ)
        {
            return refuse(
                format!(
                    "{} samples a second in steps of {} µJ are too fine for a ring that everybody may \
                     read (power at a high rate is a side channel)",
                    self.rate, self.quantum_uj
                ),
                "up to 100 samples a second in steps of 1000 µJ or more, or a group of readers",
            );
        }
        let mut all = Method::ALL.iter();
        if let Some(method) = all
            .find(|method| self.methods.has_by_name(**method) && method.energy_counter().is_none())
        {
            let reason = format!("{} counts no energy", method.name());
            return refuse(
                reason,
                "\"rapl\", \"perf\", \"hwmon\", \"guest\" or \"all\" as its methods",
            );
        }
        Ok(())
    }
}

/// The counters of the first method among those asked for whose counters can be read. One whose packages
/// stand still gives way to its stand-in, where there is one; else it is not looked at.
fn open_counter(options: &Options) -> std::result::Result<Box<dyn EnergyCounter>, Unavailable> {
    let mut refused: Option<Unavailable> = None;
    let mut first: Option<Box<dyn EnergyCounter>> = None;
    for (method, open) in
        Method::energy_counters().filter(|(method, _)| options.methods.has(*method))
    {
        if first.is_some() && !method.stands_in() {
            continue;
        }
        match open(&options.root) {
            Ok(counter) if method.stands_in() => {
                let counts = first
                    .as_mut()
                    .is_some_and(|first| counts_packages(first.as_mut()));
                return Ok(first.filter(|_| counts).unwrap_or(counter));
            }
            Ok(counter) => first = Some(counter),
            Err(_) if first.is_some() => {}
            Err(why) => {
                refused = Some(match refused {
                    Some(first) => Unavailable {
                        reason: format!("{}; {}", first.reason, why.reason),
                        ..first
                    },
                    None => why,
                });
            }
        }
    }
    first.ok_or_else(|| {
        refused.unwrap_or_else(|| Unavailable::absent("the method counts no energy"))
    })
}

/// Whether it counts the packages: looks until one of its counters moves, half a second at most.
fn counts_packages(source: &mut dyn EnergyCounter) -> bool {
    let zones = source.zones().to_vec();
    let mut counters: Vec<_> = zones
        .iter()
        .map(|zone| Counter::new(zone.unit_joules, zone.modulus))
        .collect();
    let mut raw = Vec::new();
    let begun_ns = clock::monotonic_ns();
    loop {
        raw.clear();
        let at = read_counter(source, &mut raw);
        for (counter, raw) in counters.iter_mut().zip(&raw) {
            if let Ok(raw) = raw {
                counter.advance(at, *raw);
            }
        }
        let packages = zones.iter().zip(&counters);
        let mut packages = packages.filter(|(zone, _)| zone.domain == Domain::Package);
        if packages.any(|(zone, counter)| counter.total > 0 || zone.may_stand_still()) {
            return true;
        }
        let counted = packages_are_counted(zones.iter().zip(counters.iter().map(Some)));
        // One that cannot be read does not stand still.
        if !counted || at.t_ns.saturating_sub(begun_ns) > NEVER_MOVED_NS {
            return counted;
        }
        std::thread::sleep(LOOK_PAUSE);
    }
}

/// Reads every counter, and when.
fn read_counter(
    counter: &mut dyn EnergyCounter,
    out: &mut Vec<std::result::Result<u64, ReadFault>>,
) -> At {
    let asleep_ns = clock::asleep_ns();
    let from_ns = clock::monotonic_ns();
    counter.read(out);
    At::between(from_ns, clock::monotonic_ns(), asleep_ns)
}

/// A container or pod as it was at the end of a round.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupState {
    /// Whose it is.
    #[serde(flatten)]
    pub identity: Identity,
    /// Path of its cgroup.
    pub cgroup: String,
    /// Its cgroup's id.
    pub id: u64,
    /// It is in no other group.
    pub counted: bool,
    /// CPU time of everything in it, s.
    pub cpu_seconds: f64,
    /// Energy above idle, J.
    pub joules: f64,
    /// What of `joules` it used in its start, J; `None` where it began before the agent.
    pub start_joules: Option<f64>,
    /// How much of its start has passed, s; 10 when it is over ([`groups::START_NS`]).
    pub start_seconds: Option<f64>,
}

/// The agent's state at the end of a round.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Snapshot {
    /// Name of the node.
    pub node: String,
    /// Version of the layout.
    pub layout: u64,
    /// Samples taken.
    pub samples: u64,
    /// Samples that came more than a period late.
    pub late: u64,
    /// CPU time of the sampling thread, s.
    pub cpu_seconds: f64,
    /// The ring goes on from an earlier one.
    pub adopted: bool,
    /// Per zone: method, domain, package, name, joules.
    pub zones: Vec<ZoneState>,
    /// Packages and DRAM since the lineage began, J.
    pub machine_joules: f64,
    /// What a machine at rest would have used, J.
    pub idle_joules: f64,
    /// Above idle, in no container, J.
    pub rest_joules: f64,
    /// Above idle, in containers that are no more, J.
    pub gone_joules: f64,
    /// CPU time used on the machine, s.
    pub busy_seconds: f64,
    /// Where idle power is from.
    pub idle_source: IdleSource,
    /// Containers and pods.
    pub groups: Vec<GroupState>,
    /// There are more of them than are followed.
    pub overflow: bool,
    /// Virtual machines by name: their energy above idle, J.
    pub guests: BTreeMap<String, f64>,
}

/// A zone's total.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ZoneState {
    /// rapl or perf.
    pub method: Method,
    /// Domain.
    pub domain: Domain,
    /// Package number.
    pub package: u32,
    /// Name.
    pub name: String,
    /// Joules as published.
    pub joules: f64,
    /// It could be read, and moves.
    pub readable: bool,
}

/// The agent's working parts, in one thread.
#[derive(Debug)]
pub struct Agent {
    _lock: Lock,
    options: Options,
    facts: Arc<Facts>,
    source: Box<dyn EnergyCounter>,
    zones: Vec<Zone>,
    counters: Vec<Counter>,
    base_uj: Vec<u64>,
    resets: u64,
    raw: Vec<std::result::Result<u64, ReadFault>>,
    machine: MachineCpu,
    offset_ns: i64,
    writer: Writer,
    groups: Groups,
    guests: Guests,
    adopted: bool,
    sample: Sample,
    round_ns: u64,
    round_end_ns: u64,
    /// CPU time that there was when idle time was last read, and when the last round ended, ns.
    capacity_ns: u64,
    round_capacity_ns: u64,
    least_watts: f64,
    idle_learners: Vec<IdleLearner>,
    round_totals: Vec<u64>,
    /// Anomalies of all counters when the round began.
    round_anomalies: u64,
    late: u64,
}

impl Agent {
    /// Opens the counters, takes the right to write, and puts the ring in its place.
    ///
    /// # Errors
    /// [`Error::Agent`] where options, counters, another agent or the ring's place are in the way.
    pub fn open(options: Options) -> Result<Self> {
        options.check()?;
        let facts = Facts::of(&options.root);
        let mut source = open_counter(&options).map_err(|why| Error::Agent {
            reason: format!("there is no energy counter to read: {}", why.reason),
            accepted: "a machine with RAPL or perf's power PMU, and the right to read it: as root, \
                       or with a capability (docs/how-to/agent.md)",
        })?;
        let lock = Lock::take(&options.path)?;
        if facts.cpu.vendor.as_deref().is_some_and(is_amd) {
            // The ring's totals have to be right from the first.
            source.leave_out_mirrors();
        }
        let mut zones = source.zones().to_vec();
        zones.truncate(MOST_ZONES);
        let mut machine = MachineCpu::open(&options.root);
        let offset_ns = clock::kernel_offset_ns();
        let limits = source.limits().to_vec();
        let mut counters: Vec<Counter> = zones
            .iter()
            .map(|zone| {
                let mut counter = Counter::new(zone.unit_joules, zone.modulus);
                counter.most_watts = ceilings::most_watts(&facts, zone, &limits);
                counter
            })
            .collect();
        let mut raw = Vec::new();
        let at = read_counter(source.as_mut(), &mut raw);
        let now = at.t_ns;
        let t_ns = now.saturating_add_signed(offset_ns.saturating_neg());
        let boot = boot_id(&options.root).unwrap_or([0, 0]);
        let left = left_at(&options.path).filter(|left| left.header.boot_id == boot);
        let went_on = left
            .as_ref()
            .and_then(|left| bases_from(left, &zones, &counters, &raw, t_ns));
        let adopted = went_on.is_some();
        let base_uj = went_on.unwrap_or_else(|| {
            let begin = |(zone, raw): (&Zone, &std::result::Result<u64, ReadFault>)| {
                let units = raw.unwrap_or(0) as f64;
                (units * zone.unit_joules * 1e6) as u64
            };
            zones.iter().zip(&raw).map(begin).collect()
        });
        for (counter, raw) in counters.iter_mut().zip(&raw) {
            if let Ok(raw) = raw {
                counter.advance(at, *raw);
            }
        }
        let header = header_of(
            &options,
            &zones,
            machine.cpus,
            boot,
            adopted.then_some(&left),
        );
        let cgroup_version = header.cgroup_version;
        let idle_ns = machine.idle_ns(now, None);
        let totals: Vec<u64> = base_uj
            .iter()
            .map(|uj| uj / options.quantum_uj * options.quantum_uj)
            .collect();
        let first = Sample {
            number: 1,
            t_ns,
            idle_ns,
            idle_t_ns: t_ns,
            idle_rate: 0,
            faults: faults_of(&raw),
            resets: 0,
            totals,
        };
        let mode = if options.group.is_some() {
            0o640
        } else {
            0o644
        };
        let summed: Vec<u64> = divided(&zones).map(|i| first.totals[i]).collect();
        let sum: u64 = summed.iter().sum();
        // Guests come before the ring: an agent that cannot do all it was asked to does nothing.
        let hierarchy = own::mount(&options.root, cgroup_version);
        let guests = Guests::open(
            &options.guests,
            &options.guest_folder,
            &header,
            hierarchy.as_deref(),
            guests::Counted {
                t_ns,
                machine_uj: sum,
                idle_ns,
                capacity_ns: machine.capacity_ns(now),
            },
        )?;
        let writer = Writer::create(&options.path, header, mode, options.group, first.clone())?;
        let top = hierarchy.filter(|_| options.containers);
        let (account, rows) = match left.filter(|_| adopted) {
            Some(left) if left.account.round > 0 => (left.account, left.groups),
            _ => (
                Account {
                    base_uj: sum,
                    t_ns,
                    idle_ns,
                    ..Account::default()
                },
                Vec::new(),
            ),
        };
        let mut groups = Groups::new(top, GROUP_ROWS as usize, account, rows);
        groups.search(t_ns);
        // An earlier agent's account ends where it last wrote one: the round goes on from there.
        let round_end_ns = account.t_ns;
        let mut agent = Self {
            _lock: lock,
            facts,
            source,
            counters,
            base_uj,
            resets: 0,
            raw,
            machine,
            offset_ns,
            writer,
            groups,
            guests,
            adopted,
            round_ns: (options.round * 1e9) as u64,
            round_end_ns,
            capacity_ns: 0,
            round_capacity_ns: 0,
            least_watts: f64::INFINITY,
            idle_learners: vec![IdleLearner::default(); zones.len()],
            round_totals: first.totals.clone(),
            round_anomalies: 0,
            sample: first,
            zones,
            options,
            late: 0,
        };
        if adopted {
            agent.bridge();
        }
        let account = *agent.groups.account();
        let rows = agent.groups.rows();
        agent.writer.publish_groups(&account, &rows);
        agent.publish_idle();
        Ok(agent)
    }

    /// The energy between an earlier agent's last round and now, divided like any round's: the
    /// machine's clocks and the groups' went on meanwhile.
    fn bridge(&mut self) {
        let sum: u64 = divided(&self.zones).map(|i| self.sample.totals[i]).sum();
        let account = *self.groups.account();
        let machine_uj = sum.saturating_sub(account.base_uj + account.machine_uj);
        let dt_ns = self.sample.t_ns.saturating_sub(account.t_ns);
        if machine_uj == 0 || dt_ns == 0 {
            return;
        }
        let (watts, source) = self.idle_watts();
        let round = Round {
            t_ns: self.sample.t_ns,
            machine_uj,
            idle_uj: (watts * dt_ns as f64 * 1e-3) as u64,
            busy_ns: self.busy_ns(
                dt_ns.saturating_mul(u64::from(self.machine.cpus)),
                account.idle_ns,
            ),
            idle_ns: self.sample.idle_ns,
        };
        self.groups.settle(&round, source);
        self.round_end_ns = self.sample.t_ns;
    }

    /// Takes one sample, and ends a round where it is time.
    pub fn step(&mut self) {
        self.raw.clear();
        let at = read_counter(self.source.as_mut(), &mut self.raw);
        let now = at.t_ns;
        let quantum = self.options.quantum_uj;
        for (i, counter) in self.counters.iter_mut().enumerate() {
            let Some(Ok(raw)) = self.raw.get(i) else {
                continue;
            };
            let step = counter.advance(at, *raw);
            if step == Step::Beyond {
                self.raw[i] = Err(ReadFault::Beyond);
            } else if step.refused() {
                // Nothing is added, and readers learn that something is missing.
                self.resets += 1;
            }
            // The counter may be another machine's now.
            if matches!(step, Step::Reset | Step::Jumped(_)) {
                self.idle_learners[i].forget();
            }
            let uj = (counter.joules(counter.total) * 1e6) as u64;
            let total = (self.base_uj[i] + uj) / quantum * quantum;
            self.sample.totals[i] = total.max(self.sample.totals[i]);
        }
        self.sample.t_ns = now.saturating_add_signed(self.offset_ns.saturating_neg());
        let round_ends = self.sample.t_ns.saturating_sub(self.round_end_ns) >= self.round_ns;
        let guests = self.guests.is_due(self.sample.t_ns);
        let age_ns = self.sample.t_ns.saturating_sub(self.sample.idle_t_ns);
        if round_ends || guests || age_ns >= IDLE_EVERY_NS {
            self.read_idle(now);
        }
        self.sample.faults = faults_of(&self.raw);
        self.sample.resets = self.resets;
        self.writer.publish(&mut self.sample);
        if guests {
            let counted = guests::Counted {
                t_ns: self.sample.t_ns,
                machine_uj: divided(&self.zones).map(|i| self.sample.totals[i]).sum(),
                idle_ns: self.sample.idle_ns,
                capacity_ns: self.capacity_ns,
            };
            let (watts, _) = self.idle_watts();
            self.guests.settle(counted, watts);
        }
        if round_ends {
            self.end_round();
        }
    }

    fn read_idle(&mut self, now_ns: u64) {
        let idle = self.machine.idle_ns(now_ns, None);
        self.capacity_ns = self.machine.capacity_ns(now_ns);
        let dt_ns = self.sample.t_ns.saturating_sub(self.sample.idle_t_ns);
        let capacity_ns = dt_ns.saturating_mul(u64::from(self.machine.cpus));
        let grown = idle_between(self.sample.idle_ns, idle, capacity_ns).unwrap_or(0);
        // Not faster than all CPUs: /proc prints in steps.
        let most = u64::from(self.machine.cpus) * 1_000_000_000;
        let rate = u128::from(grown) * 1_000_000_000 / u128::from(dt_ns.max(1));
        self.sample.idle_rate = u64::try_from(rate).unwrap_or(most).min(most);
        self.sample.idle_ns = idle;
        self.sample.idle_t_ns = self.sample.t_ns;
    }

    fn end_round(&mut self) {
        let dt_ns = self.sample.t_ns.saturating_sub(self.round_end_ns);
        let seconds = dt_ns as f64 * 1e-9;
        let moved = |i: usize| self.sample.totals[i].saturating_sub(self.round_totals[i]);
        let machine_uj: u64 = divided(&self.zones).map(moved).sum();
        // CPUs come and go within a round. The first one goes on from an earlier agent's account.
        let capacity = match self.round_capacity_ns {
            0 => dt_ns.saturating_mul(u64::from(self.machine.cpus)),
            then => self.capacity_ns.saturating_sub(then),
        };
        self.round_capacity_ns = self.capacity_ns;
        let busy_ns = self.busy_ns(capacity, self.groups.account().idle_ns);
        let anomalies = self.anomaly_count();
        let whole = std::mem::replace(&mut self.round_anomalies, anomalies) == anomalies;
        if self.sample.faults == 0 && whole && seconds > 0.0 {
            let now_ns = self.sample.t_ns.saturating_add_signed(self.offset_ns);
            let stood_ns = |i: usize| self.counters[i].stood_ns(now_ns);
            let moves = |i: usize| stood_ns(i).saturating_mul(STOOD_PART) <= dt_ns;
            if divided(&self.zones).all(moves) {
                self.least_watts = self.least_watts.min(machine_uj as f64 * 1e-6 / seconds);
            }
            let load = busy_ns.map(|busy| busy as f64 / capacity.max(1) as f64);
            if let Some(load) = load.filter(|_| capacity >= 1_000_000_000) {
                let unsure = IDLE_STEP_NS as f64 / capacity as f64;
                let learners = self.idle_learners.iter_mut().enumerate();
                for (i, learner) in learners.filter(|(i, _)| moves(*i)) {
                    learner.of_cpus(self.machine.cpus);
                    let moved = self.sample.totals[i].saturating_sub(self.round_totals[i]);
                    learner.see(seconds, load, unsure, moved as f64 * 1e-6 / seconds);
                }
            }
        }
        let (watts, source) = self.idle_watts();
        let round = Round {
            t_ns: self.sample.t_ns,
            machine_uj,
            idle_uj: (watts * seconds * 1e6) as u64,
            busy_ns,
            idle_ns: self.sample.idle_ns,
        };
        self.groups.search(self.sample.t_ns);
        self.groups.settle(&round, source);
        self.round_end_ns = self.sample.t_ns;
        self.round_totals.clone_from(&self.sample.totals);
        let account = *self.groups.account();
        let rows = self.groups.rows();
        self.writer.publish_groups(&account, &rows);
        self.publish_idle();
    }

    fn anomaly_count(&self) -> u64 {
        let counters = self.counters.iter();
        counters.map(|c| u64::from(c.anomalies.count())).sum()
    }

    /// What was measured of idle power, for readers that never see this machine at rest. What a user
    /// set is for all zones together, so it is for them to set.
    fn publish_idle(&mut self) {
        let known = |i: usize| {
            let zone = &self.zones[i];
            let power = self
                .facts
                .idle_of(zone, &self.zones, &self.idle_learners[i])?;
            let measured = matches!(power.source, IdleSource::Learned | IdleSource::Calibrated);
            // Readers are told no band and take their own.
            let sure = power.low >= LEAST_TOLD * power.watts;
            (measured && sure).then_some(power.watts)
        };
        let milliwatts: Vec<u64> = (0..self.zones.len())
            .map(|i| (known(i).unwrap_or(0.0) * 1e3) as u64)
            .collect();
        self.writer.publish_idle(milliwatts.into_iter());
    }

    /// CPU time used of `capacity`, since idle time was `then`.
    fn busy_ns(&self, capacity: u64, then: Option<u64>) -> Option<u64> {
        let idle = idle_between(then, self.sample.idle_ns, capacity)?;
        Some(capacity.saturating_sub(idle))
    }

    /// Idle power of what is divided, W, and its source.
    fn idle_watts(&self) -> (f64, IdleSource) {
        let mut watts = 0.0;
        let mut source = IdleSource::Unknown;
        for i in divided(&self.zones) {
            let zone = &self.zones[i];
            if let Some(power) = self
                .facts
                .idle_of(zone, &self.zones, &self.idle_learners[i])
            {
                watts += power.watts;
                source = power.source;
            }
        }
        // Idle power is not above the least power that was seen.
        (watts.min(self.least_watts), source)
    }

    /// Time between samples, ns.
    pub fn period_ns(&self) -> u64 {
        self.writer.header().period_ns
    }

    /// Marks the ring as left.
    pub fn close(&mut self) {
        let now = clock::monotonic_ns();
        let t_ns = now.saturating_add_signed(self.offset_ns.saturating_neg());
        self.writer.beat(t_ns, true);
        self.guests.close(t_ns);
    }

    /// Whether counter `i` has not moved for long, though what it is of draws power.
    fn stands_still(&self, i: usize) -> bool {
        let now_ns = self.sample.t_ns.saturating_add_signed(self.offset_ns);
        let stood_ns = self.counters[i].stood_ns(now_ns);
        let zone = &self.zones[i];
        stood_ns > STILL_NS && !zone.may_stand_still() && !zone.may_rest()
    }

    /// What is known now.
    pub fn snapshot(&self) -> Snapshot {
        let account = self.groups.account();
        let joules = |uj: u64| uj as f64 * 1e-6;
        let mut groups: Vec<GroupState> = self
            .groups
            .all()
            .map(|group| GroupState {
                identity: group.identity.clone(),
                cgroup: group.path.clone(),
                id: group.row().id,
                counted: group.row().counted,
                cpu_seconds: group.row().cpu_ns as f64 * 1e-9,
                joules: joules(group.row().active_uj),
                start_joules: group.start().map(|start| joules(start.active_uj)),
                start_seconds: group.start().map(|start| start.passed_ns as f64 * 1e-9),
            })
            .collect();
        groups.sort_by(|a, b| a.cgroup.cmp(&b.cgroup));
        Snapshot {
            node: self.options.node.clone(),
            layout: LAYOUT,
            samples: self.writer.count(),
            late: self.late,
            cpu_seconds: clock::own_thread_cpu_ns() as f64 * 1e-9,
            adopted: self.adopted,
            zones: self
                .zones
                .iter()
                .enumerate()
                .map(|(i, zone)| ZoneState {
                    method: zone.method,
                    domain: zone.domain,
                    package: zone.package,
                    name: zone.name.clone(),
                    joules: joules(self.round_totals[i]),
                    readable: self.sample.faults >> i & 1 == 0 && !self.stands_still(i),
                })
                .collect(),
            machine_joules: joules(account.machine_uj),
            idle_joules: joules(account.idle_uj),
            rest_joules: joules(account.rest_uj),
            gone_joules: joules(account.gone_uj),
            busy_seconds: account.busy_ns as f64 * 1e-9,
            idle_source: IdleSource::numbered(account.idle_source),
            groups,
            overflow: self.groups.overflow,
            guests: self
                .guests
                .joules()
                .map(|(name, joules)| (name.to_owned(), joules))
                .collect(),
        }
    }
}

/// The zones that are divided among groups: packages and DRAM.
fn divided(zones: &[Zone]) -> impl Iterator<Item = usize> + '_ {
    (0..zones.len()).filter(|i| matches!(zones[*i].domain, Domain::Package | Domain::Dram))
}

fn faults_of(raw: &[std::result::Result<u64, ReadFault>]) -> u64 {
    raw.iter()
        .take(MOST_ZONES)
        .enumerate()
        .filter(|(_, r)| r.is_err())
        .fold(0, |mask, (i, _)| mask | 1 << i)
}

fn header_of(
    options: &Options,
    zones: &[Zone],
    cpus: u32,
    boot_id: [u64; 2],
    earlier: Option<&Option<Left>>,
) -> Header {
    let period_ns = (1e9 / options.rate).round() as u64;
    let generation = clock::realtime_ns();
    let hierarchy = [1, 2]
        .into_iter()
        .find(|version| own::mount(&options.root, *version).is_some());
    Header {
        generation,
        lineage: earlier
            .and_then(Option::as_ref)
            .map_or(generation, |left| left.header.lineage),
        boot_id,
        period_ns,
        quantum_uj: options.quantum_uj,
        stale_ns: (20 * period_ns).max(1_000_000_000),
        round_ns: (options.round * 1e9) as u64,
        cpus,
        cgroup_version: hierarchy.unwrap_or(0),
        slots: ((options.rate * HISTORY_SECONDS) as u64).max(16),
        groups: if options.containers { GROUP_ROWS } else { 0 },
        node: options.node.clone(),
        version: crate::version::python().into(),
        zones: zones
            .iter()
            .map(|zone| Zone {
                unit_joules: 1e-6,
                modulus: None,
                ..zone.clone()
            })
            .collect(),
    }
}

/// Where the totals of an earlier ring are now, by the counters' raw values; `None` where one
/// cannot tell: other zones, perf's counters (which begin with their reader), a step that is
/// refused, or a gap in which a counter may have gone round. `counters` are fresh ones.
fn bases_from(
    left: &Left,
    zones: &[Zone],
    counters: &[Counter],
    raw: &[std::result::Result<u64, ReadFault>],
    t_ns: u64,
) -> Option<Vec<u64>> {
    let same = left.header.zones.len() == zones.len()
        && left.header.zones.iter().zip(zones).all(|(a, b)| {
            (a.method, a.domain, a.package, &a.name) == (b.method, b.domain, b.package, &b.name)
        });
    if !same || left.sample.resets != 0 || left.sample.faults != 0 || t_ns < left.sample.t_ns {
        return None;
    }
    zones
        .iter()
        .zip(counters)
        .zip(raw)
        .zip(&left.sample.totals)
        .map(|(((zone, counter), raw), total)| {
            // A ring's totals of RAPL are its raw values, gone on beyond the modulus.
            let then = total % zone.modulus?;
            let mut counter = counter.clone();
            counter.advance(At::exactly(left.sample.t_ns), then);
            let step = counter.advance(At::exactly(t_ns), (*raw).ok()?);
            let sure = counter.ambiguous == 0 && !step.refused();
            sure.then(|| total + step.units())
        })
        .collect()
}

/// An agent at work in a thread of its own.
#[derive(Debug)]
pub struct Running {
    stop: Arc<AtomicBool>,
    snapshot: Arc<Mutex<Snapshot>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts `agent`'s rhythm.
    ///
    /// # Errors
    /// [`Error::Agent`] where no thread can be started.
    pub fn start(agent: Agent) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let snapshot = Arc::new(Mutex::new(agent.snapshot()));
        let (stopped, shown) = (Arc::clone(&stop), Arc::clone(&snapshot));
        let thread = std::thread::Builder::new()
            .name("lithowatt-agent".into())
            .spawn(move || work(agent, &stopped, &shown))
            .map_err(|e| Error::Agent {
                reason: format!("no thread could be started ({e})"),
                accepted: "a process that may have two threads",
            })?;
        Ok(Self {
            stop,
            snapshot,
            thread: Some(thread),
        })
    }

    /// The state at the end of the last round.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether it still samples.
    pub fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|t| !t.is_finished())
    }

    /// Ends it, and marks the ring as left.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

fn work(mut agent: Agent, stop: &AtomicBool, shown: &Mutex<Snapshot>) {
    // Signals are for the thread that waits for them.
    // SAFETY: the set lives on this stack; both calls only read or write it.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, std::ptr::null_mut());
    }
    let period = agent.period_ns();
    let mut next = clock::monotonic_ns() + period;
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        let now = clock::monotonic_ns();
        if now < next {
            std::thread::sleep(Duration::from_nanos(next - now));
        } else if now - next > period {
            agent.late += 1;
        }
        // After a stall the rhythm goes on from here.
        next = (next + period).max(clock::monotonic_ns());
        agent.step();
        let round = agent.groups.account().round;
        if round != rounds {
            rounds = round;
            *shown.lock().unwrap_or_else(PoisonError::into_inner) = agent.snapshot();
        }
    }
    agent.close();
}

#[cfg(test)]
mod tests;

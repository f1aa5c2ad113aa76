//! How much of a machine's energy is this function's: pure arithmetic on intervals.
//!
//! Over each interval the machine's energy is idle + active, and the active part is shared by CPU
//! time, or by what comes nearer to energy where kernel probes count it: cycles, else time scaled by
//! the frequency it ran at: `share = own / (own + others)`. A [`Ledger`] sums share × energy and share × time, so
//! that idle power, which may become known later, is taken off at the end without loss:
//! `marginal = Σ share·E − P_idle · Σ share·t`. What is not marginal is idle or others', so the
//! parts add up to the machine by construction.

use serde::{Deserialize, Serialize};

use crate::bands::Share;
use crate::definition::Definition;
use crate::least_power::LeastPower;

/// The step in which the machine's idle time is given, ns: /proc prints it in clock ticks.
pub const IDLE_STEP_NS: u64 = 10_000_000;

/// A function that had at least this share of the machine's busy time had it to itself.
pub const ALONE_SHARE: f64 = 0.9;

/// An interval shorter than this leans on what others used before, if that is known: /proc prints
/// idle time in steps of 10 ms.
const SURE_NS: f64 = 200e6;

/// Error of the idle time of a window, ns: both ends are off by up to one step with equal chance,
/// and 95 % of the differences of two such lie within 0.78 of a step.
const STEP_NS: f64 = 0.78 * IDLE_STEP_NS as f64;

/// Error of the busy time of a window that kernel probes saw, ns: at each edge the running slice is
/// counted from its start time, 50 us at most.
const SEEN_NS: f64 = 50e3;

/// Power of a core with both hardware threads busy over its power with one busy. So each of two
/// threads that run side by side is charged half of it, and a thread that has the core for itself
/// all of one.
///
/// On an EPYC 7502 an active core costs 0.33 W and its second thread 0.05 W more (pause loop at
/// 2.5 GHz; Schöne et al., "Energy Efficiency Aspects of the AMD Zen 2 Architecture", IEEE CLUSTER
/// 2021, VI.A). Published values go from 1.05 to 1.30, by processor and work (docs/how-to/ebpf.md), within
/// what [`crate::bands::WORKLOAD_SPREAD`] allows for in the band.
pub const SIBLINGS_POWER: f64 = 1.15;

/// Power of a shorter interval is no power: counters have steps.
const LEAST_SECONDS: f64 = 0.05;

/// Idle steps that may be carried to the next interval.
const RESIDUE_LIMIT_NS: f64 = 4.0 * IDLE_STEP_NS as f64;

/// What was counted between two readings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Length, ns.
    pub dt_ns: u64,
    /// Logical CPUs of the machine, the mean where they came or went.
    pub cpus: f64,
    /// CPU time nobody used, ns; `None` where the machine does not show it.
    pub idle_ns: Option<u64>,
    /// CPU time of the function, ns.
    pub own_ns: u64,
    /// CPU time of the function's process tree or cgroup, ns: at least `own_ns`, and exact.
    pub inside_ns: u64,
    /// CPUs that others outside the process used lately, if known.
    pub outside_rate: Option<f64>,
    /// What kernel probes saw of the machine, where there are any.
    pub seen: Option<Seen>,
}

/// What kernel probes saw in an interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// CPU time of everything on the machine, ns.
    pub busy_ns: u64,
    /// Weight of the function, in the unit of `busy`.
    pub own: f64,
    /// Weight of everything on the machine.
    pub busy: f64,
    /// What the weights are.
    pub weight: Weight,
}

/// What stands for energy when a machine's is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// On-CPU time.
    Time,
    /// On-CPU time × frequency.
    Frequency,
    /// Cycles of the PMU.
    Cycles,
}

impl Weight {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Time => "on-CPU time",
            Self::Frequency => "on-CPU time x frequency",
            Self::Cycles => "cycles",
        }
    }
}

/// The weight of time of which a part was spent beside a busy sibling thread of the same core.
///
/// ```
/// use lithowatt::attribution::beside_sibling;
/// assert_eq!(beside_sibling(100.0, 0.0), 100.0);
/// // Two threads of one core, both busy all the time, weigh 1.15 times one.
/// assert!((2.0 * beside_sibling(100.0, 1.0) - 115.0).abs() < 1e-9);
/// ```
pub fn beside_sibling(weight: f64, shared: f64) -> f64 {
    weight * (1.0 - shared.clamp(0.0, 1.0) * (1.0 - SIBLINGS_POWER / 2.0))
}

/// The sums of one window, or of one phase of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// Length of what was added, ns.
    pub dt_ns: f64,
    /// CPU time of the function, ns.
    pub own_ns: f64,
    /// CPU time of everything else on the machine, ns.
    pub others_ns: f64,
    /// Whether it was known throughout how busy the machine was.
    pub busy_known: bool,
    /// Whether kernel probes saw all of it.
    pub seen: bool,
    /// Weight of the function, where `seen`.
    pub own_weight: f64,
    /// Weight of everything on the machine, where `seen`.
    pub busy_weight: f64,
    /// What the weights are: the coarsest of the intervals'.
    pub weight: Option<Weight>,
    /// Σ share × seconds.
    pub share_seconds: f64,
    /// Joules of the machine, one per slot.
    pub joules: Vec<f64>,
    /// Σ share × joules, one per slot.
    pub shared_joules: Vec<f64>,
    /// The least power that was seen, one per slot.
    least: Vec<LeastPower>,
    /// Least busy part (0..1) of the machine in an interval of at least 50 ms; 1 where there was
    /// none.
    pub least_busy: f64,
    /// How long a stretch must be for its mean power to be sure, ns; 0 where every interval's is.
    /// Ring totals are extrapolated between two samples of the agent, and an overshoot makes the next
    /// interval too small.
    pub steady_ns: f64,
    residue_ns: f64,
}

/// How [`Ledger::split`] divides an interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Split {
    /// Own share of the busy time, 0..1.
    pub share: f64,
    /// Everything but the function, ns.
    pub others_ns: f64,
    /// Busy CPUs of the machine, mean.
    pub busy_cpus: f64,
}

impl Split {
    /// The same interval in a sandbox of `cpus`, of which everything together used `used_ns`.
    ///
    /// Where that is unknown, others on the machine are taken to be in the sandbox, as far as its
    /// quota leaves them room.
    ///
    /// ```
    /// use lithowatt::attribution::{Interval, Split};
    /// let interval = Interval {
    ///     dt_ns: 1_000_000_000, cpus: 64.0, idle_ns: Some(0), own_ns: 300_000_000,
    ///     inside_ns: 300_000_000, outside_rate: None, seen: None,
    /// };
    /// let machine = Split { share: 0.005, others_ns: 63.7e9, busy_cpus: 64.0 };
    /// let alone = Split::within(0.5, Some(300_000_000), &interval, machine);
    /// assert_eq!((alone.share, alone.busy_cpus), (1.0, 0.3));
    /// let unknown = Split::within(0.5, None, &interval, machine);
    /// assert_eq!((unknown.share, unknown.busy_cpus), (0.6, 0.5));
    /// ```
    pub fn within(cpus: f64, used_ns: Option<u64>, interval: &Interval, machine: Self) -> Self {
        let own = interval.own_ns as f64;
        let tree = (interval.inside_ns as f64 - own).max(0.0);
        let dt = interval.dt_ns as f64;
        let others = match used_ns {
            Some(used) => (used as f64 - own).max(tree),
            None => {
                let room = (cpus * dt - own - tree).max(0.0);
                tree + (machine.others_ns - tree).clamp(0.0, room)
            }
        };
        let busy = own + others;
        Self {
            share: if busy > 0.0 { own / busy } else { 0.0 },
            others_ns: others,
            busy_cpus: if dt > 0.0 { busy / dt } else { 0.0 },
        }
    }
}

impl Ledger {
    /// An empty ledger of `slots` counters.
    pub fn new(slots: usize) -> Self {
        Self {
            dt_ns: 0.0,
            own_ns: 0.0,
            others_ns: 0.0,
            busy_known: true,
            seen: true,
            own_weight: 0.0,
            busy_weight: 0.0,
            weight: None,
            share_seconds: 0.0,
            joules: vec![0.0; slots],
            shared_joules: vec![0.0; slots],
            least: vec![LeastPower::default(); slots],
            least_busy: 1.0,
            steady_ns: 0.0,
            residue_ns: 0.0,
        }
    }

    /// Whether it has so many slots throughout.
    pub fn has(&self, slots: usize) -> bool {
        let lengths = [
            self.joules.len(),
            self.shared_joules.len(),
            self.least.len(),
        ];
        lengths.iter().all(|length| *length == slots)
    }

    /// How the interval's busy time divides, before any energy is looked at.
    pub fn split(&mut self, interval: &Interval) -> Split {
        let dt = interval.dt_ns as f64;
        let capacity = dt * interval.cpus;
        let own = interval.own_ns as f64;
        // Clocks of several threads are read one after the other: together they may show a little more than
        // the CPUs had. The machine is no busier than its CPUs.
        let inside = (interval.inside_ns as f64).clamp(own, capacity.max(own));
        let room = (capacity - inside).max(0.0);
        if let Some(seen) = interval.seen {
            let outside = (seen.busy_ns as f64 - inside).clamp(0.0, room);
            let others = (inside - own) + outside;
            return Split {
                share: if seen.busy > 0.0 {
                    (seen.own / seen.busy).clamp(0.0, 1.0)
                } else {
                    0.0
                },
                others_ns: others,
                busy_cpus: if dt > 0.0 { (own + others) / dt } else { 0.0 },
            };
        }
        let outside = match interval.idle_ns {
            None => {
                self.busy_known = false;
                0.0
            }
            Some(idle) => {
                let raw = capacity - idle as f64 - inside + self.residue_ns;
                let sure = (dt / SURE_NS).min(1.0);
                let believed = match interval.outside_rate {
                    Some(rate) if sure < 1.0 => sure * raw + (1.0 - sure) * rate * dt,
                    _ => raw,
                };
                let outside = believed.clamp(0.0, room);
                // What was believed away comes back in a later interval, so sums stay true.
                self.residue_ns = (raw - outside).clamp(-RESIDUE_LIMIT_NS, RESIDUE_LIMIT_NS);
                outside
            }
        };
        let others = (inside - own) + outside;
        let busy = own + others;
        Split {
            share: if busy > 0.0 { own / busy } else { 0.0 },
            others_ns: others,
            busy_cpus: if dt > 0.0 { busy / dt } else { 0.0 },
        }
    }

    /// Adds an interval: `joules` are what each slot counted in it.
    pub fn add(&mut self, interval: &Interval, split: Split, joules: &[f64]) {
        self.add_whole(interval, split, joules, &[]);
    }

    /// Adds an interval of which some slots do not have all energy: those that are false in
    /// `whole`. Their power in it is not looked at.
    pub fn add_whole(&mut self, interval: &Interval, split: Split, joules: &[f64], whole: &[bool]) {
        let seconds = interval.dt_ns as f64 * 1e-9;
        self.dt_ns += interval.dt_ns as f64;
        self.own_ns += interval.own_ns as f64;
        self.others_ns += split.others_ns;
        self.share_seconds += split.share * seconds;
        if seconds >= LEAST_SECONDS {
            let busy = split.busy_cpus / interval.cpus.max(1.0);
            self.least_busy = self.least_busy.min(busy);
        }
        match interval.seen {
            Some(seen) => {
                self.own_weight += seen.own;
                self.busy_weight += seen.busy;
                self.weight = coarser(self.weight, Some(seen.weight));
            }
            None => self.seen = false,
        }
        let long_ns = self.long_ns();
        let slots = self
            .joules
            .iter_mut()
            .zip(&mut self.shared_joules)
            .zip(&mut self.least);
        for (i, (((sum, shared), least), joules)) in slots.zip(joules).enumerate() {
            *sum += joules;
            *shared += split.share * joules;
            if whole.get(i).copied().unwrap_or(true) {
                least.add(interval.dt_ns as f64, *joules, long_ns);
            } else {
                least.interrupt();
            }
        }
    }

    /// How long a stretch must be for its mean power to be sure, ns.
    fn long_ns(&self) -> f64 {
        self.steady_ns.max(LEAST_SECONDS * 1e9)
    }

    /// Gives the function CPU time that turned up late, ns: it was taken for others' when it was
    /// used. So it comes out of what others were given so far, at the mean price of that, and busy
    /// time stays what it was. Returns what others did not have.
    ///
    /// ```
    /// use lithowatt::attribution::{Interval, Ledger};
    /// let mut ledger = Ledger::new(1);
    /// let busy = Interval {
    ///     dt_ns: 1_000_000_000, cpus: 2.0, idle_ns: Some(0), own_ns: 0, inside_ns: 0,
    ///     outside_rate: None, seen: None,
    /// };
    /// let split = ledger.split(&busy);
    /// ledger.add(&busy, split, &[10.0]);
    /// assert_eq!(ledger.reclaim(0.5e9), 0.0);
    /// assert_eq!((ledger.own_ns, ledger.others_ns), (0.5e9, 1.5e9));
    /// assert_eq!(ledger.shared_joules, [2.5]);
    /// assert_eq!(ledger.reclaim(2e9), 0.5e9);
    /// ```
    pub fn reclaim(&mut self, late_ns: f64) -> f64 {
        if late_ns <= 0.0 {
            return 0.0;
        }
        let seconds = self.dt_ns * 1e-9;
        let (taken, part) = if self.busy_known {
            let taken = late_ns.min(self.others_ns);
            (taken, taken / self.others_ns.max(1.0))
        } else {
            // Nobody knows of others: it was used while nothing of the function was seen.
            let unseen = (seconds - self.share_seconds).max(0.0) * 1e9;
            (late_ns, late_ns.min(unseen) / unseen.max(1.0))
        };
        self.own_ns += taken;
        self.others_ns = (self.others_ns - taken).max(0.0);
        self.share_seconds += part * (seconds - self.share_seconds).max(0.0);
        let weight = part * (self.busy_weight - self.own_weight).max(0.0);
        self.own_weight += weight;
        for (shared, joules) in self.shared_joules.iter_mut().zip(&self.joules) {
            *shared += part * (joules - *shared).max(0.0);
        }
        late_ns - taken
    }

    /// What idle power of a slot is not above, W: the least that was seen, or the mean where
    /// nothing shorter was sure. Infinite where too little was seen.
    pub fn ceiling_watts(&self, slot: usize) -> f64 {
        let short_ns = LEAST_SECONDS * 1e9;
        if self.steady_ns > 0.0 && self.dt_ns < short_ns {
            return f64::INFINITY;
        }
        // A window that is shorter than a stretch still has its mean.
        let long_ns = self.long_ns().min(self.dt_ns).max(short_ns);
        self.least[slot].watts(long_ns)
    }

    /// What was added since `earlier`, a copy of this ledger made before.
    pub fn since(&self, earlier: &Self) -> Self {
        let minus = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect();
        Self {
            dt_ns: self.dt_ns - earlier.dt_ns,
            own_ns: self.own_ns - earlier.own_ns,
            // What turned up late was others' when an earlier phase ended.
            others_ns: (self.others_ns - earlier.others_ns).max(0.0),
            busy_known: self.busy_known,
            seen: self.seen,
            own_weight: self.own_weight - earlier.own_weight,
            busy_weight: self.busy_weight - earlier.busy_weight,
            weight: self.weight,
            share_seconds: self.share_seconds - earlier.share_seconds,
            joules: minus(&self.joules, &earlier.joules),
            shared_joules: minus(&self.shared_joules, &earlier.shared_joules),
            least: self.least.clone(),
            least_busy: self.least_busy,
            steady_ns: self.steady_ns,
            residue_ns: 0.0,
        }
    }

    /// Adds another ledger of the same slots to this one.
    pub fn merge(&mut self, other: &Self) {
        self.dt_ns += other.dt_ns;
        self.own_ns += other.own_ns;
        self.others_ns += other.others_ns;
        self.busy_known &= other.busy_known;
        self.seen &= other.seen;
        self.own_weight += other.own_weight;
        self.busy_weight += other.busy_weight;
        self.weight = coarser(self.weight, other.weight);
        self.share_seconds += other.share_seconds;
        for (a, b) in self.joules.iter_mut().zip(&other.joules) {
            *a += b;
        }
        for (a, b) in self.shared_joules.iter_mut().zip(&other.shared_joules) {
            *a += b;
        }
        for (a, b) in self.least.iter_mut().zip(&other.least) {
            a.merge(b);
        }
        self.least_busy = self.least_busy.min(other.least_busy);
    }

    /// Error of the busy time, ns.
    fn step_ns(&self) -> f64 {
        edge_error_ns(self.seen)
    }

    /// Whether the function surely had the machine to itself: in a window of few idle steps that
    /// cannot be known, and like calls should not differ by chance.
    pub fn alone(&self) -> bool {
        let least = self.own_ns / (self.own_ns + self.others_ns + self.step_ns());
        self.busy_known && least >= ALONE_SHARE
    }

    /// The function's share of all busy time, or of what weighs more truly, with the band that step
    /// size and unlike workloads leave: a CPU-second of one may cost `spread` times another's.
    pub fn share(&self, spread: f64) -> Share {
        let busy = self.own_ns + self.others_ns;
        if busy <= 0.0 || self.own_ns <= 0.0 {
            return Share::default();
        }
        let step = if self.busy_known {
            self.step_ns()
        } else {
            f64::INFINITY
        };
        let value = if self.seen && self.busy_weight > 0.0 {
            (self.own_weight / self.busy_weight).clamp(0.0, 1.0)
        } else {
            self.own_ns / busy
        };
        Share::of(value, busy, step, spread)
    }
}

/// Error of a busy time between two looks, ns: of one that kernel probes `seen`, or of clocks.
pub fn edge_error_ns(seen: bool) -> f64 {
    if seen { SEEN_NS } else { STEP_NS }
}

/// The one that is further from energy.
fn coarser(a: Option<Weight>, b: Option<Weight>) -> Option<Weight> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if (a as u8) < b as u8 { a } else { b }),
        (a, b) => a.or(b),
    }
}

/// A machine's energy over a window, divided.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Division {
    /// All of it, J.
    pub machine: f64,
    /// What it would have used doing nothing, J.
    pub idle: f64,
    /// The function's, above idle, J.
    pub marginal: f64,
    /// What other activity used above idle, J.
    pub others: f64,
    /// `marginal` with the function's share of idle, J.
    pub amortised: f64,
    /// The function's share of idle, 0..1.
    pub idle_share: f64,
}

impl Division {
    /// The function's energy by a definition, J.
    pub fn of(&self, definition: Definition) -> f64 {
        match definition {
            Definition::Marginal => self.marginal,
            Definition::Amortised => self.amortised,
        }
    }
}

/// Which part of idle is the function's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IdleClaim {
    /// The part of the machine's CPUs that the function may use, 0..1.
    pub allotted: f64,
    /// The machine exists for the function alone, whatever else runs in it.
    pub sole: bool,
}

impl IdleClaim {
    /// The part, 0..1, of one that had `share` of the busy time and was `alone` or not.
    ///
    /// Alone, a function owns the idle power of the CPUs that are kept for it. Beside others, its
    /// part of idle is not more than its share of the work, so that the parts never sum to over
    /// one.
    ///
    /// ```
    /// use lithowatt::attribution::IdleClaim;
    /// let half = IdleClaim { allotted: 0.5, sole: false };
    /// assert_eq!((half.part(true, 0.95), half.part(false, 0.2)), (0.5, 0.2));
    /// assert_eq!(IdleClaim { sole: true, ..half }.part(false, 0.2), 0.5);
    /// ```
    pub fn part(self, alone: bool, share: f64) -> f64 {
        let part = if alone || self.sole {
            self.allotted
        } else {
            self.allotted.min(share)
        };
        part.clamp(0.0, 1.0)
    }
}

/// Divides the energy of the `slots` in `ledger`. `idle_watts` is their idle power together;
/// `idle_share` the function's part of it, 0..1.
///
/// The parts add up: `idle + marginal + others == machine`.
///
/// This is the rule for one function. Two other places divide a machine's energy among many, whose
/// parts must sum without gap: [`crate::agent::groups::divide`] in whole uJ among groups, round by
/// round and without bands, and `lithowatt top` (`parts` in Python) among the processes of one
/// window, with bands from [`crate::reading::Bands::part`].
pub fn divide(ledger: &Ledger, slots: &[usize], idle_watts: f64, idle_share: f64) -> Division {
    let sum = |of: &[f64]| -> f64 { slots.iter().filter_map(|i| of.get(*i)).sum() };
    let machine = sum(&ledger.joules);
    let seconds = ledger.dt_ns * 1e-9;
    let idle = (idle_watts * seconds).clamp(0.0, machine.max(0.0));
    let active = machine - idle;
    // Where idle was cut to what there was, the share is taken of the cut one.
    let watts = if seconds > 0.0 { idle / seconds } else { 0.0 };
    let shared = sum(&ledger.shared_joules) - watts * ledger.share_seconds;
    let marginal = shared.clamp(0.0, active.max(0.0));
    let idle_share = idle_share.clamp(0.0, 1.0);
    Division {
        machine,
        idle,
        marginal,
        others: active - marginal,
        amortised: marginal + idle * idle_share,
        idle_share,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(own_ms: u64, busy_ms: u64) -> Interval {
        Interval {
            dt_ns: 100_000_000,
            cpus: 2.0,
            idle_ns: Some((200 - busy_ms) * 1_000_000),
            own_ns: own_ms * 1_000_000,
            inside_ns: own_ms * 1_000_000,
            outside_rate: None,
            seen: None,
        }
    }

    fn add(ledger: &mut Ledger, interval: &Interval, joules: &[f64]) {
        let split = ledger.split(interval);
        ledger.add(interval, split, joules);
    }

    #[test]
    fn a_machine_is_no_busier_than_its_cpus() {
        let machine = Interval {
            cpus: 1.0,
            inside_ns: 100_072_073,
            ..interval(100, 200)
        };
        let split = Ledger::new(0).split(&machine);
        assert_eq!((split.busy_cpus, split.others_ns), (1.0, 0.0));
    }

    #[test]
    fn what_a_ring_carried_too_far_is_no_least_power() {
        let interval = Interval {
            dt_ns: 100_000_000,
            cpus: 2.0,
            idle_ns: Some(100_000_000),
            own_ns: 100_000_000,
            inside_ns: 100_000_000,
            outside_rate: None,
            seen: None,
        };
        // 30 W all the time; one look was a fifth of a second ahead, so the next two saw nothing.
        let seen = [3.0, 9.0, 0.0, 0.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0];
        let filled = |steady_ns: f64| {
            let mut ledger = Ledger::new(1);
            ledger.steady_ns = steady_ns;
            for joules in seen {
                let split = ledger.split(&interval);
                ledger.add(&interval, split, &[joules]);
            }
            ledger
        };
        assert!((filled(0.0).ceiling_watts(0) - 15.0).abs() < 1e-9);
        assert!((filled(1e9).ceiling_watts(0) - 30.0).abs() < 1e-9);
        // A window that is shorter than a stretch has its mean.
        let short = filled(5e9);
        assert!((short.ceiling_watts(0) - 30.0).abs() < 1e-9);
        assert!(Ledger::new(1).ceiling_watts(0).is_infinite());
    }

    #[test]
    fn parts_add_up_to_the_machine_for_disjoint_functions() {
        let mut ledgers: Vec<_> = (0..3).map(|_| Ledger::new(1)).collect();
        for step in 0..50u64 {
            let own = [10 + step % 40, 60, 20];
            let busy = own.iter().sum::<u64>() + 7;
            let joules = 2.0 + (busy as f64).powf(0.8) * 0.1;
            for (ledger, own) in ledgers.iter_mut().zip(own) {
                add(ledger, &interval(own, busy), &[joules]);
            }
        }
        let parts: Vec<_> = ledgers.iter().map(|l| divide(l, &[0], 20.0, 1.0)).collect();
        let marginal: f64 = parts.iter().map(|p| p.marginal).sum();
        assert!(marginal + parts[0].idle < parts[0].machine);
        for part in &parts {
            let sum = part.idle + part.marginal + part.others;
            assert!((sum - part.machine).abs() < 1e-9 * part.machine);
        }
        let seven = parts[0].machine - parts[0].idle - marginal;
        assert!(seven > 0.0 && seven < parts[0].others);
    }

    #[test]
    fn power_that_changes_is_charged_where_it_was_used() {
        // The first half is ours and dear, the second is somebody else's and cheap.
        let mut ledger = Ledger::new(1);
        add(&mut ledger, &interval(100, 100), &[10.0]);
        add(&mut ledger, &interval(0, 100), &[3.0]);
        assert_eq!(divide(&ledger, &[0], 0.0, 1.0).marginal, 10.0);
    }

    #[test]
    fn idle_printed_in_steps_does_not_bias_the_share() {
        // 1 CPU of 2 busy, half of it ours, in intervals of 1 ms: idle shows 0 or 10 ms.
        let mut ledger = Ledger::new(1);
        let (mut idle, mut shown) = (0u64, 0u64);
        for _ in 0..2000 {
            idle += 1_000_000;
            let now = idle / IDLE_STEP_NS * IDLE_STEP_NS;
            let one = Interval {
                dt_ns: 1_000_000,
                cpus: 2.0,
                idle_ns: Some(now - shown),
                own_ns: 500_000,
                inside_ns: 500_000,
                outside_rate: Some(0.5),
                seen: None,
            };
            shown = now;
            add(&mut ledger, &one, &[0.05]);
        }
        let share = ledger.share(crate::bands::WORKLOAD_SPREAD);
        assert!((share.value - 0.5).abs() < 0.02, "{share:?}");
        assert!(share.low < 0.5 && share.high > 0.5);
    }

    #[test]
    fn without_machine_cpu_the_band_is_open() {
        let mut ledger = Ledger::new(1);
        let unknown = Interval {
            idle_ns: None,
            ..interval(50, 50)
        };
        add(&mut ledger, &unknown, &[1.0]);
        let share = ledger.share(crate::bands::WORKLOAD_SPREAD);
        assert!(!ledger.busy_known && share.low == 0.0 && share.high == 1.0);
    }

    #[test]
    fn idle_is_never_more_than_there_was() {
        let mut ledger = Ledger::new(1);
        add(&mut ledger, &interval(100, 100), &[1.0]);
        let part = divide(&ledger, &[0], 1000.0, 1.0);
        assert_eq!((part.idle, part.marginal, part.others), (1.0, 0.0, 0.0));
    }

    #[test]
    fn the_band_covers_a_workload_that_costs_more() {
        // 1 of 10 CPU-seconds, but 1.6 times as dear: its true share is 1.6/10.6.
        let mut ledger = Ledger::new(1);
        for _ in 0..30 {
            add(&mut ledger, &interval(16, 160), &[5.0]);
        }
        let share = ledger.share(crate::bands::WORKLOAD_SPREAD);
        assert!(
            share.low < 1.6 / 10.6 && 1.6 / 10.6 < share.high,
            "{share:?}"
        );
    }

    #[test]
    fn what_the_probes_saw_replaces_idle_steps_and_weighs() {
        let mut ledger = Ledger::new(1);
        // A third of the busy time, but at half of the others' frequency: a fifth of the cycles.
        let one = Interval {
            seen: Some(Seen {
                busy_ns: 90_000_000,
                own: 1.0,
                busy: 5.0,
                weight: Weight::Cycles,
            }),
            ..interval(30, 200)
        };
        add(&mut ledger, &one, &[10.0]);
        assert_eq!(ledger.others_ns, 60e6);
        assert_eq!(divide(&ledger, &[0], 0.0, 1.0).marginal, 2.0);
        assert!(ledger.seen && ledger.weight == Some(Weight::Cycles));
        let share = ledger.share(crate::bands::WORKLOAD_SPREAD);
        assert!(share.low < 0.2 && share.value == 0.2 && share.high > 0.2);
        // One interval that was not seen, and the ledger is no longer of what was.
        add(&mut ledger, &interval(30, 90), &[10.0]);
        assert!(!ledger.seen);
    }
}

//! What was spent, by whom, until when: the truth that can be asked later.
//!
//! Pure: it is given each step and integrates any window by linear interpolation between steps.
//! All joules here are of the packages together, without memory and board.

use std::collections::{BTreeMap, VecDeque};

/// Joules of all packages in a window, or since the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spent {
    /// What an idle machine would have used.
    pub idle: f64,
    /// Above idle, by registered process.
    pub pids: BTreeMap<i32, f64>,
    /// Above idle, everybody else.
    pub others: f64,
}

impl Spent {
    /// All of it.
    pub fn total(&self) -> f64 {
        self.idle + self.others + self.pids.values().sum::<f64>()
    }
}

/// One registered process: its cumulative joules at each step since it was registered.
#[derive(Debug)]
struct Account {
    pid: i32,
    /// Sequence number of the step that `joules[0]` belongs to.
    since: u64,
    joules: VecDeque<f64>,
    open: bool,
}

impl Account {
    /// Cumulative joules at step `seq`; constant after it was closed.
    fn at(&self, seq: u64) -> f64 {
        let last = self.joules.len().saturating_sub(1);
        match seq.checked_sub(self.since) {
            None => 0.0,
            Some(k) => self.joules[usize::try_from(k).unwrap_or(last).min(last)],
        }
    }
}

/// Identifies an account; a pid may be registered, left and registered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountId(u64);

/// A ring of steps.
#[derive(Debug)]
pub struct Ledger {
    capacity: usize,
    /// Sequence number of the front of the ring.
    first: u64,
    times: VecDeque<u64>,
    idle: VecDeque<f64>,
    others: VecDeque<f64>,
    /// Everything, accounts included that have left the ring: what the counters show.
    total: VecDeque<f64>,
    accounts: Vec<(AccountId, Account)>,
    next_id: u64,
}

impl Ledger {
    /// An empty ledger that begins at `t_ns` and keeps up to `capacity` steps.
    pub fn new(t_ns: u64, capacity: usize) -> Self {
        Self {
            capacity: capacity.max(2),
            first: 0,
            times: VecDeque::from([t_ns]),
            idle: VecDeque::from([0.0]),
            others: VecDeque::from([0.0]),
            total: VecDeque::from([0.0]),
            accounts: Vec::new(),
            next_id: 0,
        }
    }

    fn last_seq(&self) -> u64 {
        self.first + self.times.len() as u64 - 1
    }

    /// Time of the last step.
    pub fn end(&self) -> u64 {
        self.times.back().copied().unwrap_or(0)
    }

    /// Time of the oldest step that is still kept.
    pub fn begin(&self) -> u64 {
        self.times.front().copied().unwrap_or(0)
    }

    /// Opens an account at the last step.
    pub fn open(&mut self, pid: i32) -> AccountId {
        let id = AccountId(self.next_id);
        self.next_id += 1;
        let account = Account {
            pid,
            since: self.last_seq(),
            joules: VecDeque::from([0.0]),
            open: true,
        };
        self.accounts.push((id, account));
        id
    }

    /// Closes an account; what it spent stays in the windows of its time.
    pub fn close(&mut self, id: AccountId) {
        if let Some((_, account)) = self.accounts.iter_mut().find(|(a, _)| *a == id) {
            account.open = false;
        }
    }

    /// Writes one step: the joules spent since the one before.
    pub fn push(&mut self, t_ns: u64, idle: f64, others: f64, pids: &[(AccountId, f64)]) {
        let sum = |ring: &VecDeque<f64>, more: f64| ring.back().copied().unwrap_or(0.0) + more;
        self.idle.push_back(sum(&self.idle, idle));
        self.others.push_back(sum(&self.others, others));
        self.times.push_back(t_ns);
        let mut spent = idle + others;
        for (id, account) in self.accounts.iter_mut().filter(|(_, a)| a.open) {
            let joules = pids.iter().find(|(a, _)| a == id).map_or(0.0, |(_, j)| *j);
            account.joules.push_back(sum(&account.joules, joules));
            spent += joules;
        }
        self.total.push_back(sum(&self.total, spent));
        while self.times.len() > self.capacity {
            self.times.pop_front();
            self.idle.pop_front();
            self.others.pop_front();
            self.total.pop_front();
            self.first += 1;
            for (_, account) in &mut self.accounts {
                if account.since < self.first && account.joules.len() > 1 {
                    account.joules.pop_front();
                    account.since += 1;
                }
            }
            let first = self.first;
            // A closed account whose last step has left the ring is the same at both ends of any window.
            self.accounts
                .retain(|(_, a)| a.open || a.since + a.joules.len() as u64 > first);
        }
    }

    /// Joules of all packages from the start to `t_ns`, clamped to what is kept.
    pub fn total_at(&self, t_ns: u64) -> f64 {
        let (a, b, part) = self.around(t_ns);
        mix(self.total[a], self.total[b], part)
    }

    /// What was spent from `t0_ns` to `t1_ns`; `None` when the window is not kept.
    pub fn between(&self, t0_ns: u64, t1_ns: u64) -> Option<Spent> {
        if t0_ns < self.begin() || t1_ns > self.end() || t0_ns > t1_ns {
            return None;
        }
        let (a, b) = (self.cumulative(t0_ns), self.cumulative(t1_ns));
        let mut pids = b.pids;
        for (pid, before) in a.pids {
            *pids.entry(pid).or_insert(before) -= before;
        }
        Some(Spent {
            idle: b.idle - a.idle,
            others: b.others - a.others,
            pids,
        })
    }

    /// The steps before and after `t_ns`, and how far between them it lies (0 to 1).
    fn around(&self, t_ns: u64) -> (usize, usize, f64) {
        let t_ns = t_ns.clamp(self.begin(), self.end());
        let after = self.times.partition_point(|t| *t <= t_ns);
        let after = after.min(self.times.len() - 1);
        let before = after.saturating_sub(1);
        let (ta, tb) = (self.times[before], self.times[after]);
        let part = if tb > ta {
            (t_ns - ta) as f64 / (tb - ta) as f64
        } else {
            0.0
        };
        (before, after, part)
    }

    fn cumulative(&self, t_ns: u64) -> Spent {
        let (a, b, part) = self.around(t_ns);
        let mut pids = BTreeMap::new();
        for (_, account) in &self.accounts {
            let joules = mix(
                account.at(self.first + a as u64),
                account.at(self.first + b as u64),
                part,
            );
            *pids.entry(account.pid).or_insert(0.0) += joules;
        }
        Spent {
            idle: mix(self.idle[a], self.idle[b], part),
            others: mix(self.others[a], self.others[b], part),
            pids,
        }
    }
}

fn mix(a: f64, b: f64, part: f64) -> f64 {
    a + (b - a) * part
}

/// Constant watts need no steps: a list of "from this time, this many watts".
#[derive(Debug)]
pub struct Segments(Vec<(u64, f64, f64)>);

impl Segments {
    /// `watts` of all packages from `t_ns` on.
    pub fn new(t_ns: u64, watts: f64) -> Self {
        Self(vec![(t_ns, watts, 0.0)])
    }

    /// Changes the watts from `t_ns` on.
    pub fn set(&mut self, t_ns: u64, watts: f64) {
        let joules = self.total_at(t_ns);
        self.0.push((t_ns, watts, joules));
    }

    /// J of all packages since the start.
    pub fn total_at(&self, t_ns: u64) -> f64 {
        let k = self.0.partition_point(|s| s.0 <= t_ns).saturating_sub(1);
        let (t0, watts, joules) = self.0[k];
        joules + watts * t_ns.saturating_sub(t0) as f64 * 1e-9
    }

    /// Time of the first segment.
    pub fn begin(&self) -> u64 {
        self.0[0].0
    }

    /// W now.
    pub fn watts(&self) -> f64 {
        self.0.last().map_or(0.0, |s| s.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_between_steps_is_interpolated() {
        let mut l = Ledger::new(0, 100);
        l.push(10, 1.0, 2.0, &[]);
        l.push(20, 1.0, 0.0, &[]);
        let w = l.between(5, 15).expect("kept");
        assert!((w.idle - 1.0).abs() < 1e-12 && (w.others - 1.0).abs() < 1e-12);
        assert!((l.total_at(15) - 3.5).abs() < 1e-12);
        assert_eq!(l.between(5, 21), None);
    }

    #[test]
    fn accounts_count_from_their_opening_to_their_closing() {
        let mut l = Ledger::new(0, 100);
        l.push(10, 1.0, 5.0, &[]);
        let a = l.open(7);
        l.push(20, 1.0, 0.0, &[(a, 4.0)]);
        l.close(a);
        l.push(30, 1.0, 3.0, &[]);
        let b = l.open(7);
        l.push(40, 1.0, 0.0, &[(b, 8.0)]);
        let w = l.between(0, 40).expect("kept");
        assert_eq!(w.pids[&7], 12.0);
        assert_eq!(w.total(), 4.0 + 8.0 + 12.0);
        assert_eq!(l.between(15, 35).expect("kept").pids[&7], 2.0 + 4.0);
    }

    #[test]
    fn the_ring_forgets_and_stays_right() {
        let mut l = Ledger::new(0, 10);
        let a = l.open(1);
        let mut b = None;
        for k in 1..=100u64 {
            if k == 50 {
                l.close(a);
                b = Some(l.open(2));
            }
            let mut pids = vec![];
            if k < 50 {
                pids.push((a, 2.0));
            }
            if let Some(b) = b {
                pids.push((b, 3.0));
            }
            l.push(k * 10, 1.0, 0.5, &pids);
        }
        assert_eq!(l.begin(), 910);
        assert_eq!(l.accounts.len(), 1);
        let w = l.between(920, 1000).expect("kept");
        assert_eq!(w.pids[&2], 24.0);
        assert_eq!(w.idle, 8.0);
        assert_eq!(l.between(900, 1000), None);
        // The counter still holds what the forgotten account spent.
        assert_eq!(l.total_at(1000), 100.0 * 1.5 + 49.0 * 2.0 + 51.0 * 3.0);
    }

    #[test]
    fn segments_remember_every_change() {
        let mut s = Segments::new(1_000_000_000, 50.0);
        s.set(3_000_000_000, 10.0);
        assert_eq!(s.total_at(2_000_000_000), 50.0);
        assert_eq!(s.total_at(4_000_000_000), 110.0);
        assert_eq!((s.watts(), s.begin()), (10.0, 1_000_000_000));
    }
}

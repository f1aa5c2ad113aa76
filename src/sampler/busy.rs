//! On how many CPUs the load runs and at what clock, as the sampler's thread sees it now and then.
//!
//! An interval goes by the looks up to its end alone, so that it can be settled at once, and comes to the same when
//! it is replayed. Where there is none near enough, nothing is known, and the power model guesses.

use std::collections::VecDeque;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::looks::{Found, MOST_STRETCHES, Pace};
use super::state::State;
use crate::clock;
use crate::source::busy::{BusyCpus, Clock, Looker, Stretch};
use crate::source::{Domain, Method};

/// What was seen last counts for so many times as long as it was looked at.
const LASTS: u64 = 2;

/// What is known of the CPUs that have work.
#[derive(Debug, Default)]
pub(super) struct Seen {
    found: Found<Looker>,
    /// When the last look was, ns.
    last_ns: Option<u64>,
    pace: Pace,
    /// One after the other.
    stretches: VecDeque<Stretch>,
}

/// The clock of the CPUs that had work in a window, as far as the model went by it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClockSeen {
    /// For how much of the window it is known, ns.
    pub known_ns: u64,
    /// MHz, by how long it was so.
    pub mhz: f64,
    /// The slowest and the fastest that was seen, MHz.
    pub range: (f64, f64),
}

impl ClockSeen {
    fn of(ns: u64, clock: Clock) -> Self {
        Self {
            known_ns: ns,
            mhz: clock.mhz,
            range: (clock.low, clock.high),
        }
    }

    /// The same of two intervals together, of which the first may have none.
    pub(super) fn add(sum: Option<Self>, ns: u64, clock: Clock) -> Self {
        let now = Self::of(ns, clock);
        sum.map_or(now, |sum| sum.and(now))
    }

    fn and(self, other: Self) -> Self {
        let known_ns = self.known_ns + other.known_ns;
        let (a, b) = (self.known_ns as f64, other.known_ns as f64);
        Self {
            known_ns,
            mhz: (a * self.mhz + b * other.mhz) / (a + b).max(1.0),
            range: (
                self.range.0.min(other.range.0),
                self.range.1.max(other.range.1),
            ),
        }
    }
}

/// What the thread is to do outside of the hub's lock.
#[derive(Debug)]
pub(super) enum Task {
    /// Look with this.
    Look(Box<Looker>),
    /// See what there is.
    Open,
}

/// What a look came to: when it began, ns, and what it showed.
type Looked = (u64, Option<BusyCpus>);

impl Task {
    /// Does it; `None` where there is nothing to look at.
    pub(super) fn done(self, root: &Path) -> Option<(Box<Looker>, Looked)> {
        let mut looker = match self {
            Self::Look(looker) => looker,
            Self::Open => Box::new(Looker::open(root)?),
        };
        let begun_ns = clock::monotonic_ns();
        let seen = looker.look();
        Some((looker, (begun_ns, seen)))
    }
}

impl Seen {
    /// What a forked process takes over: how long a look takes.
    pub(super) fn forked(self) -> Self {
        Self {
            pace: Pace {
                took_ns: self.pace.took_ns,
                ..Pace::default()
            },
            ..Self::default()
        }
    }

    /// All that was recorded.
    pub(super) fn recorded(stretches: impl Iterator<Item = Stretch>) -> Self {
        Self {
            stretches: stretches.collect(),
            ..Self::default()
        }
    }

    /// Nobody meters: what the CPUs do meanwhile is of no window.
    pub(super) fn rest(&mut self) {
        if self.last_ns.take().is_some()
            && let Found::There(looker) = &mut self.found
        {
            looker.forget();
        }
    }

    /// Takes what a look came to that ended at `t_ns`; returns the stretch that ends with it.
    fn take(&mut self, looker: Box<Looker>, looked: Looked, t_ns: u64) -> Option<Stretch> {
        let (begun_ns, seen) = looked;
        self.found = Found::There(looker);
        self.pace.looked(t_ns, t_ns.saturating_sub(begun_ns));
        let from_ns = self.last_ns.replace(t_ns)?;
        let stretch = Stretch {
            from_ns,
            to_ns: t_ns,
            seen: seen?,
        };
        if self.stretches.len() == MOST_STRETCHES {
            self.stretches.pop_front();
        }
        self.stretches.push_back(stretch);
        Some(stretch)
    }

    /// What is known of the interval from `from_ns` to `to_ns`: by looks until its end, each for as long as it is of
    /// the interval, the last one for what is left, if that is not long.
    pub(super) fn within(&self, from_ns: u64, to_ns: u64) -> BusyCpus {
        let end = self.stretches.partition_point(|s| s.to_ns <= to_ns);
        let [mut spread, mut threads, mut clock] = [Mean::default(); 3];
        let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
        // Up to here it is known from later looks.
        let mut until_ns = to_ns;
        for stretch in self.stretches.range(..end).rev() {
            let long_ns = stretch.to_ns.saturating_sub(stretch.from_ns);
            let lasts_ns = stretch.to_ns.saturating_add(long_ns.saturating_mul(LASTS));
            let ns = until_ns
                .min(lasts_ns)
                .saturating_sub(stretch.from_ns.max(from_ns));
            if ns == 0 {
                break;
            }
            spread.add(ns, stretch.seen.spread);
            threads.add(ns, stretch.seen.threads);
            if let Some(seen) = stretch.seen.clock {
                (low, high) = (low.min(seen.low), high.max(seen.high));
            }
            clock.add(ns, stretch.seen.clock.map(|clock| clock.mhz));
            until_ns = stretch.from_ns;
        }
        let most_ns = to_ns.saturating_sub(from_ns) / 2;
        BusyCpus {
            spread: spread.of(most_ns),
            threads: threads.of(most_ns),
            clock: clock.of(most_ns).map(|mhz| Clock { low, mhz, high }),
        }
    }
}

/// A mean over time, of what is known.
#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    ns: u64,
    sum: f64,
}

impl Mean {
    fn add(&mut self, ns: u64, value: Option<f64>) {
        if let Some(value) = value {
            self.ns += ns;
            self.sum += value * ns as f64;
        }
    }

    /// `None` where it is known for less time than that.
    fn of(&self, least_ns: u64) -> Option<f64> {
        (self.ns > 0 && self.ns >= least_ns).then(|| self.sum / self.ns as f64)
    }
}

impl State {
    /// What the thread is to do at `now_ns`, of which it tells [`State::end_busy`]; `None` where it is not time yet,
    /// and where no meter that is sampled goes by the model of a whole machine: where no counter has the packages.
    pub(super) fn begin_busy(&mut self, now_ns: u64) -> Option<Task> {
        if matches!(self.busy.found, Found::Lent) || self.tape.plays() {
            return None;
        }
        let sampled = self.sampled();
        let mut zones = self.zones.iter();
        let counted = zones.any(|zone| zone.domain == Domain::Package && sampled.has(zone.method));
        let facts = self.facts.as_ref();
        let modelled = facts.is_some_and(|facts| facts.model.wants_busy_cpus());
        if counted || !modelled || !sampled.has(Method::Tdp) {
            self.busy.rest();
            return None;
        }
        if now_ns < self.busy.pace.next_ns {
            return None;
        }
        Some(match std::mem::replace(&mut self.busy.found, Found::Lent) {
            Found::There(looker) => Task::Look(looker),
            _ => Task::Open,
        })
    }

    /// Takes what the thread saw of it, or that there is nothing to be seen.
    pub(super) fn end_busy(&mut self, done: Option<(Box<Looker>, Looked)>) {
        // Not when the look ended: whoever got the lock since then has settled without it.
        let now_ns = clock::monotonic_ns();
        let Some((looker, looked)) = done else {
            self.busy.found = Found::Absent;
            self.busy.pace.absent(now_ns);
            return;
        };
        let stretch = self.busy.take(looker, looked, now_ns);
        if let Some(frame) = self.tape.writes() {
            frame.work = stretch;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(stretches: &[(u64, u64, f64)]) -> Seen {
        Seen::recorded(stretches.iter().map(|(from_ns, to_ns, mhz)| Stretch {
            from_ns: *from_ns,
            to_ns: *to_ns,
            seen: BusyCpus {
                spread: Some(mhz / 4000.0),
                threads: Some(mhz / 1000.0),
                clock: Some(Clock {
                    low: mhz - 100.0,
                    mhz: *mhz,
                    high: mhz + 100.0,
                }),
            },
        }))
    }

    #[test]
    fn an_interval_goes_by_the_looks_until_its_end() {
        let seen = seen(&[(100, 200, 1000.0), (200, 300, 2000.0), (300, 400, 3000.0)]);
        let of = |from, to| {
            let seen = seen.within(from, to);
            seen.clock.map(|clock| (clock.low, clock.mhz, clock.high))
        };
        assert_eq!(of(100, 300), Some((900.0, 1500.0, 2100.0)));
        // The look that ends after it may have come too late for it.
        assert_eq!(of(200, 350), Some((1900.0, 2000.0, 2100.0)));
        let at = seen.within(200, 350);
        assert_eq!((at.spread, at.threads), (Some(0.5), Some(2.0)));
        // What was seen last lasts for a while.
        assert_eq!(of(450, 550), Some((2900.0, 3000.0, 3100.0)));
        assert_eq!(of(590, 690), None);
        assert_eq!(of(10_000, 10_100), None);
        assert_eq!(of(0, 100), None);
        assert_eq!(Seen::default().within(0, 100), BusyCpus::default());
    }

    #[test]
    fn half_of_an_interval_must_be_known() {
        let mut seen = seen(&[(100, 200, 1000.0), (200, 300, 2000.0)]);
        seen.stretches[0].seen.clock = None;
        let clock = |from, to| seen.within(from, to).clock.map(|clock| clock.mhz);
        assert_eq!(clock(150, 300), Some(2000.0));
        assert_eq!(clock(50, 300), None);
    }

    #[test]
    fn a_windows_clock_is_the_mean_by_time() {
        let a = ClockSeen::of(300, Clock::exactly(1000.0));
        let b = ClockSeen::of(100, Clock::exactly(2000.0));
        let both = a.and(b);
        assert_eq!((both.known_ns, both.mhz), (400, 1250.0));
        assert_eq!(both.range, (1000.0, 2000.0));
    }
}

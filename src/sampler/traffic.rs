//! Memory's traffic as the sampler's thread sees it: a look now and then, and what it came to.
//!
//! A window gets what lies between looks within it. The rest of it, the first and the last tenth of a
//! second and whatever could not be read, has no bytes: there the power model goes by the load.

use std::collections::VecDeque;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::state::State;
use super::window::Record;
use crate::model::Traffic;
use crate::source::traffic::{self as source, Counter, Look, Stretch};
use crate::source::{Domain, Method};

/// Between two looks at least, ns: as an interval of attribution lasts …
const LOOK_NS: u64 = 95_000_000;

/// … and so many times as long as a look takes: it may take 1 % of the time.
const LOOK_PART: u64 = 100;

/// Stretches that are kept: those of the last seconds.
const MOST_STRETCHES: usize = 64;

/// What was found when it was looked for.
#[derive(Debug, Default)]
enum Found {
    /// It was not looked for.
    #[default]
    Unknown,
    Absent,
    There(Box<source::Traffic>),
    /// The thread has it.
    Lent,
}

/// What of memory's traffic is known.
#[derive(Debug, Default)]
pub(super) struct Seen {
    found: Found,
    counter: Option<Counter>,
    /// When the last look was, and when the next one may be, ns.
    last_ns: Option<u64>,
    next_ns: u64,
    stretches: VecDeque<Stretch>,
    /// Why the last look gave nothing.
    fault: Option<String>,
}

/// Memory's traffic within a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrafficSeen {
    /// Who counted it.
    pub counter: Counter,
    /// For how much of the window it is known, ns.
    pub known_ns: u64,
    /// Bytes in that time.
    pub bytes: f64,
    /// Why the last look at it gave nothing.
    pub fault: Option<String>,
}

impl TrafficSeen {
    fn none(counter: Counter) -> Self {
        Self {
            counter,
            known_ns: 0,
            bytes: 0.0,
            fault: None,
        }
    }

    /// As the model is told it; `None` where nothing of it is known.
    pub fn flow(&self) -> Option<Traffic> {
        (self.known_ns > 0).then(|| Traffic {
            seconds: self.known_ns as f64 * 1e-9,
            bytes: self.bytes,
            part: self.counter.part(),
        })
    }

    /// Adds that of another stretch.
    pub(super) fn add(&mut self, other: &Self) {
        self.known_ns += other.known_ns;
        self.bytes += other.bytes;
    }
}

/// When a look was, ns, for how long, ns, and what it came to.
type Looked = (u64, u64, Look);

/// What the thread is to do outside of the hub's lock.
#[derive(Debug)]
pub(super) enum Task {
    /// Look with this.
    Look(Box<source::Traffic>),
    /// See what there is; more of it where `perf` was asked for by its name.
    Open { by_perf: bool },
}

impl Task {
    /// Does it; `None` where there is nothing.
    pub(super) fn done(self, root: &Path) -> Option<(Box<source::Traffic>, Looked)> {
        let mut traffic = match self {
            Self::Look(traffic) => traffic,
            Self::Open { by_perf } => Box::new(source::Traffic::open(root, by_perf).ok()?),
        };
        let looked = traffic.look();
        Some((traffic, looked))
    }
}

impl Seen {
    /// What a forked process takes over: whether there is something to be read.
    pub(super) fn forked(mut self) -> Self {
        if let Found::There(traffic) = &mut self.found {
            traffic.forget();
        }
        let found = match self.found {
            Found::Lent => Found::Unknown,
            found => found,
        };
        Self {
            found,
            counter: self.counter,
            ..Self::default()
        }
    }

    /// Takes what a look came to; returns the stretch that ends with it.
    fn take(
        &mut self,
        traffic: Box<source::Traffic>,
        (t_ns, took_ns, look): Looked,
    ) -> Option<Stretch> {
        let counter = traffic.counter();
        self.found = Found::There(traffic);
        self.counter = Some(counter);
        self.next_ns = t_ns.saturating_add(LOOK_NS.max(took_ns.saturating_mul(LOOK_PART)));
        let last_ns = self.last_ns.replace(t_ns);
        match (look, last_ns) {
            (Look::Bytes(bytes), Some(from_ns)) => {
                self.fault = None;
                let stretch = Stretch {
                    counter,
                    from_ns,
                    to_ns: t_ns,
                    bytes,
                };
                self.keep(stretch);
                return Some(stretch);
            }
            (Look::Lost(why), _) => self.fault = Some(why),
            (Look::First | Look::Bytes(_), _) => {}
        }
        None
    }

    /// Takes a stretch that was seen now, or recorded.
    pub(super) fn keep(&mut self, stretch: Stretch) {
        self.counter = Some(stretch.counter);
        if self.stretches.len() == MOST_STRETCHES {
            self.stretches.pop_front();
        }
        self.stretches.push_back(stretch);
    }

    /// What is known of the time from `from_ns` to `to_ns`; `None` where nothing counts it.
    pub(super) fn within(&self, from_ns: u64, to_ns: u64) -> Option<TrafficSeen> {
        let mut seen = TrafficSeen::none(self.counter?);
        for stretch in &self.stretches {
            let (from, to) = (stretch.from_ns.max(from_ns), stretch.to_ns.min(to_ns));
            let whole = stretch.to_ns.saturating_sub(stretch.from_ns);
            if from < to && whole > 0 {
                seen.known_ns += to - from;
                seen.bytes += stretch.bytes as f64 * (to - from) as f64 / whole as f64;
            }
        }
        Some(seen)
    }
}

impl State {
    /// What is known of a window's traffic when it ends.
    pub(super) fn traffic_of(&self, record: &mut Record) -> Option<TrafficSeen> {
        let mut seen = record.traffic.take()?;
        if self.tape.is_off() {
            seen.fault = self.traffic.fault.clone();
        } else if seen.known_ns == 0 {
            // A trace holds what was counted, and not why something was not.
            return None;
        }
        Some(seen)
    }

    /// What the thread is to do at `now_ns`, of which it tells [`State::end_traffic`]. It is looked for once in
    /// a process; `None` where there is nothing, where it is not time yet, and where memory's energy has
    /// a counter.
    pub(super) fn begin_traffic(&mut self, now_ns: u64) -> Option<Task> {
        let there = matches!(self.traffic.found, Found::Unknown | Found::There(_));
        if !there || now_ns < self.traffic.next_ns || self.tape.plays() {
            return None;
        }
        let sampled = self.sampled();
        let counted = |domain: Domain| {
            let mut zones = self.zones.iter();
            zones.any(|zone| zone.domain == domain && sampled.has(zone.method))
        };
        let wanted = sampled.has(Method::Tdp) || counted(Domain::Package);
        if !wanted || counted(Domain::Dram) {
            return None;
        }
        Some(
            match std::mem::replace(&mut self.traffic.found, Found::Lent) {
                Found::There(traffic) => Task::Look(traffic),
                _ => Task::Open {
                    by_perf: sampled.has_by_name(Method::Perf),
                },
            },
        )
    }

    /// Takes what the thread saw of it, or that there is nothing to be seen.
    pub(super) fn end_traffic(&mut self, done: Option<(Box<source::Traffic>, Looked)>) {
        let Some((traffic, looked)) = done else {
            self.traffic.found = Found::Absent;
            return;
        };
        let stretch = self.traffic.take(traffic, looked);
        if let Some(frame) = self.tape.writes() {
            frame.traffic = stretch;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(stretches: &[(u64, u64, u64)]) -> Seen {
        let mut seen = Seen::default();
        for (from_ns, to_ns, bytes) in stretches {
            seen.keep(Stretch {
                counter: Counter::Resctrl,
                from_ns: *from_ns,
                to_ns: *to_ns,
                bytes: *bytes,
            });
        }
        seen
    }

    #[test]
    fn a_window_has_what_was_counted_within_it() {
        let seen = seen(&[(100, 200, 1000), (200, 300, 50), (400, 500, 8)]);
        let of = |from, to| {
            let seen = seen.within(from, to).unwrap();
            (seen.known_ns, seen.bytes)
        };
        assert_eq!(of(0, 1000), (300, 1058.0));
        assert_eq!(of(150, 250), (100, 525.0));
        assert_eq!(of(300, 400), (0, 0.0));
        assert_eq!(seen.within(300, 400).unwrap().flow(), None);
        assert!(Seen::default().within(0, 1000).is_none());
    }

    #[test]
    fn what_was_lost_is_in_no_stretch() {
        let root = tempfile::tempdir().unwrap();
        let cache = root.path().join("sys/fs/resctrl/mon_data/mon_L3_00");
        std::fs::create_dir_all(&cache).unwrap();
        let count = |text: &str| std::fs::write(cache.join("mbm_total_bytes"), text).unwrap();
        count("5\n");
        let traffic = source::Traffic::open(root.path(), false).unwrap();
        let mut seen = Seen::default();
        seen.take(Box::new(traffic), (1_000, 10, Look::First));
        let look = |seen: &mut Seen, at_ns: u64, look: Look| {
            let found = std::mem::replace(&mut seen.found, Found::Lent);
            let Found::There(traffic) = found else {
                panic!("{found:?}");
            };
            seen.take(traffic, (at_ns, 10, look))
        };
        assert!(look(&mut seen, 2_000, Look::Bytes(7)).is_some());
        assert_eq!(look(&mut seen, 3_000, Look::Lost("gone".into())), None);
        assert_eq!(seen.fault.as_deref(), Some("gone"));
        assert_eq!(look(&mut seen, 4_000, Look::First), None);
        assert!(look(&mut seen, 5_000, Look::Bytes(1)).is_some());
        let all = seen.within(0, 10_000).unwrap();
        assert_eq!((all.known_ns, all.bytes), (2_000, 8.0));
        assert_eq!(seen.fault, None);
        // A look that takes a while is not made again soon.
        let mut late = Seen::default();
        let traffic = source::Traffic::open(root.path(), false).unwrap();
        late.take(Box::new(traffic), (0, 20_000_000, Look::First));
        assert_eq!(late.next_ns, 2_000_000_000);
        // A forked process looks with the same, and has seen nothing of its own.
        let forked = seen.forked();
        assert!(matches!(forked.found, Found::There(_)) && forked.stretches.is_empty());
        assert_eq!(forked.last_ns, None);
    }
}

//! Memory's traffic as the sampler's thread sees it: a look now and then, and what it came to.
//!
//! A window gets what lies between looks: an interval of it is settled when the look after it has come. What
//! was before the first look or is after the last one, and whatever could not be read, has no bytes: there the
//! power model goes by the load.

use std::collections::VecDeque;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::looks::{Found, LOOK_NS, MOST_STRETCHES, Pace};
use super::state::State;
use super::window::Record;
use crate::clock;
use crate::model::Traffic;
use crate::source::traffic::{self as source, Counter, Look, Stretch};
use crate::source::{Domain, Method};

/// Losses that are kept.
const MOST_LOSSES: usize = 64;

/// The most bytes that one processor reads and writes in a second. The fastest memory of one that resource
/// control counts for is that of Intel's Xeon CPU Max: 1.6 TB/s of HBM2e and 0.3 TB/s of eight channels of
/// DDR5-4800.
const MOST_RATE: f64 = 2e12;

/// What of memory's traffic is known.
#[derive(Debug, Default)]
pub(super) struct Seen {
    found: Found<source::Traffic>,
    counter: Option<Counter>,
    /// When the last look was, ns.
    last_ns: Option<u64>,
    pace: Pace,
    /// One after the other.
    stretches: VecDeque<Stretch>,
    losses: VecDeque<Loss>,
}

/// A time of which the bytes are not known, ns, and why.
#[derive(Debug)]
struct Loss {
    from_ns: u64,
    to_ns: u64,
    why: String,
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
    /// The same at least and at most: those of a stretch that began before the window may have gone before it
    /// or in it.
    pub range: (f64, f64),
    /// For how much of the window it could not be counted, ns …
    pub lost_ns: u64,
    /// … and why.
    pub fault: Option<String>,
    /// How long after a look the next one was made when the window ended, ns; 0 where that is not known.
    pub pause_ns: u64,
}

impl TrafficSeen {
    fn none(counter: Counter) -> Self {
        Self {
            counter,
            known_ns: 0,
            bytes: 0.0,
            range: (0.0, 0.0),
            lost_ns: 0,
            fault: None,
            pause_ns: 0,
        }
    }

    /// Whether looks are as seldom as they have to be, for they take long.
    pub fn is_seldom(&self) -> bool {
        self.pause_ns > LOOK_NS
    }

    /// As the model is told it; `None` where nothing of it is known.
    pub fn flow(&self) -> Option<Traffic> {
        let of_bytes = |bytes: f64| match self.bytes {
            0.0 => 1.0,
            all => bytes / all,
        };
        let (least, most) = self.counter.part();
        (self.known_ns > 0).then(|| Traffic {
            seconds: self.known_ns as f64 * 1e-9,
            bytes: self.bytes,
            part: (
                least * of_bytes(self.range.0),
                most * of_bytes(self.range.1),
            ),
        })
    }

    /// Adds that of another interval.
    pub(super) fn add(&mut self, other: Self) {
        self.known_ns += other.known_ns;
        self.bytes += other.bytes;
        self.range.0 += other.range.0;
        self.range.1 += other.range.1;
        self.lost_ns += other.lost_ns;
        self.fault = other.fault.or(self.fault.take());
    }

    /// What is not known yet of an interval of so many ns will not be.
    pub(super) fn give_up(&mut self, ns: u64, why: &str) {
        self.lost_ns += ns;
        self.fault.get_or_insert_with(|| why.to_owned());
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
        let (found, next_ns) = match self.found {
            Found::Lent => (Found::Unknown, 0),
            Found::Absent => (Found::Absent, self.pace.next_ns),
            found => (found, 0),
        };
        Self {
            found,
            pace: Pace {
                next_ns,
                took_ns: self.pace.took_ns,
                pause_ns: 0,
            },
            counter: self.counter,
            ..Self::default()
        }
    }

    /// All that was recorded.
    pub(super) fn recorded(stretches: impl Iterator<Item = Stretch>) -> Self {
        let stretches: VecDeque<Stretch> = stretches.collect();
        Self {
            counter: stretches.front().map(|stretch| stretch.counter),
            stretches,
            ..Self::default()
        }
    }

    /// Nobody meters: what goes meanwhile is of no window.
    pub(super) fn rest(&mut self) {
        if self.last_ns.take().is_some()
            && let Found::There(traffic) = &mut self.found
        {
            traffic.forget();
        }
    }

    /// Somebody meters after a while in which nobody did: what was not there may be there.
    pub(super) fn look_anew(&mut self) {
        if matches!(self.found, Found::Absent) {
            self.pace.next_ns = 0;
        }
    }

    /// Takes what a look came to, on a machine that can move so many bytes a second at most; returns the
    /// stretch that ends with it.
    fn take(
        &mut self,
        traffic: Box<source::Traffic>,
        (t_ns, took_ns, look): Looked,
        most_rate: f64,
    ) -> Option<Stretch> {
        let counter = traffic.counter();
        self.found = Found::There(traffic);
        self.counter = Some(counter);
        self.pace.looked(t_ns, took_ns);
        let last_ns = self.last_ns.replace(t_ns);
        let from_ns = last_ns.unwrap_or(t_ns.saturating_sub(took_ns));
        let why = match look {
            Look::Bytes(bytes) => {
                let stretch = Stretch {
                    counter,
                    from_ns: last_ns?,
                    to_ns: t_ns,
                    bytes,
                };
                let seconds = t_ns.saturating_sub(from_ns).saturating_add(took_ns) as f64 * 1e-9;
                if bytes as f64 <= most_rate * seconds {
                    self.keep(stretch);
                    return Some(stretch);
                }
                format!(
                    "{:.0} GB in {seconds:.2} s were shown, and its processors move {:.0} GB a second at most",
                    bytes as f64 * 1e-9,
                    most_rate * 1e-9
                )
            }
            Look::Lost(why) => why,
            Look::First => {
                // A loss goes on until there is something to compare with.
                if let Some(loss) = self.losses.back_mut().filter(|loss| loss.to_ns == from_ns) {
                    loss.to_ns = t_ns;
                }
                return None;
            }
        };
        self.lose(from_ns, t_ns, why);
        None
    }

    fn keep(&mut self, stretch: Stretch) {
        if self.stretches.len() == MOST_STRETCHES {
            self.stretches.pop_front();
        }
        self.stretches.push_back(stretch);
    }

    fn lose(&mut self, from_ns: u64, to_ns: u64, why: String) {
        let goes_on = |loss: &&mut Loss| loss.to_ns == from_ns && loss.why == why;
        if let Some(loss) = self.losses.back_mut().filter(goes_on) {
            loss.to_ns = to_ns;
            return;
        }
        if self.losses.len() == MOST_LOSSES {
            self.losses.pop_front();
        }
        self.losses.push_back(Loss {
            from_ns,
            to_ns,
            why,
        });
    }

    /// What is known of the interval from `from_ns` to `to_ns` of a window that began at `begun_ns`; `None`
    /// where nothing counts it.
    pub(super) fn within(&self, begun_ns: u64, from_ns: u64, to_ns: u64) -> Option<TrafficSeen> {
        let mut seen = TrafficSeen::none(self.counter?);
        let common = |from: u64, to: u64| to.min(to_ns).saturating_sub(from.max(from_ns));
        let first = self.stretches.partition_point(|s| s.to_ns <= from_ns);
        for stretch in self.stretches.range(first..) {
            let inside_ns = common(stretch.from_ns, stretch.to_ns);
            if inside_ns == 0 {
                break;
            }
            let of = |from: u64| {
                let part = inside_ns as f64 / stretch.to_ns.saturating_sub(from) as f64;
                stretch.bytes as f64 * part
            };
            let most = of(stretch.from_ns.max(begun_ns));
            seen.known_ns += inside_ns;
            seen.bytes += of(stretch.from_ns);
            seen.range.1 += most;
            if stretch.from_ns >= begun_ns {
                seen.range.0 += most;
            }
        }
        for loss in &self.losses {
            let lost_ns = common(loss.from_ns, loss.to_ns);
            if lost_ns > 0 {
                seen.lost_ns += lost_ns;
                seen.fault = Some(loss.why.clone());
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
            seen.pause_ns = self.traffic.pace.pause_ns;
        } else if seen.known_ns == 0 {
            // A trace holds what was counted, and not why something was not.
            return None;
        } else {
            (seen.lost_ns, seen.fault) = (0, None);
        }
        Some(seen)
    }

    /// Up to when it is known what went, ns: to the last look, where there will be another.
    pub(super) fn traffic_known_ns(&self) -> u64 {
        self.traffic.last_ns.unwrap_or(u64::MAX)
    }

    /// What the thread is to do at `now_ns`, of which it tells [`State::end_traffic`]; `None` where it is not
    /// time yet, and where no meter that is sampled goes by it: the model does, and packages whose memory has no
    /// counter.
    pub(super) fn begin_traffic(&mut self, now_ns: u64) -> Option<Task> {
        let lent = matches!(self.traffic.found, Found::Lent);
        if lent || self.tape.plays() {
            return None;
        }
        let sampled = self.sampled();
        let counted = |domain: Domain| {
            let mut zones = self.zones.iter();
            zones.any(|zone| zone.domain == domain && sampled.has(zone.method))
        };
        let wanted = sampled.has(Method::Tdp) || counted(Domain::Package);
        if !wanted || counted(Domain::Dram) {
            self.traffic.rest();
            return None;
        }
        if now_ns < self.traffic.pace.next_ns {
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
            self.traffic.pace.absent(clock::monotonic_ns());
            return;
        };
        let facts = self.facts.as_ref();
        let processors = facts.and_then(|facts| facts.cpu.sockets).unwrap_or(1);
        let most_rate = f64::from(processors.max(1)) * MOST_RATE;
        let stretch = self.traffic.take(traffic, looked, most_rate);
        if let Some(frame) = self.tape.writes() {
            frame.traffic = stretch;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::looks::{ABSENT_AGAIN_NS, MOST_LOOK_NS};
    use super::*;

    const MS: u64 = 1_000_000;

    fn seen(stretches: &[(u64, u64, u64)]) -> Seen {
        let stretches = stretches.iter().map(|(from_ns, to_ns, bytes)| Stretch {
            counter: Counter::Resctrl,
            from_ns: *from_ns,
            to_ns: *to_ns,
            bytes: *bytes,
        });
        Seen::recorded(stretches)
    }

    /// One that looks by itself, at a root of its own.
    struct Looking {
        seen: Seen,
        root: tempfile::TempDir,
    }

    impl Looking {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let cache = root.path().join("sys/fs/resctrl/mon_data/mon_L3_00");
            std::fs::create_dir_all(&cache).unwrap();
            std::fs::write(cache.join("mbm_total_bytes"), "5\n").unwrap();
            let seen = Seen::default();
            Self { seen, root }
        }

        /// A look that took so long, where 1000 bytes a second are the most.
        fn took(&mut self, at_ns: u64, took_ns: u64, look: Look) -> Option<Stretch> {
            let traffic = match std::mem::take(&mut self.seen.found) {
                Found::There(traffic) => traffic,
                _ => Box::new(source::Traffic::open(self.root.path(), false).unwrap()),
            };
            self.seen.take(traffic, (at_ns, took_ns, look), 1000.0)
        }

        fn look(&mut self, at_ns: u64, look: Look) -> Option<Stretch> {
            self.took(at_ns, 10, look)
        }
    }

    #[test]
    fn a_window_has_what_was_counted_within_it() {
        let seen = seen(&[(100, 200, 1000), (200, 300, 50), (400, 500, 8)]);
        let of = |from, to| {
            let seen = seen.within(from, from, to).unwrap();
            (seen.known_ns, seen.bytes)
        };
        assert_eq!(of(0, 1000), (300, 1058.0));
        assert_eq!(of(150, 250), (100, 525.0));
        assert_eq!(of(300, 400), (0, 0.0));
        assert_eq!(seen.within(0, 300, 400).unwrap().flow(), None);
        assert!(Seen::default().within(0, 0, 1000).is_none());
    }

    #[test]
    fn what_may_have_gone_before_the_window_is_in_its_band() {
        let seen = seen(&[(100, 200, 1000), (200, 300, 50)]);
        // It began in the middle of the first stretch; its intervals have all there is together.
        let mut all = seen.within(150, 150, 175).unwrap();
        all.add(seen.within(150, 175, 250).unwrap());
        all.add(seen.within(150, 250, 400).unwrap());
        assert_eq!((all.known_ns, all.bytes), (150, 550.0));
        assert_eq!(all.range, (50.0, 1050.0));
        let (least, most) = all.flow().unwrap().part;
        let sure = Counter::Resctrl.part();
        assert!((least * 550.0 - sure.0 * 50.0).abs() < 1e-9);
        assert!((most * 550.0 - sure.1 * 1050.0).abs() < 1e-9);
        let whole = seen.within(0, 0, 1000).unwrap();
        assert_eq!(whole.range, (1050.0, 1050.0));
        assert_eq!(whole.flow().unwrap().part, sure);
    }

    #[test]
    fn what_was_lost_is_in_no_stretch_and_has_its_reason() {
        let mut looking = Looking::new();
        looking.look(1000 * MS, Look::First);
        assert!(looking.look(2000 * MS, Look::Bytes(7)).is_some());
        let gone = || Look::Lost("gone".into());
        assert_eq!(looking.look(3000 * MS, gone()), None);
        assert_eq!(looking.look(4000 * MS, gone()), None);
        assert_eq!(looking.look(5000 * MS, Look::First), None);
        assert!(looking.look(6000 * MS, Look::Bytes(1)).is_some());
        let of = |from_ns, to_ns| {
            let seen = looking.seen.within(from_ns, from_ns, to_ns).unwrap();
            (
                seen.known_ns / MS,
                seen.bytes,
                seen.lost_ns / MS,
                seen.fault,
            )
        };
        let why = Some("gone".to_owned());
        assert_eq!(of(0, 10_000 * MS), (2000, 8.0, 3000, why.clone()));
        assert_eq!(of(4500 * MS, 5500 * MS), (500, 0.5, 500, why));
        // Before it and after it nothing was.
        assert_eq!(of(0, 2000 * MS), (1000, 7.0, 0, None));
        assert_eq!(of(5000 * MS, 6000 * MS), (1000, 1.0, 0, None));
    }

    #[test]
    fn what_never_was_there_has_its_reason() {
        let mut looking = Looking::new();
        looking.look(1000, Look::Lost("Unavailable".into()));
        let seen = looking.seen.within(0, 0, 2000).unwrap();
        assert_eq!((seen.known_ns, seen.lost_ns), (0, 10));
        assert_eq!(seen.fault.as_deref(), Some("Unavailable"));
    }

    #[test]
    fn more_than_memory_can_move_is_no_traffic() {
        let mut looking = Looking::new();
        looking.look(0, Look::First);
        assert!(looking.look(100 * MS, Look::Bytes(100)).is_some());
        assert_eq!(looking.look(200 * MS, Look::Bytes(101)), None);
        assert!(looking.look(300 * MS, Look::Bytes(1)).is_some());
        let seen = looking.seen.within(0, 0, 300 * MS).unwrap();
        assert_eq!((seen.known_ns, seen.bytes), (200 * MS, 101.0));
        let why = seen.fault.unwrap();
        assert!(why.contains("a second at most"), "{why}");
    }

    #[test]
    fn looks_that_take_long_are_seldom() {
        let mut looking = Looking::new();
        // The first look finds nothing in the caches.
        looking.took(0, 500 * MS, Look::First);
        assert_eq!(looking.seen.pace.next_ns, LOOK_NS);
        looking.took(100 * MS, 20 * MS, Look::Bytes(0));
        assert_eq!(looking.seen.pace.next_ns, 2_100 * MS);
        // One that others kept waiting.
        looking.took(3_000 * MS, 900 * MS, Look::Bytes(0));
        assert_eq!(looking.seen.pace.next_ns, 5_000 * MS);
        looking.took(5_000 * MS, 900 * MS, Look::Bytes(0));
        assert_eq!(looking.seen.pace.next_ns, 5_000 * MS + MOST_LOOK_NS);
        // A forked process looks with the same, and has seen nothing of its own.
        let mut forked = looking.seen.forked();
        assert!(matches!(forked.found, Found::There(_)) && forked.stretches.is_empty());
        assert_eq!((forked.last_ns, forked.pace.took_ns), (None, 900 * MS));
        // What went while nobody metered is of no stretch.
        forked.last_ns = Some(1);
        forked.rest();
        assert_eq!(forked.last_ns, None);
    }

    #[test]
    fn what_is_absent_is_looked_for_again() {
        let root = tempfile::tempdir().unwrap();
        let mut state = State::new(root.path());
        state.always = crate::source::Methods::of(&[Method::Tdp]);
        let task = state.begin_traffic(clock::monotonic_ns()).unwrap();
        state.end_traffic(task.done(root.path()));
        let now_ns = clock::monotonic_ns();
        assert!(state.begin_traffic(now_ns).is_none());
        assert!(state.begin_traffic(now_ns + ABSENT_AGAIN_NS).is_some());
        state.end_traffic(None);
        assert_eq!(state.traffic_known_ns(), u64::MAX);
        state.traffic.look_anew();
        assert!(state.begin_traffic(now_ns).is_some());
    }
}

//! A window that ended in a forked process and is made into numbers in its parent.
//!
//! A worker forks a process for each call. In a fresh fork every page that is touched first costs a
//! page fault, and making a hundred numbers of a window touches more of them than all that the window
//! itself needs; the parent has done it for the call before. So the parent notes what the two will have
//! in common ([`Heir`]), the child hands over the rest, a few hundred bytes, and the parent goes on from
//! there as if the window had been its own, but for its timeline, which no stats are made of.

use std::sync::Arc;

use super::window::{Catalog, Outcome};
use super::{Hub, lock};
use crate::machine::facts::Facts;

/// First byte of a window that is handed over: JSON never begins with it.
const MARK: u8 = 1;

/// What a process and the one that it is about to fork have in common.
#[derive(Debug)]
pub struct Heir {
    catalog: Arc<Catalog>,
    facts: Option<Arc<Facts>>,
}

impl Heir {
    /// What `hub` knows now.
    pub fn of(hub: &Hub) -> Self {
        let state = lock(&hub.state);
        Self {
            catalog: Arc::clone(&state.catalog),
            facts: state.facts.clone(),
        }
    }

    /// What of a window's outcome the parent does not know; `None` where it goes by other sources or
    /// by another machine than the parent had when it forked. In the child.
    pub fn hand_over(&self, outcome: &Outcome) -> Option<Vec<u8>> {
        let facts = (&outcome.facts, &self.facts);
        let same_facts = match facts {
            (Some(now), Some(then)) => Arc::ptr_eq(now, then),
            (now, then) => now.is_none() && then.is_none(),
        };
        if !same_facts || !Arc::ptr_eq(&outcome.catalog, &self.catalog) {
            return None;
        }
        postcard::to_extend(outcome, vec![MARK]).ok()
    }

    /// The outcome that was handed over; `None` where the bytes are none, or are damaged. In the
    /// parent.
    pub fn receive(&self, bytes: &[u8]) -> Option<Outcome> {
        let (&MARK, bytes) = bytes.split_first()? else {
            return None;
        };
        let mut outcome: Outcome = postcard::from_bytes(bytes).ok()?;
        if !outcome.is_of(self.catalog.zones.len()) {
            return None;
        }
        outcome.catalog = Arc::clone(&self.catalog);
        outcome.facts.clone_from(&self.facts);
        Some(outcome)
    }
}

impl Outcome {
    /// Whether all that it has of each counter is of as many as it says, of `known` at most. It came
    /// from another process.
    fn is_of(&self, known: usize) -> bool {
        let zones = self.slots.zones();
        let slots = self.slots.count();
        let lengths = [
            self.faults.len(),
            self.anomalies.len(),
            self.late_ns.len(),
            self.dead_ns.len(),
            self.most_watts.len(),
            self.mirrors.len(),
            self.possible_mirrors.len(),
            self.stood_ns.len(),
            self.early_units.len(),
            self.updates.len(),
            self.idle_learners.len(),
        ];
        let ledgers = std::iter::once(&self.ledger).chain(&self.sandbox).chain(
            self.phases
                .iter()
                .flat_map(|phase| std::iter::once(&phase.ledger).chain(&phase.sandbox)),
        );
        zones <= known
            && lengths.iter().all(|length| *length == zones)
            && self
                .mirrors
                .iter()
                .flatten()
                .all(|mirror| mirror.of < zones)
            && ledgers.into_iter().all(|ledger| ledger.has(slots))
            && self.window_ns.0 <= self.window_ns.1
    }
}

#[cfg(test)]
mod tests {
    use crate::meter::{Meter, Options};
    use std::fs;

    /// A window of a meter that its own process handed over, and the meter.
    fn handed() -> (tempfile::TempDir, Meter, Vec<u8>) {
        let root = tempfile::tempdir().unwrap();
        let zone = root.path().join("sys/class/powercap/intel-rapl:0");
        fs::create_dir_all(&zone).unwrap();
        for (name, text) in [
            ("name", "package-0\n"),
            ("energy_uj", "1000\n"),
            ("max_energy_range_uj", "262143328850\n"),
        ] {
            fs::write(zone.join(name), text).unwrap();
        }
        std::os::unix::fs::symlink("/proc", root.path().join("proc")).unwrap();
        let options = Options {
            interval: None,
            root: root.path().to_owned(),
            ..Options::default()
        };
        let mut meter = Meter::new(options).unwrap();
        // A worker has metered before it forks.
        meter.start().unwrap();
        meter.stop().unwrap();
        meter.expect();
        meter.start().unwrap();
        fs::write(zone.join("energy_uj"), "2500\n").unwrap();
        meter.stop().unwrap();
        let bytes = meter.hand_over().unwrap();
        (root, meter, bytes)
    }

    fn numbers(meter: &Meter) -> String {
        serde_json::to_string(&meter.reading(None).unwrap()).unwrap()
    }

    #[test]
    fn a_window_is_the_same_after_it_was_handed_over() {
        let (_root, mut meter, bytes) = handed();
        assert!(bytes.len() < 1000, "{}", bytes.len());
        let before = numbers(&meter);
        assert!(before.contains("0.0015"), "{before}");
        // Another window, which the received one takes the place of.
        meter.start().unwrap();
        assert!(!meter.receive(&bytes), "it runs");
        meter.stop().unwrap();
        assert_ne!(numbers(&meter), before);
        assert!(meter.receive(&bytes));
        assert_eq!(numbers(&meter), before);
    }

    #[test]
    fn damaged_bytes_are_no_window() {
        let (_root, mut meter, bytes) = handed();
        let before = numbers(&meter);
        for length in 0..bytes.len() {
            assert!(!meter.receive(&bytes[..length]), "{length} bytes");
        }
        // Whatever one byte becomes: a window that can be read, or none.
        for place in 0..bytes.len() {
            for flipped in [0x01, 0x80, 0xff] {
                let mut other = bytes.clone();
                other[place] ^= flipped;
                if meter.receive(&other) {
                    let _ = numbers(&meter);
                }
            }
        }
        assert!(meter.receive(&bytes));
        assert_eq!(numbers(&meter), before);
    }

    #[test]
    fn a_window_of_other_sources_is_not_handed_over() {
        let (root, mut meter, _) = handed();
        // The hub is another: what it has opened is not what was expected.
        crate::sampler::Hub::get(root.path()).unwrap().retire();
        meter.start().unwrap();
        meter.stop().unwrap();
        assert_eq!(meter.hand_over(), None);
        meter.expect();
        meter.start().unwrap();
        meter.stop().unwrap();
        assert!(meter.hand_over().is_some());
    }
}

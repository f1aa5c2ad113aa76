//! Which counters are one counter that is shown twice?
//!
//! Some AMD processors of several dies have one energy counter for the package, and the kernel shows
//! it once for each die. Two such zones make the same steps for ever, perhaps from different
//! starting values; counters of two dies never do for long. So their difference is watched.

use serde::{Deserialize, Serialize};

use super::{Domain, Method, Zone};
use crate::counter::Counter;

/// From so many equal steps on it is sure.
const SURE: u32 = 3;

/// One step in so many may differ: a counter may move between two reads.
const MOST_DIFFERENT: u32 = 4;

/// Two zones of one package.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pair {
    first: usize,
    second: usize,
    method: Method,
    modulus: Option<u64>,
    last: Option<(u64, u64)>,
    /// `first - second`, as it mostly was.
    apart: u64,
    same: u32,
    different: u32,
}

impl Pair {
    fn see(&mut self, a: u64, b: u64) {
        let apart = match self.modulus {
            Some(modulus) if a < b => (modulus - b).saturating_add(a),
            _ => a.wrapping_sub(b),
        };
        match self.last {
            None => self.apart = apart,
            Some(last) if last == (a, b) => return,
            Some(_) if apart == self.apart => self.same = self.same.saturating_add(1),
            Some(_) => {
                self.different = self.different.saturating_add(1);
                if self.different > self.same {
                    self.apart = apart;
                }
            }
        }
        self.last = Some((a, b));
    }

    fn is_one(&self) -> bool {
        self.same > 0 && self.different.saturating_mul(MOST_DIFFERENT) <= self.same
    }
}

/// A zone that shows the counter of an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirror {
    /// The index of the earlier one.
    pub of: usize,
    /// Few steps were seen yet: it may be a coincidence.
    pub unsure: bool,
}

/// Package zones that may be one counter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mirrors(Vec<Pair>);

impl Mirrors {
    /// The zones that may be: those of one package, read by one method.
    pub fn among(zones: &[Zone]) -> Self {
        let mut pairs = Vec::new();
        for (second, b) in zones.iter().enumerate() {
            for (first, a) in zones[..second].iter().enumerate() {
                // Channels of hwmon's chips are parts of a package that are known not to be one.
                if b.domain == Domain::Package
                    && b.method != Method::Hwmon
                    && (a.method, a.domain, a.package) == (b.method, b.domain, b.package)
                    && a.modulus == b.modulus
                {
                    pairs.push(Pair {
                        first,
                        second,
                        method: b.method,
                        modulus: b.modulus,
                        last: None,
                        apart: 0,
                        same: 0,
                        different: 0,
                    });
                }
            }
        }
        Self(pairs)
    }

    /// The same, of zones of which more are known now.
    pub fn widened(self, zones: &[Zone]) -> Self {
        let mut wider = Self::among(zones);
        for pair in self.0 {
            let place = wider
                .0
                .iter_mut()
                .find(|p| (p.first, p.second) == (pair.first, pair.second));
            if let Some(place) = place {
                *place = pair;
            }
        }
        wider
    }

    /// There is nothing to compare.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Enough was seen of every pair.
    pub fn all_decided(&self) -> bool {
        let decided = |pair: &Pair| pair.same >= 2 * SURE || pair.different >= 2 * SURE;
        self.0.iter().all(decided)
    }

    /// Compares what the counters of `method` showed last.
    pub fn compare(&mut self, method: Method, counters: &[Counter]) {
        for pair in self.0.iter_mut().filter(|p| p.method == method) {
            let raw = |i: usize| counters.get(i).and_then(Counter::raw);
            if let (Some(a), Some(b)) = (raw(pair.first), raw(pair.second)) {
                pair.see(a, b);
            }
        }
    }

    /// Whether too little was seen of zone `index` to say that it does not show the counter of an
    /// earlier one.
    pub fn may_be(&self, index: usize) -> bool {
        self.0.iter().any(|pair| {
            let seen = pair.same.saturating_add(pair.different);
            pair.second == index && !pair.is_one() && (1..2 * SURE).contains(&seen)
        })
    }

    /// Whether zone `index` shows the counter of an earlier one.
    pub fn of(&self, index: usize) -> Option<Mirror> {
        let pair = self.0.iter().find(|p| p.second == index && p.is_one())?;
        Some(Mirror {
            of: pair.first,
            unsure: pair.same < SURE,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(package: u32, die: u32) -> Zone {
        Zone {
            method: Method::Rapl,
            domain: Domain::Package,
            package,
            name: format!("package-{package}-die-{die}"),
            unit_joules: 1e-6,
            modulus: Some(1_000),
        }
    }

    fn seen(values: &[(u64, u64)]) -> Option<Mirror> {
        let mut mirrors = Mirrors::among(&[zone(0, 0), zone(0, 1)]);
        for (a, b) in values {
            mirrors.0[0].see(*a, *b);
        }
        mirrors.of(1)
    }

    #[test]
    fn equal_steps_are_one_counter_wherever_they_start() {
        let steps = |apart: u64| -> Vec<(u64, u64)> {
            let at = |i: u64| 900 + 37 * i;
            (0..6)
                .map(|i| (at(i) % 1_000, (at(i) + apart) % 1_000))
                .collect()
        };
        for apart in [0, 1, 777] {
            assert_eq!(
                seen(&steps(apart)),
                Some(Mirror {
                    of: 0,
                    unsure: false
                })
            );
            let few = &steps(apart)[..2];
            assert_eq!(
                seen(few),
                Some(Mirror {
                    of: 0,
                    unsure: true
                })
            );
        }
    }

    #[test]
    fn one_read_between_two_updates_does_not_matter() {
        let mut values: Vec<(u64, u64)> = (0..9).map(|i| (10 * i, 10 * i)).collect();
        values[4].1 += 10;
        assert_eq!(
            seen(&values),
            Some(Mirror {
                of: 0,
                unsure: false
            })
        );
    }

    #[test]
    fn a_few_unlike_steps_leave_it_open() {
        let mut mirrors = Mirrors::among(&[zone(0, 0), zone(0, 1)]);
        assert!(!mirrors.may_be(1));
        // Twice it was read between two updates.
        for (a, b) in [(0, 0), (10, 20), (30, 30)] {
            mirrors.0[0].see(a, b);
        }
        assert!(mirrors.of(1).is_none() && mirrors.may_be(1) && !mirrors.may_be(0));
        for i in 4..9 {
            mirrors.0[0].see(10 * i, 11 * i);
        }
        assert!(mirrors.of(1).is_none() && !mirrors.may_be(1));
    }

    #[test]
    fn unlike_steps_are_two_counters() {
        let values: Vec<(u64, u64)> = (0..9).map(|i| (10 * i, 11 * i)).collect();
        assert_eq!(seen(&values), None);
        // A coincidence now and then does not make them one.
        let values = [
            (0, 0),
            (5, 6),
            (9, 9),
            (14, 14),
            (18, 20),
            (21, 26),
            (30, 31),
            (34, 35),
        ];
        assert_eq!(seen(&values), None);
        assert_eq!(seen(&[(0, 0), (0, 0)]), None);
        assert_eq!(seen(&[(0, 0), (10, 0), (20, 0)]), None);
    }

    #[test]
    fn packages_are_never_one() {
        let mirrors = Mirrors::among(&[zone(0, 0), zone(1, 0)]);
        assert!(mirrors.is_empty());
        assert_eq!(
            Mirrors::among(&[zone(0, 0), zone(0, 1), zone(0, 2)])
                .0
                .len(),
            3
        );
    }
}

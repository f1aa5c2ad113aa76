//! The least power that a counter showed within a window: idle power is not above it.

use serde::{Deserialize, Serialize};

/// Two updates of a counter, ns.
const UPDATES_NS: f64 = 2e6;

/// A stretch of a window, long enough for its mean power to be sure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Stretch {
    ns: f64,
    joules: f64,
}

/// Collects intervals into stretches and keeps the least mean power of two stretches in a row.
///
/// A counter may stand still for a while and catch up later, or move once a second only. So a
/// stretch ends when the counter moves, and is looked at together with the one before it: what one
/// of them lacks, the other one has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeastPower {
    watts: f64,
    open: Stretch,
    before: Option<Stretch>,
    all: Stretch,
    /// Energy of an interval was refused, so the window's mean is no evidence.
    broken: bool,
}

impl Default for LeastPower {
    fn default() -> Self {
        Self {
            watts: f64::INFINITY,
            open: Stretch::default(),
            before: None,
            all: Stretch::default(),
            broken: false,
        }
    }
}

impl LeastPower {
    /// Adds an interval of `ns` in which the counter showed `joules`. A stretch has at least
    /// `long_ns`.
    pub fn add(&mut self, ns: f64, joules: f64, long_ns: f64) {
        for sum in [&mut self.open, &mut self.all] {
            sum.ns += ns;
            sum.joules += joules;
        }
        if self.open.ns < long_ns || joules <= 0.0 {
            return;
        }
        let now = std::mem::take(&mut self.open);
        if let Some(before) = self.before.replace(now) {
            let seconds = (before.ns + now.ns) * 1e-9;
            self.watts = self.watts.min((before.joules + now.joules) / seconds);
        }
    }

    /// An interval whose energy is not known as a whole.
    pub fn interrupt(&mut self) {
        self.open = Stretch::default();
        self.before = None;
        self.broken = true;
    }

    /// The least power, W: of two stretches in a row, or the window's mean where there are no two, with
    /// room for one update at each edge where that is shorter than `long_ns`. Infinite where the
    /// counter never moved or some of its energy is not known.
    ///
    /// ```
    /// use lithowatt::least_power::LeastPower;
    /// let mut least = LeastPower::default();
    /// // 10 W, by a counter that stood still for two intervals of 0.1 s and then caught up.
    /// for joules in [1.0, 0.4, 0.0, 2.6, 1.0] {
    ///     least.add(1e8, joules, 5e7);
    /// }
    /// assert!((least.watts(5e7) - 7.0).abs() < 1e-9);
    /// assert!(LeastPower::default().watts(5e7).is_infinite());
    /// ```
    pub fn watts(&self, long_ns: f64) -> f64 {
        let room = if self.all.ns < long_ns {
            1.0 + UPDATES_NS / self.all.ns
        } else {
            1.0
        };
        let mean = room * self.all.joules / (self.all.ns * 1e-9);
        let sure = !self.broken && self.all.joules > 0.0;
        match (self.watts.is_finite(), sure) {
            (true, true) => self.watts.min(mean),
            (true, false) => self.watts,
            (false, true) => mean,
            (false, false) => f64::INFINITY,
        }
    }

    /// Adds what another part of the window showed.
    pub fn merge(&mut self, other: &Self) {
        self.watts = self.watts.min(other.watts);
        self.all.ns += other.all.ns;
        self.all.joules += other.all.joules;
        self.broken |= other.broken;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG_NS: f64 = 5e7;

    fn of(joules: &[f64]) -> f64 {
        let mut least = LeastPower::default();
        for joules in joules {
            least.add(1e8, *joules, LONG_NS);
        }
        least.watts(LONG_NS)
    }

    #[test]
    fn a_quiet_time_is_found() {
        assert!((of(&[5.0, 5.0, 1.0, 1.0, 5.0]) - 10.0).abs() < 1e-9);
    }

    #[test]
    fn a_counter_that_stands_still_does_not_use_nothing() {
        assert!(of(&[0.0, 0.0, 0.0]).is_infinite());
        // It moves every third interval: 10 W.
        assert!((of(&[3.0, 0.0, 0.0, 3.0, 0.0, 0.0, 3.0]) - 10.0).abs() < 1e-9);
        // The first intervals of the window saw nothing, a later one all of it.
        assert!((of(&[0.0, 0.0, 3.0]) - 10.0).abs() < 1e-9);
    }

    #[test]
    fn a_short_window_has_room_for_its_edges() {
        let mut least = LeastPower::default();
        least.add(2e7, 0.2, LONG_NS);
        assert!((least.watts(LONG_NS) - 11.0).abs() < 1e-9);
    }

    #[test]
    fn after_an_interruption_the_mean_is_not_taken() {
        let mut least = LeastPower::default();
        least.add(1e8, 1.0, LONG_NS);
        least.interrupt();
        least.add(1e8, 0.0, LONG_NS);
        assert!(least.watts(LONG_NS).is_infinite());
        least.add(1e8, 3.0, LONG_NS);
        least.add(1e8, 1.0, LONG_NS);
        assert!((least.watts(LONG_NS) - 4.0 / 0.3).abs() < 1e-9);
    }
}

//! What is not known of a machine's energy, and what that makes of a part of it.

use serde::Serialize;

use super::{Energy, rss};
use crate::attribution::Share;

/// The energies above idle and at idle (J) at one end of a doubt.
pub(super) type End = (f64, f64);

/// A machine's energy and the part of it that flows at rest, with their 95 % bands.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bands {
    /// All of it, J.
    pub machine: Energy,
    /// What it would have used doing nothing, J.
    pub idle: Energy,
    /// Both are one model's, and err the same way; else each has its own error.
    #[serde(skip)]
    pub together: bool,
}

impl Bands {
    /// What lies above idle, J.
    pub(super) fn active(&self) -> f64 {
        (self.machine.joules - self.idle.joules).max(0.0)
    }

    /// The two ends of each doubt about the machine's energy and idle's.
    pub(super) fn doubts(&self) -> Vec<[End; 2]> {
        let split = |machine: f64, idle: f64| {
            let idle = idle.min(machine);
            (machine - idle, idle)
        };
        let (machine, idle) = (self.machine, self.idle);
        if self.together {
            vec![[split(machine.low, idle.low), split(machine.high, idle.high)]]
        } else {
            vec![
                [machine.low, machine.high].map(|machine| split(machine, idle.joules)),
                [idle.low, idle.high].map(|idle| split(machine.joules, idle)),
            ]
        }
    }

    /// The energy above idle of something that had `share` of the busy time.
    pub fn part(&self, share: Share) -> Energy {
        self.charged(share.value * self.active(), share, |active, _, share| {
            share * active
        })
    }

    /// The band of `value`, which is charged by the energies above idle and at idle and by a share
    /// (`of`): what is not known of the machine's energy and of idle's are doubts, and the share is
    /// one, too.
    pub(super) fn charged(
        &self,
        value: f64,
        share: Share,
        of: impl Fn(f64, f64, f64) -> f64,
    ) -> Energy {
        let (active, idle) = (self.active(), self.idle.joules);
        let base = of(active, idle, share.value);
        let mut changes: Vec<[f64; 2]> = self
            .doubts()
            .iter()
            .map(|ends| ends.map(|(active, idle)| of(active, idle, share.value) - base))
            .collect();
        changes.push([share.low, share.high].map(|share| of(active, idle, share) - base));
        around(value, &changes)
    }
}

/// The band round `value` that independent changes make: what each doubt adds at its two ends, J.
fn around(value: f64, changes: &[[f64; 2]]) -> Energy {
    let down: Vec<f64> = changes.iter().map(|[a, b]| a.min(*b).min(0.0)).collect();
    let up: Vec<f64> = changes.iter().map(|[a, b]| a.max(*b).max(0.0)).collect();
    Energy {
        joules: value,
        low: (value - rss(&down)).max(0.0),
        high: value + rss(&up),
    }
}

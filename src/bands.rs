//! The 95 % band of a share, and of the energy that a share gets: what is not known of a machine's
//! energy, of its idle power and of the share.

use serde::{Deserialize, Serialize};

/// How much more or less a CPU-second of one workload may cost than one of another on the same
/// machine: 1.1 to 1.6 for 95 % of pairs of programs on Intel servers (Alt et al., ICPE 2024; Cadorel
/// and Saingre), about this much between scalar loops and stress kernels (FIRESTARTER, Hackenberg et
/// al., IGCC 2013). It only widens the band, and only as far as others were active. AMD's servers
/// need more: [`crate::model::PowerModel::workload_spread`].
pub const WORKLOAD_SPREAD: f64 = 1.7;

/// Both ends of a stretch are off by up to one update of a meter with equal chance; 95 % of the
/// differences of two such lie within this part of one update.
pub const EDGE: f64 = 0.78;

/// An energy with its 95 % band, J.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Energy {
    /// Best estimate, J.
    pub joules: f64,
    /// Lower end of the 95 % band, J.
    pub low: f64,
    /// Upper end of the 95 % band, J.
    pub high: f64,
}

impl Energy {
    pub(crate) fn half(self) -> f64 {
        (self.high - self.low) / 2.0
    }
}

/// A share of the machine's busy time, 0..1, with its 95 % band.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Share {
    /// Best estimate.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Share {
    /// The share `value` (0..1) of `busy` ns of CPU time, which may be off by `step` ns; infinite
    /// where the busy time is unknown. The band holds that step, and that a CPU-second of one may
    /// cost `spread` times another's ([`WORKLOAD_SPREAD`]).
    ///
    /// ```
    /// use lithowatt::bands::Share;
    /// let half = Share::of(0.5, 1e9, 0.0, 1.7);
    /// assert!((half.low - 1.0 / 2.7).abs() < 1e-12 && (half.high - 1.7 / 2.7).abs() < 1e-12);
    /// assert_eq!(Share::of(1.0, 1e9, 0.0, 1.7).low, 1.0);
    /// ```
    pub fn of(value: f64, busy: f64, step: f64, spread: f64) -> Self {
        // In the unit of CPU time: what the weights make of the function's and the others'.
        let (own, others, k) = (value * busy, (1.0 - value) * busy, spread);
        let most = k * (others + step);
        let least = (others - step).max(0.0) / k;
        let ratio = |others: f64| if own > 0.0 { own / (own + others) } else { 0.0 };
        Self {
            value,
            low: if most.is_finite() { ratio(most) } else { 0.0 },
            high: if own > 0.0 { ratio(least) } else { 1.0 },
        }
    }
}

/// The energies above idle and at idle (J) at one end of a doubt.
pub(crate) type End = (f64, f64);

/// Energy that a counter gets wrong or does not see, by how much the truth may be below and above, J. It
/// errs the same way throughout.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Systematic {
    /// Of what flows at rest.
    pub idle: (f64, f64),
    /// Of what lies above.
    pub active: (f64, f64),
}

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
    /// What both bands do not hold.
    #[serde(skip)]
    pub systematic: Systematic,
}

impl Bands {
    /// What lies above idle, J.
    pub(crate) fn active(&self) -> f64 {
        (self.machine.joules - self.idle.joules).max(0.0)
    }

    /// The same with what the counters get wrong in both bands.
    pub(crate) fn with_systematic(mut self) -> Self {
        let Systematic { idle, active } = std::mem::take(&mut self.systematic);
        let wider = |energy: Energy, below: f64, above: f64| Energy {
            low: (energy.low - below).max(0.0),
            high: energy.high + above,
            ..energy
        };
        self.machine = wider(self.machine, idle.0 + active.0, idle.1 + active.1);
        self.idle = wider(self.idle, idle.0, idle.1);
        self
    }

    /// The two ends of each doubt about the machine's energy and idle's.
    pub(crate) fn doubts(&self) -> Vec<[End; 2]> {
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
                {
                    let (active, idle) = split(machine.joules, idle.joules);
                    let Systematic { idle: i, active: a } = self.systematic;
                    [(active - a.0, idle - i.0), (active + a.1, idle + i.1)]
                },
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
    pub(crate) fn charged(
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

/// Combines deviations that have nothing to do with each other.
pub(crate) fn rss(parts: &[f64]) -> f64 {
    parts.iter().map(|p| p * p).sum::<f64>().sqrt()
}

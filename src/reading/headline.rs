//! The energy of the call with its band: its share of what was measured, or the model's.

use super::divided::Divided;
use super::{Energy, Headline, MethodReading, Quality, rss};
use crate::definition::Definition;
use crate::machine::facts::{Facts, IdleSource};
use crate::sampler::{Outcome, Scope};
use crate::source::Method;

/// A window from which idle power matters enough to be talked about, ns.
pub(super) const LONG_NS: f64 = 100e6;

/// How the call's energy follows from what lies above idle, from idle and from its share.
struct Charge<'d> {
    divided: &'d Divided,
    /// The share by energy, which weighs intervals by their power, stands for the plain one.
    by_energy: f64,
}

impl<'d> Charge<'d> {
    fn new(divided: &'d Divided) -> Self {
        let division = &divided.division;
        let active = division.machine - division.idle;
        Self {
            divided,
            by_energy: if active > 0.0 {
                division.marginal / active
            } else {
                divided.share.value
            },
        }
    }

    /// The energy, J, with `share` of the busy time.
    fn of(&self, active: f64, idle: f64, share: f64) -> f64 {
        let best = self.divided.share.value;
        let part = if best > 0.0 {
            (self.by_energy * share / best).min(1.0)
        } else {
            share
        };
        let idle_part = match self.divided.definition {
            Definition::Marginal => 0.0,
            Definition::Amortised => self.divided.claim.part(self.divided.alone, share),
        };
        part * active + idle_part * idle
    }

    /// The call's energy with its band, J: each of `others` are the energies at the two ends of one
    /// doubt (above idle, idle), and the share is a doubt, too.
    fn band(&self, active: f64, idle: f64, others: &[[(f64, f64); 2]]) -> Energy {
        let (value, share) = (self.divided.joules(), self.divided.share);
        let base = self.of(active, idle, share.value);
        let mut changes: Vec<[f64; 2]> = others
            .iter()
            .map(|ends| ends.map(|(active, idle)| self.of(active, idle, share.value) - base))
            .collect();
        let ends = [share.low, share.high];
        changes.push(ends.map(|share| self.of(active, idle, share) - base));
        let down: Vec<f64> = changes.iter().map(|[a, b]| a.min(*b).min(0.0)).collect();
        let up: Vec<f64> = changes.iter().map(|[a, b]| a.max(*b).max(0.0)).collect();
        Energy {
            joules: value,
            low: (value - rss(&down)).max(0.0),
            high: value + rss(&up),
        }
    }
}

/// The headline of what `method` measured, and how it was divided.
pub(super) fn measured(
    outcome: &Outcome,
    facts: &Facts,
    definition: Definition,
    (method, reading): (Method, &MethodReading),
    warnings: &mut Vec<String>,
) -> Option<(Headline, Divided)> {
    let total = reading.total?;
    if !outcome.own_known {
        return None;
    }
    let divided = Divided::measured(outcome, facts, definition, method, reading);
    let idle = &divided.idle;
    let dt_ns = outcome.ledger.dt_ns;
    if idle.source == IdleSource::Modelled && dt_ns >= LONG_NS {
        warnings.push(
            "idle power is the model's guess and marginal energy depends on it: `lithowatt \
             calibrate` measures it once"
                .into(),
        );
    }
    let split = |machine: f64, idle: f64| {
        let idle = idle.min(machine);
        (machine - idle, idle)
    };
    let rest = divided.division.idle;
    let (active, idle_joules) = split(total.joules, rest);
    let doubts = [
        [total.low, total.high].map(|machine| split(machine, rest)),
        [idle.low, idle.high].map(|watts| split(total.joules, watts * divided.seconds)),
    ];
    let energy = Charge::new(&divided).band(active, idle_joules, &doubts);
    let weight = match outcome.scope {
        _ if outcome.followed().is_some() => "ebpf",
        Scope::Cgroup => "cgroup",
        _ => "cputime",
    };
    let all = divided.alone && outcome.scope != Scope::Task && divided.allotted >= 0.999;
    let headline = Headline::of(
        &divided,
        energy,
        if all {
            Quality::Measured
        } else {
            Quality::Attributed
        },
        format!("{}+{weight}{}", method.name(), outcome.via(method)),
    );
    Some((headline, divided))
}

/// The headline of what the model gives, and how it was divided.
pub(super) fn modelled(
    outcome: &Outcome,
    facts: &Facts,
    definition: Definition,
) -> Option<(Headline, Divided)> {
    if !outcome.own_known {
        return None;
    }
    let divided = Divided::modelled(outcome, facts, definition)?;
    let division = &divided.division;
    let (active, idle) = (division.machine - division.idle, division.idle);
    // What the model does not know of a processor makes it err the same way at rest and at work.
    let band = outcome.model_band;
    let doubts = [[(band.active.0, band.idle.0), (band.active.1, band.idle.1)]];
    let energy = Charge::new(&divided).band(active, idle, &doubts);
    let method = outcome.estimation.method(&facts.model);
    Some((
        Headline::of(&divided, energy, Quality::Modelled, method),
        divided,
    ))
}

impl Headline {
    fn of(divided: &Divided, energy: Energy, quality: Quality, method: String) -> Self {
        Self {
            energy,
            quality,
            method,
            definition: divided.definition,
            division: divided.division,
            idle_source: divided.idle.source,
            share: divided.share,
        }
    }
}

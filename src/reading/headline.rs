//! The energy of the call with its band: its share of what was measured, or the model's.

use super::divided::Divided;
use super::memory::systematic;
use super::{Energy, Headline, MethodReading, Quality};
use crate::bands::{Bands, Systematic};
use crate::definition::Definition;
use crate::machine::facts::{Facts, IdleSource};
use crate::sampler::{Outcome, Scope};
use crate::source::Method;

/// A window from which idle power matters enough to be talked about, ns.
pub(super) const LONG_NS: f64 = 100e6;

/// How the call's energy follows from what lies above idle, from idle and from its share.
struct Charge<'d> {
    divided: &'d Divided,
    /// Which of the call's energies it is.
    definition: Definition,
    /// The share by energy, which weighs intervals by their power, stands for the plain one.
    by_energy: f64,
}

impl<'d> Charge<'d> {
    fn new(divided: &'d Divided, definition: Definition) -> Self {
        let division = &divided.division;
        let active = division.machine - division.idle;
        Self {
            divided,
            definition,
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
        let idle_part = match self.definition {
            Definition::Marginal => 0.0,
            Definition::Amortised => self.divided.claim.part(self.divided.alone, share),
        };
        part * active + idle_part * idle
    }

    /// The call's energy with its band, J.
    fn band(&self, bands: &Bands) -> Energy {
        bands.charged(
            self.divided.division.of(self.definition),
            self.divided.share,
            |active, idle, share| self.of(active, idle, share),
        )
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
        let unused = facts.calibration_unused.as_ref();
        let unused = unused.map_or_else(String::new, |why| {
            format!(" (one that is stored is not used: {why})")
        });
        warnings.push(format!(
            "idle power is the model's guess and marginal energy depends on it: `lithowatt \
             calibrate --idle-only` measures it once{unused}"
        ));
    }
    if idle.source == IdleSource::Configured
        && let Some(set) = facts.environment.idle_watts
        && set > idle.watts
    {
        warnings.push(format!(
            "the idle power that was set ({set} W) is more than the least that was seen ({:.2} W), which is \
             taken in its place",
            idle.watts
        ));
    }
    // No machine rests at more than all that it used.
    let of = |watts: f64| (watts * divided.seconds).min(total.joules);
    let joules = divided.division.idle.min(total.joules);
    let bands = Bands {
        machine: total,
        idle: Energy {
            joules,
            low: of(idle.low).min(joules),
            high: of(idle.high).max(joules),
        },
        together: false,
        systematic: systematic(
            outcome,
            facts,
            (method, reading),
            &divided.division,
            divided.seconds,
        ),
    };
    let weight = match outcome.scope {
        _ if outcome.followed().is_some() => "ebpf",
        Scope::Cgroup => "cgroup",
        _ => "cputime",
    };
    let all = divided.alone && outcome.scope != Scope::Task && divided.allotted >= 0.999;
    let headline = Headline::of(
        &divided,
        bands,
        // A guest's is its host's division, whoever else is in it.
        if all && method != Method::Guest {
            Quality::Measured
        } else {
            Quality::Attributed
        },
        format!("{}+{weight}{}", method.name(), outcome.via(method)),
    );
    Some((headline, divided))
}

/// The clock that the model went by, in words; `None` where it was not seen.
pub(super) fn clock(outcome: &Outcome, facts: &Facts, seconds: f64) -> Option<String> {
    let seen = outcome.clock.filter(|_| facts.model.wants_clock())?;
    let [mhz, low, high] = [seen.mhz, seen.range.0, seen.range.1].map(|mhz| mhz / 1000.0);
    Some(format!(
        "the model goes by the clock of the CPUs that had work: {mhz:.2} GHz ({low:.2} to {high:.2}) in {:.2} of \
         {seconds:.2} s",
        seen.known_ns as f64 * 1e-9
    ))
}

/// Of which part of the machine the model's `machine` and memory are, in words, where it is not all of it.
pub(super) fn part(outcome: &Outcome, facts: &Facts) -> Option<String> {
    let share = &facts.environment.allotted;
    let cpus = share.sandbox_cpus()?;
    let of = format!("{cpus:.2} of {} CPUs", share.machine_cpus);
    if facts.environment.memory_buys_cpus() {
        return (cpus < f64::from(share.machine_cpus)).then(|| {
            format!(
                "the function's memory bought {of}: the energy of the machine, of others and of memory is of all \
                 that ran on those {}, and idle power is of what was bought",
                share.machine_cpus
            )
        });
    }
    outcome
        .sandbox
        .as_ref()
        .map(|_| format!("the energy of the machine and of memory is that of the sandbox, {of}"))
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
    // What the model does not know of a processor makes it err the same way at rest and at work.
    let band = outcome.model_band;
    let bands = Bands {
        machine: Energy {
            joules: division.machine,
            low: band.idle.0 + band.active.0,
            high: band.idle.1 + band.active.1,
        },
        idle: Energy {
            joules: division.idle,
            low: band.idle.0,
            high: band.idle.1,
        },
        together: true,
        systematic: Systematic::default(),
    };
    let method = outcome.estimation.method(&facts.model);
    Some((
        Headline::of(&divided, bands, Quality::Modelled, method),
        divided,
    ))
}

impl Headline {
    fn of(divided: &Divided, bands: Bands, quality: Quality, method: String) -> Self {
        let band = |definition| Charge::new(divided, definition).band(&bands);
        Self {
            energy: band(divided.definition),
            quality,
            method,
            definition: divided.definition,
            division: divided.division,
            other: band(divided.definition.other()),
            bands: bands.with_systematic(),
            idle_source: divided.idle.source,
            share: divided.share,
        }
    }
}

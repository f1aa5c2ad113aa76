//! What kernel probes saw up to an edge, in a window, and as the weights of an interval.

use serde::{Deserialize, Serialize};

use super::weight;
use crate::attribution::{Seen, Weight};
use crate::source::ebpf::{Machine, Used};

/// What kernel probes saw up to an edge.
#[derive(Debug, Clone, Copy)]
pub(super) struct SeenSoFar {
    /// When it was looked at, ns.
    pub(super) at_ns: u64,
    /// CPUs that the probes look at.
    pub(super) cpus: u32,
    /// When the probes were loaded that saw it, ns: counts of others are not to be compared.
    pub(super) loaded_at: u64,
    /// What the machine did.
    pub(super) machine: Machine,
    /// What the function did; `None` where it is not theirs to see (a thread, a coroutine).
    pub(super) own: Option<Used>,
    /// Thermal events by sysfs, where the probes cannot see them.
    pub(super) throttled: Option<u64>,
}

/// What kernel probes saw in a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeenWindow {
    /// What the machine did; counts are differences.
    pub machine: Machine,
    /// Frequency changes since the probes were loaded: none ever means that the processor does not
    /// report them.
    pub frequency_changes_ever: u64,
    /// What the function did.
    pub own: Option<Used>,
    /// The probes look for frequency changes.
    pub sees_frequency: bool,
    /// … for idle states.
    pub sees_idle: bool,
    /// … for thermal events.
    pub sees_thermal: bool,
    /// Thermal events by sysfs, where the probes do not look for them.
    pub throttled: Option<u64>,
}

/// Clocks are read one after the other, and what runs is added to what ran: a CPU may seem busy for
/// so much longer than the time that passed, ns.
const CPU_SLACK_NS: u64 = 20_000_000;

/// Why counts of the probes are not used.
pub(super) const IMPOSSIBLE: &str =
    "the kernel probes counted more CPU time than the machine's CPUs have";

impl SeenSoFar {
    /// Whether the CPUs could have done since `then` what was counted. The counts lie in maps that
    /// are others' to write.
    pub(super) fn is_possible_since(&self, then: &Self) -> bool {
        let each = self
            .at_ns
            .saturating_sub(then.at_ns)
            .saturating_add(CPU_SLACK_NS);
        let most = each.saturating_mul(u64::from(self.cpus));
        let machine = self.machine.since(&then.machine);
        let own = self.own.zip(then.own).map(|(now, then)| now.since(&then));
        machine.busy.ns <= most && own.is_none_or(|own| own.ns <= most)
    }

    /// What was seen since `then`, as weights. `own_ns` and `siblings` as in the interval.
    pub(super) fn weights(&self, then: &Self, own_ns: u64, siblings: bool) -> Option<Seen> {
        if self.loaded_at != then.loaded_at || !self.is_possible_since(then) {
            return None;
        }
        let busy = self.machine.busy.since(&then.machine.busy);
        let own = self.own.zip(then.own).map(|(now, then)| now.since(&then));
        // Of a thread or a coroutine only its CPU time is known: what else there is, it has its part
        // of, so that the parts of all threads are the whole.
        let part = own_ns as f64 / busy.ns.max(own_ns).max(1) as f64;
        let own = own.unwrap_or(Used {
            ns: own_ns,
            shared_ns: (busy.shared_ns as f64 * part) as u64,
            ..Used::default()
        });
        // What the function used, the machine used.
        let busy_ns = busy.ns.max(own_ns);
        // Without what the sampler used, which runs in the same process.
        let ours = if own.ns > 0 {
            (own_ns as f64 / own.ns as f64).min(1.0)
        } else {
            1.0
        };
        let unit = weight::unit(Some(&own), &busy);
        let (plain_own, plain_busy) = match unit {
            Weight::Time => (own_ns as f64, busy_ns as f64),
            Weight::Cycles | Weight::Frequency => {
                let of_own = weight::plain(&own, &busy, unit);
                let of_all = weight::plain(&busy, &busy, unit).max(of_own);
                (of_own * ours, of_all)
            }
        };
        let own_weight = plain_own * weight::alone(&own, siblings);
        let busy_weight = plain_busy * weight::alone(&busy, siblings);
        Some(Seen {
            busy_ns,
            own: own_weight,
            busy: busy_weight.max(own_weight),
            weight: unit,
        })
    }
}

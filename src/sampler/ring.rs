//! The node agent's ring in the place of counters that this process may not read.

use super::State;
use crate::clock;
use crate::machine::idle_power::{self, IdleLearner};
use crate::source::ring::{self, Ring};
use crate::source::{Domain, EnergyCounter, Method, Methods, ReadFault, Unavailable, Zone};

/// Where there is no ring it is looked for again at most this often, ns: a worker may be older than
/// the agent.
const LOOK_AGAIN_NS: u64 = 5_000_000_000;

/// A stretch of so many periods of extrapolation keeps the error of its edges below 2 %.
const STEADY_CARRIES: f64 = 20.0;

/// /proc shows the agent's machine if their idle times since boot agree so far, ns.
const SAME_IDLE_NS: u64 = 2_000_000_000;

/// The ring of a hub, if it needs one.
#[derive(Debug, Default)]
pub(super) struct Borrowed {
    ring: Option<Ring>,
    /// Why there is none, where that is worth a note.
    refused: Option<Unavailable>,
    tried_ns: u64,
    /// /proc does not show the machine, so its idle time is the ring's.
    idle_too: bool,
    resets: u64,
    fault: Option<ReadFault>,
}

/// What readings say of the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Via {
    /// The method of the agent's counters.
    pub method: Method,
    /// A ring whose heart did not beat for so long is not believed, ns.
    pub stale_ns: u64,
}

impl Borrowed {
    pub(super) fn refused(&self) -> Option<&Unavailable> {
        self.refused.as_ref()
    }

    pub(super) fn via(&self) -> Option<Via> {
        self.ring.as_ref().map(|ring| Via {
            method: ring.method(),
            stale_ns: ring.header().stale_ns,
        })
    }

    /// In words, for notes.
    pub(super) fn describe(&self) -> Option<String> {
        let ring = self.ring.as_ref()?;
        Some(format!(
            "through the node agent, {:.0} samples a second in steps of {} µJ",
            1e9 / ring.header().period_ns as f64,
            ring.header().quantum_uj
        ))
    }

    /// The totals are as old as that, ns: half of it is how far off an edge may be.
    pub(super) fn slack_ns(&self) -> u64 {
        match &self.ring {
            Some(ring) if self.fault.is_none() => ring.age_ns() / 2,
            _ => 0,
        }
    }

    /// How long power must be looked at to be sure, ns; 0 where there is no ring. An edge is off by
    /// what the ring carries on at most, mostly by a third of it: 2 % of the stretch.
    pub(super) fn steady_ns(&self) -> f64 {
        self.ring
            .as_ref()
            .map_or(0.0, |ring| STEADY_CARRIES * ring.carry_ns() as f64)
    }

    /// There is a ring, and it holds nothing now that an interval could end with.
    pub(super) fn is_silent(&self) -> bool {
        self.ring
            .as_ref()
            .is_some_and(|ring| self.fault.is_some() || ring.age_ns() > ring.carry_ns())
    }

    /// The ring's sample of `method` is too old for a window to begin with.
    pub(super) fn is_old(&self, method: Method) -> bool {
        self.ring
            .as_ref()
            .is_some_and(|ring| ring.method() == method && ring.is_quiet())
    }

    /// Whether idle time of the machine comes from the agent, as /proc here shows something else.
    pub(super) fn tells_idle(&self) -> bool {
        self.idle_too && self.ring.is_some()
    }

    /// Idle time of the machine where /proc does not show it.
    pub(super) fn idle_ns(&self) -> Option<u64> {
        self.ring.as_ref().filter(|_| self.idle_too)?.idle_ns()
    }

    /// Reads what `method` counts, if it is the agent's. Returns how often energy was lost since.
    pub(super) fn read(
        &mut self,
        method: Method,
        t_ns: u64,
        raw: &mut Vec<Result<u64, ReadFault>>,
    ) -> Option<u32> {
        let ring = self.ring.as_mut().filter(|r| r.method() == method)?;
        match ring.look(t_ns) {
            Ok(()) => {
                self.fault = None;
                ring.read(raw);
            }
            Err(fault) => {
                self.fault = Some(fault);
                raw.extend(ring.zones().iter().map(|_| Err(fault)));
            }
        }
        let lost = ring.resets() - self.resets;
        self.resets = ring.resets();
        Some(u32::try_from(lost).unwrap_or(u32::MAX))
    }
}

impl State {
    /// Opens the ring where a counter that `methods` ask for cannot be read here. Returns whether
    /// that brought anything new.
    pub(super) fn open_ring(&mut self, methods: Methods) -> bool {
        let counts_machine = |counter: &dyn EnergyCounter| {
            let whole = |zone: &Zone| matches!(zone.domain, Domain::Package | Domain::Psys);
            counter.zones().iter().any(whole)
        };
        let has_own = self
            .sources
            .iter()
            .any(|source| source.opened().is_some_and(counts_machine));
        let denied: Vec<Method> = self
            .sources
            .iter()
            .filter(|s| methods.has(s.method) && matches!(s.counter, Some(Err(_))))
            .map(|source| source.method)
            .collect();
        if self.ring.ring.is_some() || has_own || denied.is_empty() {
            return false;
        }
        let now = clock::monotonic_ns();
        let tried = std::mem::replace(&mut self.ring.tried_ns, now);
        if tried != 0 && now.saturating_sub(tried) < LOOK_AGAIN_NS {
            self.ring.tried_ns = tried;
            return false;
        }
        let path = ring::path_below(&self.root);
        let named = std::env::var_os(ring::PATH_VARIABLE).is_some_and(|p| !p.is_empty());
        match Ring::open(&path, &self.root) {
            Ok(ring) => {
                if !denied.contains(&ring.method()) {
                    return false;
                }
                self.zones.extend_from_slice(ring.zones());
                let here = self.machine.idle_ns(now, None);
                let same = here
                    .zip(ring.idle_ns())
                    .is_some_and(|(a, b)| a.abs_diff(b) < SAME_IDLE_NS);
                if !same && ring.idle_ns().is_some() {
                    self.ring.idle_too = true;
                    self.machine.fix_cpus(ring.header().cpus);
                }
                self.ring.resets = ring.resets();
                self.ring.ring = Some(ring);
                self.ring.refused = None;
                true
            }
            Err(why) => {
                // Most machines have no agent, and nobody wants to read that each time.
                let told = (named || path.exists()).then_some(why);
                let news = told != self.ring.refused;
                self.ring.refused = told;
                news
            }
        }
    }

    /// What the agent saw of zones that this process has not seen at rest itself, W.
    pub(super) fn learn_from_ring(&mut self) {
        let Some(ring) = &self.ring.ring else { return };
        if self.idle_learners.iter().all(IdleLearner::seen_here) {
            return;
        }
        idle_power::set_all(
            &mut self.idle_learners,
            &self.zones,
            ring.zones(),
            &ring.idle_watts(),
        );
    }
}

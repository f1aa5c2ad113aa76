//! The most that an energy counter of this machine can show, W.
//!
//! What a step of a counter is judged by ([`crate::counter`]) must never refuse an honest machine,
//! so it is far above what a processor is sold for. Turbo takes up to twice the TDP on servers,
//! three times on desktops whose board sets no limit, and small laptop chips may peak at ten times
//! (Intel's PL4).

use crate::counter::STATED_WATTS;
use crate::machine::facts::Facts;
use crate::source::{Domain, Method, Zone};

/// So many times the TDP, or the power limit where that is higher, …
const TIMES: f64 = 4.0;
/// … and so many W on top, for the smallest chips.
const ON_TOP_WATTS: f64 = 200.0;

/// A power limit above this is "none", as boards write it (4095 W and the like).
const BELIEVABLE_LIMIT_WATTS: f64 = 1_000.0;

/// A board with everything on it, accelerators too, W for each package.
const PLATFORM_WATTS: f64 = 15_000.0;

/// A host's part of a guest, W: its source refuses what no host draws, and where a value corrects what
/// was carried on, a second's energy comes at once.
const GUEST_WATTS: f64 = 1e6;

/// The most that `zone` can show, W. `limits` are the power limits of the package zones.
pub fn most_watts(facts: &Facts, zone: &Zone, limits: &[f64]) -> f64 {
    if zone.method == Method::Guest {
        return GUEST_WATTS;
    }
    match zone.domain {
        Domain::Package | Domain::Core | Domain::Uncore => {
            // A class that was only guessed bounds nothing.
            let known = !facts.model.describe().starts_with("model:class-");
            package_watts(facts.model.tdp().0.filter(|_| known), limits)
        }
        // Its power has nothing to do with the processor's.
        Domain::Dram | Domain::Gpu => STATED_WATTS,
        Domain::Psys => STATED_WATTS + PLATFORM_WATTS,
    }
}

/// The most that one package can draw, W.
///
/// ```
/// use lithowatt::machine::ceilings::package_watts;
/// assert_eq!(package_watts(Some(65.0), &[]), 460.0);
/// assert_eq!(package_watts(Some(15.0), &[64.0, 4095.0]), 456.0);
/// assert_eq!(package_watts(None, &[0.0]), 5_000.0);
/// ```
pub fn package_watts(tdp: Option<f64>, limits: &[f64]) -> f64 {
    let believable = |watts: &f64| (1.0..=BELIEVABLE_LIMIT_WATTS).contains(watts);
    let known = limits.iter().copied().chain(tdp).filter(believable);
    match known.fold(0.0, f64::max) {
        0.0 => STATED_WATTS,
        watts => (TIMES * watts + ON_TOP_WATTS).min(STATED_WATTS),
    }
}

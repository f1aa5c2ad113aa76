//! Methods against each other: like with like, reported once, never corrected in silence.

use serde::Serialize;

use crate::source::Domain;

/// Two methods may differ by this much, relative to the larger, before it is reported.
pub const TOLERANCE: f64 = 0.15;

/// A domain as two methods saw it, J, each with the half-width of its band.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// The domain, the same for both.
    pub domain: Domain,
    /// First method: value and half-width, J.
    pub a: (f64, f64),
    /// Second method: value and half-width, J.
    pub b: (f64, f64),
}

/// The verdict on a window.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Verdict {
    /// `None` where there were no two methods to compare.
    pub validated: Option<bool>,
    /// Worst relative difference, 0.1 = 10 %.
    pub discrepancy: Option<f64>,
    /// The domain of the worst one.
    pub domain: Option<Domain>,
}

/// Relative difference of two energies, against the larger; `None` where either is not a positive
/// number.
///
/// ```
/// use lithowatt::validate::relative_difference;
/// assert_eq!(relative_difference(100.0, 80.0), Some(0.2));
/// assert_eq!(relative_difference(0.0, 80.0), None);
/// ```
pub fn relative_difference(a: f64, b: f64) -> Option<f64> {
    let ok = |x: f64| x.is_finite() && x > 0.0;
    (ok(a) && ok(b)).then(|| (a - b).abs() / a.max(b))
}

/// Compares. A difference that the edges of a short window explain is no discrepancy.
pub fn compare(pairs: &[Pair]) -> Verdict {
    let mut verdict = Verdict::default();
    for pair in pairs {
        let Some(difference) = relative_difference(pair.a.0, pair.b.0) else {
            continue;
        };
        let explained = pair.a.1 + pair.b.1;
        let bad = difference > TOLERANCE && (pair.a.0 - pair.b.0).abs() > explained;
        verdict.validated = Some(verdict.validated.unwrap_or(true) && !bad);
        if verdict.discrepancy.is_none_or(|worst| difference > worst) {
            verdict.discrepancy = Some(difference);
            verdict.domain = Some(pair.domain);
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(a: f64, b: f64, edge: f64) -> Pair {
        Pair {
            domain: Domain::Package,
            a: (a, edge),
            b: (b, edge),
        }
    }

    #[test]
    fn thirty_percent_is_flagged_and_ten_is_not() {
        assert_eq!(compare(&[pair(100.0, 70.0, 0.1)]).validated, Some(false));
        assert_eq!(compare(&[pair(100.0, 90.0, 0.1)]).validated, Some(true));
        assert_eq!(compare(&[]).validated, None);
    }

    #[test]
    fn edges_of_a_short_window_are_no_discrepancy() {
        assert_eq!(compare(&[pair(0.10, 0.07, 0.02)]).validated, Some(true));
    }
}

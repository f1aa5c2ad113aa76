//! Quantiles and tails of the distributions that statistics over repetitions need.

use statrs::distribution::{ContinuousCDF, StudentsT};
use statrs::function::beta::beta_reg;
use statrs::function::gamma::ln_gamma;

/// The value that Student's t with `df` degrees of freedom stays below with probability `p`; `None`
/// where that is not defined.
#[must_use]
pub fn student_t_quantile(p: f64, df: f64) -> Option<f64> {
    if !(p > 0.0 && p < 1.0 && df > 0.0 && df.is_finite()) {
        return None;
    }
    let t = StudentsT::new(0.0, 1.0, df).ok()?.inverse_cdf(p);
    if !t.is_finite() {
        return None;
    }
    Some(polished(t, p, df))
}

/// One of Newton's steps, which gives the digits that the search of the quantile leaves out.
fn polished(t: f64, p: f64, df: f64) -> f64 {
    // The tail on t's own side: near 1 the cumulative probability has no digits left.
    let (tail, wanted) = (0.5 * student_t_two_sided(t, df), p.min(1.0 - p));
    let log_density = ln_gamma(f64::midpoint(df, 1.0))
        - ln_gamma(df / 2.0)
        - 0.5 * (df * std::f64::consts::PI).ln()
        - f64::midpoint(df, 1.0) * (t * t / df).ln_1p();
    let step = (tail - wanted) / log_density.exp();
    if step.is_finite() && step.abs() < 1e-3 * t.abs().max(1.0) {
        if t < 0.0 { t - step } else { t + step }
    } else {
        t
    }
}

/// The probability that Student's t with `df` degrees of freedom is as far from 0 as `t` or
/// farther; NaN where that is not defined.
#[must_use]
pub fn student_t_two_sided(t: f64, df: f64) -> f64 {
    if t.is_nan() || !(df > 0.0 && df.is_finite()) {
        return f64::NAN;
    }
    if t.is_infinite() {
        return 0.0;
    }
    beta_reg(df / 2.0, 0.5, df / (df + t * t))
}

/// The natural logarithm of the gamma function of a number above 0; NaN elsewhere.
#[must_use]
pub fn log_gamma(x: f64) -> f64 {
    if x > 0.0 { ln_gamma(x) } else { f64::NAN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_printed_tables() {
        for (p, df, value) in [
            (0.975, 4.0, 2.776_445_105_197_793),
            (0.975, 9.0, 2.262_157_162_740_992),
            (0.025, 9.0, -2.262_157_162_740_992),
            (0.995, 1.0, 63.656_741_162_871_46),
            (0.975, 5.637_81, 2.485_526_760_488_875_6),
            (0.5, 3.0, 0.0),
        ] {
            let found = student_t_quantile(p, df).expect("defined");
            assert!(
                (found - value).abs() < 1e-6 * value.abs().max(1.0),
                "{p} {df}: {found}"
            );
        }
        assert_eq!(student_t_quantile(1.0, 3.0), None);
        assert_eq!(student_t_quantile(0.5, 0.0), None);
    }

    #[test]
    fn a_quantile_and_its_tail_are_each_others_inverse() {
        for df in [1.0, 1.3, 4.0, 17.0, 300.0] {
            for p in [0.6, 0.9, 0.975, 0.9995] {
                let t = student_t_quantile(p, df).expect("defined");
                let tail = student_t_two_sided(t, df) / 2.0;
                assert!((tail / (1.0 - p) - 1.0).abs() < 1e-9, "{p} {df}: {tail}");
                let low = student_t_quantile(1.0 - p, df).expect("defined");
                assert!((low + t).abs() < 1e-9 * t, "{p} {df}: {low} {t}");
            }
        }
        assert!(student_t_two_sided(f64::NAN, 3.0).is_nan());
        assert!(student_t_two_sided(1.0, 0.0).is_nan());
    }
}

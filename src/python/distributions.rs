//! Student's t and the gamma function, for the analysis of profiles.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::distributions;

#[pyfunction]
pub fn student_t_quantile(p: f64, df: f64) -> PyResult<f64> {
    distributions::student_t_quantile(p, df).ok_or_else(|| {
        PyValueError::new_err(format!(
            "Student's t has no quantile at p = {p} with {df} degrees of freedom: 0 < p < 1 and \
             more than 0 degrees are expected"
        ))
    })
}

#[pyfunction]
pub fn student_t_two_sided(t: f64, df: f64) -> f64 {
    distributions::student_t_two_sided(t, df)
}

#[pyfunction]
pub fn log_gamma(x: f64) -> f64 {
    distributions::log_gamma(x)
}

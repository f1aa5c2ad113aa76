//! Meters of the whole machine for Python.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::bands::Energy;
use crate::reference::{self, Sensor, Told, Window};

type Band = (f64, f64, f64);

fn energy_of((joules, low, high): Band) -> Energy {
    Energy { joules, low, high }
}

/// The energy of readings between two times with its band, or why there is none.
#[pyfunction]
#[pyo3(signature = (
    times, values, start, end, *, counts, update, delay, averaged, relative, step, gap
))]
// Named arguments of Python, one by one.
#[allow(clippy::too_many_arguments)]
pub fn reference_energy(
    times: Vec<f64>,
    values: Vec<f64>,
    start: f64,
    end: f64,
    counts: bool,
    update: f64,
    delay: f64,
    averaged: f64,
    relative: f64,
    step: f64,
    gap: f64,
) -> PyResult<(Option<Band>, Option<String>)> {
    if times.len() != values.len() {
        return Err(PyValueError::new_err(format!(
            "{} times do not go with {} values",
            times.len(),
            values.len()
        )));
    }
    let wild = [start, end, update, delay, averaged, relative, step, gap];
    if times
        .iter()
        .chain(&values)
        .chain(&wild)
        .any(|x| !x.is_finite())
    {
        return Err(PyValueError::new_err(
            "times, values and options must be finite",
        ));
    }
    if end < start || times.windows(2).any(|pair| pair[1] < pair[0]) {
        return Err(PyValueError::new_err("times must not go back"));
    }
    let sensor = Sensor {
        counts,
        update,
        delay,
        averaged,
        relative,
        step,
        gap,
    };
    let told: Vec<Told> = std::iter::zip(times, values)
        .map(|(at, value)| Told { at, value })
        .collect();
    Ok(match reference::energy(&sensor, &told, start, end) {
        Ok(found) => (Some((found.joules, found.low, found.high)), None),
        Err(why) => (None, Some(why.to_string())),
    })
}

/// A counter against a meter of the whole machine; each window as its seconds and both energies.
#[pyfunction]
pub fn reference_line<'py>(
    py: Python<'py>,
    windows: Vec<(f64, Band, Band)>,
    relative: f64,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let windows: Vec<Window> = windows
        .into_iter()
        .map(|(seconds, counter, reference)| Window {
            seconds,
            counter: energy_of(counter),
            reference: energy_of(reference),
        })
        .collect();
    reference::compared(&windows, relative)
        .map(|line| super::serialised(py, &line))
        .transpose()
}

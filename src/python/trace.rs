//! Traces: what `lithowatt.trace` reads from files and writes to them.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::meter::Replay;
use crate::trace::{Trace, encode};

/// A trace that was found whole.
#[pyclass(name = "Trace", module = "lithowatt._core", frozen)]
pub struct PyTrace(Arc<Trace>);

#[pymethods]
impl PyTrace {
    /// A header, as JSON, and blocks of rows. `ValueError` says what is wrong with them.
    #[new]
    fn new(py: Python<'_>, header: &[u8], blocks: Vec<Vec<u8>>) -> PyResult<Self> {
        let trace = py.detach(|| Trace::new(header, blocks));
        Ok(Self(Arc::new(trace.map_err(PyValueError::new_err)?)))
    }

    /// Length of the window, s.
    #[getter]
    fn seconds(&self) -> f64 {
        let (begun, ended) = self.0.window_ns;
        ended.saturating_sub(begun) as f64 * 1e-9
    }

    /// Samples between its edges.
    #[getter]
    fn samples(&self) -> u64 {
        self.0.samples
    }
}

/// A trace with the rules by which it is read.
#[pyclass(name = "Replay", module = "lithowatt._core", frozen)]
pub struct PyReplay(pub(super) Replay);

#[pymethods]
impl PyReplay {
    #[new]
    #[pyo3(signature = (trace, *, idle_watts = None, window = None))]
    fn new(trace: &PyTrace, idle_watts: Option<f64>, window: Option<(f64, f64)>) -> Self {
        Self(Replay {
            trace: Arc::clone(&trace.0),
            idle_watts,
            window,
        })
    }
}

/// Rows of `width` whole numbers as one block; `None` is no value. At most 4096 rows.
#[pyfunction]
pub fn encode_rows<'py>(
    py: Python<'py>,
    cells: Vec<Option<i64>>,
    width: usize,
) -> Bound<'py, PyBytes> {
    let cells: Vec<i64> = cells.into_iter().map(|c| c.unwrap_or(i64::MIN)).collect();
    PyBytes::new(py, &encode(&cells, width))
}

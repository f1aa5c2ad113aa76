//! The way of a call's window from its process to the worker's.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::channel::{CAPACITY, Channel};

#[pyclass(name = "Channel", module = "lithowatt._core", frozen)]
pub struct PyChannel(pub Channel);

#[pymethods]
impl PyChannel {
    #[new]
    #[pyo3(signature = (capacity = CAPACITY))]
    fn new(capacity: usize) -> PyResult<Self> {
        Ok(Self(Channel::new(capacity)?))
    }

    fn mark_started(&self) {
        self.0.mark_started();
    }

    fn write(&self, payload: &[u8]) -> bool {
        self.0.write(payload)
    }

    fn started_by(&self) -> Option<u32> {
        self.0.started_by()
    }

    fn read<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.read().map(|payload| PyBytes::new(py, &payload))
    }
}

//! Profile files as columns.

use std::collections::HashSet;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use super::{path_of, text};
use crate::error::Error;
use crate::profile::{Column, Configuration, Reader, Values};

/// An iterator over the configurations of a profile.
#[pyclass(name = "ProfileReader", module = "lithowatt._core", frozen)]
pub(super) struct PyProfileReader(Mutex<Reader<File>>);

#[pymethods]
impl PyProfileReader {
    #[new]
    #[pyo3(signature = (path, keep = None))]
    fn new(path: &Bound<'_, PyAny>, keep: Option<HashSet<String>>) -> PyResult<Self> {
        let path: PathBuf = path_of("path", path)?;
        Ok(Self(Mutex::new(Reader::open(&path, keep)?)))
    }

    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        py.check_signals()?;
        let next = py.detach(|| {
            let mut reader = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            reader.next_configuration()
        })?;
        let Some(Configuration {
            stage,
            key,
            columns,
        }) = next
        else {
            return Ok(None);
        };
        let stage = match stage {
            None => py.None().into_bound(py),
            Some(stage) => text(py, &stage)?,
        };
        let by_name = PyDict::new(py);
        for (name, column) in columns {
            by_name.set_item(text(py, &name)?, Py::new(py, PyProfileColumn(column))?)?;
        }
        let parts = [stage, text(py, &key)?, by_name.into_any()];
        Ok(Some(PyTuple::new(py, parts)?))
    }

    #[getter]
    fn sha256(&self) -> Option<String> {
        let reader = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = reader.sha256()?;
        Some(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// One metric of one configuration.
#[pyclass(name = "ProfileColumn", module = "lithowatt._core", frozen)]
pub(super) struct PyProfileColumn(Column);

#[pymethods]
impl PyProfileColumn {
    #[getter]
    fn kind(&self) -> &'static str {
        match self.0.values() {
            Values::Missing => "missing",
            Values::Numbers(_) => "number",
            Values::Texts(_) => "text",
        }
    }

    #[getter]
    fn kept(&self) -> bool {
        self.0.kept()
    }

    #[getter]
    fn lengths<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let lengths = self.0.lengths();
        bytes(py, lengths.len(), lengths.iter().map(|n| n.to_ne_bytes()))
    }

    #[getter]
    fn numbers<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        if !self.0.kept() {
            return Ok(None);
        }
        let count = self.0.count();
        match self.0.values() {
            Values::Numbers(numbers) => {
                bytes(py, count, numbers.iter().map(|n| n.to_ne_bytes())).map(Some)
            }
            Values::Missing => {
                bytes(py, count, (0..count).map(|_| f64::NAN.to_ne_bytes())).map(Some)
            }
            Values::Texts(_) => Ok(None),
        }
    }

    #[getter]
    fn codes<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        match self.0.values() {
            Values::Texts(codes) if self.0.kept() => {
                bytes(py, codes.len(), codes.iter().map(|n| n.to_ne_bytes())).map(Some)
            }
            _ => Ok(None),
        }
    }

    #[getter]
    fn labels<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let labels: PyResult<Vec<_>> = self.0.labels().iter().map(|one| text(py, one)).collect();
        PyTuple::new(py, labels?)
    }

    #[getter]
    fn whole(&self) -> bool {
        self.0.whole()
    }

    #[getter]
    fn exact(&self) -> bool {
        self.0.exact()
    }

    #[getter]
    fn count(&self) -> usize {
        self.0.count()
    }

    #[getter]
    fn missing(&self) -> usize {
        self.0.missing()
    }

    #[getter]
    fn zeros(&self) -> usize {
        self.0.zeros()
    }

    #[getter]
    fn minimum(&self) -> Option<f64> {
        self.0.range().map(|(least, _)| least)
    }

    #[getter]
    fn maximum(&self) -> Option<f64> {
        self.0.range().map(|(_, greatest)| greatest)
    }

    #[getter]
    fn constant(&self) -> bool {
        self.0.constant()
    }
}

/// Numbers as Python's bytes, written where Python keeps them.
fn bytes<const N: usize>(
    py: Python<'_>,
    count: usize,
    numbers: impl Iterator<Item = [u8; N]>,
) -> PyResult<Bound<'_, PyBytes>> {
    let length = count.checked_mul(N).ok_or(Error::Memory)?;
    PyBytes::new_with(py, length, |room| {
        for (place, number) in room.as_chunks_mut::<N>().0.iter_mut().zip(numbers) {
            *place = number;
        }
        Ok(())
    })
}

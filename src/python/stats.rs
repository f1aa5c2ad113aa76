//! Readings as flat dicts, and the table of their keys.

use std::collections::HashMap;
use std::sync::LazyLock;

use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::Value;

use super::{made, serialised, text, to_python};
use crate::reading::Reading;
use crate::stats::{self, Key, PHASE_ROWS, Row, Spelling};

static PLAIN: LazyLock<Spelling> = LazyLock::new(Spelling::plain);

/// A window as it was at one time.
#[pyclass(name = "Taken", module = "lithowatt._core", frozen)]
pub struct PyTaken(pub Reading);

#[pymethods]
impl PyTaken {
    fn nested<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        serialised(py, &self.0)
    }

    /// One of the entries of `nested` that its readers ask for, made alone: all of them take ten
    /// times as long as most.
    fn part<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        macro_rules! part {
            ($($field:ident)*) => {
                match name {
                    $(stringify!($field) => serialised(py, &self.0.$field),)*
                    "model_source" => text(py, &self.0.model_source.to_string()),
                    _ => match self.0.counters.iter().find(|(of, _)| of.name() == name) {
                        Some((_, counted)) => serialised(py, counted),
                        None => Err(PyKeyError::new_err(name.to_owned())),
                    },
                }
            };
        }
        part! {
            allotted_cpus cpu_seconds duration ebpf gpu headline headline_reason interval label memory model
            notes phases running samples sandbox steal_seconds system system_reason verdict warnings
            window_ns zones
        }
    }

    fn flat<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        flat(py, &self.0, &PLAIN, false)
    }

    fn stats<'py>(
        &self,
        py: Python<'py>,
        spelling: &PySpelling,
        compact: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        flat(py, &self.0, &spelling.0, compact)
    }
}

/// How a framework's stats write the keys.
#[pyclass(name = "Spelling", module = "lithowatt._core", frozen)]
pub struct PySpelling(pub Spelling);

#[pymethods]
impl PySpelling {
    #[new]
    fn new(prefix: &str, renamed: HashMap<String, Vec<String>>) -> PyResult<Self> {
        Spelling::dialect(prefix, &renamed)
            .map(Self)
            .map_err(|name| PyValueError::new_err(format!("no key of the stats is {name:?}")))
    }
}

/// The entries of a reading as a dict.
pub fn flat<'py>(
    py: Python<'py>,
    reading: &Reading,
    spelling: &Spelling,
    compact: bool,
) -> PyResult<Bound<'py, PyDict>> {
    // SAFETY: a constructor without arguments.
    let dict = made(py, unsafe { ffi::PyDict_New() })?.cast_into::<PyDict>()?;
    stats::entries(reading, spelling, compact, |name, value: Value| {
        dict.set_item(text(py, name)?, to_python(py, &value)?)
    })?;
    Ok(dict)
}

type Columns = (
    &'static str,
    Option<&'static str>,
    &'static str,
    &'static str,
    Option<&'static str>,
    &'static str,
    bool,
);

/// The table: of each key `(name, unit, type, meaning, absent, group, in_stats)`; those of phases,
/// which have `<name>` in them, at the end.
#[pyfunction]
pub fn stats_keys() -> Vec<Columns> {
    let keys = Key::ALL.iter().map(|key| key.row());
    keys.chain(&PHASE_ROWS)
        .map(|row: &Row| {
            let absent = (!row.absent.is_empty()).then_some(row.absent);
            let (unit, kind) = (row.unit.symbol(), row.unit.kind());
            (
                row.name,
                unit,
                kind,
                row.meaning,
                absent,
                row.group,
                row.in_stats,
            )
        })
        .collect()
}

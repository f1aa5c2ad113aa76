//! The node agent and its ring.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::{methods_of, root_or_environment, serialised};
use crate::agent::groups::{Round, divide};
use crate::agent::guests::{DEFAULT_FOLDER, Wanted};
use crate::agent::{Agent, DEFAULT_RATE, LEAST_PUBLIC_QUANTUM_UJ, Options, Running};
use crate::cgroup::own;
use crate::clock;
use crate::error::Error;
use crate::source::Methods;
use crate::source::ring::{Ring, path_below};

/// Sees that nothing but a ring is at `path`, which is about to be replaced.
#[pyfunction]
pub(super) fn ring_may_be_replaced(path: PathBuf) -> PyResult<()> {
    Ok(crate::agent::writer::may_be_replaced(&path)?)
}

/// The agent, at work from its making until it is stopped.
#[pyclass(name = "Agent", module = "lithowatt._core", frozen)]
pub(super) struct PyAgent {
    running: Mutex<Running>,
}

impl PyAgent {
    fn running(&self) -> std::sync::MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// What `text_signature` below says.
const _: () = assert!(DEFAULT_RATE == 100.0 && LEAST_PUBLIC_QUANTUM_UJ == 1000);

#[pymethods]
impl PyAgent {
    #[new]
    #[pyo3(
        signature = (
            path, *, root = None, rate = DEFAULT_RATE, quantum_uj = LEAST_PUBLIC_QUANTUM_UJ,
            round = 1.0, group = None, methods = None, containers = true, node = String::new(),
            guests = Vec::new(), guest_folder = None,
        ),
        // Constants are `...` in the signature that pyo3 makes; the stub is compared with this one.
        text_signature = "(path, *, root=None, rate=100.0, quantum_uj=1000, round=1.0, group=None, \
                          methods='all', containers=True, node='', guests=(), guest_folder=None)"
    )]
    #[allow(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn new(
        path: PathBuf,
        root: Option<&Bound<'_, PyAny>>,
        rate: f64,
        quantum_uj: u64,
        round: f64,
        group: Option<u32>,
        methods: Option<&Bound<'_, PyAny>>,
        containers: bool,
        node: String,
        guests: Vec<String>,
        guest_folder: Option<PathBuf>,
    ) -> PyResult<Self> {
        let methods = methods.map_or(Ok(Methods::AUTO), methods_of)?;
        let guests = guests.iter().map(|text| Wanted::parse(text));
        let agent = Agent::open(Options {
            path,
            root: root_or_environment(root)?,
            rate,
            quantum_uj,
            round,
            group,
            methods,
            containers,
            node,
            guests: guests.collect::<Result<_, _>>()?,
            guest_folder: guest_folder.unwrap_or_else(|| DEFAULT_FOLDER.into()),
        })?;
        Ok(Self {
            running: Mutex::new(Running::start(agent)?),
        })
    }

    /// The state at the end of the last round.
    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let snapshot = self.running().snapshot();
        serialised(py, &snapshot)
    }

    #[getter]
    fn alive(&self) -> bool {
        self.running().is_alive()
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.running().stop());
    }
}

/// A ring, open for reading.
#[pyclass(name = "Ring", module = "lithowatt._core")]
pub(super) struct PyRing {
    ring: Ring,
    path: PathBuf,
    root: PathBuf,
}

#[pymethods]
impl PyRing {
    #[new]
    #[pyo3(signature = (path = None, root = None))]
    fn new(path: Option<PathBuf>, root: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let root = root_or_environment(root)?;
        let path = path.unwrap_or_else(|| path_below(&root));
        match Ring::open(&path, &root) {
            Ok(ring) => Ok(Self { ring, path, root }),
            Err(why) => Err(Error::Ring {
                reason: why.reason,
                fix: why.fix,
            }
            .into()),
        }
    }

    /// The ring's own header.
    fn header<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        serialised(py, self.ring.header())
    }

    /// The totals now, J by zone, with the age of the newest sample in s.
    fn look<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.ring
            .look(clock::monotonic_ns())
            .map_err(|fault| Error::Ring {
                reason: format!("{}: {fault}", self.path.display()),
                fix: None,
            })?;
        let mut values = Vec::new();
        self.ring.read(&mut values);
        let joules = PyDict::new(py);
        for (zone, value) in self.ring.zones().iter().zip(values) {
            joules.set_item(&zone.name, value.ok().map(|uj| uj as f64 * 1e-6))?;
        }
        let look = PyDict::new(py);
        look.set_item("number", self.ring.last().number)?;
        look.set_item("t_ns", self.ring.last().t_ns)?;
        look.set_item("age", self.ring.age_ns() as f64 * 1e-9)?;
        look.set_item(
            "idle_seconds",
            self.ring.idle_ns().map(|ns| ns as f64 * 1e-9),
        )?;
        look.set_item("resets", self.ring.resets())?;
        look.set_item("joules", joules)?;
        Ok(look)
    }

    /// Reads without making anything of it, as a meter does at its edges.
    fn touch(&mut self) -> bool {
        self.ring.look(clock::monotonic_ns()).is_ok()
    }

    /// The machine's account and the rows of all groups; `None` where no whole round is there.
    fn groups<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
        match self.ring.groups() {
            Some((account, rows)) => Ok(Some((serialised(py, &account)?, serialised(py, &rows)?))),
            None => Ok(None),
        }
    }

    /// Rows of the groups that this process is in, innermost first.
    fn own_groups<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let Some((_, rows)) = self.ring.groups() else {
            return Ok(PyList::empty(py).into_any());
        };
        let version = self.ring.header().cgroup_version;
        serialised(py, &own::rows_of(&self.root, version, &rows))
    }
}

/// Divides a machine's energy in J by CPU time in s: the parts of who used `own` seconds of the
/// machine's `busy`, and the rest, as the agent does at the end of a round.
#[pyfunction]
pub(super) fn divide_energy(joules: f64, idle: f64, own: Vec<f64>, busy: f64) -> (Vec<f64>, f64) {
    let whole = |value: f64, per: f64| (value * per).round().max(0.0) as u64;
    let round = Round {
        t_ns: 0,
        machine_uj: whole(joules, 1e6),
        idle_uj: whole(idle, 1e6),
        busy_ns: Some(whole(busy, 1e9)),
        idle_ns: None,
    };
    let own: Vec<u64> = own.into_iter().map(|s| whole(s, 1e9)).collect();
    let (parts, rest) = divide(&round, &own);
    let parts = parts.into_iter().map(|uj| uj as f64 / 1e6).collect();
    (parts, rest as f64 / 1e6)
}

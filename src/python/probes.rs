//! Kernel probes for the command line: loading, unloading, and every process at once.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::root_or_environment;
use crate::error::Error;
use crate::sampler;
use crate::source::Unavailable;
use crate::source::ebpf::layout::NONE;
use crate::source::ebpf::{self, Absent, Probes};

fn refused(why: Unavailable) -> PyErr {
    Error::Unavailable {
        reason: why.reason,
        fix: why.fix,
    }
    .into()
}

/// Loads the kernel probes and pins them for every process; what they see.
///
/// Raises `UnavailableError` where the kernel does not let this process.
#[pyfunction]
#[pyo3(signature = (root = None))]
pub fn load_probes(py: Python<'_>, root: Option<PathBuf>) -> PyResult<Vec<String>> {
    let root = root_or_environment(root);
    py.detach(|| sampler::load_probes(&root)).map_err(refused)
}

/// Takes the kernel probes of every version out again; the directories that were removed.
///
/// Raises `UnavailableError` where this process may not.
#[pyfunction]
#[pyo3(signature = (root = None))]
pub fn unload_probes(py: Python<'_>, root: Option<PathBuf>) -> PyResult<Vec<PathBuf>> {
    let root = root_or_environment(root);
    py.detach(|| ebpf::unload(&root)).map_err(refused)
}

/// Kernel probes that are loaded on this machine, open for reading.
///
/// Raises `UnavailableError` where there are none, with the command that loads them.
#[pyclass(name = "Probes", module = "lithowatt._core", frozen)]
#[derive(Debug)]
pub struct PyProbes {
    inner: Probes,
}

#[pymethods]
impl PyProbes {
    #[new]
    #[pyo3(signature = (root = None))]
    fn new(py: Python<'_>, root: Option<PathBuf>) -> PyResult<Self> {
        let root = root_or_environment(root);
        let inner = py
            .detach(|| Probes::open(&root, Absent::Leave))
            .map_err(refused)?;
        Ok(Self { inner })
    }

    /// Whether they still count.
    #[getter]
    fn alive(&self) -> bool {
        self.inner.is_alive()
    }

    /// What they see, in words.
    #[getter]
    fn gives(&self) -> Vec<String> {
        self.inner.gives()
    }

    /// Every living process that was seen, by its number in the kernel: `(tgid, parent's tgid, id of
    /// the cgroup, on-CPU ns, cycles)`; cycles are `None` where no PMU counts them, the cgroup where
    /// there is none of version 2. Counts start when the probes were loaded or the process began.
    #[allow(clippy::type_complexity, reason = "a tuple of five numbers")]
    fn processes(
        &self,
        py: Python<'_>,
    ) -> PyResult<Vec<(u32, u32, Option<u64>, u64, Option<u64>)>> {
        let all = py.detach(|| self.inner.processes()).map_err(refused)?;
        let cycles = self.inner.sees(ebpf::layout::FLAG_CYCLES);
        Ok(all
            .iter()
            .map(|p| {
                let cgroup = (p.cgroup != NONE && p.cgroup_id > 1).then_some(p.cgroup_id);
                (p.tgid, p.parent, cgroup, p.ns, cycles.then_some(p.cycles))
            })
            .collect())
    }

    /// What the processes of each of these cgroups, by id, used since it was first seen, the dead
    /// included and cgroups inside it not: `(on-CPU ns, cycles)`.
    fn cgroups(&self, py: Python<'_>, ids: Vec<u64>) -> Vec<Option<(u64, Option<u64>)>> {
        py.detach(|| {
            let used = |id: &u64| {
                let used = self.inner.used_by_cgroup_id(*id)?;
                Some((used.ns, used.cycles))
            };
            ids.iter().map(used).collect()
        })
    }

    /// What the CPUs of the machine did since the probes were loaded: `busy_ns`, `cycles`,
    /// `idle_ns`, `idle_transitions`, `frequency_changes`, `thermal_events`, `lost_slices`,
    /// `untracked_ns`.
    fn machine<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let machine = self.inner.machine();
        let dict = PyDict::new(py);
        dict.set_item("busy_ns", machine.busy.ns)?;
        dict.set_item("cycles", machine.busy.cycles)?;
        dict.set_item("idle_ns", machine.idle_ns)?;
        dict.set_item("idle_transitions", machine.idle_transitions)?;
        dict.set_item("frequency_changes", machine.frequency_changes)?;
        dict.set_item("thermal_events", machine.thermal_events)?;
        dict.set_item("lost_slices", machine.lost)?;
        dict.set_item("untracked_ns", machine.untracked_ns)?;
        Ok(dict)
    }
}

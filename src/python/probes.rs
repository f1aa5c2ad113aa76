//! Kernel probes for the command line: loading, unloading, and every process at once.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::root_or_environment;
use crate::attribution::edge_error_ns;
use crate::bands::{Share, Systematic};
use crate::error::Error;
use crate::reading::{Bands, Energy};
use crate::sampler;
use crate::sampler::weight;
use crate::source::Unavailable;
use crate::source::ebpf::layout::NONE;
use crate::source::ebpf::{self, Absent, Probes, Used};

/// On-CPU time in ns; cycles, `None` where no PMU counts them; the part of the time beside a busy
/// sibling thread in ns; cycles that frequency x time comes to, of the time at a known frequency;
/// that time in ns.
type Use = (u64, Option<u64>, u64, f64, u64);

fn handed(used: &Used) -> Use {
    (
        used.ns,
        used.cycles,
        used.shared_ns,
        used.scaled,
        used.scaled_ns,
    )
}

fn taken((ns, cycles, shared_ns, scaled, scaled_ns): Use) -> Used {
    Used {
        ns,
        shared_ns,
        cycles,
        instructions: None,
        scaled,
        scaled_ns,
    }
}

/// What each of `uses` weighs when the machine's energy is shared, what all that ran (`machine`)
/// weighs, and what the weights are, in words: as a meter weighs its function. `siblings`: whether
/// cores have two hardware threads.
#[pyfunction]
pub fn weigh(uses: Vec<Use>, machine: Use, siblings: bool) -> (Vec<f64>, f64, &'static str) {
    let busy = taken(machine);
    let unit = weight::unit(None, &busy);
    let of = |used: &Used| weight::weigh(used, &busy, unit, siblings);
    let weights = uses.into_iter().map(|used| of(&taken(used))).collect();
    (weights, of(&busy), unit.name())
}

/// A best estimate and the ends of its 95 % band, J.
type Band = (f64, f64, f64);

/// The joules above idle of those that had `shares` (0..1) of `busy_ns` of CPU time, as kernel
/// probes `seen` it or the kernel's clocks: as a meter charges its function. `together`: machine and
/// idle are one model's. `spread`: how much more a CPU-second of one may cost than another's.
#[pyfunction]
#[pyo3(signature = (machine, idle, together, shares, busy_ns, seen, spread))]
pub fn parts_above_idle(
    machine: Band,
    idle: Band,
    together: bool,
    shares: Vec<f64>,
    busy_ns: Option<f64>,
    seen: bool,
    spread: f64,
) -> Vec<Band> {
    let energy = |(joules, low, high): Band| Energy { joules, low, high };
    let bands = Bands {
        machine: energy(machine),
        idle: energy(idle),
        together,
        systematic: Systematic::default(),
    };
    let (busy, step) = match busy_ns {
        Some(ns) => (ns, edge_error_ns(seen)),
        None => (1.0, f64::INFINITY),
    };
    let part = |share: f64| {
        if share > 0.0 {
            let part = bands.part(Share::of(share.min(1.0), busy, step, spread));
            (part.joules, part.low, part.high)
        } else {
            (0.0, 0.0, 0.0)
        }
    };
    shares.into_iter().map(part).collect()
}

/// How much more or less a CPU-second of one program may cost than one of another, below `root`.
#[pyfunction]
#[pyo3(signature = (root = None))]
pub fn workload_spread(root: Option<&Bound<'_, PyAny>>) -> PyResult<f64> {
    let root = root_or_environment(root)?;
    Ok(crate::machine::facts::Facts::of(&root)
        .model
        .workload_spread())
}

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
pub fn load_probes(py: Python<'_>, root: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<String>> {
    let root = root_or_environment(root)?;
    py.detach(|| sampler::load_probes(&root)).map_err(refused)
}

/// Takes the kernel probes of every version out again; the directories that were removed.
///
/// Raises `UnavailableError` where this process may not.
#[pyfunction]
#[pyo3(signature = (root = None))]
pub fn unload_probes(py: Python<'_>, root: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<PathBuf>> {
    let root = root_or_environment(root)?;
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
    fn new(py: Python<'_>, root: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let root = root_or_environment(root)?;
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

    /// Whether cores have two hardware threads.
    #[getter]
    fn siblings(&self) -> bool {
        self.inner.has_siblings()
    }

    /// Every living process that was seen, by its number in the kernel: `(tgid, parent's tgid, id of
    /// the cgroup, what it used)`, the cgroup `None` where there is none of version 2. Counts start
    /// when the probes were loaded or the process began.
    #[allow(clippy::type_complexity, reason = "a tuple of four")]
    fn processes(&self, py: Python<'_>) -> PyResult<Vec<(u32, u32, Option<u64>, Use)>> {
        let all = py.detach(|| self.inner.processes()).map_err(refused)?;
        Ok(all
            .iter()
            .map(|(p, used)| {
                let cgroup = (p.cgroup != NONE && p.cgroup_id > 1).then_some(p.cgroup_id);
                (p.tgid, p.parent, cgroup, handed(used))
            })
            .collect())
    }

    /// What the processes of each of these cgroups, by id, used since it was first seen, the dead
    /// included and cgroups inside it not.
    fn cgroups(&self, py: Python<'_>, ids: Vec<u64>) -> Vec<Option<Use>> {
        py.detach(|| {
            let used = |id: &u64| self.inner.used_by_cgroup_id(*id).as_ref().map(handed);
            ids.iter().map(used).collect()
        })
    }

    /// What the CPUs of the machine did since the probes were loaded: `used`, and of it `busy_ns`
    /// and `cycles`; `idle_ns`, `idle_transitions`, `frequency_changes`, `thermal_events`, `lost_slices`,
    /// `untracked_ns`.
    fn machine<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let machine = self.inner.machine();
        let dict = PyDict::new(py);
        dict.set_item("used", handed(&machine.busy))?;
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

//! The power model for Python.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::machine::facts::Facts;
use crate::model::{self, PowerModel};

/// The curve from load to watts of one processor, or of a Lambda sandbox's share of one.
#[pyclass(name = "PowerModel", module = "lithowatt._core", frozen)]
pub struct PyPowerModel {
    inner: PowerModel,
}

type Parts = (f64, f64, f64, String);

/// A best estimate and the ends of its 95 % band.
type Band = (f64, f64, f64);

#[pymethods]
impl PyPowerModel {
    #[staticmethod]
    #[pyo3(signature = (name, logical_cpus = None, sockets = None))]
    fn raw_for_cpu(name: &str, logical_cpus: Option<u32>, sockets: Option<u32>) -> Self {
        Self {
            inner: PowerModel::for_cpu(name, logical_cpus, sockets),
        }
    }

    #[staticmethod]
    #[pyo3(signature = (root = None))]
    fn raw_for_machine(root: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let root = super::root_or_environment(root)?;
        Ok(Self {
            inner: Facts::provisional(&root).model.clone(),
        })
    }

    #[staticmethod]
    #[pyo3(signature = (memory_mb, architecture, cpu_name = None))]
    fn raw_for_lambda(memory_mb: u32, architecture: &str, cpu_name: Option<&str>) -> Self {
        Self {
            inner: PowerModel::for_lambda(memory_mb, architecture, cpu_name),
        }
    }

    #[pyo3(signature = (load_percent, cores_used = None, frequency_mhz = None))]
    fn raw_watts(
        &self,
        load_percent: f64,
        cores_used: Option<u32>,
        frequency_mhz: Option<f64>,
    ) -> PyResult<Parts> {
        let estimate = self
            .inner
            .watts(load_percent, cores_used, frequency_mhz)
            .map_err(|e| PyValueError::new_err(e.to_string()))?;
        Ok((estimate.value, estimate.low, estimate.high, estimate.source))
    }

    fn raw_vcpus_watts(&self, vcpus: f64, busy_vcpus: f64) -> Parts {
        let total = self.inner.vcpus_watts(vcpus, busy_vcpus).total;
        (total.value, total.low, total.high, total.source)
    }

    /// Watts of a share, memory included, by an estimation method, and the method's name: all of
    /// them, those at rest, and those above rest, each with its band.
    fn raw_share_power(
        &self,
        estimation: &str,
        vcpus: f64,
        busy_vcpus: f64,
        memory_gib: Option<f64>,
    ) -> PyResult<(Band, Band, Band, String)> {
        let estimation = super::named_estimation(estimation)?;
        let power = estimation.power(&self.inner, vcpus, busy_vcpus, memory_gib);
        let banded = |value: f64, (low, high): (f64, f64)| (value, low, high);
        Ok((
            banded(power.total(), power.band()),
            banded(power.idle, power.idle_band),
            banded(power.active(), power.active_band),
            estimation.method(&self.inner),
        ))
    }

    /// The first of these alone, and the method's name: what evaluations outside of this project ask.
    fn raw_estimation(
        &self,
        estimation: &str,
        vcpus: f64,
        busy_vcpus: f64,
        memory_gib: Option<f64>,
    ) -> PyResult<Parts> {
        let ((value, low, high), .., method) =
            self.raw_share_power(estimation, vcpus, busy_vcpus, memory_gib)?;
        Ok((value, low, high, method))
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn tdp(&self) -> (Option<f64>, String) {
        self.inner.tdp()
    }

    fn assumptions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        super::serialised(py, &self.inner.assumptions())
    }
}

/// vCPUs that so many MB (MiB) of memory buy on AWS Lambda.
#[pyfunction]
pub fn lambda_vcpus(memory_mb: f64) -> f64 {
    model::lambda::vcpus(memory_mb)
}

/// Energy by the method `tdp`: TDP × CPU percent × time, J.
#[pyfunction]
pub fn tdp_energy(cpu_percent: f64, seconds: f64, tdp_watts: f64) -> f64 {
    model::tdp_energy(cpu_percent, seconds, tdp_watts)
}

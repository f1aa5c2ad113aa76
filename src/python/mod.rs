//! The bindings: convert, map errors. What a number means is decided elsewhere.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::{PyMemoryError, PyOverflowError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyList, PyString, PyTuple};
use serde_json::Value;

use crate::definition::Definition;
use crate::error::Error;
use crate::error::INTERVALS;
use crate::machine::facts::IdleSource;
use crate::meter::{Meter, Options, Scope};
use crate::model::estimation::Estimation;
use crate::model::fit;
use crate::reading::Reading;
use crate::source::procfs::{cpu_vendor, is_amd};
use crate::source::rapl::Rapl;
use crate::source::{Domain, EnergyCounter, Methods};
use crate::{calibration, machine, memory, timeline, validate};

mod agent;
mod channel;
mod distributions;
mod model;
mod probes;
mod profile;
mod reference;
mod stats;
mod trace;
mod wrapper;

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        if matches!(error, Error::Memory) {
            return PyMemoryError::new_err(error.to_string());
        }
        Python::attach(|py| {
            let class = py
                .import("lithowatt.errors")
                .and_then(|module| module.getattr(error.python_name()));
            match class {
                Ok(class) => class
                    .call1((error.to_string(),))
                    .map_or_else(|e| e, PyErr::from_value),
                Err(_) => PyRuntimeError::new_err(error.to_string()),
            }
        })
    }
}

/// A new object of the C API's, or the error that Python set: `MemoryError` for the most part. The
/// constructors of pyo3 panic there.
fn made(py: Python<'_>, object: *mut ffi::PyObject) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: only called with what a constructor of the C API has just returned: a reference that
    // is ours, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, object) }
}

fn length(n: usize) -> PyResult<ffi::Py_ssize_t> {
    ffi::Py_ssize_t::try_from(n).map_err(|_| PyErr::from(Error::Memory))
}

fn text<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    let bytes = length(text.len())?;
    // SAFETY: the bytes are UTF-8, and their number is the one returned.
    made(py, unsafe {
        ffi::PyUnicode_FromStringAndSize(text.as_ptr().cast(), bytes)
    })
}

fn number<'py>(py: Python<'py>, n: &serde_json::Number) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: constructors that take plain values.
    made(py, unsafe {
        match (n.as_u64(), n.as_i64()) {
            (Some(u), _) => ffi::PyLong_FromUnsignedLongLong(u),
            (None, Some(i)) => ffi::PyLong_FromLongLong(i),
            (None, None) => ffi::PyFloat_FromDouble(n.as_f64().unwrap_or(f64::NAN)),
        }
    })
}

/// JSON as Python objects.
fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    match value {
        Value::Null => Ok(py.None().into_bound(py)),
        Value::Bool(b) => Ok(b.into_pyobject(py)?.to_owned().into_any()),
        Value::Number(n) => number(py, n),
        Value::String(s) => text(py, s),
        Value::Array(items) => {
            // SAFETY: a constructor that takes a plain value.
            let list = made(py, unsafe { ffi::PyList_New(0) })?.cast_into::<PyList>()?;
            for item in items {
                list.append(to_python(py, item)?)?;
            }
            Ok(list.into_any())
        }
        Value::Object(map) => Ok(dict(py, map)?.into_any()),
    }
}

fn dict<'py>(
    py: Python<'py>,
    map: &serde_json::Map<String, Value>,
) -> PyResult<Bound<'py, PyDict>> {
    // SAFETY: a constructor without arguments.
    let dict = made(py, unsafe { ffi::PyDict_New() })?.cast_into::<PyDict>()?;
    for (key, value) in map {
        dict.set_item(text(py, key)?, to_python(py, value)?)?;
    }
    Ok(dict)
}

/// Any serialisable value as Python objects.
fn serialised<'py>(py: Python<'py>, value: &impl serde::Serialize) -> PyResult<Bound<'py, PyAny>> {
    let value = serde_json::to_value(value).map_err(|e| PyRuntimeError::new_err(e.to_string()))?;
    to_python(py, &value)
}

/// A name or a sequence of names, in whatever takes them; commas separate names, too. The name
/// `auto`, alone or among others, and no name at all stand for the environment's; `all` does not
/// ask it.
fn methods_of(given: &Bound<'_, PyAny>) -> PyResult<Methods> {
    let texts: Vec<String> = match given.extract::<String>() {
        Ok(text) => vec![text],
        Err(_) => given
            .extract()
            .map_err(|_| wrong_type("methods", "a string or a sequence of strings", given))?,
    };
    let (auto, named): (Vec<_>, Vec<_>) = texts
        .iter()
        .flat_map(|text| split(text))
        .partition(|name| name.eq_ignore_ascii_case("auto"));
    let wanted = if named.is_empty() {
        Methods::none()
    } else {
        Methods::parse(&named)?
    };
    if auto.is_empty() && !named.is_empty() {
        return Ok(wanted);
    }
    Ok(wanted.union(methods_from_environment()?))
}

/// The methods were left to whoever knows.
fn is_auto(given: &Bound<'_, PyAny>) -> bool {
    given.extract::<String>().is_ok_and(|name| name == "auto")
}

fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
}

fn methods_from_environment() -> PyResult<Methods> {
    match variable("ENERGY_METHODS")? {
        Some(text) => Ok(Methods::parse(split(&text)).map_err(|error| match error {
            Error::UnknownMethod { given, .. } => Error::UnknownMethod {
                given,
                place: " in $ENERGY_METHODS",
            },
            other => other,
        })?),
        None => Ok(Methods::AUTO),
    }
}

/// A `TypeError` that names the option, what is accepted and what was given.
fn wrong_type(option: &str, accepted: &str, given: &Bound<'_, PyAny>) -> PyErr {
    let given = shown(given);
    PyTypeError::new_err(format!("{option} must be {accepted}, not {given}"))
}

/// What was given, as Python shows it, cut to 80 characters.
fn shown(given: &Bound<'_, PyAny>) -> String {
    given
        .repr()
        .map_or_else(|_| "?".to_owned(), |r| r.to_string())
        .chars()
        .take(80)
        .collect()
}

/// Seconds; `"auto"` stands for the environment's, `None` for no samples between the edges.
fn interval_of(given: Option<&Bound<'_, PyAny>>) -> PyResult<Option<f64>> {
    let Some(given) = given else { return Ok(None) };
    if let Ok(text) = given.cast::<PyString>() {
        if text == "auto" {
            return interval_from_environment();
        }
        let given = shown(given);
        return Err(Error::InvalidInterval { given }.into());
    }
    match given.extract::<f64>() {
        Ok(seconds) if !given.is_instance_of::<PyBool>() => Ok(Some(seconds)),
        Err(e) if e.is_instance_of::<PyOverflowError>(given.py()) => {
            let given = shown(given);
            Err(Error::InvalidInterval { given }.into())
        }
        _ => Err(wrong_type("interval", INTERVALS, given)),
    }
}

fn estimation_of(given: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Estimation>> {
    let Some(given) = given else { return Ok(None) };
    let name = text_of("estimation", given)?;
    Ok(Some(named_estimation(&name)?))
}

fn named_estimation(name: &str) -> PyResult<Estimation> {
    Estimation::parse(name).ok_or_else(|| {
        let given = name.chars().take(64).collect();
        Error::UnknownEstimation { given }.into()
    })
}

fn definition_of(given: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Definition>> {
    let Some(given) = given else {
        return definition_from_environment();
    };
    let name = text_of("definition", given)?;
    let found = Definition::parse(&name).ok_or_else(|| Error::UnknownDefinition {
        given: name.chars().take(64).collect(),
    })?;
    Ok(Some(found))
}

/// `ENERGY_DEFINITION`; where it is not set, the surroundings decide.
fn definition_from_environment() -> PyResult<Option<Definition>> {
    let name = "ENERGY_DEFINITION";
    let Some(text) = variable(name)? else {
        return Ok(None);
    };
    match Definition::parse(&text) {
        Some(found) => Ok(Some(found)),
        None => Err(bad_variable(name, &text, "\"marginal\" or \"amortised\"")),
    }
}

fn pids_of(given: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<i64>> {
    let Some(given) = given else {
        return Ok(Vec::new());
    };
    let accepted = "a whole number, several in a list, or None";
    let pid = |one: &Bound<'_, PyAny>| match one.extract::<i64>() {
        Ok(pid) if !one.is_instance_of::<PyBool>() => Ok(pid),
        Err(e) if e.is_instance_of::<PyOverflowError>(one.py()) => Err(Error::NoSuchProcess {
            pid: one.to_string().chars().take(64).collect(),
        }
        .into()),
        _ => Err(wrong_type("pid", accepted, given)),
    };
    match several(given) {
        Some(all) if all.is_empty() => Err(wrong_type("pid", accepted, given)),
        Some(all) => all.iter().map(pid).collect(),
        None => Ok(vec![pid(given)?]),
    }
}

fn cgroups_of(given: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<PathBuf>> {
    let Some(given) = given else {
        return Ok(Vec::new());
    };
    let accepted = "a path, a pattern, unit:NAME or job:ID, or several in a list";
    match several(given) {
        Some(all) if all.is_empty() => Err(wrong_type("cgroup", accepted, given)),
        Some(all) => all.iter().map(|one| path_of("cgroup", one)).collect(),
        None => Ok(vec![path_of("cgroup", given)?]),
    }
}

/// What is in a list or a tuple; `None` where it is neither.
fn several<'py>(given: &Bound<'py, PyAny>) -> Option<Vec<Bound<'py, PyAny>>> {
    let listed = given.is_instance_of::<PyList>() || given.is_instance_of::<PyTuple>();
    listed.then(|| given.try_iter().ok()?.collect::<PyResult<_>>().ok())?
}

fn text_of(option: &str, given: &Bound<'_, PyAny>) -> PyResult<String> {
    given
        .extract()
        .map_err(|_| wrong_type(option, "a string without lone surrogates", given))
}

fn switch_of(option: &str, given: &Bound<'_, PyAny>) -> PyResult<bool> {
    given
        .extract()
        .map_err(|_| wrong_type(option, "True or False", given))
}

fn path_of(option: &str, given: &Bound<'_, PyAny>) -> PyResult<PathBuf> {
    given
        .extract()
        .map_err(|_| wrong_type(option, "a path as a str or an os.PathLike of one", given))
}

/// A variable that is set to something; empty counts as not set, as in YAML.
fn variable(name: &'static str) -> PyResult<Option<String>> {
    match std::env::var_os(name) {
        None => Ok(None),
        Some(text) if text.is_empty() => Ok(None),
        Some(text) => match text.into_string() {
            Ok(text) => Ok(Some(text)),
            Err(raw) => Err(bad_variable(name, &raw.to_string_lossy(), "text in UTF-8")),
        },
    }
}

fn bad_variable(name: &str, given: &str, expected: &'static str) -> PyErr {
    let path = PathBuf::from(format!("${name}"));
    Error::malformed(&path, given, expected).into()
}

/// `ENERGY_COLLECTION_INTERVAL`, milliseconds, in s; `off` is `None`.
fn interval_from_environment() -> PyResult<Option<f64>> {
    let name = "ENERGY_COLLECTION_INTERVAL";
    let Some(text) = variable(name)? else {
        return Ok(Some(0.1));
    };
    let text = text.trim();
    if text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    match text.parse::<f64>() {
        Ok(ms) if (1.0..=3_600_000.0).contains(&ms) => Ok(Some(ms / 1000.0)),
        _ => Err(bad_variable(
            name,
            text,
            "a number of milliseconds from 1 to 3600000, or off",
        )),
    }
}

/// Whether `ENERGY_MONITORING_ENABLED` switches metering off.
fn enabled_by_environment() -> bool {
    std::env::var("ENERGY_MONITORING_ENABLED").map_or(true, |text| {
        !matches!(
            text.trim().to_ascii_lowercase().as_str(),
            "false" | "0" | "no" | "off"
        )
    })
}

fn root_or_environment(root: Option<&Bound<'_, PyAny>>) -> PyResult<PathBuf> {
    let Some(given) = root else {
        let set = std::env::var_os("LITHOWATT_ROOT").filter(|text| !text.is_empty());
        return Ok(set.map_or_else(|| PathBuf::from("/"), PathBuf::from));
    };
    let root = path_of("root", given)?;
    if root.as_os_str().is_empty() {
        return Err(Error::EmptyRoot.into());
    }
    Ok(root)
}

/// The meter's engine; `lithowatt.EnergyMeter` is its Python face.
///
/// Threads may share a meter: one copies or reads it while another starts or stops it. So each
/// method takes what it needs under a lock, and makes Python's objects after it has let go of it.
/// Whoever holds the lock neither calls Python nor gives up the GIL: nobody waits for it while
/// another thread runs Python code.
#[pyclass(name = "Meter", module = "lithowatt._core", frozen)]
struct PyMeter(Mutex<Labelled>);

struct Labelled {
    meter: Meter,
    label: Option<String>,
    function: Function,
}

/// The one function that a meter's window is of, by [`PyMeter::begin`] and [`PyMeter::finish`].
#[derive(Clone, Copy, PartialEq)]
enum Function {
    None,
    /// In this process, and in no child that it forks.
    Running(u32),
    Ended(u32),
}

impl PyMeter {
    fn with<T>(&self, f: impl FnOnce(&mut Labelled) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn reading(&self) -> Result<Reading, Error> {
        self.with(|own| own.meter.reading(own.label.as_deref()))
    }
}

#[pymethods]
impl PyMeter {
    #[new]
    #[pyo3(signature = (
        methods, *, interval, pid = None, children, scope = None, cgroup = None,
        label = None, root = None, enabled = None, estimation = None, definition = None,
        absent = None, record = false, replay = None,
    ))]
    #[allow(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn new(
        methods: &Bound<'_, PyAny>,
        interval: Option<&Bound<'_, PyAny>>,
        pid: Option<&Bound<'_, PyAny>>,
        children: &Bound<'_, PyAny>,
        scope: Option<&Bound<'_, PyAny>>,
        cgroup: Option<&Bound<'_, PyAny>>,
        label: Option<&Bound<'_, PyAny>>,
        root: Option<&Bound<'_, PyAny>>,
        enabled: Option<&Bound<'_, PyAny>>,
        estimation: Option<&Bound<'_, PyAny>>,
        definition: Option<&Bound<'_, PyAny>>,
        absent: Option<String>,
        record: bool,
        replay: Option<PyRef<'_, trace::PyReplay>>,
    ) -> PyResult<Self> {
        let replay = replay.map(|given| given.0.clone());
        let scope = match scope {
            Some(given) => Scope::parse(&text_of("scope", given)?)?,
            None => Scope::Process,
        };
        let label = label.map(|given| text_of("label", given)).transpose()?;
        let options = Options {
            methods: match &replay {
                // The environment's words are for this machine.
                Some(recorded) if is_auto(methods) => Methods::of(&recorded.trace.header.methods),
                _ => methods_of(methods)?,
            },
            interval: interval_of(interval)?,
            pids: pids_of(pid)?,
            children: switch_of("children", children)?,
            scope,
            cgroups: cgroups_of(cgroup)?,
            root: root_or_environment(root)?,
            enabled: enabled
                .map(|given| switch_of("enabled", given))
                .transpose()?
                .unwrap_or_else(|| replay.is_some() || enabled_by_environment()),
            estimation: estimation_of(estimation)?,
            definition: match definition {
                None if replay.is_some() => None,
                given => definition_of(given)?,
            },
            absent,
            record,
            replay,
        };
        let meter = Meter::new(options)?;
        let own = Labelled {
            meter,
            label,
            function: Function::None,
        };
        Ok(Self(Mutex::new(own)))
    }

    // The GIL is kept on purpose: start and stop take microseconds, and giving it up could cost a
    // busy program one of its 5 ms switch intervals to get it back.
    fn start(&self) -> PyResult<()> {
        Ok(self.with(|own| own.meter.start())?)
    }

    fn stop(&self) -> PyResult<()> {
        Ok(self.with(|own| own.meter.stop())?)
    }

    fn prepare(&self) {
        self.with(|own| own.meter.prepare());
    }

    /// In a process that was forked to run one function: prepares, and gives the wrapper made before
    /// the fork that function. Here and not in Python, of which a fresh fork would touch more pages.
    fn prepare_for(
        &self,
        function: &Bound<'_, PyAny>,
        wrapper: &Bound<'_, PyAny>,
        cell: &Bound<'_, PyAny>,
        names: &Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        self.prepare();
        cell.setattr(intern!(cell.py(), "cell_contents"), function)?;
        wrapper::update(wrapper, function, names)
    }

    fn expect(&self) {
        self.with(|own| own.meter.expect());
    }

    fn hand_over<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        let bytes = self.with(|own| own.meter.hand_over())?;
        Some(PyBytes::new(py, &bytes))
    }

    /// Stops, and leaves the window in the channel. False where that cannot be.
    fn leave(&self, channel: &channel::PyChannel) -> PyResult<bool> {
        self.with(|own| {
            let hub = own.meter.hub_of_ended();
            own.meter.stop()?;
            let window = own.meter.hand_over();
            let left = window.is_some_and(|bytes| channel.0.write(&bytes));
            // The process's end would wait for it.
            if let Some(hub) = hub {
                hub.end_thread();
            }
            Ok(left)
        })
    }

    fn receive(&self, window: &[u8]) -> bool {
        self.with(|own| own.meter.receive(window))
    }

    /// The function begins: notes that in the channel, if any, and starts. Once; then without effect.
    fn begin(&self, channel: Option<&channel::PyChannel>) -> PyResult<()> {
        self.with(|own| {
            if own.function != Function::None {
                return Ok(());
            }
            if let Some(channel) = channel {
                channel.0.mark_started();
            }
            own.meter.start()?;
            own.function = Function::Running(std::process::id());
            Ok(())
        })
    }

    /// The function has ended. Without effect in a child that it forked, and where it did not begin.
    fn finish(&self) -> PyResult<()> {
        self.with(|own| {
            let here = std::process::id();
            if own.function != Function::Running(here) {
                return Ok(());
            }
            // In no process, if that fails.
            own.function = Function::Ended(0);
            own.meter.end()?;
            own.function = Function::Ended(here);
            Ok(())
        })
    }

    /// Whether the function has ended, in this process.
    #[getter]
    fn finished(&self) -> bool {
        self.with(|own| own.function == Function::Ended(std::process::id()))
    }

    #[getter]
    fn running(&self) -> bool {
        self.with(|own| own.meter.is_running())
    }

    #[getter]
    fn label(&self) -> Option<String> {
        self.with(|own| own.label.clone())
    }

    #[setter]
    fn set_label(&self, label: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let label = label.map(|given| text_of("label", given)).transpose()?;
        self.with(|own| own.label = label);
        Ok(())
    }

    fn resume(&self) {
        self.with(|own| own.meter.resume());
    }

    fn suspend(&self) {
        self.with(|own| own.meter.suspend());
    }

    fn enter_phase(&self, name: &str) -> bool {
        self.with(|own| own.meter.enter_phase(name))
    }

    fn leave_phase(&self, name: &str) -> bool {
        self.with(|own| own.meter.leave_phase(name))
    }

    /// The window as it is now, to be asked for its forms.
    fn taken(&self) -> PyResult<stats::PyTaken> {
        Ok(stats::PyTaken(self.reading()?))
    }

    /// What the last window came to by a definition, else by its own, as a tuple: joules, low, high,
    /// seconds, quality, joules above idle and CPU seconds. `None` where it has no energy.
    ///
    /// Alone, and without Python objects for the rest of a reading: a worker asks it for each call.
    #[pyo3(signature = (definition = None))]
    fn energy(&self, definition: Option<&str>) -> PyResult<Option<Brief>> {
        let reading = self.reading()?;
        let Some(headline) = &reading.headline else {
            return Ok(None);
        };
        let asked = definition.and_then(Definition::parse);
        let energy = match asked.is_some_and(|asked| asked != headline.definition) {
            true => &headline.other,
            false => &headline.energy,
        };
        Ok(Some((
            energy.joules,
            energy.low,
            energy.high,
            reading.duration,
            headline.quality.name(),
            headline.division.marginal,
            reading.cpu_seconds,
        )))
    }

    fn raw_stats_json<'py>(
        &self,
        py: Python<'py>,
        spelling: &stats::PySpelling,
        compact: bool,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let reading = self.reading()?;
        let text = crate::stats::to_json(&reading, &spelling.0, compact)
            .map_err(|e| PyRuntimeError::new_err(format!("stats do not serialise: {e}")))?;
        PyBytes::new_with(py, text.len(), |bytes| {
            bytes.copy_from_slice(&text);
            Ok(())
        })
    }

    /// What was recorded since this was last asked: blocks of rows.
    fn take_blocks<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        let blocks = self.with(|own| own.meter.take_blocks());
        blocks.iter().map(|block| PyBytes::new(py, block)).collect()
    }

    /// What does not change within the recorded window, as JSON; `None` before it ended.
    fn trace_header(&self) -> PyResult<Option<String>> {
        let header = self.with(|own| own.meter.header());
        let text = header
            .map(|header| serde_json::to_string(&header))
            .transpose();
        text.map_err(|e| PyRuntimeError::new_err(e.to_string()))
    }

    /// The samples as bytes, little-endian: NumPy is not needed to copy a meter.
    fn raw_timeline<'py>(&self, py: Python<'py>) -> PyResult<Option<RawTimeline<'py>>> {
        let Some((line, names)) = self.with(|own| own.meter.timeline())? else {
            return Ok(None);
        };
        if memory::is_short_of(3 * line.bytes()) {
            return Err(Error::Memory.into());
        }
        let rows = line.times_ns().len();
        let times = little_endian(py, rows, line.times_ns().iter().map(|t| t.to_le_bytes()))?;
        let columns = (0..names.len()).flat_map(|column| line.column(column));
        let values = columns.map(f64::to_le_bytes);
        let values = little_endian(py, rows * names.len(), values)?;
        Ok(Some((times, values, names)))
    }
}

/// See [`PyMeter::energy`].
type Brief = (f64, f64, f64, f64, &'static str, f64, Option<f64>);

/// Times in ns, the columns one after the other, and their names.
type RawTimeline<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>, Vec<String>);

fn little_endian(
    py: Python<'_>,
    count: usize,
    numbers: impl Iterator<Item = [u8; 8]>,
) -> PyResult<Bound<'_, PyBytes>> {
    PyBytes::new_with(py, 8 * count, |bytes| {
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number);
        }
        Ok(())
    })
}

/// What can be measured below `root`: one dict for each of `methods`.
#[pyfunction]
#[pyo3(signature = (root = None, methods = None, *, waits = true))]
fn doctor<'py>(
    py: Python<'py>,
    root: Option<&Bound<'py, PyAny>>,
    methods: Option<Vec<String>>,
    waits: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let root = root_or_environment(root)?;
    if let Err(source) = crate::sampler::require_directory(&root) {
        return Err(Error::Io { path: root, source }.into());
    }
    let methods = match methods {
        Some(names) => Methods::parse(names)?,
        None => Methods::AUTO,
    };
    let findings = py.detach(|| crate::doctor::examine(&root, methods, waits));
    serialised(py, &findings)
}

/// The processor below `root`.
#[pyfunction]
#[pyo3(signature = (root = None))]
fn cpu_identity<'py>(
    py: Python<'py>,
    root: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let root = root_or_environment(root)?;
    serialised(py, &machine::cpu::CpuIdentity::read(&root))
}

/// What the counters of packages and of cores show now, J; `None` where not all can be read.
#[pyfunction]
#[pyo3(signature = (root = None))]
fn rapl_now(
    py: Python<'_>,
    root: Option<&Bound<'_, PyAny>>,
) -> PyResult<(Option<f64>, Option<f64>)> {
    let root = root_or_environment(root)?;
    Ok(py.detach(|| {
        let Ok(mut rapl) = Rapl::open(&root) else {
            return (None, None);
        };
        if cpu_vendor(&root).is_some_and(|vendor| is_amd(&vendor)) {
            rapl.leave_out_mirrors();
        }
        (rapl.now(Domain::Package), rapl.now(Domain::Core))
    }))
}

/// Container, limits and instance type below `root`, looked at anew.
#[pyfunction]
#[pyo3(signature = (root = None))]
fn surroundings<'py>(
    py: Python<'py>,
    root: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let root = root_or_environment(root)?;
    let cpus = crate::source::procfs::online_cpus(&root);
    serialised(py, &machine::environment::Environment::read(&root, cpus))
}

/// Whether this process is in an AWS Lambda sandbox.
#[pyfunction]
fn in_lambda() -> bool {
    machine::service::in_lambda()
}

/// CPU time of a process that nobody has waited for yet, s; `None` when it is gone.
#[pyfunction]
fn process_cpu_seconds(pid: i32) -> Option<f64> {
    crate::clock::process_cpu_ns(pid).map(|ns| ns as f64 * 1e-9)
}

/// The directories that a meter with this `cgroup` would follow now.
#[pyfunction]
#[pyo3(signature = (cgroup, root = None))]
fn find_cgroups(
    cgroup: &Bound<'_, PyAny>,
    root: Option<&Bound<'_, PyAny>>,
) -> PyResult<Vec<PathBuf>> {
    let (given, root) = (cgroups_of(Some(cgroup))?, root_or_environment(root)?);
    Ok(crate::cgroup::wanted::Wanted::new(&root, &given).find()?)
}

/// What the cgroup at `path` is: kind and name. The name is not to be trusted by a terminal.
#[pyfunction]
fn place_of_cgroup(path: &str) -> (&'static str, String) {
    let place = crate::cgroup::identity::place_of(path);
    (place.kind, place.name)
}

/// Relative difference of two energies, against the larger.
#[pyfunction]
fn relative_difference(a: f64, b: f64) -> Option<f64> {
    validate::relative_difference(a, b)
}

/// Growth of a cumulative series between two times, interpolated; `None` outside of it.
#[pyfunction]
fn integrate(
    times_ns: Vec<i64>,
    values: Vec<f64>,
    t0_ns: i64,
    t1_ns: i64,
) -> PyResult<Option<f64>> {
    let ascending = times_ns.windows(2).all(|w| w[0] < w[1]);
    if times_ns.len() != values.len() || !ascending || !values.iter().all(|v| v.is_finite()) {
        return Err(PyValueError::new_err(
            "times must ascend and values be finite numbers, one for each time",
        ));
    }
    let first = times_ns.first().copied().unwrap_or(0);
    let since = |t: i64| u64::try_from(t.checked_sub(first)?).ok();
    let mut line = timeline::Timeline::new(1, times_ns.len().saturating_add(1));
    for (t, value) in times_ns.iter().zip(&values) {
        line.push_last(since(*t).unwrap_or(0), &[*value]);
    }
    Ok(match (since(t0_ns), since(t1_ns)) {
        (Some(t0), Some(t1)) => line.integrate(0, t0, t1),
        _ => None,
    })
}

/// Where the calibration is stored, or `None` where no directory is known.
#[pyfunction]
fn calibration_path() -> Option<PathBuf> {
    calibration::Calibration::path()
}

/// Writes a calibration (a JSON text) to `path` atomically.
#[pyfunction]
fn write_calibration(text: &str, path: PathBuf) -> PyResult<()> {
    let stored = calibration::Calibration::parse(text.as_bytes(), &path)?;
    Ok(stored.write(&path)?)
}

/// Reads a calibration.
#[pyfunction]
fn read_calibration(py: Python<'_>, path: PathBuf) -> PyResult<Bound<'_, PyAny>> {
    serialised(py, &calibration::Calibration::read(&path)?)
}

/// Why what is stored at `path` is not used below `root`; `None` where it is.
#[pyfunction]
#[pyo3(signature = (path, root = None))]
fn calibration_unused(path: PathBuf, root: Option<&Bound<'_, PyAny>>) -> PyResult<Option<String>> {
    let root = root_or_environment(root)?;
    let cpu = machine::cpu::CpuIdentity::read(&root);
    Ok(calibration::Calibration::read(&path)?.unused(&root, &cpu))
}

/// Why the curve stored at `path` is not used below `root`; `None` where it is.
#[pyfunction]
#[pyo3(signature = (path, root = None))]
fn curve_unused(path: PathBuf, root: Option<&Bound<'_, PyAny>>) -> PyResult<Option<String>> {
    let root = root_or_environment(root)?;
    let cpu = machine::cpu::CpuIdentity::read(&root);
    let stored = calibration::Calibration::read(&path)?;
    let curve = stored.curve_of(&root, &cpu);
    Ok(curve.err().or_else(|| stored.unused(&root, &cpu)))
}

/// The machine that is below `root`, in words that no other machine has.
#[pyfunction]
#[pyo3(signature = (root = None))]
fn machine_identity(root: Option<&Bound<'_, PyAny>>) -> PyResult<String> {
    Ok(machine::identity::identity(&root_or_environment(root)?))
}

/// The curve that fits `(load, spread, watts)`, loads and spreads from 0 to 1; `None` for none.
#[pyfunction]
fn fit_curve(
    py: Python<'_>,
    points: Vec<(f64, f64, f64)>,
    cores_per_socket: f64,
    threads_per_core: f64,
) -> PyResult<Bound<'_, PyAny>> {
    let points: Vec<_> = points
        .into_iter()
        .map(|(load, spread, watts)| fit::Point {
            load,
            spread,
            watts,
        })
        .collect();
    serialised(py, &fit::fit(&points, cores_per_socket, threads_per_core))
}

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", crate::version::python())?;
    module.add("STATS_SCHEMA", crate::stats::SCHEMA)?;
    module.add("TOLERANCE", validate::TOLERANCE)?;
    let idle_sources = PyDict::new(module.py());
    for source in IdleSource::ALL {
        if source != IdleSource::Unknown {
            idle_sources.set_item(source.number(), source.name())?;
        }
    }
    module.add("IDLE_SOURCES", idle_sources)?;
    let domains = Domain::ALL.map(Domain::name);
    module.add("DOMAINS", pyo3::types::PyTuple::new(module.py(), domains)?)?;
    module.add_class::<PyMeter>()?;
    module.add_class::<channel::PyChannel>()?;
    module.add_class::<stats::PyTaken>()?;
    module.add_class::<trace::PyTrace>()?;
    module.add_class::<trace::PyReplay>()?;
    module.add_function(wrap_pyfunction!(trace::encode_rows, module)?)?;
    module.add_class::<stats::PySpelling>()?;
    module.add_function(wrap_pyfunction!(stats::stats_keys, module)?)?;
    module.add_class::<model::PyPowerModel>()?;
    module.add_class::<agent::PyAgent>()?;
    module.add_class::<agent::PyRing>()?;
    module.add_function(wrap_pyfunction!(agent::ring_may_be_replaced, module)?)?;
    module.add_function(wrap_pyfunction!(agent::divide_energy, module)?)?;
    module.add_class::<probes::PyProbes>()?;
    module.add_class::<profile::PyProfileReader>()?;
    module.add_class::<profile::PyProfileColumn>()?;
    module.add_function(wrap_pyfunction!(probes::load_probes, module)?)?;
    module.add_function(wrap_pyfunction!(probes::unload_probes, module)?)?;
    module.add_function(wrap_pyfunction!(probes::weigh, module)?)?;
    module.add_function(wrap_pyfunction!(probes::parts_above_idle, module)?)?;
    module.add_function(wrap_pyfunction!(probes::workload_spread, module)?)?;
    module.add_function(wrap_pyfunction!(doctor, module)?)?;
    module.add_function(wrap_pyfunction!(cpu_identity, module)?)?;
    module.add_function(wrap_pyfunction!(rapl_now, module)?)?;
    module.add_function(wrap_pyfunction!(surroundings, module)?)?;
    module.add_function(wrap_pyfunction!(process_cpu_seconds, module)?)?;
    module.add_function(wrap_pyfunction!(in_lambda, module)?)?;
    module.add_function(wrap_pyfunction!(find_cgroups, module)?)?;
    module.add_function(wrap_pyfunction!(place_of_cgroup, module)?)?;
    module.add_function(wrap_pyfunction!(relative_difference, module)?)?;
    module.add_function(wrap_pyfunction!(integrate, module)?)?;
    module.add_function(wrap_pyfunction!(calibration_path, module)?)?;
    module.add_function(wrap_pyfunction!(write_calibration, module)?)?;
    module.add_function(wrap_pyfunction!(read_calibration, module)?)?;
    module.add_function(wrap_pyfunction!(calibration_unused, module)?)?;
    module.add_function(wrap_pyfunction!(machine_identity, module)?)?;
    module.add_function(wrap_pyfunction!(curve_unused, module)?)?;
    module.add_function(wrap_pyfunction!(fit_curve, module)?)?;
    module.add_function(wrap_pyfunction!(model::tdp_energy, module)?)?;
    module.add_function(wrap_pyfunction!(model::lambda_vcpus, module)?)?;
    module.add_function(wrap_pyfunction!(distributions::student_t_quantile, module)?)?;
    module.add_function(wrap_pyfunction!(
        distributions::student_t_two_sided,
        module
    )?)?;
    module.add_function(wrap_pyfunction!(reference::reference_energy, module)?)?;
    module.add_function(wrap_pyfunction!(reference::reference_line, module)?)?;
    module.add_function(wrap_pyfunction!(distributions::log_gamma, module)?)?;
    module.add("LAMBDA_MB_PER_VCPU", crate::model::lambda::MIB_PER_VCPU)?;
    // The list that pyo3 keeps would be a second one, beside the stub.
    module.delattr("__all__")?;
    Ok(())
}

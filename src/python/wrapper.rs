//! What `functools.update_wrapper` does, for a wrapper that is given its function in a fresh fork.

use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// Has the wrapper look like the function: these attributes, those that the function was given, and
/// `__wrapped__`.
///
/// # Errors
/// Those that are no `Exception` where an object is asked for an attribute; whatever else it says,
/// and whatever cannot be set, is left as it is.
pub fn update(
    wrapper: &Bound<'_, PyAny>,
    function: &Bound<'_, PyAny>,
    names: &Bound<'_, PyTuple>,
) -> PyResult<()> {
    let py = wrapper.py();
    for name in names.iter_borrowed() {
        let name = name.cast()?;
        let copied = function
            .getattr(name)
            .and_then(|value| wrapper.setattr(name, value));
        match copied {
            Err(error) if !error.is_instance_of::<PyException>(py) => return Err(error),
            _ => {}
        }
    }
    // The attributes of a callable object are its own affair.
    if function.get_type().is(wrapper.get_type()) {
        let given = function.getattr(intern!(py, "__dict__"))?;
        let given = given.cast::<PyDict>()?;
        if !given.is_empty() {
            let own = wrapper.getattr(intern!(py, "__dict__"))?;
            own.cast::<PyDict>()?.update(given.as_mapping())?;
        }
    }
    wrapper.setattr(intern!(py, "__wrapped__"), function)
}

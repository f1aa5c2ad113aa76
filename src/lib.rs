//! How many joules did this function use?
//!
//! The map of the crate; data goes one way, down:
//!
//! - [`source`]: read counters (RAPL, perf, /proc, the power model), nothing else.
//! - [`sampler`]: one hub per process reads them, at the edges of a window and in between.
//! - [`counter`]: each step of a counter is judged, so that its total is monotone and possible.
//! - [`timeline`]: cumulative samples; integrates any window.
//! - [`attribution`]: the share of one function; idle and others kept apart.
//! - [`reading`]: value + unit + method + quality + band, per method and domain.
//! - [`stats`]: a reading as the flat dict that Lithops and FlexExecutor carry.
//! - [`validate`]: methods against each other. [`calibration`]: a machine against a reference.
//! - [`memory`]: what is left to the meter where the process has reached its memory limit.
//! - [`machine`]: what this machine is and what can be measured on it.
//! - [`version`]: this package's, as Python writes it.
//! - [`agent`]: the same once for a whole node: counters, a ring for all to read, containers' parts.
//! - `python`: the bindings, with feature `python` only.

#![deny(unsafe_op_in_unsafe_fn)]

pub mod agent;
pub mod attribution;
pub mod calibration;
pub mod clock;
pub mod counter;
pub mod error;
pub mod least_power;
pub mod machine;
pub mod memory;
pub mod meter;
#[cfg(feature = "python")]
mod python;
pub mod reading;
pub mod sampler;
pub mod source;
pub mod stats;
pub mod task;
pub mod timeline;
pub mod units;
pub mod validate;
pub mod version;

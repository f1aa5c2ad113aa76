//! How many joules did this function use?
//!
//! The map of the crate; data goes one way, down:
//!
//! The way of a number:
//!
//! - [`meter`]: the front door; one window of one function, started and stopped.
//! - [`source`]: read counters (RAPL, perf, kernel probes, /proc, an agent's ring), nothing else.
//! - [`sampler`]: one hub per process reads them, at the edges of a window and in between.
//! - [`counter`]: each step of a counter is judged, so that its total is monotone and possible.
//! - [`timeline`]: cumulative samples; integrates any window.
//! - [`attribution`]: the share of one function; idle and others kept apart.
//!   [`least_power`]: the least power that was seen, which bounds idle power from above.
//!   [`bands`]: the 95 % band of a share, and of the energy that a share gets.
//! - [`reading`]: value + unit + method + quality + band, per method and domain.
//!   [`definition`]: which of a call's two energies is its headline.
//! - [`stats`]: a reading as the flat dict that Lithops and FlexExecutor carry.
//!
//! What it stands on:
//!
//! - [`machine`]: what this machine is: processor, limits, container and cloud, idle power.
//! - [`cgroup`]: which control groups there are, what they limit and use, whose they are.
//! - [`model`]: watts where there is no counter. [`calibration`]: what was measured here once.
//! - [`validate`]: methods against each other. [`estimate`]: a value with its band and source.
//! - [`reference`]: meters of the whole machine: their energy, and counters against them.
//! - [`channel`]: from the process of a function to its worker's.
//! - [`clock`]: the kernel's clocks. [`task`]: the CPU clock of one coroutine.
//! - `thread`: threads of ours that stand beside the function, made in the cheapest way.
//! - [`memory`]: what is left to the meter where the process has reached its memory limit.
//! - [`error`]: the one error type. [`version`]: this package's, as Python writes it.
//!
//! Who else asks:
//!
//! - [`agent`]: the same once for a whole node: counters, a ring for all to read, containers' parts.
//! - [`profile`]: profile files, read as a stream of columns.
//! - [`trace`]: a recording of a window, from which its reading is made again.
//! - [`doctor`]: what can be measured here, why not, and the command that changes it.
//! - `python`: the bindings, with feature `python` only.

#![deny(unsafe_op_in_unsafe_fn)]

pub mod agent;
pub mod attribution;
pub mod bands;
pub mod calibration;
pub mod cgroup;
pub mod channel;
pub mod clock;
pub mod counter;
pub mod definition;
pub mod distributions;
pub mod doctor;
pub mod error;
pub mod estimate;
mod json;
pub mod least_power;
pub mod machine;
pub mod memory;
pub mod meter;
pub mod model;
pub mod profile;
#[cfg(feature = "python")]
mod python;
pub mod reading;
pub mod reference;
pub mod sampler;
pub mod source;
pub mod stats;
pub mod task;
mod thread;
pub mod timeline;
pub mod trace;
pub mod validate;
pub mod version;

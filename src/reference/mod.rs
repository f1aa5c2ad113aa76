//! What meters of the whole machine say: a battery, a plug in the wall, a server's power controller.
//!
//! They hold all that a machine takes, fans and losses included, and answer slowly: once a second or
//! once a minute. So they are references, which the counters of processor and memory are compared
//! with, and are never added to them. Readings are made elsewhere; this is the arithmetic on them.

mod energy;
mod line;

pub use energy::{Sensor, Told, Unknown, energy};
pub use line::{Line, Slope, Window, compared};

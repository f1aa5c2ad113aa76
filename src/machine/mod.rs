//! What this machine is: processor, limits, container and cloud, and what can be measured on it.

pub mod allotted;
pub mod ceilings;
mod cores;
pub mod cpu;
pub mod environment;
pub mod facts;
pub mod identity;
pub mod idle_power;
pub mod service;
pub mod watch;

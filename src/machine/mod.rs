//! What this machine is: processor, limits, container and cloud, and what can be measured on it.

pub mod ceilings;
pub mod cpu;
pub mod environment;
pub mod facts;
pub mod rest;
pub mod service;
pub mod share;
pub mod watch;

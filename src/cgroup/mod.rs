//! Control groups: which this process is in, what they limit, what CPU time they used, and whose they
//! are.

pub mod cpu;
pub mod identity;
pub mod jobs;
pub mod limits;
pub mod own;
pub mod several;
pub mod wanted;

//! What this machine is: processor, limits, container and cloud, and what can be measured on it.

use std::path::Path;

use crate::source::kept::Kept;

pub mod ceilings;
pub mod cpu;
pub mod definition;
pub mod doctor;
pub mod environment;
pub mod estimation;
pub mod facts;
pub mod rest;
pub mod share;
pub mod watch;

/// The maker's processors count energy as AMD's do.
pub fn is_amd(vendor: &str) -> bool {
    matches!(vendor, "AuthenticAMD" | "HygonGenuine")
}

/// `vendor_id` of the first processor, without reading all of a long /proc/cpuinfo.
pub fn cpu_vendor(root: &Path) -> Option<String> {
    let mut buffer = [0u8; 1024];
    let kept = Kept::open(&root.join("proc/cpuinfo")).ok()?;
    cpu::parse_cpuinfo(kept.read_start(&mut buffer).ok()?).vendor_id
}

//! /proc and /sys without privilege: the machine's idle time, the CPU time of a process tree or of a
//! cgroup, and the system metrics as psutil defines them.

mod cgroup;
mod machine;
mod system;
mod tree;
mod witness;

pub use cgroup::{CgroupCount, CgroupCpu, cgroup_usage_usec};
pub use machine::{IDLE_STEP_NS, MachineCpu, StatLine, idle_between, online_cpus, uptime_idle_ns};
pub use system::{InOut, Memory, System, SystemEdge, SystemState, disk_bytes, net_bytes};
pub use tree::{Missed, PidStat, Tree, began_at, peak_bytes};

/// /proc counts in 1/100 s for user space (USER_HZ) on every architecture we run on.
const TICK_NS: u64 = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsers_survive_hostile_text() {
        for text in ["", ")", "1 (", "cpu", "cpu  -1 2 3 4", ": : :", "\u{fffd}"] {
            let _ = StatLine::parse(text);
            let _ = PidStat::parse(text.as_bytes());
            let _ = uptime_idle_ns(text);
            let _ = net_bytes(text);
            let _ = disk_bytes(text, &mut |_| true);
            let _ = Memory::parse(text);
            let _ = cgroup_usage_usec(text);
        }
    }
}

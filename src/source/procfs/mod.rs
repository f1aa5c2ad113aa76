//! /proc and /sys without privilege: the machine's idle time, the CPU time of a process tree,
//! and the system metrics as psutil defines them.

mod cpu_list;
mod cpuinfo;
mod machine;
mod system;
mod tree;
mod trees;
mod witness;

pub use cpu_list::{MAX_CPUS, cpu_list, parse_cpu_list};
pub use cpuinfo::{CpuInfo, cpu_vendor, is_amd, parse_cpuinfo};
pub(crate) use cpuinfo::{count, is_a_clock, meaningful, positive};
pub use machine::{
    FUSE, MachineCpu, MachineShown, StatLine, idle_between, online_cpus, uptime_idle_ns,
};
pub use system::{InOut, Memory, System, SystemEdge, SystemState, disk_bytes, net_bytes};
pub use tree::{Missed, PidStat, Tree, began_at, peak_bytes};
pub use trees::{Trees, outermost};

/// Where there are more CPUs than this, not each is asked: some of them stand for all.
pub const MOST_CPUS_ASKED: usize = 16;

/// /proc counts in 1/100 s for user space (USER_HZ) on every architecture we run on: the resolution
/// of [`MachineCpu::idle_ns`].
pub const TICK_NS: u64 = 10_000_000;

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
        }
    }
}

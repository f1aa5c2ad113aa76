//! CPU time and memory of a process and of all its descendants.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use super::TICK_NS;
use crate::clock;
use crate::source::kept::Kept;

/// What is known of a descendant.
#[derive(Debug, Clone, Copy)]
struct Known {
    start_ticks: u64,
    cpu_ns: u64,
    orphan: bool,
    seen: bool,
}

/// CPU time of a process and of all its descendants, those that died included.
///
/// A descendant that was waited for is in its parent's (and at last our own) children time. One
/// that was orphaned before it died is nobody's: what it had used when it was last seen is kept.
#[derive(Debug)]
pub struct Tree {
    pid: i32,
    own: bool,
    known: HashMap<i32, Known>,
    lost_ns: u64,
    total_ns: u64,
    statm: Option<Kept>,
    status: Option<Kept>,
    /// What is read goes here, and the room stays.
    text: Vec<u8>,
    /// Before this a tree is not walked again, ns.
    rest_until_ns: u64,
    /// CPU time of the living descendants when it was last walked, ns.
    living_ns: u64,
    /// CPU time of children that had been waited for then, ns.
    reaped_ns: u64,
}

/// The fields of /proc/<pid>/stat that the tree needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PidStat {
    /// Parent.
    pub ppid: i32,
    /// CPU time of children that were waited for, ticks of 10 ms.
    pub children_ticks: u64,
    /// Start time since boot, ticks: tells a reused pid from the old one.
    pub start_ticks: u64,
}

impl PidStat {
    /// Parses /proc/<pid>/stat; the command name may hold blanks, parentheses and newlines.
    ///
    /// ```
    /// use lithowatt::source::procfs::PidStat;
    /// let text = "7 (a) b (c) S 1 7 7 0 -1 0 0 0 0 0 1 2 3 4 20 0 1 0 99 0 0";
    /// let stat = PidStat::parse(text).unwrap();
    /// assert_eq!((stat.ppid, stat.children_ticks, stat.start_ticks), (1, 7, 99));
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let rest = &text[text.rfind(')')? + 1..];
        let mut fields = rest.split_ascii_whitespace();
        let ppid = fields.nth(1)?.parse().ok()?;
        let cutime: u64 = fields.nth(11)?.parse().ok()?;
        let cstime: u64 = fields.next()?.parse().ok()?;
        let start_ticks = fields.nth(4)?.parse().ok()?;
        Some(Self {
            ppid,
            children_ticks: cutime + cstime,
            start_ticks,
        })
    }

    fn read(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(&text)
    }
}

impl Tree {
    /// A tree rooted at this process (`None`) or at another.
    pub fn new(pid: Option<i32>) -> Self {
        let own = clock::getpid();
        Self {
            pid: pid.unwrap_or(own),
            own: pid.is_none_or(|p| p == own),
            known: HashMap::new(),
            lost_ns: 0,
            total_ns: 0,
            statm: None,
            status: None,
            text: Vec::new(),
            rest_until_ns: 0,
            living_ns: 0,
            reaped_ns: 0,
        }
    }

    /// CPU time of the root process alone, ns.
    pub fn root_cpu_ns(&self) -> Option<u64> {
        if self.own {
            Some(clock::own_process_cpu_ns())
        } else {
            clock::process_cpu_ns(self.pid)
        }
    }

    /// CPU time of the whole tree, ns; never goes back. `None` when the root is gone.
    pub fn cpu_ns(&mut self) -> Option<u64> {
        let root = self.root_cpu_ns();
        if self.own && self.known.is_empty() && !clock::has_children() {
            let total = root? + clock::reaped_children_cpu_ns() + self.lost_ns;
            self.total_ns = self.total_ns.max(total);
            return Some(self.total_ns);
        }
        // Read before the living are: a child that is reaped in between is missing for a moment,
        // which the maximum below bridges. The other way round it would be counted twice for good.
        let reaped = if self.own {
            clock::reaped_children_cpu_ns()
        } else {
            PidStat::read(self.pid).map_or(0, |s| s.children_ticks * TICK_NS)
        };
        // Walking a large tree takes its time: at most a tenth of it is spent on that.
        let began = clock::monotonic_ns();
        if began >= self.rest_until_ns || reaped != self.reaped_ns {
            self.living_ns = self.scan();
            self.reaped_ns = reaped;
            let ended = clock::monotonic_ns();
            self.rest_until_ns = ended + 10 * (ended - began);
        }
        let total = root? + reaped + self.living_ns + self.lost_ns;
        self.total_ns = self.total_ns.max(total);
        Some(self.total_ns)
    }

    /// Visits every living descendant and returns the sum of their CPU time, ns.
    fn scan(&mut self) -> u64 {
        for known in self.known.values_mut() {
            known.seen = false;
        }
        let mut queue = vec![self.pid];
        // Orphans are roots of their own now.
        queue.extend(
            self.known
                .iter()
                .filter(|(_, k)| k.orphan)
                .map(|(pid, _)| *pid),
        );
        let mut sum = 0;
        while let Some(parent) = queue.pop() {
            if parent != self.pid
                && let Some(known) = self.known.get_mut(&parent)
                && known.orphan
                && !known.seen
            {
                match PidStat::read(parent).filter(|s| s.start_ticks == known.start_ticks) {
                    Some(stat) => {
                        known.seen = true;
                        let cpu = clock::process_cpu_ns(parent).unwrap_or(0);
                        known.cpu_ns = known.cpu_ns.max(cpu + stat.children_ticks * TICK_NS);
                        sum += known.cpu_ns;
                    }
                    None => continue,
                }
            }
            for child in children_of(parent) {
                let Some(stat) = PidStat::read(child) else {
                    continue;
                };
                let cpu = clock::process_cpu_ns(child).unwrap_or(0);
                let cpu = cpu + stat.children_ticks * TICK_NS;
                let known = self.known.entry(child).or_insert(Known {
                    start_ticks: stat.start_ticks,
                    cpu_ns: 0,
                    orphan: false,
                    seen: false,
                });
                if known.start_ticks != stat.start_ticks {
                    *known = Known {
                        start_ticks: stat.start_ticks,
                        cpu_ns: 0,
                        orphan: false,
                        seen: false,
                    };
                }
                if known.seen {
                    continue;
                }
                known.seen = true;
                known.cpu_ns = known.cpu_ns.max(cpu);
                sum += known.cpu_ns;
                queue.push(child);
            }
        }
        let mut lost = 0;
        self.known.retain(|pid, known| {
            if known.seen {
                return true;
            }
            let alive = PidStat::read(*pid).filter(|s| s.start_ticks == known.start_ticks);
            match alive {
                // Its parent died before it: it goes on under init, and stays ours.
                Some(_) => {
                    known.orphan = true;
                    sum += known.cpu_ns;
                    true
                }
                None => {
                    if known.orphan {
                        lost += known.cpu_ns;
                    }
                    false
                }
            }
        });
        self.lost_ns += lost;
        sum
    }

    /// Every living thread of the tree, root first.
    pub fn tids(&mut self) -> Vec<i32> {
        self.scan();
        let mut pids = vec![self.pid];
        pids.extend(self.known.keys());
        pids.iter().flat_map(|pid| tids_of(*pid)).collect()
    }

    /// Peak of the root's resident memory since its last exec, bytes.
    pub fn root_peak_bytes(&mut self) -> Option<u64> {
        if self.status.is_none() {
            self.status = Kept::open(Path::new(&format!("/proc/{}/status", self.pid))).ok();
        }
        peak_bytes(self.status.as_ref()?.read_whole(&mut self.text).ok()?)
    }

    /// Resident memory of the tree now, bytes.
    pub fn rss_bytes(&mut self) -> Option<u64> {
        if self.statm.is_none() {
            self.statm = Kept::open(Path::new(&format!("/proc/{}/statm", self.pid))).ok();
        }
        let mut buffer = [0u8; 128];
        let root = statm_bytes(self.statm.as_ref()?.read(&mut buffer).ok()?)?;
        Some(
            root + self
                .known
                .keys()
                .filter_map(|pid| rss_of(*pid))
                .sum::<u64>(),
        )
    }
}

/// `VmHWM` of /proc/<pid>/status: the peak of resident memory since the last exec, bytes.
///
/// (`ru_maxrss` survives an exec, so a small process would show the peak of its large parent.)
///
/// ```
/// use lithowatt::source::procfs::peak_bytes;
/// assert_eq!(peak_bytes("Name:\tx\nVmHWM:\t    2048 kB\n"), Some(2_097_152));
/// ```
pub fn peak_bytes(status: &str) -> Option<u64> {
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = kib.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn tids_of(pid: i32) -> Vec<i32> {
    fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Direct children of any thread of `pid`.
fn children_of(pid: i32) -> Vec<i32> {
    let mut children = Vec::new();
    let mut listed = false;
    for tid in tids_of(pid) {
        if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/task/{tid}/children")) {
            listed = true;
            children.extend(
                text.split_ascii_whitespace()
                    .filter_map(|c| c.parse::<i32>().ok()),
            );
        }
    }
    if listed {
        return children;
    }
    // A kernel without CONFIG_PROC_CHILDREN: ask every process for its parent.
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|candidate| PidStat::read(*candidate).is_some_and(|s| s.ppid == pid))
        .collect()
}

fn rss_of(pid: i32) -> Option<u64> {
    statm_bytes(&fs::read_to_string(format!("/proc/{pid}/statm")).ok()?)
}

fn statm_bytes(text: &str) -> Option<u64> {
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * page_size())
}

fn page_size() -> u64 {
    // SAFETY: sysconf has no preconditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_counts_children_that_died() {
        let mut tree = Tree::new(None);
        let before = tree.cpu_ns().unwrap();
        let reaped = clock::reaped_children_cpu_ns();
        for _ in 0..3 {
            let status = std::process::Command::new("sh")
                .args(["-c", "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done"])
                .status()
                .unwrap();
            assert!(status.success());
        }
        let children = clock::reaped_children_cpu_ns() - reaped;
        assert!(children > 0);
        assert!(tree.cpu_ns().unwrap() - before >= children / 2);
    }
}

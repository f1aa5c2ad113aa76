//! /proc and /sys without privilege: the machine's idle time, the CPU time of a process tree, and
//! the system metrics as psutil defines them.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::kept::Kept;
use crate::clock;

/// /proc counts in 1/100 s for user space (USER_HZ) on every architecture we run on.
const TICK_NS: u64 = 10_000_000;

/// The first line of /proc/stat, in clock ticks of 10 ms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatLine {
    /// user + nice; guest time is in them, once.
    pub user: u64,
    /// system + irq + softirq.
    pub system: u64,
    /// idle.
    pub idle: u64,
    /// iowait.
    pub iowait: u64,
    /// steal: taken by the hypervisor.
    pub steal: u64,
}

impl StatLine {
    /// Parses the text of /proc/stat.
    ///
    /// ```
    /// use lithowatt::source::procfs::StatLine;
    /// let line = StatLine::parse("cpu  10 1 20 300 4 5 6 7 0 0\ncpu0 …").unwrap();
    /// assert_eq!((line.user, line.system, line.idle, line.steal), (11, 31, 300, 7));
    /// assert!(StatLine::parse("cpu x").is_none());
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.lines().next()?.split_ascii_whitespace();
        if fields.next() != Some("cpu") {
            return None;
        }
        let mut v = [0u64; 10];
        let mut seen = 0;
        for (slot, field) in v.iter_mut().zip(fields) {
            *slot = field.parse().ok()?;
            seen += 1;
        }
        let [
            user,
            nice,
            system,
            idle,
            iowait,
            irq,
            softirq,
            steal,
            _guest,
            _guest_nice,
        ] = v;
        (seen >= 4).then(|| Self {
            user: user.saturating_add(nice),
            system: system.saturating_add(irq).saturating_add(softirq),
            idle,
            iowait,
            steal,
        })
    }

    /// psutil's `cpu_percent` between an earlier line and this one, 0..100; `None` where no tick
    /// passed.
    pub fn percent_since(self, earlier: Self) -> Option<f64> {
        let d = |a: u64, b: u64| a.saturating_sub(b) as f64;
        let busy = d(self.user, earlier.user)
            + d(self.system, earlier.system)
            + d(self.steal, earlier.steal);
        let total = busy + d(self.idle, earlier.idle) + d(self.iowait, earlier.iowait);
        (total > 0.0).then(|| (100.0 * busy / total).clamp(0.0, 100.0))
    }
}

/// Idle seconds summed over all CPUs, second field of /proc/uptime, in ns.
///
/// ```
/// use lithowatt::source::procfs::uptime_idle_ns;
/// assert_eq!(uptime_idle_ns("445.25 870.18\n"), Some(870_180_000_000));
/// assert_eq!(uptime_idle_ns("445.25"), None);
/// ```
pub fn uptime_idle_ns(text: &str) -> Option<u64> {
    let field = text.split_ascii_whitespace().nth(1)?;
    let (whole, hundredths) = field.split_once('.')?;
    if hundredths.len() != 2 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let hundredths: u64 = hundredths.parse().ok()?;
    whole
        .checked_mul(1_000_000_000)?
        .checked_add(hundredths * TICK_NS)
}

/// Logical CPUs online below `root`; where it does not tell, those this process may use.
pub fn online_cpus(root: &Path) -> u32 {
    fs::read_to_string(root.join("sys/devices/system/cpu/online"))
        .ok()
        .and_then(|text| super::perf::cpu_list(&text))
        .map(|cpus| cpus.len() as u32)
        .filter(|n| *n > 0)
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get() as u32))
}

/// How much CPU time the machine did not use.
///
/// Idle time is kept by the kernel in ns and only printed in 10 ms, while busy time is sampled at
/// the tick: so busy = capacity − idle is the exact one of the two.
#[derive(Debug)]
pub struct MachineCpu {
    uptime: Option<Kept>,
    stat: Option<Kept>,
    /// Logical CPUs online.
    pub cpus: u32,
    /// iowait + steal as last read, ns: they are outside /proc/uptime's idle.
    waiting_ns: u64,
    waiting_read_at: u64,
    /// When idle time was last read, and what it was with iowait and steal.
    last: Option<(u64, u64)>,
    /// When it was last read, idle time alone, and the process's CPU time then.
    seen: Option<(u64, u64, Option<u64>)>,
}

/// The step in which /proc prints idle time, ns: the resolution of [`MachineCpu::idle_ns`].
pub const IDLE_STEP_NS: u64 = TICK_NS;

/// iowait and steal come from the long /proc/stat, which is not read more often than this, ns.
const WAITING_EVERY_NS: u64 = 50_000_000;

impl MachineCpu {
    /// Opens /proc/uptime and /proc/stat below `root`.
    pub fn open(root: &Path) -> Self {
        Self {
            uptime: Kept::open(&root.join("proc/uptime")).ok(),
            stat: Kept::open(&root.join("proc/stat")).ok(),
            cpus: online_cpus(root),
            waiting_ns: 0,
            waiting_read_at: 0,
            last: None,
            seen: None,
        }
    }

    /// CPU time not used since boot: idle, waiting for I/O, or stolen; ns, all CPUs.
    ///
    /// Within the step in which it is printed it is not read again. iowait and steal come from the
    /// long /proc/stat, which is left alone while idle time and the CPU time of this process's
    /// tree, `inside_ns`, explain where the capacity went.
    pub fn idle_ns(&mut self, now_ns: u64, inside_ns: Option<u64>) -> Option<u64> {
        if let Some((at, idle)) = self.last
            && now_ns
                .saturating_sub(at)
                .saturating_mul(u64::from(self.cpus))
                < IDLE_STEP_NS
        {
            return Some(idle);
        }
        let mut buffer = [0u8; 64];
        let idle = self
            .uptime
            .as_ref()?
            .read(&mut buffer)
            .ok()
            .and_then(uptime_idle_ns)?;
        if now_ns.saturating_sub(self.waiting_read_at) >= WAITING_EVERY_NS
            && !self.explained(now_ns, idle, inside_ns)
        {
            self.stat_line(now_ns);
        }
        self.seen = Some((now_ns, idle, inside_ns));
        let idle = idle + self.waiting_ns;
        self.last = Some((now_ns, idle));
        Some(idle)
    }

    /// Whether idle time and the process's own since the last look make up all the capacity.
    fn explained(&self, now_ns: u64, idle_ns: u64, inside_ns: Option<u64>) -> bool {
        let Some((at, idle_then, Some(inside_then))) = self.seen else {
            return false;
        };
        let Some(inside_ns) = inside_ns else {
            return false;
        };
        let capacity = now_ns
            .saturating_sub(at)
            .saturating_mul(u64::from(self.cpus));
        let known = idle_ns.saturating_sub(idle_then) + inside_ns.saturating_sub(inside_then);
        capacity <= known + 2 * IDLE_STEP_NS
    }

    /// The machine's CPU line, for psutil's percentages.
    pub fn stat_line(&mut self, now_ns: u64) -> Option<StatLine> {
        // Only the first line is wanted; it is below 256 bytes.
        let mut buffer = [0u8; 256];
        let text = self.stat.as_ref()?.read(&mut buffer).ok()?;
        let line = StatLine::parse(text)?;
        self.waiting_ns = (line.iowait + line.steal) * TICK_NS;
        self.waiting_read_at = now_ns;
        Some(line)
    }

    /// Whether /proc/stat could be opened.
    pub fn has_stat(&self) -> bool {
        self.stat.is_some()
    }
}

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
        let mut buffer = [0u8; 4096];
        peak_bytes(self.status.as_ref()?.read(&mut buffer).ok()?)
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

/// CPU time of a cgroup, ns, kept open: `cpu.stat` of v2 or `cpuacct.usage` of v1.
#[derive(Debug)]
pub struct CgroupCpu {
    kept: Kept,
    /// cpu.stat of version 2, not cpuacct.usage.
    unified: bool,
    path: PathBuf,
}

impl CgroupCpu {
    /// Opens the CPU accounting of the cgroup directory `path`.
    ///
    /// # Errors
    /// [`Error::NoCgroup`](crate::error::Error::NoCgroup) naming the path where it has none.
    pub fn open(path: &Path) -> crate::error::Result<Self> {
        if let Ok(kept) = Kept::open(&path.join("cpu.stat")) {
            let group = Self {
                kept,
                unified: true,
                path: path.to_owned(),
            };
            if group.cpu_ns().is_some() {
                return Ok(group);
            }
        }
        Kept::open(&path.join("cpuacct.usage"))
            .map(|kept| Self {
                kept,
                unified: false,
                path: path.to_owned(),
            })
            .map_err(|e| crate::error::Error::NoCgroup {
                path: path.to_owned(),
                source: e,
            })
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// CPU time since the cgroup was made, ns.
    pub fn cpu_ns(&self) -> Option<u64> {
        let mut buffer = [0u8; 1024];
        let text = self.kept.read(&mut buffer).ok()?;
        if self.unified {
            cgroup_usage_usec(text).map(|us| us * 1000)
        } else {
            text.trim().parse().ok()
        }
    }
}

/// `usage_usec` of a v2 `cpu.stat`.
pub fn cgroup_usage_usec(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("usage_usec "))?
        .trim()
        .parse()
        .ok()
}

/// Bytes moved, summed over devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InOut {
    /// Read from disks, or received.
    pub input: u64,
    /// Written to disks, or sent.
    pub output: u64,
}

/// Sums /proc/diskstats over whole disks, as `psutil.disk_io_counters()` does; sectors are 512 B.
/// `None` where no disk is to be seen.
pub fn disk_bytes(text: &str, is_disk: &mut dyn FnMut(&str) -> bool) -> Option<InOut> {
    let mut sum = InOut::default();
    let mut seen = false;
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        let Some(name) = fields.nth(2) else { continue };
        if !is_disk(name) {
            continue;
        }
        let read = fields.nth(2).and_then(|f| f.parse::<u64>().ok());
        let written = fields.nth(3).and_then(|f| f.parse::<u64>().ok());
        if let (Some(read), Some(written)) = (read, written) {
            seen = true;
            sum.input = sum.input.saturating_add(read.saturating_mul(512));
            sum.output = sum.output.saturating_add(written.saturating_mul(512));
        }
    }
    seen.then_some(sum)
}

/// Sums /proc/net/dev over all interfaces, loopback too, as `psutil.net_io_counters()` does;
/// `None` where there is no interface.
pub fn net_bytes(text: &str) -> Option<InOut> {
    let mut sum = InOut::default();
    let mut seen = false;
    for line in text.lines().skip(2) {
        let Some((_, counters)) = line.rsplit_once(':') else {
            continue;
        };
        let mut fields = counters.split_ascii_whitespace();
        let received = fields.next().and_then(|f| f.parse::<u64>().ok());
        let sent = fields.nth(7).and_then(|f| f.parse::<u64>().ok());
        if let (Some(received), Some(sent)) = (received, sent) {
            seen = true;
            sum.input = sum.input.saturating_add(received);
            sum.output = sum.output.saturating_add(sent);
        }
    }
    seen.then_some(sum)
}

/// Machine memory in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// MemTotal.
    pub total: u64,
    /// MemAvailable.
    pub available: u64,
}

impl Memory {
    /// Parses /proc/meminfo.
    pub fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name))?
                .trim_start_matches(':')
                .trim()
                .strip_suffix("kB")?
                .trim()
                .parse::<u64>()
                .ok()
        };
        let total = field("MemTotal")?;
        let available = field("MemAvailable").or_else(|| field("MemFree"))?;
        Some(Self {
            total: total.checked_mul(1024)?,
            available: available.checked_mul(1024)?,
        })
    }

    /// `psutil.virtual_memory().percent`, 0..100.
    pub fn percent(self) -> f64 {
        if self.total == 0 {
            return 0.0;
        }
        100.0 * self.used() as f64 / self.total as f64
    }

    /// Total less available, bytes: `psutil.virtual_memory().used` since psutil 7.
    pub fn used(self) -> u64 {
        self.total.saturating_sub(self.available)
    }
}

/// What changes over a window: read at both of its ends.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEdge {
    /// The machine's CPU line.
    pub stat: Option<StatLine>,
    /// Disk bytes since boot.
    pub disk: Option<InOut>,
    /// Network bytes since boot.
    pub net: Option<InOut>,
}

/// What is a state rather than a flow: read at the end of a window.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemState {
    /// Machine memory.
    pub memory: Option<Memory>,
    /// Load average over one minute.
    pub load_1m: Option<f64>,
    /// Mean CPU frequency, MHz.
    pub frequency_mhz: Option<f64>,
    /// CPU temperature, degrees Celsius.
    pub temperature_celsius: Option<f64>,
}

/// Kept descriptors of the machine's metrics.
#[derive(Debug)]
pub struct System {
    disk: Option<Kept>,
    net: Option<Kept>,
    meminfo: Option<Kept>,
    loadavg: Option<Kept>,
    frequency: Vec<Kept>,
    /// Where there is no cpufreq: mean `cpu MHz` of /proc/cpuinfo, as psutil falls back to.
    fixed_mhz: Option<f64>,
    temperature: Option<Kept>,
    block: PathBuf,
    disks: HashMap<String, bool>,
}

/// Sensor drivers that show a processor's temperature.
const CPU_SENSORS: [&str; 5] = [
    "coretemp",
    "k10temp",
    "zenpower",
    "cpu_thermal",
    "soc_thermal",
];

/// Reading a policy's frequency may interrupt a CPU, so a few stand for all.
const FREQUENCY_POLICIES: usize = 4;

impl System {
    /// Opens what there is below `root`.
    pub fn open(root: &Path) -> Self {
        let proc = |name: &str| Kept::open(&root.join("proc").join(name)).ok();
        let frequency = open_frequencies(root);
        let fixed_mhz = if frequency.is_empty() {
            fs::read_to_string(root.join("proc/cpuinfo"))
                .ok()
                .and_then(|text| mean_mhz(&text))
        } else {
            None
        };
        Self {
            fixed_mhz,
            frequency,
            disk: proc("diskstats"),
            net: proc("net/dev"),
            meminfo: proc("meminfo"),
            loadavg: proc("loadavg"),
            temperature: open_temperature(root),
            block: root.join("sys/block"),
            disks: HashMap::new(),
        }
    }

    /// Reads the flows, with `stat` as the machine's CPU line.
    pub fn edge(&mut self, stat: Option<StatLine>) -> SystemEdge {
        let mut buffer = [0u8; 16384];
        let (block, disks) = (&self.block, &mut self.disks);
        let mut is_disk = |name: &str| {
            if let Some(known) = disks.get(name) {
                return *known;
            }
            // sysfs writes a slash in a device name as an exclamation mark.
            let known = block.join(name.replace('/', "!")).exists();
            disks.insert(name.to_owned(), known);
            known
        };
        let disk = self
            .disk
            .as_ref()
            .and_then(|kept| kept.read(&mut buffer).ok())
            .and_then(|text| disk_bytes(text, &mut is_disk));
        let net = self
            .net
            .as_ref()
            .and_then(|kept| kept.read(&mut buffer).ok())
            .and_then(net_bytes);
        SystemEdge { stat, disk, net }
    }

    /// Reads the states.
    pub fn state(&self) -> SystemState {
        let mut buffer = [0u8; 4096];
        let memory = self
            .meminfo
            .as_ref()
            .and_then(|kept| kept.read(&mut buffer).ok())
            .and_then(Memory::parse);
        let load_1m = self
            .loadavg
            .as_ref()
            .and_then(|kept| kept.read(&mut buffer).ok())
            .and_then(|text| text.split_ascii_whitespace().next()?.parse().ok())
            .filter(|load: &f64| load.is_finite() && *load >= 0.0);
        let mut number = |kept: &Kept| -> Option<f64> {
            kept.read(&mut buffer).ok()?.trim().parse::<f64>().ok()
        };
        let mut khz: Vec<f64> = self.frequency.iter().filter_map(&mut number).collect();
        khz.retain(|khz| khz.is_finite() && *khz > 0.0);
        let temperature_celsius = self
            .temperature
            .as_ref()
            .and_then(&mut number)
            .map(|millidegrees| millidegrees / 1000.0);
        SystemState {
            memory,
            load_1m,
            frequency_mhz: (!khz.is_empty())
                .then(|| khz.iter().sum::<f64>() / khz.len() as f64 / 1000.0)
                .or(self.fixed_mhz),
            temperature_celsius,
        }
    }
}

/// Mean of the `cpu MHz` lines of /proc/cpuinfo.
fn mean_mhz(cpuinfo: &str) -> Option<f64> {
    let mhz: Vec<f64> = cpuinfo
        .lines()
        .filter_map(|line| {
            line.strip_prefix("cpu MHz")?
                .split_once(':')?
                .1
                .trim()
                .parse()
                .ok()
        })
        .filter(|mhz: &f64| mhz.is_finite() && *mhz > 0.0)
        .collect();
    (!mhz.is_empty()).then(|| mhz.iter().sum::<f64>() / mhz.len() as f64)
}

fn sorted_entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}

fn open_frequencies(root: &Path) -> Vec<Kept> {
    let policies: Vec<_> = sorted_entries(&root.join("sys/devices/system/cpu/cpufreq"))
        .into_iter()
        .map(|policy| policy.join("scaling_cur_freq"))
        .filter(|file| file.exists())
        .collect();
    let step = policies.len().div_ceil(FREQUENCY_POLICIES).max(1);
    policies
        .iter()
        .step_by(step)
        .filter_map(|file| Kept::open(file).ok())
        .collect()
}

fn open_temperature(root: &Path) -> Option<Kept> {
    for sensor in sorted_entries(&root.join("sys/class/hwmon")) {
        let name = fs::read_to_string(sensor.join("name")).unwrap_or_default();
        if CPU_SENSORS.contains(&name.trim())
            && let Ok(kept) = Kept::open(&sensor.join("temp1_input"))
        {
            return Some(kept);
        }
    }
    for zone in sorted_entries(&root.join("sys/class/thermal")) {
        let kind = fs::read_to_string(zone.join("type")).unwrap_or_default();
        if kind.contains("cpu") || kind.contains("x86_pkg_temp") || kind.contains("soc") {
            return Kept::open(&zone.join("temp")).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_summed_without_partitions() {
        let text =
            " 254 0 vda 10 0 100 5 20 0 200 6 0 0 0\n 254 1 vda1 9 0 90 5 20 0 200 6 0 0 0\n";
        let sum = disk_bytes(text, &mut |name| name == "vda");
        assert_eq!(
            sum,
            Some(InOut {
                input: 51_200,
                output: 102_400
            })
        );
        assert_eq!(disk_bytes("garbage", &mut |_| true), None);
    }

    #[test]
    fn interfaces_are_summed_with_loopback() {
        let text = "Inter-|   Receive |\n face |bytes\n    lo: 100 1 0 0 0 0 0 0 200 1 0 0 0 0 0 0\n\
                    eth0:1 1 0 0 0 0 0 0 2 1 0 0 0 0 0 0\n";
        assert_eq!(
            net_bytes(text),
            Some(InOut {
                input: 101,
                output: 202
            })
        );
    }

    #[test]
    fn memory_is_total_less_available() {
        let text = "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  250 kB\n";
        let memory = Memory::parse(text).unwrap();
        assert_eq!(memory.percent(), 75.0);
        assert!(Memory::parse("MemTotal: much kB").is_none());
    }

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

    #[test]
    fn parsers_survive_hostile_text() {
        for text in ["", ")", "1 (", "cpu", "cpu  -1 2 3 4", ": : :", "\u{fffd}"] {
            let _ = StatLine::parse(text);
            let _ = PidStat::parse(text);
            let _ = uptime_idle_ns(text);
            let _ = net_bytes(text);
            let _ = disk_bytes(text, &mut |_| true);
            let _ = Memory::parse(text);
            let _ = cgroup_usage_usec(text);
        }
    }
}

//! How much CPU time the machine did not use, and how much there was.

use std::fs;
use std::path::Path;

use super::TICK_NS;
use crate::source::kept::Kept;

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
        .and_then(|text| crate::source::perf::cpu_list(&text))
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

    /// Closes its files until they are read again.
    pub fn release(&self) {
        for kept in self.uptime.iter().chain(&self.stat) {
            kept.release();
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

    /// What of [`MachineCpu::idle_ns`] was waiting for I/O or stolen, ns.
    pub fn waiting_ns(&self) -> u64 {
        self.waiting_ns
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
        let text = self.stat.as_ref()?.read_start(&mut buffer).ok()?;
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

//! How much CPU time the machine did not use, and how much there was.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::TICK_NS;
use super::cpu_list;
use super::witness::{Distrust, LEAST_NS, Stretch, TOGETHER_NS, Witness, judge};
use crate::source::kept::Kept;
use crate::source::plain::{self, PROC, file_system};

/// The first line of /proc/stat, in clock ticks of 10 ms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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

    /// All times together, ticks.
    fn all(self) -> u64 {
        self.user + self.system + self.unused()
    }

    /// What no process used: idle, waiting for I/O, stolen; ticks.
    fn unused(self) -> u64 {
        self.idle + self.waiting()
    }

    /// Waiting for I/O and stolen, which is outside of /proc/uptime's idle time; ticks.
    fn waiting(self) -> u64 {
        self.iowait + self.steal
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

/// Logical CPUs online below `root`; where that is not known, those in /proc/stat, else those that
/// this process may use.
pub fn online_cpus(root: &Path) -> u32 {
    let listed = || {
        let text = plain::kernel_text(&root.join("sys/devices/system/cpu/online")).ok()?;
        online_in(&text)
    };
    let counted = || {
        let text = plain::read(&root.join("proc/stat"), plain::MOST_OF_KERNEL_TEXT).ok()?;
        let lines = text.split(|byte| *byte == b'\n');
        let cpu = |line: &&[u8]| line.starts_with(b"cpu") && line.get(3) != Some(&b' ');
        u32::try_from(lines.filter(cpu).count())
            .ok()
            .filter(|n| *n > 0)
    };
    listed().or_else(counted).unwrap_or_else(|| {
        std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1))
    })
}

fn online_in(text: &str) -> Option<u32> {
    u32::try_from(cpu_list(text)?.len()).ok().filter(|n| *n > 0)
}

/// How much CPU time the machine did not use, and how much there was.
///
/// Idle time is kept by the kernel in ns and only printed in 10 ms, while busy time is sampled at
/// the tick: so busy = capacity − idle is the exact one of the two. CPUs come and go, so what there
/// was is summed up like idle time.
#[derive(Debug)]
pub struct MachineCpu {
    uptime: Option<Kept>,
    stat: Option<Kept>,
    online: Option<Kept>,
    /// Logical CPUs online when last looked at.
    pub cpus: u32,
    /// They come from somebody else.
    fixed: bool,
    witness: Witness,
    /// Times that the witness or the number of CPUs changed.
    turns: u32,
    /// It is unknown what was not used up to the base, or since it was last known.
    lost: bool,
    /// Why nothing was believed when that was last so.
    unknown: Option<Witness>,
    /// /proc/uptime is the kernel's own.
    genuine: bool,
    /// /proc/stat is not, though /proc/uptime is.
    covered: bool,
    /// CPU time that there was up to `looked_at`, ns.
    capacity_ns: u64,
    looked_at: Option<u64>,
    /// The line of /proc/stat as last read, and when.
    line: Option<(u64, StatLine)>,
    /// What was known when sources were last compared.
    base: Option<Base>,
    /// What was not used, as last known.
    unused_ns: Option<u64>,
    /// What idle time by /proc/uptime and the process's CPU time were at the last look.
    seen: Option<(u64, u64, Option<u64>)>,
    /// It is not looked again: see [`MachineCpu::hold`].
    held: bool,
}

/// What all sources showed at one moment.
#[derive(Debug, Clone, Copy)]
struct Base {
    t_ns: u64,
    capacity_ns: u64,
    unused_ns: u64,
    uptime_ns: Option<u64>,
    line: Option<StatLine>,
    inside_ns: Option<u64>,
}

/// What [`MachineCpu`] showed at one moment, so that another can show the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MachineShown {
    /// Logical CPUs online.
    pub cpus: u32,
    /// [`MachineCpu::turns`].
    pub turns: u32,
    /// When they were looked at, ns.
    pub looked_at_ns: u64,
    /// CPU time that there was until then, ns.
    pub capacity_ns: u64,
    /// [`MachineCpu::idle_ns`].
    pub idle_ns: Option<u64>,
    /// [`MachineCpu::waiting_ns`].
    pub waiting_ns: u64,
    /// Which file was believed, by [`Witness::number`].
    pub witness: u64,
    /// Why nothing was believed when that was last so.
    pub unknown: Option<u64>,
    /// /proc/uptime was the kernel's own.
    pub genuine: bool,
}

/// By this the sum of idle time steps after a stretch in which it was unknown, ns: more than all
/// CPUs can be idle between two looks. See [`idle_between`].
const UNKNOWN_STRETCH_NS: u64 = 1 << 48;

/// Idle time from one value of [`MachineCpu::idle_ns`] to a later one, ns, while there were
/// `capacity_ns` of CPU time; `None` where one of them is, or a stretch between them.
pub fn idle_between(then: Option<u64>, now: Option<u64>, capacity_ns: u64) -> Option<u64> {
    let idle_ns = now?.saturating_sub(then?);
    (idle_ns < capacity_ns.saturating_add(UNKNOWN_STRETCH_NS / 2)).then_some(idle_ns)
}

/// iowait and steal come from the long /proc/stat, which is not read more often than this, ns.
const STAT_EVERY_NS: u64 = 50_000_000;

/// Idle time that steps back by more than this does not count idle time, ns.
const IDLE_STEPS_BACK_NS: u64 = 3 * TICK_NS;

impl MachineCpu {
    /// Opens /proc/uptime and /proc/stat below `root`.
    pub fn open(root: &Path) -> Self {
        let uptime_path = root.join("proc/uptime");
        let uptime = Kept::open(&uptime_path).ok();
        let stat = Kept::open(&root.join("proc/stat")).ok();
        let kind = file_system(&uptime_path);
        // A file that somebody put over /proc/stat is no evidence against the kernel's own.
        let covered = kind == Some(PROC) && file_system(&root.join("proc/stat")) != Some(PROC);
        Self {
            witness: match (&uptime, &stat) {
                // lxcfs serves files of its own in the place of the kernel's.
                (Some(_), Some(_)) if kind == Some(FUSE) => Witness::Stat(Distrust::Contradicted),
                (Some(_), _) => Witness::Uptime,
                (None, Some(_)) => Witness::Stat(Distrust::Unreadable),
                (None, None) => Witness::Nothing(Distrust::Unreadable),
            },
            covered,
            genuine: kind == Some(PROC),
            uptime,
            stat,
            online: Kept::open(&root.join("sys/devices/system/cpu/online")).ok(),
            cpus: online_cpus(root),
            ..Self::replayed()
        }
    }

    /// One that reads no file and shows what [`MachineCpu::show`] is given.
    pub fn replayed() -> Self {
        Self {
            witness: Witness::Nothing(Distrust::Unreadable),
            unknown: None,
            covered: false,
            genuine: false,
            uptime: None,
            stat: None,
            online: None,
            cpus: 1,
            fixed: false,
            capacity_ns: 0,
            looked_at: None,
            line: None,
            base: None,
            unused_ns: None,
            turns: 0,
            lost: false,
            seen: None,
            held: false,
        }
    }

    /// The same in a forked process: what is known of the parent's CPU time is not of the child's.
    pub fn forked(mut self) -> Self {
        self.seen = None;
        self.held = false;
        if let Some(base) = &mut self.base {
            base.inside_ns = None;
        }
        self
    }

    /// What it shows since it was last looked at.
    pub fn shown(&self) -> MachineShown {
        MachineShown {
            cpus: self.cpus,
            turns: self.turns,
            looked_at_ns: self.looked_at.unwrap_or(0),
            capacity_ns: self.capacity_ns,
            idle_ns: self.told(),
            waiting_ns: self.waiting_ns(),
            witness: self.witness.number(),
            unknown: self.unknown.map(Witness::number),
            genuine: self.genuine,
        }
    }

    /// Shows what another showed.
    pub fn show(&mut self, shown: &MachineShown) {
        self.cpus = shown.cpus.max(1);
        self.turns = shown.turns;
        self.looked_at = Some(shown.looked_at_ns);
        self.capacity_ns = shown.capacity_ns;
        self.unused_ns = shown.idle_ns;
        let line = StatLine {
            iowait: shown.waiting_ns / TICK_NS,
            ..StatLine::default()
        };
        self.line = Some((shown.looked_at_ns, line));
        self.witness = Witness::numbered(shown.witness);
        self.unknown = shown.unknown.map(Witness::numbered);
        self.genuine = shown.genuine;
    }

    /// [`MachineCpu::idle_ns`] as it was last known.
    pub fn told(&self) -> Option<u64> {
        match self.witness {
            Witness::Nothing(_) => None,
            _ => self.unused_ns,
        }
    }

    /// Closes its files until they are read again.
    pub fn release(&self) {
        for kept in self.uptime.iter().chain(&self.stat).chain(&self.online) {
            kept.release();
        }
    }

    /// Takes another's word for the number of CPUs: what /proc and /sys show here is not the
    /// machine's.
    pub fn fix_cpus(&mut self, cpus: u32) {
        self.cpus = cpus.max(1);
        self.fixed = true;
    }

    /// Logical CPUs online; `None` where they come from somebody else.
    pub fn online(&self) -> Option<u32> {
        (!self.fixed).then_some(self.cpus)
    }

    /// Why busy time is unknown now, or was when it last was.
    pub fn why_unknown(&self) -> Option<&'static str> {
        self.unknown.and_then(Witness::doubt)
    }

    /// Why busy time is less sure than by the kernel's own /proc/uptime, where it is known.
    pub fn doubt(&self) -> Option<&'static str> {
        match self.witness {
            // A kernel that adds idle time late shows the same in the end.
            Witness::Stat(Distrust::Contradicted) if self.genuine => None,
            Witness::Stat(_) => self.witness.doubt(),
            _ => None,
        }
    }

    /// CPU time that there was until `now_ns`, summed up since this was opened, ns.
    pub fn capacity_ns(&self, now_ns: u64) -> u64 {
        let since = self.looked_at.map_or(0, |at| now_ns.saturating_sub(at));
        self.capacity_ns
            .saturating_add(since.saturating_mul(u64::from(self.cpus)))
    }

    /// CPU time not used since boot: idle, waiting for I/O, or stolen; ns, all CPUs. `None` where
    /// no source of it can be believed. For the time between two values see [`idle_between`].
    ///
    /// Within the step in which it is printed it is not read again. iowait and steal come from the
    /// long /proc/stat, which is left alone while idle time and the CPU time of this process's
    /// tree, `inside_ns`, explain where the capacity went.
    pub fn idle_ns(&mut self, now_ns: u64, inside_ns: Option<u64>) -> Option<u64> {
        let passed = self.looked_at.map(|at| now_ns.saturating_sub(at));
        if self.held && passed.is_some_and(|passed| passed < TOGETHER_NS) {
            return self.told();
        }
        if let Some(passed) = passed
            && passed.saturating_mul(u64::from(self.cpus)) < TICK_NS
        {
            return self.told();
        }
        let changed = self.count_cpus(now_ns);
        let uptime_ns = self.read_uptime();
        let needed = matches!(self.witness, Witness::Stat(_)) || uptime_ns.is_none();
        let due = self
            .line
            .is_none_or(|(at, _)| now_ns.saturating_sub(at) >= STAT_EVERY_NS);
        if needed || changed || due && !self.explained(now_ns, uptime_ns, inside_ns) {
            self.stat_line(now_ns);
        }
        if let (Some(idle), inside) = (uptime_ns, inside_ns) {
            self.seen = Some((now_ns, idle, inside));
        }
        self.take(now_ns, uptime_ns, inside_ns);
        self.told()
    }

    /// Until it is let go [`MachineCpu::idle_ns`] is what it was just read. For an edge that is
    /// made in several steps: with many CPUs the step in which idle time is printed is shorter than
    /// what lies between them.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Sums up capacity; returns whether CPUs came or went.
    fn count_cpus(&mut self, now_ns: u64) -> bool {
        let mut buffer = [0u8; 1024];
        let now = match &self.online {
            Some(kept) if !self.fixed => kept.read(&mut buffer).ok().and_then(online_in),
            _ => None,
        }
        .unwrap_or(self.cpus);
        let passed = self.looked_at.map_or(0, |at| now_ns.saturating_sub(at));
        // When within that they changed is not known.
        let twice = passed.saturating_mul(u64::from(self.cpus) + u64::from(now));
        self.capacity_ns = self.capacity_ns.saturating_add(twice / 2);
        self.looked_at = Some(now_ns);
        let changed = std::mem::replace(&mut self.cpus, now) != now;
        self.turns = self.turns.wrapping_add(u32::from(changed));
        changed
    }

    fn read_uptime(&self) -> Option<u64> {
        let mut buffer = [0u8; 64];
        let text = self.uptime.as_ref()?.read(&mut buffer).ok()?;
        // No machine has never rested: gVisor prints 0.00.
        uptime_idle_ns(text).filter(|idle| *idle > 0)
    }

    /// Adds what was not used since sources were last compared, and compares them where both were
    /// read now.
    fn take(&mut self, now_ns: u64, uptime_ns: Option<u64>, inside_ns: Option<u64>) {
        let fresh = self
            .line
            .filter(|(at, _)| at.abs_diff(now_ns) <= TOGETHER_NS);
        let fresh = fresh.map(|(_, line)| line);
        let line = self.line.map(|(_, line)| line);
        let Some(base) = self.base else {
            let unused = match (uptime_ns, line) {
                (Some(idle), line) if !matches!(self.witness, Witness::Stat(_)) => {
                    Some(idle.saturating_add(line.map_or(0, |l| l.waiting() * TICK_NS)))
                }
                (_, Some(line)) if line.all() > 0 => Some(line.unused() * TICK_NS),
                _ => None,
            };
            match (unused, uptime_ns) {
                (None, _) => self.distrust(if self.uptime.is_some() {
                    Witness::Nothing(Distrust::Frozen)
                } else {
                    Witness::Nothing(Distrust::Unreadable)
                }),
                (Some(_), None) => self.witness = Witness::Stat(Distrust::Unreadable),
                _ => {}
            }
            self.unused_ns = unused;
            self.base = Some(Base {
                t_ns: now_ns,
                capacity_ns: self.capacity_ns,
                unused_ns: unused.unwrap_or(0),
                uptime_ns,
                line: fresh,
                inside_ns,
            });
            return;
        };
        let stretch = Stretch {
            dt_ns: now_ns.saturating_sub(base.t_ns),
            capacity_ns: self.capacity_ns.saturating_sub(base.capacity_ns),
            uptime_ns: minus(uptime_ns, base.uptime_ns),
            stat_ns: fresh
                .zip(base.line)
                .filter(|_| !self.covered)
                .map(|(now, then)| {
                    let ticks = |a: u64, b: u64| a.saturating_sub(b) * TICK_NS;
                    (ticks(now.idle, then.idle), ticks(now.all(), then.all()))
                }),
            used_ns: minus(inside_ns, base.inside_ns),
            genuine: self.genuine,
        };
        // By a little the kernel's own may, when CPUs wake.
        let back = uptime_ns
            .zip(base.uptime_ns)
            .is_some_and(|(now, then)| now + IDLE_STEPS_BACK_NS < then);
        let compared = (fresh.is_some() || self.stat.is_none() || uptime_ns.is_none())
            && stretch.capacity_ns >= LEAST_NS;
        if back {
            // Time that was idle stays so.
            self.distrust(Witness::Nothing(Distrust::Contradicted));
        } else if compared {
            let verdict = judge(&stretch);
            self.distrust(verdict.witness);
            let more = i128::from(verdict.capacity_ns) - i128::from(stretch.capacity_ns);
            self.capacity_ns =
                (i128::from(self.capacity_ns) + more).clamp(0, i128::from(u64::MAX)) as u64;
        }
        let waited = line.zip(base.line).map_or(0, |(now, then)| {
            now.waiting().saturating_sub(then.waiting()) * TICK_NS
        });
        let came = match self.witness {
            Witness::Uptime => stretch.uptime_ns.map(|idle| idle + waited),
            Witness::Stat(_) => stretch.stat_ns.map(|(idle, _)| idle + waited),
            Witness::Nothing(_) => None,
        };
        if let Some(came) = came {
            let gap = if self.lost { UNKNOWN_STRETCH_NS } else { 0 };
            let unused = base.unused_ns.saturating_add(came).saturating_add(gap);
            self.unused_ns = self.unused_ns.max(Some(unused));
        }
        if back || compared || base.line.is_none() && fresh.is_some() {
            self.lost = came.is_none();
            self.base = Some(Base {
                t_ns: now_ns,
                capacity_ns: self.capacity_ns,
                unused_ns: self.unused_ns.unwrap_or(base.unused_ns),
                uptime_ns,
                line: fresh.or(base.line),
                inside_ns,
            });
        }
    }

    /// Times that another file had to be believed or CPUs came or went: what is compared over a
    /// longer time must be from one and the same, of the same CPUs.
    pub fn turns(&self) -> u32 {
        self.turns
    }

    fn distrust(&mut self, witness: Witness) {
        if self.witness != witness {
            self.turns = self.turns.wrapping_add(1);
        }
        self.witness = witness;
        if matches!(witness, Witness::Nothing(_)) {
            self.unknown = Some(witness);
        }
    }

    /// What of [`MachineCpu::idle_ns`] was waiting for I/O or stolen, ns.
    pub fn waiting_ns(&self) -> u64 {
        self.line.map_or(0, |(_, line)| line.waiting() * TICK_NS)
    }

    /// Whether idle time and the process's own since the last look make up the capacity, no more
    /// and no less.
    fn explained(&self, now_ns: u64, uptime_ns: Option<u64>, inside_ns: Option<u64>) -> bool {
        let Some((at, idle_then, Some(inside_then))) = self.seen else {
            return false;
        };
        let (Some(idle_ns), Some(inside_ns)) = (uptime_ns, inside_ns) else {
            return false;
        };
        let capacity = now_ns
            .saturating_sub(at)
            .saturating_mul(u64::from(self.cpus));
        let known = idle_ns.saturating_sub(idle_then) + inside_ns.saturating_sub(inside_then);
        capacity <= known + 2 * TICK_NS && known <= capacity + capacity / 10 + 3 * TICK_NS
    }

    /// [`MachineCpu::stat_line`] as it was just read, or anew.
    pub fn recent_stat_line(&mut self, now_ns: u64) -> Option<StatLine> {
        match self.line {
            Some((at, line)) if now_ns.abs_diff(at) <= TOGETHER_NS => Some(line),
            _ => self.stat_line(now_ns),
        }
    }

    /// The machine's CPU line, for psutil's percentages.
    pub fn stat_line(&mut self, now_ns: u64) -> Option<StatLine> {
        // Only the first line is wanted; it is below 256 bytes.
        let mut buffer = [0u8; 256];
        let text = self.stat.as_ref()?.read_start(&mut buffer).ok()?;
        let line = StatLine::parse(text)?;
        self.line = Some((now_ns, line));
        Some(line)
    }
}

fn minus(now: Option<u64>, then: Option<u64>) -> Option<u64> {
    now.zip(then).map(|(now, then)| now.saturating_sub(then))
}

/// `FUSE_SUPER_MAGIC` of fs/fuse/inode.c.
pub const FUSE: i64 = 0x6573_5546;

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn no_difference_across_what_is_unknown_passes_for_idle_time() {
        assert_eq!(idle_between(Some(S), Some(3 * S), 2 * S), Some(2 * S));
        // Idle time may be printed late, and a window may be long.
        assert_eq!(idle_between(Some(0), Some(9 * S), 2 * S), Some(9 * S));
        let month = 30 * 86_400 * 256 * S;
        assert_eq!(idle_between(Some(0), Some(month), month), Some(month));
        let after = Some(S + UNKNOWN_STRETCH_NS);
        assert_eq!(idle_between(Some(S), after, 2 * S), None);
        assert_eq!(idle_between(None, after, 2 * S), None);
    }
}

//! CPU time and memory of a process and of all its descendants.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::TICK_NS;
use crate::clock;
use crate::source::kept::{Kept, as_text};

/// Looking at a tree may take up to one part in so many of the time.
const REST: u64 = 10;

/// What looking at one process that did nothing takes at most, ns: the first look at a tree has
/// nothing to go by.
const GLANCE_NS: u64 = 1_000;

/// /proc rounds the time of children that were waited for down, user and system time each.
const ROUNDED_NS: u64 = 3 * TICK_NS;

/// The fields of /proc/<pid>/stat that the tree needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PidStat {
    /// Parent.
    pub ppid: i32,
    /// It has ended and was not waited for yet.
    pub zombie: bool,
    /// CPU time of the process, ticks of 10 ms.
    pub own_ticks: u64,
    /// CPU time of children that were waited for, ticks of 10 ms.
    pub children_ticks: u64,
    /// Threads.
    pub threads: u64,
    /// Start time since boot, ticks: distinguishes a reused pid from the old one.
    pub start_ticks: u64,
    /// It ignores `SIGCHLD`: the kernel discards its children, and their CPU time, as they end.
    pub discards: bool,
}

impl PidStat {
    /// Parses /proc/<pid>/stat. The command name may hold blanks, parentheses and newlines, and any
    /// bytes: the kernel cuts it at 15 of them, within a letter where that falls so.
    ///
    /// ```
    /// use lithowatt::source::procfs::PidStat;
    /// let text = b"7 (a) b (\xc3) S 1 7 7 0 -1 0 0 0 0 0 1 2 3 4 20 0 5 0 99 0 0";
    /// let stat = PidStat::parse(text).unwrap();
    /// assert_eq!((stat.ppid, stat.own_ticks, stat.children_ticks), (1, 3, 7));
    /// assert_eq!((stat.threads, stat.start_ticks, stat.discards), (5, 99, false));
    /// ```
    pub fn parse(text: &[u8]) -> Option<Self> {
        let end = text.iter().rposition(|byte| *byte == b')')?;
        // After the name there are numbers and one letter.
        let rest = std::str::from_utf8(&text[end + 1..]).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let zombie = matches!(fields.next()?, "Z" | "X");
        let ppid = fields.next()?.parse().ok()?;
        let utime: u64 = fields.nth(9)?.parse().ok()?;
        let stime: u64 = fields.next()?.parse().ok()?;
        let cutime: u64 = fields.next()?.parse().ok()?;
        let cstime: u64 = fields.next()?.parse().ok()?;
        let threads = fields.nth(2)?.parse().ok()?;
        let start_ticks = fields.nth(1)?.parse().ok()?;
        // Signals 1 to 31, one bit each.
        let ignored: u64 = fields.nth(10).and_then(|f| f.parse().ok()).unwrap_or(0);
        Some(Self {
            ppid,
            zombie,
            own_ticks: utime.saturating_add(stime),
            children_ticks: cutime.saturating_add(cstime),
            threads,
            start_ticks,
            discards: ignored & (1 << (libc::SIGCHLD - 1)) != 0,
        })
    }

    pub(crate) fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
    }
}

/// Time of children that a process has waited for, against what was seen of those that went.
///
/// A child that went is in its parent's children time, unless its parent ignores `SIGCHLD`: then
/// nobody has its time, and what it had used when it was last seen is kept. A look may fall between
/// the two, so that is decided one look later.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Waited {
    /// Children time as last read, ns.
    reaped_ns: u64,
    /// What was seen of children that went and is not in the children time so far, ns.
    owed_ns: u64,
}

impl Waited {
    /// Children time is now `reaped_ns`, and children of which `gone_ns` had been seen went since
    /// the last look. Returns what is lost: it will not come any more. `rounded_ns` is how far
    /// children time may be rounded down.
    fn look(&mut self, reaped_ns: u64, gone_ns: u64, rounded_ns: u64) -> u64 {
        let came = reaped_ns.saturating_sub(self.reaped_ns);
        self.reaped_ns = self.reaped_ns.max(reaped_ns);
        let still_owed = self.owed_ns.saturating_sub(came);
        let left = came.saturating_sub(self.owed_ns);
        let lost = still_owed.saturating_sub(rounded_ns);
        self.owed_ns = still_owed - lost + gone_ns.saturating_sub(left);
        lost
    }

    fn all_ns(self) -> u64 {
        self.reaped_ns.saturating_add(self.owed_ns)
    }
}

/// What is known of a descendant.
#[derive(Debug, Clone, Copy)]
struct Known {
    parent: i32,
    /// `None` where /proc hides it (`hidepid`).
    start_ticks: Option<u64>,
    cpu_ns: u64,
    waited: Waited,
    /// Children time as read in this look, ns.
    reaped_now_ns: u64,
    /// It has ended: its children are others' now.
    zombie: bool,
    /// The kernel discards its children as they end.
    discards: bool,
    /// CPU time when its children were last listed, ns: it has no others while that stands still.
    listed_at_ns: Option<u64>,
    threads: u64,
    there: bool,
}

impl Known {
    fn all_ns(&self) -> u64 {
        self.cpu_ns.saturating_add(self.waited.all_ns())
    }
}

/// The root of a tree.
#[derive(Debug)]
struct Root {
    /// Its number.
    pid: i32,
    /// Its number where /proc is mounted from; `None` where /proc does not show it.
    shown: Option<i32>,
    /// This process.
    own: bool,
    /// Not known of this process, which cannot be another.
    start_ticks: Option<u64>,
    cpu_ns: Option<u64>,
    waited: Waited,
    ended: bool,
    /// It has ended, and was not waited for when it was last looked at.
    zombie: bool,
    /// The kernel discards its children as they end.
    discards: bool,
}

impl Root {
    fn new(pid: Option<i32>) -> Self {
        let own_pid = clock::getpid();
        let pid = pid.unwrap_or(own_pid);
        let own = pid == own_pid;
        // In a PID namespace of its own that sees another's /proc, a number means another process.
        let here = fs::read_link("/proc/self").ok();
        let here = here.and_then(|link| link.to_str()?.parse::<i32>().ok());
        let shown = if own {
            here
        } else {
            here.filter(|here| *here == own_pid).map(|_| pid)
        };
        Self {
            pid,
            shown,
            own,
            start_ticks: shown
                .filter(|_| !own)
                .and_then(|pid| Some(PidStat::read(pid)?.start_ticks)),
            cpu_ns: None,
            waited: Waited::default(),
            ended: false,
            zombie: false,
            discards: false,
        }
    }

    /// Whether numbers in /proc are those of this process's PID namespace.
    fn same_numbers(&self) -> bool {
        self.shown == Some(self.pid)
    }

    /// CPU time, ns; what it was when last seen where the process has ended. `None` where it was
    /// never seen.
    fn cpu_ns(&mut self) -> Option<u64> {
        if self.own {
            self.cpu_ns = Some(clock::own_process_cpu_ns());
            return self.cpu_ns;
        }
        if self.ended {
            return self.cpu_ns;
        }
        // In this order the clock is that of the process whose start time is compared.
        let now = clock::process_cpu_ns(self.pid);
        let same = match (self.shown, self.start_ticks) {
            (Some(pid), Some(start)) => is_since(pid, start),
            _ => true,
        };
        match now.filter(|now| same && self.cpu_ns.is_none_or(|then| *now >= then)) {
            Some(now) => self.cpu_ns = Some(now),
            None => self.ended = true,
        }
        self.cpu_ns
    }

    /// CPU time of children that were waited for, ns. Notes what becomes of the others.
    fn reaped_ns(&mut self) -> u64 {
        if self.own {
            self.discards = clock::discards_children();
            return clock::reaped_children_cpu_ns();
        }
        let stat = self
            .shown
            .filter(|_| !self.ended)
            .and_then(PidStat::read)
            .filter(|stat| {
                self.start_ticks
                    .is_none_or(|start| start == stat.start_ticks)
            });
        // One that had ended by the look before has started nothing since.
        self.discards = stat.is_some_and(|stat| stat.discards) && !self.zombie;
        self.zombie = stat.is_some_and(|stat| stat.zombie);
        stat.map_or(self.waited.reaped_ns, |s| s.children_ticks * TICK_NS)
    }

    fn rounded_ns(&self) -> u64 {
        // rusage is in µs.
        if self.own { 1_000_000 } else { ROUNDED_NS }
    }
}

/// What a tree may have missed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// Descendants that ended without being waited for by the tree: what they used after they were
    /// last seen is missing.
    pub unwaited: u64,
    /// Looks that found a process which ignores `SIGCHLD` and that processes may have been started
    /// since the look before: its children are in nobody's time unless a look saw them.
    pub discarding: u64,
    /// The root ended; what it used after it was last seen is missing.
    pub root_ended: bool,
    /// Times that a cgroup was removed; what was used in it after it was last seen is missing.
    pub removed: u64,
    /// Times that a cgroup's CPU time could not be read, or was lower than before, though the cgroup
    /// was there.
    pub unreadable: u64,
    /// There are or may be descendants, and /proc does not show them: they count when they have
    /// been waited for.
    pub hidden: bool,
}

impl Missed {
    /// What was missed since `then`.
    pub fn since(self, then: Self) -> Self {
        Self {
            unwaited: self.unwaited.saturating_sub(then.unwaited),
            discarding: self.discarding.saturating_sub(then.discarding),
            ..self
        }
    }
}

/// CPU time of a process and of all its descendants, those that died included.
///
/// A descendant that was waited for is in its parent's (and at last our own) children time. One
/// that was orphaned before it died, or that nobody waits for, is nobody's: what it had used when
/// it was last seen is kept. Descendants count on when the root has ended.
#[derive(Debug)]
pub struct Tree {
    root: Root,
    known: HashMap<i32, Known>,
    lost_ns: u64,
    total_ns: u64,
    missed: Missed,
    /// The last process that was started on the machine, as of the last look that found one of the
    /// tree ignoring `SIGCHLD`.
    last_started: Option<i32>,
    late: bool,
    statm: Option<Kept>,
    status: Option<Kept>,
    /// It is this process's, which runs what its parent did when it was forked.
    forked: bool,
    /// What is read goes here, and the room stays.
    text: Vec<u8>,
    /// Before this the tree is not looked at again, ns.
    rest_until_ns: u64,
    /// Before this not every process of it is, ns.
    whole_after_ns: u64,
    memory_rest_until_ns: u64,
    memory_bytes: Option<u64>,
}

impl Tree {
    /// A tree rooted at this process (`None`) or at another.
    pub fn new(pid: Option<i32>) -> Self {
        Self {
            root: Root::new(pid),
            known: HashMap::new(),
            lost_ns: 0,
            total_ns: 0,
            missed: Missed::default(),
            last_started: None,
            late: false,
            statm: None,
            status: None,
            forked: false,
            text: Vec::new(),
            rest_until_ns: 0,
            whole_after_ns: 0,
            memory_rest_until_ns: 0,
            memory_bytes: None,
        }
    }

    /// This process was forked and goes on as what it was. Its peak of memory is the kernel's own
    /// account then; in one that was started as another program that still holds what was before.
    pub fn was_forked(&mut self) {
        self.forked = self.root.own;
    }

    /// CPU time of the root process alone, ns; what it was when last seen where it has ended.
    pub fn root_cpu_ns(&mut self) -> Option<u64> {
        let ns = self.root.cpu_ns();
        self.missed.root_ended = self.root.ended;
        ns
    }

    /// Whether the last reading may hold CPU time that was used long before: that of descendants,
    /// which are seen when they are looked at or have been waited for.
    pub fn may_be_late(&self) -> bool {
        self.late
    }

    /// What was missed so far.
    pub fn missed(&self) -> Missed {
        self.missed
    }

    /// CPU time of the whole tree, ns; never goes back. `None` where the root was never seen.
    pub fn cpu_ns(&mut self) -> Option<u64> {
        let root = self.root_cpu_ns()?;
        // Read before the living are: a child that is reaped in between is missing for a moment,
        // which the maximum below bridges. The other way round it would be counted twice for good.
        let reaped = self.root.reaped_ns();
        let waited = reaped != self.root.waited.reaped_ns;
        let lonely = self.root.own && self.known.is_empty() && !clock::has_children();
        let began = clock::monotonic_ns();
        self.late = !lonely || waited;
        if lonely {
            self.lost_ns += self.root.waited.look(reaped, 0, self.root.rounded_ns());
        } else if began >= self.rest_until_ns || waited {
            self.look(began, reaped);
        }
        self.note_discarding();
        let living: u64 = self.known.values().map(Known::all_ns).sum();
        let total = root + self.root.waited.all_ns() + living + self.lost_ns;
        self.total_ns = self.total_ns.max(total);
        Some(self.total_ns)
    }

    /// Looks at the tree where one of it ignores `SIGCHLD`: of children that the kernel discards
    /// only what looks have seen is known, so the more looks there are, the less is missing.
    pub fn watch_discarded(&mut self) {
        if self.last_started.is_some() {
            self.cpu_ns();
        }
    }

    /// Notes that children may have been discarded unseen. Where nothing was started on the machine
    /// since the last look, none were.
    fn note_discarding(&mut self) {
        let mut discards = self.root.discards;
        for known in self.known.values_mut() {
            discards |= known.discards;
            known.discards &= !known.zombie;
        }
        // One that did at the last look may have gone since, or stopped to.
        if !discards && self.last_started.is_none() {
            return;
        }
        let last = last_started();
        if last.is_none() || last != self.last_started {
            self.missed.discarding += 1;
        }
        self.last_started = last.filter(|_| discards);
    }

    /// Looks at the descendants: at all of them where the last such look is long enough ago, else
    /// at those that ran meanwhile and at new ones. What did not run made no children.
    fn look(&mut self, began_ns: u64, root_reaped_ns: u64) {
        // What the thread itself used: it may have waited for a CPU in between.
        let cpu_before = clock::own_thread_cpu_ns();
        let whole = began_ns >= self.whole_after_ns;
        let Some(shown) = self.root.shown else {
            self.missed.hidden = true;
            self.lost_ns += self
                .root
                .waited
                .look(root_reaped_ns, 0, self.root.rounded_ns());
            return;
        };
        let clocks = self.root.same_numbers();
        // Children times of all are read before any CPU time that counts: a child that is waited
        // for in between must not be in both.
        let mut queue = vec![(shown, 0)];
        for (pid, known) in &mut self.known {
            let clock = clock::process_cpu_ns(*pid).filter(|_| clocks);
            known.there = clock.is_some();
            known.reaped_now_ns = known.waited.reaped_ns;
            if !whole && clock.is_some() && clock == known.listed_at_ns {
                continue;
            }
            let stat = PidStat::read(*pid);
            known.there = match (&stat, known.start_ticks) {
                (Some(stat), Some(start)) => stat.start_ticks == start,
                // Hidden, or no descriptor is free to read it.
                _ => clock.is_some_and(|ns| ns >= known.cpu_ns),
            };
            if !known.there {
                continue;
            }
            if let Some(stat) = stat {
                known.parent = stat.ppid;
                known.discards = stat.discards && !known.zombie;
                known.zombie = stat.zombie;
                known.threads = stat.threads;
                known.reaped_now_ns = stat.children_ticks * TICK_NS;
            }
            known.listed_at_ns = clock;
            queue.push((*pid, known.threads));
        }
        // Whoever is there after all children times were read is in none of them. Looked at before
        // its parent, a child that was waited for in between would be counted twice.
        for (pid, known) in self.known.iter_mut().filter(|(_, known)| known.there) {
            known.there = match known.listed_at_ns {
                Some(_) => clock::process_cpu_ns(*pid).is_some(),
                None => PidStat::read(*pid).is_some(),
            };
        }
        let mut gone: Vec<(i32, Known)> = Vec::new();
        self.known.retain(|pid, known| {
            if !known.there {
                gone.push((*pid, *known));
            }
            known.there
        });
        queue.retain(|(pid, _)| {
            if *pid == shown {
                !self.root.ended
            } else {
                self.known.contains_key(pid)
            }
        });
        let listed = self.find(queue, whole, clocks);
        self.missed.hidden |= whole && !listed;
        for (pid, known) in &mut self.known {
            let now = match clocks.then(|| clock::process_cpu_ns(*pid)).flatten() {
                Some(ns) => ns,
                // No such clock here (gVisor): /proc has it in ticks.
                None => PidStat::read(*pid)
                    .filter(|stat| known.start_ticks.is_none_or(|s| s == stat.start_ticks))
                    .map_or(0, |stat| stat.own_ticks * TICK_NS),
            };
            known.cpu_ns = known.cpu_ns.max(now);
        }
        self.settle(gone, root_reaped_ns);
        let ended = clock::monotonic_ns();
        let took = clock::own_thread_cpu_ns().saturating_sub(cpu_before);
        if whole {
            self.whole_after_ns = ended + 2 * REST * took;
            self.rest_until_ns = ended + REST * took.min(self.known.len() as u64 * GLANCE_NS);
        } else {
            self.rest_until_ns = ended + REST * took;
        }
    }

    /// Takes up the descendants of `queue` (number and threads of each) that are not known yet.
    /// Returns whether /proc could be asked for them.
    fn find(&mut self, mut queue: Vec<(i32, u64)>, whole: bool, clocks: bool) -> bool {
        let mut listed = queue.is_empty();
        let mut unlisted = Vec::new();
        let mut all = None;
        while let Some((parent, threads)) = queue.pop() {
            let children = match children_of(parent, threads) {
                Some(children) => children,
                // A kernel without CONFIG_PROC_CHILDREN: every process is asked for its parent.
                None if whole && fs::metadata(format!("/proc/{parent}/stat")).is_ok() => all
                    .get_or_insert_with(all_parents)
                    .iter()
                    .filter(|(_, ppid)| *ppid == parent)
                    .map(|(pid, _)| *pid)
                    .collect(),
                None => {
                    unlisted.push(parent);
                    continue;
                }
            };
            listed = true;
            for child in children {
                if self.known.contains_key(&child) {
                    continue;
                }
                let clock = clock::process_cpu_ns(child).filter(|_| clocks);
                let stat = PidStat::read(child);
                if stat.is_none() && clock.is_none() {
                    continue;
                }
                let reaped = stat.map_or(0, |s| s.children_ticks * TICK_NS);
                let threads = stat.map_or(0, |s| s.threads);
                self.known.insert(
                    child,
                    Known {
                        parent: stat.map_or(parent, |s| s.ppid),
                        start_ticks: stat.map(|s| s.start_ticks),
                        cpu_ns: 0,
                        waited: Waited {
                            reaped_ns: reaped,
                            owed_ns: 0,
                        },
                        reaped_now_ns: reaped,
                        listed_at_ns: clock,
                        threads,
                        zombie: stat.is_some_and(|s| s.zombie),
                        discards: stat.is_some_and(|s| s.discards),
                        there: true,
                    },
                );
                queue.push((child, threads));
            }
        }
        // One that has just ended cannot be listed; where none can, /proc hides them.
        listed || unlisted.iter().all(|pid| *pid != self.root.pid)
    }

    /// Puts down what is left of processes that went since the last look.
    fn settle(&mut self, gone: Vec<(i32, Known)>, root_reaped_ns: u64) {
        let mut gone_below: HashMap<i32, u64> = HashMap::new();
        let parents: HashMap<i32, i32> = gone
            .iter()
            .map(|(pid, known)| (*pid, known.parent))
            .collect();
        let ended = self.known.iter().filter(|(_, known)| known.zombie);
        let ended: HashSet<i32> = ended.map(|(pid, _)| *pid).collect();
        // Their children have other parents now, in the tree or outside of it.
        for (pid, known) in &mut self.known {
            if (parents.contains_key(&known.parent) || ended.contains(&known.parent))
                && let Some(stat) = PidStat::read(*pid)
            {
                known.parent = stat.ppid;
            }
        }
        let root = self.root.shown.filter(|_| !self.root.ended);
        for (_, known) in &gone {
            // Whoever waited for its parent has the time of both. A parent that has ended, and was
            // not waited for yet, may have waited for it before.
            let mut heir = known.parent;
            for _ in 0..=parents.len() {
                let Some(parent) = parents.get(&heir) else {
                    break;
                };
                heir = *parent;
            }
            if Some(heir) == root || self.known.contains_key(&heir) {
                *gone_below.entry(heir).or_default() += known.all_ns();
            } else {
                self.lost_ns += known.all_ns();
                // Of one that was seen when it had ended nothing is missing, whoever waits for it
                // and however late.
                self.missed.unwaited += u64::from(!known.zombie);
            }
        }
        let mut lost = 0;
        let mut look = |waited: &mut Waited, reaped: u64, pid: i32, rounded: u64| {
            let below = gone_below.get(&pid).copied().unwrap_or(0);
            let here = waited.look(reaped, below, rounded);
            if here > 0 {
                self.missed.unwaited += 1;
            }
            lost += here;
        };
        let shown = self.root.shown.unwrap_or(self.root.pid);
        let rounded = self.root.rounded_ns();
        look(&mut self.root.waited, root_reaped_ns, shown, rounded);
        for (pid, known) in &mut self.known {
            look(&mut known.waited, known.reaped_now_ns, *pid, ROUNDED_NS);
        }
        self.lost_ns += lost;
    }

    /// Every living thread of the tree, root first; none where /proc shows other numbers than the
    /// kernel knows this process and its descendants by.
    pub fn tids(&mut self) -> Vec<i32> {
        if !self.root.same_numbers() {
            return Vec::new();
        }
        self.whole_after_ns = 0;
        self.rest_until_ns = 0;
        self.cpu_ns();
        let mut pids = vec![self.root.pid];
        pids.extend(self.known.keys());
        pids.iter().flat_map(|pid| tids_of(*pid)).collect()
    }

    /// Peak of the root's resident memory since its last exec, bytes.
    pub fn root_peak_bytes(&mut self) -> Option<u64> {
        if self.forked {
            return clock::own_peak_bytes();
        }
        if self.status.is_none() {
            let pid = self.root.shown?;
            self.status = Kept::open(Path::new(&format!("/proc/{pid}/status"))).ok();
        }
        peak_bytes(self.status.as_ref()?.read_whole(&mut self.text).ok()?)
    }

    /// Resident memory of the tree, bytes: now, or when it was last read if that took long.
    pub fn rss_bytes(&mut self) -> Option<u64> {
        let began = clock::monotonic_ns();
        if began < self.memory_rest_until_ns {
            return self.memory_bytes;
        }
        let cpu_before = clock::own_thread_cpu_ns();
        if self.statm.is_none() {
            let pid = self.root.shown?;
            self.statm = Kept::open(Path::new(&format!("/proc/{pid}/statm"))).ok();
        }
        let root = self
            .statm
            .as_ref()
            .and_then(|statm| statm_bytes(statm.read_whole(&mut self.text).ok()?));
        let below = self.known.keys().filter_map(|pid| rss_of(*pid));
        self.memory_bytes = match root {
            Some(root) => Some(root + below.sum::<u64>()),
            // The root has ended.
            None => below.reduce(|a, b| a + b),
        };
        let took = clock::own_thread_cpu_ns().saturating_sub(cpu_before);
        self.memory_rest_until_ns = began + REST * took;
        self.memory_bytes
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

/// When the process `pid` began, ticks since boot; `None` where /proc does not show it. With its
/// number this distinguishes it from every other.
pub fn began_at(pid: i32) -> Option<u64> {
    PidStat::read(pid).map(|stat| stat.start_ticks)
}

/// Whether `pid` is the process that began at `start` (ticks); true where that cannot be known.
fn is_since(pid: i32, start: u64) -> bool {
    match fs::read(format!("/proc/{pid}/stat")) {
        Ok(text) => PidStat::parse(&text).is_some_and(|stat| stat.start_ticks == start),
        Err(e) => e.kind() != io::ErrorKind::NotFound && e.raw_os_error() != Some(libc::ESRCH),
    }
}

/// Number of the last process or thread that was started in the PID namespace of /proc.
fn last_started() -> Option<i32> {
    slurp("/proc/loadavg")?
        .split_ascii_whitespace()
        .nth(4)?
        .parse()
        .ok()
}

fn slurp(path: &str) -> Option<String> {
    let mut bytes = fs::read(path).ok()?;
    Some(as_text(&mut bytes).to_owned())
}

fn numbers_in(dir: &str) -> impl Iterator<Item = i32> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn tids_of(pid: i32) -> Vec<i32> {
    numbers_in(&format!("/proc/{pid}/task")).collect()
}

/// Direct children of any thread of `pid`, which has so many `threads` (0: unknown); `None` where
/// they are not listed.
fn children_of(pid: i32, threads: u64) -> Option<Vec<i32>> {
    let mut children = Vec::new();
    let mut listed = false;
    let mut add = |tid: i32| {
        if let Some(text) = slurp(&format!("/proc/{pid}/task/{tid}/children")) {
            listed = true;
            children.extend(
                text.split_ascii_whitespace()
                    .filter_map(|c| c.parse::<i32>().ok()),
            );
        }
    };
    if threads == 1 {
        add(pid);
    } else {
        tids_of(pid).into_iter().for_each(&mut add);
    }
    listed.then_some(children)
}

/// Every process and its parent.
fn all_parents() -> Vec<(i32, i32)> {
    numbers_in("/proc")
        .filter_map(|pid| Some((pid, PidStat::read(pid)?.ppid)))
        .collect()
}

fn rss_of(pid: i32) -> Option<u64> {
    statm_bytes(&slurp(&format!("/proc/{pid}/statm"))?)
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

    const MS: u64 = 1_000_000;

    #[test]
    fn a_child_that_was_waited_for_is_counted_once() {
        // In the same look, one look later, and with time that nobody had seen of it.
        for (first, second) in [(300, 300), (0, 300), (0, 350), (350, 350)] {
            let mut waited = Waited::default();
            assert_eq!(waited.look(first * MS, 300 * MS, 0), 0);
            assert_eq!(waited.look(second * MS, 0, 0), 0);
            assert_eq!(waited.look(second * MS, 0, 0), 0);
            assert_eq!(waited.all_ns(), second * MS);
        }
    }

    #[test]
    fn a_child_that_nobody_waits_for_is_kept_as_it_was_seen() {
        let mut waited = Waited::default();
        assert_eq!(waited.look(0, 300 * MS, 0), 0);
        // It is there at once, and for good when it did not come a look later.
        assert_eq!(waited.all_ns(), 300 * MS);
        assert_eq!(waited.look(0, 0, 0), 300 * MS);
        // Another's time does not pay for it.
        assert_eq!(waited.look(200 * MS, 0, 0), 0);
        assert_eq!(waited.all_ns(), 200 * MS);
    }

    #[test]
    fn rounding_down_is_no_loss() {
        let mut waited = Waited::default();
        let (mut exact, mut lost) = (0, 0);
        for _ in 0..1000 {
            exact += 7 * MS;
            lost += waited.look(exact / TICK_NS * TICK_NS, 7 * MS, ROUNDED_NS);
        }
        assert_eq!(lost, 0);
        assert!(waited.all_ns().abs_diff(exact) < ROUNDED_NS);
    }

    #[test]
    fn a_process_that_ignores_sigchld_is_told_by_its_stat() {
        let stat = |ignored: u64| {
            let text = format!(
                "7 (a) S 1 7 7 0 -1 0 0 0 0 0 1 2 3 4 20 0 1 0 99 0 0 0 0 0 0 0 0 0 0 {ignored} 0"
            );
            PidStat::parse(text.as_bytes()).unwrap().discards
        };
        let sigchld = 1 << (libc::SIGCHLD - 1);
        assert!(stat(sigchld) && stat(sigchld | 4096));
        assert!(!stat(0) && !stat(4096) && !stat(sigchld << 1));
    }

    #[test]
    fn a_tree_of_a_process_that_never_was_has_no_time() {
        // The largest pid of Linux is 2^22.
        let mut tree = Tree::new(Some((1 << 22) + 1));
        assert_eq!((tree.cpu_ns(), tree.root_cpu_ns()), (None, None));
    }
}

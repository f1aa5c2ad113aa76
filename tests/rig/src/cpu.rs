//! Who was on a CPU, and for how long: the machine as a whole and registered processes.

use crate::sys;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

const TICK_NS: u64 = 10_000_000;

/// CPU time of the whole machine.
#[derive(Debug)]
pub enum Busy {
    /// `cpuacct.usage` of the root cgroup: ns.
    Cpuacct(File),
    /// `/proc/stat`: every CPU's time less idle and iowait, in ticks of 10 ms.
    ProcStat(File),
}

impl Busy {
    /// The better source that is there and covers the whole machine.
    pub fn open() -> io::Result<Self> {
        let stat = File::open("/proc/stat")?;
        let machine = busy_of_stat(&read_text(&stat)?).unwrap_or(0);
        if let Ok(file) = File::open("/sys/fs/cgroup/cpuacct/cpuacct.usage") {
            // In a container this may be the container's own group, which has used far less.
            let usage = read_text(&file)?.trim().parse::<u64>().unwrap_or(0);
            if usage.saturating_add(1_000_000_000) > machine / 10 * 7 {
                return Ok(Self::Cpuacct(file));
            }
        }
        Ok(Self::ProcStat(stat))
    }

    /// ns of CPU time since boot; lags by up to one scheduler tick for what runs right now.
    pub fn read(&self) -> Option<u64> {
        match self {
            Self::Cpuacct(file) => read_text(file).ok()?.trim().parse().ok(),
            Self::ProcStat(file) => busy_of_stat(&read_text(file).ok()?),
        }
    }

    /// Name of the source.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cpuacct(_) => "cpuacct",
            Self::ProcStat(_) => "procstat",
        }
    }
}

fn read_text(file: &File) -> io::Result<String> {
    let mut buffer = [0u8; 512];
    let n = file.read_at(&mut buffer, 0)?;
    Ok(String::from_utf8_lossy(&buffer[..n]).into_owned())
}

/// ns of user, nice, system, irq and softirq time in the first line of `/proc/stat`.
fn busy_of_stat(text: &str) -> Option<u64> {
    let fields: Vec<u64> = text
        .lines()
        .next()?
        .split_whitespace()
        .skip(1)
        .map_while(|f| f.parse().ok())
        .collect();
    let used: u64 = [0, 1, 2, 5, 6]
        .iter()
        .map(|i| fields.get(*i).copied())
        .sum::<Option<u64>>()?;
    Some(used * TICK_NS)
}

/// Parent and CPU time of reaped children, ns, from `/proc/PID/stat`.
fn parse_stat(text: &str) -> Option<(i32, u64)> {
    // The command's name is in parentheses and may contain anything.
    let rest = &text[text.rfind(')')? + 1..];
    let mut fields = rest.split_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let cutime: u64 = fields.nth(11)?.parse().ok()?;
    let cstime: u64 = fields.next()?.parse().ok()?;
    Some((parent, (cutime + cstime) * TICK_NS))
}

/// Parent of a process; `None` when it is gone.
pub fn parent(pid: i32) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&text).map(|(parent, _)| parent)
}

fn numbers_in(dir: &Path) -> Vec<i32> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// `pid` and its living descendants, without those under `except`.
fn family(pid: i32, except: &[i32]) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for p in numbers_in(Path::new("/proc")) {
        if let Some(up) = parent(p) {
            children.entry(up).or_default().push(p);
        }
    }
    let mut found = vec![pid];
    let mut k = 0;
    while k < found.len() {
        if let Some(more) = children.get(&found[k]) {
            found.extend(more.iter().filter(|p| !except.contains(p)));
        }
        k += 1;
    }
    found
}

/// CPU time of a registered process.
#[derive(Debug)]
pub struct Clock {
    source: Source,
    last: u64,
}

#[derive(Debug)]
enum Source {
    /// perf's task clock on each thread that existed, inherited by those that came later.
    Perf(Vec<OwnedFd>),
    /// The process's CPU clock, and what its reaped children used.
    Process {
        clock: libc::clockid_t,
        stat: Option<File>,
    },
}

impl Clock {
    /// Starts to count `pid`; with `tree` its descendants too, those under `except` excepted.
    pub fn start(pid: i32, tree: bool, except: &[i32]) -> io::Result<Self> {
        // Doubles as the check that the process exists.
        let clock = sys::cpu_clock_of(pid)?;
        let members = if tree { family(pid, except) } else { vec![pid] };
        let mut fds = Vec::new();
        for member in members {
            for tid in numbers_in(&Path::new("/proc").join(member.to_string()).join("task")) {
                match sys::task_clock(tid, tree) {
                    Ok(fd) => fds.push(fd),
                    // It has ended since it was listed.
                    Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
                    Err(_) => return Ok(Self::process(pid, clock, tree)),
                }
            }
        }
        Ok(Self {
            source: Source::Perf(fds),
            last: 0,
        })
    }

    fn process(pid: i32, clock: libc::clockid_t, tree: bool) -> Self {
        let stat = tree
            .then(|| File::open(format!("/proc/{pid}/stat")).ok())
            .flatten();
        let mut this = Self {
            source: Source::Process { clock, stat },
            last: 0,
        };
        this.advance();
        this
    }

    /// ns used since the last call.
    pub fn advance(&mut self) -> u64 {
        let total = match &self.source {
            Source::Perf(fds) => fds.iter().filter_map(sys::read_counter).sum(),
            Source::Process { clock, stat } => {
                let own = sys::clock_ns(*clock).unwrap_or(0);
                let reaped = stat
                    .as_ref()
                    .and_then(|f| parse_stat(&read_text(f).ok()?))
                    .map_or(0, |(_, ns)| ns);
                own + reaped
            }
        };
        let delta = total.saturating_sub(self.last);
        self.last = self.last.max(total);
        delta
    }

    /// Name of the source.
    pub fn name(&self) -> &'static str {
        match self.source {
            Source::Perf(_) => "perf",
            Source::Process { .. } => "process",
        }
    }
}

/// CPU time of everybody else: what the machine used less what registered processes used.
///
/// The machine's clock moves in scheduler ticks for what runs right now, a registered process's
/// clock does not; their difference is a saw-tooth around the truth, at times below zero. A pool
/// with a time constant of about two ticks passes on every nanosecond, smoothly and never negative.
#[derive(Debug, Default)]
pub struct Others {
    pool_ns: f64,
}

impl Others {
    const TAU_NS: f64 = 8e6;

    /// Takes in what was newly seen (may be negative), passes on the part due after `dt_ns`.
    pub fn flow(&mut self, seen_ns: f64, dt_ns: f64) -> f64 {
        self.pool_ns += seen_ns;
        let out = (self.pool_ns * (1.0 - (-dt_ns / Self::TAU_NS).exp())).max(0.0);
        self.pool_ns -= out;
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_counts_all_but_idle_iowait_and_steal() {
        let text = "cpu  1411 10 1471 184877 308 1 18 48 0 0\ncpu0 1 2 3\n";
        assert_eq!(
            busy_of_stat(text),
            Some((1411 + 10 + 1471 + 1 + 18) * 10_000_000)
        );
        assert_eq!(busy_of_stat("cpu  1 2"), None);
    }

    #[test]
    fn a_command_name_may_look_like_anything() {
        let text =
            "42 (a) b 1 (c) S 7 42 42 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 100 1000 100";
        assert_eq!(parse_stat(text), Some((7, 700_000_000)));
    }

    #[test]
    fn others_lose_nothing_and_are_never_negative() {
        let mut o = Others::default();
        let mut out = 0.0;
        for k in 0..1000 {
            // A registered process's clock runs ahead of the machine's, which moves every fourth step.
            let seen = if k % 4 == 3 { 3.5e6 } else { -1e6 };
            let part = o.flow(seen, 1e6);
            assert!(part >= 0.0);
            out += part;
        }
        let seen = 250.0 * (3.5e6 - 3e6);
        assert!((out - seen).abs() < 6e6, "{out} {seen}");
    }

    #[test]
    fn this_process_has_a_parent_and_is_of_its_own_family() {
        let me = i32::try_from(std::process::id()).expect("pid");
        assert!(parent(me).expect("alive") > 0);
        assert!(family(me, &[]).contains(&me));
    }

    #[test]
    fn a_clock_counts_what_a_process_and_its_children_use() {
        // The outer shell only waits: all the time is its child's, born after the start.
        let script = "read go; sh -c 'n=0; while [ $n -lt 100000 ]; do n=$((n+1)); done'; read go";
        let mut shell = std::process::Command::new("sh")
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("shell");
        let pid = i32::try_from(shell.id()).expect("pid");
        let mut tree = Clock::start(pid, true, &[]).expect("clock");
        let mut alone = Clock::start(pid, false, &[]).expect("clock");
        let mut stdin = shell.stdin.take().expect("pipe");
        std::io::Write::write_all(&mut stdin, b"go\ngo\n").expect("written");
        drop(stdin);
        shell.wait().expect("ended");
        // 100,000 rounds of a shell take tens of milliseconds anywhere.
        let (tree, alone) = (tree.advance(), alone.advance());
        assert!(tree > 5_000_000 && tree > 4 * alone, "{tree} {alone}");
    }
}

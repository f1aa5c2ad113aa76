//! What the cgroups of a process limit, and what the limiting ones account for.
//!
//! Quota, cpuset and memory limit hold from any ancestor, so the tightest counts. v1, v2 and both at
//! once (hybrid) are read; a path that this container cannot see counts as its cgroup mount's top.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cpu::cgroup_usage_usec;
use super::own::upwards;
use crate::source::kept::Kept;
use crate::source::plain;
use crate::source::procfs::cpu_list;

/// A v1 memory limit from here on is none: the kernel shows "no limit" as a number near 2^63.
const NO_LIMIT_BYTES: u64 = 1 << 60;

/// Where a cgroup's CPU accounting is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Accounts {
    /// `cpu.stat`, of either version.
    pub(crate) stat: PathBuf,
    /// `cpuacct.usage` of v1.
    usage: Option<PathBuf>,
}

impl Accounts {
    /// Opens it; `None` where it cannot be read.
    pub(crate) fn open(&self) -> Option<SandboxCpu> {
        Some(SandboxCpu {
            stat: Kept::open(&self.stat).ok()?,
            usage: self.usage.as_ref().and_then(|path| Kept::open(path).ok()),
        })
    }
}

/// CPU accounting of the cgroup that limits this process, kept open.
#[derive(Debug)]
pub struct SandboxCpu {
    stat: Kept,
    usage: Option<Kept>,
}

impl SandboxCpu {
    /// Reads it.
    pub fn read(&self) -> Option<SandboxCount> {
        let mut buffer = [0u8; 4096];
        let mut count = SandboxCount::parse(self.stat.read(&mut buffer).ok()?)?;
        if let Some(usage) = &self.usage {
            count.used_ns = usage
                .read(&mut buffer)
                .ok()
                .and_then(|text| text.trim().parse().ok());
        }
        Some(count)
    }
}

/// What a cgroup's `cpu.stat` has counted since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxCount {
    /// CPU time of everything in it, ns.
    pub used_ns: Option<u64>,
    /// Periods of the quota in which something ran.
    pub periods: u64,
    /// Periods in which the quota was used up.
    pub throttled_periods: u64,
    /// Time that run queues waited for the next period, ns, summed over CPUs.
    pub throttled_ns: u64,
}

impl SandboxCount {
    /// Parses `cpu.stat` of v2 (`throttled_usec`) or v1 (`throttled_time`, ns); `None` where it shows neither time
    /// nor periods.
    ///
    /// ```
    /// use lithowatt::cgroup::limits::SandboxCount;
    /// let v2 = "usage_usec 7\nnr_periods 20\nnr_throttled 5\nthrottled_usec 900\n";
    /// let count = SandboxCount::parse(v2).unwrap();
    /// assert_eq!((count.used_ns, count.throttled_ns), (Some(7_000), 900_000));
    /// let v1 = SandboxCount::parse("nr_periods 20\nnr_throttled 5\nthrottled_time 900\n").unwrap();
    /// assert_eq!((v1.used_ns, v1.throttled_ns, v1.throttled_periods), (None, 900, 5));
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
                .and_then(|value| value.trim().parse::<u64>().ok())
        };
        let us = |value: u64| value.saturating_mul(1000);
        let (used_ns, periods) = (cgroup_usage_usec(text).map(us), field("nr_periods"));
        (used_ns.is_some() || periods.is_some()).then(|| Self {
            used_ns,
            // Without a quota there are none.
            periods: periods.unwrap_or(0),
            throttled_periods: field("nr_throttled").unwrap_or(0),
            throttled_ns: field("throttled_usec")
                .map(us)
                .or_else(|| field("throttled_time"))
                .unwrap_or(0),
        })
    }

    /// What was counted since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            used_ns: self
                .used_ns
                .zip(earlier.used_ns)
                .map(|(now, then)| now.saturating_sub(then)),
            periods: self.periods.saturating_sub(earlier.periods),
            throttled_periods: self
                .throttled_periods
                .saturating_sub(earlier.throttled_periods),
            throttled_ns: self.throttled_ns.saturating_sub(earlier.throttled_ns),
        }
    }
}

/// The directories of a process's cgroups, each from its own up to the top of the mount.
#[derive(Debug, Default)]
pub(crate) struct Directories {
    unified: Vec<PathBuf>,
    cpu: Vec<PathBuf>,
    cpuacct: Vec<PathBuf>,
    cpuset: Vec<PathBuf>,
    memory: Vec<PathBuf>,
}

impl Directories {
    /// By the text of /proc/self/cgroup; without it by the tops of the mounts.
    pub(crate) fn of(root: &Path, text: &[u8]) -> Self {
        let mount = root.join("sys/fs/cgroup");
        let mut unified_path: &[u8] = b"/";
        let mut v1: Vec<(&str, &[u8])> = Vec::new();
        for line in text.split(|byte| *byte == b'\n') {
            // Names of groups may be any bytes.
            let mut fields = line.splitn(3, |byte| *byte == b':');
            let (Some(_), Some(controllers), Some(path)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let Ok(controllers) = std::str::from_utf8(controllers) else {
                continue;
            };
            if controllers.is_empty() {
                unified_path = path;
            } else {
                v1.push((controllers, path));
            }
        }
        let controller = |name: &str| {
            let found = v1
                .iter()
                .find(|(all, _)| all.split(',').any(|one| one == name));
            let (all, path) = found.copied().unwrap_or((name, b"/"));
            [all, name, "cpu,cpuacct"]
                .iter()
                .filter(|dir| dir.split(',').any(|one| one == name))
                .map(|dir| mount.join(dir))
                .find(|base| base.is_dir())
                .map_or_else(Vec::new, |base| upwards(&base, path))
        };
        let hybrid = mount.join("unified");
        Self {
            unified: if hybrid.is_dir() {
                upwards(&hybrid, unified_path)
            } else {
                upwards(&mount, unified_path)
            },
            cpu: controller("cpu"),
            cpuacct: controller("cpuacct"),
            cpuset: controller("cpuset"),
            memory: controller("memory"),
        }
    }

    /// The tightest quota, CPUs, and the directory that sets it. What is neither a quota nor the word for none
    /// goes into `odd`, a sentence for each.
    pub(crate) fn quota(&self, odd: &mut Vec<String>) -> Option<(f64, PathBuf)> {
        let mut quotas = Vec::new();
        for dir in &self.unified {
            let Some(text) = slurp(dir, "cpu.max") else {
                continue;
            };
            match cpu_max(&text) {
                Some(cpus) => quotas.push((cpus, dir)),
                None if text.starts_with("max") => {}
                None => odd.push(no_limit(dir, "cpu.max", &text)),
            }
        }
        for dir in &self.cpu {
            let period = slurp(dir, "cpu.cfs_period_us");
            let Some((quota, period)) = slurp(dir, "cpu.cfs_quota_us").zip(period) else {
                continue;
            };
            match cpu_max(&format!("{} {}", quota.trim(), period.trim())) {
                Some(cpus) => quotas.push((cpus, dir)),
                None if quota.trim() == "-1" => {}
                None => odd.push(no_limit(dir, "cpu.cfs_quota_us", &quota)),
            }
        }
        let tightest = quotas.into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
        tightest.map(|(cpus, dir)| (cpus, dir.clone()))
    }

    /// The files that limits are read from, as far as there are any.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let tables: [(&[PathBuf], &[&str]); 4] = [
            (
                &self.unified,
                &["cpu.max", "cpuset.cpus.effective", "memory.max"],
            ),
            (&self.cpu, &["cpu.cfs_quota_us", "cpu.cfs_period_us"]),
            (&self.cpuset, &["cpuset.effective_cpus", "cpuset.cpus"]),
            (&self.memory, &["memory.limit_in_bytes"]),
        ];
        let paths = tables.iter().flat_map(|(dirs, names)| {
            dirs.iter()
                .flat_map(|dir| names.iter().map(|name| dir.join(name)))
        });
        paths.filter(|path| path.exists()).collect()
    }

    /// CPUs of the cpuset.
    pub(crate) fn cpuset(&self) -> Option<u32> {
        let count = |text: String| {
            let cpus = cpu_list(text.trim())?;
            (!cpus.is_empty()).then_some(cpus.len() as u32)
        };
        let unified = self
            .unified
            .iter()
            .find_map(|dir| count(slurp(dir, "cpuset.cpus.effective")?));
        unified.or_else(|| {
            self.cpuset.iter().find_map(|dir| {
                count(slurp(dir, "cpuset.effective_cpus").or_else(|| slurp(dir, "cpuset.cpus"))?)
            })
        })
    }

    /// The tightest memory limit, bytes; with `odd` as in [`Directories::quota`].
    pub(crate) fn memory_bytes(&self, odd: &mut Vec<String>) -> Option<u64> {
        let unified = self.unified.iter().map(|dir| (dir, "memory.max"));
        let v1 = self.memory.iter().map(|dir| (dir, "memory.limit_in_bytes"));
        let bytes = unified.chain(v1).filter_map(|(dir, name)| {
            let text = slurp(dir, name)?;
            let bytes = text.trim().parse::<u64>();
            if bytes.is_err() && text.trim() != "max" {
                odd.push(no_limit(dir, name, &text));
            }
            bytes.ok()
        });
        bytes
            .filter(|bytes| (1..NO_LIMIT_BYTES).contains(bytes))
            .min()
    }

    /// The process's own cgroup, for one that is limited by its cpuset.
    pub(crate) fn leaf(&self) -> Option<PathBuf> {
        let counted = self
            .unified
            .iter()
            .find(|dir| dir.join("cpu.stat").exists());
        counted.or_else(|| self.cpu.first()).cloned()
    }

    pub(crate) fn accounts(&self, dir: &Path) -> Accounts {
        // v1 keeps CPU time in another hierarchy, at the same depth.
        let above = self.cpu.iter().position(|d| d == dir);
        let usage = above
            .and_then(|n| {
                let from_top = self.cpu.len() - 1 - n;
                self.cpuacct.iter().rev().nth(from_top)
            })
            .map(|d| d.join("cpuacct.usage"));
        Accounts {
            stat: dir.join("cpu.stat"),
            usage,
        }
    }
}

fn slurp(dir: &Path, name: &str) -> Option<String> {
    plain::kernel_text(&dir.join(name)).ok()
}

/// That a file's text says nothing of a limit.
fn no_limit(dir: &Path, name: &str, text: &str) -> String {
    let text: String = text.trim().chars().take(32).collect();
    let path = dir.join(name);
    format!(
        "{} holds {text:?}, which is no limit: none is assumed",
        path.display()
    )
}

/// CPUs by a cgroup v2 `cpu.max`: quota over period, `None` where it is `max`.
///
/// ```
/// use lithowatt::cgroup::limits::cpu_max;
/// assert_eq!(cpu_max("150000 100000\n"), Some(1.5));
/// assert_eq!(cpu_max("max 100000\n"), None);
/// assert_eq!(cpu_max("-1 100000"), None);
/// ```
pub fn cpu_max(text: &str) -> Option<f64> {
    let mut fields = text.split_ascii_whitespace();
    let quota: f64 = fields.next()?.parse().ok()?;
    let period: f64 = fields.next()?.parse().ok()?;
    let cpus = quota / period;
    (quota > 0.0 && period > 0.0 && cpus.is_finite()).then_some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_accounting_counts_nothing() {
        for text in ["nr_periods x\nusage_usec", "", "0\n", "usage_usec -1\n"] {
            assert_eq!(SandboxCount::parse(text), None, "{text:?}");
        }
        // Without a quota there are no periods.
        let count = SandboxCount::parse("usage_usec 5\nuser_usec 5\n");
        assert_eq!(count.map(|count| count.throttled_periods), Some(0));
    }
}

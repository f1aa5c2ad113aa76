//! Which part of the machine may this process use, and was it held back?
//!
//! Affinity comes from the kernel, the rest from the files of the process's cgroups: quota, cpuset
//! and memory limit hold from any of its ancestors, so the tightest counts. v1, v2 and both at once
//! (hybrid) are read; a path that this container cannot see counts as its cgroup mount's top.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use serde::Serialize;

use crate::source::kept::Kept;
use crate::source::plain;
use crate::source::procfs::cgroup_usage_usec;

/// A v1 memory limit from here on is none: the kernel shows "no limit" as a number near 2^63.
const NO_LIMIT_BYTES: u64 = 1 << 60;

/// Least part of a CPU that counts.
pub const LEAST_CPUS: f64 = 0.01;

/// What sets the CPUs that a process may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Nothing: every CPU of the machine.
    Machine,
    /// The CPUs that its threads may run on.
    Affinity,
    /// The CPUs of its cgroup.
    Cpuset,
    /// CPU time per period of its cgroup.
    Quota,
    /// AWS Lambda's memory size, which buys CPU time.
    LambdaMemory,
}

impl Limit {
    fn words(self) -> &'static str {
        match self {
            Self::Machine => "no limit",
            Self::Affinity => "affinity",
            Self::Cpuset => "cpuset",
            Self::Quota => "cgroup quota",
            Self::LambdaMemory => "Lambda memory, 1769 MB a vCPU",
        }
    }
}

/// The part of a machine that a process may use.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Share {
    /// CPUs, a fraction where a quota sets it; at least [`LEAST_CPUS`].
    pub cpus: f64,
    /// CPUs of the machine.
    pub machine_cpus: u32,
    /// What sets them.
    pub set_by: Limit,
    /// CPU quota of the cgroup, CPUs.
    pub quota: Option<f64>,
    /// CPUs of the cgroup's cpuset, where there are fewer than the machine's.
    pub cpuset: Option<u32>,
    /// CPUs that the threads may run on.
    pub affinity: Option<u32>,
    /// Two hardware threads share a core.
    pub smt: Option<bool>,
    /// Memory limit of the cgroup or of the Lambda function, GiB.
    pub memory_gib: Option<f64>,
    /// The cgroup directories that account for the quota or cpuset.
    #[serde(skip)]
    accounts: Option<Accounts>,
    /// The cgroup directory that sets the quota, and that of a cpuset.
    #[serde(skip)]
    limited: [Option<Accounts>; 2],
    /// The files that quota, cpuset and memory limit were read from.
    #[serde(skip)]
    files: Vec<PathBuf>,
}

/// Where a cgroup's CPU accounting is.
#[derive(Debug, Clone, PartialEq)]
struct Accounts {
    /// `cpu.stat`, of either version.
    stat: PathBuf,
    /// `cpuacct.usage` of v1.
    usage: Option<PathBuf>,
}

impl Share {
    /// Looks below `root`, on a machine of `machine_cpus`. Never fails: what is not told is `None`.
    pub fn read(root: &Path, machine_cpus: u32) -> Self {
        let own = root.join("proc/self/cgroup");
        let groups = Groups::of(
            root,
            &plain::read(&own, plain::MOST_OF_KERNEL_TEXT).unwrap_or_default(),
        );
        let (quota, limited) = groups.quota().unzip();
        let limited = [limited, groups.leaf()].map(|dir| dir.map(|dir| groups.accounts(&dir)));
        let mut files = groups.files();
        files.insert(0, own);
        let unlimited = Self {
            cpus: f64::from(machine_cpus.max(1)),
            machine_cpus,
            set_by: Limit::Machine,
            quota,
            cpuset: groups.cpuset().filter(|cpus| *cpus < machine_cpus),
            affinity: None,
            smt: crate::source::plain::kernel_text(&root.join("sys/devices/system/cpu/smt/active"))
                .ok()
                .and_then(|text| match text.trim() {
                    "1" => Some(true),
                    "0" => Some(false),
                    _ => None,
                }),
            memory_gib: groups
                .memory_bytes()
                .map(|bytes| bytes as f64 / f64::from(1u32 << 30)),
            accounts: None,
            limited,
            files,
        };
        unlimited.with_affinity(affinity())
    }

    /// The same with another number of CPUs that the threads may run on.
    pub fn with_affinity(mut self, affinity: Option<u32>) -> Self {
        self.affinity = affinity;
        if self.set_by == Limit::LambdaMemory {
            return self;
        }
        let limits = [
            (affinity.map(f64::from), Limit::Affinity),
            (self.cpuset.map(f64::from), Limit::Cpuset),
            (self.quota, Limit::Quota),
        ];
        let (mut cpus, mut set_by) = (f64::from(self.machine_cpus.max(1)), Limit::Machine);
        for (limit, by) in limits {
            if let Some(limit) = limit.filter(|limit| *limit < cpus) {
                (cpus, set_by) = (limit, by);
            }
        }
        let [of_quota, of_cpuset] = &self.limited;
        self.accounts = match set_by {
            Limit::Quota => of_quota.clone(),
            Limit::Cpuset => of_cpuset.clone(),
            _ => None,
        };
        self.cpus = cpus.max(LEAST_CPUS);
        self.set_by = set_by;
        self
    }

    /// The files that quota, cpuset and memory limit were read from.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The same share with what an AWS Lambda function's memory, MiB, buys.
    pub fn with_lambda(mut self, memory_mb: u32) -> Self {
        let bought = f64::from(memory_mb) / crate::source::model::LAMBDA_MIB_PER_VCPU;
        self.cpus = bought.max(LEAST_CPUS);
        self.set_by = Limit::LambdaMemory;
        self.memory_gib = Some(f64::from(memory_mb) / 1024.0);
        self
    }

    /// CPUs of a sandbox that is less than the machine: what the model charges where there is no
    /// counter. `None` where the machine is not divided by a quota, a cpuset or Lambda.
    pub fn sandbox_cpus(&self) -> Option<f64> {
        match self.set_by {
            Limit::Quota | Limit::Cpuset | Limit::LambdaMemory => Some(self.cpus),
            Limit::Machine | Limit::Affinity => None,
        }
    }

    /// In words, for the source of a modelled energy.
    pub fn describe(&self) -> String {
        let memory = match self.memory_gib {
            Some(gib) => format!(", memory {gib:.2} GiB"),
            None => String::new(),
        };
        let idle = if self.sandbox_cpus().is_some() {
            "; idle power of these CPUs is ours while nothing else runs in the sandbox"
        } else {
            ""
        };
        format!(
            "{:.2} of {} CPUs by {}{memory}{idle}",
            self.cpus,
            self.machine_cpus,
            self.set_by.words()
        )
    }

    /// Opens the CPU accounting of the sandbox; `None` where it has none.
    pub fn open(&self) -> Option<SandboxCpu> {
        let accounts = self.accounts.as_ref()?;
        Some(SandboxCpu {
            stat: Kept::open(&accounts.stat).ok()?,
            usage: accounts.usage.as_ref().and_then(|p| Kept::open(p).ok()),
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
        let mut count = SandboxCount::parse(self.stat.read(&mut buffer).ok()?);
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
    /// Parses `cpu.stat` of v2 (`throttled_usec`) or v1 (`throttled_time`, ns).
    ///
    /// ```
    /// use lithowatt::machine::share::SandboxCount;
    /// let v2 = "usage_usec 7\nnr_periods 20\nnr_throttled 5\nthrottled_usec 900\n";
    /// let count = SandboxCount::parse(v2);
    /// assert_eq!((count.used_ns, count.throttled_ns), (Some(7_000), 900_000));
    /// let v1 = SandboxCount::parse("nr_periods 20\nnr_throttled 5\nthrottled_time 900\n");
    /// assert_eq!((v1.used_ns, v1.throttled_ns, v1.throttled_periods), (None, 900, 5));
    /// ```
    pub fn parse(text: &str) -> Self {
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
                .and_then(|value| value.trim().parse::<u64>().ok())
        };
        let us = |value: u64| value.saturating_mul(1000);
        Self {
            used_ns: cgroup_usage_usec(text).map(us),
            periods: field("nr_periods").unwrap_or(0),
            throttled_periods: field("nr_throttled").unwrap_or(0),
            throttled_ns: field("throttled_usec")
                .map(us)
                .or_else(|| field("throttled_time"))
                .unwrap_or(0),
        }
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
struct Groups {
    unified: Vec<PathBuf>,
    cpu: Vec<PathBuf>,
    cpuacct: Vec<PathBuf>,
    cpuset: Vec<PathBuf>,
    memory: Vec<PathBuf>,
}

impl Groups {
    /// By the text of /proc/self/cgroup; without it by the tops of the mounts.
    fn of(root: &Path, text: &[u8]) -> Self {
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

    /// The tightest quota, CPUs, and the directory that sets it.
    fn quota(&self) -> Option<(f64, PathBuf)> {
        let unified = self
            .unified
            .iter()
            .filter_map(|dir| Some((cpu_max(&slurp(dir, "cpu.max")?)?, dir.clone())));
        let v1 = self.cpu.iter().filter_map(|dir| {
            let quota = slurp(dir, "cpu.cfs_quota_us")?;
            let period = slurp(dir, "cpu.cfs_period_us")?;
            // −1 is no quota, and is no quota to `cpu_max` either.
            Some((
                cpu_max(&format!("{} {}", quota.trim(), period.trim()))?,
                dir.clone(),
            ))
        });
        unified.chain(v1).min_by(|a, b| a.0.total_cmp(&b.0))
    }

    /// The files that limits are read from, as far as there are any.
    fn files(&self) -> Vec<PathBuf> {
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
    fn cpuset(&self) -> Option<u32> {
        let count = |text: String| {
            let cpus = crate::source::perf::cpu_list(text.trim())?;
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

    /// The tightest memory limit, bytes.
    fn memory_bytes(&self) -> Option<u64> {
        let unified = self
            .unified
            .iter()
            .filter_map(|dir| slurp(dir, "memory.max"));
        let v1 = self
            .memory
            .iter()
            .filter_map(|dir| slurp(dir, "memory.limit_in_bytes"));
        unified
            .chain(v1)
            .filter_map(|text| text.trim().parse::<u64>().ok())
            .filter(|bytes| (1..NO_LIMIT_BYTES).contains(bytes))
            .min()
    }

    /// The process's own cgroup, for one that is limited by its cpuset.
    fn leaf(&self) -> Option<PathBuf> {
        let counted = self
            .unified
            .iter()
            .find(|dir| dir.join("cpu.stat").exists());
        counted.or_else(|| self.cpu.first()).cloned()
    }

    fn accounts(&self, dir: &Path) -> Accounts {
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

/// `base` joined with `path` and everything in between, deepest first; those that exist.
pub(crate) fn upwards(base: &Path, path: &[u8]) -> Vec<PathBuf> {
    let mut dirs = vec![base.to_owned()];
    let mut dir = base.to_owned();
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    for part in Path::new(OsStr::from_bytes(path)).components() {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => {
                dir.push(name);
                if !dir.is_dir() {
                    // Seen from inside a container the path is the host's.
                    break;
                }
                dirs.push(dir.clone());
            }
            // Outside of this cgroup namespace.
            Component::ParentDir | Component::Prefix(_) => break,
        }
    }
    dirs.reverse();
    dirs
}

fn slurp(dir: &Path, name: &str) -> Option<String> {
    crate::source::plain::kernel_text(&dir.join(name)).ok()
}

/// CPUs that the calling thread may run on.
pub fn affinity() -> Option<u32> {
    // The kernel's largest NR_CPUS is 8192; `cpu_set_t` holds 1024.
    let mut set = [0u64; 8192 / 64];
    // SAFETY: the set lives on this stack and its true size is passed; the kernel writes no more.
    let result =
        unsafe { libc::sched_getaffinity(0, std::mem::size_of_val(&set), set.as_mut_ptr().cast()) };
    let cpus: u32 = set.iter().map(|word| word.count_ones()).sum();
    (result == 0 && cpus > 0).then_some(cpus)
}

/// CPUs by a cgroup v2 `cpu.max`: quota over period, `None` where it is `max`.
///
/// ```
/// use lithowatt::machine::share::cpu_max;
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
    use std::fs;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn the_tightest_quota_of_all_ancestors_counts() {
        let root = tree(&[
            ("proc/self/cgroup", "0::/kubepods/pod1/box\n"),
            ("sys/fs/cgroup/kubepods/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/kubepods/pod1/cpu.max", "50000 100000\n"),
            ("sys/fs/cgroup/kubepods/pod1/box/cpu.max", "75000 100000\n"),
            ("sys/fs/cgroup/kubepods/pod1/memory.max", "536870912\n"),
            ("sys/fs/cgroup/kubepods/pod1/box/memory.max", "max\n"),
        ]);
        let share = Share::read(root.path(), 64);
        assert_eq!((share.cpus, share.set_by), (0.5, Limit::Quota));
        assert_eq!(share.memory_gib, Some(0.5));
        assert_eq!(share.sandbox_cpus(), Some(0.5));
        let accounts = share.accounts.unwrap();
        assert!(accounts.stat.ends_with("kubepods/pod1/cpu.stat"));
    }

    #[test]
    fn v1_keeps_usage_in_another_hierarchy() {
        let root = tree(&[
            (
                "proc/self/cgroup",
                "3:cpuacct:/a/b\n2:cpu:/a/b\n4:memory:/a\n",
            ),
            ("sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "25000\n"),
            ("sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu/a/b/cpu.cfs_period_us", "100000\n"),
            (
                "sys/fs/cgroup/cpu/a/cpu.stat",
                "nr_periods 4\nnr_throttled 3\nthrottled_time 9\n",
            ),
            ("sys/fs/cgroup/cpuacct/a/cpuacct.usage", "1234\n"),
            ("sys/fs/cgroup/cpuacct/a/b/cpuacct.usage", "99\n"),
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
        ]);
        let share = Share::read(root.path(), 64);
        assert_eq!((share.cpus, share.quota), (0.25, Some(0.25)));
        assert_eq!(share.memory_gib, None);
        let count = share.open().unwrap().read().unwrap();
        assert_eq!((count.used_ns, count.throttled_periods), (Some(1234), 3));
    }

    #[test]
    fn a_container_sees_its_own_group_at_the_top() {
        let root = tree(&[
            ("proc/self/cgroup", "5:cpu,cpuacct:/docker/f00\n0::/../x\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "20000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpuacct.usage", "7\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.stat", "nr_periods 1\n"),
        ]);
        let share = Share::read(root.path(), 8);
        assert_eq!(share.quota, Some(0.2));
        assert_eq!(share.open().unwrap().read().unwrap().used_ns, Some(7));
    }

    #[test]
    fn hostile_files_limit_nothing() {
        let root = tree(&[
            ("proc/self/cgroup", "::\n0\n0::/\u{fffd}/../../..\n"),
            ("sys/fs/cgroup/cpu.max", "0 0\n"),
            ("sys/fs/cgroup/cpuset.cpus.effective", "9-1\n"),
            ("sys/fs/cgroup/memory.max", "-5\n"),
            ("sys/devices/system/cpu/smt/active", "perhaps\n"),
        ]);
        let share = Share::read(root.path(), 1);
        assert_eq!((share.cpus, share.set_by), (1.0, Limit::Machine));
        assert_eq!((share.memory_gib, share.smt), (None, None));
        assert_eq!(
            SandboxCount::parse("nr_periods x\nusage_usec"),
            SandboxCount::default()
        );
    }

    #[test]
    fn lambda_buys_cpus_with_memory() {
        let root = tree(&[]);
        let share = Share::read(root.path(), 2).with_lambda(1769);
        assert_eq!(share.cpus, 1.0);
        assert!(
            share
                .describe()
                .starts_with("1.00 of 2 CPUs by Lambda memory")
        );
    }
}

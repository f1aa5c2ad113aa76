//! Which part of the machine may this process use, and was it held back?
//!
//! Affinity comes from the kernel, the rest from the files of the process's cgroups
//! ([`crate::cgroup::limits`]): the tightest of them counts.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cgroup::limits::{Accounts, Directories, SandboxCpu};
use crate::json::{from_json, word_from_json};
use crate::source::plain;

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
    /// CPU time that is sold with memory.
    #[serde(rename = "lambda_memory")]
    Bought,
}

word_from_json!(Limit: Machine, Affinity, Cpuset, Quota, Bought);

impl Limit {
    fn words(self) -> Cow<'static, str> {
        match self {
            Self::Machine => "no limit".into(),
            Self::Affinity => "affinity".into(),
            Self::Cpuset => "cpuset".into(),
            Self::Quota => "cgroup quota".into(),
            Self::Bought => crate::model::lambda::limit().into(),
        }
    }
}

/// The part of a machine that a process may use.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Allotted {
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
    /// Memory limit of the cgroup, or what was bought, GiB.
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
    /// Why some of these files say nothing, for the warnings of a reading.
    #[serde(skip)]
    pub unreadable: Vec<String>,
}

from_json!(Allotted {
    cpus, machine_cpus, set_by, quota, cpuset, affinity, smt, memory_gib
    ; skipped accounts, limited, files, unreadable
});

impl Allotted {
    /// Looks below `root`, on a machine of `machine_cpus`. Never fails: what is not known is
    /// `None`.
    pub fn read(root: &Path, machine_cpus: u32) -> Self {
        let own = root.join("proc/self/cgroup");
        let groups = Directories::of(
            root,
            &plain::read(&own, plain::MOST_OF_KERNEL_TEXT).unwrap_or_default(),
        );
        let mut unreadable = Vec::new();
        let (quota, limited) = groups.quota(&mut unreadable).unzip();
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
            smt: plain::kernel_text(&root.join("sys/devices/system/cpu/smt/active"))
                .ok()
                .and_then(|text| match text.trim() {
                    "1" => Some(true),
                    "0" => Some(false),
                    _ => None,
                }),
            memory_gib: groups
                .memory_bytes(&mut unreadable)
                .map(|bytes| bytes as f64 / f64::from(1u32 << 30)),
            accounts: None,
            limited,
            files,
            unreadable,
        };
        unlimited.with_affinity(affinity())
    }

    /// The same with another number of CPUs that the threads may run on.
    pub fn with_affinity(mut self, affinity: Option<u32>) -> Self {
        self.affinity = affinity;
        if self.set_by == Limit::Bought {
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

    /// The same with so many CPUs that were bought with the memory, MiB.
    pub fn with_bought(mut self, cpus: f64, memory_mb: u32) -> Self {
        self.cpus = cpus.max(LEAST_CPUS);
        self.set_by = Limit::Bought;
        self.memory_gib = Some(f64::from(memory_mb) / 1024.0);
        self
    }

    /// CPUs of a sandbox that is less than the machine: what the model charges where there is no
    /// counter. `None` where the machine is not divided by a quota, a cpuset or what was bought.
    pub fn sandbox_cpus(&self) -> Option<f64> {
        match self.set_by {
            Limit::Quota | Limit::Cpuset | Limit::Bought => Some(self.cpus),
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
        self.accounts.as_ref()?.open()
    }
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
        let allotted = Allotted::read(root.path(), 64);
        assert_eq!((allotted.cpus, allotted.set_by), (0.5, Limit::Quota));
        assert_eq!(allotted.memory_gib, Some(0.5));
        assert_eq!(allotted.sandbox_cpus(), Some(0.5));
        let accounts = allotted.accounts.unwrap();
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
        let allotted = Allotted::read(root.path(), 64);
        assert_eq!((allotted.cpus, allotted.quota), (0.25, Some(0.25)));
        assert_eq!(allotted.memory_gib, None);
        let count = allotted.open().unwrap().read().unwrap();
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
        let allotted = Allotted::read(root.path(), 8);
        assert_eq!(allotted.quota, Some(0.2));
        assert_eq!(allotted.open().unwrap().read().unwrap().used_ns, Some(7));
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
        let allotted = Allotted::read(root.path(), 1);
        assert_eq!((allotted.cpus, allotted.set_by), (1.0, Limit::Machine));
        assert_eq!((allotted.memory_gib, allotted.smt), (None, None));
        let said = allotted.unreadable.join("\n");
        for text in [
            "cpu.max holds \"0 0\"",
            "memory.max holds \"-5\", which is no limit",
        ] {
            assert!(said.contains(text), "{said}");
        }
    }

    #[test]
    fn limits_and_words_for_none_are_known() {
        let root = tree(&[
            ("proc/self/cgroup", "2:cpu:/\n1:memory:/\n0::/box\n"),
            ("sys/fs/cgroup/box/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/box/memory.max", "max\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
        ]);
        assert!(Allotted::read(root.path(), 1).unreadable.is_empty());
    }

    #[test]
    fn memory_buys_cpus() {
        let root = tree(&[]);
        let allotted = Allotted::read(root.path(), 2).with_bought(1.0, 1769);
        assert_eq!(allotted.cpus, 1.0);
        assert!(
            allotted
                .describe()
                .starts_with("1.00 of 2 CPUs by Lambda memory")
        );
    }
}

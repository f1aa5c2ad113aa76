//! Containers and pods by their cgroups, and their parts of the machine's energy.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::cgroup::cpu::CgroupCpu;
use crate::cgroup::identity::{Identity, identify};
use crate::machine::facts::IdleSource;
use crate::source::ring::layout::{Account, GroupRow, Kind};

/// Directories that are looked at in one search, so that a machine of many cgroups costs no more.
const MOST_DIRECTORIES: usize = 20_000;

/// Containers are not nested deeper than this below the top.
const MOST_DEPTH: usize = 10;

/// Published CPU times are multiples of this, ns.
const CPU_QUANTUM_NS: u64 = 1_000_000;

/// The start of a container or pod is its first so many ns, or its life where that is shorter. When a
/// pod is ready only Kubernetes' API knows, and what runs in it may never say so; of a length that is
/// the same for all, starts can be compared.
pub const START_NS: u64 = 10_000_000_000;

/// What a group used in its start: a part of what it used in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    from_ns: u64,
    /// How much of it has passed, ns; up to [`START_NS`].
    pub passed_ns: u64,
    /// Energy above idle in it, µJ.
    pub active_uj: u64,
}

impl Start {
    /// A group that came after the round that ended then: up to a round before it was found.
    fn at(from_ns: u64) -> Self {
        Self {
            from_ns,
            passed_ns: 0,
            active_uj: 0,
        }
    }

    /// Adds what of `uj`, used evenly from `from_ns` to `to_ns`, lies in the start.
    fn add(&mut self, from_ns: u64, to_ns: u64, uj: u64) {
        let from_ns = from_ns.max(self.from_ns);
        let end_ns = self.from_ns.saturating_add(START_NS);
        let within = to_ns.min(end_ns).saturating_sub(from_ns);
        if within == 0 {
            return;
        }
        let part = u128::from(uj) * u128::from(within) / u128::from(to_ns - from_ns);
        self.passed_ns += within;
        self.active_uj += part as u64;
    }
}

/// A group that is followed.
#[derive(Debug)]
pub struct Group {
    /// Whose it is.
    pub identity: Identity,
    /// The cgroup's path below the hierarchy's top.
    pub path: String,
    cpu: CgroupCpu,
    seen: bool,
    row: GroupRow,
    start: Option<Start>,
}

impl Group {
    /// Its row of the last round.
    pub fn row(&self) -> &GroupRow {
        &self.row
    }

    /// Its start; `None` where it was there before it could be seen to begin.
    pub fn start(&self) -> Option<&Start> {
        self.start.as_ref()
    }
}

/// What the machine did between two rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// When it ended, ns.
    pub t_ns: u64,
    /// Packages and DRAM, µJ.
    pub machine_uj: u64,
    /// What the machine would have used at rest, µJ.
    pub idle_uj: u64,
    /// CPU time that was used, all CPUs, ns; `None` where the machine does not show it.
    pub busy_ns: Option<u64>,
    /// Idle time since boot at its end, ns.
    pub idle_ns: Option<u64>,
}

/// Divides the energy of a round: `own` of the groups that count. Returns theirs and the rest.
///
/// What is lost by rounding down is in the rest, so the parts add up to the µJ.
///
/// In integers, without bands and without idle, unlike [`crate::attribution::divide`], whose rule it
/// is: what many readers add up over days must sum exactly, and who reads it may add idle's part.
///
/// ```
/// use lithowatt::agent::groups::{divide, Round};
/// let round = Round { t_ns: 0, machine_uj: 1_000_001, idle_uj: 200_000, busy_ns: Some(10),
///     idle_ns: None };
/// let (parts, rest) = divide(&round, &[3, 1]);
/// assert_eq!((parts, rest), (vec![240_000, 80_000], 480_001));
/// ```
pub fn divide(round: &Round, own_ns: &[u64]) -> (Vec<u64>, u64) {
    let active = round.machine_uj.saturating_sub(round.idle_uj);
    let sum: u128 = own_ns.iter().map(|ns| u128::from(*ns)).sum();
    // Who counts best is believed: groups are counted in ns, the machine in steps of 10 ms.
    let all = sum.max(u128::from(round.busy_ns.unwrap_or(0))).max(1);
    let parts: Vec<u64> = own_ns
        .iter()
        .map(|ns| (u128::from(active) * u128::from(*ns) / all) as u64)
        .collect();
    let rest = active - parts.iter().sum::<u64>();
    (parts, rest)
}

/// All groups of a machine and the account that they add up to.
#[derive(Debug)]
pub struct Groups {
    top: Option<PathBuf>,
    most: usize,
    groups: HashMap<u64, Group>,
    earlier: HashMap<u64, GroupRow>,
    account: Account,
    searched: bool,
    /// More groups than rows.
    pub overflow: bool,
}

impl Groups {
    /// Follows the groups below `top`, at most `most`; goes on from `account` and `rows`.
    pub fn new(top: Option<PathBuf>, most: usize, account: Account, rows: Vec<GroupRow>) -> Self {
        Self {
            top,
            most,
            groups: HashMap::new(),
            earlier: rows.into_iter().map(|row| (row.id, row)).collect(),
            account,
            searched: false,
            overflow: false,
        }
    }

    /// Looks for groups that are new, just before each round: what they used they used in it. What
    /// one had used before the first search is not counted, unless an agent before this one knew
    /// it.
    pub fn search(&mut self, t_ns: u64) {
        let Some(top) = self.top.clone() else { return };
        for group in self.groups.values_mut() {
            group.seen = false;
        }
        let mut queue = vec![(top.clone(), 0usize, None)];
        let mut visited = 0;
        self.overflow = false;
        while let Some((dir, depth, pod)) = queue.pop() {
            visited += 1;
            let above = dir.file_name().and_then(|name| name.to_str());
            let above = above.unwrap_or_default();
            if visited > MOST_DIRECTORIES {
                self.overflow = true;
                break;
            }
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|t| t.is_dir()) {
                    continue;
                }
                let path = entry.path();
                let name = entry.file_name();
                let Some(identity) = name.to_str().and_then(|name| identify(above, name)) else {
                    if depth < MOST_DEPTH {
                        queue.push((path, depth + 1, pod.clone()));
                    }
                    continue;
                };
                let id = entry.metadata().map_or(0, |m| m.ino());
                let is_pod = identity.kind == Kind::Pod;
                let uid = identity.pod_uid.clone();
                self.found(&top, &path, id, identity, pod.as_ref(), t_ns);
                if is_pod {
                    queue.push((path, depth + 1, Some((id, uid))));
                }
            }
        }
        let gone: Vec<u64> = self
            .groups
            .iter()
            .filter(|(_, g)| !g.seen)
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.drop_group(id);
        }
        self.searched = true;
        // Groups that an earlier agent knew and that are no more.
        for (_, row) in self.earlier.drain() {
            if row.counted {
                self.account.gone_uj += row.active_uj;
            }
        }
    }

    fn found(
        &mut self,
        top: &Path,
        path: &Path,
        id: u64,
        mut identity: Identity,
        pod: Option<&(u64, Option<String>)>,
        t_ns: u64,
    ) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.seen = true;
            return;
        }
        if self.groups.len() >= self.most {
            self.overflow = true;
            return;
        }
        let Ok(cpu) = CgroupCpu::open(path) else {
            return;
        };
        let Some(cpu_ns) = cpu.cpu_ns().used() else {
            return;
        };
        if let Some((_, uid)) = pod {
            identity.pod_uid.clone_from(uid);
        }
        let fresh = GroupRow {
            round: self.account.round,
            id,
            parent: pod.map_or(0, |(id, _)| *id),
            kind: identity.kind,
            counted: pod.is_none(),
            cpu_ns: if self.searched { 0 } else { cpu_ns },
            active_uj: 0,
            since_ns: t_ns,
        };
        let mut start = self.searched.then(|| match self.account.t_ns {
            0 => Start::at(t_ns),
            round_ns => Start::at(round_ns),
        });
        // The inode may have been given to another group meanwhile: its clock would be lower.
        let row = match self.earlier.remove(&id) {
            Some(old)
                if old.kind == fresh.kind
                    && old.counted == fresh.counted
                    && old.cpu_ns <= cpu_ns =>
            {
                start = None;
                old
            }
            Some(old) => {
                if old.counted {
                    self.account.gone_uj += old.active_uj;
                }
                fresh
            }
            None => fresh,
        };
        let shown = path.strip_prefix(top).unwrap_or(path);
        self.groups.insert(
            id,
            Group {
                identity,
                path: format!("/{}", shown.display()),
                cpu,
                seen: true,
                row,
                start,
            },
        );
    }

    fn drop_group(&mut self, id: u64) {
        if let Some(group) = self.groups.remove(&id)
            && group.row.counted
        {
            self.account.gone_uj += group.row.active_uj;
        }
    }

    /// Reads every group's clock and divides the energy of `round` among them.
    pub fn settle(&mut self, round: &Round, idle_source: IdleSource) {
        let mut used: Vec<(u64, u64, bool)> = Vec::with_capacity(self.groups.len());
        let mut dead = Vec::new();
        for (id, group) in &mut self.groups {
            match group.cpu.cpu_ns().used() {
                Some(ns) => {
                    let ns = ns.max(group.row.cpu_ns);
                    used.push((*id, ns - group.row.cpu_ns, group.row.counted));
                    group.row.cpu_ns = ns;
                }
                None => dead.push(*id),
            }
        }
        let idle_uj = round.idle_uj.min(round.machine_uj);
        let round = Round { idle_uj, ..*round };
        let (counted, inside): (Vec<_>, Vec<_>) = used.into_iter().partition(|(_, _, c)| *c);
        let own: Vec<u64> = counted.iter().map(|(_, ns, _)| *ns).collect();
        let (parts, rest) = divide(&round, &own);
        // A container in a pod is paid by the same rate; the pod's row holds it already.
        let all = own.iter().sum::<u64>().max(round.busy_ns.unwrap_or(0));
        let within: Vec<u64> = inside
            .iter()
            .map(|(_, ns, _)| {
                let active = u128::from(round.machine_uj - idle_uj);
                (active * u128::from((*ns).min(all)) / u128::from(all.max(1))) as u64
            })
            .collect();
        let account = &mut self.account;
        let before_ns = account.t_ns;
        account.round += 1;
        account.t_ns = round.t_ns;
        account.machine_uj += round.machine_uj;
        account.idle_uj += idle_uj;
        account.rest_uj += rest;
        account.busy_ns += round.busy_ns.unwrap_or(0);
        account.idle_source = idle_source.number();
        account.idle_ns = round.idle_ns;
        let number = account.round;
        for ((id, ..), part) in counted.iter().zip(parts).chain(inside.iter().zip(within)) {
            if let Some(group) = self.groups.get_mut(id) {
                group.row.active_uj += part;
                if let Some(start) = &mut group.start {
                    start.add(before_ns, round.t_ns, part);
                }
            }
        }
        for group in self.groups.values_mut() {
            group.row.round = number;
        }
        for id in dead {
            self.drop_group(id);
        }
        self.account.rows = self.groups.len() as u64;
    }

    /// The account.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Every group.
    pub fn all(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    /// Rows for the ring.
    pub fn rows(&self) -> Vec<GroupRow> {
        self.groups
            .values()
            .map(|group| GroupRow {
                cpu_ns: group.row.cpu_ns / CPU_QUANTUM_NS * CPU_QUANTUM_NS,
                ..group.row
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cgroup(top: &Path, path: &str, usec: u64) {
        let dir = top.join(path);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("cpu.stat"), format!("usage_usec {usec}\n")).unwrap();
    }

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    const POD: &str = "kubepods/burstable/pod3f1c2a90-7a51-4c0e-9f57-1c1d7a6f0e11";

    fn sum(groups: &Groups) -> u64 {
        let counted = groups.all().filter(|g| g.row.counted);
        counted.map(|g| g.row.active_uj).sum()
    }

    fn adds_up(groups: &Groups) -> bool {
        let a = groups.account();
        a.idle_uj + a.rest_uj + a.gone_uj + sum(groups) == a.machine_uj
    }

    #[test]
    fn parts_add_up_to_the_machine_while_groups_come_and_go() {
        let tmp = tempfile::tempdir().unwrap();
        let top = tmp.path();
        cgroup(top, POD, 1000);
        cgroup(top, &format!("{POD}/{A}"), 900);
        cgroup(top, &format!("machine.slice/libpod-{B}.scope"), 0);
        let mut groups = Groups::new(Some(top.to_owned()), 10, Account::default(), Vec::new());
        groups.search(1);
        assert_eq!(groups.all().count(), 3);
        let round = |t: u64| Round {
            t_ns: t,
            machine_uj: 10_000_001,
            idle_uj: 3_000_000,
            busy_ns: Some(1_000_000_000),
            idle_ns: None,
        };
        cgroup(top, POD, 601_000);
        cgroup(top, &format!("{POD}/{A}"), 590_900);
        cgroup(top, &format!("machine.slice/libpod-{B}.scope"), 200_000);
        groups.settle(&round(2), IdleSource::Learned);
        assert!(adds_up(&groups));
        let of = |groups: &Groups, id: &str| {
            let found = groups
                .all()
                .find(|g| g.identity.container_id.as_deref() == Some(id));
            *found.unwrap().row()
        };
        // 60 % of what is above idle is the pod's, and its container's is within.
        let pod = *groups
            .all()
            .find(|g| g.row.kind == Kind::Pod)
            .unwrap()
            .row();
        assert_eq!(pod.active_uj, 4_200_000);
        assert_eq!(of(&groups, A).active_uj, 4_130_000);
        assert_eq!(
            (of(&groups, A).parent, of(&groups, A).counted),
            (pod.id, false)
        );
        assert_eq!(of(&groups, B).active_uj, 1_400_000);
        fs::remove_dir_all(top.join("machine.slice")).unwrap();
        groups.search(3);
        groups.settle(&round(4), IdleSource::Learned);
        assert_eq!(groups.account().gone_uj, 1_400_000);
        assert!(adds_up(&groups));
        // Another agent goes on from the rows.
        let (account, rows) = (*groups.account(), groups.rows());
        let mut next = Groups::new(Some(top.to_owned()), 10, account, rows);
        next.search(5);
        next.settle(&round(6), IdleSource::Learned);
        assert!(adds_up(&next));
        assert!(next.all().any(|g| g.row.active_uj == pod.active_uj));
    }

    #[test]
    fn what_a_group_used_in_its_first_seconds_is_told_apart() {
        const S: u64 = 1_000_000_000;
        let tmp = tempfile::tempdir().unwrap();
        let top = tmp.path();
        cgroup(top, A, 5_000_000);
        let mut groups = Groups::new(Some(top.to_owned()), 10, Account::default(), Vec::new());
        // 1 J above idle in each second, all of it the second group's: it alone runs.
        let second = |groups: &mut Groups, t: u64| {
            groups.search(t * S);
            let round = Round {
                t_ns: t * S,
                machine_uj: 1_500_000,
                idle_uj: 500_000,
                busy_ns: Some(S),
                idle_ns: None,
            };
            groups.settle(&round, IdleSource::Learned);
        };
        second(&mut groups, 100);
        second(&mut groups, 101);
        for t in 102..=104 {
            cgroup(top, B, (t - 101) * 1_000_000);
            second(&mut groups, t);
        }
        let of = |groups: &Groups, id: &str| {
            let mut all = groups.all();
            let found = all.find(|g| g.identity.container_id.as_deref() == Some(id));
            let found = found.unwrap();
            (found.row().active_uj, found.start().copied())
        };
        // It was there before the agent.
        assert_eq!(of(&groups, A).1, None);
        let (all_uj, start) = of(&groups, B);
        let start = start.unwrap();
        assert_eq!((all_uj, start.active_uj), (3_000_000, 3_000_000));
        assert_eq!(start.passed_ns, 3 * S);
        // A round of 10 s, of which 7 s are of the start; then no more is added to it.
        for (t, cpu) in [(114, 13), (120, 19)] {
            cgroup(top, B, cpu * 1_000_000);
            groups.search(t * S);
            let round = Round {
                t_ns: t * S,
                machine_uj: 10_000_000,
                idle_uj: 0,
                busy_ns: None,
                idle_ns: None,
            };
            groups.settle(&round, IdleSource::Learned);
            let (all_uj, start) = of(&groups, B);
            let start = start.unwrap();
            assert_eq!((start.passed_ns, start.active_uj), (START_NS, 10_000_000));
            assert!(all_uj > start.active_uj && adds_up(&groups));
        }
    }

    #[test]
    fn groups_that_used_more_than_the_machine_says_take_all_and_no_more() {
        let round = Round {
            t_ns: 0,
            machine_uj: 100,
            idle_uj: 0,
            busy_ns: Some(10),
            idle_ns: None,
        };
        let (parts, rest) = divide(&round, &[30, 10]);
        assert_eq!((parts, rest), (vec![75, 25], 0));
        let (parts, rest) = divide(
            &Round {
                busy_ns: None,
                ..round
            },
            &[0],
        );
        assert_eq!((parts, rest), (vec![0], 100));
    }

    #[test]
    fn too_many_groups_are_rest() {
        let tmp = tempfile::tempdir().unwrap();
        cgroup(tmp.path(), A, 0);
        cgroup(tmp.path(), B, 0);
        let mut groups = Groups::new(
            Some(tmp.path().to_owned()),
            1,
            Account::default(),
            Vec::new(),
        );
        groups.search(1);
        assert!(groups.overflow && groups.all().count() == 1);
    }
}

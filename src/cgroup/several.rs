//! CPU time of one cgroup or several, as one.

use std::path::Path;

use super::cpu::{CgroupCount, CgroupCpu};
use super::wanted::Wanted;
use crate::clock;
use crate::error::{Error, Result};

/// CPU time of a group that is lower than before by no more than this stands still, ns: the kernel
/// sums it over CPUs that go on counting.
const COUNT_BACK_NS: u64 = 1_000_000;

/// Cgroups that a pattern means are looked for so often at most, ns, …
const FIND_NS: u64 = 100_000_000;
/// … and in one part of so many of the time.
const FIND_PART: u64 = 100;

/// Cgroups, none inside another, whose CPU time is one.
#[derive(Debug)]
pub struct Groups {
    each: Vec<One>,
    /// Where others may be meant later.
    wanted: Option<Wanted>,
    find_after_ns: u64,
    /// CPU time of those that are no more, ns.
    ended_ns: u64,
    removed: u64,
    unreadable: u64,
}

#[derive(Debug)]
struct One {
    cpu: CgroupCpu,
    /// CPU time of groups that were at the same path before, ns.
    earlier_ns: u64,
    last_ns: u64,
    /// There is none at the path now.
    gone: bool,
}

impl One {
    fn open(path: &Path) -> Result<Self> {
        Ok(Self {
            cpu: CgroupCpu::open(path)?,
            earlier_ns: 0,
            last_ns: 0,
            gone: false,
        })
    }
}

impl Groups {
    /// Opens the CPU accounting of what is wanted.
    ///
    /// # Errors
    /// Those of [`Wanted::find`]; [`Error::NoCgroup`] where one keeps no CPU time;
    /// [`Error::Conflict`] where they are of two hierarchies, which may hold the same processes.
    pub fn open(wanted: &Wanted) -> Result<Self> {
        let paths = wanted.find()?;
        let each: Vec<One> = paths.iter().map(|p| One::open(p)).collect::<Result<_>>()?;
        if each
            .iter()
            .any(|one| one.cpu.is_unified() != each[0].cpu.is_unified())
        {
            return Err(Error::Conflict {
                given: "cgroups of both versions".into(),
                accepted: "cgroups of one: the other may hold the same processes".into(),
            });
        }
        Ok(Self {
            each,
            wanted: wanted.may_change().then(|| wanted.clone()),
            find_after_ns: clock::monotonic_ns() + FIND_NS,
            ended_ns: 0,
            removed: 0,
            unreadable: 0,
        })
    }

    /// The one directory, where nothing else can be meant.
    pub fn alone(&self) -> Option<&CgroupCpu> {
        match self.each.as_slice() {
            [one] if self.wanted.is_none() => Some(&one.cpu),
            _ => None,
        }
    }

    /// CPU time of all of them, ns, of those that were removed until they were last seen. `None`
    /// where one is there and cannot be read, or none was ever seen. `seen_ns` is what is known of
    /// them otherwise.
    pub fn cpu_ns(&mut self, seen_ns: u64) -> Option<u64> {
        self.find_again();
        if let ([one], None) = (self.each.as_mut_slice(), &self.wanted) {
            one.last_ns = one.last_ns.max(seen_ns);
        }
        let mut sum = (self.ended_ns > 0).then_some(self.ended_ns);
        let mut whole = true;
        let keeps = self.wanted.is_none();
        let mut at = 0;
        while let Some(one) = self.each.get_mut(at) {
            let ns = match one.cpu.cpu_ns() {
                CgroupCount::Used(ns) => {
                    let all = one.earlier_ns.saturating_add(ns);
                    // No group's time goes back: it was set anew, or this is no such time.
                    let back = all.saturating_add(COUNT_BACK_NS) < one.last_ns;
                    whole &= !back;
                    (!back).then_some(all)
                }
                CgroupCount::Removed => {
                    let seen = one.last_ns;
                    self.removed += u64::from(!one.gone);
                    one.gone = true;
                    if !keeps {
                        // One at the same path is found as a new one.
                        self.ended_ns = self.ended_ns.saturating_add(seen);
                        self.each.remove(at);
                        sum = Some(sum.unwrap_or(0).saturating_add(seen)).filter(|ns| *ns > 0);
                        continue;
                    }
                    // A service that starts again has a new group at the same path.
                    let again = CgroupCpu::open(one.cpu.path()).ok();
                    let again = again.and_then(|again| Some((again.cpu_ns().used()?, again)));
                    match again {
                        Some((ns, again)) => {
                            one.cpu = again;
                            one.gone = false;
                            one.earlier_ns = seen;
                            Some(seen.saturating_add(ns))
                        }
                        None => (seen > 0).then_some(seen),
                    }
                }
                CgroupCount::Unreadable => {
                    whole = false;
                    None
                }
            };
            if let Some(ns) = ns {
                one.last_ns = one.last_ns.max(ns);
                sum = Some(sum.unwrap_or(0).saturating_add(one.last_ns));
            }
            at += 1;
        }
        let sum = sum.filter(|_| whole);
        self.unreadable += u64::from(sum.is_none());
        sum
    }

    /// Takes up cgroups that were made since, whose CPU time counts from their beginning.
    fn find_again(&mut self) {
        let Some(wanted) = &self.wanted else { return };
        let began = clock::monotonic_ns();
        if began < self.find_after_ns {
            return;
        }
        for path in wanted.find_again() {
            let overlaps = |known: &Path| path.starts_with(known) || known.starts_with(&path);
            if !self.each.iter().any(|one| overlaps(one.cpu.path()))
                && let Ok(one) = One::open(&path)
                && self
                    .each
                    .first()
                    .is_none_or(|first| first.cpu.is_unified() == one.cpu.is_unified())
            {
                self.each.push(one);
            }
        }
        let ended = clock::monotonic_ns();
        self.find_after_ns = ended + FIND_NS.max(FIND_PART * (ended - began));
    }

    /// How often one was removed.
    pub fn removed(&self) -> u64 {
        self.removed
    }

    /// How often their CPU time could not be read though they were there.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn set(folder: &Path, usec: u64) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("cpu.stat"), format!("usage_usec {usec}\n")).unwrap();
    }

    fn groups(root: &Path, given: &[PathBuf]) -> Groups {
        Groups::open(&Wanted::new(root, given)).unwrap()
    }

    #[test]
    fn the_time_of_several_is_their_sum_and_of_one_that_fails_none() {
        let root = tempfile::tempdir().unwrap();
        let (a, b) = (root.path().join("a"), root.path().join("b"));
        set(&a, 1);
        set(&b, 10);
        let mut both = groups(root.path(), &[a.clone(), b.clone(), a.clone()]);
        assert_eq!(both.cpu_ns(0), Some(11_000));
        set(&b, 30);
        assert_eq!(both.cpu_ns(0), Some(31_000));
        // No sum is made of what is left.
        fs::write(b.join("cpu.stat"), "nonsense").unwrap();
        assert_eq!((both.cpu_ns(0), both.unreadable()), (None, 1));
        // One that is removed keeps what it had; one that is set back is another.
        fs::remove_dir_all(&b).unwrap();
        assert_eq!((both.cpu_ns(0), both.removed()), (Some(31_000), 1));
        set(&b, 4);
        assert_eq!(both.cpu_ns(0), Some(35_000));
        assert!(both.alone().is_none());
    }

    #[test]
    fn what_was_seen_otherwise_of_a_removed_group_stays() {
        let root = tempfile::tempdir().unwrap();
        let a = root.path().join("a");
        set(&a, 1);
        let mut one = groups(root.path(), std::slice::from_ref(&a));
        assert!(one.alone().is_some());
        fs::remove_dir_all(&a).unwrap();
        assert_eq!(one.cpu_ns(5_000), Some(5_000));
    }
}

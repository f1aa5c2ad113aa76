//! CPU time and memory of several process trees, as one.

use std::collections::HashSet;

use super::tree::{Missed, PidStat, Tree};

/// More processes above one are not asked for: a name that is given anew may lead in a circle.
const MOST_ABOVE: usize = 10_000;

/// Trees, none inside another.
#[derive(Debug)]
pub struct Trees(Vec<Tree>);

impl Trees {
    /// The trees of these processes, which are [`outermost`] or are counted without descendants.
    pub fn new(pids: &[i32]) -> Self {
        Self(pids.iter().map(|pid| Tree::new(Some(*pid))).collect())
    }

    /// The only one.
    pub fn alone(&mut self) -> Option<&mut Tree> {
        match self.0.as_mut_slice() {
            [tree] => Some(tree),
            _ => None,
        }
    }

    /// CPU time of all, ns: of the trees, or of their roots alone. `None` where none was ever seen;
    /// one that was not has ended before the first look, see [`Missed::root_ended`].
    pub fn cpu_ns(&mut self, children: bool) -> Option<u64> {
        let mut sum = None;
        for tree in &mut self.0 {
            let ns = if children {
                tree.cpu_ns()
            } else {
                tree.root_cpu_ns()
            };
            if let Some(ns) = ns {
                sum = Some(sum.unwrap_or(0) + ns);
            }
        }
        sum
    }

    /// [`Tree::may_be_late`] of any.
    pub fn may_be_late(&self) -> bool {
        self.0.iter().any(Tree::may_be_late)
    }

    /// [`Tree::watch_discarded`] of all.
    pub fn watch_discarded(&mut self) {
        for tree in &mut self.0 {
            tree.watch_discarded();
        }
    }

    /// What was missed of any.
    pub fn missed(&self) -> Missed {
        let all = self.0.iter().map(Tree::missed);
        all.reduce(|a, b| Missed {
            unwaited: a.unwaited + b.unwaited,
            discarding: a.discarding + b.discarding,
            root_ended: a.root_ended || b.root_ended,
            removed: a.removed + b.removed,
            unreadable: a.unreadable + b.unreadable,
            hidden: a.hidden || b.hidden,
        })
        .unwrap_or_default()
    }

    /// Resident memory of all, bytes: of those that it is known of.
    pub fn rss_bytes(&mut self) -> Option<u64> {
        let known = self.0.iter_mut().filter_map(Tree::rss_bytes);
        known.reduce(|a, b| a + b)
    }

    /// [`Tree::root_peak_bytes`]: peaks of several were at different moments.
    pub fn root_peak_bytes(&mut self) -> Option<u64> {
        self.alone()?.root_peak_bytes()
    }
}

/// Those of the processes that are no descendants of another one of them, each once, in the order in
/// which they are given.
///
/// A tree goes on counting its descendants when its root has ended, so one that is inside another
/// stays counted.
pub fn outermost(pids: &[i32]) -> Vec<i32> {
    outermost_by(pids, |pid| Some(PidStat::read(pid)?.ppid))
}

fn outermost_by(pids: &[i32], parent: impl Fn(i32) -> Option<i32>) -> Vec<i32> {
    let given: HashSet<i32> = pids.iter().copied().collect();
    let is_inside = |pid: i32| {
        let mut at = pid;
        for _ in 0..MOST_ABOVE {
            match parent(at) {
                Some(above) if above > 0 && above != at => at = above,
                _ => return false,
            }
            if at != pid && given.contains(&at) {
                return true;
            }
        }
        false
    };
    let mut kept = Vec::new();
    for pid in pids {
        if !kept.contains(pid) && !is_inside(*pid) {
            kept.push(*pid);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descendant_of_one_is_counted_with_it() {
        // 1 has 10 and 20; 10 has 11, which has 12.
        let parent = |pid: i32| match pid {
            12 => Some(11),
            11 => Some(10),
            10 | 20 => Some(1),
            1 => Some(0),
            _ => None,
        };
        let of = |pids: &[i32]| outermost_by(pids, parent);
        assert_eq!(of(&[12, 10, 20, 20]), [10, 20]);
        assert_eq!(of(&[12, 11]), [11]);
        assert_eq!(of(&[20, 1]), [1]);
        assert_eq!(of(&[12, 20]), [12, 20]);
        // Nothing is known of it.
        assert_eq!(of(&[99]), [99]);
    }

    #[test]
    fn a_circle_ends() {
        assert_eq!(
            outermost_by(&[5, 9], |pid| Some(if pid == 5 { 6 } else { 5 })),
            [5]
        );
        assert_eq!(outermost_by(&[7], Some), [7]);
    }
}

//! Kernel probes in the windows of a hub: following what is metered, and what was seen of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::seen::{IMPOSSIBLE, SeenSoFar, SeenWindow};
use super::subject::Subject;
use crate::clock;
use crate::source::ebpf::layout::{FLAG_FREQUENCY, FLAG_IDLE, FLAG_THERMAL};
use crate::source::ebpf::{Absent, Followed, Grouped, Probes, directory};
use crate::source::opened::unless_starved;
use crate::source::procfs::{Tree, Trees};
use crate::source::throttle::Throttle;
use crate::source::{Method, Methods, Unavailable};

/// Where no probes are pinned they are looked for again at most this often, ns.
const LOOK_AGAIN_NS: u64 = 20_000_000;

/// The kernel probes of a hub.
#[derive(Debug, Default)]
pub(super) struct Probing {
    /// `None` before anybody wanted them.
    probes: Option<Result<Arc<Probes>, Unavailable>>,
    /// Where their pins will be, if they were not there when last looked for.
    awaited: Option<PathBuf>,
    /// When that was, ns.
    looked_ns: u64,
    /// Somebody asked for them by name.
    asked: bool,
    /// Thermal events, where they cannot see them.
    throttle: Option<Throttle>,
    /// This process's tree, as they follow it.
    ours: Option<Result<FollowedSince, String>>,
}

/// How kernel probes follow what is metered.
#[derive(Debug, Default)]
pub(super) enum Probed {
    /// They see the machine only.
    #[default]
    No,
    /// As the tree of this process, which the hub keeps.
    Ours,
    /// As the tree of another.
    Tree(FollowedSince),
    /// As a cgroup, with what it had used before it was seen, ns.
    Cgroup(Grouped, u64),
}

/// A tree with what it had used before it was followed.
#[derive(Debug)]
pub(super) struct FollowedSince {
    followed: Followed,
    before_ns: u64,
}

/// What was counted of CPU time at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct CpuCount {
    pub(super) own_ns: Option<u64>,
    pub(super) inside_ns: Option<u64>,
    /// Some of it may have been used before the last time it was counted.
    pub(super) may_be_late: bool,
    /// When they were read.
    pub(super) read: Reading,
    pub(super) seen: Option<SeenSoFar>,
}

/// When something began and ended to be read, ns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    pub(super) began_ns: u64,
    pub(super) ended_ns: u64,
}

impl Reading {
    /// How far from `t_ns` it may have been read, ns.
    pub(super) fn farthest_from(self, t_ns: u64) -> u64 {
        self.began_ns
            .abs_diff(t_ns)
            .max(self.ended_ns.abs_diff(t_ns))
    }
}

impl Probing {
    /// The same in a forked process. Probes that are open are found among those that processes share
    /// with their children; that there are none is known, and looked for again as before.
    pub(super) fn forked(mut self) -> Self {
        self.ours = None;
        if matches!(self.probes, Some(Ok(_))) {
            self.probes = None;
            self.throttle = None;
        }
        self
    }

    /// Opens the probes below `root`, where `methods` ask for them. Loading takes milliseconds and
    /// leaves something behind in the kernel, so it is done for those who asked by name. Returns
    /// whether anything is new.
    pub(super) fn open(&mut self, root: &Path, methods: Methods) -> bool {
        if !methods.has(Method::Ebpf) {
            return false;
        }
        let absent = if methods.has_by_name(Method::Ebpf) {
            Absent::Load
        } else {
            Absent::Leave
        };
        let again = match &self.probes {
            None => true,
            Some(Err(why)) => {
                why.passing
                    || absent == Absent::Load && !self.asked
                    // Somebody may have loaded them since.
                    || self.have_come()
            }
            Some(Ok(probes)) => !probes.is_alive(),
        };
        if !again {
            return false;
        }
        self.asked |= absent == Absent::Load;
        self.ours = None;
        let probes = unless_starved("kernel probes", Probes::shared(root, absent), |_| true);
        self.throttle = match &probes {
            Ok(probes) if !probes.sees(FLAG_THERMAL) => Throttle::open(root),
            _ => None,
        };
        self.awaited = match &probes {
            Err(_) => Some(directory(root)).filter(|pins| !pins.exists()),
            Ok(_) => None,
        };
        self.probes = Some(probes);
        true
    }

    /// Whether the pins are there that were not when last looked for.
    fn have_come(&mut self) -> bool {
        let Some(pins) = &self.awaited else {
            return false;
        };
        let now = clock::monotonic_ns();
        if now.saturating_sub(self.looked_ns) < LOOK_AGAIN_NS {
            return false;
        }
        self.looked_ns = now;
        pins.exists()
    }

    /// Has the probes follow `subject`, whose descendants are in `trees`, or returns why they do
    /// not.
    /// `our_tree` is this process's.
    pub(super) fn follow(
        &mut self,
        methods: Methods,
        subject: &Subject,
        trees: Option<&mut Trees>,
        our_tree: &mut Tree,
    ) -> Result<Probed, String> {
        if !methods.has(Method::Ebpf) {
            return Err("not asked for".into());
        }
        let probes = match &self.probes {
            Some(Ok(probes)) => Arc::clone(probes),
            Some(Err(why)) => return Err(why.reason.clone()),
            None => return Err("kernel probes were not opened".into()),
        };
        let reason = |why: Unavailable| why.reason;
        match subject {
            Subject::Process {
                pid: None,
                children: true,
            } => {
                if self.ours.is_none() {
                    let followed = probes.follow(None).map(|followed| FollowedSince {
                        followed,
                        before_ns: our_tree.cpu_ns().unwrap_or(0),
                    });
                    self.ours = Some(followed.map_err(reason));
                }
                match &self.ours {
                    Some(Err(why)) => Err(why.clone()),
                    _ => Ok(Probed::Ours),
                }
            }
            Subject::Process {
                pid: Some(pid),
                children: true,
            } => {
                let number = u32::try_from(*pid).map_err(|e| e.to_string())?;
                let followed = probes.follow(Some(number)).map_err(reason)?;
                Ok(Probed::Tree(FollowedSince {
                    followed,
                    before_ns: trees.and_then(|trees| trees.cpu_ns(true)).unwrap_or(0),
                }))
            }
            Subject::Processes { children: true, .. } => {
                Err("several processes are followed by their CPU clocks".into())
            }
            Subject::Cgroup(groups) => {
                let Some(group) = groups.alone() else {
                    return Err("several cgroups are followed by their CPU clocks".into());
                };
                let grouped = probes.cgroup(group.path()).map_err(reason)?;
                let used = probes.used_by_cgroup(&grouped).map_or(0, |used| used.ns);
                let before_ns = group.cpu_ns().used().unwrap_or(0).saturating_sub(used);
                Ok(Probed::Cgroup(grouped, before_ns))
            }
            // A thread's, a coroutine's and a single process's CPU clocks are exact.
            Subject::Process {
                children: false, ..
            }
            | Subject::Processes {
                children: false, ..
            }
            | Subject::Thread(_)
            | Subject::Task(_) => Ok(Probed::No),
        }
    }

    /// What the probes have seen of the machine and of what is metered.
    pub(super) fn look(&self, probed: &Result<Probed, String>, pid: Option<i32>) -> Option<Look> {
        let (Ok(probed), Some(Ok(probes))) = (probed, &self.probes) else {
            return None;
        };
        // Nothing counts into their maps any more: CPU clocks go on.
        if !probes.is_alive() {
            return None;
        }
        let own = match probed {
            Probed::No => None,
            Probed::Ours => {
                let ours = self.ours.as_ref()?.as_ref().ok()?;
                let clock = || Some(clock::own_process_cpu_ns());
                Some((probes.used(&ours.followed, clock)?, ours.before_ns))
            }
            Probed::Tree(tree) => {
                let clock = || clock::process_cpu_ns(pid?);
                Some((probes.used(&tree.followed, clock)?, tree.before_ns))
            }
            Probed::Cgroup(group, before_ns) => Some((probes.used_by_cgroup(group)?, *before_ns)),
        };
        Some(Look {
            own_ns: own.map(|(used, before)| used.ns + before),
            seen: SeenSoFar {
                at_ns: clock::monotonic_ns(),
                cpus: probes.identity().cpus,
                loaded_at: probes.identity().loaded_at,
                machine: probes.machine(),
                own: own.map(|(used, _)| used),
                throttled: self.throttle.as_ref().and_then(Throttle::read),
            },
        })
    }

    /// Why there are none, where they were looked for.
    pub(super) fn missing(&self) -> Option<&Unavailable> {
        self.probes.as_ref()?.as_ref().err()
    }

    /// What they see, in words.
    pub(super) fn gives(&self) -> Vec<String> {
        match &self.probes {
            Some(Ok(probes)) => probes.gives(),
            _ => Vec::new(),
        }
    }

    /// Whether cores have two hardware threads, as far as the probes know.
    pub(super) fn siblings(&self) -> bool {
        matches!(&self.probes, Some(Ok(probes)) if probes.has_siblings())
    }

    /// What was seen between the edges of a window.
    pub(super) fn window(
        &self,
        probed: &Result<Probed, String>,
        then: Option<&SeenSoFar>,
        now: Option<&SeenSoFar>,
    ) -> Result<SeenWindow, String> {
        let probed = probed.as_ref().map_err(Clone::clone)?;
        let Some(Ok(probes)) = &self.probes else {
            return Err("kernel probes are gone".into());
        };
        if !probes.is_alive() {
            return Err("kernel probes were unloaded within the window".into());
        }
        let (Some(then), Some(now)) = (then, now) else {
            let anew = then.is_some_and(|then| then.loaded_at != probes.identity().loaded_at);
            return Err(match probed {
                _ if anew => "kernel probes were loaded anew within the window",
                Probed::Cgroup(..) => "the cgroup was removed, or others were made inside it",
                _ => {
                    "a descendant could not be followed: the table of processes was full, or \
                      metered trees too deep inside each other"
                }
            }
            .into());
        };
        if now.loaded_at != then.loaded_at {
            return Err("kernel probes were loaded anew within the window".into());
        }
        if !now.is_possible_since(then) {
            return Err(IMPOSSIBLE.into());
        }
        let own = now.own.zip(then.own).map(|(now, then)| now.since(&then));
        if own.is_none() && !matches!(probed, Probed::No) {
            return Err("what is metered was not seen throughout".into());
        }
        Ok(SeenWindow {
            machine: now.machine.since(&then.machine),
            frequency_changes_ever: now.machine.frequency_changes,
            own,
            sees_frequency: probes.sees(FLAG_FREQUENCY),
            sees_idle: probes.sees(FLAG_IDLE),
            sees_thermal: probes.sees(FLAG_THERMAL),
            throttled: now
                .throttled
                .zip(then.throttled)
                .map(|(now, then)| now.saturating_sub(then)),
        })
    }
}

/// One look through the probes.
pub(super) struct Look {
    /// CPU time of what is metered, on the scale of its CPU clocks, ns.
    pub(super) own_ns: Option<u64>,
    pub(super) seen: SeenSoFar,
}

/// Loads the probe below `root` and pins it. Returns what it sees.
///
/// # Errors
/// Why it cannot be loaded or pinned.
pub fn load_probes(root: &Path) -> Result<Vec<String>, Unavailable> {
    Probes::open(root, Absent::Load).map(|probes| probes.gives())
}

//! Which file of /proc shows how busy the machine is, judged by both files over a stretch of time.
//!
//! The kernel's own `/proc/uptime` and `/proc/stat` show one and the same idle time, and all times
//! of `/proc/stat` together are the CPUs' capacity. Where /proc is somebody else's work, that is
//! not so: gVisor shows no idle time and zeros, lxcfs a container's age less its busy time whatever
//! the number of CPUs. Kernels before 5.15 add a CPU's idle time to `/proc/uptime` when it wakes.

use super::TICK_NS;

/// What was read within this time was read together, ns.
pub(super) const TOGETHER_NS: u64 = 5_000_000;

/// Less capacity than this is too little to judge by, ns of CPU.
pub(super) const LEAST_NS: u64 = 100_000_000;

/// What /proc shows for a stretch of time, ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    /// Its length.
    pub(super) dt_ns: u64,
    /// CPU time that there was, by the CPUs online.
    pub(super) capacity_ns: u64,
    /// Idle time by /proc/uptime.
    pub(super) uptime_ns: Option<u64>,
    /// By /proc/stat: idle time alone, and all times together.
    pub(super) stat_ns: Option<(u64, u64)>,
    /// CPU time that is known to have been used.
    pub(super) used_ns: Option<u64>,
    /// /proc/uptime is the kernel's own.
    pub(super) genuine: bool,
}

/// What shows how busy the machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Witness {
    /// /proc/uptime.
    Uptime,
    /// /proc/stat, and why not /proc/uptime.
    Stat(Distrust),
    /// Nothing, and why.
    Nothing(Distrust),
}

/// Why a file of /proc is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distrust {
    /// It cannot be read.
    Unreadable,
    /// Time does not pass in it.
    Frozen,
    /// It contradicts another, or the time that passed.
    Contradicted,
}

impl Witness {
    const ALL: [Self; 7] = [
        Self::Uptime,
        Self::Stat(Distrust::Unreadable),
        Self::Stat(Distrust::Frozen),
        Self::Stat(Distrust::Contradicted),
        Self::Nothing(Distrust::Unreadable),
        Self::Nothing(Distrust::Frozen),
        Self::Nothing(Distrust::Contradicted),
    ];

    /// Its number in a trace.
    pub fn number(self) -> u64 {
        let place = Self::ALL.iter().position(|one| *one == self);
        place.map_or(0, |place| place as u64)
    }

    /// The witness with this number; nothing is believed by one that there is not.
    pub fn numbered(number: u64) -> Self {
        let known = usize::try_from(number).ok().and_then(|n| Self::ALL.get(n));
        *known.unwrap_or(&Self::Nothing(Distrust::Unreadable))
    }

    /// Why the busy time is not as sure as the kernel's own /proc/uptime makes it.
    pub fn doubt(self) -> Option<&'static str> {
        match self {
            Self::Uptime => None,
            Self::Stat(Distrust::Unreadable) => {
                Some("how busy the machine was is from /proc/stat: /proc/uptime cannot be read")
            }
            Self::Stat(_) => Some(
                "how busy the machine was is from /proc/stat, which contradicts /proc/uptime: in a \
                 container (lxcfs) it is the container's busy time, and others' is not seen",
            ),
            Self::Nothing(Distrust::Unreadable) => {
                Some("neither /proc/uptime nor /proc/stat can be read")
            }
            Self::Nothing(Distrust::Frozen) => Some(
                "the idle time in /proc does not move, as in sandboxes that do not show the \
                 machine's (gVisor)",
            ),
            Self::Nothing(Distrust::Contradicted) => Some(
                "/proc/uptime and /proc/stat contradict each other, or the time that passed on \
                 the CPUs online",
            ),
        }
    }
}

/// A verdict: what is believed, and the capacity that it shows where that is not the CPUs'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) witness: Witness,
    pub(super) capacity_ns: u64,
}

/// How far two readings of the same may differ: printed steps at both ends, and what passes between
/// reading one and the other.
fn tolerance(of_ns: u64, percent: u64) -> u64 {
    3 * TICK_NS + of_ns / 100 * percent
}

/// Judges a stretch of at least [`LEAST_NS`] of capacity.
pub(super) fn judge(stretch: &Stretch) -> Verdict {
    let capacity = stretch.capacity_ns;
    let believe = |witness| Verdict {
        witness,
        capacity_ns: capacity,
    };
    let loose = tolerance(capacity, 15);
    let whole = |all: u64| all.abs_diff(capacity) <= loose;
    let Some(idle) = stretch.uptime_ns else {
        return believe(match stretch.stat_ns {
            Some((_, all)) if whole(all) => Witness::Stat(Distrust::Unreadable),
            Some((_, 0)) => Witness::Nothing(Distrust::Frozen),
            Some(_) => Witness::Nothing(Distrust::Contradicted),
            None => Witness::Nothing(Distrust::Unreadable),
        });
    };
    // What the known use explains needs no others.
    let explained = stretch
        .used_ns
        .is_some_and(|used| used.saturating_add(idle).abs_diff(capacity) <= loose);
    if let Some((by_stat, all)) = stretch.stat_ns {
        let agree = idle.abs_diff(by_stat) <= tolerance(capacity.min(all), 5);
        if agree && whole(all) {
            return believe(Witness::Uptime);
        }
        // Of one machine, but not of the CPUs that are listed as online. All times together are a
        // whole number of CPUs. Time that stood still for a while can look like fewer CPUs, unless
        // that number is sure.
        let cpus = (all + stretch.dt_ns / 2) / stretch.dt_ns.max(1);
        let off = all.abs_diff(cpus * stretch.dt_ns);
        let printed = tolerance(cpus * TOGETHER_NS, 100);
        let whole_cpus = if all > capacity {
            off <= tolerance(all, 10)
        } else {
            off <= printed && 8 * printed <= stretch.dt_ns
        };
        let needed = stretch.used_ns.unwrap_or(0).saturating_add(idle);
        if agree && cpus > 0 && whole_cpus && all.saturating_add(tolerance(all, 15)) >= needed {
            return Verdict {
                witness: Witness::Uptime,
                capacity_ns: all,
            };
        }
        // Both stood still for a while.
        if agree && !stretch.genuine && !explained && all < capacity {
            return believe(Witness::Nothing(if all <= tolerance(0, 0) {
                Distrust::Frozen
            } else {
                Distrust::Contradicted
            }));
        }
        if !agree && whole(all) {
            return believe(Witness::Stat(Distrust::Contradicted));
        }
    }
    // Nothing bears /proc/uptime out, so it must be plausible by itself. More idle time than one CPU
    // can have is no container's age.
    let several = idle > stretch.dt_ns + tolerance(stretch.dt_ns, 2);
    let one_cpu = capacity < stretch.dt_ns + stretch.dt_ns / 2 && idle > 0;
    if idle > capacity.saturating_add(loose) {
        return believe(Witness::Nothing(Distrust::Contradicted));
    }
    if stretch.genuine || explained || several || one_cpu {
        return believe(Witness::Uptime);
    }
    believe(Witness::Nothing(if idle <= tolerance(0, 0) {
        Distrust::Frozen
    } else {
        Distrust::Contradicted
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    /// A second on `cpus` CPUs.
    fn second(cpus: u64, uptime: Option<u64>, stat: Option<(u64, u64)>, used: u64) -> Stretch {
        Stretch {
            dt_ns: S,
            capacity_ns: cpus * S,
            uptime_ns: uptime,
            stat_ns: stat,
            used_ns: Some(used),
            genuine: false,
        }
    }

    #[test]
    fn what_stood_still_for_a_while_is_not_fewer_cpus() {
        // 8 CPUs at rest for 50 ms of 150, then nothing moves any more.
        let stretch = |moved_ns: u64| Stretch {
            dt_ns: 150_000_000,
            capacity_ns: 8 * 150_000_000,
            ..second(8, Some(moved_ns), Some((moved_ns, moved_ns)), 0)
        };
        for moved_ns in (0..980_000_000).step_by(10_000_000) {
            let told = judge(&stretch(moved_ns));
            assert!(
                matches!(told.witness, Witness::Nothing(_)),
                "{moved_ns} ns: {told:?}"
            );
        }
        assert_eq!(judge(&stretch(1_190_000_000)).witness, Witness::Uptime);
        // Over a second that number is sure.
        let half = second(8, Some(4 * S), Some((4 * S, 4 * S)), 0);
        assert_eq!(
            (judge(&half).witness, judge(&half).capacity_ns),
            (Witness::Uptime, 4 * S)
        );
    }

    fn witness(stretch: Stretch) -> Witness {
        judge(&stretch).witness
    }

    #[test]
    fn the_kernels_own_files_bear_each_other_out() {
        for (cpus, idle) in [(1, S), (2, S / 2), (16, 3 * S), (256, 200 * S)] {
            let tick = TICK_NS;
            let one = second(cpus, Some(idle + tick), Some((idle, cpus * S - tick)), 0);
            assert_eq!(witness(one), Witness::Uptime);
        }
        // A machine that is fully busy, mostly with others.
        assert_eq!(
            witness(second(2, Some(0), Some((0, 2 * S)), S / 10)),
            Witness::Uptime
        );
    }

    #[test]
    fn a_sandbox_without_idle_time_is_noticed() {
        let frozen = Witness::Nothing(Distrust::Frozen);
        assert_eq!(witness(second(2, Some(0), Some((0, 0)), S)), frozen);
        assert_eq!(witness(second(16, Some(0), Some((0, 0)), 0)), frozen);
        assert_eq!(witness(second(16, Some(0), None, S)), frozen);
        // All CPUs were the function's: nothing is left to be unknown.
        assert_eq!(
            witness(second(2, Some(0), Some((0, 0)), 2 * S)),
            Witness::Uptime
        );
    }

    #[test]
    fn a_containers_age_is_not_the_machines_idle_time() {
        // At rest on two CPUs; one busy function on 16.
        let stat = Witness::Stat(Distrust::Contradicted);
        assert_eq!(witness(second(2, Some(S), Some((2 * S, 2 * S)), 0)), stat);
        assert_eq!(
            witness(second(16, Some(S / 20), Some((15 * S, 16 * S)), S)),
            stat
        );
        // Without a second witness, or with one that stands still, it is unknown.
        let unknown = Witness::Nothing(Distrust::Contradicted);
        assert_eq!(witness(second(16, Some(S / 20), Some((0, 0)), S)), unknown);
        assert_eq!(witness(second(16, Some(S), None, S / 2)), unknown);
    }

    #[test]
    fn idle_time_of_more_than_one_cpu_is_the_machines() {
        assert_eq!(
            witness(second(8, Some(3 * S), Some((0, 0)), S)),
            Witness::Uptime
        );
        assert_eq!(witness(second(8, Some(3 * S), None, S)), Witness::Uptime);
    }

    #[test]
    fn cpus_that_are_not_those_online_are_noticed() {
        // Online lists 2, both files 8; online lists 8, both files 2.
        let more = judge(&second(2, Some(6 * S), Some((6 * S, 8 * S)), S));
        assert_eq!((more.witness, more.capacity_ns), (Witness::Uptime, 8 * S));
        let fewer = judge(&second(8, Some(S), Some((S, 2 * S)), S));
        assert_eq!((fewer.witness, fewer.capacity_ns), (Witness::Uptime, 2 * S));
        let busy = judge(&second(16, Some(0), Some((0, 2 * S)), S));
        assert_eq!((busy.witness, busy.capacity_ns), (Witness::Uptime, 2 * S));
        let unknown = Witness::Nothing(Distrust::Contradicted);
        assert_eq!(witness(second(2, Some(6 * S), None, 0)), unknown);
    }

    #[test]
    fn the_kernels_own_idle_time_needs_no_second_witness() {
        let own = |uptime| Stretch {
            genuine: true,
            ..second(4, Some(uptime), None, 0)
        };
        assert_eq!(witness(own(0)), Witness::Uptime);
        assert_eq!(witness(own(S / 2)), Witness::Uptime);
        // But for more than there was.
        let unknown = Witness::Nothing(Distrust::Contradicted);
        assert_eq!(witness(own(6 * S)), unknown);
    }

    #[test]
    fn one_file_is_enough_where_it_is_whole() {
        let stat = Witness::Stat(Distrust::Unreadable);
        assert_eq!(witness(second(4, None, Some((S, 4 * S)), S)), stat);
        assert_eq!(
            witness(second(4, None, Some((0, 0)), S)),
            Witness::Nothing(Distrust::Frozen)
        );
        assert_eq!(
            witness(second(4, None, None, S)),
            Witness::Nothing(Distrust::Unreadable)
        );
    }
}

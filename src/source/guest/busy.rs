//! The CPU time that a virtual machine used, cheap enough for every look.

use std::path::Path;

use crate::clock;
use crate::counter::Moment;
use crate::source::kept::Kept;
use crate::source::procfs::{online_cpus, uptime_idle_ns};

/// Where the count begins, ns: it may be counted back from there.
const BEGIN_NS: u64 = 1 << 60;

/// Busy time of all CPUs: by /proc/uptime, which counts in steps of 10 ms, and not less than this
/// process's own clock.
#[derive(Debug)]
pub(super) struct BusyClock {
    uptime: Option<Kept>,
    cpus: u64,
    /// When it began, and idle time then, ns.
    began: Option<(u64, u64)>,
    busy_ns: u64,
    own_ns: u64,
}

impl BusyClock {
    pub(super) fn open(root: &Path) -> Self {
        Self {
            uptime: Kept::open(&root.join("proc/uptime")).ok(),
            cpus: u64::from(online_cpus(root)),
            began: None,
            busy_ns: BEGIN_NS,
            own_ns: clock::own_process_cpu_ns(),
        }
    }

    /// The busy time at `t_ns`, which is now. Where nothing shows it, time itself is taken for it.
    pub(super) fn moment(&mut self, t_ns: u64) -> Moment {
        let own_ns = clock::own_process_cpu_ns();
        // A forked process's clock begins anew.
        let own = own_ns.saturating_sub(std::mem::replace(&mut self.own_ns, own_ns));
        let mut buffer = [0; 64];
        let idle = self.uptime.as_ref().and_then(|kept| {
            let text = kept.read(&mut buffer).ok()?;
            uptime_idle_ns(text)
        });
        let (began_ns, idle_then) = *self.began.get_or_insert((t_ns, idle.unwrap_or(0)));
        let elapsed = t_ns.saturating_sub(began_ns);
        let busy = match idle {
            Some(idle) => {
                let all = self.cpus.saturating_mul(elapsed);
                all.saturating_sub(idle.saturating_sub(idle_then))
            }
            None => elapsed,
        };
        self.busy_ns = (BEGIN_NS + busy).max(self.busy_ns + own);
        Moment {
            t_ns,
            busy_ns: self.busy_ns,
            unsure_ns: 0,
        }
    }
}

//! The parts of virtual machines of a host's energy, each written into a file that its guest mounts.
//!
//! The rule is that of containers ([`super::groups`]): what packages and memory used above idle is
//! divided by CPU time among all that ran, and a guest's CPU time is that of its process or cgroup:
//! of what it computes and of what the host does for it. The host's power at rest stays with the host.
//! In the account of the machine a guest is part of the rest, or of the container that it is in.
//!
//! The file is a ring ([`crate::source::ring::layout`]) of one zone, ten samples a second. A guest
//! sees its own part and nothing of others, so each has a folder for itself.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::groups::{Round, divide};
use super::writer::{Lock, Writer, safe};
use crate::cgroup::cpu::CgroupCpu;
use crate::clock;
use crate::error::{Error, Result};
use crate::source::procfs::idle_between;
use crate::source::ring::layout::{Header, Sample};
use crate::source::{Domain, Method, Zone};

/// Where guests' folders are by default. Beside the agent's own ring, on a tmpfs.
pub const DEFAULT_FOLDER: &str = "/run/lithowatt/guests";

/// Time between two samples of a guest, ns: busy time of the machine is known in steps of 10 ms.
const PERIOD_NS: u64 = 100_000_000;

/// Samples that are kept: all are in one page.
const SLOTS: u64 = 16;

/// Longest name of a guest, bytes: a ring's node has 64.
const LONGEST_NAME: usize = 64;

/// Whose CPU time a guest's is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// A process with all its threads: qemu.
    Process(i32),
    /// A cgroup: its folder, or its path below the hierarchy.
    Cgroup(PathBuf),
}

/// A guest that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name, which is that of its folder.
    pub name: String,
    /// Whose CPU time is its.
    pub whose: Whose,
}

impl Wanted {
    /// Reads `NAME=PID` or `NAME=CGROUP`.
    ///
    /// ```
    /// use lithowatt::agent::guests::{Wanted, Whose};
    /// assert_eq!(Wanted::parse("web=4711").unwrap().whose, Whose::Process(4711));
    /// assert!(Wanted::parse("../web=4711").is_err() && Wanted::parse("web").is_err());
    /// ```
    ///
    /// # Errors
    /// [`Error::Agent`] with what would do.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |reason: String| Error::Agent {
            reason,
            accepted: "--guest NAME=PID or NAME=CGROUP, the name of letters, digits, - _ and .",
        };
        let Some((name, whose)) = text.split_once('=') else {
            return Err(refuse(format!(
                "--guest {text:?} names no process and no cgroup"
            )));
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty()
            || name.len() > LONGEST_NAME
            || name.starts_with('.')
            || !name.chars().all(plain)
        {
            return Err(refuse(format!("{name:?} is no name for a guest's folder")));
        }
        if whose.is_empty() {
            return Err(refuse(format!(
                "--guest {text:?} names no process and no cgroup"
            )));
        }
        let whose = match whose.parse::<i32>() {
            Ok(pid) => Whose::Process(pid),
            Err(_) => Whose::Cgroup(whose.into()),
        };
        Ok(Self {
            name: name.to_owned(),
            whose,
        })
    }
}

#[derive(Debug)]
enum CpuClock {
    Process(i32),
    Cgroup(CgroupCpu),
}

impl CpuClock {
    fn open(whose: &Whose, top: Option<&Path>) -> Option<Self> {
        let clock = match whose {
            Whose::Process(pid) => Self::Process(*pid),
            Whose::Cgroup(path) => {
                let below = || {
                    let inner = path.strip_prefix("/").unwrap_or(path);
                    CgroupCpu::open(&top?.join(inner)).ok()
                };
                Self::Cgroup(below().or_else(|| CgroupCpu::open(path).ok())?)
            }
        };
        clock.cpu_ns().map(|_| clock)
    }

    fn cpu_ns(&self) -> Option<u64> {
        match self {
            Self::Process(pid) => clock::process_cpu_ns(*pid),
            Self::Cgroup(group) => group.cpu_ns().used(),
        }
    }
}

#[derive(Debug)]
struct Guest {
    clock: CpuClock,
    cpu_ns: u64,
    active_uj: u64,
    writer: Writer,
    sample: Sample,
    is_gone: bool,
    _lock: Lock,
}

/// What the machine had counted at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// When, ns on the host's clock.
    pub t_ns: u64,
    /// Packages and DRAM, µJ.
    pub machine_uj: u64,
    /// CPU time that nobody used, and that there was, ns.
    pub idle_ns: Option<u64>,
    /// CPU time that there was, ns.
    pub capacity_ns: u64,
}

/// All guests of a host.
#[derive(Debug)]
pub struct Guests {
    guests: Vec<Guest>,
    quantum_uj: u64,
    then: Counted,
}

impl Guests {
    /// Puts a ring for each into its folder below `folder`. `host` is the header of the agent's own
    /// ring, `top` the hierarchy of cgroups.
    ///
    /// # Errors
    /// [`Error::Agent`] where a process or cgroup is not there, or a folder cannot be had.
    pub fn open(
        wanted: &[Wanted],
        folder: &Path,
        host: &Header,
        top: Option<&Path>,
        now: Counted,
    ) -> Result<Self> {
        let mut guests = Vec::with_capacity(wanted.len());
        if !wanted.is_empty() {
            // It is created below; who may write above it is for who chose it to know.
            let _ = DirBuilder::new().recursive(true).mode(0o755).create(folder);
            safe(folder)?;
        }
        for one in wanted {
            guests.push(Guest::open(
                one,
                &folder.join(&one.name),
                host,
                top,
                now.t_ns,
            )?);
        }
        Ok(Self {
            guests,
            quantum_uj: host.quantum_uj,
            then: now,
        })
    }

    /// Whether it is time for a sample at `t_ns`.
    pub fn is_due(&self, t_ns: u64) -> bool {
        !self.guests.is_empty() && t_ns.saturating_sub(self.then.t_ns) >= PERIOD_NS
    }

    /// Divides what the machine used since the last time, of which `idle_watts` flowed at rest.
    pub fn settle(&mut self, now: Counted, idle_watts: f64) {
        let then = std::mem::replace(&mut self.then, now);
        let dt_ns = now.t_ns.saturating_sub(then.t_ns);
        let machine_uj = now.machine_uj.saturating_sub(then.machine_uj);
        let capacity = now.capacity_ns.saturating_sub(then.capacity_ns);
        let busy = idle_between(then.idle_ns, now.idle_ns, capacity)
            .map(|idle| capacity.saturating_sub(idle));
        let own: Vec<u64> = self.guests.iter_mut().map(Guest::used).collect();
        let round = Round {
            t_ns: now.t_ns,
            machine_uj,
            idle_uj: ((idle_watts * dt_ns as f64 * 1e-3) as u64).min(machine_uj),
            busy_ns: busy,
            idle_ns: now.idle_ns,
        };
        let (parts, _) = divide(&round, &own);
        for (guest, part) in self.guests.iter_mut().zip(parts) {
            guest.publish(now.t_ns, part, self.quantum_uj);
        }
    }

    /// Name and J of each, for the metrics.
    pub fn joules(&self) -> impl Iterator<Item = (&str, f64)> {
        self.guests
            .iter()
            .map(|guest| (&*guest.writer.header().node, guest.active_uj as f64 * 1e-6))
    }

    /// Marks all rings as left.
    pub fn close(&mut self, t_ns: u64) {
        for guest in &mut self.guests {
            guest.writer.beat(t_ns, true);
        }
    }
}

impl Guest {
    fn open(
        wanted: &Wanted,
        folder: &Path,
        host: &Header,
        top: Option<&Path>,
        t_ns: u64,
    ) -> Result<Self> {
        let clock = CpuClock::open(&wanted.whose, top).ok_or_else(|| Error::Agent {
            reason: match &wanted.whose {
                Whose::Process(pid) => format!("guest {}: there is no process {pid}", wanted.name),
                Whose::Cgroup(path) => format!(
                    "guest {}: there is no cgroup {} that counts CPU time",
                    wanted.name,
                    path.display()
                ),
            },
            accepted: "the number of the guest's qemu process, or its cgroup, such as \
                       /machine.slice/machine-qemu\\x2d1\\x2dweb.scope",
        })?;
        let path = folder.join("ring");
        let lock = Lock::take(&path)?;
        let header = Header {
            generation: clock::realtime_ns(),
            lineage: clock::realtime_ns(),
            // The reader is another machine.
            boot_id: [0, 0],
            period_ns: PERIOD_NS,
            quantum_uj: host.quantum_uj,
            stale_ns: host.stale_ns.max(10 * PERIOD_NS),
            round_ns: PERIOD_NS,
            cpus: host.cpus,
            cgroup_version: 0,
            slots: SLOTS,
            groups: 0,
            node: wanted.name.clone(),
            version: host.version.clone(),
            zones: vec![Zone {
                method: Method::Guest,
                domain: Domain::Package,
                package: 0,
                name: "above idle, by CPU time".into(),
                unit_joules: 1e-6,
                modulus: None,
            }],
        };
        let sample = Sample {
            number: 1,
            t_ns,
            totals: vec![0],
            ..Sample::default()
        };
        let writer = Writer::create(&path, header, 0o644, None, sample.clone())?;
        Ok(Self {
            cpu_ns: clock.cpu_ns().unwrap_or(0),
            clock,
            active_uj: 0,
            writer,
            sample,
            is_gone: false,
            _lock: lock,
        })
    }

    /// CPU time since the last time, ns. A guest whose process ended has none any more: the number may
    /// be another process's by now, and its clock would be lower.
    fn used(&mut self) -> u64 {
        match self
            .clock
            .cpu_ns()
            .filter(|now| *now >= self.cpu_ns && !self.is_gone)
        {
            Some(now) => now - std::mem::replace(&mut self.cpu_ns, now),
            None => {
                self.is_gone = true;
                0
            }
        }
    }

    fn publish(&mut self, t_ns: u64, part_uj: u64, quantum_uj: u64) {
        if self.is_gone {
            self.writer.beat(t_ns, true);
            return;
        }
        self.active_uj += part_uj;
        self.sample.t_ns = t_ns;
        self.sample.totals[0] = self.active_uj / quantum_uj * quantum_uj;
        self.writer.publish(&mut self.sample);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_folders_and_nothing_else() {
        let of = |text: &str| Wanted::parse(text).map(|one| (one.name, one.whose));
        assert_eq!(
            of("a.b-c_1=7").unwrap(),
            ("a.b-c_1".into(), Whose::Process(7))
        );
        let cgroup = "/machine.slice/machine-qemu\\x2d1\\x2dweb.scope";
        let expected = Whose::Cgroup(cgroup.into());
        assert_eq!(of(&format!("web={cgroup}")).unwrap().1, expected);
        let long = format!("{}=1", "x".repeat(65));
        for text in [
            "", "web", "=1", "web=", ".=1", "..=1", "a/b=1", "a b=1", "ä=1", &long,
        ] {
            let error = of(text).unwrap_err().to_string();
            assert!(error.contains("NAME=PID"), "{text:?}: {error}");
        }
    }
}

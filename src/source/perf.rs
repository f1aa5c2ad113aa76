//! perf_event_open: the `power` PMU of the machine, and cycles, instructions and task clock of a
//! process tree.
//!
//! The power PMU counts whole packages, so it is read on one CPU of each, in 2^-32 J steps that
//! sysfs states as scale and unit; it is system-wide, so it wants CAP_PERFMON or
//! `perf_event_paranoid` ≤ 0. Counters of a process are opened once per existing thread and
//! inherited by later threads and children, so that a tree is complete without its help.

use std::fs;
use std::io;
use std::path::Path;

use perf_event::events::Dynamic;
use perf_event::{Builder, ReadFormat};

use super::kept::{self, StandardStreams};
use super::procfs::{cpu_list, cpu_vendor, is_amd};
use super::topology::{Scope, one_cpu_each};
use super::{Domain, EnergyCounter, Method, Note, ReadFault, Unavailable, Zone};
use owned::OwnCounter;

mod owned;
mod tree;

pub use tree::{TreeCount, TreeCounters};

/// Events of the `power` PMU and the domain that each counts.
const POWER_EVENTS: [(&str, Domain); 5] = [
    ("energy-pkg", Domain::Package),
    ("energy-cores", Domain::Core),
    ("energy-gpu", Domain::Uncore),
    ("energy-ram", Domain::Dram),
    ("energy-psys", Domain::Psys),
];

/// AMD counts each core by itself in `power_core`. A read on another CPU is an interrupt there, so
/// above this many cores the sum is left out: it would cost more than it is worth.
const MOST_CORE_COUNTERS: usize = 16;

/// The command that opens the power PMU to everybody until the next boot.
pub const POWER_FIX: &str = "sudo sysctl kernel.perf_event_paranoid=0";
/// The command that opens a process's own counters until the next boot.
pub const TREE_FIX: &str = "sudo sysctl kernel.perf_event_paranoid=2";

/// The event of AMD's per-core PMU.
const CORE_EVENT: &str = "energy-core";

/// The counters of one CPU, read together with one system call.
#[derive(Debug)]
struct CpuGroup {
    leader: OwnCounter,
    members: Vec<OwnCounter>,
    /// Index in `PowerPmu::zones` of the leader and of each member.
    zones: Vec<usize>,
}

/// The open power PMU.
#[derive(Debug)]
pub struct PowerPmu {
    zones: Vec<Zone>,
    groups: Vec<CpuGroup>,
    notes: Vec<Note>,
    /// Somebody closed one of the descriptors.
    lost: bool,
}

impl PowerPmu {
    /// Opens every energy event on every package.
    ///
    /// # Errors
    /// [`Unavailable`] where there is no such PMU or where it may not be opened.
    pub fn open(root: &Path) -> Result<Self, Unavailable> {
        let _spared = StandardStreams::spared();
        let mut pmu = Self {
            zones: Vec::new(),
            groups: Vec::new(),
            notes: Vec::new(),
            lost: false,
        };
        let devices = root.join("sys/bus/event_source/devices");
        let power = devices.join("power");
        if !power.join("type").exists() {
            return Err(Unavailable::absent(format!(
                "{} does not exist: no power PMU (a virtual machine, or a processor or kernel \
                 without one)",
                power.display()
            ))
            .with_driver("sudo modprobe rapl"));
        }
        let cpus = mask(&power);
        let scope = match cpu_vendor(root) {
            Some(vendor) if is_amd(&vendor) => Scope::Package,
            _ => Scope::Die,
        };
        let mut refused = None;
        for (index, (package, cpu)) in one_cpu_each(root, &cpus, scope).iter().enumerate() {
            let mut group: Option<CpuGroup> = None;
            for (event, domain) in POWER_EVENTS {
                // The platform has one counter, whichever package it is read on.
                if domain == Domain::Psys && index > 0 {
                    continue;
                }
                if !power.join("events").join(event).exists() {
                    continue;
                }
                let zone = |unit_joules| Zone {
                    method: Method::Perf,
                    domain,
                    package: *package,
                    name: format!("power/{event}/ on cpu {cpu}"),
                    unit_joules,
                    modulus: None,
                };
                match open_energy(&power, event, *cpu, &mut group) {
                    Ok(scale) => {
                        if let Some(group) = &mut group {
                            group.zones.push(pmu.zones.len());
                        }
                        pmu.zones.push(zone(scale));
                    }
                    Err(why) => {
                        pmu.notes.push(left_out(domain, event, &why.reason));
                        refused = Some(why);
                    }
                }
            }
            pmu.groups.extend(group);
        }
        pmu.add_core_pmu(&devices.join("power_core"));
        if pmu
            .zones
            .iter()
            .any(|z| z.domain == Domain::Package || z.domain == Domain::Psys)
        {
            Ok(pmu)
        } else {
            Err(refused.unwrap_or_else(|| {
                Unavailable::absent(format!("{} has no energy event", power.display()))
            }))
        }
    }

    /// AMD's per-core PMU: the sum over its cpumask is the core domain.
    fn add_core_pmu(&mut self, device: &Path) {
        if !device.join("events").join(CORE_EVENT).exists() {
            return;
        }
        let cpus = mask(device);
        if cpus.len() > MOST_CORE_COUNTERS {
            let why = format!(
                "{} cores would take an interrupt each at every reading, so the core domain is left \
                 out",
                cpus.len()
            );
            self.notes.push(left_out(Domain::Core, CORE_EVENT, &why));
            return;
        }
        for cpu in cpus {
            let mut group = None;
            match open_energy(device, CORE_EVENT, cpu, &mut group) {
                Ok(scale) => {
                    if let Some(group) = &mut group {
                        group.zones.push(self.zones.len());
                    }
                    self.zones.push(Zone {
                        method: Method::Perf,
                        domain: Domain::Core,
                        package: 0,
                        name: format!("power_core/{CORE_EVENT}/ on cpu {cpu}"),
                        unit_joules: scale,
                        modulus: None,
                    });
                    self.groups.extend(group);
                }
                Err(why) => self
                    .notes
                    .push(left_out(Domain::Core, CORE_EVENT, &why.reason)),
            }
        }
    }
}

impl EnergyCounter for PowerPmu {
    fn zones(&self) -> &[Zone] {
        &self.zones
    }

    fn notes(&self) -> &[Note] {
        &self.notes
    }

    fn is_lost(&self) -> bool {
        self.lost
    }

    fn read(&mut self, out: &mut Vec<Result<u64, ReadFault>>) {
        let base = out.len();
        out.resize(base + self.zones.len(), Err(ReadFault::Failed));
        for group in &mut self.groups {
            if !group.leader.is_ours() {
                self.lost = true;
                continue;
            }
            let Ok(data) = group.leader.read_group() else {
                continue;
            };
            let counters = std::iter::once(&group.leader).chain(&group.members);
            for (counter, zone) in counters.zip(&group.zones) {
                if let Some(entry) = data.get(counter) {
                    out[base + zone] = Ok(entry.value());
                }
            }
        }
    }
}

/// Opens the power PMU below `root`, as [`PowerPmu::open`].
pub(super) fn open(root: &Path) -> Result<Box<dyn EnergyCounter>, Unavailable> {
    Ok(Box::new(PowerPmu::open(root)?))
}

fn left_out(domain: Domain, event: &str, why: &str) -> Note {
    Note {
        domain: Some(domain),
        about: event.into(),
        why: why.into(),
    }
}

fn mask(device: &Path) -> Vec<u32> {
    super::plain::kernel_text(&device.join("cpumask"))
        .ok()
        .and_then(|text| cpu_list(&text))
        .filter(|cpus| !cpus.is_empty())
        .unwrap_or_else(|| vec![0])
}

fn open_energy(
    device: &Path,
    event: &str,
    cpu: u32,
    group: &mut Option<CpuGroup>,
) -> Result<f64, Unavailable> {
    let broken = |e: &dyn std::fmt::Display| {
        Unavailable::absent(format!("{}/events/{event}: {e}", device.display()))
    };
    let mut dynamic = Dynamic::builder(device).map_err(|e| broken(&e))?;
    dynamic.event(event).map_err(|e| broken(&e))?;
    let unit = dynamic.unit().map_err(|e| broken(&e))?;
    if unit.as_deref() != Some("Joules") {
        return Err(broken(&format!(
            "its unit is {:?}, expected \"Joules\"",
            unit.as_deref().unwrap_or("missing")
        )));
    }
    let scale = dynamic.scale().map_err(|e| broken(&e))?;
    let scale = scale
        .filter(|s| s.is_finite() && *s > 0.0)
        .ok_or_else(|| broken(&"its scale is not a positive number"))?;
    let built = dynamic.build().map_err(|e| broken(&e))?;
    let mut builder = Builder::new(built);
    builder
        .any_pid()
        .one_cpu(cpu as usize)
        .include_kernel()
        .include_hv()
        .enabled(true)
        .read_format(ReadFormat::GROUP | ReadFormat::ID);
    let opened = match group.as_mut() {
        None => builder.build().map(|leader| {
            *group = Some(CpuGroup {
                leader: OwnCounter::new(leader),
                members: Vec::new(),
                zones: Vec::new(),
            });
        }),
        Some(group) => builder
            .build_with_group(&mut *group.leader)
            .map(|member| group.members.push(OwnCounter::new(member))),
    };
    opened.map_err(|e| refusal(&e, &format!("power/{event}/"), POWER_FIX))?;
    Ok(scale)
}

/// What the kernel's refusal means, in a line.
fn refusal(error: &io::Error, what: &str, fix: &str) -> Unavailable {
    let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
    let paranoid = paranoid.as_deref().unwrap_or("unknown").trim();
    if kept::is_shortage(error) {
        return Unavailable::of(what, error);
    }
    match error.raw_os_error() {
        Some(libc::EACCES) => Unavailable::denied(
            format!("{what} may not be opened: perf_event_paranoid is {paranoid}"),
            fix,
        ),
        Some(libc::EPERM) => Unavailable::denied(
            format!(
                "{what} may not be opened: refused by a seccomp filter or by \
                 perf_event_paranoid {paranoid}"
            ),
            fix,
        ),
        Some(libc::ENOSYS) => Unavailable::absent(format!(
            "{what}: this kernel or sandbox has no perf_event_open"
        )),
        Some(libc::ENOENT | libc::EOPNOTSUPP | libc::ENODEV) => Unavailable::absent(format!(
            "{what}: this machine has no such hardware counter (often so in a virtual machine)"
        )),
        _ => Unavailable::absent(format!("{what}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pmu_is_absent_not_denied() {
        let tmp = tempfile::tempdir().unwrap();
        let why = PowerPmu::open(tmp.path()).unwrap_err();
        assert!(!why.denied);
    }
}

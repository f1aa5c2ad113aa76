//! perf_event_open: the `power` PMU of the machine, and cycles, instructions and task clock of a
//! process tree.
//!
//! The power PMU counts whole packages, so it is read on one CPU of each, in 2^-32 J steps that
//! sysfs states as scale and unit; it is system-wide, so it wants CAP_PERFMON or
//! `perf_event_paranoid` ≤ 0. Counters of a process are opened once per existing thread and
//! inherited by later threads and children, so that a tree is complete without its help.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use perf_event::events::{Dynamic, Event};
use perf_event::{Builder, ReadFormat};

use super::kept::{self, StandardStreams};
use super::procfs::{cpu_list, cpu_vendor, is_amd};
use super::topology::{self, Scope, one_cpu_each};
use super::{Domain, EnergyCounter, Method, Note, ReadFault, Unavailable, Zone, rapl};
use crate::clock;
pub(super) use owned::OwnCounter;

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

/// So many threads a core has at most (Power; 2 on x86).
const MOST_THREADS: usize = 8;

/// A counter of a package or core that stood still for so long is looked after: its CPU may have gone
/// offline, ns.
const STILL_NS: u64 = 200_000_000;

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
    cpu: u32,
    /// What the leader showed last, and since when, ns.
    still: (u64, u64),
}

/// The open power PMU.
#[derive(Debug)]
pub struct PowerPmu {
    zones: Vec<Zone>,
    groups: Vec<CpuGroup>,
    notes: Vec<Note>,
    /// Somebody closed one of the descriptors, or one of the CPUs went offline.
    lost: bool,
    /// Dies are read one by one, and nothing shows whether each has its own counter.
    unsure_of_dies: bool,
    root: PathBuf,
}

impl PowerPmu {
    /// Opens every energy event on every package.
    ///
    /// # Errors
    /// [`Unavailable`] where there is no such PMU, where it does not count packages or where it may not be
    /// opened.
    pub fn open(root: &Path) -> Result<Self, Unavailable> {
        let _spared = StandardStreams::spared();
        let mut pmu = Self {
            zones: Vec::new(),
            groups: Vec::new(),
            notes: Vec::new(),
            lost: false,
            unsure_of_dies: false,
            root: root.to_owned(),
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
        // The kernel asks every other register whether it counts before it shows the event. To open and close
        // one for nothing may take milliseconds.
        let shows = |event: &str| power.join("events").join(event).exists();
        if shows("energy-psys") && !shows("energy-pkg") {
            return Err(Unavailable::absent(format!(
                "{} has energy-psys alone: virtual machines show it, and it stays at 0 there",
                power.display()
            )));
        }
        let cpus = topology::readable(root, mask(&power));
        let mut refused = None;
        for (package, cpu) in &pmu.one_of_each(&cpus) {
            let mut group: Option<CpuGroup> = None;
            for (event, domain) in POWER_EVENTS {
                if !shows(event) {
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
        if pmu.zones.iter().any(|zone| zone.domain == Domain::Package) {
            return Ok(pmu);
        }
        Err(refused.unwrap_or_else(|| {
            Unavailable::absent(format!("{} counts no package", power.display()))
        }))
    }

    /// One CPU of everything that has a counter of its own, with its package.
    ///
    /// The kernel (drivers/powercap/intel_rapl_common.c, on the scope of the package counter): AMD
    /// counts packages; of Intel's processors with more than one die Cascade Lake-AP counts dies, and
    /// those with TPMI count packages. Where it counts dies its powercap zones are named after them.
    fn one_of_each(&mut self, cpus: &[u32]) -> Vec<(u32, u32)> {
        let packages = one_cpu_each(&self.root, cpus, Scope::Package);
        if cpu_vendor(&self.root).is_some_and(|vendor| is_amd(&vendor)) {
            return packages;
        }
        let dies = one_cpu_each(&self.root, cpus, Scope::Die);
        if dies.len() == packages.len() {
            return packages;
        }
        match rapl::counts_dies(&self.root) {
            Some(false) => packages,
            shown => {
                self.unsure_of_dies = shown.is_none();
                dies
            }
        }
    }

    /// AMD's per-core PMU: the sum over the cores is the core domain.
    fn add_core_pmu(&mut self, device: &Path) {
        if !device.join("events").join(CORE_EVENT).exists() {
            return;
        }
        let cpus = topology::readable(&self.root, mask(device));
        let cores = if cpus.len() > MOST_CORE_COUNTERS * MOST_THREADS {
            None
        } else {
            let cores = one_cpu_each(&self.root, &cpus, Scope::Core);
            Some(cores).filter(|cores| cores.len() <= MOST_CORE_COUNTERS)
        };
        let Some(cores) = cores else {
            let why = format!(
                "more than {MOST_CORE_COUNTERS} cores would take an interrupt each at every \
                 reading, so the core domain is left out"
            );
            self.notes.push(left_out(Domain::Core, CORE_EVENT, &why));
            return;
        };
        for (package, cpu) in cores {
            let mut group = None;
            match open_energy(device, CORE_EVENT, cpu, &mut group) {
                Ok(scale) => {
                    if let Some(group) = &mut group {
                        group.zones.push(self.zones.len());
                    }
                    self.zones.push(Zone {
                        method: Method::Perf,
                        domain: Domain::Core,
                        package,
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

    fn may_repeat_dies(&self) -> bool {
        self.unsure_of_dies
    }

    fn read(&mut self, out: &mut Vec<Result<u64, ReadFault>>) {
        let now_ns = clock::monotonic_ns();
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
                match data.get(counter) {
                    Some(entry) => out[base + zone] = Ok(entry.value()),
                    // A CPU that goes offline dissolves its groups.
                    None => self.lost = true,
                }
            }
            let Some(shown) = data.get(&group.leader).map(|entry| entry.value()) else {
                continue;
            };
            if shown != group.still.0 {
                group.still = (shown, now_ns);
            } else if now_ns.saturating_sub(group.still.1) > STILL_NS {
                group.still.1 = now_ns;
                self.lost |= topology::is_offline(&self.root, group.cpu);
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

/// The CPUs that a PMU asks to be read on, as far as it names any.
pub(super) fn mask(device: &Path) -> Option<Vec<u32>> {
    let text = super::plain::kernel_text(&device.join("cpumask")).ok()?;
    cpu_list(&text)
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
    let builder = of_the_machine(built, cpu, ReadFormat::GROUP | ReadFormat::ID);
    let opened = match group.as_mut() {
        None => builder.build().map(|leader| {
            *group = Some(CpuGroup {
                leader: OwnCounter::new(leader),
                members: Vec::new(),
                zones: Vec::new(),
                cpu,
                still: (0, 0),
            });
        }),
        Some(group) => builder
            .build_with_group(&mut *group.leader)
            .map(|member| group.members.push(OwnCounter::new(member))),
    };
    opened.map_err(|e| refusal(&e, &format!("power/{event}/"), POWER_FIX))?;
    Ok(scale)
}

/// A counter of all that runs on the machine, read on `cpu`, that counts from its opening on.
pub(super) fn of_the_machine<'a>(
    event: impl Event + 'a,
    cpu: u32,
    format: ReadFormat,
) -> Builder<'a> {
    let mut builder = Builder::new(event);
    builder
        .any_pid()
        .one_cpu(cpu as usize)
        .include_kernel()
        .include_hv()
        .enabled(true)
        .read_format(format);
    builder
}

/// What the kernel's refusal means, in a line.
pub(super) fn refusal(error: &io::Error, what: &str, fix: &str) -> Unavailable {
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

/// Writes a PMU that the kernel counts as its CPU clock, with these events in this unit and scale.
#[cfg(test)]
pub(super) fn counting_pmu(
    root: &Path,
    name: &str,
    mask: &str,
    events: &[&str],
    (unit, scale): (&str, &str),
) {
    let write = |file: &str, text: &str| {
        let path = root
            .join("sys/bus/event_source/devices")
            .join(name)
            .join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("type", "1\n");
    write("cpumask", mask);
    write("format/event", "config:0-63\n");
    for event in events {
        write(&format!("events/{event}"), "event=0x00\n");
        write(&format!("events/{event}.unit"), unit);
        write(&format!("events/{event}.scale"), scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pmu(root: &Path, name: &str, mask: &str, events: &[&str]) {
        counting_pmu(root, name, mask, events, ("Joules", "1e-9"));
    }

    /// CPUs by (package, die, core), all online.
    fn cpus(root: &Path, places: &[(u32, u32, u32)]) {
        let cpus = root.join("sys/devices/system/cpu");
        for (i, (package, die, core)) in places.iter().enumerate() {
            let dir = cpus.join(format!("cpu{i}/topology"));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("physical_package_id"), format!("{package}\n")).unwrap();
            fs::write(dir.join("die_id"), format!("{die}\n")).unwrap();
            fs::write(dir.join("core_id"), format!("{core}\n")).unwrap();
        }
        fs::write(cpus.join("online"), format!("0-{}\n", places.len() - 1)).unwrap();
    }

    fn vendor(root: &Path, vendor: &str) {
        fs::create_dir_all(root.join("proc")).unwrap();
        let text = format!("processor\t: 0\nvendor_id\t: {vendor}\n\n");
        fs::write(root.join("proc/cpuinfo"), text).unwrap();
    }

    fn package_zone(root: &Path, id: &str, name: &str) {
        let dir = root.join("sys/class/powercap").join(id);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("name"), format!("{name}\n")).unwrap();
    }

    /// A zone's domain and package, and the CPU that it is read on.
    type Place = (Domain, u32, String);

    /// Where the zones are; `None` where this process may not count a CPU's clock.
    fn opened(root: &Path) -> Option<(Vec<Place>, PowerPmu)> {
        let pmu = match PowerPmu::open(root) {
            Err(why) if why.denied => return None,
            opened => opened.unwrap(),
        };
        let cpu = |zone: &Zone| zone.name.rsplit_once(' ').unwrap().1.to_owned();
        let zones = pmu.zones.iter();
        let zones = zones.map(|zone| (zone.domain, zone.package, cpu(zone)));
        Some((zones.collect(), pmu))
    }

    fn of(domain: Domain, package: u32, cpu: &str) -> Place {
        (domain, package, cpu.to_owned())
    }

    #[test]
    fn a_package_is_read_once_whatever_the_mask_names() {
        for mask in ["0-15\n", "0\n", "\n", "0-1\n", "0,16-31\n"] {
            let tmp = tempfile::tempdir().unwrap();
            pmu(tmp.path(), "power", mask, &["energy-pkg", "energy-psys"]);
            let places: Vec<_> = (0..16).map(|i| (0, 0, i / 2)).collect();
            cpus(tmp.path(), &places);
            let Some((zones, _)) = opened(tmp.path()) else {
                return;
            };
            let expected = [of(Domain::Package, 0, "0"), of(Domain::Psys, 0, "0")];
            assert_eq!(zones, expected, "{mask:?}");
        }
    }

    #[test]
    fn dies_are_read_where_they_are_counted() {
        // CPU 0 in die 0, CPU 1 in die 1, and so on.
        let places: Vec<_> = (0..16).map(|i| (0, i % 2, i / 4)).collect();
        let both = [of(Domain::Package, 0, "0"), of(Domain::Package, 0, "1")];
        for (maker, zone, expected, unsure) in [
            ("GenuineIntel", Some("package-0-die-0"), &both[..], false),
            ("GenuineIntel", Some("package-0"), &both[..1], false),
            ("GenuineIntel", None, &both[..], true),
            ("AuthenticAMD", Some("package-0-die-0"), &both[..1], false),
        ] {
            let tmp = tempfile::tempdir().unwrap();
            pmu(tmp.path(), "power", "0-15\n", &["energy-pkg"]);
            cpus(tmp.path(), &places);
            vendor(tmp.path(), maker);
            if let Some(name) = zone {
                package_zone(tmp.path(), "intel-rapl:0", name);
            }
            let Some((zones, pmu)) = opened(tmp.path()) else {
                return;
            };
            assert_eq!(zones, expected, "{maker} {zone:?}");
            assert_eq!(pmu.may_repeat_dies(), unsure);
        }
    }

    #[test]
    fn a_core_is_read_on_one_of_its_threads() {
        let tmp = tempfile::tempdir().unwrap();
        pmu(tmp.path(), "power", "0\n", &["energy-pkg"]);
        pmu(tmp.path(), "power_core", "0-3\n", &["energy-core"]);
        cpus(tmp.path(), &[(0, 0, 0), (0, 0, 1), (0, 0, 0), (0, 0, 1)]);
        vendor(tmp.path(), "AuthenticAMD");
        let Some((zones, _)) = opened(tmp.path()) else {
            return;
        };
        let core = |cpu| of(Domain::Core, 0, cpu);
        assert_eq!(zones, [of(Domain::Package, 0, "0"), core("0"), core("1")]);
    }

    #[test]
    fn the_platform_alone_is_no_energy_counter() {
        let tmp = tempfile::tempdir().unwrap();
        pmu(tmp.path(), "power", "0\n", &["energy-psys"]);
        cpus(tmp.path(), &[(0, 0, 0)]);
        let why = PowerPmu::open(tmp.path()).unwrap_err();
        assert!(
            !why.denied && why.reason.contains("has energy-psys alone"),
            "{}",
            why.reason
        );
    }

    #[test]
    fn no_pmu_is_absent_not_denied() {
        let tmp = tempfile::tempdir().unwrap();
        let why = PowerPmu::open(tmp.path()).unwrap_err();
        assert!(!why.denied);
    }
}

//! RAPL through powercap (`/sys/class/powercap`).
//!
//! Zones are identified by *name*: `psys` may be `intel-rapl:0` and numbers are not stable. The
//! `-mmio` twin repeats a package and is left out where the MSR tree has it. On AMD the `core`
//! zone is the energy of one core only (the lead CPU's), so it is not the core domain.
//! The kernel's layout: <https://docs.kernel.org/power/powercap/powercap.html>.

use std::io;
use std::iter::zip;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::find::{Candidate, find};
use super::kept::Kept;
use super::mirrors::Mirrors;
use super::procfs::{cpu_vendor, is_amd};
use super::{Domain, EnergyCounter, Hole, Method, Note, ReadFault, Unavailable, Zone};
use crate::clock;
use crate::counter::{At, Counter};

mod find;

pub(super) use find::counts_dies;
pub use find::zone_name;

/// Joules per unit of `energy_uj`.
const MICROJOULE: f64 = 1e-6;

/// The command that lets this user's own group read the counters and their ranges, now and after
/// each boot. Most distributions give each user such a group, so nobody has to log in anew.
pub const READ_FIX: &str = as_root!("setup --group \"$(id -gn)\"");

/// Files of a zone that say how much power it is let draw, µW. A package has up to three limits:
/// long, short and peak.
const LIMIT_FILES: [&str; 6] = [
    "constraint_0_max_power_uw",
    "constraint_0_power_limit_uw",
    "constraint_1_max_power_uw",
    "constraint_1_power_limit_uw",
    "constraint_2_max_power_uw",
    "constraint_2_power_limit_uw",
];

/// Dies of one package are compared so often at most, …
const MIRROR_LOOKS: u32 = 50;
/// … in steps in which their counters change.
const MIRROR_PAUSE: Duration = Duration::from_millis(4);

/// The text of `energy_uj` or `max_energy_range_uj` as a number.
///
/// ```
/// use lithowatt::source::rapl::counter_value;
/// assert_eq!(counter_value("262143328850\n"), Some(262_143_328_850));
/// assert_eq!(counter_value("-1"), None);
/// assert_eq!(counter_value(""), None);
/// ```
pub fn counter_value(text: &str) -> Option<u64> {
    text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\0')
        .parse()
        .ok()
}

/// The open counters.
#[derive(Debug)]
pub struct Rapl {
    zones: Vec<Zone>,
    kept: Vec<Kept>,
    /// The name of each zone, and whether it vanished.
    names: Vec<String>,
    gone: Vec<bool>,
    notes: Vec<Note>,
    holes: Vec<Hole>,
    /// Directories of the package zones.
    packages: Vec<PathBuf>,
    limits: Option<Vec<f64>>,
}

impl Rapl {
    /// Finds and opens every zone below `root`.
    ///
    /// # Errors
    /// [`Unavailable`], denied or absent, where no package or psys counter can be read.
    pub fn open(root: &Path) -> Result<Self, Unavailable> {
        Self::open_as(root, || cpu_vendor(root))
    }

    /// [`Rapl::open`] on processors of the maker that `vendor` names, which is asked for where there
    /// are zones.
    fn open_as(root: &Path, vendor: impl FnOnce() -> Option<String>) -> Result<Self, Unavailable> {
        let found = find(root)?;
        let one_core = vendor().is_some_and(|vendor| is_amd(&vendor));
        let mut rapl = Self {
            zones: Vec::new(),
            kept: Vec::new(),
            names: Vec::new(),
            gone: Vec::new(),
            notes: found.notes,
            holes: Vec::new(),
            packages: Vec::new(),
            limits: None,
        };
        let mut refused: Option<Unavailable> = None;
        for candidate in found.candidates {
            if candidate.domain == Domain::Core && one_core {
                let note = Note {
                    domain: Some(Domain::Core),
                    about: Domain::Core.to_string(),
                    why: "this maker's powercap zone is one core only, so it is left out".into(),
                };
                // Every package has such a zone.
                if !rapl.notes.contains(&note) {
                    rapl.notes.push(note);
                }
                continue;
            }
            match open_zone(&candidate) {
                Ok((zone, kept)) => {
                    if zone.domain == Domain::Package {
                        rapl.packages.push(candidate.path);
                    }
                    rapl.zones.push(zone);
                    rapl.names.push(candidate.name);
                    rapl.gone.push(false);
                    rapl.kept.push(kept);
                }
                Err(why) => {
                    rapl.holes.push(Hole {
                        domain: candidate.domain,
                        why: format!("{} cannot be read: {why}", candidate.title()),
                    });
                    rapl.notes.push(Note {
                        domain: Some(candidate.domain),
                        about: candidate.name,
                        why: why.reason.clone(),
                    });
                    if refused.as_ref().is_none_or(|r| !r.denied) {
                        refused = Some(why);
                    }
                }
            }
        }
        let usable = rapl
            .zones
            .iter()
            .any(|z| matches!(z.domain, Domain::Package | Domain::Psys));
        if usable {
            Ok(rapl)
        } else {
            Err(refused.unwrap_or_else(|| {
                Unavailable::absent(format!(
                    "{} holds no RAPL package zone",
                    found.place.display()
                ))
                .with_driver("sudo modprobe intel_rapl_msr")
            }))
        }
    }

    /// What all counters of `domain` show now, J: since boot, or since they last wrapped. `None`
    /// where there is none, or not all can be read.
    pub fn now(&mut self, domain: Domain) -> Option<f64> {
        let mut raw = Vec::new();
        self.read(&mut raw);
        if self.holes.iter().any(|hole| hole.domain == domain) {
            return None;
        }
        let of_domain = self
            .zones
            .iter()
            .zip(raw)
            .filter(|(zone, _)| zone.domain == domain);
        let joules = of_domain.map(|(zone, raw)| Some(raw.ok()? as f64 * zone.unit_joules));
        let sum: Option<f64> = joules.sum();
        sum.filter(|_| self.zones.iter().any(|zone| zone.domain == domain))
    }
}

impl EnergyCounter for Rapl {
    fn zones(&self) -> &[Zone] {
        &self.zones
    }

    fn read(&mut self, out: &mut Vec<Result<u64, ReadFault>>) {
        for ((kept, name), gone) in zip(zip(&self.kept, &self.names), &mut self.gone) {
            // Where the driver was loaded anew, or a processor came back, zones may have changed
            // places.
            if *gone && !is_named(kept, name) {
                out.push(Err(ReadFault::Vanished));
                continue;
            }
            let read = read_counter(kept);
            *gone = read == Err(ReadFault::Vanished);
            if *gone {
                // The file that is at its place later is another one.
                kept.release();
            }
            out.push(read);
        }
    }

    fn notes(&self) -> &[Note] {
        &self.notes
    }

    fn holes(&self) -> &[Hole] {
        &self.holes
    }

    fn limits(&mut self) -> &[f64] {
        let packages = &self.packages;
        self.limits.get_or_insert_with(|| {
            let files = packages
                .iter()
                .flat_map(|dir| LIMIT_FILES.map(|file| dir.join(file)));
            files
                .filter_map(|file| counter_value(&super::plain::kernel_text(&file).ok()?))
                .map(|microwatts| microwatts as f64 * 1e-6)
                .collect()
        })
    }

    /// On AMD's processors only; it looks for some milliseconds at zones that may show one counter.
    fn leave_out_mirrors(&mut self) {
        let mut mirrors = Mirrors::among(&self.zones);
        if mirrors.is_empty() {
            return;
        }
        let fresh = |zone: &Zone| Counter::new(zone.unit_joules, zone.modulus);
        let mut counters: Vec<Counter> = self.zones.iter().map(fresh).collect();
        let mut raw = Vec::new();
        for look in 0..MIRROR_LOOKS {
            if look > 0 {
                std::thread::sleep(MIRROR_PAUSE);
            }
            raw.clear();
            self.read(&mut raw);
            let at = At::exactly(clock::monotonic_ns());
            for (counter, raw) in counters.iter_mut().zip(&raw) {
                if let Ok(raw) = raw {
                    counter.advance(at, *raw);
                }
            }
            mirrors.compare(Method::Rapl, &counters);
            if mirrors.all_decided() {
                break;
            }
        }
        for index in (0..self.zones.len()).rev() {
            if mirrors.of(index).is_some() {
                self.kept.remove(index);
                self.names.remove(index);
                self.gone.remove(index);
                let zone = self.zones.remove(index);
                self.notes.push(Note {
                    domain: None,
                    about: String::new(),
                    why: format!(
                        "{} shows the counter of another die of its package, so it is left out",
                        zone.name
                    ),
                });
            }
        }
    }
}

/// Opens powercap's counters below `root`, as [`Rapl::open`].
pub(super) fn open(root: &Path) -> Result<Box<dyn EnergyCounter>, Unavailable> {
    Ok(Box::new(Rapl::open(root)?))
}

/// Whether the zone of a counter has that name now.
fn is_named(kept: &Kept, name: &str) -> bool {
    let file = kept.path().with_file_name("name");
    super::plain::kernel_text(&file).is_ok_and(|text| text.trim() == name)
}

fn read_counter(kept: &Kept) -> Result<u64, ReadFault> {
    let mut buffer = [0u8; 32];
    // A second try: a writer that truncates before it writes leaves an empty file for a moment.
    for attempt in 0..2 {
        match kept.read(&mut buffer) {
            Ok(text) => match counter_value(text) {
                Some(value) => return Ok(value),
                None if attempt == 0 => {}
                None => return Err(ReadFault::Malformed),
            },
            Err(e) => {
                return Err(match e.raw_os_error() {
                    Some(libc::ENODEV | libc::ENOENT | libc::ENXIO | libc::ESTALE) => {
                        ReadFault::Vanished
                    }
                    Some(libc::EACCES | libc::EPERM) => ReadFault::Denied,
                    _ if e.kind() == io::ErrorKind::InvalidData => ReadFault::Malformed,
                    _ => ReadFault::Failed,
                });
            }
        }
    }
    Err(ReadFault::Malformed)
}

fn open_zone(candidate: &Candidate) -> Result<(Zone, Kept), Unavailable> {
    let counter = candidate.path.join("energy_uj");
    let kept = Kept::open(&counter).map_err(|e| match e.kind() {
        io::ErrorKind::PermissionDenied => Unavailable::denied(
            format!(
                "{} is readable by root only (the kernel's answer to CVE-2020-8694)",
                counter.display()
            ),
            READ_FIX,
        ),
        _ => Unavailable::absent(format!("{}: {e}", counter.display())),
    })?;
    match read_counter(&kept) {
        Ok(_) => {}
        Err(ReadFault::Denied) => {
            return Err(Unavailable::denied(
                format!("{} may not be read", counter.display()),
                READ_FIX,
            ));
        }
        Err(fault) => {
            return Err(Unavailable::absent(format!(
                "{}: {fault}",
                counter.display()
            )));
        }
    }
    let modulus = modulus(&candidate.path.join("max_energy_range_uj"))?;
    Ok((
        Zone {
            method: Method::Rapl,
            domain: candidate.domain,
            package: candidate.package.0,
            name: candidate.title(),
            unit_joules: MICROJOULE,
            modulus: Some(modulus),
        },
        kept,
    ))
}

/// A counter shows values from 0 to its range itself: the modulus is one more.
fn modulus(range: &Path) -> Result<u64, Unavailable> {
    let without = "without it a wrap could not be put right";
    let text = super::plain::kernel_text(range).map_err(|e| match e.kind() {
        io::ErrorKind::PermissionDenied => Unavailable::denied(
            format!("{} may not be read, and {without}", range.display()),
            READ_FIX,
        ),
        _ => Unavailable::absent(format!(
            "{} cannot be read ({e}), and {without}",
            range.display()
        )),
    })?;
    let held = || text.trim().chars().take(32).collect::<String>();
    counter_value(&text)
        .filter(|max| *max > 0)
        .and_then(|max| max.checked_add(1))
        .ok_or_else(|| {
            Unavailable::absent(format!(
                "{} holds {:?} where a number above 0 is expected, and {without}",
                range.display(),
                held()
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn zone(class: &Path, id: &str, name: &str, uj: &str) {
        let dir = class.join(id);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("name"), format!("{name}\n")).unwrap();
        fs::write(dir.join("energy_uj"), format!("{uj}\n")).unwrap();
        fs::write(dir.join("max_energy_range_uj"), "262143328850\n").unwrap();
    }

    fn names(rapl: &Rapl) -> Vec<&str> {
        rapl.zones().iter().map(|z| z.name.as_str()).collect()
    }

    #[test]
    fn zones_go_by_name_not_by_number() {
        let tmp = tempfile::tempdir().unwrap();
        let class = tmp.path().join("sys/class/powercap");
        zone(&class, "intel-rapl:0", "psys", "1");
        zone(&class, "intel-rapl:1", "package-1", "2");
        zone(&class, "intel-rapl:2", "package-0", "3");
        zone(&class, "intel-rapl:2:0", "dram", "4");
        zone(&class, "intel-rapl-mmio:0", "package-0", "5");
        let mut rapl = Rapl::open_as(tmp.path(), || Some("GenuineIntel".into())).unwrap();
        assert_eq!(
            names(&rapl),
            ["psys", "package-1", "package-0", "package-0/dram"]
        );
        let mut out = Vec::new();
        rapl.read(&mut out);
        assert_eq!(out, [Ok(1), Ok(2), Ok(3), Ok(4)]);
    }

    #[test]
    fn what_every_package_lacks_is_noted_once() {
        let tmp = tempfile::tempdir().unwrap();
        let class = tmp.path().join("sys/class/powercap");
        for package in 0..2 {
            let id = format!("intel-rapl:{package}");
            zone(&class, &id, &format!("package-{package}"), "1");
            zone(&class, &format!("{id}:0"), "core", "2");
        }
        let rapl = Rapl::open_as(tmp.path(), || Some("AuthenticAMD".into())).unwrap();
        assert_eq!(names(&rapl), ["package-0", "package-1"]);
        assert_eq!(rapl.notes().len(), 1);
    }

    #[test]
    fn nested_directories_alone_are_enough() {
        let tmp = tempfile::tempdir().unwrap();
        let class = tmp.path().join("sys/class/powercap");
        zone(&class, "intel-rapl:0", "package-0-die-1", "1");
        zone(&class, "intel-rapl:0/intel-rapl:0:0", "core", "2");
        let rapl = Rapl::open_as(tmp.path(), || None).unwrap();
        assert_eq!(names(&rapl), ["package-0-die-1", "package-0-die-1/core"]);
    }

    #[test]
    fn zones_are_found_wherever_they_are_mounted() {
        for (place, ids) in [
            ("class/powercap", ["intel-rapl:0", "intel-rapl:0:0"]),
            (
                "class/powercap",
                [
                    "intel-rapl/intel-rapl:0",
                    "intel-rapl/intel-rapl:0/intel-rapl:0:0",
                ],
            ),
            (
                "devices/virtual/powercap",
                [
                    "intel-rapl/intel-rapl:0",
                    "intel-rapl/intel-rapl:0/intel-rapl:0:0",
                ],
            ),
            (
                "devices/virtual/powercap",
                ["intel-rapl:0", "intel-rapl:0/intel-rapl:0:0"],
            ),
            (
                "class/powercap",
                [
                    "intel-rapl-mmio/intel-rapl-mmio:0",
                    "intel-rapl-mmio/intel-rapl-mmio:0/intel-rapl-mmio:0:0",
                ],
            ),
        ] {
            let tmp = tempfile::tempdir().unwrap();
            let class = tmp.path().join("sys").join(place);
            zone(&class, ids[0], "package-0", "1");
            zone(&class, ids[1], "dram", "2");
            let rapl = Rapl::open_as(tmp.path(), || None).unwrap();
            assert_eq!(
                names(&rapl),
                ["package-0", "package-0/dram"],
                "{place} {ids:?}"
            );
        }
        // An empty class directory beside the zones themselves.
        let tmp = tempfile::tempdir().unwrap();
        fs::create_dir_all(tmp.path().join("sys/class/powercap")).unwrap();
        let devices = tmp.path().join("sys/devices/virtual/powercap/intel-rapl");
        zone(&devices, "intel-rapl:0", "package-0", "1");
        assert!(Rapl::open_as(tmp.path(), || None).is_ok());
    }

    #[test]
    fn every_package_has_its_platform_zone() {
        let tmp = tempfile::tempdir().unwrap();
        let class = tmp.path().join("sys/class/powercap");
        zone(&class, "intel-rapl:0", "psys-1", "1");
        zone(&class, "intel-rapl:1", "psys", "2");
        let rapl = Rapl::open_as(tmp.path(), || None).unwrap();
        assert_eq!(names(&rapl), ["psys-1", "psys"]);
        assert!(rapl.zones().iter().all(|z| z.domain == Domain::Psys));
        assert_eq!(rapl.zones()[0].package, 1);
    }

    #[test]
    fn a_zone_of_no_package_is_said() {
        let tmp = tempfile::tempdir().unwrap();
        let class = tmp.path().join("sys/class/powercap");
        zone(&class, "intel-rapl:0", "package-0", "1");
        zone(&class, "intel-rapl:1", "dram", "1");
        let rapl = Rapl::open_as(tmp.path(), || None).unwrap();
        assert_eq!(names(&rapl), ["package-0"]);
        assert!(
            rapl.notes()[0].to_string().starts_with("dram: "),
            "{:?}",
            rapl.notes()
        );
    }

    #[test]
    fn what_is_wrong_with_a_range_is_said() {
        let tmp = tempfile::tempdir().unwrap();
        let class = tmp.path().join("sys/class/powercap");
        zone(&class, "intel-rapl:0", "package-0", "1");
        let range = class.join("intel-rapl:0/max_energy_range_uj");
        for (text, said) in [("0\n", "\"0\""), ("lots\n", "\"lots\""), ("", "\"\"")] {
            fs::write(&range, text).unwrap();
            let why = Rapl::open_as(tmp.path(), || None).unwrap_err();
            assert!(why.reason.contains(said) && !why.denied, "{why}");
        }
        fs::remove_file(&range).unwrap();
        let why = Rapl::open_as(tmp.path(), || None).unwrap_err();
        assert!(why.reason.contains("cannot be read"), "{why}");
    }

    #[test]
    fn a_zone_that_comes_back_is_read_by_its_name() {
        let tmp = tempfile::tempdir().unwrap();
        let class = tmp.path().join("sys/class/powercap");
        zone(&class, "intel-rapl:0", "package-0", "1");
        zone(&class, "intel-rapl:1", "package-1", "2");
        let mut rapl = Rapl::open_as(tmp.path(), || None).unwrap();
        // As when somebody closed the descriptor and the zone is gone.
        fs::rename(class.join("intel-rapl:1"), class.join("other")).unwrap();
        rapl.kept[1].release();
        let mut read = || {
            let mut out = Vec::new();
            rapl.read(&mut out);
            out
        };
        assert_eq!(read(), [Ok(1), Err(ReadFault::Vanished)]);
        zone(&class, "intel-rapl:1", "package-2", "3");
        assert_eq!(read(), [Ok(1), Err(ReadFault::Vanished)]);
        zone(&class, "intel-rapl:1", "package-1", "4");
        assert_eq!(read(), [Ok(1), Ok(4)]);
    }

    #[test]
    fn powercap_shows_whether_dies_are_counted() {
        for (names, dies) in [
            (["package-0", "package-1"], Some(false)),
            (["package-0-die-0", "package-0-die-1"], Some(true)),
            (["psys", "dram"], None),
        ] {
            let tmp = tempfile::tempdir().unwrap();
            let class = tmp.path().join("sys/class/powercap");
            zone(&class, "intel-rapl:0", names[0], "1");
            zone(&class, "intel-rapl:1", names[1], "1");
            assert_eq!(counts_dies(tmp.path()), dies);
        }
        assert_eq!(counts_dies(Path::new("/nowhere")), None);
    }

    #[test]
    fn power_limits_are_read_where_there_are_any() {
        let tmp = tempfile::tempdir().unwrap();
        let class = tmp.path().join("sys/class/powercap");
        zone(&class, "intel-rapl:0", "package-0", "1");
        let mut rapl = Rapl::open_as(tmp.path(), || None).unwrap();
        assert!(rapl.limits().is_empty());
        let dir = class.join("intel-rapl:0");
        fs::write(dir.join("constraint_0_power_limit_uw"), "65000000\n").unwrap();
        fs::write(dir.join("constraint_2_max_power_uw"), "nonsense\n").unwrap();
        let mut rapl = Rapl::open_as(tmp.path(), || None).unwrap();
        assert_eq!(rapl.limits(), [65.0]);
    }

    #[test]
    fn a_core_zone_of_amd_is_one_core_and_left_out() {
        let tmp = tempfile::tempdir().unwrap();
        let class = tmp.path().join("sys/class/powercap");
        zone(&class, "intel-rapl:0", "package-0", "1");
        zone(&class, "intel-rapl:0:0", "core", "2");
        let rapl = Rapl::open_as(tmp.path(), || Some("AuthenticAMD".into())).unwrap();
        assert_eq!(names(&rapl), ["package-0"]);
        assert!(rapl.notes()[0].why.contains("one core only"));
    }

    #[test]
    fn absent_and_malformed_say_so() {
        let tmp = tempfile::tempdir().unwrap();
        let why = Rapl::open_as(tmp.path(), || None).unwrap_err();
        assert!(!why.denied && why.reason.contains("does not exist"));
        let class = tmp.path().join("sys/class/powercap");
        zone(&class, "intel-rapl:0", "package-0", "twelve");
        let why = Rapl::open_as(tmp.path(), || None).unwrap_err();
        assert!(why.reason.contains("held no number"), "{why}");
    }

    #[test]
    fn hostile_names_are_ignored() {
        let tmp = tempfile::tempdir().unwrap();
        let class = tmp.path().join("sys/class/powercap");
        zone(&class, "intel-rapl:0", "package-99999999999999999999", "1");
        zone(&class, "intel-rapl:x", "package-0", "1");
        zone(&class, "intel-rapl:1", "package-0\0; rm", "1");
        assert!(Rapl::open_as(tmp.path(), || None).is_err());
    }
}

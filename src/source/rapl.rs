//! RAPL through powercap (`/sys/class/powercap`).
//!
//! Zones are told apart by *name*: `psys` may be `intel-rapl:0` and numbers are not stable. The
//! `-mmio` twin repeats a package and is left out where the MSR tree has it. On AMD the `core`
//! zone is the energy of one core only (the lead CPU's), so it is not the core domain.
//! The kernel's layout: <https://docs.kernel.org/power/powercap/powercap.html>.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::kept::Kept;
use super::{Domain, Method, ReadFault, Unavailable, Zone};

/// Joules per unit of `energy_uj`.
const MICROJOULE: f64 = 1e-6;

/// The makers of processors whose `core` zone is one core only.
const ONE_CORE_MAKERS: [&str; 2] = ["AuthenticAMD", "HygonGenuine"];

/// The command that lets everybody read the counters until the next boot.
pub const READ_FIX: &str = "sudo chmod a+r /sys/class/powercap/*/energy_uj";

/// What a zone's `name` says.
///
/// ```
/// use lithowatt::source::{rapl::zone_name, Domain};
/// assert_eq!(zone_name("package-1"), Some((Domain::Package, Some((1, 0)))));
/// assert_eq!(zone_name("package-0-die-1"), Some((Domain::Package, Some((0, 1)))));
/// assert_eq!(zone_name("dram"), Some((Domain::Dram, None)));
/// assert_eq!(zone_name("battery"), None);
/// ```
pub fn zone_name(name: &str) -> Option<(Domain, Option<(u32, u32)>)> {
    match name {
        "psys" => return Some((Domain::Psys, None)),
        "core" => return Some((Domain::Core, None)),
        "uncore" => return Some((Domain::Uncore, None)),
        "dram" => return Some((Domain::Dram, None)),
        _ => {}
    }
    let rest = name.strip_prefix("package-")?;
    match rest.split_once("-die-") {
        Some((package, die)) => Some((
            Domain::Package,
            Some((package.parse().ok()?, die.parse().ok()?)),
        )),
        None => Some((Domain::Package, Some((rest.parse().ok()?, 0)))),
    }
}

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

/// A zone directory, before it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    path: PathBuf,
    domain: Domain,
    package: (u32, u32),
    mmio: bool,
    name: String,
}

impl Candidate {
    /// Its name with its package's, so that it is unlike all others.
    fn title(&self) -> String {
        match self.domain {
            Domain::Package | Domain::Psys => self.name.clone(),
            _ => format!("package-{}/{}", self.package.0, self.name),
        }
    }
}

/// The open counters.
#[derive(Debug)]
pub struct Rapl {
    zones: Vec<Zone>,
    kept: Vec<Kept>,
    notes: Vec<String>,
    holes: Vec<(Domain, String)>,
}

impl Rapl {
    /// Finds and opens every zone below `root`. `cpu_vendor` finds the
    /// `vendor_id` of /proc/cpuinfo; it is asked where there are zones.
    ///
    /// # Errors
    /// [`Unavailable`], denied or absent, where no package or psys counter can be read.
    pub fn open(
        root: &Path,
        cpu_vendor: impl FnOnce() -> Option<String>,
    ) -> Result<Self, Unavailable> {
        let class = root.join("sys/class/powercap");
        let candidates = discover(&class)?;
        let one_core = cpu_vendor().is_some_and(|v| ONE_CORE_MAKERS.contains(&v.as_str()));
        let mut rapl = Self {
            zones: Vec::new(),
            kept: Vec::new(),
            notes: Vec::new(),
            holes: Vec::new(),
        };
        let mut refused: Option<Unavailable> = None;
        for candidate in candidates {
            if candidate.domain == Domain::Core && one_core {
                rapl.notes.push(
                    "core: this maker's powercap zone is one core only, so it is left out".into(),
                );
                continue;
            }
            match open_zone(&candidate) {
                Ok((zone, kept)) => {
                    rapl.zones.push(zone);
                    rapl.kept.push(kept);
                }
                Err(why) => {
                    rapl.notes.push(format!("{}: {why}", candidate.name));
                    rapl.holes.push((
                        candidate.domain,
                        format!("{} cannot be read: {why}", candidate.title()),
                    ));
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
                Unavailable::absent(format!("{} holds no RAPL package zone", class.display()))
                    .with_fix("sudo modprobe intel_rapl_msr")
            }))
        }
    }

    /// The zones, in the order of [`Rapl::read`].
    pub fn zones(&self) -> &[Zone] {
        &self.zones
    }

    /// Domains of which a part cannot be read, and why: what is left is not the machine.
    pub fn holes(&self) -> &[(Domain, String)] {
        &self.holes
    }

    /// What was left out, and why.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Reads every counter, in units of its zone; appends one result per zone to `out`.
    pub fn read(&self, out: &mut Vec<Result<u64, ReadFault>>) {
        for kept in &self.kept {
            out.push(read_counter(kept));
        }
    }
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

fn discover(class: &Path) -> Result<Vec<Candidate>, Unavailable> {
    let entries = fs::read_dir(class).map_err(|e| match e.kind() {
        io::ErrorKind::PermissionDenied => Unavailable::denied(
            format!("{} may not be listed", class.display()),
            "run where /sys is readable, or mount the host's powercap tree and pass root=",
        ),
        _ => Unavailable::absent(format!(
            "{} does not exist: a virtual machine, a container that masks it, or a kernel \
             without powercap",
            class.display()
        ))
        .with_fix("sudo modprobe intel_rapl_msr"),
    })?;
    // Sorted, so that parents come before children and runs agree with each other.
    let mut dirs: BTreeMap<String, PathBuf> = BTreeMap::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_zone_dir(&name) {
            // In a masked or mounted tree only the nested directories may be there.
            for nested in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
                let child = nested.file_name().to_string_lossy().into_owned();
                if is_zone_dir(&child) && child.starts_with(&name) {
                    dirs.entry(child).or_insert_with(|| nested.path());
                }
            }
            dirs.insert(name, entry.path());
        }
    }
    let read_name =
        |path: &Path| fs::read_to_string(path.join("name")).map(|text| text.trim().to_owned());
    let mut parents: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    let mut found = Vec::new();
    // Shorter ids first: a zone's package is known before its children are looked at.
    let mut ordered: Vec<_> = dirs.into_iter().collect();
    ordered.sort_by_key(|(id, _)| (id.matches(':').count(), id.clone()));
    for (id, path) in ordered {
        let Ok(name) = read_name(&path) else { continue };
        let Some((domain, package)) = zone_name(&name) else {
            continue;
        };
        let parent = id.rsplit_once(':').and_then(|(p, _)| parents.get(p));
        let package = match (package, parent) {
            (Some(own), _) => {
                parents.insert(id.clone(), own);
                own
            }
            (None, Some(parent)) => *parent,
            (None, None) if domain == Domain::Psys => (0, 0),
            (None, None) => continue,
        };
        found.push(Candidate {
            mmio: id.starts_with("intel-rapl-mmio"),
            path,
            domain,
            package,
            name,
        });
    }
    let msr: Vec<_> = found
        .iter()
        .filter(|c| !c.mmio)
        .map(|c| (c.domain, c.package))
        .collect();
    found.retain(|c| !c.mmio || !msr.contains(&(c.domain, c.package)));
    Ok(found)
}

/// `intel-rapl:0`, `intel-rapl:0:1`, `intel-rapl-mmio:0`; not the control type `intel-rapl` itself.
fn is_zone_dir(name: &str) -> bool {
    let Some(rest) = name
        .strip_prefix("intel-rapl-mmio:")
        .or_else(|| name.strip_prefix("intel-rapl:"))
    else {
        return false;
    };
    rest.split(':')
        .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
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
    let range = candidate.path.join("max_energy_range_uj");
    let modulus = fs::read_to_string(&range)
        .ok()
        .and_then(|text| counter_value(&text))
        .filter(|max| *max > 0)
        // The counter shows values from 0 to the range itself: the modulus is one more.
        .and_then(|max| max.checked_add(1))
        .ok_or_else(|| {
            Unavailable::absent(format!(
                "{} holds no positive number, so a wrap could not be told from a reset",
                range.display()
            ))
        })?;
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

#[cfg(test)]
mod tests {
    use super::*;

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
        let rapl = Rapl::open(tmp.path(), || Some("GenuineIntel".into())).unwrap();
        assert_eq!(
            names(&rapl),
            ["psys", "package-1", "package-0", "package-0/dram"]
        );
        let mut out = Vec::new();
        rapl.read(&mut out);
        assert_eq!(out, [Ok(1), Ok(2), Ok(3), Ok(4)]);
    }

    #[test]
    fn nested_directories_alone_are_enough() {
        let tmp = tempfile::tempdir().unwrap();
        let class = tmp.path().join("sys/class/powercap");
        zone(&class, "intel-rapl:0", "package-0-die-1", "1");
        zone(&class, "intel-rapl:0/intel-rapl:0:0", "core", "2");
        let rapl = Rapl::open(tmp.path(), || None).unwrap();
        assert_eq!(names(&rapl), ["package-0-die-1", "package-0/core"]);
    }

    #[test]
    fn a_core_zone_of_amd_is_one_core_and_left_out() {
        let tmp = tempfile::tempdir().unwrap();
        let class = tmp.path().join("sys/class/powercap");
        zone(&class, "intel-rapl:0", "package-0", "1");
        zone(&class, "intel-rapl:0:0", "core", "2");
        let rapl = Rapl::open(tmp.path(), || Some("AuthenticAMD".into())).unwrap();
        assert_eq!(names(&rapl), ["package-0"]);
        assert!(rapl.notes()[0].contains("one core only"));
    }

    #[test]
    fn absent_and_malformed_say_so() {
        let tmp = tempfile::tempdir().unwrap();
        let why = Rapl::open(tmp.path(), || None).unwrap_err();
        assert!(!why.denied && why.reason.contains("does not exist"));
        let class = tmp.path().join("sys/class/powercap");
        zone(&class, "intel-rapl:0", "package-0", "twelve");
        let why = Rapl::open(tmp.path(), || None).unwrap_err();
        assert!(why.reason.contains("held no number"), "{why}");
    }

    #[test]
    fn hostile_names_are_ignored() {
        let tmp = tempfile::tempdir().unwrap();
        let class = tmp.path().join("sys/class/powercap");
        zone(&class, "intel-rapl:0", "package-99999999999999999999", "1");
        zone(&class, "intel-rapl:x", "package-0", "1");
        zone(&class, "intel-rapl:1", "package-0\0; rm", "1");
        assert!(Rapl::open(tmp.path(), || None).is_err());
    }
}

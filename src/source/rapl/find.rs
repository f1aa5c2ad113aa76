//! Which zones does powercap have, and what do they measure?
//!
//! The kernel has the zones nested below `/sys/devices/virtual/powercap`, and links to all of them
//! side by side in `/sys/class/powercap`. In a container or below another root only a part may be
//! mounted: either of the two, or the directory of the control type (`intel-rapl`) alone.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::source::{Domain, Note, Unavailable};

/// Where zones are, below the root.
const PLACES: [&str; 2] = ["sys/class/powercap", "sys/devices/virtual/powercap"];

/// Directories that hold zones: the control types of the kernel's drivers.
const CONTROL_TYPES: [&str; 2] = ["intel-rapl", "intel-rapl-mmio"];

/// Zones are nested no deeper in any kernel: control type, package, part of it.
const DEEPEST: usize = 4;

/// What a zone's `name` holds: its domain, and its package and die where they are in it.
///
/// ```
/// use lithowatt::source::{rapl::zone_name, Domain};
/// assert_eq!(zone_name("package-1"), Some((Domain::Package, Some((1, 0)))));
/// assert_eq!(zone_name("package-0-die-1"), Some((Domain::Package, Some((0, 1)))));
/// assert_eq!(zone_name("dram"), Some((Domain::Dram, None)));
/// assert_eq!(zone_name("psys-1"), Some((Domain::Psys, Some((1, 0)))));
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
    // The kernel names the platform zone of every package but the first after it.
    let (domain, rest) = match name.strip_prefix("psys-") {
        Some(rest) => (Domain::Psys, rest),
        None => (Domain::Package, name.strip_prefix("package-")?),
    };
    let place = match rest.split_once("-die-") {
        Some((package, die)) => (package.parse().ok()?, die.parse().ok()?),
        None => (rest.parse().ok()?, 0),
    };
    Some((domain, Some(place)))
}

/// A zone directory, before it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) path: PathBuf,
    pub(super) domain: Domain,
    pub(super) package: (u32, u32),
    mmio: bool,
    pub(super) name: String,
    /// The name of the zone that it is nested in, of a part of a package.
    within: Option<String>,
}

impl Candidate {
    /// Its name with its package's, so that it is unlike all others.
    pub(super) fn title(&self) -> String {
        match &self.within {
            Some(package) => format!("{package}/{}", self.name),
            None => self.name.clone(),
        }
    }
}

/// The zones that there are, and what was left out of them.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) candidates: Vec<Candidate>,
    pub(super) notes: Vec<Note>,
    /// Where they are, or where they were looked for.
    pub(super) place: PathBuf,
}

/// Looks for the zones below `root`.
pub(super) fn find(root: &Path) -> Result<Found, Unavailable> {
    let mut first = None;
    let mut empty = None;
    for place in PLACES {
        let place = root.join(place);
        match zones_in(&place) {
            Ok(zones) if !zones.is_empty() => return Ok(sorted_out(zones, place)),
            Ok(_) => empty = empty.or(Some(place)),
            Err(e) => first = first.or(Some((place, e))),
        }
    }
    match (empty, first) {
        (Some(place), _) => Ok(Found {
            place,
            ..Found::default()
        }),
        (None, Some((place, e))) => Err(unlisted(&place, &e)),
        (None, None) => Ok(Found::default()),
    }
}

/// Whether each die has a package zone of its own; `None` where no package zone is to be seen.
pub(in crate::source) fn counts_dies(root: &Path) -> Option<bool> {
    let found = find(root).ok()?;
    let mut packages = found.candidates.iter();
    let mut packages = packages.by_ref().filter(|c| c.domain == Domain::Package);
    let first = packages.next()?;
    let of_die = |candidate: &Candidate| candidate.name.contains("-die-");
    Some(of_die(first) || packages.any(of_die))
}

fn unlisted(place: &Path, error: &io::Error) -> Unavailable {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Unavailable::absent(format!(
            "{} does not exist: a virtual machine, a container that masks it, or a kernel \
             without powercap",
            place.display()
        ))
        .with_driver("sudo modprobe intel_rapl_msr"),
        io::ErrorKind::PermissionDenied => Unavailable::denied(
            format!("{} may not be listed", place.display()),
            "run where /sys is readable, or mount the host's powercap tree and pass root=",
        ),
        _ => Unavailable::absent(format!("{} cannot be listed: {error}", place.display())),
    }
}

/// Zone directories by name.
fn zones_in(place: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    // Sorted, so that parents come before children and runs agree with each other.
    let mut zones = BTreeMap::new();
    let mut types = Vec::new();
    for entry in fs::read_dir(place)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_zone_dir(&name) {
            nested(&entry.path(), 1, &mut zones);
            zones.insert(name, entry.path());
        } else if CONTROL_TYPES.contains(&name.as_str()) {
            types.push(entry.path());
        }
    }
    if zones.is_empty() {
        for path in types {
            nested(&path, 0, &mut zones);
        }
    }
    Ok(zones)
}

/// Adds the zones inside `dir` that are not known yet.
fn nested(dir: &Path, depth: usize, zones: &mut BTreeMap<String, PathBuf>) {
    if depth >= DEEPEST {
        return;
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_zone_dir(&name) && !zones.contains_key(&name) {
            zones.insert(name, entry.path());
            nested(&entry.path(), depth + 1, zones);
        }
    }
}

/// Separates packages, their parts and twins.
fn sorted_out(zones: BTreeMap<String, PathBuf>, place: PathBuf) -> Found {
    let mut found = Found {
        place,
        ..Found::default()
    };
    let mut parents: BTreeMap<String, ((u32, u32), String)> = BTreeMap::new();
    // Shorter ids first: a zone's package is known before its children are looked at.
    let mut ordered: Vec<_> = zones.into_iter().collect();
    ordered.sort_by_key(|(id, _)| (id.matches(':').count(), id.clone()));
    for (id, path) in ordered {
        let Ok(name) = crate::source::plain::kernel_text(&path.join("name")) else {
            continue;
        };
        let name = name.trim().to_owned();
        let Some((domain, package)) = zone_name(&name) else {
            continue;
        };
        let parent = id.rsplit_once(':').and_then(|(p, _)| parents.get(p));
        let (package, within) = match (package, parent) {
            (Some(own), _) => {
                parents.insert(id.clone(), (own, name.clone()));
                (own, None)
            }
            (None, Some((parent, of))) => {
                let within = (domain != Domain::Psys).then(|| of.clone());
                (*parent, within)
            }
            (None, None) if domain == Domain::Psys => ((0, 0), None),
            (None, None) => {
                found.notes.push(Note {
                    domain: Some(domain),
                    about: domain.to_string(),
                    why: format!(
                        "the zone {id} is in no package zone, so it is not known whose it is"
                    ),
                });
                continue;
            }
        };
        found.candidates.push(Candidate {
            mmio: id.starts_with("intel-rapl-mmio"),
            path,
            domain,
            package,
            name,
            within,
        });
    }
    let msr: Vec<_> = found
        .candidates
        .iter()
        .filter(|c| !c.mmio)
        .map(|c| (c.domain, c.package))
        .collect();
    found
        .candidates
        .retain(|c| !c.mmio || !msr.contains(&(c.domain, c.package)));
    found
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

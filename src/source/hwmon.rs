//! Sensors of energy and power that the kernel shows as hwmon (`/sys/class/hwmon`).
//!
//! Their use here is machines without RAPL: servers with ARM or POWER processors, boards, old ones. Which
//! channel of which chip measures what is a table (`hwmon/chips.rs`); channels that are not in it are
//! shown by a diagnosis and never counted. The kernel's layout:
//! <https://docs.kernel.org/hwmon/sysfs-interface.html>.
//!
//! Most chips show power, or are read over a slow bus: a thread of their own reads them
//! (`hwmon/watch.rs`). Those of GPU cards are read by [`crate::sampler`]'s thread for GPUs.

use std::io;
use std::path::Path;

use self::chips::{Known, sort};
use self::find::Chip;
use self::watch::{Sensor, Watch};
use super::{Domain, EnergyCounter, Hole, Method, Note, ReadFault, Unavailable, Zone};

mod cards;
mod chips;
mod find;
#[cfg(test)]
mod tests;
mod watch;

pub use cards::{Cards, has_cards};
pub use chips::{Blur, blur_of, holds_memory, is_rail};
pub use watch::spent_cpu_ns;

/// Joules per unit of `energyN_input`.
const MICROJOULE: f64 = 1e-6;

/// The open channels of the processors, memory and platform.
#[derive(Debug)]
struct Hwmon {
    zones: Vec<Zone>,
    /// Channels that are read at once, and where the value is in the order of the zones.
    quick: Vec<(usize, Sensor)>,
    /// The others, in the order of the zones.
    slow: Option<(Vec<usize>, Watch)>,
    notes: Vec<Note>,
    holes: Vec<Hole>,
    slow_raw: Vec<Result<u64, ReadFault>>,
}

/// Opens the channels below `root` that count energy of a domain.
pub(super) fn open(root: &Path) -> Result<Box<dyn EnergyCounter>, Unavailable> {
    open_as(root, std::env::consts::ARCH)
}

fn open_as(root: &Path, architecture: &str) -> Result<Box<dyn EnergyCounter>, Unavailable> {
    let chips = find::known(root);
    let listings: Vec<_> = chips.iter().map(|chip| chip.listing.clone()).collect();
    let sorted = sort(&listings, architecture);
    let mut hwmon = Hwmon {
        zones: Vec::new(),
        quick: Vec::new(),
        slow: None,
        notes: Vec::new(),
        holes: Vec::new(),
        slow_raw: Vec::new(),
    };
    for (name, domain, why) in sorted.left {
        hwmon.notes.push(Note {
            // Where another chip counts it, nothing is missing.
            domain: None,
            about: name,
            why: match domain {
                Domain::Gpu => why,
                domain => format!("{why} ({domain})"),
            },
        });
    }
    let mut slow = (Vec::new(), Vec::new());
    let mut refused: Option<Unavailable> = None;
    for known in sorted
        .known
        .into_iter()
        .filter(|known| known.domain != Domain::Gpu)
    {
        let Some(chip) = chips.get(known.chip) else {
            continue;
        };
        match open_channel(chip, &known) {
            Ok(sensor) => {
                let place = hwmon.zones.len();
                match known.quick {
                    true => hwmon.quick.push((place, sensor)),
                    false => {
                        slow.0.push(place);
                        slow.1.push(sensor);
                    }
                }
                hwmon.zones.push(Zone {
                    method: Method::Hwmon,
                    domain: known.domain,
                    package: known.package,
                    name: known.name,
                    unit_joules: MICROJOULE,
                    modulus: None,
                });
            }
            Err(why) => {
                hwmon.holes.push(Hole {
                    domain: known.domain,
                    why: format!("{} cannot be read: {why}", known.name),
                });
                if refused.as_ref().is_none_or(|refused| !refused.denied) {
                    refused = Some(why);
                }
            }
        }
    }
    let counts = |zone: &Zone| matches!(zone.domain, Domain::Package | Domain::Psys);
    if !hwmon.zones.iter().any(counts) {
        return Err(refused.unwrap_or_else(|| nothing(root, &hwmon.notes)));
    }
    if !slow.0.is_empty() {
        hwmon.slow = Some((slow.0, Watch::new(slow.1)));
    }
    Ok(Box::new(hwmon))
}

/// Why there is no channel to be counted.
fn nothing(root: &Path, notes: &[Note]) -> Unavailable {
    if let Some(note) = notes.first() {
        return Unavailable::absent(note.to_string());
    }
    Unavailable::absent(format!(
        "no sensor of {} is known to measure a processor",
        root.join("sys/class/hwmon").display()
    ))
}

fn open_channel(chip: &Chip, known: &Known) -> Result<Sensor, Unavailable> {
    let file = known.read.files()[0];
    Sensor::open(&known.read, known.may_rest, &chip.place).map_err(|e| match e.kind() {
        io::ErrorKind::PermissionDenied => denied(&chip.place, file),
        _ => Unavailable::of(chip.place.join(file).display(), &e),
    })
}

/// Of a channel that root alone may read: its chip has such a file for each socket, and one command is
/// for them all.
fn denied(place: &Path, file: &str) -> Unavailable {
    let (kind, rest) = file.split_at(
        file.find(|c: char| c.is_ascii_digit())
            .unwrap_or(file.len()),
    );
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    Unavailable::denied(
        format!(
            "{} is readable by root only (chmod opens it to everybody, until the next boot)",
            place.join(file).display()
        ),
        format!(
            "sudo chmod a+r {}",
            place.join(format!("{kind}*{rest}")).display()
        ),
    )
}

impl EnergyCounter for Hwmon {
    fn zones(&self) -> &[Zone] {
        &self.zones
    }

    fn read(&mut self, out: &mut Vec<Result<u64, ReadFault>>) {
        let first = out.len();
        out.resize(first + self.zones.len(), Err(ReadFault::Failed));
        for (place, sensor) in &self.quick {
            out[first + place] = sensor.count();
        }
        if let Some((places, watch)) = &mut self.slow {
            self.slow_raw.clear();
            watch.read(&mut self.slow_raw);
            for (place, raw) in places.iter().zip(&self.slow_raw) {
                out[first + place] = *raw;
            }
        }
    }

    fn notes(&self) -> &[Note] {
        &self.notes
    }

    fn holes(&self) -> &[Hole] {
        &self.holes
    }
}

/// The chips of which no channel is counted though they show energy or power, with their channels. For a
/// diagnosis: it reads the names of all files of all chips.
pub fn survey(root: &Path) -> Vec<String> {
    let chips = find::find(root, |_| true);
    let listings: Vec<_> = chips.into_iter().map(|chip| chip.listing).collect();
    let known = sort(&listings, std::env::consts::ARCH).known;
    let unknown = listings
        .iter()
        .enumerate()
        .filter(|(place, _)| known.iter().all(|one| one.chip != *place));
    let texts = unknown.filter_map(|(_, listing)| {
        let channels = listing.channels().join(", ");
        (!channels.is_empty()).then(|| format!("{} {}: {channels}", listing.name, listing.id))
    });
    texts.collect()
}

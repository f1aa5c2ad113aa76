//! GPU cards whose power or energy the kernel shows by hwmon.
//!
//! They are read by the sampler's thread for GPUs. A card that sleeps is left asleep: to read its sensors
//! would wake it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};

use super::chips::{CARDS, Known, sort};
use super::find::{Chip, find};
use super::watch::Sensor;
use crate::source::gpu::{Busy, Device, Shown};
use crate::source::{Domain, plain};

/// Where the drivers of cards are, below the root.
const DRIVERS: &str = "sys/bus/pci/drivers";

/// The most that a card may draw, µW: the limit that is set, else the one that it was made for.
const LIMITS: [&str; 3] = ["power1_cap", "power1_max", "power1_rated_max"];

/// A counter of energy is read from the card whenever somebody asks, s.
const UPDATE_SECONDS: f64 = 0.01;

/// Whether the machine's own root has cards, once that was looked for in this process or in one that
/// forked it.
static HERE: AtomicU8 = AtomicU8::new(UNTRIED);
const UNTRIED: u8 = 0;
const NONE: u8 = 1;
const SOME: u8 = 2;

/// Whether the kernel shows sensors of a GPU card. A few names are looked up; of the machine's own root
/// once, in a process and those that are forked from it.
pub fn has_cards(root: &Path) -> bool {
    if root != Path::new("/") {
        return look_for(root);
    }
    match HERE.load(Ordering::Relaxed) {
        UNTRIED => {
            let there = look_for(root);
            HERE.store(if there { SOME } else { NONE }, Ordering::Relaxed);
            there
        }
        state => state == SOME,
    }
}

fn look_for(root: &Path) -> bool {
    let has_driver = |name: &&str| root.join(DRIVERS).join(name).exists();
    CARDS.iter().any(has_driver) && !found(root).is_empty()
}

/// The chips of cards, each with its channel.
fn found(root: &Path) -> Vec<(Chip, Known)> {
    let chips = find(root, |name| CARDS.contains(&name));
    let listings: Vec<_> = chips.iter().map(|chip| chip.listing.clone()).collect();
    let known = sort(&listings, std::env::consts::ARCH).known.into_iter();
    known
        .filter(|known| known.domain == Domain::Gpu)
        .filter_map(|known| Some((chips.get(known.chip)?.clone(), known)))
        .collect()
}

/// The names of the cards below `root`.
pub fn card_names(root: &Path) -> Vec<String> {
    found(root)
        .into_iter()
        .map(|(_, known)| known.name)
        .collect()
}

#[derive(Debug)]
struct Card {
    device: Device,
    sensor: Sensor,
    is_energy: bool,
    /// Says whether it sleeps.
    status: PathBuf,
}

/// The cards below a root.
#[derive(Debug)]
pub struct Cards {
    root: PathBuf,
    known: Vec<Card>,
}

impl Cards {
    /// Nothing is opened yet.
    pub fn below(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            known: Vec::new(),
        }
    }

    /// The cards that are there now. They keep their place in [`look`](Self::look) until this is
    /// called again.
    pub fn devices(&mut self) -> Vec<Device> {
        let cards = found(&self.root).into_iter().enumerate();
        self.known = cards
            .filter_map(|(index, (chip, known))| card(index, &chip, &known))
            .collect();
        self.known.iter().map(|card| card.device.clone()).collect()
    }

    /// What the card at `place` of [`devices`](Self::devices) shows.
    ///
    /// # Errors
    /// Why its energy could not be read.
    pub fn look(&self, place: usize) -> Result<Shown, String> {
        let card = self.known.get(place).ok_or("it is gone")?;
        let status = plain::read_text(&card.status, 64).unwrap_or_default();
        if matches!(status.trim(), "suspended" | "suspending") {
            return Err("it is asleep, and to read it would wake it".into());
        }
        let value = card.sensor.read().map_err(|fault| fault.to_string())?;
        let (millijoules, watts) = match card.is_energy {
            true => (Some((value * 1e-3) as u64), None),
            false => (None, Some(value * 1e-6)),
        };
        Ok(Shown {
            millijoules,
            watts,
            busy_percent: None,
            busy: Busy::Unknown("hwmon does not say which processes use a GPU".into()),
        })
    }
}

fn card(index: usize, chip: &Chip, known: &Known) -> Option<Card> {
    let sensor = Sensor::open(&known.read, known.may_rest, &chip.place).ok()?;
    let microwatts = LIMITS.iter().find_map(|file| {
        let text = plain::read_text(&chip.place.join(file), 64).ok()?;
        text.trim().parse::<f64>().ok().filter(|limit| *limit > 0.0)
    });
    Some(Card {
        device: Device {
            index: index as u32,
            name: known.name.clone(),
            uuid: known.name.clone(),
            limit_watts: microwatts.map(|limit| limit * 1e-6),
            divided: false,
            update_seconds: UPDATE_SECONDS,
        },
        is_energy: sensor.is_energy(),
        sensor,
        status: chip.place.join("device/power/runtime_status"),
    })
}

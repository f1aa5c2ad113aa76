//! GPU cards whose power or energy the kernel shows by hwmon.
//!
//! They are read by the sampler's thread for GPUs. A card that sleeps is left asleep: to read its sensors
//! would wake it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};

use super::chips::{CARDS, Known, sort};
use super::find::{Chip, find};
use super::watch::Sensor;
use crate::source::drm::{Clients, Place, Told, queue_users};
use crate::source::gpu::{Busy, Device, Shown};
use crate::source::{Domain, plain};

/// Where the drivers of cards are, below the root.
const DRIVERS: &str = "sys/bus/pci/drivers";

/// The most that a card may draw, µW: the limit that is set, else the one that it was made for.
const LIMITS: [&str; 3] = ["power1_cap", "power1_max", "power1_rated_max"];

/// A card that nobody uses may be told to be busy for so much of the time, %.
const IDLE_PERCENT: f64 = 5.0;

/// Why nothing is told of the clients of some cards.
const NO_SLOT: &str = "where it is on the PCI bus is not told, and so not who uses it";

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
    has_driver(root) && !found(root).is_empty()
}

fn has_driver(root: &Path) -> bool {
    let drivers = root.join(DRIVERS);
    CARDS.iter().any(|name| drivers.join(name).exists())
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

#[derive(Debug)]
struct Card {
    device: Device,
    sensor: Sensor,
    is_energy: bool,
    /// Where it is on the PCI bus.
    slot: Option<String>,
    /// The names of its files in `/dev/dri`.
    nodes: Vec<String>,
    /// The directory of the card itself.
    place: PathBuf,
    /// How busy it was at each look since its users were last told, %.
    percents: Vec<f64>,
}

impl Card {
    fn is_asleep(&self) -> bool {
        let status = plain::read_text(&self.place.join("power/runtime_status"), 64);
        matches!(
            status.unwrap_or_default().trim(),
            "suspended" | "suspending"
        )
    }

    /// Looks how busy it is (amdgpu).
    fn look_how_busy(&mut self) {
        let text = plain::read_text(&self.place.join("gpu_busy_percent"), 64);
        let percent = text.ok().and_then(|text| text.trim().parse::<f64>().ok());
        self.percents.extend(percent);
    }

    /// How busy it was since this was last asked, %; `None` where it does not say.
    fn mean_percent(&mut self) -> Option<f64> {
        let percents = std::mem::take(&mut self.percents);
        (!percents.is_empty()).then(|| percents.iter().sum::<f64>() / percents.len() as f64)
    }

    /// Why nothing is told of its clients.
    fn silence(&self) -> String {
        let driver = self.device.name.split(' ').next().unwrap_or_default();
        format!(
            "{driver} of this kernel does not tell how busy processes keep it (drm-engine in \
             /proc/PID/fdinfo)"
        )
    }

    /// Who kept it busy, by what was told of its clients and of itself.
    fn busy(&self, root: &Path, told: &Told, busy_percent: Option<f64>) -> Busy {
        let mut queues = queue_users(root, self.slot.as_deref().unwrap_or_default());
        if !queues.is_empty() {
            queues.extend(told.uses.iter().flat_map(|one| &one.pids));
            queues.sort_unstable();
            queues.dedup();
            return Busy::Open(queues, busy_percent);
        }
        if told.silent {
            return Busy::Unknown(self.silence());
        }
        let processes = Busy::Processes(told.uses.clone(), Some(told.until_ns));
        match busy_percent {
            _ if !told.uses.is_empty() => processes,
            Some(percent) if percent <= IDLE_PERCENT => Busy::Nobody,
            _ if told.hidden => processes,
            // By somebody whom the driver does not count.
            Some(_) => Busy::NoNews,
            None => Busy::Nobody,
        }
    }
}

/// The cards below a root.
#[derive(Debug)]
pub struct Cards {
    root: PathBuf,
    known: Vec<Card>,
    clients: Clients,
    /// Who used them, by their places on the bus, where that was just found out.
    told: HashMap<String, Told>,
}

impl Cards {
    /// Nothing is opened yet.
    pub fn below(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            known: Vec::new(),
            clients: Clients::below(root),
            told: HashMap::new(),
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

    /// Finds out who used them since the last time, where it is time to.
    pub fn find_users(&mut self) {
        let places = self.known.iter().filter_map(|card| {
            Some(Place {
                slot: card.slot.as_deref()?,
                nodes: &card.nodes,
                asleep: card.is_asleep(),
            })
        });
        self.told = self.clients.look(&places.collect::<Vec<_>>());
    }

    /// The names of the cards that a window reads, and what is told of a function's part of each: for a
    /// diagnosis.
    pub fn survey(&mut self) -> Vec<(String, String)> {
        if !has_driver(&self.root) {
            return Vec::new();
        }
        self.devices();
        self.find_users();
        let names = self.known.iter().map(|card| card.device.name.clone());
        names
            .zip(self.known.iter().map(|card| self.part(card)))
            .collect()
    }

    /// What is told of a function's part of a card.
    fn part(&self, card: &Card) -> String {
        let untold = match &card.slot {
            None => Some(NO_SLOT.to_owned()),
            Some(slot) if self.clients.are_silent(slot) => Some(card.silence()),
            Some(_) => None,
        };
        if let Some(why) = untold {
            return format!("a function's part is not told: {why}");
        }
        let hidden =
            "not all processes can be read (as root, among the host's processes, they can)";
        match (
            self.clients.hide(),
            card.place.join("gpu_busy_percent").exists(),
        ) {
            (false, _) => "a function's part is told by /proc/PID/fdinfo".into(),
            (true, true) => format!(
                "a function's part is told by its own /proc/PID/fdinfo and gpu_busy_percent, as {hidden}"
            ),
            (true, false) => {
                format!("of a function's part only the most that it can be is told, as {hidden}")
            }
        }
    }

    /// What the card at `place` of [`devices`](Self::devices) shows.
    ///
    /// # Errors
    /// Why its energy could not be read.
    pub fn look(&mut self, place: usize) -> Result<Shown, String> {
        let card = self.known.get_mut(place).ok_or("it is gone")?;
        if card.is_asleep() {
            return Err("it is asleep, and to read it would wake it".into());
        }
        let value = card.sensor.read().map_err(|fault| fault.to_string())?;
        let (millijoules, watts) = match card.is_energy {
            true => (Some((value * 1e-3) as u64), None),
            false => (None, Some(value * 1e-6)),
        };
        card.look_how_busy();
        let Some(slot) = &card.slot else {
            return Ok(Shown::of(millijoules, watts, Busy::Unknown(NO_SLOT.into())));
        };
        let Some(told) = self.told.get(slot) else {
            return Ok(Shown::of(millijoules, watts, Busy::Later));
        };
        let busy_percent = card.mean_percent();
        let busy = card.busy(&self.root, told, busy_percent);
        Ok(Shown {
            busy_percent,
            news_seconds: Some(told.seconds),
            hidden: told.hidden,
            unreadable: told.unreadable.clone(),
            ..Shown::of(millijoules, watts, busy)
        })
    }
}

fn card(index: usize, chip: &Chip, known: &Known) -> Option<Card> {
    let sensor = Sensor::open(&known.read, known.may_rest, &chip.place).ok()?;
    let microwatts = LIMITS.iter().find_map(|file| {
        let text = plain::read_text(&chip.place.join(file), 64).ok()?;
        text.trim().parse::<f64>().ok().filter(|limit| *limit > 0.0)
    });
    let place = chip.place.join("device");
    let nodes = fs::read_dir(place.join("drm")).into_iter().flatten();
    Some(Card {
        slot: chip.listing.slot.clone(),
        nodes: nodes
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect(),
        place,
        device: Device {
            index: index as u32,
            name: known.name.clone(),
            uuid: known.name.clone(),
            limit_watts: microwatts.map(|limit| limit * 1e-6),
            divided: false,
            update_seconds: UPDATE_SECONDS,
        },
        percents: Vec::new(),
        is_energy: sensor.is_energy(),
        sensor,
    })
}

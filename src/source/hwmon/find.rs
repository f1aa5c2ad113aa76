//! Which hwmon chips does the kernel show, and what are their files?

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::chips::{Listing, is_known};
use crate::source::plain;

/// Where chips are, below the root.
const PLACE: &str = "sys/class/hwmon";

/// A label is no longer than this, bytes.
const LABEL: u64 = 256;

/// More chips than any machine has.
const MOST_CHIPS: usize = 4096;

/// A chip, and where its files are.
#[derive(Debug, Clone)]
pub(super) struct Chip {
    pub(super) listing: Listing,
    /// The directory of its channels.
    pub(super) place: PathBuf,
}

/// The chips below `root` whose names are `wanted`, in the order of their numbers. Of the others only the
/// name is read.
pub(super) fn find(root: &Path, wanted: impl Fn(&str) -> bool) -> Vec<Chip> {
    let entries = fs::read_dir(root.join(PLACE)).into_iter().flatten();
    let mut ids: Vec<(u32, String)> = entries
        .flatten()
        .filter_map(|entry| {
            let id = entry.file_name().into_string().ok()?;
            Some((id.strip_prefix("hwmon")?.parse().ok()?, id))
        })
        .take(MOST_CHIPS)
        .collect();
    ids.sort_unstable();
    let chips = ids.into_iter().filter_map(|(_, id)| {
        let place = root.join(PLACE).join(&id);
        let name = name_of(&place).filter(|name| wanted(name))?;
        Some(chip(place, id, name))
    });
    chips.collect()
}

/// The chips of the table below `root`.
pub(super) fn known(root: &Path) -> Vec<Chip> {
    find(root, is_known)
}

/// Some drivers have their files at the device, and no more than a link at the chip.
fn name_of(place: &Path) -> Option<String> {
    let text = |path: PathBuf| plain::read_text(&path, LABEL).ok();
    let name = text(place.join("name")).or_else(|| text(place.join("device/name")))?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

fn chip(place: PathBuf, id: String, name: String) -> Chip {
    let mut files = files_of(&place);
    let device = place.join("device");
    let is_channel = |file: &String| file.starts_with(['e', 'p']) && file.contains("_");
    let mut at = place.clone();
    if !files.keys().any(is_channel) {
        let others = files_of(&device);
        if others.keys().any(is_channel) {
            (files, at) = (others, device.clone());
        }
    }
    let uevent = plain::read_text(&device.join("uevent"), 64 * LABEL).unwrap_or_default();
    let told = |key: &str| {
        let mut lines = uevent.lines();
        lines.find_map(|line| Some(line.strip_prefix(key)?.strip_prefix('=')?.to_owned()))
    };
    let listing = Listing {
        id,
        name,
        files,
        slot: told("PCI_SLOT_NAME"),
        device: told("PCI_ID"),
    };
    Chip { listing, place: at }
}

/// Names of the files that a channel of energy or power may have, with the text of labels.
fn files_of(place: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    let mut files = BTreeMap::new();
    for entry in entries {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if !["energy", "power", "in", "curr"]
            .iter()
            .any(|kind| name.starts_with(kind))
        {
            continue;
        }
        let is_label = name.ends_with("_label") || name.ends_with("_oem_info");
        let text = match is_label {
            true => plain::read_text(&entry.path(), LABEL).unwrap_or_default(),
            false => String::new(),
        };
        files.insert(name, text.trim().to_owned());
    }
    files
}

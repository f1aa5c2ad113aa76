//! What the slots of a ledger and the columns of a timeline hold: the energy of each counter, then the
//! model's.

use serde::{Deserialize, Serialize};

/// A part of a machine whose energy the model gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Packages.
    Package,
    /// Memory.
    Memory,
}

impl Part {
    /// All of them, in the order of their slots.
    pub const ALL: [Self; 2] = [Self::Package, Self::Memory];
}

/// What one slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// Energy of the counter with this index, J.
    Zone(usize),
    /// Energy by the model, J.
    Model(Part),
}

/// The slots of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    zones: usize,
}

/// Columns of a timeline before the slots: CPU seconds of the function.
pub const CPU_COLUMNS: usize = 1;

impl Slots {
    /// The slots where `zones` counters are known.
    pub fn of(zones: usize) -> Self {
        Self { zones }
    }

    /// Counters.
    pub fn zones(self) -> usize {
        self.zones
    }

    /// How many slots there are.
    pub fn count(self) -> usize {
        self.zones + Part::ALL.len()
    }

    /// How many columns a timeline has.
    pub fn columns(self) -> usize {
        CPU_COLUMNS + self.count()
    }

    /// Where a slot is in a ledger.
    ///
    /// ```
    /// use lithowatt::sampler::{Part, Slot, Slots};
    /// let slots = Slots::of(3);
    /// let places: Vec<usize> = slots.all().map(|slot| slots.place(slot)).collect();
    /// assert_eq!(places, [0, 1, 2, 3, 4]);
    /// assert_eq!(slots.all().last(), Some(Slot::Model(Part::Memory)));
    /// ```
    pub fn place(self, slot: Slot) -> usize {
        match slot {
            Slot::Zone(index) => index,
            Slot::Model(part) => self.zones + part as usize,
        }
    }

    /// Where a slot is in a row of a timeline.
    pub fn column(self, slot: Slot) -> usize {
        CPU_COLUMNS + self.place(slot)
    }

    /// Every slot, in the order of a ledger.
    pub fn all(self) -> impl Iterator<Item = Slot> {
        let zones = (0..self.zones).map(Slot::Zone);
        zones.chain(Part::ALL.map(Slot::Model))
    }

    /// Places of the model's slots.
    pub fn model(self) -> [usize; Part::ALL.len()] {
        Part::ALL.map(|part| self.place(Slot::Model(part)))
    }
}

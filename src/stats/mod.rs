//! A reading as a flat dict: one key per value, J, W, s, MiB, percent 0..100.
//!
//! What is not available is `null` with `*_available` false and `*_source` =
//! `unavailable: <reason>`; the keys are always there, unless the compact form is asked for.
//! [`keys`] is the table of keys, [`values`](self) gives each its value, and [`spelling`] is how
//! the keys are written: plainly, or in the dialect of those who carry them.

pub mod keys;
mod phases;
pub mod spelling;
mod values;

pub use keys::{Key, PHASE_ROWS, Row, Unit};
pub use spelling::Spelling;

use serde_json::Value;

use crate::reading::Reading;

/// Version of the table.
pub const SCHEMA: u32 = 1;

/// Hands over the entries of a reading, one after the other. With `compact`, keys without a value
/// are left out.
pub fn entries<E>(
    reading: &Reading,
    spelling: &Spelling,
    compact: bool,
    mut take: impl FnMut(&str, Value) -> Result<(), E>,
) -> Result<(), E> {
    for key in Key::ALL {
        let [first, others @ ..] = spelling.of(*key) else {
            continue;
        };
        let value = values::value(reading, *key);
        if compact && value.is_null() {
            continue;
        }
        for name in others {
            take(name, value.clone())?;
        }
        take(first, value)?;
    }
    if spelling.is_plain() {
        phases::entries(reading, take)?;
    }
    Ok(())
}

/// The entries as a JSON object, in UTF-8.
pub fn to_json(
    reading: &Reading,
    spelling: &Spelling,
    compact: bool,
) -> Result<Vec<u8>, serde_json::Error> {
    // A full set is about 4 KB.
    let mut text = Vec::with_capacity(8 << 10);
    text.push(b'{');
    entries(reading, spelling, compact, |name, value| {
        if text.len() > 1 {
            text.push(b',');
        }
        serde_json::to_writer(&mut text, name)?;
        text.push(b':');
        serde_json::to_writer(&mut text, &value)
    })?;
    text.push(b'}');
    Ok(text)
}

//! The keys of the phases that the user marked.

use std::collections::HashSet;

use serde_json::Value;

use super::values::number;
use crate::reading::Reading;

/// Phases whose energy has a key of its own in the table, entered or not.
const FIXED: [&str; 3] = ["read", "compute", "write"];

/// Longest part of a key that is made of a phase's name, characters.
const LONGEST: usize = 64;

/// The joules of the phase of that name.
pub(super) fn joules(reading: &Reading, name: &str) -> Option<f64> {
    reading.phases.iter().find(|p| p.name == name)?.joules
}

/// Hands over the entries of the phases: those of a reading's flat dict alone, as the stats of a call
/// have no room for what each user adds.
pub(super) fn entries<E>(
    reading: &Reading,
    mut take: impl FnMut(&str, Value) -> Result<(), E>,
) -> Result<(), E> {
    let mut used = HashSet::new();
    for phase in &reading.phases {
        let name = own(identifier(&phase.name), &mut used);
        if !FIXED.contains(&phase.name.as_str()) {
            take(&format!("energy_phase_{name}"), number(phase.joules))?;
        }
        let seconds = |s: f64| number(Some(s));
        take(&format!("phase_duration_{name}"), seconds(phase.duration))?;
        take(
            &format!("phase_cpu_time_{name}"),
            seconds(phase.cpu_seconds),
        )?;
    }
    Ok(())
}

/// A phase's name as part of a key: what is no letter, digit or `_` becomes `_`.
fn identifier(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_alphanumeric() { c } else { '_' })
        .take(LONGEST)
        .collect()
}

/// The name, or with `_2`, `_3` … after it where another phase has it already.
fn own(name: String, used: &mut HashSet<String>) -> String {
    let mut free = name.clone();
    let mut next = 2;
    while !used.insert(free.clone()) {
        free = format!("{name}_{next}");
        next += 1;
    }
    free
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_part_of_a_key() {
        for (name, expected) in [
            ("train", "train"),
            ("load data", "load_data"),
            ("größe/2", "größe_2"),
            ("a\n\"b\"", "a__b_"),
            ("\u{202e}x", "_x"),
        ] {
            assert_eq!(identifier(name), expected);
        }
        assert_eq!(identifier(&"x".repeat(1000)).len(), LONGEST);
    }

    #[test]
    fn names_that_become_one_are_counted() {
        let mut used = HashSet::new();
        let names = ["a b", "a_b_2", "a-b", "a_b"];
        let own: Vec<_> = names.map(|name| own(identifier(name), &mut used)).into();
        assert_eq!(own, ["a_b", "a_b_2", "a_b_3", "a_b_4"]);
    }
}

//! The keys of the phases that the user marked.

use std::collections::HashMap;

use serde_json::Value;

use super::values::number;
use crate::reading::Reading;

/// Phases whose energy has a key of its own in the table, entered or not.
const FIXED: [&str; 3] = ["read", "compute", "write"];

/// Longest part of a key that is made of a phase's name, characters.
const LONGEST: usize = 64;

/// Hands over the entries of the phases: those of a reading's flat dict alone, as the stats of a call
/// have no room for what each user adds.
pub(super) fn entries<E>(
    reading: &Reading,
    mut take: impl FnMut(&str, Value) -> Result<(), E>,
) -> Result<(), E> {
    let mut names = Names::default();
    for phase in &reading.phases {
        let name = names.own(identifier(&phase.name));
        if !FIXED.contains(&phase.name.as_str()) {
            take(&format!("energy_phase_{name}"), number(phase.joules))?;
        }
        let duration = number(Some(phase.duration));
        take(&format!("phase_duration_{name}"), duration)?;
        let cpu_seconds = number(phase.cpu_seconds);
        take(&format!("phase_cpu_time_{name}"), cpu_seconds)?;
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

/// The names that phases have in the keys so far.
#[derive(Default)]
struct Names {
    /// Of each name, the number that is tried first for the next phase of that name. The numbers
    /// before it are taken, so a thousand phases of one name do not try them all again and again.
    next: HashMap<String, u32>,
}

impl Names {
    /// The name, or with `_2`, `_3` … after it where another phase has it already.
    fn own(&mut self, name: String) -> String {
        let Some(&first) = self.next.get(&name) else {
            self.next.insert(name.clone(), 2);
            return name;
        };
        let mut number = first;
        let free = loop {
            let tried = format!("{name}_{number}");
            number += 1;
            if !self.next.contains_key(&tried) {
                break tried;
            }
        };
        self.next.insert(free.clone(), 2);
        self.next.insert(name, number);
        free
    }
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
        let mut names = Names::default();
        let given = ["a b", "a_b_2", "a-b", "a_b", "a_b_2"];
        let own = given.map(|name| names.own(identifier(name)));
        assert_eq!(own, ["a_b", "a_b_2", "a_b_3", "a_b_4", "a_b_2_2"]);
    }

    /// Each number is tried once: trying them all for each phase would be 5e9 of them here, hours.
    #[test]
    fn a_hundred_thousand_names_that_become_one_are_counted_at_once() {
        let mut names = Names::default();
        let last = (0..100_000).map(|_| names.own("part".into())).last();
        assert_eq!(last.as_deref(), Some("part_100000"));
        assert_eq!(names.next["part"], 100_001);
    }
}

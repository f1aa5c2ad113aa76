//! How the keys are written: by their plain names, or as a framework's stats carry them.

use std::collections::HashMap;

use super::keys::Key;

/// The names under which each key is written.
#[derive(Debug, Clone)]
pub struct Spelling {
    /// By key, in the order of the table. None: the key is left out.
    names: Vec<Vec<String>>,
    plain: bool,
}

impl Spelling {
    /// The plain names, all of them.
    pub fn plain() -> Self {
        Self {
            names: Key::ALL
                .iter()
                .map(|key| vec![key.row().name.to_owned()])
                .collect(),
            plain: true,
        }
    }

    /// `prefix` before the plain name of each key that stats have; `renamed` has the whole names
    /// of the keys that are written otherwise, or more than once.
    ///
    /// # Errors
    ///
    /// With the plain name in `renamed` that is no key of the stats.
    pub fn dialect(prefix: &str, renamed: &HashMap<String, Vec<String>>) -> Result<Self, String> {
        let mut names: Vec<Vec<String>> = Key::ALL
            .iter()
            .map(|key| match key.row() {
                row if row.in_stats => vec![format!("{prefix}{}", row.name)],
                _ => Vec::new(),
            })
            .collect();
        for (plain, written) in renamed {
            match Key::named(plain) {
                Some(key) if key.row().in_stats => names[key as usize].clone_from(written),
                _ => return Err(plain.clone()),
            }
        }
        Ok(Self {
            names,
            plain: false,
        })
    }

    /// The names of a key; none where it is left out.
    pub fn of(&self, key: Key) -> &[String] {
        self.names.get(key as usize).map_or(&[], Vec::as_slice)
    }

    /// Whether all of a reading is written, and not only what stats have.
    pub(super) fn is_plain(&self) -> bool {
        self.plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed(plain: &str, written: &[&str]) -> (String, Vec<String>) {
        (
            plain.to_owned(),
            written.iter().map(|&name| name.to_owned()).collect(),
        )
    }

    #[test]
    fn a_dialect_has_a_prefix_and_names_of_its_own() {
        let dialect = Spelling::dialect(
            "job_",
            &HashMap::from([
                renamed("rapl_energy_core", &["job_rapl_energy_cores"]),
                renamed("processor_name", &["job_cpu", "cpu"]),
            ]),
        )
        .unwrap();
        assert_eq!(dialect.of(Key::EnergyLow), ["job_energy_low"]);
        assert_eq!(dialect.of(Key::RaplEnergyCore), ["job_rapl_energy_cores"]);
        assert_eq!(dialect.of(Key::ProcessorName), ["job_cpu", "cpu"]);
        assert!(dialect.of(Key::Label).is_empty());
    }

    #[test]
    fn only_keys_of_the_stats_can_be_renamed() {
        for name in ["no_such_key", "label"] {
            let refused = Spelling::dialect("job_", &HashMap::from([renamed(name, &["x"])]));
            assert_eq!(refused.map(|_| ()), Err(name.to_owned()));
        }
    }
}

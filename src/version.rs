//! This package's version as Python writes it.

use std::sync::LazyLock;

/// The version by PEP 440, as the wheel's name and its metadata have it: Cargo's `0.2.0-dev.0` is
/// Python's `0.2.0.dev0`.
///
/// ```
/// assert!(!lithowatt::version::python().contains('-'));
/// ```
pub fn python() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| pep440(env!("CARGO_PKG_VERSION")));
    &VERSION
}

/// `release[-kind.number]` of Cargo as `release[kind]number`; only a development release has a
/// point before its kind.
fn pep440(cargo: &str) -> String {
    let Some((release, pre)) = cargo.split_once('-') else {
        return cargo.to_owned();
    };
    let (kind, number) = pre.split_once('.').unwrap_or((pre, "0"));
    let kind = match kind {
        "dev" => ".dev",
        "alpha" => "a",
        "beta" => "b",
        other => other,
    };
    format!("{release}{kind}{number}")
}

#[cfg(test)]
mod tests {
    use super::pep440;

    #[test]
    fn cargos_version_is_written_as_pep_440_has_it() {
        for (cargo, python) in [
            ("1.2.3", "1.2.3"),
            ("0.2.0-dev.0", "0.2.0.dev0"),
            ("0.2.0-alpha.1", "0.2.0a1"),
            ("0.2.0-beta.2", "0.2.0b2"),
            ("0.2.0-rc.10", "0.2.0rc10"),
        ] {
            assert_eq!(pep440(cargo), python);
        }
    }
}

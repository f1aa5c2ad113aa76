//! Where a row of `cpus.csv` is looked for: by the last word of its pattern.
//!
//! Part of the crate and of `build.rs`, which writes the index that [`super::table::find`] goes by.

/// Whether a character ends a part of a name: "8480" is no part of "8480+".
pub(crate) fn is_boundary(c: char) -> bool {
    !c.is_alphanumeric() && c != '+'
}

/// Words of a name that say nothing of the processor.
pub(crate) const NOISE: [&str; 2] = ["cpu", "processor"];

/// What a pattern ends in, which stands between boundaries in every name that it matches. `None`
/// where no name could be passed over for it: such a row is rather looked at closely than missed.
#[allow(dead_code, reason = "build.rs alone asks for it")]
pub(crate) fn last_part(pattern: &str) -> Option<&str> {
    let last = pattern.rsplit(is_boundary).next().unwrap_or(pattern);
    let says_something = !last.is_empty()
        && pattern.is_ascii()
        && !NOISE.iter().any(|word| last.eq_ignore_ascii_case(word));
    says_something.then_some(last)
}

/// The number by which a part is found in the index: FNV-1a, 32 bits, whatever its case. Of what
/// may be in any name it is that of the empty text.
pub(crate) fn key(part: &str) -> u32 {
    part.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0193)
    })
}

/// The lines of a table that are neither comment nor header nor empty.
pub(crate) fn rows(csv: &str) -> impl Iterator<Item = &str> {
    csv.lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .skip(1)
}

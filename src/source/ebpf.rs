//! Kernel probes: the room for them. This version carries none, and says so.

use super::Unavailable;

/// Why there are no probes.
pub fn unavailable() -> Unavailable {
    Unavailable::absent(
        "this version of lithowatt carries no eBPF probes; CPU clocks are used instead",
    )
}

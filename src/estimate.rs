//! A best estimate with its band.

use serde::Serialize;

/// A best estimate with its 95 % band and where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Estimate {
    /// Best estimate, in the unit that the function returning it names.
    pub value: f64,
    /// Lower end of the 95 % band, same unit.
    pub low: f64,
    /// Upper end of the 95 % band, same unit.
    pub high: f64,
    /// How it was obtained.
    pub source: String,
}

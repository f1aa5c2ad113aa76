//! Units as types: what a number means is part of its type until the edge.

use serde::{Deserialize, Serialize};

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub f64);

        impl std::ops::Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0 + other.0)
            }
        }
        impl std::ops::Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self(self.0 - other.0)
            }
        }
        impl std::ops::Mul<f64> for $name {
            type Output = Self;
            fn mul(self, factor: f64) -> Self {
                Self(self.0 * factor)
            }
        }
        impl std::iter::Sum for $name {
            fn sum<I: Iterator<Item = Self>>(values: I) -> Self {
                Self(values.map(|v| v.0).sum())
            }
        }
    };
}

unit!(
    /// Energy in joules (J).
    Joules
);
unit!(
    /// Power in watts (W).
    Watts
);
unit!(
    /// Time in seconds (s).
    Seconds
);

impl std::ops::Mul<Seconds> for Watts {
    type Output = Joules;
    fn mul(self, time: Seconds) -> Joules {
        Joules(self.0 * time.0)
    }
}

impl std::ops::Div<Seconds> for Joules {
    type Output = Watts;
    fn div(self, time: Seconds) -> Watts {
        Watts(self.0 / time.0)
    }
}

/// Time in nanoseconds (ns): a reading of `CLOCK_MONOTONIC`, of a CPU clock, or a difference of two.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The same span in seconds.
    ///
    /// ```
    /// use lithowatt::units::{Nanos, Seconds};
    /// assert_eq!(Nanos(1_500_000_000).seconds(), Seconds(1.5));
    /// ```
    pub fn seconds(self) -> Seconds {
        Seconds(self.0 as f64 * 1e-9)
    }

    /// `self - earlier`, or zero where a clock went backwards.
    pub fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

/// A best estimate with its 95 % band and where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

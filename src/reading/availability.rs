//! Whether a method gave a number, from where, and why not.

use std::fmt;

use serde::ser::{Serialize, SerializeStruct, Serializer};

/// Where a number is from, or why there is none.
///
/// ```
/// use lithowatt::reading::Availability;
/// let none = Availability::unavailable(Some("no counter".into()));
/// assert_eq!((none.to_string().as_str(), none.reason()), ("unavailable: no counter", Some("no counter")));
/// assert!(!none.is_available() && Availability::From("measured: dram".into()).is_available());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Availability {
    /// It is there: how it was obtained, and from what.
    From(String),
    /// It is not there, and why.
    Unavailable(String),
}

impl Availability {
    /// It is not there, for `reason` if that is known.
    pub fn unavailable(reason: Option<String>) -> Self {
        Self::Unavailable(reason.unwrap_or_else(|| "no reading".into()))
    }

    /// Whether it is there.
    pub fn is_available(&self) -> bool {
        matches!(self, Self::From(_))
    }

    /// Why it is not there; `None` where it is.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::From(_) => None,
            Self::Unavailable(why) => Some(why),
        }
    }
}

impl Default for Availability {
    fn default() -> Self {
        Self::unavailable(None)
    }
}

/// As the values of `*_source` keys have it.
impl fmt::Display for Availability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From(source) => f.write_str(source),
            Self::Unavailable(why) => write!(f, "unavailable: {why}"),
        }
    }
}

impl Serialize for Availability {
    /// As two fields of whatever it is flattened into: `available`, `source`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Availability", 2)?;
        fields.serialize_field("available", &self.is_available())?;
        fields.serialize_field("source", &self.to_string())?;
        fields.end()
    }
}

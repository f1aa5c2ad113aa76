//! Which of a call's two energies is its headline: `ENERGY_DEFINITION`.

use serde::Serialize;

/// What the headline holds.
///
/// One definition holds for every window of an environment, whoever else is awake, so that the
/// headlines of like calls can be compared and summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Definition {
    /// Energy above idle.
    Marginal,
    /// Energy above idle, and the call's share of idle.
    Amortised,
}

impl Definition {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Marginal, Self::Amortised];

    /// The one that this is not.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Marginal => Self::Amortised,
            Self::Amortised => Self::Marginal,
        }
    }

    /// Reads a name, case-insensitively; `None` where it is none.
    ///
    /// ```
    /// use lithowatt::definition::Definition;
    /// assert_eq!(Definition::parse(" Marginal"), Some(Definition::Marginal));
    /// assert_eq!(Definition::parse("total"), None);
    /// ```
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.trim().to_ascii_lowercase();
        Self::ALL.into_iter().find(|d| d.name() == name)
    }

    /// The name that [`Definition::parse`] reads.
    pub fn name(self) -> &'static str {
        match self {
            Self::Marginal => "marginal",
            Self::Amortised => "amortised",
        }
    }

    /// The default: a machine is idle whether the function runs or not, so its idle power is not
    /// the function's; a sandbox that exists for the function alone is idle because of it.
    pub fn usual(function_sandbox: bool) -> Self {
        if function_sandbox {
            Self::Amortised
        } else {
            Self::Marginal
        }
    }
}

//! Priorities and the bands they fall into.
//!
//! Source: Borg (EuroSys '15) §2.5; ranges as in the 2019 trace (Tirmazi, EuroSys '20): free 0–99,
//! best-effort batch 100–115, mid 116–119, production 120–359, monitoring 360–450.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A job's priority, 0..=450; larger is more important.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Priority(u16);

impl Priority {
    /// The largest priority there is.
    pub const MAX: Self = Self(450);

    /// The priority `value`, or `None` where it is above [`Priority::MAX`].
    #[must_use]
    pub const fn new(value: u16) -> Option<Self> {
        if value <= Self::MAX.0 { Some(Self(value)) } else { None }
    }

    /// Its number, 0..=450.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The band it falls into.
    #[must_use]
    pub const fn band(self) -> Band {
        match self.0 {
            0..=99 => Band::Free,
            100..=115 => Band::Batch,
            116..=119 => Band::Mid,
            120..=359 => Band::Production,
            _ => Band::Monitoring,
        }
    }
}

/// A priority band, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Band {
    /// No charge, no promise.
    Free,
    /// Best-effort batch.
    Batch,
    /// Between batch and production.
    Mid,
    /// Must keep running; preempts every lower band.
    Production,
    /// Watches over the rest.
    Monitoring,
}

impl Band {
    /// All bands, lowest first.
    pub const ALL: [Self; 5] =
        [Self::Free, Self::Batch, Self::Mid, Self::Production, Self::Monitoring];

    /// Production or above: what Borg calls "prod". Its limits are promised, and it is never
    /// preempted (Borg §2.5: production and monitoring tasks do not preempt each other).
    #[must_use]
    pub const fn is_prod(self) -> bool {
        matches!(self, Self::Production | Self::Monitoring)
    }

    /// The band's name in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Batch => "batch",
            Self::Mid => "mid",
            Self::Production => "production",
            Self::Monitoring => "monitoring",
        }
    }
}

impl fmt::Display for Band {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_start_and_end_where_the_2019_trace_says() {
        let check = |value, band| assert_eq!(Priority::new(value).unwrap().band(), band);
        check(0, Band::Free);
        check(99, Band::Free);
        check(100, Band::Batch);
        check(115, Band::Batch);
        check(116, Band::Mid);
        check(119, Band::Mid);
        check(120, Band::Production);
        check(359, Band::Production);
        check(360, Band::Monitoring);
        check(450, Band::Monitoring);
        assert_eq!(Priority::new(451), None);
    }
}

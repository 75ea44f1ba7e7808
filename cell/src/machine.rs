//! Machines: capacity, attributes, failure domains, and packages that are already there.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::constraint::Attributes;
use crate::resources::Capacity;

/// A machine of a cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Its name, unique in the cell.
    pub name: String,
    /// What it has to give.
    pub capacity: Capacity,
    /// What constraints look at.
    pub attributes: Attributes,
    /// The rack it stands in, where that is known.
    pub rack: Option<String>,
    /// The power domain it hangs on, where that is known.
    pub power: Option<String>,
    /// Packages already installed before anything is placed (Borg §3.2: package locality).
    pub packages: BTreeSet<String>,
}

impl Machine {
    /// Which domain of this kind it is in; a machine without one shares its fate with no other.
    #[must_use]
    pub fn domain(&self, kind: DomainKind) -> Option<&str> {
        match kind {
            DomainKind::Machine => Some(&self.name),
            DomainKind::Rack => self.rack.as_deref(),
            DomainKind::Power => self.power.as_deref(),
        }
    }
}

/// A kind of failure domain: things that fail together (Borg §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DomainKind {
    /// One machine.
    Machine,
    /// Machines behind one top-of-rack switch.
    Rack,
    /// Machines on one power feed.
    Power,
}

impl DomainKind {
    /// Its name in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Rack => "rack",
            Self::Power => "power",
        }
    }
}

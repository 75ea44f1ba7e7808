//! Quota: how much of a cell's resources a user's jobs may ask for, band by band; and capabilities.
//!
//! Source: Borg (EuroSys '15) §2.5: quota is a vector of resource quantities at a given priority, for a
//! period of time; every user has infinite quota at priority zero; production quota is limited to the
//! resources that are there.

use serde::{Deserialize, Serialize};

use super::op::Timestamp;
use crate::band::Band;
use crate::resources::{Capacity, Resources};

/// A sum of resources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amounts {
    /// CPU in milli-cores.
    pub cpu_milli: u64,
    /// RAM in bytes.
    pub ram_bytes: u64,
    /// Disk in bytes.
    pub disk_bytes: u64,
    /// GPU in milli-GPU.
    pub gpu_milli: u64,
}

impl Amounts {
    /// What one task asks for.
    #[must_use]
    pub fn of(limit: &Resources) -> Self {
        Self {
            cpu_milli: limit.cpu.0,
            ram_bytes: limit.ram.0,
            disk_bytes: limit.disk.0,
            gpu_milli: limit.gpu.total().0,
        }
    }

    /// What a machine has; a disk that is not stated counts as none.
    #[must_use]
    pub fn of_capacity(capacity: &Capacity) -> Self {
        Self {
            cpu_milli: capacity.cpu.0,
            ram_bytes: capacity.ram.0,
            disk_bytes: capacity.disk.unwrap_or_default().0,
            gpu_milli: u64::from(capacity.gpu_count) * 1000,
        }
    }

    /// The sum.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_add(other.cpu_milli),
            ram_bytes: self.ram_bytes.saturating_add(other.ram_bytes),
            disk_bytes: self.disk_bytes.saturating_add(other.disk_bytes),
            gpu_milli: self.gpu_milli.saturating_add(other.gpu_milli),
        }
    }

    /// The difference, 0 where that would be below 0.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_sub(other.cpu_milli),
            ram_bytes: self.ram_bytes.saturating_sub(other.ram_bytes),
            disk_bytes: self.disk_bytes.saturating_sub(other.disk_bytes),
            gpu_milli: self.gpu_milli.saturating_sub(other.gpu_milli),
        }
    }

    /// The first resource of which there is more here than there.
    #[must_use]
    pub const fn exceeds(&self, other: &Self) -> Option<&'static str> {
        if self.cpu_milli > other.cpu_milli {
            Some("cpu")
        } else if self.ram_bytes > other.ram_bytes {
            Some("ram")
        } else if self.disk_bytes > other.disk_bytes {
            Some("disk")
        } else if self.gpu_milli > other.gpu_milli {
            Some("gpu")
        } else {
            None
        }
    }
}

/// Quota that was granted to a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// The user.
    pub user: String,
    /// The band; not the free one, in which quota is infinite.
    pub band: Band,
    /// How much the limits of the user's jobs in the band may add up to.
    pub amounts: Amounts,
    /// Until when; `None`: until it is changed. What was admitted before goes on afterwards.
    pub until: Option<Timestamp>,
}

/// What a user may do beyond submitting, changing and killing their own jobs (Borg §2.5: "a capability
/// system that gives special privileges to some users").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// Change and kill any user's job.
    AnyJob,
    /// Grant quota and capabilities.
    Quota,
    /// Add, drain, repair and remove machines, and change the settings.
    Machines,
    /// Submit jobs in the monitoring band.
    Monitoring,
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::AnyJob, Self::Quota, Self::Machines, Self::Monitoring];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AnyJob => "any-job",
            Self::Quota => "quota",
            Self::Machines => "machines",
            Self::Monitoring => "monitoring",
        }
    }
}

//! What a task is charged for, and what has to fit on a machine.
//!
//! Source: Borg (EuroSys '15) §5.5: limits of production tasks are promised; the rest runs in what is
//! reclaimed from reservations.

use cell::{Bytes, MilliCpu, Resources};

/// A task's reservation over its limit, by resource, in thousandths (1..=1000).
///
/// Disk and GPU are never reclaimed: their reservation is their limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsageRatio {
    /// CPU.
    pub cpu_permille: u32,
    /// RAM.
    pub ram_permille: u32,
}

impl UsageRatio {
    /// Mean usage over limit of the 677 tasks in the usage sample of clusterdata-2011-2, first five
    /// minutes: CPU 27 %, memory 79 %.
    pub const GOOGLE_2011_SAMPLE: Self = Self { cpu_permille: 270, ram_permille: 790 };

    /// The reservation of a task with this limit, rounded up to the unit.
    #[must_use]
    pub fn reservation(self, limit: Resources) -> Resources {
        let part = |amount: u64, permille: u32| (amount * u64::from(permille)).div_ceil(1000);
        Resources {
            cpu: MilliCpu(part(limit.cpu.0, self.cpu_permille)),
            ram: Bytes(part(limit.ram.0, self.ram_permille)),
            ..limit
        }
    }
}

/// What has to fit on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Accounting {
    /// The limits of all tasks. Kubernetes with requests equal to limits.
    Limits,
    /// Borg's rule: the limits of production (and above), and the reservations of all tasks.
    Reclaimed(UsageRatio),
    /// The reservations of all tasks, and nothing else: Kubernetes with requests set to what a task is
    /// expected to use.
    RightSized(UsageRatio),
}

impl Accounting {
    /// Its name: `limits`, `reclaimed` or `right-sized`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Limits => "limits",
            Self::Reclaimed(_) => "reclaimed",
            Self::RightSized(_) => "right-sized",
        }
    }

    /// What a task with this limit is charged in the account that all tasks share.
    #[must_use]
    pub fn charge(self, limit: Resources) -> Resources {
        match self {
            Self::Limits => limit,
            Self::Reclaimed(ratio) | Self::RightSized(ratio) => ratio.reservation(limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_round_up_and_leave_disk_alone() {
        let limit = Resources {
            cpu: MilliCpu(101),
            ram: Bytes(1000),
            disk: Bytes(7),
            ..Resources::default()
        };
        let reservation = UsageRatio { cpu_permille: 270, ram_permille: 790 }.reservation(limit);
        assert_eq!(reservation.cpu, MilliCpu(28)); // 101 · 0.27 = 27.27
        assert_eq!(reservation.ram, Bytes(790));
        assert_eq!(reservation.disk, Bytes(7));
        assert_eq!(Accounting::Limits.charge(limit), limit);
    }
}

//! What a task is charged for, and what has to fit on a machine.
//!
//! Source: Borg (EuroSys '15) §5.5: limits of production tasks are promised; the rest runs in what is
//! reclaimed from reservations.

use cell::{Bytes, MilliCpu, Resources, Task};

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
    /// Borg's rule with the reservation that each task has ([`Task::reservation`]): what a live cell goes
    /// by.
    Recorded,
}

impl Accounting {
    /// Its name: `limits`, `reclaimed`, `right-sized` or `recorded`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Limits => "limits",
            Self::Reclaimed(_) => "reclaimed",
            Self::RightSized(_) => "right-sized",
            Self::Recorded => "recorded",
        }
    }

    /// What a task is charged in the account that all tasks share.
    #[must_use]
    pub fn charge(self, task: &Task) -> Resources {
        match self {
            Self::Limits => task.limit,
            Self::Reclaimed(ratio) | Self::RightSized(ratio) => ratio.reservation(task.limit),
            Self::Recorded => {
                let limit = task.limit;
                let reserved = task.reservation.unwrap_or(limit);
                let (cpu, ram) = (reserved.cpu.min(limit.cpu), reserved.ram.min(limit.ram));
                Resources { cpu, ram, ..limit }
            }
        }
    }

    /// Whether limits of production have to fit beside each other, apart from what all are charged.
    #[must_use]
    pub const fn keeps_limits_apart(self) -> bool {
        match self {
            Self::Reclaimed(_) | Self::Recorded => true,
            Self::Limits | Self::RightSized(_) => false,
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
    }

    #[test]
    fn a_task_without_a_reservation_is_charged_its_limit() {
        let (cpu, ram) = (MilliCpu(100), Bytes(1000));
        let limit = Resources { cpu, ram, disk: Bytes(7), ..Resources::default() };
        let mut task = Task::new(0, limit);
        assert_eq!(Accounting::Recorded.charge(&task), limit);
        task.reservation =
            Some(Resources { cpu: MilliCpu(30), ram: Bytes(400), ..Resources::default() });
        let charge = Accounting::Recorded.charge(&task);
        assert_eq!((charge.cpu, charge.ram, charge.disk), (MilliCpu(30), Bytes(400), Bytes(7)));
        assert_eq!(Accounting::Limits.charge(&task), limit);
    }
}

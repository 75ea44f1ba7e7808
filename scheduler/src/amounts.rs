//! Amounts of what is divisible on a host, signed.

use cell::Resources;

/// The two or three amounts that are divisible: CPU in milli-cores, RAM and disk in bytes.
///
/// Signed, because a recorded state may be over-committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Amounts {
    pub cpu: i64,
    pub ram: i64,
    pub disk: i64,
}

/// Stands for the disk of a machine that does not state any: hundreds of the largest limits there can be
/// leave more than half of it.
pub(crate) const DISK_UNSTATED: i64 = 1 << 62;

impl Amounts {
    pub(crate) fn of(resources: &Resources) -> Self {
        let signed = |amount: u64| i64::try_from(amount).expect("quantities are below 2^53");
        Self {
            cpu: signed(resources.cpu.0),
            ram: signed(resources.ram.0),
            disk: signed(resources.disk.0),
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.cpu += other.cpu;
        self.ram += other.ram;
        self.disk += other.disk;
    }

    pub(crate) fn subtract(&mut self, other: Self) {
        self.cpu -= other.cpu;
        self.ram -= other.ram;
        self.disk -= other.disk;
    }
}

/// An integer as a float.
///
/// # Panics
/// If it is not exact, which no quantity that was read is.
pub(crate) fn exact(amount: i64) -> f64 {
    debug_assert!(amount.abs() <= 1 << 53);
    #[expect(clippy::cast_precision_loss, reason = "at most 2^53")]
    {
        amount as f64
    }
}

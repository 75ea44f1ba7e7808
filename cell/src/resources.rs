//! Amounts of resources: integers with units, so that sums are exact on every machine.
//!
//! CPU in milli-cores, RAM and disk in bytes, GPU in milli-GPUs. Only arithmetic that means
//! something is defined: amounts of one kind add up, and never mix.

use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub, SubAssign};

use serde::{Deserialize, Serialize};

macro_rules! amount {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// None of it.
            pub const ZERO: Self = Self(0);

            /// `self - other`, or zero where `other` is larger.
            #[must_use]
            pub fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0 + other.0)
            }
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                self.0 += other.0;
            }
        }

        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self(self.0 - other.0)
            }
        }

        impl SubAssign for $name {
            fn sub_assign(&mut self, other: Self) {
                self.0 -= other.0;
            }
        }

        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
                amounts.fold(Self::ZERO, Add::add)
            }
        }
    };
}

amount! {
    /// CPU in thousandths of a core.
    MilliCpu
}
amount! {
    /// RAM or disk in bytes.
    Bytes
}
amount! {
    /// GPU in thousandths of one device.
    #[derive(Deserialize)]
    MilliGpu
}

/// All of one GPU device.
pub const GPU_DEVICE: MilliGpu = MilliGpu(1000);

/// The most GPU devices one machine may have. Our own limit, twice the largest machine of any trace
/// that we read, so that a machine's devices can be kept in a fixed array.
pub const GPU_DEVICE_COUNT_MAX: usize = 16;

/// GPUs that a task asks for: a share of one device, or one or more whole devices.
///
/// A share never straddles two devices.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct GpuRequest {
    /// How many devices, 0..=[`GPU_DEVICE_COUNT_MAX`].
    pub count: u32,
    /// How much of each device, 1..=1000; 1000 wherever `count` is above one, 0 where it is 0.
    pub milli_each: MilliGpu,
}

impl GpuRequest {
    /// No GPU.
    pub const NONE: Self = Self { count: 0, milli_each: MilliGpu(0) };

    /// The sum over the devices.
    #[must_use]
    pub fn total(self) -> MilliGpu {
        MilliGpu(u64::from(self.count) * self.milli_each.0)
    }
}

/// A task's limit (the most it may use), or an alloc's envelope.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Resources {
    /// CPU.
    pub cpu: MilliCpu,
    /// RAM.
    pub ram: Bytes,
    /// Local disk.
    pub disk: Bytes,
    /// GPUs.
    pub gpu: GpuRequest,
    /// What of it was not stated, and so is zero. A stated zero is something else to Kubernetes, whose
    /// scores assume a default where nothing is stated.
    pub unstated: Unstated,
}

/// Which limits were not stated.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Unstated {
    /// CPU.
    pub cpu: bool,
    /// RAM.
    pub ram: bool,
}

/// What a machine has to give.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Capacity {
    /// CPU.
    pub cpu: MilliCpu,
    /// RAM.
    pub ram: Bytes,
    /// Local disk; `None` where the trace does not say, and then disk constrains nothing.
    pub disk: Option<Bytes>,
    /// Number of GPU devices, 0..=[`GPU_DEVICE_COUNT_MAX`].
    pub gpu_count: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpu_total_is_devices_times_share() {
        let check = |count, milli, total| {
            let request = GpuRequest { count, milli_each: MilliGpu(milli) };
            assert_eq!(request.total(), MilliGpu(total));
        };
        check(0, 0, 0);
        check(1, 460, 460);
        check(8, 1000, 8000); // 8 · 1000
    }

    #[test]
    fn amounts_of_one_kind_add_up() {
        let sum: MilliCpu = [MilliCpu(1), MilliCpu(20), MilliCpu(300)].into_iter().sum();
        assert_eq!(sum, MilliCpu(321));
        assert_eq!(Bytes(3).saturating_sub(Bytes(5)), Bytes::ZERO);
    }
}

//! What the tasks on a host need together, and whether one more fits.
//!
//! Borg's rule (EuroSys '15, §5.5): the limits of production (and above) fit the host, and the reservations
//! of all fit the host. Sums are integers and can be recomputed from the tasks at any time.

use crate::resources::{Capacity, GPU_DEVICE, GPU_DEVICE_COUNT_MAX, Resources};

/// What the tasks on a host need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Reservations of all: CPU in milli-cores, RAM and disk in bytes.
    pub reserved: [u64; 3],
    /// Limits of production and above, in the same units.
    pub promised: [u64; 3],
    /// What is taken of each GPU device, in milli-GPU.
    pub gpu: [u64; GPU_DEVICE_COUNT_MAX],
}

/// What one task needs of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// What it is expected to use.
    pub reservation: Resources,
    /// Its limit, if it is of production or above.
    pub promise: Option<Resources>,
    /// The GPU devices, one bit each.
    pub gpu_devices: u16,
}

/// What a host has: CPU in milli-cores, RAM and disk in bytes, and GPU devices. A disk that is not stated
/// holds anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// CPU, RAM, disk.
    pub amounts: [u64; 3],
    /// Number of GPU devices.
    pub gpu_count: u32,
}

impl Size {
    /// The size of a machine.
    #[must_use]
    pub fn of_machine(capacity: &Capacity) -> Self {
        let disk = capacity.disk.map_or(u64::MAX, |disk| disk.0);
        Self { amounts: [capacity.cpu.0, capacity.ram.0, disk], gpu_count: capacity.gpu_count }
    }

    /// The size of an alloc's envelope. Only whole devices are devices of its own.
    #[must_use]
    pub fn of_alloc(limit: &Resources) -> Self {
        let gpu_count = if limit.gpu.milli_each == GPU_DEVICE { limit.gpu.count } else { 0 };
        Self { amounts: amounts(limit), gpu_count }
    }
}

fn amounts(resources: &Resources) -> [u64; 3] {
    [resources.cpu.0, resources.ram.0, resources.disk.0]
}

impl Account {
    /// Adds a task.
    pub fn add(&mut self, need: &Need) {
        self.change(need, |sum, amount| *sum += amount);
    }

    /// Takes a task off.
    pub fn remove(&mut self, need: &Need) {
        self.change(need, |sum, amount| *sum -= amount);
    }

    fn change(&mut self, need: &Need, by: impl Fn(&mut u64, u64)) {
        for (sum, amount) in self.reserved.iter_mut().zip(amounts(&need.reservation)) {
            by(sum, amount);
        }
        if let Some(limit) = &need.promise {
            for (sum, amount) in self.promised.iter_mut().zip(amounts(limit)) {
                by(sum, amount);
            }
        }
        if need.gpu_devices == 0 {
            return;
        }
        for (device, sum) in self.gpu.iter_mut().enumerate() {
            if need.gpu_devices & (1 << device) != 0 {
                by(sum, need.reservation.gpu.milli_each.0);
            }
        }
    }

    /// The first resource of which there is not enough for one more, if any. What it does not ask for is
    /// not looked at, so that it also fits where others have taken too much of that.
    #[must_use]
    pub fn lacks(&self, need: &Need, size: &Size) -> Option<&'static str> {
        const NAMES: [&str; 3] = ["cpu", "ram", "disk"];
        let short = |sums: &[u64; 3], asked: [u64; 3]| {
            (0..3).find(|&i| asked[i] > 0 && sums[i].saturating_add(asked[i]) > size.amounts[i])
        };
        if let Some(i) = short(&self.reserved, amounts(&need.reservation)) {
            return Some(NAMES[i]);
        }
        if let Some(i) = need.promise.and_then(|limit| short(&self.promised, amounts(&limit))) {
            return Some(NAMES[i]);
        }
        let request = need.reservation.gpu;
        let devices = 0..GPU_DEVICE_COUNT_MAX;
        let chosen = devices.filter(|device| need.gpu_devices & (1 << device) != 0);
        let has_room = |device: usize| {
            device < size.gpu_count as usize
                && self.gpu[device] + request.milli_each.0 <= GPU_DEVICE.0
        };
        let count_is_right = need.gpu_devices.count_ones() == request.count;
        (!count_is_right || !chosen.clone().all(has_room)).then_some("gpu")
    }

    /// The first resource that is over the host's size, if any.
    #[must_use]
    pub fn over(&self, size: &Size) -> Option<&'static str> {
        const NAMES: [&str; 3] = ["cpu", "ram", "disk"];
        let over = (0..3).find(|&i| self.reserved[i].max(self.promised[i]) > size.amounts[i]);
        let gpu_over = self.gpu.iter().any(|&taken| taken > GPU_DEVICE.0);
        over.map(|i| NAMES[i]).or_else(|| gpu_over.then_some("gpu"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::{Bytes, GpuRequest, MilliCpu, MilliGpu};

    fn need(cpu: u64, reserved_cpu: u64, is_prod: bool) -> Need {
        let of = |cpu| Resources { cpu: MilliCpu(cpu), ram: Bytes(1), ..Resources::default() };
        Need { reservation: of(reserved_cpu), promise: is_prod.then(|| of(cpu)), gpu_devices: 0 }
    }

    #[test]
    fn production_is_held_to_limits_and_all_to_reservations() {
        let size = Size { amounts: [1000, 100, 0], gpu_count: 0 };
        let mut account = Account::default();
        account.add(&need(600, 200, true));
        // 600 + 600 > 1000 in limits, 200 + 600 <= 1000 in reservations.
        assert_eq!(account.lacks(&need(600, 600, true), &size), Some("cpu"));
        assert_eq!(account.lacks(&need(600, 600, false), &size), None);
        // 200 + 801 > 1000
        assert_eq!(account.lacks(&need(801, 801, false), &size), Some("cpu"));
        account.remove(&need(600, 200, true));
        assert_eq!(account, Account::default());
    }

    #[test]
    fn gpu_shares_stay_on_their_device() {
        let size = Size { amounts: [1000, 100, 0], gpu_count: 2 };
        let share = |devices| Need {
            reservation: Resources {
                gpu: GpuRequest { count: 1, milli_each: MilliGpu(600) },
                ..Resources::default()
            },
            promise: None,
            gpu_devices: devices,
        };
        let mut account = Account::default();
        account.add(&share(1));
        assert_eq!(account.lacks(&share(1), &size), Some("gpu")); // 600 + 600 > 1000
        assert_eq!(account.lacks(&share(2), &size), None);
        assert_eq!(account.lacks(&share(4), &size), Some("gpu")); // no third device
        assert_eq!(account.lacks(&share(0), &size), Some("gpu")); // no device given
    }
}

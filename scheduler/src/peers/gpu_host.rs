//! What the GPU policies read of a host and of a task, and what all of them do with it.

use cell::{GPU_DEVICE, GPU_DEVICE_COUNT_MAX, GpuRequest, MachineId};

use crate::score::{Ask, HostView};
use crate::snapshot::GpuTally;

/// The largest node of the paper's cluster, by which its scores are normalised: 128 cores, 8 GPUs.
pub(super) const CPU_MAX: f64 = 128_000.0;
/// The same in milli-GPU.
pub(super) const GPU_MAX: f64 = 8000.0;

/// All of a device, as devices are counted.
#[expect(clippy::cast_possible_truncation, reason = "a device is 1000 milli-GPU")]
pub(super) const WHOLE: u16 = GPU_DEVICE.0 as u16;

/// A host.
#[derive(Clone, Copy, Debug)]
pub struct GpuHost {
    /// Free CPU in milli-cores.
    pub(super) free_cpu: f64,
    /// Free GPU over all devices in milli-GPU.
    pub(super) free_gpu: f64,
    /// Number of devices.
    pub(super) count: usize,
    /// What is free of each.
    pub(super) free: [u16; GPU_DEVICE_COUNT_MAX],
    pub(super) tasks: GpuTally,
    pub(super) machine: MachineId,
}

/// A task.
#[derive(Clone, Copy, Debug)]
pub struct GpuAsk {
    /// CPU in milli-cores.
    pub(super) cpu: f64,
    /// GPU over all devices in milli-GPU.
    pub(super) gpu: f64,
    pub(super) request: GpuRequest,
    /// How much of each device, in milli-GPU.
    pub(super) milli: u16,
}

impl GpuAsk {
    pub(super) fn of(ask: &Ask) -> Self {
        let milli = u16::try_from(ask.gpu_request.milli_each.0);
        Self {
            cpu: ask.cpu,
            gpu: ask.gpu,
            request: ask.gpu_request,
            milli: milli.expect("a share is at most one device"),
        }
    }
}

impl GpuHost {
    pub(super) fn of(host: &HostView) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 16")]
        let count = (host.capacity[3] / f64::from(WHOLE)) as usize;
        Self {
            free_cpu: host.free[0],
            free_gpu: host.free[3],
            count,
            free: host.device_free,
            tasks: host.gpu_tasks,
            machine: host.machine,
        }
    }

    /// What is free of each of its devices.
    pub(super) fn devices(&self) -> &[u16] {
        &self.free[..self.count]
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use cell::MilliGpu;

    /// A view of a host with so much free CPU, and so much free of each device.
    pub(crate) fn view(free_cpu: f64, devices: &[u16]) -> HostView {
        let mut device_free = [0; GPU_DEVICE_COUNT_MAX];
        device_free[..devices.len()].copy_from_slice(devices);
        let free_gpu = devices.iter().map(|&free| f64::from(free)).sum();
        HostView {
            free: [free_cpu, 0.0, 0.0, free_gpu],
            capacity: [128_000.0, 0.0, 0.0, devices.len() as f64 * 1000.0],
            device_free,
            ..HostView::default()
        }
    }

    /// What a task asks for.
    pub(crate) fn ask(cpu: f64, count: u32, milli_each: u64) -> Ask {
        let gpu_request = GpuRequest { count, milli_each: MilliGpu(milli_each) };
        Ask { cpu, gpu: gpu_request.total().0 as f64, gpu_request, ..Ask::default() }
    }
}

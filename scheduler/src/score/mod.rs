//! Scores: how well a task would sit on a host, in 0..=1, larger is better.
//!
//! A score is a type with three steps: [`RowScore::columns`], what it reads of a host, renewed when the
//! host changes; [`RowScore::class`], what it reads of an equivalence class of tasks, computed once; and
//! [`RowScore::score`], the arithmetic in between, run for every class and host, which is where the time
//! goes. A score that depends on more than the one host does not belong here.
//!
//! To add one: a file here, a line in [`crate::policies`].

pub mod best_fit;
pub mod e_pvm;
pub mod hybrid;
pub mod terms;

use cell::{GPU_DEVICE_COUNT_MAX, GpuRequest, MachineId};

pub use crate::snapshot::GpuTally;
use crate::snapshot::{HostInfo, exact};

/// What scores read of a task: its charge, as exact floats.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask {
    /// CPU in milli-cores.
    pub cpu: f64,
    /// RAM in bytes.
    pub ram: f64,
    /// Disk in bytes.
    pub disk: f64,
    /// GPU in milli-GPU over all devices.
    pub gpu: f64,
    /// The same as it was asked for: how many devices, and how much of each.
    pub gpu_request: GpuRequest,
}

/// What scores read of a host.
#[derive(Clone, Copy, Debug)]
pub struct HostView {
    /// Free CPU, RAM, disk and GPU: milli-cores, bytes, bytes, milli-GPU.
    pub free: [f64; 4],
    /// Capacities; 0 where the host has none or does not state it, and then it counts in no score.
    pub capacity: [f64; 4],
    /// Index of its capacity (CPU, RAM) among the distinct ones.
    pub shape: u32,
    /// The machine, or the one that an alloc is on.
    pub machine: MachineId,
    /// What is free of each GPU device in milli-GPU; 0 beyond the devices that there are.
    pub device_free: [u16; GPU_DEVICE_COUNT_MAX],
    /// The tasks with GPUs on the host, by how many they have.
    pub gpu_tasks: GpuTally,
}

impl Default for HostView {
    fn default() -> Self {
        Self {
            free: [0.0; 4],
            capacity: [0.0; 4],
            shape: 0,
            machine: MachineId(0),
            device_free: [0; GPU_DEVICE_COUNT_MAX],
            gpu_tasks: GpuTally::default(),
        }
    }
}

impl HostView {
    pub(crate) fn of(host: &HostInfo) -> Self {
        let disk_stated = host.capacity.disk != crate::snapshot::DISK_UNSTATED;
        let disk = |amount: i64| if disk_stated { exact(amount) } else { 0.0 };
        Self {
            free: [
                exact(host.free.cpu),
                exact(host.free.ram),
                disk(host.free.disk),
                f64::from(host.gpus.free_total()),
            ],
            capacity: [
                exact(host.capacity.cpu),
                exact(host.capacity.ram),
                disk(host.capacity.disk),
                f64::from(host.gpus.count * 1000),
            ],
            shape: host.shape,
            machine: host.slot.machine,
            device_free: host.gpus.free,
            gpu_tasks: host.gpus.tally,
        }
    }

    /// The same in the account of production's limits.
    pub(crate) fn promised(host: &HostInfo) -> Self {
        let mut view = Self::of(host);
        view.free[0] = exact(host.prod_free.cpu);
        view.free[1] = exact(host.prod_free.ram);
        view.capacity[0] = exact(host.prod_capacity.cpu);
        view.capacity[1] = exact(host.prod_capacity.ram);
        view
    }

    /// Free fractions after a task was placed, of the resources that the host has.
    pub(crate) fn free_after(&self, ask: &Ask) -> impl Iterator<Item = f64> {
        let asked = [ask.cpu, ask.ram, ask.disk, ask.gpu];
        let (free, capacity) = (self.free, self.capacity);
        (0..4)
            .filter(move |&r| capacity[r] > 0.0)
            .map(move |r| ((free[r] - asked[r]) / capacity[r]).clamp(0.0, 1.0))
    }
}

/// 1 / amount, or 0 for nothing.
pub(crate) fn inverse(amount: f64) -> f64 {
    if amount > 0.0 { 1.0 / amount } else { 0.0 }
}

/// A score of a task on a host, which depends on that task and that host alone.
pub trait RowScore: Sync {
    /// What it reads of a host.
    type Columns: Copy + Send + Sync + std::fmt::Debug;
    /// What it reads of an equivalence class.
    type Class: Clone + Send + Sync + std::fmt::Debug;
    /// Whether of hosts with the same score the first one wins; otherwise a hash decides.
    const FIRST_WINS_TIES: bool = false;

    /// What it reads of a host, renewed whenever the host changes.
    fn columns(&self, host: &HostView) -> Self::Columns;

    /// What it reads of a class. `shapes` are the distinct capacities (CPU, RAM) of the hosts.
    fn class(&self, ask: &Ask, shapes: &[(f64, f64)]) -> Self::Class;

    /// The score, 0..=1, by CPU and RAM, on a host where the task fits.
    fn score(&self, class: &Self::Class, columns: &Self::Columns) -> f64;

    /// The score, 0..=1, by every resource that the host has. Used where machines state disk or GPUs.
    fn score_wide(&self, class: &Self::Class, ask: &Ask, host: &HostView) -> f64;

    /// Whether [`RowScore::upper`] is less than 1 where it should be.
    const HAS_UPPER: bool = false;

    /// The most that the score can be, by CPU and RAM, where the free fractions of both after placing are
    /// in these ranges, least first.
    fn upper(&self, _cpu: [f64; 2], _ram: [f64; 2]) -> f64 {
        1.0
    }

    /// The GPU devices that a task of the class gets on a host where it fits, one bit each; `None`: the
    /// score does not care, and the fullest that will do are taken. `draw` is a random number for this
    /// decision.
    fn devices(&self, _class: &Self::Class, _host: &HostView, _draw: u64) -> Option<u16> {
        None
    }
}

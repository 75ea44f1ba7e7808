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
    /// What Kubernetes' scores add to CPU and RAM where the task does not state them.
    pub defaults: [f64; 2],
}

/// What scores read of a host.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostView {
    /// Free CPU, RAM, disk and GPU: milli-cores, bytes, bytes, milli-GPU.
    pub free: [f64; 4],
    /// Capacities; 0 where the host has none or does not state it, and then it counts in no score.
    pub capacity: [f64; 4],
    /// Index of its capacity (CPU, RAM) among the distinct ones.
    pub shape: u32,
    /// What Kubernetes' scores add to the CPU and RAM in use, for tasks that do not state them.
    pub defaults: [f64; 2],
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
            defaults: [exact(host.defaults.cpu), exact(host.defaults.ram)],
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

    /// What it reads of a host, renewed whenever the host changes.
    fn columns(&self, host: &HostView) -> Self::Columns;

    /// What it reads of a class. `shapes` are the distinct capacities (CPU, RAM) of the hosts.
    fn class(&self, ask: &Ask, shapes: &[(f64, f64)]) -> Self::Class;

    /// The score, 0..=1, by CPU and RAM, on a host where the task fits.
    fn score(&self, class: &Self::Class, columns: &Self::Columns) -> f64;

    /// The score, 0..=1, by every resource that the host has. Used where machines state disk or GPUs.
    fn score_wide(&self, class: &Self::Class, ask: &Ask, host: &HostView) -> f64;
}

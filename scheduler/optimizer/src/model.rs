//! The workload by shapes: 126,000 tasks of the 2011 cell are 1,400 shapes on 10 machine shapes.
//!
//! A task shape is what a task is charged and which hard constraints it has; a machine shape is a
//! capacity and which of these constraints hold there. What depends on where other tasks of a job are
//! (different machines, spread), and machines that a task crashed on, is no part of a shape: bounds leave it
//! out, which makes them lower and never wrong, and plans check it task by task.

use std::collections::{BTreeMap, BTreeSet};

use cell::{Cell, Constraint, TaskId};
use scheduler::{Accounting, Slot};

/// Number of resources that are added up.
pub const RESOURCE_COUNT: usize = 6;

/// Their names. GPU is the sum over a machine's devices, which is less than the truth asks; the last two
/// are production's limits, under Borg's rule of reclamation (§5.5).
pub const RESOURCES: [&str; RESOURCE_COUNT] =
    ["cpu", "ram", "disk", "gpu", "production cpu", "production ram"];

/// Position of the GPUs among them.
pub const GPU: usize = 3;

/// An amount of each resource: milli-cores, bytes, bytes, milli-GPU, milli-cores, bytes.
pub type Amounts = [u64; RESOURCE_COUNT];

/// What a machine has of a resource that it does not state: any amount.
pub const UNLIMITED: u64 = u64::MAX;

/// Tasks that are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskShape {
    /// What each is charged.
    pub demand: Amounts,
    /// Position in [`Model::rules`] of the hard constraints of these tasks.
    pub rules: usize,
    /// How many there are.
    pub count: u64,
    /// How many of them may stay pending.
    pub picky_count: u64,
}

/// Tasks of one shape that are worth the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorthClass {
    /// Position of the shape in the model.
    pub shape: usize,
    /// Level of their band, 0 for the highest.
    pub level: usize,
    /// What each is worth.
    pub worth: u64,
    /// How many there are.
    pub count: u64,
}

/// Machines that are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineShape {
    /// What each has; [`UNLIMITED`] where nothing is stated.
    pub capacity: Amounts,
    /// Which of [`Model::rules`] hold there.
    pub obeys: Vec<bool>,
    /// How many the cell has.
    pub count: u64,
}

/// A workload and the machines it may run on, by shapes.
#[derive(Clone, Debug)]
pub struct Model {
    /// Distinct sets of hard constraints.
    pub rules: Vec<BTreeSet<Constraint>>,
    /// Task shapes, in ascending order of what they are.
    pub tasks: Vec<TaskShape>,
    /// Machine shapes, likewise.
    pub machines: Vec<MachineShape>,
    /// Shape of each machine of the cell.
    shape_of_machine: Vec<usize>,
    /// Shape of each task that was given, in that order; `None` for what runs in an alloc.
    pub shape_of_task: Vec<Option<usize>>,
    /// How many tasks may stay pending.
    pub pending_allowed: u64,
    /// The name of a job with tasks of each task shape.
    pub job_names: Vec<String>,
}

impl Model {
    /// Of these tasks and allocs. What runs in an alloc draws on the alloc and is left out. `may_wait`
    /// says of each task whether it may be among the `pending_allowed` that stay pending.
    #[must_use]
    pub fn of(
        cell: &Cell,
        tasks: &[TaskId],
        accounting: Accounting,
        pending_allowed: u64,
        may_wait: &dyn Fn(TaskId) -> bool,
    ) -> Self {
        let mut rules: BTreeMap<BTreeSet<Constraint>, usize> = BTreeMap::new();
        let mut rules_of_job: Vec<Option<usize>> = vec![None; cell.jobs.len()];
        for task in tasks {
            let job = cell.job(task.job);
            rules_of_job[task.job.index()].get_or_insert_with(|| {
                let hard = job.constraints.iter().filter(|c| c.is_hard()).cloned().collect();
                let next = rules.len();
                *rules.entry(hard).or_insert(next)
            });
        }
        let mut by_number: Vec<(BTreeSet<Constraint>, usize)> = rules.into_iter().collect();
        by_number.sort_by_key(|&(_, number)| number);
        let rules: Vec<BTreeSet<Constraint>> =
            by_number.into_iter().map(|(hard, _)| hard).collect();

        let shape = |task: &TaskId| {
            let job = cell.job(task.job);
            let demand = demand(cell, *task, accounting);
            job.alloc_set.is_none().then(|| (demand, rules_of_job[task.job.index()].unwrap_or(0)))
        };
        let mut counts: BTreeMap<(Amounts, usize), (u64, u64)> = BTreeMap::new();
        for task in tasks {
            if let Some(key) = shape(task) {
                let (all, picky) = counts.entry(key).or_default();
                *all += 1;
                *picky += u64::from(may_wait(*task));
            }
        }
        let number: BTreeMap<(Amounts, usize), usize> = counts.keys().copied().zip(0..).collect();
        let mut job_names = vec![String::new(); counts.len()];
        for task in tasks.iter().rev() {
            if let Some(key) = shape(task) {
                job_names[number[&key]].clone_from(&cell.job(task.job).name);
            }
        }
        let task_shapes = counts
            .into_iter()
            .map(|((demand, rules), (count, picky_count))| TaskShape {
                demand,
                rules,
                count,
                picky_count,
            })
            .collect();

        let kinds: Vec<(Amounts, Vec<bool>)> = cell
            .machines
            .iter()
            .map(|machine| {
                let capacity = &machine.capacity;
                let (cpu, ram) = (capacity.cpu.0, capacity.ram.0);
                let disk = capacity.disk.map_or(UNLIMITED, |disk| disk.0);
                let gpu = u64::from(capacity.gpu_count) * cell::GPU_DEVICE.0;
                let obeys = |hard: &BTreeSet<Constraint>| {
                    hard.iter().all(|constraint| constraint.holds(&machine.attributes))
                };
                ([cpu, ram, disk, gpu, cpu, ram], rules.iter().map(obeys).collect())
            })
            .collect();
        let mut machine_counts: BTreeMap<&(Amounts, Vec<bool>), u64> = BTreeMap::new();
        for kind in &kinds {
            *machine_counts.entry(kind).or_default() += 1;
        }
        let machine_number: BTreeMap<&(Amounts, Vec<bool>), usize> =
            machine_counts.keys().copied().zip(0..).collect();
        let machines = machine_counts
            .iter()
            .map(|(kind, &count)| {
                let (capacity, obeys) = (*kind).clone();
                MachineShape { capacity, obeys, count }
            })
            .collect();
        Self {
            shape_of_machine: kinds.iter().map(|kind| machine_number[kind]).collect(),
            shape_of_task: tasks.iter().map(|task| shape(task).map(|key| number[&key])).collect(),
            rules,
            tasks: task_shapes,
            machines,
            pending_allowed,
            job_names,
        }
    }

    /// The shape of a machine.
    #[must_use]
    pub fn machine_shape(&self, slot: Slot) -> usize {
        self.shape_of_machine[slot.machine.index()]
    }

    /// Whether a task of shape `task` could run on an empty machine of shape `machine`.
    #[must_use]
    pub fn fits(&self, task: usize, machine: usize) -> bool {
        let (task, machine) = (&self.tasks[task], &self.machines[machine]);
        machine.obeys[task.rules]
            && (0..RESOURCE_COUNT).all(|r| task.demand[r] <= machine.capacity[r])
    }

    /// How many machines of each shape there are among these.
    #[must_use]
    pub fn mix(&self, slots: &[Slot]) -> Vec<u64> {
        let mut mix = vec![0; self.machines.len()];
        for &slot in slots {
            mix[self.machine_shape(slot)] += 1;
        }
        mix
    }
}

/// What a task is charged, and for production under Borg's rule its limit.
fn demand(cell: &Cell, task: TaskId, accounting: Accounting) -> Amounts {
    let limit = cell.task(task).limit;
    let charge = accounting.charge(cell.task(task));
    let is_prod = cell.job(task.job).priority.band().is_prod();
    let promised = accounting.keeps_limits_apart() && is_prod;
    let [prod_cpu, prod_ram] = if promised { [limit.cpu.0, limit.ram.0] } else { [0, 0] };
    [charge.cpu.0, charge.ram.0, charge.disk.0, charge.gpu.total().0, prod_cpu, prod_ram]
}

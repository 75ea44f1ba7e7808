//! What is packed: which tasks of a trace, onto which machines in which order.

use cell::{Cell, Job, JobKind, Task, TaskId, TaskState};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use scheduler::{Slot, Snapshot};
use traces::{Trace, Workload};

/// What becomes of tasks that are tied to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tied {
    /// They are left out.
    LeftOut,
    /// They are packed with the rest.
    Packed,
}

impl Tied {
    /// In a cell of Kubernetes' objects the pods of a DaemonSet name their node and pass through the
    /// scheduler; so they are packed where every node is there once. Elsewhere such tasks are left out.
    pub(crate) fn on(cell: &Cell, is_whole: bool) -> Self {
        if is_whole && cell.kube.is_some() { Self::Packed } else { Self::LeftOut }
    }

    fn takes(self, job: &Job) -> bool {
        self == Self::Packed || !job.tied_to_machines
    }
}

/// Tasks to pack from scratch, in the order of their submission: those the trace's [`Workload`] names,
/// without those tied to a machine; and the allocs that jobs of these tasks run in.
#[must_use]
pub fn from_scratch(trace: &Trace) -> Vec<TaskId> {
    from_scratch_with(trace, Tied::LeftOut)
}

/// As [`from_scratch`], perhaps with the tasks tied to a machine.
pub(crate) fn from_scratch_with(trace: &Trace, tied: Tied) -> Vec<TaskId> {
    let cell = &trace.cell;
    let wanted = |task: &cell::Task| match trace.workload {
        Workload::Running => task.is_running(),
        Workload::All => true,
    };
    cell.tasks()
        .filter(|(_, job, task)| tied.takes(job) && (wanted(task) || job.kind == JobKind::AllocSet))
        .map(|(id, _, _)| id)
        .collect()
}

/// Tasks that wait in the recorded state: those that are pending, and those recorded in an alloc that waits
/// itself; without those tied to a machine, unless the cell is of Kubernetes' objects. A task on a machine
/// that the trace does not describe runs there, out of sight.
#[must_use]
pub fn waiting(recorded: &Snapshot<'_>) -> Vec<TaskId> {
    let is_out_of_sight = |task: &Task| task.state == TaskState::Running { on: None };
    // The recorded state is of all machines.
    let tied = Tied::on(recorded.cell(), true);
    recorded
        .cell()
        .tasks()
        .filter(|(id, job, task)| {
            tied.takes(job) && recorded.placement(*id).is_none() && !is_out_of_sight(task)
        })
        .map(|(id, _, _)| id)
        .collect()
}

/// What a stream of random numbers is for. Each purpose has its own stream, so that a draw more in one
/// shifts no other.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    /// The order in which machines are taken.
    MachineOrder = 1,
    /// Seeds of passes.
    PassSeed = 2,
    /// Tasks that arrive.
    Arrivals = 3,
    /// The optimiser's search.
    Search = 4,
    /// Which tasks run when a batch arrives, and which arrive.
    Batch = 5,
    /// Tasks that leave a packed cell, so that it is fragmented as a running one.
    Churn = 8,
}

/// The generator for a purpose, of trial `trial` of `seed`.
#[must_use]
pub fn generator(seed: u64, purpose: Purpose, trial: u64) -> ChaCha8Rng {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(trial << 8 | purpose as u64);
    generator
}

/// The seed of a trial's passes.
pub(crate) fn pass_seed(seed: u64, trial: u64) -> u64 {
    generator(seed, Purpose::PassSeed, trial).next_u64()
}

/// `clones` copies of all machines, in a random order: any prefix of it keeps the mix of machines.
pub(crate) fn machine_order(cell: &Cell, clones: usize, seed: u64, trial: u64) -> Vec<Slot> {
    let clone_ids = 0..u32::try_from(clones).expect("a handful of clones");
    let mut slots: Vec<Slot> = clone_ids
        .flat_map(|clone| Slot::all(cell).into_iter().map(move |slot| Slot { clone, ..slot }))
        .collect();
    slots.shuffle(&mut generator(seed, Purpose::MachineOrder, trial));
    slots
}

//! A row of a snapshot: what a host has and what is free of it; and what a task takes of that.

use cell::{Cell, GpuRequest, TaskId, Unstated};

use crate::accounting::Accounting;
use crate::amounts::Amounts;
use crate::gpus::Gpus;
use crate::snapshot::Slot;

/// A host: what it has, what is free of it, and what is on it.
#[derive(Clone, Debug)]
pub(crate) struct HostInfo {
    pub slot: Slot,
    /// Row of the machine, for an alloc; its own row, for a machine.
    pub machine_row: usize,
    /// The alloc, if it is one.
    pub alloc: Option<TaskId>,
    pub capacity: Amounts,
    pub free: Amounts,
    /// What production's limits may add up to, and what is left of that. Of production's envelope it is
    /// the alloc's limit, which is more than the alloc is charged.
    pub prod_capacity: Amounts,
    pub prod_free: Amounts,
    /// Charged by production tasks, and by the others, in the account that all share.
    pub charged_prod: Amounts,
    pub charged_other: Amounts,
    pub gpus: Gpus,
    /// Index of its capacity among the distinct capacities.
    pub shape: u32,
    /// Whether the machine takes nothing new; said on the machine's own row alone.
    pub is_closed: bool,
    /// What is placed on it.
    pub tasks: Vec<TaskId>,
}

/// What a task asks for under an accounting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Demand {
    /// Charged in the account that all tasks share.
    pub charge: Amounts,
    /// For production under Borg's rule: the limit, which must fit beside production's other limits.
    pub prod_limit: Option<Amounts>,
    pub gpu: GpuRequest,
    pub is_prod: bool,
    /// What it does not state, which Kubernetes' scores tell from 0.
    pub unstated: Unstated,
}

impl HostInfo {
    /// Charges a task.
    pub(crate) fn take(&mut self, demand: &Demand) {
        self.free.subtract(demand.charge);
        self.prod_free.subtract(demand.prod_limit.unwrap_or_default());
        self.charged(demand).add(demand.charge);
    }

    /// Gives back what a task was charged.
    pub(crate) fn give_back(&mut self, demand: &Demand) {
        self.free.add(demand.charge);
        self.prod_free.add(demand.prod_limit.unwrap_or_default());
        self.charged(demand).subtract(demand.charge);
    }

    fn charged(&mut self, demand: &Demand) -> &mut Amounts {
        if demand.is_prod { &mut self.charged_prod } else { &mut self.charged_other }
    }
}

impl Demand {
    /// What a task of a cell asks for.
    pub(crate) fn of(cell: &Cell, accounting: Accounting, id: TaskId) -> Self {
        let task = cell.task(id);
        let is_prod = cell.job(id.job).priority.band().is_prod();
        let is_promised = is_prod && accounting.keeps_limits_apart();
        Self {
            charge: Amounts::of(&accounting.charge(task)),
            prod_limit: is_promised.then(|| Amounts::of(&task.limit)),
            gpu: task.limit.gpu,
            is_prod,
            unstated: task.limit.unstated,
        }
    }
}

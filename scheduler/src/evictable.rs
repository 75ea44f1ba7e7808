//! Who on a host could be preempted, in the order in which they would go: kept for each host, because every
//! class that looks for victims asks the same.
//!
//! In: a snapshot, and word of each row that changed. Out: for a row the tasks below production, from the
//! lowest priority up, of equal priority the largest first; and what each priority gives back, from which a
//! few comparisons tell how little a preemption there could matter. An alloc counts as the most important of
//! itself and of what runs in it.

use std::collections::BTreeMap;

use cell::{GpuRequest, JobId, Priority, TaskId};

use crate::snapshot::{Amounts, Snapshot};

/// A task, or an alloc with what runs in it, that may have to leave its host.
#[derive(Clone, Debug)]
pub(crate) struct Evictable {
    pub task: TaskId,
    /// Its priority; of an alloc, the highest of its own and of what runs in it.
    pub importance: Priority,
    /// What its host gets back. Nothing of the account of production's limits, where it has no part.
    pub charge: Amounts,
    pub gpu: GpuRequest,
    pub gpu_devices: u16,
    /// How many tasks of each job that has a limit on disruption would be evicted.
    pub disrupts: Box<[(JobId, u32)]>,
}

impl Evictable {
    /// Whether another would be missed by nobody who would not miss this one, and leaves as much.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let of = |of: &Self| (of.importance, of.charge, of.gpu, of.gpu_devices);
        of(self) == of(other) && self.disrupts == other.disrupts
    }
}

/// All of the same importance on a host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Level {
    pub importance: Priority,
    /// What the host gets back from these and from all that matter less.
    sum: Amounts,
    /// The most that one of these gives back, of each resource by itself.
    most: Amounts,
    /// The same of these and of all that matter less.
    most_so_far: Amounts,
}

impl Level {
    /// Whether those up to here give back what is missing.
    pub(crate) fn is_enough(&self, missing: Amounts) -> bool {
        covers(self.sum, missing)
    }

    /// No fewer victims give back what is missing, if one of them is of this level.
    pub(crate) fn least_count(&self, missing: Amounts) -> u64 {
        if covers(self.most, missing) {
            return 1;
        }
        let most = self.most_so_far;
        let of_each = [(missing.cpu, most.cpu), (missing.ram, most.ram), (missing.disk, most.disk)];
        let times = |(missing, most): (i64, i64)| {
            missing.unsigned_abs().div_ceil(most.max(1).unsigned_abs())
        };
        of_each.into_iter().filter(|(missing, most)| missing > most).map(times).fold(2, u64::max)
    }
}

fn covers(amounts: Amounts, missing: Amounts) -> bool {
    (amounts.cpu >= missing.cpu) & (amounts.ram >= missing.ram) & (amounts.disk >= missing.disk)
}

/// Who could be preempted on a host.
#[derive(Clone, Debug, Default)]
pub(crate) struct OfHost {
    /// In the order in which they would go.
    pub all: Box<[Evictable]>,
    /// Ascending.
    pub levels: Box<[Level]>,
}

impl OfHost {
    /// Those that matter less than a priority.
    pub(crate) fn below(&self, priority: Priority) -> &[Evictable] {
        &self.all[..self.all.partition_point(|of| of.importance < priority)]
    }
}

/// Who could be preempted, by row; worked out when first asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evictables {
    of_row: Vec<Option<OfHost>>,
}

impl Evictables {
    /// To be told when what is placed on a row changed, or what is placed in one of its allocs.
    pub(crate) fn forget(&mut self, row: usize) {
        if let Some(of_row) = self.of_row.get_mut(row) {
            *of_row = None;
        }
    }

    /// All on a row.
    pub(crate) fn on(&mut self, snapshot: &Snapshot<'_>, row: usize) -> &OfHost {
        if self.of_row.len() <= row {
            self.of_row.resize(snapshot.hosts.len(), None);
        }
        self.of_row[row].get_or_insert_with(|| {
            let all = on(snapshot, row);
            let levels = levels(&all);
            OfHost { all, levels }
        })
    }
}

/// What each importance gives back.
fn levels(all: &[Evictable]) -> Box<[Level]> {
    let mut sum = Amounts::default();
    let mut most_so_far = Amounts::default();
    let of_level = |alike: &[Evictable]| {
        let mut most = Amounts::default();
        for of in alike {
            sum.add(of.charge);
            most = larger(most, of.charge);
        }
        most_so_far = larger(most_so_far, most);
        Level { importance: alike[0].importance, sum, most, most_so_far }
    };
    all.chunk_by(|a, b| a.importance == b.importance).map(of_level).collect()
}

fn larger(a: Amounts, b: Amounts) -> Amounts {
    Amounts { cpu: a.cpu.max(b.cpu), ram: a.ram.max(b.ram), disk: a.disk.max(b.disk) }
}

fn on(snapshot: &Snapshot<'_>, row: usize) -> Box<[Evictable]> {
    let mut all: Vec<Evictable> = snapshot
        .tasks_on(row)
        .iter()
        .map(|&task| (task, importance(snapshot, task)))
        .filter(|(_, importance)| !importance.band().is_prod())
        .map(|(task, importance)| {
            let placed = snapshot.placed(task).expect("it is on the row");
            let demand = &placed.demand;
            Evictable {
                task,
                importance,
                charge: demand.charge,
                gpu: demand.gpu,
                gpu_devices: placed.at().gpu_devices,
                disrupts: disrupts(snapshot, task),
            }
        })
        .collect();
    all.sort_unstable_by_key(|of| {
        (of.importance, std::cmp::Reverse((of.charge.cpu, of.charge.ram)), of.task)
    });
    all.into()
}

fn importance(snapshot: &Snapshot<'_>, task: TaskId) -> Priority {
    let of = |task: TaskId| snapshot.cell.job(task.job).priority;
    snapshot.tasks_in(task).iter().map(|&inner| of(inner)).fold(of(task), Priority::max)
}

fn disrupts(snapshot: &Snapshot<'_>, task: TaskId) -> Box<[(JobId, u32)]> {
    let mut counts: BTreeMap<JobId, u32> = BTreeMap::new();
    for of in std::iter::once(&task).chain(snapshot.tasks_in(task)) {
        if snapshot.cell.job(of.job).max_disrupted.is_some() {
            *counts.entry(of.job).or_default() += 1;
        }
    }
    counts.into_iter().collect()
}

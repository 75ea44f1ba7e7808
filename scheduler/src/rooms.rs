//! What is free where and what runs where, without the cell that it is of: the part of a
//! [`Snapshot`](crate::Snapshot) that the owner of a changing cell keeps from pass to pass.
//!
//! In: placements, removals, new charges, machines that close and open; each costs what it changes, and no
//! look at other tasks. Each placement keeps what its task was charged, so that a task can be removed after
//! the cell changed it or dropped it. Out: sums, which are integers and never drift.
//!
//! Machines are as they were when the rooms were made: one that is new, or has another capacity or failure
//! domain, asks for a new [`Snapshot::recorded`](crate::Snapshot::recorded). Jobs come and go in any slot of
//! the cell; before a slot is used for another job, what ran of the old one has to be removed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cell::{Cell, CowVec, GPU_DEVICE, JobId, JobKind, TaskId};

use crate::accounting::Accounting;
use crate::amounts::{Amounts, DISK_UNSTATED, exact};
use crate::gpus::Gpus;
use crate::host::{Demand, HostInfo};
use crate::job_state::Domains;
use crate::snapshot::{Placement, Slot};

/// Hosts, what is free on them, and what runs where.
#[derive(Clone, Debug)]
pub struct Rooms {
    pub(crate) accounting: Accounting,
    pub(crate) hosts: Vec<HostInfo>,
    /// Number of rows that are machines; allocs follow.
    pub(crate) machine_count: usize,
    /// Distinct capacities (CPU, RAM), by shape.
    pub(crate) shapes: Vec<(i64, i64)>,
    /// Whether scores must look at more than CPU and RAM: some machine states a disk, has GPUs, or lacks
    /// one of the two.
    pub(crate) is_wide: bool,
    pub(crate) domains: Domains,
    /// By slot of the job; as long as there was use for.
    jobs: Vec<OfJob>,
    /// Rows of the allocs of each alloc set that have a place, ascending.
    alloc_rows: BTreeMap<JobId, Vec<usize>>,
    alloc_row_of: BTreeMap<TaskId, usize>,
    dead_row_count: usize,
}

/// What is placed of a job.
#[derive(Clone, Debug, Default)]
struct OfJob {
    /// By position of the task; as long as there was use for.
    placed: CowVec<Option<Placed>>,
    /// What the last of its tasks was charged: most likely the next is charged the same.
    last: Option<Arc<Demand>>,
}

/// A task that has a place.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    row: u32,
    gpu_devices: u16,
    /// What it is charged there, shared by tasks that are alike.
    pub demand: Arc<Demand>,
}

impl OfJob {
    fn share(&mut self, demand: Demand) -> Arc<Demand> {
        match &self.last {
            Some(last) if **last == demand => Arc::clone(last),
            _ => Arc::clone(self.last.insert(Arc::new(demand))),
        }
    }
}

impl Placed {
    pub(crate) fn at(&self) -> Placement {
        Placement { row: self.row as usize, gpu_devices: self.gpu_devices }
    }
}

impl Rooms {
    pub(crate) fn new(accounting: Accounting, machine_count: usize, is_wide: bool) -> Self {
        Self {
            accounting,
            hosts: Vec::with_capacity(machine_count),
            machine_count,
            shapes: Vec::new(),
            is_wide,
            domains: Domains::default(),
            jobs: Vec::new(),
            alloc_rows: BTreeMap::new(),
            alloc_row_of: BTreeMap::new(),
            dead_row_count: 0,
        }
    }

    pub(crate) fn push_host(
        &mut self,
        machine_row: usize,
        slot: Slot,
        alloc: Option<TaskId>,
        capacity: Amounts,
        gpu_count: u32,
        shape: usize,
    ) {
        if shape == self.shapes.len() {
            self.shapes.push((capacity.cpu, capacity.ram));
        }
        self.hosts.push(HostInfo {
            slot,
            machine_row,
            alloc,
            capacity,
            free: capacity,
            prod_capacity: capacity,
            prod_free: capacity,
            charged_prod: Amounts::default(),
            charged_other: Amounts::default(),
            gpus: Gpus::new(gpu_count),
            shape: u32::try_from(shape).expect("fewer shapes than rows"),
            is_closed: false,
            tasks: Vec::new(),
        });
    }

    /// Number of machines.
    #[must_use]
    pub fn machine_count(&self) -> usize {
        self.machine_count
    }

    /// The accounting by which tasks are charged.
    #[must_use]
    pub fn accounting(&self) -> Accounting {
        self.accounting
    }

    /// Which machine a row stands for; for an alloc, the machine it is on.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn slot(&self, row: usize) -> Slot {
        self.hosts[row].slot
    }

    /// The alloc that a row stands for, or `None` for a machine.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn alloc(&self, row: usize) -> Option<TaskId> {
        self.hosts[row].alloc
    }

    /// The tasks and allocs placed on a row.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn tasks_on(&self, row: usize) -> &[TaskId] {
        &self.hosts[row].tasks
    }

    /// Free fraction of each resource that the host has, in the account that all tasks share: CPU, RAM,
    /// disk, GPU; below 0 where it is over-committed, `None` where it has none or does not state it.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn free_fractions(&self, row: usize) -> [Option<f64>; 4] {
        let host = &self.hosts[row];
        let fraction =
            |free: i64, capacity: i64| (capacity > 0).then(|| exact(free) / exact(capacity));
        let disk = (host.capacity.disk != DISK_UNSTATED)
            .then(|| fraction(host.free.disk, host.capacity.disk))
            .flatten();
        let gpu = (host.gpus.count > 0)
            .then(|| f64::from(host.gpus.free_total()) / f64::from(host.gpus.count * 1000));
        [
            fraction(host.free.cpu, host.capacity.cpu),
            fraction(host.free.ram, host.capacity.ram),
            disk,
            gpu,
        ]
    }

    /// Capacity of each resource: CPU in milli-cores, RAM and disk in bytes, GPU in milli-GPU; 0 where
    /// the host has none or does not state it.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn capacities(&self, row: usize) -> [f64; 4] {
        let host = &self.hosts[row];
        let disk = if host.capacity.disk == DISK_UNSTATED { 0 } else { host.capacity.disk };
        [
            exact(host.capacity.cpu),
            exact(host.capacity.ram),
            exact(disk),
            f64::from(host.gpus.count * 1000),
        ]
    }

    /// What is free on a host: CPU in milli-cores, RAM and disk in bytes, GPU in milli-GPU over all devices;
    /// then what production's limits leave of CPU and RAM. Below 0 where it is over-committed;
    /// [`i64::MAX`] for a disk that is not stated.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn free(&self, row: usize) -> [i64; 6] {
        let HostInfo { free, prod_free, gpus, .. } = &self.hosts[row];
        let disk = if free.disk > DISK_UNSTATED / 2 { i64::MAX } else { free.disk };
        [free.cpu, free.ram, disk, i64::from(gpus.free_total()), prod_free.cpu, prod_free.ram]
    }

    /// The GPU devices of a host.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn gpus(&self, row: usize) -> Gpus {
        self.hosts[row].gpus
    }

    /// The row of an alloc, onto which what runs in it is placed; `None` while it has no place.
    #[must_use]
    pub fn row_of_alloc(&self, alloc: TaskId) -> Option<usize> {
        self.alloc_row_of.get(&alloc).copied()
    }

    /// Where a task is; `None` while it has no place.
    #[must_use]
    pub fn placement(&self, task: TaskId) -> Option<Placement> {
        self.placed(task).map(Placed::at)
    }

    pub(crate) fn placed(&self, task: TaskId) -> Option<&Placed> {
        self.jobs.get(task.job.index())?.placed.get(task.position as usize)?.as_ref()
    }

    /// Rows of allocs that lost their place. They host nothing, and stay so that rows keep their numbers:
    /// once they are many, it is time for a new [`Snapshot::recorded`](crate::Snapshot::recorded).
    #[must_use]
    pub fn dead_row_count(&self) -> usize {
        self.dead_row_count
    }

    /// Whether the machine of a row takes nothing new.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn is_closed(&self, row: usize) -> bool {
        self.hosts[self.hosts[row].machine_row].is_closed
    }

    /// Lets a machine take nothing new, neither where there is room nor by preemption: it is down, or being
    /// drained. What runs there and in allocs there stays placed, and [`Rooms::place_recorded`] still works.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn close(&mut self, row: usize) {
        let machine_row = self.hosts[row].machine_row;
        self.hosts[machine_row].is_closed = true;
    }

    /// Lets a machine take tasks again.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn open(&mut self, row: usize) {
        let machine_row = self.hosts[row].machine_row;
        self.hosts[machine_row].is_closed = false;
    }

    /// Rows of an alloc set's allocs that have a place, ascending.
    pub(crate) fn alloc_rows(&self, alloc_set: JobId) -> &[usize] {
        self.alloc_rows.get(&alloc_set).map_or(&[], Vec::as_slice)
    }

    /// What runs in an alloc; nothing for a task, and for an alloc without a place.
    pub(crate) fn tasks_in(&self, alloc: TaskId) -> &[TaskId] {
        self.alloc_row_of.get(&alloc).map_or(&[], |&row| &self.hosts[row].tasks)
    }

    /// Puts a task where it is recorded to run, fitting or not, on these GPU devices, one bit each; `None`:
    /// the fullest that will do. Devices that do not fit are not taken, nor are any where none do.
    ///
    /// # Panics
    /// If it has a place already, or the cell has no such task.
    pub fn place_recorded(&mut self, cell: &Cell, task: TaskId, row: usize, devices: Option<u16>) {
        let demand = Demand::of(cell, self.accounting, task);
        let gpus = &self.hosts[row].gpus;
        let gpu_devices = match devices {
            Some(devices) if gpus.fits_on(devices, demand.gpu) => devices,
            Some(_) => 0,
            None => gpus.choose(demand.gpu).unwrap_or_default(),
        };
        self.put(cell, task, demand, Placement { row, gpu_devices });
    }

    /// Puts a task that asks for `demand` somewhere, on devices that fit.
    pub(crate) fn put(&mut self, cell: &Cell, task: TaskId, demand: Demand, at: Placement) {
        let Placement { row, gpu_devices } = at;
        let job = cell.job(task.job);
        if self.jobs.len() <= task.job.index() {
            self.jobs.resize(cell.jobs.len(), OfJob::default());
        }
        let of_job = &mut self.jobs[task.job.index()];
        if of_job.placed.len() < job.tasks.len() {
            of_job.placed.resize(job.tasks.len(), None);
        }
        let shared = of_job.share(demand);
        let placed = &mut of_job.placed[task.position as usize];
        assert!(placed.is_none(), "{} runs already", cell.task_name(task));
        let numbered = u32::try_from(row).expect("fewer than 2^32 hosts");
        *placed = Some(Placed { row: numbered, gpu_devices, demand: shared });
        let host = &mut self.hosts[row];
        host.gpus.take(gpu_devices, demand.gpu);
        host.take(&demand);
        host.tasks.push(task);
        if job.kind == JobKind::AllocSet {
            self.push_alloc(task, row, &demand);
        }
    }

    /// Envelopes are charged like machines: what runs inside is charged by the same accounting, so the
    /// envelope's capacity is what its alloc was charged.
    fn push_alloc(&mut self, alloc: TaskId, host: usize, demand: &Demand) {
        let HostInfo { machine_row, slot, .. } = self.hosts[host];
        // Whole devices of an envelope are devices of its own.
        let gpu_count = if demand.gpu.milli_each == GPU_DEVICE { demand.gpu.count } else { 0 };
        let row = self.hosts.len();
        let shape = self.shape_of(demand.charge);
        self.push_host(machine_row, slot, Some(alloc), demand.charge, gpu_count, shape);
        self.domains.push_alloc(row, machine_row);
        if let Some(limit) = demand.prod_limit {
            self.hosts[row].prod_capacity = limit;
            self.hosts[row].prod_free = limit;
        }
        self.alloc_rows.entry(alloc.job).or_default().push(row);
        self.alloc_row_of.insert(alloc, row);
    }

    /// The number of a capacity among the distinct ones, or the next that is free.
    fn shape_of(&self, capacity: Amounts) -> usize {
        let of = (capacity.cpu, capacity.ram);
        self.shapes.iter().position(|&known| known == of).unwrap_or(self.shapes.len())
    }

    /// Takes a task off its host, and with an alloc everything in it. Returns the tasks that lost their
    /// place, the given one last.
    ///
    /// # Panics
    /// If it has no place.
    pub fn remove(&mut self, task: TaskId) -> Vec<TaskId> {
        let mut removed = Vec::new();
        if let Some(alloc_row) = self.alloc_row_of.remove(&task) {
            for inner in self.hosts[alloc_row].tasks.clone() {
                removed.extend(self.remove(inner));
            }
            // The row stays, so that rows keep their numbers, but no longer hosts anything.
            self.hosts[alloc_row].free = Amounts { cpu: -1, ram: -1, disk: -1 };
            self.hosts[alloc_row].gpus = Gpus::default();
            self.alloc_rows.entry(task.job).or_default().retain(|&row| row != alloc_row);
            self.dead_row_count += 1;
        }
        let of_job = self.jobs.get_mut(task.job.index());
        let placed = of_job.and_then(|of_job| of_job.placed.get_mut(task.position as usize));
        let placed = placed.and_then(Option::take).expect("the task has a place");
        let (at, demand) = (placed.at(), placed.demand);
        let host = &mut self.hosts[at.row];
        host.gpus.give_back(at.gpu_devices, demand.gpu);
        host.give_back(&demand);
        host.tasks.retain(|&other| other != task);
        removed.push(task);
        removed
    }

    /// Charges a task by what the cell says of it now: its reservation, its limit or its priority changed.
    /// An alloc's envelope changes with it. GPU devices stay as they are.
    ///
    /// # Panics
    /// If it has no place, or the cell has no such task.
    pub fn recharge(&mut self, cell: &Cell, task: TaskId) {
        let accounting = self.accounting;
        let placed = self.placed(task).expect("the task has a place");
        let (row, was) = (placed.at().row, *placed.demand);
        let demand = Demand { gpu: was.gpu, ..Demand::of(cell, accounting, task) };
        let of_job = &mut self.jobs[task.job.index()];
        let shared = of_job.share(demand);
        if let Some(placed) = &mut of_job.placed[task.position as usize] {
            placed.demand = shared;
        }
        let host = &mut self.hosts[row];
        host.give_back(&was);
        host.take(&demand);
        if let Some(&row) = self.alloc_row_of.get(&task) {
            let shape = self.shape_of(demand.charge);
            if shape == self.shapes.len() {
                self.shapes.push((demand.charge.cpu, demand.charge.ram));
            }
            let prod_capacity = demand.prod_limit.unwrap_or(demand.charge);
            let envelope = &mut self.hosts[row];
            envelope.shape = u32::try_from(shape).expect("fewer shapes than rows");
            envelope.free.subtract(envelope.capacity);
            envelope.free.add(demand.charge);
            envelope.capacity = demand.charge;
            envelope.prod_free.subtract(envelope.prod_capacity);
            envelope.prod_free.add(prod_capacity);
            envelope.prod_capacity = prod_capacity;
        }
    }

    /// Recomputes every sum from the placements, and says what differs: `None` where all agree.
    ///
    /// For tests and for checking a state that came from elsewhere; it is as slow as it is simple.
    #[must_use]
    pub fn check_sums(&self) -> Option<String> {
        let mut on_row: Vec<BTreeSet<TaskId>> = vec![BTreeSet::new(); self.hosts.len()];
        for (job, of_job) in self.jobs.iter().enumerate() {
            for (placed, position) in of_job.placed.iter().zip(0..) {
                if let Some(placed) = placed {
                    on_row[placed.at().row]
                        .insert(TaskId { job: JobId::from_index(job), position });
                }
            }
        }
        let mut dead_row_count = 0;
        for (row, host) in self.hosts.iter().enumerate() {
            // The row of an alloc that lost its place, and may have found another.
            if host.alloc.is_some_and(|alloc| self.alloc_row_of.get(&alloc) != Some(&row)) {
                dead_row_count += 1;
                continue;
            }
            let listed: BTreeSet<TaskId> = host.tasks.iter().copied().collect();
            if listed != on_row[row] || listed.len() != host.tasks.len() {
                return Some(format!("row {row}: the list of tasks differs from the placements"));
            }
            let mut expected = HostInfo {
                free: host.capacity,
                prod_free: host.prod_capacity,
                charged_prod: Amounts::default(),
                charged_other: Amounts::default(),
                gpus: Gpus::new(host.gpus.count),
                ..host.clone()
            };
            for placed in host.tasks.iter().filter_map(|&task| self.placed(task)) {
                expected.take(&placed.demand);
                expected.gpus.take(placed.gpu_devices, placed.demand.gpu);
            }
            let sums =
                |of: &HostInfo| (of.free, of.prod_free, of.charged_prod, of.charged_other, of.gpus);
            if sums(&expected) != sums(host) {
                return Some(format!("row {row}: sums differ from those of its tasks"));
            }
            let alloc = host.alloc.and_then(|alloc| self.placed(alloc));
            if alloc.is_some_and(|alloc| alloc.demand.charge != host.capacity) {
                return Some(format!("row {row}: the envelope differs from its alloc's charge"));
            }
        }
        (dead_row_count != self.dead_row_count).then(|| "dead rows are miscounted".to_owned())
    }
}

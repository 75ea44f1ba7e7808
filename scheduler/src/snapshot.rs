//! What a scheduling pass sees of a cell: hosts with what is free on them, and what runs where.
//!
//! A *host* is a machine, or an alloc that has a place: tasks of a job in an alloc set are placed on the
//! allocs of that set, and draw on the envelope instead of the machine. Hosts are rows, dense and in a
//! given order: machines first, then allocs as they are placed.
//!
//! In: a [`Cell`], the machines to use (any subset, in any order, cloned if need be) and an
//! [`Accounting`]. It changes by [`Snapshot::place`] and [`Snapshot::remove`] alone; sums are integers,
//! so that they never drift.

use std::collections::{BTreeMap, BTreeSet};

use cell::{
    Capacity, Cell, GPU_DEVICE, GPU_DEVICE_COUNT_MAX, GpuRequest, Host, JobId, JobKind, MachineId,
    Resources, TaskId, TaskState, Unstated,
};

use crate::accounting::Accounting;
use crate::job_state::Domains;

/// A machine as a row of a snapshot: cell compaction also packs onto copies of a cell's machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// The machine.
    pub machine: MachineId,
    /// Which copy of it, 0 for the machine itself. Copies share no failure domain.
    pub clone: u32,
}

impl Slot {
    /// All machines of a cell, in its order.
    #[must_use]
    pub fn all(cell: &Cell) -> Vec<Self> {
        (0..cell.machines.len())
            .map(|index| Self { machine: MachineId::from_index(index), clone: 0 })
            .collect()
    }
}

/// Where a task is, and on which of the host's GPU devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Row of the host.
    pub row: usize,
    /// One bit a GPU device.
    pub gpu_devices: u16,
}

/// The two or three amounts that are divisible: CPU in milli-cores, RAM and disk in bytes.
///
/// Signed, because a recorded state may be over-committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Amounts {
    pub cpu: i64,
    pub ram: i64,
    pub disk: i64,
}

/// Stands for the disk of a machine that does not state any: hundreds of the largest limits there can be
/// leave more than half of it.
pub(crate) const DISK_UNSTATED: i64 = 1 << 62;

impl Amounts {
    pub(crate) fn of(resources: &Resources) -> Self {
        let signed = |amount: u64| i64::try_from(amount).expect("quantities are below 2^53");
        Self {
            cpu: signed(resources.cpu.0),
            ram: signed(resources.ram.0),
            disk: signed(resources.disk.0),
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.cpu += other.cpu;
        self.ram += other.ram;
        self.disk += other.disk;
    }

    pub(crate) fn subtract(&mut self, other: Self) {
        self.cpu -= other.cpu;
        self.ram -= other.ram;
        self.disk -= other.disk;
    }
}

/// How many tasks with GPUs are on a host, by what they have of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GpuTally {
    /// Tasks with a share of one device.
    pub shares: u16,
    /// Tasks with so many whole devices, from one on.
    pub whole: [u8; GPU_DEVICE_COUNT_MAX],
}

impl GpuTally {
    /// How many kinds of tasks there are: those with a share, with one device, with two, and so on.
    pub(crate) fn kind_count(&self) -> usize {
        usize::from(self.shares > 0) + self.whole.iter().filter(|&&tasks| tasks > 0).count()
    }

    /// How many tasks are of the same kind as one with this request.
    pub(crate) fn like(&self, request: GpuRequest) -> u16 {
        match request.count {
            0 => 0,
            _ if request.milli_each < GPU_DEVICE => self.shares,
            count => u16::from(self.whole[count as usize - 1]),
        }
    }

    fn count(&mut self, request: GpuRequest, change: impl Fn(u16) -> u16) {
        if request.milli_each < GPU_DEVICE {
            self.shares = change(self.shares);
        } else {
            let tasks = &mut self.whole[request.count as usize - 1];
            *tasks = u8::try_from(change(u16::from(*tasks))).expect("one task a device at most");
        }
    }
}

/// The GPU devices of a host, each with what is free of it in milli-GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gpus {
    pub(crate) count: u32,
    pub(crate) free: [u16; GPU_DEVICE_COUNT_MAX],
    pub(crate) tally: GpuTally,
}

impl Gpus {
    #[expect(clippy::cast_possible_truncation, reason = "a device is 1000 milli-GPU")]
    const WHOLE: u16 = GPU_DEVICE.0 as u16;

    fn new(count: u32) -> Self {
        let mut free = [0; GPU_DEVICE_COUNT_MAX];
        free[..count as usize].fill(Self::WHOLE);
        Self { count, free, tally: GpuTally::default() }
    }

    /// What is free of each device, in milli-GPU, 0..=1000.
    #[must_use]
    pub fn devices(&self) -> &[u16] {
        &self.free[..self.count as usize]
    }

    /// Free milli-GPU over all devices.
    #[must_use]
    pub fn free_total(&self) -> u32 {
        self.devices().iter().map(|&free| u32::from(free)).sum()
    }

    /// The devices that a task would get, as bits: for a share the fullest device that has room (so
    /// that fragments stay together), for whole devices the first that are free. `None`: no room.
    #[must_use]
    pub fn choose(&self, request: GpuRequest) -> Option<u16> {
        let milli = request.milli_each.0;
        let fits = |&(_, free): &(usize, &u16)| u64::from(*free) >= milli;
        match request.count {
            0 => Some(0),
            1 => {
                let (device, _) =
                    self.devices().iter().enumerate().filter(fits).min_by_key(|&(_, free)| free)?;
                Some(1 << device)
            }
            count => {
                let chosen: Vec<usize> = self
                    .devices()
                    .iter()
                    .enumerate()
                    .filter(fits)
                    .map(|(device, _)| device)
                    .take(count as usize)
                    .collect();
                (chosen.len() == count as usize)
                    .then(|| chosen.iter().fold(0, |bits, device| bits | 1 << device))
            }
        }
    }

    /// Whether a request fits on exactly these devices.
    fn fits_on(&self, devices: u16, request: GpuRequest) -> bool {
        let chosen = || (0..self.count as usize).filter(|device| devices & (1 << device) != 0);
        devices.count_ones() == request.count
            && chosen().count() == request.count as usize
            && chosen().all(|device| u64::from(self.free[device]) >= request.milli_each.0)
    }

    /// Takes a request off these devices, as [`Gpus::choose`] chose them.
    pub fn take(&mut self, devices: u16, request: GpuRequest) {
        self.each(devices, |free| *free -= Self::share(request));
        if devices != 0 {
            self.tally.count(request, |tasks| tasks + 1);
        }
    }

    /// Gives back what a request took.
    pub fn give_back(&mut self, devices: u16, request: GpuRequest) {
        self.each(devices, |free| *free += Self::share(request));
        if devices != 0 {
            self.tally.count(request, |tasks| tasks - 1);
        }
    }

    fn share(request: GpuRequest) -> u16 {
        u16::try_from(request.milli_each.0).expect("a share is at most one device")
    }

    fn each(&mut self, devices: u16, change: impl Fn(&mut u16)) {
        for device in 0..self.count as usize {
            if devices & (1 << device) != 0 {
                change(&mut self.free[device]);
            }
        }
    }
}

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

/// Hosts, what is free on them, and what runs where.
#[derive(Clone, Debug)]
pub struct Snapshot<'c> {
    pub(crate) cell: &'c Cell,
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
    placements: Vec<Option<Placement>>,
    /// Where the tasks of each job start in `placements`.
    task_offsets: Vec<usize>,
    /// Rows of the allocs of each alloc set that have a place, ascending.
    alloc_rows: BTreeMap<JobId, Vec<usize>>,
    alloc_row_of: BTreeMap<TaskId, usize>,
}

impl<'c> Snapshot<'c> {
    /// An empty cell: the machines in `slots`, in that order, with nothing placed.
    #[must_use]
    pub fn empty(cell: &'c Cell, slots: &[Slot], accounting: Accounting) -> Self {
        let mut task_offsets = Vec::with_capacity(cell.jobs.len());
        let mut task_count = 0;
        for job in &cell.jobs {
            task_offsets.push(task_count);
            task_count += job.tasks.len();
        }
        let mut snapshot = Self {
            cell,
            accounting,
            hosts: Vec::with_capacity(slots.len()),
            machine_count: slots.len(),
            shapes: Vec::new(),
            is_wide: cell.machines.iter().any(|machine| {
                let Capacity { cpu, ram, disk, gpu_count } = &machine.capacity;
                disk.is_some() || *gpu_count > 0 || cpu.0 == 0 || ram.0 == 0
            }),
            domains: Domains::new(cell, slots),
            placements: vec![None; task_count],
            task_offsets,
            alloc_rows: BTreeMap::new(),
            alloc_row_of: BTreeMap::new(),
        };
        let mut shapes = BTreeMap::new();
        for (row, &slot) in slots.iter().enumerate() {
            let capacity = &cell.machine(slot.machine).capacity;
            let mut amounts = Amounts::of(&Resources {
                cpu: capacity.cpu,
                ram: capacity.ram,
                disk: capacity.disk.unwrap_or_default(),
                ..Resources::default()
            });
            if capacity.disk.is_none() {
                amounts.disk = DISK_UNSTATED;
            }
            snapshot.push_host(row, slot, None, amounts, capacity.gpu_count, &mut shapes);
        }
        snapshot
    }

    /// The recorded state: every running task with a known host is placed where it runs, whether or not
    /// it fits.
    ///
    /// # Panics
    /// If a machine that a task runs on is not in `slots`.
    #[must_use]
    pub fn recorded(cell: &'c Cell, slots: &[Slot], accounting: Accounting) -> Self {
        let mut snapshot = Self::empty(cell, slots, accounting);
        let row_of: BTreeMap<MachineId, usize> =
            slots.iter().enumerate().map(|(row, slot)| (slot.machine, row)).collect();
        // Allocs first, so that what runs in them finds its host.
        for wanted in [JobKind::AllocSet, JobKind::Job] {
            for (id, job, task) in cell.tasks() {
                let TaskState::Running { on: Some(host) } = task.state else { continue };
                if job.kind != wanted {
                    continue;
                }
                let row = match host {
                    Host::Machine(machine) => {
                        Some(*row_of.get(&machine).expect("the machine is in the snapshot"))
                    }
                    // An alloc that itself waits for a place hosts nothing.
                    Host::Alloc(alloc) => snapshot.alloc_row_of.get(&alloc).copied(),
                };
                if let Some(row) = row {
                    snapshot.place_recorded(id, row);
                }
            }
        }
        snapshot
    }

    fn push_host(
        &mut self,
        machine_row: usize,
        slot: Slot,
        alloc: Option<TaskId>,
        capacity: Amounts,
        gpu_count: u32,
        shapes: &mut BTreeMap<(i64, i64), u32>,
    ) {
        let known = u32::try_from(shapes.len()).expect("fewer shapes than rows");
        let shape = *shapes.entry((capacity.cpu, capacity.ram)).or_insert(known);
        if shape == known {
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
            shape,
            tasks: Vec::new(),
        });
    }

    /// Number of machines.
    #[must_use]
    pub fn machine_count(&self) -> usize {
        self.machine_count
    }

    /// The cell that it is of.
    #[must_use]
    pub fn cell(&self) -> &'c Cell {
        self.cell
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

    /// What a task is charged, in the order and the units of [`Snapshot::free`].
    #[must_use]
    pub fn charged(&self, task: TaskId) -> [i64; 6] {
        let Demand { charge, prod_limit, gpu, .. } = self.demand(task);
        let gpu = i64::try_from(gpu.total().0).unwrap_or(i64::MAX);
        let prod = prod_limit.unwrap_or_default();
        [charge.cpu, charge.ram, charge.disk, gpu, prod.cpu, prod.ram]
    }

    /// The row of an alloc, onto which what runs in it is placed; `None` while it has no place.
    #[must_use]
    pub fn row_of_alloc(&self, alloc: TaskId) -> Option<usize> {
        self.alloc_row_of.get(&alloc).copied()
    }

    /// Where a task is; `None` while it has no place.
    #[must_use]
    pub fn placement(&self, task: TaskId) -> Option<Placement> {
        self.placements[self.dense(task)]
    }

    /// Number of tasks and allocs of the cell, placed or not.
    pub(crate) fn task_count(&self) -> usize {
        self.placements.len()
    }

    /// A task's position among all tasks of the cell.
    pub(crate) fn dense(&self, task: TaskId) -> usize {
        self.task_offsets[task.job.index()] + task.position as usize
    }

    /// Rows of an alloc set's allocs that have a place, ascending.
    pub(crate) fn alloc_rows(&self, alloc_set: JobId) -> &[usize] {
        self.alloc_rows.get(&alloc_set).map_or(&[], Vec::as_slice)
    }

    /// What runs in an alloc; nothing for a task, and for an alloc without a place.
    pub(crate) fn tasks_in(&self, alloc: TaskId) -> &[TaskId] {
        self.alloc_row_of.get(&alloc).map_or(&[], |&row| &self.hosts[row].tasks)
    }

    /// What a task asks for.
    pub(crate) fn demand(&self, task: TaskId) -> Demand {
        let limit = self.cell.task(task).limit;
        let is_prod = self.cell.job(task.job).priority.band().is_prod();
        let prod_limit = match self.accounting {
            Accounting::Reclaimed(_) if is_prod => Some(Amounts::of(&limit)),
            Accounting::Limits | Accounting::Reclaimed(_) | Accounting::RightSized(_) => None,
        };
        Demand {
            charge: Amounts::of(&self.accounting.charge(limit)),
            prod_limit,
            gpu: limit.gpu,
            is_prod,
            unstated: limit.unstated,
        }
    }

    /// Puts a task on a row, and on the fullest GPU devices that will do.
    ///
    /// # Panics
    /// If it has a place already or does not fit.
    pub fn place(&mut self, task: TaskId, row: usize) {
        self.place_on(task, row, None);
    }

    /// Puts a task on a row and on these GPU devices, one bit each; `None`: the fullest that will do.
    ///
    /// # Panics
    /// If it has a place already, or does not fit there.
    pub fn place_on(&mut self, task: TaskId, row: usize, devices: Option<u16>) {
        assert!(
            crate::feasible::fits(self, &self.demand(task), row),
            "{} does not fit",
            self.cell.task_name(task)
        );
        if let Some(devices) = devices {
            let request = self.demand(task).gpu;
            assert!(
                self.hosts[row].gpus.fits_on(devices, request),
                "{} does not fit on devices {devices:#b}",
                self.cell.task_name(task)
            );
        }
        self.put(task, row, devices);
    }

    /// Puts a task where it is recorded to run, fitting or not. A GPU request that fits no device takes
    /// none.
    pub(crate) fn place_recorded(&mut self, task: TaskId, row: usize) {
        self.put(task, row, None);
    }

    /// Puts a task back where it was, on the same GPU devices, fitting or not.
    pub(crate) fn restore(&mut self, task: TaskId, placement: Placement) {
        self.put(task, placement.row, Some(placement.gpu_devices));
    }

    fn put(&mut self, task: TaskId, row: usize, devices: Option<u16>) {
        let dense = self.dense(task);
        assert!(self.placements[dense].is_none(), "{} runs already", self.cell.task_name(task));
        let demand = self.demand(task);
        let host = &mut self.hosts[row];
        let gpu_devices = devices.or_else(|| host.gpus.choose(demand.gpu)).unwrap_or_default();
        host.gpus.take(gpu_devices, demand.gpu);
        host.free.subtract(demand.charge);
        if let Some(limit) = demand.prod_limit {
            host.prod_free.subtract(limit);
        }
        let charged = if demand.is_prod { &mut host.charged_prod } else { &mut host.charged_other };
        charged.add(demand.charge);
        host.tasks.push(task);
        let (slot, machine_row) = (host.slot, host.machine_row);
        self.placements[dense] = Some(Placement { row, gpu_devices });
        if self.cell.job(task.job).kind == JobKind::AllocSet {
            let limit = self.cell.task(task).limit;
            // Envelopes are charged like machines: what runs inside is charged by the same accounting,
            // so the envelope's capacity is what its alloc was charged.
            let capacity = Amounts::of(&self.accounting.charge(limit));
            let mut shapes: BTreeMap<(i64, i64), u32> =
                self.shapes.iter().copied().zip(0..).collect();
            // Whole devices of an envelope are devices of its own.
            let gpu_count = if limit.gpu.milli_each == GPU_DEVICE { limit.gpu.count } else { 0 };
            let alloc_row = self.hosts.len();
            self.push_host(machine_row, slot, Some(task), capacity, gpu_count, &mut shapes);
            self.domains.push_alloc(alloc_row, machine_row);
            if let Some(limit) = demand.prod_limit {
                self.hosts[alloc_row].prod_capacity = limit;
                self.hosts[alloc_row].prod_free = limit;
            }
            self.alloc_rows.entry(task.job).or_default().push(alloc_row);
            self.alloc_row_of.insert(task, alloc_row);
        }
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
        }
        let dense = self.dense(task);
        let placement = self.placements[dense].take().expect("the task has a place");
        let demand = self.demand(task);
        let host = &mut self.hosts[placement.row];
        host.gpus.give_back(placement.gpu_devices, demand.gpu);
        host.free.add(demand.charge);
        if let Some(limit) = demand.prod_limit {
            host.prod_free.add(limit);
        }
        let charged = if demand.is_prod { &mut host.charged_prod } else { &mut host.charged_other };
        charged.subtract(demand.charge);
        host.tasks.retain(|&other| other != task);
        removed.push(task);
        removed
    }

    /// Recomputes every sum from the placements, and says what differs: `None` where all agree.
    ///
    /// For tests and for checking a state that came from elsewhere; it is as slow as it is simple.
    #[must_use]
    pub fn check_sums(&self) -> Option<String> {
        let mut on_row: Vec<BTreeSet<TaskId>> = vec![BTreeSet::new(); self.hosts.len()];
        for (id, _, _) in self.cell.tasks() {
            if let Some(placement) = self.placement(id) {
                on_row[placement.row].insert(id);
            }
        }
        for (row, host) in self.hosts.iter().enumerate() {
            // The row of an alloc that lost its place, and may have found another.
            if host.alloc.is_some_and(|alloc| self.alloc_row_of.get(&alloc) != Some(&row)) {
                continue;
            }
            let listed: BTreeSet<TaskId> = host.tasks.iter().copied().collect();
            if listed != on_row[row] || listed.len() != host.tasks.len() {
                return Some(format!("row {row}: the list of tasks differs from the placements"));
            }
            let mut free = host.capacity;
            let mut charged = Amounts::default();
            let mut devices = Gpus::new(host.gpus.count);
            for &task in &host.tasks {
                let demand = self.demand(task);
                free.subtract(demand.charge);
                charged.add(demand.charge);
                let bits = self.placement(task).map_or(0, |placement| placement.gpu_devices);
                devices.take(bits, demand.gpu);
            }
            let mut kept = host.charged_prod;
            kept.add(host.charged_other);
            if free != host.free || charged != kept || devices != host.gpus {
                return Some(format!("row {row}: sums differ from those of its tasks"));
            }
        }
        None
    }
}

/// An integer as a float.
///
/// # Panics
/// If it is not exact, which no quantity that was read is.
pub(crate) fn exact(amount: i64) -> f64 {
    debug_assert!(amount.abs() <= 1 << 53);
    #[expect(clippy::cast_precision_loss, reason = "at most 2^53")]
    {
        amount as f64
    }
}

//! What a scheduling pass sees of a cell: hosts with what is free on them, and what runs where.
//!
//! A *host* is a machine, or an alloc that has a place: tasks of a job in an alloc set are placed on the
//! allocs of that set, and draw on the envelope instead of the machine. Hosts are rows, dense and in a
//! given order: machines first, then allocs as they are placed.
//!
//! In: a [`Cell`], and the machines to use (any subset, in any order, cloned if need be) with an
//! [`Accounting`]; or the [`Rooms`] of an earlier snapshot, kept current while the cell changed. Out: the
//! cell beside its rooms, which change by placing and removing alone.

use std::collections::BTreeMap;
use std::ops::Deref;

use cell::{Capacity, Cell, Host, JobKind, MachineId, Resources, TaskId, TaskState};

use crate::accounting::Accounting;
pub(crate) use crate::amounts::{Amounts, DISK_UNSTATED, exact};
pub use crate::gpus::{GpuTally, Gpus};
pub(crate) use crate::host::{Demand, HostInfo};
use crate::rooms::Rooms;

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

/// A cell with its [`Rooms`], whose reading methods it has too.
#[derive(Clone, Debug)]
pub struct Snapshot<'c> {
    pub(crate) cell: &'c Cell,
    rooms: Rooms,
}

impl Deref for Snapshot<'_> {
    type Target = Rooms;

    fn deref(&self) -> &Rooms {
        &self.rooms
    }
}

impl<'c> Snapshot<'c> {
    /// An empty cell: the machines in `slots`, in that order, with nothing placed.
    #[must_use]
    pub fn empty(cell: &'c Cell, slots: &[Slot], accounting: Accounting) -> Self {
        let is_wide = cell.machines.iter().any(|machine| {
            let Capacity { cpu, ram, disk, gpu_count } = &machine.capacity;
            disk.is_some() || *gpu_count > 0 || cpu.0 == 0 || ram.0 == 0
        });
        let mut rooms = Rooms::new(accounting, slots.len(), is_wide);
        let mut shapes: BTreeMap<(i64, i64), usize> = BTreeMap::new();
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
            let known = shapes.len();
            let shape = *shapes.entry((amounts.cpu, amounts.ram)).or_insert(known);
            rooms.push_host(row, slot, None, amounts, capacity.gpu_count, shape);
        }
        let snapshot = Self { cell, rooms };
        // What will be asked for is worked out before the snapshot is cloned.
        for spread in cell.jobs.iter().flat_map(|job| &job.spread) {
            snapshot.domains.make(&snapshot, spread.domain);
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
                    Host::Alloc(alloc) => snapshot.row_of_alloc(alloc),
                };
                if let Some(row) = row {
                    snapshot.place_recorded(id, row, None);
                }
            }
        }
        snapshot
    }

    /// The snapshot of a cell whose rooms were kept current while it changed. Costs nothing.
    #[must_use]
    pub fn resume(cell: &'c Cell, rooms: Rooms) -> Self {
        Self { cell, rooms }
    }

    /// The rooms, to keep while the cell changes. Costs nothing.
    #[must_use]
    pub fn into_rooms(self) -> Rooms {
        self.rooms
    }

    /// The cell that it is of.
    #[must_use]
    pub fn cell(&self) -> &'c Cell {
        self.cell
    }

    /// What a task is charged, in the order and the units of [`Rooms::free`].
    #[must_use]
    pub fn charged(&self, task: TaskId) -> [i64; 6] {
        let Demand { charge, prod_limit, gpu, .. } = self.demand(task);
        let gpu = i64::try_from(gpu.total().0).unwrap_or(i64::MAX);
        let prod = prod_limit.unwrap_or_default();
        [charge.cpu, charge.ram, charge.disk, gpu, prod.cpu, prod.ram]
    }

    /// What a task asks for.
    pub(crate) fn demand(&self, task: TaskId) -> Demand {
        Demand::of(self.cell, self.rooms.accounting, task)
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
        let demand = self.demand(task);
        assert!(
            crate::feasible::fits(self, &demand, row),
            "{} does not fit",
            self.cell.task_name(task)
        );
        let gpus = &self.hosts[row].gpus;
        if let Some(devices) = devices {
            assert!(
                gpus.fits_on(devices, demand.gpu),
                "{} does not fit on devices {devices:#b}",
                self.cell.task_name(task)
            );
        }
        let gpu_devices = devices.or_else(|| gpus.choose(demand.gpu)).unwrap_or_default();
        self.rooms.put(self.cell, task, demand, Placement { row, gpu_devices });
    }

    /// See [`Rooms::place_recorded`].
    ///
    /// # Panics
    /// As that does.
    pub fn place_recorded(&mut self, task: TaskId, row: usize, devices: Option<u16>) {
        self.rooms.place_recorded(self.cell, task, row, devices);
    }

    /// Puts a task back where it was, on the same GPU devices, fitting or not.
    pub(crate) fn restore(&mut self, task: TaskId, placement: Placement) {
        let demand = self.demand(task);
        self.rooms.put(self.cell, task, demand, placement);
    }

    /// See [`Rooms::remove`].
    ///
    /// # Panics
    /// As that does.
    pub fn remove(&mut self, task: TaskId) -> Vec<TaskId> {
        self.rooms.remove(task)
    }

    /// See [`Rooms::recharge`].
    ///
    /// # Panics
    /// As that does.
    pub fn recharge(&mut self, task: TaskId) {
        self.rooms.recharge(self.cell, task);
    }

    /// See [`Rooms::close`].
    ///
    /// # Panics
    /// As that does.
    pub fn close(&mut self, row: usize) {
        self.rooms.close(row);
    }

    /// See [`Rooms::open`].
    ///
    /// # Panics
    /// As that does.
    pub fn open(&mut self, row: usize) {
        self.rooms.open(row);
    }
}

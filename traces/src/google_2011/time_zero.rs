//! Folds the events at time 0 into the cell as it stood when the trace begins.
//!
//! Trap: a task that runs at time 0 has a SUBMIT and a SCHEDULE row, and they differ for 28 % of them.
//! The SUBMIT row holds the request as first submitted, the SCHEDULE row the one in force. With the
//! latter, production and monitoring memory fits on every machine, as Borg promises; with the former
//! it does not. So the SCHEDULE row wins.

use std::collections::HashMap;

use cell::Cell;

use super::event::{MachineEvent, MachineEventKind, TaskEvent, TaskEventKind, TaskKey};
use super::scale::Amounts;
use super::snapshot::{self, SnapshotMachine, SnapshotTask};
use crate::doctor::Examiner;
use crate::error::TraceError;

/// The state after the events at time 0 so far. Its maps are only looked up, never iterated.
#[derive(Debug, Default)]
pub(super) struct TimeZero {
    machines: Vec<SnapshotMachine>,
    /// `None`: a task that ended at time 0.
    tasks: Vec<Option<SnapshotTask>>,
    positions: HashMap<TaskKey, usize>,
    /// Users' numbers, from 1 in order of first appearance.
    users: HashMap<String, u32>,
}

impl TimeZero {
    /// Applies a machine event, if it is at time 0.
    pub(super) fn apply_machine(&mut self, event: &MachineEvent) {
        if event.time > 0 {
            return;
        }
        let machine = SnapshotMachine {
            place: event.place.clone(),
            id: event.machine,
            platform: event.platform.clone(),
            capacity: event.capacity,
        };
        match event.kind {
            MachineEventKind::Add => self.machines.push(machine),
            MachineEventKind::Remove => self.machines.retain(|other| other.id != machine.id),
            MachineEventKind::Update => {
                if let Some(other) = self.machines.iter_mut().find(|other| other.id == machine.id) {
                    *other = machine;
                }
            }
        }
    }

    /// Applies a task event, if it is at time 0.
    ///
    /// # Errors
    /// If the task is submitted a second time.
    pub(super) fn apply_task(&mut self, event: TaskEvent) -> Result<(), TraceError> {
        if event.time > 0 {
            return Ok(());
        }
        let TaskKey { job, index } = event.task;
        let known = self.positions.get(&event.task).copied();
        let is_alive = known.is_some_and(|position| self.tasks[position].is_some());
        let is_running = match event.kind {
            TaskEventKind::Submit if is_alive => {
                let problem = format!("task {job}/{index} is submitted twice at time 0");
                return Err(event.place.field("task_index", problem));
            }
            TaskEventKind::Submit | TaskEventKind::UpdatePending => false,
            TaskEventKind::Schedule | TaskEventKind::UpdateRunning => true,
            TaskEventKind::Evict
            | TaskEventKind::Fail
            | TaskEventKind::Finish
            | TaskEventKind::Kill
            | TaskEventKind::Lost => {
                if let Some(position) = known {
                    self.tasks[position] = None;
                }
                return Ok(());
            }
        };
        let next_user = u32::try_from(self.users.len() + 1).unwrap_or(u32::MAX);
        let user = *self.users.entry(event.user).or_insert(next_user);
        let mut task = SnapshotTask {
            place: event.place,
            job,
            index,
            machine: event.machine,
            is_running,
            priority: event.priority,
            user,
            request: event.request,
            different_machines: event.different_machines,
        };
        match known {
            None => {
                self.positions.insert(event.task, self.tasks.len());
                self.tasks.push(Some(task));
            }
            Some(position) => {
                if let Some(earlier) = &self.tasks[position] {
                    task.fill_gaps_from(earlier);
                }
                self.tasks[position] = Some(task);
            }
        }
        Ok(())
    }

    /// The cell.
    pub(super) fn cell(mut self, examiner: &mut Examiner) -> Result<Cell, TraceError> {
        rename_platforms(&mut self.machines);
        let tasks = self.tasks.into_iter().flatten().collect();
        snapshot::build("user", self.machines, tasks, examiner)
    }
}

impl SnapshotTask {
    /// What this row leaves out, an earlier row of the same task may say.
    fn fill_gaps_from(&mut self, earlier: &Self) {
        let Amounts { cpu, ram, disk, .. } = earlier.request;
        self.request.cpu = self.request.cpu.or(cpu);
        self.request.ram = self.request.ram.or(ram);
        self.request.disk = self.request.disk.or(disk);
        self.different_machines = self.different_machines.or(earlier.different_machines);
        self.machine = self.machine.or(earlier.machine);
    }
}

/// Names platforms A, B, C by ascending smallest CPU capacity, equal ones by their hash.
fn rename_platforms(machines: &mut [SnapshotMachine]) {
    let mut smallest: HashMap<&str, cell::MilliCpu> = HashMap::new();
    for machine in &*machines {
        let cpu = machine.capacity.cpu.unwrap_or_default();
        let entry = smallest.entry(&machine.platform).or_insert(cpu);
        *entry = cpu.min(*entry);
    }
    let mut order: Vec<_> =
        smallest.into_iter().map(|(hash, cpu)| (cpu, hash.to_owned())).collect();
    order.sort();
    let names: HashMap<String, String> =
        order.into_iter().zip(platform_names()).map(|((_, hash), name)| (hash, name)).collect();
    for machine in machines {
        if let Some(name) = names.get(&machine.platform) {
            machine.platform.clone_from(name);
        }
    }
}

/// A, B, …, Z, A1, B1, …
fn platform_names() -> impl Iterator<Item = String> {
    (0_u32..).flat_map(|round| {
        ('A'..='Z').map(move |letter| match round {
            0 => letter.to_string(),
            _ => format!("{letter}{round}"),
        })
    })
}

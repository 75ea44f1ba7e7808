//! Machines: added, heard or silent, drained, repaired, removed.

use std::sync::Arc;

use super::{Context, Tally};
use crate::id::{MachineId, TaskId};
use crate::live::account::{Account, Size};
use crate::live::outcome::{Change, Done, MachineStep, Outcome, Rejected, What};
use crate::live::record::{AfterStop, Health, MachineRecord, Phase};
use crate::live::{EvictCause, State, hash};
use crate::spec::{MachineSpec, SpecError, read_machine};

impl State {
    pub(super) fn add_machines(
        &mut self,
        context: &mut Context,
        machines: &[(MachineSpec, String)],
    ) -> Outcome {
        self.check_machines(machines)?;
        self.put_machines(context, machines);
        Ok(Done::Done)
    }

    pub(super) fn check_machines(
        &self,
        machines: &[(MachineSpec, String)],
    ) -> Result<(), Rejected> {
        for (i, (spec, _)) in machines.iter().enumerate() {
            let within = |error: SpecError| {
                SpecError::new(format!("machines[{i}].{}", error.field), error.problem)
            };
            if spec.count.is_some() {
                return Err(within(SpecError::new("count", "give each machine by itself")).into());
            }
            let machine = read_machine(spec).map_err(within)?;
            if let Some(id) = self.machine(&spec.name) {
                let present = &self.machines[id.index()].present;
                let future = &self.machines[id.index()].future;
                let size = Size::of_machine(&machine.capacity);
                if let Some(resource) = present.over(&size).or_else(|| future.over(&size)) {
                    let problem = format!("its tasks need more {resource}");
                    return Err(within(SpecError::new(resource, problem)).into());
                }
            }
        }
        Ok(())
    }

    fn put_machines(&mut self, context: &mut Context, machines: &[(MachineSpec, String)]) {
        for (spec, address) in machines {
            let machine = read_machine(spec).expect("checked");
            let spec_hash = hash::of_machine_spec(spec);
            let id = match self.machine_names.get(&spec.name) {
                Some(&id) => {
                    let was_removed = self.machines[id.index()].is_removed;
                    if was_removed {
                        self.machine_count += 1;
                    }
                    self.change_machine(id, |machine| {
                        machine.spec = Arc::new(spec.clone());
                        machine.spec_hash = spec_hash;
                        machine.address.clone_from(address);
                        machine.is_removed = false;
                        if was_removed {
                            machine.health = Health::Unknown;
                            machine.is_drained = false;
                        }
                    });
                    self.cell.machines[id.index()] = machine;
                    id
                }
                None => {
                    let id = MachineId::from_index(self.machines.len());
                    self.machines.push(MachineRecord {
                        spec: Arc::new(spec.clone()),
                        address: address.clone(),
                        health: Health::Unknown,
                        is_drained: false,
                        is_removed: false,
                        generation: 0,
                        spec_hash,
                        hash: 0,
                        tasks: Vec::new(),
                        present: Account::default(),
                        future: Account::default(),
                    });
                    self.count_machine(id, machine);
                    id
                }
            };
            self.machine_event(context, id, MachineStep::Added);
        }
        context.change(Change::Machines);
    }

    /// Enters a machine's record into what follows from it.
    pub(in crate::live) fn count_machine(&mut self, id: MachineId, machine: crate::Machine) {
        self.machine_names.insert(machine.name.clone(), id);
        self.cell.machines.push(machine);
        let record = &self.machines[id.index()];
        let (is_removed, is_down) = (record.is_removed, record.is_down());
        self.machine_count += u32::from(!is_removed);
        self.down_count += u32::from(!is_removed && is_down);
        let hash = self.machine_hash(id);
        self.machines[id.index()].hash = hash;
        self.sum.add(hash);
    }

    fn machine_event(&self, context: &mut Context, machine: MachineId, step: MachineStep) {
        context.event(self.now, What::Machine { machine, step });
    }

    pub(super) fn set_health(
        &mut self,
        context: &mut Context,
        machines: &[(MachineId, bool)],
    ) -> Outcome {
        let mut tally = Tally::default();
        for &(id, is_up) in machines {
            let is_known = self.machines.get(id.index()).is_some_and(|machine| !machine.is_removed);
            tally.count(is_known && self.set_one_health(context, id, is_up));
        }
        tally.outcome()
    }

    fn set_one_health(&mut self, context: &mut Context, id: MachineId, is_up: bool) -> bool {
        let record = &self.machines[id.index()];
        let was_down = record.is_down();
        if (is_up && record.health == Health::Up) || (!is_up && was_down) {
            return false;
        }
        let health = if is_up { Health::Up } else { Health::Down { since: self.now } };
        self.change_machine(id, |machine| machine.health = health);
        self.down_count = self.down_count + u32::from(!is_up) - u32::from(was_down);
        let is_open = self.machines[id.index()].is_open();
        context.change(Change::Open(id, is_open));
        let step = if is_up { MachineStep::Up } else { MachineStep::Down };
        self.machine_event(context, id, step);
        if !is_up {
            self.clear_unstarted(context, id);
        }
        true
    }

    /// On a machine that fell silent nothing starts, and what was stopping counts as gone.
    fn clear_unstarted(&mut self, context: &mut Context, id: MachineId) {
        let tasks: Vec<TaskId> =
            self.machines[id.index()].tasks.iter().map(|&(_, id)| id).collect();
        // What waits for a place inside goes before what it waits for.
        for &task in tasks.iter().rev() {
            if matches!(self.record(task).phase, Phase::Assigned(_)) {
                self.stop(context, task, AfterStop::Requeue(EvictCause::MachineLost));
            }
        }
        for task in tasks {
            self.finish_stop(context, task);
        }
    }

    fn known_machine(&self, name: &str) -> Result<MachineId, Rejected> {
        self.machine(name)
            .ok_or_else(|| Rejected::Unknown { kind: "machine".to_owned(), name: name.to_owned() })
    }

    pub(super) fn set_drained(
        &mut self,
        context: &mut Context,
        name: &str,
        is_drained: bool,
    ) -> Outcome {
        let id = self.known_machine(name)?;
        if self.machines[id.index()].is_drained == is_drained {
            return Ok(Done::Done);
        }
        self.change_machine(id, |machine| machine.is_drained = is_drained);
        context.change(Change::Open(id, self.machines[id.index()].is_open()));
        let step = if is_drained { MachineStep::Drained } else { MachineStep::Repaired };
        self.machine_event(context, id, step);
        Ok(Done::Done)
    }

    pub(super) fn remove_machine(&mut self, context: &mut Context, name: &str) -> Outcome {
        let id = self.known_machine(name)?;
        if !self.machines[id.index()].tasks.is_empty() {
            let count = self.task_count_on(id);
            return Err(Rejected::InUse { machine: name.to_owned(), count });
        }
        let was_down = self.machines[id.index()].is_down();
        self.change_machine(id, |machine| machine.is_removed = true);
        self.machine_count -= 1;
        self.down_count -= u32::from(was_down);
        context.change(Change::Open(id, false));
        self.machine_event(context, id, MachineStep::Removed);
        Ok(Done::Done)
    }
}

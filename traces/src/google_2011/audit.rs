//! Checks that the events of the tables make sense one after the other.
//!
//! In: all events, machines' and tasks', in the order of their tables. Out: findings. Never changes an
//! event, and stops at none: an event that makes no sense is counted and then taken at its word.

use std::collections::{HashMap, HashSet};

use super::event::{MachineEvent, MachineEventKind, TaskEvent, TaskEventKind, TaskKey, TimeUs};
use crate::doctor::{Examiner, FindingKind};

/// Where a task is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Pending,
    Running,
    Dead,
}

/// What is known after the events so far. Its maps are only looked up, never iterated.
#[derive(Debug)]
pub(super) struct Audit {
    /// All machine events by time, of which the first `applied_count` have happened.
    machine_events: Vec<MachineEvent>,
    applied_count: usize,
    machines: HashSet<u64>,
    phases: HashMap<TaskKey, Phase>,
    last_task_time: TimeUs,
}

impl Audit {
    /// Checks the machine events, and is ready for the task events.
    pub(super) fn new(mut machine_events: Vec<MachineEvent>, examiner: &mut Examiner) -> Self {
        let mut machines = HashSet::new();
        let mut last_time = 0;
        for event in &machine_events {
            check_machine(event, &mut machines, last_time, examiner);
            last_time = event.time;
        }
        machine_events.sort_by_key(|event| event.time);
        Self {
            machine_events,
            applied_count: 0,
            machines: HashSet::new(),
            phases: HashMap::new(),
            last_task_time: 0,
        }
    }

    /// Checks the next task event.
    pub(super) fn check_task(&mut self, event: &TaskEvent, examiner: &mut Examiner) {
        let TaskKey { job, index } = event.task;
        let place = &event.place;
        if event.time < self.last_task_time {
            examiner.note(FindingKind::TimeReversal, place, || {
                format!("time {} after {}", event.time, self.last_task_time)
            });
        }
        self.last_task_time = event.time;
        if event.is_imputed {
            examiner.note(FindingKind::ImputedRow, place, || format!("task {job}/{index}"));
        }
        if !event.request.is_complete_request() {
            examiner.note(FindingKind::MissingValue, place, || {
                format!("request of task {job}/{index}")
            });
        }
        for _ in 0..event.request.clipped_count {
            examiner.note(FindingKind::ClippedValue, place, || {
                format!("task {job}/{index} requests more than the largest machine")
            });
        }
        let before = self.phases.insert(event.task, after(event.kind));
        match before {
            None if event.kind != TaskEventKind::Submit => {
                examiner.note(FindingKind::OrphanTask, place, || {
                    format!("{:?} of task {job}/{index}", event.kind)
                });
            }
            Some(phase) if !allows(phase, event.kind) => {
                examiner.note(FindingKind::ImpossibleEvent, place, || {
                    format!("{:?} of task {job}/{index}, which is {phase:?}", event.kind)
                });
            }
            None | Some(_) => {}
        }
        self.advance_machines(event.time);
        // Of the tasks that run at time 0, the snapshot counts the orphans.
        if event.kind == TaskEventKind::Schedule && event.time > 0 {
            let is_there = event.machine.is_some_and(|machine| self.machines.contains(&machine));
            if !is_there {
                examiner.note(FindingKind::OrphanMachine, place, || {
                    format!("task {job}/{index} is scheduled on {:?}", event.machine)
                });
            }
        }
    }

    /// Applies the machine events up to and including `time`.
    fn advance_machines(&mut self, time: TimeUs) {
        while let Some(event) = self.machine_events.get(self.applied_count)
            && event.time <= time
        {
            match event.kind {
                MachineEventKind::Add | MachineEventKind::Update => {
                    self.machines.insert(event.machine);
                }
                MachineEventKind::Remove => {
                    self.machines.remove(&event.machine);
                }
            }
            self.applied_count += 1;
        }
    }
}

fn check_machine(
    event: &MachineEvent,
    machines: &mut HashSet<u64>,
    last_time: TimeUs,
    examiner: &mut Examiner,
) {
    let MachineEvent { place, machine, capacity, .. } = event;
    if event.time < last_time {
        examiner.note(FindingKind::TimeReversal, place, || {
            format!("time {} after {last_time}", event.time)
        });
    }
    if capacity.cpu.is_none() || capacity.ram.is_none() {
        examiner
            .note(FindingKind::MissingValue, place, || format!("capacity of machine {machine}"));
    }
    for _ in 0..capacity.clipped_count {
        examiner.note(FindingKind::ClippedValue, place, || {
            format!("machine {machine} is larger than the largest: taken as 1")
        });
    }
    let is_expected = match event.kind {
        MachineEventKind::Add => machines.insert(*machine),
        MachineEventKind::Remove => machines.remove(machine),
        MachineEventKind::Update => !machines.insert(*machine),
    };
    if !is_expected {
        examiner.note(FindingKind::OrphanMachineEvent, place, || {
            format!("{:?} of machine {machine}", event.kind)
        });
    }
}

/// Whether a task in this phase can see such an event.
fn allows(phase: Phase, kind: TaskEventKind) -> bool {
    use TaskEventKind as Kind;
    match phase {
        // A waiting task may be killed by its user, fail, or be lost track of.
        Phase::Pending => match kind {
            Kind::Schedule | Kind::Fail | Kind::Kill | Kind::Lost | Kind::UpdatePending => true,
            Kind::Submit | Kind::Evict | Kind::Finish | Kind::UpdateRunning => false,
        },
        Phase::Running => match kind {
            Kind::Evict
            | Kind::Fail
            | Kind::Finish
            | Kind::Kill
            | Kind::Lost
            | Kind::UpdateRunning => true,
            Kind::Submit | Kind::Schedule | Kind::UpdatePending => false,
        },
        Phase::Dead => kind == Kind::Submit,
    }
}

/// The phase that a task is in after such an event.
fn after(kind: TaskEventKind) -> Phase {
    use TaskEventKind as Kind;
    match kind {
        Kind::Submit | Kind::UpdatePending => Phase::Pending,
        Kind::Schedule | Kind::UpdateRunning => Phase::Running,
        Kind::Evict | Kind::Fail | Kind::Finish | Kind::Kill | Kind::Lost => Phase::Dead,
    }
}

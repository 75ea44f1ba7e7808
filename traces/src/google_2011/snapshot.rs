//! The cell at one moment, from rows that both of Google's readers understand.
//!
//! In: machines and tasks by the trace's ids. Out: a [`Cell`], its tasks sorted by job id and index.
//!
//! Trap: at time 0, two jobs have tasks of two priorities (90 and 80 tasks at 9, 3000 each at 1). A
//! [`Job`] has one priority, so such a job is read as several, one a priority: the first keeps the
//! name, the others are called `JOB.pPRIORITY`. Raising or lowering tasks to one priority would move
//! 3 % of the running tasks into another band.

use std::collections::{BTreeSet, HashMap};

use cell::{
    Attributes, Capacity, Cell, Host, Job, JobKind, Machine, MachineId, Task, TaskState, UserId,
};

use super::scale::{self, Amounts};
use crate::doctor::{Examiner, FindingKind};
use crate::error::TraceError;
use crate::input::Place;

/// The attribute that holds a machine's platform.
const PLATFORM: &str = "platform";

/// A machine at that moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SnapshotMachine {
    pub(super) place: Place,
    pub(super) id: u64,
    pub(super) platform: String,
    pub(super) capacity: Amounts,
}

/// A task at that moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SnapshotTask {
    pub(super) place: Place,
    pub(super) job: u64,
    pub(super) index: u32,
    pub(super) machine: Option<u64>,
    pub(super) is_running: bool,
    /// As the trace numbers them, 0..=11.
    pub(super) priority: u8,
    pub(super) user: u32,
    pub(super) request: Amounts,
    pub(super) different_machines: Option<bool>,
}

/// The cell of these machines and tasks. `user_field` is what the trace calls the user's column.
pub(super) fn build(
    user_field: &str,
    machines: Vec<SnapshotMachine>,
    mut tasks: Vec<SnapshotTask>,
    examiner: &mut Examiner,
) -> Result<Cell, TraceError> {
    let mut builder =
        Builder { cell: Cell::default(), machine_ids: HashMap::new(), users: HashMap::new() };
    for machine in machines {
        if machine.capacity.cpu.is_none() || machine.capacity.ram.is_none() {
            examiner.note(FindingKind::ImputedValue, &machine.place, || {
                format!("machine {} has no capacity: taken as 0", machine.id)
            });
        }
        let added = builder.add_machine(machine);
        examiner.excuse(added)?;
    }
    // Stable: of a task that is there twice, the earlier row comes first, and the later is the error.
    tasks.sort_by_key(|task| (task.job, task.index));
    for tasks in tasks.chunk_by(|a, b| a.job == b.job) {
        builder.add_job(user_field, tasks, examiner)?;
    }
    Ok(builder.cell)
}

/// Its maps are only looked up, never iterated.
struct Builder {
    cell: Cell,
    machine_ids: HashMap<u64, MachineId>,
    users: HashMap<u32, UserId>,
}

impl Builder {
    fn add_machine(&mut self, machine: SnapshotMachine) -> Result<(), TraceError> {
        let id = MachineId::from_index(self.cell.machines.len());
        if self.machine_ids.contains_key(&machine.id) {
            let problem = format!("machine {} is there twice", machine.id);
            return Err(machine.place.field("machine_id", problem));
        }
        self.machine_ids.insert(machine.id, id);
        self.cell.machines.push(Machine {
            name: machine.id.to_string(),
            capacity: Capacity {
                cpu: machine.capacity.cpu.unwrap_or_default(),
                ram: machine.capacity.ram.unwrap_or_default(),
                disk: None, // the trace does not say
                gpu_count: 0,
            },
            attributes: Attributes::from([(PLATFORM.to_owned(), machine.platform)]),
            ..Machine::default()
        });
        Ok(())
    }

    /// Adds all tasks of one job, sorted by index.
    fn add_job(
        &mut self,
        user_field: &str,
        tasks: &[SnapshotTask],
        examiner: &mut Examiner,
    ) -> Result<(), TraceError> {
        let first = &tasks[0];
        let mut last_index = None;
        let mut parts: Vec<(u8, Vec<Task>)> = Vec::new();
        for task in tasks {
            let checked = check_task(user_field, first, task, last_index);
            if examiner.excuse(checked)?.is_none() {
                continue;
            }
            last_index = Some(task.index);
            let part = match parts.iter_mut().find(|(priority, _)| *priority == task.priority) {
                Some((_, part)) => part,
                None => {
                    parts.push((task.priority, Vec::new()));
                    &mut parts.last_mut().expect("just pushed").1
                }
            };
            if !task.request.is_complete_request() {
                examiner.note(FindingKind::ImputedValue, &task.place, || {
                    format!("task {}/{} has no request: taken as 0", task.job, task.index)
                });
            }
            let state = self.state(task, examiner);
            let limit = task.request.limit();
            part.push(Task { state, ..Task::new(task.index, limit) });
        }
        let different_machines = tasks.iter().any(|task| task.different_machines == Some(true));
        if different_machines && tasks.iter().any(|task| task.different_machines == Some(false)) {
            examiner.note(FindingKind::MixedFlag, &first.place, || format!("job {}", first.job));
        }
        if parts.len() > 1 {
            examiner.note(FindingKind::SplitJob, &first.place, || {
                let priorities: Vec<String> = parts.iter().map(|(p, _)| p.to_string()).collect();
                format!("job {} has tasks of priority {}", first.job, priorities.join(", "))
            });
        }
        let next_user = UserId::from_index(self.cell.users.len());
        let user = *self.users.entry(first.user).or_insert(next_user);
        if user == next_user {
            self.cell.users.push(format!("user-{}", first.user));
        }
        for (part_index, (priority, tasks)) in parts.into_iter().enumerate() {
            self.cell.jobs.push(Job {
                name: match part_index {
                    0 => first.job.to_string(),
                    _ => format!("{}.p{priority}", first.job),
                },
                kind: JobKind::Job,
                user,
                priority: scale::priority(priority),
                constraints: Vec::new(),
                different_machines,
                spread: Vec::new(),
                packages: BTreeSet::new(),
                alloc_set: None,
                tied_to_machines: priority == scale::PRIORITY_MONITORING,
                max_disrupted: None,
                tasks: tasks.into(),
            });
        }
        Ok(())
    }

    fn state(&self, task: &SnapshotTask, examiner: &mut Examiner) -> TaskState {
        if !task.is_running {
            return TaskState::Pending;
        }
        let id = task.machine.and_then(|machine| self.machine_ids.get(&machine));
        if id.is_none() {
            examiner.note(FindingKind::OrphanMachine, &task.place, || match task.machine {
                Some(machine) => format!("task {}/{} runs on {machine}", task.job, task.index),
                None => format!("task {}/{} runs on no machine", task.job, task.index),
            });
        }
        TaskState::Running { on: id.map(|id| Host::Machine(*id)) }
    }
}

fn check_task(
    user_field: &str,
    first: &SnapshotTask,
    task: &SnapshotTask,
    last_index: Option<u32>,
) -> Result<(), TraceError> {
    let SnapshotTask { job, index, place, .. } = task;
    if last_index == Some(*index) {
        return Err(place.field("task_index", format!("task {job}/{index} is there twice")));
    }
    if task.user != first.user {
        let problem = format!("task {job}/{index} has another user than its job's first task");
        return Err(place.field(user_field, problem));
    }
    Ok(())
}

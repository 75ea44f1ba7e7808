//! The state of a cell: its machines, users, jobs and alloc sets.

use crate::cow::{CowChunks, CowVec};
use crate::id::{JobId, MachineId, TaskId, UserId};
use crate::job::{Job, JobKind, Task, TaskState};
use crate::kube;
use crate::machine::Machine;

/// A cell. Ids are positions in its vectors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// Machines, by [`MachineId`].
    pub machines: CowVec<Machine>,
    /// Users' names, by [`UserId`].
    pub users: CowVec<String>,
    /// Jobs and alloc sets, by [`JobId`], in the order of their submission.
    pub jobs: CowChunks<Job>,
    /// What Kubernetes' objects say beyond that, where the cell was read from such objects.
    pub kube: Option<Box<kube::Objects>>,
}

impl Cell {
    /// The machine with this id.
    ///
    /// # Panics
    /// If the id is of another cell.
    #[must_use]
    pub fn machine(&self, id: MachineId) -> &Machine {
        &self.machines[id.index()]
    }

    /// The job with this id.
    ///
    /// # Panics
    /// If the id is of another cell.
    #[must_use]
    pub fn job(&self, id: JobId) -> &Job {
        &self.jobs[id.index()]
    }

    /// The task with this id.
    ///
    /// # Panics
    /// If the id is of another cell.
    #[must_use]
    pub fn task(&self, id: TaskId) -> &Task {
        &self.jobs[id.job.index()].tasks[id.position as usize]
    }

    /// The user's name.
    ///
    /// # Panics
    /// If the id is of another cell.
    #[must_use]
    pub fn user(&self, id: UserId) -> &str {
        &self.users[id.index()]
    }

    /// A task's name, `JOB/INDEX`.
    #[must_use]
    pub fn task_name(&self, id: TaskId) -> String {
        format!("{}/{}", self.job(id.job).name, self.task(id).index)
    }

    /// The task called `JOB/INDEX`; `None` where there is no such job, index, or form.
    #[must_use]
    pub fn find_task(&self, name: &str) -> Option<TaskId> {
        let (job_name, index) = name.rsplit_once('/')?;
        let index: u32 = index.parse().ok()?;
        let job = self.jobs.iter().position(|job| job.name == job_name)?;
        let position = self.jobs[job].tasks.binary_search_by_key(&index, |task| task.index).ok()?;
        Some(TaskId { job: JobId::from_index(job), position: u32::try_from(position).ok()? })
    }

    /// All tasks and allocs, job by job.
    pub fn tasks(&self) -> impl Iterator<Item = (TaskId, &Job, &Task)> {
        self.jobs.iter().enumerate().flat_map(|(job_index, job)| {
            job.tasks.iter().zip(0..).map(move |(task, position)| {
                (TaskId { job: JobId::from_index(job_index), position }, job, task)
            })
        })
    }

    /// Number of tasks in this state, allocs not counted.
    pub fn task_count(&self, wanted: impl Fn(&Job, &Task) -> bool) -> usize {
        self.tasks().filter(|(_, job, task)| job.kind == JobKind::Job && wanted(job, task)).count()
    }
}

impl Task {
    /// Whether it runs, wherever that is.
    #[must_use]
    pub fn is_running(&self) -> bool {
        match self.state {
            TaskState::Pending => false,
            TaskState::Running { .. } => true,
        }
    }
}

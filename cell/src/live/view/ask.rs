//! Questions about a cell and their answers: what `status` asks of a live master and of a cell file alike.

use super::{CellStatus, Filter, JobStatus, MachineStatus, Page, Paging, QuotaStatus, TaskStatus};
use crate::live::{Rejected, State};
use crate::spec::JobSpec;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Jobs and alloc sets.
    Jobs(Filter, Paging),
    /// The job or alloc set of this name.
    Job(String),
    /// Tasks and allocs.
    Tasks(Filter, Paging),
    /// Machines.
    Machines(Filter, Paging),
    /// Quota, granted or used.
    Quotas(Filter, Paging),
    /// The cell as a whole.
    Cell,
    /// The newest spec of the job of this name.
    Spec(String),
}

/// The answer to the [`Question`] of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Jobs and alloc sets.
    Jobs(Page<JobStatus>),
    /// A job or an alloc set.
    Job(JobStatus),
    /// Tasks and allocs.
    Tasks(Page<TaskStatus>),
    /// Machines.
    Machines(Page<MachineStatus>),
    /// Quota, granted or used.
    Quotas(Page<QuotaStatus>),
    /// The cell as a whole.
    Cell(Box<CellStatus>),
    /// The newest spec of a job.
    Spec(Box<JobSpec>),
}

impl State {
    /// Answers a question from the state as it is.
    ///
    /// # Errors
    /// If it asks for a job by a name that none has.
    pub fn answer(&self, question: &Question) -> Result<Answer, Rejected> {
        let unknown =
            |name: &String| Rejected::Unknown { kind: "job".to_owned(), name: name.clone() };
        Ok(match question {
            Question::Jobs(filter, paging) => Answer::Jobs(self.list_jobs(filter, paging)),
            Question::Job(name) => Answer::Job(self.job_status(name).ok_or_else(|| unknown(name))?),
            Question::Tasks(filter, paging) => Answer::Tasks(self.list_tasks(filter, paging)),
            Question::Machines(filter, paging) => {
                Answer::Machines(self.list_machines(filter, paging))
            }
            Question::Quotas(filter, paging) => Answer::Quotas(self.list_quotas(filter, paging)),
            Question::Cell => Answer::Cell(Box::new(self.cell_status())),
            Question::Spec(name) => {
                let job = self.job(name).ok_or_else(|| unknown(name))?;
                Answer::Spec(Box::new(JobSpec::clone(&job.spec)))
            }
        })
    }
}

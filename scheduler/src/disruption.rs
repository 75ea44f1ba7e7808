//! Limits on disruption: how many more tasks of each job a pass may evict.
//!
//! A pass counts as one moment: all of its evictions together stay within a job's
//! [`max_disrupted`](cell::Job::max_disrupted), so that its steps may be carried out at any pace. A task that
//! is evicted and finds another place counts as well. An alloc counts for its alloc set, and what runs in it
//! for its own job.
//!
//! In: each placement and each eviction of a job that has a limit. Out: what is left of the limit, and the
//! machines on which fewer may leave than before. Source: Borg (EuroSys '15) §4.

use std::collections::BTreeMap;

use cell::{Job, JobId, TaskId};

/// The limits of a cell's jobs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disruptions {
    of_job: BTreeMap<JobId, Limited>,
    /// Machine rows on which fewer tasks may leave than before, in order; with repeats.
    journal: Vec<usize>,
}

/// A job with a limit.
#[derive(Clone, Debug)]
struct Limited {
    left: u32,
    /// Its tasks on each machine, in allocs or not.
    on_machine: BTreeMap<usize, u32>,
    /// No machine ever had more of them.
    most_on_machine: u32,
}

impl Disruptions {
    /// How many more of a job's tasks may be evicted; `None`: any number, or none of them was ever placed.
    pub(crate) fn left(&self, job: JobId) -> Option<u32> {
        self.of_job.get(&job).map(|limited| limited.left)
    }

    /// Up to where the journal goes now.
    pub(crate) fn now(&self) -> usize {
        self.journal.len()
    }

    /// Machine rows on which fewer tasks may leave than at a point of the journal; with repeats.
    pub(crate) fn since(&self, seen: usize) -> &[usize] {
        &self.journal[seen..]
    }

    /// Counts a task of a job that is placed.
    pub(crate) fn placed(&mut self, job: &Job, task: TaskId, machine_row: usize) {
        let Some(left) = job.max_disrupted else { return };
        let unused = Limited { left, on_machine: BTreeMap::new(), most_on_machine: 0 };
        let limited = self.of_job.entry(task.job).or_insert(unused);
        let count = limited.on_machine.entry(machine_row).or_default();
        *count += 1;
        limited.most_on_machine = limited.most_on_machine.max(*count);
    }

    /// Counts an eviction.
    ///
    /// # Panics
    /// If none is left to the job.
    pub(crate) fn evicted(&mut self, task: TaskId, machine_row: usize) {
        let Some(limited) = self.of_job.get_mut(&task.job) else { return };
        let count = limited.on_machine.get_mut(&machine_row).expect("it was placed there");
        *count -= 1;
        if *count == 0 {
            limited.on_machine.remove(&machine_row);
        }
        limited.left = limited.left.checked_sub(1).expect("no more victims than are left");
        // Where there are no more of them than may leave, all of them still may.
        if limited.left < limited.most_on_machine {
            let fewer = limited.on_machine.iter().filter(|&(_, &count)| count > limited.left);
            self.journal.extend(fewer.map(|(&row, _)| row));
        }
    }
}

#[cfg(test)]
mod tests {
    use cell::spec::CellBuilder;

    use super::*;

    #[test]
    fn machines_are_named_once_a_limit_binds_there() {
        let mut builder = CellBuilder::default();
        let job = r#"{"name": "j", "user": "u", "priority": 100, "count": 5,
            "limit": {"cpu": 1, "ram": 1}, "max_disrupted": 3}"#;
        builder.add_job(&serde_json::from_str(job).unwrap()).unwrap();
        let free = r#"{"name": "free", "user": "u", "priority": 0, "limit": {"cpu": 1, "ram": 1}}"#;
        builder.add_job(&serde_json::from_str(free).unwrap()).unwrap();
        let cell = builder.finish();
        let mut disruptions = Disruptions::default();
        let task = |position| TaskId { job: JobId(0), position };
        for (position, row) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2)] {
            disruptions.placed(cell.job(JobId(0)), task(position), row);
        }
        disruptions.placed(cell.job(JobId(1)), TaskId { job: JobId(1), position: 0 }, 0);
        assert_eq!((disruptions.left(JobId(0)), disruptions.left(JobId(1))), (Some(3), None));
        // 2 may still leave, and no machine has more.
        disruptions.evicted(task(2), 1);
        assert!(disruptions.since(0).is_empty());
        // 1 may, and row 2 has two; row 0 has one left.
        disruptions.evicted(task(0), 0);
        assert_eq!(disruptions.since(0), [2]);
        let seen = disruptions.now();
        disruptions.evicted(task(3), 2);
        assert_eq!(disruptions.left(JobId(0)), Some(0));
        assert_eq!(disruptions.since(seen), [0, 2]);
    }
}

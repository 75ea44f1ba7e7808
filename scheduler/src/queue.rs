//! The pending queue: from high to low priority, and inside a priority in one of two orders.
//!
//! Alloc sets come before the jobs of their priority, and at least as early as the most important job
//! that runs in them, because those need their allocs first.

use std::cell::OnceCell;
use std::collections::{BTreeMap, VecDeque};

use cell::{Cell, JobId, JobKind, Priority, TaskId, UserId};

/// The order inside one priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueOrder {
    /// One task of each user in turn, so that no user waits behind another's large job
    /// (Borg §3.2). Users take their turns in the order of their first job.
    RoundRobin,
    /// In the order of submission: kube-scheduler's `PrioritySort`.
    Fifo,
}

/// For each alloc set, the priority of the most important job that runs in it. Worked out for the first alloc:
/// most queues have none.
type HighestInside = BTreeMap<JobId, Priority>;

/// Tasks that wait for a place.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    /// By priority, and of one priority allocs (`true`) behind tasks; popped from the end.
    levels: BTreeMap<(Priority, bool), VecDeque<TaskId>>,
    highest_inside: OnceCell<HighestInside>,
}

impl Queue {
    pub(crate) fn new(cell: &Cell, tasks: &[TaskId], order: QueueOrder) -> Self {
        let highest_inside = OnceCell::new();
        let mut by_level: BTreeMap<(Priority, bool), Vec<TaskId>> = BTreeMap::new();
        for &task in tasks {
            by_level.entry(level(cell, &highest_inside, task)).or_default().push(task);
        }
        let levels = by_level
            .into_iter()
            .map(|(level, tasks)| {
                let ordered = match order {
                    QueueOrder::Fifo => tasks.into(),
                    QueueOrder::RoundRobin => round_robin(cell, &tasks),
                };
                (level, ordered)
            })
            .collect();
        Self { levels, highest_inside }
    }

    pub(crate) fn pop(&mut self) -> Option<TaskId> {
        let mut level = self.levels.last_entry()?;
        let task = level.get_mut().pop_front();
        if level.get().is_empty() {
            level.remove();
        }
        task
    }

    /// Puts a preempted task back, behind the others of its priority.
    pub(crate) fn push(&mut self, cell: &Cell, task: TaskId) {
        let level = level(cell, &self.highest_inside, task);
        self.levels.entry(level).or_default().push_back(task);
    }
}

/// Where a task waits: by priority, and of one priority allocs (`true`, popped first) before tasks.
fn level(cell: &Cell, highest_inside: &OnceCell<HighestInside>, task: TaskId) -> (Priority, bool) {
    let job = cell.job(task.job);
    match job.kind {
        JobKind::Job => (job.priority, false),
        JobKind::AllocSet => {
            let inside = highest_inside.get_or_init(|| all_highest_inside(cell));
            let inside = inside.get(&task.job).copied().unwrap_or(job.priority);
            (job.priority.max(inside), true)
        }
    }
}

fn all_highest_inside(cell: &Cell) -> HighestInside {
    let mut all = HighestInside::new();
    for job in &cell.jobs {
        if let Some(alloc_set) = job.alloc_set {
            let highest = all.entry(alloc_set).or_insert(job.priority);
            *highest = job.priority.max(*highest);
        }
    }
    all
}

fn round_robin(cell: &Cell, tasks: &[TaskId]) -> VecDeque<TaskId> {
    let mut turn_of: BTreeMap<UserId, usize> = BTreeMap::new();
    let mut waiting: Vec<VecDeque<TaskId>> = Vec::new();
    for &task in tasks {
        let turn = *turn_of.entry(cell.job(task.job).user).or_insert(waiting.len());
        if turn == waiting.len() {
            waiting.push(VecDeque::new());
        }
        waiting[turn].push_back(task);
    }
    let mut ordered = VecDeque::with_capacity(tasks.len());
    while !waiting.is_empty() {
        for user in &mut waiting {
            ordered.extend(user.pop_front());
        }
        waiting.retain(|user| !user.is_empty());
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;
    use cell::spec::{CellBuilder, JobSpec};

    fn check(order: QueueOrder, jobs: &[(&str, &str, u16, u32)], expected: &[&str]) {
        let mut builder = CellBuilder::default();
        for (name, user, priority, count) in jobs {
            let text = format!(
                r#"{{"name": "{name}", "user": "{user}", "priority": {priority},
                    "count": {count}, "limit": {{"cpu": 1, "ram": 1}}}}"#
            );
            let spec: JobSpec = serde_json::from_str(&text).unwrap();
            builder.add_job(&spec).unwrap();
        }
        let cell = builder.finish();
        let tasks: Vec<TaskId> = cell.tasks().map(|(id, _, _)| id).collect();
        let mut queue = Queue::new(&cell, &tasks, order);
        let mut popped = Vec::new();
        while let Some(task) = queue.pop() {
            popped.push(cell.task_name(task));
        }
        assert_eq!(popped, expected);
    }

    const JOBS: [(&str, &str, u16, u32); 4] =
        [("a", "ann", 100, 3), ("b", "bob", 100, 1), ("c", "ann", 200, 1), ("d", "bob", 100, 1)];

    #[test]
    fn priority_first_then_users_in_turn() {
        check(QueueOrder::RoundRobin, &JOBS, &["c/0", "a/0", "b/0", "a/1", "d/0", "a/2"]);
    }

    #[test]
    fn priority_first_then_submission() {
        check(QueueOrder::Fifo, &JOBS, &["c/0", "a/0", "a/1", "a/2", "b/0", "d/0"]);
    }
}

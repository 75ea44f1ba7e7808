//! What the report says of the trace: where it comes from, its size, and what its reader found wrong.

use std::collections::BTreeSet;

use cell::{Cell, Job, JobKind, Task};
use serde::Serialize;
use traces::{Trace, Workload};

use crate::number::rounded;

/// Facts about a trace.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TraceFacts {
    /// The trace as the flags name it.
    pub source: String,
    /// SHA-256 of what was read.
    pub sha256: String,
    /// Whether only the tasks that run are packed, or all.
    pub workload: Workload,
    /// Machines of the cell.
    pub machine_count: usize,
    /// Jobs, alloc sets not counted.
    pub job_count: usize,
    /// Alloc sets.
    pub alloc_set_count: usize,
    /// Users.
    pub user_count: usize,
    /// Tasks, allocs not counted, whether they are packed or not.
    pub task_count: usize,
    /// Tasks that run at the time of the snapshot.
    pub running_count: usize,
    /// Tasks of the workload that are tied to their machine, and so are not packed.
    pub tied_count: usize,
    /// Their priorities, ascending.
    pub tied_priorities: Vec<u16>,
    /// Tasks that are packed.
    pub packed_count: usize,
    /// CPU limits of the packed tasks, over the cell's capacity; 0 where it has none.
    pub limits_over_capacity_cpu: f64,
    /// The same for RAM.
    pub limits_over_capacity_ram: f64,
    /// Rows or entries that were read.
    pub row_count: u64,
    /// What the trace doctor found, by kind; kinds that it did not find are left out.
    pub doctor: Vec<Finding>,
}

/// A kind of flaw, or of repair, that the reader of a trace counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which kind.
    pub kind: String,
    /// How often.
    pub count: u64,
    /// What it means.
    pub note: String,
}

impl TraceFacts {
    /// The facts about this trace.
    #[must_use]
    pub fn of(trace: &Trace) -> Self {
        let cell = &trace.cell;
        let in_workload = |task: &Task| match trace.workload {
            Workload::Running => task.is_running(),
            Workload::All => true,
        };
        let is_packed = |job: &Job, task: &Task| in_workload(task) && !job.tied_to_machines;
        let is_tied = |job: &Job, task: &Task| in_workload(task) && job.tied_to_machines;
        let tied_priorities: BTreeSet<u16> = cell
            .tasks()
            .filter(|(_, job, task)| is_tied(job, task))
            .map(|(_, job, _)| job.priority.get())
            .collect();
        let (cpu, ram) = limits_over_capacity(cell, is_packed);
        let job_count = cell.jobs.iter().filter(|job| job.kind == JobKind::Job).count();
        Self {
            source: trace.source.clone(),
            sha256: trace.sha256.clone(),
            workload: trace.workload,
            machine_count: cell.machines.len(),
            job_count,
            alloc_set_count: cell.jobs.len() - job_count,
            user_count: cell.users.len(),
            task_count: cell.task_count(|_, _| true),
            running_count: cell.task_count(|_, task| task.is_running()),
            tied_count: cell.task_count(is_tied),
            tied_priorities: tied_priorities.into_iter().collect(),
            packed_count: cell.task_count(is_packed),
            limits_over_capacity_cpu: rounded(cpu, 6),
            limits_over_capacity_ram: rounded(ram, 6),
            row_count: trace.doctor.row_count(),
            doctor: trace.doctor.findings.iter().map(Finding::of).collect(),
        }
    }
}

/// A trace's source without the folders of its files, for headings.
#[must_use]
pub fn short_source(source: &str) -> String {
    let Some((format, paths)) = source.split_once(':') else {
        return source.to_owned();
    };
    let names: Vec<&str> = paths
        .split(',')
        .map(|path| path.trim_end_matches('/').rsplit('/').next().unwrap_or(path))
        .collect();
    format!("{format}: {}", names.join(", "))
}

impl Finding {
    fn of(finding: &traces::Finding) -> Self {
        Self {
            kind: finding.kind.name().to_owned(),
            count: finding.count,
            note: finding.note.to_owned(),
        }
    }
}

/// Limits over capacity for CPU and RAM. A task inside an alloc draws on the alloc, so that allocs count
/// here and the tasks inside them do not.
fn limits_over_capacity(cell: &Cell, is_packed: impl Fn(&Job, &Task) -> bool) -> (f64, f64) {
    let on_machines = || {
        cell.tasks()
            .filter(|(_, job, task)| job.alloc_set.is_none() && is_packed(job, task))
            .map(|(_, _, task)| task.limit)
    };
    let over = |limits: u64, capacity: u64| {
        if capacity == 0 { 0.0 } else { limits as f64 / capacity as f64 }
    };
    let cpu = over(
        on_machines().map(|limit| limit.cpu.0).sum(),
        cell.machines.iter().map(|machine| machine.capacity.cpu.0).sum(),
    );
    let ram = over(
        on_machines().map(|limit| limit.ram.0).sum(),
        cell.machines.iter().map(|machine| machine.capacity.ram.0).sum(),
    );
    (cpu, ram)
}

#[cfg(test)]
mod tests {
    use cell::spec::CellBuilder;
    use traces::Doctor;

    use super::*;

    #[test]
    fn folders_are_left_out_of_headings() {
        let check = |source, expected| assert_eq!(short_source(source), expected);
        check("google-2011-t0", "google-2011-t0");
        check("cell:examples/hello/", "cell: hello");
        check("openb:/a/nodes.csv.gz,b/pods.csv", "openb: nodes.csv.gz, pods.csv");
    }

    #[test]
    fn tied_tasks_and_tasks_inside_allocs_are_told_apart() {
        let mut builder = CellBuilder::default();
        let machine = r#"{"name": "m", "count": 2, "cpu": 10, "ram": 100}"#;
        builder.add_machine(&serde_json::from_str(machine).unwrap()).unwrap();
        let set =
            r#"{"name": "set", "user": "u", "priority": 200, "limit": {"cpu": 4, "ram": 10}}"#;
        builder.add_alloc_set(&serde_json::from_str(set).unwrap()).unwrap();
        for job in [
            r#"{"name": "in", "user": "u", "priority": 200, "alloc_set": "set",
                "limit": {"cpu": 1, "ram": 5}}"#,
            r#"{"name": "on", "user": "u", "priority": 100, "count": 3,
                "limit": {"cpu": 1, "ram": 20}, "tasks": [{"index": 0, "machine": "m-0"}]}"#,
            r#"{"name": "daemon", "user": "v", "priority": 360, "count": 2,
                "tied_to_machines": true, "limit": {"cpu": 1, "ram": 1}}"#,
        ] {
            builder.add_job(&serde_json::from_str(job).unwrap()).unwrap();
        }
        let trace = Trace {
            source: "cell:x".to_owned(),
            cell: builder.finish(),
            workload: Workload::All,
            doctor: Doctor::default(),
            sha256: "0".repeat(64),
        };
        let facts = TraceFacts::of(&trace);
        assert_eq!((facts.job_count, facts.alloc_set_count, facts.user_count), (3, 1, 2));
        assert_eq!((facts.task_count, facts.packed_count, facts.tied_count), (6, 4, 2));
        assert_eq!(facts.tied_priorities, [360]);
        assert_eq!(facts.running_count, 1);
        assert_eq!(facts.limits_over_capacity_cpu, 0.35); // (4 + 3 · 1) / 20
        assert_eq!(facts.limits_over_capacity_ram, 0.35); // (10 + 3 · 20) / 200
        let running = TraceFacts::of(&Trace { workload: Workload::Running, ..trace });
        assert_eq!((running.packed_count, running.tied_count), (1, 0));
    }
}

//! Small random cells, and what is true of them by trying everything.

use cell::spec::{CellBuilder, JobSpec, MachineSpec};
use cell::{Cell, Host, MachineId, TaskId, TaskState};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{ProptestConfig, Strategy, any};
use scheduler::Slot;
use serde_json::{Value, json};
use traces::{Doctor, Trace, Workload};

/// A trace of machines and jobs in the schema of `cell::spec`, all of whose tasks are packed.
pub(crate) fn trace(machines: &[Value], jobs: &[Value]) -> Trace {
    trace_with_allocs(machines, &[], jobs)
}

/// The same with alloc sets.
pub(crate) fn trace_with_allocs(machines: &[Value], sets: &[Value], jobs: &[Value]) -> Trace {
    let mut builder = CellBuilder::default();
    for machine in machines {
        let spec: MachineSpec = serde_json::from_value(machine.clone()).unwrap();
        builder.add_machine(&spec).unwrap();
    }
    for set in sets {
        let spec: JobSpec = serde_json::from_value(set.clone()).unwrap();
        builder.add_alloc_set(&spec).unwrap();
    }
    for job in jobs {
        let spec: JobSpec = serde_json::from_value(job.clone()).unwrap();
        builder.add_job(&spec).unwrap();
    }
    Trace {
        source: "test".to_owned(),
        cell: builder.finish(),
        workload: Workload::All,
        doctor: Doctor::default(),
        sha256: String::new(),
    }
}

/// So many random cases. Proptest prints a failing case; it writes no file beside the sources.
pub(crate) fn cases(count: u32) -> ProptestConfig {
    ProptestConfig { cases: count, failure_persistence: None, ..ProptestConfig::default() }
}

/// Cells of up to 6 machines of 3 kinds and up to 9 tasks, some of which want different machines or an
/// attribute that only the first kind has. Every task fits on some machine.
pub(crate) fn traces() -> impl Strategy<Value = Trace> {
    let machine = (2..8_u64, 2..8_u64, 1..3_u64);
    let job = (0..6_u64, 0..6_u64, 1..4_u64, any::<bool>(), 0..6_u64);
    (vec(machine, 1..4), vec(job, 1..4)).prop_map(|(machines, jobs)| {
        let (cpu, ram, _) = machines[0];
        let machines: Vec<Value> = machines
            .iter()
            .enumerate()
            .map(|(index, (cpu, ram, count))| {
                let attributes = if index == 0 { json!({"kind": "first"}) } else { json!({}) };
                json!({"name": format!("m{index}"), "count": count, "cpu": cpu, "ram": ram,
                    "attributes": attributes})
            })
            .collect();
        let jobs: Vec<Value> = jobs
            .iter()
            .enumerate()
            .map(|(index, (task_cpu, task_ram, count, apart, first))| {
                let limit = json!({"cpu": task_cpu % (cpu + 1), "ram": task_ram % (ram + 1)});
                let constraints = match first {
                    0 => json!([{"attribute": "kind", "op": "=", "value": "first"}]),
                    _ => json!([]),
                };
                json!({"name": format!("j{index}"), "user": "u", "priority": 200, "count": count,
                    "limit": limit, "different_machines": apart, "constraints": constraints})
            })
            .collect();
        trace(&machines, &jobs)
    })
}

/// Tasks on each machine, by the machine's position.
pub(crate) type On = Vec<Vec<TaskId>>;

/// Small cells whose tasks run where they fit, on random machines; some of them although they do not fit
/// beside the rest. Some jobs limit how many of their tasks may be disrupted.
pub(crate) fn running() -> impl Strategy<Value = Trace> {
    let limits = vec(option::of(0..3_u32), 3);
    (traces(), vec(any::<usize>(), 9), limits, 0..4_u8).prop_map(
        |(mut trace, picks, limits, over)| {
            for (job, max) in trace.cell.jobs.iter_mut().zip(limits) {
                job.max_disrupted = max;
            }
            let slots = Slot::all(&trace.cell);
            let mut on: On = vec![Vec::new(); slots.len()];
            let tasks: Vec<TaskId> = trace.cell.tasks().map(|(id, _, _)| id).collect();
            for (index, (&task, pick)) in tasks.iter().zip(picks).enumerate() {
                let fits = |row: &usize| admits(&trace.cell, slots[*row], &on[*row], task);
                let will_do: Vec<usize> = (0..slots.len()).filter(fits).collect();
                let row = match will_do.len() {
                    _ if over == 0 && index == 0 => pick % slots.len(),
                    0 => continue,
                    count => will_do[pick % count],
                };
                on[row].push(task);
                let host = Host::Machine(MachineId::from_index(row));
                trace.cell.jobs[task.job.index()].tasks[task.position as usize].state =
                    TaskState::Running { on: Some(host) };
            }
            trace
        },
    )
}

/// The fewest machines, taken in this order, that hold all but `allowed` of the tasks; by trying every
/// assignment. `None`: more than there are.
pub(crate) fn fewest(cell: &Cell, order: &[Slot], allowed: usize) -> Option<usize> {
    let tasks: Vec<TaskId> = cell.tasks().map(|(id, _, _)| id).collect();
    (1..=order.len()).find(|&count| {
        let mut on: Vec<Vec<TaskId>> = vec![Vec::new(); count];
        holds(cell, &order[..count], &tasks, allowed, &mut on)
    })
}

fn holds(
    cell: &Cell,
    machines: &[Slot],
    tasks: &[TaskId],
    allowed: usize,
    on: &mut Vec<Vec<TaskId>>,
) -> bool {
    let Some((&task, rest)) = tasks.split_first() else { return true };
    for row in 0..machines.len() {
        if admits(cell, machines[row], &on[row], task) {
            on[row].push(task);
            let held = holds(cell, machines, rest, allowed, on);
            on[row].pop();
            if held {
                return true;
            }
        }
    }
    allowed > 0 && holds(cell, machines, rest, allowed - 1, on)
}

/// Whether a machine with these tasks could take one more.
pub(crate) fn admits(cell: &Cell, slot: Slot, on: &[TaskId], task: TaskId) -> bool {
    let machine = cell.machine(slot.machine);
    let job = cell.job(task.job);
    let sum = |amount: &dyn Fn(TaskId) -> u64| -> u64 {
        on.iter().chain([&task]).map(|&task| amount(task)).sum()
    };
    let limit = |task: TaskId| cell.task(task).limit;
    let fits = |asked: u64, used: u64, have: u64| asked == 0 || used <= have;
    fits(limit(task).cpu.0, sum(&|task| limit(task).cpu.0), machine.capacity.cpu.0)
        && fits(limit(task).ram.0, sum(&|task| limit(task).ram.0), machine.capacity.ram.0)
        && job.constraints.iter().all(|c| !c.is_hard() || c.holds(&machine.attributes))
        && !(job.different_machines && on.iter().any(|other| other.job == task.job))
}

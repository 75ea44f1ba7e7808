//! What a machine is to run, as the state says.

use cell::borglet::{Stop, WantedTask};
use cell::live::{Phase, State};
use cell::{JobKind, MachineId};

use crate::WantedSet;

/// All that a machine is to run. Allocs are no processes, and what only waits for room there is not started.
pub(crate) fn of(state: &State, machine: MachineId, term: u64) -> WantedSet {
    let record = state.machine_at(machine);
    let tasks = record.tasks().iter().filter_map(|&(incarnation, id)| {
        let job = state.job_at(id.job);
        let task = state.record(id);
        let (place, is_stopping) = match &task.phase {
            Phase::Running { place, .. } => (place, false),
            Phase::Stopping { place, .. } => (place, true),
            Phase::Assigned(_) | Phase::Waiting { .. } | Phase::Dead { .. } => return None,
        };
        if job.kind == JobKind::AllocSet {
            return None;
        }
        let run = &job.spec.run;
        let grace_ms = u64::from(run.grace_seconds) * 1000;
        Some(WantedTask {
            key: state.key(id),
            incarnation,
            name: state.task_name(id),
            priority: job.spec.priority,
            limit: task.limit,
            gpu_devices: place.gpu_devices,
            command: run.command.clone(),
            grace_ms,
            latency_sensitive: run.latency_sensitive,
            stop_after_disconnect_ms: run
                .stop_after_disconnect_seconds
                .map(|seconds| u64::from(seconds) * 1000),
            stop: is_stopping.then_some(Stop { deadline_in_ms: grace_ms }),
        })
    });
    WantedSet { machine, term, generation: record.generation, tasks: tasks.collect() }
}

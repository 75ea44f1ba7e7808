//! What a machine is to run, as the state says.

use std::collections::BTreeMap;

use cell::borglet::{Incarnation, Stop, WantedTask};
use cell::live::{Phase, State};
use cell::{JobKind, MachineId, TaskId};

use crate::WantedSet;

/// All that a machine is to run.
pub(crate) fn of(state: &State, machine: MachineId, term: u64) -> WantedSet {
    let record = state.machine_at(machine);
    let tasks = record.tasks().iter().filter_map(|&(incarnation, id)| task(state, incarnation, id));
    let (generation, gone) = (record.generation, Vec::new());
    WantedSet { machine, term, generation, is_whole: true, tasks: tasks.collect(), gone }
}

/// What of a machine's tasks changed, of those that may have.
pub(crate) fn changed(
    state: &State,
    machine: MachineId,
    term: u64,
    touched: &BTreeMap<Incarnation, TaskId>,
) -> WantedSet {
    let generation = state.machine_at(machine).generation;
    let (mut tasks, mut gone) = (Vec::new(), Vec::new());
    for (&incarnation, &id) in touched {
        match task(state, incarnation, id) {
            Some(task) => tasks.push(task),
            None => gone.push(incarnation),
        }
    }
    WantedSet { machine, term, generation, is_whole: false, tasks, gone }
}

/// A task as its machine is to run it; `None` if it is not to. Allocs are no processes, and what only waits
/// for room is not started.
fn task(state: &State, incarnation: Incarnation, id: TaskId) -> Option<WantedTask> {
    if !state.has_task(id) {
        return None;
    }
    let job = state.job_at(id.job);
    let task = state.record(id);
    let (place, is_stopping) = match &task.phase {
        Phase::Running { place, .. } => (place, false),
        Phase::Stopping { place, .. } => (place, true),
        Phase::Assigned(_) | Phase::Waiting { .. } | Phase::Dead { .. } => return None,
    };
    if job.kind == JobKind::AllocSet || place.incarnation != incarnation {
        return None;
    }
    let run = &job.spec.run;
    let grace_ms = u64::from(run.grace_seconds) * 1000;
    // A machine hears from a master that is there once in a poll interval, or a little later.
    let heard_within_ms = 2 * state.settings().poll_interval_ms;
    let stop_after = run.stop_after_disconnect_seconds;
    Some(WantedTask {
        key: state.key(id),
        incarnation,
        name: state.task_name(id),
        priority: job.spec.priority,
        limit: task.limit,
        gpu_devices: place.gpu_devices,
        user: job.spec.user.clone(),
        command: run.command.clone(),
        grace_ms,
        latency_sensitive: run.latency_sensitive,
        stop_after_disconnect_ms: stop_after
            .map(|seconds| (u64::from(seconds) * 1000).max(heard_within_ms)),
        container: job.spec.container.clone(),
        stop: is_stopping.then_some(Stop { deadline_in_ms: grace_ms }),
    })
}

//! After healing: all replicas have the same state, every machine runs exactly what is wanted of it, and
//! nothing feasible stays pending.

use borglet_agent::fake::FakeBorglet;
use cell::TaskId;
use cell::borglet::Incarnation;
use cell::live::{Health, Phase, State, Timestamp};
use scheduler::{PassOptions, QueueOrder, Snapshot, Speed, pass, policies};

/// What is still missing; `None`: everything has converged.
#[must_use]
pub fn missing(
    state: &State,
    snapshot: &Snapshot<'_>,
    borglets: &[FakeBorglet],
    now: Timestamp,
) -> Option<String> {
    for (id, machine) in state.machines() {
        if machine.is_removed {
            continue;
        }
        let name = &machine.spec.name;
        if machine.health != Health::Up {
            return Some(format!("machine {name} is {:?}", machine.health));
        }
        if machine.is_drained {
            continue;
        }
        let borglet = borglets.get(id.index())?;
        let mut running: Vec<Incarnation> =
            borglet.machine().alive().map(|task| task.incarnation).collect();
        running.sort_unstable();
        let wanted = machine.tasks().iter().filter(|(_, task)| {
            let phase = &state.record(*task).phase;
            matches!(phase, Phase::Running { .. } | Phase::Stopping { .. })
                && state.job_at(task.job).kind == cell::JobKind::Job
        });
        let wanted: Vec<Incarnation> = wanted.map(|&(incarnation, _)| incarnation).collect();
        // What ended a moment ago may not have been reported yet.
        if running.iter().any(|incarnation| !wanted.contains(incarnation)) {
            return Some(format!("machine {name} runs what is not wanted"));
        }
    }
    let waiting: Vec<TaskId> = state
        .waiting()
        .filter(|key| state.is_eligible(*key, now.max(state.now())))
        .filter_map(|key| state.task_id(key))
        .collect();
    let policy = policies().swap_remove(0);
    let options = PassOptions {
        policy,
        queue: QueueOrder::RoundRobin,
        seed: 0,
        speed: Speed::default(),
        pending_limit: None,
    };
    let plan = pass(snapshot, &waiting, &options);
    plan.assignments
        .first()
        .map(|assignment| format!("{} waits, and has a place", state.task_name(assignment.task)))
}

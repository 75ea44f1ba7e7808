//! Events and causes in words, one line each, without a full stop.

use crate::borglet::ExitCause;
use crate::id::MachineId;
use crate::live::{DeathCause, Event, JobEnd, Left, MachineStep, State, TaskStep, What};

/// An event for people: `web/3 scheduled on m-17`. The state is asked for machines' names alone, so any
/// state from the event's on will do.
#[must_use]
pub fn describe(state: &State, event: &Event) -> String {
    match &event.what {
        What::Submitted { job, uid } => format!("{job} submitted as job {uid}"),
        What::Updated { job, version } => format!("{job} updated to version {version}"),
        What::Ended { job, end } => match end {
            JobEnd::Finished => format!("{job} finished"),
            JobEnd::Failed => format!("{job} failed: a task of it failed for good"),
            JobEnd::Killed => format!("{job} killed"),
        },
        What::Task { job, task, machine, step, .. } => {
            let name = format!("{job}/{}", task.index);
            let machine = machine.map(|id| machine_name(state, id));
            let at = |word: &str| match &machine {
                Some(machine) => format!(" {word} {machine}"),
                None => String::new(),
            };
            match step {
                TaskStep::Scheduled => format!("{name} scheduled{}", at("on")),
                TaskStep::Started => format!("{name} started{}", at("on")),
                TaskStep::Notified(cause) => {
                    format!("{name} told to stop{}: {}", at("on"), cause.name())
                }
                TaskStep::Evicted(cause) => {
                    format!("{name} evicted{}: {}", at("from"), cause.name())
                }
                TaskStep::Exited(cause) => {
                    format!("{name} ended{}: {}", at("on"), describe_exit(cause))
                }
                TaskStep::Died(cause) => format!("{name} {}{}", describe_death(cause), at("on")),
                TaskStep::Health(true) => format!("{name} healthy again{}", at("on")),
                TaskStep::Health(false) => format!("{name} fails its health check{}", at("on")),
                TaskStep::Unassigned => format!("{name} lost the place chosen for it{}", at("on")),
            }
        }
        What::Machine { machine, step } => {
            let name = machine_name(state, *machine);
            match step {
                MachineStep::Added => format!("machine {name} added or changed"),
                MachineStep::Up => format!("machine {name} up"),
                MachineStep::Down => format!("machine {name} down: it fell silent"),
                MachineStep::Drained => format!("machine {name} drained"),
                MachineStep::Repaired => format!("machine {name} back in service"),
                MachineStep::Removed => format!("machine {name} removed"),
            }
        }
        What::Restored { from_index, kept_count, pending_count } => format!(
            "cell restored from its state at index {from_index}: {kept_count} tasks go on undisturbed, \
             {pending_count} are pending again"
        ),
    }
}

/// A machine's name, also of one that was removed.
fn machine_name(state: &State, id: MachineId) -> String {
    match state.cell().machines.get(id.index()) {
        Some(machine) => machine.name.clone(),
        None => format!("#{}", id.0),
    }
}

/// Why a process ended: `exit code 3`.
#[must_use]
pub fn describe_exit(cause: &ExitCause) -> String {
    match cause {
        ExitCause::Finished => "exit code 0".to_owned(),
        ExitCause::Failed { code } => format!("exit code {code}"),
        ExitCause::Signal { signal } => format!("signal {signal}"),
        ExitCause::OutOfMemory => "out of memory".to_owned(),
        ExitCause::Unhealthy => "failed its health check".to_owned(),
        ExitCause::Stopped => "stopped as told".to_owned(),
        ExitCause::Disconnected => "its machine heard from no master for too long".to_owned(),
        ExitCause::StartFailed { reason } => format!("could not be started: {reason}"),
        ExitCause::Lost => "gone, and nobody saw how".to_owned(),
    }
}

/// Why a task is dead: `failed: exit code 3`.
#[must_use]
pub fn describe_death(cause: &DeathCause) -> String {
    match cause {
        DeathCause::Finished => "finished".to_owned(),
        DeathCause::Failed(exit) => format!("failed: {}", describe_exit(exit)),
        DeathCause::Killed => "killed".to_owned(),
    }
}

/// What took a task off its last machine: `evicted: machine lost`.
#[must_use]
pub fn describe_left(left: &Left) -> String {
    match left {
        Left::Evicted(cause) => format!("evicted: {}", cause.name()),
        Left::Exited(cause) => format!("ended: {}", describe_exit(cause)),
        Left::Restored => "the cell was restored from an earlier state".to_owned(),
        Left::NotStarted => "the place chosen for it came to nothing".to_owned(),
    }
}

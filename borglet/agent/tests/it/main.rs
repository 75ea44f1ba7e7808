//! What an agent does, seen from outside.

mod properties;
mod rules;

use borglet_agent::fake::{Behaviour, OnSigterm};
use borglet_agent::{Action, Config, Input};
use cell::Resources;
use cell::borglet::{
    ExitCause, Fence, Incarnation, MachineCapacity, Poll, Report, ReportedState, Stop, TaskKey,
    Usage, Wanted, WantedTask,
};

fn config() -> Config {
    let capacity = MachineCapacity {
        cpu_milli: 32_000,
        ram_bytes: 128 << 30,
        disk_bytes: 1 << 40,
        gpu_count: 0,
    };
    Config { machine: "m1".to_owned(), capacity }
}

/// Incarnation `incarnation` of task 7/`index`, with 10 s of grace.
fn task(index: u32, incarnation: u64) -> WantedTask {
    WantedTask {
        key: TaskKey { job: 7, index },
        incarnation: Incarnation(incarnation),
        name: format!("job/{index}"),
        priority: 200,
        limit: Resources::default(),
        gpu_devices: 0,
        user: String::new(),
        command: vec!["serve".to_owned()],
        grace_ms: 10_000,
        latency_sensitive: false,
        stop_after_disconnect_ms: None,
        container: None,
        stop: None,
    }
}

fn stopped(task: WantedTask, deadline_in_ms: u64) -> WantedTask {
    WantedTask { stop: Some(Stop { deadline_in_ms }), ..task }
}

fn fence(term: u64, generation: u64) -> Fence {
    Fence { term, generation }
}

fn whole(fence: Fence, tasks: &[WantedTask]) -> Input {
    Input::Wanted(Wanted { fence, base: None, tasks: tasks.to_vec(), gone: Vec::new() })
}

fn poll(term: u64) -> Input {
    Input::Poll(Poll { fence: fence(term, 0) })
}

/// For ever, ending 2 s after SIGTERM.
fn serves(_: &WantedTask) -> Behaviour {
    Behaviour {
        start_up_ms: 100,
        runtime_ms: None,
        exit: ExitCause::Finished,
        usage: Usage { cpu_milli: 500, ram_bytes: 1 << 30 },
        is_healthy: true,
        on_sigterm: OnSigterm::Ends { after_ms: 2_000 },
    }
}

fn ignores_sigterm(task: &WantedTask) -> Behaviour {
    Behaviour { on_sigterm: OnSigterm::Ignores, ..serves(task) }
}

fn started(actions: &[Action]) -> Vec<u64> {
    let start = |action: &Action| match action {
        Action::Start(task) => Some(task.incarnation.0),
        Action::Persist(_)
        | Action::Adjust(_)
        | Action::Terminate(_)
        | Action::Kill(_)
        | Action::Forget(_)
        | Action::Reply(_)
        | Action::Refuse(_) => None,
    };
    actions.iter().filter_map(start).collect()
}

fn states(report: &Report) -> Vec<(u64, ReportedState)> {
    report.tasks.iter().map(|task| (task.incarnation.0, task.state.clone())).collect()
}

//! What simulated tasks do, as a function of the seed and the placement.

use borglet_agent::fake::{Behaviour, OnSigterm};
use cell::borglet::{ExitCause, Usage, WantedTask};
use scheduler::mix;

/// What a task does: most finish after a while, some run for ever, some fail, some ignore SIGTERM.
pub(crate) fn of(seed: u64, task: &WantedTask) -> Behaviour {
    let draw = |salt: u64| mix(mix(seed ^ salt) ^ mix(task.incarnation.0));
    let is_service = task.name.starts_with("service");
    let runtime_ms = match draw(1) % 10 {
        0 => Some(draw(2) % 200),
        1..=6 => Some(1_000 + draw(2) % 60_000),
        _ => None,
    };
    let exit = match draw(3) % 10 {
        0 => ExitCause::Failed { code: 1 },
        1 => ExitCause::OutOfMemory,
        _ => ExitCause::Finished,
    };
    let share = 1 + draw(4) % 4;
    Behaviour {
        start_up_ms: draw(5) % 300,
        runtime_ms: if is_service && draw(1) % 5 != 0 { None } else { runtime_ms },
        exit,
        usage: Usage { cpu_milli: task.limit.cpu.0 / share, ram_bytes: task.limit.ram.0 / share },
        is_healthy: !draw(8).is_multiple_of(12),
        on_sigterm: if draw(6).is_multiple_of(5) {
            OnSigterm::Ignores
        } else {
            OnSigterm::Ends { after_ms: draw(7) % 2_000 }
        },
    }
}

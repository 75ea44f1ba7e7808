//! The rest of a log under another policy.
//!
//! Everything that users and machines did is done again at its time: submissions, updates, kills, quota,
//! settings, machines that come, go, fall silent and are drained, what tasks were expected to use. What was
//! refused then is left out. The master's own doing is not replayed but done afresh: places are chosen by the
//! fork's policy, in a pass at each recorded entry that assigned tasks and soon after anything else that may
//! let more be placed; evictions off lost and drained machines and of updated jobs are those that a master
//! would propose ([`borgmaster_core::evictions`]). [`State::apply`] is the only way in which the fork's state
//! changes.
//!
//! Tasks behave as in the recording: see [`Lives`].
//!
//! In: a cell file, where to begin and to end, a policy and a seed. Out: how both did. The same input gives
//! the same report. Source: Borg (EuroSys '15) §3.1: Fauxmaster, "to debug failures", plan capacity and
//! check changes "before making [them] in a live cell".

mod clock;
mod lives;
mod replay;
mod side;

use cell::file::{CellFile, NotHeld};
use cell::live::{Entry, Op};
use scheduler::Policy;
use serde::Serialize;

use self::lives::Recording;
use self::replay::Replay;
pub use self::side::{Sample, SideReport, Waits};

/// How to fork.
#[derive(Clone, Debug)]
pub struct ForkOptions {
    /// The fork's policy.
    pub policy: Policy,
    /// Seeds its ties and samples.
    pub seed: u64,
}

/// How the recording and the fork did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ForkReport {
    /// The cell.
    pub cell: String,
    /// After which entry the fork begins.
    pub from_index: u64,
    /// The last entry.
    pub until_index: u64,
    /// For how long the log goes on from there.
    pub seconds: f64,
    /// The policy of the cell at the beginning, by its settings.
    pub recorded_policy: String,
    /// The policy of the fork.
    pub policy: String,
    /// The seed.
    pub seed: u64,
    /// What was recorded.
    pub recorded: SideReport,
    /// What came of it in the fork.
    pub fork: SideReport,
    /// Operations that were carried out in the recording, and refused in the fork.
    pub refused_operations: usize,
    /// Assignments that the fork's own state refused.
    pub refused_assignments: usize,
    /// The hash of the fork's last state.
    pub fork_hash: String,
}

/// Why a log cannot be forked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForkError {
    /// The file does not hold an index.
    #[error(transparent)]
    NotHeld(#[from] NotHeld),
    /// What came after it did not come of what was before.
    #[error(
        "the cell was restored by entry {index}: fork up to the entry before it, or from it on"
    )]
    Restored {
        /// The entry.
        index: u64,
    },
}

/// Forks at the index `from` and goes on to `until`.
///
/// # Errors
/// If the file does not hold one of them, or the cell was restored in between.
pub fn fork(
    file: &CellFile,
    from: u64,
    until: u64,
    options: &ForkOptions,
) -> Result<ForkReport, ForkError> {
    let start = file.state_at(from)?;
    let log = file.log_between(from, until)?;
    let is_restored = |(_, entry): &&(u64, Option<Entry>)| {
        let mut commands = entry.iter().flat_map(|entry| &entry.commands);
        commands.any(|command| matches!(command.op, Op::RestoreFinish { .. }))
    };
    if let Some(&(index, _)) = log.iter().find(is_restored) {
        return Err(ForkError::Restored { index });
    }
    let recorded_policy = start.settings().policy.clone();
    let recording = Recording::of(&start, log);
    let begin = recording.side.begin;
    let end = recording.side.state.now();
    let replay = Replay::run(start, log, &recording, options);
    Ok(ForkReport {
        cell: file.cell_name().to_owned(),
        from_index: from,
        until_index: until,
        seconds: super::seconds(end.since_ms(begin)),
        recorded_policy,
        policy: options.policy.name().to_owned(),
        seed: options.seed,
        refused_operations: replay.refused_operations,
        refused_assignments: replay.side.refused_assignments,
        fork_hash: format!("{:032x}", replay.side.state.hash()),
        recorded: recording.side.report(),
        fork: replay.side.report(),
    })
}

#[cfg(test)]
mod tests;

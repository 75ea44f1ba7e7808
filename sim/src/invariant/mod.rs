//! What must hold after every step, a file each. Those of the cell's state look at each entry of the log as
//! it is first applied; others at what borglets do, or at the end.

pub mod agreement;
pub mod capacity;
pub mod convergence;
pub mod disruption;
pub mod eviction_rate;
pub mod fencing;
pub mod incarnation;
pub mod life;
pub mod preemption;
pub mod quota;
pub mod replay;
pub mod restore;
pub mod rollout;
pub mod sound;

use cell::live::{Applied, Entry, State};

/// An entry of the log, and what it came to.
#[derive(Debug)]
pub struct Step<'a> {
    /// Its index.
    pub index: u64,
    /// The entry; `None`: it holds nothing for the cell.
    pub entry: Option<&'a Entry>,
    /// What it came to.
    pub applied: &'a Applied,
    /// The state before.
    pub before: &'a Totals,
    /// The state after.
    pub state: &'a State,
}

/// What is kept of the state before an entry.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Machines, and those of them that are down.
    pub machines: (u32, u32),
    /// Whether too many were down for any eviction.
    pub is_mass_loss: bool,
}

/// Something that must hold after each entry.
pub trait Invariant: std::fmt::Debug {
    /// What must hold.
    fn name(&self) -> &'static str;

    /// An entry is about to be applied to this state.
    fn prepare(&mut self, _entry: &Entry, _state: &State) {}

    /// Whether it holds.
    ///
    /// # Errors
    /// How it does not.
    fn check(&mut self, step: &Step<'_>) -> Result<(), String>;
}

/// All invariants of the state.
#[must_use]
pub fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(sound::Sound::default()),
        Box::new(capacity::Capacity),
        Box::new(quota::Quota::default()),
        Box::new(preemption::Preemption),
        Box::new(disruption::Disruption::default()),
        Box::new(rollout::Rollout::default()),
        Box::new(eviction_rate::EvictionRate::default()),
        Box::new(incarnation::OnePlacement::default()),
        Box::new(life::NoTaskLost::default()),
        Box::new(restore::Restore::default()),
        Box::new(replay::Replay::default()),
    ]
}

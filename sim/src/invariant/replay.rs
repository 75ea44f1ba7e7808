//! Checkpoint and log lead to the same state: now and then the state is written down and read back, and what
//! was read follows the log from there on.

use cell::live::State;

use super::{Invariant, Step};

/// A checkpoint is taken every so many entries.
const EVERY: u64 = 97;

/// The state that follows from the last checkpoint.
#[derive(Debug, Default)]
pub struct Replay {
    shadow: Option<State>,
}

impl Invariant for Replay {
    fn name(&self) -> &'static str {
        "checkpoint and log lead to the same state"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        if let Some(shadow) = &mut self.shadow {
            match step.entry {
                Some(entry) => drop(shadow.apply(step.index, entry)),
                None => shadow.skip(step.index),
            }
            if shadow.hash() != step.state.hash() {
                return Err(format!(
                    "at {} the state from the checkpoint has another hash",
                    step.index
                ));
            }
        }
        if step.index.is_multiple_of(EVERY) {
            let back = State::from_bytes(&step.state.to_bytes());
            self.shadow = Some(back.map_err(|error| error.to_string())?);
        }
        Ok(())
    }
}

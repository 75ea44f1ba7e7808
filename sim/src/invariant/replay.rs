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

/// The first lines in which two states differ.
fn difference(one: &State, other: &State) -> String {
    let (one, other) = (format!("{one:#?}"), format!("{other:#?}"));
    let pairs = one.lines().zip(other.lines()).enumerate().filter(|(_, (a, b))| a != b);
    pairs.take(8).fold(String::new(), |text, (number, (a, b))| {
        let (a, b) = (a.trim(), b.trim());
        format!("{text}\n  line {number} of the state: {a} (replayed: {b})")
    })
}

impl Invariant for Replay {
    fn name(&self) -> &'static str {
        "checkpoint and log lead to the same state"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        if let Some(shadow) = &mut self.shadow {
            if let Some(entry) = step.entry {
                let again = shadow.apply(step.index, entry).answers;
                let pairs = step.applied.answers.iter().zip(&again);
                if let Some((answer, again)) = pairs.clone().find(|(a, b)| a != b) {
                    return Err(format!("{answer:?} is {again:?} when replayed"));
                }
            } else {
                shadow.skip(step.index);
            }
            if shadow.hash() != step.state.hash() {
                return Err(format!(
                    "at {} the state from the checkpoint has another hash{}",
                    step.index,
                    difference(step.state, shadow)
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

//! The state agrees with itself: sums, lists, counts and the hash.

use cell::live::KnownSpecs;

use super::{Invariant, Step};

/// The state's own check.
#[derive(Debug, Default)]
pub struct Sound {
    specs: KnownSpecs,
}

impl Invariant for Sound {
    fn name(&self) -> &'static str {
        "the state agrees with itself"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        match step.state.faults_since(&mut self.specs).first() {
            None => Ok(()),
            Some(fault) => Err(fault.to_string()),
        }
    }
}

//! Lower bounds on machines, each a search for prices; the [`certificate`](crate::certificate) module
//! says what prices prove.
//!
//! - *volume*: a task's price is what it is charged of one resource.
//! - *transport*: prices are the duals of an LP that spreads task shapes over machine shapes as fluids.
//! - *configuration*: prices are the duals of an LP over whole fillings of a machine, found by column
//!   generation.
//! - *worth*: not machines, but how much can be placed on given ones.

mod configuration;
mod round;
mod transport;
mod volume;
mod worth;

pub use configuration::{Effort, configuration};
pub use transport::transport;
pub use volume::volume;
pub use worth::{classes, worth};

use good_lp::ResolutionError;

use crate::infeasible::{self, Blame};
use crate::model::Model;

/// Why there is no bound.
#[derive(Debug, thiserror::Error)]
pub enum BoundError {
    /// A task fits on no machine.
    #[error("no prices for the {what} bound, as some tasks fit on no machine: {blame}")]
    Infeasible {
        /// Which LP.
        what: &'static str,
        /// What keeps them off.
        blame: Blame,
    },
    /// The solver failed.
    #[error("the solver gave no prices for the {what} bound: {source}")]
    Solver {
        /// Which LP.
        what: &'static str,
        /// What the solver said.
        source: ResolutionError,
    },
}

impl BoundError {
    /// Of the LP `what` over a mix of machines, which the solver did not solve.
    fn of(model: &Model, mix: &[u64], what: &'static str, source: ResolutionError) -> Self {
        match (&source, infeasible::of_model(model, mix)) {
            (ResolutionError::Infeasible, Some(blame)) => Self::Infeasible { what, blame },
            _ => Self::Solver { what, source },
        }
    }
}

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

/// Why there is no bound.
#[derive(Debug, thiserror::Error)]
pub enum BoundError {
    /// The solver failed.
    #[error("the solver gave no prices for the {what} bound: {source}")]
    Solver {
        /// Which LP.
        what: &'static str,
        /// What the solver said.
        source: good_lp::ResolutionError,
    },
}

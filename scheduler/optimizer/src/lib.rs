//! The optimising scheduler: proven lower bounds, and plans that are better than greedy's and never worse.
//!
//! Everything here starts from a plan of [`scheduler`] and improves it within a budget. Bounds come with
//! certificates in integers, which a verifier checks that shares no code with the search for them.

pub mod against;
pub mod batch;
pub mod batches;
pub mod bound;
pub mod budget;
pub mod certificate;
pub mod compact;
pub mod disruption;
pub mod infeasible;
pub mod model;
pub mod objective;
pub mod pack;
pub mod preempt;
pub mod proof;
pub mod repack;
pub mod report;
pub mod scene;
pub mod shrink;
pub mod table;
pub mod trade;

mod insert;
mod knapsack;
mod milp;
mod refill;
mod state;

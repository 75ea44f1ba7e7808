//! The scheduler: given a cell's machines and a queue of tasks, which task goes where.
//!
//! In: a [`Snapshot`] (an immutable view of what is free where), the tasks that wait, a [`Policy`] and a
//! seed. Out: a [`Plan`], and for a task that found no place the reasons why ([`why`]). Borg's and
//! Kubernetes' placement share the snapshot and the pass, and differ in queue order, score, and how many
//! hosts they look at.
//!
//! This crate is pure: no clock, no environment, no randomness but the seed, nothing in hash order; and
//! it never writes state, its plan is a proposal.

pub mod feasible;
pub mod k8s;
pub mod peers;
pub mod score;
pub mod why;

mod accounting;
mod amounts;
mod bounds;
mod disruption;
mod draft;
mod equivalence;
mod evictable;
mod gpus;
mod host;
mod job_state;
mod offers;
mod pass;
mod policy;
mod preempt;
mod queue;
mod rooms;
mod snapshot;
mod table;
mod tables;

pub use accounting::{Accounting, UsageRatio};
pub use draft::Draft;
pub use equivalence::mix;
pub use pass::{Assignment, PassOptions, PendingLimit, Plan, Speed, pass, pass_on};
pub use policy::{Base, Examine, Policy, UnknownPolicy, policies};
pub use queue::QueueOrder;
pub use rooms::Rooms;
pub use snapshot::{Gpus, Placement, Slot, Snapshot};

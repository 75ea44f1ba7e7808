//! Fakes: containers without processes, and whole borglets on them, in virtual time.
//!
//! For the simulation and for load tests, where one process holds thousands. Deterministic: what a task
//! does is a function that the caller gives.

mod borglet;
mod machine;

pub use borglet::FakeBorglet;
pub use machine::{Behaviour, FakeMachine, OnSigterm};

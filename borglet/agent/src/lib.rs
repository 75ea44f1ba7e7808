//! What a borglet does: it brings what runs on its machine in line with what a master wants of it.
//!
//! In: masters' messages, events of the containers, and the time. Out: actions for a shell to carry out,
//! in their order. The agent never touches a process, a disk or a socket, reads no clock, and never takes
//! a decision that a fence or an incarnation could make wrong: see [`Agent`] for the rules.
//!
//! [`fake`] is a machine made of nothing, for simulation and for load tests.
//!
//! Source: Borg (EuroSys '15) §3.3; fences as in `cell::borglet`.

mod agent;
pub mod fake;
mod input;
mod tasks;

pub use agent::{Agent, Config, MESSAGE_COUNT_MAX};
pub use input::{Action, Found, FoundState, Input, TaskEvent};
pub use tasks::{GIVEN_UP_MARGIN_MS, KILL_RETRY_MS, TASK_COUNT_MAX};

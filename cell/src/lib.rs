//! The types and the state of a cell: machines, jobs, tasks, alloc sets, their limits and constraints.
//!
//! Everything else in the workspace speaks in these terms, spelled as the Borg paper spells them. This
//! crate is pure: it reads no clock, no environment and no file, draws no random number, and iterates
//! nothing in hash order.
//!
//! Source: Verma et al., "Large-scale cluster management at Google with Borg", EuroSys '15, §2.

mod band;
pub mod borglet;
mod constraint;
pub mod container;
mod cow;
pub mod file;
mod id;
mod job;
pub mod kube;
pub mod live;
mod machine;
pub mod quantity;
mod resources;
pub mod spec;
mod state;

pub use band::{Band, Priority};
pub use constraint::{Attributes, Constraint, Predicate, Strength};
pub use cow::{CowChunks, CowVec};
pub use id::{JobId, MachineId, TaskId, UserId};
pub use job::{Host, Job, JobKind, Spread, Task, TaskState};
pub use machine::{DomainKind, Machine};
pub use resources::{
    Bytes, Capacity, GPU_DEVICE, GPU_DEVICE_COUNT_MAX, GpuRequest, MilliCpu, MilliGpu, Resources,
    Unstated,
};
pub use state::Cell;

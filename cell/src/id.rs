//! Dense ids: positions in the vectors of a [`Cell`](crate::Cell).
//!
//! An id means something only together with the cell that gave it. Names, which users and traces
//! know, are kept beside the thing they name.

use serde::{Deserialize, Serialize};

macro_rules! dense_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl $name {
            /// The id of the thing at `index`.
            ///
            /// # Panics
            /// If `index` does not fit 32 bits.
            #[must_use]
            pub fn from_index(index: usize) -> Self {
                Self(u32::try_from(index).expect("a cell holds fewer than 2^32 things of a kind"))
            }

            /// The position this id stands for.
            #[must_use]
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

dense_id! {
    /// A machine of a cell.
    MachineId
}
dense_id! {
    /// A job or an alloc set of a cell.
    JobId
}
dense_id! {
    /// A user who owns jobs.
    UserId
}

/// A task of a job, or an alloc of an alloc set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    /// The job (or alloc set).
    pub job: JobId,
    /// Position in [`Job::tasks`](crate::Job::tasks); not the task's index in its trace, which may
    /// have holes.
    pub position: u32,
}

//! Containers: in what a task's program runs.
//!
//! [`Containers`] is the one trait; a file a kind. What they have in common is not in it: the control group holds and
//! ends every process ([`crate::cgroup::Group`]), and whoever has the process id of the program can signal it and
//! enter its container.

mod cri;
mod oci;
mod shim;
mod spare;

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use borglet_init::Exit;
use cell::borglet::WantedTask;

pub(crate) use self::cri::{Cri, SOCKET_DEFAULT};
pub(crate) use self::oci::remove_groups;
pub(crate) use self::shim::{Settings, Shim};
pub(crate) use self::spare::{Spare, Spares};
use crate::cgroup::{Group, Limits};
use crate::folder::Record;

/// A task, and all that was prepared for it.
#[derive(Clone, Debug)]
pub(crate) struct Contained {
    /// What is to be run.
    pub record: Arc<Record>,
    /// Its folder.
    pub folder: PathBuf,
    /// Its control group, which is there.
    pub group: Group,
    /// Packages by name, with the folders that they are unpacked in.
    pub packages: Vec<(String, PathBuf)>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
}

/// What became of a container while no borglet watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Its program runs, for so long.
    Running { age_ms: u64 },
    /// It has ended; how, if that was noted.
    Exited(Option<Exit>),
}

/// Whether a task's container can be begun before the task is known: that of one of the machine's own programs.
pub(crate) fn may_be_spare(task: &WantedTask) -> bool {
    task.container.as_ref().is_none_or(|it| it.bundle.is_none() && it.image.is_none())
}

/// What has to be done before a program runs, and may be done while its container is being made: it waits for the disk.
pub(crate) type Keep<'a> = &'a (dyn Fn() -> Result<(), String> + Sync);

/// Starts programs in containers of one kind, and sees how they end.
#[tonic::async_trait]
pub(crate) trait Containers: Debug + Send + Sync {
    /// Makes the container, has `keep` done and starts the program. Returns once it runs, and its CPU is limited
    /// ([`Group::limit_cpu`]). A `spare` is in the task's control group. Is called where it may block.
    ///
    /// # Errors
    /// Why it does not run and never will, for people. What was made of the container is then gone, or goes with its
    /// control group or [`Self::clean`]; what is to be kept may not be.
    async fn start(
        &self,
        task: Arc<Contained>,
        limits: Limits,
        spare: Option<Spare>,
        keep: Keep<'_>,
    ) -> Result<(), String>;

    /// Waits until the program has ended, and says how; `None` if nobody saw it.
    async fn wait(&self, task: Arc<Contained>) -> anyhow::Result<Option<Exit>>;

    /// What a borglet that was started again finds. A container that was only being set up never runs from now on.
    async fn find(&self, task: Arc<Contained>) -> anyhow::Result<Found>;

    /// The process of the program, as the machine has it; `None` if there is none.
    async fn pid(&self, task: Arc<Contained>) -> anyhow::Result<Option<i32>>;

    /// Removes what is left of a container whose processes are gone. May come again.
    async fn clean(&self, task: Arc<Contained>) -> anyhow::Result<()>;
}

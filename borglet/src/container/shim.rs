//! Containers under a first process of ours (`borglet-init`): of the machine's own programs, and of OCI bundles.
//!
//! The first process keeps the logs and notes the exit, so that nothing is lost while no borglet runs.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use borglet_init::{Container, Exit, Launch, Process, Run};
use cell::container::FILES_DEFAULT;
use cell::{Band, Priority};
use rustix::process::{Pid, PidfdFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::spawn_blocking;

use super::spare::{First, NotLaunched};
use super::{Contained, Containers, Found, Keep, Spare, oci};
use crate::cgroup::Limits;

/// What holds for all containers.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The program `borglet-init`.
    pub init: PathBuf,
    /// The OCI runtime, if there is one.
    pub oci_runtime: Option<PathBuf>,
    /// A log is rotated at this size, in bytes.
    pub log_bytes_max: u64,
    /// So many files are kept of each stream.
    pub log_file_count: u32,
}

/// Both kinds: a task with a bundle is of the one, all others are of the other.
#[derive(Clone, Debug)]
pub(crate) struct Shim {
    settings: Settings,
}

/// Whom the kernel kills first where it is out of memory: the lowest priority. It adds so many thousandths of all memory
/// to what a task uses, so that between bands there is as much as the largest of their tasks are likely to differ.
pub(crate) fn oom_score_adj(priority: u16) -> i32 {
    match Priority::new(priority).map(Priority::band) {
        Some(Band::Free) => 1000 - i32::from(priority),
        Some(Band::Batch | Band::Mid) => 700 - i32::from(priority - 100),
        Some(Band::Production) => 300 - i32::from(priority - 120) / 2,
        // After all tasks come the daemons of the machine.
        Some(Band::Monitoring) | None => 100,
    }
}

impl Shim {
    pub(crate) const fn new(settings: Settings) -> Self {
        Self { settings }
    }

    fn launch(&self, task: &Contained) -> Result<Launch, String> {
        let wanted = &task.record.task;
        let bundle = wanted.container.as_ref().and_then(|container| container.bundle.as_ref());
        let (container, command, cgroups, env) = match bundle {
            None => {
                let files_max = wanted.container.as_ref().and_then(|it| it.files_max);
                let process = Process {
                    ids: task.record.given.ids,
                    home: task.folder.join("home"),
                    packages: task.packages.clone(),
                    files_max: files_max.unwrap_or(FILES_DEFAULT).into(),
                };
                if wanted.command.is_empty() {
                    return Err("field `run.command`: must not be empty".to_owned());
                }
                let env = task.env.clone();
                (Container::Process(process), wanted.command.clone(), task.group.folders(), env)
            }
            Some(bundle) => {
                let runtime = self.settings.oci_runtime.as_ref().ok_or(
                    "the machine has no OCI runtime: install runc or crun, or name one with --oci-runtime",
                )?;
                let oci::Prepared { pid_file, command, cgroups } =
                    oci::prepare(task, bundle.as_ref(), runtime)?;
                // The runtime is root on the machine, where a job's LD_PRELOAD is not to reach it: the program's
                // environment is in the bundle.
                let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
                let env = vec![("PATH".to_owned(), path.to_owned())];
                (Container::Oci { pid_file }, command, cgroups, env)
            }
        };
        Ok(Launch {
            folder: task.folder.clone(),
            cgroups,
            oom_score_adj: oom_score_adj(wanted.priority),
            command,
            env,
            log_bytes_max: self.settings.log_bytes_max,
            log_file_count: self.settings.log_file_count,
            container,
        })
    }

    fn find_now(task: &Contained) -> anyhow::Result<Found> {
        let run = match Run::read(&task.folder)? {
            Some(run) => run,
            // From now on it does not run.
            None if Run::nobody().claim(&task.folder)? => return Ok(Found::Exited(None)),
            None => Run::read(&task.folder)?.context("the file of the first process is gone")?,
        };
        if !run.is_alive()? {
            return Ok(Found::Exited(Exit::read(&task.folder)?));
        }
        let ticks = rustix::param::clock_ticks_per_second();
        let started_ms = run.start * 1000 / ticks.max(1);
        Ok(Found::Running { age_ms: borglet_init::uptime_ms()?.saturating_sub(started_ms) })
    }
}

/// The first process, to be waited for; `None` if it has gone.
fn open(task: &Contained) -> anyhow::Result<Option<OwnedFd>> {
    let Some(run) = Run::read(&task.folder)? else { return Ok(None) };
    let Some(pid) = Pid::from_raw(run.pid) else { return Ok(None) };
    match rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK) {
        // Not another one that has its number since.
        Ok(fd) => Ok(run.is_alive()?.then_some(fd)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[tonic::async_trait]
impl Containers for Shim {
    async fn start(
        &self,
        task: Arc<Contained>,
        limits: Limits,
        spare: Option<Spare>,
        keep: Keep<'_>,
    ) -> Result<(), String> {
        let launch = self.launch(&task)?;
        let anew = || {
            let first = First::start(&self.settings.init, "run")?;
            first.launch(&launch, keep).map_err(NotLaunched::why)
        };
        match spare.map(|spare| spare.into_first().launch(&launch, keep)) {
            None => anew()?,
            Some(Ok(())) => {}
            Some(Err(NotLaunched::Failed(why))) => return Err(why),
            Some(Err(NotLaunched::Gone(why))) => match Run::read(&task.folder) {
                // It went before it was this task's, as for want of memory.
                Ok(None) => anew()?,
                _ => return Err(why),
            },
        }
        task.group.limit_cpu(&limits).map_err(|error| format!("control group: {error}"))
    }

    async fn wait(&self, task: Arc<Contained>) -> anyhow::Result<Option<Exit>> {
        if let Some(fd) = open(&task)? {
            // A descriptor of a process can be read once that has ended.
            // SAFETY: an owned descriptor stays open, and the same, for as long as it is registered.
            #[allow(unsafe_code, reason = "see above")]
            let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
            let _ended = fd.readable().await?;
        }
        Ok(Exit::read(&task.folder)?)
    }

    async fn find(&self, task: Arc<Contained>) -> anyhow::Result<Found> {
        spawn_blocking(move || Self::find_now(&task)).await?
    }

    async fn pid(&self, task: Arc<Contained>) -> anyhow::Result<Option<i32>> {
        let Some(run) = Run::read(&task.folder)? else { return Ok(None) };
        let first = run.pid;
        if !run.is_alive()? {
            return Ok(None);
        }
        // The program is its first child; others are of those that the program left behind.
        let children = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children"))?;
        Ok(children.split_whitespace().next().and_then(|pid| pid.parse().ok()))
    }

    async fn clean(&self, task: Arc<Contained>) -> anyhow::Result<()> {
        let bundle = task.record.task.container.as_ref().and_then(|it| it.bundle.clone());
        let Some(runtime) = self.settings.oci_runtime.clone().filter(|_| bundle.is_some()) else {
            return Ok(());
        };
        spawn_blocking(move || oci::clean(&task, &runtime)).await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_priorities_are_killed_first_and_bands_are_far_apart() {
        let all: Vec<i32> = (0..=450).map(oom_score_adj).collect();
        assert!(all.windows(2).all(|pair| pair[0] >= pair[1]), "{all:?}");
        assert!(all[99] - all[100] >= 200 && all[119] - all[120] >= 300, "{all:?}");
        assert!(all.iter().all(|it| (100..=1000).contains(it)));
    }
}

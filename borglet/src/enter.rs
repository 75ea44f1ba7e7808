//! Commands inside a container that runs: for users, and for health checks.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;

use anyhow::Context;
use borglet_init::Enter;
use rustix::process::{Pid, Signal};

use crate::container::Contained;
use crate::machine::Surroundings;

/// How a command is run in there. Its standard streams are for the caller to say.
///
/// # Errors
/// If the task does not run, or `/proc` does not tell what is needed.
pub(crate) async fn command(
    around: &Arc<Surroundings>,
    contained: &Arc<Contained>,
    words: &[String],
) -> anyhow::Result<tokio::process::Command> {
    let containers = around.containers_of(contained);
    let pid = containers.pid(Arc::clone(contained)).await?.context("the task does not run")?;
    let container = contained.record.task.container.as_deref();
    let is_own = container.is_some_and(|it| it.bundle.is_some() || it.image.is_some());
    let (ids, env, folder) = if is_own {
        // What a container of another's making has, its program has.
        let env = tokio::fs::read(format!("/proc/{pid}/environ")).await?;
        let pairs = env.split(|&byte| byte == 0).filter_map(|pair| {
            let pair = String::from_utf8_lossy(pair);
            pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
        });
        let folder = std::fs::read_link(format!("/proc/{pid}/cwd"))?;
        (Some(ids_of(pid)?), pairs.collect(), folder)
    } else {
        (contained.record.given.ids, contained.env.clone(), PathBuf::from("/tmp"))
    };
    let enter = Enter {
        pid,
        cgroups: contained.group.folders_of(pid)?,
        capabilities: capabilities_of(pid)?,
        ids,
        command: words.to_vec(),
        env,
        folder,
    };
    let mut command = tokio::process::Command::new(&around.init);
    command.arg("enter").arg(serde_json::to_string(&enter)?).env_clear();
    Ok(command)
}

/// The user and the group of a process. Source: proc(5) `status`.
fn ids_of(pid: i32) -> anyhow::Result<(u32, u32)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let effective = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
            .with_context(|| format!("/proc/{pid}/status has no {name}"))
    };
    Ok((effective("Uid:")?, effective("Gid:")?))
}

/// What a process, and whatever it starts, may ever have of capabilities. Source: proc(5) `status`.
fn capabilities_of(pid: i32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let line = line.with_context(|| format!("/proc/{pid}/status has no CapEff"))?;
    Ok(u64::from_str_radix(line.trim(), 16)?)
}

/// A command that runs in there; it is ended where nobody waits for it any more.
#[derive(Debug)]
pub(crate) struct Child {
    process: tokio::process::Child,
}

impl Child {
    pub(crate) fn spawn(mut command: tokio::process::Command) -> std::io::Result<Self> {
        Ok(Self { process: command.spawn()? })
    }

    pub(crate) async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.process.wait().await
    }

    /// Its standard streams, once.
    pub(crate) fn streams(
        &mut self,
    ) -> (
        Option<tokio::process::ChildStdin>,
        Option<tokio::process::ChildStdout>,
        Option<tokio::process::ChildStderr>,
    ) {
        let Self { process } = self;
        (process.stdin.take(), process.stdout.take(), process.stderr.take())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let pid = self.process.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(pid) = pid {
            // It passes that on to the command, which is in another container, and then ends.
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
    }
}

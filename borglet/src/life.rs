//! A task's way: from what is to be started to a running program, and from its end to nothing.
//!
//! In: a record and what was decided about it. Out: events of what happened. What is wanted of the task meanwhile is
//! the machine's concern.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use borglet_agent::{Input, TaskEvent};
use borglet_init::Exit;
use cell::borglet::ExitCause;
use cell::container::variable;
use rustix::process::{Pid, Signal};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use crate::cgroup::{Group, Limits};
use crate::container::{Contained, Containers, Spare};
use crate::folder::{self, Record};
use crate::health;
use crate::machine::{Event, Events, Surroundings};

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// A task on its way to a running program.
pub(crate) struct Start {
    pub around: Arc<Surroundings>,
    pub record: Arc<Record>,
    pub limits: Limits,
    pub group: Group,
    /// What keeps it from running here: known before anything is done.
    pub refusal: Option<String>,
    /// Its container, where that is begun already.
    pub spare: Option<Spare>,
    pub is_over: Arc<AtomicBool>,
    pub events: Events,
}

/// Why a task does not start.
enum NotStarted {
    Refused(String),
    /// It was told to end before.
    Over,
}

impl From<anyhow::Error> for NotStarted {
    fn from(error: anyhow::Error) -> Self {
        Self::Refused(format!("{error:#}"))
    }
}

impl Start {
    pub(crate) async fn run(self) {
        let incarnation = self.record.task.incarnation;
        let (around, events) = (Arc::clone(&self.around), self.events.clone());
        let (record, group) = (Arc::clone(&self.record), self.group.clone());
        let attempted = self.attempt().await;
        around.spares.taken.notify_one();
        match attempted {
            Ok(contained) => watch(around, contained, events).await,
            Err(not_started) => {
                let cause = match not_started {
                    NotStarted::Refused(reason) => ExitCause::StartFailed { reason },
                    NotStarted::Over => ExitCause::Signal { signal: SIGTERM },
                };
                let contained = around.contained(&record, &group, Vec::new());
                // Its end is to be known, however far it has got.
                let kept = Arc::clone(&around);
                match spawn_blocking(move || kept.folder.keep(&record)).await {
                    Ok(Ok(())) => {}
                    problem => tracing::error!(
                        incarnation = incarnation.0,
                        ?problem,
                        "its record cannot be kept"
                    ),
                }
                end(&around, &contained, &cause).await;
                let _ =
                    events.send(Event::Agent(Input::Task(incarnation, TaskEvent::Exited(cause))));
            }
        }
    }

    /// Brings it to a running program.
    async fn attempt(mut self) -> Result<Arc<Contained>, NotStarted> {
        if let Some(refusal) = self.refusal.take() {
            return Err(NotStarted::Refused(refusal));
        }
        let around = Arc::clone(&self.around);
        let _permit = around.setups.acquire().await.map_err(anyhow::Error::from)?;
        let packages = self.packages().await?;
        // All the rest is for one thread: each change of threads takes its time.
        spawn_blocking(move || Handle::current().block_on(self.launch(packages)))
            .await
            .map_err(anyhow::Error::from)?
    }

    /// Its packages, unpacked. As that takes long, the record is kept before, so that what is begun is known.
    async fn packages(&self) -> anyhow::Result<Vec<(String, PathBuf)>> {
        let container = self.record.task.container.as_deref();
        let wanted = container.map(|it| it.packages.clone()).unwrap_or_default();
        let mut packages = Vec::new();
        if !wanted.is_empty() {
            let (around, record) = (Arc::clone(&self.around), Arc::clone(&self.record));
            spawn_blocking(move || around.folder.keep(&record)).await??;
        }
        for (name, package) in wanted {
            let folder = self.around.packages.fetch(&name, &package).await?;
            packages.push((name, folder));
        }
        Ok(packages)
    }

    /// Makes its container and has the program started; may block.
    async fn launch(self, packages: Vec<(String, PathBuf)>) -> Result<Arc<Contained>, NotStarted> {
        let Self { around, record, limits, group, spare, is_over, events, .. } = self;
        let contained = around.contained(&record, &group, packages);
        make(&contained, &limits, spare.is_some())?;
        let _ = events.send(Event::Made(Arc::clone(&contained)));
        if is_over.load(Ordering::Acquire) {
            return Err(NotStarted::Over);
        }
        let keep = || around.folder.keep(&record).map_err(|error| format!("{error:#}"));
        let containers = around.containers_of(&contained);
        let started = containers.start(Arc::clone(&contained), limits, spare, &keep).await;
        started.map_err(NotStarted::Refused)?;
        let _ = events.send(Event::Started(record.task.incarnation));
        Ok(contained)
    }
}

/// What a task has before its program runs: a home, and a control group, which is there where its container is begun.
fn make(contained: &Contained, limits: &Limits, is_begun: bool) -> anyhow::Result<()> {
    let home = folder::make(&contained.folder)?.join("home");
    std::fs::create_dir_all(&home).with_context(|| format!("{}", home.display()))?;
    if let Some((uid, gid)) = contained.record.given.ids {
        std::os::unix::fs::chown(&home, Some(uid), Some(gid))
            .with_context(|| format!("{}", home.display()))?;
    }
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700))?;
    if !is_begun {
        contained.group.create().context("control group")?;
    }
    contained.group.limit_all_but_cpu(limits).context("control group")
}

/// Sees a running program to its end, and looks at its health meanwhile.
pub(crate) async fn watch(around: Arc<Surroundings>, contained: Arc<Contained>, events: Events) {
    let incarnation = contained.record.task.incarnation;
    let health = health::watch(Arc::clone(&around), Arc::clone(&contained), events.clone());
    let ended = async {
        let containers = around.containers_of(&contained);
        containers.wait(Arc::clone(&contained)).await
    };
    let exit = tokio::select! {
        exit = ended => exit,
        never = health => match never {},
    };
    let exit = exit.unwrap_or_else(|error| {
        tracing::error!(incarnation = incarnation.0, %error, "it cannot be watched");
        None
    });
    let _ = events.send(Event::Ended(incarnation, exit));
}

/// SIGTERM to the program.
pub(crate) async fn terminate(around: &Surroundings, contained: Arc<Contained>) {
    let name = contained.record.task.name.clone();
    let signalled = async {
        let pid = around.containers_of(&contained).pid(contained).await?;
        let Some(pid) = pid.and_then(Pid::from_raw) else { return Ok(()) };
        match rustix::process::kill_process(pid, Signal::TERM) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(anyhow::Error::from(error)),
        }
    };
    if let Err(error) = signalled.await {
        tracing::warn!(task = name, %error, "it cannot be told to end");
    }
}

/// Removes what is left of a task, and keeps why it ended.
pub(crate) async fn end(around: &Arc<Surroundings>, contained: &Arc<Contained>, cause: &ExitCause) {
    let name = &contained.record.task.name;
    let (kept, own, why) = (Arc::clone(around), Arc::clone(contained), cause.clone());
    let ended = spawn_blocking(move || -> anyhow::Result<()> {
        // Each of them is done, whatever became of those before.
        let noted = kept.folder.keep_end(own.record.task.incarnation, &why);
        let ended = own.group.end().context("control group");
        let removed = folder::remove(&own.folder.join("home"));
        noted.and(ended).and(removed)
    });
    let ended = ended.await.map_err(anyhow::Error::from).flatten();
    let cleaned = around.containers_of(contained).clean(Arc::clone(contained)).await;
    if let Err(error) = ended.and(cleaned) {
        tracing::error!(task = name, error = format!("{error:#}"), "not all of it is gone");
    }
}

/// Why a task ended.
pub(crate) fn cause(
    verdict: Option<ExitCause>,
    exit: Option<Exit>,
    oom_kill_count: u64,
) -> ExitCause {
    match (verdict, exit) {
        (Some(verdict), _) => verdict,
        (None, Some(Exit::Code(0))) => ExitCause::Finished,
        // Whatever was made of it by a program that lost a part of itself.
        (None, _) if oom_kill_count > 0 => ExitCause::OutOfMemory,
        (None, Some(Exit::Code(code))) => ExitCause::Failed { code },
        (None, Some(Exit::Signal(signal))) => ExitCause::Signal { signal },
        // The first process itself was killed, which can be done by SIGKILL alone.
        (None, None) => ExitCause::Signal { signal: SIGKILL },
    }
}

impl Surroundings {
    /// A task with all that is prepared for it.
    pub(crate) fn contained(
        &self,
        record: &Arc<Record>,
        group: &Group,
        packages: Vec<(String, PathBuf)>,
    ) -> Arc<Contained> {
        let env = environment(&self.name, record, &packages);
        let folder = self.folder.task(record.task.incarnation);
        Arc::new(Contained {
            record: Arc::clone(record),
            folder,
            group: group.clone(),
            packages,
            env,
        })
    }

    /// Who makes this task's container.
    pub(crate) fn containers_of(&self, task: &Contained) -> &Arc<dyn Containers> {
        let container = task.record.task.container.as_ref();
        let has_image = container.is_some_and(|it| it.image.is_some());
        if has_image { &self.cri } else { &self.containers }
    }
}

/// What every program finds in its environment. What its job says goes before.
fn environment(
    machine: &str,
    record: &Record,
    packages: &[(String, PathBuf)],
) -> Vec<(String, String)> {
    let Record { task, given, .. } = record;
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |name: &str, value: String| drop(env.insert(name.to_owned(), value));
    set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    set("HOME", "/tmp".to_owned());
    set("TMPDIR", "/tmp".to_owned());
    set("USER", task.user.clone());
    set("BORG_MACHINE", machine.to_owned());
    set("BORG_TASK", task.name.clone());
    if let Some((job, index)) = task.name.rsplit_once('/') {
        set("BORG_JOB", job.to_owned());
        set("BORG_INDEX", index.to_owned());
    }
    set("BORG_INCARNATION", task.incarnation.0.to_string());
    set("BORG_CPU_MILLI", task.limit.cpu.0.to_string());
    set("BORG_RAM_BYTES", task.limit.ram.0.to_string());
    for (name, port) in &given.ports {
        set(&variable("PORT", name), port.to_string());
    }
    for (name, _) in packages {
        set(&variable("PACKAGE", name), format!("/tmp/packages/{name}"));
    }
    if let Some(container) = &task.container {
        for (name, value) in &container.env {
            set(name, value.clone());
        }
    }
    env.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_apart() {
        let of = |exit, killed| cause(None, exit, killed);
        assert_eq!(of(Some(Exit::Code(0)), 0), ExitCause::Finished);
        assert_eq!(of(Some(Exit::Code(0)), 1), ExitCause::Finished);
        assert_eq!(of(Some(Exit::Code(3)), 0), ExitCause::Failed { code: 3 });
        assert_eq!(of(Some(Exit::Code(1)), 1), ExitCause::OutOfMemory);
        assert_eq!(of(Some(Exit::Signal(11)), 0), ExitCause::Signal { signal: 11 });
        assert_eq!(of(None, 0), ExitCause::Signal { signal: 9 });
        assert_eq!(of(None, 1), ExitCause::OutOfMemory);
        let unhealthy = cause(Some(ExitCause::Unhealthy), Some(Exit::Code(0)), 0);
        assert_eq!(unhealthy, ExitCause::Unhealthy);
    }
}

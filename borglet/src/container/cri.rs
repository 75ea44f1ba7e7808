//! Containers from images, by a container runtime that is a service of the machine, such as containerd.
//!
//! A task is a pod with one container in it. Its control groups are made inside of the task's own, which holds it to
//! its limits and ends it; the network is the machine's. In the container the image's user, environment and folder
//! hold; `/tmp` is the task's home, and `/packages/NAME` are its packages. Nothing is remembered but the process, in
//! the task's folder, so that the program can be told to end while the runtime is being started anew: what is ours is
//! found by its labels.
//!
//! The program is not the first process of its namespace, which is the pod's: so SIGTERM ends one that says nothing
//! else about it.
//!
//! Source: Kubernetes' Container Runtime Interface, `runtime.v1`.

mod groups;
mod logs;
mod pod;
mod seen;

use std::collections::BTreeMap;
use std::error::Error;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use borglet_init::{Exit, Run, uptime_ms};
use cell::container::FILES_DEFAULT;
use rustix::process::{Pid, Resource, Rlimit};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use self::logs::Log;
use self::pod::{FOLDER_ANNOTATION, MACHINE_LABEL, labels, text};
use self::seen::{Seen, Verbose, run_of};
use self::wire::image_service_client::ImageServiceClient;
use self::wire::runtime_service_client::RuntimeServiceClient;
use super::{Contained, Containers, Found, Keep, Settings, Spare};
use crate::cgroup::Limits;

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::wildcard_enum_match_arm,
    reason = "generated"
)]
mod wire {
    tonic::include_proto!("runtime.v1");
}

/// Where containerd listens unless it is told otherwise.
pub(crate) const SOCKET_DEFAULT: &str = "/run/containerd/containerd.sock";

/// An answer takes no longer, as kubelets have it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Nor does an image. Our guess: 10 GB at 10 MB/s.
const PULL_PATIENCE: Duration = Duration::from_secs(1_000);

/// The longest answer: as kubelets have it.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// How often it is looked at a process and its log.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How soon the runtime is asked once the process is gone, or while it is not known; each time later, up to
/// [`ASK_EVERY_MAX`].
const ASK_EVERY_MIN: Duration = Duration::from_millis(10);
const ASK_EVERY_MAX: Duration = Duration::from_secs(1);

/// A runtime that does not answer is not asked any longer how a task ended of which nothing is left.
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);

/// How often it is looked, while a container is being started, whether it has processes.
const TAKE_IN_EVERY: Duration = Duration::from_millis(2);

/// Why no pod can be made by a runtime that says something of slices, as it was given none.
const WANTS_SLICES: &str = "the container runtime leaves control groups to systemd, and those of tasks are the \
    borglet's: containerd needs SystemdCgroup = false, CRI-O cgroup_manager = \"cgroupfs\"";

/// Containers of one runtime.
#[derive(Clone, Debug)]
pub(crate) struct Cri {
    channel: Channel,
    socket: PathBuf,
    machine: String,
    logs: logs::Limits,
    /// Whether there may be pods that could not be removed when their tasks ended.
    may_be_left: Arc<AtomicBool>,
}

fn request<T>(message: T, patience: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(patience);
    request
}

/// Whether a task has no need of its container any more, by its folder: it was told to have ended, or is forgotten.
fn is_abandoned(folder: &Path) -> bool {
    folder.join("end.json").exists() || !folder.join("task.json").exists()
}

fn image_of(task: &Contained) -> Option<&String> {
    task.record.task.container.as_ref()?.image.as_ref()
}

impl Cri {
    /// Connects once it is needed, and again where the runtime was started anew.
    pub(crate) fn new(socket: &Path, machine: &str, settings: &Settings) -> anyhow::Result<Self> {
        let path = text(socket).map_err(anyhow::Error::msg)?;
        let endpoint = Endpoint::from_shared(format!("unix:{path}"))
            .with_context(|| format!("{path}: no such path leads to a socket"))?
            .connect_timeout(Duration::from_secs(5));
        Ok(Self {
            channel: endpoint.connect_lazy(),
            socket: socket.to_owned(),
            machine: machine.to_owned(),
            logs: logs::Limits {
                bytes_max: settings.log_bytes_max,
                file_count: settings.log_file_count,
            },
            may_be_left: Arc::new(AtomicBool::new(true)),
        })
    }

    fn runtime(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// What went wrong, for people.
    fn words(&self, status: &Status) -> String {
        // Where the runtime itself was answered by others, the last one says it.
        let message = status.message();
        let message = message.rsplit_once(" desc = ").map_or(message, |(_, last)| last);
        if status.source().is_some() {
            let socket = self.socket.display();
            return format!(
                "nobody answers at {socket}: does the container runtime run? ({message})"
            );
        }
        message.to_owned()
    }

    fn error(&self, status: &Status) -> anyhow::Error {
        anyhow::anyhow!("container runtime: {}", self.words(status))
    }

    /// An image that the runtime has, if need be from elsewhere.
    async fn image(&self, name: &str) -> Result<wire::Image, String> {
        let image = Some(wire::ImageSpec { image: name.to_owned() });
        let status = || async {
            let asked = request(wire::ImageStatusRequest { image: image.clone() }, PATIENCE);
            let answer = self.images().image_status(asked).await;
            answer
                .map(|answer| answer.into_inner().image)
                .map_err(|status| format!("image {name}: {}", self.words(&status)))
        };
        if let Some(found) = status().await? {
            return Ok(found);
        }
        let pull = wire::PullImageRequest { image: image.clone(), sandbox_config: None };
        self.images().pull_image(request(pull, PULL_PATIENCE)).await.map_err(|status| {
            let why = self.words(&status);
            format!("image {name} is not on the machine, and cannot be pulled: {why}")
        })?;
        status().await?.ok_or_else(|| format!("image {name} was pulled, and is gone again"))
    }

    /// What the runtime has of a task; `None` if it has no container of it.
    async fn look(&self, task: &Contained) -> Result<Option<Seen>, Status> {
        let filter = Some(wire::ContainerFilter { label_selector: labels(&self.machine, task) });
        let list = request(wire::ListContainersRequest { filter }, PATIENCE);
        let found = self.runtime().list_containers(list).await?.into_inner().containers;
        let Some(container) = found.into_iter().next() else { return Ok(None) };
        let (status, verbose) = match self.status(&container.id).await {
            Ok(found) => found,
            Err(status) if status.code() == Code::NotFound => return Ok(None),
            Err(status) => return Err(status),
        };
        Ok(Some(Seen::read(&status, &verbose)))
    }

    async fn status(&self, container: &str) -> Result<(wire::ContainerStatus, Verbose), Status> {
        let container_id = container.to_owned();
        let asked = request(wire::ContainerStatusRequest { container_id, verbose: true }, PATIENCE);
        let answer = self.runtime().container_status(asked).await?.into_inner();
        Ok((answer.status.unwrap_or_default(), Verbose::read(&answer.info)))
    }

    /// Removes the pods of a task.
    async fn remove_pods(&self, task: &Contained) -> Result<(), Status> {
        for pod in self.pods(labels(&self.machine, task)).await? {
            self.remove_pod(pod.id).await?;
        }
        Ok(())
    }

    /// Removes pods of tasks that have ended, where that was tried in vain before.
    async fn remove_left(&self, task: &Contained) {
        if !self.may_be_left.swap(false, Ordering::AcqRel) {
            return;
        }
        let removed = async {
            let own = text(&task.folder).unwrap_or_default();
            let machine = (MACHINE_LABEL.to_owned(), self.machine.clone());
            for pod in self.pods(BTreeMap::from([machine])).await? {
                let folder = pod.annotations.get(FOLDER_ANNOTATION).map(Path::new);
                if folder.is_some_and(|folder| {
                    // Not what another borglet of this name has.
                    folder.parent() == Path::new(&own).parent() && is_abandoned(folder)
                }) {
                    self.remove_pod(pod.id).await?;
                }
            }
            Ok::<(), Status>(())
        };
        if removed.await.is_err() {
            // Another one may be at it.
            self.may_be_left.store(true, Ordering::Release);
        }
    }

    async fn pods(
        &self,
        labels: BTreeMap<String, String>,
    ) -> Result<Vec<wire::PodSandbox>, Status> {
        let filter = Some(wire::PodSandboxFilter { label_selector: labels });
        let list = request(wire::ListPodSandboxRequest { filter }, PATIENCE);
        Ok(self.runtime().list_pod_sandbox(list).await?.into_inner().items)
    }

    async fn remove_pod(&self, id: String) -> Result<(), Status> {
        let or_gone = |status: Status| {
            if status.code() == Code::NotFound { Ok(()) } else { Err(status) }
        };
        let stop = wire::StopPodSandboxRequest { pod_sandbox_id: id.clone() };
        let stopped = self.runtime().stop_pod_sandbox(request(stop, PATIENCE)).await;
        stopped.map(drop).or_else(or_gone)?;
        let remove = wire::RemovePodSandboxRequest { pod_sandbox_id: id };
        let removed = self.runtime().remove_pod_sandbox(request(remove, PATIENCE)).await;
        removed.map(drop).or_else(or_gone)
    }

    /// Starts the program of a container that was made.
    async fn start_program(&self, task: &Contained, container: &str) -> Result<(), Status> {
        let folders = task.group.folders();
        let counted_alone = groups::counted_alone(&folders);
        let start = wire::StartContainerRequest { container_id: container.to_owned() };
        let mut runtime = self.runtime();
        let started = runtime.start_container(request(start, PATIENCE));
        let take_in = || {
            if let Some(folder) = counted_alone
                && let Err(error) = groups::take_in(folder, container)
            {
                tracing::warn!(task = task.record.task.name, %error, "its want of memory may be told as a kill");
            }
        };
        // Early, as what the program does first may be to take all memory.
        let taking_in = async {
            while counted_alone.is_some() {
                sleep(TAKE_IN_EVERY).await;
                take_in();
            }
            std::future::pending().await
        };
        let started = tokio::select! {
            started = started => started,
            never = taking_in => never,
        };
        take_in();
        started.map(drop)
    }

    /// What can be done about a program only once it runs.
    fn settle(task: &Contained, group: &str, pid: i32) -> Result<(), String> {
        let Ok(groups) = std::fs::read_to_string(format!("/proc/{pid}/cgroup")) else {
            // It has ended already.
            return Ok(());
        };
        if !groups::holds(group, &groups) {
            return Err(format!(
                "the container runtime does not put containers where it is told to ({group}), so that no limit would \
                 hold"
            ));
        }
        let container = task.record.task.container.as_ref();
        let files_max = container.and_then(|it| it.files_max).unwrap_or(FILES_DEFAULT).into();
        let limit = Rlimit { current: Some(files_max), maximum: Some(files_max) };
        // The interface has no such limit. It needs CAP_SYS_RESOURCE where the program is not root's.
        match rustix::process::prlimit(Pid::from_raw(pid), Resource::Nofile, limit) {
            Ok(_) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => {
                let task = &task.record.task.name;
                tracing::warn!(task, %error, files_max, "its open files cannot be limited");
            }
        }
        Ok(())
    }

    /// Whether any process of a task is left, also one that only keeps its pod.
    fn has_processes(task: &Contained) -> bool {
        task.group.sample().is_ok_and(|sample| sample.process_count > 0)
    }

    /// Takes over what the program wrote.
    async fn take_over(log: Log) -> (Log, std::io::Result<()>) {
        let mut own = log.clone();
        let taken_over = spawn_blocking(move || {
            let done = own.catch_up();
            (own, done)
        });
        taken_over.await.unwrap_or_else(|error| (log, Err(error.into())))
    }
}

#[tonic::async_trait]
impl Containers for Cri {
    async fn start(
        &self,
        task: Arc<Contained>,
        limits: Limits,
        _: Option<Spare>,
        keep: Keep<'_>,
    ) -> Result<(), String> {
        keep()?;
        let name = image_of(&task).ok_or("field `container.image`: is not there")?;
        let failed = |what: &str, status: &Status| format!("{what}: {}", self.words(status));
        let group = groups::path(&task.group.folders())?;
        let image = self.image(name).await?;
        // One of the same name is of a borglet whose folder is gone.
        self.remove_pods(&task).await.map_err(|status| failed("what was there before", &status))?;
        self.remove_left(&task).await;
        groups::make_others(&task.group.folders()).map_err(|error| error.to_string())?;
        let pod = pod::pod(&self.machine, &task, &group)?;
        let run = wire::RunPodSandboxRequest { config: Some(pod.clone()) };
        let made = self.runtime().run_pod_sandbox(request(run, PATIENCE)).await;
        let made = made.map_err(|status| {
            if status.message().contains("slice") {
                return WANTS_SLICES.to_owned();
            }
            failed("its pod cannot be made", &status)
        })?;
        let create = wire::CreateContainerRequest {
            pod_sandbox_id: made.into_inner().pod_sandbox_id,
            config: Some(pod::container(&self.machine, &task, &image.id)?),
            sandbox_config: Some(pod),
        };
        let made = self.runtime().create_container(request(create, PATIENCE)).await;
        let made = made.map_err(|status| failed(&format!("image {name}"), &status))?;
        let container = made.into_inner().container_id;
        let status = self.status(&container).await;
        let (_, verbose) = status.map_err(|status| failed("its container", &status))?;
        if let Some((uid, gid)) = verbose.ids() {
            let home = task.folder.join("home");
            chown(&home, Some(uid), Some(gid))
                .map_err(|error| format!("{}: {error}", home.display()))?;
        }
        let started = self.start_program(&task, &container).await;
        started.map_err(|status| failed(&format!("image {name}"), &status))?;
        task.group.limit_cpu(&limits).map_err(|error| format!("control group: {error}"))?;
        let status = self.status(&container).await;
        let (_, verbose) = status.map_err(|status| failed("its container", &status))?;
        let Some(pid) = verbose.pid() else { return Ok(()) };
        Self::settle(&task, &group, pid)?;
        if let Some(run) = run_of(pid).map_err(|error| error.to_string())? {
            run.claim(&task.folder).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    async fn wait(&self, task: Arc<Contained>) -> anyhow::Result<Option<Exit>> {
        let mut log = Log::open(&task.folder, self.logs)?;
        let mut program = Run::read(&task.folder)?;
        let mut ask_after = ASK_EVERY_MIN;
        let mut answered = Instant::now();
        let mut is_kept = true;
        loop {
            if log.is_behind() {
                let (so_far, done) = Self::take_over(log).await;
                log = so_far;
                // What cannot be written is no reason to end a task.
                if let Err(error) = &done
                    && is_kept
                {
                    tracing::warn!(task = task.record.task.name, %error, "its logs cannot be kept");
                }
                is_kept = done.is_ok();
            }
            if let Some(program) = &program
                && program.is_alive()?
            {
                (ask_after, answered) = (ASK_EVERY_MIN, Instant::now());
                sleep(LOOK_EVERY).await;
                continue;
            }
            match self.look(&task).await {
                Ok(Some(Seen::Running { pid })) => {
                    answered = Instant::now();
                    program = pid.map(run_of).transpose()?.flatten();
                }
                Ok(Some(Seen::Exited(exit))) => return Ok(exit),
                Ok(Some(Seen::Created) | None) => return Ok(None),
                Err(_) if Self::has_processes(&task) => answered = Instant::now(),
                Err(status) if answered.elapsed() > GIVE_UP_AFTER => {
                    return Err(self.error(&status));
                }
                Err(_) => {}
            }
            sleep(ask_after).await;
            ask_after = (ask_after * 2).min(ASK_EVERY_MAX);
        }
    }

    async fn find(&self, task: Arc<Contained>) -> anyhow::Result<Found> {
        let run = Run::read(&task.folder)?;
        match self.look(&task).await {
            Ok(Some(Seen::Running { .. })) => {}
            Ok(Some(Seen::Exited(exit))) => return Ok(Found::Exited(exit)),
            // What is only being set up goes with its pod.
            Ok(Some(Seen::Created) | None) => return Ok(Found::Exited(None)),
            // Its programs run on without it, and so does the machine.
            Err(_) if Self::has_processes(&task) => {}
            Err(status) => {
                tracing::warn!(
                    task = task.record.task.name,
                    error = self.words(&status),
                    "how it ended is not known"
                );
                return Ok(Found::Exited(None));
            }
        }
        let ticks = rustix::param::clock_ticks_per_second().max(1);
        let started_ms = run.map(|run| run.start * 1000 / ticks);
        let now_ms = uptime_ms()?;
        Ok(Found::Running { age_ms: started_ms.map_or(0, |at| now_ms.saturating_sub(at)) })
    }

    async fn pid(&self, task: Arc<Contained>) -> anyhow::Result<Option<i32>> {
        if let Some(run) = Run::read(&task.folder)?
            && run.is_alive()?
        {
            return Ok(Some(run.pid));
        }
        match self.look(&task).await.map_err(|status| self.error(&status))? {
            Some(Seen::Running { pid }) => Ok(pid),
            Some(Seen::Created | Seen::Exited(_)) | None => Ok(None),
        }
    }

    async fn clean(&self, task: Arc<Contained>) -> anyhow::Result<()> {
        match self.remove_pods(&task).await {
            Ok(()) => self.remove_left(&task).await,
            Err(status) => {
                // It goes with that of the next task.
                self.may_be_left.store(true, Ordering::Release);
                let (task, error) = (&task.record.task.name, self.words(&status));
                tracing::warn!(task, error, "its pod cannot be removed now");
            }
        }
        let limits = self.logs;
        spawn_blocking(move || -> anyhow::Result<()> {
            // Only now the runtime has certainly written all of it.
            let finished = Log::open(&task.folder, limits).and_then(Log::finish);
            if let Err(error) = finished {
                tracing::warn!(task = task.record.task.name, %error, "its logs are not all kept");
            }
            groups::remove_others(&task.group.folders()).context("control groups")
        })
        .await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_a_task_is_abandoned() {
        let folder = tempfile::tempdir().unwrap();
        assert!(is_abandoned(folder.path()));
        std::fs::write(folder.path().join("task.json"), "{}").unwrap();
        assert!(!is_abandoned(folder.path()));
        std::fs::write(folder.path().join("end.json"), "{}").unwrap();
        assert!(is_abandoned(folder.path()));
        assert!(is_abandoned(&folder.path().join("gone")));
    }
}

//! What is served over gRPC: masters' links, and what users ask of the machine.

use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use cell::borglet::{ExitCause, Incarnation};
use proto::limits::CHUNK_BYTES_MAX;
use proto::link::{FromMachine, batches, read_from_master};
use proto::node::{
    ExecInput, ExecOutput, LogStream, LogsPiece, LogsQuery, MachineUsage, UsageQuery,
};
use proto::wire;
use proto::wire::borglet_server::Borglet;
use proto::wire::node_server::Node;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::enter;
use crate::folder::Record;
use crate::machine::{Event, Events, Machine, Surroundings};

/// So many messages wait for a master that does not keep up.
const LISTENER_COUNT_MAX: usize = 64;

/// How often it is looked whether a task wrote more.
const FOLLOW_EVERY: Duration = Duration::from_millis(100);

/// A piece of a log, or of what a command says.
const PIECE_BYTES: usize = 64 << 10;

const _: () = assert!(PIECE_BYTES <= CHUNK_BYTES_MAX);

/// Serves a machine.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    events: Events,
    around: Arc<Surroundings>,
    /// Who may see and enter everybody's tasks.
    admin: String,
}

impl Service {
    pub(crate) const fn new(events: Events, around: Arc<Surroundings>, admin: String) -> Self {
        Self { events, around, admin }
    }

    /// Asks the machine as it is.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Machine) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let (reply, answer) = oneshot::channel();
        let question = Box::new(move |machine: &Machine| drop(reply.send(question(machine))));
        self.events.send(Event::Ask(question)).map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }

    fn check(&self, user: &str, record: &Record) -> Result<(), Status> {
        let owner = &record.task.user;
        if user == self.admin || user == owner {
            return Ok(());
        }
        let task = &record.task.name;
        Err(Status::permission_denied(format!("{task} is {owner}'s, and not {user}'s")))
    }
}

fn stopping() -> Status {
    Status::unavailable("this borglet is stopping")
}

fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Borglet for Service {
    type LinkStream = Replies<wire::FromBorglet>;

    async fn link(
        &self,
        request: Request<Streaming<wire::FromMaster>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let mut from_master = request.into_inner();
        let (listener, mut said) = mpsc::channel::<FromMachine>(LISTENER_COUNT_MAX);
        self.events.send(Event::Listen(listener)).map_err(|_| stopping())?;
        let (sender, receiver) = mpsc::channel(LISTENER_COUNT_MAX);
        let (events, machine) = (self.events.clone(), self.around.name.clone());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    batch = from_master.message() => {
                        let read = match batch {
                            Ok(Some(batch)) => read_from_master(batch).map_err(Status::from),
                            Ok(None) => return,
                            Err(status) => Err(status),
                        };
                        let messages = match read {
                            Ok(messages) => messages,
                            Err(status) => return drop(sender.send(Err(status)).await),
                        };
                        for message in messages {
                            match message {
                                Ok(message) if message.machine == machine => {
                                    if events.send(Event::Master(message.message)).is_err() {
                                        return;
                                    }
                                }
                                Ok(message) => tracing::debug!(to = message.machine, "not for this machine"),
                                Err(error) => tracing::warn!(%error, "a master said something malformed"),
                            }
                        }
                    }
                    first = said.recv() => {
                        let Some(first) = first else { return };
                        let mut messages = Vec::new();
                        let mut next = Some(first);
                        while let Some(message) = next {
                            match wire::FromMachine::try_from(message) {
                                Ok(message) => messages.push(message),
                                Err(error) => tracing::error!(%error, "this cannot be said"),
                            }
                            next = said.try_recv().ok();
                        }
                        for messages in batches(messages) {
                            if sender.send(Ok(wire::FromBorglet { messages })).await.is_err() {
                                return;
                            }
                        }
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

#[tonic::async_trait]
impl Node for Service {
    type LogsStream = Replies<wire::LogsPiece>;
    type ExecStream = Replies<wire::ExecOutput>;

    async fn usage(
        &self,
        request: Request<wire::UsageRequest>,
    ) -> Result<Response<wire::UsageReply>, Status> {
        let UsageQuery { user } = request.into_inner().try_into()?;
        let admin = self.admin.clone();
        let mut usage: MachineUsage = self.ask(move |machine| machine.usage(&user, &admin)).await?;
        for task in &mut usage.tasks {
            let name = task.name.clone();
            let contained = self.ask(move |machine| machine.running(&name)).await?;
            if let Some(contained) = contained
                && let Ok(Some(pid)) =
                    self.around.containers_of(&contained).pid(Arc::clone(&contained)).await
            {
                task.pid = u32::try_from(pid).unwrap_or(0);
            }
        }
        Ok(Response::new(usage.try_into()?))
    }

    async fn logs(
        &self,
        request: Request<wire::LogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        let query: LogsQuery = request.into_inner().try_into()?;
        let LogsQuery { user, task, incarnation, follow, tail_bytes } = query;
        let around = Arc::clone(&self.around);
        let named = task.clone();
        let found = tokio::task::spawn_blocking(move || match incarnation {
            None => around.folder.newest(&named),
            Some(incarnation) => {
                let found = around.folder.find(incarnation)?;
                Ok(found.filter(|(record, _)| record.task.name == named))
            }
        });
        let Some((record, _)) = found.await.map_err(internal)?.map_err(internal)? else {
            return Err(Status::not_found(format!(
                "machine {} has no logs of {task}: it may have run elsewhere, or they were kept for long enough",
                self.around.name
            )));
        };
        self.check(&user, &record)?;
        let (sender, receiver) = mpsc::channel(4);
        let own = self.clone();
        let incarnation = record.task.incarnation;
        tokio::spawn(async move {
            if let Err(status) = own.send_logs(incarnation, follow, tail_bytes, &sender).await {
                let _ = sender.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn exec(
        &self,
        request: Request<Streaming<wire::ExecInput>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        let mut inputs = request.into_inner();
        let first =
            inputs.message().await?.ok_or_else(|| Status::invalid_argument("no command"))?;
        let ExecInput::Start { user, task, command } = first.try_into()? else {
            return Err(Status::invalid_argument("field `start`: is what comes first"));
        };
        let named = task.clone();
        let contained = self.ask(move |machine| machine.running(&named)).await?;
        let contained = contained.ok_or_else(|| {
            Status::not_found(format!("{task} does not run on machine {}", self.around.name))
        })?;
        self.check(&user, &contained.record)?;
        let mut command =
            enter::command(&self.around, &contained, &command).await.map_err(internal)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = enter::Child::spawn(command).map_err(internal)?;
        let (sender, receiver) = mpsc::channel(4);
        tokio::spawn(converse(child, inputs, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

type ExecSender = mpsc::Sender<Result<wire::ExecOutput, Status>>;

/// Carries a command's streams to and fro until it ends, or its caller has gone.
async fn converse(
    mut child: enter::Child,
    mut inputs: Streaming<wire::ExecInput>,
    sender: ExecSender,
) {
    let (mut stdin, stdout, stderr) = child.streams();
    let feed = async {
        loop {
            let input = match inputs.message().await {
                Ok(Some(input)) => ExecInput::try_from(input),
                // The caller has gone.
                Ok(None) | Err(_) => return,
            };
            match input {
                Ok(ExecInput::Stdin(data)) => {
                    if let Some(to) = &mut stdin
                        && to.write_all(&data).await.is_err()
                    {
                        stdin = None;
                    }
                }
                Ok(ExecInput::StdinEnds) => stdin = None,
                Ok(ExecInput::Start { .. }) | Err(_) => return,
            }
        }
    };
    let said = async {
        let out = stdout.map(|it| carry(it, sender.clone(), ExecOutput::Stdout));
        let err = stderr.map(|it| carry(it, sender.clone(), ExecOutput::Stderr));
        tokio::join!(
            async {
                if let Some(out) = out {
                    out.await
                }
            },
            async {
                if let Some(err) = err {
                    err.await
                }
            }
        );
        child.wait().await
    };
    let exit = tokio::select! {
        exit = said => exit,
        // Whoever asked for it has gone: the command is ended as its handle is dropped.
        () = feed => return,
    };
    let cause = match exit.map(|status| status.code()) {
        Ok(Some(0)) => ExitCause::Finished,
        Ok(Some(code)) => ExitCause::Failed { code },
        Ok(None) | Err(_) => ExitCause::Lost,
    };
    if let Ok(output) = ExecOutput::Exit(cause).try_into() {
        let _ = sender.send(Ok(output)).await;
    }
}

async fn carry(
    mut from: impl tokio::io::AsyncRead + Unpin,
    sender: ExecSender,
    wrap: fn(Vec<u8>) -> ExecOutput,
) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        let Ok(output) = wire::ExecOutput::try_from(wrap(piece[..count].to_vec())) else { return };
        if sender.send(Ok(output)).await.is_err() {
            return;
        }
    }
}

type LogSender = mpsc::Sender<Result<wire::LogsPiece, Status>>;

impl Service {
    async fn send_logs(
        &self,
        incarnation: Incarnation,
        follow: bool,
        tail_bytes: Option<u64>,
        sender: &LogSender,
    ) -> Result<(), Status> {
        let mut logs = [
            Reading::new(LogStream::Stdout, borglet_init::STDOUT_FILE),
            Reading::new(LogStream::Stderr, borglet_init::STDERR_FILE),
        ];
        let mut is_first = true;
        loop {
            // Looked at before the files are: what it wrote before it ended is read after that.
            let is_alive = self.ask(move |machine| machine.is_alive(incarnation)).await?;
            let folder = self.folder_of(incarnation).await?;
            for log in &mut logs {
                if is_first {
                    log.begin(&folder, tail_bytes).await.map_err(internal)?;
                }
                if !log.send(&folder, sender).await? {
                    return Ok(());
                }
            }
            is_first = false;
            if !follow || !is_alive {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(FOLLOW_EVERY) => {}
                () = sender.closed() => return Ok(()),
            }
        }
    }

    async fn folder_of(&self, incarnation: Incarnation) -> Result<PathBuf, Status> {
        let around = Arc::clone(&self.around);
        let found = tokio::task::spawn_blocking(move || around.folder.find(incarnation));
        let found = found.await.map_err(internal)?.map_err(internal)?;
        found.map(|(_, folder)| folder).ok_or_else(|| Status::not_found("its logs are gone"))
    }
}

/// Where one is in a log: a file, known by its number on the disk as it changes its name when it is rotated, and a
/// place in it.
struct Reading {
    stream: LogStream,
    name: &'static str,
    file: Option<(u64, tokio::fs::File)>,
}

impl Reading {
    const fn new(stream: LogStream, name: &'static str) -> Self {
        Self { stream, name, file: None }
    }

    /// The files, the oldest first.
    fn files(&self, folder: &Path) -> Vec<PathBuf> {
        let mut files = vec![folder.join(self.name)];
        for number in 1.. {
            let older = folder.join(format!("{}.{number}", self.name));
            if !older.exists() {
                break;
            }
            files.push(older);
        }
        files.reverse();
        files
    }

    /// Goes to the oldest that is kept, or to so many bytes before the end.
    async fn begin(&mut self, folder: &Path, tail_bytes: Option<u64>) -> std::io::Result<()> {
        let files = self.files(folder);
        let mut sizes = Vec::new();
        for file in &files {
            sizes.push(tokio::fs::metadata(file).await.map_or(0, |it| it.len()));
        }
        let all: u64 = sizes.iter().sum();
        let mut skipped = tail_bytes.map_or(0, |tail| all.saturating_sub(tail));
        for (file, size) in files.iter().zip(sizes) {
            if skipped >= size && skipped > 0 {
                skipped -= size;
                continue;
            }
            let Some((number, mut opened)) = open(file).await? else { return Ok(()) };
            opened.seek(SeekFrom::Start(skipped)).await?;
            self.file = Some((number, opened));
            return Ok(());
        }
        // Nothing is left of it but its end.
        if let Some(file) = files.last()
            && let Some((number, mut opened)) = open(file).await?
        {
            opened.seek(SeekFrom::End(0)).await?;
            self.file = Some((number, opened));
        }
        Ok(())
    }

    /// Sends what there is; `false` if nobody reads it any more.
    async fn send(&mut self, folder: &Path, sender: &LogSender) -> Result<bool, Status> {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            if self.file.is_none() {
                self.file = open(&folder.join(self.name)).await.map_err(internal)?;
            }
            let Some((number, file)) = &mut self.file else { return Ok(true) };
            let count = file.read(&mut piece).await.map_err(internal)?;
            if count > 0 {
                let data = piece[..count].to_vec();
                let message = wire::LogsPiece::try_from(LogsPiece { stream: self.stream, data })?;
                if sender.send(Ok(message)).await.is_err() {
                    return Ok(false);
                }
                continue;
            }
            // The next newer one, if this is not the newest any more.
            let number = *number;
            let mut next = None;
            for path in self.files(folder).into_iter().rev() {
                match open(&path).await.map_err(internal)? {
                    Some((found, _)) if found == number => break,
                    Some(found) => next = Some(found),
                    None => {}
                }
            }
            match next {
                Some(next) => self.file = Some(next),
                None => return Ok(true),
            }
        }
    }
}

async fn open(path: &Path) -> std::io::Result<Option<(u64, tokio::fs::File)>> {
    use std::os::unix::fs::MetadataExt;
    match tokio::fs::File::open(path).await {
        Ok(file) => Ok(Some((file.metadata().await?.ino(), file))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

//! Daemons started as processes, and a client of them.

use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use cell::live::view::{Answer, CellStatus, Question};
use cell::live::{Done, Op, Rejected, Request};
use proto::mutate::Mutation;
use proto::operate::{ReplicaChange, ReplicaList, ReplicaRole, ReplicasQuery};
use proto::reply::Reply;
use proto::status::{Consistency, Status, StatusQuery};
use proto::wire;
use proto::wire::cell_client::CellClient;
use tempfile::NamedTempFile;
use tonic::transport::Channel;

/// Whatever takes longer has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A daemon, killed when it is dropped. Its log is shown then if the test failed, or with `SHOW_LOGS`
/// set.
pub(crate) struct Daemon {
    process: Child,
    log: NamedTempFile,
}

impl Daemon {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let log = NamedTempFile::new().unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_borgmaster"))
            .args(arguments)
            .stderr(log.reopen().unwrap())
            .spawn()
            .unwrap();
        Self { process, log }
    }

    /// All that it has said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }

    /// Waits until it has said this.
    pub(crate) async fn says(&self, words: &str) {
        let what = format!("it says {words:?}");
        until(&what, || async { self.log().contains(words).then_some(()) }).await;
    }

    /// Waits until it ends by itself; its exit code, and all that it said.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let give_up = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return (status.code(), self.log());
            }
            assert!(Instant::now() < give_up, "it goes on: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until it ends by itself because it must; the one line that says why.
    pub(crate) fn refusal(self, code: i32) -> String {
        let (ended, log) = self.end();
        assert_eq!(ended, Some(code), "{log}");
        let lines = || log.lines().filter(|line| line.starts_with("borgmaster: "));
        assert_eq!(lines().count(), 1, "{log}");
        let line = lines().next().unwrap();
        assert_eq!(log.lines().last(), Some(line));
        line.to_owned()
    }

    pub(crate) fn alone(data: &Path, address: &str) -> Self {
        Self::start(&["--data", data.to_str().unwrap(), "--listen", address])
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// As an operator does.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.process.wait().unwrap()
    }
}

impl Drop for Daemon {
    #[allow(clippy::print_stderr, reason = "a failure is looked into")]
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() || std::env::var_os("SHOW_LOGS").is_some() {
            eprintln!("{}", self.log());
        }
    }
}

/// Tries until it succeeds; panics at the deadline with what it was about.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    attempt: impl Fn() -> F,
) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let found = tokio::time::timeout(DEADLINE, async {
        loop {
            ticks.tick().await;
            if let Some(found) = attempt().await {
                return found;
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

pub(crate) async fn connect(address: &str) -> CellClient<Channel> {
    until(&format!("{address} answers"), || async {
        CellClient::connect(format!("http://{address}")).await.ok()
    })
    .await
}

/// A client with a session.
pub(crate) struct Session {
    pub user: String,
    number: u64,
    sequence: u64,
}

impl Session {
    pub(crate) async fn open(address: &str, user: &str) -> Self {
        let mut session = Self { user: user.to_owned(), number: 0, sequence: 0 };
        match session.ask(address, Op::OpenSession).await {
            Ok(Done::Session(number)) => session.number = number,
            other => panic!("{other:?}"),
        }
        session.sequence = 0;
        session
    }

    /// Its number.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// The name of the next request.
    pub(crate) fn next(&mut self) -> Request {
        self.sequence += 1;
        Request {
            user: self.user.clone(),
            session: self.number,
            sequence: self.sequence,
            answered_below: self.sequence,
        }
    }

    /// The next request, as it is sent.
    pub(crate) fn message(&mut self, op: Op) -> wire::MutateRequest {
        Mutation { request: self.next(), op }.try_into().unwrap()
    }

    /// Asks for something until it is answered.
    pub(crate) async fn ask(&mut self, address: &str, op: Op) -> Result<Done, Rejected> {
        let message = self.message(op);
        until("an answer", || async { mutate(address, &message).await?.ok() }).await
    }
}

/// Asks once; `None`: there was no reply.
pub(crate) async fn mutate(address: &str, message: &wire::MutateRequest) -> Option<Reply<Done>> {
    let reply = connect(address).await.mutate(message.clone()).await.ok()?;
    Some(reply.into_inner().try_into().unwrap())
}

pub(crate) async fn ask(address: &str, question: Question, consistency: Consistency) -> Status {
    let query = StatusQuery { consistency, question };
    let message = wire::StatusRequest::try_from(query).unwrap();
    let client = connect(address).await;
    until("a status", || {
        let (mut client, message) = (client.clone(), message.clone());
        async move {
            let reply = client.status(message).await.ok()?.into_inner();
            let reply: Reply<Status> = reply.try_into().unwrap();
            reply.ok().map(|reply| reply.expect("it is there"))
        }
    })
    .await
}

pub(crate) async fn cell(address: &str, consistency: Consistency) -> CellStatus {
    match ask(address, Question::Cell, consistency).await.answer {
        Answer::Cell(status) => *status,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn change(
    address: &str,
    user: &str,
    change: ReplicaChange,
) -> Option<ReplicaList> {
    let query = ReplicasQuery { user: user.to_owned(), change };
    let message = wire::ReplicasRequest::try_from(query).unwrap();
    let reply = connect(address).await.replicas(message).await.ok()?.into_inner();
    let reply: Reply<ReplicaList> = reply.try_into().unwrap();
    reply.ok()?.ok()
}

/// How many jobs the cell has.
pub(crate) async fn job_count(address: &str) -> u32 {
    cell(address, Consistency::Linearizable).await.job_count
}

/// The number of the replica that leads, as one of these says.
pub(crate) async fn leader(address: &str) -> u64 {
    until("a leader", || async {
        let list = change(address, "ada", ReplicaChange::List).await?;
        list.replicas.iter().find(|it| it.role == ReplicaRole::Leader).map(|it| it.id)
    })
    .await
}

pub(crate) fn job(name: &str, count: u32) -> Op {
    let text = format!(
        r#"{{"name": "{name}", "user": "ada", "priority": 50, "count": {count},
            "limit": {{"cpu": "1", "ram": "1Gi"}}}}"#
    );
    Op::Submit { spec: serde_json::from_str(&text).unwrap(), is_alloc_set: false }
}

//! Daemons started as processes, and a client of them.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use cell::live::view::{Answer, CellStatus, Question};
use cell::live::{Done, Op, Rejected, Request};
use proto::mutate::Mutation;
use proto::operate::{ReplicaChange, ReplicaList, ReplicaRole, ReplicasQuery};
use proto::reply::Reply;
use proto::status::{Consistency, Status, StatusQuery};
use proto::wire;
use proto::wire::cell_client::CellClient;
use tonic::transport::Channel;

/// Whatever takes longer has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A port that nobody listens at.
pub(crate) fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A daemon, killed when it is dropped.
pub(crate) struct Daemon(Child);

impl Daemon {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let log =
            if std::env::var_os("SHOW_LOGS").is_some() { Stdio::inherit() } else { Stdio::null() };
        let child = Command::new(env!("CARGO_BIN_EXE_borgmaster"))
            .args(arguments)
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }

    pub(crate) fn alone(data: &Path, address: &str) -> Self {
        Self::start(&["--data", data.to_str().unwrap(), "--listen", address])
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// As an operator does.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.0.wait().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
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

    /// Asks for something until it is answered.
    pub(crate) async fn ask(&mut self, address: &str, op: Op) -> Result<Done, Rejected> {
        let request = self.next();
        let message = wire::MutateRequest::try_from(Mutation { request, op }).unwrap();
        let client = connect(address).await;
        until("an answer", || {
            let (mut client, message) = (client.clone(), message.clone());
            async move {
                let reply = client.mutate(message).await.ok()?.into_inner();
                let reply: Reply<Done> = reply.try_into().unwrap();
                reply.ok()
            }
        })
        .await
    }
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

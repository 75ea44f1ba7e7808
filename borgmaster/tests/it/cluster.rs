//! Three replicas, and one.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use cell::live::view::Question;
use cell::live::{Done, Rejected};
use proto::status::Consistency;
use tempfile::TempDir;

use crate::address::free_address;
use crate::client::{Daemon, Session, ask, cell, connect, job, leader, until};

pub(crate) struct Three {
    folder: TempDir,
    addresses: Vec<String>,
    daemons: Vec<Daemon>,
}

impl Three {
    pub(crate) fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let addresses: Vec<String> = (0..3).map(|_| free_address()).collect();
        let mut text =
            format!("data = {:?}\n[cell]\nname = \"aa\"\nadmins = [\"ada\"]\n", folder.path());
        for (id, client) in (1..).zip(&addresses) {
            let peer = free_address();
            writeln!(text, "[[replica]]\nid = {id}\nclient = {client:?}\npeer = {peer:?}").unwrap();
        }
        std::fs::write(folder.path().join("cell.toml"), text).unwrap();
        let mut three = Self { folder, addresses, daemons: Vec::new() };
        three.daemons = (1..=3).map(|id| three.daemon(id)).collect();
        three
    }

    /// Starts a replica as it is configured.
    pub(crate) fn daemon(&self, id: u64) -> Daemon {
        self.daemon_in(id, &self.data(id))
    }

    /// The same, with its folder elsewhere.
    pub(crate) fn daemon_in(&self, id: u64, data: &Path) -> Daemon {
        let (config, id) = (self.folder.path().join("cell.toml"), id.to_string());
        let arguments = ["--config", config.to_str().unwrap(), "--replica", &id];
        Daemon::start(&[&arguments[..], &["--data", data.to_str().unwrap()]].concat())
    }

    /// The replica's folder.
    pub(crate) fn data(&self, id: u64) -> PathBuf {
        self.folder.path().join(format!("replica-{id}"))
    }

    /// Puts another daemon in the place of a replica's; the one before ends as by `kill -9`.
    pub(crate) fn replace(&mut self, id: u64, daemon: Daemon) {
        self.daemons[usize::try_from(id).unwrap() - 1] = daemon;
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&mut self, id: u64) {
        self.daemons[usize::try_from(id).unwrap() - 1].kill();
    }

    /// Waits until all replicas have the same state, with so many jobs.
    pub(crate) async fn agrees(&self, job_count: u32) {
        agree(self.addresses.iter(), job_count).await;
    }

    pub(crate) fn address(&self, id: u64) -> &str {
        &self.addresses[usize::try_from(id).unwrap() - 1]
    }
}

/// Waits until the replicas at these addresses have the same state, with so many jobs.
pub(crate) async fn agree(
    addresses: impl Iterator<Item = impl AsRef<str>> + Clone,
    job_count: u32,
) {
    until("all replicas have the same state", || async {
        let mut seen = Vec::new();
        for address in addresses.clone() {
            let status = cell(address.as_ref(), Consistency::Stale).await;
            seen.push((status.index, status.hash, status.job_count));
        }
        (seen.iter().all(|it| *it == seen[0]) && seen[0].2 == job_count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_survives_its_leader_and_the_replicas_agree() {
    let mut three = Three::start();
    let old = leader(three.address(1)).await;
    let follower = 1 + old % 3;
    // Whoever is asked passes on to whoever leads.
    let mut session = Session::open(three.address(follower), "ada").await;
    let done = session.ask(three.address(follower), job("web", 3)).await.unwrap();
    assert!(matches!(done, Done::Job { version: 1, .. }), "{done:?}");
    let status = cell(three.address(follower), Consistency::Linearizable).await;
    assert_eq!((status.name.as_str(), status.job_count), ("aa", 1));

    three.kill(old);
    // The session goes on, under the next leader.
    session.ask(three.address(follower), job("after", 1)).await.unwrap();
    let error = session.ask(three.address(follower), job("web", 1)).await.unwrap_err();
    assert_eq!(error, Rejected::NameTaken("web".to_owned()));

    three.replace(old, three.daemon(old));
    three.agrees(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_keeps_its_state() {
    let (folder, address) = (TempDir::new().unwrap(), free_address());
    let daemon = Daemon::alone(folder.path(), &address);
    let mut session = Session::open(&address, "admin").await;
    session.ask(&address, job("web", 1)).await.unwrap();
    assert_eq!(daemon.terminate().code(), Some(0));

    let mut daemon = Daemon::alone(folder.path(), &address);
    session.ask(&address, job("more", 1)).await.unwrap();
    daemon.kill();

    let _daemon = Daemon::alone(folder.path(), &address);
    for name in ["web", "more"] {
        ask(&address, Question::Job(name.to_owned()), Consistency::Linearizable).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_begin_at_once_have_sessions_of_their_own() {
    const COUNT: u32 = 16;
    let (folder, address) = (TempDir::new().unwrap(), free_address());
    let _daemon = Daemon::alone(folder.path(), &address);
    connect(&address).await;
    let clients = (0..COUNT).map(|number| {
        let address = address.clone();
        tokio::spawn(async move {
            let mut session = Session::open(&address, "ada").await;
            let done = session.ask(&address, job(&format!("job-{number}"), 1)).await.unwrap();
            let Done::Job { uid, .. } = done else { panic!("{done:?}") };
            (session.number(), uid)
        })
    });
    let (mut sessions, mut jobs) = (BTreeSet::new(), BTreeSet::new());
    for client in clients.collect::<Vec<_>>() {
        let (session, uid) = client.await.unwrap();
        sessions.insert(session);
        jobs.insert(uid);
    }
    assert_eq!((sessions.len(), jobs.len()), (COUNT as usize, COUNT as usize));
    assert_eq!(cell(&address, Consistency::Linearizable).await.job_count, COUNT);
}

//! Three replicas, and one.

use std::fmt::Write as _;

use cell::live::view::Question;
use cell::live::{Done, Rejected};
use proto::status::Consistency;
use tempfile::TempDir;

use crate::client::{Daemon, Session, ask, cell, free_address, job, leader, until};

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

    fn daemon(&self, id: u64) -> Daemon {
        let config = self.folder.path().join("cell.toml");
        Daemon::start(&["--config", config.to_str().unwrap(), "--replica", &id.to_string()])
    }

    pub(crate) fn address(&self, id: u64) -> &str {
        &self.addresses[usize::try_from(id).unwrap() - 1]
    }
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

    three.daemons[usize::try_from(old).unwrap() - 1].kill();
    // The session goes on, under the next leader.
    session.ask(three.address(follower), job("after", 1)).await.unwrap();
    let error = session.ask(three.address(follower), job("web", 1)).await.unwrap_err();
    assert_eq!(error, Rejected::NameTaken("web".to_owned()));

    let again = three.daemon(old);
    three.daemons[usize::try_from(old).unwrap() - 1] = again;
    until("all replicas have the same state", || async {
        let mut seen = Vec::new();
        for address in &three.addresses {
            let status = cell(address, Consistency::Stale).await;
            seen.push((status.index, status.hash, status.job_count));
        }
        (seen.iter().all(|it| *it == seen[0]) && seen[0].2 == 2).then_some(())
    })
    .await;
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

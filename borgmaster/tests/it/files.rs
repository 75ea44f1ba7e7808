//! Cell files out of a running cell, and back into one.

use cell::file::CellFile;
use cell::live::view::{Answer, JobStatus, PhaseKind, Question};
use cell::live::{Done, Op, Rejected, Request};
use proto::operate::{Checkpoint, FileChunk, RestorePart, Restored};
use proto::reply::{Reply, Unserved, unserved_of};
use proto::status::Consistency;
use proto::wire;
use tempfile::TempDir;
use tonic::Status;

use crate::address::free_address;
use crate::client::{Daemon, Session, ask, cell, connect, job, leader, until};
use crate::cluster::Three;
use crate::machines::Machines;

pub(crate) async fn checkpoint(
    address: &str,
    until_index: Option<u64>,
) -> Result<CellFile, Status> {
    let bytes = checkpoint_bytes(address, until_index).await?;
    Ok(CellFile::read(&bytes[..]).unwrap())
}

async fn checkpoint_bytes(address: &str, until_index: Option<u64>) -> Result<Vec<u8>, Status> {
    let request = wire::CheckpointRequest::from(Checkpoint { until_index });
    let mut stream = connect(address).await.checkpoint(request).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(piece) = stream.message().await? {
        bytes.extend(FileChunk::try_from(piece).unwrap().0);
    }
    Ok(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_opens_at_every_index_that_it_holds() {
    let (folder, address) = (TempDir::new().unwrap(), free_address());
    let _daemon = Daemon::alone(folder.path(), &address);
    let mut session = Session::open(&address, "admin").await;
    let mut seen = Vec::new();
    for name in ["one", "two", "three"] {
        session.ask(&address, job(name, 2)).await.unwrap();
        let status = cell(&address, Consistency::Linearizable).await;
        seen.push((status.index, status.hash));
    }
    let file = checkpoint(&address, None).await.unwrap();
    for &(index, hash) in &seen {
        assert_eq!(file.state_at(index).unwrap().hash(), hash, "at {index}");
    }
    let file = checkpoint(&address, Some(seen[1].0)).await.unwrap();
    assert_eq!(file.last_index(), seen[1].0);
    assert!(file.state_at(file.last_index()).unwrap().job("three").is_none());

    let status = checkpoint(&address, Some(1 << 40)).await.unwrap_err();
    let said = unserved_of(&status);
    let Some(Unserved::NotInLog { oldest_index: 1, newest_index }) = said else {
        panic!("{said:?}")
    };
    assert!(newest_index >= seen[2].0);
}

/// A restore of these bytes, as admin.
struct Restore<'a> {
    bytes: &'a [u8],
    total_bytes: u64,
    until_index: Option<u64>,
    user: &'a str,
    request: Option<Request>,
}

impl<'a> Restore<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let total_bytes = bytes.len() as u64;
        Self { bytes, total_bytes, until_index: None, user: "admin", request: None }
    }

    async fn ask(self, address: &str) -> Result<Restored, Rejected> {
        let Self { bytes, total_bytes, until_index, user, request } = self;
        let start = RestorePart::Start { user: user.to_owned(), total_bytes, until_index, request };
        let parts = bytes.chunks(10_000).map(|piece| RestorePart::Data(FileChunk(piece.to_vec())));
        let parts: Vec<wire::RestoreRequest> =
            std::iter::once(start).chain(parts).map(|part| part.try_into().unwrap()).collect();
        let reply = connect(address).await.restore(tokio_stream::iter(parts)).await;
        Reply::<Restored>::try_from(reply.unwrap().into_inner()).unwrap().unwrap()
    }
}

async fn job_status(address: &str, name: &str) -> JobStatus {
    let question = Question::Job(name.to_owned());
    match ask(address, question, Consistency::Linearizable).await.answer {
        Answer::Job(status) => status,
        other => panic!("{other:?}"),
    }
}

async fn until_in_phase(address: &str, name: &str, phase: PhaseKind, count: u32) {
    until(&format!("{name} has {count} tasks {}", phase.name()), || async {
        (job_status(address, name).await.counts.get(phase) == count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_job_is_back_and_runs_after_a_restore() {
    let (folder, address) = (TempDir::new().unwrap(), free_address());
    let mut daemon = Daemon::alone(folder.path(), &address);
    let mut session = Session::open(&address, "admin").await;
    let machines = Machines::start(3, &mut session, &address).await;
    session.ask(&address, job("stays", 1)).await.unwrap();
    session.ask(&address, job("web", 3)).await.unwrap();
    until_in_phase(&address, "web", PhaseKind::Running, 3).await;
    until_in_phase(&address, "stays", PhaseKind::Running, 1).await;
    let file = checkpoint_bytes(&address, None).await.unwrap();
    let old_index = cell(&address, Consistency::Linearizable).await.index;

    session.ask(&address, Op::Kill { job: "web".to_owned(), indexes: None }).await.unwrap();
    until_in_phase(&address, "web", PhaseKind::Killed, 3).await;
    session.ask(&address, job("later", 2)).await.unwrap();
    until_in_phase(&address, "later", PhaseKind::Running, 2).await;

    let restored = Restore::of(&file).ask(&address).await.unwrap();
    assert!(restored.index > old_index);
    until_in_phase(&address, "web", PhaseKind::Running, 3).await;
    assert_eq!(job_status(&address, "stays").await.counts.get(PhaseKind::Running), 1);
    until("machines run what the state has", || async {
        (machines.alive() == ["stays/0", "web/0", "web/1", "web/2"]).then_some(())
    })
    .await;
    // The session goes on, and the name is free again.
    session.ask(&address, job("later", 1)).await.unwrap();
    // It is in the log: a replica that dies has it.
    daemon.kill();
    let _daemon = Daemon::alone(folder.path(), &address);
    assert_eq!(job_status(&address, "web").await.counts.total(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_takes_the_index_that_is_asked_for_and_says_what_is_wrong() {
    let (folder, address) = (TempDir::new().unwrap(), free_address());
    let _daemon = Daemon::alone(folder.path(), &address);
    let mut session = Session::open(&address, "admin").await;
    session.ask(&address, job("one", 1)).await.unwrap();
    let index = cell(&address, Consistency::Linearizable).await.index;
    session.ask(&address, job("two", 1)).await.unwrap();
    let file = checkpoint_bytes(&address, None).await.unwrap();

    let refused = |restore: Restore<'static>, field: &'static str, part: &'static str| {
        let address = address.clone();
        async move {
            match restore.ask(&address).await.unwrap_err() {
                Rejected::Invalid { field: found, problem } => {
                    assert!(found == field && problem.contains(part), "{found}: {problem}");
                }
                other => panic!("{other:?}"),
            }
        }
    };
    let file: &'static [u8] = file.leak();
    let mut damaged = file.to_vec();
    damaged[100] ^= 1;
    refused(Restore::of(damaged.leak()), "data", "line 2").await;
    refused(Restore::of(b"name,cpu\n"), "data", "not a cell file").await;
    let restore = Restore { total_bytes: file.len() as u64 + 1, ..Restore::of(file) };
    refused(restore, "start.total_bytes", "were announced").await;
    let restore = Restore { until_index: Some(1 << 40), ..Restore::of(file) };
    refused(restore, "start.until_index", "is not in the cell file").await;
    let error = Restore { user: "bob", ..Restore::of(file) }.ask(&address).await.unwrap_err();
    assert!(matches!(error, Rejected::Forbidden { .. }), "{error}");
    assert_eq!(cell(&address, Consistency::Linearizable).await.job_count, 2);

    let restore = Restore { until_index: Some(index), ..Restore::of(file) };
    restore.ask(&address).await.unwrap();
    assert_eq!(cell(&address, Consistency::Linearizable).await.job_count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_restore_is_carried_out_once_by_whichever_replica_is_asked() {
    let three = Three::start();
    let leads = leader(three.address(1)).await;
    let (one, other) = (three.address(leads), three.address(1 + leads % 3));
    let mut session = Session::open(one, "ada").await;
    session.ask(one, job("web", 1)).await.unwrap();
    let file = checkpoint_bytes(other, None).await.unwrap();
    session.ask(one, Op::Kill { job: "web".to_owned(), indexes: None }).await.unwrap();
    let request = session.next();
    let restore = || Restore { user: "ada", request: Some(request.clone()), ..Restore::of(&file) };
    restore().ask(other).await.unwrap();
    assert_eq!(job_status(one, "web").await.counts.get(PhaseKind::Pending), 1);
    let done = session.ask(one, job("after", 1)).await.unwrap();
    assert!(matches!(done, Done::Job { .. }));
    // Its answer was acknowledged with the request after it: it is not done again.
    let again = restore().ask(other).await.unwrap_err();
    assert_eq!(again, Rejected::Answered(request.sequence));
    assert_eq!(job_status(one, "after").await.counts.total(), 1);
    three.agrees(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_cell_takes_over_the_machines_of_a_lost_one() {
    let (folder, address) = (TempDir::new().unwrap(), free_address());
    let mut daemon = Daemon::alone(&folder.path().join("lost"), &address);
    let mut session = Session::open(&address, "admin").await;
    let machines = Machines::start(2, &mut session, &address).await;
    session.ask(&address, job("web", 2)).await.unwrap();
    until_in_phase(&address, "web", PhaseKind::Running, 2).await;
    // Each start is a later term, which the machines hold it to.
    for name in ["one", "two", "three"] {
        daemon.kill();
        daemon = Daemon::alone(&folder.path().join("lost"), &address);
        session.ask(&address, job(name, 1)).await.unwrap();
        until_in_phase(&address, name, PhaseKind::Running, 1).await;
    }
    let file = checkpoint_bytes(&address, None).await.unwrap();
    daemon.kill();

    let address = free_address();
    let _daemon = Daemon::alone(&folder.path().join("new"), &address);
    Restore::of(&file).ask(&address).await.unwrap();
    until("its machines are up", || async {
        let status = cell(&address, Consistency::Linearizable).await;
        (status.machine_count == 2 && status.machine_down_count == 0).then_some(())
    })
    .await;
    let mut session = Session::open(&address, "admin").await;
    session.ask(&address, job("more", 1)).await.unwrap();
    until_in_phase(&address, "more", PhaseKind::Running, 1).await;
    assert_eq!(machines.alive(), ["more/0", "one/0", "three/0", "two/0", "web/0", "web/1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_runs_a_cell_still_does_after_a_restore() {
    let (folder, address) = (TempDir::new().unwrap(), free_address());
    let _daemon = Daemon::alone(folder.path(), &address);
    let mut session = Session::open(&address, "admin").await;
    session.ask(&address, job("web", 1)).await.unwrap();
    let file = checkpoint_bytes(&address, None).await.unwrap();
    // As of a time when the cell had no settings yet.
    Restore { until_index: Some(1), ..Restore::of(&file) }.ask(&address).await.unwrap();
    assert_eq!(cell(&address, Consistency::Linearizable).await.job_count, 0);
    Restore::of(&file).ask(&address).await.unwrap();
    assert_eq!(cell(&address, Consistency::Linearizable).await.job_count, 1);
}

//! A disk without room, and room again.

use cell::live::{Done, Op};
use proto::operate::ReplicaChange;
use proto::reply::{Reply, Unserved};
use proto::status::Consistency;
use proto::wire;

use crate::address::free_address;
use crate::client::{Daemon, Session, cell, change, job, job_count, leader, mutate, until};
use crate::cluster::Three;
use crate::mount::Mount;

/// A job whose spec takes some 800 kB.
fn large_job(name: &str) -> Op {
    let Op::Submit { mut spec, is_alloc_set } = job(name, 1) else { unreachable!() };
    spec.run.command = vec!["x".repeat(100_000); 8];
    Op::Submit { spec, is_alloc_set }
}

/// Submits jobs until one is not taken: how many were, and that one's request and answer.
async fn submit_until_full(
    session: &mut Session,
    address: &str,
) -> (u32, wire::MutateRequest, Option<Reply<Done>>) {
    for count in 0..1_000 {
        let message = session.message(large_job(&format!("large-{count}")));
        match mutate(address, &message).await {
            Some(Ok(Ok(Done::Job { .. }))) => {}
            reply => return (count, message, reply),
        }
    }
    panic!("the disk never gets full");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_with_a_full_disk_takes_no_changes_until_there_is_room() {
    let Some(mount) = Mount::new(160) else { return };
    let (data, address) = (mount.path().join("cell"), free_address());
    let mut daemon = Daemon::alone(&data, &address);
    let mut session = Session::open(&address, "admin").await;
    session.ask(&address, job("before", 1)).await.unwrap();
    mount.fill();
    let (count, message, reply) = submit_until_full(&mut session, &address).await;
    assert!(matches!(reply, Some(Err(Unserved::DiskFull))), "{reply:?}");
    daemon.says("the disk takes no writes").await;
    assert!(daemon.log().contains("no space is left on the disk of"), "{}", daemon.log());

    // It says so to whoever asks, and goes on to answer what does not need the log.
    let before = cell(&address, Consistency::Stale).await;
    assert_eq!(before.job_count, 1 + count);
    assert!(matches!(mutate(&address, &message).await, Some(Err(Unserved::DiskFull))));
    let list = change(&address, "admin", ReplicaChange::Remove { id: 1 }).await;
    assert!(list.is_none(), "{list:?}");
    let after = cell(&address, Consistency::Stale).await;
    assert_eq!((before.index, before.hash), (after.index, after.hash));
    // Said once, however often it is tried.
    assert_eq!(daemon.log().matches("takes no writes").count(), 1, "{}", daemon.log());

    mount.empty();
    // The same request, which is done once.
    let done = until("it takes changes again", || async { mutate(&address, &message).await?.ok() });
    assert!(matches!(done.await, Ok(Done::Job { .. })));
    daemon.says("the disk takes writes again").await;
    session.ask(&address, job("after", 1)).await.unwrap();
    daemon.kill();
    let _daemon = Daemon::alone(&data, &address);
    assert_eq!(job_count(&address).await, count + 3, "nothing that was acknowledged is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_with_a_full_disk_lets_another_lead_and_catches_up_later() {
    let Some(mount) = Mount::new(160) else { return };
    let mut three = Three::start();
    three.agrees(0).await;
    // The first one, on a disk of its own.
    let data = mount.path().join("replica");
    three.kill(1);
    let copied = std::process::Command::new("cp").arg("-r").args([&three.data(1), &data]).status();
    assert!(copied.unwrap().success());
    three.replace(1, three.daemon_in(1, &data));
    until("it leads", || async {
        change(three.address(2), "ada", ReplicaChange::Transfer { to: Some(1) }).await?;
        (leader(three.address(2)).await == 1).then_some(())
    })
    .await;

    mount.fill();
    let mut session = Session::open(three.address(2), "ada").await;
    let mut count = 0;
    while leader(three.address(2)).await == 1 {
        session.ask(three.address(2), large_job(&format!("large-{count}"))).await.unwrap();
        count += 1;
        assert!(count < 1_000, "the disk never gets full");
    }
    // Clients of the full one are passed on.
    session.ask(three.address(1), job("after", 1)).await.unwrap();
    mount.empty();
    three.agrees(count + 1).await;
}

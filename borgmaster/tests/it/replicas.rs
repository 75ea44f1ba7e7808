//! A replica that joins.

use proto::operate::{ReplicaChange, ReplicaRole};
use proto::status::Consistency;
use tempfile::TempDir;

use crate::client::{Daemon, Session, cell, change, connect, free_address, job, leader, until};
use crate::cluster::Three;

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_joins_and_votes_and_leads() {
    let folder = TempDir::new().unwrap();
    let (first, second) = (free_address(), free_address());
    let one = Daemon::alone(&folder.path().join("1"), &first);
    let mut session = Session::open(&first, "admin").await;
    session.ask(&first, job("web", 1)).await.unwrap();

    let data = folder.path().join("2");
    let arguments =
        ["--data", data.to_str().unwrap(), "--listen", &second, "--join", &first, "--id", "2"];
    let mut two = Daemon::start(&arguments);
    connect(&second).await;
    let add = ReplicaChange::Add { id: 2, address: second.clone(), client_address: second.clone() };
    until("it is added", || change(&first, "admin", add.clone())).await;
    until("it votes", || async {
        let list = change(&first, "admin", ReplicaChange::List).await?;
        let two = list.replicas.iter().find(|it| it.id == 2)?;
        (two.role == ReplicaRole::Follower).then_some(())
    })
    .await;
    assert_eq!(cell(&second, Consistency::Linearizable).await.job_count, 1);
    // It knows from its folder who it is, and is nobody else.
    two.kill();
    let third = free_address();
    let posing =
        ["--data", data.to_str().unwrap(), "--listen", &third, "--join", &first, "--id", "3"];
    let refusal = Daemon::start(&posing).refusal(1);
    assert!(refusal.contains("is the folder of replica 2 of cell \"cell\""), "{refusal}");
    let _two = Daemon::alone(&data, &second);
    assert_eq!(cell(&second, Consistency::Linearizable).await.job_count, 1);
    // The first one hands over as it stops, and cannot be missed after that: it is taken out by hand.
    let transfer = ReplicaChange::Transfer { to: Some(2) };
    until("it leads", || async {
        change(&second, "admin", transfer.clone()).await?;
        let list = change(&second, "admin", ReplicaChange::List).await?;
        list.replicas.iter().any(|it| it.id == 2 && it.role == ReplicaRole::Leader).then_some(())
    })
    .await;
    until("the first one is removed", || async {
        change(&second, "admin", ReplicaChange::Remove { id: 1 }).await
    })
    .await;
    drop(one);
    session.ask(&second, job("more", 1)).await.unwrap();
    assert_eq!(cell(&second, Consistency::Linearizable).await.job_count, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_not_removed_while_the_rest_would_be_no_majority() {
    let mut three = Three::start();
    let first = leader(three.address(1)).await;
    let (gone, other) = (1 + first % 3, 1 + (first + 1) % 3);
    three.kill(gone);
    let address = three.address(first);
    until("it is missed", || async {
        let list = change(address, "ada", ReplicaChange::List).await?;
        list.replicas.iter().any(|it| it.id == gone && !it.is_heard).then_some(())
    })
    .await;
    assert_eq!(change(address, "ada", ReplicaChange::Remove { id: other }).await, None);
    // The one that is gone may go for good.
    until("it is removed", || change(address, "ada", ReplicaChange::Remove { id: gone })).await;
    let list = change(address, "ada", ReplicaChange::List).await.unwrap();
    assert!(list.replicas.iter().any(|it| it.id == other), "it was not removed");
}

//! A replica that joins.

use proto::operate::{ReplicaChange, ReplicaList, ReplicaRole};
use proto::status::Consistency;
use tempfile::TempDir;

use crate::address::free_address;
use crate::client::{Daemon, Session, cell, change, connect, job, leader, until};
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

#[tokio::test(flavor = "multi_thread")]
async fn a_new_replica_takes_the_place_of_one_that_is_gone() {
    let mut three = Three::start();
    let first = leader(three.address(1)).await;
    let (gone, other) = (1 + first % 3, 1 + (first + 1) % 3);
    let at = three.address(first).to_owned();
    let mut session = Session::open(&at, "ada").await;
    session.ask(&at, job("web", 1)).await.unwrap();
    three.kill(gone);
    let address = free_address();
    let replace = |old| ReplicaChange::Replace {
        old,
        new: 4,
        address: address.clone(),
        client_address: address.clone(),
    };
    assert_eq!(change(&at, "ada", replace(7)).await, None, "there is no replica 7");

    let data = three.data(4);
    let joins = ["--listen", &address, "--join", &at, "--id", "4"];
    let _four = Daemon::start(&[&["--data", data.to_str().unwrap()], &joins[..]].concat());
    connect(&address).await;
    let voters = |list: &ReplicaList| {
        let votes = list.replicas.iter().filter(|it| it.role != ReplicaRole::Learner);
        votes.map(|it| it.id).collect::<Vec<_>>()
    };
    let list = until("it learns", || change(&at, "ada", replace(gone))).await;
    assert_eq!(voters(&list), [1, 2, 3], "one that does not have the log yet replaces nobody");
    let another = ReplicaChange::Replace {
        old: gone,
        new: 5,
        address: address.clone(),
        client_address: address.clone(),
    };
    assert_eq!(change(&at, "ada", another).await, None, "its place is promised");
    until("it has taken the place", || async {
        let list = change(&at, "ada", ReplicaChange::List).await?;
        let now = voters(&list);
        // Both are never there at once.
        assert!(now.len() == 3, "{list:?}");
        (now.contains(&4) && !list.replicas.iter().any(|it| it.id == gone)).then_some(())
    })
    .await;
    assert_eq!(change(&at, "ada", replace(gone)).await, None, "that is done");
    // It counts: with it the cell bears that another one is gone.
    three.kill(other);
    session.ask(&at, job("more", 1)).await.unwrap();
    assert_eq!(cell(&address, Consistency::Linearizable).await.job_count, 2);
}

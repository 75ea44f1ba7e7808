//! A replica whose state is not that of the others.

use borgmaster_replica::Entry;
use borgmaster_replica::engine::record::{open, seal};
use proto::status::Consistency;

use crate::client::{Session, cell, job, leader, until};
use crate::cluster::Three;
use crate::damage::change_record;

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_state_differs_from_the_majoritys_stops() {
    let mut three = Three::start();
    let leads = leader(three.address(1)).await;
    let (at, other) = (three.address(leads).to_owned(), 1 + leads % 3);
    let mut session = Session::open(&at, "ada").await;
    session.ask(&at, job("web", 1)).await.unwrap();
    three.agrees(1).await;

    // An entry of its log that is whole and another one.
    three.kill(other);
    change_record(&three.data(other), "log", |value| {
        let mut entry: Entry = open(value).unwrap();
        let name = entry.data.windows(5).position(|bytes| bytes == b"\"web\"");
        let Some(name) = name else { return false };
        entry.data[name + 2] = b'o';
        *value = seal(&entry);
        true
    });
    let daemon = three.daemon(other);
    until("it has another state", || async {
        let seen = cell(three.address(other), Consistency::Stale).await;
        (seen.job_count == 1).then_some(())
    })
    .await;
    // Hashes are compared each 256 entries.
    let mut name = 0;
    while cell(&at, Consistency::Stale).await.index <= 256 {
        session.ask(&at, job(&format!("job-{name}"), 1)).await.unwrap();
        name += 1;
    }
    let said = daemon.refusal(1);
    let folder = three.data(other);
    assert!(said.contains("the state at index 256 is not that of the other replicas"), "{said}");
    assert!(said.contains(folder.to_str().unwrap()), "{said}");
    assert!(said.contains("borgcfg replicas add"), "{said}");
    // The majority goes on.
    session.ask(&at, job("after", 1)).await.unwrap();
    assert_eq!(leader(&at).await, leads);
}

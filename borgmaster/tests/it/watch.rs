//! What happens in a cell, and why.

use cell::live::view::Why;
use cell::live::{Op, Rejected, What};
use proto::event::{Events, Watch};
use proto::explain::WhyQuery;
use proto::operate::ReplicaChange;
use proto::reply::{Reply, Unserved, unserved_of};
use proto::status::Consistency;
use proto::wire;
use tempfile::TempDir;

use crate::address::free_address;
use crate::client::{DEADLINE, Daemon, Session, cell, change, connect, job, until};

async fn explained(address: &str, task: &str) -> Result<Why, Rejected> {
    let query = WhyQuery { task: task.to_owned(), consistency: Consistency::Linearizable };
    let message = wire::WhyRequest::try_from(query).unwrap();
    let reply = connect(address).await.why(message).await.unwrap().into_inner();
    Reply::<Why>::try_from(reply).unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_followed_and_a_pending_task_is_explained() {
    let (folder, address) = (TempDir::new().unwrap(), free_address());
    let _daemon = Daemon::alone(folder.path(), &address);
    let mut session = Session::open(&address, "admin").await;
    session.ask(&address, job("web", 1)).await.unwrap();
    let mut client = connect(&address).await;
    let watch = wire::EventsRequest::from(Watch { from_index: 0, follow: true });
    let mut stream = client.events(watch).await.unwrap().into_inner();
    let mut seen = Vec::new();
    for name in ["web", "later"] {
        if name == "later" {
            session.ask(&address, job(name, 1)).await.unwrap();
        }
        let next = async {
            while !seen.iter().any(|job| job == name) {
                let events = Events::try_from(stream.message().await.unwrap().unwrap()).unwrap();
                for told in events.events {
                    if let What::Submitted { job, .. } = told.event.what {
                        seen.push(job.to_string());
                    }
                }
            }
        };
        tokio::time::timeout(DEADLINE, next).await.expect("it is told");
    }
    assert_eq!(seen, ["web", "later"]);
    let from_the_future = wire::EventsRequest::from(Watch { from_index: 1 << 40, follow: false });
    assert!(client.events(from_the_future).await.is_err());

    let why = explained(&address, "web/0").await.unwrap();
    assert_eq!((why.phase.name(), why.text.as_str()), ("pending", "there is no machine for it"));
    assert!(explained(&address, "web/7").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_entries_that_a_snapshot_stood_for_are_said_to_be_missing() {
    let folder = TempDir::new().unwrap();
    let (first, second) = (free_address(), free_address());
    let _one = Daemon::alone(&folder.path().join("1"), &first);
    let mut session = Session::open(&first, "admin").await;
    session.ask(&first, job("web", 1)).await.unwrap();
    let data = folder.path().join("2");
    let joins = ["--listen", &second, "--join", &first, "--id", "2"];
    let _two = Daemon::start(&[&["--data", data.to_str().unwrap()], &joins[..]].concat());
    let mut client = connect(&second).await;
    // Whoever follows it already hears that there is a hole, and so does whoever asks later.
    let follow = wire::EventsRequest::from(Watch { from_index: 0, follow: true });
    let mut stream = client.events(follow).await.unwrap().into_inner();
    let add = ReplicaChange::Add { id: 2, address: second.clone(), client_address: second.clone() };
    until("it is added", || change(&first, "admin", add.clone())).await;
    until("it has the job", || async {
        (cell(&second, Consistency::Stale).await.job_count == 1).then_some(())
    })
    .await;
    let followed = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ends as if nothing were missing"),
                Err(status) => return status,
            }
        }
    };
    let followed = tokio::time::timeout(DEADLINE, followed).await.expect("it is told");
    let from_the_start = wire::EventsRequest::from(Watch { from_index: 1, follow: false });
    let asked = client.events(from_the_start).await.expect_err("it has no such events");
    for status in [followed, asked] {
        let Some(Unserved::NotInLog { oldest_index, newest_index }) = unserved_of(&status) else {
            panic!("{status:?}");
        };
        assert!(1 < oldest_index && oldest_index <= newest_index + 1, "{status:?}");
    }
    // What comes after the snapshot is told.
    let follow = wire::EventsRequest::from(Watch { from_index: 0, follow: true });
    let mut stream = client.events(follow).await.unwrap().into_inner();
    session.ask(&first, job("later", 1)).await.unwrap();
    let told = async {
        loop {
            let events = Events::try_from(stream.message().await.unwrap().unwrap()).unwrap();
            let is_it =
                |what: &What| matches!(what, What::Submitted { job, .. } if **job == *"later");
            if events.events.iter().any(|told| is_it(&told.event.what)) {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, told).await.expect("it is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_waits_in_vain_is_told_so() {
    let (folder, address) = (TempDir::new().unwrap(), free_address());
    let _daemon = Daemon::alone(folder.path(), &address);
    let mut session = Session::open(&address, "admin").await;
    session.ask(&address, job("first", 1)).await.unwrap();
    let Op::Submit { mut spec, is_alloc_set } = job("then", 1) else { unreachable!("it submits") };
    spec.run.start_after = vec!["first".to_owned()];
    session.ask(&address, Op::Submit { spec, is_alloc_set }).await.unwrap();
    let why = explained(&address, "then/0").await.unwrap();
    assert_eq!(why.text, "it waits until these jobs have finished: first");
    session.ask(&address, Op::Kill { job: "first".to_owned(), indexes: None }).await.unwrap();
    let why = explained(&address, "then/0").await.unwrap();
    assert_eq!(
        why.text,
        "it waits until these jobs have finished: first\n\
         first was killed, and will not finish\n\
         so then never starts: kill it (`borgcfg kill then`), and submit it again without that in its \
         `start_after`"
    );
}

//! What happens in a cell, and why.

use cell::live::What;
use proto::event::{Events, Watch};
use proto::explain::WhyQuery;
use proto::reply::Reply;
use proto::status::Consistency;
use proto::wire;
use tempfile::TempDir;

use crate::client::{Daemon, Session, connect, free_address, job};

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
        tokio::time::timeout(crate::client::DEADLINE, next).await.expect("it is told");
    }
    assert_eq!(seen, ["web", "later"]);
    let from_the_future = wire::EventsRequest::from(Watch { from_index: 1 << 40, follow: false });
    assert!(client.events(from_the_future).await.is_err());

    let query = |task: &str| {
        let consistency = Consistency::Linearizable;
        wire::WhyRequest::try_from(WhyQuery { task: task.to_owned(), consistency }).unwrap()
    };
    let reply = client.why(query("web/0")).await.unwrap().into_inner();
    let reply: Reply<cell::live::view::Why> = reply.try_into().unwrap();
    let why = reply.unwrap().unwrap();
    assert_eq!((why.phase.name(), why.text.as_str()), ("pending", "there is no machine for it"));
    let reply = client.why(query("web/7")).await.unwrap().into_inner();
    let reply: Reply<cell::live::view::Why> = reply.try_into().unwrap();
    assert!(reply.unwrap().is_err());
}

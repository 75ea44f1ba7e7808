//! How many more tasks would fit.

use cell::live::view::Fits;
use cell::live::{Op, Rejected};
use proto::explain::FitsQuery;
use proto::reply::Reply;
use proto::status::Consistency;
use proto::wire;
use tempfile::TempDir;

use crate::address::free_address;
use crate::client::{Daemon, Session, connect, job, until};
use crate::machines::Machines;

async fn fits(address: &str, op: Op) -> Result<Fits, Rejected> {
    let Op::Submit { spec, is_alloc_set } = op else { panic!("{op:?}") };
    let query = FitsQuery { spec, is_alloc_set, consistency: Consistency::Linearizable };
    let message = wire::FitsRequest::try_from(query).unwrap();
    let reply = connect(address).await.fits(message).await.unwrap().into_inner();
    Reply::<Fits>::try_from(reply).unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_cell_counts_how_many_more_tasks_fit() {
    let (folder, address) = (TempDir::new().unwrap(), free_address());
    let _daemon = Daemon::alone(folder.path(), &address);
    let mut session = Session::open(&address, "admin").await;
    assert_eq!(fits(&address, job("more", 1)).await.unwrap().count, 0);
    let machines = Machines::start(3, &mut session, &address).await;
    // Tasks of 1 core and 1 GiB, on three machines of 4 and 4.
    until("all machines are up", || async {
        (fits(&address, job("more", 1)).await.unwrap().count == 12).then_some(())
    })
    .await;
    session.ask(&address, job("web", 2)).await.unwrap();
    let counts = until("two are placed", || async {
        let counts = fits(&address, job("more", 1)).await.unwrap();
        (counts.count == 10).then_some(counts)
    })
    .await;
    assert_eq!((counts.free_count, counts.victim_count, counts.is_at_least), (10, 0, false));
    assert_eq!(counts.stopped_by.iter().map(|it| it.host_count).sum::<u32>(), 3);
    until("they run", || async { (machines.alive() == ["web/0", "web/1"]).then_some(()) }).await;

    let mut inside = job("inside", 1);
    if let Op::Submit { spec, .. } = &mut inside {
        spec.alloc_set = Some("none".to_owned());
    }
    let error = fits(&address, inside).await.unwrap_err();
    assert!(matches!(&error, Rejected::Invalid { field, .. } if field == "alloc_set"), "{error}");
}

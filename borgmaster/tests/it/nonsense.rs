//! Malformed, oversized and unknown requests of clients, replicas and borglets: they are refused by the name of
//! the field, and nothing is proposed.

use std::pin::Pin;

use cell::live::view::Question;
use cell::live::{Done, Op, Rejected, Settings};
use proto::limits::{MESSAGE_BYTES_MAX, PAGE_COUNT_MAX, SPEC_BYTES_MAX, SPEC_NAME_BYTES_MAX};
use proto::reply::Reply;
use proto::status::{Consistency, StatusQuery};
use proto::wire;
use proto::wire::borglet_server::{Borglet, BorgletServer};
use proto::wire::replica_client::ReplicaClient;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::address::free_address;
use crate::client::{Daemon, Session, cell, connect, job, job_count, mutate, until};
use crate::files::checkpoint;
use crate::raw::{call, junk};

const MUTATE: &str = "/cellmanager.v1.Cell/Mutate";

/// Bytes that no message has: field 1 as a varint where a part or a text is expected.
const GARBAGE: [u8; 9] = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];

/// A cell of one replica, with what clients had done when the trouble began.
struct Cell {
    _folder: TempDir,
    address: String,
    daemon: Daemon,
    session: Session,
    index: u64,
}

impl Cell {
    async fn start() -> Self {
        let (folder, address) = (TempDir::new().unwrap(), free_address());
        let daemon = Daemon::alone(folder.path(), &address);
        let mut session = Session::open(&address, "admin").await;
        session.ask(&address, job("web", 1)).await.unwrap();
        let index = cell(&address, Consistency::Linearizable).await.index;
        Self { _folder: folder, address, daemon, session, index }
    }

    /// What went through the log since, but for the master's own housekeeping.
    async fn proposed(&self) -> Vec<Op> {
        let file = checkpoint(&self.address, None).await.unwrap();
        let since = file.log().iter().filter(|(index, _)| *index > self.index);
        let commands = since.filter_map(|(_, entry)| entry.clone()).flat_map(|it| it.commands);
        commands.map(|command| command.op).filter(|op| *op != Op::Expire).collect()
    }
}

fn check(status: &Status, code: Code, parts: &[&str]) {
    assert_eq!(status.code(), code, "{status}");
    for part in parts {
        assert!(status.message().contains(part), "{part:?} is not in {:?}", status.message());
    }
}

fn with_spec(message: &wire::MutateRequest, spec: &str) -> wire::MutateRequest {
    let submit = wire::op::Submit { spec: spec.to_owned(), is_alloc_set: false };
    let op = wire::Op { op: Some(wire::op::Op::Submit(submit)) };
    wire::MutateRequest { op: Some(op), ..message.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_of_clients_name_the_field_and_are_not_proposed() {
    let mut cell = Cell::start().await;
    let mut client = connect(&cell.address).await;
    let good = cell.session.message(job("bad", 1));
    let id = good.id.clone().unwrap();
    let long_name = "n".repeat(SPEC_NAME_BYTES_MAX + 1);
    let long_name =
        format!(r#"{{"name": "{long_name}", "user": "a", "priority": 0, "limit": {{}}}}"#);
    let bad = [
        (wire::MutateRequest::default(), "field `id`: is missing"),
        (wire::MutateRequest { op: None, ..good.clone() }, "field `op`: is missing"),
        (
            wire::MutateRequest {
                id: Some(wire::RequestId { sequence: 0, ..id.clone() }),
                ..good.clone()
            },
            "field `id.sequence`",
        ),
        (
            wire::MutateRequest {
                id: Some(wire::RequestId { user: String::new(), ..id }),
                ..good.clone()
            },
            "field `id.user`: is missing",
        ),
        (with_spec(&good, "not JSON"), "field `op.submit.spec`"),
        (with_spec(&good, r#"{"name": "x", "colour": 1}"#), "unknown field `colour`"),
        (with_spec(&good, &long_name), "field `op.submit.spec.name`: has 201 bytes"),
        (
            with_spec(&good, &"x".repeat(SPEC_BYTES_MAX + 1)),
            "field `op.submit.spec`: has 1048577 bytes",
        ),
    ];
    for (message, words) in bad {
        let status = client.mutate(message).await.unwrap_err();
        check(&status, Code::InvalidArgument, &[words]);
    }

    let paging = |limit| {
        let list = wire::status_request::List {
            paging: Some(wire::Paging { limit, ..wire::Paging::default() }),
            filter: Some(wire::Filter::default()),
        };
        let what = Some(wire::status_request::What::Jobs(list));
        wire::StatusRequest { consistency: wire::Consistency::Stale.into(), what }
    };
    for limit in [0, PAGE_COUNT_MAX + 1] {
        let status = client.status(paging(limit)).await.unwrap_err();
        check(&status, Code::InvalidArgument, &["field `jobs.paging.limit`"]);
    }
    let status = client.why(wire::WhyRequest::default()).await.unwrap_err();
    check(&status, Code::InvalidArgument, &["field `"]);
    let status = client.fits(wire::FitsRequest::default()).await.unwrap_err();
    check(&status, Code::InvalidArgument, &["field `spec`"]);
    let status = client.replicas(wire::ReplicasRequest::default()).await.unwrap_err();
    check(&status, Code::InvalidArgument, &["field `"]);
    let data = wire::restore_request::Part::Data(vec![1]);
    let parts = vec![wire::RestoreRequest { part: Some(data) }];
    let status = client.restore(tokio_stream::iter(parts)).await.unwrap_err();
    check(&status, Code::InvalidArgument, &["`start` comes first"]);

    assert_eq!(cell.proposed().await, []);
    // The same session goes on: none of its numbers was used up.
    let reply = mutate(&cell.address, &good).await;
    assert!(matches!(reply, Some(Ok(Ok(Done::Job { .. })))), "{reply:?}");
    assert_eq!(cell.proposed().await.len(), 1, "what is proposed is seen here");
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_out_of_their_range_are_refused_without_a_proposal() {
    let mut cell = Cell::start().await;
    let mut refused = async |op: Op, path: &str| {
        let error = cell.session.ask(&cell.address, op).await.unwrap_err();
        let Rejected::Invalid { field, problem } = error else { panic!("{path}: {error:?}") };
        assert_eq!(field, path, "{problem}");
    };
    let spoilt = |spoil: fn(&mut cell::spec::JobSpec)| {
        let Op::Submit { mut spec, is_alloc_set } = job("bad", 2) else { unreachable!() };
        spoil(&mut spec);
        Op::Submit { spec, is_alloc_set }
    };
    refused(spoilt(|spec| spec.priority = 451), "priority").await;
    refused(spoilt(|spec| spec.count = 0), "count").await;
    refused(spoilt(|spec| spec.name = "a/b".to_owned()), "name").await;
    refused(spoilt(|spec| spec.name = String::new()), "name").await;
    refused(Op::Kill { job: "a b".to_owned(), indexes: None }, "job").await;
    refused(Op::Drain { machine: "a b".to_owned() }, "machine").await;
    let settings = |policy: &str, poll_interval_ms| Settings {
        policy: policy.to_owned(),
        poll_interval_ms,
        ..Settings::default()
    };
    refused(Op::Configure(settings("borg-hybrid", 1)), "settings.poll_interval_ms").await;
    refused(Op::Configure(settings("no-such", 2_000)), "settings.policy").await;
    assert_eq!(cell.proposed().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_there_are_not_are_refused_by_kind_and_name() {
    let mut cell = Cell::start().await;
    let unknown =
        |kind: &str, name: &str| Rejected::Unknown { kind: kind.to_owned(), name: name.to_owned() };
    let mut client = connect(&cell.address).await;
    let query = StatusQuery {
        consistency: Consistency::Linearizable,
        question: Question::Job("none".to_owned()),
    };
    let reply = client.status(wire::StatusRequest::try_from(query).unwrap()).await.unwrap();
    let reply: Reply<proto::status::Status> = reply.into_inner().try_into().unwrap();
    assert_eq!(reply.unwrap().unwrap_err(), unknown("job", "none"));
    let task = "none/0".to_owned();
    let query = proto::explain::WhyQuery { task, consistency: Consistency::Linearizable };
    let reply = client.why(wire::WhyRequest::try_from(query).unwrap()).await.unwrap();
    let reply: Reply<cell::live::view::Why> = reply.into_inner().try_into().unwrap();
    assert_eq!(reply.unwrap().unwrap_err(), unknown("task", "none/0"));
    assert_eq!(cell.proposed().await, []);

    // A change is refused by the state that it would change, so by the log: so the answer counts, whoever
    // leads by then. It changes nothing.
    let kill = Op::Kill { job: "none".to_owned(), indexes: None };
    let error = cell.session.ask(&cell.address, kill.clone()).await.unwrap_err();
    assert_eq!(error, unknown("job", "none"));
    let drain = Op::Drain { machine: "none".to_owned() };
    let error = cell.session.ask(&cell.address, drain.clone()).await.unwrap_err();
    assert_eq!(error, unknown("machine", "none"));
    assert_eq!(cell.proposed().await, [kill, drain]);
    assert_eq!(job_count(&cell.address).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_or_no_message_or_no_method_is_refused() {
    let cell = Cell::start().await;
    let at = &cell.address;
    let limit = MESSAGE_BYTES_MAX.to_string();
    for path in [MUTATE, "/cellmanager.v1.Cell/Restore", "/cellmanager.v1.Replica/Messages"] {
        let status = call(at, path, vec![0; MESSAGE_BYTES_MAX + 1]).await;
        check(&status, Code::OutOfRange, &["too large", &limit]);
    }
    let fields = [
        (MUTATE, "MutateRequest.id"),
        ("/cellmanager.v1.Cell/Why", "WhyRequest.task"),
        ("/cellmanager.v1.Cell/Restore", "RestoreRequest"),
        ("/cellmanager.v1.Replica/Messages", "Envelope.cell"),
    ];
    for (path, field) in fields {
        let status = call(at, path, GARBAGE.to_vec()).await;
        check(&status, Code::Internal, &["decode", field]);
    }
    for path in ["/cellmanager.v1.Cell/Explode", "/cellmanager.v2.Cell/Mutate", "/x"] {
        let status = call(at, path, Vec::new()).await;
        check(&status, Code::Unimplemented, &[]);
    }
    junk(at);
    assert_eq!(cell.proposed().await, []);
    assert_eq!(job_count(at).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_no_replica_of_this_cell_are_refused() {
    let cell = Cell::start().await;
    let endpoint = format!("http://{}", cell.address);
    let mut client = ReplicaClient::connect(endpoint).await.unwrap();
    let good = wire::Envelope { cell: "cell".to_owned(), from: 2, to: 1, messages: vec![] };
    let bad = [
        (
            wire::Envelope { cell: String::new(), ..good.clone() },
            Code::InvalidArgument,
            "field `cell`: is missing",
        ),
        (wire::Envelope { from: 0, ..good.clone() }, Code::InvalidArgument, "field `from`"),
        (
            wire::Envelope { cell: "other".to_owned(), ..good.clone() },
            Code::FailedPrecondition,
            "replica of cell \"cell\", not of \"other\"",
        ),
        (
            wire::Envelope { to: 3, ..good.clone() },
            Code::FailedPrecondition,
            "this is replica 1, not 3",
        ),
        (
            wire::Envelope { messages: vec![vec![1], vec![7, 7]], ..good.clone() },
            Code::InvalidArgument,
            "field `messages[1]`: message format 7, and this version speaks 1",
        ),
        (
            wire::Envelope { messages: vec![vec![]], ..good.clone() },
            Code::InvalidArgument,
            "field `messages[0]`",
        ),
    ];
    for (envelope, code, words) in bad {
        let status = client.messages(tokio_stream::iter([envelope])).await.unwrap_err();
        check(&status, code, &[words]);
    }
    // Of this version, and garbage: lost, as messages may be.
    let mut noise: u32 = 1;
    let mut garbage = |length| {
        let byte = |_| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            noise.to_be_bytes()[0]
        };
        std::iter::once(1).chain((0..length).map(byte)).collect::<Vec<u8>>()
    };
    let messages: Vec<Vec<u8>> = (0..500).map(|i| garbage(i % 50)).collect();
    let envelope = wire::Envelope { messages, ..good };
    let reply = client.messages(tokio_stream::iter([envelope])).await.unwrap();
    assert_eq!(reply.into_inner().received_count, 500);
    assert_eq!(cell.proposed().await, []);
    assert_eq!(job_count(&cell.address).await, 1);
}

/// A borglet that answers every batch with this.
#[derive(Clone)]
struct Liar(wire::FromBorglet);

#[tonic::async_trait]
impl Borglet for Liar {
    type LinkStream = Pin<Box<dyn Stream<Item = Result<wire::FromBorglet, Status>> + Send>>;

    async fn link(
        &self,
        request: Request<Streaming<wire::FromMaster>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let answer = self.0.clone();
        let answers = request.into_inner().map(move |batch| batch.map(|_| answer.clone()));
        Ok(Response::new(Box::pin(answers)))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_borglets_say_that_makes_no_sense_is_told_and_goes_no_further() {
    let mut cell = Cell::start().await;
    // One that says nonsense of its tasks, and one that does not even speak HTTP/2.
    let task =
        wire::TaskReport { job: 1, incarnation: 1, state: 99, ..wire::TaskReport::default() };
    let report = wire::Report {
        machine: "m-0".to_owned(),
        term: 1,
        capacity: Some(wire::MachineCapacity::default()),
        tasks: vec![task],
        ..wire::Report::default()
    };
    let report = wire::from_machine::Message::Report(report);
    let messages = vec![wire::FromMachine { message: Some(report) }, wire::FromMachine::default()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let liar = listener.local_addr().unwrap().to_string();
    let server = tonic::transport::Server::builder()
        .add_service(BorgletServer::new(Liar(wire::FromBorglet { messages })));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let babbler = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(&[0xee; 1000]).await;
        }
    });
    let spec = |name: &str| {
        serde_json::from_value(serde_json::json!({ "name": name, "cpu": 4, "ram": "4Gi" })).unwrap()
    };
    let machines = vec![(spec("m-0"), liar), (spec("m-1"), babbler)];
    cell.session.ask(&cell.address, Op::AddMachines { machines }).await.unwrap();
    cell.daemon.says("said something malformed").await;
    let log = cell.daemon.log();
    assert!(log.contains("field `report.tasks[0].state`: 99 is not known"), "{log}");
    until("it goes on to listen", || async {
        (cell.daemon.log().matches("field `message`: is missing").count() > 2).then_some(())
    })
    .await;
    // Nothing of it is believed: neither that they are up, nor anything of tasks.
    let is_own = |op: &Op| match op {
        Op::AddMachines { .. } => true,
        Op::Health { machines } => machines.iter().all(|(_, is_up)| !is_up),
        _ => false,
    };
    let proposed = cell.proposed().await;
    assert!(proposed.iter().all(is_own), "{proposed:?}");
    assert_eq!(job_count(&cell.address).await, 1);
}

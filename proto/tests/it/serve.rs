//! The generated services, over a real connection.

use proto::link::{FromMachine, MasterMessage, ToMachine, read_from_master};
use proto::reply::{Unserved, unserved_of};
use proto::wire;
use proto::wire::borglet_client::BorgletClient;
use proto::wire::borglet_server::{Borglet, BorgletServer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use cell::borglet::{Fence, MachineCapacity, Poll, Report};

struct ManyMachines;

fn report(machine: String, fence: Fence) -> FromMachine {
    let capacity = MachineCapacity::default();
    let Fence { term, generation } = fence;
    let needs_whole = true;
    FromMachine::Report(Report { machine, term, generation, needs_whole, capacity, tasks: vec![] })
}

fn answer(batch: wire::FromMaster) -> Result<wire::FromBorglet, Status> {
    let mut messages = Vec::new();
    for message in read_from_master(batch)? {
        let ToMachine { machine, message } = message?;
        let MasterMessage::Poll(poll) = message else {
            return Err(Unserved::Busy { retry_after_ms: 5 }.into());
        };
        messages.push(report(machine, poll.fence).try_into()?);
    }
    Ok(wire::FromBorglet { messages })
}

#[tonic::async_trait]
impl Borglet for ManyMachines {
    type LinkStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<wire::FromBorglet, Status>> + Send>>;

    async fn link(
        &self,
        request: Request<Streaming<wire::FromMaster>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        Ok(Response::new(Box::pin(request.into_inner().map(|batch| answer(batch?)))))
    }
}

async fn master() -> (mpsc::Sender<wire::FromMaster>, Streaming<wire::FromBorglet>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder().add_service(BorgletServer::new(ManyMachines));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let mut client = BorgletClient::connect(format!("http://{address}")).await.unwrap();
    let (tell, told) = mpsc::channel(4);
    let stream = client.link(ReceiverStream::new(told)).await.unwrap().into_inner();
    (tell, stream)
}

#[tokio::test]
async fn one_stream_carries_the_messages_of_many_machines() {
    let (tell, mut hear) = master().await;
    let fence = Fence { term: 3, generation: 4 };
    let poll = |name: &str| {
        let message = MasterMessage::Poll(Poll { fence });
        ToMachine { machine: name.to_owned(), message }.try_into().unwrap()
    };
    tell.send(wire::FromMaster { messages: vec![poll("a"), poll("b")] }).await.unwrap();
    let heard = hear.next().await.unwrap().unwrap();
    let heard: Vec<FromMachine> =
        heard.messages.into_iter().map(|message| message.try_into().unwrap()).collect();
    assert_eq!(heard, [report("a".to_owned(), fence), report("b".to_owned(), fence)]);
    drop(tell);
    assert!(hear.next().await.is_none());
}

#[tokio::test]
async fn a_bad_field_and_a_refusal_to_serve_arrive_in_the_status() {
    let (tell, mut hear) = master().await;
    let nameless = wire::ToMachine { machine: String::new(), message: None };
    tell.send(wire::FromMaster { messages: vec![nameless] }).await.unwrap();
    let status = hear.next().await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert_eq!(status.message(), "field `machine`: is missing");
    assert_eq!(unserved_of(&status), None);

    let (tell, mut hear) = master().await;
    let wanted = Some(wire::to_machine::Message::Wanted(wire::Wanted::default()));
    let wanted = wire::ToMachine { machine: "a".to_owned(), message: wanted };
    tell.send(wire::FromMaster { messages: vec![wanted] }).await.unwrap();
    let status = hear.next().await.unwrap().unwrap_err();
    assert_eq!(unserved_of(&status), Some(Unserved::Busy { retry_after_ms: 5 }));
}

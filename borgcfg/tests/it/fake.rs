//! A master that answers by a script.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use ::cell::live::Done;
use proto::operate::{FileChunk, Restored};
use proto::reply::{Reply, Unserved};
use proto::wire;
use proto::wire::cell_server::{Cell, CellServer};
use tokio::net::TcpListener;
use tokio_stream::Stream;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

/// What it answers, and what it was asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fake {
    /// Troubles before a change is done.
    pub troubles: Arc<Mutex<Vec<Trouble>>>,
    pub asked: Arc<Mutex<Vec<wire::RequestId>>>,
    pub file: Arc<Mutex<Vec<u8>>>,
    pub restored: Arc<Mutex<Vec<u8>>>,
}

#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    Unserved(Unserved),
    /// Done or not, nobody knows.
    Status(tonic::Code),
}

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Fake {
    /// Serves it; its address.
    pub(crate) async fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder().add_service(CellServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        address
    }
}

fn not_scripted<T>() -> Result<T, Status> {
    Err(Status::unimplemented("it is not in the script"))
}

#[tonic::async_trait]
impl Cell for Fake {
    async fn mutate(
        &self,
        request: Request<wire::MutateRequest>,
    ) -> Result<Response<wire::MutateReply>, Status> {
        let id = request.into_inner().id.unwrap();
        let done = if id.session == 0 { Done::Session(7) } else { Done::Done };
        let is_opening = id.session == 0;
        self.asked.lock().unwrap().push(id);
        let trouble = if is_opening { None } else { self.troubles.lock().unwrap().pop() };
        let reply: Reply<Done> = match trouble {
            None => Ok(Ok(done)),
            Some(Trouble::Unserved(unserved)) => Err(unserved),
            Some(Trouble::Status(code)) => return Err(Status::new(code, "a trouble")),
        };
        Ok(Response::new(reply.try_into().unwrap()))
    }

    async fn status(
        &self,
        _: Request<wire::StatusRequest>,
    ) -> Result<Response<wire::StatusReply>, Status> {
        not_scripted()
    }

    async fn why(&self, _: Request<wire::WhyRequest>) -> Result<Response<wire::WhyReply>, Status> {
        not_scripted()
    }

    async fn fits(
        &self,
        _: Request<wire::FitsRequest>,
    ) -> Result<Response<wire::FitsReply>, Status> {
        not_scripted()
    }

    type EventsStream = Streamed<wire::EventsReply>;

    async fn events(
        &self,
        _: Request<wire::EventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        not_scripted()
    }

    type CheckpointStream = Streamed<wire::CheckpointReply>;

    async fn checkpoint(
        &self,
        _: Request<wire::CheckpointRequest>,
    ) -> Result<Response<Self::CheckpointStream>, Status> {
        let file = self.file.lock().unwrap().clone();
        let chunks: Vec<_> = file
            .chunks(1_000)
            .map(|chunk| Ok(FileChunk(chunk.to_vec()).try_into().unwrap()))
            .collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }

    async fn restore(
        &self,
        request: Request<Streaming<wire::RestoreRequest>>,
    ) -> Result<Response<wire::RestoreReply>, Status> {
        use wire::restore_request::Part;
        let mut parts = request.into_inner();
        let mut total_bytes = None;
        while let Some(part) = parts.message().await? {
            match part.part.unwrap() {
                Part::Start(start) => {
                    total_bytes = Some(start.total_bytes);
                    self.asked.lock().unwrap().extend(start.id);
                }
                Part::Data(data) => self.restored.lock().unwrap().extend(data),
            }
        }
        assert_eq!(total_bytes, Some(self.restored.lock().unwrap().len() as u64));
        let reply: Reply<Restored> = Ok(Ok(Restored { index: 99, hash: 1 }));
        Ok(Response::new(reply.try_into().unwrap()))
    }

    async fn replicas(
        &self,
        _: Request<wire::ReplicasRequest>,
    ) -> Result<Response<wire::ReplicasReply>, Status> {
        not_scripted()
    }
}

//! Messages between replicas, over gRPC: a stream to each other replica, and the service for theirs.
//!
//! A message may be lost: where a queue is full, or a connection breaks. The log copes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use proto::peer::{Envelope, Route};
use proto::wire;
use proto::wire::replica_client::ReplicaClient;
use proto::wire::replica_server::Replica;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::config::Place;
use crate::replica::Message;

/// So many messages wait for a peer.
const QUEUE_COUNT_MAX: usize = 4_096;

/// So many messages, or so many bytes of them, go into one envelope.
const ENVELOPE_COUNT_MAX: usize = 256;
const ENVELOPE_BYTES_MAX: usize = 2 << 20;

/// So many envelopes wait for this replica.
const INCOMING_COUNT_MAX: usize = 256;

const CONNECT_MAX: Duration = Duration::from_secs(1);
const BACK_OFF_FIRST: Duration = Duration::from_millis(20);
const BACK_OFF_MAX: Duration = Duration::from_millis(1_000);

/// The streams to the others.
#[derive(Debug)]
pub(crate) struct Peers {
    cell: String,
    id: u64,
    runtime: Handle,
    links: BTreeMap<u64, Link>,
}

#[derive(Debug)]
struct Link {
    address: String,
    queue: mpsc::Sender<Vec<u8>>,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peers {
    pub(crate) const fn new(cell: String, id: u64, runtime: Handle) -> Self {
        Self { cell, id, runtime, links: BTreeMap::new() }
    }

    /// The replicas that there are now.
    pub(crate) fn update(&mut self, addresses: &BTreeMap<u64, String>) {
        self.links.retain(|id, link| addresses.get(id) == Some(&link.address));
        for (&id, address) in addresses {
            if id == self.id || self.links.contains_key(&id) {
                continue;
            }
            let (queue, messages) = mpsc::channel(QUEUE_COUNT_MAX);
            let route = Route { cell: self.cell.clone(), from: self.id, to: id };
            let peer = Place::from_text(address).peer;
            let task = self.runtime.spawn(serve(route, peer, messages));
            self.links.insert(id, Link { address: address.clone(), queue, task });
        }
    }

    /// Sends a message, unless too many wait already.
    pub(crate) fn send(&self, to: u64, bytes: Vec<u8>) {
        if let Some(link) = self.links.get(&to) {
            let _ = link.queue.try_send(bytes);
        }
    }
}

/// Keeps a stream to a peer open, and sends.
async fn serve(route: Route, address: String, mut messages: mpsc::Receiver<Vec<u8>>) {
    let mut back_off = BACK_OFF_FIRST;
    let mut said = None;
    loop {
        let begin = Instant::now();
        match stream(&route, &address, &mut messages).await {
            Ok(refusal) => {
                // Said once, however often it is tried.
                if let Some(refusal) = refusal.filter(|refusal| said.as_ref() != Some(refusal)) {
                    tracing::warn!(peer = route.to, address, status = refusal, "hung up");
                    said = Some(refusal);
                }
            }
            Err(error) => tracing::debug!(peer = route.to, address, %error, "cannot be reached"),
        }
        if begin.elapsed() >= BACK_OFF_MAX {
            back_off = BACK_OFF_FIRST;
            said = None;
        }
        if messages.is_closed() && messages.is_empty() {
            return;
        }
        tokio::time::sleep(back_off).await;
        back_off = (back_off * 2).min(BACK_OFF_MAX);
    }
}

/// Opens a stream and sends until it breaks; what the peer said, if it hung up.
async fn stream(
    route: &Route,
    address: &str,
    messages: &mut mpsc::Receiver<Vec<u8>>,
) -> Result<Option<String>, Box<dyn std::error::Error + Send + Sync>> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_MAX)
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(2))
        .tcp_nodelay(true);
    let mut client = ReplicaClient::new(endpoint.connect().await?);
    let (sender, envelopes) = mpsc::channel(4);
    let mut call = std::pin::pin!(client.messages(ReceiverStream::new(envelopes)));
    loop {
        let batch = tokio::select! {
            end = &mut call => return Ok(end.err().map(|status| status.message().to_owned())),
            batch = batch(messages) => batch,
        };
        if batch.is_empty() {
            return Ok(None);
        }
        let envelope = Envelope { route: route.clone(), messages: batch };
        let envelope = wire::Envelope::try_from(envelope)?;
        tokio::select! {
            end = &mut call => return Ok(end.err().map(|status| status.message().to_owned())),
            done = sender.send(envelope) => done?,
        }
    }
}

async fn batch(messages: &mut mpsc::Receiver<Vec<u8>>) -> Vec<Vec<u8>> {
    let Some(first) = messages.recv().await else { return Vec::new() };
    let mut byte_count = first.len();
    let mut batch = vec![first];
    while batch.len() < ENVELOPE_COUNT_MAX && byte_count < ENVELOPE_BYTES_MAX {
        let Ok(next) = messages.try_recv() else { break };
        byte_count += next.len();
        batch.push(next);
    }
    batch
}

/// The service for the other replicas' streams.
#[derive(Debug)]
pub(crate) struct Service {
    cell: String,
    id: u64,
    replica: Sender<Message>,
    room: Arc<Semaphore>,
}

impl Service {
    pub(crate) fn new(cell: String, id: u64, replica: Sender<Message>) -> Self {
        Self { cell, id, replica, room: Arc::new(Semaphore::new(INCOMING_COUNT_MAX)) }
    }

    fn check(&self, route: &Route) -> Result<(), Status> {
        let Route { cell, to, .. } = route;
        if *cell != self.cell {
            let own = &self.cell;
            let text = format!("this is a replica of cell {own:?}, not of {cell:?}");
            return Err(Status::failed_precondition(text));
        }
        if *to != self.id {
            let text = format!("this is replica {}, not {to}", self.id);
            return Err(Status::failed_precondition(text));
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl Replica for Service {
    async fn messages(
        &self,
        request: Request<Streaming<wire::Envelope>>,
    ) -> Result<Response<wire::MessagesReply>, Status> {
        let mut envelopes = request.into_inner();
        let mut received_count = 0;
        while let Some(envelope) = envelopes.message().await? {
            let Envelope { route, messages } = envelope
                .try_into()
                .map_err(|error: proto::WireError| Status::invalid_argument(error.to_string()))?;
            self.check(&route)?;
            for (i, message) in messages.iter().enumerate() {
                borgmaster_replica::check_message(message).map_err(|error| {
                    Status::invalid_argument(format!("field `messages[{i}]`: {error}"))
                })?;
            }
            received_count += messages.len() as u64;
            let permit = Arc::clone(&self.room).acquire_owned().await;
            let permit = permit.map_err(|_| Status::unavailable("this replica is stopping"))?;
            let message = Message::Peer { from: route.from, messages, _permit: permit };
            self.replica
                .send(message)
                .map_err(|_| Status::unavailable("this replica is stopping"))?;
        }
        Ok(Response::new(wire::MessagesReply { received_count }))
    }
}

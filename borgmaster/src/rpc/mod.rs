//! The service for clients. Any replica may be asked: what only the leader can do is passed on to it, once.
//!
//! In: requests. Out: answers, each either what was asked for, why the cell rejects it, or why this replica
//! does not serve it. What a request means is the replica's and the state's; here it is only carried.

mod checkpoint;
mod events;
mod explain;
mod fits;
mod replicas;
mod restore;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use borgmaster_replica::server::Answer;
use cell::live::{Rejected, view};
use crossbeam_channel::Sender;
use proto::explain::FitsQuery;
use proto::limits::MESSAGE_BYTES_MAX;
use proto::mutate::Mutation;
use proto::reply::{Reply, Unserved};
use proto::status::{Consistency, StatusQuery};
use proto::wire;
use proto::wire::cell_client::CellClient;
use proto::wire::cell_server::Cell;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use crate::config::Place;
use crate::replica::{Held, Message, Replica};

/// So many requests may be under way; beyond that a client hears that this replica is busy.
const REQUEST_COUNT_MAX: usize = 8_192;

/// The same of questions, apart from requests: neither keeps the other out.
const READ_COUNT_MAX: usize = 4_096;

/// The same of streams of events, each of which asks one question at a time.
const STREAM_COUNT_MAX: usize = 1_024;

/// So many tasks are explained at once: that is done by the replica's own thread, on a copy of the rooms.
const WHY_COUNT_MAX: usize = 2;

/// So many questions wait for that.
const WHY_WAITING_COUNT_MAX: usize = 64;

/// So many questions that take long are worked on at once: each keeps a core busy, and a copy of the cell.
const LONG_COUNT_MAX: usize = 1;

/// While no leader is known a request waits for so long.
const WAIT_MAX: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(50);

/// A client that is told that a replica is busy may come again after so long.
const RETRY_AFTER_MS: u32 = 100;

/// Marks what another replica passed on, which is not passed on again.
const PASSED_ON: &str = "cell-passed-on";

type Streamed<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    replica: Sender<Message>,
    room: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    /// For explanations, and for those that wait for one as well.
    whys: Arc<Semaphore>,
    whys_waiting: Arc<Semaphore>,
    /// For questions that take long, of which only so many are worked on at once.
    long: Arc<Semaphore>,
    channels: Arc<Mutex<BTreeMap<String, Channel>>>,
}

fn malformed(error: proto::WireError) -> Status {
    Status::invalid_argument(error.to_string())
}

fn too_large(error: proto::WireError) -> Status {
    Status::out_of_range(format!("the answer cannot be sent: {error}"))
}

fn stopping() -> Status {
    Status::unavailable("this replica is stopping")
}

fn busy() -> Unserved {
    Unserved::Busy { retry_after_ms: RETRY_AFTER_MS }
}

fn was_passed_on<T>(request: &Request<T>) -> bool {
    request.metadata().contains_key(PASSED_ON)
}

impl Service {
    pub(crate) fn new(replica: Sender<Message>) -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self {
            replica,
            room: places(REQUEST_COUNT_MAX),
            reads: places(READ_COUNT_MAX),
            streams: places(STREAM_COUNT_MAX),
            whys: places(WHY_COUNT_MAX),
            whys_waiting: places(WHY_COUNT_MAX + WHY_WAITING_COUNT_MAX),
            long: places(LONG_COUNT_MAX),
            channels: Arc::default(),
        }
    }

    /// Has the replica's thread do something with the state as it is.
    async fn peek<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Replica) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let (reply, answer) = oneshot::channel();
        let question = Box::new(move |replica: Result<&mut Replica, Answer>| {
            if let Ok(replica) = replica {
                let _ = reply.send(ask(replica));
            }
        });
        self.replica.send(Message::Peek(question)).map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }

    /// Has the replica's thread do something with the state, as recent as is asked for.
    async fn ask<T: Send + 'static>(
        &self,
        consistency: Consistency,
        ask: impl FnOnce(&mut Replica) -> T + Clone + Send + 'static,
    ) -> Result<Result<T, Unserved>, Status> {
        // It goes with the question, which stays in the queue also where nobody waits for the answer any more.
        let Ok(place) = Arc::clone(&self.reads).try_acquire_owned() else {
            return Ok(Err(busy()));
        };
        let place = Arc::new(place);
        let ask = move |replica: &mut Replica| {
            let _place = place;
            ask(replica)
        };
        if consistency == Consistency::Stale {
            return self.peek(ask).await.map(Ok);
        }
        let give_up = Instant::now() + WAIT_MAX;
        loop {
            let (reply, answer) = oneshot::channel();
            let ask = ask.clone();
            let question = Box::new(move |replica: Result<&mut Replica, Answer>| {
                let _ = reply.send(replica.map(ask));
            });
            self.replica.send(Message::Read(question)).map_err(|_| stopping())?;
            let why = match answer.await.map_err(|_| stopping())? {
                Ok(answer) => return Ok(Ok(answer)),
                Err(why) => why,
            };
            if Instant::now() >= give_up {
                return self.unserved(why).await.map(Err);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Why a request is not served.
    async fn unserved(&self, why: Answer) -> Result<Unserved, Status> {
        Ok(match why {
            Answer::NotLeader { leader } => {
                Unserved::NotLeader { leader_address: self.client_address(leader).await? }
            }
            Answer::NoSpace => Unserved::DiskFull,
            Answer::Busy
            | Answer::Unknown
            | Answer::Outcome(_)
            | Answer::Readable
            | Answer::Membership
            | Answer::Refused(_) => busy(),
        })
    }

    async fn client_address(&self, leader: Option<u64>) -> Result<Option<String>, Status> {
        let Some(leader) = leader else { return Ok(None) };
        self.peek(move |replica| {
            replica.places().get(&leader).map(|place| Place::from_text(place).client)
        })
        .await
    }

    /// A client of another replica.
    fn client(&self, address: &str) -> Result<CellClient<Channel>, Status> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = match channels.get(address) {
            Some(channel) => channel.clone(),
            None => {
                let endpoint = Endpoint::from_shared(format!("http://{address}"))
                    .map_err(|error| Status::internal(error.to_string()))?;
                let channel = endpoint
                    .connect_timeout(Duration::from_secs(1))
                    .http2_keep_alive_interval(Duration::from_secs(2))
                    .keep_alive_timeout(Duration::from_secs(2))
                    .tcp_nodelay(true)
                    .connect_lazy();
                channels.insert(address.to_owned(), channel.clone());
                channel
            }
        };
        Ok(CellClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    fn passed_on<T>(message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert(PASSED_ON, AsciiMetadataValue::from_static("1"));
        request
    }

    async fn mutate_here(
        &self,
        request: cell::live::Request,
        op: cell::live::Op,
        held: &Held,
    ) -> Result<Answer, Status> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Mutate { request, op, reply, _permit: Arc::clone(held) };
        self.replica.send(message).map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }
}

#[tonic::async_trait]
impl Cell for Service {
    async fn mutate(
        &self,
        request: Request<wire::MutateRequest>,
    ) -> Result<Response<wire::MutateReply>, Status> {
        let is_last = was_passed_on(&request);
        let message = request.into_inner();
        let Mutation { request, op } = Mutation::try_from(message.clone()).map_err(malformed)?;
        let to_reply = |reply: Reply<cell::live::Done>| {
            wire::MutateReply::try_from(reply).map(Response::new).map_err(too_large)
        };
        let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
            return to_reply(Err(busy()));
        };
        let held = Arc::new(permit);
        let give_up = Instant::now() + WAIT_MAX;
        loop {
            let answer = self.mutate_here(request.clone(), op.clone(), &held).await?;
            match &answer {
                Answer::Outcome(outcome) => return to_reply(Ok(outcome.clone())),
                Answer::NotLeader { leader: Some(leader) } if !is_last => {
                    if let Some(address) = self.client_address(Some(*leader)).await? {
                        let request = Self::passed_on(message.clone());
                        match self.client(&address)?.mutate(request).await {
                            // It has stopped leading, or is gone: see who does.
                            Ok(reply) if has_stopped_leading(reply.get_ref()) => {}
                            Ok(reply) => return Ok(reply),
                            Err(status) if status.code() == tonic::Code::Unavailable => {}
                            Err(status) => return Err(status),
                        }
                    }
                }
                // Under the same number it is done once, however often it is asked for. A disk that is full
                // may have room again, and another replica may come to lead meanwhile.
                Answer::Unknown | Answer::NotLeader { leader: None } | Answer::NoSpace
                    if !is_last => {}
                Answer::Unknown
                | Answer::NotLeader { .. }
                | Answer::Busy
                | Answer::NoSpace
                | Answer::Readable
                | Answer::Membership
                | Answer::Refused(_) => {
                    if answer == Answer::Unknown {
                        return Err(unknown());
                    }
                    return to_reply(Err(self.unserved(answer).await?));
                }
            }
            if Instant::now() >= give_up {
                if answer == Answer::Unknown {
                    return Err(unknown());
                }
                return to_reply(Err(self.unserved(answer).await?));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn status(
        &self,
        request: Request<wire::StatusRequest>,
    ) -> Result<Response<wire::StatusReply>, Status> {
        let query = StatusQuery::try_from(request.into_inner()).map_err(malformed)?;
        let StatusQuery { consistency, question } = query;
        let answer = self.ask(consistency, move |replica| {
            let state = replica.server.state();
            let index = state.index();
            let mut answer = state.answer(&question)?;
            if let view::Answer::Cell(cell) = &mut answer {
                cell.planning = planning(replica);
            }
            Ok(proto::status::Status { index, answer })
        });
        let reply: Reply<proto::status::Status> = answer.await?;
        wire::StatusReply::try_from(reply).map(Response::new).map_err(too_large)
    }

    async fn why(
        &self,
        request: Request<wire::WhyRequest>,
    ) -> Result<Response<wire::WhyReply>, Status> {
        let query = proto::explain::WhyQuery::try_from(request.into_inner()).map_err(malformed)?;
        let reply = self.explain(query).await?;
        wire::WhyReply::try_from(reply).map(Response::new).map_err(too_large)
    }

    async fn fits(
        &self,
        request: Request<wire::FitsRequest>,
    ) -> Result<Response<wire::FitsReply>, Status> {
        let query = FitsQuery::try_from(request.into_inner()).map_err(malformed)?;
        let reply = self.count_fits(query).await?;
        wire::FitsReply::try_from(reply).map(Response::new).map_err(too_large)
    }

    type EventsStream = Streamed<wire::EventsReply>;

    async fn events(
        &self,
        request: Request<wire::EventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        self.watch(request.into_inner().into()).await.map(Response::new)
    }

    type CheckpointStream = Streamed<wire::CheckpointReply>;

    async fn checkpoint(
        &self,
        request: Request<wire::CheckpointRequest>,
    ) -> Result<Response<Self::CheckpointStream>, Status> {
        self.stream_file(request.into_inner().into()).await.map(Response::new)
    }

    async fn restore(
        &self,
        request: Request<Streaming<wire::RestoreRequest>>,
    ) -> Result<Response<wire::RestoreReply>, Status> {
        self.serve_restore(request).await
    }

    async fn replicas(
        &self,
        request: Request<wire::ReplicasRequest>,
    ) -> Result<Response<wire::ReplicasReply>, Status> {
        self.serve_replicas(request).await
    }
}

/// What the replica counts of its passes, if it leads.
fn planning(replica: &Replica) -> Option<view::PlanningStatus> {
    let core = replica.server.core();
    let (stats, term) = (core.stats()?, core.term()?);
    Some(view::PlanningStatus {
        replica: replica.server.node().id(),
        term,
        pass_count: stats.pass_count,
        conflicted_count: stats.conflicted_count,
        examined_count: stats.examined_count,
        placed_count: stats.placed_count,
        refused_count: stats.refused.values().sum(),
        staleness_entries_sum: stats.staleness_entries_sum,
        staleness_entries_max: stats.staleness_entries_max,
    })
}

fn unknown() -> Status {
    Status::aborted(
        "the leader changed in between: whether it was done is not known; ask again under the same number",
    )
}

fn has_stopped_leading(reply: &wire::MutateReply) -> bool {
    let reply: Result<Reply<cell::live::Done>, _> = reply.clone().try_into();
    matches!(reply, Ok(Err(Unserved::NotLeader { .. } | Unserved::DiskFull)))
}

fn invalid(field: &str, problem: &str) -> Rejected {
    Rejected::Invalid { field: field.to_owned(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use cell::live::view::Question;
    use crossbeam_channel::Receiver;
    use proto::event::Watch;
    use proto::explain::WhyQuery;
    use proto::reply::unserved_of;

    use super::*;

    /// A service whose replica takes in nothing, with so many places each.
    fn service(count: usize) -> (Service, Receiver<Message>) {
        let (sender, receiver) = crossbeam_channel::unbounded();
        let places = |count| Arc::new(Semaphore::new(count));
        let service = Service {
            reads: places(count),
            streams: places(count),
            whys: places(count),
            whys_waiting: places(2 * count),
            ..Service::new(sender)
        };
        (service, receiver)
    }

    /// Waits until something is so; not for ever.
    async fn until(is_so: impl Fn() -> bool) {
        let waits = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waits).await.expect("it comes to be so");
    }

    async fn until_queued(queue: &Receiver<Message>, count: usize) {
        until(|| queue.len() >= count).await;
    }

    fn status_query() -> Request<wire::StatusRequest> {
        let query = StatusQuery { consistency: Consistency::Stale, question: Question::Cell };
        Request::new(query.try_into().unwrap())
    }

    fn why_query() -> Request<wire::WhyRequest> {
        let query = WhyQuery { task: "web/0".to_owned(), consistency: Consistency::Stale };
        Request::new(query.try_into().unwrap())
    }

    #[tokio::test]
    async fn beyond_so_many_questions_a_replica_is_busy() {
        let (service, queue) = service(2);
        let asked: Vec<_> = (0..2)
            .map(|_| {
                let service = service.clone();
                tokio::spawn(async move { service.status(status_query()).await })
            })
            .collect();
        until_queued(&queue, 2).await;
        // Whoever goes away leaves the question behind, which still counts.
        asked[0].abort();
        tokio::task::yield_now().await;
        let reply = service.status(status_query()).await.unwrap().into_inner();
        let reply: Reply<proto::status::Status> = reply.try_into().unwrap();
        assert_eq!(reply, Err(busy()));
        assert_eq!(queue.len(), 2);
        // What was asked before makes room once it was looked at.
        drop(queue.recv().unwrap());
        let again = tokio::spawn(async move { service.status(status_query()).await });
        until_queued(&queue, 2).await;
        again.abort();
    }

    #[tokio::test]
    async fn explanations_wait_for_their_turn_outside_of_the_queue() {
        let (service, queue) = service(1);
        let ask = || {
            let service = service.clone();
            tokio::spawn(async move { service.why(why_query()).await })
        };
        let busy_of = |reply: wire::WhyReply| {
            let reply: Reply<cell::live::view::Why> = reply.try_into().unwrap();
            assert_eq!(reply, Err(busy()));
        };
        let first = ask();
        until_queued(&queue, 1).await;
        let second = ask();
        until(|| service.whys_waiting.available_permits() == 0).await;
        // No more than so many wait.
        busy_of(service.why(why_query()).await.unwrap().into_inner());
        // Not for ever, either.
        busy_of(second.await.unwrap().unwrap().into_inner());
        assert_eq!(queue.len(), 1, "the second one was never in the queue");
        first.abort();
    }

    #[tokio::test]
    async fn beyond_so_many_streams_of_events_a_replica_is_busy() {
        let (service, queue) = service(1);
        let watch =
            || Request::new(wire::EventsRequest::from(Watch { from_index: 0, follow: true }));
        let first = tokio::spawn({
            let (service, watch) = (service.clone(), watch());
            async move { service.events(watch).await.map(drop) }
        });
        until_queued(&queue, 1).await;
        let Err(status) = service.events(watch()).await else { panic!("it is not busy") };
        assert_eq!(unserved_of(&status), Some(busy()));
        assert_eq!(queue.len(), 1);
        first.abort();
    }
}

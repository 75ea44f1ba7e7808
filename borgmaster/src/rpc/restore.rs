//! Putting a state of a cell file in place of the cell's.
//!
//! The file is read and checked as it comes in, by a thread of its own. Its state then goes through the log, in
//! parts, and every replica puts it in place of its own at the same entry. Only that last step changes
//! anything for users, and it is a request of a session, so that it is carried out once.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufReader, Read};
use std::sync::Arc;

use borgmaster_replica::server::Answer;
use cell::file::CellFile;
use cell::live::{
    Blob, Capability, Done, Op, Outcome, RESTORE_BYTES_MAX, RESTORE_PART_BYTES_MAX, Rejected,
    Request, restore_checksum,
};
use proto::operate::{FileChunk, RestorePart, Restored};
use proto::reply::Reply;
use proto::wire;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use super::{
    AGAIN, Held, Service, WAIT_MAX, busy, invalid, malformed, too_large, unknown, was_passed_on,
};

/// So many bytes are in a cell file at most. Our own limit: many times what the largest state that can be
/// restored takes as text, with a log of usual length.
const FILE_BYTES_MAX: u64 = 2 << 30;

/// So many pieces of a file wait to be read.
const PIECE_COUNT_MAX: usize = 4;

/// What is to be restored.
struct Start {
    user: String,
    total_bytes: u64,
    until_index: Option<u64>,
    request: Option<Request>,
    /// Its place in the queue.
    held: Held,
}

/// How this replica stands to a restore before any of the file is read.
enum Standing {
    MayBegin,
    Answered(Outcome),
    NotLeader(Answer),
}

impl Service {
    pub(super) async fn serve_restore(
        &self,
        request: tonic::Request<Streaming<wire::RestoreRequest>>,
    ) -> Result<Response<wire::RestoreReply>, Status> {
        let is_last = was_passed_on(&request);
        let mut stream = request.into_inner();
        let nothing = || Status::invalid_argument("part: `start` comes first");
        let first = stream.message().await?.ok_or_else(nothing)?;
        let part = RestorePart::try_from(first.clone()).map_err(malformed)?;
        let RestorePart::Start { user, total_bytes, until_index, request } = part else {
            return Err(nothing());
        };
        let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
            let reply: Reply<Restored> = Err(busy());
            return wire::RestoreReply::try_from(reply).map(Response::new).map_err(too_large);
        };
        let held = Arc::new(permit);
        let start = Start { user, total_bytes, until_index, request, held };
        let give_up = Instant::now() + WAIT_MAX;
        let reply = loop {
            match self.standing(&start).await? {
                Standing::MayBegin => break self.restore_here(start, stream).await?,
                Standing::Answered(Ok(_)) => break Ok(Ok(self.restored().await?)),
                Standing::Answered(Err(rejected)) => break Ok(Err(rejected)),
                Standing::NotLeader(why) => {
                    let leader = if let Answer::NotLeader { leader } = why { leader } else { None };
                    if let Some(address) = self.client_address(leader).await?.filter(|_| !is_last) {
                        return self.pass_on(&address, first, stream).await;
                    }
                    if Instant::now() >= give_up || is_last {
                        break Err(self.unserved(why).await?);
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            }
        };
        wire::RestoreReply::try_from(reply).map(Response::new).map_err(too_large)
    }

    async fn standing(&self, start: &Start) -> Result<Standing, Status> {
        let (user, request) = (start.user.clone(), start.request.clone());
        self.peek(move |replica| {
            let node = replica.server.node();
            if node.leads().is_none() {
                return Standing::NotLeader(replica.server.not_leader());
            }
            let state = replica.server.state();
            let any = Op::RestoreFinish { restore: 0, length: 0, checksum: 0 };
            if let Some(outcome) = request.and_then(|request| state.answer_now(&request, &any)) {
                return Standing::Answered(outcome);
            }
            if state.capabilities(&user).contains(&Capability::Machines) {
                return Standing::MayBegin;
            }
            let capability = Capability::Machines.name().to_owned();
            Standing::Answered(Err(Rejected::Forbidden { user, capability }))
        })
        .await
    }

    /// Sends everything to the replica that leads.
    async fn pass_on(
        &self,
        address: &str,
        first: wire::RestoreRequest,
        mut rest: Streaming<wire::RestoreRequest>,
    ) -> Result<Response<wire::RestoreReply>, Status> {
        let (sender, receiver) = mpsc::channel(PIECE_COUNT_MAX);
        tokio::spawn(async move {
            let mut next = Some(first);
            while let Some(part) = next {
                if sender.send(part).await.is_err() {
                    return;
                }
                // Where the client's stream breaks off this one ends too early, which is seen there.
                next = rest.message().await.ok().flatten();
            }
        });
        self.client(address)?.restore(Self::passed_on(ReceiverStream::new(receiver))).await
    }

    async fn restore_here(
        &self,
        start: Start,
        stream: Streaming<wire::RestoreRequest>,
    ) -> Result<Reply<Restored>, Status> {
        let Ok(_permit) = Arc::clone(&self.long).try_acquire_owned() else {
            return Ok(Err(busy()));
        };
        if start.total_bytes > FILE_BYTES_MAX {
            let problem = format!("{} is above {FILE_BYTES_MAX}", start.total_bytes);
            return Ok(Ok(Err(invalid("start.total_bytes", &problem))));
        }
        let bytes = match receive(stream, start.total_bytes, start.until_index).await? {
            Ok(bytes) => bytes,
            Err(rejected) => return Ok(Ok(Err(rejected))),
        };
        match self.propose_state(start, &bytes).await? {
            Ok(Ok(_)) => self.restored().await.map(|restored| Ok(Ok(restored))),
            Ok(Err(rejected)) => Ok(Ok(Err(rejected))),
            Err(unserved) => Ok(Err(unserved)),
        }
    }

    /// Brings a saved state through the log.
    async fn propose_state(&self, start: Start, bytes: &[u8]) -> Result<Reply<Done>, Status> {
        let Start { user, request, held, .. } = start;
        let opening = Request { user: user.clone(), session: 0, sequence: 1, answered_below: 0 };
        let session = match self.propose(opening, Op::OpenSession, &held).await? {
            Ok(Ok(Done::Session(session))) => session,
            Ok(Ok(Done::Done | Done::Job { .. } | Done::Some { .. })) => return Err(unknown()),
            Ok(Err(rejected)) => return Ok(Ok(Err(rejected))),
            Err(unserved) => return Ok(Err(unserved)),
        };
        let mut sequence = 0;
        let mut next = || {
            sequence += 1;
            Request { user: user.clone(), session, sequence, answered_below: sequence }
        };
        let restore = RandomState::new().hash_one(session);
        let mut offset = 0;
        for data in bytes.chunks(RESTORE_PART_BYTES_MAX) {
            let op = Op::RestorePart { restore, offset, data: Blob::from(data) };
            offset += data.len() as u64;
            match self.propose(next(), op, &held).await? {
                Ok(Ok(_)) => {}
                Ok(Err(rejected)) => return Ok(Ok(Err(rejected))),
                Err(unserved) => return Ok(Err(unserved)),
            }
        }
        let checksum = restore_checksum(bytes);
        let op = Op::RestoreFinish { restore, length: offset, checksum };
        let request = request.unwrap_or_else(next);
        self.propose(request, op, &held).await
    }

    /// Proposes an operation, until it is answered or another replica leads.
    async fn propose(&self, request: Request, op: Op, held: &Held) -> Result<Reply<Done>, Status> {
        let is_finish = matches!(op, Op::RestoreFinish { .. });
        let give_up = Instant::now() + WAIT_MAX;
        loop {
            let answer = self.mutate_here(request.clone(), op.clone(), held).await?;
            match answer {
                Answer::Outcome(outcome) => return Ok(Ok(outcome)),
                Answer::Busy | Answer::NoSpace if Instant::now() < give_up => {}
                Answer::Unknown if is_finish => return self.answer_to(request, op).await,
                // Whatever came of it, it changed nothing for users.
                Answer::Unknown => {
                    let leader = self.peek(|replica| replica.server.node().leader()).await?;
                    return self.unserved(Answer::NotLeader { leader }).await.map(Err);
                }
                Answer::Busy
                | Answer::NoSpace
                | Answer::NotLeader { .. }
                | Answer::Readable
                | Answer::Membership
                | Answer::Refused(_) => return self.unserved(answer).await.map(Err),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// The answer to a request that was proposed before another replica came to lead: the sessions tell it
    /// here too, once the entry is applied.
    async fn answer_to(&self, request: Request, op: Op) -> Result<Reply<Done>, Status> {
        let give_up = Instant::now() + WAIT_MAX;
        let (request, op) = (Arc::new(request), Arc::new(op));
        while Instant::now() < give_up {
            let (request, op) = (Arc::clone(&request), Arc::clone(&op));
            let question = move |replica: &mut _| earlier(replica, &request, &op);
            if let Some(outcome) = self.peek(question).await? {
                return Ok(Ok(outcome));
            }
            tokio::time::sleep(AGAIN).await;
        }
        Err(unknown())
    }

    /// The state as it is, for whoever restored it.
    async fn restored(&self) -> Result<Restored, Status> {
        self.peek(|replica| {
            let state = replica.server.state();
            Restored { index: state.index(), hash: state.hash() }
        })
        .await
    }
}

fn earlier(replica: &mut crate::replica::Replica, request: &Request, op: &Op) -> Option<Outcome> {
    replica.server.state().answer_now(request, op)
}

/// Takes a file in; its state at the index that is asked for, as bytes.
async fn receive(
    mut stream: Streaming<wire::RestoreRequest>,
    total_bytes: u64,
    until_index: Option<u64>,
) -> Result<Result<Vec<u8>, Rejected>, Status> {
    let (pieces, receiver) = mpsc::channel(PIECE_COUNT_MAX);
    let reading = tokio::task::spawn_blocking(move || {
        read(Pieces { receiver, piece: Vec::new(), at: 0 }, until_index)
    });
    let mut count = 0;
    while let Some(part) = stream.message().await? {
        let RestorePart::Data(FileChunk(data)) = part.try_into().map_err(malformed)? else {
            return Err(Status::invalid_argument("part: `start` comes first, and once"));
        };
        count += data.len() as u64;
        // A file that is refused is not read to its end.
        if count > total_bytes || pieces.send(data).await.is_err() {
            break;
        }
    }
    drop(pieces);
    let read = reading.await.map_err(|error| Status::internal(error.to_string()))?;
    if count != total_bytes && read.is_ok() {
        let problem = format!("{count} bytes came, and {total_bytes} were announced");
        return Ok(Err(invalid("start.total_bytes", &problem)));
    }
    Ok(read)
}

fn read(pieces: Pieces, until_index: Option<u64>) -> Result<Vec<u8>, Rejected> {
    let file = CellFile::read(BufReader::new(pieces)).map_err(|error| {
        let error = anyhow::Error::from(error);
        invalid("data", &format!("{error:#}"))
    })?;
    let index = until_index.unwrap_or_else(|| file.last_index());
    let state =
        file.state_at(index).map_err(|error| invalid("start.until_index", &error.to_string()))?;
    drop(file);
    let bytes = state.to_bytes();
    if bytes.len() as u64 > RESTORE_BYTES_MAX {
        let problem = format!("its state has {} bytes, more than {RESTORE_BYTES_MAX}", bytes.len());
        return Err(invalid("data", &problem));
    }
    Ok(bytes)
}

/// A file that comes in in pieces.
struct Pieces {
    receiver: mpsc::Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            let Some(piece) = self.receiver.blocking_recv() else { return Ok(0) };
            (self.piece, self.at) = (piece, 0);
        }
        let rest = &self.piece[self.at..];
        let taken = rest.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&rest[..taken]);
        self.at += taken;
        Ok(taken)
    }
}

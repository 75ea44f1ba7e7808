//! A client of any replica: it asks one, follows it to the leader, waits where it is told to, and goes on to
//! the next where one does not answer.
//!
//! In: requests. Out: answers, or a [`Failure`] once it is clear that there will be none. A request that
//! changes the cell keeps its number over all attempts, so it is carried out once (Ongaro, "Consensus",
//! §6.3).

use std::time::Duration;

use cell::live::view::{Answer, CellStatus, JobStatus, Page, Paging, Question};
use cell::live::{Done, Op, Rejected, Request};
use proto::WireError;
use proto::limits::{MESSAGE_BYTES_MAX, PAGE_COUNT_MAX};
use proto::mutate::Mutation;
use proto::reply::{Reply, Unserved, unserved_of};
use proto::status::{Consistency, Status as CellAnswer, StatusQuery};
use proto::wire;
use proto::wire::cell_client::CellClient;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use crate::failure::Failure;

/// One replica's service.
pub(crate) type Service = CellClient<Channel>;

/// After so long without reaching any replica there is none: long enough for one to be started again.
const NOBODY_AFTER: Duration = Duration::from_secs(2);

/// A connection that is not made after so long is not waited for.
const CONNECT_MAX: Duration = Duration::from_secs(1);

/// A replica that has not even acknowledged a ping for so long is frozen, or cut off.
const FROZEN_AFTER: Duration = Duration::from_secs(2);

/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(50);

/// The longest that a busy replica may have a client wait.
const RETRY_AFTER_MS_MAX: u32 = 5_000;

/// Whom is asked, and how.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Replicas, `HOST:PORT`; at least one.
    pub cell: Vec<String>,
    /// How recent answers have to be.
    pub consistency: Consistency,
    /// How long an answer may take, all attempts together.
    pub timeout: Duration,
}

/// What came of an attempt.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The replica does not serve it.
    Unserved(Unserved),
    /// The cell rejects it.
    Rejected(Rejected),
    /// There was no reply.
    Status(Status),
    /// The reply cannot be read.
    Malformed(WireError),
    /// There is no connection.
    Unreachable(String),
    /// Nothing came for too long.
    Silent,
}

impl From<Status> for Trouble {
    fn from(status: Status) -> Self {
        match unserved_of(&status) {
            Some(unserved) => Self::Unserved(unserved),
            None => Self::Status(status),
        }
    }
}

/// Whether something may be asked for again where nobody knows what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It only reads, or its number sees to it that it is done once.
    Freely,
    /// The same, of what takes long: a replica that says nothing is given all the time there is.
    Patiently,
    /// Only where it surely was not done.
    IfNotDone,
}

/// What to do next.
enum Next {
    /// Ask the same replica, after a while.
    Same(Duration),
    /// Ask another one.
    Other,
    /// Ask the leader, which is there.
    Leader(String),
}

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    config: Config,
    /// Which of the replicas is asked, unless it named the leader.
    at: usize,
    /// Where the leader is said to be.
    leader: Option<String>,
    connected: Option<(String, Service)>,
    /// Since when no replica could be reached.
    alone_since: Option<Instant>,
}

impl Client {
    pub(crate) fn new(config: Config) -> Self {
        Self { config, at: 0, leader: None, connected: None, alone_since: None }
    }

    /// How long an answer may take.
    pub(crate) const fn patience(&self) -> Duration {
        self.config.timeout
    }

    /// How recent answers have to be.
    pub(crate) const fn consistency(&self) -> Consistency {
        self.config.consistency
    }

    /// Asks until there is an answer.
    pub(crate) async fn ask<T, F: Future<Output = Result<T, Trouble>>>(
        &mut self,
        repeat: Repeat,
        attempt: impl Fn(Service) -> F,
    ) -> Result<T, Failure> {
        let give_up = Instant::now() + self.config.timeout;
        loop {
            let left = give_up.saturating_duration_since(Instant::now());
            let trouble = match self.service().await {
                Err(why) => Trouble::Unreachable(why),
                Ok(service) => {
                    // Half of what is left, so that another can be asked if this one says nothing.
                    let patience = match repeat {
                        Repeat::Freely => left / 2,
                        Repeat::Patiently | Repeat::IfNotDone => left,
                    };
                    match timeout(patience, attempt(service)).await {
                        Ok(Ok(answer)) => return Ok(answer),
                        Ok(Err(trouble)) => trouble,
                        Err(_) => Trouble::Silent,
                    }
                }
            };
            let why = words(&trouble);
            let pause = match self.next(trouble, repeat)? {
                Next::Same(pause) => pause,
                Next::Other => {
                    self.go_on();
                    AGAIN
                }
                Next::Leader(address) => {
                    self.leader = Some(address);
                    AGAIN
                }
            };
            if Instant::now() + pause >= give_up {
                return Err(Failure::TimedOut { timeout: self.config.timeout, why });
            }
            sleep(pause).await;
        }
    }

    /// What follows from an attempt that came to nothing.
    fn next(&mut self, trouble: Trouble, repeat: Repeat) -> Result<Next, Failure> {
        let is_unreachable = matches!(trouble, Trouble::Unreachable(_));
        let alone_since = match is_unreachable {
            true => *self.alone_since.get_or_insert_with(Instant::now),
            false => {
                self.alone_since = None;
                Instant::now()
            }
        };
        let unknown = |why: &str| {
            Failure::Failed(format!(
                "{why}; whether it was done is not known: see `borgcfg status` and `borgcfg replicas`"
            ))
        };
        match trouble {
            Trouble::Rejected(rejected) => Err(Failure::Rejected(rejected)),
            Trouble::Malformed(error) => Err(Failure::Failed(format!(
                "the answer cannot be read: {error}; the master may be of another version"
            ))),
            Trouble::Unserved(Unserved::NotLeader { leader_address: Some(address) })
                if self.address() != address =>
            {
                Ok(Next::Leader(address))
            }
            Trouble::Unserved(Unserved::NotLeader { .. }) => Ok(Next::Other),
            Trouble::Unserved(Unserved::Busy { retry_after_ms }) => {
                let ms = retry_after_ms.min(RETRY_AFTER_MS_MAX);
                Ok(Next::Same(AGAIN.max(Duration::from_millis(ms.into()))))
            }
            Trouble::Unserved(it @ Unserved::DiskFull) => {
                Err(Failure::Failed(format!("{}: {it}", self.address())))
            }
            Trouble::Unserved(it @ Unserved::NotInLog { .. }) => Err(Failure::NotInLog(it)),
            Trouble::Unreachable(why) => {
                // Until all have been tried this only means that one is not there.
                if alone_since.elapsed() < NOBODY_AFTER {
                    return Ok(Next::Other);
                }
                Err(Failure::NobodyThere { at: self.config.cell.join(", "), why })
            }
            Trouble::Silent if repeat == Repeat::IfNotDone => Err(unknown("there was no answer")),
            Trouble::Silent => Ok(Next::Other),
            Trouble::Status(status) => match status.code() {
                Code::InvalidArgument => Err(Failure::BadInput(status.message().to_owned())),
                Code::Unimplemented
                | Code::OutOfRange
                | Code::NotFound
                | Code::AlreadyExists
                | Code::PermissionDenied
                | Code::Unauthenticated
                | Code::FailedPrecondition
                | Code::DataLoss => Err(Failure::Failed(status.message().to_owned())),
                Code::Ok
                | Code::Cancelled
                | Code::Unknown
                | Code::DeadlineExceeded
                | Code::ResourceExhausted
                | Code::Aborted
                | Code::Internal
                | Code::Unavailable => match repeat {
                    Repeat::Freely | Repeat::Patiently => Ok(Next::Other),
                    Repeat::IfNotDone => Err(unknown(status.message())),
                },
            },
        }
    }

    /// The replica that is asked.
    fn address(&self) -> &str {
        match &self.leader {
            Some(leader) => leader,
            None => &self.config.cell[self.at],
        }
    }

    /// Asks the next one from now on.
    pub(crate) fn go_on(&mut self) {
        self.connected = None;
        if self.leader.take().is_none() {
            self.at = (self.at + 1) % self.config.cell.len();
        }
    }

    /// Asks the replica at this address from now on, as long as it answers.
    pub(crate) fn follow(&mut self, leader: String) {
        self.leader = Some(leader);
    }

    async fn service(&mut self) -> Result<Service, String> {
        let address = self.address().to_owned();
        if let Some((at, service)) = &self.connected
            && *at == address
        {
            return Ok(service.clone());
        }
        let service = connect(&address).await.map_err(|error| format!("{address}: {error}"))?;
        self.connected = Some((address, service.clone()));
        Ok(service)
    }

    /// Asks a question about the cell.
    pub(crate) async fn status(&mut self, question: Question) -> Result<CellAnswer, Failure> {
        let query = StatusQuery { consistency: self.consistency(), question };
        let message = wire::StatusRequest::try_from(query)?;
        self.ask(Repeat::Freely, |mut service| {
            let message = message.clone();
            async move { answer(service.status(message).await) }
        })
        .await
    }

    /// Asks about the cell as a whole.
    pub(crate) async fn cell(&mut self) -> Result<CellStatus, Failure> {
        let Answer::Cell(cell) = self.status(Question::Cell).await?.answer else {
            return Err(another_answer());
        };
        Ok(*cell)
    }

    /// Asks about a job.
    pub(crate) async fn job(&mut self, name: &str) -> Result<JobStatus, Failure> {
        let Answer::Job(job) = self.status(Question::Job(name.to_owned())).await?.answer else {
            return Err(another_answer());
        };
        Ok(job)
    }

    /// Reads a list, page by page, up to so many things; and whether there are more.
    pub(crate) async fn list<T>(
        &mut self,
        count_max: usize,
        question: impl Fn(Paging) -> Question,
        read: impl Fn(Answer) -> Option<Page<T>>,
    ) -> Result<(Vec<T>, bool), Failure> {
        let mut items: Vec<T> = Vec::new();
        let mut after = None;
        while items.len() < count_max {
            let wanted = u32::try_from(count_max - items.len()).unwrap_or(PAGE_COUNT_MAX);
            let paging = Paging { limit: wanted.min(PAGE_COUNT_MAX), after: after.take() };
            let answer = self.status(question(paging)).await?.answer;
            let page = read(answer).ok_or_else(another_answer)?;
            items.extend(page.items);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok((items, false)),
            }
        }
        Ok((items, true))
    }
}

/// A session, in which each request has a number.
#[derive(Debug)]
pub(crate) struct Session<'c> {
    client: &'c mut Client,
    user: &'c str,
    number: u64,
    sequence: u64,
}

impl<'c> Session<'c> {
    /// Opens one.
    pub(crate) async fn open(client: &'c mut Client, user: &'c str) -> Result<Self, Failure> {
        let mut session = Self { client, user, number: 0, sequence: 0 };
        match session.change(Op::OpenSession).await? {
            Done::Session(number) => {
                session.number = number;
                session.sequence = 0;
                Ok(session)
            }
            Done::Done | Done::Job { .. } | Done::Some { .. } => Err(another_answer()),
        }
    }

    /// The name of the next request.
    pub(crate) fn next(&mut self) -> Request {
        self.sequence += 1;
        Request {
            user: self.user.to_owned(),
            session: self.number,
            sequence: self.sequence,
            answered_below: self.sequence,
        }
    }

    /// Has the cell changed.
    pub(crate) async fn change(&mut self, op: Op) -> Result<Done, Failure> {
        let message = wire::MutateRequest::try_from(Mutation { request: self.next(), op })?;
        self.client
            .ask(Repeat::Freely, |mut service| {
                let message = message.clone();
                async move { answer(service.mutate(message).await) }
            })
            .await
    }

    /// The client, for questions in between.
    pub(crate) fn client(&mut self) -> &mut Client {
        self.client
    }
}

/// An answer of another kind than was asked for.
pub(crate) fn another_answer() -> Failure {
    Failure::Failed("the master gave another answer than was asked for".to_owned())
}

/// What a reply holds.
pub(crate) fn answer<W, T>(reply: Result<Response<W>, Status>) -> Result<T, Trouble>
where
    Reply<T>: TryFrom<W, Error = WireError>,
{
    let reply: Reply<T> = reply?.into_inner().try_into().map_err(Trouble::Malformed)?;
    reply.map_err(Trouble::Unserved)?.map_err(Trouble::Rejected)
}

async fn connect(address: &str) -> Result<Service, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| "no address HOST:PORT".to_owned())?;
    let channel = endpoint
        .connect_timeout(CONNECT_MAX)
        .http2_keep_alive_interval(FROZEN_AFTER)
        .keep_alive_timeout(FROZEN_AFTER)
        .tcp_nodelay(true)
        .connect()
        .await
        .map_err(|error| root(&error))?;
    Ok(CellClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX))
}

/// The first cause of an error, which says more than "transport error".
fn root(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => root(source),
        None => error.to_string(),
    }
}

fn words(trouble: &Trouble) -> String {
    match trouble {
        Trouble::Unserved(unserved) => unserved.to_string(),
        Trouble::Rejected(rejected) => rejected.to_string(),
        Trouble::Status(status) => root(status),
        Trouble::Malformed(error) => error.to_string(),
        Trouble::Unreachable(why) => why.clone(),
        Trouble::Silent => "a replica took the request and said nothing".to_owned(),
    }
}

//! A client of a master: it finds the leader, and asks again under the same number until it is answered.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cell::live::{Done, Op, Outcome, Request};
use proto::limits::MESSAGE_BYTES_MAX;
use proto::mutate::Mutation;
use proto::reply::{Reply, Unserved};
use proto::wire;
use proto::wire::cell_client::CellClient;
use tonic::transport::{Channel, Endpoint};

/// A request that has no answer after so long has failed.
const DEADLINE: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(20);

/// A client with a session.
#[derive(Debug)]
pub struct Client {
    masters: Vec<String>,
    /// Which of them it asks.
    at: usize,
    service: CellClient<Channel>,
    user: String,
    session: u64,
    sequence: u64,
}

fn service(address: &str) -> anyhow::Result<CellClient<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .with_context(|| format!("{address:?} is no address HOST:PORT"))?;
    let channel = endpoint.connect_timeout(Duration::from_secs(1)).tcp_nodelay(true).connect_lazy();
    Ok(CellClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX))
}

impl Client {
    /// Opens a session at the first master that takes it.
    ///
    /// # Errors
    /// If none answers for a minute, or an address is none.
    pub async fn open(masters: &[String], user: &str) -> anyhow::Result<Self> {
        let first = masters.first().context("no master is given")?;
        let mut client = Self {
            masters: masters.to_vec(),
            at: 0,
            service: service(first)?,
            user: user.to_owned(),
            session: 0,
            sequence: 0,
        };
        match client.ask(Op::OpenSession).await? {
            Ok(Done::Session(session)) => client.session = session,
            other => bail!("no session was opened: {other:?}"),
        }
        client.sequence = 0;
        Ok(client)
    }

    /// Goes straight to the leader, where the masters know it.
    ///
    /// # Errors
    /// If nobody answers.
    pub async fn go_to_leader(&mut self) -> anyhow::Result<()> {
        use proto::operate::{ReplicaChange, ReplicaList, ReplicaRole, ReplicasQuery};
        let query = ReplicasQuery { user: self.user.clone(), change: ReplicaChange::List };
        let reply = self.service.replicas(wire::ReplicasRequest::try_from(query)?).await?;
        let reply: Reply<ReplicaList> = reply.into_inner().try_into()?;
        let list = reply??;
        let leader = list.replicas.into_iter().find(|it| it.role == ReplicaRole::Leader);
        if let Some(leader) = leader {
            self.service = service(&leader.client_address)?;
        }
        Ok(())
    }

    /// Asks for a change until it is answered.
    ///
    /// # Errors
    /// If it is not within a minute.
    pub async fn ask(&mut self, op: Op) -> anyhow::Result<Outcome> {
        self.sequence += 1;
        let request = Request {
            user: self.user.clone(),
            session: self.session,
            sequence: self.sequence,
            answered_below: self.sequence,
        };
        let message = wire::MutateRequest::try_from(Mutation { request, op })?;
        let give_up = Instant::now() + DEADLINE;
        loop {
            let why = match self.service.mutate(message.clone()).await {
                Ok(reply) => {
                    let reply: Reply<Done> = reply.into_inner().try_into()?;
                    match reply {
                        Ok(outcome) => return Ok(outcome),
                        Err(unserved) => {
                            self.go_on(&unserved)?;
                            unserved.to_string()
                        }
                    }
                }
                Err(status) if status.code() == tonic::Code::InvalidArgument => {
                    bail!("{}", status.message());
                }
                Err(status) => {
                    self.next()?;
                    status.to_string()
                }
            };
            if Instant::now() >= give_up {
                bail!("no answer within {DEADLINE:?}: {why}");
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn next(&mut self) -> anyhow::Result<()> {
        self.at = (self.at + 1) % self.masters.len();
        self.service = service(&self.masters[self.at])?;
        Ok(())
    }

    fn go_on(&mut self, unserved: &Unserved) -> anyhow::Result<()> {
        match unserved {
            Unserved::NotLeader { leader_address: Some(address) } => {
                self.service = service(address)?;
                Ok(())
            }
            Unserved::NotLeader { leader_address: None } => self.next(),
            Unserved::Busy { .. } | Unserved::DiskFull | Unserved::NotInLog { .. } => Ok(()),
        }
    }
}

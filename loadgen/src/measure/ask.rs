//! Questions to one replica.

use std::time::Duration;

use anyhow::{Context, bail};
use cell::live::Health;
use cell::live::view::{Answer, CellStatus, Filter, JobStatus, Paging, Question};
use proto::limits::{MESSAGE_BYTES_MAX, PAGE_COUNT_MAX};
use proto::operate::{ReplicaChange, ReplicaList, ReplicaRole, ReplicasQuery};
use proto::reply::Reply;
use proto::status::{Consistency, Status, StatusQuery};
use proto::wire;
use proto::wire::cell_client::CellClient;
use tonic::transport::{Channel, Endpoint};

use super::cluster::USER;

/// Asks a replica.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    service: CellClient<Channel>,
}

fn service(address: &str) -> anyhow::Result<CellClient<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    let channel = endpoint.connect_timeout(Duration::from_secs(1)).tcp_nodelay(true).connect_lazy();
    Ok(CellClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
}

/// The client address of the replica that leads, if this one knows.
pub(super) async fn leader(address: &str) -> Option<String> {
    let query = ReplicasQuery { user: USER.to_owned(), change: ReplicaChange::List };
    let request = wire::ReplicasRequest::try_from(query).ok()?;
    let reply = service(address).ok()?.replicas(request).await.ok()?;
    let reply: Reply<ReplicaList> = reply.into_inner().try_into().ok()?;
    let list = reply.ok()?.ok()?;
    let leader = list.replicas.into_iter().find(|it| it.role == ReplicaRole::Leader)?;
    Some(leader.client_address)
}

impl Asker {
    pub(super) fn new(address: &str) -> anyhow::Result<Self> {
        Ok(Self { service: service(address)? })
    }

    /// The answer, if it gives one.
    pub(super) async fn ask(
        &mut self,
        consistency: Consistency,
        question: Question,
    ) -> anyhow::Result<Status> {
        let query = StatusQuery { consistency, question };
        let reply = self.service.status(wire::StatusRequest::try_from(query)?).await?;
        let reply: Reply<Status> = reply.into_inner().try_into()?;
        Ok(reply??)
    }

    /// The cell as this replica has it.
    pub(super) async fn cell(&mut self) -> anyhow::Result<CellStatus> {
        let answer = self.ask(Consistency::Stale, Question::Cell).await?.answer;
        let Answer::Cell(status) = answer else { bail!("asked for the cell, got {answer:?}") };
        Ok(*status)
    }

    /// A job, as recent as is asked for.
    pub(super) async fn job(
        &mut self,
        consistency: Consistency,
        name: &str,
    ) -> anyhow::Result<JobStatus> {
        let question = Question::Job(name.to_owned());
        let answer = self.ask(consistency, question).await?.answer;
        let Answer::Job(status) = answer else { bail!("asked for a job, got {answer:?}") };
        Ok(status)
    }

    /// How many machines do not report.
    pub(super) async fn machines_not_up(&mut self) -> anyhow::Result<usize> {
        let mut not_up = 0;
        let mut after = None;
        loop {
            let paging = Paging { limit: PAGE_COUNT_MAX, after };
            let question = Question::Machines(Filter::default(), paging);
            let answer = self.ask(Consistency::Stale, question).await?.answer;
            let Answer::Machines(page) = answer else { bail!("asked for machines") };
            not_up += page.items.iter().filter(|machine| machine.health != Health::Up).count();
            after = Some(match page.next {
                Some(next) => next,
                None => return Ok(not_up),
            });
        }
    }
}

/// A job of the free band, of so many tasks.
pub(super) fn job(name: &str, count: u32) -> anyhow::Result<cell::live::Op> {
    let spec = serde_json::json!({
        "name": name,
        "user": USER,
        "priority": 50,
        "count": count,
        "limit": { "cpu": "100m", "ram": 1 << 26 },
    });
    let spec = serde_json::from_value(spec).context("a job that makes no sense")?;
    Ok(cell::live::Op::Submit { spec, is_alloc_set: false })
}

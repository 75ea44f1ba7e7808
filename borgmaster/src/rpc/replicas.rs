//! The replicas: who there is, and changes of that.

use std::sync::Arc;

use borgmaster_replica::node::Membership;
use borgmaster_replica::server::{Answer, Input};
use cell::live::{Capability, Rejected};
use proto::operate::{ReplicaChange, ReplicaList, ReplicaRole, ReplicaStatus, ReplicasQuery};
use proto::reply::{Reply, Unserved};
use proto::wire;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use super::{Service, busy, invalid, malformed, stopping, too_large, was_passed_on};
use crate::config::Place;
use crate::replica::{Held, Message, Replica};

impl Service {
    pub(super) async fn serve_replicas(
        &self,
        request: Request<wire::ReplicasRequest>,
    ) -> Result<Response<wire::ReplicasReply>, Status> {
        let is_last = was_passed_on(&request);
        let message = request.into_inner();
        let query = ReplicasQuery::try_from(message.clone()).map_err(malformed)?;
        let reply = match Arc::clone(&self.reads).try_acquire_owned() {
            Ok(permit) => self.change(query, &Arc::new(permit)).await?,
            Err(_) => Err(busy()),
        };
        if let (Err(Unserved::NotLeader { leader_address: Some(address) }), false) =
            (&reply, is_last)
        {
            return self.client(address)?.replicas(Self::passed_on(message)).await;
        }
        wire::ReplicasReply::try_from(reply).map(Response::new).map_err(too_large)
    }

    async fn change(
        &self,
        query: ReplicasQuery,
        held: &Held,
    ) -> Result<Reply<ReplicaList>, Status> {
        let ReplicasQuery { user, change } = query;
        let is_list = change == ReplicaChange::List;
        let allowed = self
            .peek(move |replica| {
                let node = replica.server.node();
                if node.leads().is_none() {
                    return Err(replica.server.not_leader());
                }
                let state = replica.server.state();
                Ok(is_list || state.capabilities(&user).contains(&Capability::Machines))
                    .map(|may| (may, user))
            })
            .await?;
        let user = match allowed {
            Err(answer) => return self.unserved(answer).await.map(Err),
            Ok((true, _)) => None,
            Ok((false, user)) => Some(user),
        };
        if let Some(user) = user {
            let capability = Capability::Machines.name().to_owned();
            return Ok(Ok(Err(Rejected::Forbidden { user, capability })));
        }
        let change = match change {
            ReplicaChange::List => return self.list().await,
            ReplicaChange::Add { id, address, client_address } => {
                let place = Place { client: client_address, peer: address };
                Membership::AddLearner { id, address: place.to_text() }
            }
            ReplicaChange::Remove { id } => Membership::Remove { id },
            ReplicaChange::Replace { old, new, address, client_address } => {
                let place = Place { client: client_address, peer: address };
                return self.replace(old, new, &place, held).await;
            }
            ReplicaChange::Transfer { to } => {
                let to = match to {
                    Some(to) => Some(to),
                    None => self.peek(|replica| replica.server.node().successor()).await?,
                };
                let Some(to) = to else {
                    return Ok(Ok(Err(invalid("transfer.to", "no other replica votes"))));
                };
                let is_voter = self
                    .peek(move |replica| replica.server.node().members().voters.contains(&to))
                    .await?;
                if !is_voter {
                    return Ok(Ok(Err(invalid("transfer.to", "that replica does not vote"))));
                }
                let input = Message::Input(Input::Transfer { to });
                self.replica.send(input).map_err(|_| stopping())?;
                return self.list().await;
            }
        };
        self.change_members(change, held).await
    }

    /// One that is no learner yet becomes one; the replica that leads puts it in the other's place once it has
    /// the log.
    async fn replace(
        &self,
        old: u64,
        new: u64,
        place: &Place,
        held: &Held,
    ) -> Result<Reply<ReplicaList>, Status> {
        let text = place.to_text();
        // Known before it is a learner, so that it never votes beside the old one.
        let is_learner = match self.peek(move |replica| replica.replace(old, new, &text)).await? {
            Ok(is_learner) => is_learner,
            Err((field, problem)) => return Ok(Ok(Err(invalid(field, &problem)))),
        };
        if is_learner {
            return self.list().await;
        }
        let add = Membership::AddLearner { id: new, address: place.to_text() };
        let reply = self.change_members(add, held).await;
        if !matches!(reply, Ok(Ok(Ok(_)))) {
            self.peek(move |replica| replica.forget_replacement(new)).await?;
        }
        reply
    }

    async fn change_members(
        &self,
        change: Membership,
        held: &Held,
    ) -> Result<Reply<ReplicaList>, Status> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Membership { change, reply, _permit: Arc::clone(held) };
        self.replica.send(message).map_err(|_| stopping())?;
        match answer.await.map_err(|_| stopping())? {
            Answer::Membership => self.list().await,
            Answer::Refused(problem) => Ok(Ok(Err(invalid("replicas", problem)))),
            Answer::Unknown => Err(super::unknown()),
            answer @ (Answer::NotLeader { .. }
            | Answer::Busy
            | Answer::NoSpace
            | Answer::Outcome(_)
            | Answer::Readable) => self.unserved(answer).await.map(Err),
        }
    }

    async fn list(&self) -> Result<Reply<ReplicaList>, Status> {
        self.peek(list).await.map(|list| Ok(Ok(list)))
    }
}

fn list(replica: &mut Replica) -> ReplicaList {
    let node = replica.server.node();
    let members = node.members();
    let status = |(&id, text): (&u64, &String)| {
        let Place { client, peer } = Place::from_text(text);
        let role = if node.leader() == Some(id) || (node.leads().is_some() && id == node.id()) {
            ReplicaRole::Leader
        } else if members.voters.contains(&id) {
            ReplicaRole::Follower
        } else {
            ReplicaRole::Learner
        };
        let (matched_index, is_heard) = node.progress(id).unwrap_or_default();
        let is_self = id == node.id();
        let matched_index = if is_self { node.last_index() } else { matched_index };
        let is_heard = is_heard || is_self;
        ReplicaStatus { id, address: peer, client_address: client, role, matched_index, is_heard }
    };
    ReplicaList {
        term: node.term(),
        committed_index: node.committed(),
        replicas: replica.places().iter().map(status).collect(),
    }
}

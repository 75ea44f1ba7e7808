//! What an operator does with a master itself: cell files out and in, and its replicas.

use cell::live::Request;
use serde::Serialize;

use crate::error::{Inside, WireError, required};
use crate::limits::{CHUNK_BYTES_MAX, LIST_COUNT_MAX, bytes, list, name};
use crate::parts::{Coded, coded, decode, read_hash};
use crate::reply::reply;
use crate::wire;

/// Asks for a cell file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last index of the log that goes into it; `None`: all.
    pub until_index: Option<u64>,
}

/// The next bytes of a cell file, at most [`CHUNK_BYTES_MAX`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChunk(pub Vec<u8>);

/// A part of what is sent to restore a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestorePart {
    /// The first.
    Start {
        /// Who restores.
        user: String,
        /// The length of the cell file.
        total_bytes: u64,
        /// The index of the log at which the file's state is taken; `None`: the last that it holds.
        until_index: Option<u64>,
        /// Names the restore, so that it is carried out once however often it is asked for; of the same user.
        request: Option<Request>,
    },
    /// Those after it.
    Data(FileChunk),
}

/// A cell was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The index of the log that it goes on from.
    pub index: u64,
    /// The hash of its state.
    pub hash: u128,
}

/// A request about replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicasQuery {
    /// Who asks.
    pub user: String,
    /// What is to be done.
    pub change: ReplicaChange,
}

/// What is to be done with the replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaChange {
    /// Nothing: they are listed.
    List,
    /// One more: a learner at first, and a voter once it has caught up.
    Add {
        /// Its number, never used before in this cell.
        id: u64,
        /// Where the others reach it, `HOST:PORT`.
        address: String,
        /// Where clients reach it, `HOST:PORT`.
        client_address: String,
    },
    /// One less.
    Remove {
        /// Its number.
        id: u64,
    },
    /// Another becomes the leader.
    Transfer {
        /// Its number; `None`: whichever is best.
        to: Option<u64>,
    },
    /// A new one takes the place of a voter: a learner at first, and in one step once it has caught up.
    Replace {
        /// The voter's number.
        old: u64,
        /// The number of the new one, never used before in this cell.
        new: u64,
        /// Where the others reach it, `HOST:PORT`.
        address: String,
        /// Where clients reach it, `HOST:PORT`.
        client_address: String,
    },
}

/// What a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicaRole {
    /// Leads.
    Leader,
    /// Votes and follows.
    Follower,
    /// Follows without a vote.
    Learner,
}

/// A replica, as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReplicaStatus {
    /// Its number.
    pub id: u64,
    /// Where the others reach it.
    pub address: String,
    /// Where clients reach it.
    pub client_address: String,
    /// What it is.
    pub role: ReplicaRole,
    /// The last entry of the log that it is known to have.
    pub matched_index: u64,
    /// Whether the leader has heard it lately.
    pub is_heard: bool,
}

/// All replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReplicaList {
    /// The leader's term.
    pub term: u64,
    /// The last index that is committed.
    pub committed_index: u64,
    /// By number.
    pub replicas: Vec<ReplicaStatus>,
}

coded!(ReplicaRole = wire::replica_status::Role {
    Leader = Leader,
    Follower = Follower,
    Learner = Learner,
});
reply!(RestoreReply, wire::restore_reply::Result { Restored, "restored" }, Restored);
reply!(ReplicasReply, wire::replicas_reply::Result { Replicas, "replicas" }, ReplicaList);

impl From<Checkpoint> for wire::CheckpointRequest {
    fn from(own: Checkpoint) -> Self {
        Self { until_index: own.until_index }
    }
}

impl From<wire::CheckpointRequest> for Checkpoint {
    fn from(message: wire::CheckpointRequest) -> Self {
        Self { until_index: message.until_index }
    }
}

impl TryFrom<FileChunk> for wire::CheckpointReply {
    type Error = WireError;

    fn try_from(own: FileChunk) -> Result<Self, WireError> {
        Ok(Self { data: bytes("data", own.0, CHUNK_BYTES_MAX)? })
    }
}

impl TryFrom<wire::CheckpointReply> for FileChunk {
    type Error = WireError;

    fn try_from(message: wire::CheckpointReply) -> Result<Self, WireError> {
        Ok(Self(bytes("data", message.data, CHUNK_BYTES_MAX)?))
    }
}

impl TryFrom<RestorePart> for wire::RestoreRequest {
    type Error = WireError;

    fn try_from(own: RestorePart) -> Result<Self, WireError> {
        use wire::restore_request::{Part, Start};
        let part = match own {
            RestorePart::Start { user, total_bytes, until_index, request } => {
                let user = name("start.user", user)?;
                check_request(&user, request.as_ref())?;
                let id = request.map(wire::RequestId::try_from).transpose().inside("start.id")?;
                Part::Start(Start { user, total_bytes, until_index, id })
            }
            RestorePart::Data(chunk) => Part::Data(bytes("data", chunk.0, CHUNK_BYTES_MAX)?),
        };
        Ok(Self { part: Some(part) })
    }
}

impl TryFrom<wire::RestoreRequest> for RestorePart {
    type Error = WireError;

    fn try_from(message: wire::RestoreRequest) -> Result<Self, WireError> {
        use wire::restore_request::Part;
        Ok(match required("part", message.part)? {
            Part::Start(it) => {
                let user = name("start.user", it.user)?;
                let request = it.id.map(Request::try_from).transpose().inside("start.id")?;
                check_request(&user, request.as_ref())?;
                let (total_bytes, until_index) = (it.total_bytes, it.until_index);
                Self::Start { user, total_bytes, until_index, request }
            }
            Part::Data(data) => Self::Data(FileChunk(bytes("data", data, CHUNK_BYTES_MAX)?)),
        })
    }
}

/// A restore is named within a session of whoever restores.
fn check_request(user: &str, request: Option<&Request>) -> Result<(), WireError> {
    let Some(request) = request else { return Ok(()) };
    if request.user != user {
        return Err(WireError::new("start.id.user", "must be that of `start.user`"));
    }
    if request.session == 0 || request.sequence == 0 {
        let problem = "a session and a number from 1 on have to be given";
        return Err(WireError::new("start.id", problem));
    }
    Ok(())
}

impl From<Restored> for wire::restore_reply::Restored {
    fn from(own: Restored) -> Self {
        Self { index: own.index, hash: own.hash.to_be_bytes().to_vec() }
    }
}

impl TryFrom<wire::restore_reply::Restored> for Restored {
    type Error = WireError;

    fn try_from(message: wire::restore_reply::Restored) -> Result<Self, WireError> {
        Ok(Self { index: message.index, hash: read_hash("hash", &message.hash)? })
    }
}

/// 0 is no replica.
fn id(field: &str, id: u64) -> Result<u64, WireError> {
    if id == 0 { Err(WireError::missing(field)) } else { Ok(id) }
}

impl TryFrom<ReplicasQuery> for wire::ReplicasRequest {
    type Error = WireError;

    fn try_from(own: ReplicasQuery) -> Result<Self, WireError> {
        use wire::replicas_request::{Add, List, Remove, Replace, Transfer, What};
        let what = match own.change {
            ReplicaChange::List => What::List(List {}),
            ReplicaChange::Add { id: number, address, client_address } => What::Add(Add {
                id: id("add.id", number)?,
                address: name("add.address", address)?,
                client_address: name("add.client_address", client_address)?,
            }),
            ReplicaChange::Remove { id: number } => {
                What::Remove(Remove { id: id("remove.id", number)? })
            }
            ReplicaChange::Transfer { to } => {
                let to = to.map(|to| id("transfer.to", to)).transpose()?;
                What::Transfer(Transfer { to })
            }
            ReplicaChange::Replace { old, new, address, client_address } => {
                What::Replace(Replace {
                    old: id("replace.old", old)?,
                    new: id("replace.new", new)?,
                    address: name("replace.address", address)?,
                    client_address: name("replace.client_address", client_address)?,
                })
            }
        };
        Ok(Self { user: name("user", own.user)?, what: Some(what) })
    }
}

impl TryFrom<wire::ReplicasRequest> for ReplicasQuery {
    type Error = WireError;

    fn try_from(message: wire::ReplicasRequest) -> Result<Self, WireError> {
        use wire::replicas_request::What;
        let change = match required("what", message.what)? {
            What::List(_) => ReplicaChange::List,
            What::Add(it) => ReplicaChange::Add {
                id: id("add.id", it.id)?,
                address: name("add.address", it.address)?,
                client_address: name("add.client_address", it.client_address)?,
            },
            What::Remove(it) => ReplicaChange::Remove { id: id("remove.id", it.id)? },
            What::Transfer(it) => {
                let to = it.to.map(|to| id("transfer.to", to)).transpose()?;
                ReplicaChange::Transfer { to }
            }
            What::Replace(it) => ReplicaChange::Replace {
                old: id("replace.old", it.old)?,
                new: id("replace.new", it.new)?,
                address: name("replace.address", it.address)?,
                client_address: name("replace.client_address", it.client_address)?,
            },
        };
        Ok(Self { user: name("user", message.user)?, change })
    }
}

impl TryFrom<ReplicaList> for wire::ReplicaList {
    type Error = WireError;

    fn try_from(own: ReplicaList) -> Result<Self, WireError> {
        let replicas = list("replicas", own.replicas, LIST_COUNT_MAX, |replica| {
            Ok(wire::ReplicaStatus {
                id: id("id", replica.id)?,
                address: name("address", replica.address)?,
                client_address: name("client_address", replica.client_address)?,
                role: replica.role.code(),
                matched_index: replica.matched_index,
                is_heard: replica.is_heard,
            })
        })?;
        Ok(Self { term: own.term, committed_index: own.committed_index, replicas })
    }
}

impl TryFrom<wire::ReplicaList> for ReplicaList {
    type Error = WireError;

    fn try_from(message: wire::ReplicaList) -> Result<Self, WireError> {
        let replicas = list("replicas", message.replicas, LIST_COUNT_MAX, |replica| {
            Ok(ReplicaStatus {
                id: id("id", replica.id)?,
                address: name("address", replica.address)?,
                client_address: name("client_address", replica.client_address)?,
                role: decode("role", replica.role)?,
                matched_index: replica.matched_index,
                is_heard: replica.is_heard,
            })
        })?;
        Ok(Self { term: message.term, committed_index: message.committed_index, replicas })
    }
}

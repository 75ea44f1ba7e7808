//! Requests that change a cell, and their outcomes.
//!
//! Only what a client may ask for has a form on the wire; a master's own operations travel in its log.

use std::collections::BTreeSet;

use cell::live::{Done, Op, Quota, Request, Timestamp};

use crate::error::{Inside, WireError, part, required};
use crate::limits::{
    INDEX_COUNT_MAX, LIST_COUNT_MAX, MACHINE_COUNT_MAX, list, name, plain_list, sized,
};
use crate::parts::{
    Coded, decode, read_job, read_machine, read_settings, write_job, write_machine, write_settings,
};
use crate::reply::reply;
use crate::wire;

/// A request that changes a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// Its name, by which it is carried out once.
    pub request: Request,
    /// What is to be done.
    pub op: Op,
}

reply!(MutateReply, wire::mutate_reply::Result { Done, "done" }, Done);

impl TryFrom<Mutation> for wire::MutateRequest {
    type Error = WireError;

    fn try_from(own: Mutation) -> Result<Self, WireError> {
        let id = Some(wire::RequestId::try_from(own.request).inside("id")?);
        let op = Some(wire::Op::try_from(own.op).inside("op")?);
        sized("op", Self { id, op })
    }
}

impl TryFrom<wire::MutateRequest> for Mutation {
    type Error = WireError;

    fn try_from(message: wire::MutateRequest) -> Result<Self, WireError> {
        let request: Request = part("id", message.id)?;
        let op: Op = part("op", message.op)?;
        if (request.session == 0) != (op == Op::OpenSession) {
            let problem = "must be 0 to open a session, and the session's number otherwise";
            return Err(WireError::new("id.session", problem));
        }
        if request.session != 0 && request.sequence == 0 {
            return Err(WireError::new("id.sequence", "must be at least 1"));
        }
        Ok(Self { request, op })
    }
}

impl TryFrom<Request> for wire::RequestId {
    type Error = WireError;

    fn try_from(own: Request) -> Result<Self, WireError> {
        let Request { user, session, sequence, answered_below } = own;
        Ok(Self { user: name("user", user)?, session, sequence, answered_below })
    }
}

impl TryFrom<wire::RequestId> for Request {
    type Error = WireError;

    fn try_from(message: wire::RequestId) -> Result<Self, WireError> {
        let wire::RequestId { user, session, sequence, answered_below } = message;
        Ok(Self { user: name("user", user)?, session, sequence, answered_below })
    }
}

impl TryFrom<Op> for wire::Op {
    type Error = WireError;

    fn try_from(own: Op) -> Result<Self, WireError> {
        use wire::op as to;
        use wire::op::Op as To;
        let op = match own {
            Op::OpenSession => To::OpenSession(to::OpenSession {}),
            Op::Submit { spec, is_alloc_set } => {
                To::Submit(to::Submit { spec: write_job("submit.spec", &spec)?, is_alloc_set })
            }
            Op::Update { spec } => {
                To::Update(to::Update { spec: write_job("update.spec", &spec)? })
            }
            Op::Undo { job } => To::Undo(to::Undo { job: name("undo.job", job)? }),
            Op::Kill { job, indexes } => To::Kill(to::Kill {
                job: name("kill.job", job)?,
                tasks: indexes.map(write_indexes).transpose().inside("kill.tasks")?,
            }),
            Op::SetQuota(quota) => To::SetQuota(quota.try_into().inside("set_quota")?),
            Op::SetCapabilities { user, capabilities } => {
                To::SetCapabilities(to::SetCapabilities {
                    user: name("set_capabilities.user", user)?,
                    capabilities: capabilities.into_iter().map(Coded::code).collect(),
                })
            }
            Op::AddMachines { machines } => {
                let write = |(spec, address)| {
                    Ok(to::AddMachine {
                        spec: write_machine("spec", &spec)?,
                        address: name("address", address)?,
                    })
                };
                let field = "add_machines.machines";
                let machines = list(field, machines, MACHINE_COUNT_MAX, write)?;
                To::AddMachines(to::AddMachines { machines })
            }
            Op::Drain { machine } => {
                To::Drain(to::Drain { machine: name("drain.machine", machine)? })
            }
            Op::Repair { machine } => {
                To::Repair(to::Repair { machine: name("repair.machine", machine)? })
            }
            Op::RemoveMachine { machine } => {
                let machine = name("remove_machine.machine", machine)?;
                To::RemoveMachine(to::RemoveMachine { machine })
            }
            Op::Configure(settings) => {
                let settings = write_settings("configure.settings", &settings)?;
                To::Configure(to::Configure { settings })
            }
            Op::Assign { .. }
            | Op::Observe { .. }
            | Op::Health { .. }
            | Op::Evict { .. }
            | Op::Reserve { .. }
            | Op::Expire
            | Op::RestorePart { .. }
            | Op::RestoreFinish { .. } => {
                return Err(WireError::new("op", "is a master's own, not for a client to ask for"));
            }
        };
        Ok(Self { op: Some(op) })
    }
}

impl TryFrom<wire::Op> for Op {
    type Error = WireError;

    fn try_from(message: wire::Op) -> Result<Self, WireError> {
        use wire::op::Op as From;
        Ok(match required("op", message.op)? {
            From::OpenSession(_) => Self::OpenSession,
            From::Submit(it) => Self::Submit {
                spec: read_job("submit.spec", it.spec)?,
                is_alloc_set: it.is_alloc_set,
            },
            From::Update(it) => Self::Update { spec: read_job("update.spec", it.spec)? },
            From::Undo(it) => Self::Undo { job: name("undo.job", it.job)? },
            From::Kill(it) => Self::Kill {
                job: name("kill.job", it.job)?,
                indexes: it.tasks.map(read_indexes).transpose().inside("kill.tasks")?,
            },
            From::SetQuota(it) => Self::SetQuota(Quota::try_from(it).inside("set_quota")?),
            From::SetCapabilities(it) => {
                let field = "set_capabilities.capabilities";
                let all = plain_list(field, it.capabilities, LIST_COUNT_MAX, decode)?;
                let user = name("set_capabilities.user", it.user)?;
                Self::SetCapabilities { user, capabilities: all.into_iter().collect() }
            }
            From::AddMachines(it) => {
                let read = |machine: wire::op::AddMachine| {
                    let address = name("address", machine.address)?;
                    Ok((read_machine("spec", machine.spec)?, address))
                };
                let field = "add_machines.machines";
                Self::AddMachines { machines: list(field, it.machines, MACHINE_COUNT_MAX, read)? }
            }
            From::Drain(it) => Self::Drain { machine: name("drain.machine", it.machine)? },
            From::Repair(it) => Self::Repair { machine: name("repair.machine", it.machine)? },
            From::RemoveMachine(it) => {
                Self::RemoveMachine { machine: name("remove_machine.machine", it.machine)? }
            }
            From::Configure(it) => {
                Self::Configure(read_settings("configure.settings", it.settings)?)
            }
        })
    }
}

fn write_indexes(indexes: BTreeSet<u32>) -> Result<wire::op::Indexes, WireError> {
    let indexes = indexes.into_iter().collect();
    let indexes = plain_list("indexes", indexes, INDEX_COUNT_MAX, |_, index| Ok(index))?;
    Ok(wire::op::Indexes { indexes })
}

fn read_indexes(message: wire::op::Indexes) -> Result<BTreeSet<u32>, WireError> {
    let indexes = plain_list("indexes", message.indexes, INDEX_COUNT_MAX, |_, index| Ok(index))?;
    Ok(indexes.into_iter().collect())
}

impl TryFrom<Quota> for wire::Quota {
    type Error = WireError;

    fn try_from(own: Quota) -> Result<Self, WireError> {
        Ok(Self {
            user: name("user", own.user)?,
            band: own.band.code(),
            amounts: Some(own.amounts.into()),
            until_ms: own.until.map(|until| until.0),
        })
    }
}

impl TryFrom<wire::Quota> for Quota {
    type Error = WireError;

    fn try_from(message: wire::Quota) -> Result<Self, WireError> {
        Ok(Self {
            user: name("user", message.user)?,
            band: decode("band", message.band)?,
            amounts: required("amounts", message.amounts)?.into(),
            until: message.until_ms.map(Timestamp),
        })
    }
}

impl From<Done> for wire::Done {
    fn from(own: Done) -> Self {
        use wire::done::{self as to, What};
        let what = match own {
            Done::Done => What::Plain(to::Plain {}),
            Done::Session(session) => What::Session(session),
            Done::Job { uid, version } => What::Job(to::Job { uid, version }),
            Done::Some { done, rejected } => What::Some(to::Some { done, rejected }),
        };
        Self { what: Some(what) }
    }
}

impl TryFrom<wire::Done> for Done {
    type Error = WireError;

    fn try_from(message: wire::Done) -> Result<Self, WireError> {
        use wire::done::What;
        Ok(match required("what", message.what)? {
            What::Plain(_) => Self::Done,
            What::Session(session) => Self::Session(session),
            What::Job(it) => Self::Job { uid: it.uid, version: it.version },
            What::Some(it) => Self::Some { done: it.done, rejected: it.rejected },
        })
    }
}

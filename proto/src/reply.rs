//! What every reply may be instead of an answer: a rejection, or that this replica does not serve.

use cell::live::Rejected;
use prost::Message;
use tonic::{Code, Status};

use crate::error::{Inside, WireError, required};
use crate::limits::{NAME_BYTES_MAX, cut, text, words};
use crate::wire;

/// The answer to a request; or why it was rejected, by the cell as it is; or why this replica did not even
/// look at it.
pub type Reply<T> = Result<Result<T, Rejected>, Unserved>;

/// Why a replica does not serve a request. Nothing was done, and another replica, or the same one later,
/// may serve it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unserved {
    /// Another replica is the leader.
    #[error("this replica is not the leader; {}", leader_words(.leader_address))]
    NotLeader {
        /// Where clients find the leader, `HOST:PORT`; `None`: no leader is known.
        leader_address: Option<String>,
    },
    /// Too much is waiting.
    #[error("this replica is busy; try again in {retry_after_ms} ms")]
    Busy {
        /// When to try again.
        retry_after_ms: u32,
    },
    /// There is no room on its disk.
    #[error("the disk of this replica is full; it takes no changes until there is room")]
    DiskFull,
    /// The log does not hold that index.
    #[error("the log of this replica goes from index {oldest_index} to {newest_index}")]
    NotInLog {
        /// The oldest index that it holds.
        oldest_index: u64,
        /// The newest.
        newest_index: u64,
    },
}

fn leader_words(address: &Option<String>) -> String {
    match address {
        Some(address) => format!("that is at {address}"),
        None => "there is none at present".to_owned(),
    }
}

impl From<Unserved> for wire::Unserved {
    fn from(own: Unserved) -> Self {
        use wire::unserved::{Busy, DiskFull, NotInLog, NotLeader, Why};
        let why = match own {
            Unserved::NotLeader { leader_address } => {
                Why::NotLeader(NotLeader { leader_address: leader_address.unwrap_or_default() })
            }
            Unserved::Busy { retry_after_ms } => Why::Busy(Busy { retry_after_ms }),
            Unserved::DiskFull => Why::DiskFull(DiskFull {}),
            Unserved::NotInLog { oldest_index, newest_index } => {
                Why::NotInLog(NotInLog { oldest_index, newest_index })
            }
        };
        Self { why: Some(why) }
    }
}

impl TryFrom<wire::Unserved> for Unserved {
    type Error = WireError;

    fn try_from(message: wire::Unserved) -> Result<Self, WireError> {
        use wire::unserved::Why;
        Ok(match required("why", message.why)? {
            Why::NotLeader(it) => {
                let address = text("not_leader.leader_address", it.leader_address, NAME_BYTES_MAX)?;
                Self::NotLeader { leader_address: Some(address).filter(|it| !it.is_empty()) }
            }
            Why::Busy(it) => Self::Busy { retry_after_ms: it.retry_after_ms },
            Why::DiskFull(_) => Self::DiskFull,
            Why::NotInLog(it) => {
                Self::NotInLog { oldest_index: it.oldest_index, newest_index: it.newest_index }
            }
        })
    }
}

/// For streams, which have no reply to put it in. [`unserved_of`] reads it back.
impl From<Unserved> for Status {
    fn from(own: Unserved) -> Self {
        let code = match own {
            Unserved::NotLeader { .. } => Code::Unavailable,
            Unserved::Busy { .. } | Unserved::DiskFull => Code::ResourceExhausted,
            Unserved::NotInLog { .. } => Code::OutOfRange,
        };
        let words = own.to_string();
        Self::with_details(code, words, wire::Unserved::from(own).encode_to_vec().into())
    }
}

/// What a status says of why a replica did not serve; `None`: it is a status of another kind.
#[must_use]
pub fn unserved_of(status: &Status) -> Option<Unserved> {
    wire::Unserved::decode(status.details()).ok()?.try_into().ok()
}

impl From<Rejected> for wire::Rejected {
    fn from(own: Rejected) -> Self {
        use wire::rejected as to;
        use wire::rejected::Kind;
        let message = cut(own.to_string());
        let kind = match own {
            Rejected::Invalid { field, problem } => {
                Kind::Invalid(to::Invalid { field: cut(field), problem: cut(problem) })
            }
            Rejected::Unknown { kind, name } => {
                Kind::Unknown(to::Unknown { kind: cut(kind), name: cut(name) })
            }
            Rejected::NameTaken(name) => Kind::NameTaken(cut(name)),
            Rejected::Ended(name) => Kind::Ended(cut(name)),
            Rejected::Quota { user, band, resource, asked, granted, used } => {
                let (user, band, resource) = (cut(user), cut(band), cut(resource));
                Kind::Quota(to::QuotaExceeded { user, band, resource, asked, granted, used })
            }
            Rejected::MoreThanTheCell { resource, asked, capacity } => {
                let resource = cut(resource);
                Kind::MoreThanTheCell(to::MoreThanTheCell { resource, asked, capacity })
            }
            Rejected::Forbidden { user, capability } => {
                Kind::Forbidden(to::Forbidden { user: cut(user), capability: cut(capability) })
            }
            Rejected::InUse { machine, count } => {
                Kind::InUse(to::InUse { machine: cut(machine), count })
            }
            Rejected::NothingToUndo(name) => Kind::NothingToUndo(cut(name)),
            Rejected::NoSession(session) => Kind::NoSession(session),
            Rejected::Answered(sequence) => Kind::Answered(sequence),
            Rejected::TooManyAnswers(session) => Kind::TooManyAnswers(session),
        };
        Self { message, kind: Some(kind) }
    }
}

impl TryFrom<wire::Rejected> for Rejected {
    type Error = WireError;

    fn try_from(message: wire::Rejected) -> Result<Self, WireError> {
        use wire::rejected::Kind;
        // `message` says the same for readers who do not know the kind.
        Ok(match required("kind", message.kind)? {
            Kind::Invalid(it) => Self::Invalid {
                field: words("invalid.field", it.field)?,
                problem: words("invalid.problem", it.problem)?,
            },
            Kind::Unknown(it) => Self::Unknown {
                kind: words("unknown.kind", it.kind)?,
                name: words("unknown.name", it.name)?,
            },
            Kind::NameTaken(name) => Self::NameTaken(words("name_taken", name)?),
            Kind::Ended(name) => Self::Ended(words("ended", name)?),
            Kind::Quota(it) => Self::Quota {
                user: words("quota.user", it.user)?,
                band: words("quota.band", it.band)?,
                resource: words("quota.resource", it.resource)?,
                asked: it.asked,
                granted: it.granted,
                used: it.used,
            },
            Kind::MoreThanTheCell(it) => Self::MoreThanTheCell {
                resource: words("more_than_the_cell.resource", it.resource)?,
                asked: it.asked,
                capacity: it.capacity,
            },
            Kind::Forbidden(it) => Self::Forbidden {
                user: words("forbidden.user", it.user)?,
                capability: words("forbidden.capability", it.capability)?,
            },
            Kind::InUse(it) => {
                Self::InUse { machine: words("in_use.machine", it.machine)?, count: it.count }
            }
            Kind::NothingToUndo(name) => Self::NothingToUndo(words("nothing_to_undo", name)?),
            Kind::NoSession(session) => Self::NoSession(session),
            Kind::Answered(sequence) => Self::Answered(sequence),
            Kind::TooManyAnswers(session) => Self::TooManyAnswers(session),
        })
    }
}

/// A reply is one of three: what was asked for, a rejection, or that it was not served.
macro_rules! reply {
    ($wire:ident, $result:path { $answer:ident, $field:literal }, $own:ty) => {
        impl TryFrom<crate::reply::Reply<$own>> for crate::wire::$wire {
            type Error = crate::WireError;

            fn try_from(own: crate::reply::Reply<$own>) -> Result<Self, crate::WireError> {
                use $result as To;
                let result = match own {
                    Ok(Ok(answer)) => To::$answer(crate::reply::convert($field, answer)?),
                    Ok(Err(rejected)) => To::Rejected(rejected.into()),
                    Err(unserved) => To::Unserved(unserved.into()),
                };
                crate::limits::sized("result", Self { result: Some(result) })
            }
        }

        impl TryFrom<crate::wire::$wire> for crate::reply::Reply<$own> {
            type Error = crate::WireError;

            fn try_from(message: crate::wire::$wire) -> Result<Self, crate::WireError> {
                use $result as From;
                Ok(match crate::error::required("result", message.result)? {
                    From::$answer(answer) => Ok(Ok(crate::reply::convert($field, answer)?)),
                    From::Rejected(it) => Ok(Err(crate::reply::convert("rejected", it)?)),
                    From::Unserved(it) => Err(crate::reply::convert("unserved", it)?),
                })
            }
        }
    };
}
pub(crate) use reply;

pub(crate) fn convert<A, B: TryFrom<A>>(field: &str, it: A) -> Result<B, WireError>
where
    WireError: From<B::Error>,
{
    B::try_from(it).map_err(WireError::from).inside(field)
}

//! What can go wrong, and what the user can do about it.
//!
//! Each failure is one line, and has an exit code: 1 where the cell refuses or does not answer, 2 where the
//! input is bad and nothing was asked.

use std::process::ExitCode;
use std::time::Duration;

use cell::live::Rejected;
use proto::reply::Unserved;

use crate::show;

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The user's input is bad.
    #[error("{0}")]
    BadInput(String),
    /// The cell was asked and rejects it.
    #[error("{}", rejection(.0))]
    Rejected(Rejected),
    /// The log of the replica does not hold an index.
    #[error("{0}")]
    NotInLog(Unserved),
    /// No replica can be reached.
    #[error(
        "no replica answers at {at}: {why}; is a master running? `borgmaster --data DIR` starts one, \
         --cell HOST:PORT (or $BORGCFG_CELL) says where"
    )]
    NobodyThere {
        /// Where it was tried.
        at: String,
        /// What came of the last attempt.
        why: String,
    },
    /// There was no answer in time.
    #[error("no answer within {timeout:?}, at last: {why}; --timeout waits longer")]
    TimedOut {
        /// What was allowed.
        timeout: Duration,
        /// What came of the last attempt.
        why: String,
    },
    /// Whatever else.
    #[error("{0}")]
    Failed(String),
}

impl Failure {
    /// As the program ends with it.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::BadInput(_) => ExitCode::from(2),
            Self::Rejected(_)
            | Self::NotInLog(_)
            | Self::NobodyThere { .. }
            | Self::TimedOut { .. }
            | Self::Failed(_) => ExitCode::from(1),
        }
    }

    /// The same, with what follows from it after it.
    pub(crate) fn and(self, more: &str) -> Self {
        let text = format!("{self}; {more}");
        match self {
            Self::BadInput(_) => Self::BadInput(text),
            Self::Rejected(_)
            | Self::NotInLog(_)
            | Self::NobodyThere { .. }
            | Self::TimedOut { .. }
            | Self::Failed(_) => Self::Failed(text),
        }
    }

    /// The same, with what it is about before it.
    pub(crate) fn about(self, what: &str) -> Self {
        match self {
            Self::Rejected(rejected) => Self::Failed(format!("{what}: {}", rejection(&rejected))),
            Self::Failed(problem) => Self::Failed(format!("{what}: {problem}")),
            Self::BadInput(problem) => Self::BadInput(format!("{what}: {problem}")),
            Self::NotInLog(_) | Self::NobodyThere { .. } | Self::TimedOut { .. } => self,
        }
    }
}

/// A part that a user gave cannot be sent.
impl From<proto::WireError> for Failure {
    fn from(error: proto::WireError) -> Self {
        Self::BadInput(error.to_string())
    }
}

/// Why the cell rejects something, in units that people read, and what they can do.
fn rejection(rejected: &Rejected) -> String {
    match rejected {
        Rejected::Quota { user, band, resource, asked, granted, used } => {
            let [asked, granted, used] =
                [asked, granted, used].map(|amount| show::amount(resource, *amount));
            format!(
                "user {user:?} has too little {resource} quota in the {band} band: {asked} more asked for, \
                 {granted} granted, {used} used; `borgcfg quota set {user} {band} …` grants it, \
                 a priority below 100 needs none"
            )
        }
        Rejected::MoreThanTheCell { resource, asked, capacity } => {
            let [asked, capacity] = [asked, capacity].map(|amount| show::amount(resource, *amount));
            format!(
                "production quota of all users together would be {asked} of {resource}, and the cell has \
                 {capacity}; `borgcfg quota` shows who has it"
            )
        }
        Rejected::Forbidden { .. } => format!(
            "{rejected}; an administrator can give it (`borgcfg capabilities`), --user says who you are"
        ),
        Rejected::Invalid { .. }
        | Rejected::Unknown { .. }
        | Rejected::NameTaken(_)
        | Rejected::Ended(_)
        | Rejected::InUse { .. }
        | Rejected::NothingToUndo(_)
        | Rejected::NoSession(_)
        | Rejected::Answered(_)
        | Rejected::TooManyAnswers(_) => rejected.to_string(),
    }
}

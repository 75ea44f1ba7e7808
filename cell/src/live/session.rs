//! Sessions of clients, by which each request is carried out exactly once, across retries and leaders.
//!
//! A session keeps the answers that its client has not acknowledged; a request that is there already is
//! answered from them. Source: Ongaro, "Consensus: bridging theory and practice", §6.3.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::op::{Request, Timestamp};
use super::outcome::{Outcome, Rejected};

/// So many answers of a session are kept at most. Our own limit: many times what one client has under way.
const ANSWER_COUNT_MAX: usize = 256;

/// A client's session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    /// When it was last used.
    pub used_at: Timestamp,
    /// Requests below this number were answered and acknowledged.
    pub answered_below: u64,
    /// Answers to requests from that number on.
    pub answers: BTreeMap<u64, Outcome>,
}

impl Session {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { used_at: now, answered_below: 1, answers: BTreeMap::new() }
    }

    /// Drops what the client has acknowledged.
    pub(super) fn acknowledge(&mut self, below: u64) {
        if below > self.answered_below {
            self.answered_below = below;
            self.answers = self.answers.split_off(&below);
        }
    }

    /// The answer that was given to a request before; or why it cannot be carried out.
    pub(super) fn earlier(&self, request: &Request) -> Option<Outcome> {
        if request.sequence < self.answered_below {
            return Some(Err(Rejected::Answered(request.sequence)));
        }
        if let Some(outcome) = self.answers.get(&request.sequence) {
            return Some(outcome.clone());
        }
        (self.answers.len() >= ANSWER_COUNT_MAX)
            .then_some(Err(Rejected::TooManyAnswers(request.session)))
    }
}

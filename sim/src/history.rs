//! What clients asked and were told, and whether that is linearizable.
//!
//! The log is the witness: an acknowledged operation has its place there. It has to be carried out exactly
//! once, after every operation that was acknowledged before it was asked for, and its answer has to be what
//! the operations before it in the log lead to. A read has to see at least everything that was acknowledged
//! before it began, and answer as the log up to where it was served says. If that holds for all, the order of
//! the log is a linearization of the history (Herlihy and Wing, 1990).

use std::collections::BTreeMap;

use cell::live::Outcome;

/// Names a client's operation: its session and number.
pub(crate) type Name = (u64, u64);

#[derive(Debug, Default)]
pub(crate) struct History {
    /// Where the log carries each request out, and with which answer: kept by the oracle.
    carried_out: BTreeMap<Name, (u64, Outcome)>,
    /// Which client was given which session.
    sessions: BTreeMap<u64, u32>,
    /// The highest index of an operation that was acknowledged so far.
    acknowledged_up_to: u64,
    pub acknowledged_count: u64,
    pub read_count: u64,
}

impl History {
    /// The oracle applied a request.
    pub(crate) fn carried_out(
        &mut self,
        name: Name,
        index: u64,
        outcome: &Outcome,
    ) -> Result<(), String> {
        match self.carried_out.get(&name) {
            None => {
                self.carried_out.insert(name, (index, outcome.clone()));
                Ok(())
            }
            // A repetition: the log holds it again, and it must have changed nothing.
            Some((_, first)) if first == outcome => Ok(()),
            Some((at, first)) => Err(format!(
                "request {name:?} was carried out at {at} with {first:?} and again at {index} with {outcome:?}"
            )),
        }
    }

    /// A client was given a session: nobody else was given the same.
    pub(crate) fn opened(&mut self, session: u64, client: u32) -> Result<(), String> {
        let owner = *self.sessions.entry(session).or_insert(client);
        if owner == client {
            return Ok(());
        }
        Err(format!("clients {owner} and {client} were both given session {session}"))
    }

    /// What has to be in the log before anything that is asked for from now on.
    pub(crate) const fn floor(&self) -> u64 {
        self.acknowledged_up_to
    }

    /// A client was answered; `floor` is from when it asked.
    pub(crate) fn acknowledged(
        &mut self,
        name: Name,
        floor: u64,
        outcome: &Outcome,
        is_local: bool,
    ) -> Result<(), String> {
        self.acknowledged_count += 1;
        match self.carried_out.get(&name) {
            Some((index, carried_out)) => {
                if carried_out != outcome {
                    return Err(format!(
                        "request {name:?} was answered {outcome:?}, and the log says {carried_out:?}"
                    ));
                }
                if *index <= floor {
                    return Err(format!(
                        "request {name:?} is at {index}, and {floor} was acknowledged before it was asked for"
                    ));
                }
                self.acknowledged_up_to = self.acknowledged_up_to.max(*index);
                Ok(())
            }
            // Refused without the log: nothing may have been promised.
            None if outcome.is_err() && is_local => Ok(()),
            None => Err(format!("request {name:?} was answered {outcome:?} and is not in the log")),
        }
    }

    /// A client read the state as of an index.
    pub(crate) fn read(&mut self, floor: u64, index: u64, applied: u64) -> Result<(), String> {
        self.read_count += 1;
        if index < floor {
            return Err(format!(
                "a read saw {index}, and {floor} was acknowledged before it began"
            ));
        }
        if index > applied {
            return Err(format!("a read saw {index}, and the log goes to {applied}"));
        }
        // Whoever reads later must not see less.
        self.acknowledged_up_to = self.acknowledged_up_to.max(index);
        Ok(())
    }
}

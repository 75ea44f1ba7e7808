//! What machines reported of their tasks, on its way into the log.
//!
//! Each observation is proposed once, and looked at again only where its proposal came to nothing: with many
//! under way a look at all of them for each report would take all of the leader's time.

use std::collections::BTreeMap;

use cell::borglet::Incarnation;
use cell::live::{Entry, Observation, Op, State, Timestamp};

use crate::{PROPOSE_AGAIN_MS, link};

/// Of each placement one observation of each kind.
type Key = (Incarnation, u8);

fn key(observation: &Observation) -> Key {
    (observation.incarnation, link::kind(&observation.seen))
}

/// What was seen and is not in the state yet.
#[derive(Debug, Default)]
pub(crate) struct SeenTasks {
    new: BTreeMap<Key, Observation>,
    /// What was proposed, and when.
    proposed: BTreeMap<Key, (Observation, Timestamp)>,
}

impl SeenTasks {
    /// Notes an observation, if the state does not know it, or will not once what is under way has come in.
    pub(crate) fn note(&mut self, state: &State, observation: Observation) {
        let key = key(&observation);
        let is_under_way = match self.proposed.get(&key) {
            Some((proposed, _)) if *proposed == observation => {
                // What was noted since then no longer holds.
                self.new.remove(&key);
                return;
            }
            Some(_) => true,
            None => false,
        };
        if is_under_way || link::is_news(state, &observation) {
            self.new.insert(key, observation);
        } else {
            self.new.remove(&key);
        }
    }

    /// How many were not proposed yet.
    pub(crate) fn new_count(&self) -> usize {
        self.new.len()
    }

    /// What is to be proposed for the first time.
    pub(crate) fn take_new(&mut self, state: &State, now: Timestamp) -> Vec<Observation> {
        let mut due = Vec::with_capacity(self.new.len());
        for (key, observation) in std::mem::take(&mut self.new) {
            // What contradicts a proposal under way will be news.
            if link::is_news(state, &observation) || self.proposed.contains_key(&key) {
                self.proposed.insert(key, (observation.clone(), now));
                due.push(observation);
            }
        }
        due
    }

    /// What was proposed long ago and is still news: the proposal was lost.
    pub(crate) fn take_lost(&mut self, state: &State, now: Timestamp) -> Vec<Observation> {
        let mut due = Vec::new();
        self.proposed.retain(|_, (observation, at)| {
            if now.since_ms(*at) < PROPOSE_AGAIN_MS {
                return true;
            }
            let is_news = link::is_news(state, observation);
            if is_news {
                *at = now;
                due.push(observation.clone());
            }
            is_news
        });
        due
    }

    /// An entry was applied: what of it was proposed is no longer under way.
    pub(crate) fn came_back(&mut self, entry: &Entry) {
        for command in &entry.commands {
            if let Op::Observe { observations } = &command.op {
                for observation in observations {
                    let key = key(observation);
                    if self.proposed.get(&key).is_some_and(|(proposed, _)| proposed == observation)
                    {
                        self.proposed.remove(&key);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cell::borglet::TaskKey;
    use cell::live::{Command, Seen};

    use super::*;

    /// Of a task that the state does not know: never news.
    fn observation(incarnation: u64, seen: Seen) -> Observation {
        let task = TaskKey { job: 1, index: 0 };
        Observation { task, incarnation: Incarnation(incarnation), seen }
    }

    #[test]
    fn what_contradicts_a_proposal_under_way_follows_it() {
        let state = State::default();
        let mut seen = SeenTasks::default();
        let (ill, well) = (observation(1, Seen::Health(false)), observation(1, Seen::Health(true)));
        seen.proposed.insert(key(&ill), (ill.clone(), Timestamp(5)));
        seen.note(&state, ill.clone());
        assert_eq!(seen.new_count(), 0, "the same is under way");
        seen.note(&state, well.clone());
        assert_eq!(seen.new_count(), 1);
        seen.note(&state, ill.clone());
        assert_eq!(seen.new_count(), 0, "it is as the proposal says again");
        seen.note(&state, well.clone());
        assert_eq!(seen.take_new(&state, Timestamp(6)), std::slice::from_ref(&well));
        // The older one comes back; the newer is still under way.
        let op = Op::Observe { observations: vec![ill] };
        let entry = Entry { at: Timestamp(6), commands: vec![Command { request: None, op }] };
        seen.came_back(&entry);
        assert_eq!(seen.proposed[&key(&well)].0, well);
    }

    #[test]
    fn what_is_no_news_is_dropped() {
        let state = State::default();
        let mut seen = SeenTasks::default();
        seen.note(&state, observation(1, Seen::Started));
        assert!(seen.take_new(&state, Timestamp(1)).is_empty());
        assert!(seen.proposed.is_empty() && seen.new.is_empty());
    }
}

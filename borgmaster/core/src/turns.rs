//! Which of the tasks that wait a scheduler looks at next.
//!
//! What found no place will find none before there is more room. Until then what is new is looked at alone, and
//! the queue once more now and then, since not all that may help is told: a limit on disruption, or a place that
//! a job's own rule keeps from its other tasks. When there is more room all of the queue is gone through, where
//! it is longer than a pass in parts.
//!
//! Source: Borg (EuroSys '15) §3.2 (the queue) and §3.4 (how a scheduler is kept from looking again at what
//! has not changed).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use cell::TaskId;
use cell::borglet::TaskKey;
use cell::live::{Phase, QueuePlace, State, Timestamp};

/// A queue in which some are left waiting is looked at again at the latest after so long, or the next part of
/// it where it is longer than a pass: what was in the way may have gone.
pub(crate) const AGAIN_MS: u64 = 1_000;

/// The turns of one scheduler.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// When it last looked at the queue, and at which count of news; `None`: not yet.
    looked: Option<(Timestamp, u64)>,
    /// What is to be looked at before the queue is.
    fresh: BTreeSet<QueuePlace>,
    /// What will be fresh at a time.
    backing_off: BTreeSet<(Timestamp, TaskKey)>,
    /// What was refused in the last second, and whether more than once. It is fresh once: what a scheduler and
    /// the state disagree on would be planned for ever.
    refused: BTreeMap<TaskKey, bool>,
    /// When that second began.
    refused_since: Timestamp,
    /// Up to where it has looked at a queue that is longer than a pass.
    after: Option<QueuePlace>,
    /// So many places of the queue are to be looked at soon, since there may be room for them.
    left: usize,
}

/// A part of the queue.
#[derive(Debug, Default)]
struct Part {
    wanted: Vec<QueuePlace>,
    seen_count: usize,
    /// The last place of it; `None`: it goes to the end, or is empty.
    last: Option<QueuePlace>,
}

impl Part {
    /// The first so many that are wanted, among so many.
    fn of(
        queue: impl Iterator<Item = QueuePlace>,
        most_seen: usize,
        most_wanted: usize,
        is_wanted: impl Fn(TaskKey) -> bool,
    ) -> Self {
        let mut part = Self::default();
        for place in queue {
            if part.seen_count == most_seen || part.wanted.len() == most_wanted {
                return part;
            }
            part.seen_count += 1;
            part.last = Some(place);
            part.wanted.extend(Some(place).filter(|place| is_wanted(place.task)));
        }
        Self { last: None, ..part }
    }
}

impl Turns {
    /// A task waits that did not, or for less than before.
    pub(crate) fn add(&mut self, state: &State, id: TaskId) {
        if self.note(state, id) {
            self.fresh.insert(state.queue_place(id));
        }
    }

    /// A task that was to be placed was not.
    pub(crate) fn refuse(&mut self, state: &State, id: TaskId) {
        match self.refused.entry(state.key(id)) {
            Entry::Vacant(entry) => {
                entry.insert(false);
                self.add(state, id);
            }
            Entry::Occupied(mut entry) => drop(entry.insert(true)),
        }
    }

    /// Nothing waits.
    pub(crate) fn clear(&mut self) {
        self.fresh.clear();
        self.backing_off.clear();
        self.refused.clear();
    }

    /// What is looked at next: at most so many fresh ones, and so many of the queue. Only what is wanted, which is
    /// asked of no more than twice as many of the queue. `news_count` counts what may have made room.
    pub(crate) fn take(
        &mut self,
        state: &State,
        now: Timestamp,
        news_count: u64,
        most: usize,
        is_wanted: impl Fn(TaskKey) -> bool,
    ) -> BTreeSet<TaskKey> {
        if self.looked.is_none() && state.waiting_count() > most {
            // What backed off before it led; a shorter queue is looked at as a whole anyway.
            for id in state.waiting().filter_map(|task| state.task_id(task)) {
                self.note(state, id);
            }
        }
        self.freshen(state, now);
        let mut taken = BTreeSet::new();
        let is_news = self.looked.is_none_or(|(_, seen)| seen != news_count);
        let is_again = self.looked.is_none_or(|(at, _)| now.since_ms(at) >= AGAIN_MS);
        if is_news || is_again || self.left > 0 {
            self.looked = Some((now, news_count));
            for place in self.take_queue(state, is_news, most, &is_wanted) {
                self.fresh.remove(&place);
                taken.insert(place.task);
            }
        }
        // While the queue is gone through, what is behind has its turn there, after what is more important; what
        // had none is still fresh at the end.
        let later = self.after.filter(|_| self.left > 0);
        let mut later = later.map(|after| self.fresh.split_off(&after)).unwrap_or_default();
        let rest = self.fresh.iter().nth(most).copied();
        let rest = rest.map(|first| self.fresh.split_off(&first)).unwrap_or_default();
        let fresh = std::mem::replace(&mut self.fresh, rest);
        self.fresh.append(&mut later);
        taken.extend(fresh.into_iter().map(|place| place.task).filter(|&task| is_wanted(task)));
        taken
    }

    /// What has backed off for long enough is fresh, and what was refused once more than it may be at once.
    fn freshen(&mut self, state: &State, now: Timestamp) {
        let mut tasks = Vec::new();
        while let Some(&(at, task)) = self.backing_off.first().filter(|(at, _)| *at <= now) {
            self.backing_off.remove(&(at, task));
            tasks.push(task);
        }
        if now.since_ms(self.refused_since) >= AGAIN_MS {
            self.refused_since = now;
            let refused = std::mem::take(&mut self.refused);
            tasks.extend(
                refused.into_iter().filter_map(|(task, is_again)| is_again.then_some(task)),
            );
        }
        let places = tasks.into_iter().filter_map(|task| state.task_id(task));
        self.fresh.extend(places.map(|id| state.queue_place(id)));
    }

    /// Notes until when a task backs off, if it does; whether it waits and does not.
    fn note(&mut self, state: &State, id: TaskId) -> bool {
        match state.record(id).phase {
            Phase::Waiting { not_before, .. } if not_before > state.now() => {
                self.backing_off.insert((not_before, state.key(id)));
                false
            }
            Phase::Waiting { .. } => true,
            Phase::Assigned(_)
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::Dead { .. } => false,
        }
    }

    /// Of the queue all, or the most important, and then those behind where it stopped the last time.
    fn take_queue(
        &mut self,
        state: &State,
        is_news: bool,
        most: usize,
        is_wanted: impl Fn(TaskKey) -> bool,
    ) -> Vec<QueuePlace> {
        let count = state.waiting_count();
        if count <= most {
            (self.after, self.left) = (None, 0);
            let queue = state.queue_after(None);
            return queue.filter(|place| is_wanted(place.task)).collect();
        }
        let head = Part::of(state.queue_after(None), most, most / 2, &is_wanted);
        if is_news {
            self.left = count - head.seen_count;
        }
        let rest = state.queue_after(self.after.max(head.last));
        let part = Part::of(rest, most, most - head.wanted.len(), &is_wanted);
        self.left = self.left.saturating_sub(part.seen_count);
        self.after = part.last;
        [head.wanted, part.wanted].concat()
    }
}

#[cfg(test)]
mod tests {
    use cell::live::{Command, Op, Settings};

    use super::*;

    fn state(jobs: &[(&str, u16, u32)]) -> State {
        let mut state = State::new(Settings { needs_quota: false, ..Settings::default() });
        jobs.iter().for_each(|job| submit(&mut state, *job));
        state
    }

    fn submit(state: &mut State, (name, priority, count): (&str, u16, u32)) {
        let text = format!(
            r#"{{"name": "{name}", "user": "ann", "priority": {priority}, "count": {count},
                "limit": {{"cpu": 1, "ram": 1}}}}"#
        );
        let spec = Box::new(serde_json::from_str(&text).expect("a job"));
        let commands =
            vec![Command { request: None, op: Op::Submit { spec, is_alloc_set: false } }];
        state.apply(state.index() + 1, &cell::live::Entry { at: Timestamp(1), commands });
    }

    fn id(state: &State, name: &str) -> TaskId {
        state.cell().find_task(name).expect("it is there")
    }

    /// Takes three at most; in the order of the queue.
    fn take(turns: &mut Turns, state: &State, now: u64, news_count: u64, but: &str) -> String {
        let name = |key| state.task_name(state.task_id(key).expect("it waits"));
        let is_wanted = |key| but.is_empty() || !name(key).starts_with(but);
        let taken = turns.take(state, Timestamp(now), news_count, 3, is_wanted);
        let in_order = state.waiting().filter(|key| taken.contains(key)).map(name);
        in_order.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn all_have_their_turn_the_most_important_first() {
        let state = state(&[("a", 10, 2), ("b", 90, 2), ("c", 10, 2)]);
        let mut turns = Turns::default();
        assert_eq!(take(&mut turns, &state, 1, 1, ""), "b/0 b/1 a/0");
        assert_eq!(take(&mut turns, &state, 2, 1, ""), "b/0 a/1 c/0");
        assert_eq!(take(&mut turns, &state, 3, 1, ""), "b/0 c/1");
        assert_eq!(take(&mut turns, &state, 4, 1, ""), "", "there is no more room than there was");
        assert_eq!(take(&mut turns, &state, 1_003, 1, ""), "b/0 b/1 a/0", "from the head again");
        assert_eq!(take(&mut turns, &state, 1_004, 1, ""), "");
        assert_eq!(take(&mut turns, &state, 1_005, 2, ""), "b/0 a/1 c/0", "from where it was");
        assert_eq!(take(&mut turns, &state, 1_006, 2, ""), "b/0 c/1");
        assert_eq!(take(&mut turns, &state, 1_007, 2, ""), "b/0 b/1 a/0");
        assert_eq!(take(&mut turns, &state, 1_008, 2, ""), "");
    }

    #[test]
    fn what_may_not_be_placed_takes_no_turn_from_others() {
        let state = state(&[("a", 90, 2), ("b", 50, 1), ("c", 10, 3)]);
        let mut turns = Turns::default();
        assert_eq!(take(&mut turns, &state, 1, 1, "a/"), "b/0 c/0 c/1");
        assert_eq!(take(&mut turns, &state, 2, 1, "a/"), "b/0 c/2");
        assert_eq!(take(&mut turns, &state, 3, 1, "a/"), "");
    }

    #[test]
    fn what_is_new_waits_for_its_turn_while_the_queue_is_gone_through() {
        let mut state = state(&[("a", 10, 7)]);
        let mut turns = Turns::default();
        assert_eq!(take(&mut turns, &state, 1, 1, ""), "a/0 a/1 a/2");
        submit(&mut state, ("late", 10, 2));
        submit(&mut state, ("urgent", 90, 1));
        for name in ["late/0", "late/1", "urgent/0"] {
            turns.add(&state, id(&state, name));
        }
        assert_eq!(take(&mut turns, &state, 2, 1, ""), "urgent/0 a/3 a/4");
        assert_eq!(take(&mut turns, &state, 3, 1, ""), "urgent/0 a/5 a/6 late/0 late/1");
        assert_eq!(take(&mut turns, &state, 5, 1, ""), "");
        turns.add(&state, id(&state, "late/1"));
        assert_eq!(take(&mut turns, &state, 6, 1, ""), "late/1", "now it is looked at alone");
        assert_eq!(take(&mut turns, &state, 7, 1, ""), "");
    }

    #[test]
    fn what_comes_while_the_queue_is_gone_through_from_its_middle_has_a_turn() {
        let mut state = state(&[("a", 10, 7)]);
        let mut turns = Turns::default();
        assert_eq!(take(&mut turns, &state, 1, 1, ""), "a/0 a/1 a/2");
        assert_eq!(take(&mut turns, &state, 2, 1, ""), "a/0 a/3 a/4");
        assert_eq!(take(&mut turns, &state, 3, 2, ""), "a/0 a/5 a/6");
        submit(&mut state, ("late", 10, 1));
        turns.add(&state, id(&state, "late/0"));
        assert_eq!(take(&mut turns, &state, 4, 2, ""), "a/0 a/1 a/2");
        assert_eq!(take(&mut turns, &state, 5, 2, ""), "a/0 a/3 a/4 late/0");
        assert_eq!(take(&mut turns, &state, 6, 2, ""), "");
    }

    #[test]
    fn of_many_new_ones_the_most_important_come_first_and_none_is_lost() {
        let mut state = state(&[]);
        let mut turns = Turns::default();
        assert_eq!(take(&mut turns, &state, 1, 1, ""), "");
        for job in [("a", 10, 4), ("b", 90, 1)] {
            submit(&mut state, job);
        }
        for name in ["a/0", "a/1", "a/2", "a/3", "b/0"] {
            turns.add(&state, id(&state, name));
        }
        assert_eq!(take(&mut turns, &state, 2, 1, ""), "b/0 a/0 a/1");
        assert_eq!(take(&mut turns, &state, 3, 1, ""), "a/2 a/3");
    }

    #[test]
    fn what_is_refused_again_waits_until_the_queue_is_looked_at() {
        let state = state(&[("a", 10, 2)]);
        let mut turns = Turns::default();
        assert_eq!(take(&mut turns, &state, 1, 1, ""), "a/0 a/1");
        turns.refuse(&state, id(&state, "a/0"));
        assert_eq!(take(&mut turns, &state, 2, 1, ""), "a/0");
        turns.refuse(&state, id(&state, "a/0"));
        assert_eq!(take(&mut turns, &state, 3, 1, ""), "");
        assert_eq!(take(&mut turns, &state, 1_001, 1, ""), "a/0 a/1");
        turns.refuse(&state, id(&state, "a/0"));
        assert_eq!(take(&mut turns, &state, 1_002, 1, ""), "a/0");
    }

    #[test]
    fn what_is_refused_again_and_again_is_looked_at_once_a_second_however_long_the_queue() {
        let state = state(&[("a", 10, 20)]);
        let mut turns = Turns::default();
        while turns.left > 0 || turns.looked.is_none() {
            take(&mut turns, &state, 5_000, 1, "");
        }
        let mut looked_at = Vec::new();
        for now in (5_000..9_000).step_by(50) {
            turns.refuse(&state, id(&state, "a/19"));
            if take(&mut turns, &state, now, 1, "").contains("a/19") {
                looked_at.push(now);
            }
        }
        assert_eq!(looked_at, [5_000, 6_000, 6_050, 7_000, 7_050, 8_000, 8_050]);
    }
}

//! A plan that a search changes by trial: what is placed where, who was evicted, and how to take it back.
//!
//! In: the running cell and a plan's end. Every change between [`State::begin`] and [`State::keep`] or
//! [`State::take_back`] is one trial. Room and rules are checked exactly, task by task.

use std::collections::{BTreeMap, BTreeSet};

use cell::{JobKind, TaskId};
use scheduler::{Draft, Placement, Snapshot};

use crate::disruption::Disruptions;
use crate::objective::{Objective, Score, level, millionths};

/// Amounts by resource, as in [`scheduler::Rooms::free`].
pub(crate) type Signed = [i64; 6];

/// A plan in the making.
pub(crate) struct State<'a, 'c> {
    pub(crate) start: &'a Snapshot<'c>,
    pub(crate) objective: &'a Objective<'c>,
    draft: Draft<'c>,
    /// Running tasks that are not where they were, each with where that is.
    evicted: BTreeMap<TaskId, Placement>,
    /// The same by that row.
    left: BTreeMap<usize, BTreeSet<TaskId>>,
    disruptions: Disruptions,
    /// Those of the evicted for which no limit had anything left.
    beyond: BTreeSet<TaskId>,
    /// What is free on each machine, and what of it could be made free by evicting.
    room: Vec<Signed>,
    evictable: Vec<Signed>,
    /// Tasks that the trial at hand has changed, as they were.
    trial: BTreeMap<TaskId, Before>,
}

/// A task as it was before a trial.
#[derive(Clone, Debug)]
struct Before {
    at: Option<Placement>,
    was_evicted: bool,
    part: Score,
}

impl<'a, 'c> State<'a, 'c> {
    pub(crate) fn new(
        start: &'a Snapshot<'c>,
        objective: &'a Objective<'c>,
        end: Snapshot<'c>,
    ) -> Self {
        let machine_count = start.machine_count();
        let mut state = Self {
            start,
            objective,
            evicted: BTreeMap::new(),
            left: BTreeMap::new(),
            disruptions: Disruptions::of(start.cell()),
            beyond: BTreeSet::new(),
            room: (0..machine_count).map(|row| end.free(row)).collect(),
            evictable: vec![[0; 6]; machine_count],
            trial: BTreeMap::new(),
            draft: Draft::of(end),
        };
        for row in 0..machine_count {
            for &task in state.draft.snapshot().tasks_on(row) {
                if state.is_evictable(task) {
                    let charge = state.charged(task);
                    give_back(&mut state.evictable[row], &charge);
                }
            }
        }
        for (id, _, _) in start.cell().tasks() {
            let now = state.now(id);
            if let Some(home) = start.placement(id)
                && now.is_none_or(|now| now.row != home.row)
            {
                state.note_evicted(id, home);
            }
        }
        state
    }

    pub(crate) fn snapshot(&self) -> &Snapshot<'c> {
        self.draft.snapshot()
    }

    pub(crate) fn now(&self, task: TaskId) -> Option<Placement> {
        self.draft.snapshot().placement(task)
    }

    pub(crate) fn charged(&self, task: TaskId) -> Signed {
        self.draft.snapshot().charged(task)
    }

    pub(crate) fn room(&self, row: usize) -> &Signed {
        &self.room[row]
    }

    pub(crate) fn rooms(&self) -> impl Iterator<Item = (&Signed, &Signed)> {
        self.room.iter().zip(&self.evictable)
    }

    pub(crate) fn priority(&self, task: TaskId) -> u16 {
        self.objective.priority(task).get()
    }

    pub(crate) fn disruptions(&self) -> &Disruptions {
        &self.disruptions
    }

    /// Running tasks that are not where they were.
    pub(crate) fn evicted(&self) -> &BTreeMap<TaskId, Placement> {
        &self.evicted
    }

    /// Whether somebody was evicted from a row.
    pub(crate) fn is_left(&self, row: usize) -> bool {
        self.left.contains_key(&row)
    }

    /// Whether a search may place a task anew.
    pub(crate) fn is_free(&self, task: TaskId) -> bool {
        let job = self.start.cell().job(task.job);
        // What else Kubernetes' objects ask for is greedy's to know.
        self.start.cell().kube.is_none()
            && job.kind == JobKind::Job
            && job.alloc_set.is_none()
            && !job.tied_to_machines
    }

    fn is_evictable(&self, task: TaskId) -> bool {
        self.is_free(task) && !self.objective.priority(task).band().is_prod()
    }

    /// Whether a task may be preempted by one of this priority.
    pub(crate) fn may_evict(&self, task: TaskId, by: u16) -> bool {
        self.is_evictable(task)
            && self.priority(task) < by
            && (self.evicted.contains_key(&task)
                || self.start.placement(task).is_none()
                || self.disruptions.left(task.job) > 0)
    }

    /// Whether evicting a task loses work: it runs where it ran.
    pub(crate) fn is_at_home(&self, task: TaskId) -> bool {
        self.start.placement(task).is_some() && !self.evicted.contains_key(&task)
    }

    pub(crate) fn obeys_rules(&mut self, task: TaskId, row: usize) -> bool {
        self.draft.obeys_rules(task, row)
    }

    pub(crate) fn has_room(&self, task: TaskId, row: usize, without: &[TaskId]) -> bool {
        self.draft.has_room(task, row, without)
    }

    /// Starts a trial.
    pub(crate) fn begin(&mut self) {
        self.trial.clear();
    }

    /// How much better the trial has made the plan: what the changed tasks made up before, and now.
    pub(crate) fn compared(&mut self) -> (Score, Score) {
        let mut had = Score::default();
        let changed: Vec<TaskId> = self.trial.keys().copied().collect();
        self.trial.values().for_each(|before| had.add(&before.part));
        let mut has = Score::default();
        for task in changed {
            let part = self.part(task);
            has.add(&part);
        }
        (had, has)
    }

    /// Takes the trial back.
    pub(crate) fn take_back(&mut self) {
        let trial = std::mem::take(&mut self.trial);
        for &task in trial.keys() {
            self.take_off(task);
        }
        for (&task, before) in &trial {
            if let Some(at) = before.at {
                self.restore(task, at);
            }
            match (self.evicted.contains_key(&task), before.was_evicted) {
                (true, false) => self.note_home(task),
                (false, true) => {
                    let home = self.start.placement(task).expect("it ran");
                    self.note_evicted(task, home);
                }
                (true, true) | (false, false) => {}
            }
        }
        self.trial.clear();
    }

    /// Keeps the trial.
    pub(crate) fn keep(&mut self) {
        self.trial.clear();
    }

    /// Rows that the trial has changed.
    pub(crate) fn rows_changed(&self) -> BTreeSet<usize> {
        let before = self.trial.values().filter_map(|before| before.at);
        let now = self.trial.keys().filter_map(|&task| self.now(task));
        before.chain(now).map(|at| at.row).collect()
    }

    fn touch(&mut self, task: TaskId) {
        if !self.trial.contains_key(&task) {
            let part = self.part(task);
            let at = self.now(task);
            let was_evicted = self.evicted.contains_key(&task);
            self.trial.insert(task, Before { at, was_evicted, part });
        }
    }

    /// Takes a task off its machine: one of the batch, or one that was evicted already.
    pub(crate) fn take_off(&mut self, task: TaskId) {
        self.touch(task);
        if let Some(at) = self.now(task) {
            self.draft.remove(task);
            self.changed(task, at.row, true);
        }
    }

    /// Evicts a task, if the limits on disruption let it go; returns whether it is gone.
    pub(crate) fn evict(&mut self, task: TaskId) -> bool {
        let Some(at) = self.now(task) else { return true };
        if self.is_at_home(task) {
            if self.disruptions.left(task.job) == 0 {
                return false;
            }
            self.touch(task);
            self.note_evicted(task, at);
        }
        self.take_off(task);
        true
    }

    /// Places a task, if it fits and its rules allow it; returns whether it has a place there.
    pub(crate) fn try_place(&mut self, task: TaskId, row: usize) -> bool {
        if self.now(task).is_some()
            || !self.draft.has_room(task, row, &[])
            || !self.draft.obeys_rules(task, row)
        {
            return false;
        }
        self.touch(task);
        self.draft.place(task, row);
        self.changed(task, row, false);
        if self.evicted.get(&task).is_some_and(|home| home.row == row) {
            self.note_home(task);
        }
        true
    }

    fn restore(&mut self, task: TaskId, at: Placement) {
        self.draft.restore(task, at);
        self.changed(task, at.row, false);
    }

    fn changed(&mut self, task: TaskId, row: usize, is_gone: bool) {
        if row >= self.room.len() {
            return;
        }
        self.room[row] = self.draft.snapshot().free(row);
        if self.is_evictable(task) {
            let charge = self.charged(task);
            let sum = &mut self.evictable[row];
            if is_gone { take(sum, &charge) } else { give_back(sum, &charge) }
        }
    }

    fn note_evicted(&mut self, task: TaskId, home: Placement) {
        self.evicted.insert(task, home);
        self.left.entry(home.row).or_default().insert(task);
        // Greedy may have gone beyond a limit; a search does not.
        if !self.disruptions.take(task.job) {
            self.beyond.insert(task);
        }
    }

    fn note_home(&mut self, task: TaskId) {
        if let Some(home) = self.evicted.remove(&task) {
            // One that was beyond its job's limit takes the place of one that was counted.
            let beyond = self.beyond.contains(&task).then_some(task);
            let beyond =
                beyond.or_else(|| self.beyond.iter().copied().find(|other| other.job == task.job));
            match beyond {
                Some(other) => {
                    self.beyond.remove(&other);
                }
                None => self.disruptions.give_back(task.job),
            }
            if let Some(left) = self.left.get_mut(&home.row) {
                left.remove(&task);
                if left.is_empty() {
                    self.left.remove(&home.row);
                }
            }
        }
    }

    /// Sends victims home whose machine has room for them after all, the most important first; of one
    /// machine, or of all. Returns whether any went.
    pub(crate) fn spare(&mut self, row: Option<usize>) -> bool {
        let mut victims: Vec<(TaskId, usize)> = match row {
            Some(row) => {
                let left = self.left.get(&row).into_iter().flatten();
                left.map(|&task| (task, row)).collect()
            }
            None => self.evicted.iter().map(|(&task, home)| (task, home.row)).collect(),
        };
        victims.retain(|&(task, _)| self.is_free(task));
        victims.sort_by_key(|&(task, _)| {
            let first = (self.priority(task), self.objective.lost(task));
            (std::cmp::Reverse(first), task)
        });
        let mut has_gone = false;
        for (task, home) in victims {
            // Those that run elsewhere are not on this machine, so that their room there does not matter.
            if self.has_room(task, home, &[]) {
                let now = self.now(task);
                self.take_off(task);
                if self.try_place(task, home) {
                    has_gone = true;
                } else if let Some(now) = now {
                    self.restore(task, now);
                }
            }
        }
        has_gone
    }

    /// How many of those evicted from these rows could run there if all newcomers of their priority or lower
    /// were gone: nobody who may preempt them needs their room.
    pub(crate) fn unjustified(&self, rows: &BTreeSet<usize>) -> usize {
        let from_here = rows.iter().filter_map(|row| Some((row, self.left.get(row)?)));
        from_here
            .flat_map(|(&row, left)| left.iter().map(move |&task| (task, row)))
            .filter(|&(task, row)| !self.is_justified(task, row))
            .count()
    }

    fn is_justified(&self, victim: TaskId, home: usize) -> bool {
        let snapshot = self.draft.snapshot();
        let mut room = snapshot.free(home);
        for &other in snapshot.tasks_on(home) {
            let is_newcomer = self.start.placement(other).is_none_or(|at| at.row != home);
            if is_newcomer && self.priority(other) <= self.priority(victim) {
                give_back(&mut room, &snapshot.charged(other));
            }
        }
        !fits(&snapshot.charged(victim), &room)
    }

    /// What a task makes up of the objective.
    fn part(&mut self, task: TaskId) -> Score {
        let mut score = Score::default();
        let level = level(self.objective.priority(task));
        let worth = self.objective.worth(task);
        let now = self.now(task);
        if self.start.placement(task).is_some() {
            if self.evicted.contains_key(&task) {
                score.lost[level] = self.objective.lost(task);
                score.victim_count = 1;
                score.net[level] = if now.is_none() { -i128::from(worth) } else { 0 };
            }
        } else if let Some(now) = now {
            score.net[level] = i128::from(worth);
            score.running[level] = worth;
            score.preference = millionths(self.draft.preference(task, now.row));
        }
        score
    }
}

pub(crate) fn fits(charge: &Signed, room: &Signed) -> bool {
    charge.iter().zip(room).all(|(&asked, &free)| asked <= 0 || asked <= free)
}

pub(crate) fn give_back(room: &mut Signed, charge: &Signed) {
    for (room, &charge) in room.iter_mut().zip(charge).filter(|(room, _)| **room != i64::MAX) {
        *room += charge;
    }
}

pub(crate) fn take(room: &mut Signed, charge: &Signed) {
    for (room, &charge) in room.iter_mut().zip(charge).filter(|(room, _)| **room != i64::MAX) {
        *room -= charge;
    }
}

//! Which tasks began to start and to stop, as entries are applied: what nobody says, but borglets would see.

use std::collections::BTreeSet;

use cell::TaskId;
use cell::borglet::{Incarnation, TaskKey};
use cell::live::{Change, Phase, State};

/// A task that begins something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// It was told to start.
    Starting(TaskKey, Incarnation),
    /// It was told to stop.
    Stopping(TaskKey, Incarnation),
}

/// What is looked at again after each entry.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Tasks whose place is chosen, and that wait for room there.
    assigned: BTreeSet<TaskKey>,
}

impl Watch {
    /// What is starting and stopping in a state, and what will be.
    pub(super) fn begin(&mut self, state: &State) -> Vec<Begun> {
        let mut begun = Vec::new();
        for (_, machine) in state.machines() {
            for &(_, id) in machine.tasks() {
                self.look(state, id, &mut begun);
            }
        }
        begun
    }

    /// What began with the changes of an entry.
    pub(super) fn follow(&mut self, state: &State, changes: &[Change]) -> Vec<Begun> {
        let mut begun = Vec::new();
        for change in changes {
            match *change {
                Change::Placed(id) | Change::Removed(id) => {
                    // The job may be gone by the end of the entry.
                    let tasks = state.cell().jobs.get(id.job.index()).map(|job| job.tasks.len());
                    if tasks.is_some_and(|count| (id.position as usize) < count) {
                        self.look(state, id, &mut begun);
                    }
                }
                Change::Job(_)
                | Change::JobGone(_)
                | Change::Recharged(..)
                | Change::Waits(_)
                | Change::Machines
                | Change::Restored
                | Change::Open(..)
                | Change::Wanted(..) => {}
            }
        }
        let assigned = std::mem::take(&mut self.assigned);
        for id in assigned.into_iter().filter_map(|key| state.task_id(key)) {
            self.look(state, id, &mut begun);
        }
        begun.sort_by_key(|begun| match *begun {
            Begun::Starting(key, incarnation) | Begun::Stopping(key, incarnation) => {
                (key, incarnation)
            }
        });
        begun.dedup();
        begun
    }

    fn look(&mut self, state: &State, id: TaskId, begun: &mut Vec<Begun>) {
        // An alloc starts and stops by itself.
        if state.job_at(id.job).kind == cell::JobKind::AllocSet {
            return;
        }
        let key = state.key(id);
        match state.record(id).phase {
            Phase::Assigned(_) => drop(self.assigned.insert(key)),
            Phase::Running { place, started_at: None, .. } => {
                begun.push(Begun::Starting(key, place.incarnation));
            }
            Phase::Stopping { place, .. } => begun.push(Begun::Stopping(key, place.incarnation)),
            Phase::Running { .. } | Phase::Waiting { .. } | Phase::Dead { .. } => {}
        }
    }
}

//! What a snapshot of the live state owns, kept current while entries of the log are applied.
//!
//! In: the state and the changes of each entry. Out: the [`Rooms`] that schedulers plan on, and whether more
//! can be placed by now than before. Machines that take no tasks are closed in them.

use std::sync::Arc;

use cell::live::{Change, State};
use cell::{Host, JobKind, TaskId};
use scheduler::{Accounting, Rooms, Slot, Snapshot};

/// Dead rows of allocs, as a share of all rows, at which the snapshot is built anew: one in so many.
const DEAD_ROW_SHARE: usize = 4;

/// The rooms of a live state.
///
/// They are lent to passes without a copy. While a pass has them, changes are noted, and made once it has
/// given them back; who asks earlier gets a copy.
#[derive(Debug, Default)]
pub struct LiveRooms {
    /// `None`: to be built anew.
    rooms: Option<Arc<Rooms>>,
    /// Changes of the state that are not made in them yet.
    noted: Vec<Change>,
}

impl LiveRooms {
    /// Follows the changes of an entry; whether there may be room now for what found none before.
    pub fn follow(&mut self, state: &State, changes: &[Change]) -> bool {
        if self.rooms.is_none() {
            return !changes.is_empty();
        }
        let mut has_news = false;
        for change in changes {
            match change {
                Change::Wanted(..) | Change::JobGone(_) | Change::Job(_) | Change::Waits(_) => {}
                // Rows are machines in their order: more of them is another snapshot. After a restore the
                // changes before speak of a state that is gone.
                Change::Machines | Change::Restored => {
                    *self = Self::default();
                    return true;
                }
                Change::Placed(id) => {
                    self.noted.push(*change);
                    // An alloc is room for what runs in it.
                    let job = state.cell().jobs.get(id.job.index());
                    has_news |= job.is_some_and(|job| job.kind == JobKind::AllocSet);
                }
                Change::Open(_, false) | Change::Recharged(_, false) => self.noted.push(*change),
                Change::Removed(_) | Change::Recharged(_, true) | Change::Open(_, true) => {
                    self.noted.push(*change);
                    has_news = true;
                }
            }
        }
        if let Some(rooms) = self.rooms.as_mut().and_then(Arc::get_mut) {
            settle(rooms, state, &mut self.noted);
        }
        has_news
    }

    /// The rooms of the state that was followed, built anew if need be.
    pub fn get(&mut self, state: &State) -> &Arc<Rooms> {
        if let Some(rooms) = &mut self.rooms
            && !self.noted.is_empty()
        {
            settle(Arc::make_mut(rooms), state, &mut self.noted);
        }
        let is_littered = |rooms: &Arc<Rooms>| {
            rooms.dead_row_count() * DEAD_ROW_SHARE > state.cell().machines.len()
        };
        if self.rooms.as_ref().is_some_and(is_littered) {
            self.rooms = None;
        }
        self.rooms.get_or_insert_with(|| Arc::new(build(state)))
    }
}

/// The rooms of a state, worked out from all of it.
fn build(state: &State) -> Rooms {
    let cell = state.cell();
    let mut rooms = Snapshot::empty(cell, &Slot::all(cell), Accounting::Recorded).into_rooms();
    // Allocs first, so that what runs in them finds its host.
    for wanted in [JobKind::AllocSet, JobKind::Job] {
        for (id, _, _) in cell.tasks().filter(|(_, job, _)| job.kind == wanted) {
            place(&mut rooms, state, id);
        }
    }
    for (id, _) in state.machines().filter(|(_, machine)| !machine.is_open()) {
        rooms.close(id.index());
    }
    rooms
}

/// Makes changes that were noted, by what the state has come to since: what was placed and removed again has
/// its last place by now, or none, and a slot may have gone to another job.
fn settle(rooms: &mut Rooms, state: &State, noted: &mut Vec<Change>) {
    let cell = state.cell();
    for change in noted.drain(..) {
        match change {
            Change::Placed(id) if rooms.placement(id).is_none() => place(rooms, state, id),
            Change::Removed(id) if rooms.placement(id).is_some() => drop(rooms.remove(id)),
            Change::Recharged(id, _) if rooms.placement(id).is_some() && state.has_task(id) => {
                rooms.recharge(cell, id);
            }
            Change::Open(machine, true) => rooms.open(machine.index()),
            Change::Open(machine, false) => rooms.close(machine.index()),
            Change::Placed(_)
            | Change::Removed(_)
            | Change::Recharged(..)
            | Change::Waits(_)
            | Change::Wanted(..)
            | Change::JobGone(_)
            | Change::Job(_)
            | Change::Machines
            | Change::Restored => {}
        }
    }
}

/// Puts a task where it has its place; nothing where it has none, or its host none.
fn place(rooms: &mut Rooms, state: &State, id: TaskId) {
    let place = state.has_task(id).then(|| state.task_place(id)).flatten();
    if let Some(place) = place
        && let Some(row) = row_of(rooms, place.on)
    {
        rooms.place_recorded(state.cell(), id, row, Some(place.gpu_devices));
    }
}

/// The row of a host; machines are rows in their order.
fn row_of(rooms: &Rooms, host: Host) -> Option<usize> {
    match host {
        Host::Machine(machine) => Some(machine.index()),
        Host::Alloc(alloc) => rooms.row_of_alloc(alloc),
    }
}

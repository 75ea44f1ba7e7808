//! What a snapshot of the live state owns, kept current while entries of the log are applied.
//!
//! In: the state and the changes of each entry. Out: the [`Rooms`] that schedulers plan on, and whether more
//! can be placed by now than before. Machines that take no tasks are closed in them.

use cell::Host;
use cell::live::{Change, State};
use scheduler::{Accounting, Rooms, Slot, Snapshot};

/// Dead rows of allocs, as a share of all rows, at which the snapshot is built anew: one in so many.
const DEAD_ROW_SHARE: usize = 4;

/// The rooms of a live state.
#[derive(Debug, Default)]
pub struct LiveRooms {
    /// `None`: to be built anew.
    rooms: Option<Rooms>,
}

impl LiveRooms {
    /// Follows the changes of an entry; whether what waits may find a place now that it had not before.
    pub fn follow(&mut self, state: &State, changes: &[Change]) -> bool {
        let Some(mut rooms) = self.rooms.take() else { return !changes.is_empty() };
        // The changes before it speak of a state that is gone.
        if changes.contains(&Change::Restored) {
            return true;
        }
        let mut has_news = false;
        let cell = state.cell();
        for change in changes {
            match *change {
                Change::Wanted(_) | Change::JobGone(_) => {}
                // Rows are machines in their order: more of them is another snapshot.
                Change::Machines | Change::Restored => return true,
                Change::Job(_) => has_news = true,
                // What was placed and removed again by the same entry has its last place by now, or none.
                Change::Placed(id) => {
                    if let Some(place) = state.task_place(id)
                        && rooms.placement(id).is_none()
                        && let Some(row) = row_of(&rooms, place.on)
                    {
                        rooms.place_recorded(cell, id, row, Some(place.gpu_devices));
                    }
                }
                Change::Removed(id) => {
                    if rooms.placement(id).is_some() {
                        rooms.remove(id);
                    }
                    has_news = true;
                }
                Change::Recharged(id) => {
                    if rooms.placement(id).is_some() {
                        rooms.recharge(cell, id);
                    }
                    has_news = true;
                }
                Change::Open(machine, true) => {
                    rooms.open(machine.index());
                    has_news = true;
                }
                Change::Open(machine, false) => rooms.close(machine.index()),
            }
        }
        self.rooms = Some(rooms);
        has_news
    }

    /// The rooms of the state that was followed, built anew if need be.
    pub fn get(&mut self, state: &State) -> &Rooms {
        let is_littered =
            |rooms: &Rooms| rooms.dead_row_count() * DEAD_ROW_SHARE > state.cell().machines.len();
        if self.rooms.as_ref().is_some_and(is_littered) {
            self.rooms = None;
        }
        self.rooms.get_or_insert_with(|| {
            let cell = state.cell();
            let mut snapshot = Snapshot::recorded(cell, &Slot::all(cell), Accounting::Recorded);
            for (id, machine) in state.machines() {
                if !machine.is_open() {
                    snapshot.close(id.index());
                }
            }
            snapshot.into_rooms()
        })
    }
}

/// The row of a host; machines are rows in their order.
fn row_of(rooms: &Rooms, host: Host) -> Option<usize> {
    match host {
        Host::Machine(machine) => Some(machine.index()),
        Host::Alloc(alloc) => rooms.row_of_alloc(alloc),
    }
}

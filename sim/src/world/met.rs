//! What crashes meet: the part of the coverage matrix that the network does not count, and crashes that wait
//! for a certain operation, so that rare ones are met too.
//!
//! Something has a crash before it if who would carry it out dies while it is on its way, and a crash after it
//! if who carried it out dies soon afterwards.

use super::*;
use crate::coverage::{self, op_row};

/// What was done so long before a crash, in milliseconds of virtual time, has a crash after it.
const SOON_MS: u64 = 1_000;
/// Of the operations in the log so many have a crash after them.
const SOON_ENTRY_COUNT: u64 = 3;

/// A crash that waits for an operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Armed {
    row: &'static str,
    /// Whether it comes once the operation is in the leader's log, or once it is carried out.
    is_before: bool,
    is_torn: bool,
    /// How long the replica then stays down, in milliseconds.
    lasts: u64,
    /// Up to where the log was looked through.
    seen: u64,
}

impl World {
    /// Somebody did something.
    pub(super) fn did(&mut self, place: Place, row: &'static str) {
        self.done.insert((place, row), self.now);
    }

    /// A replica, a machine or a client is about to die.
    pub(super) fn meet_crash(&mut self, place: Place) {
        let mut before: BTreeSet<&'static str> = BTreeSet::new();
        let mut after: BTreeSet<&'static str> = BTreeSet::new();
        for event in self.queue.iter() {
            if let Some((to, row)) = self.carries(event)
                && to == place
            {
                before.insert(row);
            }
        }
        let all = self.done.range((place, "")..);
        for (&(of, row), &at) in all.take_while(|((of, _), _)| *of == place) {
            if of == place && at + SOON_MS >= self.now {
                after.insert(row);
            }
        }
        if let Place::Master(id) = place
            && let Some(server) = self.masters.get(&id).and_then(|master| master.server.as_ref())
        {
            let node = server.node();
            before.extend(rows_of(&node.uncommitted()));
            let index = server.state().index();
            let recent = node.entries_from((index + 1).saturating_sub(SOON_ENTRY_COUNT));
            after.extend(rows_of(&recent));
            if node.is_sending_snapshot() {
                before.insert("timer transfer");
            }
            if self.masters[&id].disk.checkpoint.is_some() {
                before.insert("timer checkpoint");
            }
        }
        for row in before {
            self.summary.coverage.met(row, Column::CrashBefore);
        }
        for row in after {
            self.summary.coverage.met(row, Column::CrashAfter);
        }
    }

    /// To whom an event is on its way, and as which row it counts.
    fn carries(&self, event: &Event) -> Option<(Place, &'static str)> {
        match event {
            Event::Master { id, start, what } => {
                let is_meant = self.masters.get(id).is_some_and(|master| master.start == *start);
                let row = what.row().filter(|_| is_meant)?;
                Some((Place::Master(*id), row))
            }
            Event::Machine { machine, input, .. } => {
                Some((Place::Machine(*machine), row_of_input(input)?))
            }
            Event::Wake(machine) => Some((Place::Machine(*machine), "timer borglet")),
            Event::Client { client, what } => {
                let row = match what {
                    ToClient::Answer { .. } => "rpc answer",
                    ToClient::Think | ToClient::Patience { .. } | ToClient::Retry { .. } => {
                        "timer client"
                    }
                };
                Some((Place::Client(*client), row))
            }
            Event::Restart(_) | Event::Fault | Event::Restoring | Event::FaultEnds(..) => None,
        }
    }

    /// The operations that a replica has in its log and that are not committed.
    pub(super) fn under_way(&self, id: u64) -> BTreeSet<&'static str> {
        let server = self.masters.get(&id).and_then(|master| master.server.as_ref());
        server.map(|server| rows_of(&server.node().uncommitted())).unwrap_or_default()
    }

    /// Lets a crash wait for an operation.
    pub(super) fn arm(&mut self, is_torn: bool, lasts: u64) {
        let others = [
            "timer transfer",
            "timer checkpoint",
            "rpc refusal",
            "rpc answer",
            "rpc poll",
            "rpc wanted",
        ];
        // Restores are rare, and bring crashes of their own: see [`World::arm_for`].
        let can_meet = |row: &&str| {
            coverage::reason(row, Column::CrashBefore).is_none() && !row.starts_with("op restore")
        };
        // What clients do all the time meets crashes that wait for nothing, too.
        let rare = [
            "op open session",
            "op set quota",
            "op set capabilities",
            "op add machines",
            "op drain",
            "op repair",
            "op remove machine",
            "op configure",
        ];
        let ops: Vec<&str> = coverage::OPS.into_iter().filter(can_meet).chain(rare).collect();
        let rows = if self.random.random_range(0..3) == 0 { &others[..] } else { &ops[..] };
        let row = rows[self.random.random_range(0..rows.len())];
        let is_before = self.random.random_range(0..2) == 0;
        self.armed = Some(Armed { row, is_before, is_torn, lasts, seen: u64::MAX });
    }

    /// Lets a crash wait for an operation of a restore, in place of whatever waited.
    pub(super) fn arm_for(&mut self, row: &'static str) {
        let random = &mut self.restores.random;
        let (is_before, is_torn) = (random.random_range(0..2) == 0, random.random_range(0..2) == 0);
        let lasts = random.random_range(500..15_000);
        self.armed = Some(Armed { row, is_before, is_torn, lasts, seen: u64::MAX });
    }

    /// A replica took a step: if it leads, the crash that waits may be due.
    pub(super) fn fire(&mut self, id: u64) {
        let Some(mut armed) = self.armed.filter(|_| self.leader == Some(id)) else { return };
        let server = self.masters.get(&id).and_then(|master| master.server.as_ref());
        let Some(server) = server.filter(|server| server.node().leads().is_some()) else { return };
        let node = server.node();
        let is_due = match armed.row {
            "timer transfer" if armed.is_before => node.is_sending_snapshot(),
            "timer checkpoint" if armed.is_before => self.masters[&id].disk.checkpoint.is_some(),
            row if row.starts_with("timer") => {
                let at = self.done.get(&(Place::Master(id), row));
                at.is_some_and(|&at| at + SOON_MS >= self.now)
            }
            // As they are sent: see [`World::fire_before`].
            row if row.starts_with("rpc") => false,
            row => {
                let reached =
                    if armed.is_before { node.last_index() } else { server.state().index() };
                if reached == armed.seen {
                    return;
                }
                let entries = match armed.is_before {
                    true => node.uncommitted(),
                    false => node.entries_from(armed.seen.saturating_add(1)),
                };
                armed.seen = reached;
                rows_of(&entries).contains(row)
            }
        };
        self.armed = Some(armed);
        if !is_due {
            return;
        }
        self.go_off(id, armed);
    }

    /// A message is on its way: the crash of its receiver that waits may be due.
    pub(super) fn fire_before(&mut self, to: Place, row: &str) {
        let Some(armed) = self.armed.filter(|armed| armed.row == row) else { return };
        match to {
            Place::Master(id) => self.go_off(id, armed),
            Place::Client(client) if client > 0 => {
                self.armed = None;
                let places = self.restart_client(client);
                *self.summary.faults.entry(Fault::ClientRestart).or_default() += 1;
                self.push(armed.lasts, Event::FaultEnds(Fault::ClientRestart, places));
            }
            Place::Client(_) => {}
            Place::Machine(machine) => {
                self.armed = None;
                self.reboot(machine);
                *self.summary.faults.entry(Fault::MachineReboot).or_default() += 1;
            }
        }
    }

    /// A machine goes down and comes up again.
    pub(super) fn reboot(&mut self, machine: u32) {
        self.meet_crash(Place::Machine(machine));
        self.machines.borglets[machine as usize].reboot(self.now);
        self.settle_wake(machine);
    }

    /// A client dies; it, if it has to be told to go on.
    pub(super) fn restart_client(&mut self, client: u32) -> Vec<Place> {
        self.meet_crash(Place::Client(client));
        // One that thinks goes on thinking.
        let asks = self.clients[client as usize].current.is_some();
        self.clients[client as usize].restart();
        asks.then_some(Place::Client(client)).into_iter().collect()
    }

    fn go_off(&mut self, id: u64, armed: Armed) {
        if self.masters.get(&id).is_none_or(|master| master.server.is_none()) {
            return;
        }
        self.armed = None;
        let fault = if armed.is_torn { Fault::TornWrite } else { Fault::Crash };
        self.crash(id, armed.is_torn);
        *self.summary.faults.entry(fault).or_default() += 1;
        let when = if armed.is_before { "before" } else { "after" };
        self.trace.note(self.now, format_args!("{} {when} {}", fault.name(), armed.row));
        self.push(armed.lasts, Event::FaultEnds(fault, vec![Place::Master(id)]));
    }
}

impl ToMaster {
    /// As which row of the coverage matrix it counts.
    pub(super) fn row(&self) -> Option<&'static str> {
        Some(match self {
            Self::Tick => "timer tick",
            Self::Message { .. } => "rpc raft",
            Self::DiskDone { .. } => "timer disk",
            Self::Plan(_) => "timer plan",
            Self::Checkpoint(_) => "timer checkpoint",
            Self::Ask { ask: Ask::Mutate(..), .. } => "rpc mutate",
            Self::Ask { ask: Ask::Read, .. } => "rpc read",
            Self::Report(..) => "rpc report",
            Self::Refusal(..) => "rpc refusal",
            Self::Settings => return None,
        })
    }
}

/// As which row a machine's input counts.
pub(super) fn row_of_input(input: &AgentInput) -> Option<&'static str> {
    match input {
        AgentInput::Poll(_) => Some("rpc poll"),
        AgentInput::Wanted(_) => Some("rpc wanted"),
        AgentInput::Persisted(_)
        | AgentInput::PersistFailed(_)
        | AgentInput::Task(..)
        | AgentInput::Tick => None,
    }
}

fn rows_of(entries: &[borgmaster_replica::Entry]) -> BTreeSet<&'static str> {
    let decoded = entries.iter().filter_map(|entry| borgmaster_core::decode(&entry.data).ok());
    decoded.flat_map(|entry| entry.commands).map(|command| op_row(&command.op)).collect()
}

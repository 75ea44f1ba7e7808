//! Follows the log as the first replica to reach each index applies it, and holds every invariant to it.

use std::collections::BTreeMap;

use borgmaster_core::decode;
use borgmaster_replica::EntryKind;
use borgmaster_replica::server::Server;
use cell::live::{Applied, Entry, Event, Rejected, State, What};

use crate::coverage::op_name;
use crate::history::History;
use crate::invariant::agreement::Agreement;
use crate::invariant::{self, Invariant, Step, Totals};

#[derive(Debug)]
pub(crate) struct Oracle {
    pub state: State,
    invariants: Vec<Box<dyn Invariant>>,
    agreement: Agreement,
    pub history: History,
    /// How often each kind of operation was applied.
    pub ops: BTreeMap<&'static str, u64>,
    /// How often the cell was restored.
    pub restored_count: u64,
}

impl Oracle {
    pub(crate) fn new() -> Self {
        let mut state = State::default();
        state.skip(1);
        Self {
            state,
            invariants: invariant::all(),
            agreement: Agreement::default(),
            history: History::default(),
            ops: BTreeMap::new(),
            restored_count: 0,
        }
    }

    /// A replica begins anew, from what its disk holds.
    pub(crate) fn begins(&mut self, replica: u64) {
        self.agreement.begins(replica);
    }

    /// A replica has taken a step: what it applied first is checked, and its state is compared.
    pub(crate) fn follow(&mut self, replica: u64, server: &Server) -> Result<(), String> {
        let reached = server.state().index();
        if reached > self.state.index() {
            let entries = server.node().entries_from(self.state.index() + 1);
            for entry in entries {
                if entry.index > reached {
                    break;
                }
                let is_normal = entry.kind == EntryKind::Normal && !entry.data.is_empty();
                let decoded = is_normal.then(|| decode(&entry.data)).transpose();
                let decoded = decoded.map_err(|error| error.to_string())?;
                self.apply(entry.index, decoded.as_ref())?;
            }
            if self.state.index() < reached {
                return Err(format!("replica {replica} skips entries before {reached}"));
            }
        }
        self.agreement.check(replica, server.state())
    }

    /// Somebody says that this was the state.
    pub(crate) fn was(&self, state: &State) -> Result<(), String> {
        let index = state.index();
        match self.agreement.at(index) {
            // A new cell's first state is of no entry.
            None if index <= 1 => Ok(()),
            Some(hash) if hash == state.hash() => Ok(()),
            None | Some(_) => Err(format!("a cell file has another state at {index} than the log")),
        }
    }

    fn apply(&mut self, index: u64, entry: Option<&Entry>) -> Result<(), String> {
        let before = Totals {
            machines: self.state.machine_counts(),
            is_mass_loss: self.state.is_mass_loss(),
        };
        let applied = match entry {
            Some(entry) => {
                for invariant in &mut self.invariants {
                    invariant.prepare(entry, &self.state);
                }
                self.state.apply(index, entry)
            }
            None => {
                self.state.skip(index);
                Applied::default()
            }
        };
        for (request, outcome) in &applied.answers {
            let Some(request) = request else { continue };
            // A session is opened anew by each attempt; and what came late was not carried out.
            let is_late = matches!(
                outcome,
                Err(Rejected::Answered(_) | Rejected::NoSession(_) | Rejected::TooManyAnswers(_))
            );
            if request.session != 0 && !is_late {
                let name = (request.session, request.sequence);
                self.history.carried_out(name, index, outcome)?;
            }
        }
        for command in entry.into_iter().flat_map(|entry| &entry.commands) {
            *self.ops.entry(op_name(&command.op)).or_default() += 1;
        }
        let is_restored = |event: &&Event| matches!(event.what, What::Restored { .. });
        self.restored_count += applied.events.iter().filter(is_restored).count() as u64;
        self.agreement.first(index, self.state.hash());
        let step = Step { index, entry, applied: &applied, before: &before, state: &self.state };
        for invariant in &mut self.invariants {
            if let Err(how) = invariant.check(&step) {
                return Err(format!("{}: at entry {index}: {how}", invariant.name()));
            }
        }
        Ok(())
    }
}

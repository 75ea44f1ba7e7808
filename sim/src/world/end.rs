//! The end: everything heals, and everything has to converge.

use super::*;

impl World {
    pub(super) fn heal(&mut self) -> Result<(), String> {
        self.is_healing = true;
        self.trace.note(self.now, format_args!("everything heals"));
        self.network.heal();
        self.cut_off.clear();
        for borglet in &mut self.machines.borglets {
            borglet.disk_is_full = false;
        }
        for id in self.masters.keys().copied().collect::<Vec<_>>() {
            if let Some(master) = self.masters.get_mut(&id) {
                master.disk.is_slow = false;
                master.engine.is_full = false;
                master.frozen_until = 0;
                master.skew_ms = 0;
            }
            self.begin(id)?;
        }
        let names = (0..self.machines.borglets.len()).map(|i| u32::try_from(i).expect("few"));
        self.restores.waiting = None;
        // What was restored has to converge like anything else.
        let mut ops = self.restores.operations().unwrap_or_default();
        ops.push(self.machines.addition());
        ops.extend(names.map(|i| Op::Repair { machine: machines::name(i) }));
        self.clients[0].follows(ops);
        self.push(100, Event::Client { client: 0, what: ToClient::Think });
        Ok(())
    }

    /// What has not converged yet.
    pub(super) fn missing(&mut self) -> Option<String> {
        if !self.clients[0].is_through() {
            return Some("machines are not all back in service".to_owned());
        }
        let reached = self.oracle.state.index();
        let members = self.masters.values().filter_map(|master| master.server.as_ref());
        let members = members
            .filter(|server| server.node().leads().is_some())
            .map(|server| server.node().members().clone());
        let Some(members) = members.last() else { return Some("nobody leads".to_owned()) };
        for (id, master) in &self.masters {
            if !members.contains(*id) {
                continue;
            }
            let index = master.server.as_ref().map(|server| server.state().index());
            // The log goes on all the time: a little behind is no sign of anything.
            if index.is_none_or(|index| index + 20 < reached) {
                return Some(format!("replica {id} is at {index:?} of {reached}"));
            }
        }
        let id = self.leader?;
        let master = self.masters.get_mut(&id)?;
        let now = master.clock(self.now);
        let server = master.server.as_mut().filter(|server| server.node().leads().is_some());
        let Some(server) = server else { return Some("nobody leads".to_owned()) };
        let state = server.state().clone();
        let borglets = &self.machines.borglets;
        server
            .core_mut()
            .with_snapshot(|snapshot| convergence::missing(&state, snapshot, borglets, now))
    }
}

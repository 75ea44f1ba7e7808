//! Faults begin and end.

use super::*;

impl World {
    pub(super) fn fault(&mut self) -> Result<(), String> {
        if self.is_healing {
            return Ok(());
        }
        let (fault, lasts) = Fault::draw(&mut self.random);
        let is_crash = matches!(fault, Fault::Crash | Fault::TornWrite);
        if is_crash && self.armed.is_none() && self.random.random_range(0..4) > 0 {
            self.arm(fault == Fault::TornWrite, lasts);
        } else {
            self.start_fault(fault, lasts)?;
        }
        let wait = self.random.random_range(1_000..18_000);
        self.push(wait, Event::Fault);
        Ok(())
    }

    /// Begins a fault, if it applies now, that lasts for so long.
    pub(super) fn start_fault(&mut self, fault: Fault, lasts: u64) -> Result<(), String> {
        if let Some(places) = self.begin_fault(fault)? {
            *self.summary.faults.entry(fault).or_default() += 1;
            self.trace.note(self.now, format_args!("{} of {places:?}", fault.name()));
            self.push(lasts, Event::FaultEnds(fault, places));
        }
        Ok(())
    }

    pub(super) fn any_master(&mut self) -> u64 {
        let ids: Vec<u64> = self.masters.keys().copied().collect();
        ids[self.random.random_range(0..ids.len())]
    }

    /// The leader half of the time, else any.
    pub(super) fn likely_leader(&mut self) -> u64 {
        match self.leader.filter(|id| self.masters.contains_key(id)) {
            Some(leader) if self.random.random_range(0..2) == 0 => leader,
            _ => self.any_master(),
        }
    }

    pub(super) fn any_machine(&mut self) -> u32 {
        let count = u32::try_from(self.machines.borglets.len()).expect("few");
        self.random.random_range(0..count)
    }

    /// Begins a fault; where. `None`: it does not apply now.
    pub(super) fn begin_fault(&mut self, fault: Fault) -> Result<Option<Vec<Place>>, String> {
        let places = match fault {
            Fault::Loss => {
                self.network.loss = self.random.random_range(20..300);
                Vec::new()
            }
            Fault::Delay => {
                self.network.hold_up = self.random.random_range(20..300);
                Vec::new()
            }
            Fault::Repeat => {
                self.network.repeat = self.random.random_range(20..400);
                Vec::new()
            }
            Fault::Partition => {
                let place = Place::Master(self.likely_leader());
                self.cut(place, true, true, false);
                vec![place]
            }
            Fault::OneWayPartition => {
                let place = Place::Master(self.likely_leader());
                let is_deaf = self.random.random_range(0..2) == 0;
                self.cut(place, is_deaf, !is_deaf, false);
                vec![place]
            }
            Fault::SplitBrain => {
                let place = Place::Master(self.likely_leader());
                self.cut(place, true, true, true);
                vec![place]
            }
            Fault::Crash | Fault::TornWrite => {
                let id = self.likely_leader();
                self.crash(id, fault == Fault::TornWrite);
                vec![Place::Master(id)]
            }
            Fault::PowerCut => {
                let ids: Vec<u64> = self.masters.keys().copied().collect();
                for &id in &ids {
                    self.crash(id, false);
                }
                ids.into_iter().map(Place::Master).collect()
            }
            Fault::SlowDisk | Fault::FullDisk => {
                let id = self.likely_leader();
                if let Some(master) = self.masters.get_mut(&id) {
                    master.disk.is_slow |= fault == Fault::SlowDisk;
                    master.engine.is_full |= fault == Fault::FullDisk;
                }
                vec![Place::Master(id)]
            }
            Fault::ClockSkew => {
                let id = self.any_master();
                let skew = self.random.random_range(-300_000..300_000);
                if let Some(master) = self.masters.get_mut(&id) {
                    master.skew_ms = skew;
                }
                vec![Place::Master(id)]
            }
            Fault::FrozenLeader => {
                let id = self.likely_leader();
                let until = self.now + self.random.random_range(500..20_000);
                if let Some(master) = self.masters.get_mut(&id) {
                    master.frozen_until = until;
                }
                vec![Place::Master(id)]
            }
            Fault::Transfer => {
                let to = self.any_master();
                let Some(leader) = self.leader else { return Ok(None) };
                self.input(leader, Input::Transfer { to })?;
                vec![Place::Master(to)]
            }
            Fault::MachineCutOff | Fault::MassLoss => {
                let all = self.machines.borglets.len();
                let count = if fault == Fault::MassLoss { all * 2 / 3 } else { 1 };
                let mut places = Vec::new();
                for _ in 0..count {
                    let machine = self.any_machine();
                    self.cut_off.insert(machine);
                    places.push(Place::Machine(machine));
                }
                for &place in &places {
                    self.cut(place, true, true, false);
                }
                places
            }
            Fault::MachineReboot => {
                let machine = self.any_machine();
                self.reboot(machine);
                vec![Place::Machine(machine)]
            }
            Fault::BorgletRestart => {
                let machine = self.any_machine();
                self.meet_crash(Place::Machine(machine));
                self.machines.borglets[machine as usize].restart(self.now);
                self.settle_wake(machine);
                vec![Place::Machine(machine)]
            }
            Fault::BorgletDiskFull => {
                let machine = self.any_machine();
                self.machines.borglets[machine as usize].disk_is_full = true;
                vec![Place::Machine(machine)]
            }
            Fault::ClientRestart => {
                let client = self.random.random_range(1..CLIENT_COUNT);
                self.restart_client(client)
            }
            Fault::Checkpoint => {
                let id = self.any_master();
                if let Some(server) = self.masters.get_mut(&id).and_then(|m| m.server.as_mut()) {
                    server.checkpoint();
                }
                vec![Place::Master(id)]
            }
            Fault::Replacement => return self.replace(),
        };
        Ok(Some(places))
    }

    /// A new replica comes, with an empty disk; once it has caught up it takes the place of another.
    pub(super) fn replace(&mut self) -> Result<Option<Vec<Place>>, String> {
        let Some(leader) = self.leader else { return Ok(None) };
        let server = self.masters.get(&leader).and_then(|master| master.server.as_ref());
        let Some(server) = server.filter(|server| server.node().leads().is_some()) else {
            return Ok(None);
        };
        let members = server.node().members().clone();
        let change = if let Some(&learner) = members.learners.first() {
            let others = members.voters.iter().filter(|&&id| id != leader);
            let Some(&old) = others.min() else { return Ok(None) };
            Membership::Replace { new: learner, old }
        } else if self.masters.keys().any(|&id| !members.contains(id)) {
            // A replica that was replaced goes away.
            let gone: Vec<u64> =
                self.masters.keys().copied().filter(|&id| !members.contains(id)).collect();
            for id in gone {
                self.crash(id, false);
                self.masters.remove(&id);
            }
            return Ok(None);
        } else {
            let id = self.next_replica;
            self.next_replica += 1;
            self.masters.insert(id, Master::new(id, None));
            self.begin(id)?;
            Membership::AddLearner { id, address: format!("replica-{id}") }
        };
        let token = Token(self.next_token);
        self.next_token += 1;
        self.input(leader, Input::Membership { token, change })?;
        Ok(Some(vec![Place::Master(leader)]))
    }

    /// Cuts a place off: it no longer hears, or is no longer heard; of masters only by others of their kind,
    /// unless also by everybody else.
    pub(super) fn cut(
        &mut self,
        place: Place,
        hears_not: bool,
        is_not_heard: bool,
        keeps_clients: bool,
    ) {
        let mut others: Vec<Place> = self.masters.keys().map(|&id| Place::Master(id)).collect();
        if matches!(place, Place::Master(_)) && !keeps_clients {
            others.extend((0..CLIENT_COUNT).map(Place::Client));
            let count = u32::try_from(self.machines.borglets.len()).expect("few");
            others.extend((0..count).map(Place::Machine));
        }
        for other in others {
            if other != place && hears_not {
                self.network.cut.insert((other, place));
            }
            if other != place && is_not_heard {
                self.network.cut.insert((place, other));
            }
        }
    }

    pub(super) fn end_fault(&mut self, fault: Fault, places: &[Place]) {
        match fault {
            Fault::Loss => self.network.loss = 0,
            Fault::Delay => self.network.hold_up = 0,
            Fault::Repeat => self.network.repeat = 0,
            Fault::Partition
            | Fault::OneWayPartition
            | Fault::SplitBrain
            | Fault::MachineCutOff
            | Fault::MassLoss => {
                let is_of = |place: &Place| places.contains(place);
                self.network.cut.retain(|(from, to)| !is_of(from) && !is_of(to));
                for place in places {
                    if let Place::Machine(machine) = place {
                        self.cut_off.remove(machine);
                    }
                }
            }
            Fault::Crash | Fault::TornWrite | Fault::PowerCut => {
                for place in places {
                    if let Place::Master(id) = place {
                        self.push(0, Event::Restart(*id));
                    }
                }
            }
            Fault::SlowDisk | Fault::FullDisk | Fault::ClockSkew => {
                for place in places {
                    if let Place::Master(id) = place
                        && let Some(master) = self.masters.get_mut(id)
                    {
                        master.disk.is_slow &= fault != Fault::SlowDisk;
                        master.engine.is_full &= fault != Fault::FullDisk;
                        if fault == Fault::ClockSkew {
                            master.skew_ms = 0;
                        }
                    }
                }
            }
            Fault::BorgletDiskFull => {
                for place in places {
                    if let Place::Machine(machine) = place {
                        self.machines.borglets[*machine as usize].disk_is_full = false;
                    }
                }
            }
            Fault::ClientRestart => {
                for place in places {
                    if let Place::Client(client) = *place {
                        self.push(0, Event::Client { client, what: ToClient::Think });
                    }
                }
            }
            Fault::FrozenLeader
            | Fault::Transfer
            | Fault::MachineReboot
            | Fault::BorgletRestart
            | Fault::Checkpoint
            | Fault::Replacement => {}
        }
    }
}

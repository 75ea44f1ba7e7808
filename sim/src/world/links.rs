//! What passes between masters and machines, and the network that everything passes through.

use super::*;

impl World {
    pub(super) fn shard(&mut self, id: u64, input: ShardInput) -> Result<(), String> {
        let Some(master) = self.masters.get_mut(&id) else { return Ok(()) };
        let clock = master.clock(self.now);
        let start = master.start;
        let Some(shard) = &mut master.shard else { return Ok(()) };
        let outputs = shard.step(clock, input);
        for output in outputs {
            let (machine, input, row) = match output {
                ShardOutput::Poll(machine, poll) => (machine, AgentInput::Poll(poll), "rpc poll"),
                ShardOutput::Wanted(machine, wanted) => {
                    (machine, AgentInput::Wanted(wanted), "rpc wanted")
                }
                ShardOutput::Heard(heard) => {
                    self.input(id, Input::Heard(heard))?;
                    continue;
                }
                ShardOutput::Deposed { term } => {
                    self.trace.note(self.now, format_args!("replica {id} hears of term {term}"));
                    self.input(id, Input::Outranked { term })?;
                    continue;
                }
            };
            let machine = machine.0;
            self.send(Place::Master(id), Place::Machine(machine), row, |_| {
                Some(Event::Machine { machine, from: id, start, input: input.clone() })
            });
        }
        Ok(())
    }

    pub(super) fn at_machine(
        &mut self,
        machine: u32,
        from: u64,
        start: u64,
        input: AgentInput,
    ) -> Result<(), String> {
        if let Some(row) = met::row_of_input(&input) {
            self.did(Place::Machine(machine), row);
        }
        let actions = self.machines.input(self.now, machine, input)?;
        self.note_actions(machine, &actions);
        let id = MachineId(machine);
        for what in actions.into_iter().filter_map(Action::answer) {
            let row = if what.is_ok() { "rpc report" } else { "rpc refusal" };
            self.send(Place::Machine(machine), Place::Master(from), row, |_| {
                let what = match &what {
                    Ok(report) => ToMaster::Report(id, report.clone()),
                    Err(refusal) => ToMaster::Refusal(id, refusal.clone()),
                };
                Some(Event::Master { id: from, start, what })
            });
        }
        self.settle_wake(machine);
        Ok(())
    }

    pub(super) fn note_actions(&mut self, machine: u32, actions: &[Action]) {
        for action in actions {
            if let Action::Start(task) = action {
                let placement = task.incarnation.0;
                self.trace.note(
                    self.now,
                    format_args!("machine {machine} starts {} as {placement}", task.name),
                );
            }
        }
    }

    pub(super) fn settle_wake(&mut self, machine: u32) {
        let due = self.machines.borglets[machine as usize].next_ms();
        let planned = &mut self.wakes[machine as usize];
        if let Some(due) = due
            && planned.is_none_or(|at| due < at)
        {
            *planned = Some(due);
            let wait = due.saturating_sub(self.now);
            self.push(wait, Event::Wake(machine));
        }
    }

    pub(super) fn wake(&mut self, machine: u32) -> Result<(), String> {
        if self.wakes[machine as usize].is_none_or(|at| at > self.now) {
            return Ok(());
        }
        self.wakes[machine as usize] = None;
        self.did(Place::Machine(machine), "timer borglet");
        self.machines.advance(self.now, machine)?;
        self.settle_wake(machine);
        Ok(())
    }

    pub(super) fn send(
        &mut self,
        from: Place,
        to: Place,
        row: &'static str,
        event: impl Fn(&Self) -> Option<Event>,
    ) {
        let before = self.network.counts;
        let arrivals = self.network.deliver(from, to);
        let after = self.network.counts;
        let met = [
            (after.repeated > before.repeated, Column::Duplicate),
            (after.held_up > before.held_up, Column::Delay),
            (after.cut > before.cut, Column::Partition),
        ];
        // Clients ask one thing at a time: what they ask is overtaken by what others do.
        let way = (Some(from).filter(|from| !matches!(from, Place::Client(_))), to);
        let is_held_up = after.held_up > before.held_up;
        let last = arrivals.iter().max().map(|after| self.now + after);
        if met.iter().any(|(is_met, _)| *is_met) {
            let ops = match from {
                Place::Master(id) if row == "rpc raft" => self.under_way(id),
                Place::Master(_) | Place::Machine(_) | Place::Client(_) => BTreeSet::new(),
            };
            for (_, column) in met.iter().filter(|(is_met, _)| *is_met) {
                self.summary.coverage.met(row, *column);
                for op in &ops {
                    self.summary.coverage.met(op, *column);
                }
            }
            if let Some(at) = last.filter(|_| is_held_up) {
                let mut rows = ops;
                rows.insert(row);
                self.held_up.insert(way, HeldUp { at, rows });
            }
        }
        if let Some(last) = last.filter(|_| !is_held_up)
            && let Some(late) = self.held_up.remove(&way).filter(|late| late.at > last)
        {
            for row in late.rows {
                self.summary.coverage.met(row, Column::Reorder);
            }
        }
        let is_on_its_way = !arrivals.is_empty();
        for after in arrivals {
            if let Some(event) = event(self) {
                self.push(after, event);
            }
        }
        if is_on_its_way {
            self.fire_before(to, row);
        }
    }
}

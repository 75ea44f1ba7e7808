//! The clients' part in the world: what they ask, and what becomes of it.

use super::*;

impl World {
    pub(super) fn at_client(&mut self, client: u32, what: ToClient) -> Result<(), String> {
        let number = client as usize;
        let is_timer = !matches!(what, ToClient::Answer { .. });
        self.did(Place::Client(client), if is_timer { "timer client" } else { "rpc answer" });
        match what {
            ToClient::Think => {
                if self.is_healing && self.clients[number].is_through() {
                    return Ok(());
                }
                let floor = self.oracle.history.floor();
                let count = u32::try_from(self.machines.borglets.len()).expect("few");
                self.clients[number].next(floor, count);
                self.ask(client)?;
            }
            ToClient::Patience { attempt } => {
                if self.clients[number].attempt == attempt && self.clients[number].current.is_some()
                {
                    let masters: Vec<u64> = self.masters.keys().copied().collect();
                    self.clients[number].turn(&masters);
                    self.ask(client)?;
                }
            }
            ToClient::Retry { attempt } => {
                if self.clients[number].attempt == attempt && self.clients[number].current.is_some()
                {
                    self.ask(client)?;
                }
            }
            ToClient::Answer { attempt, answer, read } => {
                self.answered(client, attempt, &answer, read)?;
            }
        }
        Ok(())
    }

    pub(super) fn answered(
        &mut self,
        client: u32,
        attempt: u64,
        answer: &Answer,
        read: Option<u64>,
    ) -> Result<(), String> {
        let state = &mut self.clients[client as usize];
        let Some(current) = state.current.clone().filter(|_| state.attempt == attempt) else {
            return Ok(()); // Late: it has asked again, or has its answer.
        };
        match (&current.ask, answer) {
            (Ask::Mutate(request, op), Answer::Outcome(outcome)) => {
                self.trace.note(
                    self.now,
                    format_args!("client {client}: {} {}", op_name(op), outcome.is_ok()),
                );
                if request.session != 0 {
                    let name = (request.session, request.sequence);
                    self.oracle.history.acknowledged(name, current.floor, outcome, true)?;
                } else if let Ok(Done::Session(session)) = outcome {
                    self.oracle.history.opened(*session, client)?;
                }
            }
            (Ask::Read, Answer::Readable) => {
                let index = read.ok_or("a read was answered by nobody")?;
                let applied = self.oracle.state.index();
                self.oracle.history.read(current.floor, index, applied)?;
            }
            _ => {}
        }
        match state.answered(answer) {
            Next::Done => {
                let wait = self.clients[client as usize].thinks_ms();
                self.push(wait, Event::Client { client, what: ToClient::Think });
            }
            Next::Again => {
                self.push(10, Event::Client { client, what: ToClient::Retry { attempt } });
            }
            Next::Later => {
                let masters: Vec<u64> = self.masters.keys().copied().collect();
                self.clients[client as usize].turn(&masters);
                self.push(300, Event::Client { client, what: ToClient::Retry { attempt } });
            }
        }
        Ok(())
    }

    pub(super) fn ask(&mut self, client: u32) -> Result<(), String> {
        let state = &mut self.clients[client as usize];
        state.attempt += 1;
        let Some(current) = state.current.clone() else { return Ok(()) };
        let (attempt, id) = (state.attempt, state.master);
        if let Ask::Mutate(_, op) = &current.ask {
            self.meet_restore(op)?;
        }
        let row = match current.ask {
            Ask::Mutate(..) => "rpc mutate",
            Ask::Read => "rpc read",
        };
        self.send(Place::Client(client), Place::Master(id), row, |world| {
            let start = world.masters.get(&id)?.start;
            let what = ToMaster::Ask { client, attempt, ask: current.ask.clone() };
            Some(Event::Master { id, start, what })
        });
        let what = ToClient::Patience { attempt };
        self.push(CLIENT_PATIENCE_MS, Event::Client { client, what });
        Ok(())
    }
}

//! The world: everything that happens, in the order of its time.

use std::collections::{BTreeMap, BTreeSet};

use borglet_agent::{Action, Input as AgentInput};
use borgmaster_core::{LinkShard, PlanRequest, ShardInput, ShardOutput, Token};
use borgmaster_replica::CheckpointRequest;
use borgmaster_replica::engine::Engine;
use borgmaster_replica::node::Membership;
use borgmaster_replica::server::{Answer, Input, Output, first_write};
use cell::MachineId;
use cell::borglet::{Refusal, Report};
use cell::live::{Amounts, Op, Quota, Settings};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::clients::{Ask, Client, Next};
use crate::coverage::{Column, Coverage};
use crate::faults::Fault;
use crate::invariant::convergence;
use crate::machines::{self, Machines};
use crate::masters::{Master, Mutations, TICK_MS};
use crate::network::{Network, Place};
use crate::oracle::{Oracle, op_name};
use crate::tasks;
use crate::trace::Trace;
use crate::{Stream, stream};

/// How a run goes.
#[derive(Clone, Debug)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// How long the phase with faults lasts, in milliseconds of virtual time.
    pub faulty_ms: u64,
    /// The least number of operations that clients are answered.
    pub operation_count: u64,
    /// Bugs that are switched on.
    pub mutations: Mutations,
    /// Whether the trace is kept as text.
    pub keeps_trace: bool,
}

impl Options {
    /// A run as it usually is.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            faulty_ms: 600_000,
            operation_count: 1_000,
            mutations: Mutations::default(),
            keeps_trace: false,
        }
    }
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The hash of the trace.
    pub digest: u64,
    /// Virtual time in all, in milliseconds.
    pub virtual_ms: u64,
    /// Operations that clients were answered.
    pub acknowledged_count: u64,
    /// Reads that clients were answered.
    pub read_count: u64,
    /// Entries of the log.
    pub entry_count: u64,
    /// How often another replica began to lead.
    pub leader_count: u64,
    /// Tasks that were placed.
    pub placed_count: u64,
    /// How often each fault was met.
    pub faults: BTreeMap<Fault, u64>,
    /// How often each operation was applied.
    pub ops: BTreeMap<&'static str, u64>,
    /// What met what.
    pub coverage: Coverage,
    /// The trace, where it was asked for.
    pub trace: Option<String>,
}

/// An invariant did not hold, or the cell did not converge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// When, in milliseconds of virtual time.
    pub at_ms: u64,
    /// What did not hold.
    pub what: String,
    /// The trace, where it was asked for.
    pub trace: Option<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "seed {} fails at {} ms: {}", self.seed, self.at_ms, self.what)
    }
}

const CLIENT_COUNT: u32 = 8;
/// After so long without an answer a client asks somebody else.
const CLIENT_PATIENCE_MS: u64 = 3_000;
/// After healing everything has to have converged by then.
const CONVERGE_MS: u64 = 600_000;

#[derive(Debug)]
enum Event {
    Master {
        id: u64,
        start: u64,
        what: ToMaster,
    },
    /// A replica that died is started again.
    Restart(u64),
    Machine {
        machine: u32,
        from: u64,
        start: u64,
        input: AgentInput,
    },
    Wake(u32),
    Client {
        client: u32,
        what: ToClient,
    },
    Fault,
    FaultEnds(Fault, Vec<Place>),
}

#[derive(Debug)]
enum ToMaster {
    Tick,
    Message {
        from: u64,
        bytes: Vec<u8>,
    },
    DiskDone {
        number: u64,
        is_written: bool,
    },
    Plan(Box<PlanRequest>),
    Checkpoint(Box<CheckpointRequest>),
    Ask {
        client: u32,
        attempt: u64,
        ask: Ask,
    },
    Report(MachineId, Report),
    Refusal(MachineId, Refusal),
    /// The cell is new: its settings are brought in.
    Settings,
}

#[derive(Debug)]
enum ToClient {
    Think,
    Patience { attempt: u64 },
    Retry { attempt: u64 },
    Answer { attempt: u64, answer: Answer, read: Option<u64> },
}

struct World {
    options: Options,
    now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    pushed: u64,
    trace: Trace,
    network: Network,
    masters: BTreeMap<u64, Master>,
    machines: Machines,
    wakes: Vec<Option<u64>>,
    clients: Vec<Client>,
    oracle: Oracle,
    random: ChaCha8Rng,
    disk_random: ChaCha8Rng,
    asked: BTreeMap<Token, (u64, u32, u64)>,
    next_token: u64,
    is_healing: bool,
    summary: Summary,
    leader: Option<u64>,
    next_replica: u64,
    /// Machines that are cut off.
    cut_off: BTreeSet<u32>,
}

/// Runs the simulation.
///
/// # Errors
/// If an invariant does not hold, or the cell does not converge after healing.
pub fn run(options: &Options) -> Result<Summary, Failure> {
    let mut world = World::new(options.clone());
    match world.run() {
        Ok(()) => {
            let mut summary = std::mem::take(&mut world.summary);
            summary.digest = world.trace.digest();
            summary.virtual_ms = world.now;
            summary.acknowledged_count = world.oracle.history.acknowledged_count;
            summary.read_count = world.oracle.history.read_count;
            summary.entry_count = world.oracle.state.index();
            summary.placed_count = world.oracle.state.next_numbers().0 - 1;
            summary.ops = std::mem::take(&mut world.oracle.ops);
            summary.trace = world.trace.take_text();
            Ok(summary)
        }
        Err(what) => Err(Failure {
            seed: options.seed,
            at_ms: world.now,
            what,
            trace: world.trace.take_text(),
        }),
    }
}

impl World {
    fn new(options: Options) -> Self {
        let seed = options.seed;
        let mut random = stream(seed, Stream::Faults);
        let replica_count = if random.random_range(0..4) == 0 { 5 } else { 3 };
        let machine_count = random.random_range(6..13);
        let replicas: BTreeMap<u64, String> =
            (1..=replica_count).map(|id| (id, format!("replica-{id}"))).collect();
        let first = first_write(&replicas);
        let masters = replicas.keys().map(|&id| (id, Master::new(id, Some(&first)))).collect();
        let machines = Machines::new(seed, machine_count);
        let clients = (0..CLIENT_COUNT).map(|number| {
            let random = stream(scheduler::mix(seed ^ u64::from(number)), Stream::Clients);
            let script = if number == 0 { beginning(&machines) } else { Vec::new() };
            Client::new(number, random, script)
        });
        let mut oracle = Oracle::new();
        options.mutations.switch(&mut oracle.state);
        Self {
            now: 0,
            queue: BTreeMap::new(),
            pushed: 0,
            trace: Trace::new(options.keeps_trace),
            network: Network::new(stream(seed, Stream::Network)),
            wakes: vec![None; machines.borglets.len()],
            clients: clients.collect(),
            masters,
            machines,
            oracle,
            random,
            disk_random: stream(seed, Stream::Disk),
            asked: BTreeMap::new(),
            next_token: 1,
            is_healing: false,
            summary: Summary::default(),
            leader: None,
            next_replica: replica_count + 1,
            cut_off: BTreeSet::new(),
            options,
        }
    }

    fn push(&mut self, after_ms: u64, event: Event) {
        self.pushed += 1;
        self.queue.insert((self.now + after_ms, self.pushed), event);
    }

    fn run(&mut self) -> Result<(), String> {
        for id in self.masters.keys().copied().collect::<Vec<_>>() {
            self.begin(id)?;
        }
        for client in 0..CLIENT_COUNT {
            // The others come once the cell has been set up.
            let wait = if client == 0 { 1_000 } else { 8_000 + u64::from(client) * 100 };
            self.push(wait, Event::Client { client, what: ToClient::Think });
        }
        self.push(15_000, Event::Fault);
        while self.now < self.options.faulty_ms
            || self.oracle.history.acknowledged_count < self.options.operation_count
        {
            if self.now > 3 * self.options.faulty_ms {
                let count = self.oracle.history.acknowledged_count;
                return Err(format!("only {count} operations were answered"));
            }
            self.next()?;
        }
        self.heal()?;
        let deadline = self.now + CONVERGE_MS;
        let mut look_at = self.now + 10_000;
        loop {
            self.next()?;
            if self.now < look_at {
                continue;
            }
            look_at = self.now + 2_000;
            match self.missing() {
                None => return Ok(()),
                Some(what) if self.now > deadline => {
                    return Err(format!("it does not converge: {what}"));
                }
                Some(_) => {}
            }
        }
    }

    fn next(&mut self) -> Result<(), String> {
        let ((at, _), event) = self.queue.pop_first().ok_or("nothing happens any more")?;
        self.now = at;
        match event {
            Event::Master { id, start, what } => self.at_master(id, start, what),
            Event::Restart(id) => self.begin(id),
            Event::Machine { machine, from, start, input } => {
                self.at_machine(machine, from, start, input)
            }
            Event::Wake(machine) => self.wake(machine),
            Event::Client { client, what } => self.at_client(client, what),
            Event::Fault => self.fault(),
            Event::FaultEnds(fault, places) => {
                self.end_fault(fault, &places);
                Ok(())
            }
        }
    }

    // Masters.

    fn begin(&mut self, id: u64) -> Result<(), String> {
        let seed = scheduler::mix(self.options.seed);
        let Some(master) = self.masters.get_mut(&id) else { return Ok(()) };
        if master.server.is_some() {
            return Ok(());
        }
        master.begin(seed, &self.options.mutations)?;
        let start = master.start;
        self.trace.note(self.now, format_args!("replica {id} starts for the {start}. time"));
        let phase = id * 7 % TICK_MS;
        self.push(phase, Event::Master { id, start, what: ToMaster::Tick });
        Ok(())
    }

    fn at_master(&mut self, id: u64, start: u64, what: ToMaster) -> Result<(), String> {
        let Some(master) = self.masters.get_mut(&id) else { return Ok(()) };
        if master.server.is_none() || master.start != start {
            return Ok(());
        }
        if master.frozen_until > self.now {
            let wait = master.frozen_until - self.now;
            if matches!(what, ToMaster::Tick | ToMaster::DiskDone { .. }) {
                let row = if matches!(what, ToMaster::Tick) { "timer tick" } else { "timer disk" };
                self.summary.coverage.met(row, Column::Delay);
            }
            self.push(wait, Event::Master { id, start, what });
            return Ok(());
        }
        let input = match what {
            ToMaster::Tick => {
                self.push(TICK_MS, Event::Master { id, start, what: ToMaster::Tick });
                self.shard(id, ShardInput::Tick)?;
                Input::Tick
            }
            ToMaster::Message { from, bytes } => Input::Message { from, bytes },
            ToMaster::DiskDone { number, is_written } => {
                master.disk.busy = None;
                let input = if is_written {
                    master.engine.sync().map_err(|error| error.to_string())?;
                    Input::Persisted { number }
                } else {
                    Input::PersistFailed { number }
                };
                self.start_disk(id);
                input
            }
            ToMaster::Plan(request) => Input::Planned(request.run()),
            ToMaster::Checkpoint(request) => Input::Checkpointed(request.run()),
            ToMaster::Ask { client, attempt, ask } => {
                let token = Token(self.next_token);
                self.next_token += 1;
                self.asked.insert(token, (id, client, attempt));
                match ask {
                    Ask::Mutate(request, op) => Input::Mutate { token, request, op },
                    Ask::Read => Input::Read { token },
                }
            }
            ToMaster::Settings => Input::Own(Op::Configure(settings())),
            ToMaster::Report(machine, report) => {
                return self.shard(id, ShardInput::Report(machine, report));
            }
            ToMaster::Refusal(machine, refusal) => {
                return self.shard(id, ShardInput::Refused(machine, refusal));
            }
        };
        self.input(id, input)
    }

    fn input(&mut self, id: u64, input: Input) -> Result<(), String> {
        let Some(master) = self.masters.get_mut(&id) else { return Ok(()) };
        let clock = master.clock(self.now);
        let Some(server) = &mut master.server else { return Ok(()) };
        let mut out = Vec::new();
        server.input(clock, input, &mut out);
        server.drain(clock, &mut out);
        self.oracle.follow(id, server)?;
        let start = master.start;
        for output in out {
            self.carry_out(id, start, output)?;
        }
        Ok(())
    }

    fn carry_out(&mut self, id: u64, start: u64, output: Output) -> Result<(), String> {
        match output {
            Output::Persist(write) => {
                let Some(master) = self.masters.get_mut(&id) else { return Ok(()) };
                if master.disk.failed == Some(write.number) {
                    master.disk.failed = None;
                }
                if master.disk.failed.is_none() {
                    master.disk.queue.push_back(write);
                    self.start_disk(id);
                }
            }
            Output::Send { to, bytes } => {
                let (from, to) = (Place::Master(id), Place::Master(to));
                self.send(from, to, "rpc raft", |world| {
                    let Place::Master(to) = to else { return None };
                    let start = world.masters.get(&to)?.start;
                    let what = ToMaster::Message { from: id, bytes: bytes.clone() };
                    Some(Event::Master { id: to, start, what })
                });
            }
            Output::Answer { token, answer } => {
                let Some((_, client, attempt)) = self.asked.remove(&token) else { return Ok(()) };
                let server = self.masters.get(&id).and_then(|master| master.server.as_ref());
                let read = server.map(|server| server.state().index());
                let (from, to) = (Place::Master(id), Place::Client(client));
                self.send(from, to, "rpc answer", |_| {
                    let what = ToClient::Answer { attempt, answer: answer.clone(), read };
                    Some(Event::Client { client, what })
                });
            }
            Output::Event(_) | Output::Machines => {}
            Output::Wanted(wanted) => self.shard(id, ShardInput::Wanted(wanted))?,
            Output::Plan(request) => {
                let wait = self.disk_random.random_range(1..60);
                self.push(wait, Event::Master { id, start, what: ToMaster::Plan(request) });
            }
            Output::Checkpoint(request) => {
                let wait = self.disk_random.random_range(1..60);
                self.push(wait, Event::Master { id, start, what: ToMaster::Checkpoint(request) });
            }
            Output::Leads(term) => {
                let mut is_new_cell = false;
                let Some(master) = self.masters.get_mut(&id) else { return Ok(()) };
                master.shard = term.map(|term| LinkShard::new(term, 2_000));
                match term {
                    Some(term) => {
                        self.trace.note(self.now, format_args!("replica {id} leads term {term}"));
                        self.machines.fencing.speaks(id, term)?;
                        self.summary.leader_count += u64::from(self.leader != Some(id));
                        self.leader = Some(id);
                        if self.oracle.state.settings().admins.is_empty() {
                            is_new_cell = true;
                        }
                    }
                    None => {
                        self.trace.note(self.now, format_args!("replica {id} leads no longer"));
                    }
                }
                if is_new_cell {
                    let what = ToMaster::Settings;
                    self.push(1, Event::Master { id, start, what });
                }
            }
            Output::Stop { reason } => return Err(format!("replica {id} stops: {reason}")),
        }
        Ok(())
    }

    fn start_disk(&mut self, id: u64) {
        let Some(master) = self.masters.get_mut(&id) else { return };
        if master.disk.busy.is_some() || master.disk.queue.is_empty() {
            return;
        }
        let start = master.start;
        let wait = if master.disk.is_slow {
            self.disk_random.random_range(100..1_500)
        } else {
            self.disk_random.random_range(1..12)
        };
        let mut last = 0;
        while let Some(write) = master.disk.queue.pop_front() {
            last = write.number;
            if master.engine.write(&write).is_err() {
                master.disk.failed = Some(last);
                master.disk.queue.clear();
                let what = ToMaster::DiskDone { number: last, is_written: false };
                master.disk.busy = Some(last);
                self.push(wait, Event::Master { id, start, what });
                return;
            }
        }
        master.disk.busy = Some(last);
        let what = ToMaster::DiskDone { number: last, is_written: true };
        self.push(wait, Event::Master { id, start, what });
    }

    fn crash(&mut self, id: u64, is_torn: bool) {
        let rows = self.under_way(id);
        let Some(master) = self.masters.get_mut(&id) else { return };
        if master.server.is_none() {
            return;
        }
        let unsynced = master.engine.unsynced_count();
        let surviving = self.disk_random.random_range(0..=unsynced);
        // A torn write is one that does not count.
        let surviving = if is_torn { surviving.saturating_sub(1) } else { surviving };
        let coverage = &mut self.summary.coverage;
        for row in rows {
            coverage.met(row, Column::CrashBefore);
        }
        if master.disk.busy.is_some() {
            coverage.met("timer disk", Column::CrashBefore);
        }
        for row in ["timer tick", "timer disk", "timer plan", "timer transfer", "timer checkpoint"]
        {
            coverage.met(row, Column::CrashAfter);
            if row != "timer disk" {
                coverage.met(row, Column::CrashBefore);
            }
        }
        for row in ["rpc raft", "rpc mutate", "rpc read", "rpc answer", "rpc poll", "rpc wanted"] {
            coverage.met(row, Column::CrashAfter);
            coverage.met(row, Column::CrashBefore);
        }
        master.crash(surviving);
        self.trace.note(
            self.now,
            format_args!("replica {id} dies, {surviving} of {unsynced} writes are left"),
        );
        self.asked.retain(|_, (master, _, _)| *master != id);
    }

    /// The operations that a replica has in its log and that are not committed.
    fn under_way(&self, id: u64) -> Vec<&'static str> {
        let server = self.masters.get(&id).and_then(|master| master.server.as_ref());
        let entries = server.map(|server| server.node().uncommitted()).unwrap_or_default();
        let mut rows = Vec::new();
        for entry in entries {
            if let Ok(entry) = borgmaster_core::decode(&entry.data) {
                rows.extend(entry.commands.iter().map(|command| row_of(&command.op)));
            }
        }
        rows
    }

    // Links.

    fn shard(&mut self, id: u64, input: ShardInput) -> Result<(), String> {
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
                    // The log says so too, before long.
                    self.trace.note(self.now, format_args!("replica {id} hears of term {term}"));
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

    fn at_machine(
        &mut self,
        machine: u32,
        from: u64,
        start: u64,
        input: AgentInput,
    ) -> Result<(), String> {
        let actions = self.machines.input(self.now, machine, input)?;
        self.note_actions(machine, &actions);
        let id = MachineId(machine);
        for action in actions {
            let (row, what) = match action {
                Action::Reply(report) => ("rpc report", Ok(report)),
                Action::Refuse(refusal) => ("rpc refusal", Err(refusal)),
                Action::Persist(_)
                | Action::Start(_)
                | Action::Adjust(_)
                | Action::Terminate(_)
                | Action::Kill(_)
                | Action::Forget(_) => continue,
            };
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

    fn note_actions(&mut self, machine: u32, actions: &[Action]) {
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

    fn settle_wake(&mut self, machine: u32) {
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

    fn wake(&mut self, machine: u32) -> Result<(), String> {
        if self.wakes[machine as usize].is_none_or(|at| at > self.now) {
            return Ok(());
        }
        self.wakes[machine as usize] = None;
        self.machines.advance(self.now, machine)?;
        self.settle_wake(machine);
        Ok(())
    }

    // The network.

    fn send(&mut self, from: Place, to: Place, row: &str, event: impl Fn(&Self) -> Option<Event>) {
        let before = self.network.counts;
        let arrivals = self.network.deliver(from, to);
        let after = self.network.counts;
        let met = [
            (after.repeated > before.repeated, Column::Duplicate),
            (after.held_up > before.held_up, Column::Delay),
            (after.held_up > before.held_up, Column::Reorder),
            (after.cut > before.cut, Column::Partition),
        ];
        if met.iter().any(|(is_met, _)| *is_met) {
            let ops = match from {
                Place::Master(id) if row == "rpc raft" => self.under_way(id),
                Place::Master(_) | Place::Machine(_) | Place::Client(_) => Vec::new(),
            };
            for (_, column) in met.iter().filter(|(is_met, _)| *is_met) {
                self.summary.coverage.met(row, *column);
                for op in &ops {
                    self.summary.coverage.met(op, *column);
                }
            }
        }
        for after in arrivals {
            if let Some(event) = event(self) {
                self.push(after, event);
            }
        }
    }

    // Clients.

    fn at_client(&mut self, client: u32, what: ToClient) -> Result<(), String> {
        let number = client as usize;
        match what {
            ToClient::Think => {
                if self.is_healing && self.clients[number].is_through() {
                    return Ok(());
                }
                let floor = self.oracle.history.floor();
                let count = u32::try_from(self.machines.borglets.len()).expect("few");
                self.clients[number].next(floor, count);
                self.ask(client);
            }
            ToClient::Patience { attempt } => {
                if self.clients[number].attempt == attempt && self.clients[number].current.is_some()
                {
                    let masters: Vec<u64> = self.masters.keys().copied().collect();
                    self.clients[number].turn(&masters);
                    self.ask(client);
                }
            }
            ToClient::Retry { attempt } => {
                if self.clients[number].attempt == attempt && self.clients[number].current.is_some()
                {
                    self.ask(client);
                }
            }
            ToClient::Answer { attempt, answer, read } => {
                self.answered(client, attempt, &answer, read)?;
            }
        }
        Ok(())
    }

    fn answered(
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

    fn ask(&mut self, client: u32) {
        let state = &mut self.clients[client as usize];
        state.attempt += 1;
        let Some(current) = state.current.clone() else { return };
        let (attempt, id) = (state.attempt, state.master);
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
    }

    // Faults.

    fn fault(&mut self) -> Result<(), String> {
        if self.is_healing {
            return Ok(());
        }
        let (fault, lasts) = Fault::draw(&mut self.random);
        if let Some(places) = self.begin_fault(fault)? {
            *self.summary.faults.entry(fault).or_default() += 1;
            self.trace.note(self.now, format_args!("{} of {places:?}", fault.name()));
            self.push(lasts, Event::FaultEnds(fault, places));
        }
        let wait = self.random.random_range(1_000..18_000);
        self.push(wait, Event::Fault);
        Ok(())
    }

    fn any_master(&mut self) -> u64 {
        let ids: Vec<u64> = self.masters.keys().copied().collect();
        ids[self.random.random_range(0..ids.len())]
    }

    /// The leader half of the time, else any.
    fn likely_leader(&mut self) -> u64 {
        match self.leader.filter(|id| self.masters.contains_key(id)) {
            Some(leader) if self.random.random_range(0..2) == 0 => leader,
            _ => self.any_master(),
        }
    }

    fn any_machine(&mut self) -> u32 {
        let count = u32::try_from(self.machines.borglets.len()).expect("few");
        self.random.random_range(0..count)
    }

    /// Begins a fault; where. `None`: it does not apply now.
    fn begin_fault(&mut self, fault: Fault) -> Result<Option<Vec<Place>>, String> {
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
                let skew = self.random.random_range(-30_000..30_000);
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
                self.machines.borglets[machine as usize].reboot(self.now);
                self.summary.coverage.met("timer borglet", Column::CrashBefore);
                self.summary.coverage.met("timer borglet", Column::CrashAfter);
                for row in ["rpc report", "rpc refusal"] {
                    self.summary.coverage.met(row, Column::CrashBefore);
                    self.summary.coverage.met(row, Column::CrashAfter);
                }
                self.settle_wake(machine);
                vec![Place::Machine(machine)]
            }
            Fault::BorgletRestart => {
                let machine = self.any_machine();
                self.machines.borglets[machine as usize].restart(self.now);
                self.settle_wake(machine);
                vec![Place::Machine(machine)]
            }
            Fault::BorgletDiskFull => {
                let machine = self.any_machine();
                self.machines.borglets[machine as usize].disk_is_full = true;
                vec![Place::Machine(machine)]
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
    fn replace(&mut self) -> Result<Option<Vec<Place>>, String> {
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
    fn cut(&mut self, place: Place, hears_not: bool, is_not_heard: bool, keeps_clients: bool) {
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

    fn end_fault(&mut self, fault: Fault, places: &[Place]) {
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
            Fault::FrozenLeader
            | Fault::Transfer
            | Fault::MachineReboot
            | Fault::BorgletRestart
            | Fault::Checkpoint
            | Fault::Replacement => {}
        }
    }

    // The end.

    fn heal(&mut self) -> Result<(), String> {
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
        let mut ops = vec![self.machines.addition()];
        ops.extend(names.map(|i| Op::Repair { machine: machines::name(i) }));
        self.clients[0].repairs(ops);
        self.push(100, Event::Client { client: 0, what: ToClient::Think });
        Ok(())
    }

    /// What has not converged yet.
    fn missing(&mut self) -> Option<String> {
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

fn row_of(op: &Op) -> &'static str {
    match op {
        Op::OpenSession => "op open session",
        Op::Submit { .. } => "op submit",
        Op::Update { .. } => "op update",
        Op::Undo { .. } => "op undo",
        Op::Kill { .. } => "op kill",
        Op::SetQuota(_) => "op set quota",
        Op::SetCapabilities { .. } => "op set capabilities",
        Op::AddMachines { .. } => "op add machines",
        Op::Drain { .. } => "op drain",
        Op::Repair { .. } => "op repair",
        Op::RemoveMachine { .. } => "op remove machine",
        Op::Configure(_) => "op configure",
        Op::Assign { .. } => "op assign",
        Op::Observe { .. } => "op observe",
        Op::Health { .. } => "op health",
        Op::Evict { .. } => "op evict",
        Op::Reserve { .. } => "op reserve",
        Op::Expire => "op expire",
        Op::RestorePart { .. } => "op restore part",
        Op::RestoreFinish { .. } => "op restore finish",
    }
}

/// The settings of the cell, which its first leader brings in.
fn settings() -> Settings {
    Settings {
        cell_name: "sim".to_owned(),
        admins: vec![tasks::USERS[0].to_owned()],
        lost_evictions_per_second: 5,
        // Runs last minutes, not weeks.
        reservation_hold_ms: 20_000,
        back_off_max_ms: 30_000,
        dead_job_keep_ms: 60_000,
        dead_job_count_max: 20,
        ..Settings::default()
    }
}

/// What the first client sets up.
fn beginning(machines: &Machines) -> Vec<Op> {
    let mut ops = vec![machines.addition()];
    for user in tasks::USERS {
        for band in [cell::Band::Batch, cell::Band::Mid, cell::Band::Production] {
            let amounts =
                Amounts { cpu_milli: 12_000, ram_bytes: 12_288, disk_bytes: 0, gpu_milli: 0 };
            let quota = Quota { user: user.to_owned(), band, amounts, until: None };
            // Production quota is bounded by the cell: the last user may get none.
            ops.push(Op::SetQuota(quota));
        }
    }
    ops
}

//! The world: everything that happens, in the order of its time.

mod asking;
mod end;
mod fault;
mod links;
mod met;
mod restoring;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use borglet_agent::{Action, Input as AgentInput};
use borgmaster_core::{LinkShard, PlanRequest, ShardInput, ShardOutput, Token};
use borgmaster_replica::CheckpointRequest;
use borgmaster_replica::engine::Engine;
use borgmaster_replica::node::Membership;
use borgmaster_replica::server::{Answer, Input, Output, first_write};
use cell::MachineId;
use cell::borglet::{Refusal, Report};
use cell::live::{Amounts, Done, Op, Quota, Settings};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::clients::{Ask, Client, Next};
use crate::coverage::{Column, Coverage, op_name};
use crate::faults::Fault;
use crate::invariant::convergence;
use crate::machines::{self, Machines};
use crate::masters::{Master, Mutations, TICK_MS};
use crate::network::{Network, Place};
use crate::oracle::Oracle;
use crate::queue::Queue;
use crate::restores::Restores;
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
    /// How often the cell was restored.
    pub restored_count: u64,
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
    Restoring,
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

/// A message that is held up.
#[derive(Debug)]
struct HeldUp {
    /// When it arrives.
    at: u64,
    /// Its rows of the coverage.
    rows: BTreeSet<&'static str>,
}

struct World {
    options: Options,
    now: u64,
    queue: Queue<Event>,
    trace: Trace,
    network: Network,
    masters: BTreeMap<u64, Master>,
    machines: Machines,
    wakes: Vec<Option<u64>>,
    /// To each place, from another one or from any client: the last message that is held up.
    held_up: BTreeMap<(Option<Place>, Place), HeldUp>,
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
    /// When each place last did what.
    done: BTreeMap<(Place, &'static str), u64>,
    /// A crash that waits for an operation.
    armed: Option<met::Armed>,
    restores: Restores,
}

/// Runs the simulation.
///
/// # Errors
/// If an invariant does not hold, or the cell does not converge after healing.
pub fn run(options: &Options) -> Result<Summary, Failure> {
    let mut world = World::new(options.clone());
    // What panics is a bug like any other: it is told with its seed.
    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
    match ran.unwrap_or_else(|panic| Err(format!("a panic: {}", text_of(&*panic)))) {
        Ok(()) => {
            let mut summary = std::mem::take(&mut world.summary);
            summary.digest = world.trace.digest();
            summary.virtual_ms = world.now;
            summary.acknowledged_count = world.oracle.history.acknowledged_count;
            summary.read_count = world.oracle.history.read_count;
            summary.entry_count = world.oracle.state.index();
            summary.placed_count = world.oracle.state.next_numbers().0 - 1;
            summary.restored_count = world.oracle.restored_count;
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

fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("of an unknown kind")
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
        let mut machines = Machines::new(seed, machine_count);
        for borglet in &mut machines.borglets {
            options.mutations.switch_borglet(borglet);
        }
        let clients = (0..CLIENT_COUNT).map(|number| {
            let random = stream(scheduler::mix(seed ^ u64::from(number)), Stream::Clients);
            let script = if number == 0 { beginning(&machines) } else { Vec::new() };
            Client::new(
                number,
                random,
                script,
                vec![machines.addition(), Op::Configure(settings())],
            )
        });
        let mut oracle = Oracle::new();
        options.mutations.switch(&mut oracle.state);
        Self {
            now: 0,
            queue: Queue::new(),
            trace: Trace::new(options.keeps_trace),
            network: Network::new(stream(seed, Stream::Network)),
            wakes: vec![None; machines.borglets.len()],
            held_up: BTreeMap::new(),
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
            done: BTreeMap::new(),
            armed: None,
            restores: Restores::new(stream(seed, Stream::Restores)),
            options,
        }
    }

    fn push(&mut self, after_ms: u64, event: Event) {
        self.queue.push(self.now + after_ms, event);
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
        if self.restores.is_on {
            self.push(30_000, Event::Restoring);
        }
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
        let (at, event) = self.queue.pop().ok_or("nothing happens any more")?;
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
            Event::Restoring => self.restoring(),
            Event::FaultEnds(fault, places) => {
                self.end_fault(fault, &places);
                Ok(())
            }
        }
    }

    // Masters.

    fn begin(&mut self, id: u64) -> Result<(), String> {
        let Some(master) = self.masters.get_mut(&id) else { return Ok(()) };
        if master.server.is_some() {
            return Ok(());
        }
        let seed = scheduler::mix(self.options.seed ^ scheduler::mix(master.start));
        master.begin(seed, &self.options.mutations)?;
        self.oracle.begins(id);
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
        if let Some(row) = what.row() {
            self.did(Place::Master(id), row);
        }
        let Some(master) = self.masters.get_mut(&id) else { return Ok(()) };
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
                    if master.disk.checkpoint.take_if(|due| *due <= number).is_some() {
                        self.did(Place::Master(id), "timer checkpoint");
                    }
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
        let was_sending = server.node().is_sending_snapshot();
        server.input(clock, input, &mut out);
        server.drain(clock, &mut out);
        let has_sent = was_sending && !server.node().is_sending_snapshot();
        self.oracle.follow(id, server)?;
        if has_sent {
            self.done.insert((Place::Master(id), "timer transfer"), self.now);
        }
        let start = master.start;
        for output in out {
            self.carry_out(id, start, output)?;
        }
        self.fire(id);
        Ok(())
    }

    fn carry_out(&mut self, id: u64, start: u64, output: Output) -> Result<(), String> {
        match output {
            Output::Persist(write) => {
                let Some(master) = self.masters.get_mut(&id) else { return Ok(()) };
                if write.snapshot.is_some() {
                    master.disk.checkpoint = Some(write.number);
                }
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
        if self.masters.get(&id).is_none_or(|master| master.server.is_none()) {
            return;
        }
        self.meet_crash(Place::Master(id));
        let Some(master) = self.masters.get_mut(&id) else { return };
        let unsynced = master.engine.unsynced_count();
        let surviving = self.disk_random.random_range(0..=unsynced);
        // A torn write is one that does not count.
        let surviving = if is_torn { surviving.saturating_sub(1) } else { surviving };
        master.crash(surviving);
        self.trace.note(
            self.now,
            format_args!("replica {id} dies, {surviving} of {unsynced} writes are left"),
        );
        self.asked.retain(|_, (master, _, _)| *master != id);
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

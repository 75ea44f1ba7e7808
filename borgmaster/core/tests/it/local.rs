//! One master, its link shard and fake borglets, in virtual time.

use std::collections::VecDeque;

use borglet_agent::fake::{Behaviour, FakeBorglet, OnSigterm};
use borglet_agent::{Action, Input as AgentInput};
use borgmaster_core::{
    Config, Core, Input, LinkShard, Output, ShardInput, ShardOutput, Token, decode,
};
use cell::MachineId;
use cell::borglet::{ExitCause, MachineCapacity, TaskKey, Usage, WantedTask};
use cell::live::{Done, Event, Op, Outcome, Quota, Request, Settings, State, Timestamp};

/// What a task does, by its job's name: `crash…` fails at once, `short…` finishes after a second,
/// `stubborn…` ignores SIGTERM, `idle…` uses a tenth of its limit, and the rest runs for ever. With the command
/// `sick` it fails its health check.
fn behaviour(task: &WantedTask) -> Behaviour {
    let is = |prefix: &str| task.name.starts_with(prefix);
    let share = if is("idle") { 10 } else { 1 };
    Behaviour {
        start_up_ms: 20,
        runtime_ms: match () {
            () if is("crash") => Some(50),
            () if is("short") => Some(1_000),
            () => None,
        },
        exit: if is("crash") { ExitCause::Failed { code: 1 } } else { ExitCause::Finished },
        is_healthy: task.command != ["sick"],
        usage: Usage { cpu_milli: task.limit.cpu.0 / share, ram_bytes: task.limit.ram.0 / share },
        on_sigterm: if is("stubborn") {
            OnSigterm::Ignores
        } else {
            OnSigterm::Ends { after_ms: 100 }
        },
    }
}

pub(crate) struct Local {
    pub core: Core,
    shard: LinkShard,
    pub borglets: Vec<FakeBorglet>,
    /// Machines that neither hear nor are heard.
    pub cut_off: Vec<bool>,
    pub now: u64,
    sequence: u64,
    session: u64,
    pub events: Vec<Event>,
    answers: Vec<(Token, Outcome)>,
    /// How far the clock of who leads is ahead of `now`, in milliseconds.
    pub skew_ms: i64,
}

impl Local {
    /// A cell of so many machines with 4 cores and 4096 bytes each.
    pub(crate) fn new(machine_count: u32, settings: Settings) -> Self {
        let settings = Settings { admins: vec!["ann".to_owned()], ..settings };
        let poll_interval = settings.poll_interval_ms;
        let core = Core::new(State::new(settings), Config::default());
        let capacity =
            MachineCapacity { cpu_milli: 4000, ram_bytes: 4096, disk_bytes: 0, gpu_count: 0 };
        let borglet = |i| {
            let machine = format!("m{i}");
            FakeBorglet::new(borglet_agent::Config { machine, capacity }, 0)
        };
        let mut local = Self {
            core,
            shard: LinkShard::new(1, poll_interval),
            borglets: (0..machine_count).map(borglet).collect(),
            cut_off: vec![false; machine_count as usize],
            now: 1_000,
            sequence: 0,
            session: 0,
            events: Vec::new(),
            answers: Vec::new(),
            skew_ms: 0,
        };
        local.input(Input::Elected { term: 1 });
        let Ok(Done::Session(session)) = local.ask(Op::OpenSession) else { panic!("no session") };
        local.session = session;
        let machine = |i| {
            let text = format!(r#"{{"name": "m{i}", "cpu": 4, "ram": 4096}}"#);
            (serde_json::from_str(&text).expect("a machine"), format!("m{i}:1"))
        };
        local
            .ask(Op::AddMachines { machines: (0..machine_count).map(machine).collect() })
            .expect("added");
        for band in [cell::Band::Batch, cell::Band::Mid, cell::Band::Production] {
            let all = u64::from(machine_count);
            let amounts = cell::live::Amounts {
                cpu_milli: all * 4000,
                ram_bytes: all * 4096,
                disk_bytes: 0,
                gpu_milli: 0,
            };
            let quota = Quota { user: "ann".to_owned(), band, amounts, until: None };
            local.ask(Op::SetQuota(quota)).expect("granted");
        }
        local.run_ms(3_000);
        local
    }

    /// Another one leads, whose clock is so far ahead.
    pub(crate) fn another_leads(&mut self, term: u64, skew_ms: i64) {
        self.skew_ms = skew_ms;
        self.shard = LinkShard::new(term, self.core.state().settings().poll_interval_ms);
        self.input(Input::Deposed);
        self.input(Input::Elected { term });
    }

    /// Asks as ann, and gives the answer.
    pub(crate) fn ask(&mut self, op: Op) -> Outcome {
        self.sequence += 1;
        let request = Request {
            user: "ann".to_owned(),
            session: self.session,
            sequence: self.sequence,
            answered_below: self.sequence,
        };
        let token = Token(self.sequence);
        self.input(Input::Request { token, request, op });
        let at = self.answers.iter().position(|(other, _)| *other == token).expect("an answer");
        self.answers.swap_remove(at).1
    }

    pub(crate) fn submit(&mut self, job: &str) -> u64 {
        let spec = Box::new(serde_json::from_str(job).expect("a job"));
        match self.ask(Op::Submit { spec, is_alloc_set: false }).expect("admitted") {
            Done::Job { uid, .. } => uid,
            other @ (Done::Done | Done::Session(_) | Done::Some { .. }) => panic!("{other:?}"),
        }
    }

    /// Advances in steps of 20 ms.
    pub(crate) fn run_ms(&mut self, ms: u64) {
        for _ in 0..ms / 20 {
            self.now += 20;
            self.input(Input::Tick);
            let sent = self.shard.step(Timestamp(self.now), ShardInput::Tick);
            self.carry(sent);
            for i in 0..self.borglets.len() {
                self.borglets[i].advance(self.now, &behaviour);
            }
        }
    }

    fn input(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let clock = Timestamp(self.now.saturating_add_signed(self.skew_ms));
            for output in self.core.step(clock, input) {
                match output {
                    Output::Propose { data, .. } => {
                        decode(&data).expect("an entry");
                        // The index after all entries that are already on their way.
                        let under_way =
                            inputs.iter().filter(|i| matches!(i, Input::Committed { .. })).count();
                        let index = self.core.state().index() + 1 + under_way as u64;
                        inputs.push_back(Input::Committed { index, data });
                    }
                    Output::Answer { token, outcome } => self.answers.push((token, outcome)),
                    Output::Event(event) => self.events.push(event),
                    Output::Wanted(wanted) => {
                        let now = Timestamp(self.now);
                        let sent = self.shard.step(now, ShardInput::Wanted(wanted));
                        inputs.extend(self.deliver(sent));
                    }
                    Output::Plan(request) => inputs.push_back(Input::Planned(request.run())),
                    Output::Machines => {}
                    Output::Stop { reason } => panic!("{reason}"),
                }
            }
            assert_eq!(self.core.state().faults(), []);
        }
    }

    fn carry(&mut self, sent: Vec<ShardOutput>) {
        for input in self.deliver(sent) {
            self.input(input);
        }
    }

    /// Brings messages to borglets and their answers back.
    fn deliver(&mut self, sent: Vec<ShardOutput>) -> Vec<Input> {
        let mut heard = Vec::new();
        let mut outputs = VecDeque::from(sent);
        while let Some(output) = outputs.pop_front() {
            let (machine, input) = match output {
                ShardOutput::Poll(machine, poll) => (machine, AgentInput::Poll(poll)),
                ShardOutput::Wanted(machine, wanted) => (machine, AgentInput::Wanted(wanted)),
                ShardOutput::Heard(news) => {
                    heard.push(Input::Heard(news));
                    continue;
                }
                ShardOutput::Deposed { term } => panic!("deposed by term {term}"),
            };
            if self.cut_off[machine.index()] {
                continue;
            }
            for action in self.borglets[machine.index()].input(self.now, input, &behaviour) {
                let back = match action {
                    Action::Reply(report) => ShardInput::Report(machine, report),
                    Action::Refuse(refusal) => ShardInput::Refused(machine, refusal),
                    Action::Persist(_)
                    | Action::Start(_)
                    | Action::Adjust(_)
                    | Action::Terminate(_)
                    | Action::Kill(_)
                    | Action::Forget(_) => continue,
                };
                outputs.extend(self.shard.step(Timestamp(self.now), back));
            }
        }
        heard
    }

    pub(crate) fn phase(&self, job: u64, index: u32) -> &'static str {
        let id = self.core.state().task_id(TaskKey { job, index }).expect("the task is there");
        self.core.state().record(id).phase.name()
    }

    pub(crate) fn machine_of(&self, job: u64, index: u32) -> Option<MachineId> {
        let id = self.core.state().task_id(TaskKey { job, index })?;
        self.core.state().task_place(id).map(|place| place.machine)
    }

    /// How many of a job's tasks are in a phase.
    pub(crate) fn count(&self, name: &str, phase: &str) -> usize {
        let job = self.core.state().job(name).expect("the job is there");
        job.tasks.iter().filter(|task| task.phase.name() == phase).count()
    }
}

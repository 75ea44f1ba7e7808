//! One master, its link shard and fake borglets, in virtual time.

use borglet_agent::fake::{Behaviour, FakeBorglet, OnSigterm};
use borglet_agent::{Action, Input as AgentInput};
use borgmaster_core::{Alone, Config, Input, Machines, ShardInput, ShardOutput};
use cell::MachineId;
use cell::borglet::{ExitCause, MachineCapacity, TaskKey, Usage, WantedTask};
use cell::live::{Done, Op, Outcome, Quota, Settings, Timestamp};

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
    pub master: Alone,
    pub machines: Borglets,
    now: u64,
}

pub(crate) struct Borglets {
    pub all: Vec<FakeBorglet>,
    /// Machines that neither hear nor are heard.
    pub cut_off: Vec<bool>,
}

impl Machines for Borglets {
    fn hear(&mut self, now: Timestamp, told: ShardOutput) -> Vec<ShardInput> {
        let (machine, input) = match told {
            ShardOutput::Poll(machine, poll) => (machine, AgentInput::Poll(poll)),
            ShardOutput::Wanted(machine, wanted) => (machine, AgentInput::Wanted(wanted)),
            ShardOutput::Heard(_) | ShardOutput::Deposed { .. } => panic!("not for a machine"),
        };
        if self.cut_off[machine.index()] {
            return Vec::new();
        }
        let actions = self.all[machine.index()].input(now.0, input, &behaviour);
        let said = actions.into_iter().filter_map(Action::answer).map(|answer| match answer {
            Ok(report) => ShardInput::Report(machine, report),
            Err(refusal) => ShardInput::Refused(machine, refusal),
        });
        said.collect()
    }
}

impl Local {
    /// A cell of so many machines with 4 cores and 4096 bytes each.
    pub(crate) fn new(machine_count: u32, settings: Settings) -> Self {
        let capacity =
            MachineCapacity { cpu_milli: 4000, ram_bytes: 4096, disk_bytes: 0, gpu_count: 0 };
        let borglet = |i| {
            let machine = format!("m{i}");
            FakeBorglet::new(borglet_agent::Config { machine, capacity }, 0)
        };
        let now = 1_000;
        let mut local = Self {
            master: Alone::new(settings, Config::default(), "ann", Timestamp(now)),
            machines: Borglets {
                all: (0..machine_count).map(borglet).collect(),
                cut_off: vec![false; machine_count as usize],
            },
            now,
        };
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
    pub(crate) fn another_leads(&mut self, term: u64, ahead_ms: i64) {
        self.set_ahead_ms(ahead_ms);
        self.master.lead(Timestamp(self.now), term, &mut self.machines);
    }

    pub(crate) const fn set_ahead_ms(&mut self, ahead_ms: i64) {
        self.master.set_ahead_ms(ahead_ms);
    }

    /// Asks as ann, and gives the answer.
    pub(crate) fn ask(&mut self, op: Op) -> Outcome {
        let outcome = self.master.ask(Timestamp(self.now), op, &mut self.machines);
        assert_eq!(self.master.core.state().faults(), []);
        outcome
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
            let now = Timestamp(self.now);
            self.master.take(now, Input::Tick, &mut self.machines);
            self.master.take_shard(now, ShardInput::Tick, &mut self.machines);
            for borglet in &mut self.machines.all {
                borglet.advance(self.now, &behaviour);
            }
            assert_eq!(self.master.core.state().faults(), []);
        }
    }

    pub(crate) fn phase(&self, job: u64, index: u32) -> &'static str {
        let id =
            self.master.core.state().task_id(TaskKey { job, index }).expect("the task is there");
        self.master.core.state().record(id).phase.name()
    }

    pub(crate) fn machine_of(&self, job: u64, index: u32) -> Option<MachineId> {
        let id = self.master.core.state().task_id(TaskKey { job, index })?;
        self.master.core.state().task_place(id).map(|place| place.machine)
    }

    /// How many of a job's tasks are in a phase.
    pub(crate) fn count(&self, name: &str, phase: &str) -> usize {
        let job = self.master.core.state().job(name).expect("the job is there");
        job.tasks.iter().filter(|task| task.phase.name() == phase).count()
    }
}

//! A whole cell under a virtual clock: a master as it leads, its link shard, and borglets whose machines are made of
//! nothing. What is decided is decided by the code that the daemons run.
//!
//! In: machines, what their tasks do, operations, and time. Out: the events that a real cell would tell of, and what
//! tasks use. There is one replica and no network: what is proposed is committed, and what is sent is heard, at once.
//! The rounds are those of the daemons ([`CORE_TICK_MS`], [`SHARD_TICK_MS`], [`REPORT_PAUSE_MS`]). Nothing is random
//! but the ties of passes, which are seeded: the same input gives the same events.

use borglet_agent::fake::{Behaviour, FakeBorglet};
use borglet_agent::{Action, Input as AgentInput};
use borgmaster_core::{Alone, Config, Input, Machines, ShardInput, ShardOutput};
use cell::MachineId;
use cell::borglet::{MachineCapacity, ReportedState, TaskReport, WantedTask};
use cell::live::{Event, Op, Outcome, Settings, State, Timestamp};
use cell::spec::MachineSpec;

/// As often the master makes its rounds.
pub const CORE_TICK_MS: u64 = 50;

/// As often the link shard looks whom to poll.
pub const SHARD_TICK_MS: u64 = 25;

/// Between two reports that nobody asked for.
pub const REPORT_PAUSE_MS: u64 = 50;

/// Time before which nothing happens, so that the time 0 is before anything.
const BEGIN_MS: u64 = 1_000;

/// What a task does on its machine.
pub type Does = Box<dyn Fn(&WantedTask) -> Behaviour>;

/// A cell under a virtual clock.
pub struct VirtualCell {
    master: Alone,
    machines: All,
    now_ms: u64,
}

struct All {
    machines: Vec<Machine>,
    does: Does,
}

struct Machine {
    borglet: FakeBorglet,
    /// The tasks that it told of last, and when.
    told: Vec<TaskReport>,
    told_at_ms: u64,
}

impl std::fmt::Debug for VirtualCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VirtualCell").field("now_ms", &self.now_ms).finish_non_exhaustive()
    }
}

impl VirtualCell {
    /// A cell of these machines, all of them up, that obeys `user`. `seed` is for the ties of passes.
    ///
    /// # Errors
    /// If the cell refuses a machine.
    pub fn new(
        settings: Settings,
        machines: &[MachineSpec],
        user: &str,
        seed: u64,
        does: Does,
    ) -> Result<Self, String> {
        let borglet = |spec: &MachineSpec| {
            let capacity = MachineCapacity {
                cpu_milli: spec.cpu.0,
                ram_bytes: spec.ram.0,
                disk_bytes: spec.disk.map_or(0, |it| it.0),
                gpu_count: u16::try_from(spec.gpus).unwrap_or(u16::MAX),
            };
            let config = borglet_agent::Config { machine: spec.name.clone(), capacity };
            let borglet = FakeBorglet::new(config, BEGIN_MS);
            Machine { borglet, told: Vec::new(), told_at_ms: 0 }
        };
        let config = Config { seed, ..Config::default() };
        let mut own = Self {
            master: Alone::new(settings, config, user, Timestamp(BEGIN_MS)),
            machines: All { machines: machines.iter().map(borglet).collect(), does },
            now_ms: BEGIN_MS,
        };
        let machines = machines.iter().map(|it| (it.clone(), format!("{}:1", it.name))).collect();
        own.ask(Op::AddMachines { machines }).map_err(|rejected| rejected.to_string())?;
        // Each of them is polled and heard.
        let poll_ms = own.state().settings().poll_interval_ms;
        own.advance(own.now_ms + 2 * poll_ms);
        Ok(own)
    }

    /// What time it is, in milliseconds; not 0.
    #[must_use]
    pub const fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The cell as it is.
    #[must_use]
    pub const fn state(&self) -> &State {
        self.master.core.state()
    }

    /// All that has happened.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        self.master.events()
    }

    /// Every task that runs, as its machine would report it.
    pub fn running(&self) -> impl Iterator<Item = TaskReport> {
        let reports =
            self.machines.machines.iter().flat_map(|it| it.borglet.agent().report().tasks);
        reports.filter(|task| task.state == ReportedState::Running)
    }

    /// Asks the master for something, as the cell's user.
    pub fn ask(&mut self, op: Op) -> Outcome {
        self.master.ask(Timestamp(self.now_ms), op, &mut self.machines)
    }

    /// Lets time pass; each thing happens at its own time, to the millisecond.
    pub fn advance(&mut self, until_ms: u64) {
        while self.now_ms < until_ms {
            let next = |every: u64| (self.now_ms / every + 1) * every;
            let machines = &self.machines.machines;
            let events = machines.iter().filter_map(|it| it.borglet.next_ms());
            let reports = machines.iter().filter(|it| it.is_news()).map(Machine::tells_at_ms);
            let next = events
                .chain(reports)
                .chain([next(CORE_TICK_MS), next(SHARD_TICK_MS), until_ms])
                .min()
                .unwrap_or(until_ms);
            self.now_ms = next.max(self.now_ms + 1).min(until_ms);
            for machine in &mut self.machines.machines {
                machine.borglet.advance(self.now_ms, &self.machines.does);
            }
            self.tell_news();
            let now = Timestamp(self.now_ms);
            if self.now_ms.is_multiple_of(SHARD_TICK_MS) {
                self.master.take_shard(now, ShardInput::Tick, &mut self.machines);
            }
            if self.now_ms.is_multiple_of(CORE_TICK_MS) {
                self.master.take(now, Input::Tick, &mut self.machines);
            }
        }
    }

    /// Machines tell of what changed without being asked.
    fn tell_news(&mut self) {
        for i in 0..self.machines.machines.len() {
            let machine = &mut self.machines.machines[i];
            if !machine.is_news() || machine.tells_at_ms() > self.now_ms {
                continue;
            }
            let report = machine.borglet.agent().report();
            machine.tell(&report.tasks, self.now_ms);
            let input = ShardInput::Report(MachineId::from_index(i), report);
            self.master.take_shard(Timestamp(self.now_ms), input, &mut self.machines);
        }
    }
}

impl Machines for All {
    fn hear(&mut self, now: Timestamp, told: ShardOutput) -> Vec<ShardInput> {
        let (id, input) = match told {
            ShardOutput::Poll(id, poll) => (id, AgentInput::Poll(poll)),
            ShardOutput::Wanted(id, wanted) => (id, AgentInput::Wanted(wanted)),
            ShardOutput::Heard(_) | ShardOutput::Deposed { .. } => return Vec::new(),
        };
        let machine = &mut self.machines[id.index()];
        let mut said = Vec::new();
        let actions = machine.borglet.input(now.0, input, &self.does);
        for answer in actions.into_iter().filter_map(Action::answer) {
            said.push(match answer {
                Ok(report) => {
                    machine.tell(&report.tasks, now.0);
                    ShardInput::Report(id, report)
                }
                Err(refusal) => ShardInput::Refused(id, refusal),
            });
        }
        said
    }
}

impl Machine {
    /// Whether its tasks are not as it told of them last.
    fn is_news(&self) -> bool {
        let tasks = self.borglet.agent().report().tasks;
        let same = |(told, now): (&TaskReport, &TaskReport)| {
            (told.incarnation, &told.state, told.healthy)
                == (now.incarnation, &now.state, now.healthy)
        };
        self.told.len() != tasks.len() || !self.told.iter().zip(&tasks).all(same)
    }

    const fn tells_at_ms(&self) -> u64 {
        self.told_at_ms + REPORT_PAUSE_MS
    }

    fn tell(&mut self, tasks: &[TaskReport], now_ms: u64) {
        self.told = tasks.to_vec();
        self.told_at_ms = now_ms;
    }
}

#[cfg(test)]
mod tests {
    use borglet_agent::fake::OnSigterm;
    use cell::borglet::{ExitCause, Usage};
    use cell::live::{TaskStep, What};

    use super::*;

    fn cell() -> VirtualCell {
        let machine = |i| {
            serde_json::from_str(&format!(r#"{{"name": "m{i}", "cpu": 1, "ram": 1000}}"#)).unwrap()
        };
        let does = |task: &WantedTask| Behaviour {
            start_up_ms: 7,
            runtime_ms: task.name.starts_with("short").then_some(1_000),
            exit: ExitCause::Finished,
            usage: Usage { cpu_milli: 100, ram_bytes: 10 },
            is_healthy: true,
            on_sigterm: OnSigterm::Ends { after_ms: 3 },
        };
        let machines: Vec<MachineSpec> = (0..2).map(machine).collect();
        VirtualCell::new(Settings::default(), &machines, "ann", 1, Box::new(does)).unwrap()
    }

    fn submit(cell: &mut VirtualCell, job: &str) {
        let spec = Box::new(serde_json::from_str(job).unwrap());
        cell.ask(Op::Submit { spec, is_alloc_set: false }).unwrap();
    }

    /// When a job's tasks came to a step, after its submission.
    fn times(cell: &VirtualCell, name: &str, wanted: impl Fn(&TaskStep) -> bool) -> Vec<u64> {
        let is_submission =
            |what: &What| matches!(what, What::Submitted { job, .. } if &**job == name);
        let submitted = cell.events().iter().find(|event| is_submission(&event.what));
        let of_task = |what: &What| matches!(what, What::Task { job, step, .. } if &**job == name && wanted(step));
        let events = cell.events().iter().filter(|event| of_task(&event.what));
        events.map(|event| event.at.since_ms(submitted.unwrap().at)).collect()
    }

    #[test]
    fn what_is_submitted_runs_ends_and_gives_way_at_its_time() {
        let run = || {
            let mut cell = cell();
            submit(
                &mut cell,
                r#"{"name": "low", "user": "ann", "priority": 10, "count": 4, "limit": {"cpu": 0.5, "ram": 10}}"#,
            );
            cell.advance(cell.now_ms() + 2_000);
            assert_eq!(cell.running().count(), 4);
            assert!(cell.running().all(|task| task.usage.cpu_milli == 100));
            submit(
                &mut cell,
                r#"{"name": "short", "user": "ann", "priority": 90, "count": 2, "limit": {"cpu": 0.5, "ram": 10}}"#,
            );
            cell.advance(cell.now_ms() + 5_000);
            cell
        };
        let cell = run();
        let started = times(&cell, "low", |step| *step == TaskStep::Started);
        assert!(started[..4].iter().all(|&ms| (7..=200).contains(&ms)), "{started:?}");
        assert_eq!(times(&cell, "low", |step| matches!(step, TaskStep::Evicted(_))).len(), 2);
        let ended = times(&cell, "short", |step| matches!(step, TaskStep::Died(_)));
        assert_eq!(ended.len(), 2);
        assert!(ended.iter().all(|&ms| (1_000..=1_400).contains(&ms)), "{ended:?}");
        // Those that gave way run again.
        assert_eq!(cell.running().count(), 4);
        assert_eq!(cell.events(), run().events());
    }
}

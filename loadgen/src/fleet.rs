//! Machines made of nothing, many of them, advanced only when something of theirs is due.

use std::collections::{BTreeMap, BTreeSet};

use borglet_agent::fake::{Behaviour, FakeBorglet, OnSigterm};
use borglet_agent::{Action, Config, Input};
use cell::borglet::{ExitCause, MachineCapacity, Usage, WantedTask};
use proto::link::{FromMachine, MasterMessage, ToMachine};

/// All machines.
#[derive(Debug)]
pub(crate) struct Fleet {
    borglets: Vec<FakeBorglet>,
    names: BTreeMap<String, usize>,
    /// When which machine has something to do.
    due: BTreeSet<(u64, usize)>,
    due_of: Vec<Option<u64>>,
    runtime_ms: Option<u64>,
}

/// How long a task runs by its name: `NAME-500ms/INDEX` runs half a second.
fn runtime_by_name(task: &str) -> Option<u64> {
    let (job, _) = task.rsplit_once('/')?;
    job.rsplit_once('-')?.1.strip_suffix("ms")?.parse().ok()
}

fn behaviour(task: &WantedTask, runtime_ms: Option<u64>) -> Behaviour {
    Behaviour {
        start_up_ms: 0,
        runtime_ms: runtime_by_name(&task.name).or(runtime_ms),
        exit: ExitCause::Finished,
        usage: Usage { cpu_milli: task.limit.cpu.0 / 2, ram_bytes: task.limit.ram.0 / 2 },
        is_healthy: true,
        on_sigterm: OnSigterm::Ends { after_ms: 10 },
    }
}

impl Fleet {
    pub(crate) fn new(
        names: impl IntoIterator<Item = String>,
        capacity: MachineCapacity,
        runtime_ms: Option<u64>,
        now_ms: u64,
    ) -> Self {
        let names: Vec<String> = names.into_iter().collect();
        let borglets = names
            .iter()
            .map(|machine| FakeBorglet::new(Config { machine: machine.clone(), capacity }, now_ms));
        Self {
            borglets: borglets.collect(),
            due: BTreeSet::new(),
            due_of: vec![None; names.len()],
            names: names.into_iter().enumerate().map(|(i, name)| (name, i)).collect(),
            runtime_ms,
        }
    }

    /// What a machine says to a message; nothing if there is no such machine.
    pub(crate) fn tell(&mut self, now_ms: u64, message: ToMachine) -> Vec<FromMachine> {
        let Some(&machine) = self.names.get(&message.machine) else { return Vec::new() };
        let input = match message.message {
            MasterMessage::Wanted(wanted) => Input::Wanted(wanted),
            MasterMessage::Poll(poll) => Input::Poll(poll),
        };
        let runtime_ms = self.runtime_ms;
        let behave = move |task: &WantedTask| behaviour(task, runtime_ms);
        let borglet = &mut self.borglets[machine];
        let mut actions = borglet.advance(now_ms, &behave);
        actions.extend(borglet.input(now_ms, input, &behave));
        // What starts at once is running when it is next asked.
        actions.extend(borglet.advance(now_ms, &behave));
        self.settle(machine);
        said(actions)
    }

    /// Lets everything happen that is due.
    pub(crate) fn advance(&mut self, now_ms: u64) {
        let runtime_ms = self.runtime_ms;
        while let Some(&(due_ms, machine)) = self.due.first()
            && due_ms <= now_ms
        {
            self.borglets[machine].advance(now_ms, &|task| behaviour(task, runtime_ms));
            self.settle(machine);
        }
    }

    fn settle(&mut self, machine: usize) {
        let next = self.borglets[machine].next_ms();
        if next == self.due_of[machine] {
            return;
        }
        if let Some(before) = self.due_of[machine] {
            self.due.remove(&(before, machine));
        }
        self.due.extend(next.map(|next_ms| (next_ms, machine)));
        self.due_of[machine] = next;
    }

    /// How many tasks run, or are starting.
    pub(crate) fn alive_count(&self) -> usize {
        self.borglets.iter().map(|borglet| borglet.machine().alive().count()).sum()
    }
}

fn said(actions: Vec<Action>) -> Vec<FromMachine> {
    let answers = actions.into_iter().filter_map(Action::answer);
    answers.map(|it| it.map_or_else(FromMachine::Refusal, FromMachine::Report)).collect()
}

#[cfg(test)]
mod tests {
    use cell::Resources;
    use cell::borglet::{Fence, Incarnation, Poll, ReportedState, TaskKey, Wanted};

    use super::*;

    #[test]
    fn a_task_ends_when_its_name_says_so() {
        let names = ["m-0".to_owned(), "m-1".to_owned()];
        let mut fleet = Fleet::new(names, MachineCapacity::default(), None, 0);
        let fence = Fence { term: 1, generation: 1 };
        let task = WantedTask {
            key: TaskKey { job: 1, index: 0 },
            incarnation: Incarnation(1),
            name: "batch-500ms/0".to_owned(),
            priority: 0,
            limit: Resources::default(),
            gpu_devices: 0,
            user: String::new(),
            command: Vec::new(),
            grace_ms: 0,
            latency_sensitive: false,
            stop_after_disconnect_ms: None,
            container: None,
            stop: None,
        };
        let wanted = Wanted { fence, base: None, tasks: vec![task], gone: Vec::new() };
        let machine = "m-1".to_owned();
        let message = MasterMessage::Wanted(wanted);
        fleet.tell(10, ToMachine { machine: machine.clone(), message });
        let mut state = |at_ms| {
            fleet.advance(at_ms);
            let message = MasterMessage::Poll(Poll { fence });
            match fleet.tell(at_ms, ToMachine { machine: machine.clone(), message }).pop() {
                Some(FromMachine::Report(report)) => report.tasks[0].state.clone(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(state(509), ReportedState::Running);
        assert_eq!(state(510), ReportedState::Exited(ExitCause::Finished));
        assert_eq!(fleet.alive_count(), 0);
        let machine = "other".to_owned();
        let message = MasterMessage::Poll(Poll { fence });
        assert!(fleet.tell(1, ToMachine { machine, message }).is_empty());
    }
}

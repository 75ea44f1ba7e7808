//! A recorder: a cell whose log is kept, with a master and borglets that are as simple as can be.

use std::collections::{BTreeMap, BTreeSet};

use borgmaster_core::{LiveRooms, evictions};
use cell::MachineId;
use cell::borglet::{ExitCause, Incarnation, TaskKey};
use cell::live::{
    Assignment, Command, Done, Entry, Observation, Op, Outcome, Phase, Seen, Settings, State,
    Target, Timestamp,
};
use scheduler::{PassOptions, Policy, Snapshot, Speed, pass};

/// How often the recorder's master looks.
pub(crate) const STEP_MS: u64 = 500;

pub(crate) struct Recorder {
    pub(crate) state: State,
    /// The state at the checkpoint, and the log since.
    pub(crate) start: State,
    pub(crate) log: Vec<(u64, Option<Entry>)>,
    now: u64,
    policy: Policy,
    rooms: LiveRooms,
    pass_count: u64,
    /// By job: how long its tasks run, each a second longer than the one before, and how they end.
    runs: BTreeMap<u64, (u64, ExitCause)>,
    handled: BTreeSet<(Incarnation, bool)>,
    due: BTreeMap<(u64, u64), Observation>,
}

impl Recorder {
    /// A cell with so many machines of 8 cores and 16 GiB, two to a rack.
    pub(crate) fn new(policy: &str, machine_count: u32) -> Self {
        let settings = Settings {
            cell_name: "small".to_owned(),
            admins: vec!["ann".to_owned()],
            needs_quota: false,
            policy: policy.to_owned(),
            mass_loss_permille: 600,
            ..Settings::default()
        };
        let state = State::new(settings);
        let mut recorder = Self {
            start: state.clone(),
            state,
            log: Vec::new(),
            now: 1_750_000_000_000,
            policy: Policy::by_name(policy).unwrap(),
            rooms: LiveRooms::default(),
            pass_count: 0,
            runs: BTreeMap::new(),
            handled: BTreeSet::new(),
            due: BTreeMap::new(),
        };
        let spec = |index: u32| {
            let text = format!(
                r#"{{"name": "m{index}", "cpu": 8, "ram": "16GiB", "rack": "r{}"}}"#,
                index / 2
            );
            (serde_json::from_str(&text).unwrap(), format!("127.0.0.1:{}", 7000 + index))
        };
        let machines = (0..machine_count).map(spec).collect();
        recorder.run(Op::AddMachines { machines }).unwrap();
        recorder.health(0..machine_count, true);
        recorder
    }

    /// From here on the log is kept.
    pub(crate) fn checkpoint(&mut self) {
        self.start = self.state.clone();
        self.log.clear();
    }

    pub(crate) fn run(&mut self, op: Op) -> Outcome {
        let commands = vec![Command { request: None, op }];
        let entry = Entry { at: Timestamp(self.now), commands };
        let index = self.state.index() + 1;
        let mut applied = self.state.apply(index, &entry);
        self.rooms.follow(&self.state, &applied.changes);
        self.log.push((index, Some(entry)));
        applied.answers.remove(0).1
    }

    pub(crate) fn health(&mut self, ids: std::ops::Range<u32>, is_up: bool) {
        let machines = ids.map(|id| (MachineId(id), is_up)).collect();
        self.run(Op::Health { machines }).unwrap();
    }

    /// Submits a job; its tasks end after so many seconds, if they do.
    pub(crate) fn submit(&mut self, spec: &str, run: Option<(u64, ExitCause)>) -> Outcome {
        let spec = Box::new(serde_json::from_str(spec).unwrap());
        let outcome = self.run(Op::Submit { spec, is_alloc_set: false });
        if let (Ok(Done::Job { uid, .. }), Some((seconds, cause))) = (&outcome, run) {
            self.runs.insert(*uid, (seconds * 1000, cause));
        }
        outcome
    }

    /// Lets so many seconds go by.
    pub(crate) fn pass_time(&mut self, seconds: u64) {
        for _ in 0..seconds * 1000 / STEP_MS {
            self.now += STEP_MS;
            self.see();
            for op in evictions(&self.state, Timestamp(self.now)) {
                self.run(op).unwrap();
            }
            self.place();
        }
    }

    fn see(&mut self) {
        let mut begun = Vec::new();
        for (_, machine) in self.state.machines().filter(|(_, machine)| !machine.is_down()) {
            for &(incarnation, id) in machine.tasks() {
                let ms = match self.state.record(id).phase {
                    Phase::Running { started_at: None, .. } => 1000,
                    Phase::Stopping { .. } => 2000,
                    Phase::Running { .. }
                    | Phase::Assigned(_)
                    | Phase::Waiting { .. }
                    | Phase::Dead { .. } => continue,
                };
                begun.push((self.state.key(id), incarnation, ms));
            }
        }
        for (task, incarnation, ms) in begun {
            let is_stop = ms == 2000;
            if self.handled.insert((incarnation, is_stop)) {
                let seen = if is_stop { Seen::Exited(ExitCause::Stopped) } else { Seen::Started };
                self.put(ms, Observation { task, incarnation, seen });
            }
        }
        let mut observations = Vec::new();
        while let Some(first) = self.due.first_entry().filter(|due| due.key().0 <= self.now) {
            observations.push(first.remove());
        }
        for observation in &observations {
            let Observation { task, incarnation, seen } = observation;
            if let (Seen::Started, Some((ms, cause))) = (seen, self.runs.get(&task.job).cloned()) {
                let (task, incarnation) = (*task, *incarnation);
                let ms = ms + u64::from(task.index) * 1000;
                self.put(ms, Observation { task, incarnation, seen: Seen::Exited(cause) });
            }
        }
        if !observations.is_empty() {
            self.run(Op::Observe { observations }).unwrap();
        }
    }

    fn put(&mut self, ms: u64, observation: Observation) {
        self.due.insert((self.now + ms, observation.incarnation.0), observation);
    }

    fn place(&mut self) {
        let state = &self.state;
        let key = |id| state.key(id);
        let waiting = state.waiting().filter(|&key| state.is_eligible(key, Timestamp(self.now)));
        let queue: Vec<_> = waiting.filter_map(|key: TaskKey| state.task_id(key)).collect();
        if queue.is_empty() {
            return;
        }
        self.pass_count += 1;
        let options = PassOptions {
            policy: self.policy.clone(),
            queue: self.policy.queue,
            seed: self.pass_count,
            speed: Speed::default(),
            pending_limit: None,
        };
        let snapshot =
            Snapshot::resume(state.cell(), scheduler::Rooms::clone(self.rooms.get(state)));
        let plan = pass(&snapshot, &queue, &options);
        let assignments = plan.assignments.iter().filter_map(|found| {
            let victims = found
                .victims
                .iter()
                .map(|&victim| Some((key(victim), state.task_place(victim)?.incarnation)));
            Some(Assignment {
                task: key(found.task),
                on: match plan.end.alloc(found.row) {
                    Some(alloc) => Target::Alloc(key(alloc)),
                    None => Target::Machine(plan.end.slot(found.row).machine),
                },
                gpu_devices: 0,
                victims: victims.collect::<Option<_>>()?,
            })
        });
        let assignments: Vec<Assignment> = assignments.collect();
        if !assignments.is_empty() {
            self.run(Op::Assign { assignments }).unwrap();
        }
    }

    /// The cell file.
    pub(crate) fn file(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let log = self.log.iter().map(|(index, entry)| (*index, entry.as_ref()));
        cell::file::write(&mut bytes, &self.start, log, self.state.index()).unwrap();
        bytes
    }
}

/// A job's spec.
pub(crate) fn job(name: &str, priority: u16, count: u32, cpu: &str, more: &str) -> String {
    format!(
        r#"{{"name": "{name}", "user": "ann", "priority": {priority}, "count": {count},
            "limit": {{"cpu": "{cpu}", "ram": "1GiB"}}{more}}}"#
    )
}

/// The bundled example: a small cell whose policy spreads the load, so that `crunch` waits although there is
/// room enough; one of its tasks fails again and again, a machine is drained, and `huge` fits nowhere.
pub(crate) fn example() -> Recorder {
    let mut cell = Recorder::new("e-pvm", 4);
    let finished = |seconds| Some((seconds, ExitCause::Finished));
    cell.submit(&job("web", 200, 4, "2", ""), None).unwrap();
    cell.pass_time(5);
    cell.checkpoint();
    cell.submit(&job("mill", 100, 8, "1", ""), finished(40)).unwrap();
    cell.pass_time(5);
    cell.submit(&job("crunch", 100, 2, "6", ""), finished(30)).unwrap();
    cell.pass_time(3);
    let after = r#", "run": {"start_after": ["crunch"]}"#;
    cell.submit(&job("report", 100, 1, "2", after), None).unwrap();
    let failed = Some((2, ExitCause::Failed { code: 1 }));
    cell.submit(&job("flaky", 100, 1, "500m", ""), failed).unwrap();
    cell.pass_time(7);
    cell.submit(&job("serve", 210, 1, "5", ""), None).unwrap();
    cell.pass_time(30);
    cell.run(Op::Drain { machine: "m3".to_owned() }).unwrap();
    cell.pass_time(10);
    cell.run(Op::Repair { machine: "m3".to_owned() }).unwrap();
    cell.run(Op::Kill { job: "flaky".to_owned(), indexes: None }).unwrap();
    cell.submit(&job("huge", 100, 1, "9", ""), None).unwrap();
    cell.pass_time(80);
    cell
}

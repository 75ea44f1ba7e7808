//! Rooms that are kept while their cell changes are as good as a snapshot made anew; what is closed or avoided
//! takes nothing.

use std::collections::{BTreeMap, BTreeSet};

use cell::{Cell, Host, JobId, JobKind, TaskId, TaskState};
use proptest::collection::vec;
use proptest::prelude::{Strategy, TestCaseError, any, prop_assert, prop_assert_eq, proptest};
use proptest::sample::{Index, select};
use scheduler::feasible::Infeasible;
use scheduler::{Accounting, Plan, Rooms, Slot, Snapshot, pass, pass_on, policies, why};
use serde_json::{Value, json};

use crate::cells::{
    ACCOUNTINGS, SMALL, all_tasks, borg_policies, build, cases, cells, host_of, is_borgs, options,
    part, policy,
};

/// What happens to a live cell.
#[derive(Clone, Debug)]
enum Event {
    /// A waiting task starts somewhere, whether or not it fits.
    Starts(Index, Index),
    /// A task loses its place.
    Stops(Index),
    /// What a task is expected to use is now so many thousandths of its limit.
    Uses(Index, u64),
    /// A job goes. Its slot is kept for the next.
    Goes(Index),
    /// A job comes in the slot of another, like a third, with so many tasks.
    Comes(Index, Index, usize),
    /// A machine goes down or comes back.
    Closes(Index, bool),
    /// What waits is scheduled, but for production, so that this has something to preempt.
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let at = any::<Index>;
    proptest::prop_oneof![
        4 => (at(), at()).prop_map(|(task, row)| Event::Starts(task, row)),
        4 => at().prop_map(Event::Stops),
        2 => (at(), 0_u64..=1000).prop_map(|(task, permille)| Event::Uses(task, permille)),
        1 => at().prop_map(Event::Goes),
        2 => (at(), at(), 0_usize..8).prop_map(|(slot, like, count)| Event::Comes(slot, like, count)),
        2 => (at(), any::<bool>()).prop_map(|(row, is_closed)| Event::Closes(row, is_closed)),
        2 => any::<u64>().prop_map(Event::Pass),
    ]
}

/// A cell that changes, and the rooms that its owner keeps.
struct Live {
    cell: Cell,
    rooms: Rooms,
}

impl Live {
    fn new(cell: Cell, accounting: Accounting) -> Self {
        let rooms = Snapshot::recorded(&cell, &Slot::all(&cell), accounting).into_rooms();
        Self { cell, rooms }
    }

    fn placed(&self, wanted: bool) -> Vec<TaskId> {
        let is_placed = |id: &TaskId| self.rooms.placement(*id).is_some();
        all_tasks(&self.cell).into_iter().filter(|id| is_placed(id) == wanted).collect()
    }

    fn note(&mut self, task: TaskId) {
        let host = self.rooms.placement(task).map(|at| match self.rooms.alloc(at.row) {
            Some(alloc) => Host::Alloc(alloc),
            None => Host::Machine(self.rooms.slot(at.row).machine),
        });
        let of_job = &mut self.cell.jobs[task.job.index()].tasks;
        // It may have gone with its job.
        if let Some(of_task) = of_job.get_mut(task.position as usize) {
            of_task.state =
                host.map_or(TaskState::Pending, |host| TaskState::Running { on: Some(host) });
        }
    }

    fn remove(&mut self, task: TaskId) {
        for gone in self.rooms.remove(task) {
            self.note(gone);
        }
    }

    fn happens(&mut self, event: &Event) {
        match event {
            Event::Starts(task, row) => {
                let waiting = self.placed(false);
                if waiting.is_empty() {
                    return;
                }
                let task = *task.get(&waiting);
                let rows: Vec<usize> = match self.cell.job(task.job).alloc_set {
                    None => (0..self.rooms.machine_count()).collect(),
                    Some(set) => (0..)
                        .zip(&self.cell.job(set).tasks)
                        .filter_map(|(position, _)| {
                            self.rooms.row_of_alloc(TaskId { job: set, position })
                        })
                        .collect(),
                };
                if !rows.is_empty() {
                    self.rooms.place_recorded(&self.cell, task, *row.get(&rows), None);
                    self.note(task);
                }
            }
            Event::Stops(task) => {
                let placed = self.placed(true);
                if !placed.is_empty() {
                    self.remove(*task.get(&placed));
                }
            }
            Event::Uses(task, permille) => {
                let all = all_tasks(&self.cell);
                if all.is_empty() {
                    return;
                }
                let id = *task.get(&all);
                let task = &mut self.cell.jobs[id.job.index()].tasks[id.position as usize];
                task.reservation = Some(part(task.limit, *permille));
                if self.rooms.placement(id).is_some() {
                    self.rooms.recharge(&self.cell, id);
                }
            }
            Event::Goes(slot) => self.goes(slot.index(self.cell.jobs.len())),
            Event::Comes(slot, like, count) => {
                let slot = slot.index(self.cell.jobs.len());
                let mut job = self.cell.jobs[like.index(self.cell.jobs.len())].clone();
                if job.kind != JobKind::Job || self.cell.jobs[slot].kind != JobKind::Job {
                    return;
                }
                self.goes(slot);
                job.name = format!("again-{slot}");
                let limits: Vec<_> = job.tasks.iter().map(|task| task.limit).collect();
                job.tasks = (0..)
                    .zip(limits.into_iter().cycle())
                    .take(*count)
                    .map(|(index, limit)| cell::Task::new(index, limit))
                    .collect();
                self.cell.jobs[slot] = job;
            }
            Event::Closes(row, true) => self.rooms.close(row.index(self.rooms.machine_count())),
            Event::Closes(row, false) => self.rooms.open(row.index(self.rooms.machine_count())),
            Event::Pass(seed) => {
                let mut waiting = self.placed(false);
                waiting.retain(|id| !self.cell.job(id.job).priority.band().is_prod());
                let snapshot = Snapshot::resume(&self.cell, self.rooms.clone());
                self.rooms = pass_on(snapshot, &waiting, &options(policy("borg-hybrid"), *seed))
                    .end
                    .into_rooms();
                for task in all_tasks(&self.cell) {
                    self.note(task);
                }
            }
        }
    }

    /// The cell drops the job's tasks before their places are given back.
    fn goes(&mut self, slot: usize) {
        let job = JobId::from_index(slot);
        let of_job = |id: &TaskId| id.job == job;
        let placed: Vec<TaskId> = self.placed(true).into_iter().filter(of_job).collect();
        self.cell.jobs[slot].tasks.clear();
        for task in placed {
            self.remove(task);
        }
    }

    /// The same from the cell alone, closed machines aside.
    fn anew(&self) -> Snapshot<'_> {
        let slots = Slot::all(&self.cell);
        Snapshot::recorded(&self.cell, &slots, self.rooms.accounting())
    }

    /// The same from the cell, with what the cell does not say: closed machines, GPU devices, and the order in
    /// which tasks came.
    fn rebuilt(&self) -> Snapshot<'_> {
        let slots = Slot::all(&self.cell);
        let mut anew = Snapshot::empty(&self.cell, &slots, self.rooms.accounting());
        let mut rows: Vec<(usize, usize)> = (0..slots.len()).map(|row| (row, row)).collect();
        while let Some((theirs, ours)) = rows.pop() {
            for &task in self.rooms.tasks_on(theirs) {
                let devices = self.rooms.placement(task).map(|at| at.gpu_devices);
                anew.place_recorded(task, ours, devices);
                rows.extend(self.rooms.row_of_alloc(task).zip(anew.row_of_alloc(task)));
            }
        }
        (0..slots.len()).filter(|&row| self.rooms.is_closed(row)).for_each(|row| anew.close(row));
        anew
    }
}

/// A row by what it stands for: rows of allocs are numbered as they come.
fn host(rooms: &Rooms, row: usize) -> (Slot, Option<TaskId>) {
    (rooms.slot(row), rooms.alloc(row))
}

/// What is free on each host, GPU devices aside, and where each task is.
type State = (BTreeMap<(Slot, Option<TaskId>), [i64; 5]>, BTreeMap<TaskId, (Slot, Option<TaskId>)>);

fn state(cell: &Cell, rooms: &Rooms) -> State {
    let rows = (0..rooms.machine_count())
        .chain(all_tasks(cell).into_iter().filter_map(|id| rooms.row_of_alloc(id)));
    let free = |row: usize| {
        let [cpu, ram, disk, _, prod_cpu, prod_ram] = rooms.free(row);
        (host(rooms, row), [cpu, ram, disk, prod_cpu, prod_ram])
    };
    let places = all_tasks(cell)
        .into_iter()
        .filter_map(|id| Some((id, host(rooms, rooms.placement(id)?.row))))
        .collect();
    (rows.map(free).collect(), places)
}

/// What a plan does, in terms that do not depend on how rows are numbered.
fn decisions(plan: &Plan<'_>) -> (Vec<impl PartialEq + std::fmt::Debug + use<>>, Vec<TaskId>) {
    let decided = plan
        .assignments
        .iter()
        .map(|made| (made.task, host(&plan.end, made.row), made.gpu_devices, made.victims.clone()));
    (decided.collect(), plan.pending.clone())
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn kept_rooms_are_those_of_a_new_snapshot(
        text in cells(SMALL),
        accounting in select(ACCOUNTINGS.to_vec()),
        events in vec(event(), 0..60),
        seed in any::<u64>(),
    ) {
        let mut live = Live::new(text.build(), accounting);
        for event in &events {
            live.happens(event);
        }
        check(&live, seed)?;
    }
}

fn check(live: &Live, seed: u64) -> Result<(), TestCaseError> {
    prop_assert_eq!(live.rooms.check_sums(), None);
    prop_assert_eq!(state(&live.cell, &live.rooms), state(&live.cell, &live.anew()));
    let rebuilt = live.rebuilt();
    prop_assert_eq!(state(&live.cell, &live.rooms), state(&live.cell, &rebuilt));
    let waiting = live.placed(false);
    for policy in borg_policies().into_iter().filter(is_borgs) {
        let options = options(policy, seed);
        let kept = Snapshot::resume(&live.cell, live.rooms.clone());
        let (of_kept, of_new) =
            (pass(&kept, &waiting, &options), pass(&rebuilt, &waiting, &options));
        prop_assert_eq!(decisions(&of_kept), decisions(&of_new));
        prop_assert_eq!(of_kept.end.check_sums(), None);
        for made in &of_kept.assignments {
            prop_assert!(!of_kept.end.is_closed(made.row));
        }
    }
    Ok(())
}

/// Events that hardly ever happen would make the property above worth little.
#[test]
fn random_events_leave_dead_rows_closed_machines_and_preemption() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut dead, mut closed, mut preempting, mut running) = (0, 0, 0, 0);
    for _ in 0..100 {
        let text = cells(SMALL).new_tree(&mut runner).unwrap().current();
        let events = vec(event(), 0..60).new_tree(&mut runner).unwrap().current();
        let mut live = Live::new(text.build(), Accounting::Recorded);
        for event in &events {
            live.happens(event);
        }
        dead += live.rooms.dead_row_count();
        closed += (0..live.rooms.machine_count()).filter(|&row| live.rooms.is_closed(row)).count();
        running += live.placed(true).len();
        let kept = Snapshot::resume(&live.cell, live.rooms.clone());
        let plan = pass(&kept, &live.placed(false), &options(policy("borg-hybrid"), 1));
        preempting += plan.assignments.iter().filter(|made| !made.victims.is_empty()).count();
    }
    assert!(
        dead > 20 && closed > 20 && preempting > 20 && running > 200,
        "{dead} dead rows, {closed} closed, {preempting} preempt, {running} run"
    );
}

fn machines(names: &[&str]) -> Vec<Value> {
    let machine = |name: &&str| json!({"name": name, "cpu": 8, "ram": 100, "rack": name});
    names.iter().map(machine).collect()
}

/// `batch` fills the machine `a`, `web` of production wants one like it.
fn batch_and_web(names: &[&str]) -> Cell {
    build(
        &machines(names),
        &[],
        &[
            json!({"name": "batch", "priority": 100, "limit": {"cpu": 8, "ram": 1},
                "tasks": [{"index": 0, "machine": "a"}]}),
            json!({"name": "web", "limit": {"cpu": 8, "ram": 1}}),
        ],
    )
}

#[test]
fn a_closed_machine_takes_nothing_and_keeps_what_runs() {
    // The machines; which of them is closed; where `web` goes; whether `batch` keeps its place.
    let cases: [(&[&str], usize, &str, bool); 4] = [
        (&["a"], 0, "-", true),
        (&["a", "b"], 0, "b", true),
        (&["a", "b"], 1, "a", false),
        (&["a", "b", "c"], 1, "c", true),
    ];
    for policy in policies() {
        for (names, closed, expected, is_kept) in cases {
            let cell = batch_and_web(names);
            let [web, batch] = ["web/0", "batch/0"].map(|name| cell.find_task(name).unwrap());
            let mut snapshot = Snapshot::recorded(&cell, &Slot::all(&cell), Accounting::Limits);
            snapshot.close(closed);
            let plan = pass(&snapshot, &[web], &options(policy.clone(), 1));
            assert_eq!(host_of(&plan, "web/0"), expected, "{}", policy.name());
            assert_eq!(plan.end.placement(batch).is_some(), is_kept, "{}", policy.name());
            snapshot.open(closed);
            let plan = pass(&snapshot, &[web], &options(policy.clone(), 1));
            assert_ne!(host_of(&plan, "web/0"), "-", "{}", policy.name());
        }
    }
}

#[test]
fn allocs_of_a_closed_machine_take_nothing() {
    let cell = build(
        &machines(&["a"]),
        &[json!({"name": "set", "limit": {"cpu": 4, "ram": 10},
            "tasks": [{"index": 0, "machine": "a"}]})],
        &[
            json!({"name": "in", "limit": {"cpu": 4, "ram": 1}, "alloc_set": "set"}),
            json!({"name": "none", "limit": {"cpu": 0, "ram": 0}}),
        ],
    );
    for policy in policies() {
        let mut snapshot = Snapshot::recorded(&cell, &Slot::all(&cell), Accounting::Limits);
        let waiting = ["in/0", "none/0"].map(|name| cell.find_task(name).unwrap());
        let placed = |snapshot: &Snapshot<'_>| {
            let plan = pass(snapshot, &waiting, &options(policy.clone(), 1));
            waiting.map(|task| plan.end.placement(task).is_some())
        };
        assert_eq!(placed(&snapshot), [true, true], "{}", policy.name());
        // The alloc's row closes its machine, and the other way round.
        snapshot.close(snapshot.row_of_alloc(cell.find_task("set/0").unwrap()).unwrap());
        assert!(snapshot.is_closed(0));
        assert_eq!(placed(&snapshot), [false, false], "{}", policy.name());
    }
}

#[test]
fn a_task_is_not_placed_where_it_crashed() {
    for policy in policies() {
        let mut cell = batch_and_web(&["a", "b"]);
        let web = cell.find_task("web/0").unwrap();
        cell.jobs[web.job.index()].tasks[0].avoid = vec![cell::MachineId(1)];
        let snapshot = Snapshot::recorded(&cell, &Slot::all(&cell), Accounting::Limits);
        let plan = pass(&snapshot, &[web], &options(policy.clone(), 1));
        assert_eq!(host_of(&plan, "web/0"), "a", "{} has to preempt", policy.name());
        let mut cell = batch_and_web(&["a"]);
        let web = cell.find_task("web/0").unwrap();
        let without = Snapshot::recorded(&cell, &Slot::all(&cell), Accounting::Limits);
        let plan = pass(&without, &[web], &options(policy.clone(), 1));
        assert_eq!(host_of(&plan, "web/0"), "a", "{}", policy.name());
        cell.jobs[web.job.index()].tasks[0].avoid = vec![cell::MachineId(0)];
        let snapshot = Snapshot::recorded(&cell, &Slot::all(&cell), Accounting::Limits);
        let plan = pass(&snapshot, &[web], &options(policy.clone(), 1));
        assert_eq!(host_of(&plan, "web/0"), "-", "{}", policy.name());
        assert_eq!(host_of(&plan, "batch/0"), "a", "{}", policy.name());
    }
}

#[test]
fn others_of_the_job_go_where_one_crashed() {
    let mut cell = build(
        &machines(&["a", "b"]),
        &[],
        &[json!({"name": "j", "count": 2, "limit": {"cpu": 8, "ram": 1}})],
    );
    cell.jobs[0].tasks[1].avoid = vec![cell::MachineId(1)];
    for policy in policies() {
        for seed in 0..8 {
            let empty = Snapshot::empty(&cell, &Slot::all(&cell), Accounting::Limits);
            // The one with a choice comes last.
            let tasks = [1, 0].map(|position| TaskId { job: JobId(0), position });
            let plan = pass(&empty, &tasks, &options(policy.clone(), seed));
            let hosts = ["j/0", "j/1"].map(|task| host_of(&plan, task));
            assert_eq!(hosts, ["b", "a"], "{}", policy.name());
        }
    }
}

#[test]
fn why_names_what_is_closed_and_what_is_avoided() {
    let mut cell = build(
        &machines(&["a", "b", "c"]),
        &[],
        &[json!({"name": "j", "limit": {"cpu": 9, "ram": 1}})],
    );
    cell.jobs[0].tasks[0].avoid = vec![cell::MachineId(1)];
    let mut snapshot = Snapshot::empty(&cell, &Slot::all(&cell), Accounting::Limits);
    snapshot.close(0);
    let explanation = why::explain(&snapshot, TaskId { job: JobId(0), position: 0 });
    let expected = [(Infeasible::Closed, 1), (Infeasible::Avoided, 1), (Infeasible::Cpu, 1)];
    assert_eq!(explanation.ruled_out, expected);
    // One CPU less opens `c`, and neither of the others.
    assert_eq!(explanation.changes.iter().map(|change| change.host_count).max(), Some(1));
}

#[test]
fn a_kind_of_domain_may_be_asked_for_later() {
    let racks: Vec<Value> = ["m0", "m1", "m2"]
        .iter()
        .zip(["r", "r", "s"])
        .map(|(name, rack)| json!({"name": name, "cpu": 8, "ram": 100, "rack": rack}))
        .collect();
    let set = json!({"name": "set", "limit": {"cpu": 1, "ram": 1},
        "tasks": [{"index": 0, "machine": "m0"}]});
    let job = |spread: Value| json!({"name": "j", "count": 3, "limit": {"cpu": 1, "ram": 1}, "spread": spread});
    let before = build(&racks, std::slice::from_ref(&set), &[job(json!([]))]);
    let after = build(&racks, &[set], &[job(json!([{"domain": "rack", "max_per_domain": 1}]))]);
    let rooms = Snapshot::recorded(&before, &Slot::all(&before), Accounting::Limits).into_rooms();
    let resumed = Snapshot::resume(&after, rooms);
    let waiting: Vec<TaskId> =
        all_tasks(&after).into_iter().filter(|&id| resumed.placement(id).is_none()).collect();
    let plan = pass(&resumed, &waiting, &options(policy("borg-hybrid"), 1));
    let machines: BTreeSet<usize> = plan.assignments.iter().map(|made| made.row).collect();
    assert_eq!((plan.assignments.len(), plan.pending.len()), (2, 1));
    assert!(machines.contains(&2) && machines.len() == 2, "{machines:?}");
}

#[test]
fn an_envelope_follows_its_allocs_reservation() {
    let mut cell = build(
        &machines(&["a"]),
        &[json!({"name": "set", "limit": {"cpu": 4, "ram": 10},
            "tasks": [{"index": 0, "machine": "a"}]})],
        &[json!({"name": "in", "limit": {"cpu": 3, "ram": 1}, "alloc_set": "set",
            "tasks": [{"index": 0, "alloc": 0}]})],
    );
    let set = cell.find_task("set/0").unwrap();
    let mut rooms = Snapshot::recorded(&cell, &Slot::all(&cell), Accounting::Recorded).into_rooms();
    let row = rooms.row_of_alloc(set).unwrap();
    assert_eq!((rooms.free(0)[0], rooms.free(row)[0]), (4000, 1000));
    let task = &mut cell.jobs[set.job.index()].tasks[0];
    task.reservation = Some(part(task.limit, 500));
    rooms.recharge(&cell, set);
    assert_eq!((rooms.free(0)[0], rooms.free(row)[0]), (6000, -1000));
    // What production is promised there is the alloc's limit still.
    assert_eq!((rooms.free(0)[4], rooms.free(row)[4]), (4000, 1000));
    assert_eq!(rooms.check_sums(), None);
    assert_eq!(rooms.remove(set).len(), 2);
    assert_eq!((rooms.free(0)[0], rooms.dead_row_count()), (8000, 1));
    assert_eq!(rooms.check_sums(), None);
}

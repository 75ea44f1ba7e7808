use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::borglet::ExitCause;
use crate::id::MachineId;
use crate::live::{
    Applied, Assignment, Command, Entry, Event, Observation, Op, Seen, State, Target,
};

struct Live {
    state: State,
    events: Vec<Event>,
}

impl Live {
    /// Machines a and b of 4 cores; all else is free.
    fn new() -> Self {
        let mut live = Self { state: State::default(), events: Vec::new() };
        let machine = |name: &str| {
            let text = format!(r#"{{"name": "{name}", "cpu": 4, "ram": 4096, "gpus": 1}}"#);
            (serde_json::from_str(&text).unwrap(), format!("{name}:1"))
        };
        live.run(1, Op::AddMachines { machines: vec![machine("a"), machine("b")] });
        live.run(2, Op::Health { machines: vec![(MachineId(0), true), (MachineId(1), true)] });
        live
    }

    fn run(&mut self, at: u64, op: Op) -> Applied {
        let entry = Entry { at: Timestamp(at), commands: vec![Command { request: None, op }] };
        let applied = self.state.apply(self.state.index() + 1, &entry);
        applied.answers[0].1.clone().unwrap();
        self.events.extend(applied.events.iter().cloned());
        applied
    }

    fn submit(&mut self, at: u64, name: &str, user: &str, count: u32) {
        self.run(at, Op::Submit { spec: spec(name, user, count, 1000), is_alloc_set: false });
    }

    fn place(&mut self, at: u64, task: &str, machine: u32) {
        let task = self.state.key(self.state.task_named(task).unwrap());
        let on = Target::Machine(MachineId(machine));
        let assignment = Assignment { task, on, gpu_devices: 0, victims: Vec::new() };
        let applied = self.run(at, Op::Assign { assignments: vec![assignment] });
        assert_eq!(applied.refused, []);
    }

    fn see(&mut self, at: u64, task: &str, seen: Seen) {
        let id = self.state.task_named(task).unwrap();
        let incarnation = self.state.record(id).phase.place().unwrap().incarnation;
        let task = self.state.key(id);
        self.run(at, Op::Observe { observations: vec![Observation { task, incarnation, seen }] });
    }

    fn said(&self) -> Vec<String> {
        self.events.iter().map(|event| describe(&self.state, event)).collect()
    }
}

fn spec(name: &str, user: &str, count: u32, cpu_milli: u64) -> Box<crate::spec::JobSpec> {
    let text = format!(
        r#"{{"name": "{name}", "user": "{user}", "priority": 50, "count": {count},
            "limit": {{"cpu": "{cpu_milli}m", "ram": 512}}}}"#
    );
    Box::new(serde_json::from_str(&text).unwrap())
}

fn paging(limit: u32, after: Option<&str>) -> Paging {
    Paging { limit, after: after.map(str::to_owned) }
}

#[test]
fn a_task_is_shown_through_its_life() {
    let mut live = Live::new();
    live.submit(10, "web", "ann", 1);
    let show = |live: &Live| live.state.task_status("web/0").unwrap();
    let pending = show(&live);
    assert_eq!((pending.phase, pending.since), (PhaseKind::Pending, Timestamp(10)));
    assert_eq!((pending.machine, pending.last_cause, pending.not_before), (None, None, None));
    live.place(20, "web/0", 1);
    let starting = show(&live);
    assert_eq!((starting.phase, starting.since), (PhaseKind::Starting, Timestamp(20)));
    live.see(30, "web/0", Seen::Started);
    let running = show(&live);
    assert_eq!((running.phase, running.since), (PhaseKind::Running, Timestamp(30)));
    assert_eq!((running.machine.as_deref(), running.placed_count), (Some("b"), 1));
    live.see(40, "web/0", Seen::Exited(ExitCause::Failed { code: 3 }));
    let again = show(&live);
    assert_eq!((again.phase, again.failures), (PhaseKind::Pending, 1));
    assert_eq!(again.last_cause.as_deref(), Some("ended: exit code 3"));
    let back_off_ms = live.state.settings().back_off_first_ms;
    assert_eq!(again.not_before, Some(Timestamp(40 + back_off_ms)));
    assert_eq!(
        live.said()[4..], // after two machines added and up
        [
            "web submitted as job 1",
            "web/0 scheduled on b",
            "web/0 started on b",
            "web/0 ended on b: exit code 3"
        ]
    );
    assert_eq!(live.state.task_status("web/1"), None);
    assert_eq!(live.state.task_status("web"), None);
}

#[test]
fn a_job_counts_its_phases_and_an_update() {
    let mut live = Live::new();
    live.submit(10, "web", "ann", 3);
    live.place(20, "web/0", 0);
    live.see(30, "web/0", Seen::Started);
    let web = live.state.job_status("web").unwrap();
    assert_eq!((web.counts.get(PhaseKind::Pending), web.counts.get(PhaseKind::Running)), (2, 1));
    assert_eq!((web.counts.total(), web.rollout, web.band()), (3, None, Band::Free));
    // Of three tasks one runs the old spec, and the two that wait are of the new one.
    live.run(40, Op::Update { spec: spec("web", "ann", 3, 500) });
    let web = live.state.job_status("web").unwrap();
    assert_eq!((web.version, web.rollout), (2, Some(Rollout { done: 0, total: 3 })));
    live.place(50, "web/1", 0);
    live.see(60, "web/1", Seen::Started);
    let web = live.state.job_status("web").unwrap();
    assert_eq!(web.rollout, Some(Rollout { done: 1, total: 3 }));
    live.run(70, Op::Kill { job: "web".to_owned(), indexes: None });
    assert_eq!(live.state.task_status("web/0").unwrap().last_cause.as_deref(), Some("killed"));
    live.see(80, "web/0", Seen::Exited(ExitCause::Stopped));
    live.see(80, "web/1", Seen::Exited(ExitCause::Stopped));
    let web = live.state.job_status("web").unwrap();
    assert_eq!(web.ended, Some((Timestamp(80), JobEnd::Killed)));
    assert_eq!(live.said().last().unwrap(), "web killed");
    assert_eq!(live.state.job_status("nothing"), None);
    let unknown = live.state.answer(&Question::Spec("nothing".to_owned())).unwrap_err();
    assert_eq!(unknown.to_string(), "there is no job called \"nothing\"");
    let newest = live.state.answer(&Question::Spec("web".to_owned())).unwrap();
    assert_eq!(newest, Answer::Spec(spec("web", "ann", 3, 500)));
}

#[test]
fn a_machine_shows_what_is_free() {
    let mut live = Live::new();
    live.submit(10, "web", "ann", 1);
    live.place(20, "web/0", 0);
    let a = live.state.machine_status("a").unwrap();
    // 4096 - 512; a free task is held to its reservation, and promised nothing.
    assert_eq!((a.free_by_reservations.cpu_milli, a.free_by_reservations.ram_bytes), (3000, 3584));
    assert_eq!(a.free_by_limits, a.capacity);
    assert_eq!((a.capacity.gpu_milli, a.capacity.disk_bytes, a.task_count), (1000, None, 1));
    live.run(30, Op::Drain { machine: "b".to_owned() });
    assert!(live.state.machine_status("b").unwrap().is_drained);
    live.run(40, Op::RemoveMachine { machine: "b".to_owned() });
    assert_eq!(live.state.machine_status("b"), None);
    let all = live.state.list_machines(&Filter::default(), &paging(10, None));
    assert_eq!(all.items.len(), 1);
    assert_eq!(live.said().last().unwrap(), "machine b removed");
    let cell = live.state.cell_status();
    assert_eq!((cell.machine_count, cell.machine_drained_count, cell.job_count), (1, 0, 1));
    assert_eq!((cell.tasks.total(), cell.index), (1, live.state.index()));
}

#[test]
fn quota_in_use_without_a_grant_is_shown() {
    let mut live = Live::new();
    live.submit(10, "web", "ann", 2);
    let amounts = Amounts { cpu_milli: 1, ..Amounts::default() };
    let quota =
        crate::live::Quota { user: "bob".to_owned(), band: Band::Batch, amounts, until: None };
    live.run(20, Op::SetQuota(quota));
    let list = |filter: &Filter, after| live.state.list_quotas(filter, &paging(1, after));
    let first = list(&Filter::default(), None);
    assert_eq!((first.items[0].user.as_str(), first.items[0].granted), ("ann", None));
    assert_eq!(first.items[0].used.cpu_milli, 2000);
    assert_eq!(first.next.as_deref(), Some("ann/free"));
    let second = list(&Filter::default(), Some("ann/free"));
    assert_eq!((second.items[0].granted, second.next), (Some(amounts), None));
    let of_bob = Filter { user: Some("bob".to_owned()), ..Filter::default() };
    assert_eq!(list(&of_bob, None).items[0].band, Band::Batch);
}

#[test]
fn a_list_is_narrowed_down_by_each_part_of_its_filter() {
    let mut live = Live::new();
    live.submit(10, "web", "ann", 3);
    live.submit(10, "api", "bob", 2);
    live.place(20, "web/1", 0);
    live.place(20, "api/0", 1);
    let check = |filter: Filter, jobs: &[&str], tasks: &[&str]| {
        let found = live.state.list_jobs(&filter, &paging(9, None));
        assert_eq!(found.items.iter().map(|job| &job.name).collect::<Vec<_>>(), jobs);
        let found = live.state.list_tasks(&filter, &paging(9, None));
        assert_eq!(found.items.iter().map(|task| &task.name).collect::<Vec<_>>(), tasks);
    };
    let all = Filter::default;
    let some = |text: &str| Some(text.to_owned());
    check(all(), &["api", "web"], &["api/0", "api/1", "web/0", "web/1", "web/2"]);
    check(Filter { job: some("api"), ..all() }, &["api"], &["api/0", "api/1"]);
    check(Filter { user: some("ann"), ..all() }, &["web"], &["web/0", "web/1", "web/2"]);
    let starting = Some(PhaseKind::Starting);
    check(Filter { phase: starting, ..all() }, &["api", "web"], &["api/0", "web/1"]);
    check(Filter { machine: some("a"), ..all() }, &["web"], &["web/1"]);
    check(Filter { machine: some("nowhere"), ..all() }, &[], &[]);
    let both = Filter { machine: some("a"), user: some("bob"), ..all() };
    check(both, &[], &[]);
}

#[test]
fn kinds_of_phases_are_named_as_phases_are() {
    let mut live = Live::new();
    live.submit(10, "web", "ann", 4);
    live.place(20, "web/0", 0);
    live.place(20, "web/1", 0);
    live.see(30, "web/1", Seen::Started);
    live.place(20, "web/2", 0);
    live.see(30, "web/2", Seen::Exited(ExitCause::Finished));
    let mut seen = BTreeSet::new();
    for (_, job) in live.state.jobs() {
        for task in &job.tasks {
            assert_eq!(PhaseKind::of(&task.phase).name(), task.phase.name());
            seen.insert(task.phase.name());
        }
    }
    assert_eq!(seen.len(), 4);
    for kind in PhaseKind::ALL {
        assert_eq!(PhaseKind::from_name(kind.name()), Some(kind));
    }
}

proptest! {
    #[test]
    fn pages_put_together_are_the_whole_list(
        counts in prop::collection::vec(1_u32..5, 0..6),
        limit in 0_u32..4,
        only in prop::option::of(0_usize..6),
    ) {
        let mut live = Live::new();
        for (i, count) in counts.iter().enumerate() {
            live.submit(10, &format!("job-{i}"), "ann", *count);
        }
        let filter = Filter { job: only.map(|i| format!("job-{i}")), ..Filter::default() };
        let whole = live.state.list_tasks(&filter, &paging(1000, None));
        prop_assert_eq!(whole.next, None);
        let expected: u32 = match only {
            Some(i) => counts.get(i).copied().unwrap_or(0),
            None => counts.iter().sum(),
        };
        prop_assert_eq!(whole.items.len(), expected as usize);
        let (mut tasks, mut after) = (Vec::new(), None);
        loop {
            let page = live.state.list_tasks(&filter, &Paging { limit, after });
            prop_assert!(page.items.len() <= limit.max(1) as usize);
            tasks.extend(page.items);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        prop_assert_eq!(tasks, whole.items);
        let (mut jobs, mut after) = (Vec::new(), None);
        loop {
            let page = live.state.list_jobs(&filter, &Paging { limit, after });
            jobs.extend(page.items);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let whole = live.state.list_jobs(&filter, &paging(1000, None));
        prop_assert_eq!(jobs, whole.items);
    }
}

/// Programs read these names.
#[test]
fn views_in_json_keep_their_names() {
    let mut live = Live::new();
    live.submit(3, "web", "ann", 1);
    live.place(4, "web/0", 0);
    live.see(5, "web/0", Seen::Started);
    live.run(6, Op::Health { machines: vec![(MachineId(1), false)] });
    let is = |view: serde_json::Value, text: &str| {
        assert_eq!(view, serde_json::from_str::<serde_json::Value>(text).unwrap());
    };
    is(
        serde_json::to_value(live.state.job_status("web")).unwrap(),
        r#"{"name": "web", "uid": 1, "user": "ann", "priority": 50, "kind": "job", "version": 1,
            "submitted_at": 3, "counts": {"pending": 0, "assigned": 0, "starting": 0, "running": 1,
            "stopping": 0, "finished": 0, "failed": 0, "killed": 0}, "ended": null, "rollout": null,
            "waits_for": []}"#,
    );
    is(
        serde_json::to_value(live.state.task_status("web/0")).unwrap(),
        r#"{"name": "web/0", "phase": "running", "since": 5, "machine": "a", "alloc": null,
            "incarnation": 1, "version": 1, "is_healthy": true, "last_cause": null, "failures": 0,
            "placed_count": 1, "not_before": null, "deadline": null, "reservation": null, "limit":
            {"cpu_milli": 1000, "ram_bytes": 512, "disk_bytes": 0, "gpu_milli": 0}}"#,
    );
    let room = r#"{"cpu_milli": 4000, "ram_bytes": 4096, "disk_bytes": null, "gpu_milli": 1000}"#;
    is(
        serde_json::to_value(live.state.machine_status("b")).unwrap(),
        &format!(
            r#"{{"name": "b", "address": "b:1", "health": {{"state": "down", "since": 6}},
                "is_drained": false, "capacity": {room}, "free_by_limits": {room},
                "free_by_reservations": {room}, "task_count": 0}}"#
        ),
    );
    live.run(7, Op::Kill { job: "web".to_owned(), indexes: None });
    live.see(8, "web/0", Seen::Exited(ExitCause::Stopped));
    let job = serde_json::to_value(live.state.job_status("web")).unwrap();
    is(job["ended"].clone(), r#"{"at": 8, "how": "killed"}"#);
    let cell = serde_json::to_value(live.state.cell_status()).unwrap();
    is(cell["hash"].clone(), &format!("\"{:032x}\"", live.state.hash()));
}

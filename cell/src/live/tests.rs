use proptest::prelude::*;

use super::*;
use crate::borglet::{ExitCause, Incarnation};
use crate::job::TaskState;
use crate::resources::{Bytes, MilliCpu, Resources};
use crate::spec::{JobSpec, MachineSpec};

fn machine(name: &str) -> (MachineSpec, String) {
    let text = format!(r#"{{"name": "{name}", "cpu": 4, "ram": 4096, "rack": "r-{name}"}}"#);
    (serde_json::from_str(&text).unwrap(), format!("{name}:1"))
}

pub(crate) fn spec(
    name: &str,
    priority: u16,
    count: u32,
    cpu_milli: u64,
    more: &str,
) -> Box<JobSpec> {
    let text = format!(
        r#"{{"name": "{name}", "user": "ann", "priority": {priority}, "count": {count},
            "limit": {{"cpu": "{cpu_milli}m", "ram": 512}}{more}}}"#
    );
    Box::new(serde_json::from_str(&text).unwrap())
}

pub(crate) struct Cluster {
    pub(crate) state: State,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let settings = Settings { admins: vec!["ann".to_owned()], ..Settings::default() };
        let mut cluster = Self { state: State::new(settings) };
        let machines = ["a", "b", "c", "d"].map(machine).to_vec();
        cluster.run(1000, Op::AddMachines { machines }).0.unwrap();
        let all = (0..4).map(|id| (MachineId(id), true)).collect();
        cluster.run(1000, Op::Health { machines: all }).0.unwrap();
        for band in [Band::Batch, Band::Mid, Band::Production] {
            let amounts =
                Amounts { cpu_milli: 16_000, ram_bytes: 16_384, disk_bytes: 0, gpu_milli: 0 };
            let quota = Quota { user: "ann".to_owned(), band, amounts, until: None };
            cluster.run(1000, Op::SetQuota(quota)).0.unwrap();
        }
        cluster
    }

    pub(crate) fn run(&mut self, at: u64, op: Op) -> (Outcome, Applied) {
        let commands = vec![Command { request: None, op }];
        let entry = Entry { at: Timestamp(at), commands };
        let mut applied = self.state.apply(self.state.index() + 1, &entry);
        (applied.answers.remove(0).1, applied)
    }

    pub(crate) fn submit(&mut self, spec: Box<JobSpec>) -> u64 {
        match self.run(1000, Op::Submit { spec, is_alloc_set: false }).0.unwrap() {
            Done::Job { uid, .. } => uid,
            other @ (Done::Done | Done::Session(_) | Done::Some { .. }) => panic!("{other:?}"),
        }
    }

    pub(crate) fn assign(
        &mut self,
        job: u64,
        index: u32,
        machine: u32,
        victims: &[(TaskKey, u64)],
    ) -> Applied {
        let assignment = Assignment {
            task: TaskKey { job, index },
            on: Target::Machine(MachineId(machine)),
            gpu_devices: 0,
            victims: victims.iter().map(|&(key, i)| (key, Incarnation(i))).collect(),
        };
        self.run(1000, Op::Assign { assignments: vec![assignment] }).1
    }

    pub(crate) fn see(&mut self, job: u64, index: u32, seen: Seen) {
        let task = TaskKey { job, index };
        let incarnation = self.incarnation(job, index);
        let observations = vec![Observation { task, incarnation, seen }];
        self.run(1000, Op::Observe { observations }).0.unwrap();
    }

    pub(crate) fn incarnation(&self, job: u64, index: u32) -> Incarnation {
        let id = self.state.task_id(TaskKey { job, index }).unwrap();
        self.state.record(id).phase.place().unwrap().incarnation
    }

    pub(crate) fn phase(&self, job: u64, index: u32) -> &'static str {
        self.state.record(self.state.task_id(TaskKey { job, index }).unwrap()).phase.name()
    }
}

#[test]
fn the_queue_follows_what_an_update_makes_of_a_jobs_priority() {
    let mut cluster = Cluster::new();
    let low = cluster.submit(spec("low", 100, 2, 1000, ""));
    let high = cluster.submit(spec("high", 110, 1, 1000, ""));
    let key = |job, index| TaskKey { job, index };
    let waiting = |cluster: &Cluster| cluster.state.waiting().collect::<Vec<_>>();
    assert_eq!(waiting(&cluster), [key(high, 0), key(low, 0), key(low, 1)]);
    cluster.run(1000, Op::Update { spec: spec("low", 115, 3, 1000, "") }).0.unwrap();
    assert_eq!(waiting(&cluster), [key(low, 0), key(low, 1), key(low, 2), key(high, 0)]);
    assert_eq!(cluster.state.faults(), []);
    let slot = cluster.state.task_id(key(low, 0)).unwrap().job;
    assert_eq!(cluster.state.waiting_of(slot).count(), 3);
    let second = cluster.state.queue_after(None).nth(1);
    let rest: Vec<TaskKey> = cluster.state.queue_after(second).map(|place| place.task).collect();
    assert_eq!(rest, [key(low, 2), key(high, 0)]);
    cluster.run(1000, Op::Undo { job: "low".to_owned() }).0.unwrap();
    assert_eq!(waiting(&cluster), [key(high, 0), key(low, 0), key(low, 1)]);
    assert_eq!(cluster.state.faults(), []);
}

#[test]
fn a_preempted_task_keeps_its_room_until_it_has_gone() {
    let mut cluster = Cluster::new();
    let low = cluster.submit(spec("low", 100, 1, 3000, ""));
    let high = cluster.submit(spec("high", 200, 1, 3000, ""));
    assert!(cluster.assign(low, 0, 0, &[]).refused.is_empty());
    cluster.see(low, 0, Seen::Started);
    let refused = cluster.assign(high, 0, 0, &[]).refused;
    assert_eq!(refused[0].1, Refusal::NoRoom);
    let victim = (TaskKey { job: low, index: 0 }, cluster.incarnation(low, 0).0);
    assert!(cluster.assign(high, 0, 0, &[victim]).refused.is_empty());
    assert_eq!((cluster.phase(low, 0), cluster.phase(high, 0)), ("stopping", "assigned"));
    cluster.see(low, 0, Seen::Exited(ExitCause::Stopped));
    assert_eq!((cluster.phase(low, 0), cluster.phase(high, 0)), ("pending", "starting"));
    assert_eq!(cluster.state.faults(), []);
}

#[test]
fn an_eviction_is_checked_against_what_is_by_now() {
    let mut cluster = Cluster::new();
    let run = |command: &str| format!(r#", "run": {{"command": ["{command}"]}}"#);
    let job = cluster.submit(spec("job", 100, 3, 1000, &run("old")));
    for index in 0..3 {
        cluster.assign(job, index, index, &[]);
        cluster.see(job, index, Seen::Started);
    }
    let evict = |cluster: &mut Cluster, at, indexes: &[u32], cause| {
        let tasks =
            indexes.iter().map(|&index| (TaskKey { job, index }, cluster.incarnation(job, index)));
        let op = Op::Evict { tasks: tasks.collect(), cause };
        match cluster.run(at, op).0.unwrap() {
            Done::Some { done, rejected } => (done, rejected),
            other @ (Done::Done | Done::Session(_) | Done::Job { .. }) => panic!("{other:?}"),
        }
    };
    // No machine is drained (any more), and no update is under way.
    assert_eq!(evict(&mut cluster, 1000, &[0], EvictCause::MachineDrained), (0, 1));
    assert_eq!(evict(&mut cluster, 1000, &[0], EvictCause::Updated), (0, 1));
    cluster.run(1000, Op::Update { spec: spec("job", 100, 3, 1000, &run("new")) }).0.unwrap();
    // One at a time, by default.
    assert_eq!(evict(&mut cluster, 1000, &[0, 1], EvictCause::Updated), (1, 1));
    assert_eq!(evict(&mut cluster, 1000, &[1], EvictCause::Updated), (0, 1));
    // What a machine that is down held is given up once the others were asked again.
    cluster.run(2000, Op::Health { machines: vec![(MachineId(2), false)] }).0.unwrap();
    assert_eq!(evict(&mut cluster, 3000, &[2], EvictCause::MachineLost), (0, 1));
    assert_eq!(evict(&mut cluster, 5000, &[2], EvictCause::MachineLost), (1, 0));
    assert_eq!(cluster.state.faults(), []);
}

#[test]
fn production_has_no_place_in_an_alloc_that_may_be_preempted() {
    let mut cluster = Cluster::new();
    let set = spec("set", 100, 1, 2000, "");
    cluster.run(1000, Op::Submit { spec: set, is_alloc_set: true }).0.unwrap();
    let inside = |name: &str, priority| spec(name, priority, 1, 1000, r#", "alloc_set": "set""#);
    let submit = |spec| Op::Submit { spec, is_alloc_set: false };
    let rejected = cluster.run(1000, submit(inside("web", 200))).0.unwrap_err();
    assert!(rejected.to_string().contains("production cannot run in it"), "{rejected}");
    // What is inside is looked at too where an alloc is to be preempted.
    let Ok(Done::Job { uid: mid, .. }) = cluster.run(1000, submit(inside("mid", 118))).0 else {
        panic!("admitted");
    };
    let set = cluster.state.job("set").unwrap().uid;
    cluster.assign(set, 0, 0, &[]);
    let on = Target::Alloc(TaskKey { job: set, index: 0 });
    let task = TaskKey { job: mid, index: 0 };
    let assignment = Assignment { task, on, gpu_devices: 0, victims: Vec::new() };
    let applied = cluster.run(1000, Op::Assign { assignments: vec![assignment] }).1;
    assert_eq!(applied.refused, []);
    let victim = (TaskKey { job: set, index: 0 }, cluster.incarnation(set, 0).0);
    let (low, high) = (
        cluster.submit(spec("low", 110, 1, 3000, "")),
        cluster.submit(spec("high", 119, 1, 3000, "")),
    );
    assert_eq!(cluster.assign(low, 0, 0, &[victim]).refused[0].1, Refusal::Victim);
    assert_eq!(cluster.assign(high, 0, 0, &[victim]).refused, []);
}

#[test]
fn a_task_that_is_to_die_no_longer_counts_as_disrupted() {
    let mut cluster = Cluster::new();
    let job = cluster.submit(spec("job", 100, 2, 1000, r#", "max_disrupted": 1"#));
    let left = |cluster: &Cluster| cluster.state.disruptions_left(JobId(0));
    cluster.assign(job, 0, 0, &[]);
    cluster.see(job, 0, Seen::Started);
    let tasks = vec![(TaskKey { job, index: 0 }, cluster.incarnation(job, 0))];
    cluster.run(1000, Op::Drain { machine: "a".to_owned() }).0.unwrap();
    cluster.run(1000, Op::Evict { tasks, cause: EvictCause::MachineDrained }).0.unwrap();
    cluster.see(job, 0, Seen::Exited(ExitCause::Stopped));
    cluster.assign(job, 0, 1, &[]);
    // It has a new place, and does not run yet.
    assert_eq!((cluster.phase(job, 0), left(&cluster)), ("starting", Some(0)));
    let indexes = Some(BTreeSet::from([0]));
    cluster.run(1000, Op::Kill { job: "job".to_owned(), indexes }).0.unwrap();
    assert_eq!((cluster.phase(job, 0), left(&cluster)), ("stopping", Some(1)));
    assert_eq!(cluster.state.faults(), []);
}

#[test]
fn a_task_that_is_new_as_its_job_shrank_and_grew_does_not_count_as_disrupted() {
    let mut cluster = Cluster::new();
    let spec_of = |count| spec("job", 100, count, 1000, r#", "max_disrupted": 1"#);
    let job = cluster.submit(spec_of(2));
    cluster.assign(job, 1, 0, &[]);
    cluster.see(job, 1, Seen::Started);
    cluster.run(1000, Op::Update { spec: spec_of(1) }).0.unwrap();
    cluster.run(1000, Op::Undo { job: "job".to_owned() }).0.unwrap();
    assert_eq!(cluster.phase(job, 1), "stopping");
    cluster.see(job, 1, Seen::Exited(ExitCause::Stopped));
    assert_eq!(cluster.phase(job, 1), "pending");
    assert_eq!(cluster.state.disruptions_left(JobId(0)), Some(1));
    assert_eq!(cluster.state.faults(), []);
}

#[test]
fn production_never_preempts_production() {
    let mut cluster = Cluster::new();
    let low = cluster.submit(spec("low", 150, 1, 3000, ""));
    let high = cluster.submit(spec("high", 200, 1, 3000, ""));
    cluster.assign(low, 0, 0, &[]);
    let victim = (TaskKey { job: low, index: 0 }, cluster.incarnation(low, 0).0);
    assert_eq!(cluster.assign(high, 0, 0, &[victim]).refused[0].1, Refusal::Victim);
}

#[test]
fn a_request_is_carried_out_once() {
    let mut cluster = Cluster::new();
    let request = |sequence, session| {
        Some(Request { user: "ann".to_owned(), session, sequence, answered_below: 1 })
    };
    let mut run = |request: Option<Request>, op: Op| {
        let entry = Entry { at: Timestamp(2000), commands: vec![Command { request, op }] };
        cluster.state.apply(cluster.state.index() + 1, &entry).answers.remove(0).1
    };
    let Ok(Done::Session(session)) = run(request(0, 0), Op::OpenSession) else { panic!() };
    let submit = || Op::Submit { spec: spec("once", 0, 1, 1, ""), is_alloc_set: false };
    let first = run(request(1, session), submit());
    assert_eq!(run(request(1, session), submit()), first);
    assert!(matches!(run(request(2, session), submit()), Err(Rejected::NameTaken(_))));
    assert_eq!(run(request(1, 77), submit()), Err(Rejected::NoSession(77)));
}

#[test]
fn quota_bounds_what_is_admitted_and_updated() {
    let mut cluster = Cluster::new();
    cluster.submit(spec("big", 100, 4, 3000, "")); // 12 of 16 cores
    let submit = |spec| Op::Submit { spec, is_alloc_set: false };
    let (outcome, _) = cluster.run(1000, submit(spec("more", 100, 2, 3000, "")));
    assert!(matches!(outcome, Err(Rejected::Quota { .. })), "{outcome:?}"); // 18 > 16
    let (outcome, _) = cluster.run(1000, Op::Update { spec: spec("big", 100, 6, 3000, "") });
    assert!(matches!(outcome, Err(Rejected::Quota { .. })), "{outcome:?}");
    cluster.run(1000, Op::Update { spec: spec("big", 100, 5, 3000, "") }).0.unwrap();
    let (outcome, _) = cluster.run(1000, submit(spec("free", 0, 9, 3000, "")));
    outcome.unwrap();
    assert_eq!(cluster.state.faults(), []);
}

#[test]
fn a_crash_loop_backs_off_and_leaves_its_machine() {
    let mut cluster = Cluster::new();
    let job = cluster.submit(spec("crash", 100, 1, 1000, ""));
    for failure in 1..=2 {
        cluster.assign(job, 0, 0, &[]);
        cluster.see(job, 0, Seen::Exited(ExitCause::Failed { code: 1 }));
        let id = cluster.state.task_id(TaskKey { job, index: 0 }).unwrap();
        let Phase::Waiting { not_before, .. } = cluster.state.record(id).phase else { panic!() };
        assert_eq!(not_before, Timestamp(1000 + 1000 * failure)); // 1 s, then 2 s
        assert_eq!(cluster.assign(job, 0, 0, &[]).refused[0].1, Refusal::NotYet);
        let nothing = Op::Observe { observations: Vec::new() };
        cluster.run(1000 * (failure + 1), nothing).0.unwrap();
        cluster.state.now = Timestamp(1000); // the helpers' time
        let key = TaskKey { job, index: 0 };
        assert!(!cluster.state.is_eligible(key, Timestamp(999 + 1000 * failure)));
        let id = cluster.state.task_id(key).unwrap();
        cluster.state.change_task(id, |task| {
            if let Phase::Waiting { not_before, .. } = &mut task.phase {
                *not_before = Timestamp(0);
            }
        });
    }
    assert_eq!(cluster.assign(job, 0, 0, &[]).refused[0].1, Refusal::Avoided);
    assert!(cluster.assign(job, 0, 1, &[]).refused.is_empty());
}

#[test]
fn a_lost_machine_loses_its_tasks_at_a_limited_rate_and_not_in_a_mass_loss() {
    let mut cluster = Cluster::new();
    let settings = Settings {
        lost_evictions_per_second: 1,
        admins: vec!["ann".to_owned()],
        ..Settings::default()
    };
    cluster.run(1000, Op::Configure(settings)).0.unwrap();
    let job = cluster.submit(spec("web", 200, 2, 1000, ""));
    cluster.assign(job, 0, 0, &[]);
    cluster.assign(job, 1, 0, &[]);
    let down = |ids: &[u32]| Op::Health {
        machines: ids.iter().map(|&id| (MachineId(id), false)).collect(),
    };
    let evict = |cluster: &Cluster| {
        let tasks = cluster.state.machine_at(MachineId(0)).tasks().iter();
        let tasks = tasks.map(|&(incarnation, id)| (cluster.state.key(id), incarnation)).collect();
        Op::Evict { tasks, cause: EvictCause::MachineLost }
    };
    let some = |done, rejected| Ok(Done::Some { done, rejected });
    assert_eq!(cluster.run(5000, evict(&cluster)).0, some(0, 2)); // it is up
    cluster.run(5000, down(&[0, 1])).0.unwrap();
    assert_eq!(cluster.run(8000, evict(&cluster)).0, some(0, 2)); // 2 of 4 are down
    cluster.run(8000, Op::Health { machines: vec![(MachineId(1), true)] }).0.unwrap();
    assert_eq!(cluster.run(8000, evict(&cluster)).0, some(1, 1)); // one a second
    assert_eq!(cluster.run(8999, evict(&cluster)).0, some(0, 1));
    assert_eq!(cluster.run(9000, evict(&cluster)).0, some(1, 0));
    assert_eq!(cluster.phase(job, 1), "pending");
}

#[test]
fn a_job_waits_until_the_one_before_it_finished() {
    let mut cluster = Cluster::new();
    let first = cluster.submit(spec("first", 100, 1, 100, ""));
    let then = cluster.submit(spec("then", 100, 1, 100, r#", "run": {"start_after": ["first"]}"#));
    assert_eq!(cluster.assign(then, 0, 0, &[]).refused[0].1, Refusal::NotYet);
    cluster.assign(first, 0, 0, &[]);
    cluster.see(first, 0, Seen::Exited(ExitCause::Finished));
    assert!(cluster.assign(then, 0, 0, &[]).refused.is_empty());
}

#[test]
fn tasks_of_an_alloc_go_with_it() {
    let mut cluster = Cluster::new();
    let mut set = spec("set", 200, 1, 2000, "");
    set.limit.ram = Some(Bytes(2048));
    let set = Op::Submit { spec: set, is_alloc_set: true };
    let Ok(Done::Job { uid: set, .. }) = cluster.run(1000, set).0 else { panic!() };
    let job = cluster.submit(spec("in", 200, 2, 900, r#", "alloc_set": "set""#));
    let into = |index| Assignment {
        task: TaskKey { job, index },
        on: Target::Alloc(TaskKey { job: set, index: 0 }),
        gpu_devices: 0,
        victims: Vec::new(),
    };
    let refused = cluster.run(1000, Op::Assign { assignments: vec![into(0)] }).1.refused;
    assert_eq!(refused[0].1, Refusal::HostClosed);
    cluster.assign(set, 0, 2, &[]);
    let (outcome, _) = cluster.run(1000, Op::Assign { assignments: vec![into(0), into(1)] });
    assert_eq!(outcome, Ok(Done::Some { done: 2, rejected: 0 }));
    assert_eq!((cluster.phase(set, 0), cluster.phase(job, 1)), ("running", "starting"));
    cluster.run(1000, Op::Kill { job: "set".to_owned(), indexes: None }).0.unwrap();
    assert_eq!((cluster.phase(set, 0), cluster.phase(job, 1)), ("stopping", "stopping"));
    cluster.see(job, 0, Seen::Exited(ExitCause::Stopped));
    cluster.see(job, 1, Seen::Exited(ExitCause::Stopped));
    assert_eq!((cluster.phase(set, 0), cluster.phase(job, 1)), ("killed", "pending"));
    assert_eq!(cluster.state.faults(), []);
}

#[test]
fn reservations_that_rise_evict_the_lowest() {
    let mut cluster = Cluster::new();
    let low = cluster.submit(spec("low", 100, 1, 3000, ""));
    let mid = cluster.submit(spec("mid", 110, 1, 3000, ""));
    cluster.assign(low, 0, 0, &[]);
    let reserve = |cluster: &Cluster, job, cpu| {
        let reservation = Resources { cpu: MilliCpu(cpu), ram: Bytes(100), ..Resources::default() };
        let reservations =
            vec![(TaskKey { job, index: 0 }, cluster.incarnation(job, 0), reservation)];
        Op::Reserve { reservations }
    };
    cluster.run(1000, reserve(&cluster, low, 1000)).0.unwrap();
    assert!(cluster.assign(mid, 0, 0, &[]).refused.is_empty()); // 1000 + 3000 <= 4000
    cluster.run(1000, reserve(&cluster, low, 2000)).0.unwrap();
    assert_eq!((cluster.phase(low, 0), cluster.phase(mid, 0)), ("stopping", "starting"));
    assert_eq!(cluster.state.faults(), []);
}

#[test]
fn a_job_that_shrinks_and_grows_again_has_new_tasks() {
    let mut cluster = Cluster::new();
    let job = cluster.submit(spec("web", 200, 5, 1000, ""));
    for index in 0..4 {
        cluster.assign(job, index, index, &[]);
        cluster.see(job, index, Seen::Started);
    }
    cluster.see(job, 2, Seen::Exited(ExitCause::Failed { code: 1 }));
    let resize = |cluster: &mut Cluster, count| {
        cluster.run(1000, Op::Update { spec: spec("web", 200, count, 1000, "") }).0.unwrap();
        assert_eq!(cluster.state.faults(), []);
    };
    let phases = |cluster: &Cluster| -> Vec<&str> {
        (0..5).map(|index| cluster.phase(job, index)).collect()
    };
    resize(&mut cluster, 2);
    assert_eq!(phases(&cluster), ["running", "running", "killed", "stopping", "killed"]);
    assert_eq!(cluster.state.quota_used("ann", Band::Production).cpu_milli, 2000);
    resize(&mut cluster, 5);
    // The one that has not gone yet comes back once it has.
    assert_eq!(phases(&cluster), ["running", "running", "pending", "stopping", "pending"]);
    assert_eq!(cluster.state.quota_used("ann", Band::Production).cpu_milli, 5000);
    let old = cluster.incarnation(job, 3);
    cluster.see(job, 3, Seen::Exited(ExitCause::Stopped));
    assert_eq!(cluster.state.faults(), []);
    for index in 2..5 {
        let record = &cluster.state.job("web").unwrap().tasks[index as usize];
        assert_eq!((record.version, record.failures), (3, 0));
        assert!(cluster.assign(job, index, index - 1, &[]).refused.is_empty(), "{index}");
        assert!(cluster.incarnation(job, index) > old);
    }
    assert_eq!(cluster.state.job("web").unwrap().alive(), 5);

    // What ended by itself stays ended, unless the job was too small for it in between.
    cluster.run(1000, Op::Kill { job: "web".to_owned(), indexes: Some([1].into()) }).0.unwrap();
    cluster.see(job, 1, Seen::Exited(ExitCause::Stopped));
    resize(&mut cluster, 4);
    resize(&mut cluster, 5);
    assert_eq!(phases(&cluster)[..2], ["running", "killed"]);
    resize(&mut cluster, 1);
    resize(&mut cluster, 2);
    assert_eq!(phases(&cluster)[..2], ["running", "pending"]);
    cluster.run(1000, Op::Kill { job: "web".to_owned(), indexes: None }).0.unwrap();
    assert_eq!(cluster.state.faults(), []);
}

#[test]
fn growing_again_takes_quota() {
    let mut cluster = Cluster::new();
    cluster.submit(spec("web", 200, 5, 3000, "")); // 15 of 16 cores
    cluster.run(1000, Op::Update { spec: spec("web", 200, 2, 3000, "") }).0.unwrap();
    cluster.submit(spec("other", 200, 2, 3000, "")); // 12 of 16
    let (outcome, _) = cluster.run(1000, Op::Update { spec: spec("web", 200, 5, 3000, "") });
    assert!(matches!(outcome, Err(Rejected::Quota { .. })), "{outcome:?}"); // 21 > 16
    cluster.run(1000, Op::Update { spec: spec("web", 200, 3, 3000, "") }).0.unwrap();
    assert_eq!(cluster.state.quota_used("ann", Band::Production).cpu_milli, 15_000);
}

/// One step of a random history, as numbers that a [`Cluster`] makes sense of.
pub(crate) type Step = (u8, u8, u8, u8);

pub(crate) fn random_op(state: &State, (kind, a, b, c): Step) -> Op {
    let name = format!("job{}", a % 6);
    let max = if b % 3 == 0 { r#", "max_disrupted": 1"# } else { "" };
    let priorities = [0, 100, 110, 200, 210];
    let random_spec = |name: &str| {
        let priority = priorities[usize::from(b) % priorities.len()];
        spec(name, priority, u32::from(c % 5) + 1, u64::from(b % 4) * 500 + 500, max)
    };
    let placed: Vec<(TaskKey, Incarnation)> = state
        .machines()
        .flat_map(|(_, machine)| machine.tasks())
        .map(|&(incarnation, id)| (state.key(id), incarnation))
        .collect();
    let pick = |n: u8| placed.get(usize::from(n) % placed.len().max(1)).copied();
    match kind % 16 {
        0 | 1 => Op::Submit { spec: random_spec(&name), is_alloc_set: false },
        2 => Op::Submit { spec: random_spec("set"), is_alloc_set: true },
        3 => {
            let mut spec = random_spec("inside");
            spec.alloc_set = Some("set".to_owned());
            spec.limit.cpu = Some(MilliCpu(200));
            Op::Submit { spec, is_alloc_set: false }
        }
        4 => Op::Update { spec: random_spec(&name) },
        5 => Op::Kill { job: if c % 4 == 0 { "set".to_owned() } else { name }, indexes: None },
        6..=9 => {
            let waiting: Vec<TaskKey> = state.waiting().collect();
            let assignments = waiting.iter().enumerate().map(|(i, &task)| {
                let id = state.task_id(task).unwrap();
                let on = match state.cell().job(id.job).alloc_set {
                    Some(set) => Target::Alloc(TaskKey {
                        job: state.job_at(set).uid,
                        index: u32::from(b) % 3,
                    }),
                    None => {
                        let number = u32::from(a) + u32::try_from(i).unwrap() * u32::from(c);
                        Target::Machine(MachineId(number % 4))
                    }
                };
                let victims = if b % 2 == 0 { pick(c).into_iter().collect() } else { Vec::new() };
                Assignment { task, on, gpu_devices: 0, victims }
            });
            Op::Assign { assignments: assignments.collect() }
        }
        10 => {
            let causes = [
                Seen::Started,
                Seen::Started,
                Seen::Health(c % 2 == 0),
                Seen::Exited(ExitCause::Finished),
                Seen::Exited(ExitCause::Failed { code: 1 }),
                Seen::Exited(ExitCause::Stopped),
            ];
            let seen = |(n, &(task, incarnation)): (usize, &(TaskKey, Incarnation))| Observation {
                task,
                incarnation,
                seen: causes[(n + usize::from(b)) % causes.len()].clone(),
            };
            Op::Observe { observations: placed.iter().enumerate().map(seen).collect() }
        }
        11 => Op::Health { machines: vec![(MachineId(u32::from(a % 4)), b % 2 == 0)] },
        12 => {
            let causes = [
                EvictCause::MachineLost,
                EvictCause::MachineDrained,
                EvictCause::Updated,
                EvictCause::OutOfResources,
            ];
            Op::Evict { tasks: pick(c).into_iter().collect(), cause: causes[usize::from(a) % 4] }
        }
        14 => {
            let bytes = state.to_bytes();
            Op::RestorePart { restore: u64::from(a % 2), offset: 0, data: bytes.as_slice().into() }
        }
        15 => {
            let restore = u64::from(a % 2);
            let (length, checksum) = state.staged.as_ref().map_or((0, 0), Staged::whole);
            Op::RestoreFinish { restore, length, checksum: checksum ^ u64::from(c == 0) }
        }
        _ => {
            let reservation = Resources {
                cpu: MilliCpu(u64::from(b) * 10),
                ram: Bytes(u64::from(c)),
                ..Resources::default()
            };
            let reservations = pick(a).map(|(key, incarnation)| (key, incarnation, reservation));
            Op::Reserve { reservations: reservations.into_iter().collect() }
        }
    }
}

#[test]
fn a_saved_state_of_a_newer_version_is_refused_by_both_versions() {
    let mut bytes = Cluster::new().state.to_bytes();
    assert!(State::from_bytes(&bytes).is_ok());
    bytes[0] = 9;
    let error = State::from_bytes(&bytes).unwrap_err().to_string();
    assert!(error.contains("format 9 is newer than 1"), "{error}");
}

proptest! {
    #[test]
    fn any_history_leaves_a_sound_state_that_can_be_saved(
        steps in prop::collection::vec(any::<Step>(), 1..60)
    ) {
        let mut cluster = Cluster::new();
        for (at, step) in steps.iter().enumerate() {
            let op = random_op(&cluster.state, *step);
            let before = cluster.state.hash();
            let _ = cluster.run(2000 + at as u64 * 700, op.clone());
            let faults = cluster.state.faults();
            prop_assert!(faults.is_empty(), "after {op:?}: {faults:?}");
            prop_assert_ne!(before, cluster.state.hash()); // the index is part of it
        }
        let bytes = cluster.state.to_bytes();
        prop_assert!(cluster.state.records().to_bytes() == bytes);
        let back = State::from_bytes(&bytes).unwrap();
        prop_assert_eq!(back.faults(), Vec::new());
        prop_assert_eq!(back.hash(), cluster.state.hash());
        prop_assert!(back.to_bytes() == bytes);
        let text = serde_json::to_string(&cluster.state.to_value()).unwrap();
        let back = State::from_saved(serde_json::from_str(&text).unwrap()).unwrap();
        prop_assert_eq!(back.hash(), cluster.state.hash());
        prop_assert!(serde_json::to_string(&back.to_value()).unwrap() == text);
        prop_assert!(back.to_bytes() == bytes);
        // What was read goes on as what was written.
        let (mut one, mut other) = (cluster.state, back);
        for (at, step) in steps.iter().enumerate() {
            let op = random_op(&one, *step);
            let entry = Entry {
                at: Timestamp(90_000 + at as u64 * 700),
                commands: vec![Command { request: None, op }],
            };
            let index = one.index() + 1;
            prop_assert_eq!(one.apply(index, &entry).events, other.apply(index, &entry).events);
            prop_assert_eq!(one.hash(), other.hash());
        }
    }
}

#[test]
fn the_exported_cell_holds_only_what_lives() {
    let mut cluster = Cluster::new();
    let set = Op::Submit { spec: spec("set", 200, 2, 2000, ""), is_alloc_set: true };
    cluster.submit(spec("gone", 100, 1, 100, ""));
    let Ok(Done::Job { uid: set, .. }) = cluster.run(1000, set).0 else { panic!() };
    let inside = cluster.submit(spec("inside", 200, 2, 200, r#", "alloc_set": "set""#));
    let web = cluster.submit(spec("web", 200, 3, 1000, ""));
    cluster.run(1000, Op::Kill { job: "gone".to_owned(), indexes: None }).0.unwrap();
    cluster.run(1000, Op::Expire).0.unwrap();
    cluster.assign(set, 0, 1, &[]);
    cluster.assign(set, 1, 2, &[]);
    for index in 0..2 {
        let on = Target::Alloc(TaskKey { job: set, index });
        let task = TaskKey { job: inside, index };
        let assignments = vec![Assignment { task, on, gpu_devices: 0, victims: Vec::new() }];
        assert!(cluster.run(1000, Op::Assign { assignments }).1.refused.is_empty());
    }
    cluster.assign(web, 0, 3, &[]);
    cluster.assign(web, 1, 0, &[]);
    cluster.see(web, 0, Seen::Started);
    let reservation = Resources { cpu: MilliCpu(300), ram: Bytes(100), ..Resources::default() };
    let key = TaskKey { job: web, index: 0 };
    let reservations = vec![(key, cluster.incarnation(web, 0), reservation)];
    cluster.run(1000, Op::Reserve { reservations }).0.unwrap();
    cluster.run(1000, Op::Kill { job: "web".to_owned(), indexes: Some([1].into()) }).0.unwrap();
    cluster.run(1000, Op::Drain { machine: "a".to_owned() }).0.unwrap();
    cluster.run(1000, Op::Health { machines: vec![(MachineId(2), false)] }).0.unwrap();

    let cell = cluster.state.export();
    let names: Vec<&str> = cell.machines.iter().map(|machine| machine.name.as_str()).collect();
    assert_eq!(names, ["b", "d"]);
    let names: Vec<&str> = cell.jobs.iter().map(|job| job.name.as_str()).collect();
    assert_eq!(names, ["set", "inside", "web"]);
    let state = |name: &str| cell.task(cell.find_task(name).unwrap()).state;
    let on = |host| TaskState::Running { on: Some(host) };
    let out_of_sight = TaskState::Running { on: None };
    assert_eq!(state("set/0"), on(Host::Machine(MachineId(0))));
    assert_eq!(state("set/1"), out_of_sight);
    assert_eq!(state("inside/0"), on(Host::Alloc(cell.find_task("set/0").unwrap())));
    assert_eq!(state("inside/1"), out_of_sight);
    assert_eq!(state("web/0"), on(Host::Machine(MachineId(1))));
    assert_eq!(state("web/2"), TaskState::Pending);
    assert_eq!(cell.find_task("web/1"), None); // it only has to go
    let web = cell.task(cell.find_task("web/0").unwrap());
    assert_eq!(web.reservation, Some(reservation));
    assert_eq!(cell.job(JobId(1)).alloc_set, Some(JobId(0)));
}

#[test]
fn an_alloc_set_that_ended_is_exported_as_long_as_a_job_waits_for_it() {
    let mut cluster = Cluster::new();
    let set = Op::Submit { spec: spec("set", 200, 2, 2000, ""), is_alloc_set: true };
    cluster.run(1000, set).0.unwrap();
    cluster.submit(spec("inside", 200, 2, 200, r#", "alloc_set": "set""#));
    cluster.run(1000, Op::Kill { job: "set".to_owned(), indexes: None }).0.unwrap();
    let cell = cluster.state.export();
    assert_eq!((cell.jobs[0].tasks.len(), cell.jobs[1].tasks.len()), (0, 2));
    assert_eq!(cell.jobs[1].alloc_set, Some(JobId(0)));
}

#[test]
fn an_ended_job_makes_room_for_later_ones_with_many_tasks() {
    let mut cluster = Cluster::new();
    let mut end = |name: &str, count: u32, at: u64| {
        cluster.submit(spec(name, 50, count, 10, ""));
        cluster.run(at, Op::Kill { job: name.to_owned(), indexes: None }).0.unwrap();
        cluster.run(at, Op::Expire).0.unwrap();
        cluster.state.jobs().map(|(_, job)| job.name().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(end("first", 1, 1001), ["first"]);
    assert_eq!(end("second", 199_999, 1002), ["first", "second"]);
    // 199,999 + 1 tasks of jobs that ended later than the first.
    assert_eq!(end("third", 1, 1003), ["second", "third"]);
    assert_eq!(cluster.state.faults(), []);
}

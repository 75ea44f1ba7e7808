use crate::MachineId;
use crate::borglet::{ExitCause, Incarnation, TaskKey};
use crate::live::tests::{Cluster, spec};
use crate::live::{
    Assignment, Blob, Command, Done, Entry, EvictCause, Health, Left, Op, Outcome, Phase, Rejected,
    Request, Seen, Settings, State, Target, Timestamp, What, restore_checksum,
};
use crate::spec::MachineSpec;

/// The operations that restore these bytes, in parts of this size.
fn restore_ops(restore: u64, bytes: &[u8], part: usize) -> Vec<Op> {
    let mut ops = Vec::new();
    for (number, data) in bytes.chunks(part).enumerate() {
        let offset = (number * part) as u64;
        ops.push(Op::RestorePart { restore, offset, data: Blob::from(data) });
    }
    let (length, checksum) = (bytes.len() as u64, restore_checksum(bytes));
    ops.push(Op::RestoreFinish { restore, length, checksum });
    ops
}

/// Restores the bytes at 9 s; what happened.
fn restore(cluster: &mut Cluster, bytes: &[u8]) -> What {
    let mut events = Vec::new();
    for op in restore_ops(7, bytes, 1000) {
        let (outcome, applied) = cluster.run(9000, op);
        assert_eq!(outcome, Ok(Done::Done));
        events = applied.events;
    }
    assert_eq!(cluster.state.faults(), []);
    events.pop().unwrap().what
}

fn phase(cluster: &Cluster, job: u64, index: u32) -> Phase {
    let id = cluster.state.task_id(TaskKey { job, index }).unwrap();
    cluster.state.record(id).phase.clone()
}

fn kill(cluster: &mut Cluster, job: &str) {
    cluster.run(2000, Op::Kill { job: job.to_owned(), indexes: None }).0.unwrap();
}

#[test]
fn old_jobs_come_back_and_no_number_is_given_twice() {
    let mut cluster = Cluster::new();
    let web = cluster.submit(spec("web", 200, 2, 1000, ""));
    cluster.assign(web, 0, 0, &[]);
    cluster.see(web, 0, Seen::Started);
    let bytes = cluster.state.to_bytes();
    let from = cluster.state.index();

    kill(&mut cluster, "web");
    cluster.see(web, 0, Seen::Exited(ExitCause::Stopped));
    let later = cluster.submit(spec("later", 200, 1, 1000, ""));
    cluster.assign(later, 0, 1, &[]);
    let last = cluster.incarnation(later, 0);
    let index = cluster.state.index();
    let what = restore(&mut cluster, &bytes);
    assert_eq!(what, What::Restored { from_index: from, kept_count: 0, pending_count: 1 });
    assert!(cluster.state.index() > index && cluster.state.now() == Timestamp(9000));
    assert!(cluster.state.job("later").is_none());
    let Phase::Waiting { since: Timestamp(9000), after: Some(Left::Restored), .. } =
        phase(&cluster, web, 0)
    else {
        panic!("{:?}", phase(&cluster, web, 0))
    };
    assert!(matches!(phase(&cluster, web, 1), Phase::Waiting { after: None, .. }));
    // What runs and is not in the state is not wanted any more.
    assert!(cluster.state.machine_at(MachineId(1)).tasks().is_empty());

    cluster.state.now = Timestamp(1000); // the helpers' time
    cluster.assign(web, 0, 0, &[]);
    assert!(matches!(phase(&cluster, web, 0), Phase::Waiting { .. }), "not before 9 s");
    cluster.state.now = Timestamp(9000);
    cluster.assign(web, 0, 0, &[]);
    assert!(cluster.incarnation(web, 0) > last);
    assert!(cluster.submit(spec("next", 200, 1, 1000, "")) > later);
}

#[test]
fn a_task_that_runs_where_it_ran_is_left_alone() {
    let mut cluster = Cluster::new();
    let web = cluster.submit(spec("web", 200, 3, 1000, ""));
    for index in 0..3 {
        cluster.assign(web, index, index, &[]);
    }
    cluster.see(web, 0, Seen::Started);
    let bytes = cluster.state.to_bytes();
    let places: Vec<Incarnation> = (0..3).map(|index| cluster.incarnation(web, index)).collect();

    // It was seen only later, one is placed anew, and one is about to be.
    cluster.see(web, 1, Seen::Started);
    cluster.see(web, 0, Seen::Health(false));
    cluster.see(web, 2, Seen::Exited(ExitCause::Finished));
    cluster.assign(web, 2, 2, &[]);
    let what = restore(&mut cluster, &bytes);
    let What::Restored { kept_count: 2, pending_count: 1, .. } = what else { panic!("{what:?}") };
    for index in [0, 1] {
        let Phase::Running { place, started_at, is_healthy } = phase(&cluster, web, index) else {
            panic!("{:?}", phase(&cluster, web, index))
        };
        assert_eq!(place.incarnation, places[index as usize]);
        // What was seen since then holds.
        assert_eq!((started_at.is_some(), is_healthy), (true, index == 1));
    }
    assert!(matches!(phase(&cluster, web, 2), Phase::Waiting { .. }));
    // Its machine is told that it is not wanted.
    let machine = cluster.state.machine_at(MachineId(2));
    assert_eq!((machine.generation, machine.tasks()), (cluster.state.index(), &[][..]));
}

#[test]
fn what_is_in_an_alloc_stays_with_it() {
    let mut cluster = Cluster::new();
    let set = Op::Submit { spec: spec("set", 200, 2, 2000, ""), is_alloc_set: true };
    let Ok(Done::Job { uid: set, .. }) = cluster.run(1000, set).0 else { panic!() };
    let inside = cluster.submit(spec("inside", 200, 2, 200, r#", "alloc_set": "set""#));
    cluster.assign(set, 0, 1, &[]);
    cluster.assign(set, 1, 2, &[]);
    for index in 0..2 {
        let on = Target::Alloc(TaskKey { job: set, index });
        let task = TaskKey { job: inside, index };
        let assignments = vec![Assignment { task, on, gpu_devices: 0, victims: Vec::new() }];
        assert!(cluster.run(1000, Op::Assign { assignments }).1.refused.is_empty());
    }
    let bytes = cluster.state.to_bytes();
    let alloc = (TaskKey { job: set, index: 1 }, cluster.incarnation(set, 1));
    let evict = Op::Evict { tasks: vec![alloc], cause: EvictCause::MachineDrained };
    cluster.run(2000, Op::Drain { machine: "c".to_owned() }).0.unwrap();
    cluster.run(2000, evict).0.unwrap();
    cluster.see(inside, 1, Seen::Exited(ExitCause::Stopped));
    restore(&mut cluster, &bytes);
    let phases = |job| [cluster.phase(job, 0), cluster.phase(job, 1)];
    assert_eq!(phases(set), ["running", "pending"]);
    assert_eq!(phases(inside), ["starting", "pending"]);
}

#[test]
fn numbers_of_another_cell_are_not_taken_for_ones_own() {
    let there = |name: &str, at: u64| {
        let mut cluster = Cluster::new();
        let job = cluster.submit(spec(name, 200, 1, 1000, ""));
        let on = Target::Machine(MachineId(0));
        let task = TaskKey { job, index: 0 };
        let assignments = vec![Assignment { task, on, gpu_devices: 0, victims: Vec::new() }];
        cluster.run(at, Op::Assign { assignments }).0.unwrap();
        (cluster, job)
    };
    let (one, job) = there("web", 1000);
    for (name, at, is_same) in [("other", 1000, false), ("web", 1001, false), ("web", 1000, true)] {
        let (other, other_job) = there(name, at);
        assert_eq!(job, other_job);
        let mut one = Cluster { state: one.state.clone() };
        restore(&mut one, &other.state.to_bytes());
        let is_kept = matches!(phase(&one, job, 0), Phase::Running { .. });
        assert_eq!(is_kept, is_same, "{name} at {at}");
    }
}

#[test]
fn machines_are_those_there_are_and_drained_as_they_were() {
    let mut cluster = Cluster::new();
    let web = cluster.submit(spec("web", 200, 1, 1000, ""));
    cluster.assign(web, 0, 3, &[]);
    cluster.run(1000, Op::Drain { machine: "a".to_owned() }).0.unwrap();
    let bytes = cluster.state.to_bytes();

    cluster.run(1000, Op::Repair { machine: "a".to_owned() }).0.unwrap();
    cluster.run(1000, Op::Drain { machine: "b".to_owned() }).0.unwrap();
    cluster.see(web, 0, Seen::Exited(ExitCause::Failed { code: 1 }));
    cluster.run(1000, Op::RemoveMachine { machine: "d".to_owned() }).0.unwrap();
    cluster.run(1000, Op::Health { machines: vec![(MachineId(2), false)] }).0.unwrap();
    let text = r#"{"name": "new", "cpu": 8, "ram": 4096}"#;
    let machine: (MachineSpec, String) = (serde_json::from_str(text).unwrap(), "new:1".to_owned());
    cluster.run(1000, Op::AddMachines { machines: vec![machine] }).0.unwrap();
    let down = cluster.state.machine_at(MachineId(2)).health;
    restore(&mut cluster, &bytes);
    let seen: Vec<(&str, bool, Health)> = cluster
        .state
        .machines()
        .map(|(_, machine)| (machine.spec.name.as_str(), machine.is_drained, machine.health))
        .collect();
    let came_back = Health::Down { since: Timestamp(9000) };
    assert_eq!(
        seen,
        [
            ("a", true, Health::Up),
            ("b", false, Health::Up),
            ("c", false, down),
            ("d", false, came_back),
            ("new", false, Health::Unknown),
        ]
    );
    assert_eq!(cluster.state.machine("d"), Some(MachineId(3)));
    assert_eq!(cluster.phase(web, 0), "pending");
}

#[test]
fn a_machine_that_was_never_here_is_added_as_down_under_another_number() {
    let mut there = Cluster::new();
    let text = r#"{"name": "far", "cpu": 4, "ram": 4096}"#;
    let far: (MachineSpec, String) = (serde_json::from_str(text).unwrap(), "far:1".to_owned());
    there.run(1000, Op::AddMachines { machines: vec![far] }).0.unwrap();
    there.run(1000, Op::Health { machines: vec![(MachineId(4), true)] }).0.unwrap();
    let crash = there.submit(spec("crash", 200, 1, 1000, ""));
    there.run(1000, Op::Configure(Settings { failures_per_machine: 1, ..settings() })).0.unwrap();
    there.assign(crash, 0, 4, &[]);
    there.see(crash, 0, Seen::Exited(ExitCause::Failed { code: 1 }));

    let mut here = Cluster::new();
    let text = r#"{"name": "near", "cpu": 4, "ram": 4096}"#;
    let near: (MachineSpec, String) = (serde_json::from_str(text).unwrap(), "near:1".to_owned());
    here.run(1000, Op::AddMachines { machines: vec![near] }).0.unwrap();
    restore(&mut here, &there.state.to_bytes());
    let far = here.state.machine("far").unwrap();
    assert_eq!((far, here.state.machine("near")), (MachineId(5), Some(MachineId(4))));
    assert!(here.state.machine_at(far).is_down());
    let id = here.state.task_id(TaskKey { job: crash, index: 0 }).unwrap();
    assert_eq!(here.state.record(id).avoid, [far]);
}

fn settings() -> Settings {
    Settings { admins: vec!["ann".to_owned()], ..Settings::default() }
}

#[test]
fn a_job_that_was_about_to_end_has_ended() {
    let mut cluster = Cluster::new();
    let first = cluster.submit(spec("first", 200, 1, 1000, ""));
    cluster.submit(spec("then", 200, 1, 1000, r#", "run": {"start_after": ["first"]}"#));
    cluster.assign(first, 0, 0, &[]);
    cluster.see(first, 0, Seen::Started);
    cluster.run(2000, Op::Kill { job: "first".to_owned(), indexes: Some([0].into()) }).0.unwrap();
    assert_eq!(cluster.phase(first, 0), "stopping");
    let bytes = cluster.state.to_bytes();
    restore(&mut cluster, &bytes);
    assert_eq!(cluster.phase(first, 0), "killed");
    assert!(cluster.state.job("first").unwrap().ended.is_some());
    assert!(cluster.state.job("then").unwrap().waits_for.is_empty());
}

#[test]
fn what_is_missing_or_damaged_is_refused_with_the_reason() {
    let mut cluster = Cluster::new();
    let bytes = cluster.state.to_bytes();
    cluster.submit(spec("web", 200, 1, 1000, ""));
    let ops = restore_ops(7, &bytes, 100);
    assert!(ops.len() > 4);
    let refused = |cluster: &mut Cluster, op: Op, field: &str, part: &str| {
        let outcome = cluster.run(3000, op).0;
        let Err(Rejected::Invalid { field: found, problem }) = &outcome else {
            panic!("{outcome:?}")
        };
        assert!(found == field && problem.contains(part), "{outcome:?}");
        assert!(cluster.state.job("web").is_some());
        assert_eq!(cluster.state.faults(), []);
    };
    let part =
        |restore, offset, data: &[u8]| Op::RestorePart { restore, offset, data: data.into() };
    let finish = |length, checksum| Op::RestoreFinish { restore: 7, length, checksum };
    let finish_right = ops.last().unwrap().clone();
    let (length, checksum) = (bytes.len() as u64, restore_checksum(&bytes));

    let not_here = "nothing of this restore is here";
    refused(&mut cluster, finish_right.clone(), "restore", not_here);
    refused(&mut cluster, ops[1].clone(), "restore", not_here);
    cluster.run(3000, ops[0].clone()).0.unwrap();
    refused(&mut cluster, ops[2].clone(), "offset", "bytes 100 and on are expected, not 200");
    refused(&mut cluster, part(7, 100, b""), "data", "are not in 1..=");
    // A part that was refused does no harm; one that is missing at the end does.
    cluster.run(3000, ops[1].clone()).0.unwrap();
    refused(&mut cluster, finish_right.clone(), "length", "200 bytes came in, not");
    refused(&mut cluster, finish_right.clone(), "restore", not_here);

    let parts = &ops[..ops.len() - 1];
    let bring = |cluster: &mut Cluster| {
        for op in parts {
            cluster.run(3000, op.clone()).0.unwrap();
        }
    };
    bring(&mut cluster);
    refused(&mut cluster, finish(length, checksum ^ 1), "checksum", "is damaged");
    // Another restore takes the place of one that is under way.
    bring(&mut cluster);
    cluster.run(3000, part(8, 0, b"not a state")).0.unwrap();
    refused(&mut cluster, finish_right, "restore", not_here);
    let nonsense = b"not a state";
    let checksum = restore_checksum(nonsense);
    let finish = Op::RestoreFinish { restore: 8, length: 11, checksum };
    refused(&mut cluster, finish, "state", "newer than 1"); // "not " as a number
    let far = part(7, crate::live::RESTORE_BYTES_MAX, b"x");
    refused(&mut cluster, far, "offset", "at most 268435456 bytes");
    // What is never finished goes.
    bring(&mut cluster);
    assert!(cluster.state.staged.is_some());
    cluster.run(3000 + 2 * 3_600_000, Op::Expire).0.unwrap();
    assert!(cluster.state.staged.is_none());
}

/// Applies an operation as a user's request.
fn ask(state: &mut State, session: u64, sequence: u64, user: &str, op: Op) -> Outcome {
    let request = Request { user: user.to_owned(), session, sequence, answered_below: 1 };
    let commands = vec![Command { request: Some(request), op }];
    let entry = Entry { at: Timestamp(5000), commands };
    state.apply(state.index() + 1, &entry).answers.remove(0).1
}

#[test]
fn a_restore_is_a_request_that_is_carried_out_once_and_alike_on_every_replica() {
    let mut one = Cluster::new().state;
    let bytes = one.to_bytes();
    let Ok(Done::Session(session)) = ask(&mut one, 0, 0, "ann", Op::OpenSession) else { panic!() };
    let submit = |name| Op::Submit { spec: spec(name, 0, 1, 1000, ""), is_alloc_set: false };
    ask(&mut one, session, 1, "ann", submit("web")).unwrap();
    let ops = restore_ops(7, &bytes, 1000);
    let error = ask(&mut one, session, 2, "bob", ops[0].clone()).unwrap_err();
    assert!(matches!(error, Rejected::Forbidden { .. }), "{error}");

    // One replica goes on, the other is loaded from what was written down in between.
    let (last, parts) = ops.split_last().unwrap();
    for (op, sequence) in parts.iter().zip(3..) {
        ask(&mut one, session, sequence, "ann", op.clone()).unwrap();
    }
    let mut other = State::from_bytes(&one.to_bytes()).unwrap();
    for state in [&mut one, &mut other] {
        assert_eq!(ask(state, session, 99, "ann", last.clone()), Ok(Done::Done));
        assert!(state.job("web").is_none());
    }
    assert_eq!(one.hash(), other.hash());
    assert_eq!(one.to_bytes(), other.to_bytes());
    // The session and its answers are still there, and a repetition does nothing.
    ask(&mut one, session, 100, "ann", submit("after")).unwrap();
    assert_eq!(ask(&mut one, session, 99, "ann", last.clone()), Ok(Done::Done));
    assert!(one.job("after").is_some());
    assert!(matches!(ask(&mut one, session, 1, "ann", submit("web")), Ok(Done::Job { .. })));
    assert!(one.job("web").is_none());
}

//! The life of jobs under one master.

use cell::JobKind;
use cell::borglet::Incarnation;
use cell::live::{EvictCause, Op, Settings, TaskStep, What, restore_checksum};

use crate::local::Local;

fn job(name: &str, priority: u16, count: u32, cpu: &str, more: &str) -> String {
    format!(
        r#"{{"name": "{name}", "user": "ann", "priority": {priority}, "count": {count},
            "limit": {{"cpu": "{cpu}", "ram": 256}}{more}}}"#
    )
}

#[test]
fn a_job_is_placed_runs_and_ends() {
    let mut local = Local::new(3, Settings::default());
    local.submit(&job("short", 100, 6, "1", ""));
    local.run_ms(200);
    assert_eq!(local.count("short", "starting") + local.count("short", "running"), 6);
    local.run_ms(4_000);
    assert_eq!(local.count("short", "finished"), 6);
    assert!(local.master.core.state().job("short").unwrap().ended.is_some());
    assert!(local.machines.all.iter().all(|borglet| borglet.machine().alive().count() == 0));
}

#[test]
fn no_task_stops_for_want_of_a_master_that_polls_as_often_as_it_does() {
    let mut local = Local::new(1, Settings { poll_interval_ms: 2_000, ..Settings::default() });
    for (name, seconds) in [("least", 1), ("just", 2)] {
        let run = format!(r#", "run": {{"stop_after_disconnect_seconds": {seconds}}}"#);
        local.submit(&job(name, 100, 1, "1", &run));
    }
    local.run_ms(30_000);
    assert_eq!((local.count("least", "running"), local.count("just", "running")), (1, 1));
    local.machines.cut_off[0] = true;
    local.run_ms(6_000);
    assert_eq!(local.machines.all[0].machine().alive().count(), 0);
}

#[test]
fn a_preempted_task_gets_notice_and_comes_back() {
    let mut local = Local::new(1, Settings::default());
    local.submit(&job("stubborn", 100, 1, "3", r#", "run": {"grace_seconds": 3}"#));
    local.run_ms(3_000);
    assert_eq!(local.count("stubborn", "running"), 1);
    local.submit(&job("prod", 200, 1, "3", ""));
    local.run_ms(1_000);
    assert_eq!((local.count("stubborn", "stopping"), local.count("prod", "assigned")), (1, 1));
    // It ignores the notice and is killed when its grace has passed; then its room is free.
    local.run_ms(9_000);
    assert_eq!((local.count("stubborn", "pending"), local.count("prod", "running")), (1, 1));
    local.ask(Op::Kill { job: "prod".to_owned(), indexes: None }).unwrap();
    local.run_ms(5_000);
    assert_eq!((local.count("stubborn", "running"), local.count("prod", "killed")), (1, 1));
}

#[test]
fn tasks_of_a_lost_machine_run_elsewhere_and_the_old_copy_ends_when_it_heals() {
    let mut local = Local::new(4, Settings::default());
    let web = local.submit(&job("web", 200, 3, "1", r#", "different_machines": true"#));
    local.run_ms(4_000);
    assert_eq!(local.count("web", "running"), 3);
    let lost = local.machine_of(web, 0).unwrap();
    local.machines.cut_off[lost.index()] = true;
    local.run_ms(15_000);
    assert_eq!(local.count("web", "running"), 3);
    assert_ne!(local.machine_of(web, 0), Some(lost));
    assert_eq!(local.machines.all[lost.index()].machine().alive().count(), 1);
    local.machines.cut_off[lost.index()] = false;
    local.run_ms(10_000);
    assert_eq!(local.machines.all[lost.index()].machine().alive().count(), 0);
    assert_eq!(local.count("web", "running"), 3);
}

#[test]
fn nothing_is_given_up_when_most_machines_vanish_at_once() {
    let mut local = Local::new(4, Settings::default());
    let web = local.submit(&job("web", 200, 8, "1", ""));
    local.run_ms(4_000);
    local.machines.cut_off = vec![true, true, true, false];
    local.run_ms(60_000);
    assert_eq!(local.count("web", "running"), 8);
    local.machines.cut_off = vec![false; 4];
    local.run_ms(10_000);
    assert_eq!(local.count("web", "running"), 8);
    assert_eq!(local.phase(web, 0), "running");
}

#[test]
fn nothing_is_given_up_when_half_of_the_machines_vanish_one_after_the_other() {
    // Each is asked at its own time, so that they are found to be down over one interval.
    let mut local = Local::new(10, Settings { poll_interval_ms: 4_000, ..Settings::default() });
    local.submit(&job("web", 200, 30, "1", ""));
    local.run_ms(8_000);
    assert_eq!(local.count("web", "running"), 30);
    local.machines.cut_off[..5].fill(true);
    local.run_ms(60_000);
    assert_eq!(local.master.core.state().machine_counts(), (10, 5));
    let is_eviction = |what: &What| matches!(what, What::Task { step: TaskStep::Evicted(_), .. });
    assert!(!local.master.events().iter().any(|event| is_eviction(&event.what)));
}

#[test]
fn a_leader_whose_clock_was_wrong_stops_nothing() {
    let hour = 3_600_000;
    let mut local = Local::new(3, Settings::default());
    let runs = |local: &mut Local, name: &str| {
        local.submit(&job(name, 200, 2, "0.2", ""));
        local.run_ms(4_000);
        assert_eq!(local.count(name, "running"), 2, "{name}");
    };
    local.another_leads(2, hour);
    runs(&mut local, "ahead");
    local.another_leads(3, 0);
    runs(&mut local, "after");
    // Machines that fall silent are noticed as soon as ever.
    let machine = local.machine_of(local.master.core.state().job("after").unwrap().uid, 0).unwrap();
    local.machines.cut_off[machine.index()] = true;
    local.run_ms(20_000);
    assert!(local.master.core.state().machine_at(machine).is_down());
    local.machines.cut_off[machine.index()] = false;
    // And set back while it leads.
    local.set_ahead_ms(-500_000);
    runs(&mut local, "back");
}

#[test]
fn a_rollout_goes_on_when_a_later_update_needs_no_restart() {
    let mut local = Local::new(4, Settings::default());
    let text = |command: &str, grace: u32| {
        let run = format!(
            r#", "run": {{"healthy_seconds": 5, "command": ["{command}"], "grace_seconds": {grace}}}"#
        );
        Box::new(serde_json::from_str(&job("web", 200, 4, "1", &run)).unwrap())
    };
    local.ask(Op::Submit { spec: text("one", 1), is_alloc_set: false }).unwrap();
    local.run_ms(9_000);
    local.ask(Op::Update { spec: text("two", 1) }).unwrap();
    local.run_ms(4_000);
    let placed = |local: &Local| {
        let job = local.master.core.state().job("web").unwrap();
        job.tasks.iter().map(|task| task.placed_count).collect::<Vec<_>>()
    };
    assert_eq!(placed(&local).iter().sum::<u32>(), 5, "one of four");
    local.ask(Op::Update { spec: text("two", 2) }).unwrap();
    local.run_ms(60_000);
    assert_eq!(placed(&local), [2; 4], "each is started anew once");
    // Taken back halfway, an update comes to those that it had come to.
    local.ask(Op::Update { spec: text("three", 2) }).unwrap();
    local.run_ms(4_000);
    assert_eq!(placed(&local).iter().sum::<u32>(), 9);
    local.ask(Op::Undo { job: "web".to_owned() }).unwrap();
    local.run_ms(60_000);
    assert_eq!(placed(&local).iter().sum::<u32>(), 10);
    let job = local.master.core.state().job("web").unwrap();
    assert!(job.tasks.iter().all(|task| !job.is_outdated(task)));
}

#[test]
fn an_update_to_what_is_not_healthy_stops_rolling() {
    let mut local = Local::new(4, Settings::default());
    let text = |command: &str| {
        let run = format!(r#", "run": {{"update_max_down": 2, "command": ["{command}"]}}"#);
        Box::new(serde_json::from_str(&job("web", 200, 6, "1", &run)).unwrap())
    };
    local.ask(Op::Submit { spec: text("well"), is_alloc_set: false }).unwrap();
    local.run_ms(4_000);
    local.ask(Op::Update { spec: text("sick") }).unwrap();
    local.run_ms(60_000);
    let version = |local: &Local, version| {
        let job = local.master.core.state().job("web").unwrap();
        job.tasks.iter().filter(|task| task.version == version).count()
    };
    assert_eq!((version(&local, 1), version(&local, 2)), (4, 2));
    assert_eq!(local.count("web", "running"), 6);
    local.ask(Op::Undo { job: "web".to_owned() }).unwrap();
    local.run_ms(60_000);
    assert_eq!((version(&local, 3), local.count("web", "running")), (6, 6));
}

#[test]
fn an_update_rolls_a_few_at_a_time_and_can_be_undone() {
    let mut local = Local::new(4, Settings::default());
    let text = |cpu: &str, command: &str| {
        let run = format!(r#", "run": {{"update_max_down": 2, "command": ["{command}"]}}"#);
        job("web", 200, 6, cpu, &run)
    };
    local.submit(&text("1", "one"));
    local.run_ms(4_000);
    let spec = Box::new(serde_json::from_str(&text("1", "two")).unwrap());
    local.ask(Op::Update { spec }).unwrap();
    let mut most_down = 0;
    for _ in 0..1_000 {
        local.run_ms(20);
        most_down = most_down.max(6 - local.count("web", "running"));
    }
    assert_eq!(most_down, 2);
    let is_at = |local: &Local, version| {
        let job = local.master.core.state().job("web").unwrap();
        job.tasks.iter().all(|task| task.version == version)
    };
    assert!(is_at(&local, 2));
    local.ask(Op::Undo { job: "web".to_owned() }).unwrap();
    local.run_ms(30_000);
    assert!(is_at(&local, 3));
    assert_eq!(local.master.core.state().job("web").unwrap().spec.run.command, ["one"]);
}

#[test]
fn an_update_that_crashes_stops_rolling() {
    let mut local = Local::new(4, Settings::default());
    // The fake machine goes by the job's name, so the new version crashes by its limit: it fits nowhere.
    let text = |cpu: &str| job("web", 200, 3, cpu, "");
    local.submit(&text("1"));
    local.run_ms(4_000);
    let spec = Box::new(serde_json::from_str(&text("5")).unwrap());
    local.ask(Op::Update { spec }).unwrap();
    local.run_ms(20_000);
    assert_eq!((local.count("web", "running"), local.count("web", "pending")), (2, 1));
    local.ask(Op::Undo { job: "web".to_owned() }).unwrap();
    local.run_ms(10_000);
    assert_eq!(local.count("web", "running"), 3);
}

#[test]
fn a_drained_machine_empties_within_the_limit_on_disruption() {
    let mut local = Local::new(3, Settings::default());
    let web = local.submit(&job("web", 200, 6, "1", r#", "max_disrupted": 1"#));
    local.run_ms(4_000);
    let machine = local.machine_of(web, 0).unwrap();
    local.ask(Op::Drain { machine: format!("m{}", machine.0) }).unwrap();
    let mut most_down = 0;
    for _ in 0..2_000 {
        local.run_ms(20);
        most_down = most_down.max(6 - local.count("web", "running"));
    }
    assert_eq!(most_down, 1);
    assert_eq!(local.count("web", "running"), 6);
    assert!(local.master.core.state().machine_at(machine).tasks().is_empty());
    local.ask(Op::RemoveMachine { machine: format!("m{}", machine.0) }).unwrap();
}

#[test]
fn a_crash_loop_backs_off() {
    let mut local = Local::new(2, Settings::default());
    local.submit(&job("crash", 100, 1, "1", ""));
    local.run_ms(60_000);
    let placed = local.master.core.state().job("crash").unwrap().tasks[0].placed_count;
    // Back-offs of 1, 2, 4, 8, 16, 32 s: six or seven starts in a minute.
    assert!((5..=7).contains(&placed), "{placed}");
}

#[test]
fn idle_reservations_decay_and_make_room_for_batch() {
    let settings = Settings { reservation_hold_ms: 10_000, ..Settings::default() };
    let mut local = Local::new(1, settings);
    local.submit(&job("idle", 200, 1, "4", ""));
    local.run_ms(4_000);
    local.submit(&job("batch", 100, 1, "3", ""));
    local.run_ms(10_000);
    assert_eq!(local.count("batch", "pending"), 1);
    // Usage is 0.4 cores: with the margin the reservation falls towards 0.46 of 4.
    local.run_ms(900_000);
    assert_eq!(local.count("batch", "running"), 1);
}

#[test]
fn what_starts_after_another_waits_for_it() {
    let mut local = Local::new(1, Settings::default());
    local.submit(&job("short", 100, 1, "1", ""));
    local.submit(&job("then", 100, 1, "1", r#", "run": {"start_after": ["short"]}"#));
    local.run_ms(500);
    assert_eq!(local.count("then", "pending"), 1);
    local.run_ms(6_000);
    assert_eq!(local.count("then", "running"), 1);
}

#[test]
fn every_eviction_is_an_event_with_its_cause() {
    let mut local = Local::new(1, Settings::default());
    local.submit(&job("low", 100, 1, "3", ""));
    local.run_ms(3_000);
    local.submit(&job("high", 200, 1, "3", ""));
    local.run_ms(3_000);
    let steps: Vec<TaskStep> = local
        .master
        .events()
        .iter()
        .filter_map(|event| match &event.what {
            What::Task { job, step, .. } if &**job == "low" => Some(step.clone()),
            What::Task { .. }
            | What::Submitted { .. }
            | What::Updated { .. }
            | What::Ended { .. }
            | What::Machine { .. }
            | What::Restored { .. } => None,
        })
        .collect();
    assert_eq!(
        steps,
        [
            TaskStep::Scheduled,
            TaskStep::Started,
            TaskStep::Notified(EvictCause::Preempted),
            TaskStep::Evicted(EvictCause::Preempted),
        ]
    );
}

#[test]
fn it_is_counted_how_many_more_tasks_fit_and_what_stops_the_next() {
    let mut local = Local::new(3, Settings::default());
    local.submit(&job("low", 100, 2, "3", ""));
    local.run_ms(3_000);
    let mut ask = |text: String, copy_count_max| {
        let spec = serde_json::from_str(&text).unwrap();
        let (request, policy, seed) = local.master.core.fits(&spec, JobKind::Job).unwrap();
        let counts = request.run(&policy, seed, copy_count_max);
        let stopped_by: Vec<u32> = counts.stopped_by.iter().map(|it| it.host_count).collect();
        (counts.free_count, counts.preempting_count, counts.is_at_least, stopped_by)
    };
    // Three machines of 4 cores; two tasks of 3 are on two of them.
    assert_eq!(ask(job("more", 100, 1, "1", ""), 1_000), (6, 6, false, vec![3]));
    assert_eq!(ask(job("more", 200, 1, "4", ""), 1_000), (1, 3, false, vec![3]));
    // A job that is there grows.
    assert_eq!(ask(job("low", 100, 2, "1", r#", "different_machines": true"#), 9).1, 1);
    assert_eq!(ask(job("more", 100, 1, "1", ""), 5), (5, 5, true, vec![]));
    let spec = serde_json::from_str(&job("in", 100, 1, "1", r#", "alloc_set": "none""#)).unwrap();
    let error = local.master.core.fits(&spec, JobKind::Job).unwrap_err();
    assert_eq!(error.field, "alloc_set");
}

/// Restores the state of these bytes, in two parts.
fn restore(local: &mut Local, bytes: &[u8]) {
    let (one, two) = bytes.split_at(bytes.len() / 2);
    for (offset, data) in [(0, one), (one.len() as u64, two)] {
        local.ask(Op::RestorePart { restore: 7, offset, data: data.into() }).expect("taken in");
    }
    let (length, checksum) = (bytes.len() as u64, restore_checksum(bytes));
    local.ask(Op::RestoreFinish { restore: 7, length, checksum }).expect("restored");
}

/// What runs on all machines by itself, sorted.
fn alive(local: &Local) -> Vec<String> {
    let alive = local.machines.all.iter().flat_map(|borglet| borglet.machine().alive());
    let mut names: Vec<String> = alive.map(|task| task.name.clone()).collect();
    names.sort_unstable();
    names
}

#[test]
fn after_a_restore_machines_come_to_run_what_the_state_has() {
    let mut local = Local::new(3, Settings::default());
    let stays = local.submit(&job("stays", 200, 2, "1", ""));
    local.submit(&job("killed", 200, 3, "1", ""));
    local.run_ms(4_000);
    let incarnations = |local: &Local| -> Vec<Option<Incarnation>> {
        let tasks = &local.master.core.state().job("stays").unwrap().tasks;
        tasks.iter().map(|task| task.phase.place().map(|place| place.incarnation)).collect()
    };
    let before = (incarnations(&local), alive(&local));
    let bytes = local.master.core.state().to_bytes();

    local.ask(Op::Kill { job: "killed".to_owned(), indexes: None }).unwrap();
    local.submit(&job("later", 210, 6, "1", ""));
    local.run_ms(6_000);
    assert_eq!(local.count("later", "running"), 6);
    assert_eq!(alive(&local).len(), 8);

    restore(&mut local, &bytes);
    assert!(local.master.core.state().job("later").is_none());
    assert_eq!(local.count("stays", "running"), 2);
    local.run_ms(10_000);
    assert_eq!(local.count("killed", "running"), 3);
    assert_eq!((incarnations(&local), alive(&local)), before);
    let restored = |event: &&cell::live::Event| matches!(event.what, What::Restored { .. });
    let Some(What::Restored { kept_count: 2, pending_count: 3, .. }) =
        local.master.events().iter().find(restored).map(|event| event.what.clone())
    else {
        panic!("it is told")
    };
    // Passes, reports and health go on.
    local.submit(&job("more", 200, 4, "1", ""));
    let machine = local.machine_of(stays, 0).unwrap();
    local.machines.cut_off[machine.index()] = true;
    local.run_ms(20_000);
    assert_eq!(local.count("stays", "running"), 2);
    assert_ne!(local.machine_of(stays, 0), Some(machine));
}

#[test]
fn a_restore_takes_in_machines_that_are_not_there_and_keeps_those_that_are() {
    let mut local = Local::new(2, Settings::default());
    let machine = |name: &str| {
        let text = format!(r#"{{"name": "{name}", "cpu": 4, "ram": 4096}}"#);
        (serde_json::from_str(&text).unwrap(), format!("{name}:1"))
    };
    local.ask(Op::RemoveMachine { machine: "m1".to_owned() }).unwrap();
    let bytes = local.master.core.state().to_bytes();
    local.ask(Op::AddMachines { machines: vec![machine("m1")] }).unwrap();
    local.run_ms(4_000);
    local.submit(&job("web", 200, 2, "1", r#", "different_machines": true"#));
    local.run_ms(4_000);
    assert_eq!(local.count("web", "running"), 2);
    restore(&mut local, &bytes);
    local.run_ms(6_000);
    assert_eq!(alive(&local), [""; 0]);
    // m1 was removed then, and is here now: it is used.
    local.submit(&job("web", 200, 2, "1", r#", "different_machines": true"#));
    local.run_ms(4_000);
    assert_eq!(local.count("web", "running"), 2);
}

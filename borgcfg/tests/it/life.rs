//! A job from its submission to its end, and what an operator does meanwhile.

use crate::cell::{Cell, example, until};

#[test]
fn a_job_is_submitted_runs_is_explained_and_killed() {
    let cell = Cell::alone().with_machines(2);
    let said = cell.borgcfg(&["submit", &example("master/hello.yaml"), "--wait=60s"]);
    assert!(said.err.contains("3 of 3 tasks run"), "{said:?}");
    let out = said.out();
    assert!(out.starts_with("hello: submitted as job ") && out.ends_with(", 3 tasks\n"), "{out}");

    let table = cell.borgcfg(&["status"]).out();
    assert!(table.is_ascii(), "a pipe gets plain text: {table}");
    let line = table.lines().find(|line| line.starts_with("hello ")).unwrap();
    assert!(line.contains("ann") && line.contains("50 free") && line.contains("running"), "{line}");

    assert!(table.contains("\nsince replica 1 leads (term "), "{table}");
    assert!(table.contains("; assignments 3, of them refused 0 (0.0 % wasted work)"), "{table}");
    let planning = cell.borgcfg(&["status", "--json"]).json()["cell"]["planning"].clone();
    assert_eq!((&planning["replica"], &planning["placed_count"]), (&1.into(), &3.into()));
    assert!(planning["pass_count"].as_u64() > Some(0), "{planning}");

    let report = cell.borgcfg(&["status", "hello", "--json"]).json();
    assert_eq!(report["job"]["counts"]["running"], 3);
    let tasks = report["tasks"].as_array().unwrap();
    assert!(tasks.iter().all(|task| task["machine"].as_str().unwrap().starts_with("m-")));
    let machine = tasks[0]["machine"].as_str().unwrap();
    let here = cell.borgcfg(&["status", "hello", "--machine", machine, "--json"]).json();
    assert_eq!(here["tasks"][0]["name"], "hello/0");

    let why = cell.borgcfg(&["why", "hello/0"]).out();
    assert!(why.contains("hello/0 is running") && why.contains(machine), "{why}");

    cell.borgcfg(&["kill", "hello"]).out();
    until("it is killed", || {
        let report = cell.borgcfg(&["status", "hello", "--json"]).json();
        (report["job"]["ended"]["how"] == "killed").then_some(())
    });
    let events = cell.borgcfg(&["events", "--json"]).out();
    let seen: Vec<serde_json::Value> =
        events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for what in ["machine-up", "submitted", "scheduled", "started", "died", "job-killed"] {
        assert!(seen.iter().any(|event| event["what"] == what), "{what}: {events}");
    }
    let started = seen.iter().find(|event| event["what"] == "started").unwrap();
    assert_eq!(started["job"], "hello");
    assert!(started["machine"].as_str().unwrap().starts_with("m-"), "{started}");
}

#[test]
fn an_update_is_rolled_out_and_undone() {
    let cell = Cell::alone().with_machines(1);
    cell.borgcfg(&["submit", &example("master/hello.yaml"), "--wait=60s"]).out();
    // What is printed is what can be given back.
    let spec = cell.borgcfg(&["status", "hello", "--spec"]).out();
    let file = cell.file("hello.yaml", &spec.replace("count: 3", "count: 4"));
    let updated = cell.borgcfg(&["update", &file, "--wait=60s", "--json"]).json();
    assert_eq!(updated[0]["version"], 2);
    let alive = || {
        let report = cell.borgcfg(&["status", "hello", "--json"]).json();
        report["job"]["counts"]["running"].as_u64().unwrap()
    };
    assert_eq!(alive(), 4);
    let undone = cell.borgcfg(&["update", "--undo", "hello", "--wait=60s"]).out();
    assert_eq!(undone, "hello: updated to version 3\n");
    assert_eq!(alive(), 3);
    cell.borgcfg(&["kill", "hello/1"]).out();
    until("one task is gone", || (alive() == 2).then_some(()));
}

#[test]
fn a_task_without_a_place_is_explained() {
    let cell = Cell::alone().with_machines(2);
    let huge = "name: huge\npriority: 50\nlimit: {cpu: 1000, ram: 1GiB}\n";
    let file = cell.file("huge.yaml", huge);
    let late = cell.borgcfg(&["submit", &file, "--wait=1s"]).err;
    assert!(late.contains("`borgcfg why huge/0`"), "{late}");
    let why = cell.borgcfg(&["why", "huge/0", "--json"]).json();
    assert_eq!((&why["phase"], &why["host_count"]), (&"pending".into(), &2.into()));
    let why = cell.borgcfg(&["why", "huge/0"]).out();
    assert_eq!(why.matches("less CPU").count(), 1, "{why}");
    let pending = cell.borgcfg(&["status", "--phase", "pending"]).out();
    assert!(pending.contains("huge"), "{pending}");
}

#[test]
fn production_takes_quota_which_an_administrator_grants() {
    let cell = Cell::alone().with_machines(1);
    let spec = "name: web\nuser: bob\npriority: 200\nlimit: {cpu: 2, ram: 1GiB}\n";
    let file = cell.file("web.yaml", spec);
    let submit = ["submit", file.as_str(), "--user", "bob"];
    let refused = cell.borgcfg(&submit).failure(1);
    assert!(refused.contains("2 cores") && refused.contains("borgcfg quota set bob"), "{refused}");
    let grant = ["quota", "set", "bob", "production", "--cpu", "4", "--ram", "8GiB"];
    let forbidden = cell.borgcfg(&[&grant[..], &["--user", "bob"]].concat()).failure(1);
    assert!(forbidden.contains("capability"), "{forbidden}");
    let granted = cell.borgcfg(&grant).out();
    assert_eq!(granted, "bob: 4 cores, 8 GiB ram in the production band\n");
    cell.borgcfg(&submit).out();
    let list = cell.borgcfg(&["quota", "--owner", "bob", "--json"]).json();
    assert_eq!(list[0]["used"]["cpu_milli"], 2000);
    assert_eq!(list[0]["granted"]["ram_bytes"], 8_u64 << 30);
}

#[test]
fn machines_are_drained_and_opened_and_settings_changed() {
    let cell = Cell::alone().with_machines(2);
    cell.borgcfg(&["submit", &example("master/hello.yaml"), "--wait=60s"]).out();
    cell.borgcfg(&["machines", "drain", "m-0"]).out();
    until("its tasks are elsewhere", || {
        let list = cell.borgcfg(&["machines", "--json"]).json();
        let m0 = &list["machines"][0];
        (m0["is_drained"] == true && m0["task_count"] == 0).then_some(())
    });
    let in_use = cell.borgcfg(&["machines", "remove", "m-1"]).failure(1);
    assert!(in_use.contains("machines drain"), "{in_use}");
    cell.borgcfg(&["machines", "open", "m-0"]).out();
    let unknown = cell.borgcfg(&["machines", "open", "m_0"]).failure(1);
    assert!(unknown.contains("did you mean \"m-0\"?"), "{unknown}");

    cell.borgcfg(&["settings", "poll_interval_ms=750"]).out();
    assert_eq!(cell.borgcfg(&["settings", "--json"]).json()["poll_interval_ms"], 750);
    let given = cell.borgcfg(&["capabilities", "bob", "machines"]).out();
    assert_eq!(given, "bob: machines\n");
    cell.borgcfg(&["machines", "drain", "m-1", "--user", "bob"]).out();
}

#[test]
fn a_checkpoint_brings_a_killed_job_back() {
    let cell = Cell::alone().with_machines(1);
    cell.borgcfg(&["submit", &example("master/hello.yaml"), "--wait=60s"]).out();
    let file = cell.file("today.cell", "what was there before");
    let report = cell.borgcfg(&["checkpoint", "--out", &file, "--json"]).json();
    let last = report["last_index"].as_u64().unwrap();
    assert!(last > 0 && report["first_index"].as_u64().unwrap() <= last, "{report}");
    cell.borgcfg(&["kill", "hello"]).out();
    let state = || cell.borgcfg(&["status", "hello", "--json"]).json()["job"]["ended"].clone();
    until("it is killed", || (!state().is_null()).then_some(()));
    let restored = cell.borgcfg(&["restore", &file, "--yes", "--json"]).json();
    assert!(restored["restored_index"].as_u64().unwrap() > last, "{restored}");
    assert!(state().is_null(), "it is back");
    until("it runs again", || {
        let report = cell.borgcfg(&["status", "hello", "--json"]).json();
        (report["job"]["counts"]["running"] == 3).then_some(())
    });
}

#[test]
fn more_tasks_are_counted_for_a_job_and_for_a_file() {
    let cell = Cell::alone().with_machines(2);
    cell.borgcfg(&["submit", &example("master/hello.yaml"), "--wait=60s"]).out();
    // Two machines of 32 cores, of which 1.5 are taken.
    let count = |what: &str| cell.borgcfg(&["fits", what, "--json"]).json()["count"].clone();
    assert_eq!(count("hello"), 125);
    let file = cell.file("large.yaml", "name: large\npriority: 50\nlimit: {cpu: 10, ram: 1GiB}\n");
    assert_eq!(count(&file), 6);
}

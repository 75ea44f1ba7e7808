//! Masters and borglets come and go; tasks stay.

use serde_json::json;

use crate::cell::{Cell, can_run, is_alive, once, service, until};

#[test]
fn a_borglet_that_is_started_again_finds_its_tasks_as_they_are() {
    if !can_run() {
        return;
    }
    let mut cell = Cell::new(1);
    cell.submit(&service("stays", 2));
    cell.submit(&once(
        "ends",
        &["sh", "-c", "while ! test -e /tmp/end; do sleep 0.05; done; exit 5"],
    ));
    cell.wait("stays", "running");
    cell.wait("ends", "running");
    let pids = [cell.pid("stays/0"), cell.pid("stays/1"), cell.pid("ends/0")];
    cell.machines[0].kill();
    assert!(pids.iter().all(|&pid| is_alive(pid)));
    // One ends while nobody watches; how is known all the same.
    let root = format!("/proc/{}/root/tmp/end", pids[2]);
    std::fs::write(root, "").unwrap();
    until("it has ended", || (!is_alive(pids[2])).then_some(()));
    cell.machines[0].start();
    assert_eq!(cell.cause("ends"), "failed: exit code 5");
    assert_eq!([cell.pid("stays/0"), cell.pid("stays/1")], pids[..2]);
    let placed: Vec<_> = cell.tasks("stays").iter().map(|it| it["placed_count"].clone()).collect();
    assert_eq!(placed, [json!(1), json!(1)]);
    // It can be told to end as before.
    cell.borgcfg(&["kill", "stays"]).out();
    cell.wait("stays", "killed");
    assert!(!pids.iter().any(|&pid| is_alive(pid)));
}

#[test]
fn a_leader_is_killed_and_tasks_neither_stop_nor_stop_being_started() {
    if !can_run() {
        return;
    }
    let mut cell = Cell::with_masters(3, 2);
    cell.submit(&service("stays", 2));
    cell.wait("stays", "running");
    let pids = [cell.pid("stays/0"), cell.pid("stays/1")];
    for number in 0..5 {
        cell.submit(&once(&format!("before-{number}"), &["true"]));
    }
    let list = cell.borgcfg(&["replicas", "--json"]).json();
    let leader = list["replicas"].as_array().unwrap().iter().find(|it| it["role"] == "leader");
    let id = usize::try_from(leader.unwrap()["id"].as_u64().unwrap()).unwrap();
    cell.masters[id - 1].kill();
    for number in 0..5 {
        cell.submit(&once(&format!("after-{number}"), &["true"]));
    }
    for number in 0..5 {
        cell.wait(&format!("before-{number}"), "finished");
        cell.wait(&format!("after-{number}"), "finished");
    }
    assert_eq!([cell.pid("stays/0"), cell.pid("stays/1")], pids);
}

#[test]
fn without_a_master_tasks_go_on_unless_their_job_says_otherwise() {
    if !can_run() {
        return;
    }
    let mut cell = Cell::new(1);
    cell.submit(&service("goes-on", 1));
    let mut job = service("stops", 1);
    job["run"]["stop_after_disconnect_seconds"] = json!(1);
    cell.submit(&job);
    cell.wait("goes-on", "running");
    cell.wait("stops", "running");
    let (stays, goes) = (cell.pid("goes-on/0"), cell.pid("stops/0"));
    cell.masters[0].kill();
    until("it stops by itself", || (!is_alive(goes)).then_some(()));
    assert!(is_alive(stays));
}

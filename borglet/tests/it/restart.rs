//! Masters and borglets come and go; tasks stay.

use std::process::Command;

use serde_json::json;

use crate::address::free_address;
use crate::cell::{Cell, can_run, is_alive, once, program, said, service, until};

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
fn what_ran_on_a_machine_that_died_is_known_though_little_of_it_got_to_the_disk() {
    if !can_run() {
        return;
    }
    let mut cell = Cell::new(1);
    let names = ["nothing", "empty"];
    for name in names {
        cell.submit(&once(name, &["sleep", "infinity"]));
        cell.wait(name, "running");
    }
    let pids = names.map(|name| cell.pid(&format!("{name}/0")));
    cell.machines[0].kill();
    for pid in pids {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
        said(Command::new("kill").args(["-KILL", parent.trim()]));
        until("it has ended", || (!is_alive(pid)).then_some(()));
    }
    // The journal alone is synced: of files that are not, the names may be there, and what is in them not.
    let mut folders: Vec<_> = cell.machines[0]
        .data
        .join("tasks")
        .read_dir()
        .unwrap()
        .map(|it| it.unwrap().path())
        .collect();
    folders.sort();
    std::fs::remove_dir_all(&folders[0]).unwrap();
    for name in ["task.json", "run.json"] {
        std::fs::write(folders[1].join(name), "").unwrap();
    }
    std::fs::write(folders[1].join("exit.json"), "").unwrap();
    cell.machines[0].start();
    for name in names {
        assert_eq!(cell.cause(name), "failed: gone, and nobody saw how");
    }
}

/// The processes in groups that were made before it was known for what.
fn in_spares(machine: &str) -> Vec<u64> {
    let of = format!("cell-manager/{machine}/spare-");
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let groups =
        |pid: u64| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    pids.filter(|&pid| groups(pid).contains(&of) && is_alive(pid)).collect()
}

/// What the first process of a container has as its only child.
fn program_of(pid: u64) -> Option<u64> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    children.ok()?.trim().parse().ok()
}

#[test]
fn containers_wait_for_programs_and_end_with_their_borglet() {
    if !can_run() {
        return;
    }
    let mut cell = Cell::new(1);
    let name = cell.machines[0].name.clone();
    // Of each the first process, and the one that the program is to be.
    until("four wait", || (in_spares(&name).len() == 8).then_some(()));
    let waiting = in_spares(&name);
    cell.submit(&service("first", 1));
    cell.wait("first", "running");
    let first = cell.pid("first/0");
    assert!(in_spares(&name).contains(&first), "it was given none that waited");
    until("another waits instead", || {
        let others = in_spares(&name).iter().filter(|pid| !waiting.contains(pid)).count();
        (others == 2 && in_spares(&name).len() == 10).then_some(())
    });
    // A task does not suffer from the end of what waits for it, whichever of the two ends.
    let mut are_first = true;
    for pid in in_spares(&name) {
        if let Some(program) = program_of(pid).filter(|&program| program != first) {
            let ended = if are_first { pid } else { program };
            said(Command::new("kill").args(["-KILL", &ended.to_string()]));
            are_first = !are_first;
        }
    }
    cell.submit(&service("second", 2));
    cell.wait("second", "running");
    let pids = [first, cell.pid("second/0"), cell.pid("second/1")];
    assert!(cell.tasks("second").iter().all(|task| task["placed_count"] == 1));
    cell.machines[0].kill();
    until("what waited has ended", || {
        let is_of_a_task = |pid: &u64| {
            pids.contains(pid) || program_of(*pid).is_some_and(|program| pids.contains(&program))
        };
        in_spares(&name).iter().all(is_of_a_task).then_some(())
    });
    cell.machines[0].start();
    let before = pids;
    until("it has found them", || {
        let now = [cell.usage("first/0")?, cell.usage("second/0")?, cell.usage("second/1")?];
        assert_eq!(now.map(|it| it["pid"].as_u64().unwrap()), before);
        Some(())
    });
}

#[test]
fn no_other_borglet_takes_over_a_machine_that_has_one() {
    if !can_run() {
        return;
    }
    let cell = Cell::new(1);
    cell.submit(&service("stays", 1));
    cell.wait("stays", "running");
    let pid = cell.pid("stays/0");
    let mut other = Command::new(program("borglet"));
    other.args(["--name", &cell.machines[0].name, "--listen", &free_address(), "--insecure"]);
    other.arg("--data").arg(cell.folder.path().join("other"));
    let said = said(&mut other);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("another borglet runs as machine"), "{said:?}");
    assert!(is_alive(pid));
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

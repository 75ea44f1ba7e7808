//! Limits hold, and whoever breaks one hurts nobody else.

use serde_json::json;

use crate::cell::{Cell, can_run, is_alive, once, service, until};

#[test]
fn a_memory_hog_dies_of_it_and_its_neighbour_lives() {
    if !can_run() {
        return;
    }
    let cell = Cell::new(1);
    cell.submit(&service("neighbour", 1));
    cell.wait("neighbour", "running");
    let pid = cell.pid("neighbour/0");
    cell.submit(&once("hog", &["python3", "-c", "x = bytearray(1 << 30); print('unreachable')"]));
    assert!(cell.cause("hog").contains("out of memory"), "{}", cell.cause("hog"));
    assert_eq!(cell.borgcfg(&["logs", "hog/0"]).out(), "");
    // Where a child runs out of memory the whole task is lost.
    let parent = "python3 -c 'x = bytearray(1 << 30)'; echo went on; sleep infinity";
    cell.submit(&once("parent", &["sh", "-c", parent]));
    assert!(cell.cause("parent").contains("out of memory"), "{}", cell.cause("parent"));
    assert!(is_alive(pid));
    cell.wait("neighbour", "running");
}

#[test]
fn a_machine_that_runs_out_of_memory_gives_up_the_lowest_priority() {
    if !can_run() {
        return;
    }
    let mut cell = Cell::new(0);
    cell.add_machine(&crate::address::free_address(), &["--ram", "256MiB"], Vec::new());
    cell.wait_for_machines();
    // Together they need more than there is, though each stays within its limit: the master placed by reservations.
    let eat = |mib: u32| {
        let text = format!(
            "x = bytearray({mib} << 20); print('ate', flush=True); import time; time.sleep(1000)"
        );
        json!(["python3", "-c", text])
    };
    let mut low = service("low", 1);
    low["priority"] = json!(10);
    low["run"]["command"] = eat(100);
    low["run"]["restart"] = json!("never");
    low["limit"] = json!({ "cpu": "100m" });
    let mut high = low.clone();
    high["name"] = json!("high");
    high["priority"] = json!(200);
    high["run"]["command"] = eat(170);
    cell.submit(&low);
    until("the first ate", || cell.borgcfg(&["logs", "low/0"]).out.contains("ate").then_some(()));
    cell.submit(&high);
    assert!(cell.cause("low").contains("out of memory"), "{}", cell.cause("low"));
    until("the second ate", || cell.borgcfg(&["logs", "high/0"]).out.contains("ate").then_some(()));
    cell.wait("high", "running");
}

#[test]
fn a_cpu_hog_is_held_back() {
    if !can_run() {
        return;
    }
    let cell = Cell::new(1);
    let mut job = service("spin", 1);
    job["run"]["command"] = json!(["sh", "-c", "while true; do :; done"]);
    cell.submit(&job);
    cell.wait("spin", "running");
    let usage = until("it was held back", || {
        cell.usage("spin/0").filter(|it| it["throttled_ms"].as_u64() > Some(500))
    });
    // A tenth of a core is its limit. How exactly that is kept is for a benchmark to say.
    assert!(usage["cpu_milli"].as_u64() < Some(300), "{usage}");
}

#[test]
fn a_fork_bomb_is_held_by_its_processes() {
    if !can_run() {
        return;
    }
    let cell = Cell::new(1);
    let mut job = service("bomb", 1);
    job["run"]["command"] =
        json!(["sh", "-c", "while true; do sleep infinity & done 2>/dev/null; sleep infinity"]);
    job["container"] = json!({ "processes_max": 20 });
    cell.submit(&job);
    until("it has what it may have", || {
        let count = cell.usage("bomb/0")?["process_count"].as_u64()?;
        assert!(count <= 20, "{count}");
        (count >= 19).then_some(())
    });
    cell.submit(&service("fine", 1));
    cell.wait("fine", "running");
    cell.borgcfg(&["kill", "bomb"]).out();
    cell.wait("bomb", "killed");
}

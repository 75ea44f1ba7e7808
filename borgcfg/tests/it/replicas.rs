//! Three replicas, of which one goes.

use crate::cell::{Cell, borgcfg, example, until};

#[test]
fn the_leader_is_killed_and_the_job_goes_on() {
    let mut cell = Cell::three().with_machines(2);
    cell.borgcfg(&["submit", &example("master/hello.yaml"), "--wait=60s"]).out();
    let leader = |at: &str| {
        let list = borgcfg(at, &["replicas", "--json"]).json();
        let replicas = list["replicas"].as_array().unwrap();
        let leader = replicas.iter().find(|replica| replica["role"] == "leader");
        leader.map(|leader| leader["client_address"].as_str().unwrap().to_owned())
    };
    let old = until("there is a leader", || leader(&cell.at));
    let position = cell.addresses.iter().position(|address| *address == old).unwrap();
    // Whichever is asked, what the leader counts is told; a follower by itself has counted nothing.
    let follower = &cell.addresses[(position + 1) % 3];
    let planning = borgcfg(follower, &["status", "--json"]).json()["cell"]["planning"].clone();
    assert_eq!(planning["replica"], position + 1);
    assert!(planning["placed_count"].as_u64() > Some(0), "{planning}");
    let stale = borgcfg(follower, &["status", "--stale"]).out();
    assert!(stale.contains("\npasses are counted by the replica that leads"), "{stale}");
    let before = cell.borgcfg(&["status", "hello", "--json"]).json();
    cell.masters[position].kill();

    // The dead one is asked first.
    let others = cell.addresses.iter().filter(|address| **address != old);
    let at = [&old].into_iter().chain(others).cloned().collect::<Vec<String>>().join(",");
    let after = borgcfg(&at, &["status", "hello", "--json"]).json();
    let placements = |report: &serde_json::Value| {
        let tasks = report["tasks"].as_array().unwrap().iter();
        tasks.map(|task| (task["machine"].clone(), task["incarnation"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(placements(&after), placements(&before), "the job is unharmed");
    let stale = borgcfg(&at, &["status", "--stale", "--json"]).json();
    assert_eq!(stale["cell"]["job_count"], 1);

    let more = "name: more\npriority: 50\nlimit: {cpu: 1}\n";
    let more = cell.file("more.yaml", more);
    borgcfg(&at, &["submit", &more, "--wait=60s"]).out();
    let new = until("there is another leader", || leader(&at));
    assert_ne!(new, old);

    let taken = borgcfg(&at, &["replicas", "add", "1", "127.0.0.1:1"]).failure(1);
    assert!(taken.contains("takes part already"), "{taken}");
}

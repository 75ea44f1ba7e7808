//! A machine that is cut off, and comes back.
//!
//! In network namespaces of the test's own: the masters and one machine in one, another machine in the other, and
//! between them a pair of virtual interfaces that can be pulled.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cell::{Cell, can, can_run, is_alive, said, service, until};

/// A pair of networks with a wire between them.
struct Networks {
    name: String,
}

fn ip(words: &str) -> bool {
    said(Command::new("ip").args(words.split(' '))).code == Some(0)
}

impl Networks {
    fn new() -> Option<Self> {
        let networks = Self { name: format!("cm{}", std::process::id() % 100_000) };
        let (a, b) = (networks.network("a"), networks.network("b"));
        let is_made = [
            format!("netns add {a}"),
            format!("netns add {b}"),
            format!("link add {a} netns {a} type veth peer name {b} netns {b}"),
            format!("-n {a} addr add 10.213.0.1/30 dev {a}"),
            format!("-n {b} addr add 10.213.0.2/30 dev {b}"),
            format!("-n {a} link set {a} up"),
            format!("-n {b} link set {b} up"),
            format!("-n {a} link set lo up"),
            format!("-n {b} link set lo up"),
        ];
        is_made.iter().all(|words| ip(words)).then_some(networks)
    }

    fn network(&self, which: &str) -> String {
        format!("{}{which}", self.name)
    }

    /// What a program is started by in there.
    fn inside(&self, which: &str) -> Vec<String> {
        // Not `ip netns exec`, in which no control groups are mounted.
        vec!["nsenter".to_owned(), format!("--net=/run/netns/{}", self.network(which))]
    }

    fn wire(&self, is_in: bool) {
        let a = self.network("a");
        let state = if is_in { "up" } else { "down" };
        assert!(ip(&format!("-n {a} link set {a} {state}")));
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        for which in ["a", "b"] {
            ip(&format!("netns del {}", self.network(which)));
        }
    }
}

#[test]
fn no_second_copy_outlives_the_bound_once_a_machine_is_heard_again() {
    if !can_run() {
        return;
    }
    let networks = Networks::new();
    if !can("network namespaces with virtual interfaces (ip netns)", networks.is_some()) {
        return;
    }
    let networks = networks.unwrap();
    let masters = vec![["10.213.0.1:7100".to_owned(), "10.213.0.1:7200".to_owned()]];
    let mut cell = Cell::of(masters, networks.inside("a"), 2_000);
    cell.add_machine("10.213.0.2:7300", &[], networks.inside("b"));
    cell.wait_for_machines();
    let mut job = service("only", 1);
    // It does not care for a polite request.
    job["run"]["command"] = json!(["sh", "-c", "trap '' TERM; while true; do sleep 0.1; done"]);
    job["run"]["grace_seconds"] = json!(600);
    cell.submit(&job);
    cell.wait("only", "running");
    let first = cell.pid("only/0");
    // Half of two machines is a share at which nothing is given up: it is more likely that the network failed.
    for number in 1..=3 {
        cell.add_machine(&format!("10.213.0.1:{}", 7300 + number), &[], networks.inside("a"));
    }
    cell.wait_for_machines();
    networks.wire(false);
    let placed = until("it runs elsewhere", || {
        let task = cell.tasks("only").remove(0);
        (task["phase"] == "running" && task["placed_count"] == 2).then(|| task["machine"].clone())
    });
    assert_ne!(placed, cell.machines[0].name.as_str());
    assert!(is_alive(first), "a borglet that hears no master goes on");
    networks.wire(true);
    until("the machine is heard again", || {
        let list = cell.borgcfg(&["machines", "--json"]).json();
        let machine = &list["machines"]
            .as_array()
            .unwrap()
            .iter()
            .find(|it| it["name"] == cell.machines[0].name.as_str())
            .cloned()?;
        (machine["health"]["state"] == "up").then_some(())
    });
    let heard = Instant::now();
    until("the first copy is gone", || (!is_alive(first)).then_some(()));
    // Five seconds is the bound, whatever grace its job asks for; some more for a machine that is busy.
    assert!(heard.elapsed() < Duration::from_secs(15), "{:?}", heard.elapsed());
    cell.wait("only", "running");
    assert!(is_alive(cell.pid("only/0")));
}

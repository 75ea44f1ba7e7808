//! The same under a kernel that has control groups of version 2 alone: in a virtual machine, by `scripts/guest.sh`.

use std::path::Path;
use std::process::Command;

use crate::cell::{can, said};

/// What is run there: what the version makes a difference to, as it takes several times as long as here.
const TESTS: [&str; 8] = [
    "limits::",
    "conformance::bundles_by_runc",
    "conformance::the_machines_own_programs",
    "restart::a_borglet_that_is_started_again_finds_its_tasks_as_they_are",
    "rootless::",
    "restart::containers_wait_for_programs_and_end_with_their_borglet",
    "tasks::a_task_finds_its_name_ports_and_limits_and_cannot_get_further",
    "tasks::a_task_is_asked_to_end_and_then_made_to_with_all_its_processes",
];

#[test]
fn limits_and_ends_are_the_same_with_control_groups_of_version_2() {
    if std::env::var_os("IN_GUEST").is_some() {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/guest.sh");
    let guest = |words: &[&str]| said(Command::new(&script).args(words));
    let is_ready = guest(&["--ready"]).code == Some(0);
    if !can("QEMU with a kernel for it (scripts/guest.sh --fetch)", is_ready) {
        return;
    }
    let tests = std::env::current_exe().unwrap();
    let said = guest(&[&[tests.to_str().unwrap(), "--test-threads", "2"], &TESTS[..]].concat());
    assert_eq!(said.code, Some(0), "{}\n{}", said.out, said.err);
    // A name of which there is none is no failure by itself.
    for name in TESTS {
        assert!(said.out.contains(&format!("test {name}")), "{name}: {}", said.out);
    }
}

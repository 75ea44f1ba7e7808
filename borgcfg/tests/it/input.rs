//! Bad input, names that there are not, nobody who answers: what is said, and the exit code.

use std::io::Write;
use std::process::Stdio;
use std::time::Instant;

use crate::address::free_address;
use crate::cell::{Cell, DEADLINE, borgcfg, command, example};

#[test]
fn bad_files_are_refused_by_line_and_field_and_nothing_is_submitted() {
    let cell = Cell::alone();
    let good = "name: good\npriority: 50\nlimit: {cpu: 1, ram: 1GiB}\n";
    let bad = format!("{good}---\nname: bad\npriority: 50\nlimit: {{cpu: 1, rma: 1GiB}}\n");
    let file = cell.file("jobs.yaml", &bad);
    let said = cell.borgcfg(&["submit", &file]).failure(2);
    assert!(said.contains("jobs.yaml:7: field `limit.rma`: unknown field"), "{said}");
    assert_eq!(cell.borgcfg(&["status", "--json"]).json()["jobs"], serde_json::json!([]));

    let missing = cell.borgcfg(&["submit", "nowhere.yaml"]).failure(2);
    assert!(missing.contains("nowhere.yaml"), "{missing}");
    for file in ["/dev/zero", "/dev/urandom"] {
        let endless = cell.borgcfg(&["submit", file]).failure(2);
        assert!(endless.contains(&format!("{file}: it is longer than 64 MiB")), "{endless}");
    }
    for arguments in
        [&["submit"][..], &["why", "web"], &["status", "--phase", "asleep"], &["kill", "a/b"]]
    {
        assert_eq!(cell.borgcfg(arguments).code, Some(2), "{arguments:?}");
    }
    let nobody = command(&cell.at, &["kill", "x"]).env_remove("USER").output().unwrap();
    assert_eq!(nobody.status.code(), Some(2));
    assert!(String::from_utf8(nobody.stderr).unwrap().contains("--user"));
}

#[test]
fn of_several_jobs_those_after_a_refused_one_are_named() {
    let cell = Cell::alone();
    let job = |name: &str| format!("name: {name}\npriority: 50\nlimit: {{cpu: 1, ram: 1GiB}}\n");
    cell.borgcfg(&["submit", &cell.file("b.yaml", &job("b"))]).out();
    let all = ["a", "b", "c", "d"].map(job).join("---\n");
    let said = cell.borgcfg(&["submit", &cell.file("all.yaml", &all)]).failure(1);
    assert!(said.starts_with("borgcfg: b: ") && said.contains("not submitted after that: c, d"));
    let said = cell.borgcfg(&["update", &cell.file("all.yaml", &all)]).failure(1);
    assert!(said.contains("\"c\"") && said.contains("not updated after that: d"), "{said}");
    // Nobody is left after the last.
    let said = cell.borgcfg(&["submit", &cell.file("b.yaml", &job("b"))]).failure(1);
    assert!(!said.contains("after that"), "{said}");
}

#[test]
fn bad_values_end_with_2_and_a_cell_without_machines_says_so() {
    let cell = Cell::alone();
    let said = cell.borgcfg(&["settings", "policy=zz"]).failure(2);
    assert!(said.contains("\"zz\" is no policy"), "{said}");
    cell.borgcfg(&["submit", &example("master/hello.yaml")]).out();
    let why = cell.borgcfg(&["why", "hello/0"]).out();
    assert!(why.contains("`borgcfg machines add`"), "{why}");
}

#[test]
fn a_name_that_is_not_there_brings_the_nearest() {
    let cell = Cell::alone();
    cell.borgcfg(&["submit", &example("master/hello.yaml")]).out();
    for arguments in [
        &["status", "helo"][..],
        &["kill", "hlelo"],
        &["why", "helo/0"],
        &["update", "--undo", "hallo"],
    ] {
        let said = cell.borgcfg(arguments).failure(1);
        assert!(said.contains("did you mean \"hello\"?"), "{arguments:?}: {said}");
    }
    let several = cell.borgcfg(&["kill", "hallo", "hello", "hello-2/0"]).failure(1);
    assert!(several.contains("\"hello\"?") && several.contains("hello, hello-2"), "{several}");
    let far = cell.borgcfg(&["status", "xyz"]).failure(1);
    assert!(far.contains("`borgcfg status` lists all") && !far.contains("mean"), "{far}");
    let index = cell.borgcfg(&["why", "hello/7"]).failure(1);
    assert!(index.contains("hello/0 to hello/2"), "{index}");
    let taken = cell.borgcfg(&["submit", &example("master/hello.yaml")]).failure(1);
    assert!(taken.contains("borgcfg update"), "{taken}");
}

#[test]
fn a_job_is_read_from_the_standard_input() {
    let cell = Cell::alone();
    let mut child = command(&cell.at, &["submit", "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let spec = br#"{"name": "piped", "priority": 0, "limit": {"cpu": 1}}"#;
    child.stdin.take().unwrap().write_all(spec).unwrap();
    let output = child.wait_with_output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report[0]["name"], &report[0]["version"]), (&"piped".into(), &1.into()));
}

#[test]
fn without_a_master_it_is_said_soon_how_to_start_one() {
    let nowhere = format!("{},{}", free_address(), free_address());
    let began = Instant::now();
    let said = borgcfg(&nowhere, &["status"]).failure(1);
    assert!(said.contains("borgmaster --data DIR"), "{said}");
    assert!(began.elapsed() < DEADLINE);
}

#[test]
fn a_reader_that_closes_the_pipe_is_no_failure() {
    let mut child = command("127.0.0.1:1", &["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

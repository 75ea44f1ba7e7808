//! The first process by itself, without rights or namespaces: its program is made by what stands in for an OCI
//! runtime.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use borglet_init::{Container, Exit, Go, Launch, Run, STDERR_FILE, STDOUT_FILE, Told};
use tempfile::TempDir;

fn init() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_borglet-init"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a shell makes of it, as the program of a container.
fn launch(folder: &Path, program: &str) -> Launch {
    let pid_file = folder.join("pid");
    let runtime = format!("({program}) & echo $! >{:?}", pid_file.to_str().unwrap());
    let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    Launch {
        folder: folder.to_owned(),
        cgroups: Vec::new(),
        oom_score_adj: own.trim().parse().unwrap(),
        command: ["/bin/sh", "-c", &runtime].map(str::to_owned).to_vec(),
        env: vec![("WORD".to_owned(), "from the launch".to_owned())],
        log_bytes_max: 1 << 20,
        log_file_count: 1,
        container: Container::Oci { pid_file },
    }
}

/// What a borglet says of it.
fn said(launch: &Launch) -> String {
    let lines = [serde_json::to_string(launch).unwrap(), serde_json::to_string(&Go).unwrap()];
    lines.join("\n")
}

fn told(launch: &Launch) -> Told {
    let mut child = init().arg("run").spawn().unwrap();
    child.stdin.take().unwrap().write_all(said(launch).as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    // What was started goes on without it.
    child.wait().unwrap();
    serde_json::from_str(&line).unwrap()
}

fn end(folder: &Path) -> Exit {
    let give_up = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(exit) = Exit::read(folder).unwrap() {
            return exit;
        }
        assert!(Instant::now() < give_up, "no end is noted");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_a_program_wrote_and_how_it_ended_is_in_the_folder() {
    let folder = TempDir::new().unwrap();
    let go = folder.path().join("go");
    let program = format!(
        "while ! test -e {go:?}; do sleep 0.01; done; echo \"$WORD\"; echo wrong >&2; exit 3"
    );
    assert_eq!(told(&launch(folder.path(), &program)), Told::Started);
    fs::write(go, "").unwrap();
    assert_eq!(end(folder.path()), Exit::Code(3));
    let read = |name| fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!((&*read(STDOUT_FILE), &*read(STDERR_FILE)), ("from the launch\n", "wrong\n"));
    assert!(Run::read(folder.path()).unwrap().unwrap().pid > 0);
}

#[test]
fn what_the_one_who_starts_it_has_open_is_not_the_programs() {
    let folder = TempDir::new().unwrap();
    // Under a shell that leaves it a file.
    let launch = launch(folder.path(), "ls /proc/self/fd; sleep 0.1");
    fs::write(folder.path().join("launch"), said(&launch)).unwrap();
    let script = format!(
        "exec 7<{0:?}/launch; {1:?} run <{0:?}/launch",
        folder.path(),
        env!("CARGO_BIN_EXE_borglet-init")
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "\"Started\"\n", "{output:?}");
    assert_eq!(end(folder.path()), Exit::Code(0));
    // The last one is that by which ls looks.
    let open = fs::read_to_string(folder.path().join(STDOUT_FILE)).unwrap();
    assert_eq!(open.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

#[test]
fn a_signal_is_passed_on_to_the_program() {
    let folder = TempDir::new().unwrap();
    assert_eq!(told(&launch(folder.path(), "exec sleep 600")), Told::Started);
    let run = Run::read(folder.path()).unwrap().unwrap();
    assert!(run.is_alive().unwrap());
    let first = rustix::process::Pid::from_raw(run.pid).unwrap();
    rustix::process::kill_process(first, rustix::process::Signal::TERM).unwrap();
    assert_eq!(end(folder.path()), Exit::Signal(15));
}

#[test]
fn an_end_that_nobody_tells_of_is_not_waited_for() {
    let folder = TempDir::new().unwrap();
    let mut launch = launch(folder.path(), "true");
    launch.command[2] += "; wait";
    assert_eq!(told(&launch), Told::Started);
    let run = Run::read(folder.path()).unwrap().unwrap();
    let give_up = Instant::now() + Duration::from_secs(60);
    while run.is_alive().unwrap() {
        assert!(Instant::now() < give_up, "it waits");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(Exit::read(folder.path()).unwrap(), None);
}

#[test]
fn a_task_that_was_given_up_is_not_started() {
    let folder = TempDir::new().unwrap();
    assert!(Run::nobody().claim(folder.path()).unwrap());
    let program = "touch \"$WORD\"";
    assert_eq!(
        told(&launch(folder.path(), program)),
        Told::Failed("the task was given up".to_owned())
    );
    assert!(!folder.path().join("pid").exists());
}

#[test]
fn nothing_is_started_for_a_borglet_that_ends_before_it_has_kept_what_it_starts() {
    let folder = TempDir::new().unwrap();
    let launch = launch(folder.path(), "true");
    let mut child = init().arg("run").spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{}", serde_json::to_string(&launch).unwrap()).unwrap();
    // It has got as far as it gets.
    let give_up = Instant::now() + Duration::from_secs(60);
    while Run::read(folder.path()).unwrap().is_none() {
        assert!(Instant::now() < give_up, "it does not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let told: Told = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told, Told::Failed("the borglet has ended".to_owned()));
    assert!(!folder.path().join("pid").exists());
}

#[test]
fn a_runtime_that_fails_is_quoted() {
    let folder = TempDir::new().unwrap();
    let mut launch = launch(folder.path(), "true");
    launch.command[2] = "echo first; echo there is no such bundle >&2; exit 1".to_owned();
    let Told::Failed(why) = told(&launch) else { panic!("it has no program") };
    assert!(why.contains("there is no such bundle"), "{why}");
}

fn refusal(arguments: &[&str]) -> Output {
    let child = init().args(arguments).stdin(Stdio::null()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    output
}

#[test]
fn people_are_told_who_starts_it() {
    for arguments in [&[][..], &["--help"], &["run", "it"]] {
        let said = String::from_utf8(refusal(arguments).stderr).unwrap();
        assert!(said.contains("started by borglet, not by people"), "{said}");
    }
    let said = String::from_utf8(refusal(&["run"]).stderr).unwrap();
    assert!(said.contains("reading what to start"), "{said}");
}

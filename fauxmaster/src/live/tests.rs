use std::path::PathBuf;

use cell::JobKind;
use cell::borglet::ExitCause;
use cell::live::Op;
use scheduler::Policy;

use super::testing::{Recorder, example, job};
use super::*;

fn bundled() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/cell-file/small.cell")
}

#[test]
#[ignore = "writes the bundled example anew; run it by name when the format changes"]
fn write_the_example() {
    std::fs::write(bundled(), example().file()).unwrap();
}

#[test]
fn the_bundled_example_is_whole_and_sound() {
    let file = open(&bundled()).unwrap();
    let state = file.state_at(file.last_index()).unwrap();
    assert_eq!(state.faults(), []);
    let report = status(&state);
    let pending: Vec<&str> =
        report.jobs.iter().filter(|job| job.pending > 0).map(|job| job.name.as_str()).collect();
    assert!(pending.contains(&"huge"), "{pending:?}");
}

fn policy(name: &str) -> Policy {
    Policy::by_name(name).unwrap()
}

#[test]
fn a_policy_that_packs_makes_a_large_task_wait_less_than_one_that_spreads() {
    let bytes = example().file();
    let file = CellFile::read(&bytes[..]).unwrap();
    let options = ForkOptions { policy: policy("best-fit"), seed: 1 };
    let report = fork(&file, file.first_index(), file.last_index(), &options).unwrap();
    // Spread over four machines `mill` leaves 4 cores on each, and `crunch` needs 6 until the first of
    // `mill` ends, 40 s later; packed it leaves two machines alone.
    assert!(report.recorded.waits.p90 > 20.0, "{:?}", report.recorded.waits);
    assert!(report.fork.waits.p90 < 5.0, "{:?}", report.fork.waits);
    assert_eq!(report.recorded.over_time.len(), 21);
    assert_eq!(report.fork.over_time.len(), 21);
    assert!(report.seconds > 90.0, "{}", report.seconds);
}

#[test]
fn as_many_more_tasks_fit_as_can_be_counted() {
    let mut cell = Recorder::new("borg-hybrid", 4);
    cell.submit(&job("low", 100, 4, "4", ""), None).unwrap();
    cell.pass_time(3);
    let ask = |cell: &Recorder, priority, cpu: &str, more: &str| {
        let spec = serde_json::from_str(&job("more", priority, 1, cpu, more)).unwrap();
        let report = fits(&cell.state, &spec, JobKind::Job, &policy("borg-hybrid"), 1).unwrap();
        (report.free_count, report.preempting_count, report.victim_count)
    };
    // 4 machines of 8 cores, 16 of the 32 cores taken by 4 tasks of 4.
    assert_eq!(ask(&cell, 100, "1", ""), (16, 16, 0));
    assert_eq!(ask(&cell, 200, "4", ""), (4, 8, 4));
    assert_eq!(ask(&cell, 200, "9", ""), (0, 0, 0));
    assert_eq!(ask(&cell, 100, "1", r#", "different_machines": true"#), (4, 4, 0));
    // A job that is there counts for its own rules.
    cell.submit(&job("more", 100, 3, "1", r#", "different_machines": true"#), None).unwrap();
    cell.pass_time(3);
    assert_eq!(ask(&cell, 100, "1", r#", "different_machines": true"#), (1, 1, 0));
    cell.run(Op::Drain { machine: "m0".to_owned() }).unwrap();
    let (free, ..) = ask(&cell, 100, "1", "");
    assert!(free < 13, "{free}"); // m0 takes none
}

#[test]
fn why_tells_what_the_state_knows() {
    let mut cell = Recorder::new("borg-hybrid", 2);
    let failed = Some((1, ExitCause::Failed { code: 3 }));
    cell.submit(&job("flaky", 100, 1, "1", ""), failed).unwrap();
    let after = r#", "run": {"start_after": ["flaky"]}"#;
    cell.submit(&job("then", 100, 1, "1", after), None).unwrap();
    // Placed at 0.5 s, started at 2 s, failed at 3 s: it backs off until 4 s.
    cell.pass_time(3);
    cell.submit(&job("huge", 100, 1, "9", ""), None).unwrap();
    cell.run(Op::RemoveMachine { machine: "m1".to_owned() }).unwrap_or(cell::live::Done::Done);
    let ask = |task: &str| why(&cell.state, task, &policy("borg-hybrid"), 1).unwrap();
    let flaky = ask("flaky/0");
    assert!(flaky.notes.iter().any(|note| note.contains("backs off")), "{:?}", flaky.notes);
    assert_eq!(flaky.next_pass, None);
    let then = ask("then/0");
    assert!(then.notes.iter().any(|note| note.contains("\"flaky\"")), "{:?}", then.notes);
    let huge = ask("huge/0");
    let there = cell.state.machines().filter(|(_, machine)| !machine.is_removed).count();
    assert_eq!(huge.host_count, there);
    let counted: usize = huge.ruled_out.iter().map(|(_, count)| count).sum();
    assert_eq!(counted + huge.feasible_count, there);
    let error = why(&cell.state, "nothing/0", &policy("borg-hybrid"), 1).unwrap_err();
    assert!(error.to_string().contains("no job \"nothing\""), "{error}");
}

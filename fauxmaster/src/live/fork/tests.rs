use cell::borglet::ExitCause;
use cell::live::{JobEnd, Op, State};
use proptest::prelude::*;

use super::*;
use crate::live::testing::{Recorder, job};

fn replay<'a>(recorder: &Recorder, options: &'a ForkOptions) -> (Recording, Replay<'a>) {
    let recording = Recording::of(&recorder.start, &recorder.log);
    let replay = Replay::run(recorder.start.clone(), &recorder.log, &recording, options);
    (recording, replay)
}

fn options(policy: &str) -> ForkOptions {
    ForkOptions { policy: Policy::by_name(policy).unwrap(), seed: 1 }
}

#[test]
fn where_there_is_room_for_all_every_policy_sees_jobs_end_when_they_did() {
    let mut cell = Recorder::new("borg-hybrid", 4);
    cell.submit(&job("early", 100, 3, "1", ""), Some((20, ExitCause::Finished))).unwrap();
    cell.pass_time(4); // runs at the checkpoint
    cell.checkpoint();
    for (name, seconds) in [("a", 3), ("b", 10), ("c", 25)] {
        cell.submit(&job(name, 100, 2, "1", ""), Some((seconds, ExitCause::Finished))).unwrap();
        cell.pass_time(2);
    }
    cell.pass_time(40);
    for policy in ["borg-hybrid", "e-pvm", "best-fit", "kube-default"] {
        let options = options(policy);
        let (recording, replay) = replay(&cell, &options);
        for name in ["early", "a", "b", "c"] {
            let ended = |side: &side::Side| {
                let (at, end) = side.state.job(name).unwrap().ended.unwrap();
                assert_eq!(end, JobEnd::Finished);
                at
            };
            let (then, now) = (ended(&recording.side), ended(&replay.side));
            // A fork's pass may come up to one step of the recorder's master sooner.
            let apart = then.since_ms(now).max(now.since_ms(then));
            assert!(apart <= 500, "{name} under {policy}: {then:?}, {now:?}");
        }
    }
}

#[test]
fn a_job_that_found_no_place_may_find_one_in_the_fork() {
    let mut cell = Recorder::new("e-pvm", 2);
    cell.checkpoint();
    for name in ["a", "b"] {
        cell.submit(&job(name, 200, 1, "4", ""), None).unwrap();
        cell.pass_time(5);
    }
    // One is on each machine. Nothing happens after this that would call for a pass.
    cell.submit(&job("large", 200, 1, "8", ""), None).unwrap();
    cell.pass_time(5);
    cell.run(Op::Expire).unwrap();
    let options = options("best-fit");
    let (recording, replay) = replay(&cell, &options);
    assert_eq!(recording.side.state.waiting_count(), 1);
    assert_eq!(replay.side.state.waiting_count(), 0);
}

#[test]
fn machines_that_go_and_come_do_so_in_the_fork() {
    let mut cell = Recorder::new("e-pvm", 3);
    cell.checkpoint();
    cell.submit(&job("web", 200, 3, "1", ""), None).unwrap();
    cell.pass_time(3);
    cell.run(Op::Drain { machine: "m0".to_owned() }).unwrap();
    cell.pass_time(10);
    cell.run(Op::RemoveMachine { machine: "m0".to_owned() }).unwrap();
    cell.health(1..2, false);
    cell.pass_time(5);
    let options = options("best-fit");
    let (recording, replay) = replay(&cell, &options);
    for side in [&recording.side, &replay.side] {
        assert_eq!(side.state.machine("m0"), None);
        assert_eq!(side.state.machine_counts(), (2, 1));
        assert_eq!(side.state.waiting_count(), 0);
    }
    assert_eq!(replay.refused_operations, 0);
}

#[test]
fn a_cell_that_was_just_founded_begins_with_its_first_entry() {
    // Nothing is applied before the log begins, so the state has no time yet.
    let mut cell = Recorder::new("best-fit", 0);
    cell.log.clear();
    cell.start = State::new(cell.state.settings().clone());
    cell.state = cell.start.clone();
    cell.health(0..0, true);
    cell.submit(&job("web", 200, 1, "1", ""), None).unwrap();
    cell.pass_time(5);
    cell.submit(&job("more", 200, 1, "1", ""), None).unwrap();
    let file = CellFile::read(&cell.file()[..]).unwrap();
    let report = fork(&file, 0, file.last_index(), &options("best-fit")).unwrap();
    assert_eq!(report.seconds, 5.0);
    assert_eq!(report.recorded.over_time.last().unwrap().seconds, 5.0);
    assert_eq!(report.fork.still_waiting.count, 2);
}

/// One step of a random recording.
fn step(cell: &mut Recorder, (kind, a, b): (u8, u8, u8)) {
    let name = format!("job{}", a % 6);
    let machine = format!("m{}", b % 4);
    let priority = [50, 100, 110, 200][usize::from(b) % 4];
    let spec = |name: &str, more: &str| {
        let cpu = format!("{}", a % 5 + 1);
        job(name, priority, u32::from(b % 5) + 1, &cpu, more)
    };
    // What is refused is part of it.
    let _ = match kind % 14 {
        0..=4 => {
            let cause =
                if b % 3 == 0 { ExitCause::Failed { code: 1 } } else { ExitCause::Finished };
            let run = (a % 4 != 0).then_some((u64::from(a % 30), cause));
            let more = if b % 4 == 1 { r#", "max_disrupted": 1"# } else { "" };
            cell.submit(&spec(&name, more), run)
        }
        5 => {
            let spec = Box::new(serde_json::from_str(&job("set", 200, 2, "3", "")).unwrap());
            cell.run(Op::Submit { spec, is_alloc_set: true })
        }
        6 => {
            let run = Some((u64::from(a % 20), ExitCause::Finished));
            cell.submit(&job("inside", 200, 3, "1", r#", "alloc_set": "set""#), run)
        }
        7 => {
            let spec = Box::new(serde_json::from_str(&spec(&name, "")).unwrap());
            cell.run(Op::Update { spec })
        }
        8 => {
            let job = if a % 3 == 0 { "set".to_owned() } else { name };
            cell.run(Op::Kill { job, indexes: None })
        }
        9 => cell.run(Op::Drain { machine }),
        10 => cell.run(Op::Repair { machine }),
        11 => {
            cell.health(u32::from(b % 4)..u32::from(b % 4) + 1, a % 2 == 0);
            Ok(cell::live::Done::Done)
        }
        12 => cell.run(Op::RemoveMachine { machine }),
        _ => {
            let spec = format!(r#"{{"name": "{machine}", "cpu": {}, "ram": "16GiB"}}"#, 4 + a % 8);
            let machines = vec![(serde_json::from_str(&spec).unwrap(), "127.0.0.1:1".to_owned())];
            let outcome = cell.run(Op::AddMachines { machines });
            cell.health(0..4, true);
            outcome
        }
    };
    cell.pass_time(u64::from(a % 6));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_fork_is_sound_and_comes_out_the_same_again(
        before in prop::collection::vec(any::<(u8, u8, u8)>(), 0..12),
        after in prop::collection::vec(any::<(u8, u8, u8)>(), 1..30),
        number in 0..4_usize,
    ) {
        let mut cell = Recorder::new("borg-hybrid", 4);
        before.into_iter().for_each(|random| step(&mut cell, random));
        cell.checkpoint();
        after.into_iter().for_each(|random| step(&mut cell, random));
        let options = options(["borg-hybrid", "best-fit", "e-pvm", "kube-default"][number]);
        let (recording, fork) = replay(&cell, &options);
        prop_assert_eq!(recording.side.state.hash(), cell.state.hash());
        prop_assert_eq!(fork.side.state.faults(), Vec::new());
        prop_assert!(fork.side.state.now() <= recording.side.state.now());
        let (_, again) = replay(&cell, &options);
        prop_assert_eq!(fork.side.state.hash(), again.side.state.hash());
        prop_assert_eq!(fork.side.report(), again.side.report());
    }
}

#[test]
fn a_log_is_not_forked_across_a_restore() {
    let mut cell = Recorder::new("best-fit", 2);
    let bytes = cell.state.to_bytes();
    cell.checkpoint();
    cell.submit(&job("web", 200, 1, "1", ""), None).unwrap();
    cell.run(Op::RestorePart { restore: 1, offset: 0, data: bytes.as_slice().into() }).unwrap();
    let (length, checksum) = (bytes.len() as u64, cell::live::restore_checksum(&bytes));
    cell.run(Op::RestoreFinish { restore: 1, length, checksum }).unwrap();
    let restored = cell.state.index();
    cell.pass_time(2);
    let file = CellFile::read(&cell.file()[..]).unwrap();
    let (first, last) = (file.first_index(), file.last_index());
    let ask = |from, until| fork(&file, from, until, &options("best-fit")).map(|_| ());
    assert_eq!(ask(first, last), Err(ForkError::Restored { index: restored }));
    assert_eq!(ask(first, restored - 1), Ok(()));
    assert_eq!(ask(restored, last), Ok(()));
}

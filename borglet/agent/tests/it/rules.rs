//! The rules, one by one.

use borglet_agent::fake::FakeBorglet;
use borglet_agent::{
    Action, Agent, Input, KILL_RETRY_MS, MESSAGE_COUNT_MAX, TASK_COUNT_MAX, TaskEvent,
};
use cell::borglet::{
    ExitCause, GIVEN_UP_MS_MAX, Incarnation, Refusal, RefusalReason, ReportedState, Usage, Wanted,
    WantedTask,
};

use crate::{config, fence, ignores_sigterm, poll, serves, started, states, stopped, task, whole};

const RUNNING: ReportedState = ReportedState::Running;

fn exited(cause: ExitCause) -> ReportedState {
    ReportedState::Exited(cause)
}

/// A borglet on which `tasks` run, in generation 1 of term 1, at 1000 ms.
fn running(tasks: &[WantedTask]) -> FakeBorglet {
    let mut borglet = FakeBorglet::new(config(), 0);
    borglet.input(0, whole(fence(1, 1), tasks), &serves);
    borglet.advance(1_000, &serves);
    borglet
}

fn refusals(actions: &[Action]) -> Vec<RefusalReason> {
    let reason = |action: &Action| match action {
        Action::Refuse(Refusal { reason, .. }) => Some(*reason),
        Action::Persist(_)
        | Action::Start(_)
        | Action::Adjust(_)
        | Action::Terminate(_)
        | Action::Kill(_)
        | Action::Forget(_)
        | Action::Reply(_) => None,
    };
    actions.iter().filter_map(reason).collect()
}

#[test]
fn nothing_is_started_before_its_fence_is_on_disk() {
    let mut agent = Agent::new(config(), 0);
    let actions = agent.step(0, whole(fence(1, 1), &[task(0, 1)]));
    assert_eq!(actions, [Action::Persist(fence(1, 1))]);
    // Neither time nor another write ending changes that.
    assert_eq!(agent.step(5_000, Input::Tick), []);
    assert_eq!(agent.step(5_000, Input::Persisted(fence(0, 1))), []);
    let actions = agent.step(5_000, Input::Persisted(fence(1, 1)));
    assert_eq!(started(&actions), [1]);
}

#[test]
fn nothing_of_a_message_is_done_if_its_fence_is_not_persisted() {
    let mut agent = Agent::new(config(), 0);
    agent.step(0, whole(fence(2, 1), &[task(0, 1)]));
    let actions = agent.step(0, Input::PersistFailed(fence(2, 1)));
    assert_eq!(refusals(&actions), [RefusalReason::NotPersisted]);
    assert_eq!(actions.len(), 1);
    assert_eq!(agent.report().tasks, []);
    assert!(agent.report().needs_whole);
    assert_eq!(agent.fence(), fence(0, 0));
}

#[test]
fn messages_wait_for_the_disk_in_order_and_no_more_than_the_bound() {
    let mut agent = Agent::new(config(), 0);
    agent.step(0, whole(fence(1, 1), &[task(0, 1)]));
    for _ in 1..MESSAGE_COUNT_MAX {
        assert_eq!(agent.step(0, poll(1)), []);
    }
    assert_eq!(refusals(&agent.step(0, poll(1))), [RefusalReason::Busy]);
    let actions = agent.step(0, Input::Persisted(fence(1, 1)));
    assert_eq!(started(&actions[..1]), [1]);
    let replied =
        |action: &&Action| matches!(action, Action::Reply(report) if report.tasks.len() == 1);
    assert_eq!(actions.iter().filter(replied).count(), MESSAGE_COUNT_MAX - 1);
}

#[test]
fn a_deposed_master_is_refused_from_the_first_poll_of_its_successor_on() {
    let mut borglet = running(&[task(0, 1)]);
    borglet.input(1_000, poll(2), &serves);
    let actions = borglet.input(1_000, whole(fence(1, 9), &[]), &serves);
    assert_eq!(refusals(&actions), [RefusalReason::Older]);
    assert_eq!(states(&borglet.agent().report()), [(1, RUNNING)]);
    // The successor goes on from the generation that the borglet holds.
    assert_eq!((borglet.agent().report().term, borglet.agent().report().generation), (2, 1));
    let difference =
        Wanted { fence: fence(2, 2), base: Some(1), tasks: vec![task(1, 2)], gone: Vec::new() };
    assert_eq!(started(&borglet.input(1_000, Input::Wanted(difference), &serves)), [2]);
}

#[test]
fn differences_to_another_generation_are_answered_with_needs_whole() {
    let mut borglet = running(&[task(0, 1)]);
    let difference =
        Wanted { fence: fence(1, 3), base: Some(2), tasks: vec![task(1, 2)], gone: Vec::new() };
    let actions = borglet.input(1_000, Input::Wanted(difference.clone()), &serves);
    let [Action::Reply(report)] = &actions[..] else { panic!("{actions:?}") };
    assert!(report.needs_whole);
    assert_eq!(report.generation, 1);
    // The one that was missed may still come, and is not older than the one that was of no use.
    let missed =
        Wanted { fence: fence(1, 2), base: Some(1), tasks: vec![task(2, 3)], gone: Vec::new() };
    assert_eq!(started(&borglet.input(1_000, Input::Wanted(missed), &serves)), [3]);
    assert!(!borglet.agent().report().needs_whole);
    assert_eq!(started(&borglet.input(1_000, Input::Wanted(difference), &serves)), [2]);
}

#[test]
fn an_exit_is_reported_until_it_is_no_longer_wanted_and_not_started_again() {
    let finishes = |task: &WantedTask| borglet_agent::fake::Behaviour {
        runtime_ms: Some(1_000),
        exit: ExitCause::Failed { code: 3 },
        ..serves(task)
    };
    let mut borglet = FakeBorglet::new(config(), 0);
    borglet.input(0, whole(fence(1, 1), &[task(0, 1)]), &finishes);
    borglet.advance(60_000, &finishes);
    let expected = [(1, exited(ExitCause::Failed { code: 3 }))];
    assert_eq!(states(&borglet.agent().report()), expected);
    assert_eq!(borglet.agent().report().tasks[0].age_ms, 1_000);
    // Neither the same wish again nor a restart starts it anew.
    assert!(
        started(&borglet.input(60_000, whole(fence(1, 2), &[task(0, 1)]), &finishes)).is_empty()
    );
    borglet.restart(60_000);
    assert!(
        started(&borglet.input(60_000, whole(fence(1, 3), &[task(0, 1)]), &finishes)).is_empty()
    );
    assert_eq!(states(&borglet.agent().report()), expected);
    let actions = borglet.input(60_000, whole(fence(1, 4), &[]), &finishes);
    assert_eq!(actions, [Action::Persist(fence(1, 4)), Action::Forget(Incarnation(1))]);
    assert_eq!(borglet.agent().report().tasks, []);
}

#[test]
fn a_new_incarnation_waits_for_the_end_of_the_old_one() {
    let mut borglet = running(&[task(0, 1)]);
    let actions = borglet.input(1_000, whole(fence(1, 2), &[task(0, 2)]), &serves);
    assert_eq!(actions, [Action::Persist(fence(1, 2)), Action::Terminate(Incarnation(1))]);
    let waiting = [(1, ReportedState::Stopping), (2, ReportedState::Starting)];
    assert_eq!(states(&borglet.agent().report()), waiting);
    // The old one takes 2000 ms to end.
    assert_eq!(borglet.advance(2_999, &serves), []);
    assert_eq!(started(&borglet.advance(3_000, &serves)), [2]);
    borglet.advance(4_000, &serves);
    assert_eq!(states(&borglet.agent().report()), [(2, RUNNING)]);
}

#[test]
fn a_stop_has_all_its_time_which_is_not_extended_by_saying_it_again() {
    let mut borglet = FakeBorglet::new(config(), 0);
    borglet.input(0, whole(fence(1, 1), &[task(0, 1)]), &ignores_sigterm);
    borglet.advance(1_000, &ignores_sigterm);
    let stop = stopped(task(0, 1), 30_000);
    let actions =
        borglet.input(1_000, whole(fence(1, 2), std::slice::from_ref(&stop)), &ignores_sigterm);
    assert_eq!(actions[1..], [Action::Terminate(Incarnation(1))]);
    let again = borglet.input(20_000, whole(fence(1, 3), &[stop]), &ignores_sigterm);
    assert_eq!(again, [Action::Persist(fence(1, 3))]);
    assert_eq!(borglet.advance(30_999, &ignores_sigterm), []);
    assert_eq!(borglet.advance(31_000, &ignores_sigterm), [Action::Kill(Incarnation(1))]);
    assert_eq!(states(&borglet.agent().report()), [(1, exited(ExitCause::Stopped))]);
}

#[test]
fn a_stop_before_the_start_prevents_it() {
    let mut borglet = FakeBorglet::new(config(), 0);
    let actions = borglet.input(0, whole(fence(1, 1), &[stopped(task(0, 1), 0)]), &serves);
    assert!(started(&actions).is_empty());
    assert_eq!(states(&borglet.agent().report()), [(1, exited(ExitCause::Stopped))]);
}

#[test]
fn what_was_given_up_is_gone_in_5_s_whatever_its_grace() {
    let mut borglet = FakeBorglet::new(config(), 0);
    borglet.input(0, whole(fence(1, 1), &[task(0, 1), task(1, 2)]), &ignores_sigterm);
    // Cut off for ten minutes: nothing changes.
    assert_eq!(borglet.advance(600_000, &ignores_sigterm), []);
    assert_eq!(borglet.machine().alive().count(), 2);
    borglet.input(600_000, whole(fence(2, 9), &[task(1, 2)]), &ignores_sigterm);
    borglet.advance(600_000 + GIVEN_UP_MS_MAX - 1, &ignores_sigterm);
    assert_eq!(borglet.machine().alive().count(), 1);
    assert_eq!(states(&borglet.agent().report()), [(2, RUNNING)]);
}

#[test]
fn a_kill_is_repeated_while_the_task_is_still_there() {
    let mut agent = Agent::new(config(), 0);
    agent.step(0, whole(fence(1, 1), &[task(0, 1)]));
    agent.step(0, Input::Persisted(fence(1, 1)));
    agent.step(0, whole(fence(1, 2), &[stopped(task(0, 1), 100)]));
    agent.step(0, Input::Persisted(fence(1, 2)));
    let kill = [Action::Kill(Incarnation(1))];
    assert_eq!(agent.step(99, Input::Tick), []);
    assert_eq!(agent.step(100, Input::Tick), kill);
    assert_eq!(agent.next_deadline_ms(), Some(100 + KILL_RETRY_MS));
    assert_eq!(agent.step(100 + KILL_RETRY_MS, Input::Tick), kill);
    agent.step(
        2_000,
        Input::Task(Incarnation(1), TaskEvent::Exited(ExitCause::Signal { signal: 9 })),
    );
    assert_eq!(agent.next_deadline_ms(), None);
}

#[test]
fn without_a_master_only_tasks_that_say_so_are_stopped() {
    let fragile = WantedTask { stop_after_disconnect_ms: Some(20_000), ..task(1, 2) };
    let mut borglet = running(&[task(0, 1), fragile]);
    borglet.input(10_000, poll(1), &serves);
    // A deposed master is none.
    borglet.input(20_000, poll(0), &serves);
    assert_eq!(borglet.advance(29_999, &serves), []);
    assert_eq!(borglet.advance(30_000, &serves), [Action::Terminate(Incarnation(2))]);
    borglet.advance(600_000, &serves);
    let expected = [(1, RUNNING), (2, exited(ExitCause::Disconnected))];
    assert_eq!(states(&borglet.agent().report()), expected);
}

#[test]
fn a_restart_disturbs_no_task() {
    let mut borglet = running(&[task(0, 1), task(1, 2)]);
    borglet.restart(5_000);
    assert!(borglet.agent().report().needs_whole);
    assert_eq!(borglet.agent().fence(), fence(1, 1));
    assert_eq!(borglet.advance(60_000, &serves), []);
    // The same generation as before is not older, and is needed now.
    let actions = borglet.input(60_000, whole(fence(1, 1), &[task(0, 1), task(1, 2)]), &serves);
    assert_eq!(actions, []);
    let report = borglet.agent().report();
    assert_eq!(states(&report), [(1, RUNNING), (2, RUNNING)]);
    assert_eq!(report.tasks[0].age_ms, 60_000 - 100); // it ran 100 ms after its start
    assert!(!report.needs_whole);
}

#[test]
fn tasks_that_a_reboot_killed_are_lost_and_stay_so() {
    let mut borglet = running(&[task(0, 1)]);
    borglet.reboot(5_000);
    assert!(started(&borglet.input(5_000, whole(fence(1, 1), &[task(0, 1)]), &serves)).is_empty());
    assert_eq!(states(&borglet.agent().report()), [(1, exited(ExitCause::Lost))]);
}

#[test]
fn a_changed_limit_reaches_the_running_task() {
    let mut borglet = running(&[task(0, 1)]);
    let changed = WantedTask { priority: 210, ..task(0, 1) };
    let actions = borglet.input(1_000, whole(fence(1, 2), std::slice::from_ref(&changed)), &serves);
    assert_eq!(actions[1..], [Action::Adjust(changed.into())]);
}

#[test]
fn an_exit_of_a_task_that_was_told_to_stop_keeps_a_cause_of_its_own() {
    let check = |cause: ExitCause, expected: ExitCause| {
        let mut agent = Agent::new(config(), 0);
        agent.step(0, whole(fence(1, 1), &[task(0, 1)]));
        agent.step(0, Input::Persisted(fence(1, 1)));
        agent.step(0, whole(fence(1, 2), &[stopped(task(0, 1), 100)]));
        agent.step(0, Input::Persisted(fence(1, 2)));
        agent.step(1, Input::Task(Incarnation(1), TaskEvent::Exited(cause)));
        assert_eq!(states(&agent.report()), [(1, exited(expected))]);
    };
    check(ExitCause::Signal { signal: 15 }, ExitCause::Stopped);
    check(ExitCause::Finished, ExitCause::Stopped);
    check(ExitCause::Failed { code: 143 }, ExitCause::Stopped);
    check(ExitCause::OutOfMemory, ExitCause::OutOfMemory);
    let failed = ExitCause::StartFailed { reason: "no such program".to_owned() };
    check(failed.clone(), failed);
}

#[test]
fn usage_and_health_are_reported_as_last_heard() {
    let mut agent = Agent::new(config(), 0);
    agent.step(0, whole(fence(1, 1), &[task(0, 1)]));
    agent.step(0, Input::Persisted(fence(1, 1)));
    let usage = Usage { cpu_milli: 250, ram_bytes: 4096 };
    let mut event = |event| agent.step(10, Input::Task(Incarnation(1), event));
    event(TaskEvent::Started);
    event(TaskEvent::Sampled(usage));
    event(TaskEvent::Health { healthy: false });
    let report = agent.report();
    assert_eq!((report.tasks[0].usage, report.tasks[0].healthy), (usage, false));
}

#[test]
fn what_contradicts_itself_or_is_too_much_is_refused_whole() {
    let mut borglet = running(&[task(0, 1)]);
    let before = borglet.agent().clone();
    let mut check = |wanted: Wanted, reason| {
        let actions = borglet.input(1_000, Input::Wanted(wanted), &serves);
        assert_eq!(refusals(&actions), [reason]);
        assert_eq!(actions.len(), 1);
        assert_eq!(states(&borglet.agent().report()), states(&before.report()));
        assert_eq!(borglet.agent().fence(), before.fence());
    };
    let wanted =
        |tasks: Vec<WantedTask>| Wanted { fence: fence(1, 2), base: None, tasks, gone: vec![] };
    check(wanted(vec![task(1, 2), task(2, 2)]), RefusalReason::Malformed);
    check(wanted(vec![task(1, 1)]), RefusalReason::Malformed);
    let gone_too = Wanted { base: Some(1), gone: vec![Incarnation(2)], ..wanted(vec![task(1, 2)]) };
    check(gone_too, RefusalReason::Malformed);
    // With the one that is still to end there would be one too many.
    let many =
        (1..=TASK_COUNT_MAX).map(|n| task(u32::try_from(n).unwrap(), n as u64 + 1)).collect();
    check(wanted(many), RefusalReason::TooManyTasks);
}

//! What is wrong is refused, with the path of its field.

#![expect(clippy::wildcard_enum_match_arm, reason = "an example of any other kind is a mistake")]

use std::fmt::Debug;

use cell::borglet::{Incarnation, TaskKey};
use cell::live::{Op, Request};
use proto::event::Events;
use proto::limits::{
    CHUNK_BYTES_MAX, LINK_BATCH_COUNT_MAX, MACHINE_TASK_COUNT_MAX, MESSAGE_BYTES_MAX,
    NAME_BYTES_MAX, PAGE_COUNT_MAX, SPEC_BYTES_MAX, SPEC_NAME_BYTES_MAX, TEXT_BYTES_MAX,
};
use proto::link::{FromMachine, ToMachine, batches, read_from_borglet};
use proto::mutate::Mutation;
use proto::operate::{ReplicasQuery, RestorePart};
use proto::peer::{Envelope, Route};
use proto::reply::Reply;
use proto::status::{Status, StatusQuery};
use proto::{WireError, wire};

use crate::examples;

/// The message of the example of this name.
fn good<W: prost::Message + Default>(name: &str) -> W {
    let example = examples::all().into_iter().find(|example| example.name == name);
    W::decode(example.expect("there is such an example").bytes.as_slice()).unwrap()
}

/// An example that is spoilt is refused for the field and the reason.
fn check<T, W>(example: &str, spoil: &dyn Fn(&mut W), field: &str, problem: &str)
where
    T: TryFrom<W, Error = WireError> + Debug,
    W: prost::Message + Default + Clone,
{
    let mut message: W = good(example);
    T::try_from(message.clone()).expect("the example is good");
    spoil(&mut message);
    let error = T::try_from(message).expect_err(field);
    assert_eq!(error.field, field, "{error}");
    assert!(error.problem.contains(problem), "{error}");
    assert_eq!(error.to_string(), format!("field `{field}`: {}", error.problem));
}

fn long(length: usize) -> String {
    "x".repeat(length)
}

#[test]
fn what_is_said_to_a_machine() {
    use wire::to_machine::Message::Wanted;
    let check_wanted = |spoil: fn(&mut wire::Wanted), field: &str, problem: &str| {
        let spoil = |message: &mut wire::ToMachine| match &mut message.message {
            Some(Wanted(wanted)) => spoil(wanted),
            other => panic!("{other:?}"),
        };
        check::<ToMachine, wire::ToMachine>("wanted-whole", &spoil, field, problem);
    };
    let check = check::<ToMachine, wire::ToMachine>;
    check("poll", &|it| it.machine.clear(), "machine", "missing");
    check("poll", &|it| it.message = None, "message", "missing");
    check("poll", &|it| it.machine = long(NAME_BYTES_MAX + 1), "machine", "257 bytes");
    check_wanted(|it| it.tasks[0].limit = None, "wanted.tasks[0].limit", "missing");
    check_wanted(|it| it.tasks[0].name.clear(), "wanted.tasks[0].name", "missing");
    check_wanted(|it| it.tasks[0].priority = 451, "wanted.tasks[0].priority", "above 450");
    check_wanted(|it| it.tasks[0].gpu_devices = 1 << 16, "wanted.tasks[0].gpu_devices", "65535");
    let argument = "wanted.tasks[0].command[1]";
    check_wanted(|it| it.tasks[0].command[1] = "x".repeat(200_000), argument, "200000 bytes");
    let field = "wanted.tasks[0].limit.cpu_milli";
    let limit = |it: &mut wire::Wanted| it.tasks[0].limit.as_mut().unwrap().cpu_milli = 1 << 53;
    check_wanted(limit, field, "above");
    let devices = |it: &mut wire::Wanted| it.tasks[0].limit.as_mut().unwrap().gpu_count = 17;
    check_wanted(devices, "wanted.tasks[0].limit.gpu_count", "above 16");
    let share = |it: &mut wire::Wanted| it.tasks[0].limit.as_mut().unwrap().gpu_milli_each = 0;
    check_wanted(share, "wanted.tasks[0].limit.gpu_milli_each", "1000 for several");
    let many = |it: &mut wire::Wanted| it.gone = vec![1; MACHINE_TASK_COUNT_MAX + 1];
    check_wanted(many, "wanted.gone", "10001 items");
}

#[test]
fn what_a_machine_says() {
    use wire::from_machine::Message::Report;
    let check_report = |spoil: fn(&mut wire::Report), field: &str, problem: &str| {
        let spoil = |message: &mut wire::FromMachine| match &mut message.message {
            Some(Report(report)) => spoil(report),
            other => panic!("{other:?}"),
        };
        check::<FromMachine, wire::FromMachine>("report", &spoil, field, problem);
    };
    check_report(|it| it.capacity = None, "report.capacity", "missing");
    check_report(|it| it.tasks[1].state = 0, "report.tasks[1].state", "missing");
    check_report(|it| it.tasks[1].state = 99, "report.tasks[1].state", "99 is not known");
    check_report(|it| it.tasks[3].exit = None, "report.tasks[3].exit", "missing");
    let exit = |it: &mut wire::Report| it.tasks[0].exit = it.tasks[3].exit.clone();
    check_report(exit, "report.tasks[0].exit", "has not exited");
    let kind = |it: &mut wire::Report| it.tasks[3].exit.as_mut().unwrap().kind = 77;
    check_report(kind, "report.tasks[3].exit.kind", "77 is not known");
    let number = |it: &mut wire::Report| it.tasks[3].exit.as_mut().unwrap().number = 1;
    check_report(number, "report.tasks[3].exit.number", "no exit of this kind");
    let usage = |it: &mut wire::Report| it.tasks[2].ram_bytes = u64::MAX;
    check_report(usage, "report.tasks[2].ram_bytes", "above");
    check::<FromMachine, wire::FromMachine>(
        "refusal-older",
        &|it| match &mut it.message {
            Some(wire::from_machine::Message::Refusal(refusal)) => refusal.reason = 0,
            other => panic!("{other:?}"),
        },
        "refusal.reason",
        "missing",
    );
}

#[test]
fn one_bad_message_spoils_no_batch_but_too_many_do() {
    let bad = wire::FromMachine { message: None };
    let batch = wire::FromBorglet { messages: vec![bad.clone(), good("report")] };
    let read = read_from_borglet(batch).unwrap();
    assert!(read[0].is_err() && read[1].is_ok(), "{read:?}");
    let batch = wire::FromBorglet { messages: vec![bad; LINK_BATCH_COUNT_MAX + 1] };
    assert_eq!(read_from_borglet(batch).unwrap_err().field, "messages");
}

#[test]
fn batches_keep_the_order_and_stay_within_their_limits() {
    let poll = |i: usize| wire::ToMachine { machine: format!("m-{i}"), message: None };
    let sent: Vec<_> = (0..2 * LINK_BATCH_COUNT_MAX + 1).map(poll).collect();
    let cut = batches(sent.clone());
    assert_eq!(cut.iter().map(Vec::len).collect::<Vec<_>>(), [1000, 1000, 1]);
    assert_eq!(cut.concat(), sent);
    // Each with some bytes more, of at most 4 MiB; one that is larger than that goes alone.
    let large =
        |mebi: usize| wire::Envelope { messages: vec![vec![0; mebi << 20]], ..good("envelope") };
    let cut = batches(vec![large(3), large(2), large(1), large(5), large(1)]);
    let sizes =
        |batch: &Vec<wire::Envelope>| batch.iter().map(|it| it.messages[0].len() >> 20).collect();
    let sizes: Vec<Vec<usize>> = cut.iter().map(sizes).collect();
    assert_eq!(sizes, [vec![3], vec![2, 1], vec![5], vec![1]]);
}

#[test]
fn what_is_too_large_to_be_sent_is_not_made() {
    let route = Route { cell: "cell".to_owned(), from: 1, to: 2 };
    let messages = vec![vec![0; MESSAGE_BYTES_MAX / 2]; 2];
    let error = wire::Envelope::try_from(Envelope { route, messages }).unwrap_err();
    assert_eq!(error.field, "messages");
}

#[test]
fn what_changes_a_cell() {
    use wire::op::Op as On;
    fn on(message: &mut wire::MutateRequest) -> &mut On {
        message.op.as_mut().unwrap().op.as_mut().unwrap()
    }
    let check = check::<Mutation, wire::MutateRequest>;
    check("undo", &|it| it.id = None, "id", "missing");
    check("undo", &|it| it.op = None, "op", "missing");
    check("undo", &|it| it.op = Some(wire::Op { op: None }), "op.op", "missing");
    check("undo", &|it| it.id.as_mut().unwrap().user.clear(), "id.user", "missing");
    check("undo", &|it| it.id.as_mut().unwrap().session = 0, "id.session", "0 to open");
    check("open-session", &|it| it.id.as_mut().unwrap().session = 1, "id.session", "0 to open");
    check("undo", &|it| it.id.as_mut().unwrap().sequence = 0, "id.sequence", "at least 1");
    let check_submit = |spec: &str, field: &str, problem: &str| {
        let spoil = |message: &mut wire::MutateRequest| match on(message) {
            On::Submit(submit) => submit.spec = spec.to_owned(),
            other => panic!("{other:?}"),
        };
        check("submit", &spoil, field, problem);
    };
    check_submit("", "op.submit.spec", "EOF");
    check_submit("{\"name\": 1}", "op.submit.spec", "expected a string");
    check_submit(&long(SPEC_BYTES_MAX + 1), "op.submit.spec", "1048577 bytes");
    let name = long(SPEC_NAME_BYTES_MAX + 1);
    let spec = format!(r#"{{"name": "{name}", "user": "a", "priority": 0, "limit": {{}}}}"#);
    check_submit(&spec, "op.submit.spec.name", "201 bytes");
    let band = |message: &mut wire::MutateRequest| match on(message) {
        On::SetQuota(quota) => quota.band = 9,
        other => panic!("{other:?}"),
    };
    check("set-quota-batch", &band, "op.set_quota.band", "9 is not known");
    let capability = |message: &mut wire::MutateRequest| match on(message) {
        On::SetCapabilities(it) => it.capabilities[2] = 0,
        other => panic!("{other:?}"),
    };
    let field = "op.set_capabilities.capabilities[2]";
    check("set-capabilities", &capability, field, "missing");
    let address = |message: &mut wire::MutateRequest| match on(message) {
        On::AddMachines(it) => it.machines[1].address.clear(),
        other => panic!("{other:?}"),
    };
    check("add-machines", &address, "op.add_machines.machines[1].address", "missing");
    let settings = |message: &mut wire::MutateRequest| match on(message) {
        On::Configure(it) => it.settings = r#"{"colour": "red"}"#.to_owned(),
        other => panic!("{other:?}"),
    };
    check("configure", &settings, "op.configure.settings", "unknown field `colour`");
}

#[test]
fn a_masters_own_operation_does_not_travel() {
    let request = Request { user: "a".to_owned(), session: 1, sequence: 1, answered_below: 1 };
    let task = (TaskKey { job: 1, index: 0 }, Incarnation(1));
    let cause = cell::live::EvictCause::Preempted;
    for op in [Op::Expire, Op::Evict { tasks: vec![task], cause }] {
        let mutation = Mutation { request: request.clone(), op };
        assert_eq!(wire::MutateRequest::try_from(mutation).unwrap_err().field, "op.op");
    }
}

#[test]
fn what_is_asked_and_answered() {
    use wire::status_request::What::Jobs;
    let check_query = check::<StatusQuery, wire::StatusRequest>;
    check_query("ask-cell", &|it| it.consistency = 0, "consistency", "missing");
    check_query("ask-cell", &|it| it.what = None, "what", "missing");
    let check_list = |spoil: fn(&mut wire::status_request::List), field: &str, problem: &str| {
        let spoil = |message: &mut wire::StatusRequest| match &mut message.what {
            Some(Jobs(list)) => spoil(list),
            other => panic!("{other:?}"),
        };
        check_query("ask-jobs", &spoil, field, problem);
    };
    check_list(|it| it.paging = None, "jobs.paging", "missing");
    let limit = "jobs.paging.limit";
    check_list(|it| it.paging.as_mut().unwrap().limit = 0, limit, "0 is not in");
    check_list(|it| it.paging.as_mut().unwrap().limit = PAGE_COUNT_MAX + 1, limit, "2001");
    check_list(|it| it.filter.as_mut().unwrap().phase = 42, "jobs.filter.phase", "42");

    let check_reply = check::<Reply<Status>, wire::StatusReply>;
    check_reply("status-cell", &|it| it.result = None, "result", "missing");
    let check_status = |example: &str, spoil: fn(&mut wire::status::What), field: &str| {
        let spoil = |message: &mut wire::StatusReply| match &mut message.result {
            Some(wire::status_reply::Result::Status(it)) => spoil(it.what.as_mut().unwrap()),
            other => panic!("{other:?}"),
        };
        check_reply(example, &spoil, field, "");
    };
    use wire::status::What;
    let hash = |what: &mut What| match what {
        What::Cell(it) => it.hash.truncate(15),
        other => panic!("{other:?}"),
    };
    check_status("status-cell", hash, "status.cell.hash");
    let priority = |what: &mut What| match what {
        What::Jobs(it) => it.items[0].priority = 451,
        other => panic!("{other:?}"),
    };
    check_status("status-jobs", priority, "status.jobs.items[0].priority");
    let since = |what: &mut What| match what {
        What::Machines(it) => it.items[2].down_since_ms = None,
        other => panic!("{other:?}"),
    };
    check_status("status-machines", since, "status.machines.items[2].down_since_ms");
    let many = |what: &mut What| match what {
        What::Quota(it) => it.items = vec![it.items[0].clone(); PAGE_COUNT_MAX as usize + 1],
        other => panic!("{other:?}"),
    };
    check_status("status-quota", many, "status.quota.items");
}

#[test]
fn what_is_told_of_events() {
    let step = |message: &mut wire::EventsReply| {
        for event in &mut message.events {
            if let Some(wire::event::What::Task(task)) = &mut event.what {
                task.step = None;
            }
        }
    };
    check::<Events, wire::EventsReply>("events", &step, "events[3].task.step", "missing");
    let text = |it: &mut wire::EventsReply| it.events[1].text = long(TEXT_BYTES_MAX + 1);
    check::<Events, wire::EventsReply>("events", &text, "events[1].text", "4097 bytes");
}

#[test]
fn what_operators_and_replicas_send() {
    let data = |message: &mut wire::RestoreRequest| {
        let data = vec![0; CHUNK_BYTES_MAX + 1];
        message.part = Some(wire::restore_request::Part::Data(data));
    };
    check::<RestorePart, wire::RestoreRequest>("restore-data", &data, "data", "1048577 bytes");
    let id_of = |message: &mut wire::RestoreRequest, change: &dyn Fn(&mut wire::RequestId)| {
        if let Some(wire::restore_request::Part::Start(start)) = &mut message.part {
            change(start.id.as_mut().unwrap());
        }
    };
    let check_start = |change: &dyn Fn(&mut wire::RequestId), field: &str, problem: &str| {
        let change = |message: &mut wire::RestoreRequest| id_of(message, change);
        check::<RestorePart, wire::RestoreRequest>("restore-start-named", &change, field, problem);
    };
    check_start(&|id| id.user = "bob".to_owned(), "start.id.user", "must be that of");
    check_start(&|id| id.session = 0, "start.id", "have to be given");
    let id = |message: &mut wire::ReplicasRequest| match &mut message.what {
        Some(wire::replicas_request::What::Add(it)) => it.id = 0,
        other => panic!("{other:?}"),
    };
    check::<ReplicasQuery, wire::ReplicasRequest>("replicas-add", &id, "add.id", "missing");
    let new = |message: &mut wire::ReplicasRequest| match &mut message.what {
        Some(wire::replicas_request::What::Replace(it)) => it.new = 0,
        other => panic!("{other:?}"),
    };
    check::<ReplicasQuery, wire::ReplicasRequest>(
        "replicas-replace",
        &new,
        "replace.new",
        "missing",
    );
    let check_envelope = check::<Envelope, wire::Envelope>;
    check_envelope("envelope", &|it| it.cell.clear(), "cell", "missing");
    check_envelope("envelope", &|it| it.from = 0, "from", "missing");
    check_envelope("envelope", &|it| it.to = it.from, "to", "sender");
}

#[test]
fn a_text_for_people_is_cut_where_a_character_ends() {
    let reason = format!("x{}", "é".repeat(TEXT_BYTES_MAX)); // a cut at 4096 is inside a character
    let sent = wire::ExitCause::from(cell::borglet::ExitCause::StartFailed { reason });
    assert_eq!(sent.reason.len(), TEXT_BYTES_MAX - 1);
    cell::borglet::ExitCause::try_from(sent).unwrap();
}

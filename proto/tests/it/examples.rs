//! Fixed values of every message: what `tests/wire.hex` has the bytes of.

use std::sync::Arc;

use cell::borglet::{Refusal, *};
use cell::live::view::*;
use cell::live::*;
use cell::spec::JobSpec;
use cell::*;
use prost::Message;
use proto::event::{Events, Told, Watch};
use proto::explain::{FitsQuery, WhyQuery};
use proto::link::{FromMachine, MasterMessage, ToMachine};
use proto::mutate::Mutation;
use proto::node::*;
use proto::operate::*;
use proto::peer::{Envelope, Route};
use proto::reply::{Reply, Unserved};
use proto::status::{Consistency, Status, StatusQuery};
use proto::wire;

type Check = dyn Fn(&[u8]) -> bool;

/// A value and how it is sent.
pub(crate) struct Example {
    /// Its name in the file.
    pub(crate) name: &'static str,
    /// The name of its message.
    pub(crate) message: &'static str,
    /// How it is sent today.
    pub(crate) bytes: Vec<u8>,
    /// Whether it is what these bytes say.
    pub(crate) is_read_from: Box<Check>,
}

fn example<T, W>(name: &'static str, message: &'static str, value: T) -> Example
where
    T: Clone + PartialEq + TryFrom<W> + 'static,
    W: Message + Default + TryFrom<T>,
    <W as TryFrom<T>>::Error: std::fmt::Debug,
    <T as TryFrom<W>>::Error: std::fmt::Debug,
{
    let bytes = W::try_from(value.clone()).unwrap().encode_to_vec();
    let is_read_from = move |bytes: &[u8]| T::try_from(W::decode(bytes).unwrap()).unwrap() == value;
    Example { name, message, bytes, is_read_from: Box::new(is_read_from) }
}

macro_rules! examples {
    ($($name:literal: $message:ident = $value:expr),+ $(,)?) => {
        vec![$(example::<_, wire::$message>($name, stringify!($message), $value)),+]
    };
}

/// All of them.
pub(crate) fn all() -> Vec<Example> {
    let mut all = links();
    all.extend(mutations());
    all.extend(statuses());
    all.extend(others());
    all.extend(nodes());
    all
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn limit() -> Resources {
    Resources {
        cpu: MilliCpu(1500),
        ram: Bytes(1 << 30),
        disk: Bytes(5),
        gpu: GpuRequest { count: 2, milli_each: MilliGpu(1000) },
        unstated: Unstated { cpu: true, ram: true },
    }
}

fn key(index: u32) -> TaskKey {
    TaskKey { job: 7, index }
}

fn exits() -> [ExitCause; 9] {
    [
        ExitCause::Finished,
        ExitCause::Failed { code: -3 },
        ExitCause::Signal { signal: 11 },
        ExitCause::OutOfMemory,
        ExitCause::Unhealthy,
        ExitCause::Stopped,
        ExitCause::Disconnected,
        ExitCause::StartFailed { reason: text("no such file") },
        ExitCause::Lost,
    ]
}

fn to(message: MasterMessage) -> ToMachine {
    ToMachine { machine: text("m-17"), message }
}

fn refusal(reason: RefusalReason) -> FromMachine {
    let highest = Fence { term: 5, generation: 600 };
    FromMachine::Refusal(Refusal { machine: text("m-17"), highest, reason })
}

fn links() -> Vec<Example> {
    let fence = Fence { term: 3, generation: 500 };
    let task = WantedTask {
        key: key(1),
        incarnation: Incarnation(900),
        name: text("web/1"),
        priority: 200,
        limit: limit(),
        gpu_devices: 0b110,
        user: String::new(),
        command: vec![text("/bin/serve"), text("--port"), String::new()],
        grace_ms: 10_000,
        latency_sensitive: true,
        stop_after_disconnect_ms: Some(60_000),
        container: None,
        stop: Some(Stop { deadline_in_ms: 0 }),
    };
    let container = r#"{"env": {"MODE": "test"}, "ports": {"web": 0},
        "health": {"live": {"tcp": "web", "every_ms": 5000, "timeout_ms": 1000, "failures_max": 3}}}"#;
    let contained = WantedTask {
        user: text("ann"),
        container: Some(serde_json::from_str(container).unwrap()),
        ..task.clone()
    };
    let contained = Wanted { fence, base: None, tasks: vec![contained], gone: Vec::new() };
    let whole = Wanted { fence, base: None, tasks: vec![task], gone: Vec::new() };
    let gone = vec![Incarnation(8), Incarnation(300)];
    let difference = Wanted { fence, base: Some(0), tasks: Vec::new(), gone };
    let states = [ReportedState::Starting, ReportedState::Running, ReportedState::Stopping];
    let states = states.into_iter().chain(exits().map(ReportedState::Exited));
    let tasks = states.zip(0..).map(|(state, index)| TaskReport {
        key: key(index),
        incarnation: Incarnation(900),
        state,
        usage: Usage { cpu_milli: 250, ram_bytes: 1 << 20 },
        healthy: index != 1,
        age_ms: 30_000,
    });
    let report = Report {
        machine: text("m-17"),
        term: 3,
        generation: 500,
        needs_whole: true,
        capacity: MachineCapacity {
            cpu_milli: 32_000,
            ram_bytes: 1 << 37,
            disk_bytes: 1 << 40,
            gpu_count: 8,
        },
        tasks: tasks.collect(),
    };
    examples! {
        "wanted-whole": ToMachine = to(MasterMessage::Wanted(whole)),
        "wanted-container": ToMachine = to(MasterMessage::Wanted(contained)),
        "wanted-difference": ToMachine = to(MasterMessage::Wanted(difference)),
        "poll": ToMachine = to(MasterMessage::Poll(Poll { fence })),
        "report": FromMachine = FromMachine::Report(report),
        "refusal-older": FromMachine = refusal(RefusalReason::Older),
        "refusal-busy": FromMachine = refusal(RefusalReason::Busy),
        "refusal-not-persisted": FromMachine = refusal(RefusalReason::NotPersisted),
        "refusal-too-many-tasks": FromMachine = refusal(RefusalReason::TooManyTasks),
        "refusal-malformed": FromMachine = refusal(RefusalReason::Malformed),
    }
}

fn nodes() -> Vec<Example> {
    let task = TaskUsage {
        name: text("web/1"),
        incarnation: 900,
        pid: 4321,
        age_ms: 30_000,
        cpu_milli: 250,
        ram_bytes: 1 << 20,
        cpu_limit_milli: 500,
        ram_limit_bytes: 1 << 29,
        process_count: 3,
        throttled_ms: 70,
        major_fault_count: 2,
        oom_kill_count: 1,
        cpu_pressure_permille: Some(12),
        memory_pressure_permille: Some(0),
        io_pressure_permille: Some(3),
        is_healthy: false,
    };
    let usage = MachineUsage {
        machine: text("m-17"),
        cpu_capacity_milli: 32_000,
        ram_capacity_bytes: 1 << 37,
        tasks: vec![
            task,
            TaskUsage { name: text("web/2"), is_healthy: true, ..TaskUsage::default() },
        ],
    };
    let logs = LogsQuery {
        user: text("ann"),
        task: text("web/1"),
        incarnation: Some(Incarnation(900)),
        follow: true,
        tail_bytes: Some(4096),
    };
    let piece = |stream| LogsPiece { stream, data: b"hello\n".to_vec() };
    let command = vec![text("sh"), text("-c"), text("true")];
    let start = ExecInput::Start { user: text("ann"), task: text("web/1"), command };
    examples! {
        "usage-query": UsageRequest = UsageQuery { user: text("ann") },
        "usage": UsageReply = usage,
        "logs-query": LogsRequest = logs,
        "logs-stdout": LogsPiece = piece(LogStream::Stdout),
        "logs-stderr": LogsPiece = piece(LogStream::Stderr),
        "exec-start": ExecInput = start,
        "exec-stdin": ExecInput = ExecInput::Stdin(b"input".to_vec()),
        "exec-stdin-ends": ExecInput = ExecInput::StdinEnds,
        "exec-stdout": ExecOutput = ExecOutput::Stdout(b"out".to_vec()),
        "exec-stderr": ExecOutput = ExecOutput::Stderr(b"err".to_vec()),
        "exec-exit": ExecOutput = ExecOutput::Exit(ExitCause::Failed { code: 3 }),
    }
}

fn spec() -> Box<JobSpec> {
    // Nothing that is sent is left to a default, which may change.
    let text = r#"{"name": "web", "user": "ann", "priority": 200, "count": 3,
        "limit": {"cpu": "1500m", "ram": 512, "disk": 0}, "different_machines": false,
        "packages": [], "tied_to_machines": false,
        "run": {"command": ["/bin/serve"], "restart": "always", "grace_seconds": 10,
            "update_max_down": 1, "healthy_seconds": 0, "latency_sensitive": true}}"#;
    Box::new(serde_json::from_str(text).unwrap())
}

fn settings() -> Settings {
    let text = r#"{"cell_name": "cell", "admins": ["ann"], "needs_quota": true,
        "poll_interval_ms": 2000, "silent_after_ms": 10000, "lost_evictions_per_second": 1000,
        "mass_loss_permille": 300, "back_off_first_ms": 1000, "back_off_max_ms": 300000,
        "failures_per_machine": 2, "reservation_hold_ms": 300000,
        "reservation_margin_permille": 150, "dead_job_keep_ms": 3600000,
        "dead_job_count_max": 10000, "session_keep_ms": 3600000, "policy": "borg-hybrid"}"#;
    serde_json::from_str(text).unwrap()
}

fn ask(op: Op) -> Mutation {
    let session = if op == Op::OpenSession { 0 } else { 12 };
    let request = Request { user: text("ann"), session, sequence: 34, answered_below: 30 };
    Mutation { request, op }
}

fn amounts(cpu_milli: u64) -> Amounts {
    Amounts { cpu_milli, ram_bytes: 2, disk_bytes: 3, gpu_milli: 4 }
}

fn grant(band: Band) -> Mutation {
    let until = Some(Timestamp(1_700_000_000_000));
    ask(Op::SetQuota(Quota { user: text("bob"), band, amounts: amounts(1), until }))
}

fn no(rejected: Rejected) -> Reply<Done> {
    Ok(Err(rejected))
}

fn mutations() -> Vec<Example> {
    let machine = |name: &str| {
        let json = format!(
            r#"{{"name": "{name}", "cpu": "4000m", "ram": 4096, "gpus": 0, "attributes": {{}},
                "rack": "r1", "packages": []}}"#
        );
        (serde_json::from_str(&json).unwrap(), format!("{name}:7070"))
    };
    let (job, machine_name, user) = (|| text("web"), || text("m-17"), || text("ann"));
    let (band, resource) = (text("batch"), || text("cpu"));
    let capabilities = Capability::ALL.into();
    let over =
        Rejected::Quota { user: user(), band, resource: resource(), asked: 1, granted: 2, used: 3 };
    let leader =
        |address: Option<&str>| Unserved::NotLeader { leader_address: address.map(str::to_owned) };
    examples! {
        "open-session": MutateRequest = ask(Op::OpenSession),
        "submit": MutateRequest = ask(Op::Submit { spec: spec(), is_alloc_set: false }),
        "submit-alloc-set": MutateRequest = ask(Op::Submit { spec: spec(), is_alloc_set: true }),
        "update": MutateRequest = ask(Op::Update { spec: spec() }),
        "undo": MutateRequest = ask(Op::Undo { job: job() }),
        "kill": MutateRequest = ask(Op::Kill { job: job(), indexes: None }),
        "kill-some": MutateRequest = ask(Op::Kill { job: job(), indexes: Some([2, 300].into()) }),
        "set-quota-free": MutateRequest = grant(Band::Free),
        "set-quota-batch": MutateRequest = grant(Band::Batch),
        "set-quota-mid": MutateRequest = grant(Band::Mid),
        "set-quota-production": MutateRequest = grant(Band::Production),
        "set-quota-monitoring": MutateRequest = grant(Band::Monitoring),
        "set-capabilities": MutateRequest =
            ask(Op::SetCapabilities { user: user(), capabilities }),
        "add-machines": MutateRequest =
            ask(Op::AddMachines { machines: vec![machine("m-17"), machine("m-18")] }),
        "drain": MutateRequest = ask(Op::Drain { machine: machine_name() }),
        "repair": MutateRequest = ask(Op::Repair { machine: machine_name() }),
        "remove-machine": MutateRequest = ask(Op::RemoveMachine { machine: machine_name() }),
        "configure": MutateRequest = ask(Op::Configure(settings())),
        "done": MutateReply = Ok(Ok(Done::Done)),
        "done-session": MutateReply = Ok(Ok(Done::Session(12))),
        "done-job": MutateReply = Ok(Ok(Done::Job { uid: 7, version: 2 })),
        "done-some": MutateReply = Ok(Ok(Done::Some { done: 5, rejected: 6 })),
        "invalid": MutateReply =
            no(Rejected::Invalid { field: text("limit.cpu"), problem: text("is negative") }),
        "unknown": MutateReply = no(Rejected::Unknown { kind: text("job"), name: job() }),
        "name-taken": MutateReply = no(Rejected::NameTaken(job())),
        "ended": MutateReply = no(Rejected::Ended(job())),
        "quota": MutateReply = no(over),
        "more-than-the-cell": MutateReply =
            no(Rejected::MoreThanTheCell { resource: resource(), asked: 4, capacity: 5 }),
        "forbidden": MutateReply =
            no(Rejected::Forbidden { user: user(), capability: text("quota") }),
        "in-use": MutateReply = no(Rejected::InUse { machine: machine_name(), count: 9 }),
        "nothing-to-undo": MutateReply = no(Rejected::NothingToUndo(job())),
        "no-session": MutateReply = no(Rejected::NoSession(12)),
        "answered": MutateReply = no(Rejected::Answered(34)),
        "too-many-answers": MutateReply = no(Rejected::TooManyAnswers(12)),
        "not-leader": MutateReply = Err(leader(Some("10.0.0.2:6000"))),
        "no-leader": MutateReply = Err(leader(None)),
        "busy": MutateReply = Err(Unserved::Busy { retry_after_ms: 250 }),
        "disk-full": MutateReply = Err(Unserved::DiskFull),
        "not-in-log": MutateReply =
            Err(Unserved::NotInLog { oldest_index: 100, newest_index: 2000 }),
        // As the details of a status.
        "unserved": Unserved = Unserved::DiskFull,
    }
}

fn status(answer: Answer) -> Reply<Status> {
    Ok(Ok(Status { index: 4711, answer }))
}

fn query(question: Question) -> StatusQuery {
    StatusQuery { consistency: Consistency::Linearizable, question }
}

fn page<T>(items: Vec<T>) -> Page<T> {
    Page { items, next: some("next") }
}

fn counts() -> PhaseCounts {
    PhaseCounts { counts: [1, 2, 3, 4, 5, 6, 7, 8] }
}

fn job(kind: JobKind, end: JobEnd) -> JobStatus {
    JobStatus {
        name: text("web"),
        uid: 7,
        user: text("ann"),
        priority: Priority::new(200).unwrap(),
        kind,
        version: 2,
        submitted_at: Timestamp(1000),
        counts: counts(),
        ended: Some((Timestamp(2000), end)),
        rollout: Some(Rollout { done: 1, total: 3 }),
        waits_for: vec![text("api")],
    }
}

fn task(phase: PhaseKind) -> TaskStatus {
    TaskStatus {
        name: text("web/1"),
        phase,
        since: Timestamp(1),
        machine: some("m-17"),
        alloc: some("envelope/0"),
        incarnation: Some(Incarnation(900)),
        version: 2,
        is_healthy: false,
        last_cause: some("evicted: machine lost"),
        failures: 3,
        placed_count: 4,
        not_before: Some(Timestamp(5)),
        deadline: Some(Timestamp(6)),
        limit: limit(),
        reservation: Some(limit()),
    }
}

fn machine(health: Health) -> MachineStatus {
    let room = |cpu_milli, disk_bytes| Room { cpu_milli, ram_bytes: 2, disk_bytes, gpu_milli: 4 };
    MachineStatus {
        name: text("m-17"),
        address: text("m-17:7070"),
        health,
        is_drained: true,
        capacity: room(30, None),
        free_by_limits: room(20, Some(0)),
        free_by_reservations: room(10, Some(3)),
        task_count: 9,
    }
}

fn statuses() -> Vec<Example> {
    let list = |phase| Filter { job: some("web"), user: some("ann"), phase, machine: some("m") };
    let first = || Paging { limit: 100, after: None };
    let later = || Paging { limit: 100, after: some("api") };
    let quota = |granted| QuotaStatus {
        user: text("ann"),
        band: Band::Batch,
        granted,
        used: amounts(5),
        until: Some(Timestamp(6)),
    };
    let cell = CellStatus {
        name: text("cell"),
        now: Timestamp(1),
        index: 4711,
        hash: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10,
        machine_count: 3,
        machine_down_count: 1,
        machine_drained_count: 2,
        is_mass_loss: true,
        job_count: 4,
        alloc_set_count: 5,
        ended_count: 6,
        tasks: counts(),
        session_count: 7,
        settings: settings(),
        planning: None,
    };
    let planning = PlanningStatus {
        replica: 2,
        term: 5,
        pass_count: 300,
        conflicted_count: 3,
        examined_count: 20_000,
        placed_count: 12_000,
        refused_count: 12,
        staleness_entries_sum: 700,
        staleness_entries_max: 40,
    };
    let leads = CellStatus { planning: Some(planning), ..cell.clone() };
    let jobs = vec![
        job(JobKind::Job, JobEnd::Finished),
        job(JobKind::AllocSet, JobEnd::Failed),
        job(JobKind::Job, JobEnd::Killed),
    ];
    let machines = [Health::Unknown, Health::Up, Health::Down { since: Timestamp(8) }];
    let machines = machines.map(machine).to_vec();
    let stale = StatusQuery { consistency: Consistency::Stale, question: Question::Cell };
    let unknown = Rejected::Unknown { kind: text("job"), name: text("web") };
    examples! {
        "ask-jobs": StatusRequest = query(Question::Jobs(list(None), first())),
        "ask-job": StatusRequest = query(Question::Job(text("web"))),
        "ask-tasks": StatusRequest =
            query(Question::Tasks(list(Some(PhaseKind::Pending)), later())),
        "ask-machines": StatusRequest = query(Question::Machines(list(None), later())),
        "ask-quota": StatusRequest = query(Question::Quotas(Filter::default(), first())),
        "ask-cell": StatusRequest = query(Question::Cell),
        "ask-cell-stale": StatusRequest = stale,
        "ask-spec": StatusRequest = query(Question::Spec(text("web"))),
        "status-jobs": StatusReply = status(Answer::Jobs(page(jobs))),
        "status-job": StatusReply = status(Answer::Job(job(JobKind::Job, JobEnd::Failed))),
        "status-tasks": StatusReply =
            status(Answer::Tasks(page(PhaseKind::ALL.map(task).to_vec()))),
        "status-machines": StatusReply = status(Answer::Machines(page(machines))),
        "status-quota": StatusReply =
            status(Answer::Quotas(page(vec![quota(Some(amounts(9))), quota(None)]))),
        "status-cell": StatusReply = status(Answer::Cell(Box::new(cell))),
        "status-cell-leads": StatusReply = status(Answer::Cell(Box::new(leads))),
        "status-spec": StatusReply = status(Answer::Spec(spec())),
        "status-unknown": StatusReply = Ok(Err(unknown)),
        "status-busy": StatusReply = Err(Unserved::Busy { retry_after_ms: 250 }),
    }
}

fn events() -> Events {
    let job = || Arc::<str>::from("web");
    let on = Some(MachineId(17));
    let step = |step| What::Task {
        job: job(),
        task: key(1),
        incarnation: Some(Incarnation(900)),
        machine: on,
        step,
    };
    let mut happened = vec![
        What::Submitted { job: job(), uid: 7 },
        What::Updated { job: job(), version: 2 },
        What::Ended { job: job(), end: JobEnd::Finished },
        step(TaskStep::Scheduled),
        step(TaskStep::Started),
        step(TaskStep::Health(false)),
        step(TaskStep::Unassigned),
        step(TaskStep::Died(DeathCause::Finished)),
        step(TaskStep::Died(DeathCause::Killed)),
        step(TaskStep::Died(DeathCause::Failed(ExitCause::OutOfMemory))),
    ];
    let evictions = [
        EvictCause::Preempted,
        EvictCause::MachineLost,
        EvictCause::MachineDrained,
        EvictCause::OutOfResources,
        EvictCause::Updated,
        EvictCause::AllocEnded,
    ];
    happened.extend(evictions.map(TaskStep::Notified).map(step));
    happened.extend(evictions.map(TaskStep::Evicted).map(step));
    happened.extend(exits().map(TaskStep::Exited).map(step));
    let machine = [
        MachineStep::Added,
        MachineStep::Up,
        MachineStep::Down,
        MachineStep::Drained,
        MachineStep::Repaired,
        MachineStep::Removed,
    ];
    happened.extend(machine.map(|step| What::Machine { machine: MachineId(17), step }));
    let told = happened.into_iter().zip(100..).map(|(what, index)| Told {
        event: Event { index, at: Timestamp(5000), what },
        machine: some("m-17"),
        text: text("words"),
    });
    Events { events: told.collect(), next_index: 200 }
}

fn restored_event() -> Events {
    let what = What::Restored { from_index: 4000, kept_count: 12, pending_count: 3 };
    let event = Event { index: 4711, at: Timestamp(5000), what };
    let told = Told { event, machine: None, text: "words".to_owned() };
    Events { events: vec![told], next_index: 4712 }
}

fn others() -> Vec<Example> {
    let reason = |text: &str| Reason { text: text.to_owned(), host_count: 5 };
    let why = Why {
        task: text("web/1"),
        phase: PhaseKind::Pending,
        text: text("no machine has room"),
        host_count: 9,
        feasible_count: 1,
        ruled_out: vec![reason("cpu")],
        changes: vec![reason("100m less")],
        index: 4711,
    };
    let fits = Fits {
        count: 12,
        free_count: 0,
        victim_count: 0,
        is_at_least: true,
        stopped_by: vec![reason("ram")],
        index: 4711,
    };
    let preempting = Fits { free_count: 9, victim_count: 4, ..fits.clone() };
    let consistency = Consistency::Stale;
    let user = || text("ann");
    let replica = |id, role| ReplicaStatus {
        id,
        address: text("10.0.0.1:6001"),
        client_address: text("10.0.0.1:6000"),
        role,
        matched_index: 4711,
        is_heard: true,
    };
    let replicas = vec![
        replica(1, ReplicaRole::Leader),
        replica(2, ReplicaRole::Follower),
        replica(3, ReplicaRole::Learner),
    ];
    let replicas = ReplicaList { term: 5, committed_index: 4711, replicas };
    let change = |change| ReplicasQuery { user: user(), change };
    let add = ReplicaChange::Add {
        id: 4,
        address: text("10.0.0.4:6001"),
        client_address: text("10.0.0.4:6000"),
    };
    let replace = ReplicaChange::Replace {
        old: 3,
        new: 4,
        address: text("10.0.0.4:6001"),
        client_address: text("10.0.0.4:6000"),
    };
    let route = || Route { cell: text("cell"), from: 1, to: 2 };
    let forbidden = || Rejected::Forbidden { user: user(), capability: text("machines") };
    let chunk = || FileChunk(vec![1, 2, 255]);
    examples! {
        "ask-why": WhyRequest = WhyQuery { task: text("web/1"), consistency },
        "why": WhyReply = Ok(Ok(why)),
        "why-unknown": WhyReply =
            Ok(Err(Rejected::Unknown { kind: text("task"), name: text("web/1") })),
        "why-busy": WhyReply = Err(Unserved::Busy { retry_after_ms: 250 }),
        "ask-fits": FitsRequest = FitsQuery { spec: spec(), is_alloc_set: true, consistency },
        "fits": FitsReply = Ok(Ok(fits)),
        "fits-preempting": FitsReply = Ok(Ok(preempting)),
        "fits-invalid": FitsReply =
            Ok(Err(Rejected::Invalid { field: text("count"), problem: text("is 0") })),
        "fits-busy": FitsReply = Err(Unserved::Busy { retry_after_ms: 250 }),
        "ask-events": EventsRequest = Watch { from_index: 100, follow: true },
        "events": EventsReply = events(),
        "event-restored": EventsReply = restored_event(),
        "ask-checkpoint": CheckpointRequest = Checkpoint { until_index: Some(0) },
        "checkpoint": CheckpointReply = chunk(),
        "restore-start": RestoreRequest = RestorePart::Start {
            user: user(),
            total_bytes: 3,
            until_index: None,
            request: None,
        },
        "restore-start-named": RestoreRequest = RestorePart::Start {
            user: user(),
            total_bytes: 3,
            until_index: Some(0),
            request: Some(Request {
                user: user(),
                session: 7,
                sequence: 3,
                answered_below: 2,
            }),
        },
        "restore-data": RestoreRequest = RestorePart::Data(chunk()),
        "restored": RestoreReply = Ok(Ok(Restored { index: 4711, hash: 0x0102 << 112 | 3 })),
        "restore-forbidden": RestoreReply = Ok(Err(forbidden())),
        "restore-disk-full": RestoreReply = Err(Unserved::DiskFull),
        "replicas-list": ReplicasRequest = change(ReplicaChange::List),
        "replicas-add": ReplicasRequest = change(add),
        "replicas-remove": ReplicasRequest = change(ReplicaChange::Remove { id: 3 }),
        "replicas-transfer": ReplicasRequest = change(ReplicaChange::Transfer { to: Some(2) }),
        "replicas-replace": ReplicasRequest = change(replace),
        "replicas": ReplicasReply = Ok(Ok(replicas)),
        "replicas-forbidden": ReplicasReply = Ok(Err(forbidden())),
        "replicas-no-leader": ReplicasReply = Err(Unserved::NotLeader { leader_address: None }),
        "envelope": Envelope =
            Envelope { route: route(), messages: vec![vec![1, 2, 255], vec![4]] },
        // Nothing but numbers and lists, and so the same in the cell.
        "messages-reply": MessagesReply = wire::MessagesReply { received_count: 300 },
        "from-master": FromMaster =
            wire::FromMaster { messages: vec![wire::ToMachine::default(); 2] },
        "from-borglet": FromBorglet =
            wire::FromBorglet { messages: vec![wire::FromMachine::default(); 2] },
    }
}

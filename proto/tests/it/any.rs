//! Any value of each type that travels.

use std::sync::Arc;

use cell::borglet::{Refusal, *};
use cell::container::ContainerSpec;
use cell::live::view::*;
use cell::live::*;
use cell::spec::{JobSpec, MachineSpec};
use cell::*;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proto::event::{Events, Told, Watch};
use proto::explain::{FitsQuery, WhyQuery};
use proto::limits::AMOUNT_MAX;
use proto::link::{FromMachine, MasterMessage, ToMachine};
use proto::mutate::Mutation;
use proto::node::*;
use proto::operate::*;
use proto::peer::{Envelope, Route};
use proto::reply::{Reply, Unserved};
use proto::status::{Consistency, Status, StatusQuery};

pub(crate) fn name() -> BoxedStrategy<String> {
    "[a-zé][a-z0-9.:-]{0,20}".boxed()
}

pub(crate) fn words() -> BoxedStrategy<String> {
    "\\PC{0,40}".boxed()
}

fn amount() -> BoxedStrategy<u64> {
    prop_oneof![Just(0), Just(AMOUNT_MAX), 0..=AMOUNT_MAX].boxed()
}

fn time() -> BoxedStrategy<Timestamp> {
    any::<u64>().prop_map(Timestamp).boxed()
}

fn key() -> BoxedStrategy<TaskKey> {
    (any::<u64>(), any::<u32>()).prop_map(|(job, index)| TaskKey { job, index }).boxed()
}

fn incarnation() -> BoxedStrategy<Incarnation> {
    any::<u64>().prop_map(Incarnation).boxed()
}

fn one_of<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> BoxedStrategy<T> {
    proptest::sample::select(all).boxed()
}

fn fence() -> BoxedStrategy<Fence> {
    (any::<u64>(), any::<u64>()).prop_map(|(term, generation)| Fence { term, generation }).boxed()
}

pub(crate) fn resources() -> BoxedStrategy<Resources> {
    let gpu = prop_oneof![
        Just((0, 0)),
        (1..=1000_u64).prop_map(|milli| (1, milli)),
        (2..=16_u32).prop_map(|count| (count, 1000)),
    ];
    (amount(), amount(), amount(), gpu, any::<(bool, bool)>())
        .prop_map(|(cpu, ram, disk, (count, milli), unstated)| Resources {
            cpu: MilliCpu(cpu),
            ram: Bytes(ram),
            disk: Bytes(disk),
            gpu: GpuRequest { count, milli_each: MilliGpu(milli) },
            unstated: Unstated { cpu: unstated.0, ram: unstated.1 },
        })
        .boxed()
}

pub(crate) fn exit() -> BoxedStrategy<ExitCause> {
    prop_oneof![
        Just(ExitCause::Finished),
        any::<i32>().prop_map(|code| ExitCause::Failed { code }),
        any::<i32>().prop_map(|signal| ExitCause::Signal { signal }),
        Just(ExitCause::OutOfMemory),
        Just(ExitCause::Unhealthy),
        Just(ExitCause::Stopped),
        Just(ExitCause::Disconnected),
        words().prop_map(|reason| ExitCause::StartFailed { reason }),
        Just(ExitCause::Lost),
    ]
    .boxed()
}

fn container() -> BoxedStrategy<ContainerSpec> {
    let env = btree_map("[A-Z]{1,4}", "[a-z =]{0,8}", 0..3);
    let ports = btree_map("[a-z]{1,4}", Just(0_u16), 0..3);
    (env, ports, option::of(1..1_000_u32), any::<bool>())
        .prop_map(|(env, ports, processes_max, own_cpus)| ContainerSpec {
            env,
            ports,
            processes_max,
            own_cpus,
            ..ContainerSpec::default()
        })
        .boxed()
}

fn wanted_task() -> BoxedStrategy<WantedTask> {
    let numbers = (0..=450_u16, any::<u16>(), any::<u64>(), any::<bool>());
    let may_be = (option::of(any::<u64>()), option::of(any::<u64>()), option::of(container()));
    (key(), incarnation(), name(), numbers, resources(), vec(words(), 0..4), may_be)
        .prop_map(|(key, incarnation, name, numbers, limit, command, may_be)| WantedTask {
            key,
            incarnation,
            user: name.clone(),
            name,
            priority: numbers.0,
            limit,
            gpu_devices: numbers.1,
            command,
            grace_ms: numbers.2,
            latency_sensitive: numbers.3,
            stop_after_disconnect_ms: may_be.0,
            container: may_be.2.map(Arc::new),
            stop: may_be.1.map(|deadline_in_ms| Stop { deadline_in_ms }),
        })
        .boxed()
}

pub(crate) fn to_machine() -> BoxedStrategy<ToMachine> {
    let base = option::of(any::<u64>());
    let wanted = (fence(), base, vec(wanted_task(), 0..4), vec(incarnation(), 0..4))
        .prop_map(|(fence, base, tasks, gone)| Wanted { fence, base, tasks, gone });
    let message = prop_oneof![
        wanted.prop_map(MasterMessage::Wanted),
        fence().prop_map(|fence| MasterMessage::Poll(Poll { fence })),
    ];
    (name(), message).prop_map(|(machine, message)| ToMachine { machine, message }).boxed()
}

fn task_report() -> BoxedStrategy<TaskReport> {
    let state = prop_oneof![
        Just(ReportedState::Starting),
        Just(ReportedState::Running),
        Just(ReportedState::Stopping),
        exit().prop_map(ReportedState::Exited),
    ];
    (key(), incarnation(), state, amount(), amount(), any::<(bool, u64)>())
        .prop_map(|(key, incarnation, state, cpu_milli, ram_bytes, (healthy, age_ms))| TaskReport {
            key,
            incarnation,
            state,
            usage: Usage { cpu_milli, ram_bytes },
            healthy,
            age_ms,
        })
        .boxed()
}

pub(crate) fn from_machine() -> BoxedStrategy<FromMachine> {
    let capacity = (amount(), amount(), amount(), 0..=16_u16).prop_map(
        |(cpu_milli, ram_bytes, disk_bytes, gpu_count)| MachineCapacity {
            cpu_milli,
            ram_bytes,
            disk_bytes,
            gpu_count,
        },
    );
    let report = (name(), any::<(u64, u64, bool)>(), capacity, vec(task_report(), 0..4)).prop_map(
        |(machine, (term, generation, needs_whole), capacity, tasks)| Report {
            machine,
            term,
            generation,
            needs_whole,
            capacity,
            tasks,
        },
    );
    let reason = one_of(&[
        RefusalReason::Older,
        RefusalReason::Busy,
        RefusalReason::NotPersisted,
        RefusalReason::TooManyTasks,
        RefusalReason::Malformed,
    ]);
    let refusal = (name(), fence(), reason).prop_map(|(machine, highest, reason)| Refusal {
        machine,
        highest,
        reason,
    });
    prop_oneof![report.prop_map(FromMachine::Report), refusal.prop_map(FromMachine::Refusal)]
        .boxed()
}

pub(crate) fn spec() -> BoxedStrategy<Box<JobSpec>> {
    (name(), name(), 0..=450_u16, 1..1000_u32, 0..1_u64 << 40, vec(words(), 0..3))
        .prop_map(|(name, user, priority, count, ram, command)| {
            let text = format!(
                r#"{{"name": "{name}", "user": "{user}", "priority": {priority},
                    "count": {count}, "limit": {{"cpu": "250m", "ram": {ram}}},
                    "spread": [{{"domain": "rack", "max_per_domain": 2}}]}}"#
            );
            let mut spec: Box<JobSpec> = serde_json::from_str(&text).unwrap();
            spec.run.command = command;
            spec
        })
        .boxed()
}

fn machine() -> BoxedStrategy<(MachineSpec, String)> {
    (name(), name(), 1..1_u64 << 50)
        .prop_map(|(name, address, ram)| {
            let text = format!(r#"{{"name": "{name}", "cpu": 4, "ram": {ram}, "rack": "r1"}}"#);
            (serde_json::from_str(&text).unwrap(), address)
        })
        .boxed()
}

fn settings() -> BoxedStrategy<Settings> {
    (name(), vec(name(), 0..3), any::<bool>(), any::<u64>())
        .prop_map(|(cell_name, admins, needs_quota, poll_interval_ms)| Settings {
            cell_name,
            admins,
            needs_quota,
            poll_interval_ms,
            ..Settings::default()
        })
        .boxed()
}

fn amounts() -> BoxedStrategy<Amounts> {
    any::<(u64, u64, u64, u64)>()
        .prop_map(|(cpu_milli, ram_bytes, disk_bytes, gpu_milli)| Amounts {
            cpu_milli,
            ram_bytes,
            disk_bytes,
            gpu_milli,
        })
        .boxed()
}

fn op() -> BoxedStrategy<Op> {
    let quota = (name(), one_of(&Band::ALL), amounts(), option::of(time()))
        .prop_map(|(user, band, amounts, until)| Quota { user, band, amounts, until });
    let capabilities = btree_set(one_of(&Capability::ALL), 0..4);
    let indexes = option::of(btree_set(any::<u32>(), 0..5));
    prop_oneof![
        Just(Op::OpenSession),
        (spec(), any::<bool>()).prop_map(|(spec, is_alloc_set)| Op::Submit { spec, is_alloc_set }),
        spec().prop_map(|spec| Op::Update { spec }),
        name().prop_map(|job| Op::Undo { job }),
        (name(), indexes).prop_map(|(job, indexes)| Op::Kill { job, indexes }),
        quota.prop_map(Op::SetQuota),
        (name(), capabilities)
            .prop_map(|(user, capabilities)| Op::SetCapabilities { user, capabilities }),
        vec(machine(), 0..3).prop_map(|machines| Op::AddMachines { machines }),
        name().prop_map(|machine| Op::Drain { machine }),
        name().prop_map(|machine| Op::Repair { machine }),
        name().prop_map(|machine| Op::RemoveMachine { machine }),
        settings().prop_map(Op::Configure),
    ]
    .boxed()
}

pub(crate) fn mutation() -> BoxedStrategy<Mutation> {
    (op(), name(), 1..=u64::MAX, 1..=u64::MAX, any::<u64>())
        .prop_map(|(op, user, session, sequence, answered_below)| {
            let session = if op == Op::OpenSession { 0 } else { session };
            Mutation { request: Request { user, session, sequence, answered_below }, op }
        })
        .boxed()
}

fn rejected() -> BoxedStrategy<Rejected> {
    let numbers = any::<(u64, u64, u64)>();
    prop_oneof![
        (words(), words()).prop_map(|(field, problem)| Rejected::Invalid { field, problem }),
        (words(), words()).prop_map(|(kind, name)| Rejected::Unknown { kind, name }),
        words().prop_map(Rejected::NameTaken),
        words().prop_map(Rejected::Ended),
        (words(), words(), words(), numbers).prop_map(
            |(user, band, resource, (asked, granted, used))| Rejected::Quota {
                user,
                band,
                resource,
                asked,
                granted,
                used
            }
        ),
        (words(), any::<(u64, u64)>()).prop_map(|(resource, (asked, capacity))| {
            Rejected::MoreThanTheCell { resource, asked, capacity }
        }),
        (words(), words()).prop_map(|(user, capability)| Rejected::Forbidden { user, capability }),
        (words(), any::<u32>()).prop_map(|(machine, count)| Rejected::InUse { machine, count }),
        words().prop_map(Rejected::NothingToUndo),
        any::<u64>().prop_map(Rejected::NoSession),
        any::<u64>().prop_map(Rejected::Answered),
        any::<u64>().prop_map(Rejected::TooManyAnswers),
    ]
    .boxed()
}

pub(crate) fn unserved() -> BoxedStrategy<Unserved> {
    prop_oneof![
        option::of(name()).prop_map(|leader_address| Unserved::NotLeader { leader_address }),
        any::<u32>().prop_map(|retry_after_ms| Unserved::Busy { retry_after_ms }),
        Just(Unserved::DiskFull),
        any::<(u64, u64)>().prop_map(|(oldest_index, newest_index)| Unserved::NotInLog {
            oldest_index,
            newest_index
        }),
    ]
    .boxed()
}

pub(crate) fn reply<T: std::fmt::Debug + 'static>(
    answer: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<Reply<T>> {
    prop_oneof![
        3 => answer.prop_map(|answer| Ok(Ok(answer))),
        1 => rejected().prop_map(|rejected| Ok(Err(rejected))),
        1 => unserved().prop_map(Err),
    ]
    .boxed()
}

pub(crate) fn done() -> BoxedStrategy<Done> {
    prop_oneof![
        Just(Done::Done),
        any::<u64>().prop_map(Done::Session),
        any::<(u64, u32)>().prop_map(|(uid, version)| Done::Job { uid, version }),
        any::<(u32, u32)>().prop_map(|(done, rejected)| Done::Some { done, rejected }),
    ]
    .boxed()
}

fn consistency() -> BoxedStrategy<Consistency> {
    one_of(&[Consistency::Linearizable, Consistency::Stale]).boxed()
}

fn list() -> BoxedStrategy<(Filter, Paging)> {
    let phase = option::of(one_of(&PhaseKind::ALL));
    let filter = (option::of(name()), option::of(name()), phase, option::of(name()))
        .prop_map(|(job, user, phase, machine)| Filter { job, user, phase, machine });
    let paging =
        (1..=2000_u32, option::of(name())).prop_map(|(limit, after)| Paging { limit, after });
    (filter, paging).boxed()
}

pub(crate) fn status_query() -> BoxedStrategy<StatusQuery> {
    let question = prop_oneof![
        list().prop_map(|(filter, paging)| Question::Jobs(filter, paging)),
        name().prop_map(Question::Job),
        list().prop_map(|(filter, paging)| Question::Tasks(filter, paging)),
        list().prop_map(|(filter, paging)| Question::Machines(filter, paging)),
        list().prop_map(|(filter, paging)| Question::Quotas(filter, paging)),
        Just(Question::Cell),
        name().prop_map(Question::Spec),
    ];
    (consistency(), question)
        .prop_map(|(consistency, question)| StatusQuery { consistency, question })
        .boxed()
}

fn counts() -> BoxedStrategy<PhaseCounts> {
    any::<[u32; 8]>().prop_map(|counts| PhaseCounts { counts }).boxed()
}

fn end() -> BoxedStrategy<JobEnd> {
    one_of(&[JobEnd::Finished, JobEnd::Failed, JobEnd::Killed]).boxed()
}

fn job_status() -> BoxedStrategy<JobStatus> {
    let numbers = (any::<(u64, u32)>(), 0..=450_u16, any::<bool>());
    let rollout = option::of(any::<(u32, u32)>().prop_map(|(done, total)| Rollout { done, total }));
    let ended = option::of((time(), end()));
    (name(), name(), numbers, time(), counts(), ended, rollout, vec(name(), 0..3))
        .prop_map(|(name, user, numbers, submitted_at, counts, ended, rollout, waits_for)| {
            JobStatus {
                name,
                uid: numbers.0.0,
                user,
                priority: Priority::new(numbers.1).unwrap(),
                kind: if numbers.2 { JobKind::Job } else { JobKind::AllocSet },
                version: numbers.0.1,
                submitted_at,
                counts,
                ended,
                rollout,
                waits_for,
            }
        })
        .boxed()
}

fn task_status() -> BoxedStrategy<TaskStatus> {
    let place = (option::of(name()), option::of(name()), option::of(incarnation()));
    let numbers = any::<(u32, u32, u32, bool)>();
    let times = (time(), option::of(time()), option::of(time()));
    let sizes = (resources(), option::of(resources()));
    (name(), one_of(&PhaseKind::ALL), place, numbers, times, option::of(words()), sizes)
        .prop_map(|(name, phase, place, numbers, times, last_cause, sizes)| TaskStatus {
            name,
            phase,
            since: times.0,
            machine: place.0,
            alloc: place.1,
            incarnation: place.2,
            version: numbers.0,
            is_healthy: numbers.3,
            last_cause,
            failures: numbers.1,
            placed_count: numbers.2,
            not_before: times.1,
            deadline: times.2,
            limit: sizes.0,
            reservation: sizes.1,
        })
        .boxed()
}

fn machine_status() -> BoxedStrategy<MachineStatus> {
    let room = || {
        any::<(u64, u64, Option<u64>, u64)>().prop_map(
            |(cpu_milli, ram_bytes, disk_bytes, gpu_milli)| Room {
                cpu_milli,
                ram_bytes,
                disk_bytes,
                gpu_milli,
            },
        )
    };
    let health = prop_oneof![
        Just(Health::Unknown),
        Just(Health::Up),
        time().prop_map(|since| Health::Down { since })
    ];
    (name(), name(), health, any::<(bool, u32)>(), room(), room(), room())
        .prop_map(
            |(name, address, health, (is_drained, task_count), capacity, limits, reservations)| {
                MachineStatus {
                    name,
                    address,
                    health,
                    is_drained,
                    capacity,
                    free_by_limits: limits,
                    free_by_reservations: reservations,
                    task_count,
                }
            },
        )
        .boxed()
}

fn quota_status() -> BoxedStrategy<QuotaStatus> {
    let granted = option::of(amounts());
    (name(), one_of(&Band::ALL), granted, amounts(), option::of(time()))
        .prop_map(|(user, band, granted, used, until)| QuotaStatus {
            user,
            band,
            granted,
            used,
            until,
        })
        .boxed()
}

fn planning_status() -> BoxedStrategy<PlanningStatus> {
    any::<[u64; 9]>()
        .prop_map(|numbers| PlanningStatus {
            replica: numbers[0],
            term: numbers[1],
            pass_count: numbers[2],
            conflicted_count: numbers[3],
            examined_count: numbers[4],
            placed_count: numbers[5],
            refused_count: numbers[6],
            staleness_entries_sum: numbers[7],
            staleness_entries_max: numbers[8],
        })
        .boxed()
}

fn cell_status() -> BoxedStrategy<CellStatus> {
    let numbers = any::<[u32; 7]>();
    let whole = (any::<(u64, u128, bool)>(), option::of(planning_status()));
    (name(), time(), whole, numbers, counts(), settings())
        .prop_map(|(name, now, (whole, planning), numbers, tasks, settings)| {
            let (index, hash, is_mass_loss) = whole;
            CellStatus {
                name,
                now,
                index,
                hash,
                machine_count: numbers[0],
                machine_down_count: numbers[1],
                machine_drained_count: numbers[2],
                is_mass_loss,
                job_count: numbers[3],
                alloc_set_count: numbers[4],
                ended_count: numbers[5],
                tasks,
                session_count: numbers[6],
                settings,
                planning,
            }
        })
        .boxed()
}

fn page<T: std::fmt::Debug + 'static>(
    item: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<Page<T>> {
    (vec(item, 0..3), option::of(name())).prop_map(|(items, next)| Page { items, next }).boxed()
}

pub(crate) fn status() -> BoxedStrategy<Status> {
    let answer = prop_oneof![
        page(job_status()).prop_map(Answer::Jobs),
        job_status().prop_map(Answer::Job),
        page(task_status()).prop_map(Answer::Tasks),
        page(machine_status()).prop_map(Answer::Machines),
        page(quota_status()).prop_map(Answer::Quotas),
        cell_status().prop_map(|status| Answer::Cell(Box::new(status))),
        spec().prop_map(Answer::Spec),
    ];
    (any::<u64>(), answer).prop_map(|(index, answer)| Status { index, answer }).boxed()
}

pub(crate) fn why_query() -> BoxedStrategy<WhyQuery> {
    (name(), consistency()).prop_map(|(task, consistency)| WhyQuery { task, consistency }).boxed()
}

fn reasons() -> BoxedStrategy<Vec<Reason>> {
    let reason = (words(), any::<u32>());
    vec(reason.prop_map(|(text, host_count)| Reason { text, host_count }), 0..3).boxed()
}

pub(crate) fn why() -> BoxedStrategy<Why> {
    let numbers = any::<(u32, u32, u64)>();
    (name(), one_of(&PhaseKind::ALL), words(), numbers, reasons(), reasons())
        .prop_map(|(task, phase, text, (host_count, feasible_count, index), ruled_out, changes)| {
            Why { task, phase, text, host_count, feasible_count, ruled_out, changes, index }
        })
        .boxed()
}

pub(crate) fn fits_query() -> BoxedStrategy<FitsQuery> {
    (spec(), any::<bool>(), consistency())
        .prop_map(|(spec, is_alloc_set, consistency)| FitsQuery { spec, is_alloc_set, consistency })
        .boxed()
}

pub(crate) fn fits() -> BoxedStrategy<Fits> {
    (any::<(u64, u64, u64, bool, u64)>(), reasons())
        .prop_map(|((count, free_count, victim_count, is_at_least, index), stopped_by)| Fits {
            count,
            free_count,
            victim_count,
            is_at_least,
            stopped_by,
            index,
        })
        .boxed()
}

pub(crate) fn watch() -> BoxedStrategy<Watch> {
    any::<(u64, bool)>().prop_map(|(from_index, follow)| Watch { from_index, follow }).boxed()
}

fn what() -> BoxedStrategy<What> {
    let job = || name().prop_map(Arc::<str>::from);
    let cause = || {
        one_of(&[
            EvictCause::Preempted,
            EvictCause::MachineLost,
            EvictCause::MachineDrained,
            EvictCause::OutOfResources,
            EvictCause::Updated,
            EvictCause::AllocEnded,
        ])
    };
    let death = prop_oneof![
        Just(DeathCause::Finished),
        exit().prop_map(DeathCause::Failed),
        Just(DeathCause::Killed),
    ];
    let step = prop_oneof![
        Just(TaskStep::Scheduled),
        Just(TaskStep::Started),
        cause().prop_map(TaskStep::Notified),
        cause().prop_map(TaskStep::Evicted),
        exit().prop_map(TaskStep::Exited),
        death.prop_map(TaskStep::Died),
        any::<bool>().prop_map(TaskStep::Health),
        Just(TaskStep::Unassigned),
    ];
    let machine_step = one_of(&[
        MachineStep::Added,
        MachineStep::Up,
        MachineStep::Down,
        MachineStep::Drained,
        MachineStep::Repaired,
        MachineStep::Removed,
    ]);
    let machine = || any::<u32>().prop_map(MachineId);
    let place = (option::of(incarnation()), option::of(machine()));
    prop_oneof![
        (job(), any::<u64>()).prop_map(|(job, uid)| What::Submitted { job, uid }),
        (job(), any::<u32>()).prop_map(|(job, version)| What::Updated { job, version }),
        (job(), end()).prop_map(|(job, end)| What::Ended { job, end }),
        (job(), key(), place, step).prop_map(|(job, task, (incarnation, machine), step)| {
            What::Task { job, task, incarnation, machine, step }
        }),
        (machine(), machine_step).prop_map(|(machine, step)| What::Machine { machine, step }),
        any::<(u64, u32, u32)>().prop_map(|(from_index, kept_count, pending_count)| {
            What::Restored { from_index, kept_count, pending_count }
        }),
    ]
    .boxed()
}

pub(crate) fn events() -> BoxedStrategy<Events> {
    let told = (any::<u64>(), time(), what(), option::of(name()), words()).prop_map(
        |(index, at, what, machine, text)| Told { event: Event { index, at, what }, machine, text },
    );
    (vec(told, 0..4), any::<u64>())
        .prop_map(|(events, next_index)| Events { events, next_index })
        .boxed()
}

fn data() -> BoxedStrategy<Vec<u8>> {
    vec(any::<u8>(), 0..20).boxed()
}

pub(crate) fn chunk() -> BoxedStrategy<FileChunk> {
    data().prop_map(FileChunk).boxed()
}

pub(crate) fn checkpoint() -> BoxedStrategy<Checkpoint> {
    option::of(any::<u64>()).prop_map(|until_index| Checkpoint { until_index }).boxed()
}

pub(crate) fn restore_part() -> BoxedStrategy<RestorePart> {
    prop_oneof![
        (name(), any::<(u64, Option<u64>)>(), option::of((1..=u64::MAX, 1..=u64::MAX, 0..9_u64)))
            .prop_map(|(user, (total_bytes, until_index), named)| {
                let request = named.map(|(session, sequence, answered_below)| Request {
                    user: user.clone(),
                    session,
                    sequence,
                    answered_below,
                });
                RestorePart::Start { user, total_bytes, until_index, request }
            }),
        chunk().prop_map(RestorePart::Data),
    ]
    .boxed()
}

pub(crate) fn restored() -> BoxedStrategy<Restored> {
    any::<(u64, u128)>().prop_map(|(index, hash)| Restored { index, hash }).boxed()
}

pub(crate) fn replicas_query() -> BoxedStrategy<ReplicasQuery> {
    let id = || 1..=u64::MAX;
    let change = prop_oneof![
        Just(ReplicaChange::List),
        (id(), name(), name()).prop_map(|(id, address, client_address)| ReplicaChange::Add {
            id,
            address,
            client_address
        }),
        id().prop_map(|id| ReplicaChange::Remove { id }),
        option::of(id()).prop_map(|to| ReplicaChange::Transfer { to }),
        (id(), id(), name(), name()).prop_map(|(old, new, address, client_address)| {
            ReplicaChange::Replace { old, new, address, client_address }
        }),
    ];
    (name(), change).prop_map(|(user, change)| ReplicasQuery { user, change }).boxed()
}

pub(crate) fn replica_list() -> BoxedStrategy<ReplicaList> {
    let role = one_of(&[ReplicaRole::Leader, ReplicaRole::Follower, ReplicaRole::Learner]);
    let replica = (1..=u64::MAX, name(), name(), role, any::<(u64, bool)>()).prop_map(
        |(id, address, client_address, role, (matched_index, is_heard))| ReplicaStatus {
            id,
            address,
            client_address,
            role,
            matched_index,
            is_heard,
        },
    );
    (any::<(u64, u64)>(), vec(replica, 0..4))
        .prop_map(|((term, committed_index), replicas)| ReplicaList {
            term,
            committed_index,
            replicas,
        })
        .boxed()
}

fn route() -> BoxedStrategy<Route> {
    (name(), 1..100_u64, 101..=u64::MAX)
        .prop_map(|(cell, from, to)| Route { cell, from, to })
        .boxed()
}

pub(crate) fn envelope() -> BoxedStrategy<Envelope> {
    (route(), vec(data(), 0..4)).prop_map(|(route, messages)| Envelope { route, messages }).boxed()
}

fn task_usage() -> BoxedStrategy<TaskUsage> {
    let numbers = (any::<u64>(), any::<u32>(), any::<u64>(), any::<[u64; 4]>());
    let pressures = option::of(any::<u32>());
    let amounts = (amount(), amount(), amount(), amount());
    (name(), numbers, amounts, pressures, any::<bool>())
        .prop_map(|(name, numbers, amounts, pressure, is_healthy)| TaskUsage {
            name,
            incarnation: numbers.0,
            pid: numbers.1,
            age_ms: numbers.2,
            cpu_milli: amounts.0,
            ram_bytes: amounts.1,
            cpu_limit_milli: amounts.2,
            ram_limit_bytes: amounts.3,
            process_count: numbers.3[0],
            throttled_ms: numbers.3[1],
            major_fault_count: numbers.3[2],
            oom_kill_count: numbers.3[3],
            cpu_pressure_permille: pressure,
            memory_pressure_permille: None,
            io_pressure_permille: pressure,
            is_healthy,
        })
        .boxed()
}

pub(crate) fn machine_usage() -> BoxedStrategy<MachineUsage> {
    (name(), amount(), amount(), vec(task_usage(), 0..4))
        .prop_map(|(machine, cpu_capacity_milli, ram_capacity_bytes, tasks)| MachineUsage {
            machine,
            cpu_capacity_milli,
            ram_capacity_bytes,
            tasks,
        })
        .boxed()
}

pub(crate) fn logs_query() -> BoxedStrategy<LogsQuery> {
    (name(), name(), option::of(incarnation()), any::<bool>(), option::of(any::<u64>()))
        .prop_map(|(user, task, incarnation, follow, tail_bytes)| LogsQuery {
            user,
            task,
            incarnation,
            follow,
            tail_bytes,
        })
        .boxed()
}

pub(crate) fn logs_piece() -> BoxedStrategy<LogsPiece> {
    (prop_oneof![Just(LogStream::Stdout), Just(LogStream::Stderr)], vec(any::<u8>(), 0..40))
        .prop_map(|(stream, data)| LogsPiece { stream, data })
        .boxed()
}

pub(crate) fn exec_input() -> BoxedStrategy<ExecInput> {
    prop_oneof![
        (name(), name(), vec(words(), 1..4)).prop_map(|(user, task, command)| ExecInput::Start {
            user,
            task,
            command
        }),
        vec(any::<u8>(), 0..40).prop_map(ExecInput::Stdin),
        Just(ExecInput::StdinEnds),
    ]
    .boxed()
}

pub(crate) fn exec_output() -> BoxedStrategy<ExecOutput> {
    prop_oneof![
        vec(any::<u8>(), 0..40).prop_map(ExecOutput::Stdout),
        vec(any::<u8>(), 0..40).prop_map(ExecOutput::Stderr),
        exit().prop_map(ExecOutput::Exit),
    ]
    .boxed()
}

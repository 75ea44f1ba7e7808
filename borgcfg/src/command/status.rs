//! `status`: the cell and its jobs, or one job and its tasks.

use std::cmp::Reverse;

use cell::JobKind;
use cell::live::JobEnd;
use cell::live::Timestamp;
use cell::live::view::{
    Answer, CellStatus, Filter, JobStatus, PhaseCounts, PhaseKind, PlanningStatus, Question,
    TaskStatus,
};
use clap::Args;
use proto::operate::ReplicaRole;
use proto::status::Consistency;
use serde::Serialize;

use super::replicas;
use crate::args::{Options, user};
use crate::client::{Client, another_answer};
use crate::failure::Failure;
use crate::output::{answer, say};
use crate::show::{self, Column, table};

/// So many things of a list are shown to people who do not say how many they want.
pub(crate) const COUNT_SHOWN: usize = 50;

#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// The job, or alloc set, whose tasks are shown
    #[arg(value_name = "JOB")]
    job: Option<String>,
    /// Only what belongs to this user
    #[arg(long, value_name = "NAME", value_parser = user)]
    owner: Option<String>,
    /// Only tasks in this phase, and jobs that have such tasks
    #[arg(long, value_name = "PHASE", value_parser = phase)]
    phase: Option<PhaseKind>,
    /// Only tasks on this machine, and jobs that have such tasks
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
    /// List so many at most; without it 50, in JSON all
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Print the job's spec instead, as `submit` and `update` read it
    #[arg(long, requires = "job", conflicts_with_all = ["owner", "phase", "machine", "limit"])]
    spec: bool,
}

fn phase(text: &str) -> Result<PhaseKind, String> {
    PhaseKind::from_name(text).ok_or_else(|| {
        format!("it has to be one of {}", PhaseKind::ALL.map(PhaseKind::name).join(", "))
    })
}

/// The answer without a job, in JSON.
#[derive(Debug, Serialize)]
struct CellReport {
    cell: CellStatus,
    jobs: Vec<JobStatus>,
    /// Whether there are more jobs than were asked for.
    has_more: bool,
}

/// The answer about a job, in JSON.
#[derive(Debug, Serialize)]
struct JobReport {
    job: JobStatus,
    tasks: Vec<TaskStatus>,
    /// Whether there are more tasks than were asked for.
    has_more: bool,
}

pub(crate) async fn run(
    args: &StatusArgs,
    options: &Options,
    client: &mut Client,
) -> Result<(), Failure> {
    let StatusArgs { job, owner, phase, machine, limit, spec } = args;
    let limit = limit.unwrap_or(if options.json { usize::MAX } else { COUNT_SHOWN });
    let filter =
        Filter { job: job.clone(), user: owner.clone(), phase: *phase, machine: machine.clone() };
    match job {
        None => {
            let cell = cell_of_leader(client).await?;
            let question = |paging| Question::Jobs(filter.clone(), paging);
            let read = |answer| if let Answer::Jobs(page) = answer { Some(page) } else { None };
            let (jobs, has_more) = client.list(limit, question, read).await?;
            answer(options.json, &CellReport { cell, jobs, has_more }, of_cell)
        }
        Some(name) if *spec => {
            let Answer::Spec(spec) = client.status(Question::Spec(name.clone())).await?.answer
            else {
                return Err(another_answer());
            };
            if options.json {
                return answer(true, &spec, |_| String::new());
            }
            let text = serde_saphyr::to_string(&spec)
                .map_err(|error| Failure::Failed(format!("the spec cannot be written: {error}")))?;
            say(text.trim_end())
        }
        Some(name) => {
            let job = client.job(name).await?;
            let question = |paging| Question::Tasks(filter.clone(), paging);
            let read = |answer| if let Answer::Tasks(page) = answer { Some(page) } else { None };
            let (tasks, has_more) = client.list(limit, question, read).await?;
            answer(options.json, &JobReport { job, tasks, has_more }, of_job)
        }
    }
}

/// The cell, with what the replica that leads counts; as the asked one has it if only that is wanted.
async fn cell_of_leader(client: &mut Client) -> Result<CellStatus, Failure> {
    let cell = client.cell().await?;
    if cell.planning.is_some() || client.consistency() == Consistency::Stale {
        return Ok(cell);
    }
    let list = replicas::list(client).await?;
    let leader = list.replicas.into_iter().find(|it| it.role == ReplicaRole::Leader);
    let Some(leader) = leader else { return Ok(cell) };
    client.follow(leader.client_address);
    client.cell().await
}

/// The line below a list that is not whole.
pub(crate) fn more(has_more: bool) -> &'static str {
    if has_more { "\nand more: --limit N lists so many, --json all" } else { "" }
}

fn of_cell(report: &CellReport) -> String {
    let CellReport { cell, jobs, has_more } = report;
    let mut text = of_totals(cell);
    text.push_str(&format!("\n{}", of_planning(cell.planning)));
    if cell.is_mass_loss {
        text.push_str(
            "\nso many machines are down that it is more likely the network: nothing is moved off them",
        );
    }
    if cell.machine_count == 0 {
        text.push_str("\nthere is no machine yet: `borgcfg machines add` adds some");
    }
    if jobs.is_empty() {
        return format!("{text}\nno jobs");
    }
    // What needs a look comes first.
    let mut order: Vec<&JobStatus> = jobs.iter().collect();
    order.sort_by_key(|job| Reverse(job.ended.is_none()));
    let columns = [
        Column::Words("job"),
        Column::Words("user"),
        Column::Words("priority"),
        Column::Words("state"),
        Column::Numbers("tasks"),
        Column::Numbers("placed"),
        Column::Numbers("pending"),
        Column::Numbers("ended"),
        Column::Numbers("age"),
    ];
    let now = show::now();
    let rows = order.into_iter().map(|job| {
        vec![
            format!("{}{}", job.name, kind(job)),
            job.user.clone(),
            format!("{} {}", job.priority.get(), job.band().name()),
            state(job),
            show::grouped(job.counts.total()),
            show::grouped(placed(&job.counts)),
            show::grouped(job.counts.get(PhaseKind::Pending)),
            show::grouped(ended(job)),
            show::since(job.submitted_at, now),
        ]
    });
    format!("{text}\n{}{}", table(&columns, rows), more(*has_more))
}

fn of_totals(cell: &CellStatus) -> String {
    let mut machines = show::count(cell.machine_count, "machine");
    let mut apart = Vec::new();
    for (count, word) in
        [(cell.machine_down_count, "down"), (cell.machine_drained_count, "drained")]
    {
        if count > 0 {
            apart.push(format!("{} {word}", show::grouped(count)));
        }
    }
    if !apart.is_empty() {
        machines.push_str(&format!(" ({})", apart.join(", ")));
    }
    let [pending, running] =
        [PhaseKind::Pending, PhaseKind::Running].map(|phase| show::grouped(cell.tasks.get(phase)));
    format!(
        "cell {} at index {}: {machines}, {}, {}; {running} tasks run, {pending} wait",
        cell.name,
        cell.index,
        show::count(cell.job_count, "job"),
        show::count(cell.alloc_set_count, "alloc set"),
    )
}

/// How well plans do: who counted, how much was in vain, and how old plans are.
fn of_planning(planning: Option<PlanningStatus>) -> String {
    let Some(planning) = planning else {
        return "passes are counted by the replica that leads, and another one was asked"
            .to_owned();
    };
    let PlanningStatus { replica, term, pass_count, conflicted_count, .. } = planning;
    let PlanningStatus { placed_count, refused_count, staleness_entries_sum, .. } = planning;
    let planned = placed_count + refused_count;
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
    format!(
        "since replica {replica} leads (term {term}): passes {}; assignments {}, of them refused {} ({:.1} % \
         wasted work), conflicts {}; plans {:.1} log entries old, at most {}",
        show::grouped(pass_count),
        show::grouped(planned),
        show::grouped(refused_count),
        100.0 * share(refused_count, planned),
        show::grouped(conflicted_count),
        share(staleness_entries_sum, pass_count),
        show::grouped(planning.staleness_entries_max),
    )
}

const fn kind(job: &JobStatus) -> &'static str {
    match job.kind {
        JobKind::Job => "",
        JobKind::AllocSet => " (alloc set)",
    }
}

/// Tasks that have a place.
fn placed(counts: &PhaseCounts) -> u32 {
    let phases =
        [PhaseKind::Assigned, PhaseKind::Starting, PhaseKind::Running, PhaseKind::Stopping];
    phases.into_iter().map(|phase| counts.get(phase)).sum()
}

fn ended(job: &JobStatus) -> u32 {
    let phases = [PhaseKind::Finished, PhaseKind::Failed, PhaseKind::Killed];
    phases.into_iter().map(|phase| job.counts.get(phase)).sum()
}

/// What there is to say of a job, in a word or two.
fn state(job: &JobStatus) -> String {
    match (job.ended, job.rollout) {
        (Some((_, JobEnd::Finished)), _) => "finished".to_owned(),
        (Some((_, JobEnd::Failed)), _) => "failed".to_owned(),
        (Some((_, JobEnd::Killed)), _) => "killed".to_owned(),
        (None, _) if !job.waits_for.is_empty() => format!("after {}", job.waits_for.join(", ")),
        (None, Some(rollout)) => format!("updating {}/{}", rollout.done, rollout.total),
        (None, None) if job.counts.get(PhaseKind::Pending) > 0 => "pending".to_owned(),
        (None, None) => "running".to_owned(),
    }
}

fn of_job(report: &JobReport) -> String {
    let JobReport { job, tasks, has_more } = report;
    let now = show::now();
    let phases = PhaseKind::ALL.into_iter().filter(|phase| job.counts.get(*phase) > 0);
    let phases: Vec<String> =
        phases.map(|it| format!("{} {}", show::grouped(job.counts.get(it)), it.name())).collect();
    let head = format!(
        "{}{} of {}, priority {} ({}), version {}, submitted {} ago: {}\n{}",
        job.name,
        kind(job),
        job.user,
        job.priority.get(),
        job.band().name(),
        job.version,
        show::since(job.submitted_at, now),
        state(job),
        phases.join(", "),
    );
    if tasks.is_empty() {
        return format!("{head}\nno such tasks");
    }
    let columns = [
        Column::Words("task"),
        Column::Words("phase"),
        Column::Numbers("for"),
        Column::Words("machine"),
        Column::Numbers("placed"),
        Column::Numbers("failures"),
        Column::Words("remarks"),
    ];
    let rows = tasks.iter().map(|task| {
        vec![
            task.name.clone(),
            task.phase.name().to_owned(),
            show::since(task.since, now),
            place(task),
            show::grouped(task.placed_count),
            show::grouped(task.failures),
            remarks(task, job.version, now),
        ]
    });
    format!("{head}\n{}{}", table(&columns, rows), more(*has_more))
}

fn place(task: &TaskStatus) -> String {
    match (&task.machine, &task.alloc) {
        (Some(machine), Some(alloc)) => format!("{machine} in {alloc}"),
        (Some(machine), None) => machine.clone(),
        (None, _) => String::new(),
    }
}

fn remarks(task: &TaskStatus, version: u32, now: Timestamp) -> String {
    let mut remarks = Vec::new();
    if !task.is_healthy {
        remarks.push("fails its health check".to_owned());
    }
    remarks.extend(task.last_cause.clone().filter(|cause| cause != task.phase.name()));
    if let Some(until) = task.not_before.filter(|until| *until > now) {
        remarks.push(format!("not tried again for {} s", until.since_ms(now).div_ceil(1000)));
    }
    let has_ended =
        matches!(task.phase, PhaseKind::Finished | PhaseKind::Failed | PhaseKind::Killed);
    if task.version != version && !has_ended {
        remarks.push(format!("still of version {}", task.version));
    }
    remarks.join("; ")
}

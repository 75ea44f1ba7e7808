//! Why a task was pending: what the state says (it backs off, its job waits for another), what the machines
//! say, and what the next pass would do.

use anyhow::{Context, bail};
use cell::TaskId;
use cell::live::{DeathCause, JobRecord, Left, Phase, State};
use scheduler::feasible::Infeasible;
use scheduler::why::{Explanation, explain, in_kubernetes_words};
use scheduler::{PassOptions, Policy, Snapshot, Speed, pass};
use serde::Serialize;

use super::{seconds, with_snapshot};

/// Why a task is pending, or what else it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WhyReport {
    /// The task.
    pub task: String,
    /// The index of the log.
    pub index: u64,
    /// `pending`, `running` and so on.
    pub phase: &'static str,
    /// Whether it is pending.
    pub pending: bool,
    /// The machine that it has or is to have.
    pub machine: Option<String>,
    /// What the state says, a sentence each.
    pub notes: Vec<String>,
    /// How many machines there are, or allocs of its job's set.
    pub host_count: usize,
    /// On how many it fits.
    pub feasible_count: usize,
    /// The first reason that rules a host out, and how many it does.
    pub ruled_out: Vec<(String, usize)>,
    /// Single changes that would place it, and the hosts that each opens.
    pub changes: Vec<(String, usize)>,
    /// What a pass for this task alone would do now, under the cell's own policy; `None`: not place it.
    pub next_pass: Option<NextPass>,
    /// What kube-scheduler would say, under its policies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<String>,
    /// The same, as the tables take it.
    #[serde(skip)]
    pub explanation: Option<Explanation>,
    /// Whether its hosts are allocs.
    #[serde(skip)]
    pub is_in_alloc: bool,
}

/// What a pass would do with a task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NextPass {
    /// Where it would place it.
    pub machine: String,
    /// Whom it would preempt for that.
    pub victims: Vec<String>,
}

/// Why the task `JOB/INDEX` is pending; for a task that is not, what it is. `policy` is what the next pass
/// goes by.
///
/// # Errors
/// If there is no such task.
pub fn why(state: &State, task: &str, policy: &Policy, seed: u64) -> anyhow::Result<WhyReport> {
    let id = find(state, task)?;
    let job = state.job_at(id.job);
    let record = state.record(id);
    let machine =
        record.phase.place().map(|place| state.machine_at(place.machine).spec.name.clone());
    let mut report = WhyReport {
        task: task.to_owned(),
        index: state.index(),
        phase: record.phase.name(),
        pending: matches!(record.phase, Phase::Waiting { .. }),
        machine,
        notes: notes(state, job, &record.phase),
        host_count: 0,
        feasible_count: 0,
        ruled_out: Vec::new(),
        changes: Vec::new(),
        next_pass: None,
        kubernetes: None,
        explanation: None,
        is_in_alloc: job.alloc_set.is_some(),
    };
    if report.pending {
        with_snapshot(state, |snapshot| {
            ask_machines(&mut report, state, snapshot, id, policy, seed)
        });
    }
    Ok(report)
}

fn find(state: &State, task: &str) -> anyhow::Result<TaskId> {
    let (name, index) = task.rsplit_once('/').context("a task is JOB/INDEX")?;
    let index: u32 = index.parse().with_context(|| format!("{index:?} is no index of a task"))?;
    let at = state.index();
    let Some(job) = state.job(name) else { bail!("there is no job {name:?} at index {at}") };
    let key = cell::borglet::TaskKey { job: job.uid, index };
    state.task_id(key).with_context(|| {
        format!("job {name:?} has {} tasks at index {at}, and no task {index}", job.tasks.len())
    })
}

fn ask_machines(
    report: &mut WhyReport,
    state: &State,
    snapshot: &Snapshot<'_>,
    id: TaskId,
    policy: &Policy,
    seed: u64,
) {
    let mut explanation = explain(snapshot, id);
    if !report.is_in_alloc {
        // Removed machines keep their rows, and are none.
        let removed = state.machines().filter(|(_, machine)| machine.is_removed).count();
        explanation.host_count = explanation.host_count.saturating_sub(removed);
        for (reason, count) in &mut explanation.ruled_out {
            if *reason == Infeasible::Closed {
                *count = count.saturating_sub(removed);
            }
        }
        explanation.ruled_out.retain(|(_, count)| *count > 0);
    }
    report.host_count = explanation.host_count;
    report.feasible_count = explanation.feasible_count;
    let ruled_out = explanation.ruled_out.iter();
    report.ruled_out = ruled_out.map(|(reason, count)| (reason.to_string(), *count)).collect();
    let changes = explanation.changes.iter();
    report.changes = changes.map(|change| (change.what.to_string(), change.host_count)).collect();
    report.kubernetes = in_kubernetes_words(policy, snapshot, id);
    report.explanation = Some(explanation);
    if !state.is_eligible(state.key(id), state.now()) {
        return;
    }
    let options = PassOptions {
        policy: policy.clone(),
        queue: policy.queue,
        seed,
        speed: Speed::default(),
        pending_limit: None,
    };
    let plan = pass(snapshot, &[id], &options);
    report.next_pass =
        plan.assignments.iter().find(|found| found.task == id).map(|found| NextPass {
            machine: state.machine_at(plan.end.slot(found.row).machine).spec.name.clone(),
            victims: found.victims.iter().map(|&victim| state.task_name(victim)).collect(),
        });
}

/// What the state says of a task.
fn notes(state: &State, job: &JobRecord, phase: &Phase) -> Vec<String> {
    let mut notes = Vec::new();
    let ago = |ms: u64| format!("{:.1} s", seconds(ms));
    match phase {
        Phase::Waiting { since, not_before, after } => {
            let waited = ago(state.now().since_ms(*since));
            notes.push(match after {
                None => format!("it was never placed; it has waited for {waited}"),
                Some(Left::Evicted(cause)) => {
                    format!("it was evicted ({}) {waited} ago", cause.name())
                }
                Some(Left::Exited(cause)) => format!("it ended by itself ({cause:?}) {waited} ago"),
                Some(Left::Restored) => {
                    format!("the cell was restored from an earlier state {waited} ago")
                }
                Some(Left::NotStarted) => {
                    format!("the place chosen for it came to nothing {waited} ago")
                }
            });
            if *not_before > state.now() {
                let more = ago(not_before.since_ms(state.now()));
                notes.push(format!("it backs off after failures, for {more} more"));
            }
            if !job.waits_for.is_empty() {
                let name = |uid: &u64| match state.job_of(*uid) {
                    Some(job) => format!("{:?}", job.spec.name),
                    None => format!("number {uid}, which is gone"),
                };
                let names: Vec<String> = job.waits_for.iter().map(name).collect();
                notes.push(format!(
                    "its job starts after others have finished: {}",
                    names.join(", ")
                ));
            }
            let set = job.alloc_set.and_then(|uid| state.job_of(uid));
            if let Some(set) = set.filter(|set| set.ended.is_some()) {
                notes.push(format!("its alloc set {:?} has ended", set.spec.name));
            }
        }
        Phase::Assigned(_) => {
            notes.push("its place is chosen; it starts once victims there have gone".to_owned());
        }
        Phase::Dead { cause: DeathCause::Failed(cause), .. } => {
            notes.push(format!("it failed: {cause:?}"));
        }
        Phase::Running { .. } | Phase::Stopping { .. } | Phase::Dead { .. } => {}
    }
    notes
}

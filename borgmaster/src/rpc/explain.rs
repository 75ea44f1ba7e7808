//! Why a task is where it is, in words.

use std::sync::Arc;

use cell::borglet::TaskKey;
use cell::live::view::{PhaseKind, Reason, Why, describe_left};
use cell::live::{JobEnd, JobRecord, Phase, Rejected, State};
use proto::explain::WhyQuery;
use proto::reply::Reply;
use scheduler::why::{Change, Explanation, explain, waits_for_alloc};
use tokio::time::timeout;
use tonic::Status;

use super::{Service, WAIT_MAX, busy, stopping};
use crate::replica::Replica;

impl Service {
    /// A question waits for its turn here, and not in the replica's queue, where all else would wait behind it.
    pub(super) async fn explain(&self, query: WhyQuery) -> Result<Reply<Why>, Status> {
        let WhyQuery { task, consistency } = query;
        let Ok(_place) = self.whys_waiting.try_acquire() else { return Ok(Err(busy())) };
        let turn = Arc::clone(&self.whys).acquire_owned();
        let Ok(turn) = timeout(WAIT_MAX, turn).await else { return Ok(Err(busy())) };
        let turn = Arc::new(turn.map_err(|_| stopping())?);
        let question = move |replica: &mut Replica| {
            let _turn = turn;
            why(replica, &task)
        };
        self.ask(consistency, question).await
    }
}

fn why(replica: &mut Replica, name: &str) -> Result<Why, Rejected> {
    let state = replica.server.state();
    let unknown = || Rejected::Unknown { kind: "task".to_owned(), name: name.to_owned() };
    let (job, index) = name.rsplit_once('/').ok_or_else(unknown)?;
    let index = index.parse().map_err(|_| unknown())?;
    let uid = state.job(job).ok_or_else(unknown)?.uid;
    let id = state.task_id(TaskKey { job: uid, index }).ok_or_else(unknown)?;
    let phase = PhaseKind::of(&state.record(id).phase);
    let mut why = Why {
        task: state.task_name(id),
        phase,
        text: String::new(),
        host_count: 0,
        feasible_count: 0,
        ruled_out: Vec::new(),
        changes: Vec::new(),
        index: state.index(),
    };
    let before = match before(state, id) {
        Ok(words) => {
            why.text = words;
            return Ok(why);
        }
        Err(words) => words,
    };
    let (explanation, waits) = replica
        .server
        .core_mut()
        .with_snapshot(|snapshot| (explain(snapshot, id), waits_for_alloc(snapshot, id)));
    let Explanation { host_count, feasible_count, ruled_out, changes } = explanation;
    why.host_count = count(host_count);
    why.feasible_count = count(feasible_count);
    why.ruled_out = ruled_out
        .into_iter()
        .map(|(what, hosts)| Reason { text: what.to_string(), host_count: count(hosts) })
        .collect();
    why.changes = changes
        .into_iter()
        .map(|Change { what, host_count }| Reason {
            text: what.to_string(),
            host_count: count(host_count),
        })
        .collect();
    let state = replica.server.state();
    let is_in_alloc = state.job_at(id.job).alloc_set.is_some();
    let host = if is_in_alloc { "alloc" } else { "machine" };
    why.text = text(&why, &before, waits, host);
    Ok(why)
}

/// The whole answer where hosts have nothing to do with it; else what there is to say first.
fn before(state: &State, id: cell::TaskId) -> Result<String, Vec<String>> {
    let job = state.job_at(id.job);
    let record = state.record(id);
    let Phase::Waiting { not_before, after, .. } = &record.phase else {
        let phase = PhaseKind::of(&record.phase).name();
        return Ok(match record.phase.place() {
            Some(place) => {
                format!("it is {phase} on {}", state.cell().machine(place.machine).name)
            }
            None => format!("it is {phase}"),
        });
    };
    let mut words = Vec::new();
    if let Some(left) = after {
        words.push(format!("it is pending again: {}", describe_left(left)));
    }
    if !job.waits_for.is_empty() {
        return Ok(held(state, job));
    }
    if *not_before > state.now() {
        let ms = not_before.since_ms(state.now());
        words.push(format!("it failed before and is not tried again for another {ms} ms"));
    }
    Err(words)
}

/// For whom a job waits, and whether that is in vain.
fn held(state: &State, job: &JobRecord) -> String {
    let jobs: Vec<&JobRecord> = job.waits_for.iter().filter_map(|&uid| state.job_of(uid)).collect();
    let names: Vec<&str> = jobs.iter().map(|before| before.name()).collect();
    let mut lines = vec![format!("it waits until these jobs have finished: {}", names.join(", "))];
    lines.extend(jobs.iter().filter_map(|before| {
        let (_, end) = before.ended?;
        let how = match end {
            JobEnd::Failed => "failed",
            JobEnd::Killed => "was killed",
            JobEnd::Finished => return None,
        };
        Some(format!("{} {how}, and will not finish", before.name()))
    }));
    if lines.len() > 1 {
        lines.push(format!(
            "so {0} never starts: kill it (`borgcfg kill {0}`), and submit it again without that in its \
             `start_after`",
            job.name()
        ));
    }
    lines.join("\n")
}

/// `host` is what its hosts are.
fn text(why: &Why, before: &[String], waits: bool, host: &str) -> String {
    let mut lines = before.to_vec();
    let hosts = |count: u32| format!("{count} {host}{}", if count == 1 { "" } else { "s" });
    if waits {
        lines.push("no alloc of its alloc set has a place yet".to_owned());
    }
    if why.feasible_count > 0 {
        lines.push(format!(
            "it fits on {} of {} and waits for its turn",
            why.feasible_count,
            hosts(why.host_count)
        ));
    } else if why.host_count == 0 {
        lines.push(format!("there is no {host} for it"));
    } else {
        lines.push(format!("it fits on none of {}", hosts(why.host_count)));
    }
    let ruled_out = why.ruled_out.iter();
    lines.extend(ruled_out.map(|it| format!("{}: {}", hosts(it.host_count), it.text)));
    if let Some(change) = why.changes.first() {
        lines.push(format!("would open {}: {}", hosts(change.host_count), change.text));
    }
    lines.join("\n")
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

//! Answers about a live cell as tables for people.

use super::{FitsReport, ForkReport, SideReport, StatusReport, WhyReport};
use crate::report::ByResource;
use crate::table::{grouped, percent, table};

/// So many lines of a list are shown; JSON has them all.
const LINES_SHOWN: usize = 30;

fn more(all: usize, what: &str) -> String {
    match all.saturating_sub(LINES_SHOWN) {
        0 => String::new(),
        rest => format!("\nand {} {what} more (--json has all)", grouped(rest)),
    }
}

fn shares(by_resource: &ByResource) -> String {
    let parts = by_resource.iter().map(|(name, share)| format!("{name} {}", percent(*share)));
    parts.collect::<Vec<_>>().join(", ")
}

/// How a cell stood. Jobs with tasks that wait come first.
#[must_use]
pub fn of_status(report: &StatusReport) -> String {
    let mut jobs = table(&[
        "job",
        "user",
        "priority",
        "state",
        "running",
        "pending",
        "backing off",
        "ended",
        "longest wait",
    ]);
    let mut order: Vec<_> = report.jobs.iter().collect();
    order.sort_by_key(|job| job.pending == 0);
    for job in order.iter().take(LINES_SHOWN) {
        let wait = if job.pending == 0 {
            String::new()
        } else {
            format!("{:.1} s", job.longest_wait_seconds)
        };
        let kind = if job.kind == "job" { "" } else { " (alloc set)" };
        jobs.add_row([
            format!("{}{kind}", job.name),
            job.user.clone(),
            job.priority.to_string(),
            job.state.to_owned(),
            grouped(job.running + job.assigned + job.stopping),
            grouped(job.pending),
            grouped(job.backing_off),
            grouped(job.dead),
            wait,
        ]);
    }
    let mut machines = table(&["machine", "state", "tasks", "cpu", "ram"]);
    for machine in report.machines.iter().take(LINES_SHOWN) {
        machines.add_row([
            machine.name.clone(),
            machine.state.to_owned(),
            grouped(machine.tasks),
            percent(machine.cpu),
            percent(machine.ram),
        ]);
    }
    format!(
        "cell {} at index {}: {} tasks run, {} wait\n{jobs}{}\n{machines}{}\nallocated: {}\nstranded: {}",
        report.cell,
        report.index,
        grouped(usize::try_from(report.running_count).unwrap_or(usize::MAX)),
        grouped(report.pending_count),
        more(report.jobs.len(), "jobs"),
        more(report.machines.len(), "machines"),
        shares(&report.allocation),
        shares(&report.stranding),
    )
}

/// Why a task was pending.
#[must_use]
pub fn of_why(report: &WhyReport) -> String {
    let mut lines = Vec::new();
    match (&report.explanation, &report.machine) {
        (Some(explanation), _) => {
            lines.push(crate::table::of_why(&report.task, explanation, report.is_in_alloc));
        }
        (None, Some(machine)) => {
            lines.push(format!("{} is {} on machine {machine}", report.task, report.phase));
        }
        (None, None) => lines.push(format!("{} is {}", report.task, report.phase)),
    }
    lines.extend(report.notes.iter().cloned());
    if report.pending {
        lines.push(match &report.next_pass {
            None => "a pass would not place it now".to_owned(),
            Some(next) if next.victims.is_empty() => {
                format!("a pass would place it on machine {} now", next.machine)
            }
            Some(next) => format!(
                "a pass would place it on machine {} now, and preempt {}",
                next.machine,
                next.victims.join(", ")
            ),
        });
    }
    if let Some(said) = &report.kubernetes {
        lines.push(format!("kube-scheduler would say: {said}"));
    }
    lines.join("\n")
}

/// How many more tasks would fit.
#[must_use]
pub fn of_fits(report: &FitsReport) -> String {
    let mut counts = table(&["how many more tasks would fit", "count"]);
    let at_least = if report.is_at_least { "at least " } else { "" };
    counts.add_row(["in free room".to_owned(), grouped(report.free_count)]);
    counts.add_row([
        "preempting lower priorities".to_owned(),
        format!("{at_least}{}", grouped(report.preempting_count)),
    ]);
    counts.add_row(["tasks preempted for these".to_owned(), grouped(report.victim_count)]);
    format!(
        "job {} at index {}, under {}; it has {} tasks there\n{counts}",
        report.job,
        report.index,
        report.policy,
        grouped(report.present_count),
    )
}

/// How a fork differs from the recording.
#[must_use]
pub fn of_fork(report: &ForkReport) -> String {
    let sides = [&report.recorded, &report.fork];
    let mut figures = table(&["", "recorded", "fork"]);
    let mut row = |name: String, value: &dyn Fn(&SideReport) -> String| {
        let [recorded, fork] = sides.map(value);
        figures.add_row([name, recorded, fork]);
    };
    row("placements".to_owned(), &|side| grouped(side.waits.count));
    row("wait, mean".to_owned(), &|side| format!("{:.2} s", side.waits.mean));
    row("wait, p50".to_owned(), &|side| format!("{:.2} s", side.waits.p50));
    row("wait, p90".to_owned(), &|side| format!("{:.2} s", side.waits.p90));
    row("still waiting".to_owned(), &|side| grouped(side.still_waiting.count));
    row("  for, mean".to_owned(), &|side| format!("{:.2} s", side.still_waiting.mean));
    row("finished".to_owned(), &|side| grouped(side.finished));
    row("failed".to_owned(), &|side| grouped(side.failed));
    let mut causes: Vec<&str> =
        sides.iter().flat_map(|side| side.evictions.keys().copied()).collect();
    causes.sort_unstable();
    causes.dedup();
    for cause in causes {
        row(format!("evicted: {cause}"), &|side| {
            grouped(side.evictions.get(cause).copied().unwrap_or(0))
        });
    }
    row("machines used".to_owned(), &|side| grouped(side.machines_used));
    for resource in report.recorded.stranding.keys().copied() {
        row(format!("{resource} allocated"), &|side| {
            percent(side.allocation.get(resource).copied().unwrap_or(0.0))
        });
        row(format!("{resource} stranded"), &|side| {
            percent(side.stranding.get(resource).copied().unwrap_or(0.0))
        });
    }
    let mut times =
        table(&["after", "placed, recorded", "placed, fork", "pending, recorded", "pending, fork"]);
    for (recorded, fork) in report.recorded.over_time.iter().zip(&report.fork.over_time) {
        times.add_row([
            format!("{:.1} s", recorded.seconds),
            grouped(recorded.placed),
            grouped(fork.placed),
            grouped(recorded.pending),
            grouped(fork.pending),
        ]);
    }
    let mut text = format!(
        "cell {}, entries {} to {}, {:.1} s: recorded under {}, forked under {} with seed {}\n{figures}\n{times}",
        report.cell,
        report.from_index + 1,
        report.until_index,
        report.seconds,
        report.recorded_policy,
        report.policy,
        report.seed,
    );
    if report.refused_operations > 0 {
        let count = grouped(report.refused_operations);
        text.push_str(&format!(
            "\n{count} operations of users were carried out then, and are refused in the fork"
        ));
    }
    text
}

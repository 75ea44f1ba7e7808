//! Waiting until jobs run.

use std::time::Duration;

use cell::live::JobEnd;
use cell::live::view::{Answer, Filter, JobStatus, PhaseKind, Question};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Instant, sleep};

use crate::client::Client;
use crate::failure::Failure;
use crate::output::note;
use crate::show;

/// Between two looks.
const AGAIN: Duration = Duration::from_millis(200);

/// Waits until all tasks of these jobs run as their newest specs want, or have ended; for at most so long.
pub(crate) async fn wait(
    client: &mut Client,
    names: &[String],
    most: Duration,
    is_quiet: bool,
) -> Result<(), Failure> {
    let give_up = Instant::now() + most;
    // Draws nothing unless stderr is a terminal.
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{msg}: {bar:40} {pos}/{len} tasks, {elapsed}")
    {
        bar.set_style(style);
    }
    for name in names {
        bar.set_message(name.clone());
        loop {
            let job = client.job(name).await?;
            bar.set_length(job.counts.total().into());
            bar.set_position((job.counts.total() - open(&job)).into());
            if is_settled(&job)? {
                if !is_quiet {
                    bar.suspend(|| note(&format!("{name}: {}", counts(&job))));
                }
                break;
            }
            if Instant::now() >= give_up {
                bar.finish_and_clear();
                return Err(late(client, &job, most).await);
            }
            sleep(AGAIN).await;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// Tasks that neither run nor have ended.
fn open(job: &JobStatus) -> u32 {
    let phases =
        [PhaseKind::Pending, PhaseKind::Assigned, PhaseKind::Starting, PhaseKind::Stopping];
    phases.into_iter().map(|phase| job.counts.get(phase)).sum()
}

/// Whether there is nothing to wait for any more.
fn is_settled(job: &JobStatus) -> Result<bool, Failure> {
    match job.ended {
        Some((_, JobEnd::Finished)) => Ok(true),
        Some((_, JobEnd::Failed)) => Err(Failure::Failed(format!(
            "{name}: it failed; `borgcfg status {name}` shows which task, and how",
            name = job.name
        ))),
        Some((_, JobEnd::Killed)) => Err(Failure::Failed(format!("{}: it was killed", job.name))),
        None => Ok(job.rollout.is_none() && open(job) == 0),
    }
}

fn counts(job: &JobStatus) -> String {
    let count = |phase| job.counts.get(phase);
    let running = format!(
        "{} of {} run",
        show::grouped(count(PhaseKind::Running)),
        show::count(job.counts.total(), "task")
    );
    let ended = count(PhaseKind::Finished) + count(PhaseKind::Failed) + count(PhaseKind::Killed);
    match ended {
        0 => running,
        ended => format!("{running}, {} ended", show::grouped(ended)),
    }
}

/// What to look at where jobs do not come to run.
async fn late(client: &mut Client, job: &JobStatus, most: Duration) -> Failure {
    let name = &job.name;
    let phase = Some(PhaseKind::Pending);
    let filter = Filter { job: Some(name.clone()), phase, ..Filter::default() };
    let question = |paging| Question::Tasks(filter.clone(), paging);
    let read = |answer| if let Answer::Tasks(page) = answer { Some(page) } else { None };
    // The rest says enough if that fails.
    let (pending, _) = client.list(1, question, read).await.unwrap_or_default();
    let hint = match pending.first() {
        Some(task) => format!("`borgcfg why {}` says why one waits", task.name),
        None => format!("`borgcfg status {name}` shows them"),
    };
    Failure::Failed(format!("{name}: after {most:?} {}; {hint}", counts(job)))
}

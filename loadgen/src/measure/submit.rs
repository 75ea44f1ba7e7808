//! One large job: from the question to the time at which every task has a place, by the log of three replicas.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use cell::live::Op;
use cell::live::view::PhaseKind;
use proto::status::Consistency;

use super::Args;
use super::ask::{self, Asker};
use super::cluster::{Cluster, DEADLINE, USER};
use super::report::{Bar, Report, Times, tell};
use client::Client;

const LOOK: Duration = Duration::from_millis(5);

pub(super) async fn run(args: &Args, folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let mut cluster = Cluster::start(folder).await?;
    cluster.add_machines(args.machines).await?;
    let leader = &cluster.addresses[cluster.leader().await?];
    let mut client = Client::open(std::slice::from_ref(leader), USER).await?;
    let mut asker = Asker::new(leader)?;
    let (mut acknowledged, mut placed, mut running) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..args.rounds {
        let name = format!("large-{round}");
        let begin = Instant::now();
        if let Err(rejected) = client.ask(ask::job(&name, args.tasks)?).await? {
            bail!("the job was rejected: {rejected}");
        }
        acknowledged.push(begin.elapsed());
        until(&mut asker, &name, begin, PhaseKind::Pending).await?;
        placed.push(begin.elapsed());
        until(&mut asker, &name, begin, PhaseKind::Starting).await?;
        running.push(begin.elapsed());
        tell(&format!(
            "round {round}: acknowledged, placed, running after {:?}, {:?}, {:?}",
            acknowledged[acknowledged.len() - 1],
            placed[placed.len() - 1],
            running[running.len() - 1]
        ));
        let kill = Op::Kill { job: name.clone(), indexes: None };
        ensure!(client.ask(kill).await?.is_ok(), "the job cannot be ended");
        until(&mut asker, &name, Instant::now(), PhaseKind::Stopping).await?;
    }
    let of =
        |what: &str| format!("submit {} tasks, {} machines → {what}", args.tasks, args.machines);
    let (acknowledged, placed) = (Times::new(acknowledged)?, Times::new(placed)?);
    let running = Times::new(running)?;
    report.row(of("acknowledged, p50"), acknowledged.median_ms(), "ms", None);
    let bar = Some(Bar::AtMost(2_000.0));
    report.row(of("all placed, p50"), placed.median_ms(), "ms", bar);
    report.row(of("all placed, max"), placed.max_ms(), "ms", bar);
    report.row(of("all reported running, p50"), running.median_ms(), "ms", None);
    Ok(())
}

/// Waits until no task of a job is in a phase.
async fn until(
    asker: &mut Asker,
    name: &str,
    begin: Instant,
    left: PhaseKind,
) -> anyhow::Result<()> {
    loop {
        let status = asker.job(Consistency::Stale, name).await?;
        if status.counts.get(left) == 0 {
            return Ok(());
        }
        ensure!(begin.elapsed() < DEADLINE, "{name}: {:?} after {DEADLINE:?}", status.counts);
        tokio::time::sleep(LOOK).await;
    }
}

//! A leader that is killed, with as many tasks as the cell is to hold: how long until the next submit is
//! acknowledged, and how long the killed one takes to be there again from what its disk holds.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};

use super::Args;
use super::ask::{self, Asker};
use super::cluster::{Cluster, DEADLINE, USER};
use super::report::{Bar, Report, Times, tell};
use super::sustain;
use client::Client;

/// A cell is left alone for so long before its leader is killed, so that each trial meets a settled one.
const SETTLE: Duration = Duration::from_secs(5);

pub(super) async fn run(
    args: &Args,
    cluster: &mut Cluster,
    report: &mut Report,
) -> anyhow::Result<()> {
    let leader = cluster.leader().await?;
    sustain::fill(&cluster.addresses[leader], "rest", args.running / 2, args).await?;
    let (mut gaps, mut restarts) = (Vec::new(), Vec::new());
    for round in 0..args.kills {
        tokio::time::sleep(SETTLE.min(Duration::from_secs(args.seconds))).await;
        let leader = cluster.leader().await?;
        let mut masters = cluster.addresses.clone();
        masters.rotate_left(leader);
        // As a client that knew the leader.
        let mut client = Client::open(&masters, USER).await?;
        let index = Asker::new(&masters[0])?.cell().await?.index;
        cluster.replicas[leader].kill()?;
        let begin = Instant::now();
        if let Err(rejected) = client.ask(ask::job(&format!("after-{round}"), 1)?).await? {
            bail!("the job was rejected: {rejected}");
        }
        gaps.push(begin.elapsed());
        cluster.restart(leader)?;
        restarts.push(until_there(&masters[0], index).await?);
        tell(&format!(
            "round {round}: submit after {:?}, restart in {:?}",
            gaps[gaps.len() - 1],
            restarts[restarts.len() - 1]
        ));
    }
    let (gaps, restarts) = (Times::new(gaps)?, Times::new(restarts)?);
    let trials = format!("{} trials", args.kills);
    let bar = |most| Some(Bar::AtMost(most));
    let what = "leader killed → next submit acknowledged";
    report.row(format!("{what}, p50 of {trials}"), gaps.median_ms(), "ms", bar(1_000.0));
    report.row(format!("{what}, max"), gaps.max_ms(), "ms", bar(3_000.0));
    let what = "restart from disk → state as at the kill";
    report.row(format!("{what}, p50 of {trials}"), restarts.median_ms(), "ms", None);
    report.row(format!("{what}, max"), restarts.max_ms(), "ms", bar(5_000.0));
    Ok(())
}

/// Waits until a replica has applied so much of the log.
async fn until_there(address: &str, index: u64) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    let mut asker = Asker::new(address)?;
    loop {
        if let Ok(cell) = asker.cell().await
            && cell.index >= index
        {
            return Ok(begin.elapsed());
        }
        ensure!(begin.elapsed() < DEADLINE, "{address} is not back after {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

//! Committed mutations a second, and etcd's puts a second beside them: on the same disk, with the same number
//! of clients, values of the same size, each asking the one that leads, in turns.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use cell::live::Request;
use proto::mutate::Mutation;
use proto::wire;

use super::Args;
use super::cluster::{Cluster, USER};
use super::etcd::{self, Etcd, Putter};
use super::report::{Bar, Report, Times, median, tell};
use crate::clients::{self, Asks, What, Wish};

pub(super) async fn run(args: &Args, folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let cluster = Cluster::start(folder).await?;
    let etcd = match etcd::version() {
        Some(version) => {
            report.note(version);
            Some(Etcd::start(folder).await?)
        }
        None => {
            report.note("no etcd in PATH (Debian: etcd-server): nothing to compare with");
            None
        }
    };
    for what in [What::Quota, What::Submit] {
        compare(args, &cluster, etcd.as_ref(), what, report).await?;
    }
    Ok(())
}

async fn compare(
    args: &Args,
    cluster: &Cluster,
    etcd: Option<&Etcd>,
    what: What,
    report: &mut Report,
) -> anyhow::Result<()> {
    let wish =
        |round| Wish { what, tasks: 1, prefix: format!("load-{round}"), user: USER.to_owned() };
    let byte_count = size_of(&wish(0))?;
    let length = Duration::from_secs(args.seconds).min(ROUND_MAX);
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let mut latencies = [Vec::new(), Vec::new()];
    for round in 0..args.rounds {
        let masters = clients::open(&cluster.addresses, args.clients, &wish(round), false).await?;
        let own = drive(masters, length, &mut latencies[0]).await?;
        ours.push(own);
        let Some(etcd) = etcd else { continue };
        let putters = (0..args.clients).map(|number| Putter::new(&etcd.leader, number, byte_count));
        let other = drive(putters.collect::<Result<_, _>>()?, length, &mut latencies[1]).await?;
        theirs.push(other);
        ratios.push(own / other);
        tell(&format!("round {round}: {own:.0}/s, etcd {other:.0}/s"));
    }
    let name = match what {
        What::Quota => "mutations",
        What::Submit => "jobs of one task submitted",
    };
    let [our_times, their_times] = latencies;
    let ours = median(ours).context("no rounds")?;
    report.row(format!("{name}, {} clients", args.clients), ours, "/s", None);
    let times = Times::new(our_times)?;
    report.row(format!("{name}, p50"), times.median_ms(), "ms", None);
    report.row(format!("{name}, p99"), times.p99_ms(), "ms", None);
    if let (Some(theirs), Some(ratio)) = (median(theirs), median(ratios)) {
        let times = Times::new(their_times)?;
        report.row(format!("etcd puts of {byte_count} bytes"), theirs, "/s", None);
        report.row("etcd puts, p50", times.median_ms(), "ms", None);
        report.row("etcd puts, p99", times.p99_ms(), "ms", None);
        report.row(format!("{name} / etcd puts"), ratio, "x", Some(Bar::AtLeast(1.0)));
    }
    Ok(())
}

/// A round need not be longer than this.
const ROUND_MAX: Duration = Duration::from_secs(10);

async fn drive(
    clients: Vec<impl Asks>,
    length: Duration,
    latencies: &mut Vec<Duration>,
) -> anyhow::Result<f64> {
    let (times, elapsed) = clients::drive(clients, length).await?;
    #[allow(clippy::cast_precision_loss, reason = "a rate")]
    let rate = times.len() as f64 / elapsed.as_secs_f64();
    latencies.extend(times);
    Ok(rate)
}

/// What a client's mutation takes as a message.
fn size_of(wish: &Wish) -> anyhow::Result<usize> {
    let request =
        Request { user: wish.user.clone(), session: 1_000, sequence: 1_000, answered_below: 1_000 };
    let message = wire::MutateRequest::try_from(Mutation { request, op: wish.op(10, 1_000)? })?;
    Ok(prost::Message::encoded_len(&message))
}

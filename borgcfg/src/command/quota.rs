//! `quota`: who may use how much, and does.

use cell::live::view::{Answer, Filter, Question, QuotaStatus};
use cell::live::{Amounts, Op, Quota, Timestamp};
use cell::{Band, Bytes, MilliCpu};
use clap::{Args, Subcommand};

use crate::args::{self, Options};
use crate::client::{Client, Session};
use crate::failure::Failure;
use crate::output::answer;
use crate::show::{self, Column, table};

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct QuotaArgs {
    #[command(subcommand)]
    change: Option<Change>,
    /// Only what belongs to this user
    #[arg(long, value_name = "NAME", value_parser = args::user)]
    owner: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Change {
    /// Grant quota, in place of what was granted to the user in the band
    ///
    /// In the free band nobody needs any.
    ///
    /// Example: borgcfg quota set ann production --cpu 100 --ram 400GiB --until 2030-01-01T00:00:00Z
    Set(SetArgs),
}

#[derive(Args, Debug)]
struct SetArgs {
    /// Who gets it
    #[arg(value_name = "USER", value_parser = args::user)]
    owner: String,
    /// batch, mid, production or monitoring
    #[arg(value_name = "BAND", value_parser = band)]
    band: Band,
    /// Cores (16, 0.5) or milli-cores (500m); none if left out
    #[arg(long, value_name = "CPU", value_parser = |text: &str| MilliCpu::parse(text))]
    cpu: Option<MilliCpu>,
    /// Such as 64GiB; none if left out
    #[arg(long, value_name = "BYTES", value_parser = |text: &str| Bytes::parse(text))]
    ram: Option<Bytes>,
    /// Such as 2TiB; none if left out
    #[arg(long, value_name = "BYTES", value_parser = |text: &str| Bytes::parse(text))]
    disk: Option<Bytes>,
    /// Whole devices or shares (0.5); none if left out
    #[arg(long, value_name = "GPUS", value_parser = |text: &str| MilliCpu::parse(text))]
    gpu: Option<MilliCpu>,
    /// Until when; without it until it is changed
    #[arg(long, value_name = "TIME")]
    until: Option<jiff::Timestamp>,
}

fn band(text: &str) -> Result<Band, String> {
    Band::ALL
        .into_iter()
        .find(|band| band.name() == text)
        .ok_or_else(|| format!("it has to be one of {}", Band::ALL.map(Band::name).join(", ")))
}

pub(crate) async fn run(
    args: QuotaArgs,
    options: &Options,
    client: &mut Client,
) -> Result<(), Failure> {
    let QuotaArgs { change, owner } = args;
    if let Some(Change::Set(set)) = change {
        let quota = granted(set)?;
        let op = Op::SetQuota(quota.clone());
        Session::open(client, options.user()?).await?.change(op).await?;
        return answer(options.json, &quota, |quota| {
            let Quota { user, band, amounts, until } = quota;
            let until = until.map_or(String::new(), |it| format!(" until {}", show::time(it)));
            format!("{user}: {} in the {} band{until}", show::amounts(amounts), band.name())
        });
    }
    let filter = Filter { user: owner, ..Filter::default() };
    let question = |paging| Question::Quotas(filter.clone(), paging);
    let read = |answer| if let Answer::Quotas(page) = answer { Some(page) } else { None };
    let (quotas, _) = client.list(usize::MAX, question, read).await?;
    answer(options.json, &quotas, |quotas| of_quotas(quotas))
}

fn granted(set: SetArgs) -> Result<Quota, Failure> {
    let SetArgs { owner, band, cpu, ram, disk, gpu, until } = set;
    let amounts = Amounts {
        cpu_milli: cpu.unwrap_or_default().0,
        ram_bytes: ram.unwrap_or_default().0,
        disk_bytes: disk.unwrap_or_default().0,
        gpu_milli: gpu.unwrap_or_default().0,
    };
    let until = until.map(|until| {
        u64::try_from(until.as_millisecond())
            .map(Timestamp)
            .map_err(|_| Failure::BadInput("--until: it has to be after 1970".to_owned()))
    });
    Ok(Quota { user: owner, band, amounts, until: until.transpose()? })
}

fn of_quotas(quotas: &[QuotaStatus]) -> String {
    if quotas.is_empty() {
        return "nothing is granted or used: `borgcfg quota set` grants some".to_owned();
    }
    let columns = [
        Column::Words("user"),
        Column::Words("band"),
        Column::Words("used"),
        Column::Words("granted"),
        Column::Words("until"),
    ];
    let rows = quotas.iter().map(|quota| {
        let granted = match quota.granted {
            _ if quota.band == Band::Free => "needs none".to_owned(),
            Some(granted) => show::amounts(&granted),
            None => "none".to_owned(),
        };
        vec![
            quota.user.clone(),
            quota.band.name().to_owned(),
            show::amounts(&quota.used),
            granted,
            quota.until.map(show::time).unwrap_or_default(),
        ]
    });
    table(&columns, rows)
}

//! `why`: why a task is where it is, or has no place.

use cell::live::view::Why;
use clap::Args;
use proto::explain::WhyQuery;
use proto::wire;

use crate::args::Options;
use crate::client::{Client, Repeat, answer};
use crate::failure::Failure;
use crate::output;
use crate::show::{Column, grouped, table};

#[derive(Args, Debug)]
pub(crate) struct WhyArgs {
    /// The task
    #[arg(value_name = "JOB/INDEX")]
    task: String,
}

pub(crate) async fn run(
    args: &WhyArgs,
    options: &Options,
    client: &mut Client,
) -> Result<(), Failure> {
    let task = &args.task;
    if !task.contains('/') {
        let problem = format!("{task:?} is no task: that is JOB/INDEX, such as {task}/0");
        return Err(Failure::BadInput(problem));
    }
    let query = WhyQuery { task: task.clone(), consistency: client.consistency() };
    let message = wire::WhyRequest::try_from(query)?;
    let why: Why = client
        .ask(Repeat::Freely, |mut service| {
            let message = message.clone();
            async move { answer(service.why(message).await) }
        })
        .await?;
    output::answer(options.json, &why, of_why)
}

fn of_why(why: &Why) -> String {
    let mut text = format!("{} is {}\n{}", why.task, why.phase.name(), why.text);
    if !why.changes.is_empty() {
        let columns = [Column::Words("a change that would place it"), Column::Numbers("hosts")];
        let rows = why.changes.iter().map(|it| vec![it.text.clone(), grouped(it.host_count)]);
        text.push_str(&format!("\n{}", table(&columns, rows)));
    }
    text
}

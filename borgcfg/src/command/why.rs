//! `why`: why a task is where it is, or has no place.

use cell::live::view::{Answer, PhaseKind, Question, Why};
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
    let is_nowhere = why.phase == PhaseKind::Pending && why.feasible_count == 0;
    let hint = match is_nowhere && !options.json && has_no_machines(client).await {
        true => "\nthe cell has no machine yet: `borgcfg machines add` adds some",
        false => "",
    };
    output::answer(options.json, &why, |why| of_why(why) + hint)
}

/// The answer says enough if this cannot be found out.
async fn has_no_machines(client: &mut Client) -> bool {
    let answer = client.status(Question::Cell).await.map(|it| it.answer);
    matches!(answer, Ok(Answer::Cell(cell)) if cell.machine_count == 0)
}

fn of_why(why: &Why) -> String {
    // The text tells the first of the changes too; the table has it with the others.
    let first = why.changes.first().map(|change| format!(": {}", change.text));
    let is_of_table = |line: &&str| first.as_ref().is_some_and(|first| line.ends_with(first));
    let lines: Vec<&str> = why.text.lines().filter(|line| !is_of_table(line)).collect();
    let mut text = format!("{} is {}\n{}", why.task, why.phase.name(), lines.join("\n"));
    if !why.changes.is_empty() {
        let columns = [Column::Words("a change that would place it"), Column::Numbers("hosts")];
        let rows = why.changes.iter().map(|it| vec![it.text.clone(), grouped(it.host_count)]);
        text.push_str(&format!("\n{}", table(&columns, rows)));
    }
    text
}

//! `fits`: how many more tasks of a job would fit.

use std::path::Path;

use cell::JobKind;
use cell::live::view::{Answer, Fits, Question};
use clap::Args;
use proto::explain::FitsQuery;
use proto::wire;

use crate::args::Options;
use crate::client::{Client, Repeat, another_answer, answer};
use crate::document::{Job, owned, read_jobs};
use crate::failure::Failure;
use crate::output;
use crate::show::{Column, count, grouped, table};

#[derive(Args, Debug)]
pub(crate) struct FitsArgs {
    /// A job that the cell has, or a file with one job; - is the standard input
    #[arg(value_name = "JOB|JOB.yaml")]
    job: String,
}

pub(crate) async fn run(
    args: &FitsArgs,
    options: &Options,
    client: &mut Client,
) -> Result<(), Failure> {
    let Job { spec, is_alloc_set } = match is_file(&args.job) {
        true => read_one(&args.job)?,
        false => ask(client, &args.job).await?,
    };
    // Nobody owns it by being counted.
    let spec = Box::new(owned(*spec, options.user().unwrap_or("nobody")));
    let name = spec.name.clone();
    let query = FitsQuery { spec, is_alloc_set, consistency: client.consistency() };
    let message = wire::FitsRequest::try_from(query)?;
    let fits: Fits = client
        .ask(Repeat::Patiently, |mut service| {
            let message = message.clone();
            async move { answer(service.fits(message).await) }
        })
        .await?;
    output::answer(options.json, &fits, |fits| of_fits(&name, fits))
}

/// Whether it is meant as a file: names of jobs have no `/`, and seldom such an ending.
fn is_file(job: &str) -> bool {
    job == "-"
        || job.contains('/')
        || [".yaml", ".yml", ".json"].iter().any(|ending| job.ends_with(ending))
}

fn read_one(file: &str) -> Result<Job, Failure> {
    let mut jobs = read_jobs(Path::new(file))?;
    match (jobs.pop(), jobs.len()) {
        (Some(job), 0) => Ok(job),
        (_, more) => Err(Failure::BadInput(format!(
            "{file}: it holds {} jobs, and one is asked about",
            more + 1
        ))),
    }
}

async fn ask(client: &mut Client, name: &str) -> Result<Job, Failure> {
    let job = client.job(name).await?;
    let Answer::Spec(spec) = client.status(Question::Spec(name.to_owned())).await?.answer else {
        return Err(another_answer());
    };
    Ok(Job { spec, is_alloc_set: job.kind == JobKind::AllocSet })
}

fn of_fits(name: &str, fits: &Fits) -> String {
    let at_least = if fits.is_at_least { "at least " } else { "" };
    let mut text = format!(
        "{name}: {at_least}{} would fit, as of index {}",
        count(fits.count, "more task"),
        fits.index
    );
    if fits.free_count < fits.count {
        text.push_str(&format!(
            "\n{} of them in free room; for the others {} would be preempted",
            grouped(fits.free_count),
            count(fits.victim_count, "task")
        ));
    }
    if !fits.stopped_by.is_empty() {
        let columns = [Column::Words("what stops the next one"), Column::Numbers("hosts")];
        let rows = fits.stopped_by.iter().map(|it| vec![it.text.clone(), grouped(it.host_count)]);
        text.push_str(&format!("\n{}", table(&columns, rows)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::is_file;

    #[test]
    fn files_are_told_from_jobs() {
        for file in ["-", "a.yaml", "./job", "x/y.json"] {
            assert!(is_file(file), "{file}");
        }
        for job in ["web", "web.prod", "yaml"] {
            assert!(!is_file(job), "{job}");
        }
    }
}

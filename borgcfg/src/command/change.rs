//! `submit`, `update`, `kill`: what changes jobs.
//!
//! A file with several jobs is several requests, in order, and so are several names to kill. What was carried
//! out before one is rejected stays so, and is printed; what comes after it is not asked for, and is named.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use cell::live::{Done, Op};
use clap::Args;
use serde::Serialize;

use super::wait::wait;
use crate::args::{Options, duration};
use crate::client::{Client, Session, another_answer};
use crate::document::{Job, owned, read_jobs};
use crate::failure::Failure;
use crate::nearest;
use crate::output::say;
use crate::show;

/// So many names are told of those whose turn did not come.
const LEFT_COUNT_SHOWN: usize = 5;

#[derive(Args, Debug)]
pub(crate) struct SubmitArgs {
    /// The jobs, in YAML or JSON; - is the standard input
    #[arg(value_name = "JOB.yaml")]
    file: PathBuf,
    /// Wait until all tasks run, or have finished; for at most so long (5m if not said)
    #[arg(
        long,
        value_name = "DURATION",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "5m",
        value_parser = duration
    )]
    wait: Option<Duration>,
}

#[derive(Args, Debug)]
pub(crate) struct UpdateArgs {
    /// The new specs, in YAML or JSON; - is the standard input
    #[arg(value_name = "JOB.yaml", required_unless_present = "undo")]
    file: Option<PathBuf>,
    /// Go back to the spec before the last update instead
    #[arg(long, value_name = "JOB", conflicts_with = "file")]
    undo: Option<String>,
    /// Wait until all tasks run as the update wants them; for at most so long (5m if not said)
    #[arg(
        long,
        value_name = "DURATION",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "5m",
        value_parser = duration
    )]
    wait: Option<Duration>,
}

#[derive(Args, Debug)]
pub(crate) struct KillArgs {
    /// Jobs, or tasks as JOB/INDEX
    #[arg(value_name = "JOB[/INDEX]", required = true)]
    names: Vec<String>,
}

/// What was done to a job, in JSON.
#[derive(Debug, Serialize)]
struct Changed {
    name: String,
    /// Its number.
    uid: u64,
    /// The version that its spec has now.
    version: u32,
}

/// What was killed, in JSON.
#[derive(Debug, Serialize)]
struct Killed {
    name: String,
    /// Indexes of tasks; null: all.
    tasks: Option<BTreeSet<u32>>,
}

/// What is said at once as text, and at the end as JSON.
struct Report<T> {
    is_json: bool,
    done: Vec<T>,
}

impl<T: Serialize> Report<T> {
    const fn new(options: &Options) -> Self {
        Self { is_json: options.json, done: Vec::new() }
    }

    fn add(&mut self, done: T, text: &str) -> Result<(), Failure> {
        self.done.push(done);
        if self.is_json { Ok(()) } else { say(text) }
    }

    fn end(self) -> Result<(), Failure> {
        if !self.is_json {
            return Ok(());
        }
        crate::output::answer(true, &self.done, |_| String::new())
    }
}

pub(crate) async fn submit(
    args: &SubmitArgs,
    options: &Options,
    client: &mut Client,
) -> Result<(), Failure> {
    let user = options.user()?;
    let jobs = read_jobs(&args.file)?;
    let mut report = Report::new(options);
    let done = submit_all(jobs, user, client, &mut report).await;
    end(report, done, args.wait, options, client).await
}

/// Says what was done, also where not all of it was; then waits for it, if that is asked for.
async fn end(
    report: Report<Changed>,
    done: Result<(), Failure>,
    most: Option<Duration>,
    options: &Options,
    client: &mut Client,
) -> Result<(), Failure> {
    let names: Vec<String> = report.done.iter().map(|it| it.name.clone()).collect();
    report.end()?;
    done?;
    match most {
        Some(most) => wait(client, &names, most, options.json).await,
        None => Ok(()),
    }
}

async fn submit_all(
    jobs: Vec<Job>,
    user: &str,
    client: &mut Client,
    report: &mut Report<Changed>,
) -> Result<(), Failure> {
    let mut session = Session::open(client, user).await?;
    let mut left = Left::of(jobs.iter().map(|job| &job.spec.name));
    for job in jobs {
        left.next();
        if let Err(failure) = submit_one(job, user, &mut session, report).await {
            return Err(left.after(failure, "submitted", session.client()).await);
        }
    }
    Ok(())
}

async fn submit_one(
    Job { spec, is_alloc_set }: Job,
    user: &str,
    session: &mut Session<'_>,
    report: &mut Report<Changed>,
) -> Result<(), Failure> {
    let spec = Box::new(owned(*spec, user));
    let (name, count) = (spec.name.clone(), spec.count);
    let done = session.change(Op::Submit { spec, is_alloc_set }).await;
    let Done::Job { uid, version } = done.map_err(|failure| failure.about(&name))? else {
        return Err(another_answer());
    };
    let (kind, noun) = if is_alloc_set { ("alloc set", "alloc") } else { ("job", "task") };
    let text = format!("{name}: submitted as {kind} {uid}, {}", show::count(count, noun));
    report.add(Changed { name, uid, version }, &text)
}

/// The names of those whose turn has not come yet.
struct Left(VecDeque<String>);

impl Left {
    fn of<'a>(names: impl IntoIterator<Item = &'a String>) -> Self {
        Self(names.into_iter().cloned().collect())
    }

    /// It is the turn of the next one.
    fn next(&mut self) {
        self.0.pop_front();
    }

    /// The failure of the one whose turn it was, with what was not `done` because of it.
    async fn after(self, failure: Failure, done: &str, client: &mut Client) -> Failure {
        let failure = if let Failure::Rejected(rejected) = failure {
            nearest::hint(rejected, client).await
        } else {
            failure
        };
        let count = self.0.len();
        if count == 0 {
            return failure;
        }
        let mut names: Vec<String> = self.0.into_iter().take(LEFT_COUNT_SHOWN).collect();
        if count > names.len() {
            names.push("…".to_owned());
        }
        failure.and(&format!("not {done} after that: {}", names.join(", ")))
    }
}

pub(crate) async fn update(
    args: &UpdateArgs,
    options: &Options,
    client: &mut Client,
) -> Result<(), Failure> {
    let user = options.user()?;
    let mut report = Report::new(options);
    let done = match (&args.undo, &args.file) {
        (Some(job), _) => {
            let mut session = Session::open(client, user).await?;
            change(&mut session, job, Op::Undo { job: job.clone() }, &mut report).await
        }
        (None, Some(file)) => update_all(read_jobs(file)?, user, client, &mut report).await,
        (None, None) => Ok(()),
    };
    end(report, done, args.wait, options, client).await
}

async fn update_all(
    jobs: Vec<Job>,
    user: &str,
    client: &mut Client,
    report: &mut Report<Changed>,
) -> Result<(), Failure> {
    let mut session = Session::open(client, user).await?;
    let mut left = Left::of(jobs.iter().map(|job| &job.spec.name));
    for job in jobs {
        left.next();
        if let Err(failure) = update_one(job, &mut session, report).await {
            return Err(left.after(failure, "updated", session.client()).await);
        }
    }
    Ok(())
}

async fn update_one(
    Job { mut spec, .. }: Job,
    session: &mut Session<'_>,
    report: &mut Report<Changed>,
) -> Result<(), Failure> {
    // An update that names no owner changes none.
    if spec.user.is_empty() {
        spec.user = session.client().job(&spec.name).await?.user;
    }
    let name = spec.name.clone();
    change(session, &name, Op::Update { spec }, report).await
}

async fn change(
    session: &mut Session<'_>,
    name: &str,
    op: Op,
    report: &mut Report<Changed>,
) -> Result<(), Failure> {
    let Done::Job { uid, version } = session.change(op).await? else {
        return Err(another_answer());
    };
    let text = format!("{name}: updated to version {version}");
    report.add(Changed { name: name.to_owned(), uid, version }, &text)
}

pub(crate) async fn kill(
    args: &KillArgs,
    options: &Options,
    client: &mut Client,
) -> Result<(), Failure> {
    let user = options.user()?;
    let wanted = read_names(&args.names)?;
    let mut report = Report::new(options);
    let done = async {
        let mut session = Session::open(client, user).await?;
        let mut left = Left::of(wanted.keys());
        for (job, indexes) in wanted {
            left.next();
            let op = Op::Kill { job: job.clone(), indexes: indexes.clone() };
            if let Err(failure) = session.change(op).await {
                return Err(left.after(failure, "killed", session.client()).await);
            }
            let what = match &indexes {
                None => format!("{job}: killed"),
                Some(indexes) => {
                    let count = u64::try_from(indexes.len()).unwrap_or(u64::MAX);
                    format!("{job}: {} killed", show::count(count, "task"))
                }
            };
            let text = format!("{what}; what runs is told to stop and has its grace period");
            report.add(Killed { name: job, tasks: indexes }, &text)?;
        }
        Ok(())
    };
    let done = done.await;
    report.end()?;
    done
}

/// Jobs with the indexes of their tasks; `None`: all.
fn read_names(names: &[String]) -> Result<BTreeMap<String, Option<BTreeSet<u32>>>, Failure> {
    let mut wanted: BTreeMap<String, Option<BTreeSet<u32>>> = BTreeMap::new();
    for name in names {
        let Some((job, index)) = name.rsplit_once('/') else {
            wanted.insert(name.clone(), None);
            continue;
        };
        let index = index.parse().map_err(|_| {
            Failure::BadInput(format!("{name:?} is no task: that is JOB/INDEX, such as web/0"))
        })?;
        if let Some(indexes) = wanted.entry(job.to_owned()).or_insert_with(|| Some([].into())) {
            indexes.insert(index);
        }
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_jobs_and_tasks_are_told_apart() {
        let read = |names: &[&str]| {
            read_names(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        let wanted = read(&["web/3", "web/1", "batch", "both/1", "both", "both/2"]).unwrap();
        assert_eq!(wanted["web"], Some([1, 3].into()));
        assert_eq!([&wanted["batch"], &wanted["both"]], [&None, &None]);
        read(&["web/x"]).unwrap_err();
    }
}

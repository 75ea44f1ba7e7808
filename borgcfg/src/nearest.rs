//! What a user may have meant by a name that there is not.

use cell::live::Rejected;
use cell::live::view::{Answer, Filter, JobStatus, Question};

use crate::client::Client;
use crate::failure::Failure;

/// So many names are looked through.
const NAME_COUNT_MAX: usize = 10_000;

/// How alike two names have to be, 0..=1.
const LIKENESS_MIN: f64 = 0.5;

/// A rejection as a failure. Where it is about a name that is not there, the cell is asked for those that are.
pub(crate) async fn hint(rejected: Rejected, client: &mut Client) -> Failure {
    let Rejected::Unknown { kind, name } = &rejected else { return Failure::Rejected(rejected) };
    let job = name.rsplit_once('/').map_or(name.as_str(), |(job, _)| job);
    let found = match kind.as_str() {
        "job" | "task" => jobs(client).await,
        "machine" => machines(client).await,
        _ => return Failure::Rejected(rejected),
    };
    // The rejection says enough if that fails.
    let names: Vec<Named> = found.unwrap_or_default();
    if let Some(Named { count: Some(count), .. }) = names.iter().find(|it| it.name == job)
        && kind == "task"
    {
        let last = count.saturating_sub(1);
        return Failure::Failed(format!("{rejected}; {job} has the tasks {job}/0 to {job}/{last}"));
    }
    let lists = if kind == "machine" { "borgcfg machines" } else { "borgcfg status" };
    let nearest = nearest(job, names.iter().map(|it| it.name.as_str()));
    Failure::Failed(match nearest {
        Some(nearest) => format!("{rejected}; did you mean {nearest:?}? `{lists}` lists all"),
        None => format!("{rejected}; `{lists}` lists all"),
    })
}

struct Named {
    name: String,
    count: Option<u32>,
}

async fn jobs(client: &mut Client) -> Result<Vec<Named>, Failure> {
    let question = |paging| Question::Jobs(Filter::default(), paging);
    let read = |answer| if let Answer::Jobs(page) = answer { Some(page) } else { None };
    let (jobs, _) = client.list(NAME_COUNT_MAX, question, read).await?;
    let named = |job: JobStatus| Named { count: Some(job.counts.total()), name: job.name };
    Ok(jobs.into_iter().map(named).collect())
}

async fn machines(client: &mut Client) -> Result<Vec<Named>, Failure> {
    let question = |paging| Question::Machines(Filter::default(), paging);
    let read = |answer| if let Answer::Machines(page) = answer { Some(page) } else { None };
    let (machines, _) = client.list(NAME_COUNT_MAX, question, read).await?;
    Ok(machines.into_iter().map(|machine| Named { name: machine.name, count: None }).collect())
}

/// The name that is most like this one, if any is like it.
fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let likeness = |other: &str| strsim::normalized_damerau_levenshtein(name, other);
    names
        .map(|other| (likeness(other), other))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_of_the_pen_is_found() {
        let names = ["web", "batch-1", "batch-2"];
        assert_eq!(nearest("wbe", names.into_iter()), Some("web"));
        assert_eq!(nearest("batch2", names.into_iter()), Some("batch-2"));
        assert_eq!(nearest("zzz", names.into_iter()), None);
    }
}

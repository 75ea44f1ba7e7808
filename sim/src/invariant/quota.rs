//! Quota never exceeded: where a submission, an update or its undoing was admitted that asks for more of a resource, what
//! the user's jobs ask for in the band is within what was granted; worked out from the specs alone.

use std::collections::BTreeMap;

use cell::live::{Amounts, Entry, JobRecord, Op, Phase, State};
use cell::spec::task_limit;
use cell::{Band, Priority};

use super::{Invariant, Step};

/// What jobs asked for before the entry that submits or updates them.
#[derive(Debug, Default)]
pub struct Quota {
    before: BTreeMap<u64, (Band, Amounts)>,
}

fn asks(job: &JobRecord) -> Option<(Band, Amounts)> {
    let band = Priority::new(job.spec.priority)?.band();
    let mut sum = Amounts::default();
    for (task, index) in job.tasks.iter().zip(0..job.spec.count) {
        if !matches!(task.phase, Phase::Dead { .. })
            && let Ok(limit) = task_limit(&job.spec, index)
        {
            sum = sum.plus(Amounts::of(&limit));
        }
    }
    Some((band, sum))
}

/// The job that an operation gives another spec.
fn given(op: &Op) -> Option<&str> {
    if let Op::Undo { job } = op {
        return Some(job);
    }
    let (Op::Submit { spec, .. } | Op::Update { spec }) = op else { return None };
    Some(&spec.name)
}

impl Invariant for Quota {
    fn name(&self) -> &'static str {
        "quota never exceeded"
    }

    fn prepare(&mut self, entry: &Entry, state: &State) {
        self.before.clear();
        for name in entry.commands.iter().filter_map(|command| given(&command.op)) {
            let job = state.job(name);
            self.before.extend(job.and_then(|job| Some((job.uid, asks(job)?))));
        }
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        let Some(entry) = step.entry else { return Ok(()) };
        for (command, (_, outcome)) in entry.commands.iter().zip(&step.applied.answers) {
            let Some(name) = given(&command.op).filter(|_| outcome.is_ok()) else { continue };
            let Some(job) = step.state.job(name) else { continue };
            let spec = &job.spec;
            let Some((band, amounts)) = asks(job) else { continue };
            if band == Band::Free {
                continue;
            }
            // What was granted when it was admitted is not known if a grant changed in the same entry.
            let regrants = |op: &Op| matches!(op, Op::SetQuota(quota) if quota.user == spec.user);
            if entry.commands.iter().any(|command| regrants(&command.op)) {
                continue;
            }
            // Of what a job asked for in the same band already a grant may have shrunk below.
            let before = self.before.get(&job.uid).filter(|(old, _)| *old == band);
            let before = before.map_or(Amounts::default(), |(_, amounts)| *amounts);
            let of_user = step.state.jobs().filter(|(_, job)| job.spec.user == spec.user);
            let used = of_user
                .filter_map(|(_, job)| asks(job))
                .filter(|(other, _)| *other == band)
                .fold(Amounts::default(), |sum, (_, amounts)| sum.plus(amounts));
            let quota =
                step.state.quotas().find(|quota| quota.user == spec.user && quota.band == band);
            let quota =
                quota.filter(|quota| quota.until.is_none_or(|until| step.state.now() < until));
            let granted = quota.map_or(Amounts::default(), |quota| quota.amounts);
            let of = |amounts: Amounts| {
                [amounts.cpu_milli, amounts.ram_bytes, amounts.disk_bytes, amounts.gpu_milli]
            };
            let each =
                of(before).into_iter().zip(of(amounts)).zip(of(used).into_iter().zip(of(granted)));
            for ((before, after), (used, granted)) in each {
                if after > before && used > granted {
                    return Err(format!(
                        "{} of {} was admitted with {after} instead of {before}: {used} used of \
                         {granted} in {band}",
                        spec.name, spec.user
                    ));
                }
            }
        }
        Ok(())
    }
}

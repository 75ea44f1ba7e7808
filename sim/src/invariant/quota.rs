//! Quota never exceeded: after each submission or update that was admitted, what the user's jobs ask for in
//! the band is within what was granted; worked out from the specs alone.

use cell::live::{Amounts, Op, Phase, State};
use cell::spec::{JobSpec, task_limit};
use cell::{Band, Priority};

use super::{Invariant, Step};

/// See the module.
#[derive(Debug)]
pub struct Quota;

fn used(state: &State, user: &str, band: Band) -> Amounts {
    let mut sum = Amounts::default();
    for (_, job) in state.jobs() {
        if job.spec.user != user || band_of(&job.spec) != Some(band) {
            continue;
        }
        for (task, index) in job.tasks.iter().zip(0..job.spec.count) {
            if !matches!(task.phase, Phase::Dead { .. })
                && let Ok(limit) = task_limit(&job.spec, index)
            {
                sum = sum.plus(Amounts::of(&limit));
            }
        }
    }
    sum
}

fn band_of(spec: &JobSpec) -> Option<Band> {
    Priority::new(spec.priority).map(Priority::band)
}

impl Invariant for Quota {
    fn name(&self) -> &'static str {
        "quota never exceeded"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        let Some(entry) = step.entry else { return Ok(()) };
        for (command, (_, outcome)) in entry.commands.iter().zip(&step.applied.answers) {
            let (Op::Submit { spec, .. } | Op::Update { spec }) = &command.op else { continue };
            let Some(band) = band_of(spec).filter(|band| *band != Band::Free) else { continue };
            if outcome.is_err() {
                continue;
            }
            // An update that asks for less is admitted even where a grant has shrunk below the use.
            let is_growth = matches!(command.op, Op::Submit { .. })
                || step.state.job(&spec.name).and_then(|job| job.previous.as_ref()).is_some_and(
                    |old| {
                        spec.count > old.count
                            || spec.limit.cpu > old.limit.cpu
                            || spec.limit.ram > old.limit.ram
                    },
                );
            // What was granted when it was admitted is not known if a grant changed in the same entry.
            let regrants = |op: &Op| matches!(op, Op::SetQuota(quota) if quota.user == spec.user);
            if entry.commands.iter().any(|command| regrants(&command.op)) {
                continue;
            }
            let used = used(step.state, &spec.user, band);
            let granted = step
                .state
                .quotas()
                .find(|quota| quota.user == spec.user && quota.band == band)
                .map_or(Amounts::default(), |quota| quota.amounts);
            let more = |used: u64, granted: u64| is_growth && used > granted;
            // Of what did not grow a shrunken grant may be exceeded still.
            let asks = |amount: Option<u64>| amount.is_some_and(|amount| amount > 0);
            let cpu =
                asks(spec.limit.cpu.map(|cpu| cpu.0)) && more(used.cpu_milli, granted.cpu_milli);
            let ram =
                asks(spec.limit.ram.map(|ram| ram.0)) && more(used.ram_bytes, granted.ram_bytes);
            let is_submit = matches!(command.op, Op::Submit { .. });
            if (is_submit && (cpu || ram)) || (cpu && ram) {
                return Err(format!(
                    "{} of {} was admitted: {used:?} used of {granted:?} in {band}",
                    spec.name, spec.user
                ));
            }
        }
        Ok(())
    }
}

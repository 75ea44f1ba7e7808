//! Other policies on the same trials: by how much fewer machines greedy needs, and the improved packings.
//!
//! In: a trace, how to compact it, and the names of other policies. Out: the improved compaction with a
//! paired difference for each of them. All take machines in the same orders, so all draw from the same
//! number of copies of the cell's machines: the largest that any of them needs.

use std::path::Path;
use std::time::Instant;

use fauxmaster::report::CompactReport;
use fauxmaster::stats::fewer_percent;
use fauxmaster::{CompactError, CompactOptions, compact};
use scheduler::Policy;
use traces::Trace;

use crate::bound::Effort;
use crate::budget::Budget;
use crate::compact::improve_greedy;
use crate::infeasible::of_greedy;
use crate::report::{AgainstReport, Fewer, ImprovedReport, PolicyReport};

/// As [`compact::improve`](crate::compact::improve), and compacts by each policy of `against` on the same
/// trials.
///
/// # Errors
/// As in [`compact::improve`](crate::compact::improve), of any of the policies.
pub fn improve(
    trace: &Trace,
    options: &CompactOptions,
    against: &[Policy],
    effort: Effort,
    budget: Budget,
    certificate: &Path,
    progress: &(dyn Fn(usize) + Sync),
) -> anyhow::Result<ImprovedReport> {
    let began = Instant::now();
    let all: Vec<CompactOptions> = std::iter::once(&options.policy)
        .chain(against)
        .map(|policy| CompactOptions { policy: policy.clone(), ..options.clone() })
        .collect();
    let Paired { mut reports, clones_needed_by } =
        compact_paired(&all, &|options| compact(trace, options, &|_| {}))
            .map_err(|(index, error)| of_greedy(trace, &all[index], error))?;
    let others = reports.split_off(1);
    let greedy = reports.swap_remove(0);
    let mut improved =
        improve_greedy(trace, options, greedy, began, effort, budget, certificate, progress)?;
    if !others.is_empty() {
        let against = others.into_iter().map(|other| compared(other, &improved)).collect();
        improved.against = Some(AgainstReport { clones_needed_by, against });
    }
    Ok(improved)
}

fn compared(other: CompactReport, improved: &ImprovedReport) -> PolicyReport {
    let fewer = |machines: &[usize]| {
        let difference = fewer_percent(machines, &other.machines_by_trial);
        Fewer {
            mean: difference.mean,
            low: difference.interval.map(|interval| interval.low),
            high: difference.interval.map(|interval| interval.high),
        }
    };
    PolicyReport {
        fewer_percent: fewer(&improved.compact.machines_by_trial),
        greedy_fewer_percent: fewer(&improved.greedy_by_trial),
        policy: other.policy,
        machines_median: other.machines_median,
        machines_by_trial: other.machines_by_trial,
    }
}

/// Compactions that draw from the same number of copies.
struct Paired {
    reports: Vec<CompactReport>,
    clones_needed_by: Option<String>,
}

/// Compacts with all these options on the same number of copies of the cell: the one that they ask for,
/// or the fewest on which each of them fits. An error is given with the position of the options that it
/// is of.
fn compact_paired(
    all: &[CompactOptions],
    compact: &dyn Fn(&CompactOptions) -> Result<CompactReport, CompactError>,
) -> Result<Paired, (usize, CompactError)> {
    let mut clones: Option<usize> = None;
    let mut clones_needed_by = None;
    let mut reports: Vec<Option<CompactReport>> = vec![None; all.len()];
    let is_done = |report: &Option<CompactReport>, clones: Option<usize>| {
        report.as_ref().is_some_and(|report| Some(report.clones) == clones)
    };
    // Ends: each round adds a report on so many copies, or raises their number; at most to one more than
    // the greediest policy needs.
    while let Some(index) = reports.iter().position(|report| !is_done(report, clones)) {
        let options = &all[index];
        let on = |clones| {
            compact(&CompactOptions { clones, ..options.clone() }).map_err(|error| (index, error))
        };
        let (report, at_least) = match on(options.clones.or(clones)) {
            // On fewer copies a packing may fit by luck that does not fit on more.
            Err((_, CompactError::DoesNotFit { clones: too_few, .. }))
                if options.clones.is_none() && clones.is_some() =>
            {
                (on(None)?, too_few + 1)
            }
            other => (other?, 1),
        };
        let needed = report.clones.max(at_least);
        if clones.is_none_or(|clones| needed > clones) {
            clones = Some(needed);
            clones_needed_by = options.clones.is_none().then(|| options.policy.name().to_owned());
        }
        reports[index] = Some(report);
    }
    Ok(Paired { reports: reports.into_iter().flatten().collect(), clones_needed_by })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(policy: &str, clones: usize) -> CompactReport {
        CompactReport {
            policy: policy.to_owned(),
            accounting: "limits",
            seed: 1,
            trials: 1,
            machines_p90: 10,
            machines_median: 10,
            machines_min: 10,
            machines_max: 10,
            machines_by_trial: vec![10],
            lower_bound: 1,
            lower_bound_by_trial: vec![1],
            clones,
            task_count: 1,
            pending_allowed: 0,
            pending_only_picky: false,
            jobs_softened: 0,
            packings: 1,
            seconds: 0.0,
        }
    }

    /// Compacts policies that need so many copies; returns the copies that all draw from, and who needs
    /// them.
    fn check(needs: &[(&str, usize)], given: Option<usize>) -> Option<(usize, Option<String>)> {
        let all: Vec<CompactOptions> = needs
            .iter()
            .map(|(name, _)| CompactOptions {
                clones: given,
                ..CompactOptions::new(Policy::by_name(name).unwrap(), 1)
            })
            .collect();
        let paired = compact_paired(&all, &|options| {
            let policy = options.policy.name();
            let needed = needs.iter().find(|(name, _)| *name == policy).unwrap().1;
            match options.clones {
                Some(clones) if clones < needed => Err(CompactError::DoesNotFit {
                    policy: policy.to_owned(),
                    clones,
                    pending: 1,
                    allowed: 0,
                }),
                clones => Ok(report(policy, clones.unwrap_or(needed))),
            }
        })
        .ok()?;
        let clones = paired.reports[0].clones;
        assert!(paired.reports.iter().all(|report| report.clones == clones));
        let policies: Vec<&str> =
            paired.reports.iter().map(|report| report.policy.as_str()).collect();
        assert_eq!(policies, needs.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        Some((clones, paired.clones_needed_by))
    }

    #[test]
    fn all_policies_draw_from_as_many_copies_as_the_greediest_needs() {
        let greediest = Some("kube-default".to_owned());
        let of =
            |own, other, kube| [("borg-hybrid", own), ("best-fit", other), ("kube-default", kube)];
        assert_eq!(check(&of(1, 1, 4), None), Some((4, greediest)));
        assert_eq!(check(&of(2, 1, 1), None), Some((2, Some("borg-hybrid".to_owned()))));
        assert_eq!(check(&of(1, 1, 4), Some(5)), Some((5, None)));
        assert_eq!(check(&of(1, 1, 4), Some(3)), None);
    }
}

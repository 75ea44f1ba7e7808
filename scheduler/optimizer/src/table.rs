//! Results as tables for people.

use fauxmaster::report::CompactReport;
use fauxmaster::table::{grouped, percent, table};

use crate::report::{
    AgainstReport, BoundReport, Fewer, ImprovedReport, ParetoReport, PolicyReport,
};
use crate::shrink::HeldCount;

/// Bounds by method.
#[must_use]
pub fn of_bound(report: &BoundReport) -> String {
    let mut methods = table(&["method", "median", "least", "most", "seconds"]);
    for method in &report.methods {
        let by_trial = &method.machines_lower_bound.by_trial;
        let edge = |edge: Option<&usize>| grouped(edge.copied().unwrap_or(0));
        methods.add_row([
            method.method.clone(),
            grouped(method.machines_lower_bound.median),
            edge(by_trial.iter().min()),
            edge(by_trial.iter().max()),
            format!("{:.2}", method.seconds),
        ]);
    }
    format!(
        "{tasks} tasks, by {accounting}, need at least {median} machines \
         (median of {trials} trials, {allowed} may stay pending): {fraction} of the cell\n\
         {methods}\n\
         machines drawn from {clones} of the cell, seed {seed}; \
         every bound was checked from its certificate: {certificate}",
        tasks = grouped(report.task_count),
        accounting = report.accounting,
        median = grouped(report.machines_lower_bound.median),
        trials = report.machines_lower_bound.by_trial.len(),
        allowed = grouped(report.pending_allowed),
        fraction = percent(report.cell_fraction_lower_bound),
        clones = copies(report.clones),
        seed = report.seed,
        certificate = report.certificate,
    )
}

/// A compaction that was improved.
#[must_use]
pub fn of_improved(report: &ImprovedReport) -> String {
    let compact = &report.compact;
    let mut trials =
        table(&["trial", "greedy", "machines", "lower bound", "gap", "steps", "seconds"]);
    for trial in 0..compact.trials {
        trials.add_row([
            trial.to_string(),
            grouped(report.greedy_by_trial[trial]),
            grouped(compact.machines_by_trial[trial]),
            grouped(compact.lower_bound_by_trial[trial]),
            percent(report.gap_by_trial[trial]),
            grouped(usize::try_from(report.steps_by_trial[trial]).unwrap_or(usize::MAX)),
            format!("{:.1}", report.search_seconds_by_trial[trial]),
        ]);
    }
    format!(
        "{policy}, by {accounting}, improved within {budget} a trial: {tasks} tasks need {p90} machines \
         (90th percentile of {count} trials; median {median}, {min} to {max})\n\
         {trials}\n\
         gap to the proven bound ({method}): {gap} in the median; {allowed} tasks may stay pending; \
         machines drawn from {clones} of the cell\n\
         {seconds:.1} s, seed {seed}; certificates: {certificate}",
        policy = compact.policy,
        accounting = compact.accounting,
        budget = report.budget,
        tasks = grouped(compact.task_count),
        p90 = grouped(compact.machines_p90),
        count = compact.trials,
        median = grouped(compact.machines_median),
        min = grouped(compact.machines_min),
        max = grouped(compact.machines_max),
        method = report.method,
        gap = percent(report.gap),
        allowed = grouped(compact.pending_allowed),
        clones = copies(compact.clones),
        seconds = compact.seconds,
        seed = compact.seed,
        certificate = report.certificate,
    ) + &held(report.held)
        + &report.against.as_ref().map(|against| of_against(compact, against)).unwrap_or_default()
}

/// Other policies on the same trials.
fn of_against(compact: &CompactReport, report: &AgainstReport) -> String {
    let others = || report.against.iter();
    let header: Vec<&str> =
        std::iter::once("trial").chain(others().map(|other| other.policy.as_str())).collect();
    let mut trials = table(&header);
    let mut add = |name: String, figure: &dyn Fn(&PolicyReport) -> String| {
        trials.add_row(std::iter::once(name).chain(others().map(figure)));
    };
    for trial in 0..compact.trials {
        add(trial.to_string(), &|other| grouped(other.machines_by_trial[trial]));
    }
    add("median".to_owned(), &|other| grouped(other.machines_median));
    add(format!("{}: fewer", compact.policy), &|other| fewer(other.greedy_fewer_percent));
    add("improved: fewer".to_owned(), &|other| fewer(other.fewer_percent));
    let clones = report.clones_needed_by.as_ref().map(|policy| {
        let clones = copies(compact.clones);
        format!("; all draw from {clones} of the cell, as {policy} needs so many")
    });
    format!(
        "\nmachines of other policies on the same trials\n{trials}\n\
         fewer: the mean paired difference in per cent of the other policy's machines, {interval}{clones}",
        interval = match compact.trials {
            1 => "without an interval, which needs two trials",
            _ => "with its 95 % confidence interval",
        },
        clones = clones.unwrap_or_default(),
    )
}

fn fewer(fewer: Fewer) -> String {
    let Fewer { mean, low, high } = fewer;
    match low.zip(high) {
        Some((low, high)) => format!("{mean:.2} % ({low:.2} to {high:.2})"),
        None => format!("{mean:.2} %"),
    }
}

/// Machines against what was spent.
#[must_use]
pub fn of_pareto(report: &ParetoReport) -> String {
    let mut points = table(&["budget of a trial", "machines (median)", "above the bound"]);
    for point in &report.points {
        points.add_row([point.name.clone(), grouped(point.machines_median), percent(point.gap)]);
    }
    let compact = &report.improved.compact;
    format!(
        "{policy}, by {accounting}: {tasks} tasks, {trials} trials, {allowed} may stay pending\n\
         {points}\n\
         machines drawn from {clones} of the cell, {seconds:.1} s, seed {seed}; \
         certificates: {certificate}",
        policy = compact.policy,
        accounting = compact.accounting,
        tasks = grouped(compact.task_count),
        trials = compact.trials,
        allowed = grouped(compact.pending_allowed),
        clones = copies(compact.clones),
        seconds = compact.seconds,
        seed = compact.seed,
        certificate = report.improved.certificate,
    ) + &held(report.improved.held)
}

/// What the search could not move, on a line of its own; nothing where that is nothing.
fn held(held: HeldCount) -> String {
    let HeldCount { spread, allocs, tied, gpu, kubernetes } = held;
    let reasons: Vec<String> = [
        (spread, "with limits on spread"),
        (allocs, "allocs or in allocs"),
        (tied, "tied to machines"),
        (gpu, "with GPUs"),
        (kubernetes, "in a Kubernetes cluster"),
    ]
    .into_iter()
    .filter(|&(count, _)| count > 0)
    .map(|(count, why)| format!("{} {why}", grouped(count)))
    .collect();
    if reasons.is_empty() {
        return String::new();
    }
    format!("\ntasks that the search left where greedy put them: {}", reasons.join(", "))
}

/// `1 copy`, `2 copies`.
pub(crate) fn copies(clones: usize) -> String {
    format!("{clones} {}", if clones == 1 { "copy" } else { "copies" })
}

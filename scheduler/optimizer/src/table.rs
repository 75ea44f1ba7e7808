//! Results as tables for people.

use fauxmaster::report::CompactReport;
use fauxmaster::table::{grouped, percent, table};

use crate::report::{
    AgainstReport, BatchesReport, BoundReport, Fewer, ImprovedReport, PackedReport, ParetoReport,
    PolicyReport, PreemptReport, RepackReport,
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

/// Batches placed into a running cell.
#[must_use]
pub fn of_batches(report: &BatchesReport) -> String {
    let mut rows = table(&[
        "batch",
        "plan",
        "placed",
        "wait",
        "net worth",
        "victims",
        "placed again",
        "machine hours lost",
        "seconds",
        "solved",
        "better",
    ]);
    for (number, batch) in report.batches.iter().enumerate() {
        let greedy = ("greedy", &batch.greedy, batch.greedy_seconds, None);
        let search = (batch.solves, batch.improvements);
        let better = ("improved", &batch.plan, batch.seconds, Some(search));
        for (name, plan, seconds, search) in [greedy, better] {
            let cell =
                |of: fn((u64, u64)) -> u64| search.map_or(String::new(), |s| of(s).to_string());
            rows.add_row([
                number.to_string(),
                name.to_owned(),
                grouped(plan.placed_count),
                grouped(plan.pending_count),
                format!("{:.3}", plan.net_worth_machines),
                grouped(plan.victim_count),
                grouped(plan.placed_again_count),
                format!("{:.3}", plan.work_lost_machine_hours),
                format!("{seconds:.3}"),
                cell(|(solves, _)| solves),
                cell(|(_, better)| better),
            ]);
        }
    }
    format!(
        "{policy}, by {accounting}, {machines} machines, within {budget} a batch: better than greedy in \
         {better} of {count} batches, worse in none\n{rows}\n\
         net worth in mean machines: what is placed less what was evicted and has no place; seed {seed}",
        policy = report.policy,
        accounting = report.accounting,
        machines = grouped(report.machine_count),
        budget = report.budget,
        better = report.better_count,
        count = report.batches.len(),
        seed = report.seed,
    )
}

/// Greedy's preemption and better.
#[must_use]
pub fn of_preempt(report: &PreemptReport) -> String {
    let mut rows = table(&[
        "plan",
        "placed",
        "wait",
        "victims",
        "by band",
        "evictions",
        "cascade depth",
        "placed again",
        "machine hours lost",
        "net worth",
    ]);
    for (name, of) in [("greedy", &report.greedy), ("improved", &report.improved)] {
        let bands: Vec<String> =
            of.victims_by_band.iter().map(|(band, count)| format!("{band} {count}")).collect();
        rows.add_row([
            name.to_owned(),
            grouped(of.plan.placed_count),
            grouped(of.plan.pending_count),
            grouped(of.plan.victim_count),
            bands.join(", "),
            grouped(of.eviction_count),
            of.cascade_depth.to_string(),
            grouped(of.plan.placed_again_count),
            format!("{:.3}", of.plan.work_lost_machine_hours),
            format!("{:.3}", of.plan.net_worth_machines),
        ]);
    }
    let bound = match (report.work_lost_lower_bound, report.gap) {
        (Some(bound), Some(gap)) => format!(
            "no plan that places all of them loses less than {bound:.3} machine hours: {} above\n",
            percent(gap)
        ),
        (Some(bound), None) => {
            format!("no plan that places all of them loses less than {bound:.3} machine hours\n")
        }
        (None, _) => String::new(),
    };
    let blame: Vec<String> = report
        .why_pending
        .iter()
        .map(|(group, &count)| format!("{} wait for {group}\n", grouped(count)))
        .collect();
    format!(
        "{tasks} tasks arrive on {machines} machines; {policy}, by {accounting}, within {budget}\n\
         {rows}\n{bound}{blame}{seconds:.3} s, of which greedy {greedy:.3} s; seed {seed}",
        tasks = grouped(report.task_count),
        machines = grouped(report.machine_count),
        policy = report.policy,
        accounting = report.accounting,
        budget = report.budget,
        blame = blame.concat(),
        seconds = report.seconds,
        greedy = report.greedy_seconds,
        seed = report.seed,
    )
}

/// A packing that was improved.
#[must_use]
pub fn of_packed(report: &PackedReport) -> String {
    let count = |worth: u64| match worth / 100_000 {
        0..100 => format!("{}.{:02}", worth / 100_000, worth % 100_000 / 1000),
        machines => grouped(usize::try_from(machines).unwrap_or(usize::MAX)),
    };
    let mut levels =
        table(&["bands down to", "greedy placed", "placed", "at most", "greedy's gap", "gap"]);
    for level in &report.gap_by_level {
        levels.add_row([
            level.down_to.to_owned(),
            count(level.greedy_placed),
            count(level.placed),
            count(level.placed_upper_bound),
            percent(level.greedy_gap),
            percent(level.gap),
        ]);
    }
    let parts: Vec<String> = report
        .unplaced
        .iter()
        .map(|(resource, &part)| {
            format!(
                "{} {} (greedy {})",
                resource,
                percent(part),
                percent(report.greedy_unplaced[resource])
            )
        })
        .collect();
    let pack = &report.pack;
    format!(
        "{policy}, by {accounting}, improved within {budget}: {placed} of {tasks} tasks have a place on \
         {machines} machines, {pending} wait (greedy: {greedy})\n\
         {levels}\n\
         placed by worth, in mean machines; without a place by what is asked for: {parts}\n\
         {steps} steps, {seconds:.1} s, seed {seed}; certificates: {certificate}",
        policy = pack.policy,
        accounting = pack.accounting,
        budget = report.budget,
        placed = grouped(pack.placed_count),
        tasks = grouped(pack.task_count),
        machines = grouped(pack.machine_count),
        pending = grouped(pack.pending_count),
        greedy = grouped(report.greedy.pending_count),
        parts = parts.join(", "),
        steps = grouped(usize::try_from(report.steps).unwrap_or(usize::MAX)),
        seconds = pack.seconds,
        seed = pack.seed,
        certificate = report.certificate,
    )
}

/// Machines against what was spent.
#[must_use]
pub fn of_pareto(report: &ParetoReport) -> String {
    let mut points = table(&["budget of a trial", "machines (median)", "above the bound"]);
    for point in &report.points {
        points.add_row([point.name.clone(), grouped(point.machines_median), percent(point.gap)]);
    }
    let compact = &report.improved.compact;
    let trade = |what: &str, names: [&str; 2]| {
        let mut head = vec![what.to_owned(), format!("greedy {}", names[0])];
        head.extend(report.trade_budgets.iter().map(|budget| format!("{budget}: {}", names[0])));
        head.push(names[1].to_owned());
        table(&head.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let mut evictions =
        trade("evictions allowed", ["net worth (evicted)", "at most, by any number"]);
    for point in &report.evictions {
        let of = |worth: f64, victims: usize| format!("{worth:.2} ({})", grouped(victims));
        let mut row = vec![
            point.max_victims.map_or_else(|| "any".to_owned(), grouped),
            of(point.greedy_net_worth, point.greedy_victims),
        ];
        let by_budget = point.net_worth_by_budget.iter().zip(&point.victims_by_budget);
        row.extend(by_budget.map(|(&worth, &victims)| of(worth, victims)));
        row.push(point.net_worth_upper_bound.map_or_else(String::new, |most| format!("{most:.2}")));
        evictions.add_row(row);
    }
    let mut moves = trade("moves allowed", ["machines freed", "at most"]);
    for point in &report.moves {
        let mut row = vec![grouped(point.max_moves), format!("{:.0}", point.greedy_freed)];
        row.extend(point.freed_by_budget.iter().map(|freed| format!("{freed:.0}")));
        row.push(format!("{:.0}", point.freed_upper_bound));
        moves.add_row(row);
    }
    let of = |is_shown: bool, what: &str, rows: &dyn std::fmt::Display| {
        if is_shown { format!("{what}:\n{rows}\n") } else { String::new() }
    };
    let evictions = of(
        !report.evictions.is_empty(),
        "a batch of 1,000 tasks arrives in a cell that is 99 % full; net worth in mean machines",
        &evictions,
    );
    let moves = of(
        !report.moves.is_empty(),
        "a cell that was packed and lost a tenth of its tasks is repacked",
        &moves,
    );
    format!(
        "{policy}, by {accounting}: {tasks} tasks, {trials} trials, {allowed} may stay pending\n\
         {points}\n\
         {evictions}{moves}\
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

/// Moves that a table shows; the plan's file and JSON have all.
const MOVES_SHOWN: usize = 20;

/// A plan of moves.
#[must_use]
pub fn of_repack(report: &RepackReport) -> String {
    let mut moves = table(&["move", "task", "from", "to", "cost", "gain"]);
    for (index, step) in report.moves.iter().take(MOVES_SHOWN).enumerate() {
        moves.add_row([
            grouped(index + 1),
            step.task.clone(),
            step.from.clone(),
            step.to.clone(),
            format!("{:.3}", step.cost),
            format!("{:.3}", step.gain),
        ]);
    }
    let rest = report.move_count.saturating_sub(MOVES_SHOWN);
    let rest = if rest > 0 { format!("\nand {} more moves", grouped(rest)) } else { String::new() };
    let mut states = table(&["", "before", "after"]);
    let (before, after) = (&report.before, &report.after);
    states.add_row([
        "machines empty".to_owned(),
        grouped(before.machines_empty),
        grouped(after.machines_empty),
    ]);
    for (resource, share) in &before.stranding {
        let now = after.stranding.get(resource).copied().unwrap_or(0.0);
        states.add_row([format!("{resource} stranded"), percent(*share), percent(now)]);
    }
    let bounds: Vec<String> =
        report.upper_bounds.iter().map(|(name, bound)| format!("{name} {bound:.1}")).collect();
    let blocked: Vec<String> = report
        .blocked
        .iter()
        .map(|(group, count)| format!("\n  {} by {group}", grouped(*count)))
        .collect();
    let blocked = match blocked.is_empty() {
        true => String::new(),
        false => format!("machines still in use, and what keeps them so:{}\n", blocked.concat()),
    };
    format!(
        "{moves}{rest}\n{states}\n\
         {count} moves of cost {cost:.1} gain {gain:.1} machines ({goal}), {each:.3} a move; \
         greedy's {greedy:.1}, at most {bound:.1} ({bounds}): {gap} of that is missing\n\
         {blocked}\
         start: {start}, by {accounting}, {over} of {machines} machines over-committed, {tasks} tasks; \
         {seconds:.1} s, {steps} steps, seed {seed}",
        count = grouped(report.move_count),
        cost = report.cost,
        gain = report.gain,
        goal = if report.goal == "machines" { "freed" } else { "no longer stranded" },
        each = report.gain_per_move,
        greedy = report.greedy_gain,
        bound = report.upper_bound,
        bounds = bounds.join(", "),
        gap = percent(report.gap),
        start = report.start,
        accounting = report.accounting,
        over = grouped(report.machines_overcommitted),
        machines = grouped(report.machine_count),
        tasks = grouped(report.task_count),
        seconds = report.seconds,
        steps = report.steps,
        seed = report.seed,
    )
}

/// What the search could not move, on a line of its own; nothing where that is nothing.
fn held(held: HeldCount) -> String {
    let HeldCount { spread, allocs, tied, kubernetes, avoiding } = held;
    let reasons: Vec<String> = [
        (spread, "with limits on spread"),
        (allocs, "allocs or in allocs"),
        (tied, "tied to machines"),
        (kubernetes, "in a Kubernetes cluster"),
        (avoiding, "that crashed on some machine"),
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

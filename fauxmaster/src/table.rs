//! Results as tables for people.

use comfy_table::{CellAlignment, Table, presets};
use scheduler::Snapshot;
use scheduler::feasible::Infeasible;
use scheduler::why::Explanation;

use crate::kube::check::{CheckReport, PluginResult};
use crate::kube::decisions::{Agreement, DecisionsReport, Difference};
use crate::report::{CompactReport, PackReport};

/// A table whose columns, but for the first, hold numbers.
#[must_use]
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(header.iter().copied());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A share as a percentage: `1.27 %`.
#[must_use]
pub fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// `n` with thin groups of thousands: `126,442`.
#[must_use]
pub fn grouped(n: usize) -> String {
    indicatif::HumanCount(n as u64).to_string()
}

fn memory(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "not known".to_owned(), |bytes| format!("{} MiB", bytes >> 20))
}

/// How cases with known outcomes went.
#[must_use]
pub fn of_kube_check(report: &CheckReport) -> String {
    let mut plugins = table(&["plugin", "pass", "fail", "not run"]);
    let row = |name: &str, result: &PluginResult| {
        [name.to_owned(), grouped(result.passed), grouped(result.failed), grouped(result.not_run)]
    };
    for (name, result) in &report.plugins {
        plugins.add_row(row(name, result));
    }
    let total = report.total();
    plugins.add_row(row("all", &total));
    let mut text = plugins.to_string();
    if total.not_run > 0 {
        text.push_str(
            "\nnot run: cases of the horizontal pod autoscaler, which is not modelled yet",
        );
    }
    for failure in &report.failures {
        text.push_str(&format!("\n{} {}: {}", failure.plugin, failure.id, failure.found));
    }
    text
}

/// How many differences are listed one by one.
const DIFFERENCES_LISTED: usize = 20;

/// How a recorded run of the real scheduler compares.
#[must_use]
pub fn of_kube_decisions(report: &DecisionsReport) -> String {
    let mut decisions = table(&["decision", "agree", "compared"]);
    let mut add = |name: &str, agreement: &Agreement| {
        if agreement.compared > 0 {
            let (agreeing, compared) = (grouped(agreement.agreeing), grouped(agreement.compared));
            decisions.add_row([name.to_owned(), agreeing, compared]);
        }
    };
    add("placed on one of the best nodes", &report.placements);
    add("unschedulable", &report.unschedulable);
    add("unschedulable, in the same words", &report.messages);
    add("preempted the same victims", &report.preemptions);
    for (name, agreement) in &report.scores {
        add(&format!("scores of all feasible nodes: {name}"), agreement);
    }
    let mut text = format!(
        "kube-scheduler {}, percentageOfNodesToScore {}: {} pods on {} nodes\n{decisions}",
        report.kube_scheduler,
        report.percentage_of_nodes_to_score,
        grouped(report.pod_count),
        grouped(report.node_count),
    );
    for difference in report.differences.iter().take(DIFFERENCES_LISTED) {
        let Difference { order, pod, found } = difference;
        text.push_str(&format!("\n{order} {pod}: {found}"));
    }
    let more = report.differences.len().saturating_sub(DIFFERENCES_LISTED);
    if more > 0 {
        text.push_str(&format!("\nand {} more", grouped(more)));
    }
    text
}

/// A packing's figures.
#[must_use]
pub fn of_pack(report: &PackReport) -> String {
    let mut bands = table(&["band", "placed", "pending"]);
    for band in cell::Band::ALL.iter().rev() {
        let count = |by_band: &crate::report::ByBand| by_band.get(band.name()).copied();
        let (placed, pending) = (count(&report.placed_by_band), count(&report.pending_by_band));
        if placed.is_some() || pending.is_some() {
            let shown = |count: Option<usize>| grouped(count.unwrap_or(0));
            bands.add_row([band.name().to_owned(), shown(placed), shown(pending)]);
        }
    }
    bands.add_row(["all".to_owned(), grouped(report.placed_count), grouped(report.pending_count)]);
    let mut resources = table(&["resource", "allocated", "stranded"]);
    for (name, allocated) in &report.allocation {
        let stranded = report.stranding.get(name).copied().unwrap_or(0.0);
        resources.add_row([(*name).to_owned(), percent(*allocated), percent(stranded)]);
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate to be shown"
    )]
    let rate = grouped(report.decisions_per_second as usize);
    let preempted = match report.preempted_count {
        0 => String::new(),
        count => format!("{} running tasks preempted\n", grouped(count)),
    };
    format!(
        "{policy}, by {accounting}: {tasks} tasks on {machines} machines, seed {seed}\n\
         {bands}\n{resources}\n\
         {preempted}{empty} machines left empty\n\
         {seconds:.3} s, {rate} decisions per second, peak memory {memory}\n\
         assignment {hash}",
        policy = report.policy,
        accounting = report.accounting,
        tasks = grouped(report.task_count),
        machines = grouped(report.machine_count),
        seed = report.seed,
        empty = grouped(report.machines_empty),
        seconds = report.seconds,
        memory = memory(report.peak_memory_bytes),
        hash = report.assignment_hash,
    )
}

/// A compaction's figures.
#[must_use]
pub fn of_compact(report: &CompactReport) -> String {
    let mut trials = table(&["trial", "machines", "lower bound", "above the bound"]);
    for (index, (&machines, &bound)) in
        report.machines_by_trial.iter().zip(&report.lower_bound_by_trial).enumerate()
    {
        #[expect(clippy::cast_precision_loss, reason = "counts of machines")]
        let above = machines as f64 / bound.max(1) as f64 - 1.0;
        trials.add_row([index.to_string(), grouped(machines), grouped(bound), percent(above)]);
    }
    let who = if report.pending_only_picky {
        "picky tasks may stay pending"
    } else {
        "tasks may stay pending (any: this workload has no picky ones)"
    };
    let softened = match report.jobs_softened {
        0 => String::new(),
        count => format!("; {count} jobs larger than half the cell have soft constraints"),
    };
    format!(
        "{policy}, by {accounting}: {tasks} tasks need {p90} machines \
         (90th percentile of {count} trials; median {median}, {min} to {max})\n\
         {trials}\n\
         {allowed} {who}{softened}; machines drawn from {clones} {copies} of the cell\n\
         {packings} packings in {seconds:.1} s, seed {seed}",
        policy = report.policy,
        accounting = report.accounting,
        tasks = grouped(report.task_count),
        p90 = grouped(report.machines_p90),
        count = report.trials,
        median = grouped(report.machines_median),
        min = grouped(report.machines_min),
        max = grouped(report.machines_max),
        allowed = grouped(report.pending_allowed),
        clones = report.clones,
        copies = if report.clones == 1 { "copy" } else { "copies" },
        packings = report.packings,
        seconds = report.seconds,
        seed = report.seed,
    )
}

fn count(count: usize, noun: &str) -> String {
    format!("{} {noun}{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// Why a task is pending.
#[must_use]
pub fn of_why(name: &str, explanation: &Explanation, is_in_alloc: bool) -> String {
    let host = if is_in_alloc { "alloc" } else { "machine" };
    let mut reasons = table(&["reason, the first that rules a host out", "count"]);
    for (reason, ruled_out) in &explanation.ruled_out {
        reasons.add_row([Infeasible::to_string(reason), grouped(*ruled_out)]);
    }
    if explanation.feasible_count > 0 {
        reasons
            .add_row(["none: it fits there now".to_owned(), grouped(explanation.feasible_count)]);
    }
    let all = count(explanation.host_count, host);
    let changes = if explanation.changes.is_empty() {
        "no single change of the task would place it".to_owned()
    } else {
        let lines: Vec<String> = explanation
            .changes
            .iter()
            .map(|change| format!("  {}: {}", change.what, count(change.host_count, host)))
            .collect();
        format!("single changes that would place it, the smallest first:\n{}", lines.join("\n"))
    };
    format!("{name} is pending; of {all}:\n{reasons}\n{changes}")
}

/// Where a task is.
#[must_use]
pub fn of_placed(name: &str, end: &Snapshot<'_>, row: usize) -> String {
    let slot = end.slot(row);
    let machine = &end.cell().machine(slot.machine).name;
    let inside = end
        .alloc(row)
        .map(|alloc| format!(" in alloc {}", end.cell().task_name(alloc)))
        .unwrap_or_default();
    format!("{name} is not pending: it is placed on machine {machine}{inside}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(126_442), "126,442");
    }
}

//! Plans of moves: replayed by a slow check of their own, against every set of moves on tiny cells, and the
//! program.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Output};

use cell::{Host, JobId, MachineId, TaskId, TaskState};
use fauxmaster::PackOptions;
use optimizer::budget::Budget;
use optimizer::objective::Objective;
use optimizer::repack::{Goal, Limit, RepackOptions, Start, repack};
use optimizer::report::RepackReport;
use proptest::prelude::{ProptestConfig, Strategy, TestCaseError};
use proptest::test_runner::RngSeed;
use proptest::{prop_assert, prop_assert_eq, prop_oneof, proptest};
use scheduler::{Accounting, Policy, Slot};
use serde_json::{Value, json};
use traces::Trace;

use crate::small::{On, admits, cases, running, trace};

fn limits() -> impl Strategy<Value = Limit> {
    prop_oneof![(0..6_usize).prop_map(Limit::Moves), (0..4000_u64).prop_map(Limit::Cost)]
}

fn options(goal: Goal, limit: Limit, budget: Budget) -> RepackOptions {
    RepackOptions {
        pack: PackOptions::new(Policy::by_name("borg-hybrid").unwrap(), 1),
        start: Start::Recorded,
        goal,
        limit,
        budget,
    }
}

fn recorded(trace: &Trace) -> On {
    let mut on: On = vec![Vec::new(); trace.cell.machines.len()];
    for (id, _, task) in trace.cell.tasks() {
        if let TaskState::Running { on: Some(Host::Machine(machine)) } = task.state {
            on[machine.index()].push(id);
        }
    }
    on
}

fn empty_count(on: &On) -> usize {
    on.iter().filter(|tasks| tasks.is_empty()).count()
}

/// Carries a plan out, each step checked by itself.
fn check_plan(trace: &Trace, limit: Limit, report: &RepackReport) -> Result<(), TestCaseError> {
    let cell = &trace.cell;
    let slots = Slot::all(cell);
    let row_of: BTreeMap<&str, usize> =
        cell.machines.iter().enumerate().map(|(row, m)| (m.name.as_str(), row)).collect();
    let mut on = recorded(trace);
    let start = on.clone();
    prop_assert_eq!(report.before.machines_empty, empty_count(&on));
    let objective = Objective::of(cell, Accounting::Limits);
    let mut moved: BTreeSet<TaskId> = BTreeSet::new();
    let mut of_job: BTreeMap<JobId, u32> = BTreeMap::new();
    let mut cost = 0;
    for step in &report.moves {
        let task = cell.find_task(&step.task).unwrap();
        let (from, to) = (row_of[step.from.as_str()], row_of[step.to.as_str()]);
        prop_assert!(from != to && on[from].contains(&task), "{step:?}");
        prop_assert!(!start[to].is_empty(), "an empty machine takes something: {step:?}");
        prop_assert!(admits(cell, slots[to], &on[to], task), "does not fit: {step:?}");
        on[to].push(task);
        on[from].retain(|&other| other != task);
        prop_assert!(moved.insert(task), "moves twice: {step:?}");
        *of_job.entry(task.job).or_default() += 1;
        cost += objective.share(task);
    }
    for (job, count) in of_job {
        prop_assert!(cell.job(job).max_disrupted.is_none_or(|max| count <= max));
    }
    match limit {
        Limit::Moves(most) => prop_assert!(report.moves.len() <= most),
        Limit::Cost(most) => prop_assert!(cost <= most),
    }
    prop_assert_eq!(report.after.machines_empty, empty_count(&on));
    prop_assert!(report.gain <= report.upper_bound + 1e-9, "{report:?}");
    prop_assert!(report.greedy_gain <= report.gain);
    prop_assert_eq!(report.moves.is_empty(), report.reason.is_some());
    Ok(())
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn plans_that_free_machines_hold(trace in running(), limit in limits()) {
        let of = |budget| repack(&trace, &options(Goal::Machines, limit, budget)).unwrap();
        let mut found = of(Budget::Steps(12));
        check_plan(&trace, limit, &found)?;
        let freed = found.after.machines_empty - found.before.machines_empty;
        prop_assert_eq!(freed.to_string(), found.gain.to_string());
        let gains: f64 = found.moves.iter().map(|step| step.gain).sum();
        prop_assert!((gains - found.gain).abs() < 1e-9);
        let kept: usize = found.blocked.values().sum();
        prop_assert_eq!(kept, trace.cell.machines.len() - found.after.machines_empty);
        let greedy = of(Budget::ZERO);
        check_plan(&trace, limit, &greedy)?;
        prop_assert!(greedy.gain <= found.gain && greedy.gain.to_string() == found.greedy_gain.to_string());
        // The same once more.
        let mut again = of(Budget::Steps(12));
        (found.seconds, again.seconds) = (0.0, 0.0);
        prop_assert_eq!(found, again);
    }

    #[test]
    fn plans_against_stranding_hold(trace in running(), limit in limits()) {
        let found = repack(&trace, &options(Goal::Stranded, limit, Budget::ZERO)).unwrap();
        check_plan(&trace, limit, &found)?;
        // A resource's mean capacity is the unit: so shares add up to machines.
        let sum = |shares: &BTreeMap<&'static str, f64>| shares.values().sum::<f64>();
        let count = f64::from(u32::try_from(trace.cell.machines.len()).unwrap());
        let gain = (sum(&found.before.stranding) - sum(&found.after.stranding)) * count;
        prop_assert!((gain - found.gain).abs() < 1e-6, "{} {}", gain, found.gain);
        prop_assert!(found.moves.iter().all(|step| step.gain > 0.0));
    }
}

/// The most machines that up to `left` moves free, by trying all sequences; `is_direct`: only those that
/// move nothing off a machine that is in use in the end.
fn most(trace: &Trace, left: usize, is_direct: bool) -> usize {
    let on = recorded(trace);
    let search = &mut Search { trace, start: on.clone(), on, moved: Vec::new(), is_direct };
    search.run(left)
}

struct Search<'t> {
    trace: &'t Trace,
    start: On,
    on: On,
    moved: Vec<(TaskId, usize)>,
    is_direct: bool,
}

impl Search<'_> {
    fn run(&mut self, left: usize) -> usize {
        let cell = &self.trace.cell;
        let slots = Slot::all(cell);
        let counts =
            !self.is_direct || self.moved.iter().all(|&(_, from)| self.on[from].is_empty());
        let gained = empty_count(&self.on).saturating_sub(empty_count(&self.start));
        let mut best = if counts { gained } else { 0 };
        if left == 0 {
            return best;
        }
        for from in 0..self.on.len() {
            for index in 0..self.on[from].len() {
                let task = self.on[from][index];
                let of_job = self.moved.iter().filter(|(other, _)| other.job == task.job).count();
                let max = cell.job(task.job).max_disrupted.map_or(usize::MAX, |max| max as usize);
                if of_job >= max || self.moved.iter().any(|&(other, _)| other == task) {
                    continue;
                }
                for (to, &slot) in slots.iter().enumerate() {
                    if from == to
                        || self.start[to].is_empty()
                        || !admits(cell, slot, &self.on[to], task)
                    {
                        continue;
                    }
                    self.on[from].remove(index);
                    self.on[to].push(task);
                    self.moved.push((task, from));
                    best = best.max(self.run(left - 1));
                    self.moved.pop();
                    self.on[to].pop();
                    self.on[from].insert(index, task);
                }
            }
        }
        best
    }
}

proptest! {
    // The same cells each time: a search may miss what is there, on a cell that nobody has seen yet.
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(7), ..cases(200) })]

    #[test]
    fn the_search_reaches_what_trying_everything_finds(trace in running(), moves in 1..4_usize) {
        let limit = Limit::Moves(moves);
        let found = repack(&trace, &options(Goal::Machines, limit, Budget::Steps(40))).unwrap();
        prop_assert_eq!(&found.failures, &Vec::<String>::new());
        let truth = f64::from(u32::try_from(most(&trace, moves, false)).unwrap());
        prop_assert!(found.gain <= truth && truth <= found.upper_bound, "{} {:?}", truth, found);
        let direct = f64::from(u32::try_from(most(&trace, moves, true)).unwrap());
        prop_assert!(found.gain >= direct, "{} {:?}", direct, found);
        // On cells this small chains of one make up for all others.
        prop_assert_eq!(found.gain.to_string(), truth.to_string());
    }
}

/// A machine of 8 CPU for each list, with a job of one task of each of these CPUs.
fn fleet(machines: &[&[u64]], more: &Value) -> Trace {
    let specs = [json!({"name": "m", "count": machines.len(), "cpu": 8, "ram": 8})];
    let mut jobs = Vec::new();
    for (row, cpus) in machines.iter().enumerate() {
        for (index, cpu) in cpus.iter().enumerate() {
            let mut job = json!({"name": format!("j{row}-{index}"), "user": "u", "priority": 200,
                "limit": {"cpu": cpu, "ram": 1}});
            job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            jobs.push(job);
        }
    }
    let mut trace = trace(&specs, &jobs);
    let rows = machines.iter().enumerate().flat_map(|(row, cpus)| cpus.iter().map(move |_| row));
    for (row, job) in rows.zip(trace.cell.jobs.iter_mut()) {
        let host = Host::Machine(MachineId::from_index(row));
        job.tasks[0].state = TaskState::Running { on: Some(host) };
    }
    trace
}

#[test]
fn greedy_frees_what_is_cheapest_and_the_search_more() {
    // Cheapest first, the 3 takes the last room that both of 2 + 2 need: either the one or the other
    // by the limit, and one move frees one machine.
    let trace = fleet(&[&[3], &[2, 2], &[5], &[7]], &json!({}));
    let found = |moves, budget| {
        repack(&trace, &options(Goal::Machines, Limit::Moves(moves), budget)).unwrap()
    };
    let greedy = found(1, Budget::ZERO);
    assert_eq!((greedy.moves.len(), greedy.after.machines_empty), (1, 1));
    assert_eq!(found(0, Budget::Steps(4)).gain, 0.0);
    assert!(found(0, Budget::ZERO).reason.unwrap().contains("the limit on moves"));
    assert_eq!(found(10, Budget::Steps(20)).after.machines_empty, 1);
}

#[test]
fn one_task_is_moved_on_to_make_room_for_another() {
    // 4 fits nowhere until 3 goes from 3 + 2 + 2 to 5.
    let trace = fleet(&[&[4], &[3, 2, 2], &[5]], &json!({}));
    let found = |moves, budget| {
        repack(&trace, &options(Goal::Machines, Limit::Moves(moves), budget)).unwrap()
    };
    let chained = found(2, Budget::Steps(20));
    assert_eq!(chained.gain, 1.0);
    let tasks: Vec<&str> = chained.moves.iter().map(|step| step.task.as_str()).collect();
    assert_eq!(tasks, ["j1-0/0", "j0-0/0"]);
}

#[test]
fn what_keeps_machines_in_use_is_named() {
    let check = |machines: &[&[u64]], more: &Value, group: &str, count: usize| {
        let trace = fleet(machines, more);
        let options = options(Goal::Machines, Limit::Moves(9), Budget::Steps(4));
        let report = repack(&trace, &options).unwrap();
        assert_eq!(report.blocked.get(group), Some(&count), "{:?}", report.blocked);
        let reason = report.reason.unwrap();
        assert!(reason.contains(&format!("{count} blocked by {group}")), "{reason}");
        assert_eq!(reason.lines().count(), 1);
    };
    check(&[&[3], &[3]], &json!({"max_disrupted": 0}), "disruption limits", 2);
    check(&[&[3], &[3]], &json!({"tied_to_machines": true}), "allocs and tied tasks", 2);
    check(&[&[5], &[5]], &json!({}), "no room (cpu)", 2);
    check(&[&[5, 1], &[]], &json!({}), "no other machine in use", 1);
    let trace = fleet(&[&[3], &[3]], &json!({"max_disrupted": 0}));
    let stranded = options(Goal::Stranded, Limit::Moves(9), Budget::ZERO);
    let reason = repack(&trace, &stranded).unwrap().reason.unwrap();
    assert!(reason.ends_with("2 blocked by disruption limits"), "{reason}");
}

fn optimizer(folder: &Path, args: &[&str]) -> Output {
    let program =
        Command::new(env!("CARGO_BIN_EXE_optimizer")).args(args).current_dir(folder).output();
    program.unwrap()
}

#[test]
fn bad_input_is_refused_in_one_line() {
    let check = |args: &[&str], part: &str| {
        let folder = tempfile::tempdir().unwrap();
        let output = optimizer(folder.path(), &[&["repack", "--plan", "p.json"], args].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(part), "{said}");
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    };
    check(&[], "--max-moves");
    check(&["--max-moves", "5", "--max-move-cost", "1"], "--max-move");
    check(&["--max-moves", "-5"], "--max-moves");
    check(&["--max-moves", "many"], "--max-moves");
    check(&["--max-move-cost", "-0.5"], "--max-move-cost");
    check(&["--max-move-cost", "nan"], "--max-move-cost");
    check(&["--max-moves", "5", "--churn", "0.1"], "--churn");
    check(&["--max-moves", "5", "--start", "packed", "--churn", "1"], "--churn");
    check(&["--max-moves", "5", "--start", "packed", "--churn", "-0.1"], "--churn");
    check(&["--max-moves", "5", "--budget", "soon"], "is no budget");
    check(&["--max-moves", "5", "--goal", "fame"], "--goal");
}

#[test]
fn the_program_plans_and_says_what_is_gained() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["repack", "--start", "packed", "--churn", "0.1", "--max-moves", "40"];
    let run = |more: &[&str]| optimizer(folder.path(), &[&args[..], more].concat());
    let answer = |more: &[&str]| -> Value {
        let output = run(more);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        answer["seconds"].take();
        answer
    };
    let one = answer(&["--budget", "2steps", "--json", "--plan", "plan.json"]);
    assert_eq!(one, answer(&["--budget", "2steps", "--json"]));
    let moves = one["moves"].as_array().unwrap();
    assert_eq!(one["move_count"], moves.len());
    assert!(!moves.is_empty() && moves.len() <= 40);
    for key in ["task", "from", "to", "cost", "gain"] {
        assert!(!moves[0][key].is_null(), "{key}");
    }
    for key in ["machines_empty", "stranding"] {
        assert!(!one["before"][key].is_null() && !one["after"][key].is_null(), "{key}");
    }
    for key in ["cost", "gain", "gain_per_move", "greedy_gain", "upper_bound", "gap", "blocked"] {
        assert!(!one[key].is_null(), "{key}");
    }
    let plan = std::fs::read_to_string(folder.path().join("plan.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&plan).unwrap(), one["moves"]);
    let table = run(&["--budget", "0"]);
    let text = String::from_utf8_lossy(&table.stdout);
    assert!(text.contains("more moves") && text.contains("at most"), "{text}");
    let stranded = answer(&["--goal", "stranded", "--json"]);
    assert!(stranded["gain"].as_f64().unwrap() > 0.0);
    assert_eq!(stranded["move_count"], 40);
}

//! The program: answers, bad input, and what it writes.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn optimizer(folder: &Path, args: &[&str]) -> Output {
    let program =
        Command::new(env!("CARGO_BIN_EXE_optimizer")).args(args).current_dir(folder).output();
    program.unwrap()
}

fn examples() -> String {
    format!("cell:{}/../../examples/constraints", env!("CARGO_MANIFEST_DIR"))
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Bad input ends with code 2, one line, and nothing written.
fn check_refused(args: &[&str], part: &str) {
    let folder = tempfile::tempdir().unwrap();
    let output = optimizer(folder.path(), args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(part), "{said}");
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

#[test]
fn bad_input_is_refused_in_one_line() {
    check_refused(&["compact", "--budget", "soon"], "is no budget");
    check_refused(&["compact", "--budget", "10"], "is no budget");
    check_refused(&["pareto", "--budgets", "1s,200steps", "--trials", "1"], "all work or all time");
    check_refused(&["bound", "--pending-allowance", "1.5"], "not in 0..1");
    check_refused(&["bound", "--trace", "nowhere"], "nowhere");
    check_refused(&["compact", "--against", "best-fit,worst"], "worst");
    check_refused(&["verify", "--certificate", "missing.json"], "missing.json");
}

#[test]
fn a_certificate_of_another_workload_or_one_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.json");
    let google = ["--trials", "1", "--certificate", "c.json"];
    json(&optimizer(folder.path(), &[&["bound", "--json", "--rounds", "0"], &google[..]].concat()));
    let check = |args: &[&str], part: &str| {
        let output = optimizer(folder.path(), &[&["verify"], &google[..], args].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(part) && said.lines().count() == 1, "{said}");
    };
    assert!(optimizer(folder.path(), &[&["verify"], &google[..]].concat()).status.success());
    check(&["--trace", &examples()], "not of this workload");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("\"version\":1", "\"version\":2", 1)).unwrap();
    check(&[], "version 2");
    let mut lowered: Value = serde_json::from_str(&text).unwrap();
    let value = &mut lowered["certificates"][0]["machines"][4]["value"];
    *value = (value.as_u64().unwrap() - 1).into();
    std::fs::write(&file, lowered.to_string()).unwrap();
    check(&[], "proves");
    std::fs::write(&file, "{").unwrap();
    check(&[], "c.json");
}

#[test]
fn a_budget_of_zero_is_greedy_and_work_gives_the_same_on_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let compact = |more: &[&str]| {
        let args = ["compact", "--pending-allowance", "0", "--trials", "2", "--json"];
        let mut answer = json(&optimizer(folder.path(), &[&args[..], more].concat()));
        answer["seconds"].take();
        answer["search_seconds_by_trial"].take();
        answer["path_by_trial"].take();
        answer
    };
    let greedy = compact(&["--budget", "0"]);
    assert_eq!(greedy["machines_by_trial"], greedy["greedy_by_trial"]);
    let one = compact(&["--budget", "20000steps", "--threads", "1"]);
    let two = compact(&["--budget", "20000steps", "--threads", "2"]);
    assert_eq!(one, two);
    for trial in 0..2 {
        let of = |key: &str| one[key][trial].as_u64().unwrap();
        assert!(of("machines_by_trial") < of("greedy_by_trial"));
        assert!(of("machines_by_trial") >= of("lower_bound_by_trial"));
    }
}

#[test]
fn more_budget_is_never_worse() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["pareto", "--pending-allowance", "0", "--trials", "1", "--json", "--trade", "none"];
    let budgets = ["--budgets", "15000steps,5000steps,10000steps"];
    let answer = json(&optimizer(folder.path(), &[&args[..], &budgets[..]].concat()));
    let points = answer["points"].as_array().unwrap();
    let names: Vec<&str> = points.iter().map(|point| point["name"].as_str().unwrap()).collect();
    assert_eq!(names[..4], ["greedy", "5000 steps", "10000 steps", "15000 steps"]);
    let machines: Vec<u64> =
        points.iter().map(|point| point["machines_median"].as_u64().unwrap()).collect();
    assert!(machines.is_sorted_by(|a, b| a >= b), "{machines:?}");
    assert!(machines[0] > machines[3]);
}

#[test]
fn what_cannot_be_held_is_answered_with_no_and_names_the_constraints_to_blame() {
    // Job `nowhere` wants an old kernel and many cores, and no machine has both.
    let folder = tempfile::tempdir().unwrap();
    let args = ["--trace", &examples(), "--trials", "2", "--certificate", "c.json"];
    let tolerant = ["bound", "--pending-allowance", "0.2", "--rounds", "0"];
    assert!(optimizer(folder.path(), &[&tolerant, &args[..]].concat()).status.success());
    for command in ["bound", "verify", "compact", "pareto"] {
        let output = optimizer(folder.path(), &[&[command], &args[..]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        let why = "because of cores > 16 or kernel < 6, each of which is enough \
                   (for example job nowhere)";
        assert!(said.contains(why), "{command}: {said}");
    }
}

#[test]
fn other_policies_are_compared_on_the_same_trials() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["compact", "--pending-allowance", "0", "--trials", "2", "--budget", "3000steps"];
    let against = ["--against", "best-fit,borg-hybrid"];
    let answer = json(&optimizer(folder.path(), &[&args[..], &against, &["--json"]].concat()));
    let others = answer["against"].as_array().unwrap();
    assert_eq!(others[0]["policy"], "best-fit");
    assert_eq!(others[1]["machines_by_trial"], answer["greedy_by_trial"]);
    let zero = serde_json::json!({"mean": 0.0, "low": 0.0, "high": 0.0});
    assert_eq!(others[1]["greedy_fewer_percent"], zero);
    let machines = |of: &Value, trial: usize| of[trial].as_f64().unwrap();
    for other in others {
        let fewer = |trial: usize| {
            let theirs = machines(&other["machines_by_trial"], trial);
            100.0 * (theirs - machines(&answer["machines_by_trial"], trial)) / theirs
        };
        let found = &other["fewer_percent"];
        let mean = (fewer(0) + fewer(1)) / 2.0;
        assert!((found["mean"].as_f64().unwrap() - mean).abs() < 1e-9);
        assert!(found["low"].as_f64().unwrap() <= mean && mean <= found["high"].as_f64().unwrap());
    }
    let one = ["compact", "--trace", &examples(), "--pending-allowance", "0.2", "--trials", "1"];
    let output = optimizer(folder.path(), &[&one[..], &["--against", "best-fit"]].concat());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("an interval, which needs two trials"), "{said}");
}

#[test]
fn tasks_that_the_search_cannot_move_are_counted_by_reason() {
    let folder = tempfile::tempdir().unwrap();
    let check = |example: &str, held: &[(&str, u64)]| {
        let trace = format!("cell:{}/../../examples/{example}", env!("CARGO_MANIFEST_DIR"));
        let args = ["compact", "--trace", &trace, "--pending-allowance", "0.5", "--trials", "1"];
        let args = [&args[..], &["--clone", "4", "--budget", "0"]].concat();
        let report = json(&optimizer(folder.path(), &[&args[..], &["--json"]].concat()));
        for key in ["spread", "allocs", "tied", "kubernetes"] {
            let of = held.iter().find(|(name, _)| *name == key).map_or(0, |(_, count)| *count);
            assert_eq!(report["held"][key], of, "{example}: {key}");
        }
        let said = optimizer(folder.path(), &args).stdout;
        let is_said = String::from_utf8_lossy(&said).contains("left where greedy put them");
        assert_eq!(is_said, !held.is_empty(), "{example}");
    };
    check("constraints", &[]);
    check("gpus", &[]);
}

#[test]
fn batches_are_better_than_greedy_and_the_same_on_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let batch = |threads: &str| {
        let args = ["batch", "--machines", "2000", "--fill", "0.99", "--tasks", "200", "--json"];
        let more = ["--budget", "300steps", "--threads", threads];
        let mut answer = json(&optimizer(folder.path(), &[&args[..], &more].concat()));
        answer["batches"][0]["seconds"].take();
        answer["batches"][0]["greedy_seconds"].take();
        answer
    };
    let one = batch("1");
    assert_eq!(one, batch("2"));
    assert_eq!(one["better_count"], 1);
    let found = &one["batches"][0];
    assert!(found["solves"].as_u64().unwrap() > 0, "no part was solved: {found}");
    let figure = |plan: &str, key: &str| found[plan][key].as_f64().unwrap();
    assert!(figure("plan", "net_worth_machines") > figure("greedy", "net_worth_machines"));
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    check_refused(&["batch", "--start", "recorded", "--fill", "0.5"], "give no --fill");
    check_refused(&["batch", "--start", "recorded", "--tasks", "5"], "no --tasks");
    check_refused(&["batch", "--start", "recorded", "--batches", "2"], "no --batches");
    check_refused(&["batch", "--fill", "-1"], "not in 0..=1");
    check_refused(&["batch", "--max-victims", "-1"], "--max-victims");
    check_refused(&["batch", "--trace", &examples()], "smaller --fill");
    check_refused(&["pareto", "--trade", "none,moves"], "goes with no other");
    let manifests = format!("manifests:{}/../../examples/manifests", env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let args = ["batch", "--trace", &manifests, "--start", "recorded", "--max-victims", "1"];
    let output = optimizer(folder.path(), &args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("Kubernetes cluster"), "{said}");
}

#[test]
fn a_certificate_of_what_can_be_placed_says_nothing_of_machines() {
    let folder = tempfile::tempdir().unwrap();
    let of = ["--trace", &examples(), "--certificate", "c.json"];
    let packed = json(&optimizer(folder.path(), &[&["pack", "--json"], &of[..]].concat()));
    assert!(packed["gap"].as_f64().unwrap() >= 0.0);
    let output = optimizer(folder.path(), &[&["verify"], &of[..]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("how much can be placed") && said.lines().count() == 1, "{said}");
}

//! The Kubernetes model against recorded cases and decisions.

use std::path::{Path, PathBuf};

use fauxmaster::kube::{check, decisions};

/// A folder of the reference material beside the checkout. Without it the test is skipped, but not in CI.
fn reference(name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = root.join("shared/reference").join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!is_ci, "{} is missing", folder.display());
    let message = format!("skipped: {} is not there\n", folder.display());
    std::io::Write::write_all(&mut std::io::stderr(), message.as_bytes()).unwrap();
    None
}

fn check_cases(folder: &Path) {
    let report = check::check_folder(folder).unwrap();
    assert_eq!(report.failures, []);
    assert!(report.total().passed > 30, "{:?}", report.total());
}

#[test]
fn every_case_of_our_own_passes() {
    check_cases(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../cases/kubernetes"));
}

#[test]
fn every_recorded_case_passes() {
    let Some(folder) = reference("kube-scheduler-cases") else { return };
    check_cases(&folder);
    let report = check::check_folder(&folder).unwrap();
    assert_eq!((report.total().passed, report.total().not_run), (117, 39));
}

#[test]
fn every_recorded_decision_agrees() {
    for (name, expected) in [("small", [177, 23, 0]), ("preempt", [81, 5, 54])] {
        let Some(folder) = reference("kube-decisions") else { return };
        let report = decisions::follow(&folder.join(name), &|_, _| {}).unwrap();
        assert_eq!(report.differences, [], "{name}");
        let compared = [report.placements, report.unschedulable, report.preemptions]
            .map(|agreement| agreement.compared);
        assert_eq!(compared, expected, "{name}");
        assert!(report.messages.is_full() && report.messages.compared == expected[1], "{name}");
        assert_eq!(report.scores.len(), 9, "{name}");
        assert!(report.scores.values().all(|a| a.is_full() && a.compared > 70), "{name}");
    }
}

#[test]
fn a_wrong_expectation_fails_and_says_what_was_found() {
    let text = r#"{"schema_version":1,"plugin":"fit","cases":[
        {"id":"a","name":"n","kind":"fit_filter","nodes":[{"name":"n","allocatable":{"cpu_milli":1}}],
         "pod":{"containers":[{"requests":{"cpu_milli":2}}]},"expected":{"status":"Success"}},
        {"id":"b","name":"n","kind":"fit_filter","nodez":[],"expected":{}},
        {"id":"c","name":"n","kind":"hpa_value","hpa":{},"expected":{}},
        {"id":"d","name":"n","kind":"other","expected":{}}]}"#;
    let mut report = check::CheckReport::default();
    check::check_text(text, &mut report).unwrap();
    let total = report.total();
    assert_eq!((total.passed, total.failed, total.not_run), (0, 3, 1));
    let found: Vec<&str> = report.failures.iter().map(|failure| failure.found.as_str()).collect();
    assert!(
        found[0].contains("\"UnschedulableAndUnresolvable\" instead of \"Success\""),
        "{found:?}"
    );
    assert!(found[1].contains("unknown field `nodez`"), "{found:?}");
    assert!(found[2].contains("\"other\" is not known"), "{found:?}");
}

fn recording(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let sound = [
        (
            "run.json",
            r#"{"kube_scheduler":"1.20.2","percentage_of_nodes_to_score":100,"pods_per_node":110}"#,
        ),
        ("nodes.csv", "name,cpu_milli,memory_mib,gpu\na,1000,1000,0\nb,2000,1000,0\n"),
        ("pods.csv", "name,cpu_milli,memory_mib,num_gpu,priority\np,500,100,0,0\n"),
        ("assignments.csv", "order,pod,node,nominated_first\n0,p,b,\n"),
        ("preemptions.csv", "victim,victim_priority,node,preemptor,preemptor_priority,at_order\n"),
    ];
    for (name, text) in sound.iter().chain(files) {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

#[test]
fn a_decision_that_differs_is_named() {
    let check = |assignment: &str, part: &str| {
        let text = format!("order,pod,node,nominated_first\n{assignment}\n");
        let folder = recording(&[("assignments.csv", &text)]);
        let report = decisions::follow(folder.path(), &|_, _| {}).unwrap();
        let found = report.differences.first().map_or("", |difference| &difference.found);
        assert!(
            found.contains(part) && found.is_empty() == part.is_empty(),
            "{assignment}: {found}"
        );
    };
    check("0,p,b,", "");
    // least on a: (50 + 90) div 2 = 70, on b: (75 + 90) div 2 = 82.
    check("0,p,a,", "the best is");
    check("0,p,UNSCHEDULABLE,", "unschedulable, where a is feasible");
}

#[test]
fn a_recording_that_contradicts_itself_is_refused() {
    let check = |file: &str, text: &str, part: &str| {
        let folder = recording(&[(file, text)]);
        let error = format!("{:#}", decisions::follow(folder.path(), &|_, _| {}).unwrap_err());
        assert!(error.contains(part), "{error}");
    };
    check("run.json", "{}", "run.json: missing field `kube_scheduler`");
    check(
        "run.json",
        r#"{"kube_scheduler":"1.5.0","percentage_of_nodes_to_score":100,"pods_per_node":1}"#,
        "\"1.5.0\" is not modelled",
    );
    check("nodes.csv", "name,cpu_milli,memory_mib\na,x,1\n", "nodes.csv: CSV deserialize error");
    check("assignments.csv", "order,pod,node\n0,q,b\n", "pod \"q\" is not number 0");
    check("assignments.csv", "order,pod,node\n0,p,c\n", "no node \"c\"");
    let preemptions =
        "victim,victim_priority,node,preemptor,preemptor_priority,at_order\nv,0,a,p,1,0\n";
    check("preemptions.csv", preemptions, "victim \"v\" does not run");
    let empty = tempfile::tempdir().unwrap();
    assert!(decisions::follow(empty.path(), &|_, _| {}).is_err());
}

/// 120 full nodes, of which kube-scheduler compares 100 before it preempts.
#[test]
fn the_preempted_node_is_one_that_may_have_been_the_best_of_those_compared() {
    let check = |cheap: usize, victim: usize, agrees: bool| {
        let mut files = [
            "name,cpu_milli,memory_mib,gpu\n".to_owned(),
            "name,cpu_milli,memory_mib,num_gpu,priority\n".to_owned(),
            "order,pod,node,nominated_first\n".to_owned(),
        ];
        for i in 0..120 {
            files[0] += &format!("n{i},1000,1000,0\n");
            files[1] += &format!("p{i},1000,100,0,{}\n", u8::from(i >= cheap));
            files[2] += &format!("{i},p{i},n{i},\n");
        }
        files[1] += "high,1000,100,0,9\n";
        files[2] += &format!("120,high,n{victim},nominated\n");
        let preemptions = format!(
            "victim,victim_priority,node,preemptor,preemptor_priority,at_order\n\
             p{victim},{},n{victim},high,9,120\n",
            u8::from(victim >= cheap)
        );
        let folder = recording(&[
            ("nodes.csv", &files[0]),
            ("pods.csv", &files[1]),
            ("assignments.csv", &files[2]),
            ("preemptions.csv", &preemptions),
        ]);
        let report = decisions::follow(folder.path(), &|_, _| {}).unwrap();
        let preemptions = report.preemptions;
        assert_eq!((preemptions.compared, preemptions.is_full()), (1, agrees), "{cheap} {victim}");
    };
    check(20, 0, true);
    check(20, 119, true); // the 100 dear ones may be all that were compared
    check(21, 119, false); // one of the 100 is cheap
    check(0, 60, true);
}

//! The program from outside: reports of a small cell, their verification, and bad input.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use experiments::manifest::Manifest;
use tempfile::TempDir;

/// A cell in which policies differ: machines with much CPU or much RAM, and tasks alike.
const MACHINES: &str = r#"
version: 1
machines:
  - { name: cpu, count: 12, cpu: 16, ram: 16GiB }
  - { name: ram, count: 12, cpu: 8, ram: 64GiB }
"#;

const JOBS: &str = r#"
version: 1
jobs:
  - { name: web, user: ann, priority: 200, count: 40, limit: { cpu: 2, ram: 2GiB } }
  - { name: cache, user: bob, priority: 200, count: 20, limit: { cpu: 500m, ram: 12GiB } }
  - { name: crunch, user: cid, priority: 100, count: 90, limit: { cpu: 1500m, ram: 3GiB } }
  - { name: log, user: cid, priority: 360, count: 24, limit: { cpu: 100m, ram: 64MiB }, tied_to_machines: true }
  - { name: scratch, user: dan, priority: 10, count: 60, limit: { cpu: 300m, ram: 1GiB } }
"#;

/// A folder with the cell in `cell/`.
fn workplace() -> TempDir {
    let workplace = tempfile::tempdir().unwrap();
    let cell = workplace.path().join("cell");
    fs::create_dir(&cell).unwrap();
    fs::write(cell.join("machines.yaml"), MACHINES).unwrap();
    fs::write(cell.join("jobs.yaml"), JOBS).unwrap();
    workplace
}

fn experiments(workplace: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_experiments"))
        .args(arguments)
        .current_dir(workplace)
        .output()
        .unwrap()
}

fn compare(workplace: &Path, more: &[&str]) -> Output {
    let mut arguments = vec![
        "compare",
        "--trace",
        "cell:cell",
        "--policies",
        "borg-hybrid,best-fit,kube-default",
        "--systems",
        "borg-hybrid,kube-default",
        "--trials",
        "3",
        "--sweep",
    ];
    arguments.extend(more);
    experiments(workplace, &arguments)
}

fn succeeds(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {said}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn listing(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn a_report_is_whole_and_the_same_on_any_number_of_threads() {
    let workplace = workplace();
    let folder = workplace.path();
    let text = succeeds(&compare(folder, &["--out", "one", "--threads", "1"]));
    assert!(text.contains("under Borg’s placement") && text.contains("one/index.html"), "{text}");
    let json = succeeds(&compare(folder, &["--out", "two", "--threads", "2", "--json"]));
    let results = fs::read_to_string(folder.join("two/results.json")).unwrap();
    assert_eq!(json, results);

    let read = |report: &str| -> Manifest { Manifest::read(&folder.join(report)).unwrap() };
    let (one, two) = (read("one"), read("two"));
    assert_eq!((one.thread_count, two.thread_count), (1, 2));
    let deterministic = one.outputs.iter().filter(|output| output.deterministic);
    let names: Vec<&str> = deterministic.map(|output| output.name.as_str()).collect();
    for name in ["results.json", "results.csv", "sweep.svg", "machines-reclaimed.svg"] {
        assert!(names.contains(&name), "{names:?}");
    }
    for name in names {
        let read = |report: &str| fs::read(folder.join(report).join(name)).unwrap();
        assert!(read("one") == read("two"), "{name} depends on the number of threads");
    }
    // The folder holds what the manifest lists, the manifest, and nothing else.
    assert_eq!(listing(&folder.join("one")).len(), one.outputs.len() + 1);
    assert_eq!(listing(folder).len(), 3, "cell, one, two: {:?}", listing(folder));
}

#[test]
fn the_numbers_of_the_results_belong_together() {
    let workplace = workplace();
    let json = succeeds(&compare(workplace.path(), &["--out", "out", "--json"]));
    let results: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(results["trace"]["tied_count"], 24);
    assert_eq!(results["trace"]["packed_count"], 210);
    for table in results["tables"].as_array().unwrap() {
        for row in table["rows"].as_array().unwrap() {
            let needed = row["machines"]["by_trial"].as_array().unwrap();
            let bounds = row["lower_bound"]["by_trial"].as_array().unwrap();
            assert_eq!((needed.len(), bounds.len()), (3, 3));
            for (needed, bound) in needed.iter().zip(bounds) {
                assert!(bound.as_u64() <= needed.as_u64(), "{row}");
            }
            let pack = &row["pack"];
            let sum =
                pack["placed_count"].as_u64().unwrap() + pack["pending_count"].as_u64().unwrap();
            assert_eq!((pack["machine_count"].as_u64(), sum), (Some(24), 210));
        }
    }
    assert_eq!(results["sweep"].as_array().unwrap().len(), 5);
}

#[test]
fn verify_tells_a_changed_byte() {
    let workplace = workplace();
    let folder = workplace.path();
    succeeds(&compare(folder, &["--out", "out"]));
    let text = succeeds(&experiments(folder, &["verify", "out"]));
    assert!(text.contains("all the same"), "{text}");

    let path = folder.join("out/results.csv");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    fs::remove_file(folder.join("out/sweep.svg")).unwrap();
    // Neither of these is compared.
    fs::write(folder.join("out/index.html"), "").unwrap();
    fs::write(folder.join("out/timings.csv"), "").unwrap();
    let output = experiments(folder, &["verify", "out"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(line("results.csv").contains("CHANGED"), "{text}");
    assert!(line("sweep.svg").contains("MISSING"), "{text}");
    assert!(line("results.json").contains("same"), "{text}");
    assert!(text.contains("2 not the same"), "{text}");
}

#[test]
fn verify_refuses_what_it_cannot_judge() {
    let workplace = workplace();
    let folder = workplace.path();
    succeeds(&compare(folder, &["--out", "out"]));
    let manifest = fs::read_to_string(folder.join("out/manifest.json")).unwrap();
    let check = |part: &str| {
        let output = experiments(folder, &["verify", "out"]);
        refused(&output, part);
    };
    fs::write(folder.join("cell/jobs.yaml"), JOBS.replace("count: 90", "count: 91")).unwrap();
    check("has changed");
    fs::write(folder.join("out/manifest.json"), &manifest[..100]).unwrap();
    check("is no manifest");
    fs::remove_file(folder.join("out/manifest.json")).unwrap();
    check("cannot read");
}

/// The output is of bad input: exit code 2 and one line on standard error that has `part` in it.
fn refused(output: &Output, part: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{part}: {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(part), "{said}");
    assert!(output.stdout.is_empty());
}

#[test]
fn bad_input_is_said_in_one_line_and_nothing_is_written() {
    let workplace = workplace();
    let folder = workplace.path();
    fs::write(folder.join("file"), "").unwrap();
    fs::create_dir(folder.join("mine")).unwrap();
    fs::write(folder.join("mine/notes.txt"), "keep").unwrap();
    let before = listing(folder);
    let check = |arguments: &[&str], part: &str| {
        let given = |flag: &str| arguments.contains(&flag);
        let mut all = vec!["compare"];
        for (flag, value) in [
            ("--trace", "cell:cell"),
            ("--policies", "borg-hybrid,kube-default"),
            ("--trials", "2"),
            ("--out", "deep/down/out"),
        ] {
            if !given(flag) {
                all.extend([flag, value]);
            }
        }
        all.extend(arguments);
        refused(&experiments(folder, &all), part);
        assert_eq!(listing(folder), before, "{arguments:?} left something behind");
    };
    check(&["--policies", "borg-hybrid,no-such"], "unknown policy \"no-such\"; known are");
    check(&["--systems", "no-such"], "--systems: unknown policy");
    check(&["--policies", "best-fit,best-fit"], "names best-fit twice");
    check(&["--trials", "0"], "--trials 0");
    check(&["--trials", "many"], "--trials");
    check(&["--usage-ratio", "cpu=1.5,ram=0.5"], "--usage-ratio");
    check(&["--usage-ratio", "cpu=0,ram=0.5"], "--usage-ratio");
    check(&["--usage-ratio", "0.5"], "--usage-ratio");
    check(&["--pending-allowance", "1"], "--pending-allowance 1");
    check(&["--pending-allowance", "NaN"], "--pending-allowance");
    check(&["--threads", "0"], "--threads");
    check(&["--trace", "cell:nowhere"], "nowhere");
    check(&["--trace", "nothing"], "nothing");
    check(&["--out", "file"], "`file` is not a folder");
    check(&["--out", "file/below"], "cannot write to");
    check(&["--out", "mine"], "is not empty and holds no report");
    check(&["--kube-cases", "mine/none"], "mine/none");
    check(&["--kube-cases", "mine"], "mine");
    check(&["--kube-decisions", "mine"], "mine");
    check(&["--gpu-report", "mine"], "mine");
    check(&["--no-such-flag"], "--no-such-flag");
    assert_eq!(fs::read_to_string(folder.join("mine/notes.txt")).unwrap(), "keep");
    refused(&experiments(folder, &["compare", "--out", "x"]), "--trace");
}

#[test]
fn a_workload_that_fits_nowhere_is_refused_by_name() {
    let workplace = workplace();
    let jobs = JOBS.replace("limit: { cpu: 500m, ram: 12GiB }", "limit: { cpu: 500m, ram: 1TiB }");
    fs::write(workplace.path().join("cell/jobs.yaml"), jobs).unwrap();
    refused(&compare(workplace.path(), &["--out", "out"]), "compacting borg-hybrid/limits");
    assert!(!workplace.path().join("out").exists());
}

/// Nodes with GPUs of two types, and pods of all kinds.
const NODES: &str = "sn,cpu_milli,memory_mib,gpu,model
n0,64000,262144,4,T4
n1,64000,262144,2,T4
n2,32000,262144,2,A10
n3,96000,262144,0,
";
const PODS: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time
p0,4000,8192,1,300,,LS,Running,0,9,0
p1,8000,8192,1,500,,BE,Running,0,9,0
p2,8000,8192,1,1000,T4,LS,Running,0,9,0
p3,12000,8192,2,1000,,LS,Running,0,9,0
p4,16000,8192,0,0,,BE,Running,0,9,0
";

/// A folder with the lists.
fn gpu_workplace() -> TempDir {
    let workplace = tempfile::tempdir().unwrap();
    fs::write(workplace.path().join("nodes.csv"), NODES).unwrap();
    fs::write(workplace.path().join("pods.csv"), PODS).unwrap();
    workplace
}

fn gpu(workplace: &Path, more: &[&str]) -> Output {
    let mut arguments = vec!["gpu", "--trace", "openb:nodes.csv,pods.csv", "--seeds", "3"];
    arguments.extend(more);
    experiments(workplace, &arguments)
}

#[test]
fn a_gpu_report_is_whole_the_same_on_any_number_of_threads_and_verified() {
    let workplace = gpu_workplace();
    let folder = workplace.path();
    let text = succeeds(&gpu(folder, &["--out", "one", "--threads", "1"]));
    assert!(text.contains("fgd") && text.contains("one/index.html"), "{text}");
    let more = ["--out", "two", "--threads", "2", "--json", "--related", "../one/index.html"];
    let json = succeeds(&gpu(folder, &more));
    assert_eq!(json, fs::read_to_string(folder.join("two/results.json")).unwrap());
    let names = ["gpu-fragment-rate.svg", "gpu-fragments.svg", "gpu-unallocated.svg"];
    for name in names.into_iter().chain(["results.csv", "results.json"]) {
        let read = |report: &str| fs::read(folder.join(report).join(name)).unwrap();
        assert!(read("one") == read("two"), "{name} depends on the number of threads");
    }
    assert_eq!(listing(&folder.join("one")).len(), 7, "five, the page and the manifest");
    let page = fs::read_to_string(folder.join("two/index.html")).unwrap();
    assert!(page.contains("experiments gpu --trace") && page.contains("one&#x2f;index.html"));
    assert!(page.ends_with("</html>\n"));
    for loader in ["src=", "url(", "<link", "<script", "@import"] {
        assert!(!page.contains(loader), "{loader}");
    }

    let text = succeeds(&experiments(folder, &["verify", "one"]));
    assert!(text.contains("5 files, all the same"), "{text}");
    fs::write(folder.join("one/results.csv"), "").unwrap();
    assert_eq!(experiments(folder, &["verify", "one"]).status.code(), Some(1));
    // The comparison shows it where its files are its own.
    let compare = |report: &str, out: &str| {
        let trace = ["compare", "--trace", "openb:nodes.csv,pods.csv", "--policies", "best-fit"];
        let shown = ["--trials", "1", "--gpu-report", report, "--out", out];
        experiments(folder, &[trace.as_slice(), &shown].concat())
    };
    fs::write(folder.join("one/gpu-fragments.svg"), "<svg/>").unwrap();
    refused(&compare("one", "all/of"), "gpu-fragments.svg");
    succeeds(&compare("two", "all/of"));
    let page = fs::read_to_string(folder.join("all/of/index.html")).unwrap().replace("&#x2f;", "/");
    let figure = fs::read_to_string(folder.join("two/gpu-unallocated.svg")).unwrap();
    assert!(page.contains(&figure) && page.contains("href=\"../../two/index.html\""));
    refused(&compare("all/of", "x"), "`all/of` is no report of the GPU experiment");
    // Another report of it replaces this one, and leaves nothing of it behind.
    succeeds(&gpu(folder, &["--policies", "fgd,nomad-spread", "--out", "one"]));
    assert_eq!(listing(&folder.join("one")).len(), 7);
}

#[test]
fn the_numbers_of_a_gpu_report_belong_together() {
    let workplace = gpu_workplace();
    let json = succeeds(&gpu(workplace.path(), &["--out", "out", "--json"]));
    let results: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(results["method"]["gpu_count"], 8);
    let rows = results["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 8);
    for row in rows {
        let points = row["points"].as_array().unwrap();
        assert_eq!(points.len(), 131);
        for (percent, point) in points.iter().enumerate() {
            let of = |name: &str, over: &str| point[name][over].as_f64().unwrap();
            assert_eq!(point["arrived_percent"], percent);
            assert!(of("allocated", "min") <= of("allocated", "mean"), "{row}");
            assert!(of("allocated", "mean") <= of("allocated", "max"), "{row}");
            // What is a fragment is free.
            assert!(of("fragments", "max") <= 1.0 - of("allocated", "min") + 1e-6, "{row}");
            assert!((0.0..=1.0).contains(&of("fragment_rate", "max")), "{row}");
        }
        assert_eq!(points[0]["allocated"]["max"], 0.0);
    }
}

#[test]
fn bad_input_of_the_gpu_experiment_is_said_in_one_line() {
    let workplace = gpu_workplace();
    let folder = workplace.path();
    refused(
        &experiments(
            folder,
            &["gpu", "--trace", "openb:nodes.csv,pods.csv", "--seeds", "0", "--out", "x"],
        ),
        "--seeds 0",
    );
    refused(&gpu(folder, &["--policies", "no-such", "--out", "x"]), "unknown policy \"no-such\"");
    refused(&gpu(folder, &["--policies", "fgd,fgd", "--out", "x"]), "names fgd twice");
    let without_gpus: Vec<&str> =
        PODS.lines().filter(|line| line.starts_with("name") || line.starts_with("p4")).collect();
    fs::write(folder.join("pods.csv"), without_gpus.join("\n")).unwrap();
    refused(&gpu(folder, &["--out", "x"]), "no task of the workload asks for a GPU");
    fs::write(folder.join("nodes.csv"), NODES.lines().next().unwrap().to_owned() + "\nn3,1,1,0,\n")
        .unwrap();
    refused(&gpu(folder, &["--out", "x"]), "the cell has no GPU");
    assert!(!folder.join("x").exists());
}

#[test]
fn help_has_an_example_for_every_command() {
    let workplace = tempfile::tempdir().unwrap();
    for command in ["compare", "gpu", "verify"] {
        let help = succeeds(&experiments(workplace.path(), &[command, "--help"]));
        assert!(help.contains(&format!("Example:\n  experiments {command} ")), "{help}");
    }
}

const FIDELITY: &str = r#"
machines: { count: 1, cpu: 1, ram: 256MiB }
jobs:
  - at_ms: 0
    job: { name: nap, priority: 50, count: 2, limit: { cpu: 100m, ram: 32MiB }, run: { command: [sleep, "1"], restart: never } }
    does: { runtime_ms: 1000, ram: 1MiB }
"#;

/// Whether a real cell can be started. What CI's machine can do has to be done there.
#[expect(clippy::print_stderr, reason = "whoever runs the tests reads it")]
fn has_real_cells() -> bool {
    let here = Path::new(env!("CARGO_BIN_EXE_experiments"));
    let programs = ["borgmaster", "borgcfg", "borglet", "borglet-init"];
    let is_possible = fs::metadata("/proc/self").unwrap().uid() == 0
        && programs.iter().all(|name| here.with_file_name(name).exists());
    if !is_possible {
        assert!(std::env::var_os("CI").is_none(), "CI's machine has root and all programs");
        eprintln!("skipped: no real cell without root and {programs:?} (test with --workspace)");
    }
    is_possible
}

#[test]
fn a_real_cell_and_a_simulated_one_do_the_same() {
    if !has_real_cells() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("nap.yaml"), FIDELITY).unwrap();
    let is_free = |port: &u16| {
        let ports = [0, 100, 200].map(|offset| port + offset);
        ports.iter().all(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
    };
    let first = 20_000 + u16::try_from(std::process::id() % 100).unwrap() * 10;
    let port = (first..first + 10).find(is_free).unwrap().to_string();
    let fidelity = ["fidelity", "--runs", "1", "--workload", "nap.yaml", "--port", &port];
    let output = experiments(folder.path(), &[&fidelity[..], &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let job = &report["jobs"][0];
    for side in [&job["simulated"], &job["real"][0]] {
        assert!(side["completion_ms"].as_f64().unwrap() >= 1_000.0, "{side}");
        assert!(side["start_ms"].as_f64().unwrap() > 0.0, "{side}");
        assert_eq!(side["evictions"], 0.0);
    }
    let steps = |side: &serde_json::Value| {
        let moments = side["moments"].as_array().unwrap().iter();
        let mut steps: Vec<_> =
            moments.map(|it| format!("{} {}", it["what"], it["task"])).collect();
        steps.sort();
        steps
    };
    assert_eq!(steps(&report["simulated"]), steps(&report["real"][0]));
}

#[test]
fn a_bad_workload_is_said_before_anything_is_started() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bad.yaml"), FIDELITY.replace("nap", "a b")).unwrap();
    for (file, problem) in [("bad.yaml", "a b"), ("none.yaml", "none.yaml")] {
        let output = experiments(folder.path(), &["fidelity", "--workload", file]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.lines().count() == 1 && said.contains(problem), "{said}");
    }
}

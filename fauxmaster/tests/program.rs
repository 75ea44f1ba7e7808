//! The program `fauxmaster` as a user runs it: keys, exit codes, one-line errors.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

fn example(name: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
    format!("cell:{}", folder.display())
}

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fauxmaster")).args(args).output().unwrap()
}

fn json(args: &[&str]) -> Value {
    let output = run(args);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn has_keys(value: &Value, keys: &[&str]) {
    for key in keys {
        assert!(value.get(key).is_some(), "no key {key} in {value}");
    }
}

/// Exit code 2, one line on stderr that holds all of these, nothing on stdout.
fn is_refused(args: &[&str], parts: &[&str]) {
    let output = run(args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{args:?}");
    assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{args:?}: {stderr:?} lacks {part:?}");
    }
}

#[test]
fn pack_prints_the_keys_that_scripts_rely_on() {
    let report = json(&["pack", "--trace", &example("hello"), "--json", "--seed", "7"]);
    has_keys(
        &report,
        &[
            "policy",
            "seed",
            "machine_count",
            "task_count",
            "placed_count",
            "pending_count",
            "pending_by_band",
            "allocation",
            "stranding",
            "seconds",
            "decisions_per_second",
            "peak_memory_bytes",
            "assignment_hash",
        ],
    );
    assert_eq!(report["policy"], "borg-hybrid");
    assert_eq!(report["seed"], 7);
    assert_eq!(report["placed_count"], 2);
}

#[test]
fn compact_prints_the_keys_that_scripts_rely_on() {
    let trace = example("hello");
    let args = ["compact", "--trace", &trace, "--trials", "3", "--json", "--threads", "2"];
    let report = json(&args);
    has_keys(
        &report,
        &[
            "policy",
            "seed",
            "trials",
            "machines_p90",
            "machines_median",
            "machines_min",
            "machines_max",
            "machines_by_trial",
            "lower_bound",
            "seconds",
        ],
    );
    assert_eq!(report["machines_by_trial"].as_array().unwrap().len(), 3);
}

#[test]
fn why_adds_up_to_the_number_of_machines() {
    let trace = example("constraints");
    let why = json(&["why", "--trace", &trace, "--task", "nowhere/0", "--json"]);
    let ruled_out: u64 =
        why["ruled_out"].as_array().unwrap().iter().map(|pair| pair[1].as_u64().unwrap()).sum();
    assert_eq!(
        ruled_out + why["feasible_count"].as_u64().unwrap(),
        why["host_count"].as_u64().unwrap()
    );
    assert_eq!(why["pending"], true);
}

#[test]
fn why_of_a_placed_task_answers_no() {
    let output = run(&["why", "--trace", &example("hello"), "--task", "hello/0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("is placed on machine"));
}

#[test]
fn every_switch_gives_the_same_assignment() {
    let hash = |switches: &[&str]| {
        let trace = example("spread");
        let args = [&["pack", "--trace", &trace, "--json"], switches].concat();
        json(&args)["assignment_hash"].clone()
    };
    let plain = hash(&[]);
    for switch in ["--no-equivalence", "--no-cache", "--no-index"] {
        assert_eq!(hash(&[switch]), plain, "{switch}");
    }
}

#[test]
fn a_workload_that_fits_nowhere_answers_no() {
    let trace = example("constraints");
    let output = run(&["compact", "--trace", &trace, "--trials", "1", "--pending-allowance", "0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("does not fit"));
}

#[test]
fn bad_input_is_refused_in_one_line() {
    let hello = example("hello");
    is_refused(&["pack", "--policy", "borg"], &["unknown policy \"borg\"", "borg-hybrid"]);
    is_refused(&["pack", "--trace", "nonsense"], &["nonsense", "google-2011-t0"]);
    is_refused(&["pack", "--trace", "cell:/does/not/exist"], &["/does/not/exist"]);
    is_refused(&["pack", "--trace", &hello, "--machines", "9"], &["--clone"]);
    is_refused(&["pack", "--trace", &hello, "--machines", "0"], &["at least one machine"]);
    is_refused(&["compact", "--trace", &hello, "--trials", "0"], &["--trials", "1..=1100"]);
    let args = ["compact", "--trace", &hello, "--pending-allowance", "NaN"];
    is_refused(&args, &["pending allowance"]);
    is_refused(&["why", "--trace", &hello, "--task", "hello"], &["JOB/INDEX"]);
    is_refused(&["why", "--trace", &hello], &["--task <JOB/INDEX>"]);
    is_refused(&["pack", "--usage-ratio", "cpu=2,ram=1"], &["usage ratio", "at most 1"]);
    is_refused(&["pack", "--seed=-1"], &["--seed"]);
    is_refused(&["pack", "--sample", "0"], &["--sample"]);
    is_refused(&["pack", "--clone", "100000000000"], &["--clone"]);
    is_refused(&["compact", "--clone", "0"], &["--clone"]);
    is_refused(&["compact", "--threads", "100000"], &["--threads"]);
}

#[test]
fn a_wrong_row_is_named_and_lenient_reading_skips_it() {
    let folder = tempfile::tempdir().unwrap();
    let machines = "machine_id,platform,cpu_capacity,memory_capacity\n1,A,0.5,0.5\n";
    let tasks = "job_id,task_index,machine_id,state,priority,scheduling_class,user_no,\
                 cpu_request,memory_request,disk_request,different_machines\n\
                 1,0,1,running,9,3,1,0.1,0.1,0,0\n1,1,1,running,9,3,1,-0.1,0.1,0,0\n";
    std::fs::write(folder.path().join("cell_t0_machines.csv"), machines).unwrap();
    std::fs::write(folder.path().join("cell_t0_tasks.csv"), tasks).unwrap();
    let trace = format!("google-2011-t0:{}", folder.path().display());
    is_refused(&["pack", "--trace", &trace], &["cell_t0_tasks.csv:3", "cpu_request", "negative"]);
    let output = run(&["pack", "--trace", &trace, "--lenient", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cell_t0_tasks.csv:3"));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["task_count"], 1);
}

#[test]
fn manifests_are_a_trace_by_another_name() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/manifests");
    let folder = folder.to_str().unwrap();
    let trace = format!("manifests:{folder}");
    let by_option = json(&["pack", "--manifests", folder, "--json"]);
    let by_trace = json(&["pack", "--trace", &trace, "--json"]);
    assert_eq!(by_option["assignment_hash"], by_trace["assignment_hash"]);
    assert_eq!(by_option["placed_count"], 19);
    let said = run(&["pack", "--manifests", folder]).stderr;
    assert!(String::from_utf8(said).unwrap().contains("kinds that are not read"));
    json(&["compact", "--manifests", folder, "--trials", "2", "--threads", "1", "--json"]);
    let task = "StatefulSet/shop/db/2";
    assert_eq!(run(&["why", "--manifests", folder, "--task", task]).status.code(), Some(1));
    is_refused(&["pack", "--manifests", folder, "--trace", "google-2011-t0"], &["--manifests"]);
    is_refused(&["pack", "--manifests", "/no/such/folder"], &["/no/such/folder: cannot read"]);
}

fn cell_file(name: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/cell-file");
    folder.join(name).display().to_string()
}

#[test]
fn a_cell_file_answers_every_question() {
    let small = cell_file("small.cell");
    let ask = |question: &[&str]| json(&[&["load", &small, "--json"], question].concat());
    let status = ask(&["status"]);
    has_keys(&status, &["cell", "index", "at_ms", "jobs", "machines", "pending_count"]);
    assert_eq!(status["cell"], "small");
    let why = ask(&["why", "huge/0"]);
    assert_eq!(why["pending"], true);
    assert_eq!(why["host_count"], 4);
    assert_eq!(why["next_pass"], Value::Null);
    let pack = ask(&["pack", "--policy", "best-fit"]);
    assert_eq!(pack["accounting"], "recorded");
    assert_eq!(pack["pending_count"], 1);
    let compact = ask(&["compact", "--trials", "3"]);
    assert!(compact["machines_p90"].as_u64().unwrap() <= 4);
    let fits = ask(&["fits", &cell_file("more.yaml")]);
    has_keys(&fits, &["free_count", "preempting_count", "victim_count", "is_at_least"]);
    // A job that the cell has; and a file that leaves its user to whoever submits it.
    assert_eq!(ask(&["fits", "web"])["present_count"], 4);
    let hello = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/master/hello.yaml");
    assert_eq!(ask(&["fits", &hello.display().to_string()])["job"], "hello");
    is_refused(&["load", &small, "fits", "wbe"], &["no job \"wbe\"", "no such file"]);
    is_refused(&["load", &small, "fits", "/dev/zero"], &["longer than 64 MiB"]);
    let fork = ask(&["fork", "--policy", "best-fit", "--seed", "3"]);
    has_keys(&fork, &["recorded", "fork", "seconds", "fork_hash", "refused_operations"]);
    for side in ["recorded", "fork"] {
        let keys =
            ["over_time", "waits", "still_waiting", "evictions", "machines_used", "stranding"];
        has_keys(&fork[side], &keys);
    }
    assert_eq!(fork, ask(&["fork", "--policy", "best-fit", "--seed", "3"]));
}

#[test]
fn a_cell_file_is_asked_at_an_earlier_index() {
    let small = cell_file("small.cell");
    let last = json(&["load", &small, "status", "--json"]);
    let header = std::fs::read_to_string(&small).unwrap();
    let header: Value = serde_json::from_str(header.lines().next().unwrap()).unwrap();
    let first = header["first_index"].to_string();
    assert_eq!(last["index"], header["last_index"]);
    let then = json(&["load", &small, "--until", &first, "status", "--json"]);
    assert_eq!(then["index"], header["first_index"]);
    assert_eq!(then["jobs"].as_array().unwrap().len(), 1);
    is_refused(&["load", &small, "--until", "9999", "status"], &["small.cell", "9999", "holds"]);
    is_refused(&["load", &small, "why", "huge/7"], &["huge", "no task 7"]);
    is_refused(&["load", &small, "fork", "--policy", "borg"], &["unknown policy"]);
    let output = run(&["load", &small, "why", "web/0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("web/0 is running on machine"));
}

#[test]
fn a_compressed_cell_file_is_read_and_a_bad_one_is_refused_in_one_line() {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let bytes = std::fs::read(cell_file("small.cell")).unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    let put = |name: &str, bytes: &[u8]| {
        std::fs::write(path(name), bytes).unwrap();
        path(name).display().to_string()
    };
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&bytes).unwrap();
    let gz = gz.finish().unwrap();
    let whole = put("whole.cell.gz", &gz);
    assert_eq!(json(&["load", &whole, "status", "--json"])["cell"], "small");

    let refused = |file: &str, parts: &[&str]| is_refused(&["load", file, "status"], parts);
    refused(&put("cut.cell", &bytes[..bytes.len() / 2]), &["cut.cell", "line ", "cut short"]);
    refused(&put("cut.cell.gz", &gz[..gz.len() / 2]), &["cut.cell.gz", "line ", "cut short"]);
    let newer = text.replacen("{\"cell_file\":1", "{\"cell_file\":2", 1);
    let newer = put("newer.cell", newer.as_bytes());
    refused(&newer, &["newer.cell", "line 1", "cell_file", "format 2 is newer", "newer version"]);
    let damaged = text.replacen("\"is_drained\":false", "\"is_drained\":maybe", 1);
    let damaged = put("damaged.cell", damaged.as_bytes());
    refused(&damaged, &["damaged.cell", "line 3", "machine.is_drained", "damaged"]);
    let changed = text.replacen("127.0.0.1:7001", "127.0.0.1:7009", 1);
    refused(&put("changed.cell", changed.as_bytes()), &["changed.cell", "line ", "checksum"]);
    refused(&put("other.csv", b"name,cpu\na,1\n"), &["other.csv", "line 1", "not a cell file"]);
    refused(&put("empty", b""), &["empty", "line 1", "not a cell file"]);
    refused("/does/not/exist", &["/does/not/exist", "No such file"]);
    refused(&folder.path().display().to_string(), &["directory"]);

    let small = cell_file("small.cell");
    let job =
        put("job.yaml", b"name: a\nuser: ann\npriority: 1\ncount: none\nlimit: {cpu: 1, ram: 1}\n");
    is_refused(&["load", &small, "fits", &job], &["job.yaml", "line 4"]);
    let job = put(
        "high.yaml",
        b"name: a\nuser: ann\npriority: 9999\ncount: 1\nlimit: {cpu: 1, ram: 1}\n",
    );
    is_refused(&["load", &small, "fits", &job], &["high.yaml", "priority", "9999"]);
}

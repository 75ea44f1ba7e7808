//! Tests of both of Google's readers: small folders, every bad input, and the real trace.

use cell::{Host, MachineId, TaskState};

use crate::testing::{LENIENT, STRICT, folder_with, gzip, message, outside_traces};
use crate::{FindingKind, ReadOptions, Trace, Workload, load};

const MACHINES: &str = "0,5,0,hashB,0.5,0.2493\n0,6,0,hashA,0.25,0.25\n700,7,0,hashA,1,1\n";
const TASKS: &str = "\
    0,2,10,0,5,0,ann,3,9,,,,\n\
    0,,10,1,,0,ann,3,9,0.1,0.2,0,1\n\
    0,,20,0,6,0,bob,0,0,0.5,0.5,0.5,0\n\
    0,,10,0,5,1,ann,3,9,0.1,0.2,0.00001,0\n\
    0,,20,0,6,1,bob,0,0,0.25,0.5,0.5,0\n\
    900,,30,0,,0,cid,0,11,0.25,0.5,0.5,0\n";

const T0_MACHINES: &str =
    "machine_id,platform,cpu_capacity,memory_capacity\n5,B,0.5,0.2493\n6,A,0.25,0.25\n";
const T0_HEADER: &str = "job_id,task_index,machine_id,state,priority,scheduling_class,user_no,\
    cpu_request,memory_request,disk_request,different_machines\n";
const T0_TASKS: &str = "\
    10,0,5,running,9,3,1,0.1,0.2,0.00001,0\n\
    10,1,,pending,9,3,1,0.1,0.2,0,1\n\
    20,0,6,running,0,0,2,0.25,0.5,0.5,0\n";

fn load_raw(machines: &str, tasks: &str, options: ReadOptions) -> Result<Trace, String> {
    let folder = folder_with(&[
        ("machine_events/part-0.csv", machines.as_bytes()),
        ("task_events/part-0.csv", tasks.as_bytes()),
    ]);
    load(&format!("google-2011:{}", folder.path().display()), options)
        .map_err(|error| message(&error, folder.path()))
}

fn load_t0(machines: &str, tasks: &str, options: ReadOptions) -> Result<Trace, String> {
    let folder = folder_with(&[
        ("cell_t0_machines.csv", machines.as_bytes()),
        ("cell_t0_tasks.csv", tasks.as_bytes()),
    ]);
    load(&format!("google-2011-t0:{}", folder.path().display()), options)
        .map_err(|error| message(&error, folder.path()))
}

fn t0_tasks(rows: &str) -> String {
    format!("{T0_HEADER}{rows}")
}

#[test]
fn the_state_at_time_zero_is_rebuilt_with_the_schedule_rows_requests() {
    let trace = load_raw(MACHINES, TASKS, STRICT).unwrap();
    let cell = &trace.cell;
    assert_eq!(trace.workload, Workload::Running);
    assert_eq!(cell.machines.len(), 2); // 7 comes later
    assert_eq!(cell.machines[0].name, "5");
    assert_eq!(cell.machines[0].capacity.disk, None);
    assert_eq!(cell.machines[0].attributes["platform"], "B"); // the larger of the two
    assert_eq!(*cell.users, ["user-1", "user-2"]);
    assert_eq!(cell.jobs.len(), 2, "30 comes later");
    let (first, second) = (&cell.jobs[0], &cell.jobs[1]);
    assert_eq!((first.name.as_str(), first.tasks.len()), ("10", 2));
    assert!(first.different_machines); // task 1 says so
    assert_eq!(first.tasks[1].state, TaskState::Pending);
    assert_eq!(first.tasks[0].limit.disk.0, 1_374_390); // 0.00001 · 2^37 = 1374389.53
    let on = Some(Host::Machine(MachineId(1)));
    assert_eq!(second.tasks[0].state, TaskState::Running { on });
    assert_eq!(second.tasks[0].limit.cpu.0, 8000); // SCHEDULE: 0.25 · 32000; SUBMIT said 0.5
    let doctor = &trace.doctor;
    assert_eq!(doctor.row_count(), 9);
    let findings: Vec<_> = doctor.findings.iter().map(|f| (f.kind, f.count)).collect();
    assert_eq!(
        findings,
        [
            (FindingKind::ImputedRow, 1),
            (FindingKind::MissingValue, 1), // the same row
            (FindingKind::MixedFlag, 1)
        ]
    );
}

#[test]
fn the_tables_and_the_derived_files_give_the_same_cell() {
    let raw = load_raw(MACHINES, TASKS, STRICT).unwrap();
    let derived = load_t0(T0_MACHINES, &t0_tasks(T0_TASKS), STRICT).unwrap();
    assert_eq!(raw.cell, derived.cell);
}

#[test]
fn google_2011_raw_tables_give_the_bundled_cell() {
    let Some(folder) = outside_traces("google-2011") else { return };
    let bundled = load("google-2011-t0", STRICT).unwrap();
    let raw = load(&format!("google-2011:{}", folder.display()), STRICT).unwrap();
    assert!(raw.cell == bundled.cell, "the two cells differ");
    let doctor = &raw.doctor;
    assert_eq!(doctor.row_count(), 37_780 + 1_827_856); // its README's numbers
    let findings: Vec<_> = doctor.findings.iter().map(|f| (f.kind, f.count)).collect();
    assert_eq!(
        findings,
        [
            (FindingKind::OrphanMachine, 13), // trap 4
            (FindingKind::ImpossibleEvent, 145),
            (FindingKind::ImputedRow, 291),        // trap 5
            (FindingKind::MissingValue, 291 + 32), // trap 5; 32 machines after time 0
            (FindingKind::SplitJob, 2),
        ]
    );
    let derived = load(&format!("google-2011-t0:{}/derived", folder.display()), STRICT).unwrap();
    assert!(derived.cell == bundled.cell);
    assert_eq!(derived.sha256, bundled.sha256);
}

#[test]
fn the_bundled_cell_has_the_numbers_of_its_readme() {
    let trace = load("google-2011-t0", STRICT).unwrap();
    let cell = &trace.cell;
    assert_eq!(cell.machines.len(), 12_477);
    assert_eq!(cell.task_count(|_, task| task.is_running()), 132_982);
    assert_eq!(cell.task_count(|_, task| !task.is_running()), 11_357);
    assert_eq!(cell.users.len(), 507);
    let cpu: u64 = cell.machines.iter().map(|machine| machine.capacity.cpu.0).sum();
    assert_eq!(cpu, 211_304_000); // 6603.25 · 32000
    // The table by tier in `trace-formats.md` §7.1.
    let running =
        |band| cell.task_count(|job, task| task.is_running() && job.priority.band() == band);
    assert_eq!(running(cell::Band::Free), 54_611);
    assert_eq!(running(cell::Band::Batch), 22_318);
    assert_eq!(running(cell::Band::Production), 49_513);
    assert_eq!(running(cell::Band::Monitoring), 6_540);
    let tied = |job: &&cell::Job| job.tied_to_machines;
    let runs = |job: &&cell::Job| job.tasks.iter().any(cell::Task::is_running);
    assert_eq!(cell.jobs.iter().filter(tied).filter(runs).count(), 3);
    // 3 976 running jobs there; the two of two priorities are two each here.
    assert_eq!(cell.jobs.iter().filter(runs).count(), 3976 + 2);
    assert_eq!(trace.doctor.row_count(), 12_477 + 144_339);
    let findings: Vec<_> = trace.doctor.findings.iter().map(|f| (f.kind, f.count)).collect();
    assert_eq!(findings, [(FindingKind::OrphanMachine, 13), (FindingKind::SplitJob, 2)]);
    // Names are unique, and indices ascend: `Cell::find_task` relies on it.
    let mut names: Vec<&str> = cell.jobs.iter().map(|job| job.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), cell.jobs.len());
    assert!(cell.jobs.iter().all(|job| job.tasks.is_sorted_by(|a, b| a.index < b.index)));
}

#[test]
fn a_job_of_two_priorities_is_read_as_two_jobs() {
    let rows = "10,2,5,running,9,3,1,0.1,0.2,0,0\n10,0,5,running,1,3,1,0.1,0.2,0,0\n\
        10,1,5,running,9,3,1,0.1,0.2,0,0\n";
    let trace = load_t0(T0_MACHINES, &t0_tasks(rows), STRICT).unwrap();
    let jobs: Vec<_> = trace
        .cell
        .jobs
        .iter()
        .map(|job| {
            let indices: Vec<u32> = job.tasks.iter().map(|task| task.index).collect();
            (job.name.as_str(), job.priority.get(), indices)
        })
        .collect();
    assert_eq!(jobs, [("10", 1, vec![0]), ("10.p9", 200, vec![1, 2])]);
    assert_eq!(trace.doctor.count(FindingKind::SplitJob), 1);
}

#[test]
fn a_task_on_a_machine_that_is_not_described_runs_nowhere_and_is_counted() {
    let rows = "10,0,99,running,9,3,1,0.1,0.2,0,0\n11,0,,running,9,3,1,0.1,0.2,0,0\n";
    let trace = load_t0(T0_MACHINES, &t0_tasks(rows), STRICT).unwrap();
    assert_eq!(trace.cell.jobs[0].tasks[0].state, TaskState::Running { on: None });
    assert_eq!(trace.doctor.count(FindingKind::OrphanMachine), 2);
}

#[test]
fn missing_and_excessive_amounts_are_counted() {
    let machines = "machine_id,platform,cpu_capacity,memory_capacity\n5,B,1.5,0.2493\n6,A,,1\n";
    let rows = "10,0,5,running,9,3,1,,,0,0\n11,0,5,running,9,3,1,2,0.2,0,0\n";
    let trace = load_t0(machines, &t0_tasks(rows), STRICT).unwrap();
    assert_eq!(trace.cell.machines[0].capacity.cpu.0, 32_000);
    assert!(trace.cell.jobs[0].tasks[0].limit.unstated.cpu);
    let findings: Vec<_> = trace.doctor.findings.iter().map(|f| (f.kind, f.count)).collect();
    assert_eq!(findings, [(FindingKind::ImputedValue, 2), (FindingKind::ClippedValue, 2)]);
}

#[test]
fn each_bad_row_of_the_derived_files_is_named_or_skipped() {
    let check = |bad: &str, expected: &str| {
        let tasks = t0_tasks(&format!("{T0_TASKS}{bad}\n"));
        let error = load_t0(T0_MACHINES, &tasks, STRICT).unwrap_err();
        assert_eq!(error, format!("cell_t0_tasks.csv:5: {expected}"), "{bad}");
        let trace = load_t0(T0_MACHINES, &tasks, LENIENT).unwrap();
        assert_eq!(trace.doctor.count(FindingKind::SkippedRow), 1, "{bad}");
        assert_eq!(trace.cell.task_count(|_, _| true), 3, "{bad}");
    };
    check("30,0,5,running,9,3,1,-0.5,0,0,0", r#"field `cpu_request`: "-0.5" is negative"#);
    check(
        "30,0,5,running,9,3,1,0,inf,0,0",
        r#"field `memory_request`: "inf" is not a finite number"#,
    );
    check(
        "30,0,5,running,9,3,1,0,0,nan,0",
        r#"field `disk_request`: "nan" is not a finite number"#,
    );
    check(
        "30,0,5,running,9,3,1,0,0,0",
        "field `different_machines`: missing: the row has 10 of 11 fields",
    );
    check("30,0,5,running,9,3,1,0,0,0,0,0", "the row has 12 fields instead of 11");
    check("30,0,5,running,9,3,1,0,0,0,2", r#"field `different_machines`: "2" is neither 0 nor 1"#);
    check("30,0,5,running,12,3,1,0,0,0,0", r#"field `priority`: "12" is not a priority, 0 to 11"#);
    check(
        "30,0,5,running,9,4,1,0,0,0,0",
        r#"field `scheduling_class`: "4" is not a scheduling class, 0 to 3"#,
    );
    check("30,0,5,dead,9,3,1,0,0,0,0", r#"field `state`: "dead" is not `running` or `pending`"#);
    check(",0,5,running,9,3,1,0,0,0,0", "field `job_id`: is empty");
    check(
        "30,-1,5,running,9,3,1,0,0,0,0",
        r#"field `task_index`: "-1" is not an unsigned integer (of the size that fits here)"#,
    );
    check("20,0,5,running,9,3,2,0,0,0,0", "field `task_index`: task 20/0 is there twice");
    check(
        "20,1,5,running,9,3,1,0,0,0,0",
        "field `user_no`: task 20/1 has another user than its job's first task",
    );
}

#[test]
fn each_bad_row_of_the_tables_is_named_or_skipped() {
    let check = |bad: &str, expected: &str| {
        let tasks = format!("{TASKS}{bad}\n");
        let error = load_raw(MACHINES, &tasks, STRICT).unwrap_err();
        assert_eq!(error, format!("task_events/part-0.csv:7: {expected}"), "{bad}");
        let trace = load_raw(MACHINES, &tasks, LENIENT).unwrap();
        assert_eq!(trace.doctor.count(FindingKind::SkippedRow), 1, "{bad}");
        assert_eq!(trace.doctor.row_count(), 10, "{bad}");
        assert_eq!(trace.cell, load_raw(MACHINES, TASKS, STRICT).unwrap().cell, "{bad}");
    };
    check(
        "900,,30,0,,9,cid,0,11,0,0,0,0",
        r#"field `event_type`: "9" is not a task event type, 0 to 8"#,
    );
    check(
        "soon,,30,0,,1,cid,0,11,0,0,0,0",
        r#"field `time`: "soon" is not an unsigned integer (of the size that fits here)"#,
    );
    check("900,3,30,0,,1,cid,0,11,0,0,0,0", r#"field `missing_info`: "3" is not 0 to 2, or empty"#);
    check("900,,30,0,,1,cid,0,11,-1,0,0,0", r#"field `cpu_request`: "-1" is negative"#);
    check(
        "900,,30,0,,1,cid,0,11,0,infinity,0,0",
        r#"field `memory_request`: "infinity" is not a finite number"#,
    );
    check("900,,30,0,,1,,0,11,0,0,0,0", "field `user`: is empty");
    check(
        "900,,30,0,,1,cid,0,11,0,0,0",
        "field `different_machines`: missing: the row has 12 of 13 fields",
    );
    check(
        "0,,10,1,,0,ann,3,9,0,0,0,0",
        "field `task_index`: task 10/1 is submitted twice at time 0",
    );

    let machines = |bad: &str, expected: &str| {
        let machines = format!("{MACHINES}{bad}\n");
        let error = load_raw(&machines, TASKS, STRICT).unwrap_err();
        assert_eq!(error, format!("machine_events/part-0.csv:4: {expected}"), "{bad}");
        let trace = load_raw(&machines, TASKS, LENIENT).unwrap();
        assert_eq!(trace.doctor.count(FindingKind::SkippedRow), 1, "{bad}");
    };
    machines("0,8,3,h,1,1", r#"field `event_type`: "3" is not a machine event type, 0 to 2"#);
    machines("0,8,0,h,1", "field `memory_capacity`: missing: the row has 5 of 6 fields");
    machines("0,8,0,h,-1,1", r#"field `cpu_capacity`: "-1" is negative"#);
    machines("0,5,0,h,1,1", "field `machine_id`: machine 5 is there twice");
}

#[test]
fn odd_events_are_counted_one_kind_each() {
    let check = |machine_row: &str, task_rows: &str, kind: FindingKind, count: u64| {
        let machines = format!("{MACHINES}{machine_row}");
        let tasks = format!("{TASKS}{task_rows}");
        let trace = load_raw(&machines, &tasks, STRICT).unwrap();
        assert_eq!(trace.doctor.count(kind), count, "{machine_row}{task_rows}");
    };
    let kind = FindingKind::OrphanTask;
    check("", "900,,40,0,5,1,dan,0,1,0,0,0,0\n", kind, 1);
    check("", "900,,30,0,5,1,cid,0,11,0,0,0,0\n", kind, 0);
    let kind = FindingKind::ImpossibleEvent;
    check("", "900,,30,0,,2,cid,0,11,0,0,0,0\n", kind, 1); // EVICT of a waiting task
    check("", "900,,30,0,,5,cid,0,11,0,0,0,0\n", kind, 0); // KILL of one
    check("", "900,,20,0,6,4,bob,0,0,0,0,0,0\n901,,20,0,6,4,bob,0,0,0,0,0,0\n", kind, 1); // FINISH twice
    check("", "900,,20,0,6,2,bob,0,0,0,0,0,0\n901,,20,0,,0,bob,0,0,0,0,0,0\n", kind, 0); // again
    let kind = FindingKind::OrphanMachine;
    check("", "900,,30,0,99,1,cid,0,11,0,0,0,0\n", kind, 1);
    check("", "900,,30,0,7,1,cid,0,11,0,0,0,0\n", kind, 0); // there since 700
    check("800,7,1,hashA,1,1\n", "900,,30,0,7,1,cid,0,11,0,0,0,0\n", kind, 1); // gone since 800
    let kind = FindingKind::OrphanMachineEvent;
    check("800,7,0,hashA,1,1\n", "", kind, 1);
    check("800,8,1,hashA,1,1\n", "", kind, 1);
    check("800,7,2,hashA,1,1\n", "", kind, 0);
    let kind = FindingKind::TimeReversal;
    check("699,8,0,hashA,1,1\n", "899,,40,0,,0,dan,0,1,0,0,0,0\n", kind, 2);
    let kind = FindingKind::ClippedValue;
    check("701,8,0,hashA,1.1,1.2\n", "900,,40,0,,0,dan,0,1,3,0,0,0\n", kind, 3);
}

#[test]
fn a_task_that_ends_at_time_zero_is_gone() {
    let tasks = format!("{TASKS}0,,20,0,6,4,bob,0,0,0,0,0,0\n");
    let trace = load_raw(MACHINES, &tasks, STRICT).unwrap();
    assert_eq!(trace.cell.task_count(|_, _| true), 2);
    let again = format!("{tasks}0,,20,0,6,0,bob,0,0,0,0,0,0\n");
    let trace = load_raw(MACHINES, &again, STRICT).unwrap();
    assert_eq!(trace.cell.task_count(|_, _| true), 3);
}

#[test]
fn a_truncated_gzip_is_an_error_or_read_as_far_as_it_goes() {
    let many: String =
        (0..20_000).map(|i| format!("{i},0,,pending,9,3,1,0.1,0.{i},0,0\n")).collect();
    let whole = gzip(t0_tasks(&many).as_bytes());
    let check = |bytes: &[u8], expected: &str| {
        let folder = folder_with(&[
            ("cell_t0_machines.csv", T0_MACHINES.as_bytes()),
            ("cell_t0_tasks.csv.gz", bytes),
        ]);
        let source = format!("google-2011-t0:{}", folder.path().display());
        let error = message(&load(&source, STRICT).unwrap_err(), folder.path());
        assert!(error.starts_with("cell_t0_tasks.csv.gz:"), "{error}");
        assert!(error.contains(expected), "{error}");
        load(&source, LENIENT)
    };
    let trace = check(&whole[..whole.len() / 2], "damaged, or ends early").unwrap();
    assert_eq!(trace.doctor.count(FindingKind::BrokenOffFile), 1);
    let task_count = trace.cell.task_count(|_, _| true);
    assert!((1..20_000).contains(&task_count), "{task_count}");
    assert_eq!(trace.doctor.row_count(), 2 + task_count as u64);
    // Without its checksum, all rows are there, and still it is not whole.
    let trace = check(&whole[..whole.len() - 8], "damaged, or ends early").unwrap();
    assert_eq!(trace.cell.task_count(|_, _| true), 20_000);
    // Nothing of the header can be read: an error always.
    check(&whole[..5], "damaged, or ends early").unwrap_err();
    check(b"", "").unwrap_err();
    check(b"no gzip at all", "damaged, or ends early").unwrap_err();
}

#[test]
fn a_part_of_no_bytes_at_all_is_no_gzip() {
    let folder = folder_with(&[
        ("machine_events/part-0.csv", MACHINES.as_bytes()),
        ("task_events/part-0.csv.gz", &gzip(TASKS.as_bytes())),
        ("task_events/part-1.csv.gz", b""),
    ]);
    let source = format!("google-2011:{}", folder.path().display());
    let error = message(&load(&source, STRICT).unwrap_err(), folder.path());
    assert!(error.starts_with("task_events/part-1.csv.gz:1: damaged, or ends early"), "{error}");
    assert_eq!(load(&source, LENIENT).unwrap().doctor.count(FindingKind::BrokenOffFile), 1);
}

#[test]
fn a_missing_folder_file_or_column_is_an_error() {
    let check = |source: &str, files: &[(&str, &[u8])], expected: &str| {
        let folder = folder_with(files);
        let place = folder.path().display();
        let error = load(&format!("{source}:{place}"), LENIENT).unwrap_err();
        let error = message(&error, folder.path()).replace(&place.to_string(), "DIR");
        assert_eq!(error, expected);
    };
    let machines = T0_MACHINES.as_bytes();
    check(
        "google-2011-t0",
        &[],
        "DIR: holds neither `cell_t0_machines.csv.gz` nor `cell_t0_machines.csv`",
    );
    check(
        "google-2011-t0",
        &[("cell_t0_machines.csv", machines), ("cell_t0_machines.csv.gz", machines)],
        "DIR: holds both `cell_t0_machines.csv.gz` and `cell_t0_machines.csv`",
    );
    check(
        "google-2011-t0",
        &[("cell_t0_machines.csv", machines), ("cell_t0_tasks.csv", b"job_id,task_index\n1,2\n")],
        "cell_t0_tasks.csv:1: field `machine_id`: there is no such column in the header",
    );
    let missing = "cannot read: No such file or directory (os error 2)";
    check("google-2011", &[], &format!("machine_events: {missing}"));
    let events = MACHINES.as_bytes();
    check(
        "google-2011",
        &[("machine_events/part-0.csv", events)],
        &format!("task_events: {missing}"),
    );
    check(
        "google-2011",
        &[("machine_events/part-0.csv", events), ("task_events/part-0.txt", b"")],
        "task_events: holds no `part-*.csv.gz` and no `part-*.csv`",
    );
}

#[test]
fn an_empty_trace_is_an_error_always() {
    for options in [STRICT, LENIENT] {
        let check = |result: Result<Trace, String>, expected: &str| {
            let error = result.unwrap_err();
            assert!(error.ends_with(expected), "{error}");
        };
        check(load_raw("", TASKS, options), "is empty: it has no machine");
        check(load_raw(MACHINES, "", options), "is empty: it has no job");
        check(load_t0(T0_MACHINES, T0_HEADER, options), "is empty: it has no job");
    }
}

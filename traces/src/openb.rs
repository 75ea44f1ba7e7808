//! Alibaba's GPU cluster of 2023 ("openb"): the nodes and pods of a Kubernetes cluster.
//!
//! In: a node list and a pod list, csv with a header, gzip or plain. Out: a machine a node, and a job of
//! one task a pod, all of them pending: times and phases are not used, since the lists are made to be
//! packed at once.
//!
//! Traps: the `multigpu` lists have five columns only, and thus neither a QoS class nor a GPU type; a
//! `gpu_spec` may name a type twice; a few pods ask for no memory, which is a stated zero.
//!
//! Source: `alibaba/clusterdata`, `cluster-trace-gpu-v2023/README.md`; Weng et al., "Beware of
//! Fragmentation", USENIX ATC '23.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use cell::{
    Attributes, Bytes, Capacity, Cell, Constraint, GPU_DEVICE, GPU_DEVICE_COUNT_MAX, GpuRequest,
    Job, JobKind, Machine, MilliCpu, MilliGpu, Predicate, Priority, Resources, Strength, Task,
    UserId,
};

use crate::doctor::{Examiner, FindingKind};
use crate::error::{TraceError, quoted};
use crate::input::{InputFile, InputHash};
use crate::table::{Header, Row, Table};

/// The attribute that holds the type of a machine's GPUs.
const GPU_MODEL: &str = "gpu_model";

/// The owner of all pods: the trace names no users.
const USER: &str = "openb";

const MIB: u64 = 1 << 20;

/// Amounts at and above this are refused: the scheduler's scores keep 53 bits exact.
const AMOUNT_END: u64 = 1 << 53;

const NODE_COLUMNS: &[&str] = &["sn", "cpu_milli", "memory_mib", "gpu", "model"];

/// Of which the first five are in every list.
const POD_COLUMNS: &[&str] =
    &["name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "gpu_spec", "qos"];
const POD_COLUMNS_REQUIRED: usize = 5;
const GPU_MILLI: usize = 4;
const GPU_SPEC: usize = 5;
const QOS: usize = 6;

/// Reads a node list and a pod list.
pub(crate) fn read(
    nodes: &Path,
    pods: &Path,
    examiner: &mut Examiner,
    hash: &mut InputHash,
) -> Result<Cell, TraceError> {
    let nodes = InputFile::read(nodes)?;
    let pods = InputFile::read(pods)?;
    for file in [&nodes, &pods] {
        hash.add(file.name(), file);
    }
    let mut cell = Cell { users: vec![USER.to_owned()].into(), ..Cell::default() };
    cell.machines = read_nodes(&nodes, examiner)?.into();
    let models: BTreeSet<&str> = cell
        .machines
        .iter()
        .filter_map(|machine| machine.attributes.get(GPU_MODEL).map(String::as_str))
        .collect();
    cell.jobs = read_pods(&pods, &models, examiner)?.into();
    Ok(cell)
}

fn read_nodes(file: &InputFile, examiner: &mut Examiner) -> Result<Vec<Machine>, TraceError> {
    let mut table = Table::open(file, Header::FirstLine, NODE_COLUMNS, NODE_COLUMNS.len())?;
    examiner.open(&file.label);
    let mut machines = Vec::new();
    let mut names = HashSet::new();
    while let Some(row) = table.next_row() {
        let machine = row.and_then(|row| read_node(&row, &mut names));
        machines.extend(examiner.admit(machine)?);
    }
    Ok(machines)
}

fn read_pods(
    file: &InputFile,
    models: &BTreeSet<&str>,
    examiner: &mut Examiner,
) -> Result<Vec<Job>, TraceError> {
    let mut table = Table::open(file, Header::FirstLine, POD_COLUMNS, POD_COLUMNS_REQUIRED)?;
    examiner.open(&file.label);
    let mut jobs = Vec::new();
    let mut names = HashSet::new();
    while let Some(row) = table.next_row() {
        let mut findings = Vec::new();
        let pod = row.and_then(|row| {
            let place = row.place().clone();
            read_pod(&row, &mut names, models, &mut findings).map(|job| (job, place))
        });
        let Some((job, place)) = examiner.admit(pod)? else { continue };
        for (kind, problem) in findings {
            examiner.note(kind, &place, || format!("pod {}: {problem}", job.name));
        }
        jobs.push(job);
    }
    Ok(jobs)
}

fn read_node(row: &Row<'_>, names: &mut HashSet<String>) -> Result<Machine, TraceError> {
    let gpu_count = read_gpu_count(row, 3)?;
    let model = row.optional(4)?.map(|model| (GPU_MODEL.to_owned(), model.to_owned()));
    let (cpu, ram) = read_cpu_and_ram(row)?;
    Ok(Machine {
        name: read_name(row, names)?,
        capacity: Capacity { cpu, ram, disk: None, gpu_count },
        attributes: model.into_iter().collect::<Attributes>(),
        ..Machine::default()
    })
}

/// Reads a pod; what is odd about it is added to `findings`.
fn read_pod(
    row: &Row<'_>,
    names: &mut HashSet<String>,
    models: &BTreeSet<&str>,
    findings: &mut Vec<(FindingKind, &'static str)>,
) -> Result<Job, TraceError> {
    let (cpu, ram) = read_cpu_and_ram(row)?;
    let gpu = read_gpu_request(row, findings)?;
    let constraint = read_gpu_spec(row, gpu, models, findings)?;
    let priority = read_priority(row, findings)?;
    let limit = Resources { cpu, ram, gpu, ..Resources::default() };
    Ok(Job {
        name: read_name(row, names)?,
        kind: JobKind::Job,
        user: UserId(0),
        priority,
        constraints: constraint.into_iter().collect(),
        different_machines: false,
        spread: Vec::new(),
        packages: BTreeSet::new(),
        alloc_set: None,
        tied_to_machines: false,
        max_disrupted: None,
        tasks: vec![Task::new(0, limit)].into(),
    })
}

/// Reads a name, which no earlier row has: last of a row's fields, so that a wrong row takes no name.
fn read_name(row: &Row<'_>, names: &mut HashSet<String>) -> Result<String, TraceError> {
    let name = row.required(0)?;
    if name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') {
        return Err(row.error(0, format!("{} has white space or a `/` in it", quoted(name))));
    }
    if !names.insert(name.to_owned()) {
        return Err(row.error(0, format!("{} is there twice", quoted(name))));
    }
    Ok(name.to_owned())
}

fn read_cpu_and_ram(row: &Row<'_>) -> Result<(MilliCpu, Bytes), TraceError> {
    let amount = |column, unit: u64| {
        let number: u64 = read_amount(row, column)?;
        number
            .checked_mul(unit)
            .filter(|amount| *amount < AMOUNT_END)
            .ok_or_else(|| row.error(column, format!("{number} is too large")))
    };
    Ok((MilliCpu(amount(1, 1)?), Bytes(amount(2, MIB)?)))
}

/// Reads an integer; a negative one, or none at all, is told apart in the message.
fn read_amount(row: &Row<'_>, column: usize) -> Result<u64, TraceError> {
    let text = row.required(column)?;
    text.parse().map_err(|_| {
        let problem = match cell::quantity::decimal(text) {
            Ok(_) => format!("{} is not an integer that fits here", quoted(text)),
            Err(_) if text.starts_with('-') => format!("{} is negative", quoted(text)),
            Err(_) => format!("{} is not a finite number", quoted(text)),
        };
        row.error(column, problem)
    })
}

fn read_gpu_count(row: &Row<'_>, column: usize) -> Result<u32, TraceError> {
    let count = read_amount(row, column)?;
    u32::try_from(count)
        .ok()
        .filter(|count| *count as usize <= GPU_DEVICE_COUNT_MAX)
        .ok_or_else(|| row.error(column, format!("{count} GPUs; at most {GPU_DEVICE_COUNT_MAX}")))
}

fn read_gpu_request(
    row: &Row<'_>,
    findings: &mut Vec<(FindingKind, &'static str)>,
) -> Result<GpuRequest, TraceError> {
    let count = read_gpu_count(row, 3)?;
    let milli = read_amount(row, GPU_MILLI)?;
    let whole = GPU_DEVICE.0;
    let (milli_each, finding) = match (count, milli) {
        (0, 0) => (0, None),
        (0, _) => (0, Some((FindingKind::ClippedValue, "gpu_milli without a GPU, taken as 0"))),
        (_, 0) => {
            (whole, Some((FindingKind::ImputedValue, "gpu_milli is 0: taken as whole devices")))
        }
        (1, milli) if milli <= whole => (milli, None),
        (_, milli) if milli == whole => (whole, None),
        (_, _) => (
            whole,
            Some((FindingKind::ClippedValue, "gpu_milli is no share of one GPU: taken as 1000")),
        ),
    };
    findings.extend(finding);
    Ok(GpuRequest { count, milli_each: MilliGpu(milli_each) })
}

fn read_gpu_spec(
    row: &Row<'_>,
    gpu: GpuRequest,
    models: &BTreeSet<&str>,
    findings: &mut Vec<(FindingKind, &'static str)>,
) -> Result<Option<Constraint>, TraceError> {
    let Some(text) = row.optional(GPU_SPEC)? else { return Ok(None) };
    if gpu.count == 0 {
        findings.push((FindingKind::ClippedValue, "gpu_spec without a GPU, left out"));
        return Ok(None);
    }
    let wanted: BTreeSet<String> = text.split('|').map(str::trim).map(str::to_owned).collect();
    if wanted.contains("") {
        return Err(row.error(GPU_SPEC, format!("{} has an empty GPU type", quoted(text))));
    }
    if !wanted.iter().any(|model| models.contains(model.as_str())) {
        findings.push((FindingKind::OrphanConstraint, "no node has a GPU of its gpu_spec"));
    }
    Ok(Some(Constraint {
        attribute: GPU_MODEL.to_owned(),
        predicate: Predicate::In(wanted),
        strength: Strength::Hard,
    }))
}

/// Latency-sensitive (`LS`) and guaranteed pods are production, burstable ones mid, best-effort (`BE`)
/// ones batch. In a list without QoS classes all are taken for `LS`, the most frequent.
fn read_priority(
    row: &Row<'_>,
    findings: &mut Vec<(FindingKind, &'static str)>,
) -> Result<Priority, TraceError> {
    let value = match row.optional(QOS)? {
        Some("LS" | "Guaranteed") => 200,
        Some("Burstable") => 116,
        Some("BE") => 100,
        Some(text) => {
            let problem = format!("{} is not LS, Guaranteed, Burstable or BE", quoted(text));
            return Err(row.error(QOS, problem));
        }
        None if row.has(QOS) => return Err(row.error(QOS, "is empty")),
        None => {
            findings.push((FindingKind::ImputedValue, "the list has no qos: taken as LS"));
            200
        }
    };
    Ok(Priority::new(value).expect("each of them is at most 200"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{LENIENT, STRICT, folder_with, message, outside_traces};
    use crate::{ReadOptions, Trace, Workload, load};

    const NODES: &str = "sn,cpu_milli,memory_mib,gpu,model\nn0,32000,1024,0,\nn1,8000,2048,2,T4\n";
    const POD_HEADER: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,\
        creation_time,deletion_time,scheduled_time\n";

    fn load_lists(nodes: &str, pods: &str, options: ReadOptions) -> Result<Trace, String> {
        let folder = folder_with(&[("n.csv", nodes.as_bytes()), ("p.csv", pods.as_bytes())]);
        let path = folder.path().display();
        load(&format!("openb:{path}/n.csv,{path}/p.csv"), options)
            .map_err(|error| message(&error, folder.path()))
    }

    fn load_pod(row: &str, options: ReadOptions) -> Result<Trace, String> {
        let good = "p0,1000,512,0,0,,LS,Running,0,1,0";
        load_lists(NODES, &format!("{POD_HEADER}{good}\n{row}\n"), options)
    }

    #[test]
    fn nodes_are_machines_and_pods_jobs_of_one_task() {
        let trace =
            load_pod("p1,6000,12288,1,460,V100M16|T4|T4,Burstable,Pending,5,9,", STRICT).unwrap();
        assert_eq!(trace.workload, Workload::All);
        assert_eq!(trace.doctor.findings, []);
        let [plain, with_gpus] = &trace.cell.machines[..] else { panic!("two nodes") };
        assert!(plain.attributes.is_empty());
        assert_eq!(with_gpus.attributes[GPU_MODEL], "T4");
        assert_eq!(with_gpus.capacity.gpu_count, 2);
        assert_eq!(with_gpus.capacity.ram, Bytes(2 << 30));
        let job = &trace.cell.jobs[1];
        assert_eq!(job.name, "p1");
        assert_eq!(job.priority.get(), 116);
        assert_eq!(job.tasks[0].limit.ram, Bytes(12 << 30));
        assert_eq!(job.tasks[0].limit.gpu.total(), MilliGpu(460));
        assert_eq!(job.constraints[0].to_string(), "gpu_model in {T4, V100M16}");
    }

    #[test]
    fn each_qos_class_has_its_priority() {
        let check = |qos: &str, priority: u16| {
            let trace = load_pod(&format!("p1,1,1,0,0,,{qos},Running,0,1,0"), STRICT).unwrap();
            assert_eq!(trace.cell.jobs[1].priority.get(), priority, "{qos}");
        };
        check("LS", 200);
        check("Guaranteed", 200);
        check("Burstable", 116);
        check("BE", 100);
    }

    #[test]
    fn odd_gpu_requests_are_repaired_and_counted() {
        let check = |gpu: &str, count: u32, milli: u64, kind: FindingKind| {
            let trace = load_pod(&format!("p1,1,1,{gpu},LS,Running,0,1,0"), STRICT).unwrap();
            let request = trace.cell.jobs[1].tasks[0].limit.gpu;
            assert_eq!(request, GpuRequest { count, milli_each: MilliGpu(milli) }, "{gpu}");
            assert_eq!(trace.doctor.count(kind), 1, "{gpu}");
            assert_eq!(trace.doctor.findings.len(), 1, "{gpu}");
        };
        check("0,500,", 0, 0, FindingKind::ClippedValue);
        check("0,0,T4", 0, 0, FindingKind::ClippedValue);
        check("1,1001,", 1, 1000, FindingKind::ClippedValue);
        check("2,500,", 2, 1000, FindingKind::ClippedValue);
        check("1,0,", 1, 1000, FindingKind::ImputedValue);
        check("1,1000,H100", 1, 1000, FindingKind::OrphanConstraint);
    }

    #[test]
    fn each_bad_row_is_named_or_skipped() {
        let check = |row: &str, expected: &str| {
            let error = load_pod(row, STRICT).unwrap_err();
            assert_eq!(error, format!("p.csv:3: {expected}"), "{row}");
            let trace = load_pod(row, LENIENT).unwrap();
            assert_eq!(trace.doctor.count(FindingKind::SkippedRow), 1, "{row}");
            assert_eq!(trace.cell.jobs.len(), 1, "{row}");
        };
        check("p1,-5,1,0,0,,LS,R,0,1,0", r#"field `cpu_milli`: "-5" is negative"#);
        check("p1,1,inf,0,0,,LS,R,0,1,0", r#"field `memory_mib`: "inf" is not a finite number"#);
        check(
            "p1,0.5,1,0,0,,LS,R,0,1,0",
            r#"field `cpu_milli`: "0.5" is not an integer that fits here"#,
        );
        check(
            "p1,1,9999999999999,0,0,,LS,R,0,1,0",
            "field `memory_mib`: 9999999999999 is too large",
        );
        check("p1,1,1,17,1000,,LS,R,0,1,0", "field `num_gpu`: 17 GPUs; at most 16");
        check(
            "p1,1,1,1,1000,T4||G2,LS,R,0,1,0",
            r#"field `gpu_spec`: "T4||G2" has an empty GPU type"#,
        );
        check(
            "p1,1,1,0,0,,XX,R,0,1,0",
            r#"field `qos`: "XX" is not LS, Guaranteed, Burstable or BE"#,
        );
        check("p1,1,1,0,0,,,R,0,1,0", "field `qos`: is empty");
        check("p0,1,1,0,0,,LS,R,0,1,0", r#"field `name`: "p0" is there twice"#);
        check("a b,1,1,0,0,,LS,R,0,1,0", r#"field `name`: "a b" has white space or a `/` in it"#);
        check("p1,1,1,0", "field `gpu_milli`: missing: the row has 4 of 11 fields");
        check("p1,1,1,0,0,,LS,R,0,1", "the row has 10 fields instead of 11");
    }

    #[test]
    fn a_missing_column_or_file_and_an_empty_list_are_errors_always() {
        let pods = format!("{POD_HEADER}p0,1000,512,0,0,,LS,Running,0,1,0\n");
        let check = |nodes: &str, pods: &str, expected: &str| {
            assert_eq!(load_lists(nodes, pods, STRICT).unwrap_err(), expected);
            assert_eq!(load_lists(nodes, pods, LENIENT).unwrap_err(), expected);
        };
        let absent = |column: &str| {
            let problem = "there is no such column in the header";
            format!("1: field `{column}`: {problem}")
        };
        check(&NODES.replace("gpu,", "gpus,"), &pods, &format!("n.csv:{}", absent("gpu")));
        check(NODES, &pods.replace("num_gpu", "gpus"), &format!("p.csv:{}", absent("num_gpu")));
        // Only where both are absent is it a list of five columns.
        check(NODES, &pods.replace("qos", "class"), &format!("p.csv:{}", absent("qos")));
        check(
            NODES,
            &pods.replace("pod_phase", "qos"),
            "p.csv:1: field `qos`: this column is there twice",
        );
        let empty = load_lists(NODES, POD_HEADER, LENIENT).unwrap_err();
        assert!(empty.ends_with("is empty: it has no job"), "{empty}");
        let empty = load_lists("sn,cpu_milli,memory_mib,gpu,model\n", &pods, STRICT).unwrap_err();
        assert!(empty.ends_with("is empty: it has no machine"), "{empty}");
        let error = load("openb:/nowhere/n.csv,/nowhere/p.csv", LENIENT).unwrap_err();
        assert!(error.to_string().starts_with("/nowhere/n.csv: cannot read"), "{error}");
    }

    #[test]
    fn a_list_of_five_columns_takes_all_pods_for_latency_sensitive() {
        let pods = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\np0,1,1,0,0\np1,1,1,2,1000\n";
        let trace = load_lists(NODES, pods, STRICT).unwrap();
        assert!(trace.cell.jobs.iter().all(|job| job.priority.get() == 200));
        assert_eq!(trace.doctor.count(FindingKind::ImputedValue), 2);
    }

    #[test]
    fn openb_has_the_numbers_of_its_readme() {
        let Some(folder) = outside_traces("alibaba-openb-2023") else { return };
        let folder = folder.display();
        let lists = |pods: &str| {
            let nodes = "openb_node_list_all_node.csv.gz";
            load(&format!("openb:{folder}/{nodes},{folder}/openb_pod_list_{pods}.csv.gz"), STRICT)
                .unwrap()
        };
        let trace = lists("default");
        let capacity = |of: fn(&Capacity) -> u64| {
            trace.cell.machines.iter().map(|machine| of(&machine.capacity)).sum::<u64>()
        };
        assert_eq!(trace.cell.machines.len(), 1523);
        assert_eq!(trace.cell.machines.iter().filter(|m| m.capacity.gpu_count > 0).count(), 1213);
        assert_eq!(capacity(|c| c.cpu.0) / 1000, 125_514);
        assert_eq!(capacity(|c| c.ram.0) >> 30, 597_684);
        assert_eq!(capacity(|c| u64::from(c.gpu_count)), 6212);
        let limits: Vec<Resources> = trace.cell.tasks().map(|(_, _, task)| task.limit).collect();
        assert_eq!(limits.len(), 8152);
        let with_gpus =
            |wanted: fn(u32) -> bool| limits.iter().filter(|limit| wanted(limit.gpu.count)).count();
        assert_eq!(with_gpus(|count| count == 0), 1088);
        assert_eq!(with_gpus(|count| count == 1), 6989);
        assert_eq!(with_gpus(|count| count > 1), 75);
        let total = |of: fn(&Resources) -> u64| limits.iter().map(of).sum::<u64>();
        assert_eq!(total(|limit| limit.gpu.total().0).div_ceil(1000), 6087);
        assert_eq!(total(|limit| limit.cpu.0) / 1000, 85_436);
        assert_eq!(total(|limit| limit.ram.0) >> 30, 296_431);
        let of_priority =
            |priority| trace.cell.jobs.iter().filter(|job| job.priority.get() == priority).count();
        assert_eq!(of_priority(200), 4647 + 7);
        assert_eq!(of_priority(100), 3398);
        assert_eq!(of_priority(116), 100);
        assert_eq!(trace.doctor.findings, []);
        // 33 % of the 7064 pods with GPUs, and of 8152 pods 5764 without a type.
        let constrained = lists("gpuspec33").cell;
        let count = constrained.jobs.iter().filter(|job| !job.constraints.is_empty()).count();
        assert_eq!(count, 8152 - 5764);
        let short = lists("multigpu50");
        assert_eq!(short.doctor.count(FindingKind::ImputedValue), 9061);
    }
}

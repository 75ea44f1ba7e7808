//! A cell written by hand, or exported: YAML and JSON files in the schema of [`cell::spec`].
//!
//! In: a folder; its `*.yaml`, `*.yml` and `*.json` files in the order of their names. Out: a cell with
//! the machines of all files, then their alloc sets, then their jobs. JSON is read as the YAML that it
//! also is, so that its errors have lines too. A key that is there twice is an error.
//!
//! In lenient reading, an entry that breaks a rule of the schema is skipped; a file that does not parse
//! is an error always, since there is no telling where its next entry begins.

use std::collections::BTreeSet;
use std::path::Path;

use cell::spec::{CellBuilder, JobSpec, MachineSpec, SPEC_VERSION, SpecError};
use cell::{Cell, JobId};
use serde::Deserialize;
use serde_saphyr::{Spanned, UserMessageFormatter};

use crate::doctor::Examiner;
use crate::error::{TraceError, one_line, quoted};
use crate::input::{InputFile, InputHash, Place, files_in};

/// The most machines, and the most tasks, that one cell may have. Our own limits, some hundred times the
/// largest trace, so that a slip of the pen (`count: 4000000000`) is an error and not a full memory.
const MACHINE_COUNT_MAX: u64 = 1_000_000;
const TASK_COUNT_MAX: u64 = 10_000_000;

/// One file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: Spanned<u32>,
    #[serde(default)]
    machines: Vec<Spanned<MachineSpec>>,
    #[serde(default)]
    alloc_sets: Vec<Spanned<JobSpec>>,
    #[serde(default)]
    jobs: Vec<Spanned<JobSpec>>,
}

/// Reads all files of a folder.
pub(crate) fn read(
    folder: &Path,
    examiner: &mut Examiner,
    hash: &mut InputHash,
) -> Result<Cell, TraceError> {
    let is_ours =
        |name: &str| [".yaml", ".yml", ".json"].iter().any(|ending| name.ends_with(ending));
    let mut documents = Vec::new();
    for (name, path) in files_in(folder, is_ours)? {
        let file = InputFile::read(&path)?;
        hash.add(&name, &file);
        let document = parse(&file)?;
        examiner.open(&file.label);
        for _ in 0..document.machines.len() + document.alloc_sets.len() + document.jobs.len() {
            examiner.admit(Ok(()))?;
        }
        documents.push((file, document));
    }
    let mut builder = Builder::default();
    for (file, document) in &documents {
        for entry in &document.machines {
            let added = builder.add_machine(&entry.value);
            excuse(file, "machine", entry, &entry.value.name, added, examiner)?;
        }
    }
    for (file, document) in &documents {
        for entry in &document.alloc_sets {
            let added = builder.add(&entry.value, CellBuilder::add_alloc_set);
            excuse(file, "alloc set", entry, &entry.value.name, added, examiner)?;
        }
    }
    for (file, document) in &documents {
        for entry in &document.jobs {
            let added = builder.add(&entry.value, CellBuilder::add_job);
            excuse(file, "job", entry, &entry.value.name, added, examiner)?;
        }
    }
    Ok(builder.cell.finish())
}

/// Adds the jobs of a file, which arrive: none of them runs yet. Returns their ids.
pub(crate) fn arrive(cell: Cell, path: &Path) -> Result<(Cell, Vec<JobId>), TraceError> {
    let file = InputFile::read(path)?;
    let document = parse(&file)?;
    let refuse = |line: u64, field: &str, problem: &str| {
        Err(Place { file: file.label.clone(), line }.field(field, problem))
    };
    if let Some(entry) = document.machines.first() {
        return refuse(entry.referenced.line(), "machines", "only jobs arrive");
    }
    if let Some(entry) = document.alloc_sets.first() {
        return refuse(entry.referenced.line(), "alloc_sets", "only jobs arrive");
    }
    let from = cell.jobs.len();
    let mut builder = CellBuilder::onto(cell);
    for entry in &document.jobs {
        let line = entry.referenced.line();
        if entry.value.tasks.iter().any(|task| task.machine.is_some() || task.alloc.is_some()) {
            return refuse(line, "tasks", "a task that arrives does not run yet");
        }
        if let Err(SpecError { field, problem }) = builder.add_job(&entry.value) {
            return refuse(line, &one_line(&field), &one_line(&problem));
        }
    }
    let cell = builder.finish();
    let ids = (from..cell.jobs.len()).map(JobId::from_index).collect();
    Ok((cell, ids))
}

fn parse(file: &InputFile) -> Result<Document, TraceError> {
    let at = |line| Place { file: file.label.clone(), line };
    let row = |line, problem: &str| TraceError::Row {
        file: file.label.to_string(),
        line,
        problem: one_line(problem),
    };
    let text = std::str::from_utf8(file.bytes()).map_err(|error| {
        let before = &file.bytes()[..error.valid_up_to()];
        let newlines = before.iter().filter(|byte| **byte == b'\n').count();
        row(newlines as u64 + 1, "not UTF-8")
    })?;
    let document: Document =
        serde_saphyr::from_str_with_options(text, options()).map_err(|error| {
            let (line, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
            let problem = error.without_snippet().render_with_formatter(&UserMessageFormatter);
            let problem = problem.trim_end_matches(&format!(" at line {line}, column {column}"));
            match field_at(text, line, column, problem) {
                Some(field) => at(line).field(one_line(field), one_line(problem)),
                None => row(line, problem),
            }
        })?;
    if document.version.value != SPEC_VERSION {
        let problem = format!("{} is not {SPEC_VERSION}", document.version.value);
        return Err(at(document.version.referenced.line()).field("version", problem));
    }
    Ok(document)
}

/// The field whose value stands at this line and column, both from 1: the parser knows the place only.
/// `None` where the text does not show it plainly, or `problem` names it already.
fn field_at<'a>(text: &'a str, line: u64, column: u64, problem: &str) -> Option<&'a str> {
    let line_index = usize::try_from(line).ok()?.checked_sub(1)?;
    let char_index = usize::try_from(column).ok()?.checked_sub(1)?;
    let mut lines = text.lines().take(line_index + 1).collect::<Vec<_>>().into_iter().rev();
    let at = lines.next()?;
    let split_at = at.char_indices().nth(char_index).map_or(at.len(), |(index, _)| index);
    let (before, after) = at.split_at(split_at);
    let is_key =
        |key: &str| !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '_');
    let unquoted = |key: &'a str| key.trim_matches(['"', '\'']);
    if let Some((key, _)) = after.split_once(':')
        && is_key(unquoted(key))
    {
        // The place is that of a key, and most such messages are about a key that they name.
        return Some(unquoted(key)).filter(|_| !problem.contains('`'));
    }
    let before = match before.trim_end() {
        "" => lines.find(|line| !line.trim().is_empty())?.trim_end(),
        before => before,
    };
    let key = before.strip_suffix(':')?;
    let key = key.rsplit([' ', '\t', '{', ',']).next().map(unquoted)?;
    is_key(key).then_some(key)
}

/// Without the limits on size that guard a service against its clients: here the author of the file and
/// the reader are the same, and memory is bounded by the file. Aliases, which can make a small file
/// large, stay bounded.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: usize::MAX,
            max_nodes: usize::MAX,
            max_total_scalar_bytes: usize::MAX,
            max_total_comment_bytes: usize::MAX,
            max_aliases: usize::MAX,
            max_merge_keys: usize::MAX,
            enforce_alias_anchor_ratio: false,
        },
        emit_comments: false,
        with_snippet: false,
    }
}

/// Fills a cell, and checks before [`CellBuilder`] does what must not be found half-way: after an error
/// of the builder the cell may hold a part of the entry, which a lenient reader would then keep.
#[derive(Default)]
struct Builder {
    cell: CellBuilder,
    machine_names: BTreeSet<String>,
    job_names: BTreeSet<String>,
    task_count: u64,
}

impl Builder {
    fn add_machine(&mut self, spec: &MachineSpec) -> Result<(), SpecError> {
        let wanted = u64::from(spec.count.unwrap_or(1));
        if self.machine_names.len() as u64 + wanted > MACHINE_COUNT_MAX {
            return Err(problem("count", format!("above {MACHINE_COUNT_MAX} machines in all")));
        }
        let names: Vec<String> = match spec.count {
            None => vec![spec.name.clone()],
            Some(count) => (0..count).map(|index| format!("{}-{index}", spec.name)).collect(),
        };
        if let Some(name) = names.iter().find(|name| self.machine_names.contains(*name)) {
            return Err(problem("name", format!("machine {} is there twice", quoted(name))));
        }
        self.cell.add_machine(spec)?;
        self.machine_names.extend(names);
        Ok(())
    }

    fn add(
        &mut self,
        spec: &JobSpec,
        add: impl Fn(&mut CellBuilder, &JobSpec) -> Result<(), SpecError>,
    ) -> Result<(), SpecError> {
        if self.task_count + u64::from(spec.count) > TASK_COUNT_MAX {
            return Err(problem("count", format!("above {TASK_COUNT_MAX} tasks in all")));
        }
        if self.job_names.contains(&spec.name) {
            return Err(problem("name", format!("job {} is there twice", quoted(&spec.name))));
        }
        add(&mut self.cell, spec)?;
        self.task_count += u64::from(spec.count);
        self.job_names.insert(spec.name.clone());
        Ok(())
    }
}

fn problem(field: &str, problem: String) -> SpecError {
    SpecError { field: field.to_owned(), problem }
}

/// Says where an entry that could not be added stands.
fn excuse<T>(
    file: &InputFile,
    kind: &str,
    entry: &Spanned<T>,
    name: &str,
    added: Result<(), SpecError>,
    examiner: &mut Examiner,
) -> Result<(), TraceError> {
    let added = added.map_err(|error| TraceError::Entry {
        file: file.label.to_string(),
        line: entry.referenced.line(),
        entry: one_line(&format!("{kind} {name}")),
        field: error.field,
        problem: one_line(&error.problem),
    });
    examiner.excuse(added).map(|_| ())
}

#[cfg(test)]
mod tests {
    use crate::testing::{LENIENT, STRICT, folder_with, message};
    use crate::{FindingKind, ReadOptions, Trace, load};

    const MACHINES: &str = "version: 1\nmachines:\n- {name: m, cpu: 4, ram: 4GiB, gpus: 1}\n";
    const JOBS: &str = "version: 1\njobs:\n\
        - {name: j, user: u, priority: 200, limit: {cpu: 1, ram: 1GiB}}\n";

    fn load_files(files: &[(&str, &str)], options: ReadOptions) -> Result<Trace, String> {
        let files: Vec<(&str, &[u8])> = files.iter().map(|(n, t)| (*n, t.as_bytes())).collect();
        let folder = folder_with(&files);
        load(&format!("cell:{}", folder.path().display()), options).map_err(|error| {
            message(&error, folder.path()).replace(folder.path().to_str().unwrap(), "DIR")
        })
    }

    #[test]
    fn files_are_read_in_the_order_of_their_names_and_machines_come_first() {
        let trace = load_files(
            &[
                ("b.yml", "version: 1\nmachines:\n- {name: late, cpu: 1, ram: 1}\n"),
                ("a.yaml", JOBS),
                ("c.json", "{\"version\": 1,\n\t\"machines\": [{\"name\": \"last\", \"cpu\": 0.5, \"ram\": 1}]}"),
                ("0.yaml", "version: 1\njobs:\n- {name: k, user: u, priority: 1, alloc_set: set, limit: {cpu: 1, ram: 1}}\n"),
                ("z.yaml", "version: 1\nalloc_sets:\n- {name: set, user: u, priority: 1, limit: {cpu: 1, ram: 1}}\n"),
                ("notes.txt", "not read"),
                ("deeper/x.yaml", "not read"),
            ],
            STRICT,
        )
        .unwrap();
        let machines: Vec<&str> = trace.cell.machines.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(machines, ["late", "last"]);
        let jobs: Vec<&str> = trace.cell.jobs.iter().map(|job| job.name.as_str()).collect();
        assert_eq!(jobs, ["set", "k", "j"]);
        assert_eq!(trace.workload, crate::Workload::All);
        assert_eq!(trace.doctor.row_count(), 5);
        assert_eq!(trace.doctor.findings, []);
    }

    #[test]
    fn a_bad_file_is_one_line_that_names_file_line_and_field() {
        let check = |text: &str, expected: &str| {
            let files = [("a.yaml", MACHINES), ("b.yaml", text)];
            assert_eq!(load_files(&files, STRICT).unwrap_err(), expected, "{text}");
            // A file that does not parse is an error in lenient reading, too.
            assert_eq!(load_files(&files, LENIENT).unwrap_err(), expected, "{text}");
        };
        check("", "b.yaml:1: unexpected end of file");
        check("version: 2\n", "b.yaml:1: field `version`: 2 is not 1");
        check("version: x\n", "b.yaml:1: field `version`: invalid u32");
        check("machines: []\n", "b.yaml:1: missing field `version`");
        check(
            "version: 1\nversion: 1\n",
            "b.yaml:2: duplicate mapping key `version` is not allowed here",
        );
        check("version: 1\nmachines: 5\n", "b.yaml:2: field `machines`: expected sequence start");
        check("version: 1\nmachines: [\n", "b.yaml:2: field `machines`: unclosed bracket '['");
        check(
            "version: 1\nmachine: 5\n",
            "b.yaml:2: unknown field `machine`, expected one of version, machines, alloc_sets, jobs",
        );
        let machine = |fields: &str| format!("version: 1\nmachines:\n- name: n\n  {fields}\n");
        check(&machine("cpu: -1"), r#"b.yaml:4: field `cpu`: "-1" is negative"#);
        check(&machine("cpu:\n    -1"), r#"b.yaml:5: field `cpu`: "-1" is negative"#);
        check(&machine("cpu: .nan"), "b.yaml:4: field `cpu`: value `.nan` is not a finite number");
        check(
            &machine("cpu: [1]"),
            r#"b.yaml:4: field `cpu`: invalid type: sequence, expected cores (0.5) or milli-cores ("500m")"#,
        );
        check(&machine("ram: 5"), "b.yaml:4: missing field `cpu`");
        check(
            &machine("cpu: 1\n  cpu: 1"),
            "b.yaml:5: duplicate mapping key `cpu` is not allowed here",
        );
        check(
            &machine("cpu: 1\n  ram: 5 apples"),
            r#"b.yaml:5: field `ram`: "5 apples" has an unknown unit; known are k, M, G, T, Ki, Mi, Gi, Ti, each with or without B"#,
        );
        check(
            "{\"version\": 1,\n\t\"machines\": [{\"name\": \"n\", \"cpu\": 1, \"ram\": -5}]}",
            r#"b.yaml:2: field `ram`: "-5" is negative"#,
        );
    }

    #[test]
    fn a_bad_entry_names_its_line_and_itself_or_is_skipped() {
        let check = |text: &str, expected: &str| {
            let text = format!("{JOBS}{text}\n");
            let files = [("a.yaml", MACHINES), ("b.yaml", text.as_str())];
            assert_eq!(load_files(&files, STRICT).unwrap_err(), expected, "{text}");
            let trace = load_files(&files, LENIENT).unwrap();
            assert_eq!(trace.doctor.count(FindingKind::SkippedRow), 1);
            assert_eq!(trace.doctor.findings[0].example.line, 4);
            assert_eq!(trace.cell.jobs.len(), 1);
        };
        let job = |fields: &str| {
            format!("- {{name: k, user: u, priority: 1, limit: {{cpu: 1}}, {fields}}}")
        };
        check(&job("count: 0"), "b.yaml:4: job k: field `count`: 0 is not in 1..=1000000");
        check(
            &job("alloc_set: x"),
            r#"b.yaml:4: job k: field `alloc_set`: no alloc set is called "x""#,
        );
        check(
            &job("tasks: [{index: 0, machine: x}]"),
            r#"b.yaml:4: job k: field `tasks[0].machine`: no machine is called "x""#,
        );
        check(
            "- {name: j, user: u, priority: 1, limit: {cpu: 1}}",
            r#"b.yaml:4: job j: field `name`: job "j" is there twice"#,
        );
    }

    #[test]
    fn a_skipped_machine_leaves_nothing_behind() {
        let more = "version: 1\nmachines:\n- {name: n-1, cpu: 1, ram: 1}\n\
            - {name: n, count: 3, cpu: 2, ram: 2}\n- {name: m, cpu: 9, ram: 9}\n- {name: o, cpu: 1, ram: 1}\n";
        let on_m = "version: 1\njobs:\n- {name: j, user: u, priority: 1, limit: {cpu: 1}, \
            tasks: [{index: 0, machine: m}]}\n";
        let files = [("a.yaml", MACHINES), ("b.yaml", more), ("c.yaml", on_m)];
        assert_eq!(
            load_files(&files, STRICT).unwrap_err(),
            r#"b.yaml:4: machine n: field `name`: machine "n-1" is there twice"#
        );
        let trace = load_files(&files, LENIENT).unwrap();
        let names: Vec<&str> = trace.cell.machines.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["m", "n-1", "o"]);
        let on = Some(cell::Host::Machine(cell::MachineId(0)));
        assert_eq!(trace.cell.jobs[0].tasks[0].state, cell::TaskState::Running { on });
        assert_eq!(trace.doctor.count(FindingKind::SkippedRow), 2);
    }

    #[test]
    fn an_empty_cell_is_an_error() {
        let check = |files: &[(&str, &str)], expected: &str| {
            assert_eq!(load_files(files, STRICT).unwrap_err(), expected);
            assert_eq!(load_files(files, LENIENT).unwrap_err(), expected);
        };
        check(&[], r#"trace "cell:DIR" is empty: it has no machine"#);
        check(&[("a.yaml", JOBS)], r#"trace "cell:DIR" is empty: it has no machine"#);
        check(&[("a.yaml", MACHINES)], r#"trace "cell:DIR" is empty: it has no job"#);
        let set = "version: 1\nalloc_sets:\n- {name: s, user: u, priority: 1, limit: {cpu: 1}}\n";
        let files = [("a.yaml", MACHINES), ("b.yaml", set)];
        check(&files, r#"trace "cell:DIR" is empty: it has no job"#);
    }

    #[test]
    fn counts_that_would_fill_the_memory_are_refused() {
        let huge = "version: 1\nmachines:\n- {name: n, count: 4000000000, cpu: 1, ram: 1}\n";
        let error = load_files(&[("a.yaml", huge)], STRICT).unwrap_err();
        assert_eq!(error, "a.yaml:3: machine n: field `count`: above 1000000 machines in all");
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text =
            "version: 1\nmachines:\n- &m0 {name: m, cpu: 1, ram: 1, attributes: &a0 {a: b}}\n"
                .to_owned();
        text.push_str("jobs: [");
        for depth in 1..30 {
            let last = depth - 1;
            let anchor = format!("&b{depth} [*b{last}, *b{last}],");
            text.push_str(&if depth == 1 { "&b1 [1, 1],".to_owned() } else { anchor });
        }
        text.push(']');
        assert!(load_files(&[("a.yaml", &text)], STRICT).is_err());
    }

    #[test]
    fn a_cell_of_fifty_thousand_entries_is_read() {
        let mut text =
            "version: 1\nmachines:\n- {name: m, count: 10, cpu: 4, ram: 4GiB}\njobs:\n".to_owned();
        for job in 0..50_000 {
            text.push_str(&format!(
                "- {{name: j{job}, user: u{}, priority: 200, limit: {{cpu: 1, ram: 1GiB}}, \
                 tasks: [{{index: 0, machine: m-{}}}]}}\n",
                job % 100,
                job % 10
            ));
        }
        let trace = load_files(&[("a.yaml", &text)], STRICT).unwrap();
        assert_eq!(trace.cell.jobs.len(), 50_000);
        assert_eq!(trace.cell.users.len(), 100);
        assert!(trace.cell.tasks().all(|(_, _, task)| task.is_running()));
    }
}

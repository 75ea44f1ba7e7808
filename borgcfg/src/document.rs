//! Job files: what `submit`, `update` and `fits` read.
//!
//! In: YAML (JSON is some of it) with one document or several. A document is a job, or it is in the form of
//! `cell:DIR` with `jobs` and `alloc_sets`; the fields of both are in [`cell::spec`]. Out: jobs and alloc sets
//! whose fields are in range, or what is wrong, by file, line and field. Asks no cell.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use cell::spec::{JobSpec, MachineSpec, SPEC_VERSION, SpecError, read_job, read_machine};
use cell::{JobKind, UserId};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_path_to_error::{Deserializer, Path as FieldPath, Segment, Track};
use serde_saphyr::{Spanned, UserMessageFormatter};

use crate::failure::Failure;
use crate::show;

/// The longest file of jobs or machines in bytes. Our own limit: four times the longest request.
const DOCUMENT_BYTES_MAX: u64 = 64 << 20;

/// A job or an alloc set of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub spec: Box<JobSpec>,
    pub is_alloc_set: bool,
}

/// What a file holds.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Alloc sets first, so that they are there before the jobs in them.
    pub jobs: Vec<Job>,
    pub machines: Vec<MachineSpec>,
}

/// A document in the form of `cell:DIR`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lists {
    version: Option<Spanned<u32>>,
    #[serde(default)]
    machines: Vec<Spanned<MachineSpec>>,
    #[serde(default)]
    alloc_sets: Vec<Spanned<JobSpec>>,
    #[serde(default)]
    jobs: Vec<Spanned<JobSpec>>,
}

/// Fields that only a document with lists has.
const OF_LISTS: [&str; 4] = ["version", "machines", "alloc_sets", "jobs"];

/// Reads the jobs of a file, at least one; `-` is the standard input.
pub(crate) fn read_jobs(path: &Path) -> Result<Vec<Job>, Failure> {
    let (file, text) = read_text(path)?;
    let Contents { jobs, machines } = parse(&file, &text)?;
    if !machines.is_empty() {
        let problem = "machines are no jobs: `borgcfg machines add` takes them";
        return Err(Failure::BadInput(format!("{file}: field `machines`: {problem}")));
    }
    match jobs.is_empty() {
        true => Err(Failure::BadInput(format!("{file}: there is no job in it"))),
        false => Ok(jobs),
    }
}

/// Reads the machines of a file, at least one; `-` is the standard input.
pub(crate) fn read_machines(path: &Path) -> Result<Vec<MachineSpec>, Failure> {
    let (file, text) = read_text(path)?;
    let Contents { jobs, machines } = parse(&file, &text)?;
    if !jobs.is_empty() || machines.is_empty() {
        let problem = "it has to hold a list `machines`, and nothing else";
        return Err(Failure::BadInput(format!("{file}: {problem}")));
    }
    Ok(machines)
}

fn read_text(path: &Path) -> Result<(String, String), Failure> {
    let (file, read) = match path.to_str() {
        Some("-") => {
            ("standard input".to_owned(), read_up_to(io::stdin().lock(), DOCUMENT_BYTES_MAX))
        }
        _ => {
            let read = File::open(path).and_then(|file| read_up_to(file, DOCUMENT_BYTES_MAX));
            (path.display().to_string(), read)
        }
    };
    let bytes = read.map_err(|error| Failure::BadInput(format!("{file}: {error}")))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok((file, text)),
        Err(error) => {
            let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            Err(Failure::BadInput(format!("{file}:{line}: not UTF-8")))
        }
    }
}

/// Reads all there is, unless it is more than so many bytes: some files have no end.
pub(crate) fn read_up_to(input: impl Read, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > bytes_max {
        let problem = format!("it is longer than {}", show::bytes(bytes_max));
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(bytes)
}

/// Reads a text; `file` is what errors call it.
pub(crate) fn parse(file: &str, text: &str) -> Result<Contents, Failure> {
    let mut contents = Contents::default();
    let mut jobs = Vec::new();
    for document in documents(file, text) {
        if !document.has_lists() {
            jobs.push(document.job(document.read()?, false)?);
            continue;
        }
        let lists: Lists = document.read()?;
        if let Some(version) = lists.version
            && version.value != SPEC_VERSION
        {
            let problem = format!("{} is not {SPEC_VERSION}", version.value);
            return Err(document.fault(&version, "", SpecError::new("version", problem)));
        }
        for set in lists.alloc_sets {
            contents.jobs.push(document.job(set, true)?);
        }
        for job in lists.jobs {
            jobs.push(document.job(job, false)?);
        }
        for machine in lists.machines {
            let what = format!("machine {}: ", machine.value.name);
            read_machine(&machine.value).map_err(|error| document.fault(&machine, &what, error))?;
            contents.machines.push(machine.value);
        }
    }
    contents.jobs.extend(jobs);
    Ok(contents)
}

/// A document of a file.
struct Document<'f> {
    file: &'f str,
    /// Lines of the file before it.
    line_offset: usize,
    text: String,
}

/// The documents of a text, those that are empty left out. A line that begins with `---` begins one, whatever it
/// is in.
fn documents<'f>(file: &'f str, text: &str) -> Vec<Document<'f>> {
    let begin = |line_offset| Document { file, line_offset, text: String::new() };
    let mut documents = vec![begin(0)];
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("---") && number > 0 {
            documents.push(begin(number));
        }
        if let Some(document) = documents.last_mut() {
            document.text.extend([line, "\n"]);
        }
    }
    let is_empty = |line: &str| {
        let line = line.trim();
        line.is_empty() || line.starts_with(['#', '%']) || line == "---" || line == "..."
    };
    documents.retain(|document| !document.text.lines().all(is_empty));
    documents
}

impl Document<'_> {
    /// Which form it has, by its fields.
    fn has_lists(&self) -> bool {
        let fields = serde_saphyr::from_str::<BTreeMap<String, IgnoredAny>>(&self.text);
        // What is no mapping is found out when it is read.
        fields.is_ok_and(|fields| OF_LISTS.iter().any(|field| fields.contains_key(*field)))
    }

    fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let options = serde_saphyr::options! { with_snippet: false, emit_comments: false };
        let mut track = Track::new();
        let read =
            serde_saphyr::with_deserializer_from_str_with_options(&self.text, options, |yaml| {
                T::deserialize(Deserializer::new(yaml, &mut track))
            });
        read.map_err(|error| {
            let (line, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
            let problem = error.without_snippet().render_with_formatter(&UserMessageFormatter);
            let problem = problem.trim_end_matches(&format!(" at line {line}, column {column}"));
            let problem: Vec<&str> = problem.split_whitespace().collect();
            let problem = problem.join(" ");
            let line = self.line_offset as u64 + line;
            Failure::BadInput(match field_name(&track.path()) {
                Some(field) => format!("{}:{line}: field `{field}`: {problem}", self.file),
                None => format!("{}:{line}: {problem}", self.file),
            })
        })
    }

    /// A job whose fields are in range. Its owner may be missing yet.
    fn job(&self, job: Spanned<JobSpec>, is_alloc_set: bool) -> Result<Job, Failure> {
        let (kind, what) = match is_alloc_set {
            true => (JobKind::AllocSet, "alloc set"),
            false => (JobKind::Job, "job"),
        };
        let owned = owned(job.value.clone(), "somebody");
        read_job(&owned, kind, UserId(0), None)
            .map_err(|error| self.fault(&job, &format!("{what} {}: ", owned.name), error))?;
        Ok(Job { spec: Box::new(job.value), is_alloc_set })
    }

    fn fault<T>(&self, at: &Spanned<T>, what: &str, error: SpecError) -> Failure {
        let line = self.line_offset as u64 + at.referenced.line();
        let SpecError { field, problem } = error;
        Failure::BadInput(format!("{}:{line}: {what}field `{field}`: {problem}", self.file))
    }
}

/// A spec with an owner: this one, if it names none.
pub(crate) fn owned(mut spec: JobSpec, user: &str) -> JobSpec {
    if spec.user.is_empty() {
        user.clone_into(&mut spec.user);
    }
    spec
}

/// The path of a field, without the steps into what knows its place.
fn field_name(path: &FieldPath) -> Option<String> {
    let mut name = String::new();
    let mut after_list = false;
    for (position, segment) in path.iter().enumerate() {
        match segment {
            Segment::Map { key } if key == "value" && (position == 0 || after_list) => {}
            Segment::Map { key } | Segment::Enum { variant: key } => {
                let dot = if name.is_empty() { "" } else { "." };
                name.extend([dot, key]);
            }
            Segment::Seq { index } => name.push_str(&format!("[{index}]")),
            Segment::Unknown => {}
        }
        // `jobs[0]` and `version` are what knows its place.
        after_list = position == 1 || name == "version";
    }
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = "name: web\npriority: 50\nlimit: {cpu: 1, ram: 1GiB}\n";

    fn names(text: &str) -> Vec<String> {
        let contents = parse("f", text).unwrap();
        contents.jobs.into_iter().map(|job| job.spec.name).collect()
    }

    fn problem(text: &str) -> String {
        let failure = parse("f", text).unwrap_err();
        assert!(matches!(failure, Failure::BadInput(_)), "{failure:?}");
        let text = failure.to_string();
        assert_eq!(text.lines().count(), 1, "{text}");
        text
    }

    #[test]
    fn a_file_holds_one_job_or_several_in_either_form() {
        assert_eq!(names(JOB), ["web"]);
        let lists = "version: 1\njobs:\n- {name: in, priority: 1, alloc_set: set, limit: {cpu: 1}}\n\
             alloc_sets:\n- {name: set, priority: 1, limit: {cpu: 2}}\n";
        let all = format!("# two forms\n---\n{JOB}---\n# nothing\n---\n{lists}");
        // Alloc sets first: jobs may be in them.
        assert_eq!(names(&all), ["set", "web", "in"]);
        assert_eq!(names(r#"{"name": "json", "priority": 0, "limit": {}}"#), ["json"]);
    }

    #[test]
    fn not_more_is_read_than_is_allowed() {
        assert_eq!(read_up_to(&b"abcd"[..], 4).unwrap(), b"abcd");
        let error = read_up_to(io::repeat(0), 4).unwrap_err();
        assert_eq!(error.to_string(), "it is longer than 4 B");
    }

    #[test]
    fn what_is_wrong_is_named_by_file_line_and_field() {
        let is = |text: &str, expected: &str| assert_eq!(problem(text), expected, "{text}");
        is(&JOB.replace("50", "many"), "f:2: field `priority`: invalid u16");
        is(&JOB.replace("1GiB", "-1"), "f:3: field `limit.ram`: \"-1\" is negative");
        let unknown = problem(&format!("{JOB}---\n{JOB}cuont: 3\n"));
        let expected = "f:8: field `cuont`: unknown field `cuont`, expected one of name, user,";
        assert!(unknown.starts_with(expected), "{unknown}");
        is("name: web\n", "f:1: missing field `priority`");
        is("- web\n", "f:1: expected mapping start");
        is("version: 2\n", "f:1: field `version`: 2 is not 1");
        is("version: x\n", "f:1: field `version`: invalid u32");
        is(&JOB.replace("50", "451"), "f:1: job web: field `priority`: 451 is above 450");
        let listed = "jobs:\n- name: web\n  priority: 1\n  limit: {cpu: x}\n";
        is(listed, "f:4: field `jobs[0].limit.cpu`: \"x\" is not a finite number");
        let value = "  constraints: [{attribute: a, op: '=', value: {}}]\n  limit: {}\n";
        is(
            &format!("jobs:\n- name: web\n  priority: 1\n{value}"),
            "f:4: field `jobs[0].constraints[0].value`: invalid type: map, expected a text, an integer or a \
             boolean",
        );
    }
}

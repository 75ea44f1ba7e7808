//! A Kubernetes cluster as `kubectl get -o yaml` writes it: manifests, with or without a status.
//!
//! In: a folder; all `*.yaml`, `*.yml` and `*.json` files in it and in the folders below, in the order of
//! their paths (names that begin with a dot are left out), each of one or more documents, each of these an
//! object or a list. Out: a cell with its Kubernetes side (`cell.kube`): machine i is node i, and job j has
//! the pods of template j. Jobs are in the order of reading, a user is a namespace, and a job's name is
//! `KIND/NAMESPACE/NAME`.
//!
//! Read are nodes, pods, the controllers that make them (Deployment, ReplicaSet, StatefulSet, DaemonSet,
//! Job, ReplicationController), priority classes, disruption budgets, services (for default spreading) and
//! namespaces. Of other kinds the doctor counts the objects. Who counts for whom: `assemble`. What Borg's
//! policies see of it: `borg`.
//!
//! A wrong object is an error that names file, line, object and field, or in lenient reading skipped and
//! counted; a file that is no YAML is an error always.
//!
//! Source: the Kubernetes API, v1.36, by the types of `k8s-openapi`.

mod assemble;
mod borg;
mod budget;
mod dump;
mod fault;
mod node;
mod pod;
mod quantity;
mod selector;
#[cfg(test)]
mod tests;
mod tree;

use std::path::Path;

use cell::Cell;
use serde_saphyr::{Spanned, UserMessageFormatter};

use crate::doctor::Examiner;
use crate::error::{TraceError, one_line, quoted};
use crate::input::{InputFile, InputHash, Place, files_below};
use dump::{Dump, Kind};
use tree::{Spot, Tree, spot};

/// How deep a document may be nested. The deepest object that we know, a CustomResourceDefinition, stays
/// below 100.
const DEPTH_MAX: usize = 200;

/// Reads all files of a folder and of those below it.
pub(crate) fn read(
    folder: &Path,
    examiner: &mut Examiner,
    hash: &mut InputHash,
) -> Result<Cell, TraceError> {
    let is_ours =
        |name: &str| [".yaml", ".yml", ".json"].iter().any(|ending| name.ends_with(ending));
    let mut dump = Dump::default();
    for (name, path) in files_below(folder, is_ours)? {
        add_file(&name, &InputFile::read(&path)?, &mut dump, examiner, hash)?;
    }
    assemble::assemble(dump, examiner)
}

/// Reads one file.
pub(crate) fn read_file(
    file: &InputFile,
    examiner: &mut Examiner,
    hash: &mut InputHash,
) -> Result<Cell, TraceError> {
    let mut dump = Dump::default();
    add_file(file.name(), file, &mut dump, examiner, hash)?;
    assemble::assemble(dump, examiner)
}

fn add_file(
    name: &str,
    file: &InputFile,
    dump: &mut Dump,
    examiner: &mut Examiner,
    hash: &mut InputHash,
) -> Result<(), TraceError> {
    hash.add(name, file);
    let documents = parse(file)?;
    examiner.open(&file.label);
    if documents.is_empty() {
        examiner.admit::<()>(Err(row(file, 1, "no object in this file")))?;
    }
    documents.iter().try_for_each(|document| take(file, document, None, dump, examiner))
}

/// Adds a document's object, or those of its list.
fn take(
    file: &InputFile,
    spot: &Spot,
    of_list: Option<(&str, &str)>,
    dump: &mut Dump,
    examiner: &mut Examiner,
) -> Result<(), TraceError> {
    let line = spot.line;
    let text = |key| spot.text(key).filter(|text| !text.is_empty());
    // Items of a typed list do not repeat what they are.
    let (api_version, kind) = match (text("apiVersion"), text("kind"), of_list) {
        (Some(api_version), Some(kind), _) => (api_version, kind),
        (None, None, Some(of_list)) => of_list,
        (_, None, _) => {
            let problem = "not a Kubernetes object: it has no `kind`";
            return examiner.admit::<()>(Err(row(file, line, problem))).map(|_| ());
        }
        (None, Some(kind), _) => {
            let problem = format!("{} has no `apiVersion`", quoted(kind));
            return examiner.admit::<()>(Err(row(file, line, &problem))).map(|_| ());
        }
    };
    if let Some(of) = kind.strip_suffix("List")
        && let Some(items) = spot.get("items").and_then(Spot::items)
    {
        let of_list = (!of.is_empty()).then_some((api_version, of));
        for item in items {
            take(file, item, of_list, dump, examiner)?;
        }
        return Ok(());
    }
    let place = Place { file: file.label.clone(), line };
    let Some(kind) = Kind::of(api_version, kind) else {
        examiner.admit(Ok(()))?;
        examiner.note_unread(kind, api_version, &place);
        return Ok(());
    };
    let identity = dump::identity(kind, spot).map_err(|fault| TraceError::Entry {
        file: file.label.to_string(),
        line: spot.line_of(&fault),
        entry: kind.name().to_owned(),
        field: fault.field(),
        problem: fault.problem,
    });
    let added = identity.and_then(|identity| {
        dump.add(identity.clone(), spot, place.clone())
            .map_err(|fault| assemble::entry(&place, spot.line_of(&fault), &identity, &fault))
    });
    examiner.admit(added).map(|_| ())
}

fn row(file: &InputFile, line: u64, problem: &str) -> TraceError {
    TraceError::Row { file: file.label.to_string(), line, problem: one_line(problem) }
}

/// The documents of a file, those that are empty left out. JSON is read as the YAML that it also is.
fn parse(file: &InputFile) -> Result<Vec<Spot>, TraceError> {
    let text = std::str::from_utf8(file.bytes()).map_err(|error| {
        let before = &file.bytes()[..error.valid_up_to()];
        let newlines = before.iter().filter(|byte| **byte == b'\n').count();
        row(file, newlines as u64 + 1, "not UTF-8")
    })?;
    let documents: Vec<Spanned<Tree>> = serde_saphyr::from_multiple_with_options(text, options())
        .map_err(|error| {
        let (line, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
        let problem = error.without_snippet().render_with_formatter(&UserMessageFormatter);
        let problem = problem.trim_end_matches(&format!(" at line {line}, column {column}"));
        row(file, line, problem)
    })?;
    let documents = documents.into_iter().map(spot);
    Ok(documents.filter(|document| !document.is_null()).collect())
}

/// Without limits on size, as in `cell_folder`: memory is bounded by the file. What could make a small
/// file large, aliases, stays bounded, and so does the depth.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            max_events: usize::MAX,
            max_nodes: usize::MAX,
            max_documents: usize::MAX,
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

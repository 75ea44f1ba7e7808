//! A finished report of the GPU experiment, read back for the comparison's page.
//!
//! In: the report's folder. Out: a [`GpuReport`], whose files are those that its manifest tells of.

use std::path::{Path, PathBuf, absolute};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use super::GpuFlags;
use super::results::{GPU_RESULTS_VERSION, Method, Point, Row};
use crate::manifest::{Experiment, Manifest, experiment};
use crate::output::{PAGE, RESULTS_JSON, sha256};
use crate::plot::arrivals::Measure;
use crate::trace_facts::short_source;

/// What the comparison's page shows of a report of the GPU experiment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GpuReport {
    /// The trace's source without folders.
    pub trace: String,
    /// How tasks arrived.
    pub method: Method,
    /// By policy, in the order of the report: the state once 100 % of the GPUs was asked for.
    pub rows: Vec<GpuReportRow>,
    /// Its figures.
    pub figures: Vec<GpuReportFigure>,
    /// Its page, seen from the folder of the comparison.
    pub page: String,
    /// Its folder, as the user named it.
    pub folder: PathBuf,
}

/// A policy of the report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GpuReportRow {
    /// Its name.
    pub policy: String,
    /// The state once 100 % of the GPUs was asked for.
    pub full: Point,
}

/// A figure of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GpuReportFigure {
    /// Its file, seen from the folder of the comparison.
    pub file: String,
    /// The file.
    pub svg: String,
    /// What it shows.
    pub caption: &'static str,
}

/// What is read back of the results.
#[derive(Debug, Deserialize)]
struct Results {
    schema_version: u32,
    method: Method,
    rows: Vec<Row>,
}

impl GpuReport {
    /// Reads the report in `folder`, for a page that will stand in the folder `from`.
    ///
    /// # Errors
    /// If there is no report, if it is of another experiment or version, or if one of its files is not the one
    /// that its manifest tells of.
    pub fn read(folder: &Path, from: &Path) -> anyhow::Result<Self> {
        if experiment(folder)? != Experiment::Gpu {
            bail!("`{}` is no report of the GPU experiment", folder.display());
        }
        let manifest: Manifest<GpuFlags> = Manifest::read(folder)?;
        let file = |name: &str| -> anyhow::Result<String> {
            let path = folder.join(name);
            let text = read(&path)?;
            let entry = manifest.outputs.iter().find(|output| output.name == name);
            if entry.is_none_or(|entry| entry.sha256 != sha256(text.as_bytes())) {
                bail!("`{}` is not the file that its manifest tells of", path.display());
            }
            Ok(text)
        };
        let results: Results = serde_json::from_str(&file(RESULTS_JSON)?)
            .with_context(|| format!("`{}`", folder.join(RESULTS_JSON).display()))?;
        if results.schema_version != GPU_RESULTS_VERSION {
            bail!(
                "`{}` has schema version {}; this program knows {GPU_RESULTS_VERSION}",
                folder.join(RESULTS_JSON).display(),
                results.schema_version
            );
        }
        let way = way(folder, from)?;
        let figure = |measure: Measure| -> anyhow::Result<GpuReportFigure> {
            let name = measure.file_name();
            let (svg, file) = (file(&name)?, way.join(&name).to_string_lossy().into_owned());
            Ok(GpuReportFigure { file, svg, caption: measure.caption() })
        };
        Ok(Self {
            trace: short_source(&manifest.trace.source),
            figures: Measure::ALL.into_iter().map(figure).collect::<anyhow::Result<_>>()?,
            rows: results
                .rows
                .into_iter()
                .map(|row| GpuReportRow { full: row.at(100).clone(), policy: row.policy })
                .collect(),
            method: results.method,
            page: way.join(PAGE).to_string_lossy().into_owned(),
            folder: folder.to_owned(),
        })
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))
}

/// The way from one folder to another, as a link of a page in the former.
fn way(to: &Path, from: &Path) -> anyhow::Result<PathBuf> {
    let (to, from) = (absolute(to)?, absolute(from)?);
    Ok(pathdiff::diff_paths(&to, &from).unwrap_or(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_leads_from_page_to_page() {
        for (to, from, way_to) in [
            ("out/gpu", "out/report", "../gpu"),
            ("out/report/gpu", "out/report", "gpu"),
            ("./out/gpu/", "out/report", "../gpu"),
            ("/a/b", "/c", "../a/b"),
        ] {
            assert_eq!(way(Path::new(to), Path::new(from)).unwrap(), Path::new(way_to), "{to}");
        }
    }
}

//! The page of the GPU experiment: one self-contained HTML file. The words are in `templates/gpu.html`.

use std::collections::BTreeMap;

use scheduler::policies;
use serde::Serialize;

use super::results::{GpuResults, Point};
use super::{GpuFlags, SEEDS_OF_THE_PAPER};
use crate::manifest::Manifest;
use crate::page::{STYLE, class, colour_variables, quoted, render};
use crate::plot::Figure;
use crate::plot::arrivals::Measure;
use crate::svg::Colour;
use crate::trace_facts::short_source;

const TEMPLATE: &str = include_str!("../../templates/gpu.html");

#[derive(Debug, Serialize)]
struct Context<'a> {
    style: String,
    results: &'a GpuResults,
    rows: Vec<RowView<'a>>,
    figures: BTreeMap<&'a str, &'a str>,
    /// What figures show, by the name of their file.
    captions: BTreeMap<String, &'static str>,
    manifest: &'a Manifest<GpuFlags>,
    trace_name: String,
    seeds_of_the_paper: usize,
    command: String,
    folder: String,
    related: Option<&'a str>,
}

/// A policy as the page shows it.
#[derive(Debug, Serialize)]
struct RowView<'a> {
    policy: &'a str,
    about: &'static str,
    colour: String,
    is_best: bool,
    full: &'a Point,
    end: &'a Point,
}

/// Writes the page. `folder` is the report's folder as the user named it, `related` a page to point to.
#[must_use]
pub fn page(
    results: &GpuResults,
    figures: &[Figure],
    manifest: &Manifest<GpuFlags>,
    folder: &str,
    related: Option<&str>,
) -> String {
    let known = policies();
    let until = results.method.until_percent as usize;
    let most = results.rows.iter().map(|row| row.at(100).allocated.mean).fold(0.0, f64::max);
    let rows = results.rows.iter().enumerate().map(|(index, row)| RowView {
        policy: &row.policy,
        about: known.iter().find(|p| p.name() == row.policy).map_or("", |p| p.about()),
        colour: class(Colour::Policy(index)),
        is_best: row.at(100).allocated.mean >= most,
        full: row.at(100),
        end: row.at(until),
    });
    let svgs = figures.iter().map(|figure| (figure.name.as_str(), figure.svg.as_str()));
    let context = Context {
        style: format!("{}\n{STYLE}", colour_variables()),
        rows: rows.collect(),
        figures: svgs.collect(),
        captions: Measure::ALL.map(|measure| (measure.file_name(), measure.caption())).into(),
        results,
        manifest,
        trace_name: short_source(&results.trace.source),
        seeds_of_the_paper: SEEDS_OF_THE_PAPER,
        command: command(&manifest.flags, folder),
        folder: quoted(folder),
        related,
    };
    render("gpu.html", TEMPLATE, &context)
        .expect("the template fits its context, as every test of this page shows")
}

/// The command that makes the report, with every flag that decides its results.
fn command(flags: &GpuFlags, folder: &str) -> String {
    format!(
        "experiments gpu --trace {} --policies {} --seeds {} --seed {}{} --out {}",
        quoted(&flags.trace),
        flags.policies.join(","),
        flags.seeds,
        flags.seed,
        if flags.lenient { " --lenient" } else { "" },
        quoted(folder)
    )
}

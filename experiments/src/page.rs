//! The page: one self-contained HTML file with the answer, the figures, the tables and the method.
//!
//! In: results, figures, what was measured, and the manifest so far. Out: HTML that opens from disk: style
//! and figures stand inside it, and it loads nothing. The words are in `templates/page.html`, the look in
//! `templates/page.css`; here is only what they cannot work out themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use cell::Band;
use fauxmaster::stats::Verdict;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use scheduler::{UsageRatio, policies};
use serde::Serialize;

use crate::agreement::Agreement;
use crate::answer::detail;
use crate::gpu::report::GpuReport;
use crate::manifest::Manifest;
use crate::number;
use crate::plan::{CompareFlags, TRIALS_OF_THE_PAPER, TableKind};
use crate::plot::{Figure, FigureKind, Palette, row_name};
use crate::results::{Pair, Results, RowResult, Table};
use crate::run::Run;
use crate::svg::{Colour, POLICY_COLOUR_COUNT};
use crate::trace_facts::short_source;

const TEMPLATE: &str = include_str!("../templates/page.html");
pub(crate) const STYLE: &str = include_str!("../templates/page.css");

/// So many differences from the real scheduler are listed for each folder; `results.json` has all.
const SHOWN_DIFFERENCES: usize = 50;

/// Writes the page. `folder` is the report's folder as the user named it, `gpu` a report of GPUs to show.
#[must_use]
pub fn page(
    run: &Run,
    results: &Results,
    figures: &[Figure],
    manifest: &Manifest,
    folder: &str,
    gpu: Option<&GpuReport>,
) -> String {
    let palette = Palette::of(results);
    let tables: Vec<TableView<'_>> =
        results.tables.iter().map(|table| TableView::of(table, run, &palette)).collect();
    let flags = &run.plan.flags;
    let svgs: BTreeMap<&str, &str> =
        figures.iter().map(|figure| (figure.name.as_str(), figure.svg.as_str())).collect();
    let colours: BTreeMap<&str, String> =
        results.policies().into_iter().map(|name| (name, class(palette.colour(name)))).collect();
    let known = policies();
    let about: Vec<(&str, &str)> = results
        .policies()
        .into_iter()
        .filter_map(|name| known.iter().find(|policy| policy.name() == name))
        .map(|policy| (policy.name(), policy.about()))
        .collect();
    let context = Context {
        style: format!("{}\n{STYLE}", colour_variables()),
        results,
        tables,
        figures: svgs,
        sweep_figure: FigureKind::Sweep.file_name(),
        colours,
        about,
        manifest,
        trace_name: short_source(&results.trace.source),
        is_google_2011: results.trace.source.starts_with("google-2011"),
        is_sampled_ratio: flags.usage_ratio.get() == UsageRatio::GOOGLE_2011_SAMPLE,
        trials_of_the_paper: TRIALS_OF_THE_PAPER,
        command: command(flags, gpu, folder),
        folder: quoted(folder),
        agrees: results.agreement.as_ref().is_none_or(Agreement::is_full),
        shown_differences: SHOWN_DIFFERENCES,
        gpu,
    };
    render("page.html", TEMPLATE, &context)
        .expect("the template fits its context, as every test of this module shows")
}

/// Fills a template in.
pub(crate) fn render<C: Serialize>(
    name: &str,
    template: &str,
    context: &C,
) -> Result<String, minijinja::Error> {
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(true)
        .build()?;
    let mut environment = Environment::new();
    environment.set_syntax(syntax);
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_filter("count", number::count);
    environment.add_filter("counted", |value: usize, noun: &str| number::counted(value, noun));
    environment.add_filter("decimal", number::decimal);
    environment.add_filter("signed", number::signed);
    environment.add_filter("percent", number::percent);
    environment.add_filter("share", number::share);
    environment.add_filter("signed_percent", number::signed_percent);
    environment.render_named_str(name, template, Value::from(Serde(context)))
}

/// What the template is given.
#[derive(Debug, Serialize)]
struct Context<'a> {
    style: String,
    results: &'a Results,
    tables: Vec<TableView<'a>>,
    /// Figures by the name of their file.
    figures: BTreeMap<&'a str, &'a str>,
    sweep_figure: String,
    /// Classes of colours by policy.
    colours: BTreeMap<&'a str, String>,
    /// Policies and what they are.
    about: Vec<(&'a str, &'a str)>,
    manifest: &'a Manifest,
    /// The trace's source without folders.
    trace_name: String,
    is_google_2011: bool,
    is_sampled_ratio: bool,
    trials_of_the_paper: usize,
    command: String,
    folder: String,
    /// Whether the Kubernetes model agrees with all that it was compared with.
    agrees: bool,
    shown_differences: usize,
    gpu: Option<&'a GpuReport>,
}

/// A table as the page shows it.
#[derive(Debug, Serialize)]
struct TableView<'a> {
    kind: TableKind,
    table: &'a Table,
    rows: Vec<RowView<'a>>,
    /// The best row's name in one line.
    best: String,
    /// Every other row against the best.
    against_best: Vec<PairView>,
    /// All pairs, where these are more.
    all_pairs: Vec<PairView>,
    /// Bands that have tasks, the most important first.
    bands: Vec<&'static str>,
    /// Resources that the cell has, as in the results, and as people write them.
    resources: Vec<(&'static str, String)>,
    machines_figure: String,
    utilisation_figure: String,
    free_figure: String,
}

/// A row as the page shows it.
#[derive(Debug, Serialize)]
struct RowView<'a> {
    row: &'a RowResult,
    name: &'a str,
    detail: Option<&'static str>,
    colour: String,
    is_best: bool,
    decisions_per_second: f64,
    pack_seconds: f64,
    compact_seconds: f64,
}

/// A pair of rows as the page shows it.
#[derive(Debug, Serialize)]
struct PairView {
    first: String,
    second: String,
    /// Class of the first row's colour.
    colour: String,
    mean: String,
    interval: String,
    p: String,
    verdict: &'static str,
    has_winner: bool,
}

impl<'a> TableView<'a> {
    fn of(table: &'a Table, run: &Run, palette: &Palette) -> Self {
        let measured = run.tables.iter().filter(|measured| measured.kind == table.kind);
        let rows = table
            .rows
            .iter()
            .zip(measured.flat_map(|measured| &measured.rows))
            .map(|(row, measured)| RowView {
                row,
                name: &row.policy,
                detail: detail(table.kind, row),
                colour: class(palette.colour(&row.policy)),
                is_best: row.id == table.best,
                decisions_per_second: measured.pack.decisions_per_second,
                pack_seconds: measured.pack.seconds,
                compact_seconds: measured.compact.seconds,
            })
            .collect();
        let view = |pair: &Pair| PairView::of(table, pair, palette);
        let against_best: Vec<PairView> = table.against_best().iter().map(view).collect();
        let all_pairs = if table.pairs.len() > against_best.len() {
            table.pairs.iter().map(view).collect()
        } else {
            Vec::new()
        };
        Self {
            kind: table.kind,
            table,
            best: name_of(table, &table.best),
            rows,
            against_best,
            all_pairs,
            bands: bands(table),
            resources: resources(table),
            machines_figure: FigureKind::Machines(table.kind).file_name(),
            utilisation_figure: FigureKind::Utilisation(table.kind).file_name(),
            free_figure: FigureKind::Free(table.kind).file_name(),
        }
    }
}

impl PairView {
    fn of(table: &Table, pair: &Pair, palette: &Palette) -> Self {
        let (first, second) = (name_of(table, &pair.first), name_of(table, &pair.second));
        let colour = table.row(&pair.first).map(|row| class(palette.colour(&row.policy)));
        let interval = match pair.interval {
            None => "none from one trial".to_owned(),
            Some(_) if pair.constant => "no width: the same in every trial".to_owned(),
            Some(interval) => {
                let [low, high] = [interval.low, interval.high].map(|end| number::signed(end, 1));
                format!("{low} to {high}")
            }
        };
        let verdict = match pair.verdict {
            Verdict::FirstNeedsFewer => "the first needs fewer",
            Verdict::SecondNeedsFewer => "the second needs fewer",
            Verdict::TooFewTrials => "no winner: too few trials",
            Verdict::NoDifference => "no winner: no difference",
            Verdict::IntervalSpansZero => "no winner: the interval spans 0",
            Verdict::NotAfterCorrection => "no winner after Holm’s correction",
        };
        Self {
            mean: number::signed(pair.mean_difference, 1),
            interval,
            p: number::p_value(pair.p_holm),
            has_winner: pair.verdict.has_winner(),
            verdict,
            colour: colour.unwrap_or_default(),
            first,
            second,
        }
    }
}

/// The name of a table's row in one line.
fn name_of(table: &Table, id: &str) -> String {
    table.row(id).map_or_else(|| id.to_owned(), |row| row_name(table, row))
}

fn bands(table: &Table) -> Vec<&'static str> {
    let packs = table.rows.iter().map(|row| &row.pack);
    let present: BTreeSet<&str> = packs
        .flat_map(|pack| pack.placed_by_band.keys().chain(pack.pending_by_band.keys()))
        .copied()
        .collect();
    Band::ALL.iter().rev().map(|band| band.name()).filter(|name| present.contains(name)).collect()
}

fn resources(table: &Table) -> Vec<(&'static str, String)> {
    let present: BTreeSet<&'static str> =
        table.rows.iter().flat_map(|row| row.pack.allocation.keys().copied()).collect();
    present
        .into_iter()
        .map(|name| (name, if name == "disk" { name.to_owned() } else { name.to_uppercase() }))
        .collect()
}

/// The class of a policy's colour in the style sheet.
pub(crate) fn class(colour: Colour) -> String {
    match colour {
        Colour::Policy(index) => format!("c{}", index % POLICY_COLOUR_COUNT),
        Colour::Ground | Colour::Ink | Colour::Muted | Colour::Grid | Colour::Shade => {
            "c0".to_owned()
        }
    }
}

/// The figures' colours as variables of the style sheet, for both colour schemes.
pub(crate) fn colour_variables() -> String {
    let mut colours = vec![
        ("ground".to_owned(), Colour::Ground),
        ("ink".to_owned(), Colour::Ink),
        ("muted".to_owned(), Colour::Muted),
        ("rule".to_owned(), Colour::Grid),
        ("shade".to_owned(), Colour::Shade),
    ];
    colours.extend((0..POLICY_COLOUR_COUNT).map(|i| (format!("c{i}"), Colour::Policy(i))));
    let (mut light, mut dark, mut classes) = (String::new(), String::new(), String::new());
    for (name, colour) in &colours {
        let (on_light, on_dark) = colour.values();
        let _ = write!(light, "--{name}:{on_light};");
        let _ = write!(dark, "--{name}:{on_dark};");
    }
    for i in 0..POLICY_COLOUR_COUNT {
        let _ = write!(classes, ".c{i}{{--own:var(--c{i})}}");
    }
    format!(":root{{{light}}}\n@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n{classes}")
}

/// The command that makes the report, with every flag that decides its results.
fn command(flags: &CompareFlags, gpu: Option<&GpuReport>, folder: &str) -> String {
    let mut command = format!(
        "experiments compare --trace {} --policies {}",
        quoted(&flags.trace),
        flags.policies.join(",")
    );
    if let Some(systems) = &flags.systems {
        let _ = write!(command, " --systems {}", systems.join(","));
    }
    let _ = write!(
        command,
        " --trials {} --seed {} --usage-ratio {} --pending-allowance {}",
        flags.trials, flags.seed, flags.usage_ratio, flags.pending_allowance
    );
    if flags.sweep {
        command.push_str(" --sweep");
    }
    if flags.lenient {
        command.push_str(" --lenient");
    }
    for folder in &flags.kube_cases {
        let _ = write!(command, " --kube-cases {}", quoted(folder));
    }
    for folder in &flags.kube_decisions {
        let _ = write!(command, " --kube-decisions {}", quoted(folder));
    }
    if let Some(report) = gpu {
        let _ = write!(command, " --gpu-report {}", quoted(&report.folder.to_string_lossy()));
    }
    let _ = write!(command, " --out {}", quoted(folder));
    command
}

/// A word of a shell command, in quotes where it needs them.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use fauxmaster::kube::check::Failure;
    use fauxmaster::kube::decisions::{self, DecisionsReport, Difference};

    use super::*;
    use crate::agreement::{PluginAgreement, Recording};
    use crate::gpu::report::{GpuReportFigure, GpuReportRow};
    use crate::gpu::results::{Method, Over, Point};
    use crate::plan::tests::flags;
    use crate::plot::figures;
    use crate::run::example;

    fn gpu_report() -> GpuReport {
        let over = Over { mean: 0.951, min: 0.948, max: 0.953 };
        let full =
            Point { arrived_percent: 100, allocated: over, fragments: over, fragment_rate: over };
        GpuReport {
            trace: "openb:nodes,pods".to_owned(),
            method: Method { seeds: 3, seed: 1, until_percent: 130, gpu_count: 6212 },
            rows: vec![GpuReportRow { policy: "fgd".to_owned(), full }],
            figures: vec![GpuReportFigure {
                file: "../gpu/gpu-fragments.svg".to_owned(),
                svg: "<svg><title>of GPUs</title></svg>".to_owned(),
                caption: "What is of no use",
            }],
            page: "../gpu/index.html".to_owned(),
            folder: "out/gpu".into(),
        }
    }

    fn page_of(run: &Run) -> (Results, String) {
        let results = Results::of(run);
        let manifest = crate::manifest::tests::manifest();
        let page =
            page(run, &results, &figures(&results), &manifest, "out/demo", Some(&gpu_report()));
        // The template engine also escapes what needs none.
        (results, page.replace("&#x2f;", "/"))
    }

    #[test]
    fn the_page_answers_the_question_and_tells_how() {
        let (results, page) = page_of(&example::run());
        for answer in &results.answers {
            let sentence = crate::svg::escape(&answer.sentence);
            assert!(page.contains(&sentence), "{sentence}");
        }
        for part in [
            "5 trials",
            "677-task sample",
            "6,965",
            "0.2\u{a0}%",
            "experiments verify out/demo",
            "orphan_machine",
            "§5.1",
            "stranded",
            "feedc0de",
            "Holm",
            "href=\"../gpu/index.html\"",
            "href=\"../gpu/gpu-fragments.svg\"",
            "<svg><title>of GPUs</title></svg>",
            "6,212 GPUs",
            "95.1",
            "--gpu-report out/gpu --out out/demo",
        ] {
            assert!(page.contains(part), "{part}");
        }
        for figure in figures(&results) {
            assert!(page.contains(&figure.svg), "{}", figure.name);
        }
    }

    #[test]
    fn the_page_says_how_far_its_kubernetes_is_the_real_one() {
        let mut run = example::run();
        assert!(!page_of(&run).1.contains("the real one?"));
        let part = |agreeing, compared| decisions::Agreement { agreeing, compared };
        let report = DecisionsReport {
            kube_scheduler: "v1.20.15".to_owned(),
            percentage_of_nodes_to_score: 100,
            node_count: 60,
            pod_count: 252,
            placements: part(224, 224),
            unschedulable: part(28, 28),
            ..DecisionsReport::default()
        };
        let plugin = PluginAgreement { cases_passed: 20, ..PluginAgreement::default() };
        let unmodelled = PluginAgreement { cases_not_run: 39, ..PluginAgreement::default() };
        run.agreement = Some(Agreement {
            plugins: [
                ("NodeResourcesFit".to_owned(), plugin),
                ("horizontal pod autoscaler".to_owned(), unmodelled),
            ]
            .into(),
            recordings: vec![Recording { name: "small".to_owned(), report }],
            failures: Vec::new(),
        });
        let page = page_of(&run).1;
        for part in
            ["the real one?", "All that was compared agrees", "224 of 224", "28 of 28", ">39<"]
        {
            assert!(page.contains(part), "{part}");
        }

        let agreement = run.agreement.as_mut().unwrap();
        let found = "Score 3 instead of <4>".to_owned();
        agreement.failures =
            vec![Failure { plugin: "fit".to_owned(), id: "fit-7".to_owned(), found }];
        let difference = |order| Difference {
            order,
            pod: format!("pod-{order}."),
            found: "elsewhere".to_owned(),
        };
        agreement.recordings[0].report.differences = (0..60).map(difference).collect();
        let page = page_of(&run).1;
        for part in ["Not all that was compared agrees", "fit-7", "instead of &lt;4&gt;", "pod-49."]
        {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("pod-50."));
    }

    #[test]
    fn the_page_loads_nothing() {
        let (_, page) = page_of(&example::run());
        let lower = page.to_lowercase();
        for loader in ["src=", "@import", "url(", "<link", "<script", "<iframe", "<object"] {
            assert!(!lower.contains(loader), "{loader}");
        }
        // What begins with http is the name of a name space, or a link to follow.
        for (at, _) in lower.match_indices("http") {
            let before = &lower[..at];
            assert!(before.ends_with("xmlns=\"") || before.ends_with("<a href=\""), "{at}");
        }
    }

    #[test]
    fn a_page_without_sweep_with_one_trial_and_an_odd_trace_is_whole() {
        let mut flags = flags();
        flags.sweep = false;
        flags.trials = 1;
        flags.policies = vec!["kube-default".to_owned()];
        flags.usage_ratio = "cpu=0.5,ram=0.5".parse().unwrap();
        let mut run = example::run_with(flags);
        run.trace.source = "cell:<b>".to_owned();
        run.trace.doctor.clear();
        run.trace.tied_count = 0;
        run.trace.tied_priorities.clear();
        let (_, page) = page_of(&run);
        assert!(page.contains("cell: &lt;b&gt;") && !page.contains("cell: <b>"));
        assert!(!page.contains("677-task"), "the source is that of the default ratio only");
        assert!(page.contains("no winner"));
        assert!(page.ends_with("</html>\n"));
    }

    #[test]
    fn the_command_makes_the_same_report() {
        let mut flags = flags();
        flags.trace = "cell:my cell".to_owned();
        flags.systems = Some(vec!["borg-hybrid".to_owned()]);
        flags.kube_cases = vec!["a".to_owned(), "b c".to_owned()];
        flags.kube_decisions = vec!["d".to_owned()];
        assert_eq!(
            command(&flags, None, "it's"),
            "experiments compare --trace 'cell:my cell' --policies borg-hybrid,kube-default \
             --systems borg-hybrid --trials 5 --seed 1 --usage-ratio cpu=0.27,ram=0.79 \
             --pending-allowance 0.002 --sweep --kube-cases a --kube-cases 'b c' --kube-decisions d \
             --out 'it'\\''s'"
        );
    }
}

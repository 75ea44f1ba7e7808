//! The figures: one file a figure, each from results to an SVG.
//!
//! In: [`Results`]. Out: a name and an SVG for each figure. A policy has the same colour in all of them;
//! rows of one policy in one table are told apart by the dashes of their lines. Nothing here depends on
//! time, host or speed, so the files are the same on every run.

pub mod arrivals;

mod axis;
mod bars;
mod cdf;
mod scatter;
mod sweep;

use crate::answer::detail;
use crate::plan::TableKind;
use crate::results::{Results, RowResult, Table};
use crate::svg::{Colour, Dash};

/// The width of all figures, in pixels.
const WIDTH: f64 = 960.0;

/// One figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Its file's name.
    pub name: String,
    /// The file.
    pub svg: String,
}

/// Which figure, for those that place them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FigureKind {
    /// Machines needed, in bars with whiskers.
    Machines(TableKind),
    /// Cumulative distribution of machine utilisation.
    Utilisation(TableKind),
    /// Machines by what is free on them.
    Free(TableKind),
    /// Machines needed over usage ratios.
    Sweep,
}

impl FigureKind {
    /// All figures that there can be.
    pub const ALL: [Self; 7] = [
        Self::Machines(TableKind::Limits),
        Self::Utilisation(TableKind::Limits),
        Self::Free(TableKind::Limits),
        Self::Machines(TableKind::Reclaimed),
        Self::Utilisation(TableKind::Reclaimed),
        Self::Free(TableKind::Reclaimed),
        Self::Sweep,
    ];

    /// The name of its file.
    #[must_use]
    pub fn file_name(self) -> String {
        match self {
            Self::Machines(table) => format!("machines-{}.svg", table.name()),
            Self::Utilisation(table) => format!("utilisation-{}.svg", table.name()),
            Self::Free(table) => format!("free-{}.svg", table.name()),
            Self::Sweep => "sweep.svg".to_owned(),
        }
    }
}

/// All figures of these results.
#[must_use]
pub fn figures(results: &Results) -> Vec<Figure> {
    let palette = Palette::of(results);
    let mut figures = Vec::new();
    for kind in FigureKind::ALL {
        let table = |wanted| results.tables.iter().find(|table| table.kind == wanted);
        let svg = match kind {
            FigureKind::Machines(wanted) => {
                table(wanted).map(|table| bars::draw(table, results.trace.machine_count, &palette))
            }
            FigureKind::Utilisation(wanted) => {
                table(wanted).map(|table| cdf::draw(table, &palette))
            }
            FigureKind::Free(wanted) => table(wanted).map(|table| scatter::draw(table, &palette)),
            FigureKind::Sweep => sweep::draw(results, &palette),
        };
        figures.extend(svg.map(|svg| Figure { name: kind.file_name(), svg }));
    }
    figures
}

/// Which colour a policy has.
#[derive(Clone, Debug)]
pub struct Palette {
    policies: Vec<String>,
}

impl Palette {
    /// Colours for all policies of these results.
    #[must_use]
    pub fn of(results: &Results) -> Self {
        Self { policies: results.policies().into_iter().map(str::to_owned).collect() }
    }

    /// The policy's colour; that of the first for a name that is not in the results.
    #[must_use]
    pub fn colour(&self, policy: &str) -> Colour {
        Colour::Policy(self.policies.iter().position(|name| name == policy).unwrap_or(0))
    }

    /// The dashes of a row's line: solid for the first row of its policy in the table.
    #[must_use]
    pub fn dash(table: &Table, row: &RowResult) -> Dash {
        let before = table.rows.iter().take_while(|other| other.id != row.id);
        Dash::nth(before.filter(|other| other.policy == row.policy).count())
    }
}

/// A row's name in one line: the policy, and what it packs where that differs by row.
#[must_use]
pub fn row_name(table: &Table, row: &RowResult) -> String {
    match detail(table.kind, row) {
        Some(what) => format!("{}, {what}", row.policy),
        None => row.policy.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::flags;
    use crate::run::example;
    use crate::svg::tests::assert_well_formed;

    #[test]
    fn all_figures_are_there_well_formed_small_and_the_same_every_time() {
        let results = Results::of(&example::run());
        let figures = figures(&results);
        let names: Vec<&str> = figures.iter().map(|figure| figure.name.as_str()).collect();
        let expected: Vec<String> = FigureKind::ALL.iter().map(|kind| kind.file_name()).collect();
        assert_eq!(names, expected);
        for figure in &figures {
            assert_well_formed(&figure.svg);
            assert!(figure.svg.len() < 200_000, "{}: {}", figure.name, figure.svg.len());
        }
        assert_eq!(super::figures(&Results::of(&example::run())), figures);
    }

    #[test]
    fn without_a_sweep_there_is_no_such_figure() {
        let mut flags = flags();
        flags.sweep = false;
        let figures = figures(&Results::of(&example::run_with(flags)));
        assert!(figures.iter().all(|figure| figure.name != FigureKind::Sweep.file_name()));
    }

    #[test]
    fn a_policy_has_one_colour_and_its_rows_different_dashes() {
        let results = Results::of(&example::run());
        let palette = Palette::of(&results);
        assert_eq!(palette.colour("kube-default"), Colour::Policy(2));
        let systems = &results.tables[1];
        let dashes: Vec<Dash> =
            systems.rows.iter().map(|row| Palette::dash(systems, row)).collect();
        assert_eq!(dashes, [Dash::Solid, Dash::Solid, Dash::Dashed]);
    }
}

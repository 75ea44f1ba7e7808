//! What was measured: rows, and how they are printed.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;

/// Rows in the order in which they were measured.
#[derive(Debug, Default)]
pub(super) struct Report {
    rows: Vec<Row>,
    notes: Vec<String>,
}

#[derive(Debug)]
struct Row {
    what: String,
    value: f64,
    unit: &'static str,
    bar: Option<Bar>,
}

/// What a figure is held to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bar {
    /// At least so much.
    AtLeast(f64),
    /// At most so much.
    AtMost(f64),
}

impl Bar {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(least) => format!(">= {}", figure(least)),
            Self::AtMost(most) => format!("<= {}", figure(most)),
        }
    }
}

/// Three digits are enough for anybody.
fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

impl Report {
    /// Adds a figure; it is told at once as well, because the whole takes minutes.
    pub(super) fn row(
        &mut self,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        bar: Option<Bar>,
    ) {
        let what = what.into();
        tell(&format!("{what}: {} {unit}", figure(value)));
        self.rows.push(Row { what, value, unit, bar });
    }

    /// Adds what has to be known beside the figures.
    pub(super) fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        tell(&text);
        self.notes.push(text);
    }

    /// # Errors
    /// If a bar is not met.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let missed: Vec<&str> = self
            .rows
            .iter()
            .filter(|row| row.bar.is_some_and(|bar| !bar.is_met(row.value)))
            .map(|row| row.what.as_str())
            .collect();
        ensure!(missed.is_empty(), "bars that are not met: {}", missed.join("; "));
        Ok(())
    }

    #[allow(clippy::print_stdout, reason = "what a person at a terminal reads")]
    pub(super) fn print_table(&self) -> anyhow::Result<()> {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::ASCII_MARKDOWN);
        table.set_header(["what", "measured", "unit", "bar", "met"]);
        for Row { what, value, unit, bar } in &self.rows {
            let (text, is_met) = match bar {
                Some(bar) => (bar.text(), if bar.is_met(*value) { "yes" } else { "NO" }),
                None => (String::new(), ""),
            };
            table.add_row([what.as_str(), &figure(*value), unit, &text, is_met]);
        }
        for note in &self.notes {
            println!("{note}");
        }
        println!("{table}");
        Ok(())
    }

    #[allow(clippy::print_stdout, reason = "what a program reads")]
    pub(super) fn print_json(&self) -> anyhow::Result<()> {
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|Row { what, value, unit, bar }| {
                json!({
                    "what": what,
                    "value": value,
                    "unit": unit,
                    "bar": bar.map(Bar::text),
                    "is_met": bar.map(|bar| bar.is_met(*value)),
                })
            })
            .collect();
        let all = json!({ "notes": self.notes, "rows": rows });
        println!("{}", serde_json::to_string_pretty(&all)?);
        Ok(())
    }
}

/// How far it is, for whoever waits.
#[allow(clippy::print_stderr, reason = "what a person at a terminal reads")]
pub(super) fn tell(what: &str) {
    eprintln!("{what}");
}

/// The middle one, if there is one.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Times, sorted.
#[derive(Clone, Debug)]
pub(super) struct Times(Vec<Duration>);

impl Times {
    /// # Errors
    /// If there are none.
    pub(super) fn new(mut times: Vec<Duration>) -> anyhow::Result<Self> {
        times.sort_unstable();
        (!times.is_empty()).then_some(Self(times)).context("nothing was measured")
    }

    /// The time that so many of a thousand do not exceed, in milliseconds.
    pub(super) fn permille_ms(&self, permille: usize) -> f64 {
        let at = (self.0.len() * permille).div_ceil(1000).saturating_sub(1);
        self.0[at.min(self.0.len() - 1)].as_secs_f64() * 1000.0
    }

    pub(super) fn median_ms(&self) -> f64 {
        self.permille_ms(500)
    }

    pub(super) fn p99_ms(&self) -> f64 {
        self.permille_ms(990)
    }

    pub(super) fn max_ms(&self) -> f64 {
        self.permille_ms(1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permilles_are_of_the_sorted_times() {
        let times = (1..=200).rev().map(Duration::from_millis).collect();
        let times = Times::new(times).unwrap();
        assert_eq!((times.median_ms(), times.p99_ms(), times.max_ms()), (100.0, 198.0, 200.0));
        assert!(Times::new(Vec::new()).is_err());
        let one = Times::new(vec![Duration::from_millis(7)]).unwrap();
        assert_eq!((one.median_ms(), one.max_ms()), (7.0, 7.0));
    }

    #[test]
    fn a_bar_that_is_not_met_is_an_error() {
        let mut report = Report::default();
        report.row("free", 7.0, "ms", None);
        report.row("fast", 2.0, "ms", Some(Bar::AtMost(2.0)));
        assert!(report.check().is_ok());
        report.row("slow", 2.1, "ms", Some(Bar::AtMost(2.0)));
        report.row("few", 1.0, "/s", Some(Bar::AtLeast(2.0)));
        let error = report.check().unwrap_err();
        assert_eq!(error.to_string(), "bars that are not met: slow; few");
    }

    #[test]
    fn a_bar_is_met_on_its_edge() {
        assert!(Bar::AtLeast(2.0).is_met(2.0) && !Bar::AtLeast(2.0).is_met(1.9));
        assert!(Bar::AtMost(2.0).is_met(2.0) && !Bar::AtMost(2.0).is_met(2.1));
    }
}

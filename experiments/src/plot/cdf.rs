//! Cumulative distribution of machine utilisation: a panel a resource, a line a row.
//!
//! At the cell's own size. A line that stays low and rises late is a cell of full machines; the height
//! where it meets a utilisation is the share of machines that are used so far or less.

use super::{Palette, WIDTH, row_name};
use crate::fill::CDF_STEPS;
use crate::plan::TableKind;
use crate::results::Table;
use crate::svg::{Anchor, Colour, Dash, Point, Svg, TextStyle, text_width};

const PANEL_WIDTH: f64 = 396.0;
const PANEL_HEIGHT: f64 = 260.0;
const LEFT: f64 = 64.0;
const BETWEEN: f64 = 76.0;
const LEGEND_LINE: f64 = 24.0;
const FOOT: f64 = 58.0;

pub(super) fn draw(table: &Table, palette: &Palette) -> String {
    let legend = legend_places(table);
    let legend_height = legend.last().map_or(0.0, |(_, y)| y + LEGEND_LINE);
    let top = legend_height + 52.0;
    let by = match table.kind {
        TableKind::Limits => "by limits",
        TableKind::Reclaimed => "each system by its own rules",
    };
    let mut svg = Svg::new(
        WIDTH,
        top + PANEL_HEIGHT + FOOT,
        &format!("Utilisation of machines at the cell’s own size, {by}"),
        "For CPU and RAM, the share of machines that are charged up to each utilisation",
    );
    for (row, (x, y)) in table.rows.iter().zip(&legend) {
        let (colour, dash) = (palette.colour(&row.policy), Palette::dash(table, row));
        let y = y + 22.0;
        svg.line((*x, y), (x + 28.0, y), colour, 2.5, dash);
        svg.text((x + 36.0, y + 4.5), &row_name(table, row), TextStyle::PLAIN);
    }
    for (panel, name) in ["CPU", "RAM"].into_iter().enumerate() {
        let left = LEFT + panel as f64 * (PANEL_WIDTH + BETWEEN);
        draw_frame(&mut svg, left, top, name);
        for row in &table.rows {
            let cdf = if panel == 0 { &row.fill.cdf_cpu } else { &row.fill.cdf_ram };
            let points = line(cdf, left, top);
            let (colour, dash) = (palette.colour(&row.policy), Palette::dash(table, row));
            svg.polyline(&points, colour, 2.0, dash);
        }
    }
    svg.finish()
}

/// Where each row's legend entry stands: side by side, broken into lines.
fn legend_places(table: &Table) -> Vec<Point> {
    let (mut x, mut y) = (LEFT, 0.0);
    let mut places = Vec::new();
    for row in &table.rows {
        let width = 36.0 + text_width(&row_name(table, row), 13.0) + 24.0;
        if x + width > WIDTH && x > LEFT {
            (x, y) = (LEFT, y + LEGEND_LINE);
        }
        places.push((x, y));
        x += width;
    }
    places
}

fn draw_frame(svg: &mut Svg, left: f64, top: f64, name: &str) {
    let (right, bottom) = (left + PANEL_WIDTH, top + PANEL_HEIGHT);
    for percent in [0, 25, 50, 75, 100] {
        let share = f64::from(percent) / 100.0;
        let (x, y) = (left + share * PANEL_WIDTH, bottom - share * PANEL_HEIGHT);
        svg.line((x, top), (x, bottom), Colour::Grid, 1.0, Dash::Solid);
        svg.line((left, y), (right, y), Colour::Grid, 1.0, Dash::Solid);
        let label = percent.to_string();
        svg.text((x, bottom + 18.0), &label, TextStyle::NOTE.anchored(Anchor::Middle));
        svg.text((left - 8.0, y + 4.0), &label, TextStyle::NOTE.anchored(Anchor::End));
    }
    svg.text((left, top - 14.0), name, TextStyle::PLAIN.bold());
    svg.text(
        (left + PANEL_WIDTH / 2.0, bottom + 40.0),
        &format!("{name} charged, % of the machine’s capacity"),
        TextStyle::PLAIN.anchored(Anchor::Middle),
    );
    svg.text_turned(
        (left - 42.0, top + PANEL_HEIGHT / 2.0),
        "machines at or below, %",
        TextStyle::PLAIN.anchored(Anchor::Middle),
        -90.0,
    );
}

/// The distribution as a line, without the points that lie on a straight part of it.
fn line(cdf: &[f64], left: f64, top: f64) -> Vec<Point> {
    let point = |step: usize| {
        let x = left + PANEL_WIDTH * step as f64 / CDF_STEPS as f64;
        (x, top + PANEL_HEIGHT * (1.0 - cdf[step]))
    };
    (0..cdf.len())
        .filter(|&step| {
            let is_end = step == 0 || step + 1 == cdf.len();
            is_end || cdf[step - 1] != cdf[step] || cdf[step] != cdf[step + 1]
        })
        .map(point)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_parts_keep_only_their_ends() {
        let mut cdf = vec![0.0; CDF_STEPS + 1];
        cdf[CDF_STEPS] = 1.0;
        let points = line(&cdf, 0.0, 0.0);
        let step = PANEL_WIDTH / CDF_STEPS as f64;
        let expected =
            [(0.0, PANEL_HEIGHT), (PANEL_WIDTH - step, PANEL_HEIGHT), (PANEL_WIDTH, 0.0)];
        assert_eq!(points.len(), expected.len());
        for ((x, y), (expected_x, expected_y)) in points.into_iter().zip(expected) {
            assert!((x - expected_x).abs() < 1e-9 && (y - expected_y).abs() < 1e-9);
        }
    }
}

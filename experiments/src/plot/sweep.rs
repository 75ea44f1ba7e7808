//! Machines needed over usage ratios: a line a row, from the ratio of the tables up to 1.
//!
//! The line is the 90th percentile; whiskers reach from the fewest machines of any trial to the most.
//! Rows that charge limits do not depend on the ratio and are level lines.

use super::axis::Axis;
use super::{Palette, WIDTH, row_name};
use crate::number;
use crate::plan::TableKind;
use crate::results::{Machines, Results, RowResult, Table};
use crate::svg::{Anchor, Colour, Dash, Point, Svg, TextStyle, text_width};

pub(super) const TOP: f64 = 28.0;
pub(super) const HEIGHT: f64 = 320.0;
const LEFT: f64 = 84.0;
const FOOT: f64 = 78.0;
/// Least distance of the names at the lines' ends.
const NAME_PITCH: f64 = 17.0;

/// The figure; `None` where there was no sweep.
pub(super) fn draw(results: &Results, palette: &Palette) -> Option<String> {
    if results.sweep.is_empty() {
        return None;
    }
    let table = results.tables.iter().find(|table| table.kind == TableKind::Reclaimed)?;
    let lines: Vec<Line<'_>> = table.rows.iter().map(|row| Line::of(results, table, row)).collect();
    let names = lines.iter().map(|line| text_width(&line.name, 13.0)).fold(0.0, f64::max);
    let right = WIDTH - names - 34.0;
    let last_index = (results.sweep.len() - 1).max(1) as f64;
    let x = |index: usize| LEFT + 24.0 + (right - LEFT - 24.0) * index as f64 / last_index;
    let bottom = TOP + HEIGHT;
    let values: Vec<f64> = lines
        .iter()
        .flat_map(|line| line.machines.iter().flat_map(|(_, m)| [m.min as f64, m.max as f64]))
        .collect();
    let axis = Axis::for_machines(&values, 6, (bottom, TOP));
    let mut svg = Svg::new(
        WIDTH,
        bottom + FOOT,
        "Machines needed over usage ratios",
        "For each system, the 90th percentile of the machines needed at each usage ratio",
    );
    draw_frame(&mut svg, results, &axis, right, x);
    let mut ends: Vec<(f64, &Line<'_>)> = Vec::new();
    for line in &lines {
        let colour = palette.colour(&line.row.policy);
        let mut points: Vec<Point> =
            line.machines.iter().map(|(at, m)| (x(*at), axis.px(m.p90 as f64))).collect();
        if let [(_, y)] = points[..] {
            points.push((x(results.sweep.len() - 1), y));
        }
        svg.polyline(&points, colour, 2.0, Palette::dash(table, line.row));
        for (at, machines) in &line.machines {
            let (least, most) = (axis.px(machines.min as f64), axis.px(machines.max as f64));
            svg.line((x(*at), least), (x(*at), most), Colour::Ink, 1.5, Dash::Solid);
            svg.disc((x(*at), axis.px(machines.p90 as f64)), 3.5, colour);
        }
        ends.extend(points.last().map(|&(_, y)| (y, line)));
    }
    draw_names(&mut svg, ends, right + 12.0, palette);
    Some(svg.finish())
}

/// A row's machines needed, by the index of the point.
struct Line<'a> {
    row: &'a RowResult,
    name: String,
    machines: Vec<(usize, &'a Machines)>,
}

impl<'a> Line<'a> {
    fn of(results: &'a Results, table: &'a Table, row: &'a RowResult) -> Self {
        let machines = results
            .sweep
            .iter()
            .enumerate()
            .filter_map(|(index, point)| {
                let at_point = point.rows.iter().find(|other| other.id == row.id)?;
                Some((index, &at_point.machines))
            })
            .collect();
        Self { row, name: row_name(table, row), machines }
    }
}

fn draw_frame(svg: &mut Svg, results: &Results, axis: &Axis, right: f64, x: impl Fn(usize) -> f64) {
    let bottom = TOP + HEIGHT;
    for tick in axis.ticks() {
        let y = axis.px(tick);
        svg.line((LEFT, y), (right, y), Colour::Grid, 1.0, Dash::Solid);
        let style = TextStyle::NOTE.anchored(Anchor::End);
        svg.text((LEFT - 8.0, y + 4.0), &number::decimal(tick, 0), style);
    }
    let style = TextStyle::NOTE.anchored(Anchor::Middle);
    for (index, point) in results.sweep.iter().enumerate() {
        let cpu = format!("CPU {}", number::share(point.usage_ratio_cpu));
        svg.text((x(index), bottom + 18.0), &cpu, style);
        let ram = format!("RAM {}", number::share(point.usage_ratio_ram));
        svg.text((x(index), bottom + 34.0), &ram, style);
    }
    let start = if axis.low > 0.0 {
        format!("the vertical axis starts at {}, not at 0", number::decimal(axis.low, 0))
    } else {
        String::new()
    };
    svg.text((LEFT, TOP - 12.0), &start, TextStyle::NOTE);
    let style = TextStyle::PLAIN.anchored(Anchor::Middle);
    let title = "usage ratio: reservation over limit";
    svg.text((f64::midpoint(LEFT, right), bottom + 60.0), title, style);
    svg.text_turned((22.0, TOP + HEIGHT / 2.0), "machines needed", style, -90.0);
}

/// Names at the lines' ends, moved apart where they would overlap.
fn draw_names(svg: &mut Svg, mut ends: Vec<(f64, &Line<'_>)>, x: f64, palette: &Palette) {
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let ys = spread(&ends.iter().map(|(y, _)| *y).collect::<Vec<_>>());
    for ((_, line), y) in ends.iter().zip(ys) {
        let style = TextStyle { colour: palette.colour(&line.row.policy), ..TextStyle::PLAIN };
        svg.text((x, y + 4.5), &line.name, style);
    }
}

/// Ascending places, each at least [`NAME_PITCH`] after the one before, and the last inside the figure.
pub(super) fn spread(ys: &[f64]) -> Vec<f64> {
    let mut spread: Vec<f64> = Vec::new();
    for &y in ys {
        spread.push(spread.last().map_or(y, |before: &f64| y.max(before + NAME_PITCH)));
    }
    let mut limit = TOP + HEIGHT + 12.0;
    for y in spread.iter_mut().rev() {
        *y = y.min(limit);
        limit = *y - NAME_PITCH;
    }
    spread
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_at_the_ends_do_not_overlap() {
        let check = |ys: &[f64]| {
            let spread = spread(ys);
            for pair in spread.windows(2) {
                assert!(pair[1] - pair[0] >= NAME_PITCH - 1e-9, "{spread:?}");
            }
            assert!(spread.last().is_none_or(|&last| last <= TOP + HEIGHT + 12.0));
        };
        check(&[]);
        check(&[100.0, 100.0, 100.0]);
        check(&[TOP + HEIGHT; 3]);
        check(&[50.0, 300.0]);
    }
}

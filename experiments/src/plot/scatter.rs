//! Machines by what is free on them: CPU against RAM, a panel a row.
//!
//! At the cell's own size. Machines with the same shares free are one square, whose side grows with
//! their number. On the diagonal nothing is stranded; the further from it, the more of one resource is
//! free that no task can have, as the other is taken.

use std::fmt::Write as _;

use super::{Palette, WIDTH};
use crate::answer::detail;
use crate::fill::{BIN_COUNT, Bin};
use crate::number;
use crate::plan::TableKind;
use crate::results::{RowResult, Table};
use crate::svg::{Anchor, Area, Colour, Dash, Svg, TextStyle, text_width};

/// Pixels a bin: 50 bins make a panel of 250.
const BIN: f64 = 5.0;
const PANEL: f64 = BIN * BIN_COUNT as f64;
const PANELS_IN_A_LINE: usize = 3;
const LEFT: f64 = 62.0;
const PITCH: f64 = 304.0;
const FOOT: f64 = 56.0;
/// Lines of a panel's heading.
const HEAD_LINE: f64 = 17.0;
/// Squares come in so many sizes.
const LEVELS: usize = 8;

pub(super) fn draw(table: &Table, palette: &Palette) -> String {
    let lines = table.rows.len().div_ceil(PANELS_IN_A_LINE);
    let by = match table.kind {
        TableKind::Limits => "by limits",
        TableKind::Reclaimed => "each system by its own rules",
    };
    let most = table.rows.iter().flat_map(|row| &row.fill.bins).map(|bin| bin.machine_count).max();
    let most = most.unwrap_or(1);
    let has_details = table.rows.iter().any(|row| detail(table.kind, row).is_some());
    let head = if has_details { 22.0 + 3.0 * HEAD_LINE } else { 22.0 + 2.0 * HEAD_LINE };
    let line = head + PANEL + FOOT;
    let mut svg = Svg::new(
        WIDTH,
        line * lines as f64 + 44.0,
        &format!("Machines by free CPU and free RAM at the cell’s own size, {by}"),
        &description(table),
    );
    for (index, row) in table.rows.iter().enumerate() {
        let left = LEFT + PITCH * (index % PANELS_IN_A_LINE) as f64;
        let top = head + line * (index / PANELS_IN_A_LINE) as f64;
        draw_frame(&mut svg, left, top);
        draw_head(&mut svg, left, top, table, row);
        draw_machines(&mut svg, left, top, &row.fill.bins, most, palette.colour(&row.policy));
    }
    draw_legend(&mut svg, line * lines as f64 + 14.0, most);
    svg.finish()
}

fn description(table: &Table) -> String {
    let rows: Vec<String> =
        table.rows.iter().map(|row| format!("{}: stranded {}", row.id, stranded(row))).collect();
    rows.join("; ")
}

fn stranded(row: &RowResult) -> String {
    let share = |name| row.pack.stranding.get(name).copied().unwrap_or(0.0);
    format!("CPU {}, RAM {}", number::percent(share("cpu"), 1), number::percent(share("ram"), 1))
}

fn draw_head(svg: &mut Svg, left: f64, top: f64, table: &Table, row: &RowResult) {
    let mut y = top - 9.0;
    svg.text((left, y), &format!("stranded: {}", stranded(row)), TextStyle::NOTE);
    if let Some(detail) = detail(table.kind, row) {
        y -= HEAD_LINE;
        svg.text((left, y), detail, TextStyle::NOTE);
    }
    svg.text((left, y - HEAD_LINE), &row.policy, TextStyle::PLAIN.bold());
}

fn draw_frame(svg: &mut Svg, left: f64, top: f64) {
    let bottom = top + PANEL;
    for percent in [0, 25, 50, 75, 100] {
        let offset = f64::from(percent) / 100.0 * PANEL;
        svg.line((left + offset, top), (left + offset, bottom), Colour::Grid, 1.0, Dash::Solid);
        svg.line(
            (left, bottom - offset),
            (left + PANEL, bottom - offset),
            Colour::Grid,
            1.0,
            Dash::Solid,
        );
        let label = percent.to_string();
        let style = TextStyle::NOTE.anchored(Anchor::Middle);
        svg.text((left + offset, bottom + 17.0), &label, style);
        let style = TextStyle::NOTE.anchored(Anchor::End);
        svg.text((left - 7.0, bottom - offset + 4.0), &label, style);
    }
    svg.line((left, bottom), (left + PANEL, top), Colour::Muted, 1.0, Dash::Dashed);
    let note = TextStyle { size: 11.0, ..TextStyle::NOTE };
    // Along the diagonal, on the side that each is about.
    let note = note.anchored(Anchor::Middle);
    let (x, y) = (left + PANEL * 0.7, bottom - PANEL * 0.7);
    svg.text_turned((x - 4.0, y - 4.0), "RAM stranded", note, -45.0);
    svg.text_turned((x + 10.0, y + 10.0), "CPU stranded", note, -45.0);
    let style = TextStyle::PLAIN.anchored(Anchor::Middle);
    svg.text((left + PANEL / 2.0, bottom + 37.0), "CPU free, %", style);
    svg.text_turned((left - 36.0, top + PANEL / 2.0), "RAM free, %", style, -90.0);
}

/// One path a size, which keeps the file small.
fn draw_machines(svg: &mut Svg, left: f64, top: f64, bins: &[Bin], most: usize, colour: Colour) {
    let mut paths = vec![String::new(); LEVELS];
    for bin in bins {
        let level = level(bin.machine_count, most);
        let side = side(level);
        let inset = (BIN - side) / 2.0;
        let x = left + BIN * bin.cpu_index as f64 + inset;
        let y = top + PANEL - BIN * (bin.ram_index + 1) as f64 + inset;
        let _ = write!(paths[level], "M{x} {y}h{side}v{side}h-{side}z");
    }
    for (level, path) in paths.iter().enumerate().filter(|(_, path)| !path.is_empty()) {
        svg.path(path, colour, opacity(level));
    }
}

/// Which size so many machines have: equal steps of the logarithm, from one machine to `most`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share in 0..=1 times a small count"
)]
fn level(machine_count: usize, most: usize) -> usize {
    let share = (machine_count as f64).ln() / (most.max(2) as f64).ln();
    ((share * LEVELS as f64) as usize).min(LEVELS - 1)
}

/// The side of a square, in quarter pixels: from 1.5 to all of its bin.
fn side(level: usize) -> f64 {
    1.5 + (BIN - 1.5) * level as f64 / (LEVELS - 1) as f64
}

fn opacity(level: usize) -> f64 {
    0.55 + 0.45 * level as f64 / (LEVELS - 1) as f64
}

fn draw_legend(svg: &mut Svg, y: f64, most: usize) {
    let mut x = LEFT;
    let mut note = |svg: &mut Svg, text: &str, gap: f64| {
        svg.text((x, y + 4.0), text, TextStyle::NOTE);
        x += text_width(text, 12.0) + gap;
        x
    };
    let mut square_at = note(svg, "machines in a square of 2 % × 2 %, drawn twice as large:", 16.0);
    let mut counts = vec![1, 10, 100, 1_000, 10_000, 100_000];
    counts.retain(|&count| count <= most);
    for count in counts {
        let level = level(count, most);
        let side = side(level) * 2.0;
        let area = Area { x: square_at - side / 2.0, y: y - side / 2.0, width: side, height: side };
        svg.rectangle(area, Colour::Policy(7), opacity(level));
        note(svg, "\u{2003}", 0.0);
        square_at = note(svg, &number::count(count), 24.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_machines_are_a_larger_square() {
        assert_eq!(level(1, 5_000), 0);
        assert_eq!(level(5_000, 5_000), LEVELS - 1);
        assert_eq!(level(1, 1), 0);
        for count in 1..5_000 {
            assert!(level(count, 5_000) <= level(count + 1, 5_000));
        }
        assert_eq!(side(LEVELS - 1), BIN);
    }
}

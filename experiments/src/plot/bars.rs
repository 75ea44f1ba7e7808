//! Machines needed, a bar a row: from the lower bound to the 90th percentile, with whiskers.
//!
//! The bar's length is the gap to the bound, so that it means something even where the axis does not
//! start at zero; left of the bound no packing can be. Whiskers reach from the fewest machines of any
//! trial to the most.

use super::axis::Axis;
use super::{Palette, WIDTH};
use crate::answer::detail;
use crate::number;
use crate::plan::TableKind;
use crate::results::Table;
use crate::svg::{Anchor, Area, Colour, Dash, Svg, TextStyle, text_width};

/// Bold text is so much wider.
const BOLD: f64 = 1.1;
const HEAD: f64 = 40.0;
const ROW: f64 = 54.0;
const BAR: f64 = 20.0;
/// Axis, its title and the legend.
const FOOT: f64 = 102.0;
/// Three columns of numbers right of the bars.
const COLUMN: f64 = 82.0;
const RIGHT: f64 = 3.0 * COLUMN + 16.0;

pub(super) fn draw(table: &Table, cell_size: usize, palette: &Palette) -> String {
    let names: Vec<_> =
        table.rows.iter().map(|row| (&row.policy, detail(table.kind, row))).collect();
    let left = 26.0
        + names
            .iter()
            .map(|(name, detail)| {
                (text_width(name, 13.0) * BOLD).max(text_width(detail.unwrap_or(""), 12.0))
            })
            .fold(60.0, f64::max);
    let bottom = HEAD + ROW * table.rows.len() as f64;
    let axis = scale(table, cell_size, (left, WIDTH - RIGHT));
    let mut svg = Svg::new(WIDTH, bottom + FOOT, &title(table), &description(table));
    draw_grid(&mut svg, &axis, bottom);
    draw_heads(&mut svg);
    for (index, row) in table.rows.iter().enumerate() {
        let middle = HEAD + ROW * (index as f64 + 0.5);
        let colour = palette.colour(&row.policy);
        let (name, detail) = &names[index];
        let name_at = if detail.is_some() { middle - 3.0 } else { middle + 4.5 };
        let name_style = TextStyle::PLAIN.bold().anchored(Anchor::End);
        svg.text((left - 14.0, name_at), name, name_style);
        if let Some(detail) = detail {
            let style = TextStyle::NOTE.anchored(Anchor::End);
            svg.text((left - 14.0, middle + 13.0), detail, style);
        }
        let machines = &row.machines;
        let bound = axis.px(row.lower_bound.p90 as f64);
        let result = axis.px(machines.p90 as f64);
        let top = middle - BAR / 2.0;
        let area = |x: f64, until: f64| Area { x, y: top, width: until - x, height: BAR };
        svg.rectangle(area(left, bound), Colour::Shade, 1.0);
        svg.rectangle(area(bound, result), colour, 0.85);
        svg.line((bound, top - 5.0), (bound, top + BAR + 5.0), Colour::Ink, 2.0, Dash::Solid);
        let (least, most) = (axis.px(machines.min as f64), axis.px(machines.max as f64));
        svg.line((least, middle), (most, middle), Colour::Ink, 1.5, Dash::Solid);
        for end in [least, most] {
            svg.line((end, middle - 5.0), (end, middle + 5.0), Colour::Ink, 1.5, Dash::Solid);
        }
        let is_best = row.id == table.best;
        let over = if is_best {
            "best".to_owned()
        } else {
            number::signed_percent(row.overhead_over_best, 1)
        };
        let gap = number::signed_percent(row.gap_to_bound, 1);
        let columns = [number::count(machines.p90), over, gap];
        for (column, text) in columns.iter().enumerate() {
            let style = TextStyle { bold: column == 0, ..TextStyle::PLAIN };
            svg.text((column_end(column), middle + 4.5), text, style.anchored(Anchor::End));
        }
    }
    draw_cell_size(&mut svg, &axis, cell_size, bottom);
    draw_foot(&mut svg, &axis, left, bottom);
    svg.finish()
}

fn title(table: &Table) -> String {
    let by = match table.kind {
        TableKind::Limits => "by limits",
        TableKind::Reclaimed => "each system by its own rules",
    };
    format!("Machines needed per policy, {by}")
}

fn description(table: &Table) -> String {
    let rows: Vec<String> = table
        .rows
        .iter()
        .map(|row| {
            format!(
                "{}: {} machines (90th percentile; {} to {}), lower bound {}",
                row.id, row.machines.p90, row.machines.min, row.machines.max, row.lower_bound.p90
            )
        })
        .collect();
    rows.join("; ")
}

fn scale(table: &Table, cell_size: usize, px: (f64, f64)) -> Axis {
    let mut values: Vec<f64> = table
        .rows
        .iter()
        .flat_map(|row| [row.machines.p90, row.machines.min, row.machines.max, row.lower_bound.p90])
        .map(|machines| machines as f64)
        .collect();
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    // The cell's own size is shown where it does not squeeze the rest.
    let size = cell_size as f64;
    if size >= least - (most - least) && size <= most + (most - least) {
        values.push(size);
    }
    Axis::for_machines(&values, 7, px)
}

fn column_end(column: usize) -> f64 {
    WIDTH - 14.0 - COLUMN * (2.0 - column as f64)
}

fn draw_grid(svg: &mut Svg, axis: &Axis, bottom: f64) {
    for tick in axis.ticks() {
        let x = axis.px(tick);
        svg.line((x, HEAD), (x, bottom), Colour::Grid, 1.0, Dash::Solid);
        let style = TextStyle::NOTE.anchored(Anchor::Middle);
        svg.text((x, bottom + 19.0), &number::decimal(tick, 0), style);
    }
}

fn draw_heads(svg: &mut Svg) {
    let style = TextStyle::NOTE.anchored(Anchor::End);
    for (column, head) in ["machines", "over best", "over bound"].into_iter().enumerate() {
        svg.text((column_end(column), HEAD - 14.0), head, style);
    }
}

fn draw_cell_size(svg: &mut Svg, axis: &Axis, cell_size: usize, bottom: f64) {
    let size = cell_size as f64;
    if !(axis.low..=axis.high).contains(&size) {
        return;
    }
    let x = axis.px(size);
    svg.line((x, HEAD - 8.0), (x, bottom), Colour::Muted, 1.5, Dash::Dotted);
    let text = format!("the cell itself: {}", number::count(cell_size));
    // Kept inside the figure on either side.
    let half = text_width(&text, 12.0) / 2.0;
    let x = x.clamp(half + 6.0, (WIDTH - RIGHT - half).max(half + 6.0));
    svg.text((x, HEAD - 14.0), &text, TextStyle::NOTE.anchored(Anchor::Middle));
}

fn draw_foot(svg: &mut Svg, axis: &Axis, left: f64, bottom: f64) {
    let start = if axis.low > 0.0 {
        format!(" (the axis starts at {}, not at 0)", number::decimal(axis.low, 0))
    } else {
        String::new()
    };
    let middle = f64::midpoint(left, WIDTH - RIGHT);
    svg.text(
        (middle, bottom + 41.0),
        &format!("machines needed{start}"),
        TextStyle::PLAIN.anchored(Anchor::Middle),
    );
    // The legend, drawn as the bars are.
    let y = bottom + 78.0;
    let mut x = 28.0;
    let mut entry = |svg: &mut Svg, width: f64, text: &str, draw: &dyn Fn(&mut Svg, f64)| {
        draw(svg, x);
        svg.text((x + width + 8.0, y + 4.0), text, TextStyle::NOTE);
        x += width + 8.0 + text_width(text, 12.0) + 18.0;
    };
    entry(svg, 26.0, "no packing can need so few", &|svg, x| {
        let area = Area { x, y: y - 8.0, width: 26.0, height: 16.0 };
        svg.rectangle(area, Colour::Shade, 1.0);
    });
    entry(svg, 4.0, "lower bound", &|svg, x| {
        svg.line((x + 2.0, y - 11.0), (x + 2.0, y + 11.0), Colour::Ink, 2.0, Dash::Solid);
    });
    entry(svg, 26.0, "up to the 90th percentile of the trials", &|svg, x| {
        let area = Area { x, y: y - 8.0, width: 26.0, height: 16.0 };
        svg.rectangle(area, Colour::Policy(7), 0.85);
    });
    entry(svg, 26.0, "fewest to most of any trial", &|svg, x| {
        svg.line((x, y), (x + 26.0, y), Colour::Ink, 1.5, Dash::Solid);
        for end in [x, x + 26.0] {
            svg.line((end, y - 5.0), (end, y + 5.0), Colour::Ink, 1.5, Dash::Solid);
        }
    });
}

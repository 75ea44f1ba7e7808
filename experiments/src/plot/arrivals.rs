//! A measure of the GPU experiment against the GPU demand that has arrived: a line a policy, the mean over
//! seeds, in a band from the least to the most of any seed.

use super::axis::Axis;
use super::sweep::{HEIGHT, TOP, spread};
use super::{Figure, WIDTH};
use crate::gpu::results::{GpuResults, Over, Point, Row};
use crate::number;
use crate::svg::{Anchor, Colour, Dash, Svg, TextStyle, text_width};

const LEFT: f64 = 72.0;
const FOOT: f64 = 64.0;
/// The figure of what is not allocated begins there: up to about so much all policies place everything.
const LATE_PERCENT: usize = 80;

/// What a figure shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// GPU not allocated over capacity (the paper's figure 9a).
    Unallocated,
    /// Fragments over capacity (its figure 7a).
    Fragments,
    /// Fragments over free GPU (its figure 7b).
    FragmentRate,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Unallocated, Self::Fragments, Self::FragmentRate];

    /// The name of its figure's file.
    #[must_use]
    pub fn file_name(self) -> String {
        match self {
            Self::Unallocated => "gpu-unallocated.svg",
            Self::Fragments => "gpu-fragments.svg",
            Self::FragmentRate => "gpu-fragment-rate.svg",
        }
        .to_owned()
    }

    /// What its figure shows, in words.
    #[must_use]
    pub fn caption(self) -> &'static str {
        match self {
            Self::Unallocated => {
                "GPU not allocated, over the cell’s capacity. Lines are means over seeds, bands span the least \
                 and the most of any seed. The paper’s figure 9a, which has medians with the middle half of the \
                 seeds."
            }
            Self::Fragments => {
                "Fragments over the cell’s capacity. Each begins with what the empty cell cannot offer to tasks \
                 without GPUs; a policy that breaks GPUs up keeps it high. The paper’s figure 7a."
            }
            Self::FragmentRate => {
                "Fragments over what is free: at 100 % nothing of it is of use to any typical task. The paper’s \
                 figure 7b."
            }
        }
    }

    fn axis_name(self) -> &'static str {
        match self {
            Self::Unallocated => "GPU not allocated, % of capacity",
            Self::Fragments => "fragments, % of capacity",
            Self::FragmentRate => "fragments, % of free GPU",
        }
    }

    /// In percent.
    fn of(self, point: &Point) -> Over {
        let percent = |over: &Over, from: f64, sign: f64| Over {
            mean: from + sign * over.mean * 100.0,
            min: from + sign * over.min * 100.0,
            max: from + sign * over.max * 100.0,
        };
        match self {
            Self::Unallocated => percent(&point.allocated, 100.0, -1.0),
            Self::Fragments => percent(&point.fragments, 0.0, 1.0),
            Self::FragmentRate => percent(&point.fragment_rate, 0.0, 1.0),
        }
    }

    fn first_percent(self, until: usize) -> usize {
        match self {
            Self::Unallocated => LATE_PERCENT.min(until),
            Self::Fragments | Self::FragmentRate => 0,
        }
    }
}

/// All figures of these results; a policy's colour is its place among the rows.
#[must_use]
pub fn figures(results: &GpuResults) -> Vec<Figure> {
    let figure =
        |measure: Measure| Figure { name: measure.file_name(), svg: draw(results, measure) };
    Measure::ALL.into_iter().map(figure).collect()
}

fn draw(results: &GpuResults, measure: Measure) -> String {
    let until = results.method.until_percent as usize;
    let from = measure.first_percent(until);
    let names = results.rows.iter().map(|row| text_width(&row.policy, 13.0)).fold(0.0, f64::max);
    let (right, bottom) = (WIDTH - names - 30.0, TOP + HEIGHT);
    let values = results.rows.iter().flat_map(|row| &row.points[from..]);
    let most = values.map(|point| measure.of(point)).map(|over| over.max.max(over.min));
    let y = Axis::rounded(0.0, most.fold(1.0, f64::max), 6, (bottom, TOP));
    let x = Axis::rounded(from as f64, until as f64, 7, (LEFT, right));
    let mut svg = Svg::new(
        WIDTH,
        bottom + FOOT,
        &format!("{} while tasks arrive", measure.axis_name()),
        "For each policy the mean over seeds and the range from the least to the most of any seed",
    );
    for tick in y.ticks() {
        svg.line((LEFT, y.px(tick)), (right, y.px(tick)), Colour::Grid, 1.0, Dash::Solid);
        let style = TextStyle::NOTE.anchored(Anchor::End);
        svg.text((LEFT - 8.0, y.px(tick) + 4.0), &number::decimal(tick, 0), style);
    }
    let style = TextStyle::NOTE.anchored(Anchor::Middle);
    for tick in x.ticks() {
        svg.text((x.px(tick), bottom + 18.0), &number::decimal(tick, 0), style);
    }
    if measure == Measure::Unallocated {
        // Everything that arrives is placed, until nothing is free.
        let start = (x.px(from as f64), y.px(100.0 - from as f64));
        svg.line(start, (x.px(100.0), y.px(0.0)), Colour::Muted, 1.5, Dash::Dotted);
        svg.line(
            (x.px(100.0), y.px(0.0)),
            (x.px(until as f64), y.px(0.0)),
            Colour::Muted,
            1.5,
            Dash::Dotted,
        );
        let note = "dotted: ideal";
        svg.text((x.px(from as f64) + 8.0, bottom - 10.0), note, TextStyle::NOTE);
    }
    for (index, row) in results.rows.iter().enumerate() {
        draw_row(&mut svg, row, measure, from, (&x, &y), Colour::Policy(index));
    }
    let mut ends: Vec<(f64, usize)> = results
        .rows
        .iter()
        .enumerate()
        .filter_map(|(index, row)| Some((y.px(measure.of(row.points.last()?).mean), index)))
        .collect();
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let places = spread(&ends.iter().map(|&(y, _)| y).collect::<Vec<_>>());
    let end_x = x.px(until as f64);
    for ((end_y, index), place) in ends.into_iter().zip(places) {
        let colour = Colour::Policy(index);
        svg.line((end_x, end_y), (end_x + 12.0, place), colour, 1.0, Dash::Solid);
        let style = TextStyle { colour, ..TextStyle::PLAIN };
        svg.text((end_x + 16.0, place + 4.5), &results.rows[index].policy, style);
    }
    let style = TextStyle::PLAIN.anchored(Anchor::Middle);
    let title = "GPU asked for by the tasks that have arrived, % of capacity";
    svg.text((f64::midpoint(LEFT, right), bottom + 46.0), title, style);
    svg.text_turned((22.0, TOP + HEIGHT / 2.0), measure.axis_name(), style, -90.0);
    svg.finish()
}

fn draw_row(
    svg: &mut Svg,
    row: &Row,
    measure: Measure,
    from: usize,
    (x, y): (&Axis, &Axis),
    colour: Colour,
) {
    let points = &row.points[from..];
    let at = |index: usize, value: f64| (x.px((from + index) as f64), y.px(value));
    let upper = points.iter().enumerate().map(|(index, p)| at(index, measure.of(p).max));
    let lower = points.iter().enumerate().rev().map(|(index, p)| at(index, measure.of(p).min));
    let mut path = String::new();
    for (x, y) in upper.chain(lower) {
        path.push_str(&format!("{}{x:.1} {y:.1}", if path.is_empty() { "M" } else { "L" }));
    }
    path.push('Z');
    svg.path(&path, colour, 0.16);
    let mean: Vec<_> =
        points.iter().enumerate().map(|(index, p)| at(index, measure.of(p).mean)).collect();
    svg.polyline(&mean, colour, 2.0, Dash::Solid);
}

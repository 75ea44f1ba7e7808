//! A small writer of SVG: elements with escaped text, rounded numbers and a look of their own.
//!
//! In: shapes in pixels. Out: one SVG file that also stands inside an HTML page. Colours are given as
//! attributes for a light ground, which every renderer understands, and repeated as classes that a
//! dark colour scheme overrides. The same shapes always give the same bytes.

use std::fmt::Write as _;

/// Height of text in the figures, in pixels.
pub const FONT_SIZE: f64 = 13.0;

/// A colour with a part to play; the last is the n-th of the colours that tell policies apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// The ground of the figure.
    Ground,
    /// Text, and what must be seen.
    Ink,
    /// Text and lines that explain.
    Muted,
    /// Grid lines.
    Grid,
    /// Areas that recede.
    Shade,
    /// A policy's own.
    Policy(usize),
}

/// Colours for policies, on a light and on a dark ground. The first seven are Okabe and Ito's without
/// the yellow ("Color Universal Design", 2008), which is invisible on white; the last is a grey.
const POLICY_COLOURS: [(&str, &str); 8] = [
    ("#0072b2", "#4ba3dd"),
    ("#d55e00", "#f08243"),
    ("#009e73", "#2fbf95"),
    ("#b8588f", "#d98ebb"),
    ("#c98a00", "#e8b340"),
    ("#3a9fd8", "#86ccf5"),
    ("#6a51a3", "#a894d6"),
    ("#6b7280", "#a3abb8"),
];

/// How many policies have a colour of their own; further ones start again.
pub const POLICY_COLOUR_COUNT: usize = POLICY_COLOURS.len();

impl Colour {
    /// All of them, for the style sheet.
    fn all() -> impl Iterator<Item = Self> {
        [Self::Ground, Self::Ink, Self::Muted, Self::Grid, Self::Shade]
            .into_iter()
            .chain((0..POLICY_COLOUR_COUNT).map(Self::Policy))
    }

    /// The colour on a light and on a dark ground.
    #[must_use]
    pub fn values(self) -> (&'static str, &'static str) {
        match self {
            Self::Ground => ("#ffffff", "#15181d"),
            Self::Ink => ("#1c2128", "#e7eaee"),
            Self::Muted => ("#5a6470", "#a0a9b4"),
            Self::Grid => ("#e4e7eb", "#2c323a"),
            Self::Shade => ("#eef0f3", "#22272e"),
            Self::Policy(index) => POLICY_COLOURS[index % POLICY_COLOUR_COUNT],
        }
    }

    fn class(self) -> String {
        match self {
            Self::Ground => "ground".to_owned(),
            Self::Ink => "ink".to_owned(),
            Self::Muted => "muted".to_owned(),
            Self::Grid => "grid".to_owned(),
            Self::Shade => "shade".to_owned(),
            Self::Policy(index) => format!("p{}", index % POLICY_COLOUR_COUNT),
        }
    }

    fn fill(self) -> String {
        format!("class=\"f-{}\" fill=\"{}\"", self.class(), self.values().0)
    }

    fn stroke(self, width: f64) -> String {
        format!(
            "class=\"s-{}\" stroke=\"{}\" stroke-width=\"{}\" fill=\"none\"",
            self.class(),
            self.values().0,
            Number(width)
        )
    }
}

/// Where a text stands to its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// The text begins there.
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

/// How a text looks.
#[derive(Clone, Copy, Debug)]
pub struct TextStyle {
    /// Colour.
    pub colour: Colour,
    /// Height in pixels.
    pub size: f64,
    /// Whether it is bold.
    pub bold: bool,
    /// Where it stands to its point.
    pub anchor: Anchor,
}

impl TextStyle {
    /// Plain text, beginning at its point.
    pub const PLAIN: Self =
        Self { colour: Colour::Ink, size: FONT_SIZE, bold: false, anchor: Anchor::Start };
    /// Text that explains.
    pub const NOTE: Self =
        Self { colour: Colour::Muted, size: 12.0, bold: false, anchor: Anchor::Start };

    /// The same, standing elsewhere to its point.
    #[must_use]
    pub const fn anchored(self, anchor: Anchor) -> Self {
        Self { anchor, ..self }
    }

    /// The same in bold.
    #[must_use]
    pub const fn bold(self) -> Self {
        Self { bold: true, ..self }
    }
}

/// A point, in pixels from the upper left.
pub type Point = (f64, f64);

/// A rectangle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Area {
    /// Left edge.
    pub x: f64,
    /// Upper edge.
    pub y: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

/// A dash pattern, from which lines of one colour are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dash {
    /// A line without gaps.
    Solid,
    /// Long dashes.
    Dashed,
    /// Dots.
    Dotted,
}

impl Dash {
    /// The n-th pattern, the last for all that follow.
    #[must_use]
    pub const fn nth(index: usize) -> Self {
        match index {
            0 => Self::Solid,
            1 => Self::Dashed,
            _ => Self::Dotted,
        }
    }

    const fn attribute(self) -> &'static str {
        match self {
            Self::Solid => "",
            Self::Dashed => " stroke-dasharray=\"7 4\"",
            Self::Dotted => " stroke-dasharray=\"2 3\"",
        }
    }
}

/// An SVG being written.
#[derive(Clone, Debug)]
pub struct Svg {
    width: f64,
    height: f64,
    title: String,
    description: String,
    body: String,
}

impl Svg {
    /// An empty figure of this size. Title and description are read out where it cannot be seen.
    #[must_use]
    pub fn new(width: f64, height: f64, title: &str, description: &str) -> Self {
        let (title, description) = (title.to_owned(), description.to_owned());
        let mut svg = Self { width, height, title, description, body: String::new() };
        svg.rectangle(Area { x: 0.0, y: 0.0, width, height }, Colour::Ground, 1.0);
        svg
    }

    /// A filled rectangle.
    pub fn rectangle(&mut self, area: Area, colour: Colour, opacity: f64) {
        let _ = writeln!(
            self.body,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" {}{}/>",
            Number(area.x),
            Number(area.y),
            Number(area.width.max(0.0)),
            Number(area.height.max(0.0)),
            colour.fill(),
            opacity_attribute(opacity)
        );
    }

    /// A straight line.
    pub fn line(&mut self, from: Point, to: Point, colour: Colour, width: f64, dash: Dash) {
        let _ = writeln!(
            self.body,
            "<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" {}{}/>",
            Number(from.0),
            Number(from.1),
            Number(to.0),
            Number(to.1),
            colour.stroke(width),
            dash.attribute()
        );
    }

    /// A line through all points.
    pub fn polyline(&mut self, points: &[Point], colour: Colour, width: f64, dash: Dash) {
        let mut path = String::new();
        for &(x, y) in points {
            if !path.is_empty() {
                path.push(' ');
            }
            let _ = write!(path, "{},{}", Number(x), Number(y));
        }
        let _ = writeln!(
            self.body,
            "<polyline points=\"{path}\" {} stroke-linejoin=\"round\"{}/>",
            colour.stroke(width),
            dash.attribute()
        );
    }

    /// A disc with a thin rim of the ground's colour.
    pub fn disc(&mut self, centre: Point, radius: f64, colour: Colour) {
        let _ = writeln!(
            self.body,
            "<circle cx=\"{}\" cy=\"{}\" r=\"{}\" {}/>",
            Number(centre.0),
            Number(centre.1),
            Number(radius),
            colour.fill()
        );
    }

    /// A filled path, written by the caller.
    pub fn path(&mut self, path: &str, colour: Colour, opacity: f64) {
        let _ = writeln!(
            self.body,
            "<path d=\"{path}\" {}{}/>",
            colour.fill(),
            opacity_attribute(opacity)
        );
    }

    /// A line of text; `at` is on its base line.
    pub fn text(&mut self, at: Point, text: &str, style: TextStyle) {
        self.text_turned(at, text, style, 0.0);
    }

    /// A line of text, turned by so many degrees around `at`.
    pub fn text_turned(&mut self, at: Point, text: &str, style: TextStyle, degrees: f64) {
        let anchor = match style.anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let weight = if style.bold { " font-weight=\"600\"" } else { "" };
        let turn = if degrees == 0.0 {
            String::new()
        } else {
            format!(" transform=\"rotate({} {} {})\"", Number(degrees), Number(at.0), Number(at.1))
        };
        let _ = writeln!(
            self.body,
            "<text x=\"{}\" y=\"{}\" font-size=\"{}\" {}{anchor}{weight}{turn}>{}</text>",
            Number(at.0),
            Number(at.1),
            Number(style.size),
            style.colour.fill(),
            escape(text)
        );
    }

    /// The file.
    #[must_use]
    pub fn finish(self) -> String {
        let mut dark = String::new();
        for colour in Colour::all() {
            let (class, value) = (colour.class(), colour.values().1);
            let _ = write!(dark, ".f-{class}{{fill:{value}}}.s-{class}{{stroke:{value}}}");
        }
        let (width, height) = (Number(self.width), Number(self.height));
        let (title, description) = (escape(&self.title), escape(&self.description));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{title}\" \
             font-family=\"system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif\">\n\
             <title>{title}</title>\n<desc>{description}</desc>\n\
             <style>@media (prefers-color-scheme: dark) {{{dark}}}</style>\n{}</svg>\n",
            self.body
        )
    }
}

fn opacity_attribute(opacity: f64) -> String {
    if opacity >= 1.0 { String::new() } else { format!(" opacity=\"{}\"", Number(opacity)) }
}

/// How wide a text is at most, in pixels: an estimate, as the reader's font is not known here. In the
/// common sans-serif fonts an average character is 0.5 to 0.58 of the height wide.
#[must_use]
pub fn text_width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * 0.58
}

/// Text with the characters that XML keeps for itself replaced.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // Not even as a reference may XML hold control characters.
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A number with at most two decimals and none that are zero.
struct Number(f64);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{:.2}", self.0);
        let text = text.trim_end_matches('0').trim_end_matches('.');
        f.write_str(if text == "-0" { "0" } else { text })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Panics unless every element is closed in order and every attribute is quoted.
    pub(crate) fn assert_well_formed(xml: &str) {
        let mut open: Vec<&str> = Vec::new();
        let mut rest = xml;
        while let Some(start) = rest.find('<') {
            assert!(!rest[..start].contains('>'), "stray > in {:?}", &rest[..start]);
            let end = start + rest[start..].find('>').expect("a tag ends");
            let tag = &rest[start + 1..end];
            assert!(tag.matches('"').count().is_multiple_of(2), "{tag}");
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name), "closed out of order");
            } else if !tag.ends_with('/') {
                open.push(tag.split_whitespace().next().expect("a tag has a name"));
            }
            rest = &rest[end + 1..];
        }
        assert!(open.is_empty(), "left open: {open:?}");
        assert!(!xml.contains("NaN") && !xml.contains("inf\""), "a coordinate is no number");
    }

    #[test]
    fn a_figure_is_well_formed_whatever_the_text() {
        let mut svg = Svg::new(100.0, 50.0, "a < b & \"c\"", "it's > so\u{7}");
        svg.text((1.0, 2.0), "<script>", TextStyle::PLAIN.bold().anchored(Anchor::End));
        svg.text_turned((1.0, 2.0), "y", TextStyle::NOTE, -90.0);
        svg.line((0.0, 0.0), (1.0, 1.005), Colour::Grid, 1.0, Dash::Dashed);
        svg.polyline(&[(0.0, 0.0), (1.0, 2.0)], Colour::Policy(9), 1.5, Dash::Solid);
        svg.disc((3.0, 3.0), 2.0, Colour::Policy(0));
        svg.path("M0 0h1v1z", Colour::Shade, 0.5);
        let text = svg.finish();
        assert_well_formed(&text);
        assert!(text.contains("&lt;script&gt;"));
        assert!(text.contains("s-p1"), "the ninth colour is the first again, plus one");
    }

    #[test]
    fn numbers_are_short() {
        let check = |value, expected| assert_eq!(Number(value).to_string(), expected);
        check(1.0, "1");
        check(0.126, "0.13");
        check(10.0, "10");
        check(-0.001, "0");
        check(2.5, "2.5");
    }
}

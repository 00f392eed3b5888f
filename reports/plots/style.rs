//! How figures look: the colours of Okabe and Ito ("Color Universal Design", 2008), which the colour-blind tell apart,
//! and beside each colour a marker and a dash of its own, which survive a photocopier.

use plotters::style::RGBColor;

use super::sheet::{Anchor, Mark, Point, Sheet};

/// Text and axes.
pub const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
/// Text of less weight.
pub const MUTED: RGBColor = RGBColor(0x66, 0x66, 0x66);
/// Lines that guide the eye.
pub const RULE: RGBColor = RGBColor(0xDD, 0xDD, 0xDD);
/// The paper, where it must cover something.
pub const PAPER: RGBColor = RGBColor(0xFF, 0xFF, 0xFF);
/// The size of text in points.
pub const TEXT: f64 = 12.0;
/// The size of titles.
pub const TITLE: f64 = 13.0;

/// How an arm is drawn in every figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// Its colour.
    pub colour: RGBColor,
    /// Its marker.
    pub marker: Marker,
    /// Lengths of line and gap in turn, in points; empty for a line without gaps.
    pub dash: &'static [f64],
}

/// The shape of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// A circle.
    Circle,
    /// A square.
    Square,
    /// A triangle on its base.
    Triangle,
    /// A square on its corner.
    Diamond,
    /// A triangle on its tip.
    Wedge,
    /// A triangle that points to the right.
    East,
    /// A triangle that points to the left.
    West,
    /// An upright cross.
    Plus,
    /// A cross on its arms.
    Times,
}

const GREY: RGBColor = RGBColor(0x77, 0x77, 0x77);
const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xB2);
const VERMILLION: RGBColor = RGBColor(0xD5, 0x5E, 0x00);
const GREEN: RGBColor = RGBColor(0x00, 0x9E, 0x73);
const PURPLE: RGBColor = RGBColor(0xCC, 0x79, 0xA7);
const ORANGE: RGBColor = RGBColor(0xE6, 0x9F, 0x00);
const SKY: RGBColor = RGBColor(0x56, 0xB4, 0xE9);
const BROWN: RGBColor = RGBColor(0x8C, 0x56, 0x2B);

/// The control's look: grey, so that what is compared with it stands out.
pub const CONTROL: Look = Look { colour: GREY, marker: Marker::Circle, dash: &[5.0, 3.0] };

/// The look of a rerun beside what was published.
pub const RERUN: Look = Look { colour: BLUE, marker: Marker::Square, dash: &[] };

/// The looks of other arms.
const OTHERS: [Look; 8] = [
    Look { colour: BLUE, marker: Marker::Square, dash: &[] },
    Look { colour: VERMILLION, marker: Marker::Triangle, dash: &[9.0, 3.0] },
    Look { colour: GREEN, marker: Marker::Diamond, dash: &[2.0, 2.5] },
    Look { colour: PURPLE, marker: Marker::Wedge, dash: &[9.0, 3.0, 2.0, 3.0] },
    Look { colour: ORANGE, marker: Marker::Plus, dash: &[] },
    Look { colour: SKY, marker: Marker::Times, dash: &[9.0, 3.0] },
    Look { colour: BROWN, marker: Marker::East, dash: &[2.0, 2.5] },
    Look { colour: INK, marker: Marker::West, dash: &[9.0, 3.0, 2.0, 3.0] },
];

/// The look of the arm at `index` in the file's order, where the control is at `control`.
pub fn look(index: usize, control: Option<usize>) -> Look {
    match control {
        Some(control) if control == index => CONTROL,
        Some(control) if control < index => OTHERS[(index - 1) % OTHERS.len()],
        _ => OTHERS[index % OTHERS.len()],
    }
}

impl Sheet {
    /// A line without gaps.
    pub fn line(&mut self, points: &[Point], colour: RGBColor, width: f64) {
        self.marks.push(Mark::Line { points: points.to_vec(), colour, width });
    }

    /// A line with gaps; `dash` holds lengths of line and gap in turn.
    pub fn dashed(&mut self, points: &[Point], colour: RGBColor, width: f64, dash: &[f64]) {
        for piece in pieces(points, dash) {
            self.line(&piece, colour, width);
        }
    }

    /// A filled circle.
    pub fn dot(&mut self, at: Point, radius: f64, colour: RGBColor, alpha: f64) {
        self.marks.push(Mark::Dot { at, radius, colour, alpha });
    }

    /// A text whose baseline begins, is centred or ends at a place.
    pub fn text(&mut self, at: Point, text: impl Into<String>, size: f64, colour: RGBColor, anchor: Anchor) {
        self.marks.push(Mark::Text { at, text: text.into(), size, colour, anchor });
    }

    /// A marker around a place, with an edge of paper that sets it off from what is below.
    pub fn marker(&mut self, at: Point, marker: Marker, radius: f64, colour: RGBColor) {
        for (radius, colour) in [(radius + 1.2, PAPER), (radius, colour)] {
            match outline(at, marker, radius) {
                Some(points) => self.marks.push(Mark::Area { points, colour, alpha: 1.0 }),
                None => self.marks.push(Mark::Dot { at, radius, colour, alpha: 1.0 }),
            }
        }
    }

    /// A ring in the form of a diamond: the sign of published numbers.
    pub fn hollow(&mut self, at: Point, radius: f64, colour: RGBColor) {
        self.marker(at, Marker::Diamond, radius, colour);
        if let Some(points) = outline(at, Marker::Diamond, radius - 2.4) {
            self.marks.push(Mark::Area { points, colour: PAPER, alpha: 1.0 });
        }
    }
}

/// The corners of a marker whose area is about that of a circle; none for the circle.
fn outline((x, y): Point, marker: Marker, radius: f64) -> Option<Vec<Point>> {
    let turned = |corners: &[(f64, f64)], by: f64| {
        let (sin, cos) = by.sin_cos();
        let turn =
            |&(a, b): &(f64, f64)| (x + radius * (a * cos - b * sin), y + radius * (a * sin + b * cos));
        Some(corners.iter().map(turn).collect())
    };
    let square = [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)];
    let triangle = [(0.0, -1.25), (1.15, 0.8), (-1.15, 0.8)];
    let (long, thin) = (1.2, 0.42);
    let plus = [
        (-thin, -long),
        (thin, -long),
        (thin, -thin),
        (long, -thin),
        (long, thin),
        (thin, thin),
        (thin, long),
        (-thin, long),
        (-thin, thin),
        (-long, thin),
        (-long, -thin),
        (-thin, -thin),
    ];
    let eighth = std::f64::consts::FRAC_PI_4;
    match marker {
        Marker::Circle => None,
        Marker::Square => turned(&square, 0.0),
        Marker::Diamond => turned(&square, eighth),
        Marker::Triangle => turned(&triangle, 0.0),
        Marker::East => turned(&triangle, 2.0 * eighth),
        Marker::Wedge => turned(&triangle, 4.0 * eighth),
        Marker::West => turned(&triangle, 6.0 * eighth),
        Marker::Plus => turned(&plus, 0.0),
        Marker::Times => turned(&plus, eighth),
    }
}

/// The parts of a line that a dash leaves.
fn pieces(points: &[Point], dash: &[f64]) -> Vec<Vec<Point>> {
    let Some(first) = points.first() else { return Vec::new() };
    let mut lengths = dash.iter().copied().cycle();
    let Some(mut left) = lengths.next() else { return vec![points.to_vec()] };
    let (mut found, mut current, mut drawing) = (Vec::new(), vec![*first], true);
    for pair in points.windows(2) {
        let [from, to] = [pair[0], pair[1]];
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let mut done = 0.0;
        while length - done > left {
            done += left;
            let share = done / length;
            let at = (from.0 + share * (to.0 - from.0), from.1 + share * (to.1 - from.1));
            if drawing {
                current.push(at);
                found.push(std::mem::take(&mut current));
            } else {
                current = vec![at];
            }
            drawing = !drawing;
            left = lengths.next().unwrap_or(length);
        }
        left -= length - done;
        if drawing {
            current.push(to);
        }
    }
    if drawing && current.len() > 1 {
        found.push(current);
    }
    found
}

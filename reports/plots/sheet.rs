//! A sheet of paper to draw on: marks in points, kept until they are set in SVG or PNG.
//!
//! Figures say what stands where; only this file knows how plotters puts it there. Both formats come from the same marks
//! and the same font, which is part of the program: nothing depends on the fonts of a machine.

use std::sync::OnceLock;

use image::{ImageBuffer, ImageFormat, Rgb, RgbImage};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::super::Error;

/// A place on a sheet, in points from its left and upper edges.
pub type Point = (f64, f64);

/// The font of every figure, Roboto Regular without hints and rare letters.
pub const FONT: &[u8] = include_bytes!("../fonts/roboto.ttf");
/// Its name, with what a reader of SVG takes where it is not there.
const FAMILY: &str = "Roboto, sans-serif";

/// Where a text stands from its place, which lies on its baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// To the right of it.
    Start,
    /// Around it.
    Middle,
    /// To the left of it.
    End,
}

/// Something drawn.
#[derive(Clone, Debug, PartialEq)]
pub enum Mark {
    /// A line through places.
    Line {
        /// The places.
        points: Vec<Point>,
        /// Its colour.
        colour: RGBColor,
        /// Its width in points.
        width: f64,
    },
    /// A filled area.
    Area {
        /// Its corners.
        points: Vec<Point>,
        /// Its colour.
        colour: RGBColor,
        /// How much of it covers what is below, from 0 to 1.
        alpha: f64,
    },
    /// A filled circle.
    Dot {
        /// Its centre.
        at: Point,
        /// Its radius in points.
        radius: f64,
        /// Its colour.
        colour: RGBColor,
        /// How much of it covers what is below, from 0 to 1.
        alpha: f64,
    },
    /// A line of text.
    Text {
        /// Where its baseline begins, is centred or ends.
        at: Point,
        /// The text.
        text: String,
        /// The height of its em in points.
        size: f64,
        /// Its colour.
        colour: RGBColor,
        /// Where it stands from its place.
        anchor: Anchor,
    },
}

/// A sheet with marks, the later above the earlier.
#[derive(Clone, Debug, PartialEq)]
pub struct Sheet {
    /// Width in points.
    pub width: f64,
    /// Height in points.
    pub height: f64,
    /// What is drawn.
    pub marks: Vec<Mark>,
}

impl Sheet {
    /// An empty sheet.
    pub fn new(width: f64, height: f64) -> Self {
        Self { width, height, marks: Vec::new() }
    }

    /// The same marks with an edge of blank paper around them.
    pub fn framed(&self, edge: f64) -> Self {
        let moved = |point: &Point| (point.0 + edge, point.1 + edge);
        let mut marks = self.marks.clone();
        for mark in &mut marks {
            match mark {
                Mark::Line { points, .. } | Mark::Area { points, .. } => {
                    points.iter_mut().for_each(|point| *point = moved(point));
                }
                Mark::Dot { at, .. } | Mark::Text { at, .. } => *at = moved(at),
            }
        }
        Self { width: self.width + 2.0 * edge, height: self.height + 2.0 * edge, marks }
    }

    /// The sheet as an SVG document, read out as `alt`.
    ///
    /// # Errors
    /// When plotters cannot draw it.
    pub fn svg(&self, alt: &str) -> Result<String, Error> {
        // Plotters rounds to whole units; ten to a point keep curves smooth.
        let scale = 10.0;
        let mut text = String::new();
        let size = self.pixels(scale);
        let drawing = SVGBackend::with_string(&mut text, size).into_drawing_area();
        // The size and the drop that plotters' SVG turns into `font-size: em` and a baseline at the place.
        self.draw(&drawing, scale, Face { size: 1.24, drop: 0.76 })?;
        drop(drawing);
        let (width, height) = (self.width.round(), self.height.round());
        let plain = format!("<svg width=\"{}\" height=\"{}\"", size.0, size.1);
        let named = format!(
            "<svg width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{}\"",
            alt.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;")
        );
        Ok(text.replacen(&plain, &named, 1))
    }

    /// The sheet as PNG on white, three pixels to a point.
    ///
    /// # Errors
    /// When plotters cannot draw it or the picture cannot be encoded.
    pub fn png(&self) -> Result<Vec<u8>, Error> {
        // Drawn larger and averaged, because plotters leaves the edges of areas and thick lines in steps.
        let (pixels, finer) = (3.0, 2.0);
        let (width, height) = self.pixels(pixels);
        let (width, height) = (width * finer as u32, height * finer as u32);
        let mut buffer = vec![255; width as usize * height as usize * 3];
        let drawing = BitMapBackend::with_buffer(&mut buffer, (width, height)).into_drawing_area();
        // Plotters' bitmaps take the height from descent to ascent, 2400 of 2048 units in this font, and put the
        // baseline half of that below the place.
        let face = 2400.0 / 2048.0;
        self.draw(&drawing, pixels * finer, Face { size: face, drop: 0.5 * face })?;
        drop(drawing);
        let picture = averaged(&buffer, (width, height), finer as u32).ok_or_else(|| failed("no buffer"))?;
        let mut png = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut png, ImageFormat::Png).map_err(|error| failed(&error.to_string()))?;
        Ok(png.into_inner())
    }

    fn pixels(&self, scale: f64) -> (u32, u32) {
        ((self.width * scale).round() as u32, (self.height * scale).round() as u32)
    }

    fn draw<B: DrawingBackend>(
        &self,
        drawing: &DrawingArea<B, Shift>,
        scale: f64,
        face: Face,
    ) -> Result<(), Error> {
        register()?;
        let whole = |value: f64| (value * scale).round() as i32;
        let place = |point: &Point| (whole(point.0), whole(point.1));
        for mark in &self.marks {
            let drawn = match mark {
                Mark::Line { points, colour, width } => {
                    let style = colour.stroke_width((width * scale).round().max(1.0) as u32);
                    drawing.draw(&PathElement::new(points.iter().map(place).collect::<Vec<_>>(), style))
                }
                Mark::Area { points, colour, alpha } => {
                    let points: Vec<_> = points.iter().map(place).collect();
                    drawing.draw(&Polygon::new(points, colour.mix(*alpha).filled()))
                }
                Mark::Dot { at, radius, colour, alpha } => {
                    drawing.draw(&Circle::new(place(at), whole(*radius), colour.mix(*alpha).filled()))
                }
                Mark::Text { at, text, size, colour, anchor } => {
                    let horizontal = match anchor {
                        Anchor::Start => HPos::Left,
                        Anchor::Middle => HPos::Center,
                        Anchor::End => HPos::Right,
                    };
                    let font = (FAMILY, size * face.size * scale).into_font();
                    let style = TextStyle::from(font).color(colour).pos(Pos::new(horizontal, VPos::Top));
                    let top = place(&(at.0, at.1 - face.drop * size));
                    drawing.draw(&Text::new(text.as_str(), top, style))
                }
            };
            drawn.map_err(|error| failed(&error.to_string()))?;
        }
        drawing.present().map_err(|error| failed(&error.to_string()))
    }
}

/// A picture of which each pixel is the mean of a square of `side` pixels of another.
fn averaged(pixels: &[u8], (width, height): (u32, u32), side: u32) -> Option<RgbImage> {
    let fine = ImageBuffer::<Rgb<u8>, &[u8]>::from_raw(width, height, pixels)?;
    Some(RgbImage::from_fn(width / side, height / side, |x, y| {
        let square =
            (0..side * side).map(|index| fine.get_pixel(x * side + index % side, y * side + index / side));
        let sums =
            square.fold([0; 3], |sums: [u32; 3], pixel| [0, 1, 2].map(|c| sums[c] + u32::from(pixel.0[c])));
        Rgb(sums.map(|sum| (sum / (side * side)) as u8))
    }))
}

/// How one of plotters' formats sets type.
#[derive(Clone, Copy)]
struct Face {
    /// The size to ask for, in ems.
    size: f64,
    /// How far the baseline then lies below the place, in ems.
    drop: f64,
}

/// The width of a text in points.
pub fn text_width(text: &str, size: f64) -> f64 {
    // Measured large, because plotters rounds to whole pixels.
    let large = 1000.0;
    let measured =
        register().ok().and_then(|()| (FAMILY, large * 2400.0 / 2048.0).into_font().box_size(text).ok());
    measured.map_or(0.6 * size * text.chars().count() as f64, |(width, _)| f64::from(width) * size / large)
}

/// The text, cut with an ellipsis where it is wider than `width`.
pub fn fitted(text: &str, size: f64, width: f64) -> String {
    let letters: Vec<char> = text.chars().collect();
    let cut = |kept: usize| match letters.get(..kept) {
        Some(first) if kept < letters.len() => first.iter().collect::<String>() + "\u{2026}",
        _ => text.to_owned(),
    };
    let fits = (0..=letters.len()).rev().find(|kept| text_width(&cut(*kept), size) <= width);
    cut(fits.unwrap_or(0))
}

/// The text in at most two lines, cut with an ellipsis where the second is wider than `width`.
pub fn wrapped(text: &str, size: f64, width: f64) -> Vec<String> {
    let fits = |end: &usize| text_width(&text[..*end], size) <= width;
    if fits(&text.len()) {
        return vec![text.to_owned()];
    }
    let spaces: Vec<usize> = text.match_indices(' ').map(|(place, _)| place).collect();
    match spaces.into_iter().rev().find(fits) {
        Some(end) => vec![text[..end].to_owned(), fitted(&text[end + 1..], size, width)],
        None => vec![fitted(text, size, width)],
    }
}

/// Makes the font known to plotters, once.
fn register() -> Result<(), Error> {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    if *KNOWN.get_or_init(|| register_font(FAMILY, FontStyle::Normal, FONT).is_ok()) {
        Ok(())
    } else {
        Err(failed("the font cannot be read"))
    }
}

fn failed(problem: &str) -> Error {
    Error::Make { what: "a figure".to_owned(), problem: problem.to_owned() }
}

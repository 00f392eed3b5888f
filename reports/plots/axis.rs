//! Scales between numbers and places, with ticks at round numbers.

use super::sheet::{Anchor, Sheet, text_width};
use super::style::{INK, MUTED, RULE, TEXT};
use crate::reports::number::MINUS;

/// A range of numbers laid out along a stretch of the sheet.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// Round numbers along it, one at each end.
    pub ticks: Vec<f64>,
    range: (f64, f64),
    places: (f64, f64),
    step: f64,
}

impl Axis {
    /// An axis that holds all the numbers, with about `count` ticks, between two places.
    pub fn around(numbers: impl IntoIterator<Item = f64>, places: (f64, f64), count: usize) -> Self {
        let finite = numbers.into_iter().filter(|number| number.is_finite());
        let outer = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), number| {
            (low.min(number), high.max(number))
        });
        let (low, high) = match outer {
            (low, high) if low > high => (0.0, 1.0),
            (0.0, 0.0) => (-1.0, 1.0),
            (low, high) if low == high => (low - 0.5 * low.abs(), high + 0.5 * high.abs()),
            outer => outer,
        };
        let step = round_step((high - low) / count.max(1) as f64);
        let (first, last) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil());
        let ticks = (0..=(last - first) as usize).map(|index| (first + index as f64) * step).collect();
        Self { ticks, range: (first * step, last * step), places, step }
    }

    /// The place of a number.
    pub fn place(&self, number: f64) -> f64 {
        let share = (number - self.range.0) / (self.range.1 - self.range.0);
        self.places.0 + share * (self.places.1 - self.places.0)
    }

    /// A tick as text, with the digits that tell it from its neighbours.
    pub fn label(&self, tick: f64) -> String {
        if self.step >= 1000.0 {
            return if tick == 0.0 { "0".to_owned() } else { format!("{}k", tick / 1000.0) };
        }
        let decimals = (-self.step.log10()).ceil().max(0.0) as usize;
        format!("{tick:.decimals$}").replace('-', &MINUS.to_string())
    }

    /// The width of its widest label.
    pub fn label_width(&self) -> f64 {
        self.ticks.iter().map(|tick| text_width(&self.label(*tick), TEXT)).fold(0.0, f64::max)
    }

    /// Draws guides across a horizontal axis.
    pub fn guides_down(&self, sheet: &mut Sheet, top: f64, bottom: f64) {
        for tick in &self.ticks {
            sheet.line(&[(self.place(*tick), top), (self.place(*tick), bottom)], RULE, 0.7);
        }
    }

    /// Draws a horizontal axis with its ticks and labels.
    pub fn draw_below(&self, sheet: &mut Sheet, bottom: f64) {
        sheet.line(&[(self.places.0, bottom), (self.places.1, bottom)], INK, 0.9);
        for tick in &self.ticks {
            let x = self.place(*tick);
            sheet.line(&[(x, bottom), (x, bottom + 3.5)], INK, 0.9);
            sheet.text((x, bottom + 6.0 + TEXT), self.label(*tick), TEXT, MUTED, Anchor::Middle);
        }
    }

    /// Draws the labels of a vertical axis at `left`, and its guides up to `right`.
    pub fn draw_beside(&self, sheet: &mut Sheet, left: f64, right: f64) {
        for tick in &self.ticks {
            let y = self.place(*tick);
            sheet.line(&[(left, y), (right, y)], RULE, 0.7);
            sheet.text((left - 6.0, y + 0.36 * TEXT), self.label(*tick), TEXT, MUTED, Anchor::End);
        }
    }
}

/// The next of 1, 2, 5, 10, .. at or above a size.
fn round_step(size: f64) -> f64 {
    let power = 10f64.powf(size.log10().floor());
    let step = [1.0, 2.0, 5.0].into_iter().find(|step| step * power >= size * (1.0 - 1e-9));
    step.unwrap_or(10.0) * power
}

//! Rows of means with intervals on one horizontal axis, which effects and arms share: beside its label where there is
//! room, else under it.

use super::axis::Axis;
use super::sheet::{Anchor, Sheet, fitted, text_width, wrapped};
use super::style::{CONTROL, INK, Look, MUTED, TEXT, TITLE};
use crate::reports::statistics::Summary;

/// One mean.
pub struct Row {
    /// What it is of.
    pub label: String,
    /// What stands on its other side, the first line darker.
    pub sides: Vec<String>,
    /// How it is drawn.
    pub look: Look,
    /// The mean and its interval.
    pub summary: Summary,
    /// The value of every seed.
    pub seeds: Vec<f64>,
    /// What was published beside it.
    pub published: Option<f64>,
}

/// Rows that share an axis.
pub struct Group {
    /// What the axis measures.
    pub title: String,
    /// A number with a line across all rows.
    pub line: Line,
    /// The rows.
    pub rows: Vec<Row>,
}

/// A number that rows are seen against.
#[derive(Clone, Copy)]
pub enum Line {
    /// No difference.
    Zero,
    /// What guessing gives, where it can be said.
    Chance(Option<f64>),
}

/// Where the parts of a row stand.
struct Layout {
    width: f64,
    /// Whether labels stand above their marks instead of beside them.
    stacked: bool,
    /// How wide a label may be.
    label: f64,
    /// The ends of the axis.
    places: (f64, f64),
    /// The height of a row.
    row: f64,
    /// From the top of a row to its marks.
    middle: f64,
}

/// Draws groups under each other, and what the signs mean under them all.
pub fn draw(groups: &[Group], width: f64) -> Sheet {
    let rows = || groups.iter().flat_map(|group| &group.rows);
    let widest = |texts: &mut dyn Iterator<Item = String>| {
        texts.map(|text| text_width(&text, TEXT)).fold(0.0, f64::max)
    };
    let sides = widest(&mut rows().flat_map(|row| row.sides.iter().cloned()));
    // Half of the sheet is for the marks; a label that takes more of the rest than there is has two lines.
    let room = (0.5 * width - sides).max(0.0);
    let labels = widest(&mut rows().flat_map(|row| wrapped(&row.label, TEXT, room)));
    let lines = rows().map(|row| row.sides.len().max(wrapped(&row.label, TEXT, room).len())).max();
    let lines = lines.unwrap_or(1) as f64;
    let gap = 24.0;
    let layout = if width < 500.0 {
        let above = 16.0 * lines;
        let (places, row, middle) = ((18.0, width - 18.0), above + 44.0, above + 18.0);
        Layout { width, stacked: true, label: width, places, row, middle }
    } else {
        let (places, row) = ((labels + gap, width - sides - gap), (15.0 * lines + 10.0).max(34.0));
        Layout { width, stacked: false, label: room, places, row, middle: 0.5 * row }
    };
    let mut sheet = Sheet::new(width, 0.0);
    let mut top = 0.0;
    for group in groups {
        top = draw_group(&mut sheet, group, &layout, top) + 14.0;
    }
    let published = rows().any(|row| row.published.is_some());
    sheet.height = draw_key(&mut sheet, published, top);
    sheet
}

/// Draws one group and returns where it ends.
fn draw_group(sheet: &mut Sheet, group: &Group, layout: &Layout, top: f64) -> f64 {
    sheet.text((0.0, top + TITLE), group.title.clone(), TITLE, INK, Anchor::Start);
    let line = match group.line {
        Line::Zero => Some(0.0),
        Line::Chance(chance) => chance,
    };
    let numbers = group.rows.iter().flat_map(|row| {
        let interval = row.summary.interval.map(|interval| [interval.low, interval.high]);
        row.seeds.iter().copied().chain(interval.into_iter().flatten()).chain(row.published)
    });
    let count = if layout.width < 500.0 { 4 } else { 7 };
    let axis = Axis::around(numbers.chain(line), layout.places, count);
    let named = matches!(group.line, Line::Chance(Some(_)));
    let begin = top + TITLE + if named { 28.0 } else { 12.0 };
    let end = begin + group.rows.len() as f64 * layout.row;
    if !layout.stacked {
        axis.guides_down(sheet, begin, end);
    }
    for (index, row) in group.rows.iter().enumerate() {
        let top = begin + index as f64 * layout.row;
        if layout.stacked {
            axis.guides_down(sheet, top + layout.middle - 14.0, top + layout.middle + 14.0);
        }
        draw_line(sheet, group.line, &axis, layout, (top, top + layout.row));
        draw_row(sheet, row, &axis, layout, top);
    }
    if let Line::Chance(Some(chance)) = group.line {
        draw_name(sheet, &axis, chance, layout, begin - 7.0);
    }
    axis.draw_below(sheet, end);
    end + 8.0 + TEXT
}

/// Draws the part of the group's line that belongs to one row.
fn draw_line(sheet: &mut Sheet, line: Line, axis: &Axis, layout: &Layout, (top, bottom): (f64, f64)) {
    let (top, bottom) =
        if layout.stacked { (top + layout.middle - 14.0, top + layout.middle + 14.0) } else { (top, bottom) };
    match line {
        Line::Zero => sheet.line(&[(axis.place(0.0), top), (axis.place(0.0), bottom)], INK, 1.1),
        Line::Chance(Some(chance)) => {
            sheet.dashed(&[(axis.place(chance), top), (axis.place(chance), bottom)], INK, 1.1, &[4.0, 3.0]);
        }
        Line::Chance(None) => {}
    }
}

/// Names the line of chance above the rows, without leaving the sheet.
fn draw_name(sheet: &mut Sheet, axis: &Axis, chance: f64, layout: &Layout, bottom: f64) {
    let text = format!("chance {}", crate::reports::number::value(chance, 1.0));
    let half = 0.5 * text_width(&text, TEXT);
    let middle = axis.place(chance).clamp(half, layout.width - half);
    sheet.text((middle, bottom), text, TEXT, MUTED, Anchor::Middle);
}

fn draw_row(sheet: &mut Sheet, row: &Row, axis: &Axis, layout: &Layout, top: f64) {
    let middle = top + layout.middle;
    if layout.stacked {
        let first = row.sides.first().map_or(0.0, |side| text_width(side, TEXT) + 8.0);
        let label = fitted(&row.label, TEXT, layout.width - if row.sides.len() > 1 { 0.0 } else { first });
        sheet.text((0.0, top + 13.0), label, TEXT, INK, Anchor::Start);
        match row.sides.as_slice() {
            [one] => sheet.text((layout.width, top + 13.0), one.clone(), TEXT, MUTED, Anchor::End),
            [first, second] => {
                sheet.text((0.0, top + 29.0), second.clone(), TEXT, MUTED, Anchor::Start);
                sheet.text((layout.width, top + 29.0), first.clone(), TEXT, INK, Anchor::End);
            }
            _ => {}
        }
    } else {
        let line =
            |index: usize, of: usize| middle + 0.36 * TEXT + 7.5 * (2 * index) as f64 - 7.5 * (of - 1) as f64;
        let label = wrapped(&row.label, TEXT, layout.label);
        for (index, part) in label.iter().enumerate() {
            sheet.text((0.0, line(index, label.len())), part.clone(), TEXT, INK, Anchor::Start);
        }
        for (index, side) in row.sides.iter().enumerate() {
            let colour = if index + 1 < row.sides.len() { INK } else { MUTED };
            let at = (layout.places.1 + 24.0, line(index, row.sides.len()));
            sheet.text(at, side.clone(), TEXT, colour, Anchor::Start);
        }
    }
    draw_marks(sheet, row, axis, middle);
}

fn draw_marks(sheet: &mut Sheet, row: &Row, axis: &Axis, middle: f64) {
    for seed in &row.seeds {
        sheet.dot((axis.place(*seed), middle + 9.5), 2.2, row.look.colour, 0.55);
    }
    if let Some(interval) = row.summary.interval {
        let ends = [(axis.place(interval.low), middle), (axis.place(interval.high), middle)];
        sheet.line(&ends, row.look.colour, 2.2);
    }
    sheet.marker((axis.place(row.summary.mean), middle), row.look.marker, 4.6, row.look.colour);
    if let Some(published) = row.published {
        sheet.hollow((axis.place(published), middle - 10.0), 5.0, CONTROL.colour);
    }
}

/// Says what the signs mean and returns where that ends.
fn draw_key(sheet: &mut Sheet, published: bool, top: f64) -> f64 {
    let (y, size, colour) = (top + TEXT, TEXT - 1.0, CONTROL.colour);
    let middle = y - 0.36 * size;
    let mut x = 0.0;
    sheet.line(&[(x, middle), (x + 26.0, middle)], colour, 2.2);
    sheet.marker((x + 13.0, middle), CONTROL.marker, 4.2, colour);
    let word = |sheet: &mut Sheet, x: f64, text: &str| {
        sheet.text((x, y), text, size, MUTED, Anchor::Start);
        x + text_width(text, size) + 16.0
    };
    x = word(sheet, x + 32.0, "mean, 95 % interval");
    sheet.dot((x + 3.0, middle), 2.2, colour, 0.55);
    x = word(sheet, x + 10.0, "one seed");
    if published {
        sheet.hollow((x + 5.0, middle), 5.0, colour);
        word(sheet, x + 14.0, "published");
    }
    y + 5.0
}

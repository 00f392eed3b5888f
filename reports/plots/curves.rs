//! Learning curves as small multiples: one panel a quantity, one line an arm, a band from the lowest to the highest seed.

use super::axis::Axis;
use super::sheet::{Anchor, Mark, Sheet, fitted, text_width};
use super::style::{INK, Look, MUTED, TEXT, TITLE};
use super::{Figure, look};
use crate::reports::curves::{Panel, Point, panels};
use crate::reports::results::Results;

/// More points than this are thinned out: a line on paper shows no more.
const POINTS: usize = 120;
/// Between two panels beside each other.
const GAP: f64 = 28.0;
/// The height of a panel's axis.
const PLOT: f64 = 150.0;
/// The height of a panel with its title, labels and the space under it.
const ROW: f64 = TITLE + 12.0 + PLOT + 6.0 + TEXT + 20.0;

/// The figure; none where nothing was measured twice.
pub fn figure(results: &Results) -> Option<Figure> {
    let panels = panels(results);
    if panels.is_empty() {
        return None;
    }
    let several = results.arms.iter().any(|arm| arm.runs.len() > 1);
    let band = if several { "; band: from the lowest to the highest seed" } else { "" };
    let caption = format!(
        "Learning curves: mean over seeds against training steps{band}. Arms with different objectives sum different losses."
    );
    let words: Vec<String> = panels.iter().map(|panel| words(results, panel)).collect();
    let alt = format!("Learning curves in {} panels. {}", panels.len(), words.join(" "));
    Some(Figure::new("curves".to_owned(), caption, alt, |width| draw(results, &panels, width)))
}

/// Where the curves of a panel end, in words.
fn words(results: &Results, panel: &Panel) -> String {
    let ends = panel.curves.iter().filter_map(|(arm, points)| {
        let (first, last) = (points.first()?, points.last()?);
        let name = results.arms.get(*arm)?.name;
        Some(format!("{name} from {:.1} to {:.1} at step {}", first.mean, last.mean, last.step))
    });
    format!("{}: {}.", panel.title, ends.collect::<Vec<_>>().join(", "))
}

fn draw(results: &Results, panels: &[Panel], width: f64) -> Sheet {
    let columns = if width < 500.0 || panels.len() == 1 { 1 } else { 2 };
    let each = (width - GAP * (columns - 1) as f64) / columns as f64;
    let looks: Vec<(&str, Look)> =
        results.arms.iter().map(|arm| (arm.name, look(results, arm.name))).collect();
    let mut sheet = Sheet::new(width, 0.0);
    let legend = draw_legend(&mut sheet, &looks, width);
    for (index, panel) in panels.iter().enumerate() {
        let left = (index % columns) as f64 * (each + GAP);
        draw_panel(&mut sheet, panel, &looks, (left, left + each), legend + (index / columns) as f64 * ROW);
    }
    let end = legend + panels.len().div_ceil(columns) as f64 * ROW;
    sheet.text((width, end), "training steps", TEXT, MUTED, Anchor::End);
    sheet.height = end + 5.0;
    sheet
}

/// Draws a sample of each arm's line, as many beside each other as fit, and returns where they end.
fn draw_legend(sheet: &mut Sheet, looks: &[(&str, Look)], width: f64) -> f64 {
    let (mut x, mut y) = (0.0, 12.0);
    for (name, look) in looks {
        let name = fitted(name, TEXT, width - 44.0);
        let needed = 40.0 + text_width(&name, TEXT);
        if x > 0.0 && x + needed > width {
            (x, y) = (0.0, y + 19.0);
        }
        sheet.dashed(&[(x, y - 4.0), (x + 34.0, y - 4.0)], look.colour, 2.0, look.dash);
        sheet.marker((x + 17.0, y - 4.0), look.marker, 3.8, look.colour);
        sheet.text((x + 40.0, y), name, TEXT, INK, Anchor::Start);
        x += needed + 22.0;
    }
    y + 18.0
}

fn draw_panel(sheet: &mut Sheet, panel: &Panel, looks: &[(&str, Look)], (left, right): (f64, f64), top: f64) {
    sheet.text((left, top + TITLE), fitted(&panel.title, TITLE, right - left), TITLE, INK, Anchor::Start);
    let (upper, lower) = (top + TITLE + 12.0, top + TITLE + 12.0 + PLOT);
    let points = || panel.curves.iter().flat_map(|(_, points)| points);
    let values = Axis::around(points().flat_map(|point| [point.low, point.high]), (lower, upper), 4);
    let begin = left + values.label_width() + 8.0;
    let within =
        |end: f64| Axis::around(points().map(|point| point.step as f64).chain([0.0]), (begin, end), 4);
    // Half of the last label stands beyond the axis.
    let end = right - 0.5 * within(right).label_width() - 1.0;
    let steps = within(end);
    values.draw_beside(sheet, begin, end);
    steps.draw_below(sheet, lower);
    let curves: Vec<(Look, Vec<Point>)> =
        panel.curves.iter().filter_map(|(arm, points)| Some((looks.get(*arm)?.1, thinned(points)))).collect();
    draw_curves(sheet, &curves, &steps, &values);
}

fn draw_curves(sheet: &mut Sheet, curves: &[(Look, Vec<Point>)], steps: &Axis, values: &Axis) {
    let at = |step: u64, value: f64| (steps.place(step as f64), values.place(value));
    for (look, points) in curves {
        let upper = points.iter().map(|point| at(point.step, point.high));
        let lower = points.iter().rev().map(|point| at(point.step, point.low));
        let points = upper.chain(lower).collect();
        sheet.marks.push(Mark::Area { points, colour: look.colour, alpha: 0.16 });
    }
    for (look, points) in curves {
        let line: Vec<_> = points.iter().map(|point| at(point.step, point.mean)).collect();
        sheet.dashed(&line, look.colour, 1.8, look.dash);
    }
    for (index, (look, points)) in curves.iter().enumerate() {
        // A few markers along each line, at other steps for other arms so that they do not lie on each other.
        let every = (points.len() / 5).max(1);
        let chosen = points.iter().skip(index % every).step_by(every);
        chosen.for_each(|point| sheet.marker(at(point.step, point.mean), look.marker, 3.4, look.colour));
    }
}

/// At most [`POINTS`] points, the last among them.
fn thinned(points: &[Point]) -> Vec<Point> {
    let every = points.len().div_ceil(POINTS).max(1);
    let last = points.len().saturating_sub(1);
    points
        .iter()
        .enumerate()
        .filter(|(index, _)| (last - index).is_multiple_of(every))
        .map(|(_, point)| *point)
        .collect()
}

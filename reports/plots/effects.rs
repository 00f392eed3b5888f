//! Effects as a forest plot: each difference between two arms with its interval, its seeds and what was published.

use super::axis::Axis;
use super::sheet::{Anchor, Sheet, text_width};
use super::style::{CONTROL, INK, MUTED, Marker, TEXT, TITLE};
use super::{Figure, look};
use crate::reports::number;
use crate::reports::results::{Effect, Results};
use crate::reports::tables::difference_name;
use crate::reports::verdict::published;

/// The figure; none without an effect that was measured.
pub fn figure(results: &Results) -> Option<Figure> {
    let measured: Vec<&Effect> = results.effects.iter().filter(|effect| effect.paired.is_some()).collect();
    if measured.is_empty() {
        return None;
    }
    let any_published = measured.iter().any(|effect| published_value(effect).is_some());
    let diamond = if any_published { "; hollow diamond: the published difference" } else { "" };
    let caption = format!(
        "Effects, arm minus arm, paired by seed. Marker and bar: mean and 95 % interval; small dots: single seeds{diamond}."
    );
    let rows: Vec<String> = measured.iter().map(|effect| words(results, effect)).collect();
    let alt = format!("Forest plot of {} effects. {}", rows.len(), rows.join(" "));
    Some(Figure::new("effects".to_owned(), caption, alt, |width| draw(results, &measured, width)))
}

/// One row of the figure in words.
fn words(results: &Results, effect: &Effect) -> String {
    let label =
        results.metric(effect.metric).map_or_else(|| effect.metric.to_owned(), |metric| metric.label());
    let published = published_value(effect)
        .map_or_else(String::new, |value| format!(", published {}", number::signed(value, 0.01)));
    let verdict = verdict(effect).map_or_else(String::new, |verdict| format!(": {verdict}"));
    format!("{} in {label}: {}{published}{verdict}.", difference_name(effect), numbers(effect))
}

/// The difference with its interval.
fn numbers(effect: &Effect) -> String {
    let Some(paired) = &effect.paired else { return String::new() };
    let spread = number::spread(paired.summary.interval);
    let mean = number::signed(paired.summary.mean, spread);
    match paired.summary.interval {
        Some(interval) => format!("{mean} {}", number::bounds(interval, spread)),
        None => format!("{mean}, one seed"),
    }
}

fn published_value(effect: &Effect) -> Option<f64> {
    effect.claim.as_ref().and_then(|(claim, _)| claim.published.as_ref()).and_then(published)
}

fn verdict(effect: &Effect) -> Option<&'static str> {
    effect.claim.as_ref().map(|(_, judgement)| judgement.verdict.words())
}

/// Where the parts of a row stand.
struct Layout {
    width: f64,
    /// Whether label and verdict stand above the row instead of beside it.
    stacked: bool,
    left: f64,
    right: f64,
    row: f64,
}

fn draw(results: &Results, effects: &[&Effect], width: f64) -> Sheet {
    let labels = effects.iter().map(|effect| text_width(&difference_name(effect), TEXT)).fold(0.0, f64::max);
    let sides = effects.iter().map(|effect| text_width(&numbers(effect), TEXT)).fold(0.0, f64::max);
    let sides = sides.max(text_width("NOT COMPARABLE", TEXT));
    let stacked = labels + sides > 0.6 * width;
    let layout = if stacked {
        Layout { width, stacked, left: 8.0, right: width - 8.0, row: 66.0 }
    } else {
        Layout { width, stacked, left: labels + 18.0, right: width - sides - 18.0, row: 44.0 }
    };
    let mut metrics: Vec<&str> = effects.iter().map(|effect| effect.metric).collect();
    metrics.dedup();
    let height = metrics.len() as f64 * (30.0 + 30.0) + effects.len() as f64 * layout.row;
    let mut sheet = Sheet::new(width, height);
    let mut top = 0.0;
    for metric in metrics {
        let group: Vec<&Effect> = effects.iter().filter(|effect| effect.metric == metric).copied().collect();
        top = draw_group(&mut sheet, results, &group, &layout, top);
    }
    sheet
}

/// Draws the effects on one metric and returns where they end.
fn draw_group(sheet: &mut Sheet, results: &Results, effects: &[&Effect], layout: &Layout, top: f64) -> f64 {
    let percent =
        effects.iter().any(|effect| results.metric(effect.metric).is_some_and(|metric| metric.percent));
    let unit = if percent { " (points)" } else { "" };
    let metric = effects.first().map_or("", |effect| effect.metric);
    sheet.text((0.0, top + TITLE), format!("Difference in {metric}{unit}"), TITLE, INK, Anchor::Start);
    let numbers = effects.iter().flat_map(|effect| {
        let seeds =
            effect.paired.iter().flat_map(|paired| paired.differences.iter().map(|(_, value)| *value));
        let interval = effect.paired.as_ref().and_then(|paired| paired.summary.interval);
        seeds
            .chain(interval.map(|interval| [interval.low, interval.high]).into_iter().flatten())
            .chain(published_value(effect))
    });
    let count = if layout.width > 500.0 { 7 } else { 4 };
    let axis = Axis::around(numbers.chain([0.0]), (layout.left + 6.0, layout.right - 6.0), count);
    let (begin, end) = (top + 28.0, top + 28.0 + effects.len() as f64 * layout.row);
    axis.draw_below(sheet, begin, end);
    let zero = axis.place(0.0);
    sheet.line(&[(zero, begin), (zero, end)], INK, 1.1);
    for (index, effect) in effects.iter().enumerate() {
        draw_row(sheet, results, effect, layout, &axis, begin + index as f64 * layout.row);
    }
    end + 32.0
}

fn draw_row(sheet: &mut Sheet, results: &Results, effect: &Effect, layout: &Layout, axis: &Axis, top: f64) {
    let Some(paired) = &effect.paired else { return };
    let verdict = verdict(effect).unwrap_or("not claimed");
    let middle = if layout.stacked {
        sheet.text((0.0, top + 14.0), difference_name(effect), TEXT, INK, Anchor::Start);
        sheet.text((0.0, top + 29.0), numbers(effect), TEXT, MUTED, Anchor::Start);
        sheet.text((layout.width, top + 29.0), verdict, TEXT, INK, Anchor::End);
        top + 46.0
    } else {
        let middle = top + 0.5 * layout.row;
        sheet.text((0.0, middle + 0.36 * TEXT), difference_name(effect), TEXT, INK, Anchor::Start);
        sheet.text((layout.right + 18.0, middle - 2.5), verdict, TEXT, INK, Anchor::Start);
        sheet.text((layout.right + 18.0, middle + 12.5), numbers(effect), TEXT, MUTED, Anchor::Start);
        middle
    };
    let look = look(results, effect.arm);
    for (_, difference) in &paired.differences {
        sheet.dot((axis.place(*difference), middle + 9.0), 2.2, look.colour, 0.55);
    }
    if let Some(value) = published_value(effect) {
        sheet.hollow((axis.place(value), middle - 10.0), 5.0, CONTROL.colour);
    }
    if let Some(interval) = paired.summary.interval {
        sheet.line(
            &[(axis.place(interval.low), middle), (axis.place(interval.high), middle)],
            look.colour,
            2.2,
        );
    }
    sheet.marker((axis.place(paired.summary.mean), middle), Marker::Square, 4.6, look.colour);
}

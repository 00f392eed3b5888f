//! Arms by one metric: the mean with its interval, every seed, and what guessing gives.

use super::axis::Axis;
use super::sheet::{Anchor, Sheet, text_width};
use super::style::{INK, MUTED, TEXT, TITLE};
use super::{Figure, file_name, look};
use crate::reports::number;
use crate::reports::results::{Metric, Results, Value};

/// The figure; none where no arm was measured.
pub fn figure(results: &Results, index: usize, metric: &Metric) -> Option<Figure> {
    let measured = results.arms.iter().filter_map(|arm| Some((arm.name, arm.values.get(index)?.as_ref()?)));
    let rows: Vec<(&str, &Value)> = measured.collect();
    if rows.is_empty() {
        return None;
    }
    let chance = metric.chance.map(|chance| number::value(chance, 1.0));
    let line = chance.as_ref().map_or("", |_| "; dashed line: chance");
    let caption = format!(
        "{} of each arm on the test split. Marker and bar: mean and 95 % interval over seeds; small dots: single seeds{line}.",
        metric.label()
    );
    let words: Vec<String> = rows.iter().map(|(arm, value)| format!("{arm}: {}.", numbers(value))).collect();
    let guess = chance.map_or_else(String::new, |chance| format!(" Chance: {chance}."));
    let alt = format!("{} of {} arms. {}{guess}", metric.label(), rows.len(), words.join(" "));
    let name = format!("arms-{}", file_name(metric.name));
    Some(Figure::new(name, caption, alt, |width| draw(results, metric, &rows, width)))
}

/// The mean with its interval.
fn numbers(value: &Value) -> String {
    let spread = number::spread(value.summary.interval);
    let mean = number::value(value.summary.mean, spread);
    match value.summary.interval {
        Some(interval) => format!("{mean} {}", number::interval(interval, spread)),
        None => format!("{mean}, one seed"),
    }
}

fn draw(results: &Results, metric: &Metric, rows: &[(&str, &Value)], width: f64) -> Sheet {
    let widest = |texts: &mut dyn Iterator<Item = f64>| texts.fold(0.0, f64::max);
    let labels = widest(&mut rows.iter().map(|(arm, _)| text_width(arm, TEXT)));
    let sides = widest(&mut rows.iter().map(|(_, value)| text_width(&numbers(value), TEXT)));
    let stacked = labels + sides > 0.6 * width;
    let (left, right, row) =
        if stacked { (8.0, width - 8.0, 50.0) } else { (labels + 18.0, width - sides - 18.0, 34.0) };
    let chance_room = if metric.chance.is_some() { 16.0 } else { 0.0 };
    let begin = 26.0 + chance_room;
    let end = begin + rows.len() as f64 * row;
    let mut sheet = Sheet::new(width, end + 28.0);
    sheet.text((0.0, TITLE), metric.label(), TITLE, INK, Anchor::Start);

    let numbers_of = |value: &Value| {
        let interval = value.summary.interval.map(|interval| [interval.low, interval.high]);
        value.by_seed.values().copied().chain(interval.into_iter().flatten()).collect::<Vec<_>>()
    };
    let all = rows.iter().flat_map(|(_, value)| numbers_of(value)).chain(metric.chance);
    let count = if width > 500.0 { 7 } else { 4 };
    let axis = Axis::around(all, (left + 6.0, right - 6.0), count);
    axis.draw_below(&mut sheet, begin, end);
    if let Some(chance) = metric.chance {
        let x = axis.place(chance);
        sheet.dashed(&[(x, begin), (x, end)], INK, 1.1, &[4.0, 3.0]);
        let text = format!("chance {}", number::value(chance, 1.0));
        // Beside an edge the words stand inwards.
        let anchor = if x < left + 40.0 { Anchor::Start } else { Anchor::Middle };
        sheet.text((if x < left + 40.0 { x - 4.0 } else { x }, begin - 5.0), text, TEXT - 1.0, MUTED, anchor);
    }
    for (index, (arm, value)) in rows.iter().enumerate() {
        let top = begin + index as f64 * row;
        let middle = if stacked {
            sheet.text((0.0, top + 15.0), *arm, TEXT, INK, Anchor::Start);
            sheet.text((width, top + 15.0), numbers(value), TEXT, MUTED, Anchor::End);
            top + 31.0
        } else {
            let middle = top + 0.5 * row;
            sheet.text((0.0, middle + 0.36 * TEXT), *arm, TEXT, INK, Anchor::Start);
            sheet.text((right + 18.0, middle + 0.36 * TEXT), numbers(value), TEXT, MUTED, Anchor::Start);
            middle
        };
        let look = look(results, arm);
        for seed in value.by_seed.values() {
            sheet.dot((axis.place(*seed), middle + 9.0), 2.2, look.colour, 0.55);
        }
        if let Some(interval) = value.summary.interval {
            let ends = [(axis.place(interval.low), middle), (axis.place(interval.high), middle)];
            sheet.line(&ends, look.colour, 2.2);
        }
        sheet.marker((axis.place(value.summary.mean), middle), look.marker, 4.6, look.colour);
    }
    sheet
}

//! Arms by one metric: the mean with its interval, every seed, and what guessing gives.

use super::rows::{Group, Line, Row, draw};
use super::{Figure, file_name, look};
use crate::reports::number;
use crate::reports::results::{Metric, Results, Value};

/// The figure; none where no arm was measured.
pub fn figure(results: &Results, index: usize, metric: &Metric) -> Option<Figure> {
    let measured = results.arms.iter().filter_map(|arm| Some((arm.name, arm.values.get(index)?.as_ref()?)));
    let values: Vec<(&str, &Value)> = measured.collect();
    if values.is_empty() {
        return None;
    }
    let chance = metric.chance.map(|chance| number::value(chance, 1.0));
    let line = chance.as_ref().map_or("", |_| "; dashed line: chance");
    let caption = format!(
        "{} of each arm on the test split. Marker and bar: mean and 95 % interval over seeds; small dots: single seeds{line}.",
        metric.label()
    );
    let words: Vec<String> =
        values.iter().map(|(arm, value)| format!("{arm}: {}.", numbers(value))).collect();
    let guess = chance.map_or_else(String::new, |chance| format!(" Chance: {chance}."));
    let alt = format!("{} of {} arms. {}{guess}", metric.label(), values.len(), words.join(" "));
    let row = |(arm, value): &(&str, &Value)| Row {
        label: (*arm).to_owned(),
        sides: vec![numbers(value)],
        look: look(results, arm),
        summary: value.summary,
        seeds: value.by_seed.values().copied().collect(),
        published: None,
    };
    let rows = values.iter().map(row).collect();
    let group = Group { title: metric.label(), line: Line::Chance(metric.chance), rows };
    let name = format!("arms-{}", file_name(metric.name));
    Some(Figure::new(name, caption, alt, |width| draw(std::slice::from_ref(&group), width)))
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

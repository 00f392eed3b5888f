//! Effects as a forest plot: each difference between two arms with its interval, its seeds and what was published.

use super::rows::{Group, Line, Row, draw};
use super::{Figure, look};
use crate::reports::number;
use crate::reports::results::{Effect, Results};
use crate::reports::statistics::Paired;
use crate::reports::tables::{difference_name, published_number};
use crate::reports::verdict::published;

/// The figure; none without an effect that was measured.
pub fn figure(results: &Results) -> Option<Figure> {
    let measured: Vec<(&Effect, &Paired)> =
        results.effects.iter().filter_map(|effect| Some((effect, effect.paired.as_ref()?))).collect();
    if measured.is_empty() {
        return None;
    }
    let any_published = measured.iter().any(|(effect, _)| published_value(effect).is_some());
    let diamond = if any_published { "; hollow diamond: the published difference" } else { "" };
    let caption = format!(
        "Effects, arm minus arm, paired by seed. Marker and bar: mean and 95 % interval; small dots: single seeds{diamond}."
    );
    let rows: Vec<String> = measured.iter().map(|(effect, paired)| words(effect, paired)).collect();
    let alt = format!("Forest plot of {} effects. {}", rows.len(), rows.join(" "));
    let groups = groups(results, &measured);
    Some(Figure::new("effects".to_owned(), caption, alt, |width| draw(&groups, width)))
}

/// One row of the figure in words.
fn words(effect: &Effect, paired: &Paired) -> String {
    let published = published_value(effect)
        .map_or_else(String::new, |value| format!(", published {}", published_number(value)));
    let (name, numbers) = (difference_name(effect), numbers(paired));
    format!("{name} in {}: {numbers}{published}, {}.", effect.metric, verdict(effect))
}

/// The difference with its interval.
pub fn numbers(paired: &Paired) -> String {
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

fn verdict(effect: &Effect) -> &'static str {
    effect.claim.as_ref().map_or("not claimed", |(_, judgement)| judgement.verdict.words())
}

/// The effects by metric: differences of different quantities have no common axis.
fn groups(results: &Results, measured: &[(&Effect, &Paired)]) -> Vec<Group> {
    let mut groups: Vec<(&str, Group)> = Vec::new();
    for (effect, paired) in measured {
        let row = Row {
            label: difference_name(effect),
            sides: vec![verdict(effect).to_owned(), numbers(paired)],
            look: look(results, effect.arm),
            summary: paired.summary,
            seeds: paired.differences.iter().map(|(_, difference)| *difference).collect(),
            published: published_value(effect),
        };
        if let Some((_, group)) = groups.iter_mut().find(|(metric, _)| *metric == effect.metric) {
            group.rows.push(row);
        } else {
            let percent = results.metric(effect.metric).is_some_and(|metric| metric.percent);
            let unit = if percent { " (points)" } else { "" };
            let title = format!("Difference in {}{unit}", effect.metric);
            groups.push((effect.metric, Group { title, line: Line::Zero, rows: vec![row] }));
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

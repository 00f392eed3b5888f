//! Every rerun of a published ablation as one forest plot: our difference with its interval, the published one beside it.

use super::Figure;
use super::effects::numbers;
use super::rows::{Group, Line, Row, draw};
use super::style::RERUN;
use crate::reports::reproduction::Row as Ablation;
use crate::reports::results::{Effect, Results};
use crate::reports::statistics::Paired;
use crate::reports::tables::published_number;
use crate::reports::verdict::{Judgement, published};

/// A rerun that was measured.
struct Measured<'a> {
    row: &'a Ablation<'a>,
    results: &'a Results<'a>,
    effect: &'a Effect<'a>,
    judgement: &'a Judgement,
    paired: &'a Paired,
}

/// The figure; none where nothing was measured.
pub fn figure(rows: &[Ablation]) -> Option<Figure> {
    let measured: Vec<Measured> = rows
        .iter()
        .filter_map(|row| {
            let (results, effect, judgement) = row.measured()?;
            Some(Measured { row, results, effect, judgement, paired: effect.paired.as_ref()? })
        })
        .collect();
    if measured.is_empty() {
        return None;
    }
    let theirs = measured.iter().any(|one| published(&one.row.ablation.published).is_some());
    let diamond =
        if theirs { "; hollow diamond: the published difference, in the paper's own metric" } else { "" };
    let caption = format!(
        "Reruns of published ablations, arm minus arm, paired by seed. Marker and bar: mean and 95 % interval; small dots: \
         single seeds{diamond}."
    );
    let words: Vec<String> = measured.iter().map(|one| words(one, &measured)).collect();
    let alt = format!("Forest plot of {} reruns. {}", words.len(), words.join(" "));
    let groups = groups(&measured);
    Some(Figure::new("forest".to_owned(), caption, alt, |width| draw(&groups, width)))
}

fn words(one: &Measured, all: &[Measured]) -> String {
    let published = published(&one.row.ablation.published)
        .map_or_else(String::new, |value| format!(", published {}", published_number(value)));
    let (verdict, numbers) = (one.judgement.verdict.words(), numbers(one.paired));
    format!("{} in {}: {numbers}{published}, {verdict}.", label(one, all), one.effect.metric)
}

/// What was ablated and, where it was rerun at several sizes, at which.
fn label(one: &Measured, all: &[Measured]) -> String {
    let name = |one: &Measured| (one.row.ablation.published.key.clone(), one.effect.metric.to_owned());
    let again = all.iter().filter(|other| name(other) == name(one)).count() > 1;
    let size = one.results.experiment.about.profile.as_ref().filter(|_| again);
    let size = size.map_or_else(String::new, |size| format!(" ({size})"));
    format!("{}: {}{size}", one.row.paper.key, one.row.ablation.what)
}

/// The reruns by metric: differences of different quantities have no common axis.
fn groups(measured: &[Measured]) -> Vec<Group> {
    let mut groups: Vec<(&str, Group)> = Vec::new();
    for one in measured {
        let row = Row {
            label: label(one, measured),
            sides: vec![one.judgement.verdict.words().to_owned(), numbers(one.paired)],
            look: RERUN,
            summary: one.paired.summary,
            seeds: one.paired.differences.iter().map(|(_, difference)| *difference).collect(),
            published: published(&one.row.ablation.published),
        };
        let metric = one.effect.metric;
        if let Some((_, group)) = groups.iter_mut().find(|(known, _)| *known == metric) {
            group.rows.push(row);
        } else {
            let percent = one.results.metric(metric).is_some_and(|metric| metric.percent);
            let unit = if percent { " (points)" } else { "" };
            let title = format!("Difference in {metric}{unit}");
            groups.push((metric, Group { title, line: Line::Zero, rows: vec![row] }));
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

//! The tables of a report, written once for every format: Markdown, LaTeX and the page differ in marks, not in numbers.

use super::number;
use super::results::{Arm, Effect, Results, Value};
use super::verdict::{Verdict, published};
use crate::experiments::record::{PublishedEffect, Status};

/// A table whose first column names its rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// What it shows.
    pub caption: String,
    /// The heads of its columns.
    pub head: Vec<String>,
    /// Its rows, as long as the head.
    pub rows: Vec<Vec<Cell>>,
}

/// What stands in a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Words, set left.
    Text(String),
    /// A number, set right.
    Number(String),
    /// A mean over n seeds with its interval, where there is one.
    Mean {
        /// The mean.
        mean: String,
        /// The bounds of its interval.
        interval: Option<String>,
        /// How many seeds.
        n: usize,
    },
    /// A verdict and its grounds.
    Verdict(Verdict, String),
    /// The way to another page.
    Link {
        /// What it is called.
        text: String,
        /// Where it lies.
        address: String,
    },
}

impl Cell {
    /// The cell as plain text.
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) | Self::Number(text) | Self::Link { text, .. } => text.clone(),
            Self::Mean { mean, interval: Some(interval), n } => format!("{mean} {interval}, n = {n}"),
            Self::Mean { mean, interval: None, n } => format!("{mean}, n = {n}"),
            Self::Verdict(verdict, because) => format!("{}: {because}", verdict.words()),
        }
    }
}

/// What stands where there is nothing.
pub const NOTHING: &str = "\u{2013}";

/// The effects with their verdicts. Where several claims were judged, each stands there as it is and corrected for them.
pub fn effects(results: &Results) -> Table {
    let claims = results.effects.iter().filter_map(|effect| effect.corrected).map(|found| found.claims).max();
    let several = claims.filter(|claims| *claims > 1);
    let mut head = vec!["Effect", "Metric", "Difference", "p", "Test-set error", "Published", "Verdict"];
    let corrected = several.map(|claims| format!("Corrected for {claims} claims"));
    if let Some(corrected) = &corrected {
        head.insert(4, corrected);
    }
    let row = |effect: &Effect| {
        let error = effect
            .sampling_error
            .map_or_else(|| NOTHING.to_owned(), |error| format!("at most {}", number::value(error, error)));
        let published = effect.claim.as_ref().and_then(|(claim, _)| claim.published.as_ref());
        let verdict = match &effect.claim {
            Some((_, judgement)) => Cell::Verdict(judgement.verdict, judgement.because.clone()),
            None => Cell::Text("not claimed".to_owned()),
        };
        let p = effect.paired.as_ref().and_then(|paired| paired.summary.p());
        let mut row = vec![
            Cell::Text(difference_name(effect)),
            Cell::Text(effect.metric.to_owned()),
            difference(effect),
            Cell::Number(p.map_or_else(|| NOTHING.to_owned(), number::p)),
            Cell::Number(error),
            Cell::Text(published.map_or_else(|| NOTHING.to_owned(), published_words)),
            verdict,
        ];
        if several.is_some() {
            row.insert(4, Cell::Text(correction(effect)));
        }
        row
    };
    let both = if several.is_some() {
        "; p and interval also corrected for the number of claims (Holm)"
    } else {
        ""
    };
    Table {
        caption: format!("Effects: differences paired by seed, mean and 95 % interval, two-sided p{both}"),
        head: head.into_iter().map(str::to_owned).collect(),
        rows: results.effects.iter().map(row).collect(),
    }
}

/// The mean difference with its interval.
pub fn difference(effect: &Effect) -> Cell {
    let Some(paired) = &effect.paired else { return Cell::Text(NOTHING.to_owned()) };
    let spread = number::spread(paired.summary.interval);
    Cell::Mean {
        mean: number::signed(paired.summary.mean, spread),
        interval: paired.summary.interval.map(|interval| number::bounds(interval, spread)),
        n: paired.summary.n,
    }
}

/// Interval and p of a claim beside the others.
fn correction(effect: &Effect) -> String {
    effect.corrected.map_or_else(
        || NOTHING.to_owned(),
        |corrected| {
            let spread = number::spread(Some(corrected.interval));
            format!("{}, p {}", number::bounds(corrected.interval, spread), number::p(corrected.p))
        },
    )
}

/// How an effect is called: `arm − control`.
pub fn difference_name(effect: &Effect) -> String {
    format!("{} {} {}", effect.arm, number::MINUS, effect.minus)
}

/// What was published about an effect; a remembered number is not shown.
pub fn published_words(effect: &PublishedEffect) -> String {
    let status = match effect.status {
        Status::Recalled => return "recalled, unverified".to_owned(),
        Status::SecondHand => " (second hand)",
        Status::Verified => "",
    };
    match (published(effect), &effect.stated) {
        (Some(value), _) => published_number(value) + status,
        (None, Some(words)) => format!("\u{201c}{words}\u{201d}{status}"),
        (None, None) => "no number".to_owned(),
    }
}

/// A published difference with its sign: as many digits as it was stated with, at least one after the point.
pub fn published_number(value: f64) -> String {
    let whole_tenths = (value * 10.0 - (value * 10.0).round()).abs() < 1e-9;
    number::signed(value, if whole_tenths { 1.0 } else { 0.01 })
}

/// The arms by the headline metrics, with what each costs.
pub fn arms(results: &Results) -> Table {
    let mut head = vec!["Arm".to_owned()];
    for (_, metric) in results.headlines() {
        head.push(metric.label());
        head.push("Test-set error".to_owned());
    }
    head.extend(["Parameters", "FLOPs a step", "Steps", "Time a run"].map(str::to_owned));
    let row = |arm: &Arm| {
        let mut row = vec![Cell::Text(arm.name.to_owned())];
        for (index, _) in results.headlines() {
            let value = arm.values.get(index).and_then(Option::as_ref);
            row.push(mean(value));
            let error = value.and_then(|value| value.sampling_error);
            row.push(Cell::Number(
                error.map_or_else(|| NOTHING.to_owned(), |error| format!("±{}", number::value(error, error))),
            ));
        }
        let first = arm.runs.first().map(|run| &run.header);
        let own = |number: Option<String>| Cell::Number(number.unwrap_or_else(|| NOTHING.to_owned()));
        row.push(own(first.map(|header| number::prefixed(header.parameters as f64))));
        row.push(own(first.map(|header| number::prefixed(header.flops_per_step))));
        row.push(own(arm.runs.first().and_then(|run| run.done()).map(|done| number::count(done.steps))));
        row.push(own(arm.seconds().map(number::duration)));
        row
    };
    Table {
        caption:
            "Arms: mean over seeds, 95 % interval and number of seeds; the error of the finite test set apart"
                .to_owned(),
        head,
        rows: results.arms.iter().map(row).collect(),
    }
}

/// Every metric of every arm.
pub fn metrics(results: &Results) -> Table {
    let mut head = vec!["Metric".to_owned(), "Chance".to_owned()];
    head.extend(results.arms.iter().map(|arm| arm.name.to_owned()));
    let rows = results.metrics.iter().enumerate().map(|(index, metric)| {
        let chance = metric.chance.map_or_else(|| NOTHING.to_owned(), |chance| number::value(chance, 1.0));
        let mut row = vec![Cell::Text(metric.label()), Cell::Number(chance)];
        row.extend(results.arms.iter().map(|arm| mean(arm.values.get(index).and_then(Option::as_ref))));
        row
    });
    Table {
        caption: "Every metric: mean over seeds, 95 % interval and number of seeds".to_owned(),
        rows: rows.collect(),
        head,
    }
}

fn mean(value: Option<&Value>) -> Cell {
    let Some(value) = value else { return Cell::Number(NOTHING.to_owned()) };
    let spread = number::spread(value.summary.interval);
    Cell::Mean {
        mean: number::value(value.summary.mean, spread),
        interval: value.summary.interval.map(|interval| number::interval(interval, spread)),
        n: value.summary.n,
    }
}

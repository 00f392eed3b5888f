//! The numbers as CSV, unrounded, for those who want to plot or test them otherwise.

use super::Error;
use super::reproduction::{self, Rerun, Row};
use super::results::{Effect, Results};
use super::statistics::detectable;
use super::verdict::published;
use crate::experiments::catalogue::Ablation;
use crate::experiments::record::{Expect, Status};

/// One row for each arm and metric.
///
/// # Errors
/// When the rows cannot be encoded.
pub fn arms(all: &[Results]) -> Result<Vec<u8>, Error> {
    let head = [
        "experiment",
        "profile",
        "arm",
        "metric",
        "percent",
        "n",
        "mean",
        "sd",
        "low",
        "high",
        "chance",
        "sampling_error",
        "parameters",
        "flops_per_step",
    ];
    let mut rows = Vec::new();
    for results in all {
        for arm in &results.arms {
            let header = arm.runs.first().map(|run| &run.header);
            for (metric, value) in results.metrics.iter().zip(&arm.values) {
                let Some(value) = value else { continue };
                let mut row = origin(results);
                row.extend([arm.name.to_owned(), metric.name.to_owned(), metric.percent.to_string()]);
                row.extend(summary(Some(&value.summary)));
                row.extend([number(metric.chance), number(value.sampling_error)]);
                row.push(header.map_or_else(String::new, |header| header.parameters.to_string()));
                row.push(number(header.map(|header| header.flops_per_step)));
                rows.push(row);
            }
        }
    }
    encode("arms.csv", &head, rows)
}

/// One row for each effect.
///
/// # Errors
/// When the rows cannot be encoded.
pub fn effects(all: &[Results]) -> Result<Vec<u8>, Error> {
    let head = [
        "experiment",
        "profile",
        "metric",
        "arm",
        "minus",
        "n",
        "difference",
        "sd",
        "low",
        "high",
        "sampling_error_at_most",
        "expected",
        "published",
        "published_status",
        "verdict",
        "because",
        "seeds_needed",
        "p",
        "claims",
        "corrected_p",
        "corrected_low",
        "corrected_high",
        "resolvable",
    ];
    let mut rows = Vec::new();
    for results in all {
        for effect in &results.effects {
            let mut row = origin(results);
            row.extend([effect.metric, effect.arm, effect.minus].map(str::to_owned));
            row.extend(summary(effect.paired.as_ref().map(|paired| &paired.summary)));
            row.push(number(effect.sampling_error));
            match &effect.claim {
                Some((claim, judgement)) => {
                    row.push(expected(claim.expect).to_owned());
                    row.push(number(claim.published.as_ref().and_then(published)));
                    row.push(claim.published.as_ref().map_or("", |effect| status(effect.status)).to_owned());
                    row.push(judgement.verdict.words().to_owned());
                    row.push(judgement.because.clone());
                    row.push(judgement.seeds.map_or_else(String::new, |seeds| seeds.to_string()));
                }
                None => row.extend([const { String::new() }; 6]),
            }
            row.extend(tests(effect));
            rows.push(row);
        }
    }
    encode("effects.csv", &head, rows)
}

/// One row for each published effect and each rerun of it. A remembered number is left out.
///
/// # Errors
/// When the rows cannot be encoded.
pub fn ablations(rows: &[Row]) -> Result<Vec<u8>, Error> {
    let head = [
        "key",
        "table",
        "what",
        "measured",
        "published",
        "published_status",
        "stated",
        "experiment",
        "profile",
        "metric",
        "arm",
        "minus",
        "n",
        "difference",
        "sd",
        "low",
        "high",
        "verdict",
        "because",
        "seconds",
    ];
    let line = |row: &Row| {
        let Ablation { table, what, measured, published: theirs, .. } = row.ablation;
        let mut line = vec![theirs.key.clone(), table.clone(), what.clone(), measured.clone()];
        line.extend([number(published(theirs)), status(theirs.status).to_owned()]);
        let known = theirs.stated.clone().filter(|_| theirs.status != Status::Recalled);
        line.push(known.unwrap_or_default());
        match row.rerun {
            Rerun::Measured(results, effect, judgement) => {
                line.extend(origin(results));
                line.extend([effect.metric, effect.arm, effect.minus].map(str::to_owned));
                line.extend(summary(effect.paired.as_ref().map(|paired| &paired.summary)));
                line.extend([judgement.verdict.words().to_owned(), judgement.because.clone()]);
                line.push(number(reproduction::cost(results, effect)));
            }
            Rerun::NotRun(experiment, _) => {
                line.push(experiment.to_owned());
                line.extend([const { String::new() }; 9]);
                line.push("not run".to_owned());
                line.extend([const { String::new() }; 2]);
            }
            Rerun::Unclaimed => line.extend([const { String::new() }; 13]),
        }
        line
    };
    encode("ablations.csv", &head, rows.iter().map(line).collect())
}

/// One row for each value of each run: training figures, and evaluations on every split.
///
/// # Errors
/// When the rows cannot be encoded.
pub fn curves(all: &[Results]) -> Result<Vec<u8>, Error> {
    let head = ["experiment", "profile", "arm", "seed", "step", "split", "metric", "value", "selected"];
    let mut rows = Vec::new();
    for results in all {
        for run in &results.experiment.runs {
            let row = |step: u64, split: &str, metric: &str, value: f64, selected: bool| {
                let mut row = origin(results);
                row.extend([run.header.arm.clone(), run.header.seed.to_string(), step.to_string()]);
                row.extend([split, metric].map(str::to_owned));
                row.extend([value.to_string(), selected.to_string()]);
                row
            };
            for figures in &run.training {
                rows.extend(
                    figures
                        .values
                        .iter()
                        .map(|(name, value)| row(figures.step, "train", name, *value, false)),
                );
            }
            for evaluation in &run.evaluations {
                let (step, split, selected) = (evaluation.step, &evaluation.split, evaluation.selected);
                let values = evaluation.values.iter();
                rows.extend(values.map(|(name, measured)| row(step, split, name, measured.value, selected)));
            }
        }
    }
    encode("curves.csv", &head, rows)
}

/// The p of an effect, the same corrected, and the smallest difference that its seeds resolve.
fn tests(effect: &Effect) -> [String; 6] {
    let summary = effect.paired.as_ref().map(|paired| paired.summary);
    let corrected = effect.corrected;
    [
        number(summary.and_then(|summary| summary.p())),
        corrected.map_or_else(String::new, |corrected| corrected.claims.to_string()),
        number(corrected.map(|corrected| corrected.p)),
        number(corrected.map(|corrected| corrected.interval.low)),
        number(corrected.map(|corrected| corrected.interval.high)),
        number(summary.and_then(|summary| detectable(summary.n, summary.sd?))),
    ]
}

fn origin(results: &Results) -> Vec<String> {
    let about = &results.experiment.about;
    vec![about.name.clone(), about.profile.clone().unwrap_or_default()]
}

fn summary(summary: Option<&super::statistics::Summary>) -> [String; 5] {
    let interval = summary.and_then(|summary| summary.interval);
    [
        summary.map_or(0, |summary| summary.n).to_string(),
        number(summary.map(|summary| summary.mean)),
        number(summary.and_then(|summary| summary.sd)),
        number(interval.map(|interval| interval.low)),
        number(interval.map(|interval| interval.high)),
    ]
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn expected(expect: Expect) -> &'static str {
    match expect {
        Expect::Positive => "positive",
        Expect::Negative => "negative",
        Expect::None => "none",
    }
}

fn status(status: Status) -> &'static str {
    match status {
        Status::Verified => "verified",
        Status::SecondHand => "second hand",
        Status::Recalled => "recalled, unverified",
    }
}

fn encode(file: &str, head: &[&str], rows: Vec<Vec<String>>) -> Result<Vec<u8>, Error> {
    let failed = |problem: String| Error::Make { what: file.to_owned(), problem };
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    writer.write_record(head).map_err(|error| failed(error.to_string()))?;
    for row in rows {
        writer.write_record(row).map_err(|error| failed(error.to_string()))?;
    }
    writer.into_inner().map_err(|error| failed(error.to_string()))
}

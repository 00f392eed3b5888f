//! The numbers of a report, worked out once: what every table, plot and sentence shows of one experiment.
//!
//! Values are those that the selection rule reports, on the test split. A value's two uncertainties stay apart: the
//! interval over seeds, and the sampling error of the finite test set.

use std::collections::{BTreeMap, BTreeSet};

use super::compare;
use super::read::{Experiment, Run};
use super::statistics::{Corrected, Paired, Summary, holm, paired, summary};
use super::verdict::{Correction, Judgement, incomparable, judge};
use crate::experiments::record::{ClaimRecord, Effect as Claimed, Evaluation, Measured};

/// The split whose values are reported.
pub const REPORTED: &str = "test";

/// One experiment, counted up.
#[derive(Debug)]
pub struct Results<'a> {
    /// What was found of it.
    pub experiment: &'a Experiment,
    /// What was measured: first what claims name, then the rest, in the order of names with numbers as numbers.
    pub metrics: Vec<Metric<'a>>,
    /// Every arm with a finished run, in the file's order.
    pub arms: Vec<Arm<'a>>,
    /// Claimed effects in the file's order, then the other differences from the control.
    pub effects: Vec<Effect<'a>>,
}

/// One measured quantity.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric<'a> {
    /// Its full name: `retrieval.mean_recall`.
    pub name: &'a str,
    /// Whether it is a share, in percent.
    pub percent: bool,
    /// What guessing gives.
    pub chance: Option<f64>,
    /// Whether it is plotted: a claim names it, or it is the one that stands for its evaluation.
    pub headline: bool,
}

impl Metric<'_> {
    /// Its name with its unit: `retrieval.mean_recall (%)`.
    pub fn label(&self) -> String {
        if self.percent { format!("{} (%)", self.name) } else { self.name.to_owned() }
    }
}

/// One way of training.
#[derive(Debug)]
pub struct Arm<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its finished runs in the order of seeds.
    pub runs: Vec<&'a Run>,
    /// Its values, one for each of [`Results::metrics`]; none where it was not measured.
    pub values: Vec<Option<Value>>,
}

impl Arm<'_> {
    /// Seconds that a run took, averaged over seeds.
    pub fn seconds(&self) -> Option<f64> {
        let seconds: Vec<f64> = self.runs.iter().filter_map(|run| Some(run.done()?.seconds)).collect();
        summary(&seconds).map(|summary| summary.mean)
    }
}

/// Seconds that everything took that runs begin with, once for all of them.
pub fn before(runs: &[&Run]) -> f64 {
    let stages = runs.iter().flat_map(|run| &run.header.start).flat_map(|stage| stage.chain());
    let once: BTreeMap<&str, f64> = stages.map(|stage| (stage.hash.as_str(), stage.seconds)).collect();
    once.values().sum()
}

/// What the seeds of one arm give for one metric.
#[derive(Clone, Debug)]
pub struct Value {
    /// The value of every seed.
    pub by_seed: BTreeMap<u64, f64>,
    /// Mean and interval over seeds.
    pub summary: Summary,
    /// The standard error of one seed's value that comes from the finite test set, averaged over seeds.
    pub sampling_error: Option<f64>,
}

/// A difference between two arms.
#[derive(Debug)]
pub struct Effect<'a> {
    /// The metric's full name.
    pub metric: &'a str,
    /// The arm that is expected to differ.
    pub arm: &'a str,
    /// The arm it is compared with.
    pub minus: &'a str,
    /// The differences of the seeds that both have.
    pub paired: Option<Paired>,
    /// A bound on the test set's share in the difference of one seed: the root of the two arms' summed squares, which the
    /// same test pairs in both arms make smaller.
    pub sampling_error: Option<f64>,
    /// The same, corrected for the other claims; none for a difference that is not claimed or cannot be judged.
    pub corrected: Option<Correction>,
    /// What was claimed, and how it is judged.
    pub claim: Option<(&'a ClaimRecord, Judgement)>,
}

impl<'a> Results<'a> {
    /// Counts up one experiment.
    pub fn new(experiment: &'a Experiment) -> Self {
        let metrics = metrics(experiment);
        let arm = |name: &'a String| {
            let runs: Vec<&Run> = experiment.arm(name).collect();
            let values = metrics.iter().map(|metric| value(&runs, metric.name)).collect();
            Arm { name, runs, values }
        };
        let arms = experiment.about.arms.iter().map(arm).filter(|arm| !arm.runs.is_empty()).collect();
        let mut results = Self { experiment, metrics, arms, effects: Vec::new() };
        results.effects = results.differences();
        results
    }

    /// The metrics that are plotted.
    pub fn headlines(&self) -> impl Iterator<Item = (usize, &Metric<'a>)> {
        self.metrics.iter().enumerate().filter(|(_, metric)| metric.headline)
    }

    /// A metric by its name.
    pub fn metric(&self, name: &str) -> Option<&Metric<'a>> {
        self.metrics.iter().find(|metric| metric.name == name)
    }

    /// An arm by its name.
    pub fn arm(&self, name: &str) -> Option<&Arm<'a>> {
        self.arms.iter().find(|arm| arm.name == name)
    }

    fn differences(&self) -> Vec<Effect<'a>> {
        let about = &self.experiment.about;
        let mut effects: Vec<Effect<'a>> = Vec::new();
        let mut claimed: Vec<(Effect<'a>, Vec<String>)> = about
            .claims
            .iter()
            .map(|claim| {
                let Claimed { metric, arm, minus } = &claim.effect;
                let effect = self.difference(metric, arm, minus);
                let differing = self.differing(&effect);
                (effect, differing)
            })
            .collect();
        correct(&mut claimed, &about.claims);
        for ((mut effect, differing), claim) in claimed.into_iter().zip(&about.claims) {
            let judgement = judge(claim, effect.paired.as_ref(), effect.corrected.as_ref(), &differing);
            effect.claim = Some((claim, judgement));
            effects.push(effect);
        }
        let Some(control) = &about.control else { return effects };
        for metric in self.metrics.iter().filter(|metric| metric.headline) {
            for arm in about.arms.iter().filter(|arm| *arm != control) {
                // A claim may be put either way round.
                let pair = [arm.as_str(), control.as_str()];
                let same = |effect: &Effect| {
                    effect.metric == metric.name && pair.contains(&effect.arm) && pair.contains(&effect.minus)
                };
                if !effects.iter().any(same) {
                    effects.push(self.difference(metric.name, arm, control));
                }
            }
        }
        effects
    }

    fn difference(&self, metric: &'a str, arm: &'a str, minus: &'a str) -> Effect<'a> {
        let value = |arm: &str| {
            let index = self.metrics.iter().position(|other| other.name == metric)?;
            self.arm(arm)?.values.get(index)?.as_ref()
        };
        let both = value(arm).zip(value(minus));
        let sampling_error = both
            .and_then(|(one, other)| one.sampling_error.zip(other.sampling_error))
            .map(|(one, other)| one.hypot(other));
        let paired = both.and_then(|(one, other)| paired(&one.by_seed, &other.by_seed));
        Effect { metric, arm, minus, paired, sampling_error, corrected: None, claim: None }
    }

    /// The fields in which the two arms of an effect differ although neither names them.
    fn differing(&self, effect: &Effect) -> Vec<String> {
        let (Some(one), Some(other)) = (self.arm(effect.arm), self.arm(effect.minus)) else {
            return Vec::new();
        };
        let mut found = BTreeSet::new();
        // Runs that each agree with the first of the other arm agree with all of it.
        for (arm, against) in [(one, other), (other, one)] {
            let Some(first) = against.runs.first() else { continue };
            found.extend(arm.runs.iter().flat_map(|run| compare::unnamed(&run.header, &first.header)));
        }
        let measured = |arm: &Arm| -> BTreeSet<(u32, usize)> {
            let evaluations = arm.runs.iter().filter_map(|run| reported(run, effect.metric));
            evaluations.map(|(evaluation, _)| (evaluation.version, evaluation.items)).collect()
        };
        let ways: BTreeSet<_> = measured(one).union(&measured(other)).copied().collect();
        if ways.iter().map(|(version, _)| version).collect::<BTreeSet<_>>().len() > 1 {
            found.insert("the version of the evaluation".to_owned());
        }
        if ways.iter().map(|(_, items)| items).collect::<BTreeSet<_>>().len() > 1 {
            found.insert("the number of test items".to_owned());
        }
        found.into_iter().collect()
    }
}

/// Corrects the claims that can be judged for each other.
fn correct(claimed: &mut [(Effect, Vec<String>)], claims: &[ClaimRecord]) {
    let judged = |((effect, differing), claim): (&(Effect, Vec<String>), &ClaimRecord)| {
        let summary = effect.paired.as_ref()?.summary;
        incomparable(claim, differing).is_empty().then(|| Some((summary, summary.p()?))).flatten()
    };
    let family: Vec<_> = claimed.iter().zip(claims).map(judged).collect();
    let ps: Vec<f64> = family.iter().flatten().map(|(_, p)| *p).collect();
    let mut corrected = holm(&ps).into_iter();
    for ((effect, _), member) in claimed.iter_mut().zip(&family) {
        effect.corrected = member.and_then(|(summary, _)| {
            let Corrected { p, confidence } = corrected.next()?;
            Some(Correction { claims: ps.len(), p, interval: summary.at(confidence)? })
        });
    }
}

/// The value of a metric that the selection rule reports of a run, with the evaluation it stands in.
pub fn reported<'a>(run: &'a Run, metric: &str) -> Option<(&'a Evaluation, &'a Measured)> {
    let chosen = |evaluation: &&Evaluation| evaluation.selected && evaluation.split == REPORTED;
    let mut evaluations = run.evaluations.iter().rev().filter(chosen);
    evaluations.find_map(|evaluation| Some((evaluation, evaluation.values.get(metric)?)))
}

fn value(runs: &[&Run], metric: &str) -> Option<Value> {
    let measured: Vec<(u64, &Measured)> =
        runs.iter().filter_map(|run| Some((run.header.seed, reported(run, metric)?.1))).collect();
    let values: Vec<f64> = measured.iter().map(|(_, measured)| measured.value).collect();
    let errors: Option<Vec<f64>> = measured.iter().map(|(_, measured)| measured.sampling_error).collect();
    Some(Value {
        summary: summary(&values)?,
        by_seed: measured.iter().map(|(seed, measured)| (*seed, measured.value)).collect(),
        sampling_error: errors.and_then(|errors| summary(&errors)).map(|errors| errors.mean),
    })
}

/// Everything that the reported evaluations measured, headlines first.
fn metrics(experiment: &Experiment) -> Vec<Metric<'_>> {
    let mut found: BTreeMap<&str, Metric> = BTreeMap::new();
    let evaluations = experiment.runs.iter().flat_map(|run| &run.evaluations);
    for evaluation in evaluations.filter(|evaluation| evaluation.selected && evaluation.split == REPORTED) {
        for (name, measured) in &evaluation.values {
            let Measured { percent, chance, .. } = *measured;
            found.entry(name).or_insert(Metric { name, percent, chance, headline: false });
        }
    }
    let mut metrics: Vec<Metric> = found.into_values().collect();
    metrics.sort_by_cached_key(|metric| natural(metric.name));
    let names: Vec<&str> = metrics.iter().map(|metric| metric.name).collect();
    let claimed = |name: &str| experiment.about.claims.iter().any(|claim| claim.effect.metric == name);
    for metric in &mut metrics {
        let family: Vec<&str> =
            names.iter().filter(|name| family(name) == family(metric.name)).copied().collect();
        metric.headline = if family.iter().any(|name| claimed(name)) {
            claimed(metric.name)
        } else {
            standing(&family) == Some(metric.name)
        };
    }
    metrics.sort_by_key(|metric| !metric.headline);
    metrics
}

/// The evaluation that a metric belongs to: what stands before its first point.
fn family(metric: &str) -> &str {
    metric.split('.').next().unwrap_or(metric)
}

/// The metric that stands for its evaluation where no claim chooses one: a mean, an accuracy or CIDEr, else the first.
fn standing<'a>(family: &[&'a str]) -> Option<&'a str> {
    let summary = |name: &&&str| ["mean", "accuracy", "cider"].iter().any(|word| name.contains(word));
    family.iter().find(summary).or_else(|| family.first()).copied()
}

/// A key that sorts `r@5` before `r@10`.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let text = rest.find(|letter: char| letter.is_ascii_digit()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(text);
        let digits = after.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(after.len());
        let (number, after) = after.split_at(digits);
        parts.push((word.to_owned(), number.parse().unwrap_or(0)));
        rest = after;
    }
    parts
}

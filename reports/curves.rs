//! Learning curves: what was measured along the way, as the mean over an arm's seeds with their range.

use std::collections::{BTreeMap, BTreeSet};

use super::read::Run;
use super::results::{Arm, Results};

/// One quantity against steps, for every arm that has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// The quantity and the split: `retrieval.mean_recall (%), val`.
    pub title: String,
    /// Index of the arm in [`Results::arms`] and its curve.
    pub curves: Vec<(usize, Vec<Point>)>,
}

/// What the seeds of one arm have at one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Updates made.
    pub step: u64,
    /// The mean over seeds.
    pub mean: f64,
    /// The lowest seed.
    pub low: f64,
    /// The highest seed.
    pub high: f64,
}

/// A quantity of one run, in the order of panels.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Quantity {
    Evaluated { metric: String, split: String },
    Loss,
    Trained(String),
}

impl Quantity {
    fn trained(name: &str) -> Self {
        if name == "loss" { Self::Loss } else { Self::Trained(name.to_owned()) }
    }
}

/// The curves worth a plot: headline metrics, losses and accuracies with at least two steps.
pub fn panels(results: &Results) -> Vec<Panel> {
    let quantities: BTreeSet<Quantity> =
        results.arms.iter().flat_map(|arm| &arm.runs).flat_map(|run| quantities(results, run)).collect();
    let panel = |quantity: &Quantity| {
        let curve = |(index, arm)| Some((index, curve(arm, quantity))).filter(|(_, points)| points.len() > 1);
        Panel {
            title: title(results, quantity),
            curves: results.arms.iter().enumerate().filter_map(curve).collect(),
        }
    };
    quantities.iter().map(panel).filter(|panel| !panel.curves.is_empty()).collect()
}

fn quantities(results: &Results, run: &Run) -> Vec<Quantity> {
    let evaluated = run.evaluations.iter().flat_map(|evaluation| {
        let headlines = results.headlines().map(|(_, metric)| metric.name);
        let measured = headlines.filter(|name| evaluation.values.contains_key(*name));
        measured.map(|name| Quantity::Evaluated { metric: name.to_owned(), split: evaluation.split.clone() })
    });
    let plotted = |name: &&String| name.ends_with("loss") || name.ends_with("accuracy");
    let trained = run.training.iter().flat_map(|figures| figures.values.keys().filter(plotted));
    evaluated.chain(trained.map(|name| Quantity::trained(name))).collect()
}

fn title(results: &Results, quantity: &Quantity) -> String {
    match quantity {
        Quantity::Evaluated { metric, split } => {
            let label = results.metric(metric).map_or_else(|| metric.clone(), |metric| metric.label());
            format!("{label}, {split}")
        }
        Quantity::Loss => "loss, train".to_owned(),
        Quantity::Trained(name) => format!("{name}, train"),
    }
}

/// The steps at which every seed of the arm has the quantity.
fn curve(arm: &Arm, quantity: &Quantity) -> Vec<Point> {
    let mut steps: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for run in &arm.runs {
        for (step, value) in values(run, quantity) {
            steps.entry(step).or_default().push(value);
        }
    }
    let whole = steps.into_iter().filter(|(_, values)| values.len() == arm.runs.len());
    whole
        .map(|(step, values)| Point {
            step,
            mean: values.iter().sum::<f64>() / values.len() as f64,
            low: values.iter().copied().fold(f64::INFINITY, f64::min),
            high: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        })
        .collect()
}

/// What one run has at each step.
fn values(run: &Run, quantity: &Quantity) -> BTreeMap<u64, f64> {
    let trained = |name: &str| {
        run.training.iter().filter_map(|figures| Some((figures.step, *figures.values.get(name)?))).collect()
    };
    match quantity {
        Quantity::Evaluated { metric, split } => {
            let on_split = run.evaluations.iter().filter(|evaluation| &evaluation.split == split);
            on_split
                .filter_map(|evaluation| Some((evaluation.step, evaluation.values.get(metric)?.value)))
                .collect()
        }
        Quantity::Loss => trained("loss"),
        Quantity::Trained(name) => trained(name),
    }
}

//! The answer to an experiment's question in one sentence: each claim's verdict and the difference it rests on.

use super::number;
use super::results::{Effect, Results};
use super::verdict::Verdict;

/// One part of the sentence: a verdict, where a claim was judged, and what it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Clause {
    /// The verdict.
    pub verdict: Option<Verdict>,
    /// The rest.
    pub text: String,
}

/// The parts of the sentence, at least one.
pub fn answer(results: &Results) -> Vec<Clause> {
    let claimed = results.effects.iter().filter_map(|effect| Some((effect, effect.claim.as_ref()?)));
    let clauses: Vec<Clause> = claimed
        .map(|(effect, (_, judgement))| Clause {
            verdict: Some(judgement.verdict),
            text: difference(results, effect),
        })
        .collect();
    if clauses.is_empty() {
        return vec![Clause { verdict: None, text: unclaimed(results) }];
    }
    clauses
}

/// The sentence as plain text.
pub fn sentence(clauses: &[Clause]) -> String {
    let one = |clause: &Clause| match clause.verdict {
        Some(verdict) => format!("{}: {}", verdict.words(), clause.text),
        None => clause.text.clone(),
    };
    format!("{}.", clauses.iter().map(one).collect::<Vec<_>>().join("; "))
}

fn difference(results: &Results, effect: &Effect) -> String {
    let Effect { metric, arm, minus, .. } = effect;
    let Some(paired) = &effect.paired else {
        return format!("{arm} and {minus} have no finished seed in common for {metric}");
    };
    let spread = number::spread(paired.summary.interval);
    let percent = results.metric(metric).is_some_and(|metric| metric.percent);
    let unit = if percent { " points" } else { "" };
    let mean = paired.summary.mean;
    let size = number::value(mean.abs(), spread);
    let more = if mean < 0.0 { "less" } else { "more" };
    let interval = match paired.summary.interval {
        Some(interval) => format!("95 % interval {}", number::bounds(interval, spread)),
        None => "no interval".to_owned(),
    };
    format!("{arm} has {size}{unit} {more} {metric} than {minus} ({interval}, {})", seeds(paired.summary.n))
}

fn unclaimed(results: &Results) -> String {
    let Some((index, metric)) = results.headlines().next() else {
        return "No finished run has measured anything yet".to_owned();
    };
    let values = results.arms.iter().filter_map(|arm| Some((arm.name, arm.values.get(index)?.as_ref()?)));
    let Some((arm, best)) = values.max_by(|one, other| one.1.summary.mean.total_cmp(&other.1.summary.mean))
    else {
        return "No finished run has measured anything yet".to_owned();
    };
    let spread = number::spread(best.summary.interval);
    let mean = number::value(best.summary.mean, spread);
    let interval = match best.summary.interval {
        Some(interval) => format!("95 % interval {}, ", number::interval(interval, spread)),
        None => String::new(),
    };
    let chance =
        metric.chance.map_or_else(String::new, |chance| format!(", chance {}", number::value(chance, 1.0)));
    let seeds = seeds(best.summary.n);
    format!(
        "Nothing was claimed; the highest {} is that of {arm}: {mean} ({interval}{seeds}{chance})",
        metric.label()
    )
}

fn seeds(n: usize) -> String {
    if n == 1 { "1 seed".to_owned() } else { format!("{n} seeds") }
}

//! What speaks for and against an effect of the other sign than the paper's: scale, noise and power, from records.

use super::results::{Arm, Effect, Results};
use super::statistics::{Summary, detectable, power};
use super::tables::difference_name;
use super::{number, verdict};
use crate::experiments::record::TrainFigures;

/// Lines on each contradicted claim; what two claims share is said once.
pub fn discussion(results: &Results) -> Vec<String> {
    let mut said: Vec<String> = Vec::new();
    for line in results.effects.iter().filter_map(|effect| lines(results, effect)).flatten() {
        if !said.contains(&line) {
            said.push(line);
        }
    }
    said
}

fn lines(results: &Results, effect: &Effect) -> Option<Vec<String>> {
    let (claim, judgement) = effect.claim.as_ref()?;
    if judgement.verdict != verdict::Verdict::Contradicted {
        return None;
    }
    let Summary { mean, sd: Some(sd), n, .. } = effect.paired.as_ref()?.summary else { return None };
    let name = format!("{} in {}", difference_name(effect), effect.metric);
    let published = claim.published.as_ref().and_then(verdict::published);
    let mut lines = vec![noise(&name, (mean, sd, n), effect.sampling_error)];
    lines.extend(published.map(|published| could_show(&name, published, (sd, n))));
    let arms = [effect.arm, effect.minus].map(|arm| results.arm(arm));
    lines.extend(arms.into_iter().flatten().filter_map(scale));
    Some(lines)
}

/// How far the difference stands out from seeds and test pairs.
fn noise(name: &str, (mean, sd, n): (f64, f64, usize), sampling_error: Option<f64>) -> String {
    let seeds = if sd > 0.0 {
        format!("{:.1} times the deviation over {n} seeds", mean.abs() / sd)
    } else {
        format!("the same for all {n} seeds")
    };
    let pairs = sampling_error.filter(|error| *error > 0.0).map_or_else(String::new, |error| {
        format!(", {:.1} times the largest error that the test set can add to one seed", mean.abs() / error)
    });
    format!("Noise: {name} is {}: {seeds}{pairs}.", number::signed(mean, sd))
}

/// Whether seeds that differ so much could have shown what was published.
fn could_show(name: &str, published: f64, (sd, n): (f64, usize)) -> String {
    let chance = 100.0 * power(n, published, sd);
    let least = detectable(n, sd).map_or_else(String::new, |least| {
        format!("; they resolve {} with 80 %", number::value(least, least))
    });
    format!(
        "Power: {n} seeds would have resolved the published {} in {name} with a probability of {chance:.0} %{least}.",
        number::signed(published, published)
    )
}

/// How much an arm was trained, and whether it was still learning.
fn scale(arm: &Arm) -> Option<String> {
    let header = &arm.runs.first()?.header;
    let steps = arm.runs.iter().filter_map(|run| run.training.last()).map(|figures| figures.step).max()?;
    let batch = header.config.pointer("/train/batch")?.as_u64()?;
    let falls: Vec<f64> = arm.runs.iter().filter_map(|run| fall(&run.training)).collect();
    let learning = if falls.is_empty() {
        String::new()
    } else {
        let fall = 100.0 * falls.iter().sum::<f64>() / falls.len() as f64;
        let ended = if fall < 1.0 { "had stopped falling" } else { "was still falling" };
        format!("; its loss {ended}, by {fall:.0} % from the third quarter of the updates to the last")
    };
    Some(format!(
        "Scale: {} has {} parameters and saw {} pairs in {} updates{learning}.",
        arm.name,
        number::count(header.parameters),
        number::count(steps * batch),
        number::count(steps)
    ))
}

/// By which share of its value the loss fell: the mean over the last quarter of the updates beside that over the quarter
/// before.
fn fall(training: &[TrainFigures]) -> Option<f64> {
    let last = training.last()?.step as f64;
    let mean = |from: f64, to: f64| {
        let within = |figures: &&TrainFigures| (from * last..=to * last).contains(&(figures.step as f64));
        let losses: Vec<f64> = training
            .iter()
            .filter(within)
            .filter_map(|figures| figures.values.get("loss").copied())
            .collect();
        (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64)
    };
    let (before, after) = (mean(0.5, 0.75)?, mean(0.75, 1.0)?);
    (before > 0.0).then(|| (before - after) / before)
}

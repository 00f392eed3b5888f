//! What further seeds can still tell: the chance that a claim without a verdict gets one.

use std::path::PathBuf;

use super::results::Results;
use super::statistics::power;
use super::verdict::Verdict;
use super::{Error, read};
use crate::experiments::record::Effect;

/// For each effect the chance that it has a verdict once `seeds` seeds are done, by the records of the runs in `done`, all of
/// one experiment: 0 where it has one already, where the seeds are done, or where nothing can be compared.
///
/// # Errors
/// When records cannot be used.
pub fn chances(done: &[PathBuf], effects: &[&Effect], seeds: usize) -> Result<Vec<f64>, Error> {
    let found = read(done)?;
    let results = found.experiments.first().map(Results::new);
    Ok(effects.iter().map(|effect| chance(results.as_ref(), effect, seeds)).collect())
}

/// The chance of one effect; 1 where no spread is known yet.
fn chance(results: Option<&Results>, effect: &Effect, seeds: usize) -> f64 {
    // One seed gives no interval, and none a verdict.
    if seeds < 2 {
        return 0.0;
    }
    let same = |found: &&super::Effect| {
        let Effect { metric, arm, minus } = effect;
        (found.metric, found.arm, found.minus) == (metric.as_str(), arm.as_str(), minus.as_str())
    };
    let found = results.and_then(|results| results.effects.iter().find(same));
    let Some((found, (_, judgement))) = found.and_then(|found| Some((found, found.claim.as_ref()?))) else {
        return 1.0;
    };
    let summary = found.paired.as_ref().map(|paired| paired.summary);
    match (judgement.verdict, summary) {
        (Verdict::Inconclusive, Some(summary)) if summary.n >= seeds => 0.0,
        (Verdict::Inconclusive, Some(summary)) => summary.sd.map_or(1.0, |sd| power(seeds, summary.mean, sd)),
        (Verdict::Inconclusive, None) => 1.0,
        (Verdict::Reproduced | Verdict::SignOnly | Verdict::Contradicted | Verdict::NotComparable, _) => 0.0,
    }
}

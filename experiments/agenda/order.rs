//! Which experiment comes first.

use std::cmp::Ordering;
use std::fmt;

use super::{Entry, Outlook};

/// What the rest of an experiment is worth: how many verdicts it is expected to give.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Worth {
    /// On published effects.
    pub published: f64,
    /// On what no paper states.
    pub other: f64,
}

impl Worth {
    /// What an experiment is worth by the chance of each of its claims.
    pub fn new(entry: &Entry, chances: &[f64]) -> Self {
        let mut worth = Self::default();
        for (claim, chance) in entry.experiment.claims.iter().zip(chances) {
            if claim.published.is_some() { worth.published += chance } else { worth.other += chance }
        }
        worth
    }
}

/// The numbers of the rows that have something left to do, the most informative first; `worths` has the worth of each row.
///
/// What an experiment is for is a verdict on each of its claims, and what it costs is time. So the measure is *information
/// per hour*: the number of verdicts that its remaining runs are expected to give, divided by the time that they take,
///
/// `(sum over its claims of chance(claim)) / time left`,
///
/// where `chance(claim)` is the chance that a claim has a verdict when all seeds are done and has none before. It is 1
/// where fewer than two seeds are done, for then nothing is known; where the claim is INCONCLUSIVE so far, it is the power of
/// the test with all seeds for a difference of the size and spread that were found; and it is 0 where a verdict is there,
/// where all seeds are done, or where nothing can be compared. To take the greatest ratio first gives the most verdicts
/// for a budget that is not known to be the last, as in the knapsack problem whose things may be cut: what a half-run
/// experiment has done makes its rest cheaper, so that it comes early the next time.
///
/// Claims that are tied to a published effect come before all others: they are what the suite reruns papers for. After them
/// come experiments with claims of their own, then those without any, the shortest first; last those that could not be
/// measured. Experiments that have all seeds have nothing left and are not named.
pub fn order(outlook: &Outlook, worths: &[Worth]) -> Vec<usize> {
    let mut order: Vec<(usize, [f64; 4])> = Vec::new();
    for (number, (row, worth)) in outlook.rows.iter().zip(worths).enumerate() {
        if row.left() > 0 {
            // Runs stand for hours where these are not known. No run takes less than a millisecond.
            let (unknown, cost) = match row.unmeasured {
                0 => (0.0, row.seconds_left().max(1e-3) / 3600.0),
                _ => (1.0, row.left() as f64),
            };
            order.push((number, [unknown, -worth.published / cost, -worth.other / cost, cost]));
        }
    }
    order.sort_by(|(_, one), (_, other)| {
        let each = one.iter().zip(other).map(|(one, other)| one.total_cmp(other));
        each.fold(Ordering::Equal, Ordering::then)
    });
    order.into_iter().map(|(number, _)| number).collect()
}

impl fmt::Display for Worth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.published > 0.0, self.other > 0.0) {
            (true, _) => write!(f, "{:.1} verdicts on published effects expected", self.published),
            (false, true) => write!(f, "{:.1} verdicts expected", self.other),
            (false, false) => f.write_str("no verdict expected"),
        }
    }
}

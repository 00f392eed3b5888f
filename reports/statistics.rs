//! The statistics of small numbers of seeds: means with t-intervals, differences paired by seed, what several claims cost,
//! and how many seeds an effect takes.
//!
//! Student's t, which is exact for normal data at every n, is used throughout:
//! `mean +- t(0.975, n - 1) s / sqrt(n)` with `s` from `n - 1` degrees of freedom. One value gives no interval. A seed is
//! the unit: test pairs are never counted as repetitions.
//!
//! The claims of one experiment are corrected by Holm's step-down rule ("A simple sequentially rejective multiple test
//! procedure", 1979): of m claims the k-th smallest p is held against `0.05 / (m - k + 1)`, until one fails.

use std::collections::BTreeMap;

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};
use statrs::function::gamma::ln_gamma;

/// The confidence of every interval.
pub const CONFIDENCE: f64 = 0.95;
/// The chance of resolving an effect at which the seeds count as enough.
pub const POWER: f64 = 0.8;
/// More seeds than this are not counted.
pub const MOST_SEEDS: usize = 1000;

/// The bounds of an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The lower bound.
    pub low: f64,
    /// The upper bound.
    pub high: f64,
}

impl Interval {
    /// Whether a value lies within.
    pub fn covers(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// What some values say about their mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// How many values.
    pub n: usize,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation with n - 1 in the denominator; none for one value.
    pub sd: Option<f64>,
    /// The t-interval of the mean; none for one value.
    pub interval: Option<Interval>,
}

impl Summary {
    /// The t-interval of the mean at a confidence; none for one value.
    pub fn at(&self, confidence: f64) -> Option<Interval> {
        let half = critical(self.n, confidence)? * self.sd? / (self.n as f64).sqrt();
        Some(Interval { low: self.mean - half, high: self.mean + half })
    }

    /// The two-sided p of the t-test against zero: below 0.05 where the interval excludes zero; none for one value.
    pub fn p(&self) -> Option<f64> {
        let t = StudentsT::new(0.0, 1.0, (self.n.checked_sub(1)?) as f64).ok()?;
        let statistic = self.mean.abs() * (self.n as f64).sqrt() / self.sd?;
        // Equal values: no difference is 0 / 0, any other is infinite.
        if statistic.is_nan() { Some(1.0) } else { Some((2.0 * t.sf(statistic)).min(1.0)) }
    }
}

/// One of several p, corrected for the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Corrected {
    /// Holm's adjusted p.
    pub p: f64,
    /// The confidence at which Holm's rule tests it: an interval of this confidence excludes zero exactly where the
    /// adjusted p is below 0.05. It is the interval of one step, not one of a set that holds simultaneously.
    pub confidence: f64,
}

/// Corrects several p for each other, in the order in which they are given.
pub fn holm(ps: &[f64]) -> Vec<Corrected> {
    let level = 1.0 - CONFIDENCE;
    let mut order: Vec<usize> = (0..ps.len()).collect();
    order.sort_by(|one, other| ps[*one].total_cmp(&ps[*other]));
    let mut corrected = vec![Corrected { p: 1.0, confidence: CONFIDENCE }; ps.len()];
    // What comes after a step that failed has failed with it, at the level of that step.
    let (mut greatest, mut step) = (0.0f64, ps.len());
    for (done, index) in order.into_iter().enumerate() {
        greatest = greatest.max(((ps.len() - done) as f64 * ps[index]).min(1.0));
        corrected[index] = Corrected { p: greatest, confidence: 1.0 - level / step as f64 };
        if greatest < level {
            step -= 1;
        }
    }
    corrected
}

/// Mean, standard deviation and interval; none without values.
pub fn summary(values: &[f64]) -> Option<Summary> {
    let n = values.len();
    if n == 0 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n as f64;
    let sd = (n > 1).then(|| {
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        (squares / (n - 1) as f64).sqrt()
    });
    let mut summary = Summary { n, mean, sd, interval: None };
    summary.interval = summary.at(CONFIDENCE);
    Some(summary)
}

/// The differences of two arms over the seeds that both have.
#[derive(Clone, Debug, PartialEq)]
pub struct Paired {
    /// Seed and difference, in the order of seeds.
    pub differences: Vec<(u64, f64)>,
    /// Their mean and its interval.
    pub summary: Summary,
}

/// `arm - minus` seed by seed; none without a common seed.
pub fn paired(arm: &BTreeMap<u64, f64>, minus: &BTreeMap<u64, f64>) -> Option<Paired> {
    let differences: Vec<(u64, f64)> =
        arm.iter().filter_map(|(seed, value)| minus.get(seed).map(|other| (*seed, value - other))).collect();
    let values: Vec<f64> = differences.iter().map(|(_, difference)| *difference).collect();
    Some(Paired { summary: summary(&values)?, differences })
}

/// The chance that the interval of n differences excludes zero on the side of the effect, when the differences are normal
/// with mean `effect` and standard deviation `sd`.
///
/// `P(T > t(0.975, n - 1))` with T non-central t, as the mean of `Phi(effect sqrt(n) / sd - t s)` over `s`, the sample's
/// standard deviation in units of the true one.
pub fn power(n: usize, effect: f64, sd: f64) -> f64 {
    let Some(t) = critical(n, CONFIDENCE) else { return 0.0 };
    let shift = effect.abs() * (n as f64).sqrt() / sd;
    if !shift.is_finite() {
        return if effect == 0.0 { 0.0 } else { 1.0 };
    }
    let degrees = (n - 1) as f64;
    let scale = (0.5 * degrees).ln() * 0.5 * degrees - ln_gamma(0.5 * degrees) + 2f64.ln();
    let density = |s: f64| (scale + (degrees - 1.0) * s.ln() - 0.5 * degrees * s * s).exp();
    // Midpoints over all s that have any weight; the density of s has width 1 / sqrt(2 degrees) around 1.
    let (points, reach) = (2000, 8.0 / degrees.sqrt());
    let (from, to) = ((1.0 - reach).max(0.0), 1.0 + reach);
    let step = (to - from) / f64::from(points);
    let normal = Normal::standard();
    let share = |index: i32| {
        let s = from + (f64::from(index) + 0.5) * step;
        density(s) * normal.cdf(shift - t * s) * step
    };
    (0..points).map(share).sum::<f64>().clamp(0.0, 1.0)
}

/// The fewest seeds with which an effect is resolved with [`POWER`]; none beyond [`MOST_SEEDS`].
pub fn seeds_needed(effect: f64, sd: f64) -> Option<usize> {
    // Were the deviation known, the normal test would resolve it with this many; no test at the level does with fewer.
    let normal = Normal::standard();
    let known = (normal.inverse_cdf(0.5 + 0.5 * CONFIDENCE) + normal.inverse_cdf(POWER)) * sd / effect;
    let fewest = if known.is_nan() { return None } else { known.powi(2).ceil().max(2.0) };
    if fewest > MOST_SEEDS as f64 {
        return None;
    }
    (fewest as usize..=MOST_SEEDS).find(|n| power(*n, effect, sd) >= POWER)
}

/// The smallest effect that n seeds resolve with [`POWER`]; none for one seed.
pub fn detectable(n: usize, sd: f64) -> Option<f64> {
    critical(n, CONFIDENCE)?;
    let enough = |effect: f64| power(n, effect, 1.0) >= POWER;
    let (mut small, mut large) = (0.0, 1.0);
    while !enough(large) {
        (small, large) = (large, 2.0 * large);
    }
    while large - small > 1e-6 * large {
        let middle = 0.5 * (small + large);
        if enough(middle) {
            large = middle;
        } else {
            small = middle;
        }
    }
    Some(large * sd)
}

/// The t that bounds the interval of n values.
fn critical(n: usize, confidence: f64) -> Option<f64> {
    let degrees = n.checked_sub(1)? as f64;
    StudentsT::new(0.0, 1.0, degrees).ok().map(|t| t.inverse_cdf(0.5 + 0.5 * confidence))
}

//! The statistics of small numbers of seeds: means with t-intervals, differences paired by seed, and how many seeds an
//! effect takes.
//!
//! Student's t, which is exact for normal data at every n, is used throughout:
//! `mean +- t(0.975, n - 1) s / sqrt(n)` with `s` from `n - 1` degrees of freedom. One value gives no interval. A seed is
//! the unit: test pairs are never counted as repetitions.

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
    let interval = sd.zip(critical(n)).map(|(sd, t)| {
        let half = t * sd / (n as f64).sqrt();
        Interval { low: mean - half, high: mean + half }
    });
    Some(Summary { n, mean, sd, interval })
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
    let Some(t) = critical(n) else { return 0.0 };
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
    let enough = |n: usize| power(n, effect, sd) >= POWER;
    let (mut few, mut many) = (1, 2);
    while !enough(many) {
        (few, many) = (many, 2 * many);
        if few >= MOST_SEEDS {
            return None;
        }
    }
    while many - few > 1 {
        let middle = few.midpoint(many);
        if enough(middle) {
            many = middle;
        } else {
            few = middle;
        }
    }
    (many <= MOST_SEEDS).then_some(many)
}

/// The t that bounds the interval of n values.
fn critical(n: usize) -> Option<f64> {
    let degrees = n.checked_sub(1)? as f64;
    StudentsT::new(0.0, 1.0, degrees).ok().map(|t| t.inverse_cdf(0.5 + 0.5 * CONFIDENCE))
}

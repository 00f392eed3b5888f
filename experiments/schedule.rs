//! The learning rate of each update: a straight rise, then half a cosine, a straight line, or nothing.
//!
//! With w updates of warm-up out of n and update s counted from 0: `rate (s + 1) / w` while s < w; afterwards, with
//! t = (s - w) / (n - w), `rate (f + (1 - f) fall(t))` where f is the final share and fall is `(1 + cos(pi t)) / 2`
//! (Loshchilov and Hutter, arXiv:1608.03983), `1 - t`, or 1.

use std::f64::consts::PI;

use super::{Schedule, Train};

/// The rate of update `step`, counted from 0.
pub fn rate(train: &Train, step: u64) -> f64 {
    let steps = train.steps as f64;
    let warmup = (if train.warmup < 1.0 { train.warmup * steps } else { train.warmup }).round().min(steps);
    let step = step as f64;
    if step < warmup {
        return train.rate * (step + 1.0) / warmup;
    }
    let passed = ((step - warmup) / (steps - warmup).max(1.0)).min(1.0);
    let fall = match train.schedule {
        Schedule::Cosine => 0.5 * (1.0 + (PI * passed).cos()),
        Schedule::Linear => 1.0 - passed,
        Schedule::Constant => return train.rate,
    };
    train.rate * (train.final_rate + (1.0 - train.final_rate) * fall)
}

//! Dropout while there is noise to draw from. Every place of a model has noise of its own: a part hands each of its
//! parts the noise [`within`] it, so that no two places drop the same elements.

use candle_core::Tensor;

use crate::kernels::{Dropout, random::Key};

/// The noise of the part number `part` of what has this noise.
pub fn within(noise: Option<Key>, part: u64) -> Option<Key> {
    noise.map(|key| key.fold(part))
}

/// Dropping with probability `p` at the place number `place`; without noise none.
pub fn drops(p: f64, noise: Option<Key>, place: u64) -> Option<Dropout> {
    within(noise, place).filter(|_| p > 0.0).map(|key| Dropout { p, key })
}

/// What the outcome of half a layer joins: `x + dropout(outcome)`.
#[derive(Clone, Copy)]
pub struct Residual<'a> {
    /// The residual path, of the shape of the outcome.
    pub x: &'a Tensor,
    /// What becomes of the outcome before.
    pub dropout: Option<Dropout>,
}

/// What is wrong with a probability of dropping, one sentence a fault.
pub fn dropout_faults(p: f64) -> Option<String> {
    (!(0.0..1.0).contains(&p)).then(|| format!("dropout {p} is not in [0, 1)"))
}

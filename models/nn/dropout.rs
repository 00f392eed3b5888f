//! Dropout while there is noise to draw from. Every place of a model has noise of its own: a part hands each of its
//! parts the noise [`within`] it, so that no two places drop the same elements.

use candle_core::{Result, Tensor};

use crate::kernels::{self, random::Key};

/// The noise of the part number `part` of what has this noise.
pub fn within(noise: Option<Key>, part: u64) -> Option<Key> {
    noise.map(|key| key.fold(part))
}

/// Drops elements of `x` with probability `p` at the place number `place`; without noise none.
///
/// # Errors
/// When `p` is not in [0, 1).
pub fn dropout(x: Tensor, p: f64, noise: Option<Key>, place: u64) -> Result<Tensor> {
    match within(noise, place) {
        Some(key) if p > 0.0 => kernels::dropout(&x, p, key),
        _ => Ok(x),
    }
}

/// What is wrong with a probability of dropping, one sentence a fault.
pub fn dropout_faults(p: f64) -> Option<String> {
    (!(0.0..1.0).contains(&p)).then(|| format!("dropout {p} is not in [0, 1)"))
}

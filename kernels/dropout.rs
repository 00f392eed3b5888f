//! Dropout whose mask is a function of a key.

use candle_core::{Result, Tensor};

use super::random::Key;

/// Zeroes each element with probability `p` and scales the rest by `1/(1-p)`; the mask depends on `key` alone.
pub fn dropout(x: &Tensor, p: f64, key: Key) -> Result<Tensor> {
    if !(0.0..1.0).contains(&p) {
        candle_core::bail!("dropout: probability {p} is not in [0, 1)");
    }
    if p == 0.0 {
        return Ok(x.clone());
    }
    let keep = (1.0 / (1.0 - p)) as f32;
    let mask: Vec<f32> =
        key.uniform(x.elem_count()).into_iter().map(|u| if f64::from(u) < p { 0.0 } else { keep }).collect();
    x * Tensor::from_vec(mask, x.shape(), x.device())?.to_dtype(x.dtype())?
}

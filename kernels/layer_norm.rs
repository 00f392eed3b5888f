//! Layer normalisation over the last dimension.

use candle_core::{D, Result, Tensor};

/// `(x - mean) / sqrt(var + eps) * gain + bias` over the last dimension; x (.., D), gain and bias (D).
pub fn layer_norm(x: &Tensor, gain: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred.broadcast_div(&(variance + eps)?.sqrt()?)?.broadcast_mul(gain)?.broadcast_add(bias)
}

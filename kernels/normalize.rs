//! Scaling vectors to unit length.

use candle_core::{D, Result, Tensor};

/// `x / max(|x|, eps)` over the last dimension.
pub fn l2_normalize(x: &Tensor, eps: f64) -> Result<Tensor> {
    let norm = (x.sqr()?.sum_keepdim(D::Minus1)? + eps * eps)?.sqrt()?;
    x.broadcast_div(&norm)
}

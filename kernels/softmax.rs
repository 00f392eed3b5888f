//! Softmax and its logarithm over the last dimension.

use candle_core::{D, Result, Tensor};

/// `exp(x) / sum exp(x)` over the last dimension.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    log_softmax(x)?.exp()
}

/// `x - log sum exp(x)` over the last dimension.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    let top = x.max_keepdim(D::Minus1)?.detach();
    let x = x.broadcast_sub(&top)?;
    x.broadcast_sub(&x.exp()?.sum_keepdim(D::Minus1)?.log()?)
}

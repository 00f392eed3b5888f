//! Multi-head scaled dot-product attention.

use candle_core::{D, DType, Result, Tensor};

/// Which keys a query may see.
#[derive(Clone, Debug)]
pub enum Mask {
    /// Every key.
    None,
    /// Keys up to the query's own position (the last query sees every key).
    Causal,
    /// (B, Tk): 1 = visible, 0 = hidden.
    Keys(Tensor),
    /// Both [`Mask::Causal`] and [`Mask::Keys`].
    CausalKeys(Tensor),
    /// (B or 1, Tq, Tk), added to the scores; minus infinity hides a key. Receives no gradient.
    Additive(Tensor),
}

/// Attention of `heads` heads: q (B,Tq,D), k and v (B,Tk,D), result (B,Tq,D); scores are divided by sqrt(D/heads).
///
/// A query that sees no key yields zeros and zero gradients.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize, mask: &Mask) -> Result<Tensor> {
    let (b, tq, d) = q.dims3()?;
    let (_, tk, _) = k.dims3()?;
    let hd = d / heads.max(1);
    let split = |x: &Tensor, t: usize| x.reshape((b, t, heads, hd))?.transpose(1, 2)?.contiguous();
    let (q, k, v) = (split(q, tq)?, split(k, tk)?, split(v, tk)?);
    let scores = (q.matmul(&k.t()?)? * (1.0 / (hd as f64).sqrt()))?;
    let causal = || -> Result<Tensor> {
        let ones: Vec<f32> =
            (0..tq * tk).map(|i| if i % tk + tq <= i / tk + tk { 1.0 } else { 0.0 }).collect();
        Tensor::from_vec(ones, (1, 1, tq, tk), q.device())
    };
    let keys = |m: &Tensor| m.to_dtype(DType::F32)?.reshape((b, 1, 1, tk));
    let visible = match mask {
        Mask::None => None,
        Mask::Causal => Some(causal()?),
        Mask::Keys(m) => Some(keys(m)?),
        Mask::CausalKeys(m) => Some(causal()?.broadcast_mul(&keys(m)?)?),
        Mask::Additive(m) => Some(m.unsqueeze(1)?.to_dtype(DType::F32)?.exp()?),
    };
    let top = scores.max_keepdim(D::Minus1)?.detach();
    let mut weights = scores.broadcast_sub(&top)?.exp()?;
    if let Some(visible) = visible {
        weights = weights.broadcast_mul(&visible)?;
    }
    let weights = weights.broadcast_div(&(weights.sum_keepdim(D::Minus1)? + 1e-30)?)?;
    weights.matmul(&v)?.transpose(1, 2)?.reshape((b, tq, d))
}

/// [`attention`] on one packed tensor (B,T,3D) = [q|k|v].
pub fn self_attention(qkv: &Tensor, heads: usize, mask: &Mask) -> Result<Tensor> {
    let width = qkv.dim(2)? / 3;
    let part = |i: usize| qkv.narrow(2, i * width, width);
    attention(&part(0)?, &part(1)?, &part(2)?, heads, mask)
}

/// [`attention`] of q (B,Tq,D) over a packed kv (B,Tk,2D) = [k|v].
pub fn cross_attention(q: &Tensor, kv: &Tensor, heads: usize, mask: &Mask) -> Result<Tensor> {
    let width = kv.dim(2)? / 2;
    attention(q, &kv.narrow(2, 0, width)?, &kv.narrow(2, width, width)?, heads, mask)
}

//! Softmax and its logarithm over the last dimension, shifted by the maximum so that nothing overflows.

use candle_core::{Result, Shape, Tensor, bail};

use super::operation::{Operand, Operation, Slot, apply1};
use super::real::Real;
use super::rows::{for_pieces, scratch};
use super::simd::{maximum, sum, sum_pairs, vectorised};

#[path = "cuda/softmax.rs"]
mod on_gpu;

/// `exp(x) / sum exp(x)` over the last dimension.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    apply(x, false)
}

/// `x - log sum exp(x)` over the last dimension.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    apply(x, true)
}

fn apply(x: &Tensor, logarithm: bool) -> Result<Tensor> {
    match x.dims().last() {
        None | Some(0) => bail!("softmax: shape {:?} has nothing in its last dimension", x.shape()),
        Some(&width) => apply1(Softmax { width, logarithm }, &x.contiguous()?),
    }
}

struct Softmax {
    width: usize,
    logarithm: bool,
}

/// Replaces a row by its softmax and returns the logarithm of its sum of exponentials; a row of minus infinities
/// becomes zeros.
#[inline(always)]
pub(crate) fn softmax_row<T: Real>(row: &mut [T]) -> T {
    let top = maximum(row, |x| x);
    if top == T::from_f64(f64::NEG_INFINITY) {
        row.fill(T::zero());
        return top;
    }
    for x in row.iter_mut() {
        *x = (*x - top).exp();
    }
    let total = sum(row, |x| x);
    let scale = T::one() / total;
    for x in row.iter_mut() {
        *x *= scale;
    }
    top + total.ln()
}

/// The largest element t of a row, and the sum of `exp(x - t)`.
#[inline(always)]
pub(crate) fn top_and_total<T: Real>(row: &[T]) -> (T, T) {
    let top = maximum(row, |x| x);
    (top, sum(row, |x| (x - top).exp()))
}

/// `log sum exp` of a row.
#[inline(always)]
pub(crate) fn log_sum_exp<T: Real>(row: &[T]) -> T {
    let (top, total) = top_and_total(row);
    top + total.ln()
}

impl Operation<1> for Softmax {
    fn name(&self) -> &'static str {
        if self.logarithm { "log-softmax" } else { "softmax" }
    }

    fn forward<T: Real>(&self, [x]: [Operand<'_, T>; 1]) -> Result<(Vec<T>, Shape)> {
        let data = x.dense()?;
        let mut out = scratch(data.len());
        for_pieces(&mut out, self.width, |first, out| {
            let from = &data[first * self.width..first * self.width + out.len()];
            out.copy_from_slice(from);
            vectorised(
                #[inline(always)]
                || {
                    for row in out.chunks_exact_mut(self.width) {
                        if self.logarithm {
                            let total = log_sum_exp(row);
                            for x in row.iter_mut() {
                                *x -= total;
                            }
                        } else {
                            softmax_row(row);
                        }
                    }
                },
            );
        });
        Ok((out, x.layout.shape().clone()))
    }

    fn backward<T: Real>(
        &self,
        _: [Operand<'_, T>; 1],
        output: &[T],
        grad: &[T],
        [dx]: [Option<Slot<'_, T>>; 1],
    ) -> Result<()> {
        let (width, Some(dx)) = (self.width, dx) else { return Ok(()) };
        let adds = dx.adds();
        for_pieces(dx.data, width, |first, dx| {
            let rows =
                output[first * width..].chunks_exact(width).zip(grad[first * width..].chunks_exact(width));
            vectorised(
                #[inline(always)]
                || {
                    for ((y, g), dx) in rows.zip(dx.chunks_exact_mut(width)) {
                        let along =
                            if self.logarithm { sum(g, |g| g) } else { sum_pairs(g, y, |g, y| g * y) };
                        for ((dx, &g), &y) in dx.iter_mut().zip(g).zip(y) {
                            let slope = if self.logarithm { g - y.exp() * along } else { y * (g - along) };
                            *dx = if adds { *dx + slope } else { slope };
                        }
                    }
                },
            );
        });
        Ok(())
    }
}

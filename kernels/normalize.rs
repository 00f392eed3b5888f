//! Scaling vectors to unit length.

use candle_core::{Result, Shape, Tensor, bail};

use super::operation::{Operand, Operation, Slot, apply1};
use super::real::Real;
use super::rows::{for_pieces, scratch};
use super::simd::{maximum, sum, sum_pairs, vectorised};

#[path = "cuda/normalize.rs"]
mod on_gpu;

/// `x / max(|x|, eps)` over the last dimension; eps must be positive, so that a zero vector stays zero.
pub fn l2_normalize(x: &Tensor, eps: f64) -> Result<Tensor> {
    if eps.is_nan() || eps <= 0.0 {
        bail!("l2_normalize: eps {eps} is not positive");
    }
    match x.dims().last() {
        None | Some(0) => bail!("l2_normalize: shape {:?} has nothing in its last dimension", x.shape()),
        Some(&width) => apply1(Normalize { width, eps }, &x.contiguous()?),
    }
}

struct Normalize {
    width: usize,
    eps: f64,
}

/// The Euclidean length, scaled by the largest element so that squares neither overflow nor vanish.
#[inline(always)]
fn length<T: Real>(row: &[T]) -> T {
    let top = maximum(row, |x| x.most(-x));
    if top == T::zero() {
        return top;
    }
    top * sum(row, |x| (x / top) * (x / top)).sqrt()
}

impl Operation<1> for Normalize {
    fn name(&self) -> &'static str {
        "l2-normalize"
    }

    fn forward<T: Real>(&self, [x]: [Operand<'_, T>; 1]) -> Result<(Vec<T>, Shape)> {
        let (data, width, eps) = (x.dense()?, self.width, T::from_f64(self.eps));
        let mut out = scratch(data.len());
        for_pieces(&mut out, width, |first, out| {
            vectorised(
                #[inline(always)]
                || {
                    for (x, y) in data[first * width..].chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                        let size = length(x).most(eps);
                        for (y, &x) in y.iter_mut().zip(x) {
                            *y = x / size;
                        }
                    }
                },
            );
        });
        Ok((out, x.layout.shape().clone()))
    }

    fn backward<T: Real>(
        &self,
        [x]: [Operand<'_, T>; 1],
        output: &[T],
        grad: &[T],
        [dx]: [Option<Slot<'_, T>>; 1],
    ) -> Result<()> {
        let (x, width, eps) = (x.dense()?, self.width, T::from_f64(self.eps));
        let Some(dx) = dx else { return Ok(()) };
        let adds = dx.adds();
        for_pieces(dx.data, width, |first, dx| {
            let at = first * width;
            let rows = x[at..].chunks_exact(width).zip(output[at..].chunks_exact(width));
            let rows = rows.zip(grad[at..].chunks_exact(width)).zip(dx.chunks_exact_mut(width));
            vectorised(
                #[inline(always)]
                || {
                    for (((x, y), g), dx) in rows {
                        let size = length(x);
                        // Below eps the divisor is a constant.
                        let along = if size > eps { sum_pairs(g, y, |g, y| g * y) } else { T::zero() };
                        let size = size.most(eps);
                        for ((dx, &g), &y) in dx.iter_mut().zip(g).zip(y) {
                            let slope = (g - y * along) / size;
                            *dx = if adds { *dx + slope } else { slope };
                        }
                    }
                },
            );
        });
        Ok(())
    }
}

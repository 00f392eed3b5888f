//! Layer normalisation over the last dimension: Ba, Kiros and Hinton, arXiv:1607.06450.
//!
//! `y = (x - mean) / sqrt(var + eps) * gain + bias`. The variance is taken about the mean in a second pass over the
//! row, which stays accurate when the mean is large; the backward pass takes both again rather than keeping them.

use candle_core::{Result, Shape, Tensor, bail};

use super::operation::{Operand, Operation, apply3};
use super::real::Real;
use super::rows::{for_pieces, sum_pieces};
use super::simd::{sum, sum_pairs, vectorised};

/// Normalises over the last dimension: x (.., D), gain and bias (D), result like x.
pub fn layer_norm(x: &Tensor, gain: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let width = x.dims().last().copied().unwrap_or(0);
    if width == 0 || gain.dims() != [width] || bias.dims() != [width] {
        bail!("layer_norm: x {:?}, gain {:?}, bias {:?}", x.shape(), gain.shape(), bias.shape());
    }
    apply3(LayerNorm { eps }, &x.contiguous()?, &gain.contiguous()?, &bias.contiguous()?)
}

struct LayerNorm {
    eps: f64,
}

/// The mean of a row and the reciprocal of its standard deviation.
#[inline(always)]
fn moments<T: Real>(row: &[T], eps: T) -> (T, T) {
    let count = T::from_f64(row.len() as f64);
    let mean = sum(row, |x| x) / count;
    let variance = sum(row, |x| (x - mean) * (x - mean)) / count;
    (mean, T::one() / (variance + eps).sqrt())
}

impl Operation<3> for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn forward<T: Real>(&self, [x, gain, bias]: [Operand<'_, T>; 3]) -> Result<(Vec<T>, Shape)> {
        let (data, gain, bias) = (x.dense()?, gain.dense()?, bias.dense()?);
        let (width, eps) = (gain.len(), T::from_f64(self.eps));
        let mut out = vec![T::zero(); data.len()];
        for_pieces(&mut out, width, |first, out| {
            vectorised(
                #[inline(always)]
                || {
                    for (x, y) in data[first * width..].chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                        let (mean, scale) = moments(x, eps);
                        for (((y, &x), &gain), &bias) in y.iter_mut().zip(x).zip(gain).zip(bias) {
                            *y = (x - mean) * scale * gain + bias;
                        }
                    }
                },
            );
        });
        Ok((out, x.layout.shape().clone()))
    }

    fn backward<T: Real>(
        &self,
        [want_x, want_gain, want_bias]: [bool; 3],
        [x, gain, _]: [Operand<'_, T>; 3],
        _: &[T],
        grad: &[T],
    ) -> Result<[Option<Vec<T>>; 3]> {
        let (x, gain) = (x.dense()?, gain.dense()?);
        let (width, eps) = (gain.len(), T::from_f64(self.eps));
        let dx = want_x.then(|| {
            let mut dx = vec![T::zero(); x.len()];
            for_pieces(&mut dx, width, |first, dx| {
                let rows =
                    x[first * width..].chunks_exact(width).zip(grad[first * width..].chunks_exact(width));
                vectorised(
                    #[inline(always)]
                    || {
                        for ((x, g), dx) in rows.zip(dx.chunks_exact_mut(width)) {
                            row_gradient(x, g, gain, eps, dx);
                        }
                    },
                );
            });
            dx
        });
        if !want_gain && !want_bias {
            return Ok([dx, None, None]);
        }
        let mut sums = sum_pieces(x.len() / width, width, 2 * width, |first, end, sums| {
            let (dgain, dbias) = sums.split_at_mut(width);
            let range = first * width..end * width;
            let rows = x[range.clone()].chunks_exact(width).zip(grad[range].chunks_exact(width));
            vectorised(
                #[inline(always)]
                || {
                    for (x, g) in rows {
                        let (mean, scale) = moments(x, eps);
                        for (((dgain, dbias), &x), &g) in dgain.iter_mut().zip(dbias.iter_mut()).zip(x).zip(g)
                        {
                            *dgain += g * ((x - mean) * scale);
                            *dbias += g;
                        }
                    }
                },
            );
        });
        let dbias = sums.split_off(width);
        Ok([dx, want_gain.then_some(sums), want_bias.then_some(dbias)])
    }
}

/// `dx = scale (a - mean(a) - n mean(a n))` with a = grad gain and n the normalised row.
#[inline(always)]
fn row_gradient<T: Real>(x: &[T], grad: &[T], gain: &[T], eps: T, dx: &mut [T]) {
    let count = T::from_f64(x.len() as f64);
    let (mean, scale) = moments(x, eps);
    for ((dx, &grad), &gain) in dx.iter_mut().zip(grad).zip(gain) {
        *dx = grad * gain;
    }
    let average = sum(dx, |a| a) / count;
    let along = sum_pairs(dx, x, |a, x| a * ((x - mean) * scale)) / count;
    for (dx, &x) in dx.iter_mut().zip(x) {
        *dx = scale * (*dx - average - (x - mean) * scale * along);
    }
}

//! Layer normalisation over the last dimension: Ba, Kiros and Hinton, arXiv:1607.06450.
//!
//! `y = (x - mean) / sqrt(var + eps) * gain + bias`. The variance is taken about the mean in a second pass over the
//! row, which stays accurate when the mean is large; the backward pass takes both again rather than keeping them, and
//! reads and writes every row once.

use candle_core::{Result, Shape, Tensor, bail};

use super::operation::{Operand, Operation, Slot, apply3};
use super::product::Write;
use super::real::Real;
use super::rows::{for_pieces, scratch, sum_over, sum_pieces};
use super::simd::{sum, sum_pairs, sum_triples, vectorised};

#[path = "cuda/layer_norm.rs"]
mod on_gpu;

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
        let mut out = scratch(data.len());
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
        [x, gain, _]: [Operand<'_, T>; 3],
        _: &[T],
        grad: &[T],
        [dx, dgain, dbias]: [Option<Slot<'_, T>>; 3],
    ) -> Result<()> {
        let (x, gain) = (x.dense()?, gain.dense()?);
        let (width, eps) = (gain.len(), T::from_f64(self.eps));
        let both = |first: usize, end: usize| {
            let range = first * width..end * width;
            x[range.clone()].chunks_exact(width).zip(grad[range].chunks_exact(width))
        };
        let sums = match dx {
            Some(dx) => {
                let write = dx.write;
                sum_over(dx.data, width, 2 * width, |first, dx, sums| {
                    let (dgain, dbias) = sums.split_at_mut(width);
                    vectorised(
                        #[inline(always)]
                        || {
                            let rows = both(first, first + dx.len() / width).zip(dx.chunks_exact_mut(width));
                            for ((x, g), dx) in rows {
                                let (mean, scale) = moments(x, eps);
                                row_gradient(x, g, gain, (mean, scale), dx, write);
                                add_row(x, g, (mean, scale), dgain, dbias);
                            }
                        },
                    );
                })
            }
            None => sum_pieces(x.len() / width, width, 2 * width, |first, end, sums| {
                let (dgain, dbias) = sums.split_at_mut(width);
                vectorised(
                    #[inline(always)]
                    || {
                        for (x, g) in both(first, end) {
                            add_row(x, g, moments(x, eps), dgain, dbias);
                        }
                    },
                );
            }),
        };
        let (of_gain, of_bias) = sums.split_at(width);
        if let Some(dgain) = dgain {
            dgain.put(of_gain);
        }
        if let Some(dbias) = dbias {
            dbias.put(of_bias);
        }
        Ok(())
    }
}

/// Adds what one row contributes to the gradients of gain and bias.
#[inline(always)]
fn add_row<T: Real>(x: &[T], grad: &[T], (mean, scale): (T, T), dgain: &mut [T], dbias: &mut [T]) {
    for (((dgain, dbias), &x), &g) in dgain.iter_mut().zip(dbias.iter_mut()).zip(x).zip(grad) {
        *dgain += g * ((x - mean) * scale);
        *dbias += g;
    }
}

/// `dx = scale (a - mean(a) - n mean(a n))` with a = grad gain and n the normalised row.
#[inline(always)]
fn row_gradient<T: Real>(x: &[T], grad: &[T], gain: &[T], (mean, scale): (T, T), dx: &mut [T], write: Write) {
    let count = T::from_f64(x.len() as f64);
    let average = sum_pairs(grad, gain, |g, gain| g * gain) / count;
    let along = sum_triples([x, grad, gain], |x, g, gain| g * gain * ((x - mean) * scale)) / count;
    for (((dx, &x), &g), &gain) in dx.iter_mut().zip(x).zip(grad).zip(gain) {
        let slope = scale * (g * gain - average - (x - mean) * scale * along);
        *dx = if write == Write::Add { *dx + slope } else { slope };
    }
}

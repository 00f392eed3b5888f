//! Layer normalisation over the last dimension: Ba, Kiros and Hinton, arXiv:1607.06450.
//!
//! `y = (x - mean) / sqrt(var + eps) * gain + bias`. The variance is taken about the mean in a second pass over the
//! row, which stays accurate when the mean is large. Both are kept for the backward pass.

use std::sync::OnceLock;

use candle_core::{Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::operation::{Operand, Operation, Slot, apply3};
use super::product::Write;
use super::real::Real;
use super::rows::{rows_per_piece, scratch, sum_over, sum_pieces};
use super::simd::{sum, sum_triples_twice, vectorised};

#[path = "cuda/layer_norm.rs"]
mod on_gpu;

/// Normalises over the last dimension: x (.., D), gain and bias (D), result like x.
pub fn layer_norm(x: &Tensor, gain: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let width = x.dims().last().copied().unwrap_or(0);
    if width == 0 || gain.dims() != [width] || bias.dims() != [width] {
        bail!("layer_norm: x {:?}, gain {:?}, bias {:?}", x.shape(), gain.shape(), bias.shape());
    }
    apply3(
        LayerNorm { eps, moments: OnceLock::new() },
        &x.contiguous()?,
        &gain.contiguous()?,
        &bias.contiguous()?,
    )
}

struct LayerNorm {
    eps: f64,
    /// Of each row the mean and the reciprocal of the standard deviation, for the backward pass.
    moments: OnceLock<Vec<[f64; 2]>>,
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
        let (mut kept, rows) = (vec![[0.0; 2]; data.len() / width], rows_per_piece(width));
        let pieces = out.par_chunks_mut(rows * width).zip(kept.par_chunks_mut(rows)).enumerate();
        pieces.for_each(|(piece, (out, kept))| {
            let data = &data[piece * rows * width..];
            vectorised(
                #[inline(always)]
                || {
                    let rows = data.chunks_exact(width).zip(out.chunks_exact_mut(width));
                    for ((x, y), kept) in rows.zip(kept) {
                        let (mean, scale) = moments(x, eps);
                        *kept = [mean.to_f64(), scale.to_f64()];
                        for (((y, &x), &gain), &bias) in y.iter_mut().zip(x).zip(gain).zip(bias) {
                            *y = (x - mean) * scale * gain + bias;
                        }
                    }
                },
            );
        });
        self.moments.set(kept).ok();
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
        let width = gain.len();
        let Some(moments) = self.moments.get() else {
            bail!("the gradient of a layer norm that was not computed")
        };
        let rows = |first: usize, end: usize| {
            let range = first * width..end * width;
            let both = x[range.clone()].chunks_exact(width).zip(grad[range].chunks_exact(width));
            both.zip(moments[first..end].iter().map(|moments| moments.map(T::from_f64)))
        };
        let sums = match dx {
            Some(dx) => {
                let write = dx.write;
                sum_over(dx.data, width, 2 * width, |first, dx, sums| {
                    let (dgain, dbias) = sums.split_at_mut(width);
                    vectorised(
                        #[inline(always)]
                        || {
                            let rows = rows(first, first + dx.len() / width).zip(dx.chunks_exact_mut(width));
                            for (((x, g), moments), dx) in rows {
                                row_gradient(x, g, gain, moments, dx, write);
                                add_row(x, g, moments, dgain, dbias);
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
                        for ((x, g), moments) in rows(first, end) {
                            add_row(x, g, moments, dgain, dbias);
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
fn add_row<T: Real>(x: &[T], grad: &[T], [mean, scale]: [T; 2], dgain: &mut [T], dbias: &mut [T]) {
    for (((dgain, dbias), &x), &g) in dgain.iter_mut().zip(dbias.iter_mut()).zip(x).zip(grad) {
        *dgain += g * ((x - mean) * scale);
        *dbias += g;
    }
}

/// `dx = scale (a - mean(a) - n mean(a n))` with a = grad gain and n the normalised row.
#[inline(always)]
fn row_gradient<T: Real>(x: &[T], grad: &[T], gain: &[T], [mean, scale]: [T; 2], dx: &mut [T], write: Write) {
    let count = T::from_f64(x.len() as f64);
    let [average, along] = sum_triples_twice([x, grad, gain], |x, g, gain| {
        let a = g * gain;
        [a, a * ((x - mean) * scale)]
    });
    let (average, along) = (average / count, along / count);
    for (((dx, &x), &g), &gain) in dx.iter_mut().zip(x).zip(grad).zip(gain) {
        let slope = scale * (g * gain - average - (x - mean) * scale * along);
        *dx = if write == Write::Add { *dx + slope } else { slope };
    }
}

//! Cross-entropy from logits, with hard targets (label smoothing: Szegedy et al., arXiv:1512.00567) or soft ones.
//!
//! Per row `log sum exp(z) - sum_c t_c z_c` for a target distribution t; the gradient is `softmax(z) - t`, computed
//! from the logits in one sweep.

use candle_core::{Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::operation::{Operand, Operation, Slot, apply1, elements};
use super::real::Real;
use super::rows::{for_pieces, rows_per_piece};
use super::simd::{sum, sum_pairs, vectorised};
use super::softmax::{log_sum_exp, top_and_total};

#[path = "cuda/cross_entropy.rs"]
mod on_gpu;

/// A target that is not counted.
pub const IGNORE: u32 = u32::MAX;

/// Mean negative log-likelihood over rows whose target is not [`IGNORE`]: logits (R, C), targets u32 (R), result a scalar.
///
/// With `label_smoothing` s the target distribution is `1-s` on the target plus `s/C` everywhere. No counted row
/// gives 0 with zero gradients.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor, label_smoothing: f64) -> Result<Tensor> {
    let (rows, classes) = logits.dims2()?;
    if targets.dims() != [rows] {
        bail!("cross_entropy: logits {:?}, targets {:?}", logits.shape(), targets.shape());
    }
    if !(0.0..=1.0).contains(&label_smoothing) {
        bail!("cross_entropy: label smoothing {label_smoothing} is not in [0, 1]");
    }
    let targets = targets.to_vec1::<u32>()?;
    let counted = targets.iter().filter(|&&target| target != IGNORE);
    if let Some(target) = counted.clone().find(|&&target| target as usize >= classes) {
        bail!("cross_entropy: target {target} of {classes} classes");
    }
    let count = counted.count();
    apply1(Hard { targets, count, classes, smoothing: label_smoothing }, &logits.contiguous()?)
}

/// Mean over rows of `-sum_c targets_c log softmax(logits)_c`; both (R, C); the targets receive no gradient.
pub fn soft_cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let (_, classes) = logits.dims2()?;
    if targets.dims() != logits.dims() || classes == 0 {
        bail!("soft_cross_entropy: logits {:?}, targets {:?}", logits.shape(), targets.shape());
    }
    let targets = targets.detach().to_dtype(logits.dtype())?.contiguous()?;
    apply1(Soft { targets, classes }, &logits.contiguous()?)
}

/// The sum of `value(row)` over rows, in parallel, added in f64 in the order of the rows.
fn total(rows: usize, width: usize, value: impl Fn(usize) -> f64 + Send + Sync) -> f64 {
    let values: Vec<f64> = (0..rows).into_par_iter().with_min_len(rows_per_piece(width)).map(value).collect();
    values.iter().sum()
}

struct Hard {
    targets: Vec<u32>,
    count: usize,
    classes: usize,
    smoothing: f64,
}

impl Operation<1> for Hard {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn forward<T: Real>(&self, [logits]: [Operand<'_, T>; 1]) -> Result<(Vec<T>, Shape)> {
        let (logits, classes, s) = (logits.dense()?, self.classes, self.smoothing);
        let loss = total(self.targets.len(), classes, |row| {
            let target = self.targets[row];
            if target == IGNORE {
                return 0.0;
            }
            let row = &logits[row * classes..(row + 1) * classes];
            let (normaliser, mean) = vectorised(
                #[inline(always)]
                || {
                    let mean = if s > 0.0 { sum(row, |x| x).to_f64() / classes as f64 } else { 0.0 };
                    (log_sum_exp(row).to_f64(), mean)
                },
            );
            normaliser - (1.0 - s) * row[target as usize].to_f64() - s * mean
        });
        Ok((vec![T::from_f64(loss / self.count.max(1) as f64)], ().into()))
    }

    fn backward<T: Real>(
        &self,
        [logits]: [Operand<'_, T>; 1],
        _: &[T],
        grad: &[T],
        [dz]: [Option<Slot<'_, T>>; 1],
    ) -> Result<()> {
        let (logits, classes, s) = (logits.dense()?, self.classes, self.smoothing);
        let (Some(&grad), Some(dz)) = (grad.first(), dz) else { return Ok(()) };
        let adds = dz.adds();
        let scale = T::from_f64(grad.to_f64() / self.count.max(1) as f64);
        let (off, on) = (T::from_f64(s / classes.max(1) as f64), T::from_f64(1.0 - s));
        for_pieces(dz.data, classes, |first, dz| {
            for (index, row) in dz.chunks_exact_mut(classes.max(1)).enumerate() {
                let target = self.targets[first + index];
                if target == IGNORE {
                    if !adds {
                        row.fill(T::zero());
                    }
                    continue;
                }
                let z = &logits[(first + index) * classes..(first + index + 1) * classes];
                vectorised(
                    #[inline(always)]
                    || {
                        let (top, total) = top_and_total(z);
                        let share = T::one() / total;
                        for (dz, &z) in row.iter_mut().zip(z) {
                            let slope = scale * ((z - top).exp() * share - off);
                            *dz = if adds { *dz + slope } else { slope };
                        }
                        row[target as usize] -= scale * on;
                    },
                );
            }
        });
        Ok(())
    }
}

struct Soft {
    targets: Tensor,
    classes: usize,
}

impl Soft {
    fn with_targets<T: Real, R>(&self, work: impl FnOnce(&[T]) -> Result<R>) -> Result<R> {
        work(elements(&self.targets.storage_and_layout())?)
    }
}

impl Operation<1> for Soft {
    fn name(&self) -> &'static str {
        "soft-cross-entropy"
    }

    fn forward<T: Real>(&self, [logits]: [Operand<'_, T>; 1]) -> Result<(Vec<T>, Shape)> {
        let (logits, classes) = (logits.dense()?, self.classes);
        let rows = logits.len() / classes;
        self.with_targets::<T, _>(|targets| {
            let loss = total(rows, classes, |row| {
                let range = row * classes..(row + 1) * classes;
                let (z, t) = (&logits[range.clone()], &targets[range]);
                vectorised(
                    #[inline(always)]
                    || {
                        let normaliser = log_sum_exp(z);
                        sum_pairs(z, t, |z, t| if t == T::zero() { T::zero() } else { t * (normaliser - z) })
                            .to_f64()
                    },
                )
            });
            Ok((vec![T::from_f64(loss / rows.max(1) as f64)], ().into()))
        })
    }

    fn backward<T: Real>(
        &self,
        [logits]: [Operand<'_, T>; 1],
        _: &[T],
        grad: &[T],
        [dz]: [Option<Slot<'_, T>>; 1],
    ) -> Result<()> {
        let (logits, classes) = (logits.dense()?, self.classes);
        let rows = logits.len() / classes;
        let (Some(&grad), Some(dz)) = (grad.first(), dz) else { return Ok(()) };
        let adds = dz.adds();
        let scale = T::from_f64(grad.to_f64() / rows.max(1) as f64);
        self.with_targets::<T, _>(|targets| {
            for_pieces(dz.data, classes, |first, dz| {
                let range = first * classes..first * classes + dz.len();
                let rows =
                    logits[range.clone()].chunks_exact(classes).zip(targets[range].chunks_exact(classes));
                vectorised(
                    #[inline(always)]
                    || {
                        for (dz, (z, t)) in dz.chunks_exact_mut(classes).zip(rows) {
                            let (top, total) = top_and_total(z);
                            let share = sum(t, |t| t) / total;
                            for ((dz, &z), &t) in dz.iter_mut().zip(z).zip(t) {
                                let slope = scale * ((z - top).exp() * share - t);
                                *dz = if adds { *dz + slope } else { slope };
                            }
                        }
                    },
                );
            });
            Ok(())
        })
    }
}

//! Dropout (Srivastava et al., JMLR 2014) whose mask is a function of a key: it is computed again in the backward
//! pass, never stored.

use candle_core::{D, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::Spans;
use super::operation::{Operand, Operation, Slot, apply1};
use super::random::{Key, unit};
use super::real::Real;
use super::rows::{for_pieces, scratch};
use super::simd::vectorised;
use super::spans::cut;

#[path = "cuda/dropout.rs"]
mod on_gpu;

/// Zeroes each element with probability `p` and scales the rest by `1/(1-p)`; the mask depends on `key` alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The probability, in [0, 1).
    pub p: f64,
    /// Where the mask is drawn from.
    pub key: Key,
}

/// The elements of `x` that are left.
pub fn dropout(x: &Tensor, dropout: Dropout) -> Result<Tensor> {
    dropout.check()?;
    apply1(dropout, &x.contiguous()?)
}

/// The examples of `x` (.., D) that are left: stochastic depth (Huang et al., arXiv:1603.09382) drops whole examples, with
/// one draw for each. The spans tell which rows belong to which example.
pub fn drop_path(x: &Tensor, spans: &Spans, dropout: Dropout) -> Result<Tensor> {
    dropout.check()?;
    let width = x.dim(D::Minus1)?;
    if !spans.fill(x.elem_count() / width.max(1)) {
        bail!("drop_path: the examples of {:?} do not fill it", x.shape());
    }
    let mut scales = vec![1.0; spans.ranges().len()];
    dropout.mask(0, &mut scales);
    apply1(DropPath { scales, spans: spans.clone(), width }, &x.contiguous()?)
}

/// Words drawn at once.
const DRAWN: usize = 256;

impl Dropout {
    pub(crate) fn check(&self) -> Result<()> {
        if !(0.0..1.0).contains(&self.p) {
            bail!("dropout: probability {} is not in [0, 1)", self.p);
        }
        Ok(())
    }

    /// Drops elements of `x` in place, the first of which is number `first`, a multiple of four, of its tensor.
    pub(crate) fn mask<T: Real>(&self, first: usize, x: &mut [T]) {
        let (p, scale) = (self.p as f32, T::from_f64(1.0 / (1.0 - self.p)));
        let mut words = [0; DRAWN];
        for (index, x) in x.chunks_mut(DRAWN).enumerate() {
            let words = &mut words[..x.len().next_multiple_of(4)];
            self.key.fill(((first + index * DRAWN) / 4) as u64, words);
            vectorised(
                #[inline(always)]
                || {
                    for (x, &word) in x.iter_mut().zip(&*words) {
                        *x = if unit(word) < p { T::zero() } else { *x * scale };
                    }
                },
            );
        }
    }

    /// What is left of a whole tensor.
    pub(crate) fn kept<T: Real>(&self, from: &[T]) -> Vec<T> {
        let mut kept = scratch(from.len());
        // Pieces begin at multiples of four, where a block of the generator begins.
        for_pieces(&mut kept, 4, |block, kept| {
            kept.copy_from_slice(&from[4 * block..4 * block + kept.len()]);
            self.mask(4 * block, kept);
        });
        kept
    }
}

impl Operation<1> for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn forward<T: Real>(&self, [x]: [Operand<'_, T>; 1]) -> Result<(Vec<T>, Shape)> {
        Ok((self.kept(x.dense()?), x.layout.shape().clone()))
    }

    fn backward<T: Real>(
        &self,
        _: [Operand<'_, T>; 1],
        _: &[T],
        grad: &[T],
        [dx]: [Option<Slot<'_, T>>; 1],
    ) -> Result<()> {
        if let Some(dx) = dx {
            dx.put(&self.kept(grad));
        }
        Ok(())
    }
}

struct DropPath {
    /// What each example is multiplied by.
    scales: Vec<f64>,
    spans: Spans,
    width: usize,
}

impl DropPath {
    fn kept<T: Real>(&self, from: &[T]) -> Vec<T> {
        let mut kept = scratch(from.len());
        let ranges = self.spans.ranges();
        let pieces = cut(&mut kept, self.width, ranges.iter().cloned(), |_| ());
        pieces.into_par_iter().zip(ranges).zip(&self.scales).for_each(|((kept, range), &scale)| {
            let from = &from[range.start * self.width..range.end * self.width];
            // What is dropped may be infinite.
            match scale {
                0.0 => kept.fill(T::zero()),
                _ => kept.iter_mut().zip(from).for_each(|(kept, &x)| *kept = x * T::from_f64(scale)),
            }
        });
        kept
    }
}

impl Operation<1> for DropPath {
    fn name(&self) -> &'static str {
        "drop-path"
    }

    fn forward<T: Real>(&self, [x]: [Operand<'_, T>; 1]) -> Result<(Vec<T>, Shape)> {
        Ok((self.kept(x.dense()?), x.layout.shape().clone()))
    }

    fn backward<T: Real>(
        &self,
        _: [Operand<'_, T>; 1],
        _: &[T],
        grad: &[T],
        [dx]: [Option<Slot<'_, T>>; 1],
    ) -> Result<()> {
        if let Some(dx) = dx {
            dx.put(&self.kept(grad));
        }
        Ok(())
    }
}

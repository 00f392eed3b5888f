//! Dropout (Srivastava et al., JMLR 2014) whose mask is a function of a key: it is computed again in the backward
//! pass, never stored.

use candle_core::{Result, Shape, Tensor, bail};

use super::operation::{Operand, Operation, apply1};
use super::random::{Key, unit};
use super::real::Real;
use super::rows::for_pieces;

/// Zeroes each element with probability `p` and scales the rest by `1/(1-p)`; the mask depends on `key` alone.
pub fn dropout(x: &Tensor, p: f64, key: Key) -> Result<Tensor> {
    if !(0.0..1.0).contains(&p) {
        bail!("dropout: probability {p} is not in [0, 1)");
    }
    if p == 0.0 {
        return Ok(x.clone());
    }
    apply1(Dropout { p, key }, &x.contiguous()?)
}

struct Dropout {
    p: f64,
    key: Key,
}

impl Dropout {
    fn masked<T: Real>(&self, from: &[T]) -> Vec<T> {
        let scale = T::from_f64(1.0 / (1.0 - self.p));
        let p = self.p as f32;
        let mut out = vec![T::zero(); from.len()];
        // Pieces begin at multiples of four, where a block of the generator begins.
        for_pieces(&mut out, 4, |block, out| {
            let from = &from[4 * block..];
            for (index, (out, from)) in out.chunks_mut(4).zip(from.chunks(4)).enumerate() {
                let words = self.key.block((block + index) as u64);
                for ((out, &x), word) in out.iter_mut().zip(from).zip(words) {
                    *out = if unit(word) < p { T::zero() } else { x * scale };
                }
            }
        });
        out
    }
}

impl Operation<1> for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn forward<T: Real>(&self, [x]: [Operand<'_, T>; 1]) -> Result<(Vec<T>, Shape)> {
        Ok((self.masked(x.dense()?), x.layout.shape().clone()))
    }

    fn backward<T: Real>(
        &self,
        _: [bool; 1],
        _: [Operand<'_, T>; 1],
        _: &[T],
        grad: &[T],
    ) -> Result<[Option<Vec<T>>; 1]> {
        Ok([Some(self.masked(grad))])
    }
}

//! The forward pass of attention, a tile of queries of one head after another.

use candle_core::Result;

use super::Heads;
use crate::kernels::product::{Matrix, Threads, Write, multiply};
use crate::kernels::real::Real;
use crate::kernels::rows::scratch;
use crate::kernels::simd::vectorised;
use crate::kernels::softmax::softmax_row;

/// Scores held at once for one head; a tile is as many whole rows of queries as fit.
const TILE: usize = 1 << 16;

impl Heads {
    /// Rows of queries in one tile of an example, and the tiles' beginnings.
    pub(super) fn tiles((queries, keys): (usize, usize)) -> impl Iterator<Item = (usize, usize)> {
        let rows = (TILE / keys.max(1)).clamp(1, queries.max(1));
        (0..queries).step_by(rows).map(move |first| (first, rows.min(queries - first)))
    }

    /// Room for the scores of any tile.
    pub(super) fn tile<T: Real>(&self) -> Vec<T> {
        let sizes = (0..self.queries.ranges().len()).map(|example| self.size(example));
        let lengths = sizes.map(|size| Self::tiles(size).next().map_or(0, |(_, rows)| rows * size.1));
        scratch(lengths.max().unwrap_or(0))
    }

    /// `softmax(q k' / sqrt(d) + bias + mask)` for a tile of queries of one head, into `weights` (rows, Tk).
    pub(super) fn weigh<T: Real>(
        &self,
        example: usize,
        (first, rows): (usize, usize),
        [q, k]: [Matrix<'_, T>; 2],
        bias: &[T],
        weights: &mut [T],
    ) -> Result<()> {
        let (queries, keys) = self.size(example);
        multiply(weights, keys, self.scale(), q, k.t(), Write::Replace, Threads::One)?;
        let none = T::from_f64(f64::NEG_INFINITY);
        let start = self.queries.ranges()[example].start + first;
        vectorised(
            #[inline(always)]
            || {
                for (row, weights) in weights.chunks_exact_mut(keys.max(1)).take(rows).enumerate() {
                    if let Some(places) = &self.bias {
                        places.add(example, start + row, bias, weights);
                    }
                    self.visible.add(example, (first + row, queries), weights, none);
                    softmax_row(weights);
                }
            },
        );
        Ok(())
    }

    /// The bias of one head among the operands.
    pub(super) fn bias_of<'a, const N: usize, T>(&self, data: &[&'a [T]; N], head: usize) -> &'a [T] {
        self.bias.as_ref().map_or(&[], |places| &data[N - 1][head * places.size()..][..places.size()])
    }

    /// Drops what is dropped of the rows of weights, or of their gradients, of a tile of queries of one head. Each row has
    /// words of its own, whose number does not depend on the tiles.
    pub(super) fn drop<T: Real>(&self, example: usize, first: usize, head: usize, rows: &mut [T]) {
        let Some(dropout) = self.dropout else { return };
        let (keys, stride) = (self.size(example).1, self.keys.longest().next_multiple_of(4));
        let first = self.queries.ranges()[example].start + first;
        for (row, weights) in rows.chunks_exact_mut(keys.max(1)).enumerate() {
            dropout.mask(((first + row) * self.heads + head) * stride, weights);
        }
    }

    /// The outcome of one example, (Tq, D).
    pub(super) fn attend<const N: usize, T: Real>(
        &self,
        example: usize,
        data: [&[T]; N],
        out: &mut [T],
        weights: &mut [T],
    ) -> Result<()> {
        let (columns, [of_q, of_k, of_v]) = (self.columns(), self.places::<N>());
        let (queries, keys) = self.size(example);
        if keys == 0 {
            out.fill(T::zero());
            return Ok(());
        }
        for head in 0..self.heads {
            let k = of_k.head(&data, (0, keys), head, columns)?;
            let v = of_v.head(&data, (0, keys), head, columns)?;
            for (first, rows) in Self::tiles((queries, keys)) {
                let q = of_q.head(&data, (first, rows), head, columns)?;
                self.weigh(example, (first, rows), [q, k], self.bias_of(&data, head), weights)?;
                self.drop(example, first, head, &mut weights[..rows * keys]);
                let weights = Matrix::new(weights, rows, keys, keys)?;
                let out = &mut out[first * self.width + head * columns..];
                multiply(out, self.width, T::one(), weights, v, Write::Replace, Threads::One)?;
            }
        }
        Ok(())
    }
}

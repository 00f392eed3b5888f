//! The transpose of a matrix, written once. The `gemm` crate packs an operand whose columns lie apart one element after
//! another, at some 2 ns each; this takes a third of a nanosecond.

use rayon::prelude::*;

use super::real::Real;
use super::rows::scratch;
use super::simd::vectorised;

/// Columns that one task turns: a line of cache.
const STRIPE: usize = 16;
/// Rows and columns of a block that is turned in registers. Small, and one block below another, so that the processor sees
/// ahead which lines of a matrix that is not in cache come next: blocks of 16 take three times as long there.
const BLOCK: usize = 4;

/// The transpose (C, R) of a dense (R, C) matrix, computed in parallel.
pub(crate) fn transposed<T: Real>(data: &[T], rows: usize, columns: usize) -> Vec<T> {
    let mut out = scratch(rows * columns);
    let stripes = out.par_chunks_mut((STRIPE * rows).max(1)).enumerate();
    stripes.for_each(|(stripe, out)| {
        vectorised(
            #[inline(always)]
            || {
                for (block, out) in out.chunks_mut(BLOCK * rows).enumerate() {
                    turn(&data[stripe * STRIPE + block * BLOCK..], columns, out, rows);
                }
            },
        );
    });
    out
}

/// Writes up to a block of rows of the transpose, each `rows` long; `data` begins at the first of its columns in a matrix of
/// `columns`.
#[inline(always)]
fn turn<T: Real>(data: &[T], columns: usize, out: &mut [T], rows: usize) {
    let whole = if out.len() == BLOCK * rows { rows - rows % BLOCK } else { 0 };
    for first in (0..whole).step_by(BLOCK) {
        let block: [&[T]; BLOCK] = std::array::from_fn(|row| &data[(first + row) * columns..][..BLOCK]);
        for column in 0..BLOCK {
            let out = &mut out[column * rows + first..][..BLOCK];
            for row in 0..BLOCK {
                out[row] = block[row][column];
            }
        }
    }
    for (column, out) in out.chunks_exact_mut(rows).enumerate() {
        for row in whole..rows {
            out[row] = data[row * columns + column];
        }
    }
}

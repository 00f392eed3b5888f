//! Work on many rows in parallel, cut into pieces that do not depend on the number of threads.

use rayon::prelude::*;

use super::real::Real;
use super::simd::vectorised;

/// Elements in one piece of work: large enough to hide the scheduling, small enough for a second-level cache.
const PIECE: usize = 1 << 14;

/// How many rows of `width` elements make one piece.
pub(crate) fn rows_per_piece(width: usize) -> usize {
    (PIECE / width.max(1)).max(1)
}

/// Calls `piece(first_row, rows_of_output)` for consecutive pieces of `out`, in parallel.
pub(crate) fn for_pieces<T: Real>(
    out: &mut [T],
    width: usize,
    piece: impl Fn(usize, &mut [T]) + Send + Sync,
) {
    let rows = rows_per_piece(width);
    out.par_chunks_mut((rows * width).max(1)).enumerate().for_each(|(index, out)| piece(index * rows, out));
}

/// Sums the vectors that `piece(first_row, end_row)` adds up in parallel for consecutive pieces of `rows` rows, in order.
pub(crate) fn sum_pieces<T: Real>(
    rows: usize,
    width: usize,
    length: usize,
    piece: impl Fn(usize, usize, &mut [T]) + Send + Sync,
) -> Vec<T> {
    let step = rows_per_piece(width);
    let partial: Vec<Vec<T>> = (0..rows.div_ceil(step))
        .into_par_iter()
        .map(|index| {
            let mut sums = vec![T::zero(); length];
            piece(index * step, rows.min((index + 1) * step), &mut sums);
            sums
        })
        .collect();
    let mut total = vec![T::zero(); length];
    for sums in partial {
        total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
    }
    total
}

/// The sum of each column of a dense matrix of `width` columns.
pub(crate) fn column_sums<T: Real>(data: &[T], width: usize) -> Vec<T> {
    let rows = data.len() / width.max(1);
    sum_pieces(rows, width, width, |first, end, sums| {
        vectorised(
            #[inline(always)]
            || {
                for row in data[first * width..end * width].chunks_exact(width.max(1)) {
                    for (sum, &x) in sums.iter_mut().zip(row) {
                        *sum += x;
                    }
                }
            },
        );
    })
}

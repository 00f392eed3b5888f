//! Work on many rows in parallel, cut into pieces that do not depend on the number of threads.

use rayon::prelude::*;

use super::real::Real;
use super::simd::vectorised;

/// Elements in one piece of work: large enough to hide the scheduling, small enough for a second-level cache.
const PIECE: usize = 1 << 14;

/// `n` elements for a kernel to write over: what they hold is unspecified, NaN in a debug build, so that a test sees an
/// element that was read before it was written. Filling them costs a tenth of the matrix product that follows.
#[expect(clippy::uninit_vec, reason = "a buffer that is written once")]
pub(crate) fn scratch<T: Real>(n: usize) -> Vec<T> {
    let mut data = Vec::with_capacity(n);
    // SAFETY: the capacity is there, every bit pattern is a value of f32 and f64, the only types that are `Real`, and
    // callers write each element before they read it.
    unsafe {
        data.set_len(n);
    }
    if cfg!(debug_assertions) {
        data.fill(T::from_f64(f64::NAN));
    }
    data
}

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

/// As [`for_pieces`] of elements, with a second output of as many.
pub(crate) fn for_pieces_of_two<T: Real>(
    [one, two]: [&mut [T]; 2],
    piece: impl Fn(usize, &mut [T], &mut [T]) + Send + Sync,
) {
    let both = one.par_chunks_mut(PIECE).zip(two.par_chunks_mut(PIECE)).enumerate();
    both.for_each(|(index, (one, two))| piece(index * PIECE, one, two));
}

/// Sums the vectors that `piece(first_row, end_row)` adds up in parallel for consecutive pieces of `rows` rows, in order.
pub(crate) fn sum_pieces<T: Real>(
    rows: usize,
    width: usize,
    length: usize,
    piece: impl Fn(usize, usize, &mut [T]) + Send + Sync,
) -> Vec<T> {
    let step = rows_per_piece(width);
    let pieces = (0..rows.div_ceil(step)).into_par_iter();
    sum_in_order(
        length,
        pieces.map(|index| (index * step, rows.min((index + 1) * step))),
        |(first, end), sums| {
            piece(first, end, sums);
        },
    )
}

/// As [`for_pieces`], and sums the vectors that `piece(first_row, rows_of_output)` adds up on the way, in order.
pub(crate) fn sum_over<T: Real>(
    out: &mut [T],
    width: usize,
    length: usize,
    piece: impl Fn(usize, &mut [T], &mut [T]) + Send + Sync,
) -> Vec<T> {
    let rows = rows_per_piece(width);
    let pieces = out.par_chunks_mut((rows * width).max(1)).enumerate();
    sum_in_order(length, pieces, |(index, out), sums| piece(index * rows, out, sums))
}

fn sum_in_order<T: Real, P: Send>(
    length: usize,
    pieces: impl IndexedParallelIterator<Item = P>,
    add: impl Fn(P, &mut [T]) + Send + Sync,
) -> Vec<T> {
    let partial: Vec<Vec<T>> = pieces
        .map(|piece| {
            let mut sums = vec![T::zero(); length];
            add(piece, &mut sums);
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

//! Matrix products on strided data through the `gemm` crate.

use std::cell::Cell;

use candle_core::{Result, bail};
use gemm::Parallelism;

use super::real::Real;
use super::transpose::transposed;

/// A strided matrix of borrowed elements.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

fn inside(length: usize, rows: usize, columns: usize, row_stride: usize, column_stride: usize) -> bool {
    rows == 0 || columns == 0 || (rows - 1) * row_stride + (columns - 1) * column_stride < length
}

impl<'a, T: Real> Matrix<'a, T> {
    /// Rows of consecutive elements, `row_stride` apart.
    pub fn new(data: &'a [T], rows: usize, columns: usize, row_stride: usize) -> Result<Self> {
        if !inside(data.len(), rows, columns, row_stride, 1) {
            bail!(
                "a {rows} x {columns} matrix with row stride {row_stride} does not fit {} elements",
                data.len()
            );
        }
        Ok(Self { data, rows, columns, row_stride, column_stride: 1 })
    }

    /// The transpose, as a view.
    pub fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

thread_local! {
    static FLOPS: Cell<f64> = const { Cell::new(0.0) };
}

/// Floating-point operations of all matrix products that this thread has asked for: multiply-adds times two.
pub fn flops() -> f64 {
    FLOPS.get()
}

/// Counts the products m x k by k x n, `times` of them, that other threads will compute.
pub(crate) fn count(times: usize, [m, n, k]: [usize; 3]) {
    FLOPS.set(FLOPS.get() + 2.0 * times as f64 * m as f64 * n as f64 * k as f64);
}

/// What becomes of the destination's old elements.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Write {
    Replace,
    Add,
}

/// Whether a product may use the whole thread pool; inside parallel tasks it must not, and who starts them counts it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    One,
    Pool,
}

/// `out = scale a b` or `out += scale a b`, out with rows of consecutive elements `row_stride` apart.
pub(crate) fn multiply<T: Real>(
    out: &mut [T],
    row_stride: usize,
    scale: T,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    write: Write,
    threads: Threads,
) -> Result<()> {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    if b.rows != k || (m > 1 && row_stride < n) || !inside(out.len(), m, n, row_stride, 1) {
        bail!("cannot multiply {m} x {k} by {} x {n} into {} elements", b.rows, out.len());
    }
    let threads = match threads {
        Threads::One => Parallelism::None,
        Threads::Pool => {
            count(1, [m, n, k]);
            Parallelism::Rayon(0)
        }
    };
    // SAFETY: `inside` holds for the three matrices, so every address the product forms lies in its slice; `out` is
    // borrowed mutably and its rows do not overlap; f32 and f64, the only types that are `Real`, are supported.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            row_stride as isize,
            write == Write::Add,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            T::one(),
            scale,
            false,
            false,
            false,
            threads,
        );
    }
    Ok(())
}

/// `out = a w'` for dense rows w of a weight, by all threads: what a linear map computes.
pub(crate) fn multiply_by_rows<T: Real>(out: &mut [T], a: Matrix<'_, T>, w: &[T]) -> Result<()> {
    let (width, rows) = (a.columns, out.len() / a.rows.max(1));
    let (one, write, threads) = (T::one(), Write::Replace, Threads::Pool);
    if a.rows == 1 {
        return multiply(out, rows, one, a, Matrix::new(w, rows, width, width)?.t(), write, threads);
    }
    let turned = transposed(w, rows, width);
    multiply(out, rows, one, a, Matrix::new(&turned, width, rows, rows)?, write, threads)
}

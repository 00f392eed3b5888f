//! Table look-up and row selection, which are one operation, `y_i = x[rows_i]`, and its reverse.
//!
//! The gradient adds row i of dy to row rows_i of dx. The occurrences of each row are added in the order in which they
//! stand, different rows in parallel, so the sum does not depend on the number of threads; unused rows are not touched.

use candle_core::{D, DType, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::convert::alike;
use super::operation::{Operand, Operation, Slot, apply1};
use super::real::Real;
use super::rows::{for_pieces, scratch};

#[path = "cuda/embedding.rs"]
mod on_gpu;

const EMBEDDING: &str = "embedding";

/// Rows of `table` (V, D) named by `ids` (u32, any shape): result (.., D).
pub fn embedding(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let (_, width) = table.dims2()?;
    let mut dims = ids.dims().to_vec();
    dims.push(width);
    select(EMBEDDING, table, ids, dims)
}

/// Selects rows along the first dimension: x (R, ..), rows u32 (M), result (M, ..).
pub fn gather_rows(x: &Tensor, rows: &Tensor) -> Result<Tensor> {
    let mut dims = x.dims().to_vec();
    match dims.first_mut() {
        Some(first) => *first = rows.dims1()?,
        None => bail!("gather_rows: a scalar has no rows"),
    }
    select("gather-rows", x, rows, dims)
}

/// Selects vectors wherever they stand: x (.., D) as rows of D in order, rows u32 (M), result (M, D).
pub fn gather_vectors(x: &Tensor, rows: &Tensor) -> Result<Tensor> {
    let width = x.dim(D::Minus1)?;
    select("gather-vectors", x, rows, vec![rows.dims1()?, width])
}

/// As [`gather_vectors`], from tensors (.., D) laid end to end.
pub fn gather_vectors_of(parts: &[&Tensor], rows: &Tensor) -> Result<Tensor> {
    let flat = |x: &Tensor| x.flatten_to(x.rank().saturating_sub(2));
    let parts = alike(parts)?.iter().map(flat).collect::<Result<Vec<_>>>()?;
    gather_vectors(&Tensor::cat(&parts, 0)?, rows)
}

/// The reverse of [`gather_vectors`]: row i of x (M, D) becomes row `rows_i` of a result (.., D) with the leading
/// dimensions `dims`, which is zero elsewhere. Rows u32 (M), each named once.
pub fn spread_vectors(x: &Tensor, rows: &Tensor, dims: &[usize]) -> Result<Tensor> {
    let (count, width) = x.dims2()?;
    let rows = rows.to_vec1::<u32>()?;
    let available: usize = dims.iter().product();
    let mut free = vec![true; available];
    let fits = rows.iter().all(|&row| free.get_mut(row as usize).is_some_and(std::mem::take));
    if !fits || rows.len() != count {
        bail!("spread-vectors: {count} vectors to {} places, each of {available} once", rows.len());
    }
    let dims = dims.iter().copied().chain([width]).collect();
    apply1(Spread { rows, width, dims }, &x.contiguous()?)
}

fn select(name: &'static str, x: &Tensor, rows: &Tensor, dims: Vec<usize>) -> Result<Tensor> {
    let width: usize = dims[rows.rank()..].iter().product();
    let available = x.elem_count().checked_div(width).unwrap_or_default();
    if rows.dtype() != DType::U32 {
        bail!("{name}: row numbers must be u32, got {:?}", rows.dtype());
    }
    let rows = rows.flatten_all()?.to_vec1::<u32>()?;
    if let Some(row) = rows.iter().find(|&&row| row as usize >= available) {
        bail!("{name}: row {row} of {available}");
    }
    apply1(Select { name, rows, width, dims }, &x.contiguous()?)
}

struct Select {
    name: &'static str,
    rows: Vec<u32>,
    width: usize,
    dims: Vec<usize>,
}

impl Operation<1> for Select {
    fn name(&self) -> &'static str {
        self.name
    }

    fn forward<T: Real>(&self, [x]: [Operand<'_, T>; 1]) -> Result<(Vec<T>, Shape)> {
        let (x, width) = (x.dense()?, self.width);
        let mut out = scratch(self.rows.len() * width);
        for_pieces(&mut out, width, |first, out| {
            for (y, &row) in out.chunks_exact_mut(width.max(1)).zip(&self.rows[first..]) {
                y.copy_from_slice(&x[row as usize * width..(row as usize + 1) * width]);
            }
        });
        Ok((out, self.dims.clone().into()))
    }

    fn backward<T: Real>(
        &self,
        _: [Operand<'_, T>; 1],
        _: &[T],
        grad: &[T],
        [dx]: [Option<Slot<'_, T>>; 1],
    ) -> Result<()> {
        let (width, Some(dx)) = (self.width, dx) else { return Ok(()) };
        if !dx.adds() {
            for_pieces(dx.data, 1, |_, dx| dx.fill(T::zero()));
        }
        add_rows(dx.data, width, &self.rows, grad);
        Ok(())
    }

    fn looked_up(&self, table: &Tensor) -> Option<&[u32]> {
        // A row has a number and a copy while rows are gathered, so many of them are no saving.
        let few = self.rows.len() <= table.elem_count() / self.width.max(1) / 2;
        (self.name == EMBEDDING && few).then_some(&self.rows)
    }
}

/// Adds each row of `grad` to the row of `sum` named by `rows`.
pub(super) fn add_rows<T: Real>(sum: &mut [T], width: usize, rows: &[u32], grad: &[T]) {
    if width == 0 {
        return;
    }
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&position| rows[position]);
    let mut used = Vec::new();
    let mut rest = sum;
    let mut passed = 0;
    for group in order.chunk_by(|&a, &b| rows[a] == rows[b]) {
        let row = rows[group[0]] as usize;
        let (_, from_row) = rest.split_at_mut((row - passed) * width);
        let (row_gradient, after) = from_row.split_at_mut(width);
        used.push((row_gradient, group));
        rest = after;
        passed = row + 1;
    }
    used.par_iter_mut().with_min_len(16).for_each(|(sum, group)| {
        for &position in *group {
            let row = &grad[position * width..(position + 1) * width];
            sum.iter_mut().zip(row).for_each(|(sum, &g)| *sum += g);
        }
    });
}

struct Spread {
    rows: Vec<u32>,
    width: usize,
    dims: Vec<usize>,
}

impl Operation<1> for Spread {
    fn name(&self) -> &'static str {
        "spread-vectors"
    }

    fn forward<T: Real>(&self, [x]: [Operand<'_, T>; 1]) -> Result<(Vec<T>, Shape)> {
        let (x, width) = (x.dense()?, self.width);
        let mut out = vec![T::zero(); self.dims.iter().product()];
        for (x, &row) in x.chunks_exact(width.max(1)).zip(&self.rows) {
            out[row as usize * width..(row as usize + 1) * width].copy_from_slice(x);
        }
        Ok((out, self.dims.clone().into()))
    }

    fn backward<T: Real>(
        &self,
        _: [Operand<'_, T>; 1],
        _: &[T],
        grad: &[T],
        [dx]: [Option<Slot<'_, T>>; 1],
    ) -> Result<()> {
        let (width, Some(dx)) = (self.width, dx) else { return Ok(()) };
        for (data, &row) in dx.data.chunks_exact_mut(width.max(1)).zip(&self.rows) {
            let grad = &grad[row as usize * width..(row as usize + 1) * width];
            Slot { data, write: dx.write }.put(grad);
        }
        Ok(())
    }
}

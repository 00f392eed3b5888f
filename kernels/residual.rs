//! Sums of tensors: the residual path of a layer with the bias and the dropout of what joins it, and tables added to
//! every example. The gradient passes through a sum unchanged, so that of the residual path costs nothing.

use candle_core::{Result, Shape, Tensor, bail};

use super::Dropout;
use super::operation::{Operand, Operation, Slot, apply2, apply3};
use super::product::Write;
use super::real::Real;
use super::rows::{column_sums, for_pieces, scratch};
use super::simd::vectorised;

#[path = "cuda/residual.rs"]
mod on_gpu;

/// `x + y` of equal shapes.
pub fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    residual(x, y, None, None)
}

/// `x + dropout(branch + bias)`: x and branch (.., D), bias (D).
pub fn residual(
    x: &Tensor,
    branch: &Tensor,
    bias: Option<&Tensor>,
    dropout: Option<Dropout>,
) -> Result<Tensor> {
    if x.dims() != branch.dims() {
        bail!("residual: x {:?}, branch {:?}", x.shape(), branch.shape());
    }
    dropout.iter().try_for_each(Dropout::check)?;
    let (operation, x, branch) = (Residual { dropout }, x.contiguous()?, branch.contiguous()?);
    match bias {
        None => apply2(operation, &x, &branch),
        Some(bias) if Some(bias.elem_count()) == x.dims().last().copied() => {
            apply3(operation, &x, &branch, &bias.contiguous()?)
        }
        Some(bias) => bail!("residual: x {:?}, bias {:?}", x.shape(), bias.shape()),
    }
}

/// Adds `table` to every example: x (B, ..), table (..), result like x.
pub fn add_table(x: &Tensor, table: &Tensor) -> Result<Tensor> {
    if x.dims().get(1..) != Some(table.dims()) || table.elem_count() == 0 {
        bail!("add_table: x {:?}, table {:?}", x.shape(), table.shape());
    }
    apply2(AddTable, &x.contiguous()?, &table.contiguous()?)
}

struct Residual {
    dropout: Option<Dropout>,
}

impl Residual {
    fn sum<T: Real>(
        &self,
        x: Operand<'_, T>,
        branch: Operand<'_, T>,
        bias: Option<Operand<'_, T>>,
    ) -> Result<(Vec<T>, Shape)> {
        let (from, branch) = (x.dense()?, branch.dense()?);
        let bias = bias.map(|bias| bias.dense()).transpose()?;
        let mut out = scratch(from.len());
        // Pieces begin at multiples of four, where a block of the generator begins.
        let width = bias.map_or(4, |bias| 4 * bias.len());
        for_pieces(&mut out, width, |first, out| {
            let range = first * width..first * width + out.len();
            let (x, branch) = (&from[range.clone()], &branch[range.clone()]);
            vectorised(
                #[inline(always)]
                || match bias {
                    None => {
                        for (out, &b) in out.iter_mut().zip(branch) {
                            *out = b;
                        }
                    }
                    Some(bias) => {
                        let rows = out.chunks_exact_mut(bias.len()).zip(branch.chunks_exact(bias.len()));
                        for (out, branch) in rows {
                            for ((out, &b), &bias) in out.iter_mut().zip(branch).zip(bias) {
                                *out = b + bias;
                            }
                        }
                    }
                },
            );
            if let Some(dropout) = self.dropout {
                dropout.mask(range.start, out);
            }
            vectorised(
                #[inline(always)]
                || {
                    for (out, &x) in out.iter_mut().zip(x) {
                        *out += x;
                    }
                },
            );
        });
        Ok((out, x.layout.shape().clone()))
    }

    fn gradients<T: Real>(
        &self,
        grad: &[T],
        dbranch: Option<Slot<'_, T>>,
        dbias: Option<Slot<'_, T>>,
    ) -> Result<()> {
        let masked;
        let grad = match self.dropout {
            None => grad,
            Some(dropout) => {
                masked = dropout.kept(grad);
                &masked
            }
        };
        if let Some(dbias) = dbias {
            let width = dbias.data.len();
            dbias.put(&column_sums(grad, width));
        }
        if let Some(dbranch) = dbranch {
            dbranch.put(grad);
        }
        Ok(())
    }
}

impl Operation<2> for Residual {
    fn name(&self) -> &'static str {
        "residual"
    }

    fn forward<T: Real>(&self, [x, branch]: [Operand<'_, T>; 2]) -> Result<(Vec<T>, Shape)> {
        self.sum(x, branch, None)
    }

    fn backward<T: Real>(
        &self,
        _: [Operand<'_, T>; 2],
        _: &[T],
        grad: &[T],
        [_, dbranch]: [Option<Slot<'_, T>>; 2],
    ) -> Result<()> {
        self.gradients(grad, dbranch, None)
    }

    fn passes(&self, input: usize) -> bool {
        input == 0 || self.dropout.is_none()
    }
}

impl Operation<3> for Residual {
    fn name(&self) -> &'static str {
        "residual"
    }

    fn forward<T: Real>(&self, [x, branch, bias]: [Operand<'_, T>; 3]) -> Result<(Vec<T>, Shape)> {
        self.sum(x, branch, Some(bias))
    }

    fn backward<T: Real>(
        &self,
        _: [Operand<'_, T>; 3],
        _: &[T],
        grad: &[T],
        [_, dbranch, dbias]: [Option<Slot<'_, T>>; 3],
    ) -> Result<()> {
        self.gradients(grad, dbranch, dbias)
    }

    fn passes(&self, input: usize) -> bool {
        input == 0 || (input == 1 && self.dropout.is_none())
    }
}

struct AddTable;

impl Operation<2> for AddTable {
    fn name(&self) -> &'static str {
        "add-table"
    }

    fn forward<T: Real>(&self, [x, table]: [Operand<'_, T>; 2]) -> Result<(Vec<T>, Shape)> {
        let (from, table) = (x.dense()?, table.dense()?);
        let mut out = scratch(from.len());
        for_pieces(&mut out, table.len(), |first, out| {
            let from = &from[first * table.len()..];
            vectorised(
                #[inline(always)]
                || {
                    let examples = out.chunks_exact_mut(table.len()).zip(from.chunks_exact(table.len()));
                    for (out, from) in examples {
                        for ((out, &x), &t) in out.iter_mut().zip(from).zip(table) {
                            *out = x + t;
                        }
                    }
                },
            );
        });
        Ok((out, x.layout.shape().clone()))
    }

    fn backward<T: Real>(
        &self,
        _: [Operand<'_, T>; 2],
        _: &[T],
        grad: &[T],
        [_, dtable]: [Option<Slot<'_, T>>; 2],
    ) -> Result<()> {
        let Some(Slot { data, write }) = dtable else { return Ok(()) };
        // A table is wide and the examples are few: each piece of the table is summed over all of them.
        let width = data.len();
        for_pieces(data, 1, |first, sums| {
            if write == Write::Replace {
                sums.fill(T::zero());
            }
            vectorised(
                #[inline(always)]
                || {
                    for example in grad.chunks_exact(width) {
                        for (sum, &g) in sums.iter_mut().zip(&example[first..]) {
                            *sum += g;
                        }
                    }
                },
            );
        });
        Ok(())
    }

    fn passes(&self, input: usize) -> bool {
        input == 0
    }
}

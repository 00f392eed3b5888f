//! Linear maps, optionally followed by an activation, with bias and activation applied while the result is in cache.
//!
//! `y = f(x W' + b)`. With dz = dy f'(z): dx = dz W, dW = dz' x, db = the column sums of dz. No matrix is transposed
//! in memory; the gradient of the weight arrives in the layout of the weight.

use std::sync::Mutex;

use candle_core::{CpuStorage, Result, Shape, Tensor, bail};

use super::Activation;
use super::operation::{Operand, Operation, Slot, apply2, apply3};
use super::product::{Matrix, Threads, Write, multiply};
use super::real::Real;
use super::rows::{column_sums, for_pieces, rows_per_piece, scratch};
use super::simd::vectorised;
use rayon::prelude::*;

/// `y = x W' + b`: x (.., I), weight (O, I), bias (O), result (.., O).
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    apply(x, weight, bias, None)
}

/// `activation(x W' + b)` with shapes as in [`linear`].
pub fn linear_activate(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor> {
    apply(x, weight, bias, Some(activation))
}

fn apply(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    activation: Option<Activation>,
) -> Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    if x.dims().last() != Some(&inputs) {
        bail!("linear: x {:?} does not end in the {inputs} inputs of weight {:?}", x.shape(), weight.shape());
    }
    if let Some(bias) = bias
        && bias.dims() != [outputs]
    {
        bail!("linear: bias {:?} for {outputs} outputs", bias.shape());
    }
    let tracked = x.track_op() || weight.track_op() || bias.is_some_and(Tensor::track_op);
    let operation = Linear { activation, keep: tracked && activation.is_some(), before: Mutex::new(None) };
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    match bias {
        Some(bias) => apply3(operation, &x, &weight, &bias.contiguous()?),
        None => apply2(operation, &x, &weight),
    }
}

struct Linear {
    activation: Option<Activation>,
    keep: bool,
    /// The values before the activation, which its derivative needs.
    before: Mutex<Option<CpuStorage>>,
}

impl Linear {
    fn run<T: Real>(
        &self,
        x: Operand<'_, T>,
        weight: Operand<'_, T>,
        bias: Option<Operand<'_, T>>,
    ) -> Result<(Vec<T>, Shape)> {
        let &[outputs, inputs] = weight.dims() else { bail!("linear: weight {:?}", weight.dims()) };
        let (x_data, weight) = (x.dense()?, weight.dense()?);
        let rows = x.layout.shape().elem_count() / inputs.max(1);
        let mut z = scratch(rows * outputs);
        let (x_matrix, weight) =
            (Matrix::new(x_data, rows, inputs, inputs)?, Matrix::new(weight, outputs, inputs, inputs)?);
        multiply(&mut z, outputs, T::one(), x_matrix, weight.t(), Write::Replace, Threads::Pool)?;
        let mut dims = x.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = outputs;
        }
        let bias = bias.map(|bias| bias.dense()).transpose()?;
        let y = self.finish(z, bias, outputs)?;
        Ok((y, dims.into()))
    }

    /// Adds the bias and applies the activation in one sweep.
    fn finish<T: Real>(&self, mut z: Vec<T>, bias: Option<&[T]>, outputs: usize) -> Result<Vec<T>> {
        let Some(activation) = self.activation else {
            if let Some(bias) = bias {
                for_pieces(&mut z, outputs, |_, piece| add_bias(piece, bias));
            }
            return Ok(z);
        };
        let mut y = scratch(z.len());
        let length = (rows_per_piece(outputs) * outputs).max(1);
        y.par_chunks_mut(length).zip(z.par_chunks_mut(length)).for_each(|(y, z)| {
            if let Some(bias) = bias {
                add_bias(z, bias);
            }
            activation.apply(z, y);
        });
        if self.keep {
            let mut before = self.before.lock().map_err(|_| poisoned())?;
            *before = Some(T::to_cpu_storage_owned(z));
        }
        Ok(y)
    }

    fn gradients<T: Real>(
        &self,
        x: Operand<'_, T>,
        weight: Operand<'_, T>,
        grad: &[T],
        [dx, dw, db]: [Option<Slot<'_, T>>; 3],
    ) -> Result<()> {
        let &[outputs, inputs] = weight.dims() else { bail!("linear: weight {:?}", weight.dims()) };
        let (x, weight) = (x.dense()?, weight.dense()?);
        let rows = x.len() / inputs.max(1);
        let through;
        let grad = match self.activation {
            None => grad,
            Some(activation) => {
                let before = self.before.lock().map_err(|_| poisoned())?;
                let Some(before) = before.as_ref() else { bail!("linear: the forward pass kept nothing") };
                let z = T::cpu_storage_as_slice(before)?;
                let mut dz = scratch(z.len());
                for_pieces(&mut dz, 1, |first, out| {
                    let range = first..first + out.len();
                    activation.differentiate(&z[range.clone()], &grad[range], out, false);
                });
                through = dz;
                &through
            }
        };
        let dz = Matrix::new(grad, rows, outputs, outputs)?;
        if let Some(dx) = dx {
            let weight = Matrix::new(weight, outputs, inputs, inputs)?;
            multiply(dx.data, inputs, T::one(), dz, weight, dx.write, Threads::Pool)?;
        }
        if let Some(dw) = dw {
            let x = Matrix::new(x, rows, inputs, inputs)?;
            multiply(dw.data, inputs, T::one(), dz.t(), x, dw.write, Threads::Pool)?;
        }
        if let Some(db) = db {
            db.put(&column_sums(grad, outputs));
        }
        Ok(())
    }
}

fn poisoned() -> candle_core::Error {
    candle_core::Error::Msg("linear: another thread failed in this layer".into())
}

fn add_bias<T: Real>(rows: &mut [T], bias: &[T]) {
    vectorised(
        #[inline(always)]
        || {
            for row in rows.chunks_exact_mut(bias.len().max(1)) {
                for (y, &b) in row.iter_mut().zip(bias) {
                    *y += b;
                }
            }
        },
    );
}

impl Operation<2> for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn forward<T: Real>(&self, [x, weight]: [Operand<'_, T>; 2]) -> Result<(Vec<T>, Shape)> {
        self.run(x, weight, None)
    }

    fn backward<T: Real>(
        &self,
        [x, weight]: [Operand<'_, T>; 2],
        _: &[T],
        grad: &[T],
        [dx, dw]: [Option<Slot<'_, T>>; 2],
    ) -> Result<()> {
        self.gradients(x, weight, grad, [dx, dw, None])
    }
}

impl Operation<3> for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn forward<T: Real>(&self, [x, weight, bias]: [Operand<'_, T>; 3]) -> Result<(Vec<T>, Shape)> {
        self.run(x, weight, Some(bias))
    }

    fn backward<T: Real>(
        &self,
        [x, weight, _]: [Operand<'_, T>; 3],
        _: &[T],
        grad: &[T],
        into: [Option<Slot<'_, T>>; 3],
    ) -> Result<()> {
        self.gradients(x, weight, grad, into)
    }
}

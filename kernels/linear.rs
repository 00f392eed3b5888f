//! Linear maps, optionally of an activation of their input, which is computed anew in the backward pass instead of kept.
//!
//! `y = f(x) W' + b`. With g = dy W: dx = g f'(x), dW = dy' f(x), db = the column sums of dy. The gradient of
//! the weight arrives in the layout of the weight.

use candle_core::{Result, Shape, Tensor, bail};

use super::Activation;
use super::activate::scale;
use super::operation::{Operand, Operation, Slot, apply2, apply3};
use super::product::{Matrix, Threads, Write, multiply, multiply_by_rows};
use super::real::Real;
use super::rows::{column_sums, for_pieces, for_pieces_of_two, scratch};
use super::simd::vectorised;

#[path = "cuda/linear.rs"]
mod on_gpu;

/// `y = x W' + b`: x (.., I), weight (O, I), bias (O), result (.., O).
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    apply(None, x, weight, bias)
}

/// `y = activation(x) W' + b` with shapes as in [`linear`].
pub fn linear_of(
    activation: Activation,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    apply(Some(activation), x, weight, bias)
}

fn apply(
    activation: Option<Activation>,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
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
    let (operation, x, weight) = (Linear { activation }, x.contiguous()?, weight.contiguous()?);
    match bias {
        Some(bias) => apply3(operation, &x, &weight, &bias.contiguous()?),
        None => apply2(operation, &x, &weight),
    }
}

struct Linear {
    activation: Option<Activation>,
}

impl Linear {
    fn run<T: Real>(
        &self,
        x: Operand<'_, T>,
        weight: Operand<'_, T>,
        bias: Option<Operand<'_, T>>,
    ) -> Result<(Vec<T>, Shape)> {
        let &[outputs, inputs] = weight.dims() else { bail!("linear: weight {:?}", weight.dims()) };
        let rows = x.layout.shape().elem_count() / inputs.max(1);
        let mut dims = x.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = outputs;
        }
        let active = match self.activation {
            Some(activation) => Some(activated(activation, x.dense()?)),
            None => None,
        };
        let x = Matrix::new(active.as_deref().map_or_else(|| x.dense(), Ok)?, rows, inputs, inputs)?;
        let mut y = scratch(rows * outputs);
        multiply_by_rows(&mut y, x, weight.dense()?)?;
        if let Some(bias) = bias {
            let bias = bias.dense()?;
            for_pieces(&mut y, outputs, |_, piece| add_bias(piece, bias));
        }
        Ok((y, dims.into()))
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
        let dy = Matrix::new(grad, rows, outputs, outputs)?;
        let (active, slopes) = match self.activation.filter(|_| dw.is_some()) {
            None => (None, None),
            Some(activation) if dx.is_none() => (Some(activated(activation, x)), None),
            Some(activation) => {
                let (active, slopes) = activated_with_slopes(activation, x);
                (Some(active), Some(slopes))
            }
        };
        if let Some(dw) = dw {
            let x = Matrix::new(active.as_deref().unwrap_or(x), rows, inputs, inputs)?;
            multiply(dw.data, inputs, T::one(), dy.t(), x, dw.write, Threads::Pool)?;
        }
        if let Some(dx) = dx {
            let weight = Matrix::new(weight, outputs, inputs, inputs)?;
            match self.activation {
                None => multiply(dx.data, inputs, T::one(), dy, weight, dx.write, Threads::Pool)?,
                Some(activation) => {
                    // The values of the activation are done with: their place is the next one's.
                    let mut grad = active.unwrap_or_else(|| scratch(x.len()));
                    multiply(&mut grad, inputs, T::one(), dy, weight, Write::Replace, Threads::Pool)?;
                    let adds = dx.adds();
                    for_pieces(dx.data, 1, |first, dx| {
                        let range = first..first + dx.len();
                        match &slopes {
                            Some(slopes) => scale(&grad[range.clone()], &slopes[range], dx, adds),
                            None => activation.differentiate(&x[range.clone()], &grad[range], dx, adds),
                        }
                    });
                }
            }
        }
        if let Some(db) = db {
            db.put(&column_sums(grad, outputs));
        }
        Ok(())
    }
}

fn activated<T: Real>(activation: Activation, x: &[T]) -> Vec<T> {
    let mut out = scratch(x.len());
    for_pieces(&mut out, 1, |first, out| activation.apply(&x[first..first + out.len()], out));
    out
}

/// Values and slopes.
fn activated_with_slopes<T: Real>(activation: Activation, x: &[T]) -> (Vec<T>, Vec<T>) {
    let (mut values, mut slopes) = (scratch(x.len()), scratch(x.len()));
    for_pieces_of_two([&mut values, &mut slopes], |first, values, slopes| {
        activation.apply_with_slopes(&x[first..first + values.len()], values, slopes);
    });
    (values, slopes)
}

pub(super) fn add_bias<T: Real>(rows: &mut [T], bias: &[T]) {
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

//! An operation as a step of a tape.

use std::rc::Rc;

use candle_core::op::BackpropOp;
use candle_core::{DType, Layout, Result, Storage, Tensor, bail};

use super::{Operation, backward, backward_on, compute};
use crate::kernels::cuda::{self, Machine};
use crate::kernels::product::Write;
use crate::kernels::real::Real;
use crate::kernels::rows::scratch;
use crate::kernels::tape::{self, Step, Sums};

/// A function of N tensors that a tape has recorded.
struct Recorded<const N: usize, O> {
    operation: O,
    inputs: [Tensor; N],
    output: Tensor,
}

impl<const N: usize, O: Operation<N>> Recorded<N, O> {
    fn typed<T: Real>(&self, grad: &Rc<Storage>, sums: &mut Sums) -> Result<()> {
        let Storage::Cpu(storage) = &**grad else {
            bail!("{}: no implementation for this device", self.operation.name())
        };
        let mut buffers = [const { None }; N];
        for (index, (buffer, input)) in buffers.iter_mut().zip(&self.inputs).enumerate() {
            if !input.track_op() {
                continue;
            }
            if self.operation.passes(index) {
                sums.share(input, Rc::clone(grad))?;
            } else if let Some(rows) = self.operation.looked_up(input).filter(|_| sums.takes_rows(input)) {
                sums.give_rows(input, rows, T::cpu_storage_as_slice(storage)?)?;
            } else {
                *buffer = Some(match sums.take::<T>(input)? {
                    Some(sum) => (sum, Write::Add),
                    None => (scratch(input.elem_count()), Write::Replace),
                });
            }
        }
        let inputs = self.inputs.each_ref();
        if buffers.iter().any(Option::is_some) {
            let grad = T::cpu_storage_as_slice(storage)?;
            backward(&self.operation, inputs, &self.output, grad, &mut buffers)?;
        }
        for (buffer, input) in buffers.into_iter().zip(inputs) {
            if let Some((data, _)) = buffer {
                sums.give(input, data)?;
            }
        }
        Ok(())
    }
}

impl<const N: usize, O: Operation<N>> Recorded<N, O> {
    fn on(&self, machine: &dyn Machine, grad: &Rc<Storage>, sums: &mut Sums) -> Result<()> {
        let mut buffers = [const { None }; N];
        for (index, (buffer, input)) in buffers.iter_mut().zip(&self.inputs).enumerate() {
            if !input.track_op() {
                continue;
            }
            if self.operation.passes(index) {
                sums.share(input, Rc::clone(grad))?;
            } else {
                *buffer = Some(match sums.remove(input)? {
                    Some(sum) => (machine.take(sum)?, true),
                    None => (machine.room(cuda::kept(input), input.elem_count())?, false),
                });
            }
        }
        let inputs = self.inputs.each_ref();
        if buffers.iter().any(Option::is_some) {
            let layout = Layout::contiguous(self.output.shape());
            let grad = cuda::Operand::new(machine, grad, &layout)?;
            backward_on(machine, &self.operation, inputs, &self.output, grad, &buffers)?;
        }
        for (buffer, input) in buffers.into_iter().zip(inputs) {
            if let Some((buffer, _)) = buffer {
                sums.share(input, Rc::new(machine.store(buffer)?))?;
            }
        }
        Ok(())
    }
}

impl<const N: usize, O: Operation<N>> Step for Recorded<N, O> {
    fn backward(self: Box<Self>, sums: &mut Sums) -> Result<()> {
        let Some(grad) = sums.remove(&self.output)? else { return Ok(()) };
        if let Some(machine) = cuda::machine_of(&grad)? {
            return self.on(&*machine, &grad, sums);
        }
        match self.output.dtype() {
            DType::F32 => self.typed::<f32>(&grad, sums),
            DType::F64 => self.typed::<f64>(&grad, sums),
            other => bail!("{}: expected f32 or f64, got {other:?}", self.operation.name()),
        }
    }
}

/// Computes the operation, and records it if there is a gradient to lead back; gives it back if there is and no tape
/// records.
pub(super) fn record<const N: usize, O: Operation<N>>(
    operation: O,
    inputs: [&Tensor; N],
) -> Result<std::result::Result<Tensor, O>> {
    let tracked = inputs.iter().any(|input| input.track_op());
    if tracked && !tape::records() {
        return Ok(Err(operation));
    }
    let (storage, shape) = {
        let guards = inputs.map(Tensor::storage_and_layout);
        compute(&operation, &guards)?
    };
    if !tracked {
        return Ok(Ok(Tensor::from_storage(storage, shape, BackpropOp::none(), false)));
    }
    // To candle the outcome is a variable: what candle makes of it, candle can lead a gradient back to.
    let output = Tensor::from_storage(storage, shape, BackpropOp::none(), true);
    let inputs = inputs.map(Tensor::clone);
    tape::push(&inputs, Recorded { operation, inputs: inputs.clone(), output: output.clone() });
    Ok(Ok(output))
}

//! Dropout on a GPU.

use candle_core::{Result, Shape};

use super::Dropout;
use crate::kernels::cuda::machine::{Address, Buffer, Machine};
use crate::kernels::cuda::sums::dropped;
use crate::kernels::cuda::{Body, Operand, Slot};

impl Body<1> for Dropout {
    fn forward(&self, on: &dyn Machine, [x]: [Operand<'_>; 1]) -> Result<(Buffer, Shape)> {
        let out = on.scratch(x.count())?;
        dropped(on, x.count(), x.at, Slot { at: out.at(), adds: false }, Some(*self))?;
        Ok((out, x.layout.shape().clone()))
    }

    fn backward(
        &self,
        on: &dyn Machine,
        [x]: [Operand<'_>; 1],
        _: Address,
        grad: Address,
        [dx]: [Option<Slot>; 1],
    ) -> Result<()> {
        dx.map_or(Ok(()), |dx| dropped(on, x.count(), grad, dx, Some(*self)))
    }
}

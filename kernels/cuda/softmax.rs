//! Softmax and its logarithm on a GPU.

use candle_core::{Result, Shape};

use super::Softmax;
use crate::kernels::cuda::machine::{Address, Arg, Buffer, Family, Machine, family};
use crate::kernels::cuda::{Body, Operand, Slot};

const FAMILY: Family = family!("rows");

impl Body<1> for Softmax {
    fn forward(&self, on: &dyn Machine, [x]: [Operand<'_>; 1]) -> Result<(Buffer, Shape)> {
        let out = on.scratch(x.count())?;
        let all = [Arg::size(self.width)?, Arg::flag(self.logarithm), Arg::At(x.at), Arg::At(out.at())];
        on.rows(&FAMILY, "softmax", x.count() / self.width, &all)?;
        Ok((out, x.layout.shape().clone()))
    }

    fn backward(
        &self,
        on: &dyn Machine,
        [x]: [Operand<'_>; 1],
        output: Address,
        grad: Address,
        [dx]: [Option<Slot>; 1],
    ) -> Result<()> {
        let Some(dx) = dx else { return Ok(()) };
        let [to, adds] = dx.arguments();
        let logarithm = Arg::flag(self.logarithm);
        let all = [Arg::size(self.width)?, logarithm, Arg::At(output), Arg::At(grad), to, adds];
        on.rows(&FAMILY, "softmax_backward", x.count() / self.width, &all)
    }
}

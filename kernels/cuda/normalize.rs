//! Scaling to unit length on a GPU.

use candle_core::{Result, Shape};

use super::Normalize;
use crate::kernels::cuda::machine::{Address, Arg, Buffer, Family, Machine, family};
use crate::kernels::cuda::{Body, Operand, Slot};

const FAMILY: Family = family!("rows");

impl Body<1> for Normalize {
    fn forward(&self, on: &dyn Machine, [x]: [Operand<'_>; 1]) -> Result<(Buffer, Shape)> {
        let out = on.scratch(x.count())?;
        let all = [Arg::size(self.width)?, Arg::Real(self.eps as f32), Arg::At(x.at), Arg::At(out.at())];
        on.rows(&FAMILY, "normalize", x.count() / self.width, &all)?;
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
        let pointers = [x.at, output, grad].map(Arg::At);
        let sizes = [Arg::size(self.width)?, Arg::Real(self.eps as f32)];
        let all: Vec<Arg> = sizes.into_iter().chain(pointers).chain([to, adds]).collect();
        on.rows(&FAMILY, "normalize_backward", x.count() / self.width, &all)
    }
}

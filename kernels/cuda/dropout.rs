//! Dropout and stochastic depth on a GPU.

use std::iter::repeat_n;

use candle_core::{Result, Shape};

use super::{DropPath, Dropout};
use crate::kernels::cuda::machine::{Address, Arg, Buffer, Family, Machine, family};
use crate::kernels::cuda::sums::dropped;
use crate::kernels::cuda::{Body, Operand, Slot};

const FAMILY: Family = family!("residual");

impl Body<1> for Dropout {
    fn forward(&self, on: &dyn Machine, [x]: [Operand<'_>; 1]) -> Result<(Buffer, Shape)> {
        let out = on.room(x.at.precision(), x.count())?;
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

impl DropPath {
    /// What is left of the `n` elements at `x`.
    fn launch(&self, on: &dyn Machine, n: usize, x: Address, into: Slot) -> Result<()> {
        let examples = self.spans.ranges().iter().zip(&self.scales);
        let factors = examples.flat_map(|(rows, &scale)| repeat_n((scale as f32).to_bits(), rows.len()));
        let factors = on.upload(&factors.collect::<Vec<_>>())?;
        let [y, adds] = into.arguments();
        let all = [Arg::Long(self.width as u64), Arg::At(factors.at()), Arg::At(x), y, adds];
        on.each(&FAMILY, "drop_rows", n, &all)
    }
}

impl Body<1> for DropPath {
    fn forward(&self, on: &dyn Machine, [x]: [Operand<'_>; 1]) -> Result<(Buffer, Shape)> {
        let out = on.room(x.at.precision(), x.count())?;
        self.launch(on, x.count(), x.at, Slot { at: out.at(), adds: false })?;
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
        dx.map_or(Ok(()), |dx| self.launch(on, x.count(), grad, dx))
    }
}

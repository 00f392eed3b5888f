//! Cross-entropy on a GPU.

use candle_core::{Result, Shape};

use super::{Hard, Soft};
use crate::kernels::cuda::machine::{Address, Arg, Buffer, Family, Machine, family};
use crate::kernels::cuda::{Body, Operand, Slot};

const FAMILY: Family = family!("cross_entropy");

/// The sum of the rows' losses over `count`, a scalar.
fn mean(on: &dyn Machine, rows: usize, count: usize, losses: &Buffer) -> Result<(Buffer, Shape)> {
    let out = on.scratch(1)?;
    let all = [Arg::size(rows)?, share(count), Arg::Long(losses.at()), Arg::Long(out.at())];
    on.launch(&FAMILY, "mean_loss", [1, 1, 1], 256, &all)?;
    Ok((out, ().into()))
}

/// What one of `count` rows weighs.
fn share(count: usize) -> Arg {
    Arg::Real(1.0 / count.max(1) as f32)
}

impl Body<1> for Hard {
    fn forward(&self, on: &dyn Machine, [logits]: [Operand<'_>; 1]) -> Result<(Buffer, Shape)> {
        let (rows, losses) = (self.targets.len(), on.scratch(self.targets.len())?);
        let targets = on.upload(&self.targets)?;
        let pointers = [targets.at(), logits.at, losses.at()].map(Arg::Long);
        let sizes = [Arg::size(self.classes)?, Arg::Real(self.smoothing as f32)];
        let all: Vec<Arg> = sizes.into_iter().chain(pointers).collect();
        on.rows(&FAMILY, "hard_loss", rows, &all)?;
        mean(on, rows, self.count, &losses)
    }

    fn backward(
        &self,
        on: &dyn Machine,
        [logits]: [Operand<'_>; 1],
        _: Address,
        grad: Address,
        [dz]: [Option<Slot>; 1],
    ) -> Result<()> {
        let Some(dz) = dz else { return Ok(()) };
        let targets = on.upload(&self.targets)?;
        let sizes = [Arg::size(self.classes)?, Arg::Real(self.smoothing as f32), share(self.count)];
        let pointers = [targets.at(), logits.at, grad].map(Arg::Long);
        let all: Vec<Arg> = sizes.into_iter().chain(pointers).chain(dz.arguments()).collect();
        on.rows(&FAMILY, "hard_backward", self.targets.len(), &all)
    }
}

impl Body<1> for Soft {
    fn forward(&self, on: &dyn Machine, [logits]: [Operand<'_>; 1]) -> Result<(Buffer, Shape)> {
        let (storage, layout) = self.targets.storage_and_layout();
        let targets = Operand::new(&storage, layout)?;
        let rows = logits.count() / self.classes;
        let losses = on.scratch(rows)?;
        let pointers = [targets.at, logits.at, losses.at()].map(Arg::Long);
        let all: Vec<Arg> = [Arg::size(self.classes)?].into_iter().chain(pointers).collect();
        on.rows(&FAMILY, "soft_loss", rows, &all)?;
        mean(on, rows, rows, &losses)
    }

    fn backward(
        &self,
        on: &dyn Machine,
        [logits]: [Operand<'_>; 1],
        _: Address,
        grad: Address,
        [dz]: [Option<Slot>; 1],
    ) -> Result<()> {
        let Some(dz) = dz else { return Ok(()) };
        let (storage, layout) = self.targets.storage_and_layout();
        let targets = Operand::new(&storage, layout)?;
        let rows = logits.count() / self.classes;
        let pointers = [targets.at, logits.at, grad].map(Arg::Long);
        let sizes = [Arg::size(self.classes)?, share(rows)];
        let all: Vec<Arg> = sizes.into_iter().chain(pointers).chain(dz.arguments()).collect();
        on.rows(&FAMILY, "soft_backward", rows, &all)
    }
}

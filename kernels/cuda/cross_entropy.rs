//! Cross-entropy on a GPU.

use candle_core::{Result, Shape};

use super::{Hard, Soft};
use crate::kernels::cuda::machine::{Address, Arg, Buffer, Family, Machine, family};
use crate::kernels::cuda::sums::{mean_loss, share};
use crate::kernels::cuda::{Body, Operand, Slot};

const FAMILY: Family = family!("cross_entropy");

impl Body<1> for Hard {
    fn forward(&self, on: &dyn Machine, [logits]: [Operand<'_>; 1]) -> Result<(Buffer, Shape)> {
        let (rows, losses) = (self.targets.len(), on.scratch(self.targets.len())?);
        let targets = on.upload(&self.targets)?;
        let pointers = [targets.at(), logits.at, losses.at()].map(Arg::At);
        let sizes = [Arg::size(self.classes)?, Arg::Real(self.smoothing as f32)];
        let all: Vec<Arg> = sizes.into_iter().chain(pointers).collect();
        on.rows(&FAMILY, "hard_loss", rows, &all)?;
        Ok((mean_loss(on, rows, self.count, &losses)?, ().into()))
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
        let pointers = [targets.at(), logits.at, grad].map(Arg::At);
        let all: Vec<Arg> = sizes.into_iter().chain(pointers).chain(dz.arguments()).collect();
        on.rows(&FAMILY, "hard_backward", self.targets.len(), &all)
    }
}

impl Body<1> for Soft {
    fn forward(&self, on: &dyn Machine, [logits]: [Operand<'_>; 1]) -> Result<(Buffer, Shape)> {
        let (storage, layout) = self.targets.storage_and_layout();
        let targets = Operand::new(on, &storage, layout)?;
        let rows = logits.count() / self.classes;
        let losses = on.scratch(rows)?;
        let pointers = [targets.at, logits.at, losses.at()].map(Arg::At);
        let all: Vec<Arg> = [Arg::size(self.classes)?].into_iter().chain(pointers).collect();
        on.rows(&FAMILY, "soft_loss", rows, &all)?;
        Ok((mean_loss(on, rows, rows, &losses)?, ().into()))
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
        let targets = Operand::new(on, &storage, layout)?;
        let rows = logits.count() / self.classes;
        let pointers = [targets.at, logits.at, grad].map(Arg::At);
        let sizes = [Arg::size(self.classes)?, share(rows)];
        let all: Vec<Arg> = sizes.into_iter().chain(pointers).chain(dz.arguments()).collect();
        on.rows(&FAMILY, "soft_backward", rows, &all)
    }
}

//! Images as rows of patches on a GPU.

use candle_core::{Result, Shape};

use super::Patchify;
use crate::kernels::Precision;
use crate::kernels::cuda::machine::{Address, Arg, Buffer, Family, Machine, family};
use crate::kernels::cuda::{Body, Operand, Slot};

const FAMILY: Family = family!("patchify");

impl Patchify {
    fn sizes(&self) -> Result<Vec<Arg>> {
        let sizes = [self.channels, self.height, self.width, self.patch, self.spare];
        sizes.into_iter().map(Arg::size).collect()
    }
}

impl Body<1> for Patchify {
    fn forward(&self, on: &dyn Machine, [pixels]: [Operand<'_>; 1]) -> Result<(Buffer, Shape)> {
        let batch = pixels.dims()[0];
        let out = on.cleared(Precision::F32, batch * self.tokens() * self.length())?;
        let mut all = self.sizes()?;
        all.extend([pixels.at, out.at()].map(Arg::At));
        on.each(&FAMILY, "patchify", pixels.count(), &all)?;
        Ok((out, (batch, self.tokens(), self.length()).into()))
    }

    fn backward(
        &self,
        on: &dyn Machine,
        [pixels]: [Operand<'_>; 1],
        _: Address,
        grad: Address,
        [dx]: [Option<Slot>; 1],
    ) -> Result<()> {
        let Some(dx) = dx else { return Ok(()) };
        let mut all = self.sizes()?;
        all.push(Arg::At(grad));
        all.extend(dx.arguments());
        on.each(&FAMILY, "patchify_backward", pixels.count(), &all)
    }
}

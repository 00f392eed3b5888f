//! Activations on a GPU.

use candle_core::{Result, Shape};

use super::{Activate, Activation};
use crate::kernels::cuda::machine::{Address, Arg, Buffer, Family, Machine, family};
use crate::kernels::cuda::{Body, Operand, Slot};

const FAMILY: Family = family!("linear");

impl Activation {
    fn kind(self) -> Arg {
        Arg::Int(match self {
            Self::Gelu => 0,
            Self::GeluTanh => 1,
            Self::QuickGelu => 2,
            Self::Relu => 3,
        })
    }

    /// The activations of the `n` elements at `x`.
    pub(crate) fn launch(self, on: &dyn Machine, n: usize, x: Address) -> Result<Buffer> {
        let out = on.room(x.precision(), n)?;
        on.each(&FAMILY, "activate", n, &[self.kind(), Arg::At(x), Arg::At(out.at())])?;
        Ok(out)
    }

    /// `grad activation'(x)` of `n` elements.
    pub(crate) fn launch_backward(
        self,
        on: &dyn Machine,
        n: usize,
        [x, grad]: [Address; 2],
        into: Slot,
    ) -> Result<()> {
        let [dx, adds] = into.arguments();
        on.each(&FAMILY, "activate_backward", n, &[self.kind(), Arg::At(x), Arg::At(grad), dx, adds])
    }
}

impl Body<1> for Activate {
    fn forward(&self, on: &dyn Machine, [x]: [Operand<'_>; 1]) -> Result<(Buffer, Shape)> {
        Ok((self.0.launch(on, x.count(), x.at)?, x.layout.shape().clone()))
    }

    fn backward(
        &self,
        on: &dyn Machine,
        [x]: [Operand<'_>; 1],
        _: Address,
        grad: Address,
        [dx]: [Option<Slot>; 1],
    ) -> Result<()> {
        dx.map_or(Ok(()), |dx| self.0.launch_backward(on, x.count(), [x.at, grad], dx))
    }
}

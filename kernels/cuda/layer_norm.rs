//! Layer normalisation on a GPU.

use candle_core::{Result, Shape};

use super::LayerNorm;
use crate::kernels::Precision;
use crate::kernels::cuda::machine::{Address, Arg, Buffer, Family, Machine, family};
use crate::kernels::cuda::sums::{column_total, parts};
use crate::kernels::cuda::{Body, Operand, Slot};

const FAMILY: Family = family!("layer_norm");

impl Body<3> for LayerNorm {
    fn forward(&self, on: &dyn Machine, [x, gain, bias]: [Operand<'_>; 3]) -> Result<(Buffer, Shape)> {
        let (width, out) = (gain.count(), on.room(Precision::kept(), x.count())?);
        let pointers = [x.at, gain.at, bias.at, out.at()].map(Arg::At);
        let all: Vec<Arg> =
            [Arg::size(width)?, Arg::Real(self.eps as f32)].into_iter().chain(pointers).collect();
        on.rows(&FAMILY, "layer_norm", x.count() / width, &all)?;
        Ok((out, x.layout.shape().clone()))
    }

    fn backward(
        &self,
        on: &dyn Machine,
        [x, gain, _]: [Operand<'_>; 3],
        _: Address,
        grad: Address,
        [dx, dgain, dbias]: [Option<Slot>; 3],
    ) -> Result<()> {
        let width = gain.count();
        let rows = x.count() / width;
        let stats = on.scratch(2 * rows)?;
        let [to, adds] = dx.unwrap_or(Slot { at: Address::NULL, adds: false }).arguments();
        let pointers = [x.at, gain.at, grad, stats.at()].map(Arg::At);
        let all: Vec<Arg> = [Arg::size(width)?, Arg::Real(self.eps as f32)]
            .into_iter()
            .chain(pointers)
            .chain([to, adds])
            .collect();
        on.rows(&FAMILY, "layer_norm_backward", rows, &all)?;
        if dgain.is_none() && dbias.is_none() {
            return Ok(());
        }
        let (count, step) = parts(rows);
        let partial = on.scratch(count * 2 * width)?;
        let sizes = [Arg::size(rows)?, Arg::size(width)?, Arg::size(step)?];
        let pointers = [x.at, grad, stats.at(), partial.at()].map(Arg::At);
        let all: Vec<Arg> = sizes.into_iter().chain(pointers).collect();
        on.launch(&FAMILY, "layer_norm_parts", [width.div_ceil(128), count, 1], 128, &all)?;
        for (slot, first) in [(dgain, 0), (dbias, width)] {
            if let Some(slot) = slot {
                column_total(on, (count, 2 * width), width, partial.at().after(first), slot)?;
            }
        }
        Ok(())
    }
}

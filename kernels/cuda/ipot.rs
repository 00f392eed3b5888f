//! Optimal transport on a GPU.

use candle_core::op::BackpropOp;
use candle_core::{Result, Tensor};

use super::Ipot;
use crate::kernels::Precision;
use crate::kernels::cuda::Operand;
use crate::kernels::cuda::machine::{Arg, Family, Machine, family};

const FAMILY: Family = family!("ipot");

/// Lists the places of what is visible of each example, and their number.
fn places(mask: &[bool], width: usize) -> (Vec<u32>, Vec<u32>) {
    let (mut places, mut counts) = (vec![0; mask.len()], Vec::new());
    for (places, mask) in places.chunks_mut(width.max(1)).zip(mask.chunks(width.max(1))) {
        let seen = mask.iter().enumerate().filter(|(_, seen)| **seen).map(|(at, _)| at as u32);
        counts.push(places.iter_mut().zip(seen).map(|(place, at)| *place = at).count() as u32);
    }
    (places, counts)
}

pub(super) fn plans(
    on: &dyn Machine,
    cost: Operand<'_>,
    [rows, columns]: &[Vec<bool>; 2],
    settings: Ipot,
) -> Result<Tensor> {
    let &[batch, m, n] = cost.dims() else { candle_core::bail!("ipot: costs {:?}", cost.dims()) };
    let ((rows, high), (columns, wide)) = (places(rows, m), places(columns, n));
    let counts: Vec<u32> = high.into_iter().zip(wide).flat_map(|(high, wide)| [high, wide]).collect();
    let words = [on.upload(&rows)?, on.upload(&columns)?, on.upload(&counts)?];
    let work = on.scratch(batch * (2 * m * n + n + 2 * m))?;
    let plan = on.cleared(Precision::F32, batch * m * n)?;
    let mut all = vec![Arg::size(m)?, Arg::size(n)?, Arg::Real(settings.beta as f32)];
    all.extend([Arg::size(settings.iterations)?, Arg::size(settings.k)?]);
    all.extend(words.iter().map(|words| Arg::At(words.at())));
    all.extend([cost.at, work.at(), plan.at()].map(Arg::At));
    on.rows(&FAMILY, "ipot", batch, &all)?;
    Ok(Tensor::from_storage(on.store(plan)?, (batch, m, n), BackpropOp::none(), false))
}

//! Rows selected and spread on a GPU.

use candle_core::{Result, Shape};

use super::{Select, Spread};
use crate::kernels::cuda::machine::{Address, Arg, Buffer, Family, Machine, family};
use crate::kernels::cuda::{Body, Operand, Slot};

const FAMILY: Family = family!("embedding");

/// `y_i = x[rows_i]`, over what is there or onto it.
fn gather(on: &dyn Machine, (rows, width): (&[u32], usize), x: Address, into: Slot) -> Result<()> {
    let words = on.upload(rows)?;
    let [y, adds] = into.arguments();
    let all = [Arg::size(width)?, Arg::At(words.at()), Arg::At(x), y, adds];
    on.each(&FAMILY, "gather", rows.len() * width, &all)
}

impl Body<1> for Select {
    fn forward(&self, on: &dyn Machine, [x]: [Operand<'_>; 1]) -> Result<(Buffer, Shape)> {
        let out = on.room(x.at.precision(), self.rows.len() * self.width)?;
        gather(on, (&self.rows, self.width), x.at, Slot { at: out.at(), adds: false })?;
        Ok((out, self.dims.clone().into()))
    }

    fn backward(
        &self,
        on: &dyn Machine,
        [x]: [Operand<'_>; 1],
        _: Address,
        grad: Address,
        [dx]: [Option<Slot>; 1],
    ) -> Result<()> {
        let Some(dx) = dx else { return Ok(()) };
        if !dx.adds {
            on.clear(dx.at, x.count())?;
        }
        let mut order: Vec<u32> = (0..self.rows.len() as u32).collect();
        order.sort_by_key(|&position| self.rows[position as usize]);
        let (mut targets, mut starts) = (Vec::new(), vec![0]);
        for group in order.chunk_by(|&a, &b| self.rows[a as usize] == self.rows[b as usize]) {
            targets.push(self.rows[group[0] as usize]);
            starts.push(starts[starts.len() - 1] + group.len() as u32);
        }
        let words = [on.upload(&targets)?, on.upload(&starts)?, on.upload(&order)?];
        let pointers = words.iter().map(|words| Arg::At(words.at())).chain([grad, dx.at].map(Arg::At));
        let all: Vec<Arg> = [Arg::size(self.width)?].into_iter().chain(pointers).collect();
        on.rows(&FAMILY, "gather_backward", targets.len(), &all)
    }
}

impl Body<1> for Spread {
    fn forward(&self, on: &dyn Machine, [x]: [Operand<'_>; 1]) -> Result<(Buffer, Shape)> {
        let out = on.cleared(x.at.precision(), self.dims.iter().product())?;
        let words = on.upload(&self.rows)?;
        let all = [Arg::size(self.width)?, Arg::At(words.at()), Arg::At(x.at), Arg::At(out.at())];
        on.each(&FAMILY, "scatter", x.count(), &all)?;
        Ok((out, self.dims.clone().into()))
    }

    fn backward(
        &self,
        on: &dyn Machine,
        _: [Operand<'_>; 1],
        _: Address,
        grad: Address,
        [dx]: [Option<Slot>; 1],
    ) -> Result<()> {
        dx.map_or(Ok(()), |dx| gather(on, (&self.rows, self.width), grad, dx))
    }
}

//! Sums of tensors on a GPU.

use candle_core::{Result, Shape};

use super::{AddTable, Residual};
use crate::kernels::cuda::body::dropout_arguments;
use crate::kernels::cuda::machine::{Address, Arg, Buffer, Family, Machine, family};
use crate::kernels::cuda::sums::{column_sums, column_total, dropped};
use crate::kernels::cuda::{Body, Operand, Slot};

const FAMILY: Family = family!("residual");

impl Residual {
    fn launch(
        &self,
        on: &dyn Machine,
        x: Operand<'_>,
        branch: Operand<'_>,
        bias: Option<Operand<'_>>,
    ) -> Result<(Buffer, Shape)> {
        let out = on.scratch(x.count())?;
        let (width, bias) = bias.map_or((1, Address::NULL), |bias| (bias.count(), bias.at));
        let pointers = [x.at, branch.at, bias, out.at()].map(Arg::At);
        let all: Vec<Arg> =
            [Arg::size(width)?].into_iter().chain(pointers).chain(dropout_arguments(self.dropout)).collect();
        on.each(&FAMILY, "residual", x.count(), &all)?;
        Ok((out, x.layout.shape().clone()))
    }

    fn launch_backward(
        &self,
        on: &dyn Machine,
        (n, grad): (usize, Address),
        dbranch: Option<Slot>,
        dbias: Option<(usize, Slot)>,
    ) -> Result<()> {
        if let Some(dbranch) = dbranch {
            dropped(on, n, grad, dbranch, self.dropout)?;
        }
        let Some((width, dbias)) = dbias else { return Ok(()) };
        if self.dropout.is_none() {
            return column_sums(on, (n / width.max(1), width), grad, dbias);
        }
        let masked = on.scratch(n)?;
        dropped(on, n, grad, Slot { at: masked.at(), adds: false }, self.dropout)?;
        column_sums(on, (n / width.max(1), width), masked.at(), dbias)
    }
}

impl Body<2> for Residual {
    fn forward(&self, on: &dyn Machine, [x, branch]: [Operand<'_>; 2]) -> Result<(Buffer, Shape)> {
        self.launch(on, x, branch, None)
    }

    fn backward(
        &self,
        on: &dyn Machine,
        [x, _]: [Operand<'_>; 2],
        _: Address,
        grad: Address,
        [_, dbranch]: [Option<Slot>; 2],
    ) -> Result<()> {
        self.launch_backward(on, (x.count(), grad), dbranch, None)
    }
}

impl Body<3> for Residual {
    fn forward(&self, on: &dyn Machine, [x, branch, bias]: [Operand<'_>; 3]) -> Result<(Buffer, Shape)> {
        self.launch(on, x, branch, Some(bias))
    }

    fn backward(
        &self,
        on: &dyn Machine,
        [x, _, bias]: [Operand<'_>; 3],
        _: Address,
        grad: Address,
        [_, dbranch, dbias]: [Option<Slot>; 3],
    ) -> Result<()> {
        self.launch_backward(on, (x.count(), grad), dbranch, dbias.map(|dbias| (bias.count(), dbias)))
    }
}

impl Body<2> for AddTable {
    fn forward(&self, on: &dyn Machine, [x, table]: [Operand<'_>; 2]) -> Result<(Buffer, Shape)> {
        let out = on.scratch(x.count())?;
        let pointers = [x.at, table.at, out.at()].map(Arg::At);
        let all: Vec<Arg> = [Arg::Long(table.count() as u64)].into_iter().chain(pointers).collect();
        on.each(&FAMILY, "add_table", x.count(), &all)?;
        Ok((out, x.layout.shape().clone()))
    }

    fn backward(
        &self,
        on: &dyn Machine,
        [x, table]: [Operand<'_>; 2],
        _: Address,
        grad: Address,
        [_, dtable]: [Option<Slot>; 2],
    ) -> Result<()> {
        let Some(dtable) = dtable else { return Ok(()) };
        let size = table.count();
        column_total(on, (x.count() / size, size), size, grad, dtable)
    }
}

//! Linear maps on a GPU: products by cuBLAS, with kernels for what surrounds them.

use candle_core::{Result, Shape, bail};

use super::Linear;
use crate::kernels::Precision;
use crate::kernels::cuda::machine::{Address, Buffer, Machine, Matrix, Write};
use crate::kernels::cuda::sums::{column_sums, fill_rows};
use crate::kernels::cuda::{Body, Operand, Slot};

impl Linear {
    fn launch(
        &self,
        on: &dyn Machine,
        x: Operand<'_>,
        weight: Operand<'_>,
        bias: Option<Operand<'_>>,
    ) -> Result<(Buffer, Shape)> {
        let &[outputs, inputs] = weight.dims() else { bail!("linear: weight {:?}", weight.dims()) };
        let rows = x.count() / inputs.max(1);
        let mut dims = x.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = outputs;
        }
        let active = self.activation.map(|activation| activation.launch(on, x.count(), x.at)).transpose()?;
        let x = Matrix::new(active.as_ref().map_or(x.at, Buffer::at), rows, inputs);
        let y = on.room(Precision::kept(), rows * outputs)?;
        let bias = bias.map_or(Address::NULL, |bias| bias.at);
        let write = fill_rows(on, (rows, outputs), bias, y.at())?;
        on.multiply(y.at(), x, Matrix::new(weight.at, outputs, inputs).t(), write)?;
        Ok((y, dims.into()))
    }

    fn launch_backward(
        &self,
        on: &dyn Machine,
        x: Operand<'_>,
        weight: Operand<'_>,
        grad: Address,
        [dx, dw, db]: [Option<Slot>; 3],
    ) -> Result<()> {
        let &[outputs, inputs] = weight.dims() else { bail!("linear: weight {:?}", weight.dims()) };
        let rows = x.count() / inputs.max(1);
        let dy = Matrix::new(grad, rows, outputs);
        if let Some(dw) = dw {
            let active =
                self.activation.map(|activation| activation.launch(on, x.count(), x.at)).transpose()?;
            let x = Matrix::new(active.as_ref().map_or(x.at, Buffer::at), rows, inputs);
            on.multiply(dw.at, dy.t(), x, dw.write())?;
        }
        if let Some(dx) = dx {
            let weight = Matrix::new(weight.at, outputs, inputs);
            match self.activation {
                None => on.multiply(dx.at, dy, weight, dx.write())?,
                Some(activation) => {
                    let active = on.room(x.at.precision(), x.count())?;
                    on.multiply(active.at(), dy, weight, Write::Replace)?;
                    activation.launch_backward(on, x.count(), [x.at, active.at()], dx)?;
                }
            }
        }
        db.map_or(Ok(()), |db| column_sums(on, (rows, outputs), grad, db))
    }
}

impl Body<2> for Linear {
    fn forward(&self, on: &dyn Machine, [x, weight]: [Operand<'_>; 2]) -> Result<(Buffer, Shape)> {
        self.launch(on, x, weight, None)
    }

    fn backward(
        &self,
        on: &dyn Machine,
        [x, weight]: [Operand<'_>; 2],
        _: Address,
        grad: Address,
        [dx, dw]: [Option<Slot>; 2],
    ) -> Result<()> {
        self.launch_backward(on, x, weight, grad, [dx, dw, None])
    }
}

impl Body<3> for Linear {
    fn forward(&self, on: &dyn Machine, [x, weight, bias]: [Operand<'_>; 3]) -> Result<(Buffer, Shape)> {
        self.launch(on, x, weight, Some(bias))
    }

    fn backward(
        &self,
        on: &dyn Machine,
        [x, weight, _]: [Operand<'_>; 3],
        _: Address,
        grad: Address,
        into: [Option<Slot>; 3],
    ) -> Result<()> {
        self.launch_backward(on, x, weight, grad, into)
    }
}

//! Outcomes that a GPU keeps in bf16 beside those that it keeps in f32. A gradient may be kept either way whatever its
//! tensor, so that it passes through.

use candle_core::{DType, Result, Shape, Tensor};

use super::cuda::{self, Body, Buffer, Machine, Slot};
use super::operation::{self, Operand, Operation, apply1};
use super::precision::Precision;
use super::real::Real;

/// The same numbers in f32, where they are kept in bf16.
pub(super) fn widen(x: &Tensor) -> Result<Tensor> {
    if x.dtype() == DType::BF16 { apply1(Keep(Precision::F32), &x.contiguous()?) } else { Ok(x.clone()) }
}

/// The same numbers in bf16 if some are kept in it, to stand in one tensor.
pub(super) fn alike(all: &[&Tensor]) -> Result<Vec<Tensor>> {
    let narrow = all.iter().any(|x| x.dtype() == DType::BF16);
    let narrowed = |x: &Tensor| match x.dtype() {
        DType::F32 if narrow => apply1(Keep(Precision::Bf16), &x.contiguous()?),
        _ => Ok(x.clone()),
    };
    all.iter().map(|x| narrowed(x)).collect()
}

struct Keep(Precision);

impl Operation<1> for Keep {
    fn name(&self) -> &'static str {
        "keep"
    }

    fn forward<T: Real>(&self, [x]: [Operand<'_, T>; 1]) -> Result<(Vec<T>, Shape)> {
        Ok((x.dense()?.to_vec(), x.layout.shape().clone()))
    }

    fn backward<T: Real>(
        &self,
        _: [Operand<'_, T>; 1],
        _: &[T],
        grad: &[T],
        [dx]: [Option<operation::Slot<'_, T>>; 1],
    ) -> Result<()> {
        dx.into_iter().for_each(|dx| dx.put(grad));
        Ok(())
    }

    fn passes(&self, _: usize) -> bool {
        true
    }
}

impl Body<1> for Keep {
    fn forward(&self, on: &dyn Machine, [x]: [cuda::Operand<'_>; 1]) -> Result<(Buffer, Shape)> {
        let out = on.room(self.0, x.count())?;
        cuda::put(on, x.count(), x.at, Slot { at: out.at(), adds: false })?;
        Ok((out, x.layout.shape().clone()))
    }

    fn backward(
        &self,
        on: &dyn Machine,
        [x]: [cuda::Operand<'_>; 1],
        _: cuda::Address,
        grad: cuda::Address,
        [dx]: [Option<Slot>; 1],
    ) -> Result<()> {
        dx.map_or(Ok(()), |dx| cuda::put(on, x.count(), grad, dx))
    }
}

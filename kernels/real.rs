//! The two element types that kernels compute in: f32 for training, f64 so that gradients can be checked.

use std::ops::Neg;

use candle_core::WithDType;

use super::vmath;

/// A floating-point element type.
pub(crate) trait Real: WithDType + Default + Neg<Output = Self> {
    fn sqrt(self) -> Self;
    fn exp(self) -> Self;
    fn ln(self) -> Self;
    fn erf(self) -> Self;
    fn tanh(self) -> Self;
    fn most(self, other: Self) -> Self;
}

impl Real for f32 {
    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }
    #[inline(always)]
    fn exp(self) -> Self {
        vmath::exp(self)
    }
    #[inline(always)]
    fn ln(self) -> Self {
        vmath::ln(self)
    }
    #[inline(always)]
    fn erf(self) -> Self {
        vmath::erf(self)
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        vmath::tanh(self)
    }
    #[inline(always)]
    fn most(self, other: Self) -> Self {
        if self > other { self } else { other }
    }
}

impl Real for f64 {
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    fn exp(self) -> Self {
        f64::exp(self)
    }
    fn ln(self) -> Self {
        f64::ln(self)
    }
    fn erf(self) -> Self {
        statrs::function::erf::erf(self)
    }
    fn tanh(self) -> Self {
        f64::tanh(self)
    }
    fn most(self, other: Self) -> Self {
        if self > other { self } else { other }
    }
}

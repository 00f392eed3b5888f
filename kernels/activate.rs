//! Pointwise non-linearities of transformer feed-forward blocks.
//!
//! GELU: Hendrycks and Gimpel, arXiv:1606.08415; the sigmoid form is the one of CLIP, arXiv:2103.00020.

use candle_core::{Result, Shape, Tensor};
use serde::{Deserialize, Serialize};

use super::operation::{Operand, Operation, Slot, apply1};
use super::real::Real;
use super::rows::{for_pieces, scratch};
use super::simd::vectorised;

#[path = "cuda/activate.rs"]
mod on_gpu;

/// Which non-linearity follows a linear map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x Phi(x)` with the exact error function.
    Gelu,
    /// `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.
    GeluTanh,
    /// `x sigmoid(1.702 x)`, as in CLIP.
    QuickGelu,
    /// `max(x, 0)`; the slope at 0 is 0.
    Relu,
}

/// Applies the activation to every element; the shape is kept.
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    apply1(Activate(activation), &x.contiguous()?)
}

const ROOT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
const ROOT_1_OVER_2PI: f64 = 0.398_942_280_401_432_7;

/// The sigmoid by way of an exponential that cannot overflow.
#[inline(always)]
fn sigmoid<T: Real>(x: T) -> T {
    T::one() / (T::one() + (-x).exp())
}

/// The nearest number to x between `-most` and `most`.
#[inline(always)]
fn within<T: Real>(x: T, most: T) -> T {
    let x = if x > most { most } else { x };
    if x < -most { -most } else { x }
}

impl Activation {
    #[inline(always)]
    fn values<T: Real>(self, z: &[T], out: &mut [T]) {
        let half = T::from_f64(0.5);
        match self {
            Self::Gelu => {
                let scale = T::from_f64(std::f64::consts::FRAC_1_SQRT_2);
                for (&z, out) in z.iter().zip(out) {
                    *out = half * z * (T::one() + (z * scale).erf());
                }
            }
            Self::GeluTanh => {
                let (scale, cubic) = (T::from_f64(ROOT_2_OVER_PI), T::from_f64(0.044715));
                for (&z, out) in z.iter().zip(out) {
                    *out = half * z * (T::one() + (scale * (z + cubic * z * z * z)).tanh());
                }
            }
            Self::QuickGelu => {
                let slope = T::from_f64(1.702);
                for (&z, out) in z.iter().zip(out) {
                    *out = z * sigmoid(slope * z);
                }
            }
            Self::Relu => {
                for (&z, out) in z.iter().zip(out) {
                    *out = if z > T::zero() { z } else { T::zero() };
                }
            }
        }
    }

    #[inline(always)]
    fn gradients<T: Real>(self, z: &[T], grad: &[T], out: &mut [T], adds: bool) {
        let (one, half) = (T::one(), T::from_f64(0.5));
        let all = z.iter().zip(grad).zip(out);
        let onto = |old: T, new: T| if adds { old + new } else { new };
        match self {
            Self::Gelu => {
                let scale = T::from_f64(std::f64::consts::FRAC_1_SQRT_2);
                let density = T::from_f64(ROOT_1_OVER_2PI);
                for ((&z, &g), out) in all {
                    let cumulative = half * (one + (z * scale).erf());
                    *out = onto(*out, g * (cumulative + z * density * (-half * z * z).exp()));
                }
            }
            Self::GeluTanh => {
                let (scale, cubic) = (T::from_f64(ROOT_2_OVER_PI), T::from_f64(0.044715));
                let triple = T::from_f64(3.0 * 0.044715);
                let far = T::from_f64(20.0);
                for ((&z, &g), out) in all {
                    // tanh is exactly one long before 20; the bound keeps its slope times z cubed finite.
                    let z = within(z, far);
                    let t = (scale * (z + cubic * z * z * z)).tanh();
                    let slope = half * (one + t + z * (one - t * t) * scale * (one + triple * z * z));
                    *out = onto(*out, g * slope);
                }
            }
            Self::QuickGelu => {
                let slope = T::from_f64(1.702);
                let far = T::from_f64(500.0);
                for ((&z, &g), out) in all {
                    // The sigmoid is 0 or 1 long before 500, and its slope times z must not be zero times infinity.
                    let z = within(z, far);
                    let s = sigmoid(slope * z);
                    *out = onto(*out, g * s * (one + slope * z * (one - s)));
                }
            }
            Self::Relu => {
                for ((&z, &g), out) in all {
                    *out = onto(*out, if z > T::zero() { g } else { T::zero() });
                }
            }
        }
    }

    /// `out = activation(z)`.
    pub(crate) fn apply<T: Real>(self, z: &[T], out: &mut [T]) {
        vectorised(
            #[inline(always)]
            || self.values(z, out),
        );
    }

    /// `out = grad activation'(z)`, or that added to `out`.
    pub(crate) fn differentiate<T: Real>(self, z: &[T], grad: &[T], out: &mut [T], adds: bool) {
        vectorised(
            #[inline(always)]
            || self.gradients(z, grad, out, adds),
        );
    }
}

struct Activate(Activation);

impl Operation<1> for Activate {
    fn name(&self) -> &'static str {
        "activate"
    }

    fn forward<T: Real>(&self, [x]: [Operand<'_, T>; 1]) -> Result<(Vec<T>, Shape)> {
        let z = x.dense()?;
        let mut out = scratch(z.len());
        for_pieces(&mut out, 1, |first, out| self.0.apply(&z[first..first + out.len()], out));
        Ok((out, x.layout.shape().clone()))
    }

    fn backward<T: Real>(
        &self,
        [x]: [Operand<'_, T>; 1],
        _: &[T],
        grad: &[T],
        [dx]: [Option<Slot<'_, T>>; 1],
    ) -> Result<()> {
        let (z, Some(dx)) = (x.dense()?, dx) else { return Ok(()) };
        let adds = dx.adds();
        for_pieces(dx.data, 1, |first, dx| {
            let range = first..first + dx.len();
            self.0.differentiate(&z[range.clone()], &grad[range], dx, adds);
        });
        Ok(())
    }
}

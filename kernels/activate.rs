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

/// The nearest number to x between `-most` and `most`.
#[inline(always)]
fn within<T: Real>(x: T, most: T) -> T {
    let x = if x > most { most } else { x };
    if x < -most { -most } else { x }
}

// Each gives value and slope at z; where only one is asked for, the compiler leaves the other out.

#[inline(always)]
fn gelu<T: Real>(z: T) -> (T, T) {
    let (one, half) = (T::one(), T::from_f64(0.5));
    let twice = one + (z * T::from_f64(std::f64::consts::FRAC_1_SQRT_2)).erf();
    let density = T::from_f64(ROOT_1_OVER_2PI);
    (half * z * twice, half * twice + z * density * (-half * z * z).exp())
}

#[inline(always)]
fn gelu_tanh<T: Real>(z: T) -> (T, T) {
    let (one, half, scale) = (T::one(), T::from_f64(0.5), T::from_f64(ROOT_2_OVER_PI));
    let (cubic, triple) = (T::from_f64(0.044715), T::from_f64(3.0 * 0.044715));
    // tanh is exactly one long before 20; the bound keeps its slope times z cubed finite.
    let near = within(z, T::from_f64(20.0));
    let t = (scale * (near + cubic * near * near * near)).tanh();
    let slope = half * (one + t + near * (one - t * t) * scale * (one + triple * near * near));
    (half * z * (one + t), slope)
}

#[inline(always)]
fn quick_gelu<T: Real>(z: T) -> (T, T) {
    let (one, steep) = (T::one(), T::from_f64(1.702));
    // The sigmoid is 0 or 1 long before 500, and its slope times z must not be zero times infinity.
    let near = within(z, T::from_f64(500.0));
    // By way of an exponential that cannot overflow.
    let s = one / (one + (-(steep * near)).exp());
    (z * s, s * (one + steep * near * (one - s)))
}

#[inline(always)]
fn relu<T: Real>(z: T) -> (T, T) {
    if z > T::zero() { (z, T::one()) } else { (T::zero(), T::zero()) }
}

/// Runs the loop with `of` standing for the function of an activation: a loop for each, in which nothing branches.
macro_rules! each {
    ($activation:expr, $of:ident, $run:block) => {
        match $activation {
            Activation::Gelu => {
                let $of = gelu;
                $run
            }
            Activation::GeluTanh => {
                let $of = gelu_tanh;
                $run
            }
            Activation::QuickGelu => {
                let $of = quick_gelu;
                $run
            }
            Activation::Relu => {
                let $of = relu;
                $run
            }
        }
    };
}

impl Activation {
    /// `out = activation(z)`.
    pub(crate) fn apply<T: Real>(self, z: &[T], out: &mut [T]) {
        vectorised(
            #[inline(always)]
            || {
                each!(self, of, {
                    for (&z, out) in z.iter().zip(out) {
                        *out = of(z).0;
                    }
                });
            },
        );
    }

    /// `out = activation(z)` and `slopes = activation'(z)`, for less than both cost apart.
    pub(crate) fn apply_with_slopes<T: Real>(self, z: &[T], out: &mut [T], slopes: &mut [T]) {
        vectorised(
            #[inline(always)]
            || {
                each!(self, of, {
                    for ((&z, out), slope) in z.iter().zip(out).zip(slopes) {
                        (*out, *slope) = of(z);
                    }
                });
            },
        );
    }

    /// `out = grad activation'(z)`, or that added to `out`.
    pub(crate) fn differentiate<T: Real>(self, z: &[T], grad: &[T], out: &mut [T], adds: bool) {
        vectorised(
            #[inline(always)]
            || {
                each!(self, of, {
                    for ((&z, &g), out) in z.iter().zip(grad).zip(out) {
                        let new = g * of(z).1;
                        *out = if adds { *out + new } else { new };
                    }
                });
            },
        );
    }
}

/// `out = grad slopes`, or that added to `out`.
pub(super) fn scale<T: Real>(grad: &[T], slopes: &[T], out: &mut [T], adds: bool) {
    vectorised(
        #[inline(always)]
        || {
            for ((&g, &slope), out) in grad.iter().zip(slopes).zip(out) {
                *out = if adds { *out + g * slope } else { g * slope };
            }
        },
    );
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

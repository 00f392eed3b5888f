//! Pointwise non-linearities of transformer feed-forward blocks.

use candle_core::{Result, Tensor};

/// Which non-linearity follows a linear map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x Phi(x)` with the exact error function.
    Gelu,
    /// The tanh approximation of GELU.
    GeluTanh,
    /// `x sigmoid(1.702 x)`, as in CLIP.
    QuickGelu,
}

/// Applies the activation to every element; the shape is kept.
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Gelu => x.gelu_erf(),
        Activation::GeluTanh => x.gelu(),
        Activation::QuickGelu => x * ((x * -1.702)?.exp()? + 1.0)?.recip()?,
    }
}

//! The two-layer head with which the papers classify: a linear map, what lies between, a linear map.

use candle_core::{Result, Tensor};

use crate::kernels::{Activation, activate};
use crate::models::nn::{LayerNorm, Linear, deviation};
use crate::models::{Init, Vars};

/// What lies between the two maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Between {
    /// Rectification (ALBEF).
    Relu,
    /// GELU, then layer normalisation (UNITER).
    GeluNorm,
    /// Layer normalisation, then GELU (ViLT).
    NormGelu,
}

/// `down(between(up(x)))`.
pub struct Perceptron {
    up: Linear,
    norm: Option<LayerNorm>,
    down: Linear,
    between: Between,
}

impl Perceptron {
    /// From `inputs` by way of `hidden` to `outputs` features, its parameters at `vars`.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn open(vars: &Vars, [inputs, hidden, outputs]: [usize; 3], between: Between) -> Result<Self> {
        let map = |name: &str, [from, to]: [usize; 2]| {
            let init = Init::Normal { std: deviation(from) };
            Linear::new(&vars.at(name), [from, to], init, Some(Init::Constant(0.0)))
        };
        let eps = match between {
            Between::Relu => None,
            Between::GeluNorm => Some(1e-12),
            Between::NormGelu => Some(1e-5),
        };
        let norm = eps.map(|eps| LayerNorm::new(&vars.at("norm"), hidden, eps)).transpose()?;
        Ok(Self { up: map("up", [inputs, hidden])?, norm, down: map("down", [hidden, outputs])?, between })
    }

    /// (B, inputs) to logits (B, outputs).
    ///
    /// # Errors
    /// When the last dimension is another.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let norm = |x: Tensor| self.norm.as_ref().map_or(Ok(x.clone()), |norm| norm.forward(&x));
        let up = self.up.forward(x)?;
        let hidden = match self.between {
            Between::Relu => activate(&up, Activation::Relu)?,
            Between::GeluNorm => norm(activate(&up, Activation::Gelu)?)?,
            Between::NormGelu => activate(&norm(up)?, Activation::Gelu)?,
        };
        self.down.forward(&hidden)
    }
}

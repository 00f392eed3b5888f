//! Linear maps, layer normalisation and feed-forward blocks.

use candle_core::{Result, Tensor};

use crate::kernels::{self, Activation};
use crate::models::{Init, Vars};

use super::{Residual, Spec, Start};

/// `x W' + b`.
#[derive(Clone)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// From `inputs` to `outputs` features; without `bias` nothing is added.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn new(vars: &Vars, [inputs, outputs]: [usize; 2], weight: Init, bias: Option<Init>) -> Result<Self> {
        let bias = bias.map(|bias| vars.get(outputs, "bias", bias)).transpose()?;
        Ok(Self { weight: vars.get((outputs, inputs), "weight", weight)?, bias })
    }

    /// (.., inputs) to (.., outputs).
    ///
    /// # Errors
    /// When the last dimension is another.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        kernels::linear(x, &self.weight, self.bias.as_ref())
    }

    /// The way back with the same weights, `x W + b`: (.., outputs) to (.., inputs).
    ///
    /// # Errors
    /// When the last dimension is another.
    pub fn back(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
        kernels::linear(x, &self.weight.t()?, Some(bias))
    }

    /// [`Linear::forward`] as the end of half a layer.
    ///
    /// # Errors
    /// When a shape does not fit.
    pub fn join(&self, x: &Tensor, to: Residual) -> Result<Tensor> {
        self.joined(kernels::linear(x, &self.weight, None)?, to)
    }

    /// [`Linear::join`] of an activation of x.
    ///
    /// # Errors
    /// When a shape does not fit.
    pub fn join_active(&self, x: &Tensor, activation: Activation, to: Residual) -> Result<Tensor> {
        self.joined(kernels::linear_of(activation, x, &self.weight, None)?, to)
    }

    /// The same map with each of its outputs multiplied by one of these gains.
    ///
    /// # Errors
    /// When there are not so many outputs.
    pub fn scaled(&self, gains: &Tensor) -> Result<Self> {
        // The map has fewer elements than its outcome, and its product costs nothing more.
        let bias = self.bias.as_ref().map(|bias| bias * gains).transpose()?;
        Ok(Self { weight: self.weight.broadcast_mul(&gains.unsqueeze(1)?)?, bias })
    }

    fn joined(&self, product: Tensor, to: Residual) -> Result<Tensor> {
        kernels::residual(to.x, &product, self.bias.as_ref(), to.dropout)
    }

    /// The map to `count` of the outputs, from output `first` on: the same weights.
    ///
    /// # Errors
    /// When there are not so many outputs.
    pub fn part(&self, first: usize, count: usize) -> Result<Self> {
        let bias = self.bias.as_ref().map(|bias| bias.narrow(0, first, count)).transpose()?;
        Ok(Self { weight: self.weight.narrow(0, first, count)?, bias })
    }
}

/// PyTorch's own start of the weight and the bias of a linear map with so many inputs, which released code often
/// leaves in place.
pub fn fan_in(inputs: usize) -> Init {
    Init::Uniform { bound: (inputs as f64).powf(-0.5) }
}

/// The standard deviation with which matrices of BERT and ViT begin: 0.02 at their published width of 768. Narrower
/// layers begin wider, so that what a layer adds keeps its size beside what it is added to; at 0.02 a layer of 128 adds
/// so little that contrast learns nothing for its first hundred updates.
pub fn deviation(width: usize) -> f64 {
    0.02 * (768.0 / width.max(1) as f64).sqrt()
}

/// Normalises each row, then scales by a gain and adds a bias.
#[derive(Clone)]
pub struct LayerNorm {
    gain: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Over `width` features; `eps` is added to the variance.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn new(vars: &Vars, width: usize, eps: f64) -> Result<Self> {
        let gain = vars.get(width, "gain", Init::Constant(1.0))?;
        Ok(Self { gain, bias: vars.get(width, "bias", Init::Constant(0.0))?, eps })
    }

    /// (.., D) to (.., D).
    ///
    /// # Errors
    /// When the last dimension is another.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        kernels::layer_norm(x, &self.gain, &self.bias, self.eps)
    }
}

/// The feed-forward half of a layer: `down(activation(up(x)))`, joined to the residual path.
#[derive(Clone)]
pub struct Mlp {
    up: Linear,
    down: Linear,
    activation: Activation,
}

impl Mlp {
    /// Through `spec.mlp` features and back.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn new(vars: &Vars, spec: &Spec, start: &Start) -> Result<Self> {
        let (width, hidden) = (spec.width, spec.mlp);
        Ok(Self {
            up: Linear::new(&vars.at("up"), [width, hidden], start.up, Some(start.up_bias))?,
            down: Linear::new(&vars.at("down"), [hidden, width], start.down, Some(start.down_bias))?,
            activation: spec.activation,
        })
    }

    /// The same with each feature of its outcome multiplied by one of these gains.
    ///
    /// # Errors
    /// When there are not so many features.
    pub fn scaled(&self, gains: &Tensor) -> Result<Self> {
        Ok(Self { down: self.down.scaled(gains)?, ..self.clone() })
    }

    /// (.., D) to (.., D), not joined to the residual path.
    ///
    /// # Errors
    /// When a shape does not fit.
    pub fn alone(&self, x: &Tensor) -> Result<Tensor> {
        let Linear { weight, bias } = &self.down;
        kernels::linear_of(self.activation, &self.up.forward(x)?, weight, bias.as_ref())
    }

    /// (.., D) to (.., D).
    ///
    /// # Errors
    /// When a shape does not fit.
    pub fn forward(&self, x: &Tensor, to: Residual) -> Result<Tensor> {
        self.down.join_active(&self.up.forward(x)?, self.activation, to)
    }
}

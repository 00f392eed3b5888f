//! A discrete tokenizer of images: each patch becomes one of K codes, from which its pixels can be told again.
//!
//! The role that the dVAE of Ramesh et al., arXiv:2102.12092, section 2.1, has in BEiT (Bao et al., arXiv:2106.08254,
//! section 2.1). It is trained by `dvae` and read by `mim`, so its parameters belong to the former.
//!
//! `encoder(x) = logits(LN(layers(x W)))` (K), `decoder(z) = map(LN(layers(z C)))`, a layer being
//! `x + down(gelu(up(LN x)))` and z the shares of the K codes (K).

use candle_core::{D, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::patches;
use crate::kernels::Activation;
use crate::models::Vars;
use crate::models::nn::{LayerNorm, Linear, Mlp, Residual, Spec, Start, fan_in};

const EPS: f64 = 1e-6;

/// `{codes: 256, width: 64, depth: 2}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// K: kinds of visual token (8,192 in the paper).
    pub codes: usize,
    /// Width of its layers.
    pub width: usize,
    /// Layers of the encoder, and as many of the decoder.
    pub depth: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { codes: 256, width: 64, depth: 2 }
    }
}

impl Config {
    /// What is wrong with it, one sentence a fault.
    pub fn faults(&self) -> Vec<String> {
        let least = [("codes", self.codes, 2), ("width", self.width, 1)];
        let wrong = least.into_iter().filter(|(_, value, least)| value < least);
        wrong
            .map(|(name, value, least)| format!("tokenizer.{name} is {value}: give {least} or more"))
            .collect()
    }
}

/// Layers that see one patch each.
struct Layers {
    layers: Vec<(LayerNorm, Mlp)>,
    norm: LayerNorm,
}

impl Layers {
    fn new(vars: &Vars, config: &Config) -> Result<Self> {
        let width = config.width;
        let spec =
            Spec { width, heads: 1, mlp: 4 * width, activation: Activation::Gelu, eps: EPS, dropout: 0.0 };
        let layer = |index| -> Result<_> {
            let vars = vars.at("layers").at(index);
            let norm = LayerNorm::new(&vars.at("norm"), width, EPS)?;
            Ok((norm, Mlp::new(&vars.at("mlp"), &spec, &Start::pytorch(&spec))?))
        };
        let layers = (0..config.depth).map(layer).collect::<Result<_>>()?;
        Ok(Self { layers, norm: LayerNorm::new(&vars.at("norm"), width, EPS)? })
    }

    fn forward(&self, x: Tensor) -> Result<Tensor> {
        let mut x = x;
        for (norm, mlp) in &self.layers {
            x = mlp.forward(&norm.forward(&x)?, Residual { x: &x, dropout: None })?;
        }
        self.norm.forward(&x)
    }
}

/// Pixels to codes.
pub struct Encoder {
    embed: Linear,
    layers: Layers,
    logits: Linear,
    patch: usize,
}

impl Encoder {
    /// At `vars.encoder`, of patches of so many pixels.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn open(vars: &Vars, config: &Config, patch: usize) -> Result<Self> {
        let (vars, width, pixels) = (vars.at("encoder"), config.width, 3 * patch * patch);
        let linear = |name: &str, sizes: [usize; 2]| {
            Linear::new(&vars.at(name), sizes, fan_in(sizes[0]), Some(fan_in(sizes[0])))
        };
        Ok(Self {
            embed: linear("embed", [pixels, width])?,
            layers: Layers::new(&vars, config)?,
            logits: linear("logits", [width, config.codes])?,
            patch,
        })
    }

    /// Logits (B P, K) of normalised pixels (B,3,H,W).
    ///
    /// # Errors
    /// When patches do not divide the images.
    pub fn logits(&self, pixels: &Tensor) -> Result<Tensor> {
        let embedded = self.embed.forward(&patches::rows(pixels, self.patch)?)?;
        self.logits.forward(&self.layers.forward(embedded)?)
    }

    /// The code of each patch, u32 (B P).
    ///
    /// # Errors
    /// As [`Encoder::logits`].
    pub fn codes(&self, pixels: &Tensor) -> Result<Tensor> {
        self.logits(pixels)?.argmax(D::Minus1)
    }
}

/// Codes to pixels.
pub struct Decoder {
    codes: Linear,
    layers: Layers,
    pixels: Linear,
}

impl Decoder {
    /// At `vars.decoder`, of patches of so many pixels.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn open(vars: &Vars, config: &Config, patch: usize) -> Result<Self> {
        let (vars, width, pixels) = (vars.at("decoder"), config.width, 3 * patch * patch);
        let (codes, map) = (fan_in(width), fan_in(width));
        Ok(Self {
            codes: Linear::new(&vars.at("codes"), [config.codes, width], codes, None)?,
            layers: Layers::new(&vars, config)?,
            pixels: Linear::new(&vars.at("pixels"), [width, 2 * pixels], map, Some(map))?,
        })
    }

    /// Shares of codes (R,K) to the centre and the logarithm of the spread of each pixel, (R, 3 p p) both.
    ///
    /// # Errors
    /// When there are other codes.
    pub fn forward(&self, shares: &Tensor) -> Result<[Tensor; 2]> {
        let both = self.pixels.forward(&self.layers.forward(self.codes.forward(shares)?)?)?;
        let pixels = both.dim(1)? / 2;
        Ok([both.narrow(1, 0, pixels)?, both.narrow(1, pixels, pixels)?])
    }
}

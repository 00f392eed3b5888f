//! The image tower of ViT (Dosovitskiy et al., arXiv:2010.11929, equations 1 to 4), from pixels to normalised tokens.

use candle_core::{Result, Tensor};

use super::{LayerNorm, PatchStart, Patches, PreNorm, Start, Tower, deviation, fan_in};
use crate::kernels::{Activation, Mask};
use crate::models::{Image, Init, Tokens, Vars, View};

/// Patches, layers and a normalisation after the last; nothing is dropped.
pub struct Vit {
    patches: Patches,
    layers: PreNorm,
    norm: LayerNorm,
}

impl Vit {
    /// For images of `size` pixels in patches of `patch`; `eps` is added to every variance.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn new(vars: &Vars, [size, patch]: [usize; 2], tower: &Tower, eps: f64) -> Result<Self> {
        let spec = tower.spec(Activation::Gelu, eps, 0.0);
        // The code that ALBEF and BLIP released cuts this normal at -2 and 2, a hundred deviations away.
        let init = Init::Normal { std: deviation(tower.width) };
        let map = fan_in(3 * patch * patch);
        let start = PatchStart { weight: map, bias: Some(map), tokens: init };
        Ok(Self {
            patches: Patches::new(&vars.at("patches"), size, patch, tower.width, &start)?,
            layers: PreNorm::new(&vars.at("layers"), tower.depth, &spec, &Start::all(init))?,
            norm: LayerNorm::new(&vars.at("norm"), tower.width, eps)?,
        })
    }

    /// Pixels (B,3,S,S) to tokens (B,N,D), the class token first.
    ///
    /// # Errors
    /// When the images have another size or no pixels.
    pub fn encode(&self, image: &View<Image>) -> Result<Tokens> {
        let hidden = self.patches.forward(image.input()?.pixels()?)?;
        let hidden = self.layers.forward(hidden, &Mask::None, image.noise())?;
        Ok(Tokens { hidden: self.norm.forward(&hidden)?, mask: None })
    }

    /// The class token (B,D) of [`Vit::encode`]: the last layer computes no other.
    ///
    /// # Errors
    /// As [`Vit::encode`].
    pub fn class(&self, image: &View<Image>) -> Result<Tensor> {
        let hidden = self.patches.forward(image.input()?.pixels()?)?;
        self.norm.forward(&self.layers.forward_class(hidden, image.noise())?)
    }
}

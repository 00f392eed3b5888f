//! The image encoder of BLIP-2: a pre-trained vision transformer, to be kept frozen, cut off at the layer whose outcome is
//! read, and a trained layer normalisation.
//!
//! The paper takes the ViT-g of EVA-CLIP or the ViT-L of CLIP. Parameters of the transformer have the names that an
//! image tower of `clip` has, so that such a tower can be loaded in its place; those of the normalisation lie beside it.

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use super::Config;
use crate::kernels::{Activation, Mask};
use crate::models::nn::{LayerNorm, PatchStart, Patches, PreNorm, Spec, Start, deviation, fan_in};
use crate::models::{Image, Init, Inputs, Tokens, Vars, View};

/// Where a view keeps its features.
const FEATURES: &str = "image";

/// Which vision transformer encodes images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vit {
    /// As in EVA-CLIP: patches with a bias, GELU.
    Eva,
    /// As in CLIP: patches without one, a normalisation before the layers, the sigmoid form of GELU.
    Clip,
}

impl Vit {
    /// What its normalisations add to the variance.
    pub fn eps(self) -> f64 {
        match self {
            Self::Eva => 1e-6,
            Self::Clip => 1e-5,
        }
    }

    /// The non-linearity of its layers.
    pub fn activation(self) -> Activation {
        match self {
            Self::Eva => Activation::Gelu,
            Self::Clip => Activation::QuickGelu,
        }
    }
}

/// Images to features.
pub struct Encoder {
    patches: Patches,
    ln_pre: Option<LayerNorm>,
    layers: PreNorm,
    ln_vision: LayerNorm,
}

impl Encoder {
    /// The transformer at `vars.image`, the normalisation at `vars.ln_vision`. Layers behind the one that is read are not
    /// opened.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn new(vars: &Vars, config: &Config, inputs: &Inputs) -> Result<Self> {
        let (place, vit, width) = (vars.at("image"), config.vit, config.image.width);
        let spec: Spec = config.image.spec(vit.activation(), vit.eps(), 0.0);
        let init = Init::Normal { std: deviation(width) };
        let map = fan_in(3 * config.patch * config.patch);
        let start = PatchStart { weight: map, bias: (vit == Vit::Eva).then_some(map), tokens: init };
        let norm = |vars: Vars| LayerNorm::new(&vars, width, vit.eps());
        Ok(Self {
            patches: Patches::new(&place.at("patches"), inputs.size, config.patch, width, &start)?,
            ln_pre: (vit == Vit::Clip).then(|| norm(place.at("ln_pre"))).transpose()?,
            layers: PreNorm::new(&place.at("layers"), config.layers_read(), &spec, &Start::all(init))?,
            ln_vision: norm(vars.at("ln_vision"))?,
        })
    }

    /// The features (B,N,D'), computed once a step.
    ///
    /// # Errors
    /// When the images have another size.
    pub fn forward(&self, image: &View<Image>) -> Result<Tokens> {
        image.memo(FEATURES, |image| {
            let mut hidden = self.patches.forward(image.input()?.pixels()?)?;
            if let Some(norm) = &self.ln_pre {
                hidden = norm.forward(&hidden)?;
            }
            let hidden = self.layers.forward(hidden, &Mask::None, image.noise())?;
            Ok(Tokens { hidden: self.ln_vision.forward(&hidden)?, mask: None })
        })
    }

    /// A view of images whose normalised features (B,N,D') are at hand, and nothing else.
    ///
    /// # Errors
    /// As [`View::memo`].
    pub fn seen(features: Tensor) -> Result<View<Image>> {
        let view = View::new(Image::default(), None);
        view.memo(FEATURES, |_| Ok(Tokens { hidden: features, mask: None }))?;
        Ok(view)
    }
}

//! CLIP: an image tower and a text tower that meet only in the dot product of their outcomes.
//!
//! Radford et al., arXiv:2103.00020, sections 2.3 to 2.5, and the released code. Image: ViT with a normalisation before
//! its layers, feature of the class token. Text: causal transformer, feature of the last token. Both features are
//! mapped linearly, without bias, to unit vectors I (B,E) and T (B,E):
//!
//! `similarity = exp(s) I T'`, s learned, ln(1/0.07) at first and brought back to ln 100 when an update passes it.
//!
//! The released code finds the end of a text at the largest entry, as its [EOS] has the last place in the vocabulary.
//! Here texts are `[CLS] .. [SEP]` and the end is the last visible token, the [SEP]: the same place.
//!
//! `text_encoder: bag_of_words` is the text encoder of the paper's comparison of objectives (section 2.3, figure 2), which
//! sees which words a text has and not their order: the mean of the word vectors, normalised and mapped like the feature of
//! the transformer, which is left out.
//!
//! Deviation: the paper says no more of its bag of words than the name; the mean, and counting the tokens that begin and
//! end a text among the words, is ours.

use std::collections::BTreeSet;

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use super::nn::{
    LayerNorm, Linear, PatchStart, Patches, PreNorm, Spec, Start, Tower, fan_in, two_tower_faults, unit,
};
use super::{
    Abilities, Ability, Dims, Field, Image, Init, Inputs, Model, ModelConfig, Text, Tokens, Vars, View,
};
use crate::kernels::{self, Activation, Mask};

mod text;

use text::TextTower;

const EPS: f64 = 1e-5;
const SCALE: f64 = 1.0 / 0.07;
const MOST: f64 = 100.0;

/// How a text becomes a feature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextEncoder {
    /// The last token of a transformer in which a token sees those before it.
    #[default]
    Causal,
    /// The mean of the word vectors: the order of words is not seen.
    BagOfWords,
}

/// `clip: {image: {width: 128, depth: 4, heads: 4}, text: {..}, patch: 8, embed: 128}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The image tower.
    pub image: Tower,
    /// The text tower; of a bag of words the width alone.
    pub text: Tower,
    /// How a text becomes a feature.
    #[serde(skip_serializing_if = "TextEncoder::is_causal")]
    pub text_encoder: TextEncoder,
    /// Side of an image patch, in pixels.
    pub patch: usize,
    /// E: width of the shared space.
    pub embed: usize,
    /// The non-linearity: `quick_gelu` in the published weights.
    pub activation: Activation,
    /// Probability of dropping the outcome of half a layer; the paper drops nothing.
    pub dropout: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            image: Tower::default(),
            text: Tower::default(),
            text_encoder: TextEncoder::Causal,
            patch: 8,
            embed: 128,
            activation: Activation::QuickGelu,
            dropout: 0.0,
        }
    }
}

impl TextEncoder {
    fn is_causal(&self) -> bool {
        *self == Self::Causal
    }
}

impl Config {
    fn spec(&self, tower: &Tower) -> Spec {
        tower.spec(self.activation, EPS, self.dropout)
    }
}

impl ModelConfig for Config {
    fn abilities(&self) -> Abilities {
        [Ability::Embed, Ability::ImageTokens].into()
    }

    fn lacks(&self, ability: Ability) -> &'static str {
        match ability {
            Ability::Answer => "clip has no decoder that writes answers",
            Ability::HidePatches => "clip has no mask token for patches",
            Ability::PredictWords => "clip has no word decoder",
            Ability::PredictRegions => "clip reads pixels, not regions",
            Ability::TextTokens => "clip has no text encoder in which words see each other both ways",
            _ => "clip has no joint pass: its towers meet only in the similarity",
        }
    }

    fn reads(&self) -> BTreeSet<Field> {
        [Field::Pixels, Field::Words].into()
    }

    fn faults(&self, inputs: &Inputs) -> Vec<String> {
        let towers = [("image", &self.image), ("text", &self.text)];
        two_tower_faults(towers, (inputs.size, self.patch), self.embed, self.dropout)
    }

    fn dims(&self, inputs: &Inputs) -> Dims {
        Dims {
            embed: self.embed,
            image: self.image.width,
            patch: self.patch,
            ..Dims::new(self.text.width, inputs)
        }
    }

    fn build(&self, vars: &Vars, inputs: &Inputs) -> Result<Box<dyn Model>> {
        Ok(Box::new(Clip {
            image: ImageTower::new(&vars.at("image"), self, inputs)?,
            text: TextTower::new(&vars.at("text"), self, inputs)?,
            scale: vars.bounded("scale", SCALE.ln(), f64::NEG_INFINITY, MOST.ln())?,
        }))
    }
}

struct Clip {
    image: ImageTower,
    text: TextTower,
    /// The logarithm of what multiplies the similarities.
    scale: Tensor,
}

impl Model for Clip {
    /// The outcome of the last layer, the class token first; `ln_post` belongs to the embedding alone.
    fn image_tokens(&self, image: &View<Image>) -> Result<Tokens> {
        image.memo("image", |image| self.image.encode(image))
    }

    /// The outcome of the last layer, normalised.
    fn text_tokens(&self, text: &View<Text>) -> Result<Tokens> {
        text.memo("text", |text| self.text.encode(text))
    }

    fn embed_image(&self, image: &View<Image>) -> Result<Tensor> {
        let class = image.memo("image.class", |image| self.image.class(image))?;
        self.image.feature(&class.hidden)
    }

    fn embed_text(&self, text: &View<Text>) -> Result<Tensor> {
        let end = text.memo("text.end", |text| self.text.end(text))?;
        self.text.feature(&end.hidden)
    }

    fn similarity(&self, images: &Tensor, texts: &Tensor) -> Result<Tensor> {
        kernels::linear(&images.broadcast_mul(&self.scale.exp()?)?, texts, None)
    }
}

struct ImageTower {
    patches: Patches,
    ln_pre: LayerNorm,
    layers: PreNorm,
    ln_post: LayerNorm,
    project: Linear,
}

impl ImageTower {
    fn new(vars: &Vars, config: &Config, inputs: &Inputs) -> Result<Self> {
        let (patch, spec) = (config.patch, config.spec(&config.image));
        let width = spec.width;
        let scale = Init::Normal { std: (width as f64).powf(-0.5) };
        let start = PatchStart { weight: fan_in(3 * patch * patch), bias: None, tokens: scale };
        Ok(Self {
            patches: Patches::new(&vars.at("patches"), inputs.size, patch, width, &start)?,
            ln_pre: LayerNorm::new(&vars.at("ln_pre"), width, EPS)?,
            layers: PreNorm::new(&vars.at("layers"), config.image.depth, &spec, &Start::pytorch(&spec))?,
            ln_post: LayerNorm::new(&vars.at("ln_post"), width, EPS)?,
            project: Linear::new(&vars.at("project"), [width, config.embed], scale, None)?,
        })
    }

    fn embed(&self, image: &View<Image>) -> Result<Tensor> {
        self.ln_pre.forward(&self.patches.forward(image.input()?.pixels()?)?)
    }

    fn encode(&self, image: &View<Image>) -> Result<Tokens> {
        let hidden = self.layers.forward(self.embed(image)?, &Mask::None, image.noise())?;
        Ok(Tokens { hidden, mask: None })
    }

    /// The class token (B,D) of [`ImageTower::encode`]: of the last layer the embedding reads nothing else.
    fn class(&self, image: &View<Image>) -> Result<Tokens> {
        let hidden = self.layers.forward_class(self.embed(image)?, image.noise())?;
        Ok(Tokens { hidden, mask: None })
    }

    fn feature(&self, class: &Tensor) -> Result<Tensor> {
        unit(&self.project.forward(&self.ln_post.forward(class)?)?)
    }
}

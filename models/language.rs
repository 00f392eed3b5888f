//! A language model continues texts: by itself, or behind a prefix of vectors that a multimodal model hands it.
//!
//! By itself it never sees an image and learns to predict each word from those before it. That makes what BLIP-2 freezes
//! (Li et al., arXiv:2301.12597, section 3.2): a stage trains `language: {opt: {..}}` on texts, and a later one begins with
//! its parameters, which have the same names within `blip2`.

use std::collections::BTreeSet;

use candle_core::{DType, Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::{
    Abilities, Ability, Attend, Begun, Dims, Field, Fused, Image, Inputs, Model, ModelConfig, Text, Tokens,
    Vars, View,
};
use crate::kernels::{Logits, random::Key};

pub mod opt;
pub mod t5;

/// A model that continues texts.
pub enum Language {
    /// [`opt`]
    Opt(opt::Opt),
    /// [`t5`]
    T5(t5::T5),
}

impl Language {
    /// Hidden states of texts (B,T,D) behind a prefix (B,Q,D); the one at a word predicts the next. Where the mask is 0,
    /// nothing is predicted.
    ///
    /// # Errors
    /// When a shape does not fit.
    pub fn continues(&self, prefix: &Tensor, text: &Text, noise: Option<Key>) -> Result<Tokens> {
        match self {
            Self::Opt(model) => model.continues(prefix, text, noise),
            Self::T5(model) => model.continues(prefix, text, noise),
        }
    }

    /// Texts (B,T) behind a prefix (B,Q,D), to be continued word by word, and the logits (B,V) of the word that follows.
    ///
    /// # Errors
    /// When a shape does not fit or a text has no word.
    pub fn decode<'a>(&'a self, prefix: &Tensor, prompt: &Text) -> Result<Begun<'a>> {
        match self {
            Self::Opt(model) => model.decode(prefix, prompt),
            Self::T5(model) => model.decode(prefix, prompt),
        }
    }

    /// Vocabulary logits (..,V) of hidden states (..,D).
    pub fn predict_words(&self, hidden: &Tensor) -> Logits {
        match self {
            Self::Opt(model) => model.predict_words(hidden),
            Self::T5(model) => model.predict_words(hidden),
        }
    }
}

/// A language model in an experiment file: `{opt: {..}}` or `{t5: {..}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Config {
    /// [`opt`]
    Opt(opt::Config),
    /// [`t5`]
    T5(t5::Config),
}

impl Default for Config {
    fn default() -> Self {
        Self::Opt(opt::Config::default())
    }
}

impl Config {
    /// D.
    pub fn width(&self) -> usize {
        match self {
            Self::Opt(config) => config.layers.width,
            Self::T5(config) => config.layers.width,
        }
    }

    /// What is wrong with it behind a prefix of `prefix` vectors, for texts of `words` tokens, one sentence a fault.
    pub fn faults_behind(&self, prefix: usize, words: usize) -> Vec<String> {
        match self {
            Self::Opt(config) => config.faults(prefix + words),
            Self::T5(config) => config.faults(),
        }
    }

    /// Opens the parameters of a model of so many words.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn open(&self, vars: &Vars, words: usize) -> Result<Language> {
        Ok(match self {
            Self::Opt(config) => Language::Opt(opt::Opt::new(vars, config, words)?),
            Self::T5(config) => Language::T5(t5::T5::new(vars, config, words)?),
        })
    }
}

impl ModelConfig for Config {
    fn abilities(&self) -> Abilities {
        [Ability::Generate, Ability::PredictWords].into()
    }

    fn lacks(&self, _: Ability) -> &'static str {
        "language continues texts word by word and reads no image"
    }

    fn reads(&self) -> BTreeSet<Field> {
        [Field::Words].into()
    }

    fn faults(&self, inputs: &Inputs) -> Vec<String> {
        self.faults_behind(0, inputs.words)
    }

    fn dims(&self, inputs: &Inputs) -> Dims {
        Dims::new(self.width(), inputs)
    }

    /// The parameters lie at `language`, as within a model that hands it a prefix.
    fn build(&self, vars: &Vars, inputs: &Inputs) -> Result<Box<dyn Model>> {
        Ok(Box::new(Alone {
            language: self.open(&vars.at("language"), inputs.vocabulary)?,
            width: self.width(),
            device: vars.device().clone(),
        }))
    }
}

/// A language model without anything before its texts.
struct Alone {
    language: Language,
    width: usize,
    device: Device,
}

impl Model for Alone {
    /// The words, which have seen no image; the pooled vector is the average over all places.
    fn fuse(&self, _: &View<Image>, text: &View<Text>, attend: Attend) -> Result<Fused> {
        if attend == Attend::Both {
            return super::lacks(Ability::Fuse);
        }
        let (input, noise) = (text.input()?, text.noise());
        let text = self.language.continues(&self.nothing(input)?, input, noise)?;
        Ok(Fused { pooled: text.hidden.mean(1)?, text, image: None })
    }

    fn decode<'a>(&'a self, _: &View<Image>, prompt: &View<Text>) -> Result<Begun<'a>> {
        let input = prompt.input()?;
        self.language.decode(&self.nothing(input)?, input)
    }

    fn predict_words(&self, hidden: &Tensor) -> Result<Logits> {
        Ok(self.language.predict_words(hidden))
    }
}

impl Alone {
    /// A prefix (B,0,D).
    fn nothing(&self, text: &Text) -> Result<Tensor> {
        Tensor::zeros((text.ids.dim(0)?, 0, self.width), DType::F32, &self.device)
    }
}

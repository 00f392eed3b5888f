//! Language models: what a multimodal model may hand a prefix of vectors to. Each is a model of words by itself, to be
//! trained or loaded before, and then frozen.

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use super::{Begun, Text, Tokens, Vars};
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

impl Config {
    /// D.
    pub fn width(&self) -> usize {
        match self {
            Self::Opt(config) => config.layers.width,
            Self::T5(config) => config.layers.width,
        }
    }

    /// What is wrong with it behind a prefix of `prefix` vectors, for texts of `words` tokens, one sentence a fault.
    pub fn faults(&self, prefix: usize, words: usize) -> Vec<String> {
        match self {
            Self::Opt(config) => config.faults(prefix + words),
            Self::T5(config) => config.faults(),
        }
    }

    /// Opens the parameters of a model of so many words.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn build(&self, vars: &Vars, words: usize) -> Result<Language> {
        Ok(match self {
            Self::Opt(config) => Language::Opt(opt::Opt::new(vars, config, words)?),
            Self::T5(config) => Language::T5(t5::T5::new(vars, config, words)?),
        })
    }
}

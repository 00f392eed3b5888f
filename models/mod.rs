//! What a model computes. One paper, one file; what the papers share lies in [`nn`].
//!
//! A model turns images and texts into embeddings, joint representations and predictions. It never sees a loss:
//! objectives decide what to ask of it.

use std::collections::BTreeSet;
use std::fmt;

use candle_core::{Result, Tensor};
use serde::Serialize;

pub use crate::field::Field;
use crate::kernels::Logits;
use crate::registry::registry;
use crate::source;
use crate::token::Specials;

pub mod albef;
pub mod blip;
pub mod blip2;
pub mod checkpoint;
pub mod clip;
pub mod coca;
pub mod decoding;
mod init;
pub mod language;
pub mod nn;
pub mod oscar;
pub mod store;
pub mod uniter;
pub mod view;
pub mod vilt;
pub mod vlmo;

pub use decoding::{Begun, Decoding};
pub use init::Init;
pub use store::{Store, Vars};
pub use view::{Attend, Fused, Image, Regions, Rows, Text, Tokens, View, take};

/// Something a model can do; a method of [`Model`] is called only when the configuration lists its ability.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ability {
    /// [`Model::image_tokens`]
    ImageTokens,
    /// [`Model::text_tokens`] of words that see each other both ways
    TextTokens,
    /// [`Model::embed_image`], [`Model::embed_text`], [`Model::similarity`]
    Embed,
    /// [`Model::fuse`] with [`Attend::Both`]
    Fuse,
    /// [`Model::fuse`] with [`Attend::Causal`], [`Model::decode`]
    Generate,
    /// [`Model::fuse`] that also returns the image tokens
    FuseImage,
    /// [`Image::masked`] over the patches of pixels
    HidePatches,
    /// [`Model::predict_words`]
    PredictWords,
    /// [`Model::predict_regions`]
    PredictRegions,
    /// [`Model::answer`], [`Model::predict_answer`], and [`Model::decode`] behind a question
    Answer,
}

impl Ability {
    /// Every ability, in the order in which they are printed.
    pub const ALL: [Self; 10] = [
        Self::ImageTokens,
        Self::TextTokens,
        Self::Embed,
        Self::Fuse,
        Self::Generate,
        Self::FuseImage,
        Self::HidePatches,
        Self::PredictWords,
        Self::PredictRegions,
        Self::Answer,
    ];

    /// What an objective that needs it asks for, as refusals say it.
    pub fn wanted(self) -> &'static str {
        match self {
            Self::ImageTokens => "image tokens (image_tokens)",
            Self::TextTokens => "text tokens that see each other both ways (text_tokens)",
            Self::Embed => "image and text embedded apart, in one space (embed)",
            Self::Fuse => "a joint pass in which words see each other both ways (fuse)",
            Self::Generate => "a joint pass from left to right (generate)",
            Self::FuseImage => "image tokens that have seen the words (fuse_image)",
            Self::HidePatches => "a mask token in place of hidden patches (hide_patches)",
            Self::PredictWords => "a word decoder (predict_words)",
            Self::PredictRegions => "a region decoder (predict_regions)",
            Self::Answer => "a decoder of answers to a question (answer)",
        }
    }
}

impl fmt::Display for Ability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ImageTokens => "image_tokens",
            Self::TextTokens => "text_tokens",
            Self::Embed => "embed",
            Self::Fuse => "fuse",
            Self::Generate => "generate",
            Self::FuseImage => "fuse_image",
            Self::HidePatches => "hide_patches",
            Self::PredictWords => "predict_words",
            Self::PredictRegions => "predict_regions",
            Self::Answer => "answer",
        })
    }
}

/// A set of abilities.
pub type Abilities = BTreeSet<Ability>;

/// What the data decides about a model's shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inputs {
    /// Side of the square image, in pixels.
    pub size: usize,
    /// Length T of a word sequence, in vocabulary entries.
    pub words: usize,
    /// Entries V of the vocabulary.
    pub vocabulary: usize,
    /// The entries among them that spell no words.
    pub specials: Specials,
    /// Width R of a region's feature vector; 0 without regions.
    pub region_features: usize,
    /// Classes of the region detector; 0 without regions.
    pub region_classes: usize,
    /// Answers A in the closed list of the data; 0 where nothing is asked.
    pub answers: usize,
}

impl Inputs {
    /// Images of so many pixels a side and words of the shipped vocabulary's form, with neither regions nor answers.
    pub fn pixels(size: usize, words: usize, vocabulary: usize) -> Self {
        let specials = Specials::SHIPPED;
        Self { size, words, vocabulary, specials, region_features: 0, region_classes: 0, answers: 0 }
    }
}

/// The widths an objective's own parts must agree with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// D: width of fused hidden states and of [`Fused::pooled`].
    pub width: usize,
    /// E: width of the shared embedding space; 0 without one.
    pub embed: usize,
    /// Q: unit vectors an image, where [`Model::embed_image`] returns (B,Q,E); `None` where it returns (B,E).
    pub queries: Option<usize>,
    /// V: entries of the data's vocabulary. [`Model::predict_words`] may tell apart more: behind them follow the tokens that a
    /// model adds for itself, which no objective asks for.
    pub vocabulary: usize,
    /// C: classes of the region detector; 0 without regions.
    pub region_classes: usize,
    /// A: answers in the closed list of the data; 0 where nothing is asked.
    pub answers: usize,
    /// D': width of [`Model::image_tokens`]; 0 without them.
    pub image: usize,
    /// Side in pixels of the patches that image tokens stand for; 0 where they stand for none.
    pub patch: usize,
    /// T: length of a text, in vocabulary entries.
    pub words: usize,
}

impl Dims {
    /// Of a model of so many hidden numbers: what the data decides, and nothing that only some models have.
    pub fn new(width: usize, inputs: &Inputs) -> Self {
        let Inputs { words, vocabulary, region_classes, answers, .. } = *inputs;
        Self {
            width,
            embed: 0,
            queries: None,
            vocabulary,
            region_classes,
            answers,
            image: 0,
            patch: 0,
            words,
        }
    }
}

/// A vision-language model: computes, never judges.
pub trait Model {
    /// Hidden states of the image alone (B,N,D).
    ///
    /// # Errors
    /// When the model lacks [`Ability::ImageTokens`].
    fn image_tokens(&self, _image: &View<Image>) -> Result<Tokens> {
        lacks(Ability::ImageTokens)
    }
    /// Hidden states of the text alone (B,T,D). A model whose words see those before them alone returns them, too, and lacks
    /// [`Ability::TextTokens`] all the same.
    ///
    /// # Errors
    /// When the model does not encode a text alone.
    fn text_tokens(&self, _text: &View<Text>) -> Result<Tokens> {
        lacks(Ability::TextTokens)
    }
    /// Unit vectors (B,E), or (B,Q,E) for models with several queries an image. Of a view that is embedded alone
    /// ([`View::is_embedded_alone`]) no tokens need be computed.
    ///
    /// # Errors
    /// When the model lacks [`Ability::Embed`].
    fn embed_image(&self, _image: &View<Image>) -> Result<Tensor> {
        lacks(Ability::Embed)
    }
    /// Unit vectors (B,E).
    ///
    /// # Errors
    /// When the model lacks [`Ability::Embed`].
    fn embed_text(&self, _text: &View<Text>) -> Result<Tensor> {
        lacks(Ability::Embed)
    }
    /// Logits (images, texts) of embeddings, temperature included.
    ///
    /// # Errors
    /// When the model lacks [`Ability::Embed`].
    fn similarity(&self, _images: &Tensor, _texts: &Tensor) -> Result<Tensor> {
        lacks(Ability::Embed)
    }
    /// Logits (images, texts) of a second contrast of the same pairs, where the paper trains one beside
    /// [`Model::similarity`]; no evaluation reads them.
    ///
    /// # Errors
    /// When a pass fails.
    fn second_similarity(&self, _image: &View<Image>, _text: &View<Text>) -> Result<Option<Tensor>> {
        Ok(None)
    }
    /// A joint pass over pairs.
    ///
    /// # Errors
    /// When the model lacks [`Ability::Fuse`] or, for [`Attend::Causal`], [`Ability::Generate`].
    fn fuse(&self, _image: &View<Image>, _text: &View<Text>, attend: Attend) -> Result<Fused> {
        lacks(if attend == Attend::Both { Ability::Fuse } else { Ability::Generate })
    }
    /// One vector a pair (B,D): [`Fused::pooled`] of [`Model::fuse`] with [`Attend::Both`], for who reads nothing else.
    /// A model says how where that costs less than the whole joint pass; dropout may drop other elements.
    ///
    /// # Errors
    /// When the model lacks [`Ability::Fuse`].
    fn pool(&self, image: &View<Image>, text: &View<Text>) -> Result<Tensor> {
        Ok(self.fuse(image, text, Attend::Both)?.pooled)
    }
    /// Vocabulary logits (..,V) of text hidden states (..,D), stated and not computed: who asks may need no more than
    /// their cross-entropy.
    ///
    /// # Errors
    /// When the model lacks [`Ability::PredictWords`].
    fn predict_words(&self, _hidden: &Tensor) -> Result<Logits> {
        lacks(Ability::PredictWords)
    }
    /// Texts about images, to be continued word by word: behind `prompt`, whose first token the model replaces as
    /// [`Model::fuse`] does, and the logits of the word that follows it. Where the model answers questions the prompt is the
    /// question, and the first word of the answer follows. No step computes a place again that an earlier one has read.
    /// Nothing is dropped.
    ///
    /// # Errors
    /// When the model lacks both [`Ability::Generate`] and [`Ability::Answer`], or a prompt has no token.
    fn decode<'a>(&'a self, _image: &View<Image>, _prompt: &View<Text>) -> Result<Begun<'a>> {
        lacks(Ability::Generate)
    }
    /// Hidden states (A,T,D) of answers `[CLS] .. [SEP]`, each to one of B questions about images: `of` names it (A). A
    /// word has seen those before it, and predicts the next.
    ///
    /// # Errors
    /// When the model lacks [`Ability::Answer`], or a question does not exist.
    fn answer(
        &self,
        _image: &View<Image>,
        _question: &View<Text>,
        _answers: &View<Text>,
        _of: &[u32],
    ) -> Result<Tokens> {
        lacks(Ability::Answer)
    }
    /// Vocabulary logits (..,V) of hidden states (..,D) of answers.
    ///
    /// # Errors
    /// When the model lacks [`Ability::Answer`].
    fn predict_answer(&self, _hidden: &Tensor) -> Result<Logits> {
        lacks(Ability::Answer)
    }
    /// Region features (..,R) of image hidden states (..,D).
    ///
    /// # Errors
    /// When the model lacks [`Ability::PredictRegions`].
    fn predict_regions(&self, _hidden: &Tensor) -> Result<Tensor> {
        lacks(Ability::PredictRegions)
    }
}

fn lacks<T>(ability: Ability) -> Result<T> {
    candle_core::bail!("this model does not offer {}", ability.wanted())
}

/// A model as the experiment file describes it: known before a weight exists.
pub trait ModelConfig {
    /// What the model can do.
    fn abilities(&self) -> Abilities;
    /// Why it cannot do the rest, as refusals say it ("clip has no joint pass").
    fn lacks(&self, ability: Ability) -> &'static str;
    /// The fields of a pair that it reads.
    fn reads(&self) -> BTreeSet<Field>;
    /// What is wrong with the configuration in itself, one sentence a fault.
    fn faults(&self, inputs: &Inputs) -> Vec<String>;
    /// The widths its objectives build on.
    fn dims(&self, inputs: &Inputs) -> Dims;
    /// Opens the parameters.
    ///
    /// # Errors
    /// When a parameter of the same name exists with another shape.
    fn build(&self, vars: &Vars, inputs: &Inputs) -> Result<Box<dyn Model>>;
}

registry! {
    /// The model of an experiment: `model: {<name>: {..}}`.
    "model" implements ModelConfig:
    Clip(clip),
    Albef(albef),
    Blip(blip),
    Vilt(vilt),
    Vlmo(vlmo),
    Coca(coca),
    Blip2(blip2),
    Uniter(uniter),
    Oscar(oscar),
    Language(language),
}

impl Config {
    /// What differs from its paper on purpose, one sentence each.
    pub fn deviations(&self) -> Vec<String> {
        source::deviations(self.source())
    }
}

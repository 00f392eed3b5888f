//! CoCa: an image tower and a text decoder whose lower half reads words alone, so that one pass serves contrast and
//! captioning.
//!
//! Yu et al., arXiv:2205.01917, section 3.2. A ViT encodes the image. A pooler is one multi-head attention in which
//! learned queries look at a sequence: the captioning pooler asks 256 of them of the image, the contrastive pooler one
//! of the captioning pooler's outcome (`cascade`) or of the image itself (`parallel`). The text is `w_1 .. w_T` and
//! after it a learned [CLS], all of them causal: [CLS] sees every word and no word sees [CLS], whose position is that
//! behind the longest text. The first layers of the decoder see the text alone. The others take the words without [CLS]
//! and also look at the captioning pooler's outcome:
//!
//! `I = unit(project(contrastive))`, `T = unit(project(LN(unimodal([CLS]))))`, `similarity = exp(s) I T'`
//!
//! `p(w_t | w_<t, image) = softmax(words LN(multimodal(unimodal(w_<t), captioning)))`
//!
//! s begins at ln(1/0.07). The published sizes (297 million parameters of CoCa-Base's decoder) tell what the text does
//! not: predicting words has a table of its own, not tied to that of reading them, and a multimodal layer has one
//! feed-forward part. They count the ViT and the decoder, and neither poolers nor projections.
//!
//! There is no released code; published weights are those of `open_clip`, which differs. Each difference has a name
//! here, and the paper's side is the default:
//!
//! - `pool.wiring: shared`: one pooler, whose first query is the contrastive one; without a pooler the class token is.
//! - `encoder: clip`: a class token, a normalisation before the layers, and patches without a bias.
//! - `multimodal: pairs`: a layer of self-attention, then a layer of cross-attention, each with a feed-forward part.
//! - `class_mask: shifted`: meant to hide padding from [CLS], it stands one place off and hides [CLS] from itself
//!   instead of the first padding token; the fault is known and the weights were trained with it.
//!
//! Where the paper is silent, everything is as in `open_clip`: the poolers normalise their queries and what they look
//! at, so does cross-attention; the projections have no bias; the temperature is kept at 0.01 or above; the ViT's outcome
//! is normalised once before all poolers.
//!
//! Deviation: several [CLS], or [CLS] and words, make one text embedding as the mean of their normalised outcomes; the
//! paper compares these without saying how they are brought together.
//!
//! Deviation: weights begin as `open_clip` means them to, the image as in PyTorch and both halves of the text as in CLIP,
//! though it never calls what begins its multimodal half; the paper does not say.

mod image;
mod text;

use std::collections::BTreeSet;

use candle_core::{Result, Tensor, bail};
use serde::{Deserialize, Serialize};

use super::nn::{Linear, One, Packing, Past, Seen, Tower, two_tower_faults, unit};
use super::view::joint_noise;
use super::{
    Abilities, Ability, Attend, Begun, Decoding, Dims, Field, Fused, Image, Init, Inputs, Logits, Model,
    ModelConfig, Text, Tokens, Vars, View,
};
use crate::kernels::{self, Activation, Spans};
use image::ImageHalf;
pub use image::{Encoder, Pool, Wiring};
pub use text::{Aggregate, ClassMask, Layers};
use text::{Multimodal, Unimodal};

const EPS: f64 = 1e-5;
const SCALE: f64 = 1.0 / 0.07;
const MOST: f64 = 100.0;
/// Why it lacks what takes words that see each other both ways.
const ONE_WAY: &str = "coca reads from left to right only: no word sees the words after it";

/// `coca: {image: {width: 128, depth: 4, heads: 4}, text: {..}, unimodal: 2, pool: {queries: 16}, patch: 8, embed: 128}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The image tower.
    pub image: Tower,
    /// The text decoder: its unimodal and its multimodal half together.
    pub text: Tower,
    /// `n_uni`: how many layers of `text` see words alone; the layers after them also see the image (table 8d).
    pub unimodal: usize,
    /// The poolers.
    pub pool: Pool,
    /// Learned [CLS] tokens at the end of a text (table 8e).
    pub classes: usize,
    /// What the text embedding is made of (table 8e).
    pub aggregate: Aggregate,
    /// Side of an image patch, in pixels.
    pub patch: usize,
    /// E: width of the shared space.
    pub embed: usize,
    /// The kind of image tower.
    pub encoder: Encoder,
    /// What a multimodal layer is made of.
    pub multimodal: Layers,
    /// What [CLS] sees.
    pub class_mask: ClassMask,
    /// The non-linearity.
    pub activation: Activation,
    /// Probability of dropping the outcome of each part of a layer; the paper drops nothing.
    pub dropout: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            image: Tower::default(),
            text: Tower::default(),
            unimodal: 2,
            pool: Pool::default(),
            classes: 1,
            aggregate: Aggregate::Classes,
            patch: 8,
            embed: 128,
            encoder: Encoder::Vit,
            multimodal: Layers::Single,
            class_mask: ClassMask::Words,
            activation: Activation::Gelu,
            dropout: 0.0,
        }
    }
}

impl ModelConfig for Config {
    fn abilities(&self) -> Abilities {
        [Ability::ImageTokens, Ability::Embed, Ability::Generate, Ability::PredictWords].into()
    }

    fn lacks(&self, ability: Ability) -> &'static str {
        match ability {
            Ability::Answer => "coca has no decoder that answers questions apart from captions",
            Ability::HidePatches => "coca has no mask token for patches",
            Ability::FuseImage => "coca fuses into the words; its image tokens never see them",
            Ability::PredictRegions => "coca reads pixels, not regions",
            _ => ONE_WAY,
        }
    }

    fn reads(&self) -> BTreeSet<Field> {
        [Field::Pixels, Field::Words].into()
    }

    fn faults(&self, inputs: &Inputs) -> Vec<String> {
        let towers = [("image", &self.image), ("text", &self.text)];
        let mut faults = two_tower_faults(towers, (inputs.size, self.patch), self.embed, self.dropout);
        let (unimodal, depth) = (self.unimodal, self.text.depth);
        if depth > 0 && !(1..depth).contains(&unimodal) {
            faults.push(format!(
                "unimodal is {unimodal}: of {depth} text layers at least one must see words alone and one the image"
            ));
        }
        faults.extend(self.pool.faults(self.encoder, self.text.width));
        if self.classes == 0 {
            faults.push("classes is 0: the text embedding needs a [CLS]".to_owned());
        }
        if self.classes > 1 && self.class_mask == ClassMask::Shifted {
            faults.push(format!("classes is {}: `class_mask: shifted` is made for one [CLS]", self.classes));
        }
        faults
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
        let image = ImageHalf::new(&vars.at("image"), self, inputs.size)?;
        let project = |name: &str, width: usize| {
            let init = Init::Normal { std: (width as f64).powf(-0.5) };
            Linear::new(&vars.at(name), [width, self.embed], init, None)
        };
        Ok(Box::new(Coca {
            project_image: project("project_image", image.contrastive_width)?,
            project_text: project("project_text", self.text.width)?,
            text: Unimodal::new(&vars.at("text"), self, inputs)?,
            decoder: Multimodal::new(&vars.at("decoder"), self, image.captioning_width)?,
            words: project_words(vars, self.text.width, inputs.vocabulary)?,
            scale: vars.bounded("scale", SCALE.ln(), f64::NEG_INFINITY, MOST.ln())?,
            image,
        }))
    }
}

fn project_words(vars: &Vars, width: usize, vocabulary: usize) -> Result<Tensor> {
    vars.get((vocabulary, width), "words", Init::Normal { std: (width as f64).powf(-0.5) })
}

struct Coca {
    image: ImageHalf,
    text: Unimodal,
    decoder: Multimodal,
    project_image: Linear,
    project_text: Linear,
    /// The table (V,D) by which words are predicted.
    words: Tensor,
    /// The logarithm of what multiplies the similarities.
    scale: Tensor,
}

impl Model for Coca {
    /// The outcome of the image tower, before any pooler.
    fn image_tokens(&self, image: &View<Image>) -> Result<Tokens> {
        self.image.tokens(image)
    }

    /// The words after the unimodal half, as the multimodal half reads them; [CLS] is not among them.
    fn text_tokens(&self, text: &View<Text>) -> Result<Tokens> {
        self.text.words(text)
    }

    fn embed_image(&self, image: &View<Image>) -> Result<Tensor> {
        unit(&self.project_image.forward(&self.image.contrastive(image)?.hidden)?)
    }

    fn embed_text(&self, text: &View<Text>) -> Result<Tensor> {
        unit(&self.project_text.forward(&self.text.feature(text)?)?)
    }

    fn similarity(&self, images: &Tensor, texts: &Tensor) -> Result<Tensor> {
        kernels::linear(&images.broadcast_mul(&self.scale.exp()?)?, texts, None)
    }

    /// The pooled vector is that of the last word, the only one that has seen the whole text.
    fn fuse(&self, image: &View<Image>, text: &View<Text>, attend: Attend) -> Result<Fused> {
        if attend == Attend::Both {
            bail!("{ONE_WAY}");
        }
        let seen = Seen::new(image, |whole| self.image.captioning(whole))?;
        let words = self.text.words(text)?;
        let packing = Packing::of(&words)?;
        let noise = joint_noise(image, text);
        let hidden = self.decoder.forward(packing.pack(&words.hidden)?, packing.spans(), &seen, noise)?;
        let pooled = One::last(packing.spans())?.pick(&hidden)?;
        let text = Tokens { hidden: packing.unpack(&hidden)?, ..words };
        Ok(Fused { text, image: None, pooled })
    }

    fn predict_words(&self, hidden: &Tensor) -> Result<Logits> {
        Ok(Logits::new(hidden.clone(), &self.words, None))
    }

    fn decode<'a>(&'a self, image: &View<Image>, prompt: &View<Text>) -> Result<Begun<'a>> {
        let (prompt, seen) = (prompt.input()?, Seen::new(image, |whole| self.image.captioning(whole))?);
        let packing = Packing::new(&prompt.mask)?;
        let texts = self.text.begin(packing.spans().ranges().len());
        let mut caption = Caption { model: self, texts, past: self.decoder.begin(&seen)? };
        let ids = packing.pack_ids(&prompt.ids)?.to_vec1::<u32>()?;
        let hidden = caption.read(&ids, packing.spans())?;
        let last = One::last(packing.spans())?.pick(&hidden)?;
        Ok((Box::new(caption), self.predict_words(&last)?.dense()?))
    }
}

/// Captions as far as they are written.
struct Caption<'a> {
    model: &'a Coca,
    texts: text::Begun,
    past: Past,
}

impl Caption<'_> {
    /// The next words (R) of texts, whose rows `new` tells, to (R,D).
    fn read(&mut self, words: &[u32], new: &Spans) -> Result<Tensor> {
        let hidden = self.model.text.next(&mut self.texts, words, new)?;
        self.model.decoder.next(&mut self.past, hidden, new)
    }
}

impl Decoding for Caption<'_> {
    fn next(&mut self, words: &[u32]) -> Result<Tensor> {
        let hidden = self.read(words, &Spans::even(words.len(), 1))?;
        self.model.predict_words(&hidden)?.dense()
    }

    fn reorder(&mut self, rows: &[u32]) -> Result<()> {
        self.texts.reorder(rows)?;
        self.past.reorder(rows)
    }
}

//! BLIP: one text transformer in three roles: it reads words alone, matches them with an image, and writes captions.
//!
//! Li et al., arXiv:2201.12086, section 3, and the released code. Image: ViT, all tokens normalised. Text: BERT without
//! segments, in whose layers cross-attention to the image tokens stands between self-attention and the feed-forward
//! half:
//!
//! - unimodal encoder: cross-attention left out; its [CLS] and the image's class token are mapped linearly to unit
//!   vectors T (B,E) and I (B,E), `similarity = I T' / temperature`, the temperature learned, 0.07 at first and kept
//!   within 0.001 and 0.5;
//! - image-grounded encoder ([`Attend::Both`]): the text begins with [ENC] instead, whose outcome the matching head reads;
//! - image-grounded decoder ([`Attend::Causal`]): the text begins with [DEC], and a word sees itself and the words before
//!   it; a head tied to the word table predicts the next one.
//!
//! The two encoders are one. What the decoder shares with them is a setting ([`Sharing`], the paper's Table 3). [DEC] and
//! [ENC] follow the V entries of the vocabulary, at V and V + 1. The image runs once for all roles, and its keys once for
//! all that share cross-attention.
//!
//! Deviation: weights begin at random, matrices with a standard deviation of 0.02 at width 768 and more in narrower
//! models; the paper's image tower begins as DeiT and its text transformer as BERT.

use std::collections::BTreeSet;

use candle_core::{Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::nn::{
    Linear, One, Packing, Past, Seen, Spec, Tower, Vit, bert, fan_in, first_of, two_tower_faults, unit,
    within,
};
use super::view::joint_noise;
use super::{
    Abilities, Ability, Attend, Begun, Decoding, Dims, Field, Fused, Image, Inputs, Logits, Model,
    ModelConfig, Text, Tokens, Vars, View,
};
use crate::kernels::{self, Activation};

mod sharing;
mod stack;

pub use sharing::{Part, Sharing};
pub(super) use stack::{Pass, Stack};

const TEMPERATURE: f64 = 0.07;
const BOUNDS: [f64; 2] = [0.001, 0.5];
/// Entries of the word table beside the vocabulary: [DEC] and [ENC].
pub(super) const ADDED: usize = 2;

/// `blip: {image: {width: 128, depth: 4, heads: 4}, text: {..}, patch: 8, embed: 64, sharing: all_but_self_attention}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The image tower.
    pub image: Tower,
    /// The text transformer: the encoders, and once more the decoder.
    pub text: Tower,
    /// Side of an image patch, in pixels.
    pub patch: usize,
    /// E: width of the shared space.
    pub embed: usize,
    /// What the decoder shares with the encoders.
    pub sharing: Sharing,
    /// Probability of dropping attention weights and the outcome of each part of a text layer; the image tower drops
    /// nothing.
    pub dropout: f64,
    /// Added to every variance of the image tower: 1e-6 in the released code, 1e-5 in weights converted for transformers.
    pub image_eps: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            image: Tower::default(),
            text: Tower::default(),
            patch: 8,
            embed: 64,
            sharing: Sharing::AllButSelfAttention,
            dropout: 0.1,
            image_eps: 1e-6,
        }
    }
}

impl Config {
    /// What the text layers have in common.
    fn spec(&self) -> Spec {
        self.text.spec(Activation::Gelu, bert::EPS, self.dropout)
    }

    /// The image tower.
    pub(super) fn vit(&self, vars: &Vars, inputs: &Inputs) -> Result<Vit> {
        Vit::new(&vars.at("image"), [inputs.size, self.patch], &self.image, self.image_eps)
    }

    /// The maps of [CLS] and of the class token to the shared space.
    pub(super) fn project(&self, vars: &Vars) -> Result<Project> {
        let map = |name: &str, width| {
            Linear::new(&vars.at(name), [width, self.embed], fan_in(width), Some(fan_in(width)))
        };
        let (image, text) = (self.image.width, self.text.width);
        Ok(Project { image: map("project_image", image)?, text: map("project_text", text)? })
    }

    /// The encoders.
    pub(super) fn encoder(&self, vars: &Vars, inputs: &Inputs) -> Result<Stack> {
        Stack::new(vars, Sharing::All, self, inputs)
    }

    /// The decoder with its head.
    pub(super) fn decoder(&self, vars: &Vars, inputs: &Inputs) -> Result<(Stack, bert::Decoder)> {
        let stack = Stack::new(vars, self.sharing, self, inputs)?;
        let head = bert::Decoder::new(&vars.at("decoder").at("head"), stack.table(), &self.spec())?;
        Ok((stack, head))
    }
}

impl ModelConfig for Config {
    fn abilities(&self) -> Abilities {
        use Ability::{Embed, Fuse, Generate, ImageTokens, PredictWords, TextTokens};
        [ImageTokens, TextTokens, Embed, Fuse, Generate, PredictWords].into()
    }

    fn lacks(&self, ability: Ability) -> &'static str {
        match ability {
            Ability::Answer => "blip has no decoder that answers questions apart from captions",
            Ability::HidePatches => "blip has no mask token for patches",
            Ability::FuseImage => "blip fuses into the words; its image tokens never see them",
            _ => "blip reads pixels, not regions",
        }
    }

    fn reads(&self) -> BTreeSet<Field> {
        [Field::Pixels, Field::Words].into()
    }

    fn faults(&self, inputs: &Inputs) -> Vec<String> {
        let towers = [("image", &self.image), ("text", &self.text)];
        let mut faults = two_tower_faults(towers, (inputs.size, self.patch), self.embed, self.dropout);
        if !(self.image_eps > 0.0 && self.image_eps < 1.0) {
            faults.push(format!("image_eps {} is not above 0 and below 1", self.image_eps));
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
        let (decoder, head) = self.decoder(vars, inputs)?;
        Ok(Box::new(Blip {
            image: self.vit(vars, inputs)?,
            encoder: self.encoder(vars, inputs)?,
            decoder,
            head,
            project: self.project(vars)?,
            temperature: vars.bounded("temperature", TEMPERATURE, BOUNDS[0], BOUNDS[1])?,
            begins: [inputs.vocabulary, inputs.vocabulary + 1].map(|entry| entry as u32),
        }))
    }
}

struct Blip {
    image: Vit,
    encoder: Stack,
    decoder: Stack,
    head: bert::Decoder,
    project: Project,
    /// What divides the similarities.
    temperature: Tensor,
    /// [DEC] and [ENC].
    begins: [u32; 2],
}

impl Model for Blip {
    fn image_tokens(&self, image: &View<Image>) -> Result<Tokens> {
        image.memo("image", |image| self.image.encode(image))
    }

    /// The outcome of the unimodal encoder.
    fn text_tokens(&self, text: &View<Text>) -> Result<Tokens> {
        text.memo("text", |text| self.encoder.encode(text.input()?, text.noise()))
    }

    fn embed_image(&self, image: &View<Image>) -> Result<Tensor> {
        let class = first_of(image, |image| self.image.class(image), |image| self.image_tokens(image))?;
        self.project.image(&class)
    }

    /// Of the last layer the embedding reads [CLS] alone, and no joint pass begins with this text.
    fn embed_text(&self, text: &View<Text>) -> Result<Tensor> {
        let class = text.memo("text.class", |text| {
            let (input, noise) = (text.input()?, text.noise());
            let hidden =
                self.encoder.first(&Pass { text: input, image: None, attend: Attend::Both, noise })?;
            Ok(Tokens { hidden, mask: None })
        })?;
        self.project.text(&class.hidden)
    }

    fn similarity(&self, images: &Tensor, texts: &Tensor) -> Result<Tensor> {
        kernels::linear(&images.broadcast_div(&self.temperature)?, texts, None)
    }

    /// The pooled vector is the hidden state of [ENC], which the paper's matching head reads as it is; from left to right
    /// that of the last token, which alone has seen every word.
    fn fuse(&self, image: &View<Image>, text: &View<Text>, attend: Attend) -> Result<Fused> {
        let (seen, noise) = (self.seen(image)?, joint_noise(image, text));
        let [dec, enc] = self.begins;
        let (stack, begin, noise) = match attend {
            Attend::Both => (&self.encoder, enc, noise),
            Attend::Causal => (&self.decoder, dec, within(noise, self.encoder.parts())),
        };
        let text = begin_with(begin, text.input()?)?;
        let (hidden, packing) = stack.forward(&Pass { text: &text, image: Some(&seen), attend, noise })?;
        let pooled = match attend {
            Attend::Both => One::first(packing.spans())?,
            Attend::Causal => One::last(packing.spans())?,
        };
        let pooled = pooled.pick(&hidden)?;
        Ok(Fused {
            text: Tokens { hidden: packing.unpack(&hidden)?, mask: Some(text.mask) },
            image: None,
            pooled,
        })
    }

    fn pool(&self, image: &View<Image>, text: &View<Text>) -> Result<Tensor> {
        let (seen, noise) = (self.seen(image)?, joint_noise(image, text));
        let text = begin_with(self.begins[1], text.input()?)?;
        self.encoder.first(&Pass { text: &text, image: Some(&seen), attend: Attend::Both, noise })
    }

    fn predict_words(&self, hidden: &Tensor) -> Result<Logits> {
        self.head.forward(hidden)
    }

    fn decode<'a>(&'a self, image: &View<Image>, prompt: &View<Text>) -> Result<Begun<'a>> {
        let prompt = begin_with(self.begins[0], prompt.input()?)?;
        let packing = Packing::new(&prompt.mask)?;
        let mut past = self.decoder.begin(&self.seen(image)?)?;
        let hidden = self.decoder.next(&mut past, &packing.pack_ids(&prompt.ids)?, packing.spans())?;
        let last = One::last(packing.spans())?.pick(&hidden)?;
        Ok((Box::new(Caption { model: self, past }), self.head.forward(&last)?.dense()?))
    }
}

/// Captions as far as they are written.
struct Caption<'a> {
    model: &'a Blip,
    past: Past,
}

impl Decoding for Caption<'_> {
    fn next(&mut self, words: &[u32]) -> Result<Tensor> {
        let (ids, new) = self.past.next(words)?;
        let hidden = self.model.decoder.next(&mut self.past, &ids, &new)?;
        self.model.head.forward(&hidden)?.dense()
    }

    fn reorder(&mut self, rows: &[u32]) -> Result<()> {
        self.past.reorder(rows)
    }
}

impl Blip {
    fn seen(&self, image: &View<Image>) -> Result<Seen<Image>> {
        Seen::new(image, |whole| self.image_tokens(whole))
    }
}

/// The text with another entry in the place of its first token.
fn begin_with(entry: u32, text: &Text) -> Result<Text> {
    let (batch, length) = text.ids.dims2()?;
    let begin = Tensor::full(entry, (batch, 1), &Device::Cpu)?;
    let ids = Tensor::cat(&[&begin, &text.ids.narrow(1, 1, length - 1)?], 1)?;
    Ok(Text { ids, ..text.clone() })
}

/// The maps to the shared space.
pub(super) struct Project {
    image: Linear,
    text: Linear,
}

impl Project {
    /// Class tokens (B,D') to unit vectors (B,E).
    pub(super) fn image(&self, class: &Tensor) -> Result<Tensor> {
        unit(&self.image.forward(class)?)
    }

    /// [CLS] tokens (B,D) to unit vectors (B,E).
    pub(super) fn text(&self, class: &Tensor) -> Result<Tensor> {
        unit(&self.text.forward(class)?)
    }
}

//! ALBEF: image and text are aligned by contrast first and fused by cross-attention afterwards.
//!
//! Li et al., arXiv:2107.07651, section 3.1, and the released code. Image: ViT, all tokens normalised. Text: the first
//! layers of BERT. Fusion: its later layers, each of which also attends to the image tokens. The [CLS] tokens of
//! image and text are mapped linearly to unit vectors I (B,E) and T (B,E):
//!
//! `similarity = I T' / temperature`, the temperature learned, 0.07 at first and kept within 0.001 and 0.5.
//!
//! A decoder of answers ([`answer`]) can stand behind fusion.
//!
//! Both towers run once for the contrast and for every fusion of the same pairs; only masked words need another pass.
//!
//! Deviation: weights begin at random, matrices with a standard deviation of 0.02 at width 768 and more in narrower
//! models; the paper's image tower begins as DeiT and its text layers as BERT.

use std::collections::BTreeSet;

use candle_core::{Result, Tensor, bail};
use serde::{Deserialize, Serialize};

use super::nn::{
    Linear, One, Packing, Seen, Spec, Tower, Vit, bert, fan_in, first, first_of, two_tower_faults, unit,
    within,
};
use super::view::joint_noise;
use super::{
    Abilities, Ability, Attend, Begun, Dims, Field, Fused, Image, Inputs, Model, ModelConfig, Text, Tokens,
    Vars, View,
};
use crate::kernels::{self, Activation, Logits, Mask, random::Key};

mod answer;

use answer::Answerer;

const TEMPERATURE: f64 = 0.07;
const BOUNDS: [f64; 2] = [0.001, 0.5];
const IMAGE_EPS: f64 = 1e-6;
/// Sets the noise of answers apart from that of fusion.
const ANSWERS: u64 = u64::MAX;

/// `albef: {image: {width: 128, depth: 4, heads: 4}, text: {..}, fusion: 2, patch: 8, embed: 64, dropout: 0.1}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The image tower.
    pub image: Tower,
    /// BERT: the text half and the fusion half together.
    pub text: Tower,
    /// How many layers of `text` see words alone; the layers after them fuse.
    pub fusion: usize,
    /// Side of an image patch, in pixels.
    pub patch: usize,
    /// E: width of the shared space.
    pub embed: usize,
    /// Layers of the decoder that answers questions (section 5: 6); none without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<usize>,
    /// Probability of dropping attention weights and the outcome of each part of a text or fusion layer; the image tower
    /// drops nothing.
    pub dropout: f64,
}

impl Default for Config {
    fn default() -> Self {
        let (image, text) = (Tower::default(), Tower::default());
        Self { image, text, fusion: 2, patch: 8, embed: 64, answer: None, dropout: 0.1 }
    }
}

impl ModelConfig for Config {
    fn abilities(&self) -> Abilities {
        use Ability::{Embed, Fuse, ImageTokens, PredictWords, TextTokens};
        let mut abilities = Abilities::from([ImageTokens, TextTokens, Embed, Fuse, PredictWords]);
        abilities.extend(self.answer.map(|_| Ability::Answer));
        abilities
    }

    fn lacks(&self, ability: Ability) -> &'static str {
        match ability {
            Ability::Generate => "albef fuses both ways only: every word sees the words after it",
            Ability::Answer => "albef answers questions with a decoder, which `answer: 6` gives it",
            Ability::HidePatches => "albef has no mask token for patches",
            Ability::FuseImage => "albef fuses into the words; its image tokens never see them",
            _ => "albef reads pixels, not regions",
        }
    }

    fn reads(&self) -> BTreeSet<Field> {
        [Field::Pixels, Field::Words].into()
    }

    fn faults(&self, inputs: &Inputs) -> Vec<String> {
        let towers = [("image", &self.image), ("text", &self.text)];
        let mut faults = two_tower_faults(towers, (inputs.size, self.patch), self.embed, self.dropout);
        let (fusion, depth) = (self.fusion, self.text.depth);
        if depth > 0 && !(1..depth).contains(&fusion) {
            faults.push(format!(
                "fusion is {fusion}: of {depth} text layers at least one must precede fusion and one must fuse"
            ));
        }
        if self.answer == Some(0) {
            faults.push("answer is 0: a decoder of answers needs a layer".to_owned());
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
        let text = TextTower::new(&vars.at("text"), self, inputs)?;
        let project = |name: &str, width| {
            Linear::new(&vars.at(name), [width, self.embed], fan_in(width), Some(fan_in(width)))
        };
        Ok(Box::new(Albef {
            image: Vit::new(&vars.at("image"), [inputs.size, self.patch], &self.image, IMAGE_EPS)?,
            project_image: project("project_image", self.image.width)?,
            project_text: project("project_text", self.text.width)?,
            temperature: vars.bounded("temperature", TEMPERATURE, BOUNDS[0], BOUNDS[1])?,
            decoder: bert::Decoder::new(&vars.at("decoder"), text.embed.table(), &text.spec)?,
            answerer: self
                .answer
                .map(|depth| Answerer::new(&vars.at("answer"), depth, self, inputs))
                .transpose()?,
            text,
        }))
    }
}

struct Albef {
    image: Vit,
    text: TextTower,
    project_image: Linear,
    project_text: Linear,
    /// What divides the similarities.
    temperature: Tensor,
    decoder: bert::Decoder,
    answerer: Option<Answerer>,
}

impl Model for Albef {
    fn image_tokens(&self, image: &View<Image>) -> Result<Tokens> {
        image.memo("image", |image| self.image.encode(image))
    }

    fn text_tokens(&self, text: &View<Text>) -> Result<Tokens> {
        self.text.tokens(text)
    }

    fn embed_image(&self, image: &View<Image>) -> Result<Tensor> {
        let class = first_of(image, |image| self.image.class(image), |image| self.image_tokens(image))?;
        unit(&self.project_image.forward(&class)?)
    }

    fn embed_text(&self, text: &View<Text>) -> Result<Tensor> {
        let class = first_of(text, |text| self.text.class(text), |text| self.text_tokens(text))?;
        unit(&self.project_text.forward(&class)?)
    }

    fn similarity(&self, images: &Tensor, texts: &Tensor) -> Result<Tensor> {
        kernels::linear(&images.broadcast_div(&self.temperature)?, texts, None)
    }

    /// The pooled vector is the hidden state of [CLS], which the paper's matching head reads as it is.
    fn fuse(&self, image: &View<Image>, text: &View<Text>, attend: Attend) -> Result<Fused> {
        if attend == Attend::Causal {
            bail!("albef fuses both ways only: every word sees the words after it");
        }
        let words = self.text_tokens(text)?;
        let text = self.text.fuse(words, &self.seen(image)?, joint_noise(image, text))?;
        Ok(Fused { pooled: first(&text.hidden)?, text, image: None })
    }

    fn pool(&self, image: &View<Image>, text: &View<Text>) -> Result<Tensor> {
        self.text.pool(text, &self.seen(image)?, joint_noise(image, text))
    }

    fn predict_words(&self, hidden: &Tensor) -> Result<Logits> {
        self.decoder.forward(hidden)
    }

    fn answer(
        &self,
        image: &View<Image>,
        question: &View<Text>,
        answers: &View<Text>,
        of: &[u32],
    ) -> Result<Tokens> {
        let fused = self.fuse(image, question, Attend::Both)?.text;
        let noise = joint_noise(image, question).map(|key| key.fold(ANSWERS));
        self.answerer()?.answer(&fused, answers, of, noise)
    }

    fn predict_answer(&self, hidden: &Tensor) -> Result<Logits> {
        self.answerer()?.predict(hidden)
    }

    fn decode<'a>(&'a self, image: &View<Image>, question: &View<Text>) -> Result<Begun<'a>> {
        self.answerer()?.decode(&self.fuse(image, question, Attend::Both)?.text)
    }
}

impl Albef {
    fn answerer(&self) -> Result<&Answerer> {
        match &self.answerer {
            Some(answerer) => Ok(answerer),
            None => bail!("albef without `answer` has no decoder of answers"),
        }
    }

    fn seen(&self, image: &View<Image>) -> Result<Seen<Image>> {
        Seen::new(image, |whole| self.image_tokens(whole))
    }
}

struct TextTower {
    spec: Spec,
    embed: bert::Embeddings,
    layers: Vec<bert::Layer>,
    /// How many layers see words alone.
    alone: usize,
}

impl TextTower {
    fn new(vars: &Vars, config: &Config, inputs: &Inputs) -> Result<Self> {
        let spec = config.text.spec(Activation::Gelu, bert::EPS, config.dropout);
        let sizes = [inputs.vocabulary, inputs.words];
        let layer = |index| {
            let seen = (index >= config.fusion).then_some(config.image.width);
            bert::Layer::new(&vars.at("layers").at(index), &spec, seen)
        };
        Ok(Self {
            embed: bert::Embeddings::new(&vars.at("embed"), sizes, &spec)?,
            layers: (0..config.text.depth).map(layer).collect::<Result<_>>()?,
            alone: config.fusion,
            spec,
        })
    }

    /// What the layers for words alone make of them, computed once a step.
    fn tokens(&self, text: &View<Text>) -> Result<Tokens> {
        text.memo("text", |text| {
            let (hidden, packing) = self.read(text, self.alone)?;
            Ok(Tokens { hidden: packing.unpack(&hidden)?, mask: Some(text.input()?.mask.clone()) })
        })
    }

    /// The first token (B,D) of [`TextTower::tokens`]: the last of its layers computes no other.
    fn class(&self, text: &View<Text>) -> Result<Tensor> {
        // A configuration without a layer for words alone was refused.
        let last = self.alone.saturating_sub(1);
        let (hidden, packing) = self.read(text, last)?;
        let class = One::first(packing.spans())?;
        self.layers[last].forward_one(&hidden, &class, None, within(text.noise(), 1 + last as u64))
    }

    /// What the first `end` layers make of words alone (R,D).
    fn read(&self, text: &View<Text>, end: usize) -> Result<(Tensor, Packing)> {
        let (input, noise) = (text.input()?, text.noise());
        let packing = Packing::new(&input.mask)?;
        let mask = Mask::itself(packing.spans(), false);
        let mut hidden = packing.pack(&self.embed.forward(input, within(noise, 0))?)?;
        for (layer, part) in self.layers.iter().zip(1..).take(end) {
            hidden = layer.forward(&hidden, &mask, None, within(noise, part))?;
        }
        Ok((hidden, packing))
    }

    /// Words (B,T,D) look at images.
    fn fuse(&self, words: Tokens, image: &Seen<Image>, noise: Option<Key>) -> Result<Tokens> {
        let packing = Packing::of(&words)?;
        let hidden = self.fuse_before(self.layers.len(), &words, &packing, image, noise)?;
        Ok(Tokens { hidden: packing.unpack(&hidden)?, ..words })
    }

    /// The first token (B,D) of [`TextTower::fuse`]: the last layer computes no other.
    fn pool(&self, text: &View<Text>, image: &Seen<Image>, noise: Option<Key>) -> Result<Tensor> {
        // A configuration without a fusing layer was refused.
        let Some((layer, earlier)) = self.layers.split_last() else {
            return first(&self.tokens(text)?.hidden);
        };
        let number = self.layers.len() as u64;
        let (x, own, class) = if earlier.len() == self.alone {
            // Words that have not met an image are those of the batch, whichever of them are asked for.
            let words = Seen::new(text, |whole| self.tokens(whole))?;
            let (own, class) =
                (words.keys(number, |words| layer.own_keys(words))?, One::first(words.spans())?);
            (class.pick(words.tokens())?, own, class)
        } else {
            let words = self.tokens(text)?;
            let packing = Packing::of(&words)?;
            let hidden = self.fuse_before(earlier.len(), &words, &packing, image, noise)?;
            let class = One::first(packing.spans())?;
            (class.pick(&hidden)?, layer.own_keys(&hidden)?, class)
        };
        let keys = image.keys(number, |tokens| layer.keys(tokens))?;
        let across = class.across(image.spans());
        layer.forward_over(&x, (&own, &class.mask()), Some((&keys, &across)), within(noise, number))
    }

    /// What the fusing layers before number `end` make of the words (R,D).
    fn fuse_before(
        &self,
        end: usize,
        words: &Tokens,
        packing: &Packing,
        image: &Seen<Image>,
        noise: Option<Key>,
    ) -> Result<Tensor> {
        let spans = packing.spans();
        let (itself, across) =
            (Mask::itself(spans, false), Mask::across(spans.clone(), image.spans().clone()));
        let mut hidden = packing.pack(&words.hidden)?;
        for (layer, number) in self.layers.iter().zip(1..).take(end).skip(self.alone) {
            let keys = image.keys(number, |tokens| layer.keys(tokens))?;
            hidden = layer.forward(&hidden, &itself, Some((&keys, &across)), within(noise, number))?;
        }
        Ok(hidden)
    }
}

//! BLIP-2: a few learned queries carry what a frozen image encoder sees to text, and to a frozen language model.
//!
//! Li et al., arXiv:2301.12597, section 3, and the released code. A vision transformer is frozen; its features, normalised,
//! are read by the Q-Former ([`qformer`]), of which an image leaves Q query outputs. Query outputs and the [CLS] of a
//! text by itself are mapped linearly to unit vectors I (B,Q,E) and T (B,E):
//!
//! `similarity_bt = max_q I_bq T_t' / temperature`, the temperature learned, 0.07 at first.
//!
//! A matching head reads every query output of a joint pass and its logits are averaged. A linear head may as well read
//! the average of the outputs, which is the pooled vector here.
//!
//! The second stage ([`generator`]) hands the query outputs, mapped linearly, to a language model as a prefix.
//!
//! Deviation: weights begin at random, matrices with a standard deviation of 0.02 at width 768 and more in narrower
//! models; the paper begins with a pre-trained vision transformer and the Q-Former with BERT, its query halves as
//! copies of the word halves.
//! Deviation: the normalisation of image features adds to the variance what the vision transformer adds (1e-6), as in the
//! published conversion of the weights; the released code adds 1e-5 there.
//! Deviation: texts of the second stage begin with [CLS], which is given and not predicted, and end with [SEP]; the
//! released code predicts the beginning of a text, too, and ends it with a newline.
//! Deviation: [DEC], with which generation begins, is never predicted; the released code gives it a logit.

use std::collections::BTreeSet;

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use super::language;
use super::nn::{Linear, Past, Spec, Tower, bert, fan_in, first, two_tower_faults, unit};
use super::{
    Abilities, Ability, Attend, Begun, Decoding, Dims, Field, Fused, Image, Init, Inputs, Logits, Model,
    ModelConfig, Text, Tokens, Vars, View,
};
use crate::kernels::{self, Activation};

mod generator;
mod image;
mod layer;
mod qformer;

pub use image::Vit;

pub(super) use generator::Generator;
pub(super) use image::Encoder;
pub(super) use qformer::QFormer;

use qformer::Sizes;

const TEMPERATURE: f64 = 0.07;
/// Why the second stage does less.
const LACKS_TEXT: &str =
    "blip2 with a language model has no text branch: it generates text from left to right";

/// `blip2: {image: {width: 128, depth: 4, heads: 4}, vit: eva, feature_layer: -2, qformer: {..}, queries: 32, patch: 8}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The vision transformer.
    pub image: Tower,
    /// Which vision transformer it is.
    pub vit: Vit,
    /// The layer whose outcome is read, counted from the end: -1 is the last, -2, which the paper found better, the last
    /// but one.
    pub feature_layer: isize,
    /// Side of an image patch, in pixels.
    pub patch: usize,
    /// The Q-Former.
    pub qformer: Tower,
    /// Q: learned queries, 1 to 64.
    pub queries: usize,
    /// Queries look at the image in every layer of the Q-Former whose number, from 0, is a multiple of this.
    pub cross_attention_frequency: usize,
    /// E: width of the shared space.
    pub embed: usize,
    /// Probability of dropping attention weights and the outcome of each part of a layer of the Q-Former.
    pub dropout: f64,
    /// The language model of the second stage; none in the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<language::Config>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            image: Tower::default(),
            vit: Vit::Eva,
            feature_layer: -2,
            patch: 8,
            qformer: Tower::default(),
            queries: 8,
            cross_attention_frequency: 2,
            embed: 64,
            dropout: 0.1,
            language: None,
        }
    }
}

impl Config {
    /// How many layers of the vision transformer are computed.
    pub(super) fn layers_read(&self) -> usize {
        self.image.depth.saturating_add_signed(self.feature_layer.saturating_add(1))
    }

    pub(super) fn spec(&self) -> Spec {
        self.qformer.spec(Activation::Gelu, bert::EPS, self.dropout)
    }

    pub(super) fn sizes(&self) -> Sizes {
        Sizes {
            queries: self.queries,
            depth: self.qformer.depth,
            cross_attention_frequency: self.cross_attention_frequency,
            image: self.image.width,
        }
    }
}

impl ModelConfig for Config {
    fn abilities(&self) -> Abilities {
        use Ability::{Embed, Fuse, Generate, ImageTokens, PredictWords, TextTokens};
        match self.language {
            None => [ImageTokens, TextTokens, Embed, Fuse, Generate, PredictWords].into(),
            Some(_) => [ImageTokens, Generate, PredictWords].into(),
        }
    }

    fn lacks(&self, ability: Ability) -> &'static str {
        match ability {
            Ability::Answer => "blip2 has no decoder that answers questions apart from captions",
            Ability::HidePatches => "blip2 has no mask token for patches",
            Ability::FuseImage => "blip2 sums an image up in queries, none of which stands for a patch",
            Ability::PredictRegions => "blip2 reads pixels, not regions",
            _ => LACKS_TEXT,
        }
    }

    fn reads(&self) -> BTreeSet<Field> {
        [Field::Pixels, Field::Words].into()
    }

    fn faults(&self, inputs: &Inputs) -> Vec<String> {
        let towers = [("image", &self.image), ("qformer", &self.qformer)];
        let mut faults = two_tower_faults(towers, (inputs.size, self.patch), self.embed, self.dropout);
        let (depth, layer) = (self.image.depth as isize, self.feature_layer);
        if depth > 0 && !(-depth..0).contains(&layer) {
            faults.push(format!(
                "feature_layer is {layer}: of {depth} image layers the last is -1, the first -{depth}"
            ));
        }
        if !(1..=64).contains(&self.queries) {
            faults.push(format!("queries is {}: an image needs 1 to 64", self.queries));
        }
        if self.cross_attention_frequency == 0 {
            faults.push(
                "cross_attention_frequency is 0: 1 stands for every layer, 2 for every second".to_owned(),
            );
        }
        faults.extend(
            self.language.iter().flat_map(|language| language.faults_behind(self.queries, inputs.words)),
        );
        faults
    }

    fn dims(&self, inputs: &Inputs) -> Dims {
        let (width, embed, queries) = match &self.language {
            None => (self.qformer.width, self.embed, Some(self.queries)),
            Some(language) => (language.width(), 0, None),
        };
        // Image tokens are queries, which stand for no patch.
        Dims { embed, queries, image: width, ..Dims::new(width, inputs) }
    }

    fn build(&self, vars: &Vars, inputs: &Inputs) -> Result<Box<dyn Model>> {
        Ok(match &self.language {
            None => Box::new(Blip2::new(vars, self, inputs)?),
            Some(language) => Box::new(Generator::new(vars, self, language, inputs)?),
        })
    }
}

/// The first stage: queries learn to see what text says.
pub(super) struct Blip2 {
    pub(super) encoder: Encoder,
    pub(super) qformer: QFormer,
    project_image: Linear,
    project_text: Linear,
    /// What divides the similarities.
    temperature: Tensor,
    /// Of every entry of the table, [DEC] included.
    pub(super) decoder: bert::Decoder,
    /// Of the vocabulary.
    words: bert::Decoder,
}

impl Blip2 {
    pub(super) fn new(vars: &Vars, config: &Config, inputs: &Inputs) -> Result<Self> {
        let (spec, words) = (config.spec(), inputs.vocabulary);
        // The table has one entry more than the vocabulary, [DEC].
        let text = Some([words + 1, inputs.words]);
        let qformer = QFormer::new(&vars.at("qformer"), &spec, &config.sizes(), text)?;
        let project = |name: &str| {
            let init = fan_in(spec.width);
            Linear::new(&vars.at(name), [spec.width, config.embed], init, Some(init))
        };
        let decoder = bert::Decoder::new(&vars.at("decoder"), qformer.table()?, &spec)?;
        Ok(Self {
            encoder: Encoder::new(vars, config, inputs)?,
            project_image: project("project_image")?,
            project_text: project("project_text")?,
            temperature: vars.get((), "temperature", Init::Constant(TEMPERATURE))?,
            words: decoder.of_first(words)?,
            decoder,
            qformer,
        })
    }

    /// Cosines (images, texts) of unit vectors (images,Q,E) and (texts,E), each image by its nearest query.
    pub(super) fn cosines(images: &Tensor, texts: &Tensor) -> Result<Tensor> {
        kernels::linear(images, texts, None)?.max(1)
    }
}

impl Model for Blip2 {
    /// The query outputs (B,Q,D), which are what the model makes of an image.
    fn image_tokens(&self, image: &View<Image>) -> Result<Tokens> {
        Ok(Tokens { hidden: self.qformer.queries(image, &self.encoder)?, mask: None })
    }

    fn text_tokens(&self, text: &View<Text>) -> Result<Tokens> {
        self.qformer.text(text)
    }

    fn embed_image(&self, image: &View<Image>) -> Result<Tensor> {
        unit(&self.project_image.forward(&self.image_tokens(image)?.hidden)?)
    }

    fn embed_text(&self, text: &View<Text>) -> Result<Tensor> {
        unit(&self.project_text.forward(&first(&self.text_tokens(text)?.hidden)?)?)
    }

    fn similarity(&self, images: &Tensor, texts: &Tensor) -> Result<Tensor> {
        Self::cosines(images, texts)?.broadcast_div(&self.temperature)
    }

    /// Words are those of the text alone; the pooled vector is the average of the query outputs.
    fn fuse(&self, image: &View<Image>, text: &View<Text>, attend: Attend) -> Result<Fused> {
        let (queries, text) = match attend {
            Attend::Both => self.qformer.both(image, text, &self.encoder)?,
            Attend::Causal => {
                let words = self.qformer.causal(image, text, &self.encoder)?;
                (self.qformer.queries(image, &self.encoder)?, words)
            }
        };
        Ok(Fused { text, image: None, pooled: queries.mean(1)? })
    }

    fn pool(&self, image: &View<Image>, text: &View<Text>) -> Result<Tensor> {
        self.qformer.both_queries(image, text, &self.encoder)?.mean(1)
    }

    fn predict_words(&self, hidden: &Tensor) -> Result<Logits> {
        self.words.forward(hidden)
    }

    fn decode<'a>(&'a self, image: &View<Image>, prompt: &View<Text>) -> Result<Begun<'a>> {
        let (past, last) = self.qformer.decode(image, prompt.input()?, &self.encoder)?;
        Ok((Box::new(Caption { model: self, past }), self.words.forward(&last)?.dense()?))
    }
}

/// Captions as far as they are written.
struct Caption<'a> {
    model: &'a Blip2,
    past: Past,
}

impl Decoding for Caption<'_> {
    fn next(&mut self, words: &[u32]) -> Result<Tensor> {
        let (ids, new) = self.past.next(words)?;
        self.model.predict_words(&self.model.qformer.next(&mut self.past, &ids, &new)?)?.dense()
    }

    fn reorder(&mut self, rows: &[u32]) -> Result<()> {
        self.past.reorder(rows)
    }
}

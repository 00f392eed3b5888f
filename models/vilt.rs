//! ViLT: one transformer over words and image patches, each embedded by no more than a linear map or a table.
//!
//! Kim et al., arXiv:2102.03334, section 3.1, and the released code. Words are embedded as in BERT, patches as in ViT, each
//! with the vector of its modality added; then both go through one pre-norm ViT together:
//!
//! `words = LN([t_class; t_1 T; ..; t_L T] + positions + segments) + type_text`, T the table of words;
//! `patches = [v_class; v_1 V; ..; v_N V] + positions + type_image`, V a linear map of the pixels of a patch;
//! `z = LN(ViT([words; patches]))`, `pooled = tanh(z_0 W)`, z_0 at the class token of the text.
//!
//! Images may be of any size (`vilt/patches.rs`). A step of pre-training sees at most `sample` patches of each, drawn at
//! random; evaluation sees all, as the released code does wherever it fine-tunes. For masked patch prediction a learned
//! vector takes the place of `v_i V`.
//!
//! Deviation: weights begin at random, matrices with a standard deviation of 0.02 at width 768 and more in narrower
//! models; the paper's trunk and patches begin as a ViT trained to classify.
//! Deviation: every normalisation adds 1e-12 to the variance, as in transformers; the released trunk adds 1e-6.
//! Deviation: dropout spares the inside of the feed-forward half, which the released code drops as well.
//! Deviation: objectives of one step share the patches drawn from an image; the released code draws for each.

use std::collections::BTreeSet;

use candle_core::{Result, Tensor, bail};
use serde::{Deserialize, Serialize};

use super::nn::{
    Joint, LayerNorm, Linear, One, Patches, PreNorm, Spec, Start, Tower, bert, deviation, dropout_faults,
    within,
};
use super::view::joint_noise;
use super::{
    Abilities, Ability, Attend, Dims, Field, Fused, Image, Init, Inputs, Logits, Model, ModelConfig, Text,
    Tokens, Vars, View,
};
use crate::kernels::{self, Activation, random::Key};
use patches::VisualEmbedding;

mod patches;

pub(super) const EPS: f64 = 1e-12;

/// `vilt: {trunk: {width: 128, depth: 4, heads: 4}, patch: 8, sample: 12, tied: true, dropout: 0.1}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The transformer that words and patches go through.
    pub trunk: Tower,
    /// Side of an image patch, in pixels.
    pub patch: usize,
    /// How many patches of an image, drawn at random, training sees at most; all unless it is given.
    pub sample: Option<usize>,
    /// Whether the word decoder is tied to the word table, as in transformers; the released code gives it one of its own.
    pub tied: bool,
    /// Probability of dropping the embeddings and the outcome of each half of a layer; attention weights are kept.
    pub dropout: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { trunk: Tower::default(), patch: 8, sample: None, tied: true, dropout: 0.1 }
    }
}

impl Config {
    pub(super) fn spec(&self) -> Spec {
        self.trunk.spec(Activation::Gelu, EPS, self.dropout)
    }
}

impl ModelConfig for Config {
    fn abilities(&self) -> Abilities {
        [Ability::Fuse, Ability::FuseImage, Ability::HidePatches, Ability::PredictWords].into()
    }

    fn lacks(&self, ability: Ability) -> &'static str {
        match ability {
            Ability::Answer => "vilt has no decoder that writes answers",
            Ability::Generate => ONE_WAY,
            Ability::PredictRegions => "vilt reads pixels, not regions",
            _ => "vilt encodes neither side alone: words and patches meet in its first layer",
        }
    }

    fn reads(&self) -> BTreeSet<Field> {
        [Field::Pixels, Field::Words].into()
    }

    fn faults(&self, inputs: &Inputs) -> Vec<String> {
        let mut faults = self.trunk.faults("trunk");
        faults.extend(Patches::faults(inputs.size, self.patch));
        if self.sample == Some(0) {
            faults.push("sample is 0: training must see at least one patch of an image".to_owned());
        }
        faults.extend(dropout_faults(self.dropout));
        faults
    }

    fn dims(&self, inputs: &Inputs) -> Dims {
        Dims { patch: self.patch, ..Dims::new(self.trunk.width, inputs) }
    }

    fn build(&self, vars: &Vars, inputs: &Inputs) -> Result<Box<dyn Model>> {
        let (width, depth) = (self.trunk.width, self.trunk.depth);
        let (spec, init) = (self.spec(), Init::Normal { std: deviation(width) });
        let words = bert::Embeddings::new(&vars.at("words"), [inputs.vocabulary, inputs.words], &spec)?;
        let decoder = vars.at("decoder");
        let table = match self.tied {
            true => words.table().clone(),
            false => decoder.get((inputs.vocabulary, width), "table", init)?,
        };
        Ok(Box::new(Vilt {
            patches: VisualEmbedding::new(&vars.at("patches"), self, inputs)?,
            types: vars.get((2, width), "types", init)?,
            layers: PreNorm::new(&vars.at("layers"), depth, &spec, &Start::all(init))?,
            norm: LayerNorm::new(&vars.at("norm"), width, EPS)?,
            pooler: Linear::new(&vars.at("pooler"), [width, width], init, Some(Init::Constant(0.0)))?,
            decoder: bert::Decoder::new(&decoder, &table, &spec)?,
            words,
        }))
    }
}

const ONE_WAY: &str = "vilt fuses both ways only: every word sees the words after it";

struct Vilt {
    words: bert::Embeddings,
    patches: VisualEmbedding,
    /// What is added to all words and to all image tokens (2,D).
    types: Tensor,
    layers: PreNorm,
    norm: LayerNorm,
    pooler: Linear,
    decoder: bert::Decoder,
}

impl Model for Vilt {
    fn fuse(&self, image: &View<Image>, text: &View<Text>, attend: Attend) -> Result<Fused> {
        if attend == Attend::Causal {
            bail!("{ONE_WAY}");
        }
        let both = Both::new(self, image, text)?;
        let hidden = self.layers.forward(both.hidden, &both.joint.mask(), both.noise)?;
        let hidden = self.norm.forward(&hidden)?;
        let pooled = self.pooled(&One::first(both.joint.spans())?.pick(&hidden)?)?;
        let [words, patches] = both.joint.unpack(&hidden)?;
        let text = Tokens { hidden: words, ..both.words };
        Ok(Fused { text, image: Some(Tokens { hidden: patches, ..both.patches }), pooled })
    }

    fn pool(&self, image: &View<Image>, text: &View<Text>) -> Result<Tensor> {
        let both = Both::new(self, image, text)?;
        let class = One::first(both.joint.spans())?;
        let class = self.layers.forward_one(both.hidden, &both.joint.mask(), &class, both.noise)?;
        self.pooled(&self.norm.forward(&class)?)
    }

    fn predict_words(&self, hidden: &Tensor) -> Result<Logits> {
        self.decoder.forward(hidden)
    }
}

impl Vilt {
    /// What the trunk reads of a text (B,T,D).
    fn words(&self, text: &View<Text>) -> Result<Tokens> {
        text.memo("words", |text| {
            let (input, noise) = (text.input()?, within(text.noise(), 0));
            let hidden = self.typed(&self.words.forward(input, noise)?, 0)?;
            Ok(Tokens { hidden, mask: Some(input.mask.clone()) })
        })
    }

    /// What the trunk reads of an image (B,N,D), the class token first.
    fn patches(&self, image: &View<Image>) -> Result<Tokens> {
        image.memo("patches", |image| {
            let Tokens { hidden, mask } = self.patches.forward(image.input()?, image.noise())?;
            Ok(Tokens { hidden: self.typed(&hidden, 1)?, mask })
        })
    }

    /// Tokens (B,N,D) with the vector of their modality.
    fn typed(&self, tokens: &Tensor, modality: usize) -> Result<Tensor> {
        let (_, length, width) = tokens.dims3()?;
        let vector = self.types.narrow(0, modality, 1)?;
        kernels::add_table(tokens, &vector.broadcast_as((length, width))?)
    }

    /// tanh(W z) of the class token of the text (B,D).
    fn pooled(&self, class: &Tensor) -> Result<Tensor> {
        self.pooler.forward(class)?.tanh()
    }
}

/// Words and patches, apart and as one sequence.
struct Both {
    words: Tokens,
    patches: Tokens,
    joint: Joint,
    /// (R,D).
    hidden: Tensor,
    noise: Option<Key>,
}

impl Both {
    fn new(model: &Vilt, image: &View<Image>, text: &View<Text>) -> Result<Self> {
        let (words, patches) = (model.words(text)?, model.patches(image)?);
        let joint = Joint::new([&words, &patches])?;
        let hidden = joint.pack([&words.hidden, &patches.hidden])?;
        Ok(Self { words, patches, joint, hidden, noise: joint_noise(image, text) })
    }
}

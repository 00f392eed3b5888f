//! Oscar: one BERT reads a caption, the names of the objects that a detector found, and the detected regions; the names,
//! called tags, are words that anchor the caption in the regions.
//!
//! Li et al., arXiv:2004.06165, sections 3 and 4, and the released code. Caption (segment 0) and tags (segment 1) are one
//! text, embedded as in BERT. A region of features f (R) whose box is x1, y1, x2, y2, width, height becomes one linear map
//! of both, without a type vector:
//!
//! `region = [f; box] V + v`, normalised where `image_norm` says so;
//! `z = BERT([caption; tags; regions])`, `pooled = tanh(z_0 W + w)`, z_0 at [CLS].
//!
//! The masked-token loss hides and predicts words and tags alike. Which parts see each other is a setting ([`Parts`], the
//! paper's Table 3). The arm of Table 4 without tags is `data: {tags: 0}`.
//!
//! Deviation: weights begin at random, matrices with a standard deviation of 0.02 at width 768 and more in narrower
//! models; the paper's words, layers and pooler begin as BERT.
//! Deviation: where an objective hides regions, which the paper never does, their features are zero and their boxes stay.

use std::collections::BTreeSet;

use candle_core::{Result, Tensor, bail};
use serde::{Deserialize, Serialize};

use super::nn::{
    Joint, JointBert, LayerNorm, Linear, Spec, Tower, bert, deviation, dropout_faults, drops, within,
};
use super::view::joint_noise;
use super::{
    Abilities, Ability, Attend, Dims, Field, Fused, Image, Init, Inputs, Logits, Model, ModelConfig, Text,
    Tokens, Vars, View,
};
use crate::kernels::{self, Activation, random::Key};

/// Numbers that tell where a region lies: those of [`super::Regions`] without the area.
pub(super) const BOX: usize = 6;

/// Which parts of the sequence see each other. Every part sees itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parts {
    /// All (released code: CLR).
    Full,
    /// Words and regions see each other; tags are alone (CR).
    WordsRegions,
    /// Words and tags see each other; regions are alone (CL).
    WordsTags,
    /// Tags and regions see each other; words are alone (LR).
    TagsRegions,
}

/// `oscar: {trunk: {width: 128, depth: 4, heads: 4}, attend: full, image_norm: false, dropout: 0.1}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The BERT that words, tags and regions go through.
    pub trunk: Tower,
    /// Which of them see each other.
    pub attend: Parts,
    /// Whether embedded regions are normalised.
    pub image_norm: bool,
    /// Probability of dropping the embeddings, attention weights and the outcome of each half of a layer.
    pub dropout: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { trunk: Tower::default(), attend: Parts::Full, image_norm: false, dropout: 0.1 }
    }
}

impl Config {
    pub(super) fn spec(&self) -> Spec {
        self.trunk.spec(Activation::Gelu, bert::EPS, self.dropout)
    }
}

impl ModelConfig for Config {
    fn abilities(&self) -> Abilities {
        [Ability::Fuse, Ability::FuseImage, Ability::PredictWords].into()
    }

    fn lacks(&self, ability: Ability) -> &'static str {
        match ability {
            Ability::Answer => "oscar has no decoder that writes answers",
            Ability::Generate => ONE_WAY,
            Ability::HidePatches => "oscar reads regions, not pixels",
            Ability::PredictRegions => {
                "oscar has no region decoder: its paper hides words and tags, never regions"
            }
            _ => "oscar encodes neither side alone: words, tags and regions meet in its first layer",
        }
    }

    fn reads(&self) -> BTreeSet<Field> {
        [Field::Regions, Field::Words, Field::Tags].into()
    }

    fn faults(&self, _: &Inputs) -> Vec<String> {
        let mut faults = self.trunk.faults("trunk");
        faults.extend(dropout_faults(self.dropout));
        faults
    }

    fn dims(&self, inputs: &Inputs) -> Dims {
        Dims::new(self.trunk.width, inputs)
    }

    fn build(&self, vars: &Vars, inputs: &Inputs) -> Result<Box<dyn Model>> {
        let spec = self.spec();
        let words = bert::Embeddings::new(&vars.at("words"), [inputs.vocabulary, inputs.words], &spec)?;
        Ok(Box::new(Oscar {
            regions: Regions::new(&vars.at("regions"), inputs.region_features, self)?,
            trunk: JointBert::new(vars, self.trunk.depth, &spec)?,
            decoder: bert::Decoder::new(&vars.at("decoder"), words.table(), &spec)?,
            attend: self.attend,
            words,
        }))
    }
}

const ONE_WAY: &str = "oscar fuses both ways only: every word sees the words after it";

struct Oscar {
    words: bert::Embeddings,
    regions: Regions,
    trunk: JointBert,
    decoder: bert::Decoder,
    attend: Parts,
}

impl Model for Oscar {
    /// The text is caption and tags, as in the input.
    fn fuse(&self, image: &View<Image>, text: &View<Text>, attend: Attend) -> Result<Fused> {
        if attend == Attend::Causal {
            bail!("{ONE_WAY}");
        }
        let (words, regions) = (self.words(text)?, self.regions(image)?);
        let joint = self.joint(&words, &regions, text.input()?)?;
        self.trunk.fuse([words, regions], &joint, joint_noise(image, text))
    }

    fn pool(&self, image: &View<Image>, text: &View<Text>) -> Result<Tensor> {
        let (words, regions) = (self.words(text)?, self.regions(image)?);
        let joint = self.joint(&words, &regions, text.input()?)?;
        self.trunk.pool([&words, &regions], &joint, joint_noise(image, text))
    }

    fn predict_words(&self, hidden: &Tensor) -> Result<Logits> {
        self.decoder.forward(hidden)
    }
}

impl Oscar {
    /// What the trunk reads of caption and tags (B,T,D).
    fn words(&self, text: &View<Text>) -> Result<Tokens> {
        text.memo("words", |text| {
            let input = text.input()?;
            let hidden = self.words.forward(input, within(text.noise(), 0))?;
            Ok(Tokens { hidden, mask: Some(input.mask.clone()) })
        })
    }

    /// What the trunk reads of an image (B,N,D).
    fn regions(&self, image: &View<Image>) -> Result<Tokens> {
        image.memo("regions", |image| self.regions.forward(image.input()?, within(image.noise(), 0)))
    }

    /// Every pattern leaves at most one part out, which then stands apart.
    fn joint(&self, words: &Tokens, regions: &Tokens, text: &Text) -> Result<Joint> {
        let sequences = [words, regions];
        if self.attend == Parts::Full {
            return Joint::new(sequences);
        }
        let segments = text.segments.to_vec2::<u32>()?;
        let apart = |sequence, example: usize, place: usize| {
            let (of_text, tag) = (sequence == 0, sequence == 0 && segments[example][place] == 1);
            match self.attend {
                Parts::Full => false,
                Parts::WordsRegions => tag,
                Parts::WordsTags => !of_text,
                // What the first token, [CLS], sees comes first: the words.
                Parts::TagsRegions => tag || !of_text,
            }
        };
        Joint::parted(sequences, apart)
    }
}

/// The embedding of regions.
struct Regions {
    map: Linear,
    norm: Option<LayerNorm>,
    dropout: f64,
}

impl Regions {
    fn new(vars: &Vars, features: usize, config: &Config) -> Result<Self> {
        let (spec, zero) = (config.spec(), Some(Init::Constant(0.0)));
        let init = Init::Normal { std: deviation(spec.width) };
        let norm = config.image_norm.then(|| LayerNorm::new(&vars.at("norm"), spec.width, spec.eps));
        Ok(Self {
            map: Linear::new(&vars.at("map"), [features + BOX, spec.width], init, zero)?,
            norm: norm.transpose()?,
            dropout: spec.dropout,
        })
    }

    /// Regions to tokens (B,N,D).
    fn forward(&self, image: &Image, noise: Option<Key>) -> Result<Tokens> {
        let regions = image.regions()?;
        let input = Tensor::cat(&[&image.seen_features()?, &regions.boxes.narrow(2, 0, BOX)?], 2)?;
        let mut hidden = self.map.forward(&input)?;
        if let Some(norm) = &self.norm {
            hidden = norm.forward(&hidden)?;
        }
        if let Some(dropout) = drops(self.dropout, noise, 0) {
            hidden = kernels::dropout(&hidden, dropout)?;
        }
        Ok(Tokens { hidden, mask: Some(regions.mask.clone()) })
    }
}

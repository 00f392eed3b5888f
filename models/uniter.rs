//! UNITER: one BERT reads the words of a caption and the detected regions of its image as a single sequence.
//!
//! Chen et al., arXiv:1909.11740, section 3.1, and the released code. Words are embedded as in BERT; a region of features
//! f (R) and box b (x1, y1, x2, y2, width, height, area) becomes
//!
//! `region = LN(LN(f V + v) + LN(b P + p) + type)`, type the vector of segment 1;
//! `z = BERT([words; regions])`, `pooled = tanh(z_0 W + w)`, z_0 at [CLS].
//!
//! Word logits come from the word table, `LN(gelu(z A + a)) T' + t`, and region features from the region map turned
//! round, `LN(gelu(z C + c)) V' + d`. For masked region modelling a learned vector (R) takes the place of f.
//!
//! Deviation: weights begin at random, matrices with a standard deviation of 0.02 at width 768 and more in narrower
//! models; the paper's words, layers and pooler begin as BERT.

use std::collections::BTreeSet;

use candle_core::{D, Result, Tensor, bail};
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

/// Numbers that tell where a region lies.
const BOX: usize = 7;
/// The segment whose vector tells regions from words.
const REGIONS: usize = 1;

/// `uniter: {trunk: {width: 128, depth: 4, heads: 4}, dropout: 0.1}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The BERT that words and regions go through.
    pub trunk: Tower,
    /// Probability of dropping the embeddings, attention weights and the outcome of each half of a layer.
    pub dropout: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { trunk: Tower::default(), dropout: 0.1 }
    }
}

impl Config {
    pub(super) fn spec(&self) -> Spec {
        self.trunk.spec(Activation::Gelu, bert::EPS, self.dropout)
    }
}

impl ModelConfig for Config {
    fn abilities(&self) -> Abilities {
        [Ability::Fuse, Ability::FuseImage, Ability::PredictWords, Ability::PredictRegions].into()
    }

    fn lacks(&self, ability: Ability) -> &'static str {
        match ability {
            Ability::Answer => "uniter has no decoder that writes answers",
            Ability::Generate => ONE_WAY,
            Ability::HidePatches => "uniter reads regions, not pixels",
            _ => "uniter encodes neither side alone: words and regions meet in its first layer",
        }
    }

    fn reads(&self) -> BTreeSet<Field> {
        [Field::Regions, Field::Words].into()
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
        let (spec, features) = (self.spec(), inputs.region_features);
        let words = bert::Embeddings::new(&vars.at("words"), [inputs.vocabulary, inputs.words], &spec)?;
        let predict = vars.at("region_decoder");
        Ok(Box::new(Uniter {
            regions: Regions::new(&vars.at("regions"), features, &spec)?,
            trunk: JointBert::new(vars, self.trunk.depth, &spec)?,
            decoder: bert::Decoder::new(&vars.at("decoder"), words.table(), &spec)?,
            transform: bert::Transform::new(&predict, &spec)?,
            bias: predict.get(features, "bias", Init::Constant(0.0))?,
            words,
        }))
    }
}

const ONE_WAY: &str = "uniter fuses both ways only: every word sees the words after it";

struct Uniter {
    words: bert::Embeddings,
    regions: Regions,
    trunk: JointBert,
    decoder: bert::Decoder,
    /// Of the region decoder, whose map is that of the regions turned round.
    transform: bert::Transform,
    /// (R).
    bias: Tensor,
}

impl Model for Uniter {
    fn fuse(&self, image: &View<Image>, text: &View<Text>, attend: Attend) -> Result<Fused> {
        if attend == Attend::Causal {
            bail!("{ONE_WAY}");
        }
        let (words, regions) = (self.words(text)?, self.regions(image)?);
        let joint = Joint::new([&words, &regions])?;
        self.trunk.fuse([words, regions], &joint, joint_noise(image, text))
    }

    fn pool(&self, image: &View<Image>, text: &View<Text>) -> Result<Tensor> {
        let (words, regions) = (self.words(text)?, self.regions(image)?);
        let joint = Joint::new([&words, &regions])?;
        self.trunk.pool([&words, &regions], &joint, joint_noise(image, text))
    }

    fn predict_words(&self, hidden: &Tensor) -> Result<Logits> {
        self.decoder.forward(hidden)
    }

    fn predict_regions(&self, hidden: &Tensor) -> Result<Tensor> {
        self.regions.visual.back(&self.transform.forward(hidden)?, &self.bias)
    }
}

impl Uniter {
    /// What the trunk reads of a text (B,T,D).
    fn words(&self, text: &View<Text>) -> Result<Tokens> {
        text.memo("words", |text| {
            let input = text.input()?;
            let hidden = self.words.forward(input, within(text.noise(), 0))?;
            Ok(Tokens { hidden, mask: Some(input.mask.clone()) })
        })
    }

    /// What the trunk reads of an image (B,N,D).
    fn regions(&self, image: &View<Image>) -> Result<Tokens> {
        image.memo("regions", |image| {
            let kind = self.words.segment(REGIONS)?;
            self.regions.forward(image.input()?, &kind, within(image.noise(), 0))
        })
    }
}

/// The embedding of regions.
struct Regions {
    visual: Linear,
    visual_norm: LayerNorm,
    position: Linear,
    position_norm: LayerNorm,
    /// What takes the place of hidden features is row 1 of (2,R); row 0 is the zero that the released code adds to the
    /// features of regions that are not hidden, and is never read.
    masks: Tensor,
    norm: LayerNorm,
    dropout: f64,
}

impl Regions {
    fn new(vars: &Vars, features: usize, spec: &Spec) -> Result<Self> {
        let (init, zero) = (Init::Normal { std: deviation(spec.width) }, Some(Init::Constant(0.0)));
        let map = |name: &str, inputs| Linear::new(&vars.at(name), [inputs, spec.width], init, zero);
        let norm = |name: &str| LayerNorm::new(&vars.at(name), spec.width, spec.eps);
        Ok(Self {
            visual: map("visual", features)?,
            visual_norm: norm("visual_norm")?,
            position: map("position", BOX)?,
            position_norm: norm("position_norm")?,
            masks: vars.get((2, features), "masks", init)?,
            norm: norm("norm")?,
            dropout: spec.dropout,
        })
    }

    /// Regions, with the vector of their segment (D), to tokens (B,N,D).
    fn forward(&self, image: &Image, kind: &Tensor, noise: Option<Key>) -> Result<Tokens> {
        let regions = image.regions()?;
        let features = self.features(image)?;
        let visual = self.visual_norm.forward(&self.visual.forward(&features)?)?;
        let position = self.position_norm.forward(&self.position.forward(&regions.boxes)?)?;
        let sum = kernels::add(&visual, &position)?;
        let (_, count, width) = sum.dims3()?;
        let sum = kernels::add_table(&sum, &kind.broadcast_as((count, width))?)?;
        let mut hidden = self.norm.forward(&sum)?;
        if let Some(dropout) = drops(self.dropout, noise, 0) {
            hidden = kernels::dropout(&hidden, dropout)?;
        }
        Ok(Tokens { hidden, mask: Some(regions.mask.clone()) })
    }

    /// The features (B,N,R), with the mask vector in the place of those that are hidden.
    fn features(&self, image: &Image) -> Result<Tensor> {
        let seen = image.seen_features()?;
        match &image.masked {
            None => Ok(seen),
            Some(masked) => {
                let vector = self.masks.get(1)?.unsqueeze(1)?;
                kernels::add(&seen, &kernels::linear(&masked.unsqueeze(D::Minus1)?, &vector, None)?)
            }
        }
    }
}

//! VLMo: one transformer whose feed-forward halves are experts for images, for texts and for pairs of both, so that it
//! encodes each side alone or both together.
//!
//! Bao et al., arXiv:2111.02358, sections 3.1 to 3.3, and the released code. The attention of a block serves every
//! modality; what follows it is the expert of the token's modality, each with its own normalisation:
//!
//! `x' = x + g1 MSA(LN(x))`, `y = x' + g2 FFN_m(LN_m(x'))`, g1 and g2 the gains of LayerScale.
//!
//! An image alone meets vision experts in all blocks, a text alone language experts. Of a pair, patches and words see
//! each other from the first block on and meet the expert of their modality, up to the last F blocks, where all meet a
//! vision-language expert. The first tokens of image and text alone, mapped linearly without bias, give unit vectors:
//!
//! `similarity = exp(s) I T'`, s learned, ln(1/0.07) at first.
//!
//! A second contrast sends both sides alone through the vision-language experts of the last F blocks and has maps and a
//! scale of its own; the error of contrast is the mean of both. A pair's pooled vector is `tanh(W z_0 + b)`.
//!
//! Positions are relative, learned biases of attention: see [`relative`]. The base+ model of the released code has
//! absolute ones instead, and no LayerScale.
//!
//! Deviation: weights begin at random, matrices with a standard deviation of 0.02 at width 768 and more in narrower
//! models; the paper's attention and vision experts begin as BEiT.
//! Deviation: objectives of one step share the embeddings of words, and what dropout leaves of them; the released code
//! drops anew in each pass.
//! Deviation: every matrix decays and nothing else; in the released code the biases of relative positions do not, while
//! the gains of LayerScale and of the experts' normalisations do.
//! Deviation: with separate attention the words and patches of a pair still see each other, each by the maps of its
//! modality; the released code does not have this arm of the ablation.

use std::collections::BTreeSet;

use candle_core::{Result, Tensor, bail};
use serde::{Deserialize, Serialize};

use super::nn::{Linear, Patches, Spec, Tower, bert, deviation, dropout_faults, first, unit};
use super::{
    Abilities, Ability, Attend, Dims, Field, Fused, Image, Init, Inputs, Logits, Model, ModelConfig, Text,
    Tokens, Vars, View,
};
use crate::kernels::{self, Activation};
use sequences::Route;
use trunk::Trunk;

mod block;
mod relative;
mod sequences;
mod trunk;

const SCALE: f64 = 1.0 / 0.07;

/// Which feed-forward halves a block has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Experts {
    /// One for each modality, and in the last blocks one for pairs.
    Multiway,
    /// One for every token: a standard transformer.
    Standard,
}

/// Whose the parameters of attention are below the vision-language experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attention {
    /// Of all modalities.
    Shared,
    /// Of one modality each.
    Separate,
}

/// How a token tells where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// By a bias of attention for its relation to each other token.
    Relative,
    /// By a vector added to it.
    Absolute,
}

/// `vlmo: {trunk: {width: 128, depth: 4, heads: 4}, vl_experts: 1, patch: 8, drop_path: 0.1}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The blocks that images and texts go through.
    pub trunk: Tower,
    /// F: how many of the last blocks have a vision-language expert.
    pub vl_experts: usize,
    /// Side of an image patch, in pixels.
    pub patch: usize,
    /// Which feed-forward halves a block has (table 5).
    pub experts: Experts,
    /// Whose the parameters of attention are (table 7).
    pub attention: Attention,
    /// How a token tells where it stands.
    pub positions: Positions,
    /// Length of the longest text whose relative positions have a bias: that of an earlier stage on text alone, where it
    /// is longer than that of the data.
    pub longest_text: Option<usize>,
    /// How the gains of LayerScale begin; without it there are none.
    pub layer_scale: Option<f64>,
    /// Probability of dropping the outcome of half a block of the last layer for a whole example; it falls to 0 in the
    /// first. As in the released code it is also the dropout of the embeddings of words.
    pub drop_path: f64,
    /// Whether both sides are contrasted through the vision-language experts too.
    pub vl_contrast: bool,
    /// Whether the word decoder is the table of words; the released code gives it a table of its own.
    pub tied: bool,
    /// Whether a learned vector can stand for patches that are masked, as in the paper's stage on images alone.
    pub mask_token: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            trunk: Tower::default(),
            vl_experts: 1,
            patch: 8,
            experts: Experts::Multiway,
            attention: Attention::Shared,
            positions: Positions::Relative,
            longest_text: None,
            layer_scale: Some(0.1),
            drop_path: 0.1,
            vl_contrast: false,
            tied: false,
            mask_token: true,
        }
    }
}

impl Config {
    /// The length of the longest text whose relative positions have a bias.
    pub(super) fn longest(&self, inputs: &Inputs) -> usize {
        self.longest_text.unwrap_or(inputs.words)
    }

    /// What all blocks have in common, with this much added to the variance.
    fn spec(&self, eps: f64) -> Spec {
        self.trunk.spec(Activation::Gelu, eps, self.drop_path)
    }

    /// How every matrix begins.
    fn start(&self) -> Init {
        Init::Normal { std: deviation(self.trunk.width) }
    }
}

impl ModelConfig for Config {
    fn abilities(&self) -> Abilities {
        use Ability::{Embed, Fuse, FuseImage, ImageTokens, PredictWords, TextTokens};
        let mut abilities = Abilities::from([ImageTokens, TextTokens, Embed, Fuse, FuseImage, PredictWords]);
        abilities.extend(self.mask_token.then_some(Ability::HidePatches));
        abilities
    }

    fn lacks(&self, ability: Ability) -> &'static str {
        match ability {
            Ability::Answer => "vlmo has no decoder that writes answers",
            Ability::Generate => ONE_WAY,
            Ability::HidePatches => "vlmo without `mask_token` has no mask token for patches",
            _ => "vlmo reads pixels, not regions",
        }
    }

    fn reads(&self) -> BTreeSet<Field> {
        [Field::Pixels, Field::Words].into()
    }

    fn faults(&self, inputs: &Inputs) -> Vec<String> {
        let mut faults = self.trunk.faults("trunk");
        let (depth, experts) = (self.trunk.depth, self.vl_experts);
        if depth > 0 && experts >= depth {
            faults.push(format!(
                "vl_experts is {experts}: of {depth} blocks at least one must have experts for each modality alone"
            ));
        }
        if self.experts == Experts::Standard && experts > 0 {
            faults.push(format!("vl_experts is {experts}: a standard transformer has none, set it to 0"));
        }
        if self.vl_contrast && experts == 0 {
            faults.push("vl_contrast needs vl_experts above 0".to_owned());
        }
        faults.extend(Patches::faults(inputs.size, self.patch));
        if let Some(longest) = self.longest_text.filter(|&longest| longest < inputs.words) {
            faults.push(format!("longest_text {longest} is below the {} words of the data", inputs.words));
        }
        if self.positions == Positions::Relative && self.longest(inputs) < 2 {
            faults.push("relative positions need texts of at least 2 tokens".to_owned());
        }
        faults.extend(dropout_faults(self.drop_path).map(|fault| fault.replace("dropout", "drop_path")));
        faults
    }

    fn dims(&self, inputs: &Inputs) -> Dims {
        let width = self.trunk.width;
        Dims { embed: width, image: width, patch: self.patch, ..Dims::new(width, inputs) }
    }

    fn build(&self, vars: &Vars, inputs: &Inputs) -> Result<Box<dyn Model>> {
        let (width, start) = (self.trunk.width, self.start());
        let trunk = Trunk::new(vars, self, inputs)?;
        let table = match self.tied {
            true => trunk.table().clone(),
            false => vars.at("decoder").get((inputs.vocabulary, width), "table", start)?,
        };
        let contrast = |name: &str| Contrast::new(&vars.at(name), width, start);
        let pooler = Linear::new(&vars.at("pooler"), [width, width], start, Some(Init::Constant(0.0)))?;
        Ok(Box::new(Vlmo {
            contrast: contrast("contrast")?,
            vl_contrast: self.vl_contrast.then(|| contrast("vl_contrast")).transpose()?,
            decoder: bert::Decoder::new(&vars.at("decoder"), &table, &self.spec(bert::EPS))?,
            pooler,
            trunk,
        }))
    }
}

const ONE_WAY: &str = "vlmo fuses both ways only: every word sees the words after it";

struct Vlmo {
    trunk: Trunk,
    contrast: Contrast,
    vl_contrast: Option<Contrast>,
    pooler: Linear,
    decoder: bert::Decoder,
}

/// What makes unit vectors of first tokens and logits of those.
struct Contrast {
    image: Linear,
    text: Linear,
    /// The logarithm of what multiplies the similarities.
    scale: Tensor,
}

impl Contrast {
    fn new(vars: &Vars, width: usize, start: Init) -> Result<Self> {
        let project = |name| Linear::new(&vars.at(name), [width, width], start, None);
        let scale = vars.get((), "scale", Init::Constant(SCALE.ln()))?;
        Ok(Self { image: project("image")?, text: project("text")?, scale })
    }

    fn logits(&self, images: &Tensor, texts: &Tensor) -> Result<Tensor> {
        kernels::linear(&images.broadcast_mul(&self.scale.exp()?)?, texts, None)
    }
}

impl Vlmo {
    fn pooled(&self, first: &Tensor) -> Result<Tensor> {
        self.pooler.forward(first)?.tanh()
    }
}

impl Model for Vlmo {
    /// By vision experts, the class token first.
    fn image_tokens(&self, image: &View<Image>) -> Result<Tokens> {
        image.memo("image", |image| self.trunk.image(image))
    }

    /// By language experts.
    fn text_tokens(&self, text: &View<Text>) -> Result<Tokens> {
        text.memo("text", |text| self.trunk.text(text))
    }

    fn embed_image(&self, image: &View<Image>) -> Result<Tensor> {
        unit(&self.contrast.image.forward(&self.trunk.image_class(image, Route::Image)?)?)
    }

    fn embed_text(&self, text: &View<Text>) -> Result<Tensor> {
        unit(&self.contrast.text.forward(&self.trunk.text_class(text, Route::Text)?)?)
    }

    fn similarity(&self, images: &Tensor, texts: &Tensor) -> Result<Tensor> {
        self.contrast.logits(images, texts)
    }

    fn second_similarity(&self, image: &View<Image>, text: &View<Text>) -> Result<Option<Tensor>> {
        let Some(contrast) = &self.vl_contrast else { return Ok(None) };
        let images = unit(&contrast.image.forward(&self.trunk.image_class(image, Route::Pair)?)?)?;
        let texts = unit(&contrast.text.forward(&self.trunk.text_class(text, Route::Pair)?)?)?;
        contrast.logits(&images, &texts).map(Some)
    }

    fn fuse(&self, image: &View<Image>, text: &View<Text>, attend: Attend) -> Result<Fused> {
        if attend == Attend::Causal {
            bail!("{ONE_WAY}");
        }
        let [text, image] = self.trunk.pair(image, text)?;
        Ok(Fused { pooled: self.pooled(&first(&text.hidden)?)?, text, image: Some(image) })
    }

    fn pool(&self, image: &View<Image>, text: &View<Text>) -> Result<Tensor> {
        self.pooled(&self.trunk.pair_class(image, text)?)
    }

    fn predict_words(&self, hidden: &Tensor) -> Result<Logits> {
        self.decoder.forward(hidden)
    }
}

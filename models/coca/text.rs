//! The text decoder of CoCa: a unimodal half that reads words alone, and a multimodal half that also looks at the image.

use candle_core::{D, DType, Result, Tensor, bail};
use serde::{Deserialize, Serialize};

use super::{Config, EPS};
use crate::kernels::{self, Mask, Spans, random::Key};
use crate::models::nn::{
    CrossAttention, LayerNorm, Mlp, Packing, PreNorm, Residual, Seen, SelfAttention, Spec, Start, Words,
    drops, within,
};
use crate::models::{Image, Init, Inputs, Text, Tokens, Vars, View};
use crate::token::PAD;

/// The tokens whose outcomes are the text embedding.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// [CLS] alone.
    Classes,
    /// [CLS] and the words.
    Sentence,
}

/// What [CLS] sees of a text of n words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassMask {
    /// The words and itself.
    Words,
    /// The words and whatever token follows them: padding, or itself where there is none.
    Shifted,
}

/// What a multimodal layer is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layers {
    /// Self-attention, cross-attention, feed-forward.
    Single,
    /// Self-attention, feed-forward, cross-attention, feed-forward.
    Pairs,
}

/// The layers that see words alone, and the [CLS] tokens at the end of a text.
pub struct Unimodal {
    embed: Words,
    /// (C,D).
    classes: Tensor,
    layers: PreNorm,
    norm: LayerNorm,
    mask: ClassMask,
    aggregate: Aggregate,
}

impl Unimodal {
    /// # Errors
    /// As [`Vars::get`].
    pub fn new(vars: &Vars, config: &Config, inputs: &Inputs) -> Result<Self> {
        let (depth, spec) = (config.unimodal, config.text.spec(config.activation, EPS, config.dropout));
        let (width, place) = (spec.width, Init::Normal { std: 0.01 });
        let sizes = [inputs.vocabulary, inputs.words + config.classes, width];
        Ok(Self {
            embed: Words::new(&vars.at("embed"), sizes, [Init::Normal { std: 0.02 }, place])?,
            classes: vars.get((config.classes, width), "classes", place)?,
            layers: PreNorm::new(&vars.at("layers"), depth, &spec, &Start::by_depth(&spec, depth))?,
            norm: LayerNorm::new(&vars.at("norm"), width, EPS)?,
            mask: config.class_mask,
            aggregate: config.aggregate,
        })
    }

    /// The words (B,T,D), which see no [CLS].
    ///
    /// # Errors
    /// When the text is longer than the positions or an entry lies outside the vocabulary.
    pub fn words(&self, text: &View<Text>) -> Result<Tokens> {
        text.memo("text", |text| {
            let (mask, sentence) = (text.input()?.mask.clone(), self.sentence(text)?.hidden);
            Ok(Tokens { hidden: sentence.narrow(1, 0, mask.dim(1)?)?.contiguous()?, mask: Some(mask) })
        })
    }

    /// What stands for the whole text (B,D).
    ///
    /// # Errors
    /// As [`Unimodal::words`].
    pub fn feature(&self, text: &View<Text>) -> Result<Tensor> {
        let Tokens { hidden, mask } = self.sentence(text)?;
        let of = match self.aggregate {
            Aggregate::Classes => None,
            Aggregate::Sentence => mask,
        };
        match of {
            None => {
                let classes = self.classes.dim(0)?;
                let last = hidden.narrow(1, hidden.dim(1)? - classes, classes)?.contiguous()?;
                self.norm.forward(&last)?.mean(1)
            }
            Some(visible) => {
                let share = visible.broadcast_div(&visible.sum_keepdim(1)?)?.unsqueeze(D::Minus1)?;
                self.norm.forward(&hidden)?.broadcast_mul(&share)?.sum(1)
            }
        }
    }

    /// The words and after them the [CLS] tokens, (B,T+C,D), computed once for contrast and captioning.
    fn sentence(&self, text: &View<Text>) -> Result<Tokens> {
        text.memo("sentence", |text| {
            let (input, noise) = (text.input()?, text.noise());
            let (batch, classes) = (input.mask.dim(0)?, self.classes.dim(0)?);
            let ones = Tensor::ones((batch, classes), input.mask.dtype(), input.mask.device())?;
            let mask = Tensor::cat(&[&input.mask, &ones], 1)?;
            let hidden = self.embed.forward_and(&input.ids, Some(&self.classes))?;
            let hidden = match self.mask {
                ClassMask::Words => {
                    let packing = Packing::new(&mask)?;
                    let seen = Mask::itself(packing.spans(), true);
                    packing.unpack(&self.layers.forward(packing.pack(&hidden)?, &seen, noise)?)?
                }
                ClassMask::Shifted => self.layers.forward(hidden, &shifted(input)?, noise)?,
            };
            Ok(Tokens { hidden, mask: Some(mask) })
        })
    }
}

/// The mask of published weights for words (B,T) and one [CLS]: causal, and a key is visible where the token before it is
/// not the padding entry, which those weights also have within texts: CLIP's vocabulary has an exclamation mark there.
fn shifted(text: &Text) -> Result<Mask> {
    let words = (text.ids.ne(PAD)?.to_dtype(DType::F32)? * &text.mask)?;
    let first = Tensor::ones((words.dim(0)?, 1), DType::F32, words.device())?;
    Ok(Mask::CausalKeys(Tensor::cat(&[&first, &words], 1)?))
}

/// The layers that also look at the image, and the normalisation that follows them.
pub struct Multimodal {
    layers: Vec<Layer>,
    norm: LayerNorm,
}

impl Multimodal {
    /// Over images of width `seen`.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn new(vars: &Vars, config: &Config, seen: usize) -> Result<Self> {
        let spec = config.text.spec(config.activation, EPS, config.dropout);
        let depth = config.text.depth.saturating_sub(config.unimodal);
        let start = Start::by_depth(&spec, depth);
        let layer = |index| Layer::new(&vars.at("layers").at(index), &spec, seen, config.multimodal, &start);
        let layers = (0..depth).map(layer).collect::<Result<_>>()?;
        Ok(Self { layers, norm: LayerNorm::new(&vars.at("norm"), spec.width, EPS)? })
    }

    /// Words (R,D), of which these rows are one text, after looking at its image.
    ///
    /// # Errors
    /// When a shape does not fit.
    pub fn forward(
        &self,
        words: Tensor,
        spans: &Spans,
        image: &Seen<Image>,
        noise: Option<Key>,
    ) -> Result<Tensor> {
        let (itself, across) =
            (Mask::itself(spans, true), Mask::across(spans.clone(), image.spans().clone()));
        let mut hidden = words;
        for (layer, number) in self.layers.iter().zip(0..) {
            let keys = image.keys(number, |tokens| layer.keys(tokens))?;
            hidden = layer.block(&hidden, &itself, (&keys, &across), within(noise, number))?;
        }
        self.norm.forward(&hidden)
    }
}

#[derive(Clone)]
struct Layer {
    norm1: LayerNorm,
    attention: SelfAttention,
    between: Option<(LayerNorm, Mlp)>,
    cross_norm: LayerNorm,
    seen_norm: LayerNorm,
    cross: CrossAttention,
    norm2: LayerNorm,
    mlp: Mlp,
    dropout: f64,
}

impl Layer {
    fn new(vars: &Vars, spec: &Spec, seen: usize, kind: Layers, start: &Start) -> Result<Self> {
        let norm = |name: &str, width| LayerNorm::new(&vars.at(name), width, spec.eps);
        let between = (kind == Layers::Pairs).then(|| -> Result<_> {
            Ok((norm("between_norm", spec.width)?, Mlp::new(&vars.at("between"), spec, start)?))
        });
        Ok(Self {
            norm1: norm("norm1", spec.width)?,
            attention: SelfAttention::new(&vars.at("attention"), spec, start)?,
            between: between.transpose()?,
            cross_norm: norm("cross_norm", spec.width)?,
            seen_norm: norm("seen_norm", seen)?,
            cross: CrossAttention::new(&vars.at("cross"), spec, seen, start)?,
            norm2: norm("norm2", spec.width)?,
            mlp: Mlp::new(&vars.at("mlp"), spec, start)?,
            dropout: spec.dropout,
        })
    }

    /// The keys and values (.., 2D) of what is looked at (.., D').
    fn keys(&self, seen: &Tensor) -> Result<Tensor> {
        self.cross.keys(&self.seen_norm.forward(seen)?)
    }

    fn block(
        &self,
        x: &Tensor,
        itself: &Mask,
        (keys, across): (&Tensor, &Mask),
        noise: Option<Key>,
    ) -> Result<Tensor> {
        let (layer, itself, across) = (self.clone(), itself.clone(), across.clone());
        kernels::block(&[x, keys], move |inputs| match inputs {
            [x, keys] => layer.forward(x, &itself, (keys, &across), noise),
            _ => bail!("a layer of two inputs"),
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        itself: &Mask,
        seen: (&Tensor, &Mask),
        noise: Option<Key>,
    ) -> Result<Tensor> {
        let mut x =
            self.attention.forward(&self.norm1.forward(x)?, itself, None, self.residual(x, noise, 0))?;
        if let Some((norm, mlp)) = &self.between {
            x = mlp.forward(&norm.forward(&x)?, self.residual(&x, noise, 1))?;
        }
        let asking = self.cross_norm.forward(&x)?;
        x = self.cross.forward(&asking, seen, None, self.residual(&x, noise, 2))?;
        self.mlp.forward(&self.norm2.forward(&x)?, self.residual(&x, noise, 3))
    }

    fn residual<'a>(&self, x: &'a Tensor, noise: Option<Key>, part: u64) -> Residual<'a> {
        Residual { x, dropout: drops(self.dropout, noise, part) }
    }
}

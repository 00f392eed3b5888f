//! The text decoder of CoCa: a unimodal half that reads words alone, and a multimodal half that also looks at the image.

use std::ops::Range;

use candle_core::{D, DType, Device, Result, Tensor, bail};
use serde::{Deserialize, Serialize};

use super::{Config, EPS};
use crate::kernels::{self, Mask, Spans, random::Key};
use crate::models::nn::{
    CrossAttention, LayerNorm, Mlp, Packing, Past, PreNorm, Residual, Seen, SelfAttention, Spec, Start,
    Words, drops, within,
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

/// Texts as far as the unimodal half has read them.
pub struct Begun {
    past: Past,
    /// The last word of each.
    last: Vec<Option<u32>>,
}

impl Begun {
    /// Texts in the order in which `rows` names them.
    ///
    /// # Errors
    /// When a text does not exist.
    pub fn reorder(&mut self, rows: &[u32]) -> Result<()> {
        self.past.reorder(rows)?;
        self.last = rows.iter().map(|&row| self.last[row as usize]).collect();
        Ok(())
    }
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

    /// So many texts of which nothing has been read.
    pub fn begin(&self, texts: usize) -> Begun {
        Begun { past: Past::new(texts), last: vec![None; texts] }
    }

    /// The next words of such texts, (R) to (R,D); `new` tells the rows of each. Nothing is dropped.
    ///
    /// # Errors
    /// As [`Unimodal::words`].
    pub fn next(&self, texts: &mut Begun, words: &[u32], new: &Spans) -> Result<Tensor> {
        if self.mask == ClassMask::Words {
            return self.pass(texts, words, new, None);
        }
        // Which keys later words see depends on the words before those: one word of each text at a time.
        let longest = new.ranges().iter().map(Range::len).max().unwrap_or(0);
        let (mut parts, mut order) = (Vec::new(), vec![0u32; words.len()]);
        let mut rows = 0;
        for place in 0..longest {
            let there = |range: &Range<usize>| (place < range.len()).then(|| range.start + place);
            let (mut column, mut shown) = (Vec::new(), Vec::new());
            for (last, row) in texts.last.iter_mut().zip(new.ranges().iter().map(there)) {
                let Some(row) = row else { continue };
                shown.push(last.replace(words[row]) != Some(PAD));
                column.push(words[row]);
                order[row] = rows;
                rows += 1;
            }
            let lengths = new.ranges().iter().map(|range| usize::from(place < range.len()));
            parts.push(self.pass(texts, &column, &Spans::of(lengths), Some(&shown))?);
        }
        kernels::gather_vectors(&Tensor::cat(&parts, 0)?, &Tensor::new(order, &Device::Cpu)?)
    }

    fn pass(&self, texts: &mut Begun, words: &[u32], new: &Spans, shown: Option<&[bool]>) -> Result<Tensor> {
        let mut reading = texts.past.read_shown(new, shown)?;
        let ids = Tensor::new(words, &Device::Cpu)?;
        let hidden = self.embed.at(&ids, reading.places())?;
        self.layers.next(hidden, &mut reading)
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
                let hidden = self.norm.forward(&hidden)?;
                hidden.broadcast_mul(&share.to_device(hidden.device())?)?.sum(1)
            }
        }
    }

    /// The words and after them the [CLS] tokens, (B,T+C,D), computed once for contrast and captioning.
    fn sentence(&self, text: &View<Text>) -> Result<Tokens> {
        text.memo("sentence", |text| {
            let (input, noise) = (text.input()?, text.noise());
            let (batch, classes) = (input.mask.dim(0)?, self.classes.dim(0)?);
            let ones = Tensor::ones((batch, classes), DType::F32, &Device::Cpu)?;
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
    let first = Tensor::ones((words.dim(0)?, 1), DType::F32, &Device::Cpu)?;
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

    /// Texts about these images of which nothing has been read.
    ///
    /// # Errors
    /// When a shape does not fit.
    pub fn begin(&self, image: &Seen<Image>) -> Result<Past> {
        let keys = |(layer, number): (&Layer, u64)| image.keys(number, |tokens| layer.keys(tokens));
        let keys = self.layers.iter().zip(0..).map(keys).collect::<Result<_>>()?;
        let spans = image.spans().clone();
        Ok(Past::new(spans.ranges().len()).beside(keys, spans))
    }

    /// The next words x (R,D) of such texts, from the unimodal half, to (R,D); `new` tells the rows of each.
    ///
    /// # Errors
    /// When a shape does not fit.
    pub fn next(&self, past: &mut Past, x: Tensor, new: &Spans) -> Result<Tensor> {
        let (mut hidden, mut reading) = (x, past.read(new)?);
        for (number, layer) in self.layers.iter().enumerate() {
            let normed = layer.norm1.forward(&hidden)?;
            let to = layer.residual(&hidden, None, 0);
            let seen = layer.attention.next(&normed, number, &mut reading, to)?;
            hidden = layer.finish(seen, reading.across(number)?, None)?;
        }
        self.norm.forward(&hidden)
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
        let x = self.attention.forward(&self.norm1.forward(x)?, itself, None, self.residual(x, noise, 0))?;
        self.finish(x, seen, noise)
    }

    /// What follows self-attention, whose outcome has joined the residual path.
    fn finish(&self, mut x: Tensor, seen: (&Tensor, &Mask), noise: Option<Key>) -> Result<Tensor> {
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

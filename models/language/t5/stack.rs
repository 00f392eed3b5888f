//! The encoder or the decoder of T5: layers without a bias anywhere, which know where tokens stand by a learned sum for each
//! bucket of distances, alike in all layers.
//!
//! `x <- x + attention(norm x)`, in the decoder `x <- x + cross(norm x, encoded)`, then
//! `x <- x + down(gelu(gate(norm x)) up(norm x))`, and a norm after the last; `norm x = gain x / sqrt(mean(x^2) + eps)`.
//! Scores are `q_i k_j + b(j - i)`: they are not divided by the root of the width.

use std::sync::Arc;

use candle_core::{D, Device, Result, Tensor, bail};

use super::Config;
use crate::kernels::{self, Activation, Bias, Dropout, Mask, Spans, random::Key};
use crate::models::nn::{Linear, Past, Residual, drops, within};
use crate::models::{Init, Vars};

const EPS: f64 = 1e-6;

/// Layers, one behind the other.
pub struct Stack {
    layers: Vec<Layer>,
    /// (buckets, H).
    bias: Tensor,
    norm: RmsNorm,
    /// Whether tokens see those before them alone.
    causal: bool,
    distance: usize,
    dropout: f64,
}

impl Stack {
    /// An encoder, or a decoder, which is causal and looks at what has been encoded.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn new(vars: &Vars, config: &Config, causal: bool) -> Result<Self> {
        let (width, heads) = (config.layers.width, config.layers.heads);
        let layer = |index| Layer::new(&vars.at("layers").at(index), config, causal);
        Ok(Self {
            layers: (0..config.layers.depth).map(layer).collect::<Result<_>>()?,
            bias: vars.get((config.buckets, heads), "bias", root(width))?,
            norm: RmsNorm::new(&vars.at("norm"), width)?,
            causal,
            distance: config.distance,
            dropout: config.dropout,
        })
    }

    /// Sequences of vectors (R,D) to hidden states (R,D); `encoded` (R',D) is what a decoder looks at.
    ///
    /// # Errors
    /// When a shape does not fit.
    pub fn forward(
        &self,
        x: &Tensor,
        spans: &Spans,
        encoded: Option<(&Tensor, &Spans)>,
        noise: Option<Key>,
    ) -> Result<Tensor> {
        let drop = |x: Tensor, place| match drops(self.dropout, noise, place) {
            Some(dropout) => kernels::dropout(&x, dropout),
            None => Ok(x),
        };
        let relative = self.relative(spans)?;
        let mut x = drop(x.clone(), 0)?;
        for (layer, part) in self.layers.iter().zip(2..) {
            x = layer.block(&x, &relative, encoded, within(noise, part))?;
        }
        drop(self.norm.forward(&x)?, 1)
    }

    /// The keys and values of what a decoder looks at (R',D), for each layer.
    ///
    /// # Errors
    /// When this is an encoder, or the width is another.
    pub fn keys(&self, encoded: &Tensor) -> Result<Vec<Tensor>> {
        let keys = |layer: &Layer| match &layer.cross {
            Some((cross, _)) => cross.kv.forward(encoded),
            None => bail!("an encoder looks at nothing"),
        };
        self.layers.iter().map(keys).collect()
    }

    /// The next vectors x (R,D) of sequences to hidden states (R,D), where this is a decoder; `new` tells the rows of each.
    /// Nothing is dropped.
    ///
    /// # Errors
    /// When a shape does not fit.
    pub fn next(&self, past: &mut Past, x: &Tensor, new: &Spans) -> Result<Tensor> {
        let mut reading = past.read(new)?;
        let scores = self.scores(reading.spans())?;
        let [asking, seen] = [reading.places().to_vec(), places(reading.spans()).collect()];
        let bias = Bias { scores: &scores, places: [&asking, &seen] };
        let mut x = x.clone();
        for (number, layer) in self.layers.iter().enumerate() {
            let normed = layer.norm1.forward(&x)?;
            let (kv, mask) = reading.itself(number, layer.attention.kv.forward(&normed)?)?;
            let to = Residual { x: &x, dropout: None };
            let own = layer.attention.forward(&normed, &kv, Some(bias), (&mask, None), to)?;
            x = layer.finish(own, Some(reading.across(number)?), None)?;
        }
        self.norm.forward(&x)
    }

    fn relative(&self, spans: &Spans) -> Result<Relative> {
        let (scores, mask) = (self.scores(spans)?, Mask::itself(spans, self.causal));
        Ok(Relative { scores, places: places(spans).collect(), mask })
    }

    /// The sums (H,P,P) for every pair of places in the longest sequence.
    fn scores(&self, spans: &Spans) -> Result<Tensor> {
        let (buckets, _) = self.bias.dims2()?;
        let length = spans.ranges().iter().map(|range| range.len() as i64).max().unwrap_or(0);
        let pairs = (0..length).flat_map(|query| (0..length).map(move |key| key - query));
        let ids = pairs.map(|ahead| bucket(ahead, buckets, self.distance, !self.causal)).collect::<Vec<_>>();
        let ids = Tensor::from_vec(ids, (length as usize, length as usize), &Device::Cpu)?;
        kernels::embedding(&self.bias, &ids)?.permute((2, 0, 1))?.contiguous()
    }
}

/// Where each row stands in its sequence.
fn places(spans: &Spans) -> impl Iterator<Item = u32> {
    spans.ranges().iter().flat_map(|range| (0..).take(range.len()))
}

/// The bucket of a key so many places ahead of the query. With `both` sides half of the buckets are for keys ahead. Of the
/// buckets of a side one half are for a distance each and the others, ever wider, for distances up to `most` and beyond.
fn bucket(ahead: i64, buckets: usize, most: usize, both: bool) -> u32 {
    let side = if both { buckets / 2 } else { buckets };
    let start = if both && ahead > 0 { side } else { 0 };
    let away = if both { ahead.abs() } else { (-ahead).max(0) } as usize;
    let exact = side / 2;
    let within = if away < exact {
        away
    } else {
        // In single precision, as the released code rounds.
        let share = (away as f32 / exact as f32).ln() / (most as f64 / exact as f64).ln() as f32;
        (exact + (share * (side - exact) as f32) as usize).min(side - 1)
    };
    (start + within) as u32
}

/// Sums for pairs of places and who sees whom.
#[derive(Clone)]
struct Relative {
    /// (H,P,P).
    scores: Tensor,
    /// The place of each row in its sequence.
    places: Arc<[u32]>,
    mask: Mask,
}

#[derive(Clone)]
struct Layer {
    attention: Attention,
    norm1: RmsNorm,
    cross: Option<(Attention, RmsNorm)>,
    gate: Linear,
    up: Linear,
    down: Linear,
    norm2: RmsNorm,
    dropout: f64,
}

impl Layer {
    fn new(vars: &Vars, config: &Config, crosses: bool) -> Result<Self> {
        let (width, mlp) = (config.layers.width, config.mlp());
        let norm = |name| RmsNorm::new(&vars.at(name), width);
        let map = |name, [inputs, outputs]: [usize; 2]| {
            Linear::new(&vars.at("mlp").at(name), [inputs, outputs], root(inputs), None)
        };
        let cross = crosses
            .then(|| -> Result<_> { Ok((Attention::new(&vars.at("cross"), config)?, norm("cross_norm")?)) });
        Ok(Self {
            attention: Attention::new(&vars.at("attention"), config)?,
            norm1: norm("norm1")?,
            cross: cross.transpose()?,
            gate: map("gate", [width, mlp])?,
            up: map("up", [width, mlp])?,
            down: map("down", [mlp, width])?,
            norm2: norm("norm2")?,
            dropout: config.dropout,
        })
    }

    fn block(
        &self,
        x: &Tensor,
        relative: &Relative,
        encoded: Option<(&Tensor, &Spans)>,
        noise: Option<Key>,
    ) -> Result<Tensor> {
        let (layer, relative) = (self.clone(), relative.clone());
        let scores = relative.scores.clone();
        match encoded {
            None => kernels::block(&[x, &scores], move |inputs| {
                layer.forward(&inputs[0], &inputs[1], &relative, None, noise)
            }),
            Some((encoded, keys)) => {
                let Mask::Spans { queries, .. } = &relative.mask else {
                    bail!("a stack reads sequences without padding")
                };
                let across = Mask::across(queries.clone(), keys.clone());
                kernels::block(&[x, &scores, encoded], move |inputs| {
                    layer.forward(&inputs[0], &inputs[1], &relative, Some((&inputs[2], &across)), noise)
                })
            }
        }
    }

    fn forward(
        &self,
        x: &Tensor,
        scores: &Tensor,
        relative: &Relative,
        encoded: Option<(&Tensor, &Mask)>,
        noise: Option<Key>,
    ) -> Result<Tensor> {
        let drops = |place| drops(self.dropout, noise, place);
        let normed = self.norm1.forward(x)?;
        let bias = Bias { scores, places: [&relative.places, &relative.places] };
        let to = Residual { x, dropout: drops(0) };
        let kv = self.attention.kv.forward(&normed)?;
        let x = self.attention.forward(&normed, &kv, Some(bias), (&relative.mask, drops(1)), to)?;
        match (&self.cross, encoded) {
            (Some((cross, _)), Some((encoded, mask))) => {
                self.finish(x, Some((&cross.kv.forward(encoded)?, mask)), noise)
            }
            _ => self.finish(x, None, noise),
        }
    }

    /// What follows self-attention, whose outcome has joined the residual path, given keys and values to look at.
    fn finish(&self, x: Tensor, seen: Option<(&Tensor, &Mask)>, noise: Option<Key>) -> Result<Tensor> {
        let drops = |place| drops(self.dropout, noise, place);
        let mut x = x;
        if let (Some((cross, norm)), Some((kv, mask))) = (&self.cross, seen) {
            let to = Residual { x: &x, dropout: drops(2) };
            x = cross.forward(&norm.forward(&x)?, kv, None, (mask, drops(3)), to)?;
        }
        let normed = self.norm2.forward(&x)?;
        let gate = kernels::activate(&self.gate.forward(&normed)?, Activation::GeluTanh)?;
        let mut inner = (gate * self.up.forward(&normed)?)?;
        if let Some(dropout) = drops(4) {
            inner = kernels::dropout(&inner, dropout)?;
        }
        self.down.join(&inner, Residual { x: &x, dropout: drops(5) })
    }
}

/// Queries of one sequence over keys and values (.., 2 H d) of the same or another; heads may be wider or narrower than D/H.
#[derive(Clone)]
struct Attention {
    q: Linear,
    kv: Linear,
    out: Linear,
    heads: usize,
    head: usize,
}

impl Attention {
    fn new(vars: &Vars, config: &Config) -> Result<Self> {
        let (width, heads, head) = (config.layers.width, config.layers.heads, config.head());
        let inner = heads * head;
        let map = |name, sizes, init| Linear::new(&vars.at(name), sizes, init, None);
        Ok(Self {
            q: map("q", [width, inner], root(width * head))?,
            kv: map("kv", [width, 2 * inner], root(width))?,
            out: map("out", [inner, width], root(inner))?,
            heads,
            head,
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        kv: &Tensor,
        bias: Option<Bias>,
        (mask, dropout): (&Mask, Option<Dropout>),
        to: Residual,
    ) -> Result<Tensor> {
        // The kernel divides scores by this root.
        let q = (self.q.forward(x)? * (self.head as f64).sqrt())?;
        let seen = match bias {
            Some(bias) => kernels::biased_cross_attention(&q, kv, bias, self.heads, mask, dropout)?,
            None => kernels::cross_attention(&q, kv, self.heads, mask, dropout)?,
        };
        self.out.join(&seen, to)
    }
}

/// Divides each row by the root of its mean square, then scales by a gain: Zhang and Sennrich, arXiv:1910.07467.
#[derive(Clone)]
struct RmsNorm {
    gain: Tensor,
}

impl RmsNorm {
    fn new(vars: &Vars, width: usize) -> Result<Self> {
        Ok(Self { gain: vars.get(width, "gain", Init::Constant(1.0))? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let size = (x.sqr()?.mean_keepdim(D::Minus1)? + EPS)?.sqrt()?;
        x.broadcast_div(&size)?.broadcast_mul(&self.gain)
    }
}

/// A normal start whose variance is one over `size`.
pub fn root(size: usize) -> Init {
    Init::Normal { std: (size as f64).powf(-0.5) }
}

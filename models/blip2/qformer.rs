//! The Q-Former of BLIP-2 (section 3.1): learned queries and words pass through the same BERT layers; queries, and they
//! alone, also look at the image, in every second layer.
//!
//! Self-attention is shared; queries and words each have a feed-forward half of their own:
//!
//! `h = LN(x + attention(x))`, for queries `h <- LN(h + cross(h, image))` in layers 0, 2, 4, ..., then
//! `x <- LN(h + mlp(h))`.
//!
//! Who sees whom, beside itself, is what the three passes differ in:
//!
//! | pass | a query sees | a word sees |
//! |---|---|---|
//! | apart (contrast) | the queries | the words |
//! | joint, both ways (matching) | the queries and the words | the queries and the words |
//! | joint, left to right (generation) | the queries | the queries and the words before it |
//!
//! In the first and the last, queries compute the same: generation takes their keys and values from the pass that served
//! the contrast.

use candle_core::{Device, Result, Tensor, bail};

use super::image::Encoder;
use super::layer::Layer;
use crate::kernels::{self, Mask, Spans, random::Key};
use crate::models::nn::{
    LayerNorm, One, Packing, Past, Prefixed, Seen, Spec, Words, deviation, drops, within,
};
use crate::models::view::joint_noise;
use crate::models::{Image, Init, Rows, Text, Tokens, Vars, View};

/// The parts of a pass have noise of their own: queries as they begin, words as they begin, and one layer after another.
const QUERIES: u64 = 0;
const WORDS: u64 = 1;
const LAYERS: u64 = 2;
/// Generation has other noise than matching.
const CAUSAL: u64 = u64::MAX;

/// The sizes of a Q-Former.
pub struct Sizes {
    /// Q.
    pub queries: usize,
    /// Layers.
    pub depth: usize,
    /// Cross-attention stands in every layer whose number, from 0, is a multiple of this.
    pub cross_attention_frequency: usize,
    /// Width of the image features.
    pub image: usize,
}

/// Queries, layers and, where there is a text branch, words.
pub struct QFormer {
    /// (Q,D).
    queries: Tensor,
    words: Option<Words>,
    /// Of queries and words alike, before the first layer.
    norm: LayerNorm,
    layers: Vec<Layer>,
    dropout: f64,
}

impl QFormer {
    /// With a text branch of so many words and positions, or without one.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn new(vars: &Vars, spec: &Spec, sizes: &Sizes, text: Option<[usize; 2]>) -> Result<Self> {
        let init = Init::Normal { std: deviation(spec.width) };
        let words = text.map(|[words, places]| Words::new(vars, [words, places, spec.width], [init, init]));
        let layer = |index: usize| {
            let image = index.is_multiple_of(sizes.cross_attention_frequency).then_some(sizes.image);
            Layer::new(&vars.at("layers").at(index), spec, image, text.is_some())
        };
        Ok(Self {
            queries: vars.get((sizes.queries, spec.width), "queries", init)?,
            words: words.transpose()?,
            norm: LayerNorm::new(&vars.at("norm"), spec.width, spec.eps)?,
            layers: (0..sizes.depth).map(layer).collect::<Result<_>>()?,
            dropout: spec.dropout,
        })
    }

    /// The table of words.
    ///
    /// # Errors
    /// Without a text branch.
    pub fn table(&self) -> Result<&Tensor> {
        Ok(self.words()?.table())
    }

    fn words(&self) -> Result<&Words> {
        match &self.words {
            Some(words) => Ok(words),
            None => bail!("a Q-Former without a text branch reads no words"),
        }
    }

    /// What queries make of images by themselves, (B,Q,D).
    ///
    /// # Errors
    /// When encoding fails.
    pub fn queries(&self, image: &View<Image>, encoder: &Encoder) -> Result<Tensor> {
        self.queries_after(self.layers.len(), image, encoder)
    }

    /// The queries (B,Q,D) after so many layers.
    fn queries_after(&self, depth: usize, image: &View<Image>, encoder: &Encoder) -> Result<Tensor> {
        let compute = |image: &View<Image>| {
            let hidden = match depth.checked_sub(1) {
                None => self.begin(encoder.forward(image)?.rows()?, image.noise())?,
                Some(below) => {
                    let x = self.queries_after(below, image, encoder)?;
                    let own = self.query_keys(below, image, encoder)?;
                    let seen = Seen::new(image, |image| encoder.forward(image))?;
                    let spans = sequences(&x)?;
                    let (layer, noise) = (&self.layers[below], within(image.noise(), LAYERS + below as u64));
                    let across = layer.across(below as u64, &seen, &spans)?;
                    layer.queries(&x, (&own, &spans, &spans), across.as_ref(), noise)?
                }
            };
            Ok(Tokens { hidden, mask: None })
        };
        Ok(image.memo(&format!("queries.{depth}"), compute)?.hidden)
    }

    /// The keys and values (B,Q,2D) of queries by themselves in a layer.
    fn query_keys(&self, layer: usize, image: &View<Image>, encoder: &Encoder) -> Result<Tensor> {
        let compute = |image: &View<Image>| {
            let hidden = self.layers[layer].keys(&self.queries_after(layer, image, encoder)?)?;
            Ok(Tokens { hidden, mask: None })
        };
        Ok(image.memo(&format!("queries.{layer}.keys"), compute)?.hidden)
    }

    /// What these queries (B,Q,D) make of image features (B,N,D').
    ///
    /// # Errors
    /// When a shape does not fit.
    pub fn ask(&self, queries: &Tensor, features: &Tensor) -> Result<Tensor> {
        let (own, seen) = (sequences(queries)?, sequences(features)?);
        let mut x = self.norm.forward(queries)?;
        for layer in &self.layers {
            let across =
                layer.image_keys(features)?.map(|keys| (keys, Mask::across(own.clone(), seen.clone())));
            x = layer.queries(&x, (&layer.keys(&x)?, &own, &own), across.as_ref(), None)?;
        }
        Ok(x)
    }

    /// Queries as they enter the first layer, (B,Q,D).
    fn begin(&self, batch: usize, noise: Option<Key>) -> Result<Tensor> {
        let (queries, width) = self.queries.dims2()?;
        let x = self.norm.forward(&self.queries)?.broadcast_as((batch, queries, width))?.contiguous()?;
        self.drop(x, within(noise, QUERIES))
    }

    /// Words as they enter the first layer, packed (R,D).
    fn read(&self, ids: &Tensor, packing: &Packing, noise: Option<Key>) -> Result<Tensor> {
        let x = packing.pack(&self.words()?.forward(ids)?)?;
        self.drop(self.norm.forward(&x)?, within(noise, WORDS))
    }

    fn drop(&self, x: Tensor, noise: Option<Key>) -> Result<Tensor> {
        match drops(self.dropout, noise, 0) {
            Some(dropout) => kernels::dropout(&x, dropout),
            None => Ok(x),
        }
    }

    /// Words by themselves, (B,T,D).
    ///
    /// # Errors
    /// Without a text branch, or when an entry lies outside the table.
    pub fn text(&self, text: &View<Text>) -> Result<Tokens> {
        text.memo("text", |text| {
            let (input, noise) = (text.input()?, text.noise());
            let packing = Packing::new(&input.mask)?;
            let mut x = self.read(&input.ids, &packing, noise)?;
            for (layer, part) in self.layers.iter().zip(LAYERS..) {
                x = layer.words(&x, packing.spans(), within(noise, part))?;
            }
            Ok(Tokens { hidden: packing.unpack(&x)?, mask: Some(input.mask.clone()) })
        })
    }

    /// Queries and words that see each other: (B,Q,D) and (B,T,D).
    ///
    /// # Errors
    /// As [`QFormer::text`].
    pub fn both(
        &self,
        image: &View<Image>,
        text: &View<Text>,
        encoder: &Encoder,
    ) -> Result<(Tensor, Tokens)> {
        let pair = Pair::new(self, image, text, encoder)?;
        let x = self.both_before(self.layers.len(), &pair)?;
        let words = pair.packing.unpack(&pair.joined.second(&x)?)?;
        let mask = Some(text.input()?.mask.clone());
        Ok((pair.unpack(&pair.joined.first(&x)?)?, Tokens { hidden: words, mask }))
    }

    /// The queries (B,Q,D) of [`QFormer::both`] alone: of the words, the last layer computes keys and values and no more.
    ///
    /// # Errors
    /// As [`QFormer::text`].
    pub fn both_queries(&self, image: &View<Image>, text: &View<Text>, encoder: &Encoder) -> Result<Tensor> {
        // A configuration without layers was refused.
        let Some((layer, earlier)) = self.layers.split_last() else { bail!("a Q-Former without layers") };
        let pair = Pair::new(self, image, text, encoder)?;
        let x = self.both_before(earlier.len(), &pair)?;
        let last = earlier.len() as u64;
        let across = layer.across(last, &pair.seen, &pair.queries)?;
        let own = (&layer.keys(&x)?, &pair.queries, pair.joined.spans());
        let noise = within(pair.noise, LAYERS + last);
        pair.unpack(&layer.queries(&pair.joined.first(&x)?, own, across.as_ref(), noise)?)
    }

    /// What the first `depth` layers make of queries and words that see each other, joined rows (R,D).
    fn both_before(&self, depth: usize, pair: &Pair) -> Result<Tensor> {
        let queries = self.begin(pair.queries.ranges().len(), pair.noise)?;
        let words = self.read(&pair.ids, &pair.packing, pair.noise)?;
        let mut x = pair.joined.join(&queries, &words)?;
        for (layer, number) in self.layers.iter().zip(0..).take(depth) {
            let across = layer.across(number, &pair.seen, &pair.queries)?;
            x = layer.both(&x, &pair.joined, across.as_ref(), within(pair.noise, LAYERS + number))?;
        }
        Ok(x)
    }

    /// Words that see the queries and the words before them, (B,T,D), the first of each text replaced by [DEC], the last
    /// entry of the table.
    ///
    /// # Errors
    /// As [`QFormer::text`].
    pub fn causal(&self, image: &View<Image>, text: &View<Text>, encoder: &Encoder) -> Result<Tokens> {
        let (input, noise) = (text.input()?, within(joint_noise(image, text), CAUSAL));
        let packing = Packing::new(&input.mask)?;
        let (whole, spans) = self.whole(image, encoder)?;
        let rows = encoder.forward(&whole)?.rows()? * self.queries.dim(0)?;
        let joined = Prefixed::new((&spans, rows), packing.spans())?;
        let mut x = self.read(&self.decode_first(&input.ids)?, &packing, noise)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let before = self.query_keys(index, &whole, encoder)?;
            x = layer.words_after(
                &before,
                &x,
                (&joined, packing.spans()),
                within(noise, LAYERS + index as u64),
            )?;
        }
        Ok(Tokens { hidden: packing.unpack(&x)?, mask: Some(input.mask.clone()) })
    }

    /// The images that these were selected from, and the rows of each example's queries among all of theirs.
    fn whole(&self, image: &View<Image>, encoder: &Encoder) -> Result<(View<Image>, Spans)> {
        let (whole, examples) = image.whole()?;
        let spans = Spans::even(encoder.forward(&whole)?.rows()?, self.queries.dim(0)?);
        let spans = match examples {
            None => spans,
            Some(examples) => spans.take(&examples.to_vec1::<u32>()?)?,
        };
        Ok((whole, spans))
    }

    /// Texts about these images that have read a prompt, the first of whose words is replaced by [DEC], and what they make
    /// of its last word (B,D).
    ///
    /// # Errors
    /// As [`QFormer::text`], or when a prompt has no word.
    pub fn decode(&self, image: &View<Image>, prompt: &Text, encoder: &Encoder) -> Result<(Past, Tensor)> {
        let (whole, spans) = self.whole(image, encoder)?;
        let keys = (0..self.layers.len()).map(|layer| self.query_keys(layer, &whole, encoder));
        let packing = Packing::new(&prompt.mask)?;
        let mut past = Past::new(spans.ranges().len()).behind(keys.collect::<Result<_>>()?, spans);
        let ids = packing.pack_ids(&self.decode_first(&prompt.ids)?)?;
        let hidden = self.next(&mut past, &ids, packing.spans())?;
        Ok((past, One::last(packing.spans())?.pick(&hidden)?))
    }

    /// The next words ids (R) of such texts, to (R,D); `new` tells the rows of each.
    ///
    /// # Errors
    /// As [`QFormer::text`].
    pub fn next(&self, past: &mut Past, ids: &Tensor, new: &Spans) -> Result<Tensor> {
        let mut reading = past.read(new)?;
        let mut x = self.norm.forward(&self.words()?.at(ids, reading.places())?)?;
        for (number, layer) in self.layers.iter().enumerate() {
            x = layer.next(&x, number, &mut reading)?;
        }
        Ok(x)
    }

    /// ids (B,T) with [DEC] at the head of each text.
    fn decode_first(&self, ids: &Tensor) -> Result<Tensor> {
        let (batch, length) = ids.dims2()?;
        let dec = Tensor::full(self.table()?.dim(0)? as u32 - 1, (batch, 1), &Device::Cpu)?;
        Tensor::cat(&[&dec, &ids.narrow(1, 1, length - 1)?], 1)
    }
}

/// The rows of each example of x (B,N,D).
fn sequences(x: &Tensor) -> Result<Spans> {
    let (batch, length, _) = x.dims3()?;
    Ok(Spans::even(batch, length))
}

/// Images and texts whose queries and words see each other.
struct Pair {
    ids: Tensor,
    packing: Packing,
    seen: Seen<Image>,
    /// The rows of each example's queries among those of all queries.
    queries: Spans,
    joined: Prefixed,
    noise: Option<Key>,
}

impl Pair {
    fn new(qformer: &QFormer, image: &View<Image>, text: &View<Text>, encoder: &Encoder) -> Result<Self> {
        let input = text.input()?;
        let packing = Packing::new(&input.mask)?;
        let seen = Seen::new(image, |image| encoder.forward(image))?;
        let (batch, queries) = (seen.spans().ranges().len(), qformer.queries.dim(0)?);
        let spans = Spans::even(batch, queries);
        Ok(Self {
            joined: Prefixed::new((&spans, batch * queries), packing.spans())?,
            seen,
            ids: input.ids.clone(),
            packing,
            queries: spans,
            noise: joint_noise(image, text),
        })
    }

    /// Rows of queries to (B,Q,D).
    fn unpack(&self, rows: &Tensor) -> Result<Tensor> {
        rows.reshape((self.queries.ranges().len(), (), rows.dim(1)?))
    }
}

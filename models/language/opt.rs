//! OPT: a transformer that reads a text from left to right and predicts each next word.
//!
//! Zhang et al., arXiv:2205.01068, and the released code: learned positions, of which a text begins with number 2; layers
//! that normalise before each half, with ReLU; a normalisation after the last; the word table itself predicts words.

use candle_core::{Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::kernels::{self, Activation, Logits, Mask, Spans, random::Key};
use crate::models::nn::{
    LayerNorm, One, Packing, Past, PreNorm, Prefixed, Start, Tower, deviation, dropout_faults,
};
use crate::models::{Begun, Decoding, Init, Text, Tokens, Vars};

const EPS: f64 = 1e-5;
/// The position of the first token. The rows of the table before it stand for padding, which is never computed here.
const FIRST: usize = 2;

/// `opt: {layers: {width: 128, depth: 4, heads: 4}, positions: 128, dropout: 0.1}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Its layers.
    pub layers: Tower,
    /// Tokens in the longest sequence, a prefix included.
    pub positions: usize,
    /// Probability of dropping the outcome of each half of a layer.
    pub dropout: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { layers: Tower::default(), positions: 128, dropout: 0.1 }
    }
}

impl Config {
    /// What is wrong with it for sequences of so many tokens, one sentence a fault.
    pub fn faults(&self, tokens: usize) -> Vec<String> {
        let mut faults = self.layers.faults("language.opt.layers");
        if self.positions < tokens {
            faults.push(format!(
                "language.opt.positions is {}: prefix and text have {tokens} tokens",
                self.positions
            ));
        }
        faults.extend(dropout_faults(self.dropout).map(|fault| format!("language.opt.{fault}")));
        faults
    }
}

/// The model.
pub struct Opt {
    /// (V,D).
    words: Tensor,
    /// (2 + positions, D).
    positions: Tensor,
    layers: PreNorm,
    norm: LayerNorm,
}

impl Opt {
    /// Of a vocabulary of so many words.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn new(vars: &Vars, config: &Config, words: usize) -> Result<Self> {
        let Tower { width, depth, .. } = config.layers;
        let (init, spec) = (
            Init::Normal { std: deviation(width) },
            config.layers.spec(Activation::Relu, EPS, config.dropout),
        );
        Ok(Self {
            words: vars.get((words, width), "words", init)?,
            positions: vars.get((FIRST + config.positions, width), "positions", init)?,
            layers: PreNorm::new(&vars.at("layers"), depth, &spec, &Start::all(init))?,
            norm: LayerNorm::new(&vars.at("norm"), width, EPS)?,
        })
    }

    /// Hidden states of sequences of vectors, packed (R,D): each sees itself and those before it.
    ///
    /// # Errors
    /// When a sequence is longer than the positions.
    pub fn forward(&self, x: &Tensor, spans: &Spans, noise: Option<Key>) -> Result<Tensor> {
        let places = spans.ranges().iter().flat_map(|range| (FIRST as u32..).take(range.len()));
        let places = Tensor::new(places.collect::<Vec<u32>>(), &Device::Cpu)?;
        let x = kernels::add(x, &kernels::embedding(&self.positions, &places)?)?;
        self.norm.forward(&self.layers.forward(x, &Mask::itself(spans, true), noise)?)
    }

    /// The vectors (.., D) of words, to which a prefix is joined; ids of any shape.
    ///
    /// # Errors
    /// When an entry lies outside the vocabulary.
    pub fn embed(&self, ids: &Tensor) -> Result<Tensor> {
        kernels::embedding(&self.words, ids)
    }

    /// Hidden states of texts (B,T,D) behind a prefix (B,Q,D).
    ///
    /// # Errors
    /// As [`Opt::forward`].
    pub fn continues(&self, prefix: &Tensor, text: &Text, noise: Option<Key>) -> Result<Tokens> {
        let (batch, length, _) = prefix.dims3()?;
        let (packing, before) = (Packing::new(&text.mask)?, Spans::even(batch, length));
        let joined = Prefixed::new((&before, batch * length), packing.spans())?;
        let x = joined.join(prefix, &packing.pack(&self.embed(&text.ids)?)?)?;
        let hidden = joined.second(&self.forward(&x, joined.spans(), noise)?)?;
        Ok(Tokens { hidden: packing.unpack(&hidden)?, mask: Some(text.mask.clone()) })
    }

    /// Texts behind a prefix (B,Q,D), and the logits (B,V) of the word that follows them.
    ///
    /// # Errors
    /// As [`Opt::forward`], or when a text has no word.
    pub fn decode<'a>(&'a self, prefix: &Tensor, prompt: &Text) -> Result<Begun<'a>> {
        let (batch, length, _) = prefix.dims3()?;
        let (packing, before) = (Packing::new(&prompt.mask)?, Spans::even(batch, length));
        let joined = Prefixed::new((&before, batch * length), packing.spans())?;
        let x = joined.join(prefix, &packing.pack(&self.embed(&prompt.ids)?)?)?;
        let mut past = Past::new(batch);
        let hidden = self.next(&mut past, &x, joined.spans())?;
        let last = One::last(joined.spans())?.pick(&hidden)?;
        Ok((Box::new(Continuation { model: self, past }), self.predict_words(&last).dense()?))
    }

    /// The next vectors x (R,D) of sequences to hidden states (R,D); `new` tells the rows of each.
    fn next(&self, past: &mut Past, x: &Tensor, new: &Spans) -> Result<Tensor> {
        let mut reading = past.read(new)?;
        let places: Vec<u32> = reading.places().iter().map(|place| FIRST as u32 + place).collect();
        let places = kernels::embedding(&self.positions, &Tensor::new(places, &Device::Cpu)?)?;
        self.norm.forward(&self.layers.next(kernels::add(x, &places)?, &mut reading)?)
    }

    /// Vocabulary logits (..,V) of hidden states (..,D).
    pub fn predict_words(&self, hidden: &Tensor) -> Logits {
        Logits::new(hidden.clone(), &self.words, None)
    }
}

/// Texts as far as they are written.
struct Continuation<'a> {
    model: &'a Opt,
    past: Past,
}

impl Decoding for Continuation<'_> {
    fn next(&mut self, words: &[u32]) -> Result<Tensor> {
        let (ids, new) = self.past.next(words)?;
        let hidden = self.model.next(&mut self.past, &self.model.embed(&ids)?, &new)?;
        self.model.predict_words(&hidden).dense()
    }

    fn reorder(&mut self, rows: &[u32]) -> Result<()> {
        self.past.reorder(rows)
    }
}

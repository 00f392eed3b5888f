//! T5: an encoder reads the first part of a text and a decoder predicts the second.
//!
//! Raffel et al., arXiv:1910.10683, in the form of its version 1.1 (and of Flan-T5): gated GELU, word predictions by a
//! table of their own.
//!
//! As a prefix language model (section 3.2.3) it continues a text that is split in two: in training at a place drawn
//! anew each time, in evaluation behind the first token, so that every word is predicted.

use candle_core::{Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::kernels::{self, Logits, Spans, random::Key};
use crate::models::nn::{Packing, Past, Prefixed, Tower, dropout_faults, within};
use crate::models::{Begun, Decoding, Init, Text, Tokens, Vars};
use crate::token::PAD;

mod stack;

use stack::{Stack, root};

/// What precedes the first word that is predicted: of T5's own vocabulary the padding.
pub const START: u32 = PAD;
/// The parts that have noise of their own.
const ENCODER: u64 = 0;
const DECODER: u64 = 1;
const SPLIT: u64 = 2;

/// `t5: {layers: {width: 128, depth: 4, heads: 4}, head: 32, buckets: 32, distance: 128, dropout: 0.1}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The layers of the encoder, and as many of the decoder.
    pub layers: Tower,
    /// Width of an attention head; D/H unless it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<usize>,
    /// Into how many buckets distances between tokens fall.
    pub buckets: usize,
    /// The distance from which on all fall into the last.
    pub distance: usize,
    /// Probability of dropping attention weights, the inside and the outcome of each part of a layer, and what enters and
    /// leaves encoder and decoder.
    pub dropout: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { layers: Tower::default(), head: None, buckets: 32, distance: 128, dropout: 0.1 }
    }
}

impl Config {
    /// What is wrong with it, one sentence a fault.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.layers.faults("language.t5.layers");
        if self.head == Some(0) {
            faults.push("language.t5.head is 0: an attention head needs a width".to_owned());
        }
        if self.buckets < 4 {
            faults.push(format!("language.t5.buckets is {}: two directions need at least 4", self.buckets));
        }
        if self.distance <= self.buckets / 2 {
            let (distance, half) = (self.distance, self.buckets / 2);
            faults.push(format!(
                "language.t5.distance is {distance}: {half} distances have buckets of their own"
            ));
        }
        faults.extend(dropout_faults(self.dropout).map(|fault| format!("language.t5.{fault}")));
        faults
    }

    fn head(&self) -> usize {
        self.head.unwrap_or(self.layers.width / self.layers.heads.max(1))
    }

    fn mlp(&self) -> usize {
        self.layers.mlp.unwrap_or(4 * self.layers.width)
    }
}

/// The model.
pub struct T5 {
    /// (V,D).
    words: Tensor,
    encoder: Stack,
    decoder: Stack,
    /// (V,D).
    head: Tensor,
}

impl T5 {
    /// Of a vocabulary of so many words.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn new(vars: &Vars, config: &Config, words: usize) -> Result<Self> {
        let width = config.layers.width;
        Ok(Self {
            words: vars.get((words, width), "words", Init::Normal { std: 1.0 })?,
            encoder: Stack::new(&vars.at("encoder"), config, false)?,
            decoder: Stack::new(&vars.at("decoder"), config, true)?,
            head: vars.get((words, width), "head", root(width))?,
        })
    }

    /// The vectors (.., D) of words, to which a prefix is joined; ids of any shape.
    ///
    /// # Errors
    /// When an entry lies outside the vocabulary.
    pub fn embed(&self, ids: &Tensor) -> Result<Tensor> {
        kernels::embedding(&self.words, ids)
    }

    /// Hidden states (R,D) of words `ids` (R), each having seen those before it and all of the sequences of vectors
    /// `x` (R',D).
    ///
    /// # Errors
    /// When a shape does not fit.
    pub fn forward(
        &self,
        (x, read): (&Tensor, &Spans),
        (ids, written): (&Tensor, &Spans),
        noise: Option<Key>,
    ) -> Result<Tensor> {
        let encoded = self.encoder.forward(x, read, None, within(noise, ENCODER))?;
        self.decoder.forward(&self.embed(ids)?, written, Some((&encoded, read)), within(noise, DECODER))
    }

    /// Hidden states of texts (B,T,D) behind a prefix (B,Q,D): of the second part of each, whose beginning the last word of
    /// the first part predicts; nothing elsewhere.
    ///
    /// # Errors
    /// As [`T5::forward`].
    pub fn continues(&self, prefix: &Tensor, text: &Text, noise: Option<Key>) -> Result<Tokens> {
        let (batch, length, _) = prefix.dims3()?;
        let halves = Halves::new(text, within(noise, SPLIT))?;
        let before = Spans::even(batch, length);
        let joined = Prefixed::new((&before, batch * length), halves.read.spans())?;
        let x = joined.join(prefix, &halves.read.pack(&self.embed(&text.ids)?)?)?;
        let written = halves.predicting.spans();
        let hidden = self.forward((&x, joined.spans()), (&halves.ids, written), noise)?;
        Ok(Tokens { hidden: halves.predicting.unpack(&hidden)?, mask: Some(halves.mask) })
    }

    /// What is written after texts behind a prefix (B,Q,D), which the encoder reads, and the logits (B,V) of the first
    /// word.
    ///
    /// # Errors
    /// As [`T5::forward`].
    pub fn decode<'a>(&'a self, prefix: &Tensor, prompt: &Text) -> Result<Begun<'a>> {
        let (batch, length, _) = prefix.dims3()?;
        let (packing, before) = (Packing::new(&prompt.mask)?, Spans::even(batch, length));
        let joined = Prefixed::new((&before, batch * length), packing.spans())?;
        let x = joined.join(prefix, &packing.pack(&self.embed(&prompt.ids)?)?)?;
        let encoded = self.encoder.forward(&x, joined.spans(), None, None)?;
        let keys = self.decoder.keys(&encoded)?;
        let past = Past::new(batch).beside(keys, joined.spans().clone());
        let mut decoding = Continuation { model: self, past };
        let logits = decoding.next(&vec![START; batch])?;
        Ok((Box::new(decoding), logits))
    }

    /// Vocabulary logits (..,V) of hidden states (..,D).
    pub fn predict_words(&self, hidden: &Tensor) -> Logits {
        Logits::new(hidden.clone(), &self.head, None)
    }
}

/// Texts as far as the decoder has written them.
struct Continuation<'a> {
    model: &'a T5,
    past: Past,
}

impl Decoding for Continuation<'_> {
    fn next(&mut self, words: &[u32]) -> Result<Tensor> {
        let (ids, new) = self.past.next(words)?;
        let hidden = self.model.decoder.next(&mut self.past, &self.model.embed(&ids)?, &new)?;
        self.model.predict_words(&hidden).dense()
    }

    fn reorder(&mut self, rows: &[u32]) -> Result<()> {
        self.past.reorder(rows)
    }
}

/// Texts split in two.
struct Halves {
    /// The places (B,T) of the first halves.
    read: Packing,
    /// The places (B,T) that predict the second halves: each the one before the word it predicts.
    predicting: Packing,
    /// 1 on those.
    mask: Tensor,
    /// What the decoder reads at those: the beginning, then the words themselves, u32 (R).
    ids: Tensor,
}

impl Halves {
    fn new(text: &Text, noise: Option<Key>) -> Result<Self> {
        let (device, visible) = (&Device::Cpu, text.mask.to_vec2::<f32>()?);
        let drawn = noise.map_or_else(|| vec![0.0; visible.len()], |key| key.uniform(visible.len()));
        let (mut read, mut predicting, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        for ((words, seen), drawn) in text.ids.to_vec2::<u32>()?.into_iter().zip(&visible).zip(drawn) {
            let end = seen.iter().filter(|&&seen| seen != 0.0).count();
            let split = 1 + (drawn * end.saturating_sub(1) as f32) as usize;
            let place = |range: std::ops::Range<usize>| {
                (0..words.len()).map(move |place| if range.contains(&place) { 1f32 } else { 0.0 })
            };
            read.push(place(0..split.min(end)).collect::<Vec<_>>());
            predicting.push(place(split - 1..end.saturating_sub(1)).collect::<Vec<_>>());
            if split < end {
                ids.push(START);
                ids.extend(&words[split..end - 1]);
            }
        }
        let (read, mask) = (Tensor::new(read, device)?, Tensor::new(predicting, device)?);
        let (read, predicting) = (Packing::new(&read)?, Packing::new(&mask)?);
        Ok(Self { read, predicting, mask, ids: Tensor::new(ids, device)? })
    }
}

//! Writing: a model that predicts the next word is asked for one word after another.
//!
//! Which word is taken is a [`Strategy`]: the likeliest ([`one_by_one`]), one drawn from the likeliest (Holtzman et al.,
//! arXiv:1904.09751), or whichever makes the whole text likely ([`beam`]). Lengths, penalties and the order in which they
//! act are those of `transformers`, which the released captioners call.

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use super::{Image, Model, Text, View, nn::Packing};
use crate::kernels::random::Key;

pub mod answers;
pub mod beam;
pub mod one_by_one;

pub use beam::{Beam, EarlyStopping};
pub use one_by_one::Nucleus;

/// Texts that a model continues.
pub trait Decoding {
    /// Reads one more word of each text, u32 (B), and predicts the one after it: vocabulary logits (B,V).
    ///
    /// # Errors
    /// When there are other words than texts, a word lies outside the vocabulary, or a text becomes longer than the model
    /// can read.
    fn next(&mut self, words: &[u32]) -> Result<Tensor>;
    /// Goes on with the texts that `rows` names, in that order and any number of times.
    ///
    /// # Errors
    /// When a text does not exist.
    fn reorder(&mut self, rows: &[u32]) -> Result<()>;
}

/// Texts that have read their beginning, and the logits (B,V) of the word behind it.
pub type Begun<'a> = (Box<dyn Decoding + 'a>, Tensor);

/// Which word is taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The likeliest, each time.
    Greedy,
    /// [`beam`]
    Beam(Beam),
    /// One drawn from the smallest set of words that is likely enough.
    Nucleus(Nucleus),
}

/// How texts are written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Writer {
    /// Which word is taken.
    pub strategy: Strategy,
    /// Words before a text may end, those of the prompt not counted.
    pub least: usize,
    /// Words of the longest text, its end counted and those of the prompt not.
    pub most: usize,
    /// What the score of a word is divided by (where it is positive, multiplied where it is negative) that prompt or text
    /// contain already: Keskar et al., arXiv:1909.05858, section 4.1. Nothing changes at 1.
    pub repetition_penalty: f64,
    /// The word that ends a text.
    pub end: u32,
    /// Where draws come from: they are a function of it, of the text's number and of the place in the text.
    pub seed: u64,
}

/// A text that was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Its words behind the prompt, without the one that ends it.
    pub words: Vec<u32>,
    /// Its log-likelihood, that of its end included; where beams are searched divided by a power of its length.
    pub score: f64,
}

impl Writer {
    /// What is wrong with it, one sentence a fault.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.most == 0 || self.least > self.most {
            faults.push(format!("texts of {} to {} words: nothing can be written", self.least, self.most));
        }
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            faults.push(format!("repetition_penalty {} is not above 0", self.repetition_penalty));
        }
        match &self.strategy {
            Strategy::Greedy => {}
            Strategy::Beam(beam) => faults.extend(beam.faults()),
            Strategy::Nucleus(nucleus) => faults.extend(nucleus.faults()),
        }
        faults
    }

    /// Writes a text about each image behind a prompt; `first` is the number of the first, from which draws depend.
    ///
    /// # Errors
    /// As [`Model::decode`], or when a text becomes longer than the model can read.
    pub fn write(
        &self,
        model: &dyn Model,
        image: &View<Image>,
        prompt: &View<Text>,
        first: u64,
    ) -> Result<Vec<Written>> {
        let begun = model.decode(image, prompt)?;
        let prompts = words(prompt.input()?)?;
        match &self.strategy {
            Strategy::Greedy => {
                one_by_one::write(self, begun, &prompts, |_, _, scores| one_by_one::greatest(scores))
            }
            Strategy::Nucleus(nucleus) => {
                let key = Key::new(self.seed, 0, "decode.nucleus");
                one_by_one::write(self, begun, &prompts, |text, place, scores| {
                    let drawn = key.fold(first + text as u64).fold(place as u64).uniform(1);
                    nucleus.choose(scores, f64::from(drawn[0]))
                })
            }
            Strategy::Beam(beam) => beam.write(self, begun, &prompts),
        }
    }

    /// The scores of the next word behind a prompt and what was written: repeated words made less likely, and no end before
    /// its time.
    fn adjust(&self, scores: &mut [f64], prompt: &[u32], written: &[u32]) {
        if self.repetition_penalty != 1.0 {
            let mut known: Vec<u32> = prompt.iter().skip(1).chain(written).copied().collect();
            known.sort_unstable();
            known.dedup();
            for word in known {
                if let Some(score) = scores.get_mut(word as usize) {
                    *score = if *score < 0.0 {
                        *score * self.repetition_penalty
                    } else {
                        *score / self.repetition_penalty
                    };
                }
            }
        }
        if written.len() < self.least
            && let Some(end) = scores.get_mut(self.end as usize)
        {
            *end = f64::NEG_INFINITY;
        }
    }
}

/// The visible words of each text.
fn words(text: &Text) -> Result<Vec<Vec<u32>>> {
    let packing = Packing::new(&text.mask)?;
    let ids = packing.pack_ids(&text.ids)?.to_vec1::<u32>()?;
    Ok(packing.spans().ranges().iter().map(|range| ids[range.clone()].to_vec()).collect())
}

/// Logits (B,V) as numbers.
fn rows(logits: &Tensor) -> Result<Vec<Vec<f64>>> {
    let rows = logits.to_vec2::<f32>()?;
    Ok(rows.into_iter().map(|row| row.into_iter().map(f64::from).collect()).collect())
}

/// The logarithms of probabilities: scores less the logarithm of the sum of their exponentials.
fn log_softmax(scores: &[f64]) -> Vec<f64> {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum = most + scores.iter().map(|score| (score - most).exp()).sum::<f64>().ln();
    scores.iter().map(|score| score - sum).collect()
}

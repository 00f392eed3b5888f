//! Writing a caption for each image, judged by how well it agrees with what people wrote.
//!
//! The metrics of COCO captions, Chen et al., arXiv:1504.00325, section 4, as the papers report them: BLEU-1 to BLEU-4 and
//! ROUGE-L in percent, CIDEr-D times 100. A text is written behind a prompt that is no part of the caption (BLIP, Li et al.,
//! arXiv:2201.12086, section 4.2: "a picture of"; nothing by default), and an apostrophe joins what stands beside it, as where
//! BLIP's tokens become text.
//!
//! Deviation: captions of one image that differ in case, spaces or a final full stop only are one reference.
//! Deviation: METEOR and SPICE, which need a thesaurus and a parser, are left out.

use std::collections::BTreeMap;

use candle_core::{Device, Result as Computed, Tensor};
use serde::{Deserialize, Serialize};

use super::caption::{Judged, bleu::Totals, cider::cider_d, rouge::rouge_l, tokens::Tokenizer};
use super::gallery::Shown;
use super::ranking::sampling_error;
use super::{Evaluation, Measurement, Need, Of, Subject};
use crate::experiments::failure::Result;
use crate::experiments::fault::Fault;
use crate::experiments::feed::Pairs;
use crate::experiments::record::Measured;
use crate::models::decoding::{Beam, Strategy, Writer};
use crate::models::{Ability, Image, Model, Text, View};
use crate::token::Specials;

/// Raised whenever equal weights would give other values.
pub const VERSION: u32 = 1;

/// `captioning: {decode: {beam: {beams: 3}}, prompt: a picture of}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which word is taken: `greedy`, `{beam: {beams: 3}}` or `{nucleus: {top_p: 0.9}}`.
    pub decode: Strategy,
    /// What each text begins with.
    pub prompt: String,
    /// Pieces of words before a caption may end.
    pub least: usize,
    /// Pieces of words of the longest caption; null: as many as a training caption may have.
    pub most: Option<usize>,
    /// What repeated words are made less likely by; nothing at 1.
    pub repetition_penalty: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            decode: Strategy::Beam(Beam::default()),
            prompt: String::new(),
            least: 0,
            most: None,
            repetition_penalty: 1.0,
        }
    }
}

impl Evaluation for Config {
    fn version(&self) -> u32 {
        VERSION
    }

    fn metrics(&self) -> Vec<String> {
        let bleus = (1..=4).map(|length| format!("captioning.bleu{length}"));
        bleus.chain(["rouge_l", "cider"].map(|name| format!("captioning.{name}"))).collect()
    }

    fn needs(&self) -> Vec<Need> {
        [Ability::Generate, Ability::PredictWords].map(|ability| Need::always(Of::Model(ability))).into()
    }

    fn faults(&self) -> Vec<(&'static str, Fault)> {
        let most = self.most.unwrap_or(usize::MAX);
        self.writer(most, Specials::SHIPPED.last())
            .faults()
            .into_iter()
            .map(|fault| ("decode", Fault::new(fault)))
            .collect()
    }

    /// Writes all captions, which `shown` keeps, and judges them.
    fn measure(&self, subject: &Subject, shown: &Shown) -> Result<Measurement> {
        let written = shown.written(|| self.captions(subject, shown))?;
        let (matches, tokenizer) = (&subject.gallery.matches, Tokenizer::new()?);
        let references = |texts: &Vec<u32>| {
            texts.iter().map(|text| tokenizer.tokenize(&matches.captions[*text as usize])).collect()
        };
        let judged: Vec<Judged> = written
            .iter()
            .zip(&matches.texts_of)
            .map(|(text, texts)| Judged { written: tokenizer.tokenize(text), references: references(texts) })
            .collect();
        Ok(Measurement { items: judged.len(), values: judge(&judged) })
    }
}

impl Config {
    fn writer(&self, most: usize, end: u32) -> Writer {
        Writer {
            strategy: self.decode.clone(),
            least: self.least,
            most: self.most.unwrap_or(most).min(most),
            repetition_penalty: self.repetition_penalty,
            end,
            seed: 0,
        }
    }

    /// A caption for each image of the gallery.
    fn captions(&self, subject: &Subject, shown: &Shown) -> Result<Vec<String>> {
        let mut captions = Vec::new();
        for block in &shown.images {
            let draws = (0, captions.len() as u64);
            captions.extend(self.about(block, subject.model.as_ref(), subject.pairs, draws)?);
        }
        Ok(captions)
    }

    /// A caption for each image of a block; draws depend on the seed and on the number of the block's first image.
    ///
    /// # Errors
    /// When the model does not write, or the prompt leaves no room.
    pub fn about(
        &self,
        block: &View<Image>,
        model: &dyn Model,
        pairs: &Pairs,
        (seed, first): (u64, u64),
    ) -> Result<Vec<String>> {
        let prompt = beginning(&self.prompt, pairs)?;
        let room = pairs.layout().words.saturating_sub(prompt.len());
        let writer = Writer { seed, ..self.writer(room, pairs.inputs.specials.last()) };
        let texts = View::new(repeated(&prompt, block.rows()?)?, None);
        let written = writer.write(model, block, &texts, first)?;
        Ok(written.iter().map(|text| joined(&pairs.encoder().text(&text.words))).collect())
    }
}

/// The tokens of a prompt, without the one that ends a text.
fn beginning(prompt: &str, pairs: &Pairs) -> Result<Vec<u32>> {
    let mut tokens = pairs.encoder().encode(prompt, pairs.layout().words)?.ids;
    if pairs.inputs.specials.end.is_some() {
        tokens.pop();
    }
    Ok(tokens)
}

/// The same tokens for each of so many images.
fn repeated(tokens: &[u32], rows: usize) -> Computed<Text> {
    let places = (rows, tokens.len());
    let ids = Tensor::new(tokens, &Device::Cpu)?.broadcast_as(places)?.contiguous()?;
    let mask = Tensor::ones(places, candle_core::DType::F32, &Device::Cpu)?;
    Ok(Text { segments: ids.zeros_like()?, ids, mask })
}

/// A caption whose words are spelt as people spell them.
fn joined(text: &str) -> String {
    text.replace(" ' ", "'")
}

/// Every metric of captions that are judged together, under its name in records.
pub fn judge(judged: &[Judged]) -> BTreeMap<String, Measured> {
    let mut values = bleus(judged);
    let rouges: Vec<f64> = judged.iter().map(rouge_l).collect();
    values.insert("captioning.rouge_l".to_owned(), Measured { percent: true, ..mean(&rouges) });
    values.insert("captioning.cider".to_owned(), mean(&cider_d(judged)));
    values
}

/// BLEU-1 to BLEU-4 in percent. How much the finite test set blurs them is what they change by without one image at a
/// time (the jackknife): they are no means over images.
fn bleus(judged: &[Judged]) -> BTreeMap<String, Measured> {
    let each: Vec<Totals> = judged.iter().map(Totals::of).collect();
    let all = each.iter().fold(Totals::default(), |sum, one| sum.plus(one));
    let without: Vec<[f64; 4]> = each.iter().map(|one| all.minus(one).bleu()).collect();
    let images = judged.len() as f64;
    let value = |(at, bleu): (usize, f64)| {
        let mean = without.iter().map(|bleus| bleus[at]).sum::<f64>() / images;
        let pulls: Vec<f64> = without.iter().map(|bleus| bleus[at] - mean).collect();
        let error = ((images - 1.0) / images).sqrt() * sampling_error(&pulls);
        let measured = Measured {
            value: 100.0 * bleu,
            percent: true,
            chance: None,
            sampling_error: Some(100.0 * error),
        };
        (format!("captioning.bleu{}", at + 1), measured)
    };
    all.bleu().into_iter().enumerate().map(value).collect()
}

/// A mean over images, times 100.
fn mean(values: &[f64]) -> Measured {
    let images = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / images;
    let pulls: Vec<f64> = values.iter().map(|value| (value - mean) / images).collect();
    let error = 100.0 * sampling_error(&pulls);
    Measured { value: 100.0 * mean, percent: false, chance: None, sampling_error: Some(error) }
}

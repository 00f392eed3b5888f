//! Texts written by deciding on one word after another: the likeliest, or one drawn.
//!
//! Nucleus sampling, Holtzman et al., arXiv:1904.09751, section 3.1: of the words by falling probability, divided by a
//! temperature before, the first whose sum reaches p, and a draw among them in proportion to their probabilities.

use candle_core::Result;
use serde::{Deserialize, Serialize};

use super::{Begun, Writer, Written, log_softmax, rows};

/// `{top_p: 0.9, temperature: 1, top_k: 0}`
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nucleus {
    /// The probability that the kept words reach together.
    pub top_p: f64,
    /// What logits are divided by.
    pub temperature: f64,
    /// How many words are kept at most before the nucleus is; 0 keeps all. Released captioners keep 50 without saying so.
    pub top_k: usize,
}

impl Default for Nucleus {
    fn default() -> Self {
        Self { top_p: 0.9, temperature: 1.0, top_k: 0 }
    }
}

impl Nucleus {
    /// What is wrong with it, one sentence a fault.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            faults.push(format!("top_p {} is not above 0 and at most 1", self.top_p));
        }
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            faults.push(format!("temperature {} is not above 0", self.temperature));
        }
        faults
    }

    /// The words that may be drawn, the likeliest first, and their probabilities, which are not scaled to a sum of one.
    pub fn support(&self, scores: &[f64]) -> Vec<(usize, f64)> {
        let scaled: Vec<f64> = scores.iter().map(|score| score / self.temperature).collect();
        let mut words: Vec<(usize, f64)> = scaled.into_iter().enumerate().collect();
        words.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        if self.top_k > 0 {
            words.truncate(self.top_k);
        }
        let logs = log_softmax(&words.iter().map(|(_, score)| *score).collect::<Vec<_>>());
        let mut before = 0.0;
        let kept = words.into_iter().zip(logs).map(|((word, _), log)| (word, log.exp()));
        // The likeliest word is always kept, and a word that cannot follow never.
        kept.take_while(|(_, probability)| {
            let keeps = before < self.top_p && *probability > 0.0;
            before += probability;
            keeps
        })
        .collect()
    }

    /// The word at which the kept probabilities, added up, exceed the share `drawn` (in [0, 1)) of their sum.
    pub fn choose(&self, scores: &[f64], drawn: f64) -> usize {
        let support = self.support(scores);
        let sum: f64 = support.iter().map(|(_, probability)| probability).sum();
        let mut reached = 0.0;
        let found = support.iter().find(|(_, probability)| {
            reached += probability;
            reached > drawn * sum
        });
        found.or(support.last()).map_or(0, |(word, _)| *word)
    }
}

/// The first of the greatest scores.
pub(super) fn greatest(scores: &[f64]) -> usize {
    let mut best = 0;
    for (word, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = word;
        }
    }
    best
}

/// Texts behind these prompts; `choose` decides on a word, given the text's row, the place in it and the scores.
pub(super) fn write(
    writer: &Writer,
    (mut texts, mut logits): Begun,
    prompts: &[Vec<u32>],
    mut choose: impl FnMut(usize, usize, &[f64]) -> usize,
) -> Result<Vec<Written>> {
    let mut written = vec![Written { words: Vec::new(), score: 0.0 }; prompts.len()];
    let mut open: Vec<usize> = (0..prompts.len()).collect();
    for place in 0..writer.most {
        let (mut going, mut rows_going, mut next) = (Vec::new(), Vec::new(), Vec::new());
        for ((row, text), mut scores) in (0u32..).zip(&open).zip(rows(&logits)?) {
            let Written { words, score } = &mut written[*text];
            let logs = log_softmax(&scores);
            writer.adjust(&mut scores, &prompts[*text], words);
            let word = choose(*text, place, &scores);
            *score += logs[word];
            if word != writer.end as usize {
                words.push(word as u32);
                going.push(*text);
                rows_going.push(row);
                next.push(word as u32);
            }
        }
        if going.is_empty() || place + 1 == writer.most {
            break;
        }
        // Texts that have ended cost nothing more.
        if going.len() < open.len() {
            texts.reorder(&rows_going)?;
        }
        open = going;
        logits = texts.next(&next)?;
    }
    Ok(written)
}

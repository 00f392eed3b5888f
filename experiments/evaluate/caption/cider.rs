//! CIDEr-D: how similar a caption is to its references where runs of words weigh more the fewer images they describe.
//!
//! Vedantam et al., arXiv:1411.5726, section 3 and section 7 for the form that cannot be gamed (D), which COCO reports.
//! A run w of n words weighs h(w) = count(w) (ln I - ln max(1, d(w))) in a text, where I is the number of images and d(w)
//! the number of images of which a reference has it. With vectors h of the caption and r of a reference, for each n,
//! s_n = exp(-(difference of lengths)^2 / (2 sigma^2)) sum_w min(h, r) r / (|h| |r|), sigma = 6; CIDEr-D is 10 times the
//! mean of s_1 .. s_4 over the references.
//!
//! Deviation: as in the published evaluation code, and unlike the formula, a text's length is its number of pairs of
//! words.

use std::collections::{BTreeMap, BTreeSet};

use super::{Judged, LONGEST, NGram, counts};

const SIGMA: f64 = 6.0;

/// A text as weighed runs of words.
struct Weighed<'a> {
    /// For each number of words, the runs of so many.
    runs: [BTreeMap<NGram<'a>, f64>; LONGEST],
    norms: [f64; LONGEST],
    length: f64,
}

/// The value of each caption; 10 where caption and references are the same and unlike all others.
pub fn cider_d(judged: &[Judged]) -> Vec<f64> {
    let mut images_of = BTreeMap::new();
    for one in judged {
        let runs = one.references.iter().flat_map(|reference| counts(reference).into_keys());
        for run in runs.collect::<BTreeSet<_>>() {
            *images_of.entry(run).or_insert(0u32) += 1;
        }
    }
    let images = (judged.len() as f64).ln();
    let rarity = |run: &NGram| images - f64::from(images_of.get(run).copied().unwrap_or(1)).ln();
    judged
        .iter()
        .map(|one| {
            let written = Weighed::new(&one.written, rarity);
            let references = one.references.iter().map(|text| Weighed::new(text, rarity));
            let sum: f64 = references.map(|reference| written.similarity(&reference)).sum();
            10.0 * sum / one.references.len() as f64
        })
        .collect()
}

impl<'a> Weighed<'a> {
    fn new(text: &'a str, rarity: impl Fn(&NGram) -> f64) -> Self {
        let mut runs: [BTreeMap<NGram, f64>; LONGEST] = Default::default();
        let mut length = 0.0;
        for (run, count) in counts(text) {
            if run.len() == 2 {
                length += f64::from(count);
            }
            let weight = f64::from(count) * rarity(&run);
            runs[run.len() - 1].insert(run, weight);
        }
        let norm = |runs: &BTreeMap<_, f64>| runs.values().map(|weight| weight * weight).sum::<f64>().sqrt();
        Self { norms: runs.each_ref().map(norm), runs, length }
    }

    /// The mean over the numbers of words.
    fn similarity(&self, reference: &Self) -> f64 {
        let difference = self.length - reference.length;
        let penalty = (-difference * difference / (2.0 * SIGMA * SIGMA)).exp();
        let by_length = (0..LONGEST).map(|at| {
            let theirs = &reference.runs[at];
            let both = self.runs[at].iter().filter_map(|(run, own)| Some((own, theirs.get(run)?)));
            let product: f64 = both.map(|(own, theirs)| own.min(*theirs) * theirs).sum();
            let norms = self.norms[at] * reference.norms[at];
            if norms > 0.0 { product / norms } else { product }
        });
        penalty * by_length.sum::<f64>() / LONGEST as f64
    }
}

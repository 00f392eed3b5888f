//! The best answers of a search ranked anew by a closer look at each pair; the rest keep their places behind them.
//!
//! ALBEF, Li et al., arXiv:2107.07651, section 5: the k best by similarity are fused with their query, and the
//! matching head of `itm` orders them.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::Result;

use super::Subject;
use super::gallery::Shown;
use super::matching::{Matching, Pair};
use super::ranking::{self, Place};
use super::retrieval::{Found, Search};

/// The matching head's scores of (image, text) pairs.
pub struct Scores(BTreeMap<Pair, f32>);

impl Scores {
    /// The score of a pair; a pair that was not looked at is behind all others.
    pub fn of(&self, image: u32, text: u32) -> f32 {
        self.0.get(&(image, text)).copied().unwrap_or(f32::NEG_INFINITY)
    }
}

/// Where the best right answer ranks when those in `found.top` are ordered by `score`.
pub fn place(found: &Found, search: &Search, query: u32, score: impl Fn(u32) -> f32) -> Place {
    let right = &search.right[query as usize];
    if !found.top.iter().any(|candidate| right.contains(candidate)) {
        return found.place;
    }
    ranking::place(found.top.iter().map(|&candidate| (candidate, score(candidate))), right)
}

/// Scores every pair that is among the best of the search for texts or of the search for images.
///
/// # Errors
/// When the model does not fuse or the run has no `itm`.
pub fn scores(subject: &Subject, shown: &Shown, [texts, images]: &[Search; 2]) -> Result<Scores> {
    let of_images =
        (0..).zip(&texts.found).flat_map(|(image, found)| found.top.iter().map(move |&text| (image, text)));
    let of_texts =
        (0..).zip(&images.found).flat_map(|(text, found)| found.top.iter().map(move |&image| (image, text)));
    let pairs: BTreeSet<Pair> = of_images.chain(of_texts).collect();
    Ok(Scores(Matching::open(subject, shown)?.pairs(pairs)?))
}

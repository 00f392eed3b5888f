//! The best answers of a search ranked anew by a closer look at each pair; the rest keep their places behind them.
//!
//! ALBEF, Li et al., arXiv:2107.07651, section 5: the k best by similarity are fused with their query, and the
//! matching head of `itm` orders them.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{Result, Tensor, bail};

use super::Subject;
use super::gallery::{BLOCK, Shown};
use super::ranking::{self, Place};
use super::retrieval::{Found, Search};
use crate::objectives::{Config, itm};

/// The matching head's scores of (image, text) pairs.
pub struct Scores(BTreeMap<(u32, u32), f32>);

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
    let is_itm = |config: &&Config| matches!(config, Config::Itm(_));
    let Some(itm) = subject.run.objectives.iter().find(is_itm) else {
        bail!("`rerank` needs the matching head that `itm` trains");
    };
    let head = itm::Head::open(&subject.store.detached().at(itm.name()), &subject.dims)?;

    let of_images =
        (0..).zip(&texts.found).flat_map(|(image, found)| found.top.iter().map(move |&text| (image, text)));
    let of_texts =
        (0..).zip(&images.found).flat_map(|(text, found)| found.top.iter().map(move |&image| (image, text)));
    let pairs: BTreeSet<(u32, u32)> = of_images.chain(of_texts).collect();
    // Pairs of one block of images and one block of texts are fused together: the rows of a block are at hand encoded.
    let mut blocks: BTreeMap<(usize, usize), Vec<(u32, u32)>> = BTreeMap::new();
    for (image, text) in pairs {
        blocks.entry((image as usize / BLOCK, text as usize / BLOCK)).or_default().push((image, text));
    }
    let mut scores = BTreeMap::new();
    for ((images, texts), pairs) in blocks {
        let (images, texts) = (&shown.images[images], &shown.texts[texts]);
        for pairs in pairs.chunks(BLOCK) {
            let (rows, columns) = rows(pairs, subject.store.device())?;
            let pooled = subject.model.pool(&images.select(&rows)?, &texts.select(&columns)?)?;
            scores.extend(pairs.iter().copied().zip(head.scores(&pooled)?.to_vec1::<f32>()?));
        }
    }
    if scores.values().any(|score| !score.is_finite()) {
        bail!("a matching score is not finite");
    }
    Ok(Scores(scores))
}

/// Where the images and the texts of `pairs` lie in their blocks.
fn rows(pairs: &[(u32, u32)], device: &candle_core::Device) -> Result<(Tensor, Tensor)> {
    let within = |number: u32| number % BLOCK as u32;
    let images: Vec<u32> = pairs.iter().map(|pair| within(pair.0)).collect();
    let texts: Vec<u32> = pairs.iter().map(|pair| within(pair.1)).collect();
    Ok((Tensor::new(images, device)?, Tensor::new(texts, device)?))
}

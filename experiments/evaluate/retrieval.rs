//! Finding the caption of an image among all captions of a split, and the image of a caption among all images.
//!
//! R@K is the share of queries with a right answer among the first K; mean recall is the mean of both directions' R@1,
//! R@5 and R@10. A wrong answer that scores as much as the right one ranks ahead of it.
//!
//! Re-ranking (ALBEF, Li et al., arXiv:2107.07651, section 5): the k best by similarity are ordered anew by the
//! matching head of `itm`; the rest keep their places behind them.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{Result as Computed, Tensor, bail};

use super::gallery::{BLOCK, Shown};
use super::ranking::{Place, Places, place, sampling_error, top};
use super::{Measurement, Subject, share};
use crate::experiments::record::Measured;
use crate::models::Attend;
use crate::objectives::{self, itm};

/// Raised whenever equal weights would give other values.
pub const VERSION: u32 = 1;

const AT: [usize; 3] = [1, 5, 10];
const DIRECTIONS: [&str; 2] = ["image_to_text", "text_to_image"];

/// The names of what is measured.
pub fn metrics(rerank: Option<usize>) -> Vec<String> {
    let mut names = vec!["retrieval.tie_rate".to_owned()];
    for prefix in ["retrieval", "rerank"].into_iter().take(if rerank.is_some() { 2 } else { 1 }) {
        let recalls = DIRECTIONS.iter().flat_map(|to| AT.map(|k| format!("{prefix}.{to}_r{k}")));
        names.extend(recalls.chain([format!("{prefix}.mean_recall")]));
    }
    names
}

/// Searches in both directions.
///
/// # Errors
/// When the model does not embed, or `rerank` is asked for and the run has no `itm`.
pub fn measure(subject: &Subject, shown: &Shown, rerank: Option<usize>) -> Computed<Measurement> {
    let matches = &subject.gallery.matches;
    let k = rerank.unwrap_or(0);
    let searches = [
        search(&matches.texts_of, k, |rows| {
            similarity(subject, &rows_of(&shown.image_embeds, rows)?, &shown.text_embeds)
        })?,
        search(&matches.images_of, k, |rows| {
            similarity(subject, &shown.image_embeds, &rows_of(&shown.text_embeds, rows)?)?.t()?.contiguous()
        })?,
    ];
    let images = matches.texts_of.len();
    let owners = [
        (0..images as u32).collect(),
        matches.images_of.iter().map(|images| images.first().copied().unwrap_or(0)).collect::<Vec<u32>>(),
    ];
    let candidates = [matches.captions.len(), images];
    let places = |which: &dyn Fn(&Found) -> Place| {
        [0, 1].map(|to| Places {
            places: searches[to].iter().map(which).collect(),
            right: searches[to].iter().map(|found| found.right).collect(),
            owners: owners[to].clone(),
            candidates: candidates[to],
        })
    };

    let by_similarity = places(&|found| found.place);
    let mut values = recalls("retrieval", &by_similarity, images);
    let (ties, queries) =
        (by_similarity.iter().map(Places::ties).sum::<usize>(), images + matches.captions.len());
    values.insert("retrieval.tie_rate".to_owned(), share(ties as f64 / queries.max(1) as f64, None, None));
    if rerank.is_some() {
        let scores = matching(subject, shown, &searches)?;
        let reranked = [0, 1].map(|to| {
            let right = [&matches.texts_of, &matches.images_of][to];
            let places = searches[to].iter().enumerate().map(|(query, found)| {
                let score = |&candidate: &u32| {
                    let pair = if to == 0 { (query as u32, candidate) } else { (candidate, query as u32) };
                    (candidate, scores.get(&pair).copied().unwrap_or(f32::NEG_INFINITY))
                };
                let found_right = found.top.iter().any(|candidate| right[query].contains(candidate));
                if found_right { place(found.top.iter().map(score), &right[query]) } else { found.place }
            });
            Places {
                places: places.collect(),
                right: searches[to].iter().map(|found| found.right).collect(),
                owners: owners[to].clone(),
                candidates: candidates[to],
            }
        });
        values.extend(recalls("rerank", &reranked, images));
    }
    Ok(Measurement { items: images, values })
}

/// What a search by similarity gives for one query.
struct Found {
    place: Place,
    right: usize,
    /// The best candidates, for re-ranking.
    top: Vec<u32>,
}

/// Searches for every query, `right` naming its right answers; `scores` gives (rows, candidates).
fn search(
    right: &[Vec<u32>],
    k: usize,
    scores: impl Fn(std::ops::Range<usize>) -> Computed<Tensor>,
) -> Computed<Vec<Found>> {
    let mut found = Vec::with_capacity(right.len());
    while found.len() < right.len() {
        let rows = found.len()..(found.len() + 2 * BLOCK).min(right.len());
        for (row, right) in scores(rows.clone())?.to_vec2::<f32>()?.iter().zip(&right[rows]) {
            if row.iter().any(|score| !score.is_finite()) {
                bail!("a similarity is not finite");
            }
            found.push(Found {
                place: place((0..).zip(row.iter().copied()), right),
                right: right.len(),
                top: if k > 0 { top(row, right, k) } else { Vec::new() },
            });
        }
    }
    Ok(found)
}

fn rows_of(embeds: &Tensor, rows: std::ops::Range<usize>) -> Computed<Tensor> {
    embeds.narrow(0, rows.start, rows.len())?.contiguous()
}

fn similarity(subject: &Subject, images: &Tensor, texts: &Tensor) -> Computed<Tensor> {
    subject.model.similarity(images, texts)
}

fn recalls(prefix: &str, places: &[Places; 2], images: usize) -> BTreeMap<String, Measured> {
    let mut values = BTreeMap::new();
    let (mut recall, mut chance, mut pulls) = (0.0, 0.0, vec![0.0; images]);
    let parts = (DIRECTIONS.len() * AT.len()) as f64;
    for (to, places) in DIRECTIONS.iter().zip(places) {
        for k in AT {
            let pulled = places.pulls(k, images);
            let error = sampling_error(&pulled);
            let measured = share(places.recall(k), Some(places.chance(k)), Some(error));
            values.insert(format!("{prefix}.{to}_r{k}"), measured);
            recall += places.recall(k) / parts;
            chance += places.chance(k) / parts;
            pulls.iter_mut().zip(pulled).for_each(|(sum, pull)| *sum += pull / parts);
        }
    }
    let measured = share(recall, Some(chance), Some(sampling_error(&pulls)));
    values.insert(format!("{prefix}.mean_recall"), measured);
    values
}

/// The matching head's score of every (image, text) pair that is among the best of either search.
fn matching(
    subject: &Subject,
    shown: &Shown,
    searches: &[Vec<Found>; 2],
) -> Computed<BTreeMap<(u32, u32), f32>> {
    let Some(itm) = subject.run.objectives.iter().find(|config| matches!(config, objectives::Config::Itm(_)))
    else {
        bail!("`rerank` needs the matching head that `itm` trains");
    };
    let head = itm::Head::open(&subject.store.detached().at(itm.name()), &subject.dims)?;
    let mut pairs = BTreeSet::new();
    for (to, found) in searches.iter().enumerate() {
        for (query, found) in (0..).zip(found) {
            let pair = |&candidate: &u32| if to == 0 { (query, candidate) } else { (candidate, query) };
            pairs.extend(found.top.iter().map(pair));
        }
    }
    // Pairs of one block of images and one block of texts are fused together: selecting rows of a block encodes nothing.
    let mut blocks: BTreeMap<(usize, usize), Vec<(u32, u32)>> = BTreeMap::new();
    for (image, text) in pairs {
        blocks.entry((image as usize / BLOCK, text as usize / BLOCK)).or_default().push((image, text));
    }
    let mut scores = BTreeMap::new();
    for ((image_block, text_block), pairs) in blocks {
        for pairs in pairs.chunks(BLOCK) {
            let rows = |which: &dyn Fn(&(u32, u32)) -> u32| {
                let rows: Vec<u32> = pairs.iter().map(|pair| which(pair) % BLOCK as u32).collect();
                Tensor::new(rows, subject.store.device())
            };
            let image = shown.images[image_block].select(&rows(&|pair| pair.0)?)?;
            let text = shown.texts[text_block].select(&rows(&|pair| pair.1)?)?;
            let fused = subject.model.fuse(&image, &text, Attend::Both)?;
            scores.extend(pairs.iter().copied().zip(head.scores(&fused)?.to_vec1::<f32>()?));
        }
    }
    if scores.values().any(|score| !score.is_finite()) {
        bail!("a matching score is not finite");
    }
    Ok(scores)
}

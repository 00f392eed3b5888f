//! Finding the caption of an image among all captions of a split, and the image of a caption among all images.
//!
//! R@K is the share of queries with a right answer among the first K; mean recall is the mean of both directions' R@1,
//! R@5 and R@10. A wrong answer that scores as much as the right one ranks ahead of it.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::{Result, Tensor, bail};

use super::gallery::{BLOCK, Matches, Shown};
use super::ranking::{Place, Places, place, sampling_error, top};
use super::{Measurement, Subject, rerank, share};
use crate::experiments::record::Measured;
use crate::experiments::{By, Retrieval};

/// Raised whenever equal weights would give other values.
pub const VERSION: u32 = 1;

const AT: [usize; 3] = [1, 5, 10];
const DIRECTIONS: [&str; 2] = ["image_to_text", "text_to_image"];

/// The names of what is measured.
pub fn metrics(rerank: bool) -> Vec<String> {
    let recalls = |prefix: &str| {
        let each = DIRECTIONS.iter().flat_map(|to| AT.map(|k| format!("{prefix}.{to}_r{k}")));
        each.chain([format!("{prefix}.mean_recall")]).collect::<Vec<_>>()
    };
    let mut names = recalls("retrieval");
    names.push("retrieval.tie_rate".to_owned());
    if rerank {
        names.extend(recalls("rerank"));
    }
    names
}

/// Searches in both directions; with `rerank` the best of each search are ranked anew.
///
/// # Errors
/// When the model does not embed, or by matching not fuse, or the run has no `itm` that matching needs.
pub fn measure(subject: &Subject, shown: &Shown, config: &Retrieval) -> Result<Measurement> {
    let (matches, depth) = (&subject.gallery.matches, config.rerank);
    let (keep, model) = (depth.unwrap_or(0), &subject.model);
    let (texts, images) = (Search::texts(matches), Search::images(matches));
    let searches = match config.by {
        By::Similarity => {
            let [of_images, of_texts] = shown.embeds()?;
            [
                texts.run(keep, |rows| model.similarity(&some(of_images, rows)?, of_texts))?,
                images.run(keep, |rows| {
                    model.similarity(of_images, &some(of_texts, rows)?)?.t()?.contiguous()
                })?,
            ]
        }
        By::Matching => {
            let scores = shown.matching(subject)?;
            let reverse = scores.t()?.contiguous()?;
            [texts.run(keep, |rows| some(scores, rows))?, images.run(keep, |rows| some(&reverse, rows))?]
        }
    };

    let items = matches.texts_of.len();
    let by_similarity = searches.each_ref().map(|search| search.places(|_, found| found.place));
    let mut values = recalls("retrieval", &by_similarity, items);
    values.insert("retrieval.tie_rate".to_owned(), tie_rate(&by_similarity));
    if depth.is_some() {
        let scores = rerank::scores(subject, shown, &searches)?;
        let reranked = [
            searches[0].places(|query, found| {
                rerank::place(found, &searches[0], query, |text| scores.of(query, text))
            }),
            searches[1].places(|query, found| {
                rerank::place(found, &searches[1], query, |image| scores.of(image, query))
            }),
        ];
        values.extend(recalls("rerank", &reranked, items));
    }
    Ok(Measurement { items, values })
}

/// All queries of one direction.
pub struct Search<'a> {
    /// The right answers to each query.
    pub right: &'a [Vec<u32>],
    /// The image that each query stands for.
    owners: Vec<u32>,
    /// How many answers there are to choose from.
    candidates: usize,
    /// What was found for each query.
    pub found: Vec<Found>,
}

/// What a search by similarity finds for one query.
pub struct Found {
    /// Where the best right answer ranks.
    pub place: Place,
    /// The best answers, as many as are to be ranked anew.
    pub top: Vec<u32>,
}

impl<'a> Search<'a> {
    fn texts(matches: &'a Matches) -> Self {
        let owners = (0..matches.texts_of.len() as u32).collect();
        Self { right: &matches.texts_of, owners, candidates: matches.captions.len(), found: Vec::new() }
    }

    fn images(matches: &'a Matches) -> Self {
        let owners = matches.images_of.iter().filter_map(|images| images.first().copied()).collect();
        Self { right: &matches.images_of, owners, candidates: matches.texts_of.len(), found: Vec::new() }
    }

    /// Answers every query; `scores` gives (queries, candidates) for a range of queries.
    fn run(mut self, keep: usize, scores: impl Fn(Range<usize>) -> Result<Tensor>) -> Result<Self> {
        while self.found.len() < self.right.len() {
            let first = self.found.len();
            let rows = first..(first + 2 * BLOCK).min(self.right.len());
            for (row, right) in scores(rows.clone())?.to_vec2::<f32>()?.iter().zip(&self.right[rows]) {
                if row.iter().any(|score| !score.is_finite()) {
                    bail!("a similarity is not finite");
                }
                let top = if keep > 0 { top(row, right, keep) } else { Vec::new() };
                self.found.push(Found { place: place((0..).zip(row.iter().copied()), right), top });
            }
        }
        Ok(self)
    }

    fn places(&self, place: impl Fn(u32, &Found) -> Place) -> Places {
        Places {
            places: (0..).zip(&self.found).map(|(query, found)| place(query, found)).collect(),
            right: self.right.iter().map(Vec::len).collect(),
            owners: self.owners.clone(),
            candidates: self.candidates,
        }
    }
}

fn some(embeds: &Tensor, rows: Range<usize>) -> Result<Tensor> {
    embeds.narrow(0, rows.start, rows.len())?.contiguous()
}

fn recalls(prefix: &str, places: &[Places; 2], images: usize) -> BTreeMap<String, Measured> {
    let mut values = BTreeMap::new();
    let (mut recall, mut chance, mut pulls) = (0.0, 0.0, vec![0.0; images]);
    let parts = (DIRECTIONS.len() * AT.len()) as f64;
    for (to, places) in DIRECTIONS.iter().zip(places) {
        for k in AT {
            let pulled = places.pulls(k, images);
            let measured = share(places.recall(k), Some(places.chance(k)), Some(sampling_error(&pulled)));
            values.insert(format!("{prefix}.{to}_r{k}"), measured);
            recall += places.recall(k) / parts;
            chance += places.chance(k) / parts;
            pulls.iter_mut().zip(pulled).for_each(|(sum, pull)| *sum += pull / parts);
        }
    }
    let mean = share(recall, Some(chance), Some(sampling_error(&pulls)));
    values.insert(format!("{prefix}.mean_recall"), mean);
    values
}

/// The share of queries for which a wrong answer scores exactly as much as the best right one.
fn tie_rate(places: &[Places; 2]) -> Measured {
    let queries: usize = places.iter().map(|places| places.places.len()).sum();
    let ties: usize = places.iter().map(Places::ties).sum();
    share(ties as f64 / queries.max(1) as f64, None, None)
}

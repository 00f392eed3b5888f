//! Finding the caption of an image among all captions of a split, and the image of a caption among all images.
//!
//! The measures of Karpathy and Fei-Fei, arXiv:1412.2306, section 4.2, in which all the papers report retrieval:
//! R@K is the share of queries with a right answer among the first K. `mean_recall` is the mean of both directions' R@1,
//! R@5 and R@10 (UNITER, Chen et al., arXiv:1909.11740, table 2), `image_to_text_recall` and `text_to_image_recall` the mean
//! of one direction (ALBEF, Li et al., arXiv:2107.07651, table 1: TR and IR), `r1` the mean of both directions' R@1 (CoCa, Yu
//! et al., arXiv:2205.01917, table 8e). A wrong answer that scores as much as the right one ranks ahead of it.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::{Result as Computed, Tensor, bail};
use serde::{Deserialize, Serialize};

use super::gallery::{BLOCK, Matches, Shown};
use super::ranking::{Place, Places, place, sampling_error, top};
use super::{Evaluation, Measurement, Need, Of, Subject, rerank, share};
use crate::experiments::failure::Result;
use crate::experiments::fault::Fault;
use crate::experiments::record::Measured;
use crate::models::{Abilities, Ability};

/// Raised whenever equal weights would give other values.
pub const VERSION: u32 = 1;

const AT: [usize; 3] = [1, 5, 10];
const DIRECTIONS: [&str; 2] = ["image_to_text", "text_to_image"];

/// `retrieval: {rerank: 16}`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What ranks the candidates.
    pub by: By,
    /// The k best by similarity are ranked anew by the matching head of `itm`; null: similarity alone.
    pub rerank: Option<usize>,
}

/// What ranks the candidates of a search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The similarity of embeddings.
    #[default]
    Similarity,
    /// The matching head of `itm`, over every pair: as many joint passes as there are pairs.
    Matching,
}

impl Evaluation for Config {
    fn version(&self) -> u32 {
        VERSION
    }

    fn metrics(&self) -> Vec<String> {
        let recalls = |prefix: &str| {
            let each = DIRECTIONS.iter().flat_map(|to| AT.map(|k| format!("{prefix}.{to}_r{k}")));
            let means = DIRECTIONS.map(|to| format!("{prefix}.{to}_recall"));
            each.chain(means)
                .chain(["r1", "mean_recall"].map(|name| format!("{prefix}.{name}")))
                .collect::<Vec<_>>()
        };
        let mut names = recalls("retrieval");
        names.push("retrieval.tie_rate".to_owned());
        if self.rerank.is_some() {
            names.extend(recalls("rerank"));
        }
        names
    }

    fn needs(&self) -> Vec<Need> {
        let head = Of::Objective { name: "itm", does: "ranks by the matching head" };
        let matching = |setting| [Need::by(setting, Of::Model(Ability::Fuse)), Need::by(setting, head)];
        match (self.by, self.rerank) {
            (By::Matching, _) => matching("by").into(),
            (By::Similarity, None) => vec![Need::always(Of::Model(Ability::Embed))],
            (By::Similarity, Some(_)) => {
                let apart = [Need::always(Of::Model(Ability::Embed))];
                apart.into_iter().chain(matching("rerank")).collect()
            }
        }
    }

    fn faults(&self) -> Vec<(&'static str, Fault)> {
        let fault = match (self.by, self.rerank) {
            (By::Matching, Some(_)) => {
                Fault::new("`by: matching` ranks every pair by the matching head already")
                    .help("leave `rerank` out")
            }
            (By::Similarity, Some(0)) => Fault::new("`evaluate.retrieval.rerank` is 0")
                .help("rank at least the best 1 anew, or leave `rerank` out"),
            _ => return Vec::new(),
        };
        vec![("rerank", fault)]
    }

    fn without(&self, lacking: Ability, offered: &Abilities) -> Option<&'static str> {
        let by_matching = lacking == Ability::Embed && offered.contains(&Ability::Fuse);
        by_matching.then_some("`retrieval: {by: matching}` ranks by the matching head of `itm`")
    }

    fn shares(&self) -> &'static [&'static str] {
        &[include_str!("gallery.rs")]
    }

    /// Searches in both directions; with `rerank` the best of each search are ranked anew.
    fn measure(&self, subject: &Subject, shown: &Shown) -> Result<Measurement> {
        let (matches, depth) = (&subject.gallery.matches, self.rerank);
        let searches = search(subject, shown, self)?;
        let items = matches.texts_of.len();
        let at_first = searches.each_ref().map(|search| search.places(|_, found| found.place));
        let mut values = recalls("retrieval", &at_first, items);
        values.insert("retrieval.tie_rate".to_owned(), tie_rate(&at_first));
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
}

/// The searches for texts and for images.
fn search<'a>(subject: &'a Subject, shown: &Shown, config: &Config) -> Computed<[Search<'a>; 2]> {
    let (matches, model, keep) = (&subject.gallery.matches, &subject.model, config.rerank.unwrap_or(0));
    let (texts, images) = (Search::texts(matches), Search::images(matches));
    Ok(match config.by {
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
    })
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
    fn run(mut self, keep: usize, scores: impl Fn(Range<usize>) -> Computed<Tensor>) -> Computed<Self> {
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

fn some(embeds: &Tensor, rows: Range<usize>) -> Computed<Tensor> {
    embeds.narrow(0, rows.start, rows.len())?.contiguous()
}

fn recalls(prefix: &str, places: &[Places; 2], images: usize) -> BTreeMap<String, Measured> {
    let mut values = BTreeMap::new();
    let parts = DIRECTIONS.len() * AT.len();
    let (mut all, mut first) = (Mean::of(parts, images), Mean::of(DIRECTIONS.len(), images));
    for (to, places) in DIRECTIONS.iter().zip(places) {
        let mut each = Mean::of(AT.len(), images);
        for k in AT {
            let mut alone = Mean::of(1, images);
            let mut within = vec![&mut alone, &mut each, &mut all];
            if k == 1 {
                within.push(&mut first);
            }
            let pulls = places.pulls(k, images);
            within.into_iter().for_each(|mean| mean.add(places.recall(k), places.chance(k), &pulls));
            values.insert(format!("{prefix}.{to}_r{k}"), alone.share());
        }
        values.insert(format!("{prefix}.{to}_recall"), each.share());
    }
    values.insert(format!("{prefix}.r1"), first.share());
    values.insert(format!("{prefix}.mean_recall"), all.share());
    values
}

/// The mean of several recalls, of their chances and of what each image pulls.
struct Mean {
    parts: f64,
    recall: f64,
    chance: f64,
    pulls: Vec<f64>,
}

impl Mean {
    fn of(parts: usize, images: usize) -> Self {
        Self { parts: parts as f64, recall: 0.0, chance: 0.0, pulls: vec![0.0; images] }
    }

    fn add(&mut self, recall: f64, chance: f64, pulls: &[f64]) {
        self.recall += recall / self.parts;
        self.chance += chance / self.parts;
        self.pulls.iter_mut().zip(pulls).for_each(|(sum, pull)| *sum += pull / self.parts);
    }

    fn share(&self) -> Measured {
        share(self.recall, Some(self.chance), Some(sampling_error(&self.pulls)))
    }
}

/// The share of queries for which a wrong answer scores exactly as much as the best right one.
fn tie_rate(places: &[Places; 2]) -> Measured {
    let queries: usize = places.iter().map(|places| places.places.len()).sum();
    let ties: usize = places.iter().map(Places::ties).sum();
    share(ties as f64 / queries.max(1) as f64, None, None)
}

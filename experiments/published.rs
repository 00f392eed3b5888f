//! The registry of published ablations: what a claim's effect is compared with, and how sure the numbers are.
//!
//! One file a paper below `published/`: tables of arms and metrics as printed, and the effects (one arm minus another)
//! that experiments rerun. An effect is computed from the table's cells, never typed, unless the paper states it in words
//! alone. [`lint`] refuses what cannot be right.

mod lint;
mod listing;
mod paper;

use std::path::Path;
use std::sync::{Arc, OnceLock};

pub use listing::{overview, paper as listing};
pub use paper::{Cell, Difference, Entries, Metric, Paper, Protocol, Setting, Stated, Table};

use super::failure::{Failure, Result};
use super::fault::{Fault, Faults, Text, suggest};
use super::file::node::Node;
use super::record::{PublishedEffect, Status};

/// Every file of the registry by its paper's word.
const FILES: [(&str, &str); 9] = [
    ("uniter", include_str!("published/uniter.yaml")),
    ("oscar", include_str!("published/oscar.yaml")),
    ("clip", include_str!("published/clip.yaml")),
    ("vilt", include_str!("published/vilt.yaml")),
    ("albef", include_str!("published/albef.yaml")),
    ("blip", include_str!("published/blip.yaml")),
    ("coca", include_str!("published/coca.yaml")),
    ("vlmo", include_str!("published/vlmo.yaml")),
    ("blip2", include_str!("published/blip2.yaml")),
];

/// The rerun that a published effect is held against.
#[derive(Clone, Debug)]
pub struct Rerun<'a> {
    /// The metric by full name.
    pub metric: &'a str,
    /// Training pairs.
    pub pairs: usize,
    /// Side of the images in pixels.
    pub size: usize,
    /// Pairs a batch.
    pub batch: usize,
    /// The data that it is tested on.
    pub tested: &'a str,
}

/// Every paper, in the order of their years.
///
/// # Errors
/// Everything that is wrong with the registry, which a test keeps from happening.
pub fn papers() -> Result<&'static [Paper]> {
    static PAPERS: OnceLock<std::result::Result<Vec<Paper>, Vec<Fault>>> = OnceLock::new();
    match PAPERS.get_or_init(shipped) {
        Ok(papers) => Ok(papers),
        Err(faults) => Err(Failure::Refused(faults.clone())),
    }
}

fn shipped() -> std::result::Result<Vec<Paper>, Vec<Fault>> {
    let mut faults = Faults::default();
    let mut papers: Vec<(Node, Paper)> = Vec::new();
    for (key, text) in FILES {
        papers.extend(faults.take(lint::read(key, &file(key, text), &papers)));
    }
    if faults.is_empty() {
        Ok(papers.into_iter().map(|(_, paper)| paper).collect())
    } else {
        Err(faults.sorted())
    }
}

fn file(key: &str, text: &str) -> Arc<Text> {
    Arc::new(Text { name: format!("experiments/published/{key}.yaml"), text: text.to_owned() })
}

/// Checks a file of the registry against itself and against the other papers; says what it holds.
///
/// # Errors
/// Everything that is wrong with it.
pub fn check(path: &Path) -> Result<String> {
    let key = path.file_stem().unwrap_or_default().to_string_lossy();
    let text = std::fs::read_to_string(path).map_err(Failure::storage(path))?;
    let mut others: Vec<(Node, Paper)> = Vec::new();
    for (other, text) in FILES.iter().filter(|(other, _)| *other != key) {
        others.push(lint::read(other, &file(other, text), &[]).map_err(Failure::Refused)?);
    }
    let text = Arc::new(Text { name: path.display().to_string(), text });
    let (_, paper) = lint::read(&key, &text, &others).map_err(Failure::Refused)?;
    let effects: usize = paper.tables.iter().map(|(_, table)| table.effects.len()).sum();
    Ok(format!("{}: {} tables, {effects} effects, nothing wrong", path.display(), paper.tables.len()))
}

/// Whether a tree is a file of the registry and no experiment.
pub fn holds_tables(tree: &Node) -> bool {
    tree.get("tables").is_some() && tree.get("question").is_none()
}

/// The full keys of all effects, such as `albef/table-1/distillation`.
///
/// # Errors
/// As [`papers`].
pub fn keys() -> Result<Vec<String>> {
    let mut keys = Vec::new();
    for paper in papers()? {
        for (table, of) in paper.tables.iter() {
            keys.extend(of.effects.keys().map(|effect| format!("{}/{table}/{effect}", paper.key)));
        }
    }
    Ok(keys)
}

/// The effect with the full key `key`, held against a rerun.
///
/// # Errors
/// If there is no such effect.
pub fn effect(key: &str, rerun: &Rerun) -> Result<PublishedEffect> {
    let papers = papers()?;
    let found = papers.iter().find_map(|paper| {
        let (table, effect) = key.strip_prefix(&paper.key)?.strip_prefix('/')?.split_once('/')?;
        let table = paper.tables.get(table)?;
        Some((paper, table, table.effects.get(effect)?))
    });
    match found {
        Some((paper, table, difference)) => {
            let mut effect = table.effect(key, paper, difference);
            (effect.differences, effect.incomparable) = table.against(difference, rerun);
            Ok(effect)
        }
        None => Err(unknown(key)?.into()),
    }
}

/// An effect as it is published, held against nothing.
pub fn effect_of(paper: &Paper, table: &str, of: &Table, name: &str, effect: &Difference) -> PublishedEffect {
    of.effect(&format!("{}/{table}/{name}", paper.key), paper, effect)
}

/// What to say of a key that names no effect.
///
/// # Errors
/// As [`papers`].
pub fn unknown(key: &str) -> Result<Fault> {
    let keys = keys()?;
    let fault = Fault::new(format!("no published effect is called `{key}`"));
    Ok(fault.help(suggest(key, keys.iter().map(String::as_str))))
}

impl Table {
    fn effect(&self, key: &str, paper: &Paper, difference: &Difference) -> PublishedEffect {
        let Difference { metric, arm, minus, stated, .. } = difference;
        let (with, without) = (self.cells(arm, metric), self.cells(minus, metric));
        let mean = |cells: &[&Cell]| {
            (!cells.is_empty()).then(|| cells.iter().map(|cell| cell.value).sum::<f64>() / cells.len() as f64)
        };
        let value = match stated {
            Some(stated) => stated.value,
            None => mean(&with).zip(mean(&without)).map(|(with, without)| with - without),
        };
        let measured = self.metrics.get(metric).map_or_else(|| metric.clone(), ToString::to_string);
        PublishedEffect {
            key: key.to_owned(),
            value,
            spread: spread(&with, &without),
            runs: with.iter().chain(&without).filter_map(|cell| cell.runs).min(),
            status: self.status(difference),
            stated: stated.as_ref().map(|stated| stated.words.clone()),
            sign: stated.as_ref().and_then(Stated::sign),
            source: format!(
                "{}, {}, arXiv:{}, {}, {arm} and {minus}",
                paper.authors, paper.venue, paper.arxiv, self.number
            ),
            protocol: format!("{measured}; {}", self.procedure),
            differences: Vec::new(),
            incomparable: Vec::new(),
        }
    }

    /// In what a rerun differs, and in what it measures something else.
    fn against(&self, difference: &Difference, rerun: &Rerun) -> (Vec<String>, Vec<String>) {
        let Some(metric) = self.metrics.get(&difference.metric) else { return Default::default() };
        let counted = |there: Option<usize>, here: usize, what: &str| {
            there.filter(|there| *there != here).map(|there| format!("{there} {what} there, {here} here"))
        };
        let tested = (metric.tested != rerun.tested)
            .then(|| format!("tested on {} there, on {} here", metric.tested, rerun.tested));
        let further = !matches!(metric.protocol, Protocol::ZeroShot | Protocol::PreTraining);
        let differences = [
            counted(self.setting.pairs, rerun.pairs, "training pairs"),
            counted(self.setting.size, rerun.size, "pixels a side"),
            counted(self.setting.batch, rerun.batch, "pairs a batch"),
            tested,
            further.then(|| format!("{} there", metric.protocol)),
        ];
        let comparable = metric.like.iter().any(|ours| ours == rerun.metric);
        let other =
            (!comparable).then(|| format!("{} on {} there, {} here", metric.is, metric.data(), rerun.metric));
        (differences.into_iter().flatten().collect(), other.into_iter().collect())
    }
}

/// The spread of a difference of two cells; a mean of several says nothing about its spread.
fn spread(with: &[&Cell], without: &[&Cell]) -> Option<f64> {
    match (with, without) {
        ([with], [without]) => with.spread.zip(without.spread).map(|(a, b)| a.hypot(b)),
        _ => None,
    }
}

/// How sure a number is, in words.
pub fn sure(status: Status) -> &'static str {
    match status {
        Status::Verified => "verified",
        Status::SecondHand => "second hand",
        Status::Recalled => "recalled, unverified",
    }
}

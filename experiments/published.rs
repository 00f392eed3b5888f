//! The registry of published ablations: what a claim's effect is compared with, and how sure the numbers are.
//!
//! One file a paper below `published/`: tables of arms and metrics as printed, and the effects (one arm minus another)
//! that experiments rerun. An effect is computed from the table's cells, never typed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::failure::{Failure, Result};
use super::fault::{Fault, Text, suggest};
use super::file::decode;
use super::file::node::Node;
use super::record::{PublishedEffect, Status};

/// Every file of the registry by its paper's word.
const FILES: [(&str, &str); 1] = [("albef", include_str!("published/albef.yaml"))];

/// A paper with its ablation tables.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paper {
    /// Its word, as in `paper: {key: albef}`; the name of its file.
    #[serde(skip)]
    pub key: String,
    /// Its title.
    pub title: String,
    /// The first author, `et al.`
    pub authors: String,
    /// Where it appeared, with the year.
    pub venue: String,
    /// Its number at arXiv.
    pub arxiv: String,
    /// Its ablation tables by key.
    pub tables: BTreeMap<String, Table>,
}

/// One ablation table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// As the paper numbers it: `Table 1`.
    pub number: String,
    /// How its numbers were made.
    pub protocol: String,
    /// How its cells were found, where a cell does not say otherwise.
    pub status: Status,
    /// The sizes a rerun may differ in.
    #[serde(default)]
    pub setting: Setting,
    /// Its columns.
    pub metrics: BTreeMap<String, Metric>,
    /// Its rows: the cells by column.
    pub arms: BTreeMap<String, BTreeMap<String, Cell>>,
    /// Differences of two rows.
    pub effects: BTreeMap<String, Difference>,
}

/// What a rerun at another size differs in.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Setting {
    /// Training pairs.
    pub pairs: Option<usize>,
    /// Side of the images in pixels.
    pub size: Option<usize>,
    /// Pairs a batch.
    pub batch: Option<usize>,
    /// The data that it is tested on.
    pub tested: Option<String>,
    /// Whether the model was trained further on the tested data's own training split.
    pub tuned: bool,
}

/// One column.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// What is measured, on what.
    pub is: String,
    /// The columns whose mean it is, where the table has no such column itself.
    #[serde(default)]
    pub mean: Vec<String>,
    /// Our metrics that measure the same on other data.
    #[serde(default)]
    pub like: Vec<String>,
}

/// One number: `97.01`, or `{value: 70.33, spread: 0.01, runs: 3, status: verified}`.
#[derive(Clone, Debug)]
pub struct Cell {
    /// As printed.
    pub value: f64,
    /// Its standard deviation over runs, where given.
    pub spread: Option<f64>,
    /// Over how many runs, where given.
    pub runs: Option<u32>,
    /// How it was found, where not as the rest of its table.
    pub status: Option<Status>,
}

/// `metric` of `arm` minus `metric` of `minus`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// The column.
    pub metric: String,
    /// A row.
    pub arm: String,
    /// The row it is compared with.
    pub minus: String,
}

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

/// Every paper.
///
/// # Errors
/// If a file of the registry is wrong, which a test keeps from happening.
pub fn papers() -> Result<Vec<Paper>> {
    let read = |(key, text): &(&str, &str)| {
        let name = format!("experiments/published/{key}.yaml");
        let tree = Node::parse(&Arc::new(Text { name, text: (*text).to_owned() }))?;
        let paper: Paper = decode(&tree).map_err(Failure::Refused)?;
        Ok(Paper { key: (*key).to_owned(), ..paper })
    };
    FILES.iter().map(read).collect()
}

/// The full keys of all effects, such as `albef/table-1/distillation`.
///
/// # Errors
/// As [`papers`].
pub fn keys() -> Result<Vec<String>> {
    let below = |paper: &Paper| {
        let of = |(key, table): (&String, &Table)| {
            table.effects.keys().map(|effect| format!("{}/{key}/{effect}", paper.key)).collect::<Vec<_>>()
        };
        paper.tables.iter().flat_map(of).collect::<Vec<_>>()
    };
    Ok(papers()?.iter().flat_map(below).collect())
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
        Some((paper, table, difference)) => Ok(table.effect(key, paper, difference, rerun)),
        None => Err(unknown(key)?.into()),
    }
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
    fn effect(&self, key: &str, paper: &Paper, difference: &Difference, rerun: &Rerun) -> PublishedEffect {
        let Difference { metric, arm, minus } = difference;
        let (with, without) = (self.cells(arm, metric), self.cells(minus, metric));
        let cells = || with.iter().chain(&without);
        let mean = |cells: &[&Cell]| {
            (!cells.is_empty()).then(|| cells.iter().map(|cell| cell.value).sum::<f64>() / cells.len() as f64)
        };
        let least_sure =
            cells().map(|cell| cell.status.unwrap_or(self.status)).max_by_key(|status| doubt(*status));
        let (is, like) =
            self.metrics.get(metric).map_or((metric.as_str(), &[][..]), |metric| (&metric.is, &metric.like));
        let comparable = like.iter().any(|ours| ours == rerun.metric);
        let incomparable = (!comparable).then(|| format!("{is} there, {} here", rerun.metric));
        PublishedEffect {
            key: key.to_owned(),
            value: mean(&with).zip(mean(&without)).map(|(with, without)| with - without),
            spread: spread(&with, &without),
            runs: cells().filter_map(|cell| cell.runs).min(),
            status: least_sure.unwrap_or(self.status),
            source: format!(
                "{}, {}, arXiv:{}, {}, rows {arm} and {minus}",
                paper.authors, paper.venue, paper.arxiv, self.number
            ),
            protocol: format!("{is}; {}", self.protocol),
            differences: self.setting.differences(rerun),
            incomparable: incomparable.into_iter().collect(),
        }
    }

    /// The cells that a column stands for in a row.
    fn cells(&self, arm: &str, metric: &str) -> Vec<&Cell> {
        let Some(row) = self.arms.get(arm) else { return Vec::new() };
        match self.metrics.get(metric) {
            Some(Metric { mean, .. }) if !mean.is_empty() => {
                mean.iter().filter_map(|column| row.get(column)).collect()
            }
            _ => row.get(metric).into_iter().collect(),
        }
    }
}

/// The spread of a difference of two cells; a mean of several says nothing about its spread.
fn spread(with: &[&Cell], without: &[&Cell]) -> Option<f64> {
    match (with, without) {
        ([with], [without]) => with.spread.zip(without.spread).map(|(a, b)| a.hypot(b)),
        _ => None,
    }
}

fn doubt(status: Status) -> u8 {
    match status {
        Status::Verified => 0,
        Status::SecondHand => 1,
        Status::Recalled => 2,
    }
}

impl Setting {
    fn differences(&self, rerun: &Rerun) -> Vec<String> {
        let counted = |there: Option<usize>, here: usize, what: &str| {
            there.filter(|there| *there != here).map(|there| format!("{there} {what} there, {here} here"))
        };
        let tested = self.tested.as_ref().filter(|there| *there != rerun.tested);
        [
            counted(self.pairs, rerun.pairs, "training pairs"),
            counted(self.size, rerun.size, "pixels a side"),
            counted(self.batch, rerun.batch, "pairs a batch"),
            tested.map(|there| format!("tested on {there} there, on {} here", rerun.tested)),
            self.tuned.then(|| "trained further on the tested data there, not here".to_owned()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl fmt::Display for Paper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({}, {}, arXiv:{})", self.key, self.title, self.authors, self.venue, self.arxiv)
    }
}

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Written {
            value: f64,
            spread: Option<f64>,
            runs: Option<u32>,
            status: Option<Status>,
        }
        struct NumberOrMore;
        impl<'de> Visitor<'de> for NumberOrMore {
            type Value = Cell;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or `{value: .., spread: .., runs: ..}`")
            }
            fn visit_f64<E: serde::de::Error>(self, value: f64) -> std::result::Result<Cell, E> {
                Ok(Cell { value, spread: None, runs: None, status: None })
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> std::result::Result<Cell, E> {
                self.visit_f64(value as f64)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<Cell, A::Error> {
                let Written { value, spread, runs, status } =
                    Written::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Cell { value, spread, runs, status })
            }
        }
        deserializer.deserialize_any(NumberOrMore)
    }
}

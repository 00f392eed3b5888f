//! A paper of the registry as its file writes it: tables with metrics as columns and arms as rows, and effects.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::experiments::record::{Sign, Status};

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
    /// What its numbers were read in, by the words that tables and cells use for it.
    pub sources: BTreeMap<String, String>,
    /// Its ablation tables.
    pub tables: Entries<Table>,
}

/// One ablation table, or one statement in words.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// As the paper numbers it: `Table 1`.
    pub number: String,
    /// What it ablates, in a few words.
    pub title: String,
    /// How its numbers were made.
    pub procedure: String,
    /// How its cells were found, where a cell does not say otherwise.
    pub status: Status,
    /// The word of what its cells were read in, where a cell does not say otherwise.
    pub source: Option<String>,
    /// The sizes that a rerun may differ in.
    #[serde(default)]
    pub setting: Setting,
    /// Its columns.
    pub metrics: Entries<Metric>,
    /// Its rows: the cells by column.
    pub arms: Entries<Entries<Cell>>,
    /// Differences of two rows.
    #[serde(default)]
    pub effects: Entries<Difference>,
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
}

/// One column.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// What is measured.
    pub is: String,
    /// The data it is measured on.
    pub tested: String,
    /// Its split, where the paper says.
    pub split: Option<String>,
    /// What the model has seen of that data or that task.
    pub protocol: Protocol,
    /// The least and the greatest value that it can have.
    #[serde(default = "percent")]
    pub range: [f64; 2],
    /// The columns whose mean it is, where the table has no such column itself.
    #[serde(default)]
    pub mean: Vec<String>,
    /// Our metrics that measure the same on other data.
    #[serde(default)]
    pub like: Vec<String>,
}

fn percent() -> [f64; 2] {
    [0.0, 100.0]
}

/// What a model has seen of a task before it is measured on it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Nothing: it is measured as it was pre-trained.
    ZeroShot,
    /// It was trained further, on the data named.
    FineTuned(String),
    /// A head alone was trained, on the data named, over frozen features.
    Frozen(String),
    /// It is measured on what it was pre-trained for.
    PreTraining,
    /// It is no score but a cost.
    Cost,
}

/// One number: `97.01`, or `{value: 70.33, spread: 0.01, runs: 3, status: verified, source: code}`.
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
    /// What it was read in, where not as the rest of its table.
    pub source: Option<String>,
}

/// `metric` of `arm` minus `metric` of `minus`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// What the two rows differ in, in a few words.
    pub what: String,
    /// The column.
    pub metric: String,
    /// A row.
    pub arm: String,
    /// The row it is compared with.
    pub minus: String,
    /// What the paper says of it, where it prints no cells.
    pub stated: Option<Stated>,
}

/// A difference that a paper states in words.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stated {
    /// What it says, shortened.
    pub words: String,
    /// The difference, where the words name it.
    pub value: Option<f64>,
    /// Its sign, where the words name one and no value.
    pub sign: Option<Sign>,
    /// How it was found, where not as the rest of its table.
    pub status: Option<Status>,
    /// What it was read in, where not as the rest of its table.
    pub source: Option<String>,
}

impl Stated {
    /// Its sign.
    pub fn sign(&self) -> Option<Sign> {
        self.sign.or_else(|| self.value.map(Sign::of))
    }
}

impl Table {
    /// The cells that a column stands for in a row.
    pub fn cells(&self, arm: &str, metric: &str) -> Vec<&Cell> {
        let Some(row) = self.arms.get(arm) else { return Vec::new() };
        match self.metrics.get(metric) {
            Some(Metric { mean, .. }) if !mean.is_empty() => {
                mean.iter().filter_map(|column| row.get(column)).collect()
            }
            _ => row.get(metric).into_iter().collect(),
        }
    }

    /// How an effect was found: as its least sure cell, or as its words.
    pub fn status(&self, difference: &Difference) -> Status {
        if let Some(stated) = &difference.stated {
            return stated.status.unwrap_or(self.status);
        }
        let Difference { metric, arm, minus, .. } = difference;
        let cells = self.cells(arm, metric).into_iter().chain(self.cells(minus, metric));
        cells.map(|cell| cell.status.unwrap_or(self.status)).max().unwrap_or(self.status)
    }
}

impl Metric {
    /// The data and its split.
    pub fn data(&self) -> String {
        match &self.split {
            Some(split) => format!("{}, {split}", self.tested),
            None => self.tested.clone(),
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}, {}", self.is, self.data(), self.protocol)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroShot => f.write_str("zero-shot"),
            Self::FineTuned(on) => write!(f, "fine-tuned on {on}"),
            Self::Frozen(on) => write!(f, "a head trained on {on} over frozen features"),
            Self::PreTraining => f.write_str("during pre-training"),
            Self::Cost => f.write_str("a cost"),
        }
    }
}

impl fmt::Display for Paper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({}, {}, arXiv:{})", self.key, self.title, self.authors, self.venue, self.arxiv)
    }
}

/// A map in the order in which its file writes it.
#[derive(Clone, Debug)]
pub struct Entries<T>(Vec<(String, T)>);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Entries<T> {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&T> {
        self.iter().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// Keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> + Clone {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> + Clone {
        self.iter().map(|(key, _)| key)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for InOrder<T> {
            type Value = Entries<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(InOrder(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Written {
            value: f64,
            spread: Option<f64>,
            runs: Option<u32>,
            status: Option<Status>,
            source: Option<String>,
        }
        struct NumberOrMore;
        impl<'de> Visitor<'de> for NumberOrMore {
            type Value = Cell;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or `{value: .., spread: .., runs: ..}`")
            }
            fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Cell, E> {
                Ok(Cell { value, spread: None, runs: None, status: None, source: None })
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Cell, E> {
                self.visit_f64(value as f64)
            }
            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Cell, E> {
                self.visit_f64(value as f64)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Cell, A::Error> {
                let Written { value, spread, runs, status, source } =
                    Written::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Cell { value, spread, runs, status, source })
            }
        }
        deserializer.deserialize_any(NumberOrMore)
    }
}

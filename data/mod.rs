//! Where image-text pairs come from: datasets, the vocabulary, augmentation, batches and their order.
//!
//! A [`Dataset`] answers "what is pair number i"; everything after it (drawing one caption, cropping, tokenising,
//! batching) is a pure function of the pair, the seed and the step, so that a resumed run sees the same batches.
//! Nothing here knows a tensor: batches leave as plain vectors.

pub mod augment;
pub mod cache;
pub mod clipart;
pub mod collate;
pub mod combine;
mod config;
pub mod emoji;
mod error;
pub mod loader;
pub mod made;
pub mod order;
pub mod pack;
pub mod packing;
pub mod pairs;
pub mod picture;
pub mod scenes;
mod source;
pub mod tasks;
pub mod vocabulary;
pub mod wording;

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use crate::field::Field;
pub use config::Config;
pub use error::Error;
pub use source::{Source, Sources, Summary};

/// The result of everything in this folder.
pub type Result<T> = std::result::Result<T, Error>;

/// A decoded picture, 8 bits a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
    /// Red, green, blue of each pixel, row by row: `height * width * 3` bytes.
    pub rgb: Vec<u8>,
}

/// One object region as a detector reports it.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// Left, top, right, bottom as fractions of the picture, in [0, 1].
    pub bounds: [f32; 4],
    /// The detector's feature vector, equally long for all regions of a dataset.
    pub features: Vec<f32>,
    /// The detector's probability for each of its classes; sums to 1.
    pub classes: Vec<f32>,
}

/// One image with everything that is said about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Unique within the dataset and stable across runs, e.g. `scenes/test/17`.
    pub id: String,
    /// The picture.
    pub picture: Picture,
    /// At least one caption; training draws one of them each time the pair is seen.
    pub captions: Vec<String>,
    /// Names of objects; empty where the dataset has none.
    pub tags: Vec<String>,
    /// The class of the picture, where there is one.
    pub category: Option<String>,
    /// Object regions; empty where the dataset has none.
    pub regions: Vec<Region>,
    /// The drawing style, where the dataset has several.
    pub style: Option<String>,
    /// What the caption asks, where it asks something.
    pub asked: Option<Asked>,
}

/// What is asked of a picture, and what is right.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Asked {
    /// The kind of question, e.g. `count`.
    pub kind: &'static str,
    /// The right answer, one of [`Dataset::answers`].
    pub answer: Option<String>,
    /// The number of the region that is meant.
    pub target: Option<usize>,
    /// The second picture with its tags and regions, where the text speaks of two.
    pub second: Option<Box<Example>>,
}

/// Which part of a dataset.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// What the model learns from.
    Train,
    /// What decides between checkpoints.
    Val,
    /// What is reported.
    Test,
}

impl fmt::Display for Split {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        })
    }
}

/// A finite, indexed collection of image-text pairs.
pub trait Dataset: Send + Sync {
    /// The name shown in reports, e.g. `emoji`.
    fn name(&self) -> String;

    /// How many pairs there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Pair number `index`, the same at every call.
    ///
    /// # Errors
    /// If `index` is not below [`Dataset::len`] or the stored pair cannot be decoded.
    fn get(&self, index: usize) -> Result<Example>;

    /// What every pair of this dataset has.
    fn fields(&self) -> BTreeSet<Field>;

    /// The names of the classes that [`Example::category`] takes, each once, in alphabetical order: the choices of a
    /// zero-shot classifier. Datasets that know them without looking at every pair say so in a faster way.
    ///
    /// # Errors
    /// If a pair cannot be read.
    fn classes(&self) -> Result<Vec<String>> {
        let mut classes = BTreeSet::new();
        for index in 0..self.len() {
            classes.extend(self.get(index)?.category);
        }
        Ok(classes.into_iter().collect())
    }

    /// The closed list that [`Asked::answer`] is of, each once; the order is that of a classifier's outputs.
    fn answers(&self) -> Vec<String> {
        Vec::new()
    }

    /// A hash of everything that decides the pairs; equal fingerprints mean equal data.
    fn fingerprint(&self) -> String;

    /// The lines of credit and licence that a publication using this data owes.
    fn attribution(&self) -> Vec<String>;
}

//! The `data:` section of an experiment file: which pairs are trained on, validated on and reported on.
//!
//! ```yaml
//! data:
//!   train: [{scenes: {pairs: 20000}}, {emoji: {styles: [noto, twemoji], concepts: all}}]   # a source or a list
//!   test: {emoji: {styles: [fluent], concepts: all, pairs: 1000}}
//!   size: 32
//!   words: 24
//! ```

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cache;
use super::collate::Layout;
use super::combine::Shuffled;
use super::made::Stored;
use super::source::{Source, Sources};
use super::wording::{Worded, Wording};
use super::{Dataset, Error, Result, Split, augment, emoji};

/// The `data:` section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What the model learns from.
    pub train: Sources,
    /// What decides between checkpoints, where something does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val: Option<Sources>,
    /// What is reported; without it nothing can be evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Sources>,
    /// The side of the pictures that models see, in pixels.
    #[serde(default = "size")]
    pub size: u32,
    /// Places for a caption, `[CLS]` and `[SEP]` included; longer ones are cut.
    #[serde(default = "words")]
    pub words: usize,
    /// Further places for object tags; 0: none.
    #[serde(default)]
    pub tags: usize,
    /// How captions become tokens: a `tokenizer.json` or BERT's `vocab.txt`, by its path (from where the program is
    /// started), by that of its folder, or as `hub:OWNER/NAME[@REVISION]`; null: the vocabulary that ships with the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
    /// Rows of word tables, where published ones have more than the tokenizer has tokens; null: equally many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<usize>,
    /// Random changes to training pictures.
    #[serde(default)]
    pub augment: augment::Config,
    /// Gives every training picture the captions of another one: the control from which nothing can be learnt.
    #[serde(default)]
    pub shuffled_captions: bool,
    /// Other words for the training pictures.
    #[serde(default, skip_serializing_if = "is_default")]
    pub wording: Wording,
}

fn is_default(wording: &Wording) -> bool {
    *wording == Wording::default()
}

fn size() -> u32 {
    32
}

fn words() -> usize {
    24
}

impl Config {
    /// # Errors
    /// If a setting is outside its range.
    pub fn check(&self) -> Result<()> {
        if !(8..=1024).contains(&self.size) {
            return Err(Error::setting(
                "data.size",
                format!("is {}", self.size),
                "give a side between 8 and 1024 pixels",
            ));
        }
        if !(3..=512).contains(&self.words) {
            return Err(Error::setting(
                "data.words",
                format!("is {}", self.words),
                "give between 3 ([CLS], a word, [SEP]) and 512 places",
            ));
        }
        if self.tags == 1 || self.tags > 512 {
            return Err(Error::setting(
                "data.tags",
                format!("is {}", self.tags),
                "give 0 for no tags, or between 2 (a tag, [SEP]) and 512 places",
            ));
        }
        if self.entries.is_some() && self.tokenizer.is_none() {
            return Err(Error::setting(
                "data.entries",
                "is given, but the shipped vocabulary has as many rows as tokens",
                "leave it out, or name a `tokenizer`",
            ));
        }
        for (key, sources) in
            [("train", Some(&self.train)), ("val", self.val.as_ref()), ("test", self.test.as_ref())]
        {
            if sources.is_some_and(|sources| sources.0.is_empty()) {
                return Err(Error::setting(
                    format!("data.{key}"),
                    "is an empty list",
                    "name at least one source",
                ));
            }
            if let Some(made) = sources.filter(|_| key != "train").and_then(|sources| sources.stages().next())
            {
                let problem = format!("names stage `{}`, which makes training pairs", made.name);
                return Err(Error::setting(
                    format!("data.{key}"),
                    problem,
                    "name a source that no model wrote",
                ));
            }
        }
        self.check_disjoint()?;
        self.augment.check()
    }

    /// Refuses emoji of one style with all concepts in two splits: the same pictures would be learnt and tested.
    fn check_disjoint(&self) -> Result<()> {
        let splits = [("train", Some(&self.train)), ("val", self.val.as_ref()), ("test", self.test.as_ref())];
        let emoji: Vec<(&str, &emoji::Config)> = splits
            .iter()
            .flat_map(|(key, sources)| {
                sources.iter().flat_map(|sources| sources.origins()).map(move |one| (*key, one))
            })
            .filter_map(|(key, source)| match source {
                Source::Emoji(config) => Some((key, config)),
                _ => None,
            })
            .collect();
        for (number, (key, config)) in emoji.iter().enumerate() {
            for (earlier, other) in emoji.iter().take(number).filter(|(earlier, _)| earlier != key) {
                if let Some(style) = config.overlap(other) {
                    return Err(Error::setting(
                        format!("data.{key}"),
                        format!("shows emoji of the style {style} that `data.{earlier}` shows too"),
                        "with `concepts: all` give each split styles of its own, or leave `concepts` out of both",
                    ));
                }
            }
        }
        Ok(())
    }

    /// The same section with each stage's pairs as `known` says.
    #[must_use]
    pub fn knowing(&self, known: impl Fn(&str) -> Option<Stored>) -> Self {
        Self { train: self.train.knowing(known), ..self.clone() }
    }

    /// The extents of every batch.
    pub fn layout(&self) -> Layout {
        Layout { size: self.size, words: self.words, tags: self.tags }
    }

    /// Opens one split, or `None` if the file names no source for it. `seed` decides how captions are shuffled.
    ///
    /// # Errors
    /// If a source cannot be opened.
    pub fn open(&self, split: Split, seed: u64) -> Result<Option<Arc<dyn Dataset>>> {
        self.check()?;
        let sources = match split {
            Split::Train => Some(&self.train),
            Split::Val => self.val.as_ref(),
            Split::Test => self.test.as_ref(),
        };
        let Some(sources) = sources else { return Ok(None) };
        // Pictures that nothing random is done to are made as models see them once.
        let plain = split == Split::Train && self.augment == augment::Config::none();
        let dataset: Arc<dyn Dataset> = cache::kept(sources.open(split)?, plain.then_some(self.size));
        let dataset: Arc<dyn Dataset> = match split == Split::Train && self.wording != Wording::default() {
            true => Arc::new(Worded::new(dataset, self.wording.clone())?),
            false => dataset,
        };
        if split == Split::Train && self.shuffled_captions {
            return Ok(Some(Arc::new(Shuffled::new(dataset, seed)?)));
        }
        Ok(Some(dataset))
    }
}

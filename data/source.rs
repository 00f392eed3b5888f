//! The places where pairs come from, as they are named under `data:`.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::combine::Concat;
use super::made::{Made, Stored};
use super::pack::Pack;
use super::tasks::{self, Task};
use super::{Dataset, Field, Result, Split, clipart, emoji, scenes};

/// One place where pairs come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Open Clip Art.
    Clipart(clipart::Config),
    /// Emoji in several drawing styles.
    Emoji(emoji::Config),
    /// Procedural scenes.
    Scenes(scenes::Config),
    /// [`Task::Questions`]
    Questions(tasks::Config),
    /// [`Task::Statements`]
    Statements(tasks::Config),
    /// [`Task::Hypotheses`]
    Hypotheses(tasks::Config),
    /// [`Task::Expressions`]
    Expressions(tasks::Config),
    /// Pairs that a stage of the experiment makes, by its name: `stage: bootstrap`.
    Stage(Made),
}

impl Source {
    /// Every source that is there before a run, with its default settings.
    pub fn all() -> [Self; 7] {
        [
            Self::Clipart(Default::default()),
            Self::Emoji(Default::default()),
            Self::Scenes(Default::default()),
            Self::Questions(Default::default()),
            Self::Statements(Default::default()),
            Self::Hypotheses(Default::default()),
            Self::Expressions(Default::default()),
        ]
    }

    /// What it offers.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub fn summary(&self) -> Result<Summary> {
        let [train, val, test] = [Split::Train, Split::Val, Split::Test].map(|split| self.open(split));
        let (train, val, test) = (train?, val?, test?);
        let counts = Some([train.len(), val.len(), test.len()]);
        let packed =
            |pack: Arc<Pack>| (pack.manifest().title.clone(), pack.manifest().licence.clone(), counts);
        let made = |description: &str| (description.to_owned(), "none needed".to_owned(), None);
        let (description, licence, pairs) = match self {
            Self::Clipart(config) => packed(config.pack()?),
            Self::Emoji(config) => packed(config.pack()?),
            Self::Scenes(_) => made(scenes::DESCRIPTION),
            Self::Questions(_) => made(Task::Questions.description()),
            Self::Statements(_) => made(Task::Statements.description()),
            Self::Hypotheses(_) => made(Task::Hypotheses.description()),
            Self::Expressions(_) => made(Task::Expressions.description()),
            Self::Stage(_) => made("pairs that a stage of the experiment makes"),
        };
        Ok(Summary {
            name: train.name(),
            description,
            pairs,
            fields: train.fields(),
            classes: train.classes()?,
            answers: train.answers(),
            licence,
            attribution: train.attribution(),
        })
    }

    /// Itself or, of pairs that a stage makes, the sources of their pictures.
    fn origins(&self) -> Vec<&Self> {
        match self {
            Self::Stage(made) => made.web().map(Sources::origins).unwrap_or_default(),
            other => vec![other],
        }
    }

    /// Opens one split of it.
    ///
    /// # Errors
    /// If a setting is outside its range or its files cannot be read.
    pub fn open(&self, split: Split) -> Result<Arc<dyn Dataset>> {
        Ok(match self {
            Self::Clipart(config) => Arc::new(config.open(split)?),
            Self::Emoji(config) => Arc::new(config.open(split)?),
            Self::Scenes(config) => Arc::new(config.open(split)?),
            Self::Questions(config) => Arc::new(config.open(Task::Questions, split)?),
            Self::Statements(config) => Arc::new(config.open(Task::Statements, split)?),
            Self::Hypotheses(config) => Arc::new(config.open(Task::Hypotheses, split)?),
            Self::Expressions(config) => Arc::new(config.open(Task::Expressions, split)?),
            Self::Stage(made) => made.open(split)?,
        })
    }
}

/// What a source offers with its default settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Its key under `data:`.
    pub name: String,
    /// One line: what the pairs are.
    pub description: String,
    /// The pairs of train, val and test; `None` where any number can be made.
    pub pairs: Option<[usize; 3]>,
    /// What every pair has.
    pub fields: BTreeSet<Field>,
    /// The classes of its pictures.
    pub classes: Vec<String>,
    /// The closed list of answers to its texts.
    pub answers: Vec<String>,
    /// The licences of the content.
    pub licence: String,
    /// The lines of credit that a publication owes.
    pub attribution: Vec<String>,
}

/// One source or several, which are concatenated.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Sources(pub Vec<Source>);

impl Sources {
    /// The sources, those of their pictures in place of pairs that a stage makes.
    pub fn origins(&self) -> Vec<&Source> {
        self.0.iter().flat_map(Source::origins).collect()
    }

    /// The stages whose pairs are read.
    pub fn stages(&self) -> impl Iterator<Item = &Made> {
        self.0.iter().filter_map(|source| match source {
            Source::Stage(made) => Some(made),
            _ => None,
        })
    }

    /// The same sources with each stage's pairs as `known` says.
    #[must_use]
    pub fn knowing(&self, known: impl Fn(&str) -> Option<Stored>) -> Self {
        let knowing = |source: &Source| match source {
            Source::Stage(made) => Source::Stage(Made { pairs: known(&made.name), ..made.clone() }),
            other => other.clone(),
        };
        Self(self.0.iter().map(knowing).collect())
    }

    /// Opens one split of all of them.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub fn open(&self, split: Split) -> Result<Arc<dyn Dataset>> {
        let mut parts = self.0.iter().map(|source| source.open(split)).collect::<Result<Vec<_>>>()?;
        if parts.len() == 1 {
            return Ok(parts.remove(0));
        }
        Ok(Arc::new(Concat::new(parts)?))
    }
}

impl<'de> Deserialize<'de> for Sources {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Sources;
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a source such as `{scenes: {pairs: 1000}}`, or a list of sources")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<Sources, A::Error> {
                Ok(Sources(vec![Source::deserialize(MapAccessDeserializer::new(map))?]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> std::result::Result<Sources, A::Error> {
                Ok(Sources(Vec::deserialize(SeqAccessDeserializer::new(seq))?))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

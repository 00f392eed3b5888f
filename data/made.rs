//! Pairs that a stage of an experiment makes, and what stands for them until they are made.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::combine::restrict;
use super::pack::Pack;
use super::pairs::Pairs;
use super::source::Sources;
use super::{Dataset, Error, Example, Field, Result, Split};

/// `stage: bootstrap`; what the stage makes is not part of the setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Made {
    /// The stage's name.
    pub name: String,
    /// The pairs, as far as whoever knows the stages has said.
    pub pairs: Option<Stored>,
}

/// Where the pairs of a stage are.
#[derive(Clone, Debug, PartialEq)]
pub enum Stored {
    /// They may not be there yet: at most the training pairs of these sources, with other captions.
    Expected(Sources),
    /// In a pack.
    Pack(PathBuf),
}

impl From<String> for Made {
    fn from(name: String) -> Self {
        Self { name, pairs: None }
    }
}

impl From<Made> for String {
    fn from(made: Made) -> Self {
        made.name
    }
}

impl Made {
    /// The sources whose pictures it has, as long as it is expected.
    pub fn web(&self) -> Option<&Sources> {
        match &self.pairs {
            Some(Stored::Expected(web)) => Some(web),
            _ => None,
        }
    }

    /// Opens the pairs, or those that stand for them.
    ///
    /// # Errors
    /// When nobody has said where they are, or they cannot be read.
    pub fn open(&self, split: Split) -> Result<Arc<dyn Dataset>> {
        Ok(match &self.pairs {
            Some(Stored::Expected(web)) => Arc::new(Packable::new(&self.name, web.open(split)?)),
            Some(Stored::Pack(file)) => {
                let pack = Arc::new(Pack::read(file)?);
                Arc::new(Pairs::new(&self.name, pack, None, |row| row.split == split)?)
            }
            None => {
                let problem = format!("is `{}`, and no stage of this name makes pairs", self.name);
                return Err(Error::setting("stage", problem, "name a stage that rewrites pairs"));
            }
        })
    }
}

/// A dataset with no more than what a pack can hold of it: pictures, captions, tags and classes.
pub struct Packable {
    name: String,
    inner: Arc<dyn Dataset>,
    fields: BTreeSet<Field>,
}

impl Packable {
    /// The pairs of `inner` as they would be in a pack called `name`.
    pub fn new(name: &str, inner: Arc<dyn Dataset>) -> Self {
        let held = BTreeSet::from([Field::Pixels, Field::Words, Field::Category, Field::Tags]);
        Self { name: name.to_owned(), fields: &inner.fields() & &held, inner }
    }
}

impl Dataset for Packable {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn len(&self) -> usize {
        self.inner.len()
    }

    fn get(&self, index: usize) -> Result<Example> {
        let mut example = self.inner.get(index)?;
        restrict(&mut example, &self.fields);
        Ok(Example { asked: None, ..example })
    }

    fn fields(&self) -> BTreeSet<Field> {
        self.fields.clone()
    }

    fn classes(&self) -> Result<Vec<String>> {
        self.inner.classes()
    }

    fn fingerprint(&self) -> String {
        format!("{} packed", self.inner.fingerprint())
    }

    fn attribution(&self) -> Vec<String> {
        self.inner.attribution()
    }
}

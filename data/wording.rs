//! Other words for the same pictures: the name of a picture's class as its caption, a prompt before every caption.
//!
//! Captions that are class names make classification a case of captioning (CoCa, Yu et al., arXiv:2205.01917, section 3.2,
//! where labels are text like any other). BLIP's captioner is fine-tuned on captions that begin with "a picture of" (Li et
//! al., arXiv:2201.12086, released code); `lm: {prompt: 3}` leaves those three words out of the error.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Dataset, Error, Example, Field, Result};

/// `wording: {captions: category, prompt: a picture of}`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wording {
    /// What a training picture's caption is.
    pub captions: Captions,
    /// What stands before it.
    pub prompt: String,
}

/// What a picture's caption is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Captions {
    /// What is said about it.
    #[default]
    Words,
    /// The name of its class.
    Category,
}

/// A dataset in other words.
pub struct Worded {
    inner: Arc<dyn Dataset>,
    wording: Wording,
}

impl Worded {
    /// # Errors
    /// If captions are class names and the pictures have no class.
    pub fn new(inner: Arc<dyn Dataset>, wording: Wording) -> Result<Self> {
        if wording.captions == Captions::Category && !inner.fields().contains(&Field::Category) {
            let problem = format!("is category, and {} has none", inner.name());
            return Err(Error::setting("data.wording.captions", problem, "leave it out"));
        }
        Ok(Self { inner, wording })
    }
}

impl Dataset for Worded {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn len(&self) -> usize {
        self.inner.len()
    }

    fn get(&self, index: usize) -> Result<Example> {
        let Wording { captions, prompt } = &self.wording;
        let mut example = self.inner.get(index)?;
        if let (Captions::Category, Some(category)) = (captions, &example.category) {
            example.captions = vec![category.clone()];
        }
        if !prompt.is_empty() {
            let worded = example.captions.iter().map(|caption| format!("{} {caption}", prompt.trim_end()));
            example.captions = worded.collect();
        }
        Ok(example)
    }

    fn fields(&self) -> BTreeSet<Field> {
        self.inner.fields()
    }

    fn classes(&self) -> Result<Vec<String>> {
        self.inner.classes()
    }

    fn fingerprint(&self) -> String {
        format!("{} worded {:?} {:?}", self.inner.fingerprint(), self.wording.captions, self.wording.prompt)
    }

    fn attribution(&self) -> Vec<String> {
        self.inner.attribution()
    }
}

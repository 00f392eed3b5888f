//! Datasets made of other datasets: one after another, the first pairs, or with captions shuffled.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Dataset, Error, Example, Field, Result};
use crate::kernels::random::Key;

fn outside(dataset: &dyn Dataset, index: usize) -> Error {
    Error::Index { dataset: dataset.name(), index, len: dataset.len() }
}

/// Several datasets one after another; it offers the fields that all of them offer.
pub struct Concat {
    parts: Vec<Arc<dyn Dataset>>,
    fields: BTreeSet<Field>,
    len: usize,
}

impl Concat {
    /// # Errors
    /// If there is no part.
    pub fn new(parts: Vec<Arc<dyn Dataset>>) -> Result<Self> {
        if parts.is_empty() {
            return Err(Error::setting("data", "names no source", "name at least one source"));
        }
        let len = parts.iter().map(|part| part.len()).sum();
        let common = |common: BTreeSet<Field>, part: BTreeSet<Field>| &common & &part;
        let fields = parts.iter().map(|part| part.fields()).reduce(common).unwrap_or_default();
        Ok(Self { parts, fields, len })
    }
}

/// Takes from an example what is not among `fields`.
pub(super) fn restrict(example: &mut Example, fields: &BTreeSet<Field>) {
    if !fields.contains(&Field::Regions) {
        example.regions.clear();
    }
    if !fields.contains(&Field::Tags) {
        example.tags.clear();
    }
    if let Some(asked) = &mut example.asked {
        asked.answer.take_if(|_| !fields.contains(&Field::Answer) && !fields.contains(&Field::Entailment));
        asked.target.take_if(|_| !fields.contains(&Field::Target));
        asked.second.take_if(|_| !fields.contains(&Field::SecondImage));
        if let Some(second) = &mut asked.second {
            restrict(second, fields);
        }
    }
}

impl Dataset for Concat {
    fn name(&self) -> String {
        self.parts.iter().map(|part| part.name()).collect::<Vec<_>>().join("+")
    }

    fn len(&self) -> usize {
        self.len
    }

    fn get(&self, index: usize) -> Result<Example> {
        let mut rest = index;
        for part in &self.parts {
            if rest < part.len() {
                let mut example = part.get(rest)?;
                // What only some parts have would make batches differ in kind.
                restrict(&mut example, &self.fields);
                return Ok(example);
            }
            rest -= part.len();
        }
        Err(outside(self, index))
    }

    fn fields(&self) -> BTreeSet<Field> {
        self.fields.clone()
    }

    fn classes(&self) -> Result<Vec<String>> {
        let mut classes = BTreeSet::new();
        for part in &self.parts {
            classes.extend(part.classes()?);
        }
        Ok(classes.into_iter().collect())
    }

    fn answers(&self) -> Vec<String> {
        let mut answers = Vec::new();
        for answer in self.parts.iter().flat_map(|part| part.answers()) {
            if !answers.contains(&answer) {
                answers.push(answer);
            }
        }
        answers
    }

    fn fingerprint(&self) -> String {
        self.parts.iter().map(|part| part.fingerprint()).collect::<Vec<_>>().join("+")
    }

    fn attribution(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for line in self.parts.iter().flat_map(|part| part.attribution()) {
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        lines
    }
}

/// The first pairs of a dataset.
pub struct First {
    inner: Arc<dyn Dataset>,
    len: usize,
}

impl First {
    /// At most `most` pairs.
    pub fn new(inner: Arc<dyn Dataset>, most: usize) -> Self {
        let len = most.min(inner.len());
        Self { inner, len }
    }
}

impl Dataset for First {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn len(&self) -> usize {
        self.len
    }

    fn get(&self, index: usize) -> Result<Example> {
        if index < self.len { self.inner.get(index) } else { Err(outside(self, index)) }
    }

    fn fields(&self) -> BTreeSet<Field> {
        self.inner.fields()
    }

    fn answers(&self) -> Vec<String> {
        self.inner.answers()
    }

    fn fingerprint(&self) -> String {
        format!("{} first {}", self.inner.fingerprint(), self.len)
    }

    fn attribution(&self) -> Vec<String> {
        self.inner.attribution()
    }
}

/// A dataset whose pictures each have the captions and tags of another pair.
pub struct Shuffled {
    inner: Arc<dyn Dataset>,
    seed: u64,
    /// The pair whose captions each pair gets.
    donors: Vec<u32>,
}

impl Shuffled {
    /// # Errors
    /// If there are fewer than two pairs.
    pub fn new(inner: Arc<dyn Dataset>, seed: u64) -> Result<Self> {
        if inner.len() < 2 {
            return Err(Error::setting(
                "data.shuffled_captions",
                "needs two pairs at least",
                "take more pairs, or leave it out",
            ));
        }
        // One cycle through a random order: no pair keeps its own captions.
        let cycle = Key::new(seed, 0, "data.shuffled").permutation(inner.len());
        let mut donors = vec![0; cycle.len()];
        for (here, next) in cycle.iter().zip(cycle.iter().cycle().skip(1)) {
            donors[*here as usize] = *next;
        }
        Ok(Self { inner, seed, donors })
    }
}

impl Dataset for Shuffled {
    fn name(&self) -> String {
        format!("{} (captions shuffled)", self.inner.name())
    }

    fn len(&self) -> usize {
        self.inner.len()
    }

    fn get(&self, index: usize) -> Result<Example> {
        let donor = *self.donors.get(index).ok_or_else(|| outside(self, index))?;
        let donor = self.inner.get(donor as usize)?;
        Ok(Example { captions: donor.captions, tags: donor.tags, ..self.inner.get(index)? })
    }

    fn fields(&self) -> BTreeSet<Field> {
        self.inner.fields()
    }

    fn classes(&self) -> Result<Vec<String>> {
        self.inner.classes()
    }

    fn answers(&self) -> Vec<String> {
        self.inner.answers()
    }

    fn fingerprint(&self) -> String {
        format!("{} shuffled {}", self.inner.fingerprint(), self.seed)
    }

    fn attribution(&self) -> Vec<String> {
        self.inner.attribution()
    }
}

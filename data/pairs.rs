//! The pairs of a pack that one split of a source has.

use std::collections::BTreeSet;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::pack::{Pack, Row, hexadecimal};
use super::{Dataset, Error, Example, Field, Result};

/// Some pairs of a pack, in the pack's order.
pub struct Pairs {
    name: String,
    pack: Arc<Pack>,
    rows: Vec<usize>,
}

impl Pairs {
    /// The first `most` of those rows that are to be kept; all of them without `most`.
    ///
    /// # Errors
    /// If none is kept, or fewer than `most`.
    pub(super) fn new(
        name: &str,
        pack: Arc<Pack>,
        most: Option<usize>,
        keep: impl Fn(&Row) -> bool,
    ) -> Result<Self> {
        let mut rows: Vec<usize> =
            pack.rows().iter().enumerate().filter_map(|(number, row)| keep(row).then_some(number)).collect();
        let found = rows.len();
        if found == 0 {
            return Err(Error::setting(name, "leaves no pair", "choose less narrowly"));
        }
        if let Some(most) = most {
            if most == 0 || most > found {
                return Err(Error::setting(
                    format!("{name}.pairs"),
                    format!("is {most}, there are {found}"),
                    format!("ask for between 1 and {found} pairs, or leave it out for all"),
                ));
            }
            rows.truncate(most);
        }
        Ok(Self { name: name.to_owned(), pack, rows })
    }

    fn chosen(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter_map(|number| self.pack.rows().get(*number))
    }
}

impl Dataset for Pairs {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn get(&self, index: usize) -> Result<Example> {
        let outside = || Error::Index { dataset: self.name(), index, len: self.len() };
        let number = *self.rows.get(index).ok_or_else(outside)?;
        let row = self.pack.rows().get(number).ok_or_else(outside)?;
        Ok(Example {
            id: format!("{}/{}", self.name, row.id),
            picture: self.pack.picture(number)?,
            captions: row.captions.clone(),
            tags: row.tags.clone(),
            category: Some(row.category.clone()),
            regions: Vec::new(),
            style: row.style.clone(),
            asked: None,
        })
    }

    fn fields(&self) -> BTreeSet<Field> {
        let mut fields = BTreeSet::from([Field::Pixels, Field::Words, Field::Category]);
        if self.chosen().all(|row| !row.tags.is_empty()) {
            fields.insert(Field::Tags);
        }
        fields
    }

    fn classes(&self) -> Result<Vec<String>> {
        let classes: BTreeSet<&String> = self.chosen().map(|row| &row.category).collect();
        Ok(classes.into_iter().cloned().collect())
    }

    fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(&self.pack.manifest().sha256);
        for row in self.chosen() {
            hash.update(&row.id);
            hash.update([0]);
        }
        hexadecimal(hash.finalize().get(..8).unwrap_or_default())
    }

    fn attribution(&self) -> Vec<String> {
        self.pack.manifest().attribution.clone()
    }
}

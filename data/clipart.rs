//! Open Clip Art: public-domain drawings by many hands, with the texts that their authors typed.
//!
//! Web text as the papers mean it: many titles describe the picture ("Dall Sheep Ram"), many do not ("gramastar",
//! "Various Cliparts", "Part of the Flat Icon Collection", an author or an e-mail address). Nothing of that is
//! cleaned. The first caption is the title, the second one the description where there is one; tags are keywords, or
//! the folders of the collection where there are none; the category is the top folder.
//!
//! Train, val and test share no title, no stem of a file name and no two pictures with almost equal perceptual
//! hashes, neither among themselves nor with those of the emoji. Large families of look-alikes (stars, playing cards,
//! icon themes) are in train, so that the titles of val and test say more than those of train.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::pack::{Embedded, Pack};
use super::pairs::Pairs;
use super::{Error, Result, Split};

static PACK: Embedded = Embedded::new(
    "data/packs/clipart.zip",
    include_bytes!("packs/clipart.zip"),
    include_bytes!("packs/clipart.json"),
);

/// `clipart: {pairs: 2000, categories: [animals, food]}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The categories to take; none named: all.
    pub categories: Vec<String>,
    /// How many pairs: the first ones of a random order that is always the same; null: all.
    pub pairs: Option<usize>,
    /// A pack to read in place of the one in the program.
    pub file: Option<PathBuf>,
}

impl Config {
    /// The pack that the pairs come from.
    pub(super) fn pack(&self) -> Result<Arc<Pack>> {
        PACK.open(self.file.as_deref())
    }

    /// Opens one split.
    ///
    /// # Errors
    /// If a category is unknown, more pairs are asked for than there are, or the pack is damaged.
    pub fn open(&self, split: Split) -> Result<Pairs> {
        let pack = self.pack()?;
        for category in &self.categories {
            let known = pack.rows().iter().map(|row| row.category.as_str());
            Error::check_known("clipart.categories", category, known)?;
        }
        Pairs::new("clipart", pack, self.pairs, |row| {
            row.split == split && (self.categories.is_empty() || self.categories.contains(&row.category))
        })
    }
}

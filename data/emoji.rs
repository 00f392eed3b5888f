//! Emoji: the same 1,914 concepts drawn in up to three styles, with the names and tags of the Unicode CLDR as captions.
//!
//! Clean, short captions written by people. Two ways to hold pairs out:
//! - by concept (`concepts: split`, the default): train, val and test share no concept, no stem of a name and no two
//!   pictures with almost equal perceptual hashes, whatever the styles;
//! - by style (`concepts: all`): every concept of the named styles, for training on some styles and testing on one
//!   that was never seen. `data:` refuses a style that is on both sides.
//!
//! The first caption is the name, the second one adds those tags that say more. The category is the group of the
//! emoji ("food and drink"). Country flags exist in the style `twemoji` alone.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::pack::{Embedded, Pack};
use super::pairs::Pairs;
use super::{Error, Result, Split};

static PACK: Embedded = Embedded::new(
    "data/packs/emoji.zip",
    include_bytes!("packs/emoji.zip"),
    include_bytes!("packs/emoji.json"),
);

/// `emoji: {styles: [noto, twemoji], concepts: all, pairs: 2000}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The drawing styles.
    pub styles: Vec<String>,
    /// Which concepts.
    pub concepts: Concepts,
    /// How many pairs: the first ones of a random order that is always the same; null: all.
    pub pairs: Option<usize>,
    /// A pack to read in place of the one in the program.
    pub file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        let styles = ["noto", "twemoji", "fluent"].map(str::to_owned).to_vec();
        Self { styles, concepts: Concepts::Split, pairs: None, file: None }
    }
}

/// Which concepts a split of the emoji has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Concepts {
    /// Its own; no other split has them.
    Split,
    /// All; what is held out is a style.
    All,
}

impl Config {
    /// The pack that the pairs come from.
    pub(super) fn pack(&self) -> Result<Arc<Pack>> {
        PACK.open(self.file.as_deref())
    }

    /// Opens one split.
    ///
    /// # Errors
    /// If a style is unknown, more pairs are asked for than there are, or the pack is damaged.
    pub fn open(&self, split: Split) -> Result<Pairs> {
        let pack = self.pack()?;
        for style in &self.styles {
            let known = pack.rows().iter().filter_map(|row| row.style.as_deref());
            Error::check_known("emoji.styles", style, known)?;
        }
        Pairs::new("emoji", pack, self.pairs, |row| {
            (self.concepts == Concepts::All || row.split == split)
                && row.style.as_ref().is_some_and(|style| self.styles.contains(style))
        })
    }

    /// A style of which this and `other` may show the same pictures in two different splits.
    pub(super) fn overlap(&self, other: &Self) -> Option<&str> {
        let all = [self, other].iter().any(|side| side.concepts == Concepts::All);
        let shared = self.styles.iter().find(|style| other.styles.contains(style));
        shared.filter(|_| all && self.file == other.file).map(String::as_str)
    }
}

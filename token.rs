//! The tokens that mean something other than a piece of a word: at the same ids in the program's own vocabulary and in all
//! that we draw at random, at ids of their own in the vocabularies that come with published weights.

use serde::Serialize;

/// Fills the places after a text's end.
pub const PAD: u32 = 0;
/// Stands for a word that the vocabulary cannot spell.
pub const UNK: u32 = 1;
/// Begins a text.
pub const CLS: u32 = 2;
/// Ends a text, and the object tags after it.
pub const SEP: u32 = 3;
/// Stands for a word that is to be predicted.
pub const MASK: u32 = 4;

/// How the vocabulary's file spells the special tokens, in the order of their ids.
pub const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// The special tokens of one vocabulary. Two roles may fall to one token: CLIP's texts are padded with the token that ends
/// them, OPT's begin with theirs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Specials {
    /// Fills the places after a text's end.
    pub pad: u32,
    /// Begins a text; T5's have none.
    pub begin: Option<u32>,
    /// Ends a text, and the object tags after it; OPT's have none.
    pub end: Option<u32>,
    /// Stands for a word that is to be predicted; CLIP, OPT and T5 have none.
    pub mask: Option<u32>,
    /// Stands for a word that the vocabulary cannot spell.
    pub unknown: Option<u32>,
    /// Further tokens that no word is spelt with, such as T5's sentinels.
    pub others: Vec<u32>,
}

impl Specials {
    /// Those of the vocabulary that ships with the program.
    pub const SHIPPED: Self = Self {
        pad: PAD,
        begin: Some(CLS),
        end: Some(SEP),
        mask: Some(MASK),
        unknown: Some(UNK),
        others: Vec::new(),
    };

    /// What a text that is written begins with; where texts have no beginning the padding, as T5's decoder takes it.
    pub fn first(&self) -> u32 {
        self.begin.unwrap_or(self.pad)
    }

    /// What a text that is written ends with; where texts have no end the padding, which no text holds.
    pub fn last(&self) -> u32 {
        self.end.unwrap_or(self.pad)
    }

    /// All of them, each once, rising.
    pub fn all(&self) -> Vec<u32> {
        let named = [Some(self.pad), self.begin, self.end, self.mask, self.unknown];
        let mut all: Vec<u32> = named.into_iter().flatten().chain(self.others.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Default for Specials {
    fn default() -> Self {
        Self::SHIPPED
    }
}

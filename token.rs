//! The tokens that mean something other than a piece of a word, at the same ids in every vocabulary.

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

//! How well written captions agree with what people wrote about the same pictures: the metrics of COCO captions.

pub mod bleu;
pub mod cider;
pub mod rouge;
pub mod tokens;

use std::collections::BTreeMap;

/// A written caption with the captions it is judged by, all of them as [`tokens::Tokenizer::tokenize`] gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What was written.
    pub written: String,
    /// What people wrote; at least one.
    pub references: Vec<String>,
}

/// A run of words.
type NGram<'a> = Vec<&'a str>;

/// Runs of at most so many words are counted.
pub const LONGEST: usize = 4;

/// How often a text has each run of 1 to [`LONGEST`] words.
fn counts(text: &str) -> BTreeMap<NGram<'_>, u32> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut counts = BTreeMap::new();
    for length in 1..=LONGEST {
        for run in words.windows(length) {
            *counts.entry(run.to_vec()).or_insert(0) += 1;
        }
    }
    counts
}

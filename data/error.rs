//! What can be wrong with data, each fault said once: what, where, what to do.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::nearest::suggest;

/// A fault in a dataset, its settings or its files.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that cannot be used.
    #[error("`{key}` {problem}\n  help: {help}")]
    Setting {
        /// The key as typed, e.g. `scenes.objects`.
        key: String,
        /// What is wrong with its value, as the rest of a sentence.
        problem: String,
        /// What would be right.
        help: String,
    },
    /// A pack that is truncated, altered or of another version.
    #[error("{}: {problem}\n  help: {help}", file.display())]
    Pack {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// How to get a good one.
        help: String,
    },
    /// A file that cannot be read.
    #[error("{}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An index outside the dataset.
    #[error("{dataset} has {len} pairs, number {index} was asked for")]
    Index {
        /// The dataset's name.
        dataset: String,
        /// What was asked for.
        index: usize,
        /// How many there are.
        len: usize,
    },
    /// A pair that cannot be used.
    #[error("pair {index} of {dataset}: {problem}")]
    Example {
        /// The dataset's name.
        dataset: String,
        /// The pair.
        index: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// The vocabulary cannot be read or used.
    #[error("vocabulary: {problem}\n  help: {help}")]
    Vocabulary {
        /// What is wrong.
        problem: String,
        /// What to do.
        help: String,
    },
    /// A loader thread ended without delivering its batch.
    #[error("the loader stopped before batch {step}: {problem}")]
    Loader {
        /// The batch that was due.
        step: u64,
        /// Why.
        problem: String,
    },
}

impl Error {
    /// A setting that cannot be used.
    pub fn setting(key: impl Into<String>, problem: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Setting { key: key.into(), problem: problem.into(), help: help.into() }
    }

    /// Refuses a `name` that is not among the `known` ones, and offers the nearest.
    ///
    /// # Errors
    /// If it is not.
    pub fn check_known<'a>(key: &str, name: &str, known: impl Iterator<Item = &'a str>) -> super::Result<()> {
        let known: BTreeSet<&str> = known.collect();
        if known.contains(name) {
            return Ok(());
        }
        Err(Self::setting(key, format!("names `{name}`, which there is not"), suggest(name, known)))
    }
}

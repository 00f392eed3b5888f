//! What can be wrong with a report, each fault said once: what, where, what to do.

use std::path::PathBuf;

/// A fault in records or in the place of a report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing to report.
    #[error("{}: {problem}\n  help: give a run directory (it holds records.jsonl) or a folder of them", path.display())]
    NoRuns {
        /// Where runs were looked for.
        path: PathBuf,
        /// What is there instead.
        problem: String,
    },
    /// A file or folder that cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A record that cannot be used.
    #[error("{}:{line}: {problem}\n  help: {help}", file.display())]
    Record {
        /// The file.
        file: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        help: String,
    },
    /// Two finished runs where one belongs.
    #[error(
        "two finished runs are {which}; they differ in {differing}\n  --> {}\n  --> {}\n  help: give only the directories \
         that belong together",
        first.display(), second.display()
    )]
    Twice {
        /// Experiment, arm and seed of both.
        which: String,
        /// The settings that differ.
        differing: String,
        /// One directory.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// The report cannot be written.
    #[error("{}: cannot be written: {source}\n  help: choose another --out", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of the same name that no report wrote.
    #[error(
        "{}: exists, and no report wrote it; nothing was written\n  help: move it or choose another --out",
        path.display()
    )]
    Occupied {
        /// The file.
        path: PathBuf,
    },
    /// A figure or a table that cannot be made.
    #[error("{what} cannot be made: {problem}")]
    Make {
        /// Which.
        what: String,
        /// Why.
        problem: String,
    },
}

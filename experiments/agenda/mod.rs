//! Many experiments at once: which files are meant, what they take together, and in which order they are run.
//!
//! A file that is wrong is told and left out; the others are planned and run as if it were not there.

mod find;
mod order;
mod outlook;
mod row;
mod table;
mod work;

use std::path::PathBuf;

use super::failure::Failure;
use super::progress::{Progress, Show};
use super::suite::Only;
use super::{Experiment, file};

pub use find::{below, files};
pub use order::{Worth, order};
pub use outlook::Outlook;
pub use row::{Item, Row};
pub use work::{Worked, work};

/// Experiments that are planned or run together.
#[derive(Debug, Default)]
pub struct Agenda {
    /// Those that are right, in the order in which they were named, folders in the order of names.
    pub entries: Vec<Entry>,
    /// What is left out, and why.
    pub refused: Vec<Refused>,
}

/// An experiment, and what is meant of it.
#[derive(Debug)]
pub struct Entry {
    /// The experiment.
    pub experiment: Experiment,
    /// Which of its runs.
    pub only: Only,
    /// The command that runs it alone, for its records.
    pub command: String,
}

/// A file or folder that is left out.
#[derive(Debug)]
pub struct Refused {
    /// Which.
    pub place: PathBuf,
    /// Why.
    pub failure: Failure,
}

impl Agenda {
    /// Reads the experiments in files and folders, each with the same things laid over it; `only` as `--only` flags.
    pub fn open(places: &[PathBuf], laid: &file::Options, only: &[String], show: Show) -> Self {
        let (files, refused) = files(places);
        let mut agenda = Self { entries: Vec::new(), refused };
        let mut progress = Progress::new(show, "reading", 0, files.len() as u64);
        for (number, file) in files.into_iter().enumerate() {
            let read = file::load(&file, laid).and_then(|experiment| {
                let only = file::only(only, &experiment)?;
                Ok(Entry { command: laid.command(&file), experiment, only })
            });
            match read {
                Ok(entry) => agenda.entries.push(entry),
                Err(failure) => agenda.refused.push(Refused { place: file, failure }),
            }
            progress.count(number as u64 + 1, "files");
        }
        progress.end();
        agenda
    }

    /// 0 if nothing is left out, else the greatest exit code of a reason.
    pub fn exit_code(&self) -> u8 {
        exit_code(&self.refused)
    }
}

/// The greatest exit code of a reason; 0 if there is none.
pub fn exit_code(refused: &[Refused]) -> u8 {
    refused.iter().map(|refused| refused.failure.exit_code()).max().unwrap_or(0)
}

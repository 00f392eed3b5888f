//! What one experiment takes: its runs and the stages before them, how far they have come and what is left.

use std::path::{Path, PathBuf};

use crate::experiments::budget::Pieces;
use crate::experiments::directory::{self, Status};
use crate::experiments::plan::{Cost, Job, Memory, Probe, State, Work, elapsed};

/// What one experiment takes, as if it were alone.
#[derive(Debug)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its size.
    pub profile: Option<String>,
    /// The seeds that are meant.
    pub seeds: Vec<u64>,
    /// Its stages and runs, each after those that it begins with.
    pub items: Vec<Item>,
    /// The greatest memory of one of them, where it is known.
    pub memory: Option<Memory>,
    /// How many of its configurations could not be measured; what they take is not counted.
    pub unmeasured: usize,
    /// How many runs go side by side.
    pub jobs: usize,
}

/// One seed of an arm or of a stage.
#[derive(Debug)]
pub struct Item {
    /// Where it keeps what it leaves behind: no two things have the same.
    pub directory: PathBuf,
    /// The stage's name; none of an arm.
    pub stage: Option<String>,
    /// Its identity.
    pub hash: String,
    /// How far it has come.
    pub status: Status,
    /// Seconds until it is done.
    pub seconds_left: f64,
    /// Bytes on disk.
    pub disk: u64,
    /// What of it cannot be broken off.
    pub pieces: Pieces,
}

impl Item {
    /// What is known of one seed of a job, by its probe where there is one.
    pub(super) fn new(job: &Job, state: &State, known: Option<&(Cost, &Probe)>) -> Self {
        let pieces = |(cost, probe): &(Cost, &Probe)| match job.work {
            Work::Train(_) => {
                let whole = probe.opening_seconds + probe.evaluation_seconds;
                Pieces { update: probe.step_seconds, whole }
            }
            Work::Rewrite(_) => Pieces { update: 0.0, whole: cost.seconds() },
        };
        Self {
            directory: state.directory.clone(),
            stage: job.stage.map(str::to_owned),
            hash: state.hash.clone(),
            status: state.status.clone(),
            seconds_left: known.map_or(0.0, |(cost, _)| cost.seconds_left(&state.status, state.step)),
            disk: known.map_or_else(|| directory::size(&state.directory), |(cost, _)| cost.disk),
            pieces: known.map(pieces).unwrap_or_default(),
        }
    }

    /// Whether it has come to its end.
    pub fn is_done(&self) -> bool {
        matches!(self.status, Status::Done(_))
    }
}

impl Row {
    /// Counts the memory of one more thing.
    pub(super) fn remember(&mut self, memory: Option<Memory>) {
        self.memory = self.memory.into_iter().chain(memory).reduce(Memory::or);
    }

    /// Its runs, without its stages.
    fn own(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| item.stage.is_none())
    }

    /// How many runs it has.
    pub fn runs(&self) -> usize {
        self.own().count()
    }

    /// How many of them are done.
    pub fn done(&self) -> usize {
        self.finished().count()
    }

    /// How many of them are not.
    pub fn left(&self) -> usize {
        self.runs() - self.done()
    }

    /// The directories of the runs that are done.
    pub fn finished(&self) -> impl Iterator<Item = &Path> {
        self.own().filter(|item| item.is_done()).map(|item| item.directory.as_path())
    }

    /// Seconds until it is done.
    pub fn seconds_left(&self) -> f64 {
        elapsed(self.items.iter().map(|item| item.seconds_left), self.jobs)
    }

    /// Bytes on disk when it is done.
    pub fn disk(&self) -> u64 {
        self.items.iter().map(|item| item.disk).sum()
    }
}

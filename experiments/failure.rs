//! Why a run cannot begin or did not come to its end, said once: what, where, what to do.

use std::io;
use std::path::{Path, PathBuf};

use super::fault::Fault;
use crate::data;
use crate::models::checkpoint::hub;

/// A fault met while experiments are planned, run or verified.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The file or the command is wrong: all that is wrong with it. Nothing was run and nothing was written.
    #[error("{}", join(.0))]
    Refused(Vec<Fault>),
    /// Pairs that cannot be read.
    #[error(transparent)]
    Data(#[from] data::Error),
    /// A tensor operation that failed: a defect, or a device out of memory.
    #[error("{0}")]
    Compute(#[from] candle_core::Error),
    /// A loss, a figure or a gradient that is no number.
    #[error(
        "{what} of `{objective}` is not finite at step {step}\n  help: lower `train.rate`, lengthen `train.warmup` or set `train.clip`; the run's directory is kept"
    )]
    NonFinite {
        /// The objective's word, or the words of all where the fault is in their sum.
        objective: String,
        /// The loss, the gradient, or a figure's name.
        what: String,
        /// Updates made before.
        step: u64,
    },
    /// A device that is not there.
    #[error("device `{asked}`: {problem}\n  help: say `cpu`, `cuda:0` or `auto`")]
    Device {
        /// As typed.
        asked: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A directory or file that cannot be written before a run has begun.
    #[error("{}: cannot be written: {source}\n  help: choose another place with --out", path.display())]
    Unwritable {
        /// The place.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that could not be written or read while a run was going.
    #[error("{}: {source}\n  help: the run's directory is kept; run again to go on from its checkpoint", path.display())]
    Storage {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A checkpoint that is damaged or belongs to another configuration.
    #[error("{}: {problem}\n  help: delete this file to train the run from its beginning", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Published weights, or tensors for them, that cannot be read or do not fit.
    #[error("{}: {problem}", path.display())]
    Weights {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A run that another process is training.
    #[error("{}: another process is training this run", path.display())]
    Busy {
        /// The run's directory.
        path: PathBuf,
    },
    /// Work that was broken off because its time was over; its state is saved.
    #[error("the time was over before its end; run again to go on")]
    OutOfTime,
    /// Records that cannot be understood.
    #[error("{}:{line}: {problem}", path.display())]
    Records {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
}

fn join(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n")
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Refused(vec![fault])
    }
}

impl From<hub::Fault> for Failure {
    fn from(hub::Fault { place, problem, help }: hub::Fault) -> Self {
        Self::Weights { path: place.into(), problem: format!("{problem}\n  help: {help}") }
    }
}

impl Failure {
    /// 2 where what was asked for is at fault and nothing was begun, 1 where a run failed.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) => 2,
            Self::Device { .. } | Self::Unwritable { .. } => 2,
            Self::Checkpoint { .. } | Self::Weights { .. } => 2,
            Self::Data(data::Error::Setting { .. } | data::Error::Pack { .. }) => 2,
            _ => 1,
        }
    }

    /// Names the file or folder of weights that were refused.
    pub fn weights(path: &Path) -> impl FnOnce(candle_core::Error) -> Self {
        move |fault| {
            let problem = match fault {
                candle_core::Error::WithBacktrace { inner, .. } => inner.to_string(),
                other => other.to_string(),
            };
            Self::Weights { path: path.to_owned(), problem }
        }
    }

    /// Names the file of an input or output error that met a run on its way.
    pub fn storage(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Storage { path: path.to_owned(), source }
    }
}

/// The result of everything that runs experiments.
pub type Result<T> = std::result::Result<T, Failure>;

//! What was planned for runs, kept beside them until they are done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::experiments::failure::{Failure, Result};
use crate::experiments::{Experiment, checkpoint, directory};

/// Estimated seconds of whole runs by identity, as kept beside the runs until they are done.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Estimates(BTreeMap<String, f64>);

impl Estimates {
    fn path(out: &Path, experiment: &Experiment) -> PathBuf {
        directory::of_experiment(out, experiment).join("plan.json")
    }

    /// What was planned for this experiment; nothing if it was not.
    pub fn read(out: &Path, experiment: &Experiment) -> Self {
        // An estimate that cannot be read is no reason to keep a run from running.
        let text = std::fs::read(Self::path(out, experiment)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Adds what was planned for the run with this identity.
    pub fn insert(&mut self, hash: String, seconds: f64) {
        self.0.insert(hash, seconds);
    }

    /// Keeps them beside the runs.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&self, out: &Path, experiment: &Experiment) -> Result<()> {
        let path = Self::path(out, experiment);
        if let Some(directory) = path.parent() {
            let fault = |source| Failure::Unwritable { path: directory.to_owned(), source };
            std::fs::create_dir_all(directory).map_err(fault)?;
        }
        let text = serde_json::to_vec(self).map_err(|fault| Failure::storage(&path)(fault.into()))?;
        checkpoint::replace(&path, |temporary| std::fs::write(temporary, text))
    }

    /// Seconds that were planned for a run.
    pub fn of(&self, hash: &str) -> Option<f64> {
        self.0.get(hash).copied()
    }
}

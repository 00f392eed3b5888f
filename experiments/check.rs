//! What no single setting shows: whether the parts of a run fit each other.

use std::path::Path;

use super::Run;
use super::failure::{Failure, Result};
use super::fault::{Fault, Faults};
use super::file::node::Node;
use super::file::{self, Options};

/// Checks an experiment file in every size that it has, or in the one that is asked for; says what it would run.
///
/// # Errors
/// Everything that is wrong with it.
pub fn file(path: &Path, options: &Options) -> Result<String> {
    let mut sizes = vec![options.profile.clone()];
    if options.profile.is_none() {
        sizes.extend(file::profiles(path)?.into_iter().map(Some));
    }
    let mut faults = Faults::default();
    let mut lines = Vec::new();
    for profile in sizes {
        match file::load(path, &Options { profile: profile.clone(), ..options.clone() }) {
            Ok(experiment) => {
                let (arms, seeds) = (experiment.arms.len(), experiment.seeds.len());
                let size = profile.map_or(String::new(), |name| format!(" --profile {name}"));
                lines.push(format!(
                    "{}{size}: {arms} arms x {seeds} seeds = {} runs, nothing wrong",
                    path.display(),
                    arms * seeds
                ));
            }
            Err(Failure::Refused(found)) => faults.extend(found),
            Err(other) => return Err(other),
        }
    }
    if faults.is_empty() { Ok(lines.join("\n")) } else { Err(Failure::Refused(faults.sorted())) }
}

/// Everything that is wrong with a run whose settings could be read; `tree` says where they are written.
pub fn run(_tree: &Node, _run: &Run) -> Vec<Fault> {
    Vec::new()
}

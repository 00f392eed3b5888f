//! The weights of a run in the form in which its model's reference saves them, so that others can go on with them.

use std::fs;
use std::path::Path;

use candle_core::Device;

use super::beginning::filled;
use super::failure::{Failure, Result};
use super::feed::{Pairs, Words};
use super::{Run, checkpoint};
use crate::models::checkpoint as published;

/// Writes the weights that a run reports to `folder`, as the reference's class `class` or as the first of its classes; what
/// was written, in one line.
///
/// # Errors
/// When the run has no checkpoint, the class is not one of its model's, or the folder cannot be written.
pub fn export(directory: &Path, class: Option<&str>, folder: &Path) -> Result<String> {
    let run = configuration(directory)?;
    let (_, weights) = checkpoint::selected(directory)?;
    let pairs = Pairs::open(&run.expected(), &Words::shipped()?, 0)?;
    let store = filled(&run, &pairs.inputs, weights, &Device::Cpu).map_err(Failure::weights(directory))?;
    published::save(&run.model, &pairs.inputs, class, &store, folder).map_err(Failure::weights(folder))?;
    Ok(format!("{}: config.json and model.safetensors of {}", folder.display(), run.model.name()))
}

/// What the run was, as it wrote it down.
///
/// # Errors
/// When the directory is none of a run.
pub fn configuration(directory: &Path) -> Result<Run> {
    let path = directory.join("config.yaml");
    let text = fs::read_to_string(&path).map_err(|fault| Failure::Weights {
        path: directory.to_owned(),
        problem: format!("is no run's directory: config.yaml cannot be read ({fault})"),
    })?;
    serde_yaml::from_str(&text)
        .map_err(|fault| Failure::Weights { path: path.clone(), problem: format!("cannot be read: {fault}") })
}

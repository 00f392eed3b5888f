//! A published checkpoint on given tensors: what to compare with the reference, name by name.

use std::fmt::Write;
use std::path::Path;

use candle_core::{Device, safetensors};

use super::checkpoint::{Tensors, replace};
use super::failure::{Failure, Result};
use crate::models::checkpoint::hub::{self, Part};
use crate::models::checkpoint::{Given, Opened, classes};

/// Runs the model in the folder `checkpoint`, or of the repository `hub:OWNER/NAME` of that name, on the tensors of `input` and writes what it makes of them to `output`; what was
/// written, one line a tensor.
///
/// # Errors
/// When the checkpoint is not of the system `model`, a file cannot be read or written, or an input does not fit.
pub fn forward(
    model: &str,
    checkpoint: &Path,
    input: &Path,
    output: &Path,
    device: &Device,
) -> Result<String> {
    let folder = hub::find(checkpoint, Part::Weights)?;
    let opened = Opened::read(&folder, device).map_err(Failure::weights(checkpoint))?;
    if opened.config.name() != model {
        let problem =
            format!("holds {}, a model of {}, not of {model}", opened.class.name, opened.config.name());
        return Err(Failure::Weights { path: checkpoint.to_owned(), problem });
    }
    let given = safetensors::load(input, device).map_err(Failure::weights(input))?;
    let outputs =
        opened.forward(&Given::new(given.into_iter().collect())).map_err(Failure::weights(input))?;
    let outputs: Tensors = contiguous(outputs)?;
    replace(output, |temporary| {
        ::safetensors::serialize_to_file(&outputs, None, temporary).map_err(std::io::Error::other)
    })?;
    let mut said = format!("{} of {}:", output.display(), opened.class.name);
    for (name, tensor) in &outputs {
        // Writing to a text cannot fail.
        let _ = write!(said, "\n  {name} {:?}", tensor.dims());
    }
    Ok(said)
}

fn contiguous(outputs: Tensors) -> candle_core::Result<Tensors> {
    outputs.into_iter().map(|(name, tensor)| Ok((name, tensor.contiguous()?))).collect()
}

/// The classes that can be read, with the names of their inputs and outputs.
pub fn manual() -> String {
    let mut text =
        "Classes, as `architectures` in config.json names them, with their inputs and outputs:".to_owned();
    for class in classes() {
        let (inputs, outputs) = (class.inputs.join(", "), class.outputs.join(", "));
        let _ = write!(text, "\n  {}\n    takes {inputs}\n    gives {outputs}", class.name);
    }
    text + "\nPlaces that an attention mask hides are zero in what is given."
}

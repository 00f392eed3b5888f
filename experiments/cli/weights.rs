//! `vlp forward` and `vlp export`: weights in the form of their reference, read and written.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use vlp_bench::experiments::failure::Result;
use vlp_bench::experiments::{export, forward, machine};

use super::say;

/// A published checkpoint, and what it is run on.
#[derive(Args)]
pub struct Forward {
    /// The system, one of `vlp list models`
    #[arg(long, value_name = "NAME")]
    model: String,
    /// A folder with config.json and model.safetensors, as `save_pretrained` writes it, or hub:OWNER/NAME
    #[arg(long, value_name = "FOLDER")]
    checkpoint: PathBuf,
    /// A safetensors file of inputs under the reference's names
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// The safetensors file of outputs to write
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// What is computed with
    #[arg(long, default_value = "f32")]
    dtype: Precision,
    /// What computes: auto, cpu or cuda:N
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    device: String,
}

/// Numbers that a forward pass computes with.
#[derive(Clone, Copy, ValueEnum)]
enum Precision {
    F32,
}

impl Forward {
    /// Writes the outputs and says what they are.
    pub fn act(&self) -> Result<u8> {
        let Self { model, checkpoint, input, output, dtype: Precision::F32, device } = self;
        let device = machine::device(device)?;
        say(&forward::forward(model, checkpoint, input, output, &device)?);
        Ok(0)
    }
}

/// A run whose weights are saved.
#[derive(Args)]
pub struct Export {
    /// The directory of a run
    run: PathBuf,
    /// The folder to write config.json and model.safetensors to
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// The reference's class, as `vlp forward --help` lists them; the first of the model's without it
    #[arg(long, value_name = "NAME")]
    class: Option<String>,
}

impl Export {
    /// Writes the weights and says what they are.
    pub fn act(&self) -> Result<u8> {
        say(&export::export(&self.run, self.class.as_deref(), &self.out)?);
        Ok(0)
    }
}

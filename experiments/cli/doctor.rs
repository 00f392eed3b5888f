//! `vlp doctor`: whether this machine can run experiments.

use std::path::PathBuf;

use clap::Args;
use vlp_bench::experiments::doctor::{self, Finding};

use super::say;

/// What is examined.
#[derive(Args)]
pub struct Doctor {
    /// The folder that would keep runs
    #[arg(long, default_value = "runs", value_name = "FOLDER")]
    out: PathBuf,
    /// What would compute: cpu, cuda:N, cuda:N+tf32, or auto for a GPU where one can be used
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    device: String,
}

impl Doctor {
    /// Prints every finding; 1 where something is wrong.
    pub fn act(&self) -> u8 {
        let mut wrong = 0;
        for Finding { subject, found } in doctor::examine(&self.out, &self.device) {
            let text = found.unwrap_or_else(|problem| {
                wrong = 1;
                format!("WRONG: {}", problem.replace('\n', "\n            "))
            });
            say(&format!("{subject:10}  {text}"));
        }
        wrong
    }
}

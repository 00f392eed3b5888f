//! `vlp plan`: what experiments take.

use clap::Args;
use vlp_bench::experiments::agenda::exit_code;
use vlp_bench::experiments::failure::Result;
use vlp_bench::experiments::plan;

use super::meant::Several;
use super::{refuse, say};

/// What is planned.
#[derive(Args)]
pub struct Plan {
    #[command(flatten)]
    several: Several,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

impl Plan {
    /// Prints the grid of one experiment, or a line for each of several.
    pub fn act(&self) -> Result<u8> {
        if let (Some(file), false) = (self.several.single(), self.json) {
            let (experiment, only, options) = self.several.open(file)?;
            say(&plan::plan(&experiment, &only, &options)?.to_string());
            return Ok(0);
        }
        let (mut agenda, options) = self.several.agenda()?;
        let outlook = agenda.outlook(&options, None)?;
        if self.json {
            say(&outlook.json(&agenda.refused).to_string());
        } else if !outlook.rows.is_empty() {
            say(&outlook.to_string());
        }
        refuse("is left out", &agenda.refused);
        refuse("cannot be measured", &outlook.failed);
        Ok(agenda.exit_code().max(exit_code(&outlook.failed)))
    }
}

//! `vlp report`: what runs that are done say.

use std::path::{Path, PathBuf};

use clap::Args;
use vlp_bench::experiments::catalogue;
use vlp_bench::experiments::failure::Result;
use vlp_bench::experiments::fault::Fault;
use vlp_bench::reports::{self, Error, Written};

use super::say;

/// What is reported, and where to.
#[derive(Args)]
pub struct Report {
    /// Directories of runs, or folders of them
    #[arg(required_unless_present = "all")]
    runs: Vec<PathBuf>,
    /// One page on every published ablation, run or not, and a report on each experiment below it
    #[arg(long)]
    all: bool,
    /// The folder of the report
    #[arg(long, default_value = "report", value_name = "FOLDER")]
    out: PathBuf,
}

impl Report {
    /// Writes the report and says which page to open.
    pub fn act(&self) -> Result<u8> {
        let written = if self.all {
            let catalogue = catalogue::catalogue(Path::new("experiments"))?;
            reports::reproduction(&catalogue, &self.runs, &self.out)
        } else {
            reports::report(&self.runs, &self.out)
        };
        say(&page(written)?);
        Ok(0)
    }
}

/// The page of a report to open.
pub fn page(written: std::result::Result<Written, Error>) -> Result<String> {
    let written = written.map_err(|error| Fault::new(error.to_string()))?;
    Ok(written.page.display().to_string())
}

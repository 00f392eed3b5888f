//! `vlp run`: training, evaluation and reports of one experiment or of many.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use vlp_bench::experiments::agenda::{Entry, Row, Worth, work};
use vlp_bench::experiments::budget::{self, Budget};
use vlp_bench::experiments::failure::Result;
use vlp_bench::experiments::run::Options;
use vlp_bench::experiments::suite::{self, Summary};
use vlp_bench::experiments::{Experiment, directory};
use vlp_bench::reports;

use super::meant::Several;
use super::report::page;
use super::{complain, refuse, say};

/// What is run.
#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    several: Several,
    /// Leave out the report
    #[arg(long)]
    no_report: bool,
    /// Stop within this time, e.g. `4h`, `30m` or `90s`, and say how to go on; what tells most comes first
    #[arg(long, value_name = "TIME", value_parser = budget::parse)]
    budget: Option<Duration>,
}

impl Run {
    /// Runs what is not done; the exit code.
    pub fn act(&self) -> Result<u8> {
        match (self.several.single(), self.budget) {
            (Some(file), None) => {
                let (experiment, only, options) = self.several.open(file)?;
                let summary = suite::run_all(&experiment, &only, &options)?;
                self.told(&experiment, &summary, &options)?;
                Ok(summary.exit_code())
            }
            (_, time) => self.all(time.map(Budget::new)),
        }
    }

    /// Runs the experiments that are right, the most informative first.
    fn all(&self, budget: Option<Budget>) -> Result<u8> {
        let (mut agenda, options) = self.several.agenda()?;
        let mut outlook = agenda.outlook(&options, budget.as_ref().map(Budget::planning))?;
        refuse("is left out", &agenda.refused);
        if agenda.entries.is_empty() {
            return Ok(agenda.exit_code());
        }
        let rows = agenda.entries.iter().zip(&outlook.rows);
        let worths: Vec<_> = rows.map(|(entry, row)| Worth::new(entry, &chances(entry, row))).collect();
        let worked = work(&agenda, &mut outlook, &worths, &options, budget.as_ref(), |entry, summary| {
            say(&entry.experiment.name);
            self.told(&entry.experiment, summary, &options)
        });
        worked.faults.iter().for_each(|(_, fault)| complain(fault));
        let more = self.flags();
        let go_on = if worked.left > 0 {
            format!("; go on with: {}", self.several.command(more))
        } else {
            String::new()
        };
        say(&format!("{worked}{go_on}"));
        Ok(worked.exit_code().max(agenda.exit_code()))
    }

    /// Prints what became of an experiment, and reports on it if a run is done.
    fn told(&self, experiment: &Experiment, summary: &Summary, options: &Options) -> Result<()> {
        say(&summary.to_string());
        if !self.no_report && !summary.done.is_empty() {
            let folder = directory::of_experiment(&options.out, experiment).join("report");
            say(&format!("report: {}", page(reports::report(&summary.done, &folder))?));
        }
        Ok(())
    }

    /// The flags of this verb alone that say the same again.
    fn flags(&self) -> Vec<String> {
        let mut flags = Vec::new();
        flags.extend(self.no_report.then(|| "--no-report".to_owned()));
        if let Some(time) = self.budget {
            flags.extend(["--budget".to_owned(), budget::spelt(time)]);
        }
        flags
    }
}

/// The chance that the seeds of an experiment give a claim the verdict that it lacks, by the runs that are done.
fn chances(entry: &Entry, row: &Row) -> Vec<f64> {
    let done: Vec<PathBuf> = row.finished().map(ToOwned::to_owned).collect();
    let effects: Vec<_> = entry.experiment.claims.iter().map(|claim| &claim.effect).collect();
    let seeds = entry.experiment.seeds.len();
    // What cannot be read says nothing: then as much can be learnt as before the first run.
    reports::worth::chances(&done, &effects, seeds).unwrap_or_else(|_| vec![1.0; effects.len()])
}

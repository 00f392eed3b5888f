//! All runs of an experiment: what is done is skipped, what is partial goes on, what failed is tried again.

use std::fmt;
use std::path::PathBuf;

use super::failure::{Failure, Result};
use super::machine;
use super::plan::Estimates;
use super::progress::duration;
use super::run::{Attempted, Options, Outcome, run};
use super::{Arm, Experiment};

/// Which runs of an experiment are meant; all of them where a list is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Only {
    /// Names of arms.
    pub arms: Vec<String>,
    /// Seeds.
    pub seeds: Vec<u64>,
}

impl Only {
    /// The runs that are meant: every arm of one seed before the next seed, so that an experiment that is broken off
    /// has compared its arms.
    pub fn of<'a>(&self, experiment: &'a Experiment) -> Vec<(&'a Arm, u64)> {
        let seeds = experiment.seeds.iter().filter(|seed| self.seeds.is_empty() || self.seeds.contains(seed));
        let arms = |seed: u64| {
            let arms = experiment.arms.iter();
            arms.filter(|arm| self.arms.is_empty() || self.arms.contains(&arm.name))
                .map(move |arm| (arm, seed))
        };
        seeds.flat_map(|seed| arms(*seed)).collect()
    }
}

/// What became of the runs of an experiment.
#[derive(Debug, Default)]
pub struct Summary {
    /// The directories of the runs that are done.
    pub done: Vec<PathBuf>,
    /// How many of them had been done before.
    pub known: usize,
    /// Arm, seed and fault of each run that failed.
    pub failed: Vec<(String, u64, Failure)>,
    /// Whether the time was over before the last run was.
    pub stopped: bool,
    /// Seconds that were planned for runs which are now done, and seconds that they took.
    pub planned: Option<(f64, f64)>,
}

impl Summary {
    /// 0 if every run is done, else the greatest exit code of a fault.
    pub fn exit_code(&self) -> u8 {
        self.failed.iter().map(|(_, _, fault)| fault.exit_code()).max().unwrap_or(0)
    }
}

/// Runs every run that is meant, one after another; a fault in one does not keep the others from running, and the end of
/// the time does.
///
/// # Errors
/// When no run can be written at all, or one asks for what the device does not compute.
pub fn run_all(experiment: &Experiment, only: &Only, options: &Options) -> Result<Summary> {
    let runs = only.of(experiment);
    runs.iter().try_for_each(|(arm, _)| machine::computes(arm, &options.device))?;
    let estimates = Estimates::read(&options.out, experiment);
    let mut summary = Summary::default();
    for (number, (arm, seed)) in runs.iter().enumerate() {
        if options.until.as_ref().is_some_and(|until| until.lacks(0.0)) {
            summary.stopped = true;
            break;
        }
        let title = format!("[{}/{}] {}, seed {seed}", number + 1, runs.len(), arm.name);
        match run(experiment, arm, *seed, options) {
            Ok(Attempted { outcome: Outcome::Stopped, .. }) => {
                if options.until.is_some() {
                    options.show.line(&format!("{title}: time is over, its state is saved"));
                    summary.stopped = true;
                    break;
                }
            }
            Ok(Attempted { outcome: Outcome::Known(_), directory, .. }) => {
                options.show.line(&format!("{title}: done before"));
                summary.known += 1;
                summary.done.push(directory);
            }
            Ok(Attempted { outcome: Outcome::Finished(done), directory, hash }) => {
                let (time, rate) = (duration(done.seconds), done.pairs_per_second);
                options.show.line(&format!("{title}: {} steps in {time}, {rate:.0} pairs/s", done.steps));
                if let Some(planned) = estimates.of(&hash) {
                    let (before, took) = summary.planned.unwrap_or_default();
                    summary.planned = Some((before + planned, took + done.seconds));
                }
                summary.done.push(directory);
            }
            Err(fault @ Failure::Unwritable { .. }) => return Err(fault),
            Err(fault) => {
                options.show.line(&format!("{title}: {fault}"));
                summary.failed.push((arm.name.clone(), *seed, fault));
            }
        }
    }
    Ok(summary)
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.failed.len();
        write!(f, "{} runs done, {} of them before, {failed} failed", self.done.len(), self.known)?;
        if let Some((planned, took)) = self.planned {
            write!(f, "; planned {}, took {}", duration(planned), duration(took))?;
        }
        for (arm, seed, fault) in &self.failed {
            write!(f, "\n{arm}, seed {seed}: {fault}")?;
        }
        Ok(())
    }
}

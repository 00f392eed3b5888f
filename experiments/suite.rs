//! All runs of an experiment: what is done is skipped, what is partial goes on, what failed is tried again.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::failure::{Failure, Result};
use super::machine;
use super::plan::Estimates;
use super::progress::{Show, duration};
use super::run::{Attempted, Options, Outcome, run};
use super::{Arm, Experiment};
use crate::kernels::threads::Lanes;

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
    /// Seconds that were planned for runs which are now done, and seconds that they took; divided by how many went side by
    /// side.
    pub planned: Option<(f64, f64)>,
}

impl Summary {
    /// 0 if every run is done, else the greatest exit code of a fault.
    pub fn exit_code(&self) -> u8 {
        self.failed.iter().map(|(_, _, fault)| fault.exit_code()).max().unwrap_or(0)
    }
}

/// Runs every run that is meant, [`Options::jobs`] of them side by side; a fault in one does not keep the others from running,
/// and the end of the time does.
///
/// # Errors
/// When no run can be written at all, or one asks for what the device does not compute.
pub fn run_all(experiment: &Experiment, only: &Only, options: &Options) -> Result<Summary> {
    let runs = only.of(experiment);
    runs.iter().try_for_each(|(arm, _)| machine::computes(arm, &options.device))?;
    let lanes = Lanes::new(options.jobs.min(runs.len()))?;
    let queue = Queue::new(runs);
    lanes.work(|| {
        while let Some(next) = queue.take(options) {
            let attempted = run(experiment, next.arm, next.seed, options);
            next.told(&attempted, options.show);
            queue.ended(next, attempted);
        }
    });
    let mut summary = queue.summary(&Estimates::read(&options.out, experiment), options)?;
    // Of runs side by side whoever waits sees a share of the time.
    let lanes = lanes.count() as f64;
    summary.planned = summary.planned.map(|(planned, took)| (planned / lanes, took / lanes));
    Ok(summary)
}

/// A run among those that are meant.
#[derive(Clone, Copy)]
struct Next<'a> {
    /// Its place among them, from 0.
    number: usize,
    arm: &'a Arm,
    seed: u64,
    of: usize,
}

impl Next<'_> {
    /// Says how it ended, unless it was asked to stop.
    fn told(&self, attempted: &Result<Attempted>, show: Show) {
        let Self { number, arm, seed, of } = self;
        let what = match attempted {
            Ok(Attempted { outcome: Outcome::Stopped, .. }) => "is stopped, its state is saved".to_owned(),
            Ok(Attempted { outcome: Outcome::Known(_), .. }) => "done before".to_owned(),
            Ok(Attempted { outcome: Outcome::Finished(done), .. }) => {
                let (time, rate) = (duration(done.seconds), done.pairs_per_second);
                format!("{} steps in {time}, {rate:.0} pairs/s", done.steps)
            }
            Err(fault) => fault.to_string(),
        };
        show.line(&format!("[{}/{of}] {}, seed {seed}: {what}", number + 1, arm.name));
    }
}

/// The runs that lanes take one after another.
struct Queue<'a>(Mutex<Lists<'a>>);

struct Lists<'a> {
    left: Vec<Next<'a>>,
    at_work: Vec<Next<'a>>,
    ended: Vec<(Next<'a>, Result<Attempted>)>,
}

impl<'a> Queue<'a> {
    fn new(runs: Vec<(&'a Arm, u64)>) -> Self {
        let of = runs.len();
        let next = |(number, (arm, seed))| Next { number, arm, seed, of };
        let left = runs.into_iter().enumerate().map(next).collect();
        Self(Mutex::new(Lists { left, at_work: Vec::new(), ended: Vec::new() }))
    }

    fn lists(&self) -> MutexGuard<'_, Lists<'a>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next run; none once nothing is left, the time is over or nothing can be written.
    ///
    /// Runs of a seed that another lane works on come last, since they may have to wait for the same stage.
    fn take(&self, options: &Options) -> Option<Next<'a>> {
        let mut lists = self.lists();
        let ends = |ended: &Result<Attempted>| match ended {
            Ok(attempted) => attempted.outcome == Outcome::Stopped && options.until.is_some(),
            Err(fault) => matches!(fault, Failure::Unwritable { .. }),
        };
        let over = options.until.as_ref().is_some_and(|until| until.lacks(0.0));
        if over || lists.left.is_empty() || lists.ended.iter().any(|(_, ended)| ends(ended)) {
            return None;
        }
        let alone = |next: &Next| lists.at_work.iter().all(|other| other.seed != next.seed);
        let place = lists.left.iter().position(alone).unwrap_or(0);
        let next = lists.left.remove(place);
        lists.at_work.push(next);
        Some(next)
    }

    fn ended(&self, next: Next<'a>, attempted: Result<Attempted>) {
        let mut lists = self.lists();
        lists.at_work.retain(|other| other.number != next.number);
        lists.ended.push((next, attempted));
    }

    /// What became of them, in the order in which they were meant.
    fn summary(self, estimates: &Estimates, options: &Options) -> Result<Summary> {
        let Lists { left, mut ended, .. } = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        ended.sort_by_key(|(next, _)| next.number);
        let mut summary =
            Summary { stopped: options.until.is_some() && !left.is_empty(), ..Summary::default() };
        for (next, attempted) in ended {
            match attempted {
                Ok(Attempted { outcome: Outcome::Stopped, .. }) => summary.stopped |= options.until.is_some(),
                Ok(Attempted { outcome: Outcome::Known(_), directory, .. }) => {
                    summary.known += 1;
                    summary.done.push(directory);
                }
                Ok(Attempted { outcome: Outcome::Finished(done), directory, hash }) => {
                    if let Some(planned) = estimates.of(&hash) {
                        let (before, took) = summary.planned.unwrap_or_default();
                        summary.planned = Some((before + planned, took + done.seconds));
                    }
                    summary.done.push(directory);
                }
                Err(fault @ Failure::Unwritable { .. }) => return Err(fault),
                Err(fault) => summary.failed.push((next.arm.name.clone(), next.seed, fault)),
            }
        }
        Ok(summary)
    }
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

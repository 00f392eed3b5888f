//! What an experiment consists of: its arms, and the stages before them, each once for every seed.

use std::path::PathBuf;

use super::probe::{Effort, Probe, probe};
use crate::experiments::directory::{self, Status};
use crate::experiments::failure::Result;
use crate::experiments::feed::Pairs;
use crate::experiments::run::Options;
use crate::experiments::suite::Only;
use crate::experiments::{Arm, Experiment, Rewrite, Run, bootstrap, checkpoint, stage};
use crate::kernels::threads::Lanes;

/// What is done once for each seed: an arm, or a stage that arms share.
pub struct Job<'a> {
    /// The stage's name; none of an arm.
    pub stage: Option<&'a str>,
    /// What it does.
    pub work: Work<'a>,
    /// The arms that it is for, in the file's order.
    arms: Vec<&'a str>,
}

/// What a job does.
#[derive(Clone, Copy, PartialEq)]
pub enum Work<'a> {
    /// A run.
    Train(&'a Run),
    /// A rewriting of pairs.
    Rewrite(&'a Rewrite),
}

impl Work<'_> {
    /// Updates or, of a rewriting, pictures.
    ///
    /// # Errors
    /// When the web pairs cannot be opened.
    pub fn steps(&self) -> Result<u64> {
        match self {
            Self::Train(run) => Ok(run.train.steps),
            Self::Rewrite(rewrite) => bootstrap::pictures(rewrite),
        }
    }

    /// How often everything is evaluated.
    pub fn evaluations(&self) -> u64 {
        match self {
            Self::Train(run) if run.evaluate.is_empty() => 0,
            Self::Train(run) => {
                1 + run.train.evaluate_every.map_or(0, |every| run.train.steps / every.max(1))
            }
            Self::Rewrite(_) => 0,
        }
    }

    /// Finds out what it takes.
    ///
    /// # Errors
    /// When it cannot be done.
    pub fn probe(&self, seed: u64, effort: Effort, options: &Options) -> Result<Probe> {
        match self {
            Self::Rewrite(rewrite) => bootstrap::probe(rewrite, seed, options),
            Self::Train(run) => {
                let pairs = Pairs::open(&run.expected(), &options.words, seed)?;
                // What runs side by side take of each other is part of what they take.
                let probes = Lanes::new(options.jobs)?.work(|| probe(run, seed, &pairs, effort, options));
                probes.into_iter().collect::<Result<Vec<_>>>().map(Probe::mean)
            }
        }
    }
}

/// What is known of a job for one seed.
pub struct State {
    /// Its identity.
    pub hash: String,
    /// Where it keeps what it leaves behind.
    pub directory: PathBuf,
    /// How far it has come.
    pub status: Status,
    /// Updates that its checkpoint holds.
    pub step: u64,
}

impl Job<'_> {
    /// The arm, or `stage NAME` and the arms that need it.
    pub fn label(&self) -> String {
        let arms = self.arms.join(", ");
        self.stage.map_or(arms.clone(), |name| format!("stage {name} ({arms})"))
    }

    /// How far it has come with one seed.
    ///
    /// # Errors
    /// When its data or what it left behind cannot be read.
    pub fn state(&self, experiment: &Experiment, seed: u64, options: &Options) -> Result<State> {
        let (out, name) = (&options.out, self.stage.unwrap_or_default());
        match self.work {
            Work::Rewrite(rewrite) => {
                let place = bootstrap::place(name, rewrite, seed, options)?;
                let (status, step) = place.status()?;
                Ok(State { hash: place.hash, directory: place.directory, status, step })
            }
            Work::Train(run) => {
                let pairs = Pairs::open(&run.expected(), &options.words, seed)?;
                let hash = directory::identity(run, seed, &options.device, &pairs)?;
                let directory = match self.stage {
                    None => directory::place(out, experiment, self.arms[0], seed, &hash),
                    Some(name) => {
                        directory::place(out, &stage::experiment(name, run, seed), name, seed, &hash)
                    }
                };
                let step = checkpoint::peek(&checkpoint::path(&directory))?.map_or(0, |state| state.step);
                Ok(State { status: directory::status(&directory)?, hash, directory, step })
            }
        }
    }
}

/// Every configuration that the runs which are meant need, each once and after those that it begins with, and the seeds.
pub fn jobs<'a>(experiment: &'a Experiment, only: &Only) -> (Vec<Job<'a>>, Vec<u64>) {
    let meant = only.of(experiment);
    let mut seeds: Vec<u64> = meant.iter().map(|(_, seed)| *seed).collect();
    seeds.dedup();
    let (mut jobs, mut last) = (Vec::new(), Vec::new());
    for arm in experiment.arms.iter().filter(|arm| meant.iter().any(|(one, _)| one.name == arm.name)) {
        stages(&arm.run, &arm.name, &mut jobs);
        last.push(own(arm));
    }
    jobs.extend(last);
    (jobs, seeds)
}

fn own(arm: &Arm) -> Job<'_> {
    Job { stage: None, work: Work::Train(&arm.run), arms: vec![&arm.name] }
}

fn stages<'a>(run: &'a Run, arm: &'a str, jobs: &mut Vec<Job<'a>>) {
    for (name, stage) in &run.stages {
        stages(stage, arm, jobs);
        need(name, Work::Train(stage), arm, jobs);
    }
    for (name, rewrite) in &run.rewrites {
        for (name, stage) in &rewrite.stages {
            stages(stage, arm, jobs);
            need(name, Work::Train(stage), arm, jobs);
        }
        need(name, Work::Rewrite(rewrite), arm, jobs);
    }
}

/// Adds a stage that an arm needs, unless it is there.
fn need<'a>(name: &'a str, work: Work<'a>, arm: &'a str, jobs: &mut Vec<Job<'a>>) {
    match jobs.iter_mut().find(|job| job.stage == Some(name) && job.work == work) {
        Some(job) if job.arms.contains(&arm) => {}
        Some(job) => job.arms.push(arm),
        None => jobs.push(Job { stage: Some(name), work, arms: vec![arm] }),
    }
}

//! What the runs of an experiment will take, found by a few real updates and evaluations of each arm.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::checkpoint;
use super::directory::{self, Status};
use super::evaluate::{Subject, gallery::Gallery};
use super::failure::{Failure, Result};
use super::feed::{self, Pairs};
use super::machine;
use super::progress::duration;
use super::run::Options;
use super::stage;
use super::suite::Only;
use super::train::Trainer;
use super::{Arm, Experiment, Rewrite, Run, bootstrap};
use crate::data::combine::First;
use crate::data::{Dataset, Split};
use crate::models::store::Role;

/// Time spent on the updates of one arm, beyond the first two.
const PROBE: Duration = Duration::from_millis(1500);
/// Updates of one arm, beyond the first two.
const UPDATES: u32 = 20;
/// Pairs that are evaluated; the time of a whole split is extrapolated.
const PAIRS: usize = 256;

/// What one arm or stage takes.
#[derive(Clone, Debug)]
pub struct Cost {
    /// The arm, or `stage NAME` and the arms that need it.
    pub arm: String,
    /// Trainable scalars.
    pub parameters: usize,
    /// Floating-point operations of one update.
    pub flops_per_step: f64,
    /// Updates or, where a stage rewrites pairs, pictures.
    pub steps: u64,
    /// Seconds of one update or picture.
    pub step_seconds: f64,
    /// Seconds of all evaluations of one run.
    pub evaluation_seconds: f64,
    /// Bytes on disk of one run.
    pub disk: u64,
}

impl Cost {
    /// Seconds of one whole run.
    pub fn seconds(&self) -> f64 {
        self.steps as f64 * self.step_seconds + self.evaluation_seconds
    }
}

/// One run of the grid, or one stage.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The arm or stage, as in [`Cost::arm`].
    pub arm: String,
    /// The seed.
    pub seed: u64,
    /// How far it has come.
    pub status: Status,
    /// Updates that its checkpoint holds.
    pub step: u64,
    /// Seconds until it is done.
    pub seconds_left: f64,
}

/// The grid of an experiment with what it takes.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What each stage and each arm takes, stages first.
    pub costs: Vec<Cost>,
    /// The stages and the runs, each after those that it begins with.
    pub runs: Vec<Planned>,
    /// The greatest resident memory of the probe in bytes, where it can be known.
    pub memory: Option<u64>,
}

/// Estimated seconds of whole runs by identity, as kept beside the runs until they are done.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Estimates(BTreeMap<String, f64>);

impl Estimates {
    fn path(out: &Path, experiment: &Experiment) -> PathBuf {
        directory::of_experiment(out, experiment).join("plan.json")
    }

    /// What was planned for this experiment; nothing if it was not.
    pub fn read(out: &Path, experiment: &Experiment) -> Self {
        // An estimate that cannot be read is no reason to keep a run from running.
        let text = std::fs::read(Self::path(out, experiment)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    fn write(&self, out: &Path, experiment: &Experiment) -> Result<()> {
        let path = Self::path(out, experiment);
        if let Some(directory) = path.parent() {
            let fault = |source| Failure::Unwritable { path: directory.to_owned(), source };
            std::fs::create_dir_all(directory).map_err(fault)?;
        }
        let text = serde_json::to_vec(self).map_err(|fault| Failure::storage(&path)(fault.into()))?;
        checkpoint::replace(&path, |temporary| std::fs::write(temporary, text))
    }

    /// Seconds that were planned for a run.
    pub fn of(&self, hash: &str) -> Option<f64> {
        self.0.get(hash).copied()
    }
}

/// What is done once for each seed: an arm, or a stage that arms share.
struct Job<'a> {
    /// The stage's name; none of an arm.
    stage: Option<&'a str>,
    work: Work<'a>,
    /// The arms that it is for, in the file's order.
    arms: Vec<&'a str>,
}

/// What a job does.
#[derive(Clone, Copy, PartialEq)]
enum Work<'a> {
    Train(&'a Run),
    Rewrite(&'a Rewrite),
}

/// What is known of a job for one seed.
struct State {
    hash: String,
    status: Status,
    step: u64,
}

impl Job<'_> {
    fn label(&self) -> String {
        let arms = self.arms.join(", ");
        self.stage.map_or(arms.clone(), |name| format!("stage {name} ({arms})"))
    }

    /// What it takes, found with the first seed.
    fn cost(&self, seed: u64, options: &Options) -> Result<Cost> {
        options.show.line(&format!("probing {}", self.label()));
        let cost = match self.work {
            Work::Rewrite(rewrite) => bootstrap::probe(rewrite, seed, options)?,
            Work::Train(run) => {
                probe(run, seed, &Pairs::open(&run.expected(), &options.words, seed)?, options)?
            }
        };
        Ok(Cost { arm: self.label(), ..cost })
    }

    /// How far it has come with one seed.
    fn state(&self, experiment: &Experiment, seed: u64, options: &Options) -> Result<State> {
        let (out, name) = (&options.out, self.stage.unwrap_or_default());
        match self.work {
            Work::Rewrite(rewrite) => {
                let place = bootstrap::place(name, rewrite, seed, options)?;
                let (status, step) = place.status()?;
                Ok(State { hash: place.hash, status, step })
            }
            Work::Train(run) => {
                let pairs = Pairs::open(&run.expected(), &options.words, seed)?;
                let hash = directory::identity(run, seed, &options.device, &pairs)?;
                let place = match self.stage {
                    None => directory::place(out, experiment, self.arms[0], seed, &hash),
                    Some(name) => {
                        directory::place(out, &stage::experiment(name, run, seed), name, seed, &hash)
                    }
                };
                let step = checkpoint::peek(&checkpoint::path(&place))?.map_or(0, |state| state.step);
                Ok(State { status: directory::status(&place)?, hash, step })
            }
        }
    }
}

/// Every configuration that the arms need, each once and after those that it begins with.
fn jobs<'a>(arms: impl Iterator<Item = &'a Arm>) -> Vec<Job<'a>> {
    let mut jobs = Vec::new();
    let mut last = Vec::new();
    for arm in arms {
        stages(&arm.run, &arm.name, &mut jobs);
        last.push(Job { stage: None, work: Work::Train(&arm.run), arms: vec![&arm.name] });
    }
    jobs.extend(last);
    jobs
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

/// Expands the grid, probes every arm and keeps the estimates for the comparison afterwards.
///
/// # Errors
/// When an arm cannot be trained or evaluated on this device, or the estimates cannot be written.
pub fn plan(experiment: &Experiment, only: &Only, options: &Options) -> Result<Plan> {
    let (mut costs, mut before, mut runs) = (Vec::new(), Vec::new(), Vec::new());
    let mut estimates = Estimates::read(&options.out, experiment);
    let meant = only.of(experiment);
    let mut seeds: Vec<u64> = meant.iter().map(|(_, seed)| *seed).collect();
    seeds.dedup();
    meant.iter().try_for_each(|(arm, _)| machine::computes(arm, &options.device))?;
    let arms = experiment.arms.iter().filter(|arm| meant.iter().any(|(one, _)| one.name == arm.name));
    for job in jobs(arms) {
        let mut cost: Option<Cost> = None;
        for &seed in &seeds {
            if cost.is_none() {
                cost = Some(job.cost(seed, options)?);
            }
            let Some(cost) = &cost else { continue };
            let State { hash, status, step } = job.state(experiment, seed, options)?;
            let share = if cost.steps == 0 { 0.0 } else { 1.0 - step as f64 / cost.steps as f64 };
            let seconds_left = if matches!(status, Status::Done(_)) { 0.0 } else { share * cost.seconds() };
            estimates.0.insert(hash, cost.seconds());
            let planned = Planned { arm: cost.arm.clone(), seed, status, step, seconds_left };
            if job.stage.is_some() { before.push(planned) } else { runs.push(planned) }
        }
        costs.extend(cost);
    }
    estimates.write(&options.out, experiment)?;
    runs.sort_by_key(|run| seeds.iter().position(|seed| *seed == run.seed));
    let runs = before.into_iter().chain(runs).collect();
    Ok(Plan { costs, runs, memory: machine::peak_memory() })
}

fn probe(run: &Run, seed: u64, pairs: &Pairs, options: &Options) -> Result<Cost> {
    let device = &options.device;
    let mut loader = pairs.loader(run.train.batch, seed, 0)?;
    let steps_per_epoch = loader.steps_per_epoch();
    // What a step takes does not depend on the values that it begins with.
    let mut trainer = Trainer::new(run, &pairs.inputs, steps_per_epoch, seed, device, &BTreeMap::new())?;
    let flops_per_step = trainer.flops(&feed::batch(loader.next_batch()?, pairs, device)?)?;
    let mut update = || -> Result<()> {
        let batch = feed::batch(loader.next_batch()?, pairs, device)?;
        // Reading a figure waits for the device.
        trainer.update(&batch)?.get("loss").map(candle_core::Tensor::to_scalar::<f32>).transpose()?;
        Ok(())
    };
    update()?;
    update()?;
    let (begun, mut made) = (Instant::now(), 0);
    while made == 0 || (made < UPDATES && begun.elapsed() < PROBE) {
        update()?;
        made += 1;
    }
    let step_seconds = begun.elapsed().as_secs_f64() / f64::from(made);
    let store = &trainer.store;
    let elements: usize = store.entries().values().map(|entry| entry.var.elem_count()).sum();
    let parameters = store.count(Role::Trainable);
    Ok(Cost {
        arm: String::new(),
        parameters,
        flops_per_step,
        steps: run.train.steps,
        step_seconds,
        evaluation_seconds: evaluation_seconds(run, &trainer, pairs, options)?,
        disk: 4 * (elements + 2 * parameters) as u64,
    })
}

/// Seconds of all evaluations of one run: the split is opened once and measured several times.
fn evaluation_seconds(run: &Run, trainer: &Trainer, pairs: &Pairs, options: &Options) -> Result<f64> {
    let Some(dataset) = pairs.split(Split::Test).filter(|_| !run.evaluate.is_empty()) else { return Ok(0.0) };
    let first = First::new(dataset.clone(), PAIRS);
    let scale = dataset.len() as f64 / first.len().max(1) as f64;
    let begun = Instant::now();
    let gallery = Gallery::open(&first, pairs, &options.device)?;
    let opening = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let subject = Subject::new(run, &trainer.store, pairs, &gallery)?;
    let shown = subject.show()?;
    for config in &run.evaluate {
        config.measure(&subject, &shown)?;
    }
    let on_the_way = run.train.evaluate_every.map_or(0, |every| run.train.steps / every.max(1));
    Ok(scale * (opening + begun.elapsed().as_secs_f64() * (1 + on_the_way) as f64))
}

impl Plan {
    /// Seconds until every run is done.
    pub fn seconds_left(&self) -> f64 {
        self.runs.iter().map(|run| run.seconds_left).sum()
    }

    /// Bytes on disk of all runs.
    pub fn disk(&self) -> u64 {
        let disk =
            |run: &Planned| self.costs.iter().find(|cost| cost.arm == run.arm).map_or(0, |cost| cost.disk);
        self.runs.iter().map(disk).sum()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.costs.iter().map(|cost| cost.arm.chars().count()).max().unwrap_or(0).max(3);
        let head = ["parameters", "GFLOP/step", "steps", "ms/step", "evaluation", "a run", "done", "left"];
        write!(f, "{:width$}", "arm")?;
        head.iter().try_for_each(|title| write!(f, "  {title:>10}"))?;
        for cost in &self.costs {
            let runs = || self.runs.iter().filter(|run| run.arm == cost.arm);
            let done = runs().filter(|run| matches!(run.status, Status::Done(_))).count();
            let left: f64 = runs().map(|run| run.seconds_left).sum();
            let cells = [
                cost.parameters.to_string(),
                format!("{:.2}", cost.flops_per_step / 1e9),
                cost.steps.to_string(),
                format!("{:.1}", 1e3 * cost.step_seconds),
                duration(cost.evaluation_seconds),
                duration(cost.seconds()),
                format!("{done}/{}", runs().count()),
                duration(left),
            ];
            write!(f, "\n{:width$}", cost.arm)?;
            cells.iter().try_for_each(|cell| write!(f, "  {cell:>10}"))?;
        }
        for run in &self.runs {
            match &run.status {
                Status::Failed(reason) => {
                    let first = reason.lines().next().unwrap_or_default();
                    write!(
                        f,
                        "\n{}, seed {}: failed before, will be tried again: {first}",
                        run.arm, run.seed
                    )?;
                }
                Status::Partial => {
                    write!(f, "\n{}, seed {}: goes on from step {}", run.arm, run.seed, run.step)?
                }
                Status::New | Status::Done(_) => {}
            }
        }
        let memory = self.memory.map_or_else(|| "unknown".to_owned(), bytes);
        write!(f, "\n{} runs, {} left, ", self.runs.len(), duration(self.seconds_left()))?;
        write!(f, "memory {memory}, disk {}", bytes(self.disk()))
    }
}

/// Bytes as people say them.
pub fn bytes(count: u64) -> String {
    match count as f64 {
        b if b < 1e6 => format!("{:.0} kB", b / 1e3),
        b if b < 1e9 => format!("{:.0} MB", b / 1e6),
        b => format!("{:.1} GB", b / 1e9),
    }
}

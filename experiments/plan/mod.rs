//! What the runs of an experiment will take, found by a few real updates and evaluations of each arm.

mod estimates;
mod jobs;
mod probe;

use std::fmt;

use super::Experiment;
use super::directory::Status;
use super::failure::Result;
use super::machine;
use super::progress::duration;
use super::run::Options;
use super::suite::Only;
pub use estimates::Estimates;
pub use jobs::{Job, State, Work, jobs};
pub use probe::{Effort, Memory, Probe, Probes, key};

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
    /// What it takes by its probe.
    ///
    /// # Errors
    /// When the web pairs of a stage cannot be opened.
    pub fn new(job: &Job, probe: &Probe) -> Result<Self> {
        let evaluations = job.work.evaluations() as f64;
        Ok(Self {
            arm: job.label(),
            parameters: probe.parameters,
            flops_per_step: probe.flops_per_step,
            steps: job.work.steps()?,
            step_seconds: probe.step_seconds,
            evaluation_seconds: probe.opening_seconds + evaluations * probe.evaluation_seconds,
            disk: probe.disk,
        })
    }

    /// Seconds of one whole run.
    pub fn seconds(&self) -> f64 {
        self.steps as f64 * self.step_seconds + self.evaluation_seconds
    }

    /// Seconds until a run is done that has come so far.
    pub fn seconds_left(&self, status: &Status, step: u64) -> f64 {
        let share = if self.steps == 0 { 0.0 } else { 1.0 - step as f64 / self.steps as f64 };
        if matches!(status, Status::Done(_)) { 0.0 } else { share * self.seconds() }
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
    /// How many runs go side by side.
    pub jobs: usize,
}

/// Seconds until everything is done that takes so many each, if `jobs` are at work and each takes the next when it is free.
pub fn elapsed(seconds: impl IntoIterator<Item = f64>, jobs: usize) -> f64 {
    let mut busy = vec![0.0; jobs.max(1)];
    for seconds in seconds {
        busy.sort_by(f64::total_cmp);
        busy[0] += seconds;
    }
    busy.into_iter().fold(0.0, f64::max)
}

/// Expands the grid, probes every arm and keeps the estimates for the comparison afterwards.
///
/// # Errors
/// When an arm cannot be trained or evaluated on this device, or the estimates cannot be written.
pub fn plan(experiment: &Experiment, only: &Only, options: &Options) -> Result<Plan> {
    let (mut costs, mut before, mut runs) = (Vec::new(), Vec::new(), Vec::new());
    let mut estimates = Estimates::read(&options.out, experiment);
    // Probes that were kept are passed over: whoever plans one experiment wants to know what it takes now.
    let mut probes = Probes::default();
    only.of(experiment).iter().try_for_each(|(arm, _)| machine::computes(arm, &options.device))?;
    let (jobs, seeds) = jobs(experiment, only);
    for job in jobs {
        let Some(first) = seeds.first() else { continue };
        let cost = Cost::new(&job, probes.of(&job, *first, Effort::Thorough, options)?)?;
        for &seed in &seeds {
            let State { hash, status, step, .. } = job.state(experiment, seed, options)?;
            let seconds_left = cost.seconds_left(&status, step);
            estimates.insert(hash, cost.seconds());
            let planned = Planned { arm: cost.arm.clone(), seed, status, step, seconds_left };
            if job.stage.is_some() { before.push(planned) } else { runs.push(planned) }
        }
        costs.push(cost);
    }
    estimates.write(&options.out, experiment)?;
    probes.write(&options.out)?;
    runs.sort_by_key(|run| seeds.iter().position(|seed| *seed == run.seed));
    let runs = before.into_iter().chain(runs).collect();
    Ok(Plan { costs, runs, memory: machine::peak_memory(&options.device), jobs: options.jobs })
}

impl Plan {
    /// Seconds until every run is done.
    pub fn seconds_left(&self) -> f64 {
        elapsed(self.runs.iter().map(|run| run.seconds_left), self.jobs)
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

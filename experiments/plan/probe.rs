//! A few real updates and evaluations of a configuration tell what any number of them take.
//!
//! Configurations that differ only in what takes no time (the number of updates, the rate and its course) have one probe,
//! in whichever arm or file they stand. Probes are kept below `--out`, by everything that decides them: the configuration,
//! the program and the machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use candle_core::Device;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::jobs::{Job, Work};
use crate::data::combine::First;
use crate::data::pack::hexadecimal;
use crate::data::{Dataset, Sources, Split};
use crate::experiments::evaluate::{Subject, gallery::Gallery};
use crate::experiments::failure::{Failure, Result};
use crate::experiments::feed::{self, Pairs};
use crate::experiments::run::Options;
use crate::experiments::train::Trainer;
use crate::experiments::{Run, Select, Train, checkpoint, machine};
use crate::models::store::Role;

/// Updates that are timed at most.
const UPDATES: u32 = 20;
/// Pairs that are evaluated; the time of a whole split is extrapolated.
const PAIRS: usize = 256;

/// How long the updates of one configuration are timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// For one experiment.
    Thorough,
    /// For many.
    Brief,
}

impl Effort {
    fn time(self) -> Duration {
        Duration::from_millis(if self == Self::Thorough { 1500 } else { 400 })
    }

    /// Updates that come before, in which memory is asked for the first time.
    fn before(self) -> u32 {
        if self == Self::Thorough { 2 } else { 1 }
    }
}

/// What a configuration takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Trainable scalars.
    pub parameters: usize,
    /// Floating-point operations of one update, or of one picture that is rewritten.
    pub flops_per_step: f64,
    /// Seconds of one update or picture.
    pub step_seconds: f64,
    /// Seconds to open the pairs that are evaluated, once a run.
    pub opening_seconds: f64,
    /// Seconds of all evaluations, each time.
    pub evaluation_seconds: f64,
    /// Bytes on disk of one run.
    pub disk: u64,
    /// What it takes of memory, where the system tells.
    pub memory: Option<Memory>,
}

impl Probe {
    /// What the same work takes where it is done several times at once: the mean of the times, and the memory of all.
    pub(super) fn mean(all: Vec<Self>) -> Self {
        let mean = |of: fn(&Self) -> f64| all.iter().map(of).sum::<f64>() / all.len() as f64;
        let (step_seconds, opening_seconds) = (mean(|one| one.step_seconds), mean(|one| one.opening_seconds));
        let evaluation_seconds = mean(|one| one.evaluation_seconds);
        let memory = all.iter().filter_map(|one| one.memory).reduce(Memory::or);
        let Self { parameters, flops_per_step, disk, .. } = all[0];
        Self { parameters, flops_per_step, step_seconds, opening_seconds, evaluation_seconds, disk, memory }
    }
}

/// The most memory, of the device, of a process that did some work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// In bytes.
    pub bytes: u64,
    /// Whether the process had taken as much before: then the work takes at most that.
    pub at_most: bool,
}

impl Memory {
    /// What this process has taken since it had taken `before`.
    pub fn since(before: Option<u64>, device: &Device) -> Option<Self> {
        machine::peak_memory(device).map(|bytes| Self { bytes, at_most: before == Some(bytes) })
    }

    /// What both take that are not done at once.
    pub fn or(self, other: Self) -> Self {
        match self.bytes.cmp(&other.bytes) {
            std::cmp::Ordering::Greater => self,
            std::cmp::Ordering::Less => other,
            std::cmp::Ordering::Equal => Self { at_most: self.at_most && other.at_most, ..self },
        }
    }
}

/// Probes by what was probed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Probes(BTreeMap<String, Probe>);

impl Probes {
    fn path(out: &Path) -> PathBuf {
        out.join("probes.json")
    }

    /// Those that were kept below `out`.
    pub fn read(out: &Path) -> Self {
        // What cannot be read is probed again.
        let text = std::fs::read(Self::path(out)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Keeps them below `out`, beside those that other commands have kept.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(&self, out: &Path) -> Result<()> {
        let path = Self::path(out);
        std::fs::create_dir_all(out)
            .map_err(|source| Failure::Unwritable { path: out.to_owned(), source })?;
        let mut all = Self::read(out);
        all.0.extend(self.0.clone());
        let text = serde_json::to_vec(&all).map_err(|fault| Failure::storage(&path)(fault.into()))?;
        checkpoint::replace(&path, |temporary| std::fs::write(temporary, text))
    }

    /// The probe with this key.
    pub fn get(&self, key: &str) -> Option<&Probe> {
        self.0.get(key)
    }

    /// The probe of a job, which is made where there is none.
    ///
    /// # Errors
    /// When the job cannot be done.
    pub fn of(&mut self, job: &Job, seed: u64, effort: Effort, options: &Options) -> Result<&Probe> {
        let key = key(job.work, options)?;
        if !self.0.contains_key(&key) {
            options.show.line(&format!("probing {}", job.label()));
            self.0.insert(key.clone(), job.work.probe(seed, effort, options)?);
        }
        Ok(&self.0[&key])
    }
}

/// What decides what some work takes: a hash of the configuration without what takes no time, the program and the machine.
///
/// # Errors
/// When the configuration cannot be written as JSON.
pub fn key(work: Work, options: &Options) -> Result<String> {
    let config = match work {
        Work::Train(run) => serde_json::to_string(&decisive(run)),
        Work::Rewrite(rewrite) => serde_json::to_string(rewrite),
    };
    let all = config.and_then(|config| {
        let words = options.words.encoder.fingerprint();
        let machine = machine::describe(&options.device);
        serde_json::to_string(&(config, words, machine::program(), machine, options.jobs))
    });
    let all =
        all.map_err(|fault| candle_core::Error::Msg(format!("a configuration cannot be written: {fault}")))?;
    Ok(hexadecimal(&Sha256::digest(all)))
}

/// The configuration without what takes no time, and the web pairs that stand for those which stages make of them.
fn decisive(run: &Run) -> (Run, Vec<&Sources>) {
    let Train { steps, rate, warmup, schedule, final_rate, .. } = Train::default();
    let Train { weight_decay, betas, eps, log, evaluate_every, checkpoint, .. } = Train::default();
    let constant = Train { steps, rate, warmup, schedule, final_rate, ..run.train.clone() };
    let train = Train { weight_decay, betas, eps, log, evaluate_every, checkpoint, ..constant };
    let (stages, rewrites, start) = Default::default();
    let web = run.rewrites.values().map(|rewrite| &rewrite.settings.web).collect();
    (Run { stages, rewrites, start, train, select: Select::default(), ..run.clone() }, web)
}

/// Finds out what a run takes.
pub(super) fn probe(run: &Run, seed: u64, pairs: &Pairs, effort: Effort, options: &Options) -> Result<Probe> {
    let device = &options.device;
    let before = machine::peak_memory(device);
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
    (0..effort.before()).try_for_each(|_| update())?;
    let (begun, mut made) = (Instant::now(), 0);
    while made == 0 || (made < UPDATES && begun.elapsed() < effort.time()) {
        update()?;
        made += 1;
    }
    let step_seconds = begun.elapsed().as_secs_f64() / f64::from(made);
    let store = &trainer.store;
    let elements: usize = store.entries().values().map(|entry| entry.var.elem_count()).sum();
    let parameters = store.count(Role::Trainable);
    let (opening_seconds, evaluation_seconds) = evaluation(run, &trainer, pairs, options)?;
    Ok(Probe {
        parameters,
        flops_per_step,
        step_seconds,
        opening_seconds,
        evaluation_seconds,
        disk: 4 * (elements + 2 * parameters) as u64,
        memory: Memory::since(before, device),
    })
}

/// Seconds to open the reported split and to evaluate everything once.
fn evaluation(run: &Run, trainer: &Trainer, pairs: &Pairs, options: &Options) -> Result<(f64, f64)> {
    let Some(dataset) = pairs.split(Split::Test).filter(|_| !run.evaluate.is_empty()) else {
        return Ok((0.0, 0.0));
    };
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
    Ok((scale * opening, scale * begun.elapsed().as_secs_f64()))
}

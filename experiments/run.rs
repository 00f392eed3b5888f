//! One run from its first update, or from its checkpoint, to its last record.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::Device;

use super::beginning;
use super::bootstrap;
use super::budget::{Pace, Until};
use super::checkpoint::{self, State};
use super::directory::{self, Status};
use super::evaluate::{Subject, examples::examples, gallery::Gallery};
use super::failure::{Failure, Result};
use super::feed::{self, Pairs, Words};
use super::header::header;
use super::journal::{self, Journal};
use super::machine;
use super::meter::Meter;
use super::progress::{Progress, Show};
use super::record::{Done, Evaluation, Failed, Record, Rewritten, TrainFigures};
use super::train::Trainer;
use super::{Arm, Experiment, Run, Step};
use crate::data::Split;
use crate::kernels::threads;

/// How runs are run; nothing here changes what they find.
#[derive(Clone)]
pub struct Options {
    /// Below which runs keep their directories.
    pub out: PathBuf,
    /// What computes.
    pub device: Device,
    /// How captions become tokens.
    pub words: Words,
    /// How progress is shown.
    pub show: Show,
    /// How many runs go side by side, sharing the threads.
    pub jobs: usize,
    /// The command that reruns the experiment, for the records.
    pub command: String,
    /// Ends the process's work on a run after this many updates, as if it were interrupted.
    pub stop_at: Option<u64>,
    /// When this process's work must be over.
    pub until: Option<Until>,
}

/// An attempt that met no fault.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempted {
    /// The run's directory.
    pub directory: PathBuf,
    /// The run's identity.
    pub hash: String,
    /// How it ended.
    pub outcome: Outcome,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The run had been done before.
    Known(Done),
    /// The run is done.
    Finished(Done),
    /// The run, or a stage before it, stopped where it was told to or because its time was over; it can be taken up again.
    Stopped,
}

/// Trains and evaluates one run, from its checkpoint if it has one.
///
/// # Errors
/// When the run cannot begin or stops on a fault, which is then its last record; its directory is kept.
pub fn run(experiment: &Experiment, arm: &Arm, seed: u64, options: &Options) -> Result<Attempted> {
    machine::computes(arm, &options.device)?;
    let pairs = Pairs::open(&arm.run.expected(), &options.words, seed)?;
    let hash = directory::identity(&arm.run, seed, &options.device, &pairs)?;
    let directory = directory::place(&options.out, experiment, &arm.name, seed, &hash);
    let _lock = directory::enter(&directory)?;
    if let Status::Done(done) = directory::status(&directory)? {
        return Ok(Attempted { directory, hash, outcome: Outcome::Known(done) });
    }
    let begun = bootstrap::resolve(arm, seed, options).and_then(|(data, rewritten)| {
        let pairs = if rewritten.is_empty() { pairs } else { Pairs::open(&data, &options.words, seed)? };
        Attempt::begin(experiment, arm, seed, options, (pairs, rewritten), &hash, &directory)
    });
    let mut attempt = match begun {
        Ok(attempt) => attempt,
        Err(Failure::OutOfTime) => return Ok(Attempted { directory, hash, outcome: Outcome::Stopped }),
        Err(fault) => return Err(fault),
    };
    match attempt.finish() {
        Ok(outcome) => Ok(Attempted { directory, hash, outcome }),
        Err(fault) => {
            attempt.progress.end();
            let failed = Failed { step: attempt.trainer.updates, reason: fault.to_string() };
            // The fault itself is what the caller must hear of; a full disk may refuse the record of it.
            drop(attempt.journal.write(&Record::Failed(failed)));
            Err(fault)
        }
    }
}

struct Attempt<'a> {
    arm: &'a Arm,
    seed: u64,
    options: &'a Options,
    pairs: Pairs,
    hash: &'a str,
    directory: &'a Path,
    trainer: Trainer,
    journal: Journal,
    meter: Meter,
    progress: Progress,
    galleries: BTreeMap<Split, Gallery>,
    best: Option<(u64, f64)>,
    /// Seconds of training and of evaluation before this attempt, and within it.
    trained: f64,
    evaluated: f64,
    saved: (u64, Instant),
    pace: Pace,
}

impl<'a> Attempt<'a> {
    fn begin(
        experiment: &Experiment,
        arm: &'a Arm,
        seed: u64,
        options: &'a Options,
        (pairs, rewritten): (Pairs, Vec<Rewritten>),
        hash: &'a str,
        directory: &'a Path,
    ) -> Result<Self> {
        let (run, device) = (&arm.run, &options.device);
        let steps_per_epoch = (pairs.train.len() / run.train.batch.max(1)) as u64;
        let beginning = beginning::begin(arm, seed, &pairs.inputs, options)?;
        let mut trainer = Trainer::new(run, &pairs.inputs, steps_per_epoch, seed, device, &beginning.values)?;
        if let Some(pattern) = trainer.store.idle_patterns().first() {
            let fault = arm.fault("train.freeze", format!("`{pattern}` names no parameter of this run"));
            return Err(fault.into());
        }
        let path = checkpoint::path(directory);
        let kept = checkpoint::load(&path, hash, device)?;
        let state = match kept {
            None => None,
            Some((state, store, moments)) => {
                trainer.resume((state.step, &state.counts), &store, &moments).map_err(|fault| {
                    Failure::Checkpoint { path: path.clone(), problem: fault.to_string() }
                })?;
                Some(state)
            }
        };
        let mut journal = Journal::open(directory, state.as_ref().map_or(0, |state| state.records))?;
        if state.is_none() {
            let first = pairs.loader(run.train.batch, seed, 0)?.next_batch()?;
            let flops = trainer.flops(&feed::batch(first, &pairs, device)?)?;
            let known = (&trainer.store, flops);
            let mut header = header(experiment, arm, seed, hash, &pairs, known, &options.command)?;
            header.start = beginning.from;
            describe(directory, experiment, arm, seed)?;
            journal.write(&Record::Run(Box::new(header)))?;
            for made in rewritten {
                journal.write(&Record::Rewritten(made))?;
            }
        }
        let state = state.unwrap_or_else(|| State::new(hash, 0));
        let title = format!("{}, {}, seed {seed}", experiment.name, arm.name);
        Ok(Self {
            progress: Progress::new(options.show, &title, state.step, run.train.steps),
            meter: Meter::resume(&state.sums, device)?,
            arm,
            seed,
            options,
            pairs,
            hash,
            directory,
            trainer,
            journal,
            galleries: BTreeMap::new(),
            best: state.best,
            trained: state.trained,
            evaluated: state.evaluated,
            saved: (state.step, Instant::now()),
            pace: Pace::new(options.until.as_ref(), hash),
        })
    }

    fn run(&self) -> &'a Run {
        &self.arm.run
    }

    fn finish(&mut self) -> Result<Outcome> {
        let train = &self.run().train;
        let mut loader = self.pairs.loader(train.batch, self.seed, self.trainer.updates)?;
        while self.trainer.updates < train.steps {
            if self.pace.lacks_time(train, self.trainer.updates) {
                return self.pause();
            }
            let begun = Instant::now();
            let batch = feed::batch(loader.next_batch()?, &self.pairs, &self.options.device)?;
            self.meter.add(self.trainer.update(&batch)?)?;
            let seconds = begun.elapsed().as_secs_f64();
            self.trained += seconds;
            self.pace.updated(seconds);
            let step = self.trainer.updates;
            let last = step == train.steps;
            let loss = if last || step.is_multiple_of(train.log.max(1)) { Some(self.log()?) } else { None };
            self.progress.update(step, loss);
            if last || train.evaluate_every.is_some_and(|every| step.is_multiple_of(every.max(1))) {
                self.watch(last)?;
            }
            let stop = self.options.stop_at.is_some_and(|stop| step >= stop) && !last;
            if last || stop || self.is_due() {
                self.save()?;
            }
            if stop {
                return self.pause();
            }
        }
        drop(loader);
        if train.steps == 0 {
            // Nothing was saved on the way, and others may begin with this run.
            self.save()?;
        }
        if self.pace.lacks_time(train, self.trainer.updates) {
            return self.pause();
        }
        self.conclude().map(Outcome::Finished)
    }

    /// Leaves the run so that a later attempt goes on from here.
    fn pause(&mut self) -> Result<Outcome> {
        if self.trainer.updates > self.saved.0 {
            self.save()?;
        }
        self.progress.end();
        Ok(Outcome::Stopped)
    }

    /// Records the means since the last record; the mean loss.
    fn log(&mut self) -> Result<f64> {
        let (step, values) = (self.trainer.updates, self.meter.read()?);
        if let Some((name, _)) = values.iter().find(|(_, value)| !value.is_finite()) {
            let (objective, what) = name.split_once('.').unwrap_or((name, "the mean"));
            return Err(Failure::NonFinite { objective: objective.to_owned(), what: what.to_owned(), step });
        }
        let loss = values.get("loss").copied().unwrap_or(0.0);
        self.journal.write(&Record::Train(TrainFigures { step, values, seconds: self.trained }))?;
        Ok(loss)
    }

    fn is_due(&self) -> bool {
        let (step, since) = self.saved;
        let config = &self.run().train.checkpoint;
        config.steps.is_some_and(|steps| self.trainer.updates - step >= steps.max(1))
            || config.seconds.is_some_and(|seconds| since.elapsed().as_secs_f64() >= seconds)
    }

    fn state(&self) -> Result<State> {
        let mut state = State::new(self.hash, self.trainer.updates);
        state.records = self.journal.sync()?;
        state.trained = self.trained;
        state.evaluated = self.evaluated;
        state.sums = self.meter.sums()?;
        state.counts = self.trainer.counts().clone();
        state.best = self.best;
        Ok(state)
    }

    fn save(&mut self) -> Result<()> {
        let begun = Instant::now();
        let store = self.trainer.store.tensors();
        checkpoint::save(&checkpoint::path(self.directory), self.state()?, &store, self.trainer.moments())?;
        self.saved = (self.trainer.updates, Instant::now());
        self.pace.saved(begun.elapsed().as_secs_f64());
        Ok(())
    }

    /// Evaluates on the way: on the split that selects, where one does, else on the reported one, whose last step is
    /// for [`Attempt::conclude`].
    fn watch(&mut self, last: bool) -> Result<()> {
        match &self.run().select.step {
            Step::Last if last => Ok(()),
            Step::Last => self.evaluate(Split::Test, self.trainer.updates, false).map(drop),
            Step::BestOn { split, metric } => {
                let step = self.trainer.updates;
                let values = self.evaluate(*split, step, false)?;
                let value = values.get(metric).copied().unwrap_or(f64::NEG_INFINITY);
                if self.best.is_none_or(|(_, best)| value > best) {
                    self.best = Some((step, value));
                    let store = self.trainer.store.tensors();
                    let state = State::new(self.hash, step);
                    checkpoint::save(&best(self.directory), state, &store, &BTreeMap::new())?;
                }
                Ok(())
            }
        }
    }

    /// Evaluates the reported step and ends the run.
    fn conclude(&mut self) -> Result<Done> {
        let steps = self.trainer.updates;
        let weights = checkpoint::digest(&self.trainer.store.tensors())?;
        let mut reported = steps;
        if let Some((step, _)) = self.best {
            let path = best(self.directory);
            let problem = |problem: String| Failure::Checkpoint { path: path.clone(), problem };
            let (_, store, _) = checkpoint::load(&path, self.hash, &self.options.device)?
                .ok_or_else(|| problem("the weights of the selected step are missing".to_owned()))?;
            self.trainer.store.load(&store).map_err(|fault| problem(fault.to_string()))?;
            reported = step;
        }
        self.evaluate(Split::Test, reported, true)?;
        let pairs = (steps * self.run().train.batch as u64) as f64;
        let done = Done {
            steps,
            seconds: self.trained + self.evaluated,
            pairs_per_second: pairs / self.trained.max(1e-9),
            // What others take at the same time is none of this run's.
            peak_memory: machine::peak_memory(&self.options.device).filter(|_| threads::side_by_side() == 1),
            weights,
        };
        self.journal.write(&Record::Done(done.clone()))?;
        self.journal.sync()?;
        journal::write_metrics(self.directory)?;
        self.progress.end();
        Ok(done)
    }

    /// Every evaluation of the file on one split; the values by name.
    fn evaluate(&mut self, split: Split, step: u64, selected: bool) -> Result<BTreeMap<String, f64>> {
        let begun = Instant::now();
        let mut all = BTreeMap::new();
        let Some(dataset) = self.pairs.split(split).cloned() else { return Ok(all) };
        if self.run().evaluate.is_empty() {
            return Ok(all);
        }
        if !self.galleries.contains_key(&split) {
            let gallery = Gallery::open(dataset.as_ref(), &self.pairs, &self.options.device)?;
            self.galleries.insert(split, gallery);
        }
        let gallery = &self.galleries[&split];
        let subject = Subject::new(self.run(), &self.trainer.store, &self.pairs, gallery)?;
        let shown = subject.show()?;
        for config in &self.run().evaluate {
            let since = Instant::now();
            let found = config.measure(&subject, &shown)?;
            all.extend(found.values.iter().map(|(name, measured)| (name.clone(), measured.value)));
            self.journal.write(&Record::Evaluation(Evaluation {
                step,
                name: config.name().to_owned(),
                version: config.version(),
                split: split.to_string(),
                selected,
                items: found.items,
                values: found.values,
                seconds: since.elapsed().as_secs_f64(),
            }))?;
        }
        if selected {
            for example in examples(&subject, &shown, dataset.as_ref(), step)? {
                self.journal.write(&Record::Example(example))?;
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        self.evaluated += seconds;
        self.pace.evaluated(seconds);
        Ok(all)
    }
}

/// Where the weights of the selected step lie.
fn best(directory: &Path) -> PathBuf {
    directory.join("checkpoint").join("best.safetensors")
}

/// Writes what a person wants to read beside the records: the whole configuration, and what the arm changes.
fn describe(directory: &Path, experiment: &Experiment, arm: &Arm, seed: u64) -> Result<()> {
    let head = format!("# {}, arm {}, seed {seed}: {}\n", experiment.name, arm.name, experiment.question);
    let write = |name: &str, text: std::result::Result<String, _>| {
        let path = directory.join(name);
        let text = text.map_err(|fault: serde_yaml::ser::Error| std::io::Error::other(fault.to_string()));
        text.and_then(|text| fs::write(&path, head.clone() + &text)).map_err(Failure::storage(&path))
    };
    write("config.yaml", serde_yaml::to_string(&arm.run))?;
    write("overrides.yaml", serde_yaml::to_string(&arm.overrides))
}

//! What a run begins with: its stages are trained where they are not done, and their values taken.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use candle_core::Device;

use super::checkpoint::{self, Tensors};
use super::export::configuration;
use super::failure::{Failure, Result};
use super::fault::Fault;
use super::feed::{Pairs, Words};
use super::journal;
use super::progress::duration;
use super::record::{Record, StageRecord};
use super::run::{Attempted, Options, Outcome, run};
use super::stage::{self, Origin, Shapes, Values};
use super::{Arm, Run};
use crate::models::checkpoint::hub::{Hub, Part};
use crate::models::checkpoint::{Opened, weights};
use crate::models::{Inputs, Store, store::Role};

/// The values that a run has before its first update beside those its seed gives, and where they are from.
#[derive(Default)]
pub struct Beginning {
    /// By the names of this run.
    pub values: Tensors,
    /// In the order in which they were taken.
    pub from: Vec<StageRecord>,
}

/// Trains the stages of a run that are not done, and takes their values.
///
/// # Errors
/// When a stage fails, or does not have what is to be taken.
pub fn begin(arm: &Arm, seed: u64, inputs: &Inputs, options: &Options) -> Result<Beginning> {
    let mut beginning = Beginning::default();
    if arm.run.start.is_empty() {
        return Ok(beginning);
    }
    let here = parameters(&arm.run, inputs)?;
    for values in &arm.run.start {
        let (weights, there, mut from) = match &values.from {
            Origin::Stage(name) => made(arm, name, seed, options)?,
            Origin::Run(path) => finished(path, &options.words)?,
            Origin::Weights(place) => {
                let weights = published(values, place, &arm.run, inputs)?;
                let hash = checkpoint::digest(&weights)?;
                let name = place.clone();
                let from = StageRecord { name, hash, steps: 0, seconds: 0.0, taken: 0, before: Vec::new() };
                let there = shapes(&weights);
                (weights, there, from)
            }
        };
        let taken = values.resolve(&there, &here).map_err(|faults| {
            let fault = arm.fault("start", format!("{} does not fit this run", values.from));
            Failure::from(faults.into_iter().fold(fault, Fault::note))
        })?;
        from.taken = taken.len();
        beginning.from.push(from);
        for (theirs, ours) in taken {
            let Some(value) = weights.get(&theirs) else {
                return Err(arm.fault("start", format!("{} holds no `{theirs}`", values.from)).into());
            };
            beginning.values.insert(ours, value.to_device(&options.device)?);
        }
    }
    Ok(beginning)
}

/// The parameters of a run with their extents, whether they are trained or frozen.
///
/// # Errors
/// When the configuration is not legal.
pub fn parameters(run: &Run, inputs: &Inputs) -> candle_core::Result<Shapes> {
    let store = Store::outline(&[]);
    run.open(&store, inputs)?;
    Ok(store.of(Role::Trainable).into_iter().map(|(name, entry)| (name, entry.shape)).collect())
}

/// The parameters of a run whose data is still to be opened.
fn parameters_of(run: &Run, words: &Words, seed: u64) -> Result<Shapes> {
    let pairs = Pairs::open(&run.expected(), words, seed)?;
    Ok(parameters(run, &pairs.inputs)?)
}

/// The weights of a stage, which is trained where it is not done.
fn made(arm: &Arm, name: &str, seed: u64, options: &Options) -> Result<(Tensors, Shapes, StageRecord)> {
    let Some(stage) = arm.run.stages.get(name) else {
        return Err(arm.fault("start", format!("there is no stage `{name}`")).into());
    };
    let (directory, from) = trained(name, stage, seed, options)?;
    let (_, weights) = checkpoint::selected(&directory)?;
    Ok((weights, parameters_of(stage, &options.words, seed)?, from))
}

/// The directory of a stage, which is trained where it is not done.
///
/// # Errors
/// When it fails, or its time is over.
pub fn trained(name: &str, stage: &Run, seed: u64, options: &Options) -> Result<(PathBuf, StageRecord)> {
    let experiment = stage::experiment(name, stage, seed);
    let options = Options { stop_at: None, ..options.clone() };
    let attempted = run(&experiment, &experiment.arms[0], seed, &options)?;
    let Attempted { directory, hash, outcome } = attempted;
    let done = match outcome {
        Outcome::Known(done) => done,
        Outcome::Finished(done) => {
            let time = duration(done.seconds);
            options.show.line(&format!("stage {name}, seed {seed}: {} steps in {time}", done.steps));
            done
        }
        Outcome::Stopped => return Err(Failure::OutOfTime),
    };
    let from = StageRecord {
        name: name.to_owned(),
        hash,
        steps: done.steps,
        seconds: done.seconds,
        taken: 0,
        before: began(&directory)?,
    };
    Ok((directory, from))
}

/// What a run began with, as its records say.
fn began(directory: &Path) -> Result<Vec<StageRecord>> {
    let start = journal::read(directory)?.into_iter().find_map(|record| match record {
        Record::Run(header) => Some(header.start),
        _ => None,
    });
    Ok(start.unwrap_or_default())
}

/// A store with the parameters of a run and as many of these values as it has; the others are those of a seed.
///
/// # Errors
/// When the values do not fit.
pub fn filled(run: &Run, inputs: &Inputs, weights: Tensors, device: &Device) -> candle_core::Result<Store> {
    let store = Store::new(device, 0, &[]);
    run.open(&store, inputs)?;
    let entries = store.entries();
    let own = weights.into_iter().filter(|(name, _)| entries.contains_key(name)).collect();
    store.overwrite(&own)?;
    Ok(store)
}

/// The weights of a run that is done, wherever it lies.
fn finished(path: &Path, words: &Words) -> Result<(Tensors, Shapes, StageRecord)> {
    let run = configuration(path)?;
    let (state, weights) = checkpoint::selected(path)?;
    let from = StageRecord {
        name: path.display().to_string(),
        hash: state.run,
        steps: state.step,
        seconds: state.trained + state.evaluated,
        taken: 0,
        before: began(path)?,
    };
    Ok((weights, parameters_of(&run, words, 0)?, from))
}

/// Published weights under our names: those of the run's own model, whose settings must agree, or with patterns those of any
/// system.
///
/// # Errors
/// When the place holds none, or none that fit.
pub fn published(values: &Values, place: &str, run: &Run, inputs: &Inputs) -> Result<Tensors> {
    let refused = Failure::weights(Path::new(place));
    let read = || {
        let (place, hub) = (place.parse()?, Hub::from_env());
        if values.take.is_empty() {
            return weights(&run.model, inputs, &place, &hub, &Device::Cpu);
        }
        let opened = Opened::read(&hub.open(&place, Part::Weights)?, &Device::Cpu)?;
        let all = opened.store.tensors();
        Ok(opened.named().filter_map(|name| Some((name.clone(), all.get(&name)?.clone()))).collect())
    };
    read().map_err(refused)
}

/// The digest of [`published`]. It is part of the identity of every run of every seed, so what was read once is remembered as
/// long as neither its files nor what is asked of them change.
///
/// # Errors
/// As [`published`].
pub fn published_digest(values: &Values, place: &str, run: &Run, inputs: &Inputs) -> Result<String> {
    static KNOWN: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    let asked = || {
        let folder = Hub::from_env().open(&place.parse()?, Part::Weights)?;
        let asked = (values, &run.model, inputs, stamps(&folder)?);
        serde_json::to_string(&asked).map_err(candle_core::Error::msg)
    };
    let asked = asked().map_err(Failure::weights(Path::new(place)))?;
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(digest) = known.get(&asked) {
        return Ok(digest.clone());
    }
    let digest = checkpoint::digest(&published(values, place, run, inputs)?)?;
    known.insert(asked, digest.clone());
    Ok(digest)
}

/// The name, the length and the time of the last change of each file in a folder, in order.
fn stamps(folder: &Path) -> std::io::Result<Vec<(String, u64, SystemTime)>> {
    let stamp = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry?.path();
        let about = fs::metadata(&path)?;
        Ok((path.display().to_string(), about.len(), about.modified()?))
    };
    let mut stamps = fs::read_dir(folder)?.map(stamp).collect::<std::io::Result<Vec<_>>>()?;
    stamps.sort();
    Ok(stamps)
}

fn shapes(tensors: &Tensors) -> Shapes {
    tensors.iter().map(|(name, value)| (name.clone(), value.shape().clone())).collect()
}

/// The parameters of what values come from, known before it is trained.
///
/// # Errors
/// When a run's directory does not hold one, or published weights do not fit.
pub fn there(values: &Values, run: &Run, inputs: &Inputs, words: &Words) -> Result<Shapes> {
    match &values.from {
        Origin::Weights(place) => Ok(shapes(&published(values, place, run, inputs)?)),
        Origin::Run(path) => parameters_of(&configuration(path)?, words, 0),
        Origin::Stage(name) => match run.stages.get(name) {
            Some(stage) => parameters_of(stage, words, 0),
            None => Ok(Shapes::new()),
        },
    }
}

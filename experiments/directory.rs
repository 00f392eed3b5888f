//! Where a run keeps what it leaves behind, and how far it has come.
//!
//! `<out>/<experiment>/<profile>/<arm>/seed-<seed>-<hash>/` holds `config.yaml`, `overrides.yaml`, `records.jsonl`,
//! `metrics.csv` and `checkpoint/`. The hash covers everything that decides the run's bits, so that another
//! configuration, program or data set gets a directory of its own.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::beginning;
use super::failure::{Failure, Result};
use super::feed::Pairs;
use super::journal;
use super::machine;
use super::record::{Done, Record};
use super::stage::{Origin, STAGES};
use super::{Checkpointing, Experiment, Run, bootstrap, checkpoint};
use crate::data::Split;
use crate::data::pack::hexadecimal;
use crate::kernels::cuda::{Products, products};

/// The identity of a run: SHA-256 of its configuration, seed, program, kind of device, data and tokenizer, and of the
/// identities of what it begins with; `pairs` are those of [`Run::expected`].
///
/// # Errors
/// When the configuration cannot be written as JSON, or the data of a stage or a run to begin with cannot be read.
pub fn identity(run: &Run, seed: u64, device: &candle_core::Device, pairs: &Pairs) -> Result<String> {
    let mut before = Vec::new();
    for stage in run.stages.values() {
        let pairs = Pairs::open(&stage.expected(), pairs.given(), seed)?;
        before.push(identity(stage, seed, device, &pairs)?);
    }
    for rewrite in run.rewrites.values() {
        before.push(bootstrap::identity(rewrite, seed, device, pairs.given())?);
    }
    for values in &run.start {
        match &values.from {
            Origin::Stage(_) => {}
            Origin::Run(path) => before.push(checkpoint::selected_digest(path)?),
            Origin::Weights(place) => {
                before.push(beginning::published_digest(values, place, run, &pairs.inputs)?)
            }
        }
    }
    let device = arithmetic(device);
    let prints = [Split::Train, Split::Val, Split::Test]
        .map(|split| pairs.split(split).map(|dataset| dataset.fingerprint()));
    let tokens = pairs.encoder().fingerprint();
    // How often the state is saved decides nothing.
    let mut run = run.clone();
    forget_checkpoints(&mut run);
    let config = serde_json::to_string(&(&run, seed, machine::program(), device, prints, tokens, before))
        .map_err(|fault| candle_core::Error::Msg(format!("a configuration cannot be written: {fault}")))?;
    Ok(hexadecimal(&Sha256::digest(config)))
}

/// What of a device decides bits: which of several equal GPUs computes does not, and in what precision it multiplies does.
pub fn arithmetic(device: &candle_core::Device) -> &'static str {
    match (device.is_cpu(), products()) {
        (true, _) => "cpu",
        (false, Products::F32) => "accelerator",
        (false, Products::Tf32) => "accelerator+tf32",
    }
}

fn forget_checkpoints(run: &mut Run) {
    run.train.checkpoint = Checkpointing::default();
    run.stages.values_mut().for_each(forget_checkpoints);
    run.rewrites.values_mut().flat_map(|made| made.stages.values_mut()).for_each(forget_checkpoints);
}

/// The directory of all runs of an experiment at one size.
pub fn of_experiment(out: &Path, experiment: &Experiment) -> PathBuf {
    out.join(&experiment.name).join(plain(experiment.profile.as_deref().unwrap_or("full")))
}

/// The directory of the run with identity `hash` below `out`.
pub fn place(out: &Path, experiment: &Experiment, arm: &str, seed: u64, hash: &str) -> PathBuf {
    of_experiment(out, experiment).join(plain(arm)).join(of_seed(seed, hash))
}

/// The directory of the pairs with identity `hash` that a stage makes, beside those of stages that are trained.
pub fn of_stage(out: &Path, name: &str, seed: u64, hash: &str) -> PathBuf {
    out.join(STAGES).join("full").join(plain(name)).join(of_seed(seed, hash))
}

fn of_seed(seed: u64, hash: &str) -> String {
    let short: String = hash.chars().take(8).collect();
    format!("seed-{seed}-{short}")
}

/// A name as a part of a path: whatever a file system may refuse becomes `_`.
fn plain(name: &str) -> String {
    let allowed = |letter: char| letter.is_alphanumeric() || "-_=.+,".contains(letter);
    let plain: String = name.chars().map(|letter| if allowed(letter) { letter } else { '_' }).collect();
    if plain.starts_with('.') { format!("_{plain}") } else { plain }
}

/// How far a run has come.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    /// Nothing is there.
    New,
    /// It was begun and not ended.
    Partial,
    /// It stopped on a fault.
    Failed(String),
    /// It came to its end.
    Done(Done),
}

/// How far the run in `directory` has come.
///
/// # Errors
/// When its records cannot be read.
pub fn status(directory: &Path) -> Result<Status> {
    Ok(match journal::read(directory)?.pop() {
        None => Status::New,
        Some(Record::Done(done)) => Status::Done(done),
        Some(Record::Failed(failed)) => Status::Failed(failed.reason),
        Some(_) => Status::Partial,
    })
}

/// Bytes of all files below a directory; those that cannot be read count nothing.
pub fn size(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => size(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

/// Keeps others from training the same run; released when dropped, also by a kill.
#[derive(Debug)]
pub struct Lock {
    // Fields are dropped in this order: whoever waits for the claim finds the file free.
    _file: File,
    _claim: Claim,
}

/// A directory that this process is at work in.
#[derive(Debug)]
struct Claim(PathBuf);

/// All of them, and the news that one is given up.
static CLAIMED: (Mutex<BTreeSet<PathBuf>>, Condvar) = (Mutex::new(BTreeSet::new()), Condvar::new());

impl Claim {
    /// Claims a directory once nobody else in this process does.
    fn of(directory: PathBuf) -> Self {
        let (claimed, given_up) = &CLAIMED;
        let mut all = claimed.lock().unwrap_or_else(PoisonError::into_inner);
        while !all.insert(directory.clone()) {
            all = given_up.wait(all).unwrap_or_else(PoisonError::into_inner);
        }
        Self(directory)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let (claimed, given_up) = &CLAIMED;
        claimed.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
        given_up.notify_all();
    }
}

/// For how long a killed process may go on to hold its lock: one that was starting a program (`git`, for the header) has
/// left a child behind that has every file open until it becomes that program.
const LINGERING: Duration = Duration::from_secs(1);

/// Makes the directory of a run and locks it, once no other run of this process is at work in it: runs side by side may
/// begin with the same stage.
///
/// # Errors
/// When it cannot be written, or another process holds it.
pub fn enter(directory: &Path) -> Result<Lock> {
    let unwritable = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| Failure::Unwritable { path, source }
    };
    fs::create_dir_all(directory).map_err(unwritable(directory))?;
    let claim = Claim::of(directory.canonicalize().map_err(unwritable(directory))?);
    let path = directory.join("lock");
    let file = File::create(&path).map_err(unwritable(&path))?;
    let patience = Instant::now() + LINGERING;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lock { _file: file, _claim: claim }),
            Err(TryLockError::WouldBlock) if Instant::now() < patience => thread::sleep(LINGERING / 20),
            Err(TryLockError::WouldBlock) => return Err(Failure::Busy { path: directory.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(unwritable(&path)(source)),
        }
    }
}

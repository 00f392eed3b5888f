//! Proof that a killed run goes on as if nothing had happened.
//!
//! Each run is trained twice by processes of its own: once to its end, and once killed halfway (SIGKILL, which no
//! process can prepare for) and started again. Then every tensor and every record of the two are compared bit by bit.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use candle_core::Device;

use super::checkpoint::{self, Tensors};
use super::failure::{Failure, Result};
use super::journal::{self, RECORDS};
use super::progress::Show;
use super::record::{Machine, Record, StageRecord};
use super::stage::STAGES;
use super::{Arm, Experiment};

/// How often a run may come to its end before it is killed.
const ATTEMPTS: u32 = 5;

/// What was compared, and what differed.
#[derive(Debug)]
pub struct Proof {
    /// The arm.
    pub arm: String,
    /// The seed.
    pub seed: u64,
    /// Updates made when the process was killed, as far as its checkpoint knew.
    pub killed_at: u64,
    /// Updates of the whole run.
    pub steps: u64,
    /// Tensors compared.
    pub tensors: usize,
    /// Scalars in them.
    pub scalars: usize,
    /// Records compared.
    pub records: usize,
    /// What differed; nothing if the proof holds.
    pub differences: Vec<String>,
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { arm, seed, killed_at, steps, tensors, scalars, records, differences } = self;
        write!(
            f,
            "{arm}, seed {seed}: killed after step {killed_at} of {steps}; compared {tensors} tensors "
        )?;
        write!(f, "({scalars} scalars) and {records} records: ")?;
        match differences.as_slice() {
            [] => f.write_str("bit-equal"),
            differences => write!(f, "DIFFERENT\n  {}", differences.join("\n  ")),
        }
    }
}

/// Trains one run in both ways below `out`, which is removed if they agree. `command` gives the command that trains
/// just this run below a directory, saving its state every so many updates.
///
/// # Errors
/// When a process cannot be started, fails, or ends before it is killed.
pub fn verify_resume(
    experiment: &Experiment,
    (arm, seed): (&Arm, u64),
    out: &Path,
    show: Show,
    command: impl Fn(&Path, u64) -> Command,
) -> Result<Proof> {
    let steps = arm.run.train.steps;
    let every = (steps / 8).max(1);
    let name = format!("{}, {}, seed {seed}", experiment.name, arm.name);
    let [whole, broken] = ["whole", "killed"].map(|part| out.join(part));
    show.line(&format!("{name}: training without a break"));
    finish(&mut command(&whole, every))?;
    show.line(&format!("{name}: training until halfway, to be killed"));
    let mut attempts = 0;
    let killed_at = loop {
        if let Some(step) = kill(&mut command(&broken, every), &broken, steps / 2)? {
            break step;
        }
        attempts += 1;
        if attempts == ATTEMPTS {
            let text =
                format!("{name}: {ATTEMPTS} times the run ended before it was killed; give it more steps");
            return Err(candle_core::Error::Msg(text).into());
        }
        fs::remove_dir_all(&broken).map_err(Failure::storage(&broken))?;
    };
    show.line(&format!("{name}: killed after step {killed_at}; going on"));
    finish(&mut command(&broken, every))?;

    let [whole, broken] = [found(&whole)?, found(&broken)?];
    let proof = compare(&whole, &broken)?;
    let proof = Proof { arm: arm.name.clone(), seed, killed_at, steps, ..proof };
    if proof.differences.is_empty() {
        fs::remove_dir_all(out).map_err(Failure::storage(out))?;
    }
    Ok(proof)
}

fn start(command: &mut Command) -> Result<Child> {
    let program = PathBuf::from(command.get_program());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().map_err(Failure::storage(&program))
}

fn finish(command: &mut Command) -> Result<()> {
    succeeded(start(command)?)
}

fn succeeded(child: Child) -> Result<()> {
    let output = child.wait_with_output().map_err(Failure::storage(Path::new("child process")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(candle_core::Error::Msg(format!("a run that was to be compared failed ({}): {said}", output.status))
        .into())
}

/// Starts a run and kills it as soon as its checkpoint holds `step` updates; how many it then holds, or nothing if the
/// run came to its end first.
fn kill(command: &mut Command, out: &Path, step: u64) -> Result<Option<u64>> {
    let mut child = start(command)?;
    let storage = || Failure::storage(Path::new("child process"));
    let held = loop {
        if child.try_wait().map_err(storage())?.is_some() {
            return succeeded(child).map(|()| None);
        }
        if let Ok(directory) = found(out)
            && let Some(state) = checkpoint::peek(&checkpoint::path(&directory))?
            && state.step >= step
        {
            break state.step;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    child.kill().map_err(storage())?;
    let status = child.wait().map_err(storage())?;
    // A process that ended by itself between the look at its checkpoint and the signal was not killed.
    Ok(if status.success() { None } else { Some(held) })
}

/// The only run below `out` that is no stage of it.
fn found(out: &Path) -> Result<PathBuf> {
    let mut places = vec![out.to_owned()];
    while let Some(place) = places.pop() {
        if place.join(RECORDS).exists() {
            return Ok(place);
        }
        for entry in fs::read_dir(&place).map_err(Failure::storage(&place))? {
            let path = entry.map_err(Failure::storage(&place))?.path();
            if path.is_dir() && !path.ends_with(STAGES) {
                places.push(path);
            }
        }
    }
    Err(Failure::storage(out)(std::io::Error::other("holds no run")))
}

/// Compares what two runs of the same thing left behind.
///
/// # Errors
/// When one of them cannot be read.
pub fn compare(one: &Path, other: &Path) -> Result<Proof> {
    let [a, b] = [tensors(one)?, tensors(other)?];
    let mut differences = Vec::new();
    if a.keys().ne(b.keys()) {
        differences.push("the names of the tensors".to_owned());
    }
    for (name, value) in &a {
        if b.get(name).is_none_or(|other| !bit_equal(value, other)) {
            differences.push(format!("tensor {name}"));
        }
    }
    let [records, others] = [journal::read(one)?, journal::read(other)?].map(|mut records| {
        records.iter_mut().for_each(forget_time);
        records
    });
    if records.len() != others.len() {
        differences.push(format!("{} records against {}", records.len(), others.len()));
    }
    for (number, (record, other)) in (1..).zip(records.iter().zip(&others)) {
        if record != other {
            differences.push(format!("record {number}"));
        }
    }
    Ok(Proof {
        arm: String::new(),
        seed: 0,
        killed_at: 0,
        steps: 0,
        tensors: a.len(),
        scalars: a.values().map(candle_core::Tensor::elem_count).sum(),
        records: records.len(),
        differences,
    })
}

fn tensors(directory: &Path) -> Result<Tensors> {
    let path = checkpoint::path(directory);
    let missing = || Failure::Checkpoint { path: path.clone(), problem: "is missing".to_owned() };
    let run = checkpoint::peek(&path)?.ok_or_else(missing)?.run;
    let (_, store, moments) = checkpoint::load(&path, &run, &Device::Cpu)?.ok_or_else(missing)?;
    let moments = moments.into_iter().map(|(name, value)| (format!("moments of {name}"), value));
    Ok(store.into_iter().chain(moments).collect())
}

fn bit_equal(a: &candle_core::Tensor, b: &candle_core::Tensor) -> bool {
    use safetensors::View;
    a.dtype() == b.dtype() && a.dims() == b.dims() && a.data() == b.data()
}

/// Clears what two runs of the same thing may differ in: times, and the machine.
pub fn forget_time(record: &mut Record) {
    match record {
        Record::Run(header) => {
            header.machine = Machine::default();
            forget_times(&mut header.start);
        }
        Record::Train(figures) => figures.seconds = 0.0,
        Record::Evaluation(found) => found.seconds = 0.0,
        Record::Rewritten(made) => made.seconds = 0.0,
        Record::Done(done) => {
            (done.seconds, done.pairs_per_second, done.peak_memory) = (0.0, 0.0, None);
        }
        Record::Example(_) | Record::Failed(_) => {}
    }
}

/// What stages took, and those before them.
fn forget_times(stages: &mut [StageRecord]) {
    for stage in stages {
        stage.seconds = 0.0;
        forget_times(&mut stage.before);
    }
}

//! Whether this machine can run experiments, and gives the same bits every time: what `vlp doctor` looks at.

use std::path::Path;

use candle_core::Device;

use super::failure::Result;
use super::feed::{self, Pairs, Words};
use super::plan::bytes;
use super::train::Trainer;
use super::{Run, checkpoint, file, machine};
use crate::data::{self, Source};
use crate::kernels::cuda;

/// A run small enough to be made twice in a second.
const TINY: &str = "
question: Does this machine give equal bits at any number of threads?
data: {train: {scenes: {pairs: 32}}, size: 32, words: 24}
model: {albef: {image: {width: 64, depth: 2, heads: 2}, text: {width: 64, depth: 2, heads: 2}, fusion: 1}}
objectives: [itc, itm, mlm]
train: {steps: 4, batch: 16}
";

/// One thing that was looked at.
pub struct Finding {
    /// What.
    pub subject: &'static str,
    /// What was found, or what is wrong.
    pub found: std::result::Result<String, String>,
}

impl Finding {
    fn new(subject: &'static str, found: Result<String>) -> Self {
        Self { subject, found: found.map_err(|failure| failure.to_string()) }
    }
}

/// Looks at everything; `out` is where runs would be kept and `device` what would compute.
pub fn examine(out: &Path, device: &str) -> Vec<Finding> {
    let about = machine::describe(&Device::Cpu);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    vec![
        Finding::new("program", Ok(machine::code())),
        Finding::new("system", Ok(about.system)),
        Finding::new("processor", Ok(format!("{}, {cores} cores", about.processor))),
        Finding::new("vectors", Ok(vectors())),
        Finding::new("threads", Ok(about.threads.to_string())),
        Finding::new("device", machine::device(device).map(|device| machine::device_word(&device))),
        // Not wrong: a machine without a GPU runs everything.
        Finding::new(
            "gpu",
            Ok(cuda::usable().unwrap_or_else(|reason| format!("none can be used: {reason}"))),
        ),
        Finding::new("vocabulary", Words::shipped().map(|words| format!("{} pieces", words.entries))),
        Finding::new("packs", packs()),
        Finding::new("disk", Ok(disk(out))),
        Finding::new("equal bits", equal_bits()),
    ]
}

/// The widest vector instructions that the kernels find here.
fn vectors() -> String {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        let known = [
            ("avx2", is_x86_feature_detected!("avx2")),
            ("fma", is_x86_feature_detected!("fma")),
            ("avx512f", is_x86_feature_detected!("avx512f")),
        ];
        found.extend(known.iter().filter(|(_, there)| *there).map(|(name, _)| *name));
    }
    if cfg!(target_arch = "aarch64") {
        found.push("neon");
    }
    if found.is_empty() { "none: expect long runs".to_owned() } else { found.join(" ") }
}

/// Opens every source, which compares the packs with their checksums.
fn packs() -> Result<String> {
    let describe = |source: Source| {
        let data::Summary { name, pairs, .. } = source.summary()?;
        Ok(pairs.map(|pairs| format!("{name}: {} pairs", pairs.iter().sum::<usize>())))
    };
    let found = Source::all().into_iter().filter_map(|source| describe(source).transpose());
    Ok(format!("{}, checksums right", found.collect::<Result<Vec<_>>>()?.join(", ")))
}

/// The space that is left where runs would be kept.
fn disk(out: &Path) -> String {
    let left = machine::free(out).map_or_else(|| "unknown".to_owned(), bytes);
    format!("{left} free for {}", out.display())
}

/// Trains a tiny model at one and at two threads and compares every bit of its weights.
fn equal_bits() -> Result<String> {
    let experiment = file::read("doctor", TINY)?;
    let arm = experiment.arms.first().ok_or_else(|| candle_core::Error::Msg("no arm".to_owned()))?;
    let pairs = Pairs::open(&arm.run.expected(), &Words::shipped()?, 0)?;
    let at = |threads| -> Result<String> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|error| candle_core::Error::Msg(error.to_string()))?;
        pool.install(|| weights(&arm.run, &pairs))
    };
    let (one, two) = (at(1)?, at(2)?);
    let steps = arm.run.train.steps;
    if one == two {
        return Ok(format!("{steps} steps of albef at 1 and at 2 threads end at the same weights"));
    }
    let text = format!(
        "{steps} steps of albef end at other weights at 2 threads than at 1: runs cannot be repeated here"
    );
    Err(candle_core::Error::Msg(text).into())
}

/// A hash of the weights that a run ends at.
fn weights(run: &Run, pairs: &Pairs) -> Result<String> {
    let mut loader = pairs.loader(run.train.batch, 0, 0)?;
    let mut trainer =
        Trainer::new(run, &pairs.inputs, loader.steps_per_epoch(), 0, &Device::Cpu, &Default::default())?;
    for _ in 0..run.train.steps {
        trainer.update(&feed::batch(loader.next_batch()?, pairs, &Device::Cpu)?)?;
    }
    checkpoint::digest(&trainer.store.tensors())
}

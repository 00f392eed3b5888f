//! Whole training steps: a small CLIP, the same with gradient checkpointing, one of the size of ViT-B/32, and a small ALBEF
//! with momentum contrast, hard negatives and distilled words.
//!
//! `cargo bench -- steps` prints pairs a second and the peak memory of each step, taken in a process of its own;
//! `benches/peers/compare.py` runs the same steps in PyTorch in turn with these.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

use candle_core::{Device, Tensor};
use serde_json::json;
use vlp_bench::experiments::machine;
use vlp_bench::experiments::train::Trainer;
use vlp_bench::experiments::{Run, Select, Teacher, Train};
use vlp_bench::kernels::Precision;
use vlp_bench::kernels::random::Key;
use vlp_bench::models::store::Role;
use vlp_bench::models::{Image, Inputs, Text};
use vlp_bench::objectives::Batch;
use vlp_bench::token::{CLS, SEP, SPECIAL, Specials};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The steps that can be timed: two small ones, and CLIP at the size of ViT-B/32.
pub const NAMES: [&str; 4] = ["clip", "clip_checkpointed", "clip_b32", "albef"];
const SMALL: Inputs = Inputs {
    size: 64,
    words: 24,
    vocabulary: 8000,
    specials: Specials::SHIPPED,
    region_features: 0,
    region_classes: 0,
    answers: 0,
};
/// Steps before the clock starts: the first fills the allocator.
const WARM: u64 = 2;

/// Where a step runs, in which numbers, and of how many pairs if not the usual ones.
pub struct Place {
    device: String,
    precision: Precision,
    pairs: Option<usize>,
}

impl Place {
    /// As the command line names device, precision and pairs.
    pub fn new([device, precision, pairs]: [Option<&str>; 3]) -> Result<Self> {
        let precision = precision.map_or(Ok(Precision::F32), |word| serde_json::from_value(json!(word)))?;
        let pairs = pairs.map(str::parse).transpose()?;
        Ok(Self { device: device.unwrap_or("cpu").to_owned(), precision, pairs })
    }

    pub fn is_default(&self) -> bool {
        self.device == "cpu" && self.precision == Precision::F32 && self.pairs.is_none()
    }
}

fn run(name: &str, place: &Place) -> Result<(Run, Inputs)> {
    let tower = json!({"width": 192, "depth": 6, "heads": 6});
    let (inputs, batch, model, objectives, teacher) = match name {
        "clip" | "clip_checkpointed" => (
            SMALL,
            64,
            json!({"clip": {"image": tower, "text": tower, "patch": 8, "embed": 192}}),
            json!([{"itc": {}}]),
            None,
        ),
        "clip_b32" => (
            Inputs { size: 224, words: 77, vocabulary: 49408, ..SMALL },
            8,
            json!({"clip": {
                "image": {"width": 768, "depth": 12, "heads": 12},
                "text": {"width": 512, "depth": 12, "heads": 8},
                "patch": 32,
                "embed": 512,
            }}),
            json!([{"itc": {}}]),
            None,
        ),
        "albef" => (
            SMALL,
            32,
            json!({"albef": {"image": tower, "text": tower, "fusion": 3, "patch": 8, "embed": 128}}),
            json!([
                {"itc_momentum": {"queue": 4096, "distill": 0.4, "ramp": 0}},
                {"itm": {"negatives": "hard"}},
                {"mlm": {"distill": 0.4, "ramp": 0}},
            ]),
            Some(Teacher { momentum: 0.995 }),
        ),
        other => return Err(format!("no step is called `{other}`; there are {}", NAMES.join(", ")).into()),
    };
    let run = Run {
        stages: BTreeMap::new(),
        rewrites: BTreeMap::new(),
        start: Vec::new(),
        data: serde_json::from_value(
            json!({"train": {"scenes": {}}, "size": inputs.size, "words": inputs.words}),
        )?,
        model: serde_json::from_value(model)?,
        objectives: serde_json::from_value(objectives)?,
        train: Train {
            batch: place.pairs.unwrap_or(batch),
            precision: place.precision,
            rate: 1e-3,
            warmup: 0.0,
            teacher,
            gradient_checkpointing: name == "clip_checkpointed",
            ..Train::default()
        },
        evaluate: Vec::new(),
        select: Select::default(),
    };
    Ok((run, inputs))
}

/// Noise for pictures, and for texts of 6 tokens to the most there may be: the time of a step does not depend on what
/// they show.
fn batch(pairs: usize, inputs: &Inputs, device: &Device) -> Result<Batch> {
    let (words, size) = (inputs.words, inputs.size);
    let key = |purpose| Key::new(0, 0, purpose);
    let pixels =
        Tensor::from_vec(key("pixels").normal(pairs * 3 * size * size), (pairs, 3, size, size), device)?;
    let lengths = key("lengths").below(pairs, words as u32 - 5);
    let drawn = key("words").below(pairs * words, (inputs.vocabulary - SPECIAL.len()) as u32);
    let (mut ids, mut mask) = (vec![0; pairs * words], vec![0.0f32; pairs * words]);
    let mut word_starts = vec![0; pairs * words];
    for (pair, length) in lengths.into_iter().map(|length| length as usize + 6).enumerate() {
        for place in 0..length {
            let at = pair * words + place;
            mask[at] = 1.0;
            let inner = 0 < place && place + 1 < length;
            word_starts[at] = u8::from(inner);
            ids[at] = match place {
                0 => CLS,
                _ if inner => SPECIAL.len() as u32 + drawn[at],
                _ => SEP,
            };
        }
    }
    let text = Text {
        ids: Tensor::from_vec(ids, (pairs, words), device)?,
        mask: Tensor::from_vec(mask, (pairs, words), device)?,
        segments: Tensor::zeros((pairs, words), candle_core::DType::U32, device)?,
    };
    let keys: Vec<u64> = (0..pairs as u64).collect();
    Ok(Batch {
        answers: Vec::new(),
        targets: Vec::new(),
        second: None,
        image: Image { pixels: Some(pixels), ..Image::default() },
        text,
        word_starts,
        specials: inputs.specials.clone(),
        image_keys: keys.clone(),
        caption_keys: keys,
        region_classes: None,
    })
}

/// Times `steps` steps; what one is called "per second" is pairs.
pub fn time(name: &str, steps: u64, place: &Place) -> Result<serde_json::Value> {
    let (run, inputs) = run(name, place)?;
    let device = machine::device(&place.device)?;
    let before = peak_memory(&device);
    if device.is_cpu() && place.precision != Precision::F32 {
        return Err("the processor computes in f32".into());
    }
    let batch = batch(run.train.batch, &inputs, &device)?;
    let mut trainer = Trainer::new(&run, &inputs, 1000, 0, &device, &Default::default())?;
    for _ in 0..WARM {
        trainer.update(&batch)?;
    }
    let start = Instant::now();
    let mut loss = f32::NAN;
    for _ in 0..steps {
        loss = trainer.update(&batch)?["loss"].to_scalar()?;
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(json!({
        "name": name,
        "per_second": (steps * run.train.batch as u64) as f64 / seconds,
        "gigaflops_per_second": steps as f64 * trainer.flops(&batch)? / seconds / 1e9,
        "peak_memory_mib": peak_memory(&device),
        "memory_before_mib": before,
        "parameters": trainer.store.count(Role::Trainable),
        "loss": loss,
    }))
}

/// The most memory of the device so far in MiB, where it can be told.
pub fn peak_memory(device: &Device) -> Option<f64> {
    machine::peak_memory(device).map(|bytes| bytes as f64 / f64::from(1 << 20))
}

/// Every step in a process of its own, so that its peak memory is its own.
pub fn all() -> Result<()> {
    for name in NAMES {
        let output = Command::new(std::env::current_exe()?).args(["--once", name]).output()?;
        if !output.status.success() {
            return Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let figures: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let number = |key: &str| figures[key].as_f64().unwrap_or(f64::NAN);
        println!(
            "step {name:<17} {:7.1} pairs/s, {:5.1} GFLOP/s, peak memory {:5.0} MiB, {:.1} million parameters",
            number("per_second"),
            number("gigaflops_per_second"),
            number("peak_memory_mib"),
            number("parameters") / 1e6,
        );
    }
    Ok(())
}

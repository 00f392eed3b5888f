//! Objectives against their formulas, the papers' released code and each other, on a model small enough to see through.

mod conformance;
mod fits;
mod given;
mod golden;
mod gradients;
mod heads;
mod losses;
mod masking;
mod negatives;
mod queue;
mod regions;
mod steps;
mod tiny;

use candle_core::{DType, Device, Tensor};
use given::Given;
use tiny::DIMS;
use vlp_bench::kernels::{l2_normalize, random::Key, softmax};
use vlp_bench::models::{Image, Inputs, Model, Regions, Store, Text};
use vlp_bench::objectives::{Batch, Config, Loss, Progress, Step};
use vlp_bench::token::{CLS, PAD, SEP, SPECIAL, Specials};

const WORDS: usize = 7;
const VOCABULARY: usize = 23;
const SIZE: usize = 4;

/// `pairs` pairs of random pixels and words for the small models here.
fn batch(pairs: usize, seed: u64) -> Batch {
    let inputs = Inputs {
        size: SIZE,
        words: WORDS,
        vocabulary: VOCABULARY,
        specials: Specials::SHIPPED,
        region_features: 0,
        region_classes: 0,
        answers: 3,
    };
    random_batch(&inputs, pairs, seed)
}

/// `pairs` pairs of random pixels, texts of at least one word and, where `inputs` has them, regions; the same for equal
/// seeds.
fn random_batch(inputs: &Inputs, pairs: usize, seed: u64) -> Batch {
    let key = Key::new(seed, 0, "batch");
    let device = &Device::Cpu;
    let pixels = key.fold(0).normal(pairs * 3 * inputs.size * inputs.size);
    let pixels = Tensor::from_vec(pixels, (pairs, 3, inputs.size, inputs.size), device).unwrap();
    let (text, word_starts) = random_text(inputs, pairs, key.fold(1));
    let (regions, region_classes) = random_regions(inputs, pairs, key.fold(2)).unzip();
    let (other_regions, _) = random_regions(inputs, pairs, key.fold(3)).unzip();
    let others = key.fold(4).normal(pairs * 3 * inputs.size * inputs.size);
    let others = Tensor::from_vec(others, (pairs, 3, inputs.size, inputs.size), device).unwrap();
    let batch = |pixels: Tensor, regions: Option<Regions>, second: Option<Box<Batch>>| Batch {
        image: Image { pixels: Some(pixels), regions, ..Image::default() },
        specials: inputs.specials.clone(),
        text: text.clone(),
        word_starts: word_starts.clone(),
        image_keys: (0..pairs as u64).collect(),
        caption_keys: (100..100 + pairs as u64).collect(),
        region_classes: region_classes.clone(),
        answers: (0..pairs as u32).map(|pair| pair % inputs.answers.max(1) as u32).collect(),
        targets: (0..pairs as u32).map(|pair| pair % 2).collect(),
        second,
    };
    let second = batch(others, other_regions, None);
    batch(pixels, regions, Some(Box::new(second)))
}

fn random_text(inputs: &Inputs, pairs: usize, key: Key) -> (Text, Vec<u8>) {
    let (mut ids, mut word_starts) = (Vec::new(), Vec::new());
    for pair in 0..pairs as u64 {
        let row = key.fold(pair);
        let length = 1 + row.fold(0).below(1, inputs.words as u32 - 2)[0] as usize;
        let words = row.fold(1).below(length, (inputs.vocabulary - SPECIAL.len()) as u32);
        ids.push(CLS);
        ids.extend(words.iter().map(|word| word + SPECIAL.len() as u32));
        ids.push(SEP);
        ids.resize((pair as usize + 1) * inputs.words, PAD);
        // Every second piece continues the word before it.
        word_starts.extend((0..inputs.words).map(|at| u8::from(at >= 1 && at <= length && at % 2 == 1)));
    }
    let mask: Vec<f32> = ids.iter().map(|&id| if id == PAD { 0.0 } else { 1.0 }).collect();
    let shape = (pairs, inputs.words);
    let text = Text {
        ids: Tensor::from_vec(ids, shape, &Device::Cpu).unwrap(),
        mask: Tensor::from_vec(mask, shape, &Device::Cpu).unwrap(),
        segments: Tensor::zeros(shape, DType::U32, &Device::Cpu).unwrap(),
    };
    (text, word_starts)
}

/// The same pairs, in which all words after the second token are object tags.
fn with_tags(mut batch: Batch) -> Batch {
    let mask = batch.text.mask.to_vec2::<f32>().unwrap();
    let segment =
        |row: Vec<f32>| row.into_iter().enumerate().map(|(at, there)| u32::from(at > 1) * there as u32);
    let segments: Vec<u32> = mask.into_iter().flat_map(segment).collect();
    batch.text.segments = Tensor::from_vec(segments, batch.text.ids.shape(), &Device::Cpu).unwrap();
    batch
}

/// Three regions an image, of which the first pair lacks one, and the detector's belief about each.
fn random_regions(inputs: &Inputs, pairs: usize, key: Key) -> Option<(Regions, Tensor)> {
    const N: usize = 3;
    let tensor = |values: Vec<f32>, width: usize| Tensor::from_vec(values, (pairs, N, width), &Device::Cpu);
    let (width, classes) = (inputs.region_features, inputs.region_classes);
    (width > 0).then(|| {
        let mask = (0..pairs * N).map(|at| if at == N - 1 { 0.0 } else { 1.0f32 }).collect();
        let regions = Regions {
            features: tensor(key.fold(0).normal(pairs * N * width), width).unwrap(),
            boxes: tensor(key.fold(1).uniform(pairs * N * 7), 7).unwrap(),
            mask: Tensor::from_vec(mask, (pairs, N), &Device::Cpu).unwrap(),
        };
        let beliefs = tensor(key.fold(2).normal(pairs * N * classes), classes).unwrap();
        (regions, softmax(&beliefs).unwrap())
    })
}

fn flat(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

fn scalar(x: &Tensor) -> f64 {
    let values = flat(x);
    assert_eq!(values.len(), 1);
    values[0]
}

/// Whether no element differs by more than `tolerance` times the greatest expected magnitude.
#[track_caller]
fn assert_close(got: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(got.dims(), expected.dims());
    let (got, expected) = (flat(got), flat(expected));
    let scale = expected.iter().fold(0f64, |scale, x| scale.max(x.abs()));
    for (i, (g, e)) in got.iter().zip(&expected).enumerate() {
        assert!((g - e).abs() <= tolerance * scale, "element {i}: got {g}, expected {e} (scale {scale})");
    }
}

fn at(step: u64) -> Progress {
    Progress { step, steps: 100, steps_per_epoch: 10 }
}

fn config(entry: &str) -> Config {
    serde_yaml::from_str(entry).unwrap()
}

fn store() -> Store {
    Store::new(&Device::Cpu, 3, &[])
}

fn normal(purpose: &str, shape: &[usize], dtype: DType) -> Tensor {
    let values = Key::new(7, 0, purpose).normal(shape.iter().product());
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn units(purpose: &str, rows: usize, dtype: DType) -> Tensor {
    l2_normalize(&normal(purpose, &[rows, DIMS.embed], dtype), 1e-12).unwrap()
}

/// The loss of `entry` at the end of its ramp.
fn loss(entry: &str, store: &Store, batch: &Batch, student: &dyn Model, teacher: Option<&dyn Model>) -> Loss {
    let objective = config(entry).open(&store.student(), &DIMS).unwrap();
    objective.loss(&Step::new(batch, student, teacher, at(50), 1)).unwrap()
}

fn embedding(images: &Tensor, texts: &Tensor) -> Given {
    Given {
        images: Some(images.clone()),
        texts: Some(texts.clone()),
        scale: Some(Tensor::full(1.0 / 0.07, (), &Device::Cpu).unwrap().to_dtype(images.dtype()).unwrap()),
        ..Given::default()
    }
}

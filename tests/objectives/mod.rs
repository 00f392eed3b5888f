//! Objectives against their formulas, the papers' released code and each other, on a model small enough to see through.

mod fits;
mod given;
mod golden;
mod heads;
mod masking;
mod negatives;
mod properties;
mod queue;
mod tiny;
mod training;

use candle_core::{DType, Device, Tensor};
use vlp_bench::kernels::random::Key;
use vlp_bench::models::{Image, Text};
use vlp_bench::objectives::{Batch, Progress};
use vlp_bench::token::{CLS, PAD, SEP, SPECIAL};

const WORDS: usize = 7;
const VOCABULARY: usize = 23;
const SIZE: usize = 4;

/// `pairs` pairs of random pixels and texts of 1 to 5 words, the same for equal seeds.
fn batch(pairs: usize, seed: u64) -> Batch {
    let device = &Device::Cpu;
    let key = Key::new(seed, 0, "batch");
    let (mut ids, mut word_starts) = (Vec::new(), Vec::new());
    for pair in 0..pairs as u64 {
        let row = key.fold(pair);
        let length = 1 + row.fold(0).below(1, 5)[0] as usize;
        let words = row.fold(1).below(length, (VOCABULARY - SPECIAL.len()) as u32);
        let mut text = vec![CLS];
        text.extend(words.iter().map(|word| word + SPECIAL.len() as u32));
        text.push(SEP);
        // Every second piece continues the word before it.
        word_starts.extend((0..WORDS).map(|at| u8::from(at >= 1 && at <= length && at % 2 == 1)));
        text.resize(WORDS, PAD);
        ids.extend(text);
    }
    let mask: Vec<f32> = ids.iter().map(|&id| if id == PAD { 0.0 } else { 1.0 }).collect();
    let pixels = key.fold(1 << 32).normal(pairs * 3 * SIZE * SIZE);
    Batch {
        image: Image {
            pixels: Some(Tensor::from_vec(pixels, (pairs, 3, SIZE, SIZE), device).unwrap()),
            regions: None,
        },
        text: Text {
            ids: Tensor::from_vec(ids, (pairs, WORDS), device).unwrap(),
            mask: Tensor::from_vec(mask, (pairs, WORDS), device).unwrap(),
            segments: Tensor::zeros((pairs, WORDS), DType::U32, device).unwrap(),
        },
        word_starts,
        image_keys: (0..pairs as u64).collect(),
        caption_keys: (100..100 + pairs as u64).collect(),
        region_classes: None,
    }
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

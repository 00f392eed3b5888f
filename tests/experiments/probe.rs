//! Linear probes: the regression against scikit-learn's, and features whose classes are known.

use candle_core::{Device, Result, Tensor};
use serde::Deserialize;
use vlp_bench::data::{Split, loader};
use vlp_bench::experiments::evaluate::{
    self,
    lbfgs::Until,
    linear_probe,
    logistic::{Labelled, Layer},
};
use vlp_bench::experiments::feed::{self, Pairs};
use vlp_bench::models::{Image, Model, Text, Tokens, View};

use super::evaluate::with_subject;
use super::{clip_run, words};

#[derive(Deserialize)]
struct Case {
    features: Vec<Vec<f64>>,
    classes: Vec<u32>,
    strength: f64,
    layer: Vec<Vec<f64>>,
    tested: Vec<Vec<f64>>,
    shares: Vec<Vec<f64>>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../golden/logistic.json")).expect("the fixture")
}

const EXACT: Until = Until { gradient: 1e-10, steps: 100_000 };

fn labelled(case: &Case) -> Labelled {
    Labelled {
        features: Tensor::new(case.features.clone(), &Device::Cpu).unwrap(),
        classes: case.classes.clone(),
    }
}

#[test]
fn a_regression_is_that_of_scikit_learn() {
    for case in cases() {
        let (width, classes) = (case.features[0].len(), case.layer[0].len());
        let layer = Layer::zero(width, classes).fitted(&labelled(&case), case.strength, EXACT).unwrap();
        let expected = case.layer.concat();
        // The intercepts are known up to a constant: nothing holds their sum.
        let shift = |weights: &[f64]| weights[width * classes..].iter().sum::<f64>() / classes as f64;
        let (own, theirs) = (shift(layer.weights()), shift(&expected));
        for (at, (found, expected)) in layer.weights().iter().zip(&expected).enumerate() {
            let shift = if at < width * classes { 0.0 } else { own - theirs };
            // The weaker the penalty, the flatter the ground around the best weights.
            let near = (1e-6 / case.strength).max(1e-5);
            assert!((found - shift - expected).abs() < near, "{at}: {found} {expected}");
        }
        let logits = layer.logits(&Tensor::new(case.tested.clone(), &Device::Cpu).unwrap()).unwrap();
        for (logits, shares) in logits.chunks(classes).zip(&case.shares) {
            let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
            for (logit, share) in logits.iter().zip(shares) {
                assert!((logit.exp() / sum - share).abs() < 1e-5, "{} {share}", logit.exp() / sum);
            }
        }
    }
}

#[test]
fn where_the_search_begins_decides_nothing() {
    let case = &cases()[0];
    let (data, zero) = (labelled(case), Layer::zero(3, 3));
    let direct = zero.fitted(&data, 1.0, EXACT).unwrap();
    let around = zero.fitted(&data, 0.01, EXACT).unwrap().fitted(&data, 1.0, EXACT).unwrap();
    for (direct, around) in direct.weights().iter().zip(around.weights()) {
        assert!((direct - around).abs() < 1e-6, "{direct} {around}");
    }
}

/// Knows the class of each picture, which it tells by its pixels; or knows nothing.
struct Sorting {
    known: Vec<(f32, String)>,
    names: Vec<String>,
}

fn sums(image: &Image) -> Result<Vec<f32>> {
    image.pixels.as_ref().expect("pixels").flatten_from(1)?.sum(1)?.to_vec1::<f32>()
}

impl Sorting {
    fn of(pairs: &Pairs) -> Self {
        let mut known = Vec::new();
        for split in [Split::Train, Split::Test] {
            let dataset = pairs.split(split).unwrap().as_ref();
            for host in loader::Evaluation::new(dataset, pairs.encoder(), pairs.layout(), 32) {
                let host = host.unwrap();
                let image = feed::image(&host, pairs.inputs.size, &Device::Cpu).unwrap();
                let names = host.categories.iter().map(|name| name.clone().expect("a class"));
                known.extend(sums(&image).unwrap().into_iter().zip(names));
            }
        }
        let mut names: Vec<String> = known.iter().map(|(_, name)| name.clone()).collect();
        names.sort();
        names.dedup();
        Self { known, names }
    }
}

impl Model for Sorting {
    fn embed_image(&self, image: &View<Image>) -> Result<Tensor> {
        let row = |sum: f32| -> Vec<f32> {
            let class = self.known.iter().find(|(known, _)| *known == sum).map(|(_, name)| name);
            (0..16).map(|at| f32::from(u8::from(self.names.get(at) == class && class.is_some()))).collect()
        };
        Tensor::new(sums(image.input()?)?.into_iter().map(row).collect::<Vec<_>>(), &Device::Cpu)
    }
    fn embed_text(&self, text: &View<Text>) -> Result<Tensor> {
        Tensor::zeros((text.rows()?, 16), candle_core::DType::F32, &Device::Cpu)
    }
    fn image_tokens(&self, image: &View<Image>) -> Result<Tokens> {
        let class = self.embed_image(image)?.unsqueeze(1)?;
        Ok(Tokens { hidden: Tensor::cat(&[&class, &class.zeros_like()?], 1)?, mask: None })
    }
}

fn accuracy(features: linear_probe::Features, knows: bool) -> f64 {
    let run = clip_run();
    let pairs = Pairs::open(&run.data, &words(), 0).unwrap();
    let mut model = Sorting::of(&pairs);
    assert!(model.names.len() > 2 && model.names.len() <= 16, "{:?}", model.names);
    if !knows {
        model.known.clear();
    }
    let config = linear_probe::Config { features, ..Default::default() };
    with_subject(
        &run,
        |_| Box::new(model),
        |subject| {
            let shown = subject.show().unwrap();
            let found = evaluate::Config::LinearProbe(config).measure(subject, &shown).unwrap();
            assert_eq!(found.items, 40);
            found.values["linear_probe.accuracy"].value
        },
    )
}

#[test]
fn features_that_tell_the_class_are_all_a_probe_needs() {
    use linear_probe::Features::{Embedding, First, Mean};
    for features in [Embedding, First, Mean] {
        assert_eq!(accuracy(features, true), 100.0, "{features:?}");
    }
}

#[test]
fn a_probe_of_features_that_tell_nothing_guesses_one_class() {
    let guessed = accuracy(linear_probe::Features::Embedding, false);
    assert!(guessed < 60.0, "{guessed}");
}

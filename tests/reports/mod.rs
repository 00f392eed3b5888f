//! Reports on synthetic records with known effects.

mod committed;
mod figures;
mod numbers;
mod reading;
mod reproduction;
mod simulation;
mod statistics;
mod verdicts;
mod writing;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde_json::json;
use vlp_bench::data::{Dataset as _, Split, scenes};
use vlp_bench::experiments::record::{
    ClaimRecord, DataRecord, Done, Effect, Evaluation, Example, Expect, ExperimentRecord, FORMAT, Failed,
    Found, Header, Machine, Measured, PublishedEffect, Record, Status, TrainFigures,
};
use vlp_bench::kernels::random::Key;

pub const METRIC: &str = "retrieval.mean_recall";

/// An experiment of which every run's values are known: the arm's level, plus what the seed does to all arms, plus noise.
#[derive(Clone)]
pub struct Study {
    pub about: ExperimentRecord,
    /// For each arm: the mean recall it reaches, and what it changes.
    pub arms: Vec<(&'static str, f64, BTreeMap<String, serde_json::Value>)>,
    /// How far one seed's difference between arms strays.
    pub noise: f64,
}

/// Arms `with` and `without`, `with` better by `effect`, and a claim that it is.
pub fn study(effect: f64, seeds: u64) -> Study {
    let changes = |distill: f64| BTreeMap::from([("objectives.itc.distill".to_owned(), json!(distill))]);
    Study {
        about: ExperimentRecord {
            name: "albef/distillation-weight".to_owned(),
            question: "Does distilling from the momentum model help?".to_owned(),
            chosen: Some("By the control, on seeds of its own.".to_owned()),
            profile: Some("cpu".to_owned()),
            control: Some("without".to_owned()),
            arms: ["without", "with"].map(str::to_owned).to_vec(),
            seeds: (0..seeds).collect(),
            claims: vec![claim("with", "without", Expect::Positive)],
            select: "the last step".to_owned(),
            command: "vlp run experiments/albef/distillation-weight.yaml --profile cpu".to_owned(),
            ..ExperimentRecord::default()
        },
        arms: vec![("without", 20.0, changes(0.0)), ("with", 20.0 + effect, changes(0.4))],
        noise: 0.3,
    }
}

pub fn claim(arm: &str, minus: &str, expect: Expect) -> ClaimRecord {
    let effect = Effect { metric: METRIC.to_owned(), arm: arm.to_owned(), minus: minus.to_owned() };
    ClaimRecord { effect, expect, published: None }
}

/// A published effect that a rerun could reproduce.
pub fn published(value: f64, status: Status) -> PublishedEffect {
    PublishedEffect {
        key: "albef/table-1/distillation".to_owned(),
        value: Some(value),
        spread: None,
        runs: None,
        status,
        stated: None,
        sign: None,
        source: "ALBEF, Table 1, rows 3 and 6".to_owned(),
        protocol: "mean recall on Flickr30K after fine-tuning".to_owned(),
        differences: Vec::new(),
        incomparable: Vec::new(),
    }
}

/// Five arms with claims of every kind, one failed and one missing run, and real pictures.
pub fn ablation() -> Study {
    let mut study = study(1.9, 5);
    let changes = |key: &str, value: serde_json::Value| BTreeMap::from([(key.to_owned(), value)]);
    study.arms.push(("hard", 20.4, changes("objectives.itm.negatives", json!("hard"))));
    study.arms.push(("with, noisy", 16.8, changes("data.train.scenes.noise", json!(0.4))));
    study.arms.push(("without, noisy", 14.1, changes("data.train.scenes.noise", json!(0.4))));
    study.about.arms = study.arms.iter().map(|(name, ..)| (*name).to_owned()).collect();
    let mut hard = claim("hard", "without", Expect::Positive);
    hard.published = Some(published(777.25, Status::Recalled));
    let mut noisy = claim("with, noisy", "without, noisy", Expect::Positive);
    noisy.published = Some(published(2.3, Status::Verified));
    study.about.claims[0].published = Some(PublishedEffect {
        differences: vec!["14M training pairs there, 20,000 here".to_owned()],
        ..published(0.74, Status::Verified)
    });
    study.about.claims.extend([hard, noisy]);
    study
}

impl Study {
    /// The value that a run of the study measures.
    pub fn value(&self, arm: &str, seed: u64) -> f64 {
        let level = self.arms.iter().find(|(name, ..)| *name == arm).expect("an arm").1;
        let draw = |purpose: &str| f64::from(Key::new(seed, 0, purpose).normal(1)[0]);
        level + 1.5 * draw("seed") + self.noise * draw(arm)
    }

    /// What one run records.
    pub fn records(&self, arm: &str, seed: u64) -> Vec<Record> {
        let (_, level, overrides) = self.arms.iter().find(|(name, ..)| *name == arm).expect("an arm").clone();
        let distill = overrides.get("objectives.itc.distill").cloned().unwrap_or(json!(0));
        let header = Header {
            format: FORMAT,
            experiment: self.about.clone(),
            arm: arm.to_owned(),
            overrides,
            seed,
            config: json!({
                "model": {"albef": {"width": 128}},
                "objectives": [{"itc": {"distill": distill}}, {"itm": {}}],
                "train": {"steps": 1000, "batch": 64},
            }),
            hash: format!("{}-{arm}-{seed}-{level}", self.about.name),
            model: "albef".to_owned(),
            objectives: ["itc", "itm"].map(str::to_owned).to_vec(),
            parameters: 1_234_567,
            flops_per_step: 4.81e9,
            data: ["train", "test"].map(data).to_vec(),
            attribution: vec!["Scenes: drawn by this suite.".to_owned()],
            deviations: vec!["albef: the text tower is trained from scratch.".to_owned()],
            code: "0.1.0 (4f2c9a1)".to_owned(),
            program: "77c0".to_owned(),
            machine: Machine {
                device: "cpu".to_owned(),
                processor: "Xeon".to_owned(),
                threads: 2,
                side_by_side: None,
                system: "linux x86_64".to_owned(),
            },
            start: Vec::new(),
        };
        let mut records = vec![Record::Run(Box::new(header))];
        for step in (1..=10).map(|part| part * 100) {
            records.push(Record::Train(self.figures(arm, seed, step)));
            records.push(Record::Evaluation(evaluation("val", step, false, self.value(arm, seed))));
        }
        records.push(Record::Evaluation(evaluation("test", 1000, true, self.value(arm, seed))));
        records.extend((0..3).map(|index| Record::Example(example(index))));
        records.push(Record::Done(Done {
            steps: 1000,
            seconds: 95.0,
            pairs_per_second: 673.0,
            peak_memory: Some(812_000_000),
            weights: "5e1f".to_owned(),
        }));
        records
    }

    fn figures(&self, arm: &str, seed: u64, step: u64) -> TrainFigures {
        let noise = f64::from(Key::new(seed, step, arm).normal(1)[0]);
        let loss = 4.2 - (0.05 * self.value(arm, seed) + 0.8) * (1.0 - (-(step as f64) / 300.0).exp())
            + 0.05 * noise;
        let values = [("loss", loss + 0.6), ("itc.loss", loss), ("itm.loss", 0.6), ("rate", 1e-3)];
        let values = values.map(|(name, value)| (name.to_owned(), value)).into();
        TrainFigures { step, values, seconds: 0.09 * step as f64 }
    }

    /// Writes every run below `folder`; of an arm `hard`, the last seed is missing and the last but one has failed.
    pub fn write(&self, folder: &Path) {
        for (arm, ..) in &self.arms {
            let last = self.about.seeds.last().copied().unwrap_or_default();
            for seed in &self.about.seeds {
                let mut records = self.records(arm, *seed);
                if *arm == "hard" && seed + 1 == last {
                    records.truncate(12);
                    records.push(failed(500, "the loss of itc is not finite"));
                }
                if *arm != "hard" || *seed != last {
                    write(&folder.join(format!("{arm}-{seed}")), &records);
                }
            }
        }
    }
}

fn data(split: &str) -> DataRecord {
    let (name, fingerprint) = ("scenes".to_owned(), format!("{split}-77aa"));
    DataRecord { split: split.to_owned(), name, pairs: 20_000, fingerprint }
}

/// An evaluation whose recalls agree with its mean at the last step.
fn evaluation(split: &str, step: u64, selected: bool, last: f64) -> Evaluation {
    let mean = 0.6 + (last - 0.6) * (1.0 - (-(step as f64) / 250.0).exp()) / (1.0 - (-4.0f64).exp());
    let measured = |value: f64, chance: Option<f64>| Measured {
        value,
        percent: true,
        chance,
        sampling_error: chance.map(|_| (value * (100.0 - value) / 1000.0).max(0.0).sqrt()),
    };
    let values = [
        (METRIC, measured(mean, Some(0.53))),
        ("retrieval.text_recall_at_1", measured(0.4 * mean, Some(0.1))),
        ("retrieval.text_recall_at_5", measured(1.1 * mean, Some(0.5))),
        ("retrieval.text_recall_at_10", measured(1.5 * mean, Some(1.0))),
        ("retrieval.tie_rate", measured(0.0, None)),
    ];
    Evaluation {
        step,
        name: "retrieval".to_owned(),
        version: 1,
        split: split.to_owned(),
        selected,
        items: 1000,
        values: values.map(|(name, value)| (name.to_owned(), value)).into(),
        seconds: 1.5,
    }
}

/// A test picture of which one caption is found first, and something else second.
fn example(index: usize) -> Example {
    let scenes = scenes::Config { pairs: 8, ..scenes::Config::default() };
    let pair = scenes.open(Split::Test).and_then(|scenes| scenes.get(index)).expect("a scene");
    let pixels = image::RgbImage::from_raw(pair.picture.width, pair.picture.height, pair.picture.rgb);
    let mut png = std::io::Cursor::new(Vec::new());
    pixels.expect("pixels").write_to(&mut png, image::ImageFormat::Png).expect("a PNG");
    let found =
        |caption: &str, score: f64, correct: bool| Found { caption: caption.to_owned(), score, correct };
    let mut captions = pair.captions;
    captions.push("a star & a <ring>".to_owned());
    Example {
        step: 1000,
        id: pair.id,
        png: base64::engine::general_purpose::STANDARD.encode(png.into_inner()),
        found: vec![
            found(&captions[0], 0.9, true),
            found("a blue square above a large grey ring", 0.5, false),
            found("two stars", 0.4, false),
        ],
        captions,
        written: None,
    }
}

pub fn failed(step: u64, reason: &str) -> Record {
    Record::Failed(Failed { step, reason: reason.to_owned() })
}

/// Writes records as a run does.
pub fn write(place: &Path, records: &[Record]) -> PathBuf {
    let line = |record: &Record| serde_json::to_string(record).expect("a record") + "\n";
    fs::create_dir_all(place).expect("a folder");
    let file = place.join("records.jsonl");
    fs::write(&file, records.iter().map(line).collect::<String>()).expect("a file");
    file
}

/// A run's header, to be changed.
pub fn header(records: &mut [Record]) -> &mut Header {
    match records.first_mut() {
        Some(Record::Run(header)) => header,
        _ => panic!("records begin with a header"),
    }
}

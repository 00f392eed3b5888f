//! Experiment files, training, checkpoints, evaluation and records, on experiments of a second or two.

mod agenda;
mod capfilt;
mod captioning;
mod captions;
mod checkpoints;
mod cli;
mod combine;
mod evaluate;
mod file;
mod inference;
mod kills;
mod lanes;
mod learning;
mod matrix;
mod plans;
mod probe;
mod published;
mod ranking;
mod runs;
mod schedule;
mod stages;
mod tasks;
mod training;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device;
use vlp_bench::data::collate::{Encode, Encoding, key};
use vlp_bench::data::{self, Result};
use vlp_bench::experiments::evaluate::{Config as Evaluate, retrieval};
use vlp_bench::experiments::feed::Words;
use vlp_bench::experiments::file::node::Node;
use vlp_bench::experiments::progress::Show;
use vlp_bench::experiments::run::{Attempted, Options, Outcome, run};
use vlp_bench::experiments::{Arm, Combine, Experiment, Run, Select, Teacher, Train};
use vlp_bench::models::{self, albef, clip, nn::Tower, uniter};
use vlp_bench::objectives::{self, itc_momentum, itm, mlm};
use vlp_bench::token::{CLS, SEP, SPECIAL};

/// One token a word: the hash of the word.
struct Hashing;

const ENTRIES: usize = 512;

impl Encode for Hashing {
    fn encode(&self, text: &str, most: usize) -> Result<Encoding> {
        let special = SPECIAL.len();
        let mut ids = vec![CLS];
        let words = text.split(' ').take(most - 2);
        ids.extend(words.map(|word| (special as u64 + key(word) % (ENTRIES - special) as u64) as u32));
        ids.push(SEP);
        let last = ids.len() - 1;
        Ok(Encoding { word_starts: (0..ids.len()).map(|at| u8::from(at > 0 && at < last)).collect(), ids })
    }
    fn text(&self, ids: &[u32]) -> String {
        ids.iter().map(|id| format!("w{id}")).collect::<Vec<_>>().join(" ")
    }
}

fn words() -> Words {
    Words { encoder: Arc::new(Hashing), entries: ENTRIES }
}

fn tower(depth: usize) -> Tower {
    Tower { width: 32, depth, heads: 2, mlp: None }
}

fn scenes(pairs: usize) -> data::Sources {
    let config = data::scenes::Config { pairs, size: 16, captions: 2, ..Default::default() };
    data::Sources(vec![data::Source::Scenes(config)])
}

/// A CLIP that trains in a second.
fn clip_run() -> Run {
    Run {
        stages: BTreeMap::new(),
        rewrites: BTreeMap::new(),
        start: Vec::new(),
        data: data::Config {
            train: scenes(96),
            val: None,
            test: Some(scenes(40)),
            size: 16,
            words: 16,
            tags: 0,
            tokenizer: None,
            entries: None,
            augment: data::augment::Config::default(),
            shuffled_captions: false,
            wording: data::wording::Wording::default(),
        },
        model: models::Config::Clip(clip::Config {
            image: tower(1),
            text: tower(1),
            embed: 32,
            ..Default::default()
        }),
        objectives: vec![objectives::Config::Itc(Default::default())],
        train: Train { steps: 12, batch: 16, log: 5, rate: 2e-3, ..Train::default() },
        evaluate: vec![Evaluate::Retrieval(Default::default())],
        select: Select::default(),
    }
}

/// A UNITER of which every update trains one group of objectives.
fn uniter_run() -> Run {
    let objectives =
        ["itm: {negatives: random, replace: image}", "wra: {}", "mlm: {}", "mrfr: {}", "mrc_kl: {}"];
    let ratios = [("mlm", 2.0), ("mrfr", 1.0), ("mrc_kl", 1.0), ("itm+wra", 2.0)];
    let sample = ratios.map(|(group, ratio)| (group.to_owned(), Some(ratio)));
    Run {
        model: models::Config::Uniter(uniter::Config { trunk: tower(1), ..Default::default() }),
        objectives: objectives.iter().map(|entry| serde_yaml::from_str(entry).unwrap()).collect(),
        train: Train { combine: Combine::Sample(sample.into()), ..clip_run().train },
        evaluate: Vec::new(),
        ..clip_run()
    }
}

/// An ALBEF with every kind of state: a teacher, queues, dropout, masks and draws of negatives.
fn albef_run() -> Run {
    let momentum = itc_momentum::Config { queue: 48, ..Default::default() };
    Run {
        model: models::Config::Albef(albef::Config {
            image: tower(1),
            text: tower(2),
            fusion: 1,
            embed: 16,
            ..Default::default()
        }),
        objectives: vec![
            objectives::Config::ItcMomentum(momentum),
            objectives::Config::Itm(itm::Config::default()),
            objectives::Config::Mlm(mlm::Config { distill: 0.4, ..Default::default() }),
        ],
        train: Train { teacher: Some(Teacher { momentum: 0.9 }), ..clip_run().train },
        evaluate: vec![Evaluate::Retrieval(retrieval::Config { rerank: Some(4), ..Default::default() })],
        ..clip_run()
    }
}

fn arm(name: &str, run: Run) -> Arm {
    Arm::new(name, BTreeMap::new(), run, Node::default())
}

fn experiment(run: Run) -> Experiment {
    Experiment {
        name: "tiny".to_owned(),
        file: "tiny.yaml".into(),
        question: "Does it learn?".to_owned(),
        chosen: None,
        paper: None,
        profile: None,
        control: None,
        arms: vec![arm("main", run)],
        seeds: vec![0],
        claims: Vec::new(),
    }
}

fn options(out: &Path) -> Options {
    Options {
        out: out.to_owned(),
        device: Device::Cpu,
        words: words(),
        show: Show::Nothing,
        command: "vlp run tiny.yaml".to_owned(),
        jobs: 1,
        stop_at: None,
        until: None,
    }
}

/// Trains the first arm with seed 0 until `stop_at`, or to its end.
fn attempt(experiment: &Experiment, out: &Path, stop_at: Option<u64>) -> Attempted {
    run(experiment, &experiment.arms[0], 0, &Options { stop_at, ..options(out) }).unwrap()
}

/// Trains the first arm with seed 0 to its end; its directory.
fn finished(experiment: &Experiment, out: &Path) -> PathBuf {
    let attempted = attempt(experiment, out, None);
    assert!(matches!(attempted.outcome, Outcome::Finished(_)), "{attempted:?}");
    attempted.directory
}

//! Single updates: what moves, what does not, and that threads change nothing.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Device, Tensor};
use vlp_bench::experiments::directory::identity;
use vlp_bench::experiments::feed::{self, Pairs};
use vlp_bench::experiments::header::header;
use vlp_bench::experiments::train::Trainer;
use vlp_bench::experiments::{Run, Train, checkpoint};
use vlp_bench::kernels::Precision;
use vlp_bench::models::Store;
use vlp_bench::models::store::Role;
use vlp_bench::objectives::Batch;

use super::{albef_run, clip_run, experiment, words};
use crate::places::{On, everywhere};

pub fn trainer(run: &Run) -> (Trainer, impl FnMut() -> Batch + use<>) {
    let pairs = Pairs::open(&run.data, &words(), 0).unwrap();
    let mut loader = pairs.loader(run.train.batch, 0, 0).unwrap();
    let trainer =
        Trainer::new(run, &pairs.inputs, loader.steps_per_epoch(), 0, &Device::Cpu, &Default::default())
            .unwrap();
    let next = move || feed::batch(loader.next_batch().unwrap(), &pairs, &Device::Cpu).unwrap();
    (trainer, next)
}

pub fn values(trainer: &Trainer) -> BTreeMap<String, Vec<f32>> {
    let flat = |tensor: Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    trainer.store.tensors().into_iter().map(|(name, tensor)| (name, flat(tensor))).collect()
}

#[test]
fn every_trainable_parameter_and_every_shadow_moves() {
    let run = Run { train: Train { warmup: 0.0, ..albef_run().train }, ..albef_run() };
    let (mut trainer, mut next) = trainer(&run);
    let before = values(&trainer);
    for _ in 0..2 {
        trainer.update(&next()).unwrap();
    }
    let after = values(&trainer);
    for name in trainer.store.of(Role::Trainable).keys().chain(trainer.store.of(Role::Teacher).keys()) {
        assert_ne!(before[name], after[name], "{name}");
    }
    assert!(!trainer.store.of(Role::Teacher).is_empty() && !trainer.store.of(Role::Buffer).is_empty());
}

#[test]
fn frozen_parameters_stay() {
    let train = Train { freeze: vec!["image.*".to_owned()], ..clip_run().train };
    let (mut trainer, mut next) = trainer(&Run { train, ..clip_run() });
    let before = values(&trainer);
    trainer.update(&next()).unwrap();
    let after = values(&trainer);
    let frozen = trainer.store.of(Role::Frozen);
    assert!(frozen.len() > 5 && frozen.keys().all(|name| before[name] == after[name]));
    assert!(trainer.store.of(Role::Trainable).keys().any(|name| before[name] != after[name]));
}

#[test]
fn a_bound_on_the_gradient_shortens_it_and_leaves_its_direction() {
    let moments = |clip| {
        let (mut trainer, mut next) =
            trainer(&Run { train: Train { clip, ..clip_run().train }, ..clip_run() });
        let figures = trainer.update(&next()).unwrap();
        let norm = figures["gradient_norm"].to_scalar::<f32>().unwrap();
        let first = trainer.moments()["image.project.weight"].get(0).unwrap().to_vec1::<f32>().unwrap();
        (norm, first)
    };
    let (norm, free) = moments(None);
    let (same, bound) = moments(Some(0.5));
    assert!(norm > 0.5 && norm.to_bits() == same.to_bits());
    for (free, bound) in free.iter().zip(bound) {
        assert!((free * 0.5 / norm - bound).abs() <= 1e-6 * free.abs() + 1e-12, "{free} {bound}");
    }
}

#[test]
fn gradient_checkpointing_changes_no_bit() {
    let after = |gradient_checkpointing| {
        let train = Train { gradient_checkpointing, ..albef_run().train };
        let (mut trainer, mut next) = trainer(&Run { train, ..albef_run() });
        let flops = trainer.flops(&next()).unwrap();
        for _ in 0..3 {
            trainer.update(&next()).unwrap();
        }
        (values(&trainer), flops)
    };
    let ((kept, once), (again, twice)) = (after(false), after(true));
    assert!(kept == again);
    assert!(twice > 1.15 * once && twice < 1.34 * once, "{once} {twice}");
}

fn multiplying_in(precision: Precision) -> Run {
    Run { train: Train { precision, ..clip_run().train }, ..clip_run() }
}

#[test]
fn the_precision_of_products_is_part_of_a_runs_identity_and_header_where_it_is_set() {
    let of = |precision| {
        let run = multiplying_in(precision);
        let pairs = Pairs::open(&run.data, &words(), 0).unwrap();
        let (experiment, store) = (experiment(run.clone()), Store::new(&Device::Cpu, 0, &[]));
        let header = header(&experiment, &experiment.arms[0], 0, "", &pairs, (&store, 0.0), "").unwrap();
        let differs = header.deviations.iter().filter(|line| line.starts_with("precision: ")).count();
        let written = header.config["train"].get("precision").map(ToString::to_string);
        (identity(&run, 0, &Device::Cpu, &pairs).unwrap(), written, differs)
    };
    let ((plain, nothing, same), (rounded, written, differs)) = (of(Precision::F32), of(Precision::Bf16));
    assert_ne!(plain, rounded);
    assert_eq!((nothing, same, written.as_deref(), differs), (None, 0, Some("\"bf16\""), 1));
}

#[test]
fn an_update_on_a_gpu_multiplies_in_the_precision_of_its_run_and_keeps_parameters_in_f32() {
    let loss = |on: On<'_>, precision| {
        let (run, device) = (multiplying_in(precision), on.device());
        let pairs = Pairs::open(&run.data, &words(), 0).unwrap();
        let batch = pairs.loader(8, 0, 0).unwrap().next_batch().unwrap();
        let batch = feed::batch(batch, &pairs, &device).unwrap();
        let mut trainer = Trainer::new(&run, &pairs.inputs, 6, 0, &device, &BTreeMap::new()).unwrap();
        on.run(|| {
            let loss = trainer.update(&batch).unwrap()["loss"].to_scalar::<f32>()?;
            assert!(trainer.store.tensors().values().all(|value| value.dtype() == DType::F32));
            Ok(loss)
        })
    };
    everywhere(|on| {
        let (plain, rounded) = (loss(on, Precision::F32), loss(on, Precision::Bf16));
        // A factor of 8 bits is off by 2^-9 of itself on average.
        assert!(plain != rounded && (plain - rounded).abs() < 0.02 * plain, "{plain} {rounded}");
    });
}

#[test]
fn one_thread_and_two_give_equal_bits() {
    let digest = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (mut trainer, mut next) = trainer(&albef_run());
            for _ in 0..3 {
                trainer.update(&next()).unwrap();
            }
            checkpoint::digest(&trainer.store.tensors()).unwrap()
        })
    };
    assert_eq!(digest(1), digest(2));
}

#[test]
fn metrics_carry_the_objectives_names() {
    let (mut trainer, mut next) = trainer(&albef_run());
    let figures = trainer.update(&next()).unwrap();
    for name in ["loss", "gradient_norm", "rate", "itc_momentum.loss", "itm.accuracy", "mlm.loss"] {
        assert!(figures.contains_key(name), "{name} is not among {:?}", figures.keys());
    }
    let scalar = |name: &str| figures[name].to_scalar::<f32>().unwrap();
    let sum = scalar("itc_momentum.loss") + scalar("itm.loss") + scalar("mlm.loss");
    assert!((sum - scalar("loss")).abs() < 1e-4);
}

/// The pairs of a run whose captions a tokenizer of tests/golden spells.
fn spelt(run: &Run, file: &str, entries: Option<usize>) -> vlp_bench::experiments::failure::Result<Pairs> {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/spelling").join(file);
    let tokenizer = Some(golden.display().to_string());
    Pairs::open(&vlp_bench::data::Config { tokenizer, entries, ..run.data.clone() }, &words(), 0)
}

#[test]
fn a_run_trains_on_the_tokens_of_a_published_tokenizer_which_is_part_of_its_identity() {
    let mut identities = BTreeSet::new();
    let run = albef_run();
    identities
        .insert(identity(&run, 0, &Device::Cpu, &Pairs::open(&run.data, &words(), 0).unwrap()).unwrap());
    for (file, entries) in
        [("vocab.txt", None), ("vocab.txt", Some(600)), ("clip.json", None), ("t5.json", None)]
    {
        let run = if file == "vocab.txt" { albef_run() } else { clip_run() };
        let pairs = spelt(&run, file, entries).unwrap();
        assert_eq!(pairs.inputs.vocabulary, entries.unwrap_or(pairs.inputs.vocabulary));
        // The configuration is that without a tokenizer: what differs is what the tokenizer holds.
        identities.insert(identity(&run, 0, &Device::Cpu, &pairs).unwrap());
        let mut trainer = Trainer::new(&run, &pairs.inputs, 6, 0, &Device::Cpu, &BTreeMap::new()).unwrap();
        let host = pairs.loader(run.train.batch, 0, 0).unwrap().next_batch().unwrap();
        assert_eq!(host.specials, pairs.inputs.specials);
        trainer.update(&feed::batch(host, &pairs, &Device::Cpu).unwrap()).unwrap();
    }
    assert_eq!(identities.len(), 4);
    let message = spelt(&run, "vocab.txt", Some(9)).err().unwrap().to_string();
    assert!(message.contains("`data.entries` is 9"), "{message}");
    let message = spelt(&run, "none.json", None).err().unwrap().to_string();
    assert!(message.contains("`data.tokenizer` is `") && message.contains("is not there"), "{message}");
}

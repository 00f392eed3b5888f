use candle_core::{Device, Tensor};
use vlp_bench::kernels::optim::{AdamW, adamw_};
use vlp_bench::models::Store;
use vlp_bench::models::store::Role;
use vlp_bench::objectives::{Config, Step};

use super::tiny::{DIMS, Tiny};
use super::{at, batch};

/// Losses of `updates` updates on one fixed batch with fixed draws.
fn losses(config: &Config, pairs: usize, updates: u64) -> Vec<f32> {
    let store = Store::new(&Device::Cpu, 3, &[]);
    let model = Tiny::build(&store.student()).unwrap();
    let teacher = Tiny::build(&store.teacher()).unwrap();
    let mut objective = config.open(&store.student(), &DIMS).unwrap();
    let batch = batch(pairs, 5);
    let entries = store.of(Role::Trainable);
    let moments: Vec<Tensor> = entries
        .values()
        .map(|entry| Tensor::zeros((2, entry.var.elem_count()), entry.var.dtype(), &Device::Cpu).unwrap())
        .collect();
    (1..=updates)
        .map(|update| {
            let step = Step::new(&batch, &model, Some(&teacher), at(4), 9);
            let loss = objective.loss(&step).unwrap();
            let grads = loss.value.backward().unwrap();
            for (entry, moments) in entries.values().zip(&moments) {
                let Some(grad) = grads.get(&entry.var) else { continue };
                let adamw = AdamW {
                    rate: 1e-2,
                    beta1: 0.9,
                    beta2: 0.98,
                    eps: 1e-8,
                    weight_decay: 0.0,
                    step: update,
                    grad_scale: 1.0,
                };
                adamw_(&entry.var.flatten_all().unwrap(), moments, &grad.flatten_all().unwrap(), &adamw)
                    .unwrap();
            }
            store.follow(0.9).unwrap();
            objective.after(&step).unwrap();
            loss.value.to_scalar::<f32>().unwrap()
        })
        .collect()
}

#[test]
fn every_objective_learns_a_fixed_batch() {
    for config in Config::all() {
        let losses = losses(&config, 6, 30);
        println!("{} {losses:?}", config.name());
        assert!(losses[29] < losses[0], "{}: {losses:?}", config.name());
    }
}

#[test]
fn batches_of_one_and_two_pairs_are_safe() {
    for config in Config::all() {
        for pairs in [1, 2] {
            let losses = losses(&config, pairs, 2);
            assert!(losses.iter().all(|loss| loss.is_finite()), "{} {pairs}: {losses:?}", config.name());
        }
    }
}

//! The order of pairs and the loader: equal batches whatever the threads and after a resumption; errors surface.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use vlp_bench::data::collate::HostBatch;
use vlp_bench::data::loader::{self, Loader};
use vlp_bench::data::order::Order;
use vlp_bench::data::{Dataset, Error, Result};

use super::{Hashing, faulty, loading, training};

fn batches(dataset: &Arc<dyn Dataset>, config: loader::Config, first: u64, count: usize) -> Vec<HostBatch> {
    let mut loader = Loader::new(dataset.clone(), Arc::new(Hashing), config, first).expect("a loader");
    (0..count).map(|_| loader.next_batch().expect("a batch")).collect()
}

proptest! {
    #[test]
    fn an_epoch_visits_every_pair_at_most_once(len in 1usize..300, share in 0.01f64..1.0, seed: u64, epoch in 0u64..5) {
        let batch = ((len as f64 * share) as usize).max(1);
        let mut order = Order::new(len, batch, seed).expect("an order");
        let steps = order.steps_per_epoch();
        let seen: Vec<usize> = (0..steps).flat_map(|step| order.batch(epoch * steps + step)).collect();
        let distinct: BTreeSet<usize> = seen.iter().copied().collect();
        prop_assert_eq!(seen.len(), (len / batch) * batch);
        prop_assert_eq!(distinct.len(), seen.len());
        prop_assert!(distinct.iter().all(|index| *index < len));
    }
}

#[test]
fn epochs_and_seeds_have_orders_of_their_own() {
    let order = |seed, epoch| Order::new(64, 64, seed).expect("an order").batch(epoch);
    assert_eq!(order(0, 0), order(0, 0));
    assert_ne!(order(0, 0), order(0, 1));
    assert_ne!(order(0, 0), order(1, 0));
}

#[test]
fn a_batch_greater_than_the_data_is_refused() {
    let error = Order::new(10, 11, 0).expect_err("refused").to_string();
    assert!(error.contains("11") && error.contains("10 pairs"), "{error}");
    assert!(Order::new(10, 0, 0).is_err());
}

#[test]
fn batches_do_not_depend_on_the_number_of_threads() {
    let data = training();
    assert_eq!(batches(&data, loading(8, 1), 0, 15), batches(&data, loading(8, 2), 0, 15));
    assert_eq!(batches(&data, loading(8, 1), 0, 15), batches(&data, loading(8, 3), 0, 15));
}

#[test]
fn a_resumed_loader_gives_the_batches_of_an_uninterrupted_one() {
    let data = training();
    let whole = batches(&data, loading(8, 2), 0, 20);
    for first in [1, 6, 13] {
        assert_eq!(whole[first..], batches(&data, loading(8, 2), first as u64, 20 - first));
    }
}

#[test]
fn later_epochs_draw_other_captions_and_other_crops() {
    let data = training();
    let all = batches(&data, loading(10, 1), 0, 10);
    let view = |epoch: usize, index: usize| {
        all[epoch * 5..epoch * 5 + 5].iter().find_map(|batch| {
            let row = batch.indices.iter().position(|at| *at == index)?;
            Some((batch.captions[row].clone(), batch.pixels[row * 768..(row + 1) * 768].to_vec()))
        })
    };
    let changed =
        (0..50).filter(|index| view(0, *index).expect("seen").0 != view(1, *index).expect("seen").0).count();
    assert!(changed > 15, "{changed} of 50 captions changed");
    assert!((0..50).all(|index| view(0, index).expect("seen").1 != view(1, index).expect("seen").1));
}

#[test]
fn a_pair_that_cannot_be_read_surfaces_as_its_error() {
    for threads in [1, 2] {
        let (data, _) = faulty(Some(17), false, Duration::ZERO);
        let mut loader = Loader::new(data, Arc::new(Hashing), loading(10, threads), 0).expect("a loader");
        let outcomes: Vec<Result<HostBatch>> = (0..5).map(|_| loader.next_batch()).collect();
        let error =
            outcomes.into_iter().find_map(|outcome| outcome.err()).expect("one epoch meets every pair");
        assert_eq!(error.to_string(), "pair 17 of faulty: its checksum differs");
        assert!(matches!(loader.next_batch(), Err(Error::Loader { .. })), "no batch is skipped silently");
    }
}

#[test]
fn a_panic_in_a_reader_is_an_error_and_not_a_hang() {
    let (data, _) = faulty(None, true, Duration::ZERO);
    let mut loader = Loader::new(data, Arc::new(Hashing), loading(10, 2), 0).expect("a loader");
    assert!(matches!(loader.next_batch(), Err(Error::Loader { step: 0, .. })));
}

#[test]
fn dropping_a_loader_stops_its_threads_at_once() {
    let (data, read) = faulty(None, false, Duration::from_millis(20));
    let loader = Loader::new(data.clone(), Arc::new(Hashing), loading(50, 2), 0).expect("a loader");
    std::thread::sleep(Duration::from_millis(30));
    let start = Instant::now();
    drop(loader);
    // A whole batch would take a second.
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    let count = read.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(read.load(Ordering::Relaxed), count, "no thread reads on");
    assert_eq!(Arc::strong_count(&data), 1, "no thread holds the data");
}

#[test]
fn the_loader_runs_ahead_only_as_far_as_allowed() {
    let (data, read) = faulty(None, false, Duration::ZERO);
    let mut loader = Loader::new(data, Arc::new(Hashing), loading(10, 1), 0).expect("a loader");
    loader.next_batch().expect("a batch");
    std::thread::sleep(Duration::from_millis(200));
    // One taken, two in the queue, one waiting for room.
    assert!(read.load(Ordering::Relaxed) <= 40);
}

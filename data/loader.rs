//! Batches made ahead of the training step on background threads.
//!
//! The batch of a step is a pure function of (data, settings, seed, step): which pairs, which of their captions and how
//! each is augmented. Threads only decide how early it is ready. Thread t of n makes the batches t, t + n, t + 2n, ...
//! after the first step, each into its own bounded channel, so that batches come out in order without sorting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::collate::{Drawn, Encode, HostBatch, Layout, collate};
use super::order::Order;
use super::{Dataset, Error, Result, augment};
use crate::kernels::random::Key;

/// How batches are made.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Pairs a batch.
    pub batch: usize,
    /// The extents of a batch.
    pub layout: Layout,
    /// Random changes to the pictures.
    pub augment: augment::Config,
    /// Decides the order, the captions and the augmentation.
    pub seed: u64,
    /// Background threads, at least one; the batches do not depend on it.
    pub threads: usize,
    /// How many batches each thread keeps ready.
    pub ahead: usize,
}

/// An endless sequence of training batches.
pub struct Loader {
    queues: Vec<Receiver<Result<HostBatch>>>,
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    steps_per_epoch: u64,
    first: u64,
    step: u64,
}

impl Loader {
    /// Starts making batches from number `first` on.
    ///
    /// # Errors
    /// If no full batch can be made, a setting is outside its range or a thread cannot be started.
    pub fn new(
        dataset: Arc<dyn Dataset>,
        encoder: Arc<dyn Encode>,
        config: Config,
        first: u64,
    ) -> Result<Self> {
        config.augment.check()?;
        let order = Order::new(dataset.len(), config.batch, config.seed)?;
        let steps_per_epoch = order.steps_per_epoch();
        let count = config.threads.max(1) as u64;
        let mut loader = Self {
            queues: Vec::new(),
            threads: Vec::new(),
            stop: Arc::new(AtomicBool::new(false)),
            steps_per_epoch,
            first,
            step: first,
        };
        for number in 0..count {
            let (sender, receiver) = sync_channel(config.ahead.max(1));
            let mut maker = Maker {
                dataset: dataset.clone(),
                encoder: encoder.clone(),
                config: config.clone(),
                order: order.clone(),
                stop: loader.stop.clone(),
            };
            let thread = std::thread::Builder::new()
                .name(format!("loader {number}"))
                .spawn(move || maker.run(&sender, first + number, count))
                .map_err(|error| Error::Loader { step: first, problem: error.to_string() })?;
            loader.queues.push(receiver);
            loader.threads.push(thread);
        }
        Ok(loader)
    }

    /// How many batches one pass over the data has.
    pub fn steps_per_epoch(&self) -> u64 {
        self.steps_per_epoch
    }

    /// The number of the batch that [`Loader::next_batch`] gives next.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The batch of the current step; the next call gives the one after.
    ///
    /// # Errors
    /// If one of its pairs cannot be read. After an error there are no further batches.
    pub fn next_batch(&mut self) -> Result<HostBatch> {
        let step = self.step;
        let turn = ((step - self.first) % self.queues.len() as u64) as usize;
        let batch = self.queues[turn].recv().map_err(|_| Error::Loader {
            step,
            problem: "its thread ended after an earlier error or a panic".to_owned(),
        })??;
        self.step += 1;
        Ok(batch)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A thread that waits for room in its queue wakes up when the queue is gone.
        self.queues.clear();
        for thread in self.threads.drain(..) {
            // A panic was already reported by the step that waited for the batch.
            drop(thread.join());
        }
    }
}

struct Maker {
    dataset: Arc<dyn Dataset>,
    encoder: Arc<dyn Encode>,
    config: Config,
    order: Order,
    stop: Arc<AtomicBool>,
}

impl Maker {
    fn run(&mut self, sender: &SyncSender<Result<HostBatch>>, first: u64, stride: u64) {
        let mut step = first;
        while let Some(batch) = self.make(step).transpose() {
            let last = batch.is_err();
            if sender.send(batch).is_err() || last {
                return;
            }
            step += stride;
        }
    }

    /// The batch of a step, or nothing when the loader is being dropped.
    fn make(&mut self, step: u64) -> Result<Option<HostBatch>> {
        let epoch = self.order.place(step).epoch;
        let Config { layout, augment, seed, .. } = &self.config;
        let mut pairs = Vec::with_capacity(self.config.batch);
        for index in self.order.batch(step) {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let mut example = self.dataset.get(index)?;
            let draw = Key::new(*seed, epoch, "data.caption").fold(index as u64);
            let chosen = draw.stream().below(example.captions.len() as u32) as usize;
            let caption = caption(self.dataset.as_ref(), index, &mut example.captions, chosen)?;
            let key = Key::new(*seed, epoch, "data.augment").fold(index as u64);
            augment.view(&mut example, &caption, layout.size, key)?;
            pairs.push(Drawn { index, example, caption });
        }
        collate(&pairs, self.encoder.as_ref(), *layout).map(Some)
    }
}

/// Takes one caption out of an example.
fn caption(dataset: &dyn Dataset, index: usize, captions: &mut Vec<String>, number: usize) -> Result<String> {
    if number < captions.len() {
        return Ok(captions.swap_remove(number));
    }
    Err(Error::Example {
        dataset: dataset.name(),
        index,
        problem: format!("it has {} captions, number {number} was asked for", captions.len()),
    })
}

/// Every pair once, in the dataset's order, with its first caption and without augmentation; the last batch may be
/// smaller.
pub struct Evaluation<'a> {
    dataset: &'a dyn Dataset,
    encoder: &'a dyn Encode,
    layout: Layout,
    batch: usize,
    next: usize,
}

impl<'a> Evaluation<'a> {
    /// Batches of `batch` pairs (at least one).
    pub fn new(dataset: &'a dyn Dataset, encoder: &'a dyn Encode, layout: Layout, batch: usize) -> Self {
        Self { dataset, encoder, layout, batch: batch.max(1), next: 0 }
    }

    fn pair(&self, index: usize) -> Result<Drawn> {
        let mut example = self.dataset.get(index)?;
        let caption = caption(self.dataset, index, &mut example.captions, 0)?;
        augment::resize(&mut example, self.layout.size)?;
        Ok(Drawn { index, example, caption })
    }
}

impl Iterator for Evaluation<'_> {
    type Item = Result<HostBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let range = self.next..(self.next + self.batch).min(self.dataset.len());
        if range.is_empty() {
            return None;
        }
        self.next = range.end;
        let pairs: Result<Vec<Drawn>> = range.map(|index| self.pair(index)).collect();
        Some(pairs.and_then(|pairs| collate(&pairs, self.encoder, self.layout)))
    }
}

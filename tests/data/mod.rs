//! Datasets, augmentation, batches and their order.

mod augment;
mod batches;
mod combinations;
mod loading;
mod packs;
mod published;
mod scenes;
mod splits;
mod tasks;
mod vocabulary;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use vlp_bench::data::augment::{Config as Augment, RandAugment};
use vlp_bench::data::collate::{Encode, Encoding, Layout, key};
use vlp_bench::data::scenes::{Config as SceneConfig, Scenes};
use vlp_bench::data::{Dataset, Error, Example, Field, Result, Split, loader};

fn opened(config: SceneConfig, split: Split) -> Scenes {
    config.open(split).expect("a valid configuration")
}

/// One token a word: the hash of the word.
struct Hashing;

impl Encode for Hashing {
    fn encode(&self, text: &str, most: usize) -> Result<Encoding> {
        let mut ids = vec![2];
        ids.extend(text.split(' ').take(most - 2).map(|word| 5 + (key(word) % 1000) as u32));
        ids.push(3);
        let last = ids.len() - 1;
        Ok(Encoding { word_starts: (0..ids.len()).map(|at| u8::from(at > 0 && at < last)).collect(), ids })
    }
    fn text(&self, ids: &[u32]) -> String {
        ids.iter().map(|id| format!("w{id}")).collect::<Vec<_>>().join(" ")
    }
}

const LAYOUT: Layout = Layout { size: 16, words: 12, tags: 0 };

fn loading(batch: usize, threads: usize) -> loader::Config {
    let rand_augment = Some(RandAugment { ops: 2, magnitude: 7.0 });
    let augment = Augment { crop: Some([0.5, 1.0]), flip: true, rand_augment };
    loader::Config { batch, layout: LAYOUT, augment, seed: 7, threads, ahead: 2 }
}

fn training() -> Arc<dyn Dataset> {
    Arc::new(opened(SceneConfig { pairs: 50, ..SceneConfig::default() }, Split::Train))
}

/// A dataset that counts its readers, takes its time and fails at one pair.
struct Faulty {
    inner: Arc<dyn Dataset>,
    broken: Option<usize>,
    panics: bool,
    delay: Duration,
    read: Arc<AtomicUsize>,
}

impl Dataset for Faulty {
    fn name(&self) -> String {
        "faulty".to_owned()
    }
    fn len(&self) -> usize {
        self.inner.len()
    }
    fn get(&self, index: usize) -> Result<Example> {
        self.read.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(self.delay);
        assert!(!self.panics, "a reader panics");
        if self.broken == Some(index) {
            return Err(Error::Example {
                dataset: self.name(),
                index,
                problem: "its checksum differs".to_owned(),
            });
        }
        self.inner.get(index)
    }
    fn fields(&self) -> BTreeSet<Field> {
        self.inner.fields()
    }
    fn fingerprint(&self) -> String {
        "faulty".to_owned()
    }
    fn attribution(&self) -> Vec<String> {
        Vec::new()
    }
}

fn faulty(broken: Option<usize>, panics: bool, delay: Duration) -> (Arc<Faulty>, Arc<AtomicUsize>) {
    let read = Arc::new(AtomicUsize::new(0));
    (Arc::new(Faulty { inner: training(), broken, panics, delay, read: read.clone() }), read)
}

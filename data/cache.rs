//! Pairs kept decoded in memory, for the runs that follow as well.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Dataset, Example, Field, Result, augment};

/// How much memory the decoded pairs of one split may take; further pairs are decoded each time.
const BYTES: usize = 256 << 20;
/// How many splits stay for the runs that follow: those of one run.
const SPLITS: usize = 3;

/// A split on the shelf, and what tells it from others.
type Split = ((String, String, Option<u32>), Arc<Cached>);

/// What the last runs of this process read, the latest first.
static SHELF: Mutex<VecDeque<Split>> = Mutex::new(VecDeque::new());

/// The pairs of `inner`, which equal ones before may have decoded; their pictures at `size` x `size` pixels, where that is
/// all that is done to them.
pub fn kept(inner: Arc<dyn Dataset>, size: Option<u32>) -> Arc<Cached> {
    let name = (inner.name(), inner.fingerprint(), size);
    let mut shelf = SHELF.lock().unwrap_or_else(PoisonError::into_inner);
    let known = shelf.iter().position(|(known, _)| *known == name).and_then(|place| shelf.remove(place));
    let split = known.unwrap_or_else(|| {
        let pairs = Cached { size, ..Cached::new(inner, BYTES) };
        (name, Arc::new(pairs))
    });
    let pairs = split.1.clone();
    shelf.push_front(split);
    shelf.truncate(SPLITS);
    pairs
}

/// A dataset that remembers decoded pairs until a number of bytes is used up; the pairs are the same.
pub struct Cached {
    inner: Arc<dyn Dataset>,
    /// What pictures are brought to, if anything.
    size: Option<u32>,
    kept: Mutex<Kept>,
}

struct Kept {
    examples: Vec<Option<Arc<Example>>>,
    left: usize,
}

impl Cached {
    /// Remembers pairs worth up to `bytes`.
    pub fn new(inner: Arc<dyn Dataset>, bytes: usize) -> Self {
        let kept = Kept { examples: vec![None; inner.len()], left: bytes };
        Self { inner, size: None, kept: Mutex::new(kept) }
    }
}

/// What a pair takes in memory, roughly.
fn bytes(example: &Example) -> usize {
    let text: usize = example.captions.iter().chain(&example.tags).map(|text| text.len() + 24).sum();
    let regions: usize =
        example.regions.iter().map(|region| 4 * (region.features.len() + region.classes.len()) + 64).sum();
    let second = example.asked.as_ref().and_then(|asked| asked.second.as_deref()).map_or(0, bytes);
    256 + example.picture.rgb.len() + text + regions + second
}

impl Dataset for Cached {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn len(&self) -> usize {
        self.inner.len()
    }

    fn get(&self, index: usize) -> Result<Example> {
        // A poisoned lock only means that another thread panicked; every state of the cache is a valid one.
        let lock = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = lock().examples.get(index).cloned().flatten();
        if let Some(example) = found {
            return Ok(example.as_ref().clone());
        }
        let mut example = self.inner.get(index)?;
        if let Some(size) = self.size {
            augment::resize(&mut example, size)?;
        }
        let size = bytes(&example);
        let mut kept = lock();
        if size <= kept.left
            && let Some(place @ None) = kept.examples.get_mut(index)
        {
            *place = Some(Arc::new(example.clone()));
            kept.left -= size;
        }
        Ok(example)
    }

    fn fields(&self) -> BTreeSet<Field> {
        self.inner.fields()
    }

    fn classes(&self) -> Result<Vec<String>> {
        self.inner.classes()
    }

    fn answers(&self) -> Vec<String> {
        self.inner.answers()
    }

    fn fingerprint(&self) -> String {
        self.inner.fingerprint()
    }

    fn attribution(&self) -> Vec<String> {
        self.inner.attribution()
    }
}

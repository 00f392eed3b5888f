//! Which pairs make up the batch of a step: a pure function of (seed, step), so that a resumed run sees what an
//! uninterrupted one would have.

use super::{Error, Result};
use crate::kernels::random::Key;

/// Where one step lies in the passes over the data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// How many full passes came before.
    pub epoch: u64,
    /// The first position of the batch in this epoch's order.
    pub start: usize,
}

/// Shuffled passes over `len` pairs in batches of `batch`; what does not fill a batch is left out of that pass.
#[derive(Clone, Debug)]
pub struct Order {
    len: usize,
    batch: usize,
    seed: u64,
    current: Option<(u64, Vec<u32>)>,
}

impl Order {
    /// # Errors
    /// If no full batch can be made.
    pub fn new(len: usize, batch: usize, seed: u64) -> Result<Self> {
        if batch == 0 || batch > len {
            return Err(Error::setting(
                "train.batch",
                format!("is {batch}, the training data has {len} pairs"),
                "choose a batch of at least 1 and at most the number of training pairs",
            ));
        }
        Ok(Self { len, batch, seed, current: None })
    }

    /// How many batches one pass has.
    pub fn steps_per_epoch(&self) -> u64 {
        (self.len / self.batch) as u64
    }

    /// The epoch and the position of batch number `step`.
    pub fn place(&self, step: u64) -> Place {
        let steps = self.steps_per_epoch();
        Place { epoch: step / steps, start: (step % steps) as usize * self.batch }
    }

    /// The pairs of batch number `step`.
    pub fn batch(&mut self, step: u64) -> Vec<usize> {
        let Place { epoch, start } = self.place(step);
        if self.current.as_ref().is_none_or(|(shuffled, _)| *shuffled != epoch) {
            self.current = Some((epoch, Key::new(self.seed, epoch, "data.order").permutation(self.len)));
        }
        let order = self.current.iter().flat_map(|(_, order)| order.iter());
        order.skip(start).take(self.batch).map(|index| *index as usize).collect()
    }
}

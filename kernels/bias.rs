//! What attention adds to its scores for a pair of places, learned for each head: relative positions.
//!
//! Raffel et al., arXiv:1910.10683, section 2.1: `s_ij = q_i k_j / sqrt(d) + b(place of i, place of j)` in each head.
//! Places need not follow the rows, so that sequences without padding have them too.

use candle_core::{Result, Tensor, bail};

use super::Spans;
use super::real::Real;

#[path = "cuda/bias.rs"]
mod on_gpu;

pub(crate) use on_gpu::{Shared, arguments};

/// A sum for each pair of places in each head.
#[derive(Clone, Copy)]
pub struct Bias<'a> {
    /// (H,P,P'): of a query at one of P places and a key at one of P'.
    pub scores: &'a Tensor,
    /// Where each row of q stands among the P places, and each row of k among the P'.
    pub places: [&'a [u32]; 2],
}

/// Keys of an example at places that follow one another.
struct Run {
    key: usize,
    place: usize,
    length: usize,
}

/// The places of a [`Bias`] by example.
pub(crate) struct Places {
    /// P and P'.
    dims: [usize; 2],
    /// The place of each row of q, and of each of k.
    queries: Vec<u32>,
    keys: Vec<u32>,
    runs: Vec<Vec<Run>>,
}

impl Places {
    /// Of operands of so many rows; `keys` says which rows of k belong to which example.
    pub fn new(bias: Bias, heads: usize, keys: &Spans, rows: [usize; 2]) -> Result<Self> {
        let dims = bias.scores.dims3()?;
        let [at, seen] = bias.places;
        if dims.0 != heads || [at.len(), seen.len()] != rows {
            bail!(
                "attention: a bias {:?} with places of {} queries and {} keys for {heads} heads and {rows:?} rows",
                bias.scores.shape(),
                at.len(),
                seen.len()
            );
        }
        let dims = [dims.1, dims.2];
        for (places, most) in bias.places.iter().zip(dims) {
            if let Some(place) = places.iter().find(|&&place| place as usize >= most) {
                bail!("attention: place {place} of {most}");
            }
        }
        let runs = keys.ranges().iter().map(|range| runs(&seen[range.clone()])).collect();
        Ok(Self { dims, queries: at.to_vec(), keys: seen.to_vec(), runs })
    }

    /// Elements of the bias of one head.
    pub fn size(&self) -> usize {
        self.dims[0] * self.dims[1]
    }

    /// Where a row of queries finds its scores in those of one head.
    fn start(&self, row: usize) -> usize {
        self.queries[row] as usize * self.dims[1]
    }

    /// Adds the scores of one head to those of the query in this row.
    #[inline(always)]
    pub fn add<T: Real>(&self, example: usize, row: usize, bias: &[T], scores: &mut [T]) {
        let bias = &bias[self.start(row)..][..self.dims[1]];
        for &Run { key, place, length } in &self.runs[example] {
            let pairs = scores[key..key + length].iter_mut().zip(&bias[place..place + length]);
            pairs.for_each(|(score, &bias)| *score += bias);
        }
    }

    /// The reverse: adds what the scores of the query in this row contribute to the gradient of one head.
    #[inline(always)]
    pub fn gather<T: Real>(&self, example: usize, row: usize, slopes: &[T], sums: &mut [T]) {
        let sums = &mut sums[self.start(row)..][..self.dims[1]];
        for &Run { key, place, length } in &self.runs[example] {
            let pairs = sums[place..place + length].iter_mut().zip(&slopes[key..key + length]);
            pairs.for_each(|(sum, &slope)| *sum += slope);
        }
    }
}

fn runs(places: &[u32]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (key, &place) in places.iter().enumerate() {
        let place = place as usize;
        match runs.last_mut() {
            Some(run) if run.place + run.length == place => run.length += 1,
            _ => runs.push(Run { key, place, length: 1 }),
        }
    }
    runs
}

//! The bias of pairs of places as kernels take it.

use std::ops::Range;

use candle_core::Result;

use super::Places;
use crate::kernels::Spans;
use crate::kernels::cuda::machine::{Address, Arg, Machine, Words};

/// In a [`Layers`], a place where no row stands.
const NOWHERE: u32 = u32::MAX;

/// The place of each row of q, and of each of k, in the machine's memory.
pub(crate) struct Shared([Words; 2]);

/// The rows of examples in layers, in each of which at most one row stands at each place.
struct Layers {
    /// (layers, places): a row or [`NOWHERE`].
    rows: Vec<u32>,
    /// Which layers are whose.
    examples: Vec<Range<u32>>,
}

impl Layers {
    /// Of rows that stand at so many places.
    fn new(spans: &Spans, at: &[u32], places: usize) -> Self {
        let (mut rows, mut examples) = (Vec::new(), Vec::new());
        for range in spans.ranges() {
            let first = rows.len() / places.max(1);
            for row in range.clone() {
                let mut free = first * places + at[row] as usize;
                while rows.get(free).is_some_and(|&taken| taken != NOWHERE) {
                    free += places;
                }
                if free >= rows.len() {
                    rows.resize(rows.len() + places, NOWHERE);
                }
                rows[free] = row as u32;
            }
            examples.push(first as u32..(rows.len() / places.max(1)) as u32);
        }
        Self { rows, examples }
    }
}

/// What a kernel reads that adds up the gradient of a bias.
pub(crate) struct Gathered {
    words: [Words; 3],
    pairs: usize,
}

impl Gathered {
    /// The pairs (example, layer of queries, layer of keys), their number, and the rows of both kinds of layers.
    pub fn arguments(&self) -> Result<[Arg; 4]> {
        let [pairs, queries, keys] = self.words.each_ref().map(|words| Arg::At(words.at()));
        Ok([pairs, Arg::size(self.pairs)?, queries, keys])
    }
}

impl Places {
    pub fn share(&self, on: &dyn Machine) -> Result<Shared> {
        Ok(Shared([on.upload(&self.queries)?, on.upload(&self.keys)?]))
    }

    /// P and P'.
    pub fn dims(&self) -> [usize; 2] {
        self.dims
    }

    /// Every layer of queries of an example meets every one of its keys; where no place repeats there is one of each.
    pub fn gathered(&self, on: &dyn Machine, [queries, keys]: [&Spans; 2]) -> Result<Gathered> {
        let queries = Layers::new(queries, &self.queries, self.dims[0]);
        let keys = Layers::new(keys, &self.keys, self.dims[1]);
        let mut pairs = Vec::new();
        for (example, (queries, keys)) in (0u32..).zip(queries.examples.iter().zip(&keys.examples)) {
            for query in queries.clone() {
                pairs.extend(keys.clone().flat_map(|key| [example, query, key]));
            }
        }
        let words = [on.upload(&pairs)?, on.upload(&queries.rows)?, on.upload(&keys.rows)?];
        Ok(Gathered { words, pairs: pairs.len() / 3 })
    }
}

/// The scores at an address and how kernels find their way in them; nothing without a bias.
pub(crate) fn arguments(bias: Option<(&Places, &Shared, Address)>) -> Result<[Arg; 5]> {
    let none = Arg::At(Address::NULL);
    let Some((places, Shared(at), scores)) = bias else {
        return Ok([none, none, none, Arg::Int(0), Arg::Int(0)]);
    };
    let [queries, keys] = at.each_ref().map(|words| Arg::At(words.at()));
    let [places, others] = places.dims;
    Ok([Arg::At(scores), queries, keys, Arg::size(places)?, Arg::size(others)?])
}

//! Which keys an attention query may see.

use candle_core::{DType, Result, Tensor, bail};

use super::Spans;
use super::cuda::machine::Arg;
use super::real::Real;

/// Which keys a query may see.
#[derive(Clone, Debug)]
pub enum Mask {
    /// Every key.
    None,
    /// Keys up to the query's own position; with fewer queries than keys the last query sees every key.
    Causal,
    /// (B, Tk): 1 = visible, 0 = hidden; u8, u32 or floating point.
    Keys(Tensor),
    /// Both [`Mask::Causal`] and [`Mask::Keys`].
    CausalKeys(Tensor),
    /// (B or 1, Tq, Tk), added to the scores; minus infinity hides a key. Receives no gradient.
    Additive(Tensor),
    /// Sequences without padding, of unequal length. Operands are rows, counted over all leading dimensions: example i
    /// has the queries `queries[i]`, which follow those of example i-1, and sees the keys `keys[i]`, which other
    /// examples may see too.
    Spans {
        /// The rows of q.
        queries: Spans,
        /// The rows of k and v.
        keys: Spans,
        /// Whether a query sees keys up to its own position alone, counted from the end as in [`Mask::Causal`].
        causal: bool,
    },
}

impl Mask {
    /// Each sequence sees itself.
    pub fn itself(spans: &Spans, causal: bool) -> Self {
        Self::Spans { queries: spans.clone(), keys: spans.clone(), causal }
    }

    /// Each sequence of the first sees all of its own of the second.
    pub fn across(queries: Spans, keys: Spans) -> Self {
        Self::Spans { queries, keys, causal: false }
    }
}

/// A mask read out of its tensors.
pub(crate) struct Visible {
    causal: bool,
    keys: usize,
    hidden: Vec<bool>,
    added: Vec<f32>,
    /// Elements from one example to the next, and from one query to the next, in `added`.
    strides: (usize, usize),
}

impl Mask {
    pub(crate) fn visible(&self, batch: usize, queries: usize, keys: usize) -> Result<Visible> {
        let mut visible =
            Visible { causal: false, keys, hidden: Vec::new(), added: Vec::new(), strides: (0, 0) };
        visible.causal =
            matches!(self, Self::Causal | Self::CausalKeys(_) | Self::Spans { causal: true, .. });
        match self {
            Self::None | Self::Causal | Self::Spans { .. } => {}
            Self::Keys(mask) | Self::CausalKeys(mask) => {
                if mask.dims() != [batch, keys] {
                    bail!("attention: a key mask {:?} for {batch} examples of {keys} keys", mask.shape());
                }
                let mask = mask.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
                visible.hidden = mask.into_iter().map(|visible| visible == 0.0).collect();
            }
            Self::Additive(mask) => {
                let &[examples, ..] = mask.dims() else {
                    bail!("attention: an additive mask without dimensions")
                };
                if mask.dims() != [examples, queries, keys] || (examples != batch && examples != 1) {
                    bail!(
                        "attention: an additive mask {:?} for ({batch} or 1, {queries}, {keys})",
                        mask.shape()
                    );
                }
                visible.added = mask.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
                visible.strides = (if examples == 1 { 0 } else { queries * keys }, keys);
            }
        }
        Ok(visible)
    }
}

impl Visible {
    /// Which keys are hidden, as ones and zeros, and the bits of what is added; none where nothing is.
    pub fn words(&self) -> (Option<Vec<u32>>, Option<Vec<u32>>) {
        let hidden = || self.hidden.iter().map(|&hidden| u32::from(hidden)).collect();
        let added = || self.added.iter().map(|added| added.to_bits()).collect();
        ((!self.hidden.is_empty()).then(hidden), (!self.added.is_empty()).then(added))
    }

    /// How kernels of a GPU find their way in them.
    pub fn arguments(&self) -> Result<[Arg; 4]> {
        let size = Arg::size;
        Ok([Arg::flag(self.causal), size(self.keys)?, size(self.strides.0)?, size(self.strides.1)?])
    }

    /// Adds the mask to the scores of one query, of so many in its example.
    #[inline(always)]
    pub fn add<T: Real>(&self, example: usize, (query, queries): (usize, usize), scores: &mut [T], none: T) {
        if self.causal {
            let seen = (scores.len() + query + 1).saturating_sub(queries).min(scores.len());
            scores[seen..].fill(none);
        }
        if !self.hidden.is_empty() {
            let hidden = &self.hidden[example * self.keys..(example + 1) * self.keys];
            for (score, &hidden) in scores.iter_mut().zip(hidden) {
                *score = if hidden { none } else { *score };
            }
        }
        if !self.added.is_empty() {
            let start = example * self.strides.0 + query * self.strides.1;
            let added = &self.added[start..start + self.keys];
            for (score, &added) in scores.iter_mut().zip(added) {
                *score += T::from_f64(f64::from(added));
            }
        }
    }
}

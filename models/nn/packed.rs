//! Sequences without their padding: layers then compute what is visible and nothing else.

use std::ops::Range;

use candle_core::{Device, Result, Tensor, bail};

use crate::kernels::{self, Mask, Spans};
use crate::models::Tokens;

/// Where the visible tokens of a batch stand, one example after another.
pub struct Packing {
    /// Their rows among the B T rows of the batch, u32 (R).
    rows: Tensor,
    spans: Spans,
    /// B and T.
    dims: [usize; 2],
}

impl Packing {
    /// Of a mask (B,T) that is 0 on padding.
    ///
    /// # Errors
    /// When it has another rank.
    pub fn new(mask: &Tensor) -> Result<Self> {
        let visible = mask.to_vec2::<f32>()?;
        let spans = Spans::of(visible.iter().map(|row| row.iter().filter(|&&seen| seen != 0.0).count()));
        let (rows, _): (Vec<u32>, Vec<f32>) =
            (0u32..).zip(visible.into_iter().flatten()).filter(|&(_, seen)| seen != 0.0).unzip();
        Ok(Self { rows: Tensor::new(rows, &Device::Cpu)?, spans, dims: mask.dims2()?.into() })
    }

    /// Of tokens that carry such a mask.
    ///
    /// # Errors
    /// When they carry none.
    pub fn of(tokens: &Tokens) -> Result<Self> {
        match &tokens.mask {
            Some(mask) => Self::new(mask),
            None => bail!("tokens without a mask"),
        }
    }

    /// The rows of each example.
    pub fn spans(&self) -> &Spans {
        &self.spans
    }

    /// Where each visible token stands in its padded sequence (R).
    ///
    /// # Errors
    /// When the device fails.
    pub fn places(&self) -> Result<Vec<u32>> {
        let length = self.dims[1].max(1) as u32;
        Ok(self.rows.to_vec1::<u32>()?.into_iter().map(|row| row % length).collect())
    }

    /// (B,T,D) to (R,D).
    ///
    /// # Errors
    /// When x has other examples.
    pub fn pack(&self, x: &Tensor) -> Result<Tensor> {
        kernels::gather_vectors(x, &self.rows)
    }

    /// Entries (B,T) to those that are visible (R), both u32.
    ///
    /// # Errors
    /// When there are other examples.
    pub fn pack_ids(&self, ids: &Tensor) -> Result<Tensor> {
        ids.flatten_all()?.index_select(&self.rows, 0)
    }

    /// (R,D) to (B,T,D), zero on padding.
    ///
    /// # Errors
    /// When x has other rows.
    pub fn unpack(&self, x: &Tensor) -> Result<Tensor> {
        kernels::spread_vectors(x, &self.rows, &self.dims)
    }
}

/// One token of each example, the only one that a last layer is asked for.
pub struct One {
    /// Its row among those of all examples, u32 (B).
    rows: Tensor,
    spans: Spans,
}

impl One {
    /// The first token.
    ///
    /// # Errors
    /// When an example has no token.
    pub fn first(spans: &Spans) -> Result<Self> {
        Self::at(spans, |range| range.start)
    }

    /// The last token.
    ///
    /// # Errors
    /// When an example has no token.
    pub fn last(spans: &Spans) -> Result<Self> {
        Self::at(spans, |range| range.end - 1)
    }

    fn at(spans: &Spans, place: impl Fn(&Range<usize>) -> usize) -> Result<Self> {
        if spans.ranges().iter().any(Range::is_empty) {
            bail!("a sequence without a visible token has no feature");
        }
        let rows: Vec<u32> = spans.ranges().iter().map(|range| place(range) as u32).collect();
        Ok(Self { rows: Tensor::new(rows, &Device::Cpu)?, spans: spans.clone() })
    }

    /// These tokens of x (.., D): (B,D).
    ///
    /// # Errors
    /// When x has other rows.
    pub fn pick(&self, x: &Tensor) -> Result<Tensor> {
        kernels::gather_vectors(x, &self.rows)
    }

    /// Each sees all of its own example.
    pub fn mask(&self) -> Mask {
        self.across(&self.spans)
    }

    /// Each sees all of its example's part of another sequence.
    pub fn across(&self, keys: &Spans) -> Mask {
        Mask::across(Spans::even(self.spans.ranges().len(), 1), keys.clone())
    }
}

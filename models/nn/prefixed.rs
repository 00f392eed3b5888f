//! A prefix before the sequence of each example, without padding: queries before words, or vectors before the text that
//! continues them. Any rows may be a prefix, also those of other examples or of several, and each layer may treat the two
//! parts apart.

use candle_core::{Device, Result, Tensor};

use crate::kernels::{self, Spans};

/// Where the rows of two sequences stand when those of each example are joined.
#[derive(Clone)]
pub struct Prefixed {
    /// For each joined row its row in the two sequences laid end to end, u32.
    order: Tensor,
    /// The joined rows that are the first sequence's, and those that are the second's, u32.
    parts: [Tensor; 2],
    spans: Spans,
}

impl Prefixed {
    /// Of the examples that `first` names among `rows` rows (any of them, any number of times) and of `second`, whose
    /// examples follow one another.
    ///
    /// # Errors
    /// When the device fails.
    pub fn new((first, rows): (&Spans, usize), second: &Spans, device: &Device) -> Result<Self> {
        let (mut order, mut parts, mut lengths) = (Vec::new(), [Vec::new(), Vec::new()], Vec::new());
        for (first, second) in first.ranges().iter().zip(second.ranges()) {
            for (part, range) in parts.iter_mut().zip([first.clone(), rows + second.start..rows + second.end])
            {
                part.extend((order.len()..).map(|row| row as u32).take(range.len()));
                order.extend(range.map(|row| row as u32));
            }
            lengths.push(first.len() + second.len());
        }
        let [first, second] = parts;
        Ok(Self {
            order: Tensor::new(order, device)?,
            parts: [Tensor::new(first, device)?, Tensor::new(second, device)?],
            spans: Spans::of(lengths),
        })
    }

    /// The joined rows of each example.
    pub fn spans(&self) -> &Spans {
        &self.spans
    }

    /// Rows of the two sequences (.., D) to joined rows (R,D).
    ///
    /// # Errors
    /// When the widths differ or a row is missing.
    pub fn join(&self, first: &Tensor, second: &Tensor) -> Result<Tensor> {
        let flat = |x: &Tensor| x.flatten_to(x.rank() - 2);
        kernels::gather_vectors(&Tensor::cat(&[flat(first)?, flat(second)?], 0)?, &self.order)
    }

    /// The rows of the first sequence among joined ones (R,D), in the order of the examples.
    ///
    /// # Errors
    /// When a row is missing.
    pub fn first(&self, joined: &Tensor) -> Result<Tensor> {
        kernels::gather_vectors(joined, &self.parts[0])
    }

    /// The rows of the second.
    ///
    /// # Errors
    /// When a row is missing.
    pub fn second(&self, joined: &Tensor) -> Result<Tensor> {
        kernels::gather_vectors(joined, &self.parts[1])
    }
}

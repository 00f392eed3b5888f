//! A prefix before the sequence of each example, without padding: queries before words, or vectors before the text that
//! continues them. Any rows may be a prefix, also those of other examples or of several, and each layer may treat the two
//! parts apart.

use candle_core::{Result, Tensor};

use super::joined::Joined;
use crate::kernels::Spans;

/// Where the rows of two sequences stand when those of each example are joined.
#[derive(Clone)]
pub struct Prefixed {
    joined: Joined,
    spans: Spans,
}

impl Prefixed {
    /// Of the examples that `first` names among `rows` rows (any of them, any number of times) and of `second`, whose
    /// examples follow one another.
    ///
    /// # Errors
    /// When the device fails.
    pub fn new((first, rows): (&Spans, usize), second: &Spans) -> Result<Self> {
        let (mut joined, mut lengths) = (Vec::new(), Vec::new());
        for (first, second) in first.ranges().iter().zip(second.ranges()) {
            joined.extend(first.clone().map(|row| (0, row)));
            joined.extend(second.clone().map(|row| (1, row)));
            lengths.push(first.len() + second.len());
        }
        Ok(Self { joined: Joined::new(&joined, rows)?, spans: Spans::of(lengths) })
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
        self.joined.join([first, second])
    }

    /// The rows of the first sequence among joined ones (R,D), in the order of the examples.
    ///
    /// # Errors
    /// When a row is missing.
    pub fn first(&self, joined: &Tensor) -> Result<Tensor> {
        self.joined.part(joined, 0)
    }

    /// The rows of the second.
    ///
    /// # Errors
    /// When a row is missing.
    pub fn second(&self, joined: &Tensor) -> Result<Tensor> {
        self.joined.part(joined, 1)
    }
}

//! What cross-attention looks at: sequences of another modality, such as the images that words are fused with.

use candle_core::{Result, Tensor};

use crate::kernels::Spans;
use crate::models::{Rows, Tokens, View};

/// Sequences that others look at. Their keys and values are those of the whole batch and computed once a step for each
/// layer, whichever examples are looked at and however often: matching pairs, mismatched ones and masked words share them.
pub struct Seen<I> {
    whole: View<I>,
    /// (B,N,D').
    tokens: Tensor,
    spans: Spans,
}

impl<I: Rows> Seen<I> {
    /// The examples of `view`; `encode` gives the tokens of a whole view, all of them visible.
    ///
    /// # Errors
    /// When encoding fails or a selected example does not exist.
    pub fn new(view: &View<I>, encode: impl FnOnce(&View<I>) -> Result<Tokens>) -> Result<Self> {
        let (whole, examples) = view.whole()?;
        let tokens = encode(&whole)?.hidden;
        let (batch, length, _) = tokens.dims3()?;
        let spans = Spans::even(batch, length);
        let spans = match examples {
            None => spans,
            Some(examples) => spans.take(&examples.to_vec1::<u32>()?)?,
        };
        Ok(Self { whole, tokens, spans })
    }

    /// The rows of each example among those of the keys.
    pub fn spans(&self) -> &Spans {
        &self.spans
    }

    /// What `project` makes of the tokens for the layer of this number.
    ///
    /// # Errors
    /// Whatever `project` fails with.
    pub fn keys(&self, layer: u64, project: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let compute = |_: &View<I>| Ok(Tokens { hidden: project(&self.tokens)?, mask: None });
        Ok(self.whole.memo(&format!("keys.{layer}"), compute)?.hidden)
    }
}

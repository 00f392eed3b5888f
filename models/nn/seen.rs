//! What attention looks at where other examples may stand beside it: the images that words are fused with, or the words.

use candle_core::{Result, Tensor};

use super::Packing;
use crate::kernels::Spans;
use crate::models::{Rows, Tokens, View};

/// Sequences that others look at. Their keys and values are those of the whole batch and computed once a step for each
/// layer, whichever examples are looked at and however often: matching pairs, mismatched ones and masked words share them.
pub struct Seen<I> {
    whole: View<I>,
    /// (B,N,D'), or those that are visible (R,D').
    tokens: Tensor,
    spans: Spans,
}

impl<I: Rows> Seen<I> {
    /// The examples of `view`; `encode` gives the tokens of a whole view.
    ///
    /// # Errors
    /// When encoding fails or a selected example does not exist.
    pub fn new(view: &View<I>, encode: impl FnOnce(&View<I>) -> Result<Tokens>) -> Result<Self> {
        let (whole, examples) = view.whole()?;
        let Tokens { hidden, mask } = encode(&whole)?;
        let (tokens, spans) = match mask {
            None => {
                let (batch, length, _) = hidden.dims3()?;
                (hidden, Spans::even(batch, length))
            }
            Some(mask) => {
                let packing = Packing::new(&mask)?;
                (packing.pack(&hidden)?, packing.spans().clone())
            }
        };
        let spans = match examples {
            None => spans,
            Some(examples) => spans.take(&examples.to_vec1::<u32>()?)?,
        };
        Ok(Self { whole, tokens, spans })
    }

    /// The visible tokens of the whole batch, one example after another.
    pub fn tokens(&self) -> &Tensor {
        &self.tokens
    }

    /// The rows of each example among those of the tokens and of the keys.
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

//! Pairs that do not belong together, drawn within a batch.
//!
//! ALBEF, Li et al., arXiv:2107.07651, section 3.2: for each text an image and for each image a text, drawn in
//! proportion to the softmax of the similarities of this step. Equal similarities make the draw uniform.
//! Besides the pair itself, pairs that share the image or the caption are never drawn.

use crate::kernels::random::Key;

/// What tells one image-text pair of a batch from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Equal for views of the same image.
    pub image: u64,
    /// Equal for equal captions.
    pub caption: u64,
}

impl Pair {
    /// Whether the image of one and the text of the other certainly do not belong together.
    pub fn apart(&self, other: &Self) -> bool {
        self.image != other.image && self.caption != other.caption
    }
}

/// For each row of `scores` (B,B) one of the B `pairs`, drawn in proportion to the softmax of the row over the pairs
/// that are apart from the row's own; `None` where none is.
pub fn draw(scores: &[f32], pairs: &[Pair], key: Key) -> Vec<Option<u32>> {
    let rows = pairs.iter().zip(scores.chunks(pairs.len().max(1)));
    let draw_row = |(row, (own, scores)): (u64, (&Pair, &[f32]))| {
        let allowed = |(other, &score)| if own.apart(other) { score } else { f32::NEG_INFINITY };
        let logits: Vec<f32> = pairs.iter().zip(scores).map(allowed).collect();
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights: Vec<f32> = logits.iter().map(|logit| (logit - top).exp()).collect();
        key.fold(row).choose_weighted(&weights).map(|column| column as u32)
    };
    (0..).zip(rows).map(draw_row).collect()
}

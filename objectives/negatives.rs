//! Pairs that do not belong together, drawn within a batch.
//!
//! ALBEF, Li et al., arXiv:2107.07651, section 3.2: for each text an image and for each image a text, drawn in
//! proportion to the softmax of the similarities of this step. Equal similarities make the draw uniform.
//! Besides the pair itself, pairs that share the image or the caption are never drawn.

use crate::kernels::random::Key;

/// What tells which images and captions of a batch are equal.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'a> {
    /// (B): equal for views of the same image.
    pub images: &'a [u64],
    /// (B): equal for equal captions.
    pub captions: &'a [u64],
}

impl Keys<'_> {
    /// Whether image `a` and text `b` (or the reverse) certainly do not belong together.
    pub fn apart(&self, a: usize, b: usize) -> bool {
        self.images[a] != self.images[b] && self.captions[a] != self.captions[b]
    }
}

/// For each of the B rows of `scores` (B,B) one column, drawn in proportion to the softmax of the row over the columns
/// that are apart from it; `None` where none is.
pub fn draw(scores: &[f32], keys: Keys, key: Key) -> Vec<Option<u32>> {
    let pairs = keys.images.len();
    let draw_row = |(row, scores): (usize, &[f32])| {
        let top = (0..pairs).filter(|&column| keys.apart(row, column)).map(|column| scores[column]);
        let top = top.fold(f32::NEG_INFINITY, f32::max);
        let weight = |column: usize| if keys.apart(row, column) { (scores[column] - top).exp() } else { 0.0 };
        let weights: Vec<f32> = (0..pairs).map(weight).collect();
        key.fold(row as u64).choose_weighted(&weights).map(|column| column as u32)
    };
    scores.chunks_exact(pairs.max(1)).enumerate().map(draw_row).collect()
}

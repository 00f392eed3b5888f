//! Pairs that do not belong together, drawn within a batch.
//!
//! ALBEF, Li et al., arXiv:2107.07651, section 3.2: for each text an image and for each image a text, drawn in
//! proportion to the softmax of the similarities of this step. Equal similarities make the draw uniform.
//! Besides the pair itself, pairs that share the image or the caption are never drawn.
//!
//! BLIP, Li et al., arXiv:2201.12086, released code, adds 1e-4 to each probability before the draw. VLMo, Bao et al.,
//! arXiv:2111.02358, table 6, compares candidates of the whole batch with those of one GPU's part of it.

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

/// Which pairs are candidates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pool {
    /// Groups of neighbours that the batch falls into, as even as may be; candidates are those of the pair's own group.
    pub groups: usize,
    /// Added to the probability of each candidate.
    pub floor: f32,
}

/// For each row of `scores` (B,B) one of the B `pairs`, drawn in proportion to the softmax of the row over its group, the
/// floor added, among the pairs that are apart from the row's own; `None` where none is.
pub fn draw(scores: &[f32], pairs: &[Pair], pool: Pool, key: Key) -> Vec<Option<u32>> {
    let rows = pairs.iter().zip(scores.chunks(pairs.len().max(1)));
    let group = |row: usize| row * pool.groups / pairs.len();
    let draw_row = |(row, (own, scores)): (usize, (&Pair, &[f32]))| {
        let near = |column: usize| group(column) == group(row);
        let allowed = |column: usize| near(column) && own.apart(&pairs[column]);
        // Without a floor the share of those that are not allowed cancels, and none may swallow the others' digits.
        let counted = |column: &usize| if pool.floor > 0.0 { near(*column) } else { allowed(*column) };
        let top = (0..pairs.len()).filter(counted).map(|at| scores[at]).fold(f32::NEG_INFINITY, f32::max);
        let total: f32 = (0..pairs.len()).filter(counted).map(|at| (scores[at] - top).exp()).sum();
        let weight = |at| if allowed(at) { (scores[at] - top).exp() / total + pool.floor } else { 0.0 };
        let weights: Vec<f32> = (0..pairs.len()).map(weight).collect();
        key.fold(row as u64).choose_weighted(&weights).map(|column| column as u32)
    };
    (0..).zip(rows).map(draw_row).collect()
}

//! What the decoder shares with the encoders (arXiv:2201.12086, Table 3).

use serde::{Deserialize, Serialize};

/// The arms of the paper's Table 3, from the fewest parameters to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// Everything: the decoder differs in its mask and its first token.
    All,
    /// Everything but cross-attention.
    AllButCrossAttention,
    /// Everything but self-attention, as the paper chooses.
    AllButSelfAttention,
    /// Nothing; the decoder also has a word table of its own.
    None,
}

/// A part of the text transformer that is shared or not; the normalisation after it belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Vectors of words and positions.
    Embeddings,
    /// Self-attention.
    SelfAttention,
    /// Cross-attention to the image.
    CrossAttention,
    /// The feed-forward half.
    FeedForward,
}

impl Sharing {
    /// Whether the decoder's part is that of the encoders.
    pub fn shares(self, part: Part) -> bool {
        match self {
            Self::All => true,
            Self::AllButCrossAttention => part != Part::CrossAttention,
            Self::AllButSelfAttention => part != Part::SelfAttention,
            Self::None => false,
        }
    }

    /// Where the decoder's part stands: with the encoders, or at a place of its own.
    pub fn place(self, part: Part) -> &'static str {
        if self.shares(part) { "text" } else { "decoder" }
    }
}

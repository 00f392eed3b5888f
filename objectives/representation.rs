//! One vector for an image and a text that belong together, for the heads that classify such pairs.
//!
//! Of a joint pass it is the pooled vector (UNITER, Chen et al., arXiv:1909.11740, section 3.4; ViLT, Kim et al.,
//! arXiv:2102.03334, section 4.2; ALBEF, Li et al., arXiv:2107.07651, section 4). A model without one has the unit vectors
//! of image and text, u and v, and the vector is `[u; v; u v]`, the product element by element.

use candle_core::{D, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::Reading;
use crate::models::{Ability, Dims};

/// What the vector is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Representation {
    /// A joint pass.
    #[default]
    Fused,
    /// Image and text embedded apart.
    Embeds,
}

impl Representation {
    /// What the model must be able to do.
    pub fn needs(self) -> Ability {
        match self {
            Self::Fused => Ability::Fuse,
            Self::Embeds => Ability::Embed,
        }
    }

    /// The setting with which a head that is written `from: ..` does without an ability.
    pub fn without(ability: Ability) -> Option<&'static str> {
        (ability == Ability::Fuse).then_some("`from: embeds` reads image and text embedded apart")
    }

    /// The width of a vector.
    pub fn width(self, dims: &Dims) -> usize {
        match self {
            Self::Fused => dims.width,
            Self::Embeds => 3 * dims.embed,
        }
    }

    /// The vectors (B, width) of the B pairs.
    ///
    /// # Errors
    /// When the model lacks the ability.
    pub fn read(self, reading: &Reading) -> Result<Tensor> {
        match self {
            Self::Fused => reading.pooled(),
            Self::Embeds => {
                let (image, text) = (reading.image_embeds()?, reading.text_embeds()?);
                // Of several vectors an image (B,Q,E) the mean.
                let image = if image.rank() == 3 { image.mean(1)? } else { image };
                Tensor::cat(&[&image, &text, &(&image * &text)?], D::Minus1)
            }
        }
    }
}

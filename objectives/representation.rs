//! One vector for an image and a text that belong together, for the heads that classify such pairs.
//!
//! Of a joint pass it is the pooled vector (UNITER, Chen et al., arXiv:1909.11740, section 3.4; ViLT, Kim et al.,
//! arXiv:2102.03334, section 4.2; ALBEF, Li et al., arXiv:2107.07651, section 5). Where a joint pass goes from left to right
//! it is the state of the last word, the only one that has seen the whole text (CoCa, Yu et al., arXiv:2205.01917, section
//! 4.2, which classifies the decoder's outcome). A model without a joint pass has the unit vectors of image and text, u and v,
//! and the vector is `[u; v; u v]`, the product element by element.

use candle_core::{D, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::{Config, Otherwise, Reading};
use crate::models::nn::{One, Packing};
use crate::models::{Abilities, Ability, Attend, Dims};

/// What the vector is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Representation {
    /// A joint pass.
    #[default]
    Fused,
    /// A joint pass from left to right.
    Causal,
    /// Image and text embedded apart.
    Embeds,
}

impl Representation {
    /// What the model must be able to do.
    pub fn needs(self) -> Abilities {
        let ability = match self {
            Self::Fused => Ability::Fuse,
            Self::Causal => Ability::Generate,
            Self::Embeds => Ability::Embed,
        };
        [ability].into()
    }

    /// A head that is written `from: ..`, for models without a joint pass both ways; `with` sets what it reads.
    pub fn otherwise(with: impl Fn(Self) -> Config) -> Vec<Otherwise> {
        let causal = "reads the last word of a joint pass from left to right";
        let embeds = "reads image and text embedded apart";
        vec![
            Otherwise { setting: "from: causal", does: causal, objective: with(Self::Causal) },
            Otherwise { setting: "from: embeds", does: embeds, objective: with(Self::Embeds) },
        ]
    }

    /// The width of a vector.
    pub fn width(self, dims: &Dims) -> usize {
        match self {
            Self::Fused | Self::Causal => dims.width,
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
            Self::Causal => {
                let words = reading.model.fuse(&reading.image, &reading.text, Attend::Causal)?.text;
                let packing = Packing::of(&words)?;
                let hidden = packing.pack(&words.hidden)?;
                One::last(packing.spans())?.pick(&hidden)
            }
            Self::Embeds => {
                let (image, text) = (reading.image_embeds()?, reading.text_embeds()?);
                // Of several vectors an image (B,Q,E) the mean.
                let image = if image.rank() == 3 { image.mean(1)? } else { image };
                Tensor::cat(&[&image, &text, &(&image * &text)?], D::Minus1)
            }
        }
    }
}

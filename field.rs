//! What a dataset can offer for each pair, and what a model or an objective can ask for.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One kind of information about an image-text pair.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// The picture itself.
    Pixels,
    /// The caption.
    Words,
    /// Names of the objects in the picture, apart from the caption (Oscar).
    Tags,
    /// Object regions: a feature vector, a box and a class distribution each (UNITER, Oscar).
    Regions,
    /// The class of the picture.
    Category,
    /// The right one of a closed list of answers to the text.
    Answer,
    /// Whether the picture entails the text, contradicts it or leaves it open.
    Entailment,
    /// A further picture that the text speaks of.
    SecondImage,
    /// The region that the text means.
    Target,
}

impl fmt::Display for Field {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Pixels => "pixels",
            Self::Words => "words",
            Self::Tags => "tags",
            Self::Regions => "regions",
            Self::Category => "category",
            Self::Answer => "answer",
            Self::Entailment => "entailment",
            Self::SecondImage => "second_image",
            Self::Target => "target",
        })
    }
}

//! Masked region classification with the detector's doubts: regions are hidden and the whole class distribution that the
//! detector gave each must be told from the words and the other regions.
//!
//! UNITER, Chen et al., arXiv:1909.11740, section 3.2 and the released code: mean over hidden regions of
//! `KL(detector || p) = sum over classes of d log(d / p)`, p by the head of `mrc`, whose parameters it shares and whose
//! pass it reads. `mean_over_classes` divides by the C classes, as the training loop of the released code does.
//!
//! Deviation: the sum over classes of the paper is the default; the released code trains with the mean over them, a loss
//! smaller by the factor C = 1601.

use candle_core::{D, Result};
use serde::{Deserialize, Serialize};

use super::altered::Alteration;
use super::masking::{self, Masking};
use super::mrc::{self, Head};
use super::{Loss, Needs, Objective, ObjectiveConfig, Step};
use crate::kernels;
use crate::models::{Dims, Vars};

/// `mrc_kl: {probability: 0.15, masking: conditional, mean_over_classes: false}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The probability that a region is hidden.
    pub probability: f64,
    /// Whether words are hidden too.
    pub masking: Masking,
    /// Whether the divergence is divided by the number of classes.
    pub mean_over_classes: bool,
    /// Share in the sum of losses.
    pub weight: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { probability: 0.15, masking: Masking::Conditional, mean_over_classes: false, weight: 1.0 }
    }
}

impl ObjectiveConfig for Config {
    fn needs(&self) -> Needs {
        mrc::needs(self.masking)
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn faults(&self) -> Vec<String> {
        masking::faults(self.probability)
    }

    fn shares(&self) -> Option<&'static str> {
        Some("mrc")
    }

    fn build(&self, vars: &Vars, dims: &Dims) -> Result<Box<dyn Objective>> {
        let alteration = masking::of_regions(self.probability, self.masking, dims);
        let scale = if self.mean_over_classes { 1.0 / dims.region_classes.max(1) as f64 } else { 1.0 };
        Ok(Box::new(MrcKl { head: Head::open(vars, dims)?, alteration, scale }))
    }
}

struct MrcKl {
    head: Head,
    alteration: Alteration,
    scale: f64,
}

impl Objective for MrcKl {
    fn loss(&self, step: &Step) -> Result<Loss> {
        let altered = step.altered(self.alteration.clone())?;
        let Some(hidden) = altered.hidden_regions(step)? else { return Loss::nothing() };
        let logits = self.head.logits(&hidden)?;
        let beliefs = altered.of_hidden_regions(mrc::beliefs(step.batch)?)?.detach();
        // A class of probability 0 adds 0, so its logarithm may be that of any positive number.
        let doubt = (&beliefs * beliefs.maximum(1e-30)?.log()?)?.sum(1)?.mean_all()?;
        let divergence = (kernels::soft_cross_entropy(&logits, &beliefs)? + doubt)?;
        Loss::new((divergence * self.scale)?)
            .with_accuracy("accuracy", &logits, &beliefs.argmax(D::Minus1)?)?
            .with_number("masked", altered.share_of_regions(step)?)
    }
}

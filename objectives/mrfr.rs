//! Masked region feature regression: regions are hidden and their features must be told from the words and the other
//! regions.
//!
//! UNITER, Chen et al., arXiv:1909.11740, section 3.2 and the released code: mean over hidden regions and over the R
//! elements of a feature of `(h(region) - feature)^2`, h the model's region decoder. A region is hidden with probability
//! 0.15, of each image at least one; its feature becomes zero and the model's mask vector is added. Words stay whole
//! unless `masking: joint` hides them in the same pass (Table 2, L12).
//!
//! Deviation: the paper's sum over elements and images is the mean of the released code.

use candle_core::Result;
use serde::{Deserialize, Serialize};

use super::altered::Alteration;
use super::masking::{self, Masking};
use super::{Loss, Needs, Objective, ObjectiveConfig, Step};
use crate::models::{Ability, Dims, Field, Vars};

/// `mrfr: {probability: 0.15, masking: conditional}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The probability that a region is hidden.
    pub probability: f64,
    /// Whether words are hidden too.
    pub masking: Masking,
    /// Share in the sum of losses.
    pub weight: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { probability: 0.15, masking: Masking::Conditional, weight: 1.0 }
    }
}

impl ObjectiveConfig for Config {
    fn needs(&self) -> Needs {
        let abilities = [Ability::Fuse, Ability::FuseImage, Ability::PredictRegions].into();
        let hides = self.masking == Masking::Joint;
        Needs { abilities, reads: [Field::Regions].into(), hides, batch: 1, ..Needs::default() }
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn faults(&self) -> Vec<String> {
        masking::faults(self.probability)
    }

    fn build(&self, _: &Vars, dims: &Dims) -> Result<Box<dyn Objective>> {
        Ok(Box::new(Mrfr { alteration: masking::of_regions(self.probability, self.masking, dims) }))
    }
}

struct Mrfr {
    alteration: Alteration,
}

impl Objective for Mrfr {
    fn loss(&self, step: &Step) -> Result<Loss> {
        let altered = step.altered(self.alteration.clone())?;
        let Some(hidden) = altered.hidden_regions(step)? else { return Loss::nothing() };
        let told = step.student.model.predict_regions(&hidden)?;
        let features = altered.of_hidden_regions(&step.batch.image.regions()?.features)?;
        Loss::new((told - features)?.sqr()?.mean_all()?)
            .with_number("masked", altered.share_of_regions(step)?)
    }
}

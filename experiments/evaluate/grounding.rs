//! Choosing the region that an expression means.
//!
//! As RefCOCO+ (UNITER, Chen et al., arXiv:1909.11740, section 4.1): the region with the greatest score of the map that `ground`
//! trains, among all regions of the image. A wrong region that scores as much as the right one ranks ahead of it.
//!
//! Deviation: a region is right if it is the one that is meant; with detected boxes the papers accept any that overlaps the
//! annotated box by half.

use serde::{Deserialize, Serialize};

use super::gallery::Shown;
use super::{Evaluation, Measurement, Need, Of, Subject, asked};
use crate::data::{Field, Split};
use crate::experiments::failure::Result;

/// Raised whenever equal weights would give other values.
pub const VERSION: u32 = 1;

/// `grounding`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}

impl Evaluation for Config {
    fn version(&self) -> u32 {
        VERSION
    }

    fn metrics(&self) -> Vec<String> {
        asked::metrics("grounding", &[])
    }

    fn needs(&self) -> Vec<Need> {
        let head = Of::Objective { name: "ground", does: "chooses by a score of regions" };
        [Of::Data(Split::Test, Field::Target), head].map(Need::always).into()
    }

    /// Chooses a region for every expression.
    fn measure(&self, subject: &Subject, _: &Shown) -> Result<Measurement> {
        asked::accuracy(subject, "grounding", "ground", &[], false)
    }
}

//! Word-region alignment: the words of a caption and the regions of its image should need little transport to become one
//! another.
//!
//! UNITER, Chen et al., arXiv:1909.11740, section 3.2, eq. 5, and the released code: optimal transport between all words,
//! `[CLS]` and `[SEP]` among them, and all regions after the joint pass, weighed by 0.1. The paper brings the sides of
//! matching pairs together; the released code, and the default here, also drives apart those of pairs that do not match.
//! It reads the very pairs and the pass of `itm`, whose task it is part of; without `itm` in the step, pairs drawn as
//! UNITER's `itm` draws them.

use candle_core::Result;
use serde::{Deserialize, Serialize};

use super::pairing::Pairing;
use super::transport::{self, Tokened};
use super::{Needs, Objective, ObjectiveConfig};
use crate::models::{Dims, Field, Vars};

/// `wra: {beta: 0.5, iterations: 50, k: 1, matched_only: false, weight: 0.1}`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Config(pub transport::Config);

impl ObjectiveConfig for Config {
    fn needs(&self) -> Needs {
        transport::needs(Field::Regions)
    }

    fn weight(&self) -> f64 {
        self.0.weight
    }

    fn faults(&self) -> Vec<String> {
        self.0.faults()
    }

    fn build(&self, _: &Vars, _: &Dims) -> Result<Box<dyn Objective>> {
        Ok(Box::new(self.0.alignment(Tokened::All, Pairing::UNITER)))
    }
}

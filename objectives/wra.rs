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
use super::transport::{self, Alignment, Tokened};
use super::{Needs, Objective, ObjectiveConfig};
use crate::kernels::Ipot;
use crate::models::{Ability, Dims, Field, Vars};

/// `wra: {beta: 0.5, iterations: 50, k: 1, matched_only: false, weight: 0.1}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The step of the proximal point method.
    pub beta: f64,
    /// Its iterations.
    pub iterations: usize,
    /// Updates of the marginals in each.
    pub k: usize,
    /// Whether pairs that do not match are left alone.
    pub matched_only: bool,
    /// Share in the sum of losses.
    pub weight: f64,
}

impl Default for Config {
    fn default() -> Self {
        let Ipot { beta, iterations, k } = Ipot::default();
        Self { beta, iterations, k, matched_only: false, weight: 0.1 }
    }
}

impl Config {
    fn ipot(&self) -> Ipot {
        Ipot { beta: self.beta, iterations: self.iterations, k: self.k }
    }
}

impl ObjectiveConfig for Config {
    fn needs(&self) -> Needs {
        let abilities = [Ability::Fuse, Ability::FuseImage].into();
        Needs { abilities, reads: [Field::Regions].into(), batch: 2, ..Needs::default() }
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn faults(&self) -> Vec<String> {
        transport::faults(self.ipot())
    }

    fn build(&self, _: &Vars, _: &Dims) -> Result<Box<dyn Objective>> {
        Ok(Box::new(Alignment {
            ipot: self.ipot(),
            tokens: Tokened::All,
            pairing: Pairing::UNITER,
            matched_only: self.matched_only,
        }))
    }
}

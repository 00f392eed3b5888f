//! Word-patch alignment: the words of a caption and the patches of its image should need little transport to become one
//! another.
//!
//! ViLT, Kim et al., arXiv:2102.03334, section 3.3, and the released code: optimal transport as in `wra`, between the
//! words without `[CLS]` and `[SEP]` and the patches without the class token, after the joint pass, weighed by 0.1. The
//! released code, and the default here, also drives apart pairs that do not match. It reads the very pairs and the pass
//! of `itm`; without `itm` in the step, pairs drawn as ViLT's `itm` draws them.

use candle_core::Result;
use serde::{Deserialize, Serialize};

use super::pairing::Pairing;
use super::transport::{self, Alignment, Tokened};
use super::{Needs, Objective, ObjectiveConfig};
use crate::kernels::Ipot;
use crate::models::{Ability, Dims, Field, Vars};

/// `wpa: {beta: 0.5, iterations: 50, k: 1, matched_only: false, weight: 0.1}`
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
        Needs { abilities, reads: [Field::Pixels].into(), batch: 2, ..Needs::default() }
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
            tokens: Tokened::Inner,
            pairing: Pairing::VILT,
            matched_only: self.matched_only,
        }))
    }
}

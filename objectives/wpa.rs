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
use super::transport::{self, Tokened};
use super::{Needs, Objective, ObjectiveConfig};
use crate::models::{Dims, Field, Vars};

/// `wpa: {beta: 0.5, iterations: 50, k: 1, matched_only: false, weight: 0.1}`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Config(pub transport::Config);

impl ObjectiveConfig for Config {
    fn needs(&self) -> Needs {
        transport::needs(Field::Pixels)
    }

    fn weight(&self) -> f64 {
        self.0.weight
    }

    fn faults(&self) -> Vec<String> {
        self.0.faults()
    }

    fn build(&self, _: &Vars, _: &Dims) -> Result<Box<dyn Objective>> {
        Ok(Box::new(self.0.alignment(Tokened::Inner, Pairing::VILT)))
    }
}

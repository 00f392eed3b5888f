//! Clip.

use std::collections::BTreeSet;

use candle_core::{Result, bail};
use serde::{Deserialize, Serialize};

use super::{Abilities, Ability, Dims, Field, Inputs, Model, ModelConfig, Vars};

/// `clip: {}`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}

impl ModelConfig for Config {
    fn abilities(&self) -> Abilities {
        [Ability::Embed].into()
    }
    fn lacks(&self, _: Ability) -> &'static str {
        "it has no such part"
    }
    fn reads(&self) -> BTreeSet<Field> {
        [Field::Pixels, Field::Words].into()
    }
    fn faults(&self, _: &Inputs) -> Vec<String> {
        Vec::new()
    }
    fn dims(&self, inputs: &Inputs) -> Dims {
        Dims { width: 8, embed: 8, queries: None, vocabulary: inputs.vocabulary }
    }
    fn flops(&self, _: &Inputs) -> f64 {
        0.0
    }
    fn build(&self, _: &Vars, _: &Inputs) -> Result<Box<dyn Model>> {
        bail!("clip is not there yet")
    }
}

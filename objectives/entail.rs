//! Visual entailment: does the image entail the text, contradict it, or leave it open?
//!
//! ALBEF, Li et al., arXiv:2107.07651, section 5: cross-entropy of a head of two layers, as wide as the model and rectified
//! between, on the representation of `[CLS]` after the joint pass.
//!
//! Deviation: the head reads the pooled vector, which for models with a pooler is a function of `[CLS]` and not `[CLS]`.
//! Deviation: the same head and error for every model; UNITER trains its question-answering head with the binary error.
//! Deviation: no momentum distillation in fine-tuning; ALBEF distils with weight 0.4.
//! Deviation: with `from: embeds` a model that embeds image and text apart judges `[u; v; u v]` of its unit vectors.

use candle_core::{Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::perceptron::{Between, Perceptron};
use super::representation::Representation;
use super::{Loss, Needs, Objective, ObjectiveConfig, Otherwise, Reading, Step};
use crate::kernels;
use crate::models::{Dims, Field, Vars};

/// `entail: {from: fused}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is classified.
    pub from: Representation,
    /// Share in the sum of losses.
    pub weight: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { from: Representation::Fused, weight: 1.0 }
    }
}

impl ObjectiveConfig for Config {
    fn needs(&self) -> Needs {
        let (abilities, labels) = (self.from.needs(), [Field::Entailment].into());
        Needs { abilities, labels, batch: 1, ..Needs::default() }
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn otherwise(&self) -> Vec<Otherwise> {
        Representation::otherwise(|from| super::Config::Entail(Self { from, ..self.clone() }))
    }

    fn build(&self, vars: &Vars, dims: &Dims) -> Result<Box<dyn Objective>> {
        Ok(Box::new(Entail { head: Head::open(vars, dims, self.from)? }))
    }
}

/// The classifier. Evaluation opens the same parameters to judge.
pub struct Head {
    perceptron: Perceptron,
    from: Representation,
}

impl Head {
    /// Opens `head.*` at `vars`, the place of this objective.
    ///
    /// # Errors
    /// When a parameter exists with another shape.
    pub fn open(vars: &Vars, dims: &Dims, from: Representation) -> Result<Self> {
        let sizes = [from.width(dims), dims.width, dims.answers];
        Ok(Self { perceptron: Perceptron::open(&vars.at("head"), sizes, Between::Relu)?, from })
    }

    /// Logits (B,A) of the A verdicts.
    ///
    /// # Errors
    /// When the model lacks what is classified.
    pub fn scores(&self, reading: &Reading) -> Result<Tensor> {
        self.perceptron.forward(&self.from.read(reading)?)
    }
}

struct Entail {
    head: Head,
}

impl Objective for Entail {
    fn loss(&self, step: &Step) -> Result<Loss> {
        let logits = self.head.scores(&step.student)?;
        let verdicts = Tensor::new(step.batch.answers.as_slice(), &Device::Cpu)?;
        Loss::new(kernels::cross_entropy(&logits, &verdicts, 0.0)?)
            .with_accuracy("accuracy", &logits, &verdicts)
    }
}

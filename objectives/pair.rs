//! Two-image reasoning: is a statement about two images true?
//!
//! ViLT, Kim et al., arXiv:2102.03334, section 4.2, and the "pair" set-up of UNITER, Chen et al., arXiv:1909.11740, section
//! 4.3: the statement is read with each of the two images in a joint pass of its own, and a head classifies the two pooled
//! vectors side by side, `[h1; h2]`, by cross-entropy. The head is ViLT's, of two layers; UNITER's is one linear map.
//!
//! Deviation: both passes have the same type embedding of images; the papers give the second image one of its own, so that
//! words could tell the images apart within a pass. Here the head alone knows which is which.
//! Deviation: with `from: embeds` a model that embeds image and text apart has `[u; v; u v]` of its unit vectors in place of
//! each pooled vector.

use candle_core::{D, Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::perceptron::{Between, Perceptron};
use super::representation::Representation;
use super::{Loss, Needs, Objective, ObjectiveConfig, Otherwise, Reading, Step};
use crate::kernels;
use crate::models::{Dims, Field, Vars};

/// `pair: {from: fused}`
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
        let (abilities, labels) = (self.from.needs(), [Field::Answer, Field::SecondImage].into());
        Needs { abilities, labels, batch: 1, ..Needs::default() }
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn otherwise(&self) -> Vec<Otherwise> {
        Representation::otherwise(|from| super::Config::Pair(Self { from, ..self.clone() }))
    }

    fn build(&self, vars: &Vars, dims: &Dims) -> Result<Box<dyn Objective>> {
        Ok(Box::new(Pair { head: Head::open(vars, dims, self.from)? }))
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
        let sizes = [2 * from.width(dims), 2 * dims.width, dims.answers];
        Ok(Self { perceptron: Perceptron::open(&vars.at("head"), sizes, Between::NormGelu)?, from })
    }

    /// Logits (B,A) of the A answers, from the text with the first and with the second image.
    ///
    /// # Errors
    /// When the model lacks what is classified.
    pub fn scores(&self, first: &Reading, second: &Reading) -> Result<Tensor> {
        let both = [self.from.read(first)?, self.from.read(second)?];
        self.perceptron.forward(&Tensor::cat(&both, D::Minus1)?)
    }
}

struct Pair {
    head: Head,
}

impl Objective for Pair {
    fn loss(&self, step: &Step) -> Result<Loss> {
        let logits = self.head.scores(&step.student, step.second()?)?;
        let answers = Tensor::new(step.batch.answers.as_slice(), &Device::Cpu)?;
        Loss::new(kernels::cross_entropy(&logits, &answers, 0.0)?)
            .with_accuracy("accuracy", &logits, &answers)
    }
}

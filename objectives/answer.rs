//! Question answering: which answer of a closed list is right, given image and question?
//!
//! UNITER, Chen et al., arXiv:1909.11740, section 4.1; ViLT, Kim et al., arXiv:2102.03334, section 4.2; VLMo, Bao et al.,
//! arXiv:2111.02358, section 4: a head of two layers on the pooled vector gives a logit z_a for each answer a of the list.
//! With `loss: binary`, as in all three, each answer is right or wrong by itself, and the error is the sum over answers of
//! `-t_a log sigmoid(z_a) - (1 - t_a) log sigmoid(-z_a)`, averaged over pairs; with `loss: softmax` it is the cross-entropy
//! of the right answer.
//!
//! Deviation: an answer is right (t = 1) or wrong (t = 0); the soft scores of VQA v2 count how many of ten people gave it.
//! Deviation: with `from: embeds` a model that embeds image and text apart answers from `[u; v; u v]` of its unit vectors;
//! no paper answers so.
//! Deviation: the head is UNITER's for every model; ViLT's and VLMo's normalise before the GELU.
//! Deviation: the answer is chosen from the list for every model; ALBEF, BLIP and BLIP-2 write it word by word.

use candle_core::{D, Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::perceptron::{Between, Perceptron};
use super::representation::Representation;
use super::{Loss, Needs, Objective, ObjectiveConfig, Otherwise, Reading, Step};
use crate::kernels;
use crate::models::{Dims, Field, Vars};

/// `answer: {from: fused, loss: binary}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is classified.
    pub from: Representation,
    /// How answers compete.
    pub loss: Competition,
    /// Share in the sum of losses.
    pub weight: f64,
}

/// How answers compete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Competition {
    /// Each is judged by itself.
    Binary,
    /// Their probabilities add up to 1.
    Softmax,
}

impl Default for Config {
    fn default() -> Self {
        Self { from: Representation::Fused, loss: Competition::Binary, weight: 1.0 }
    }
}

impl ObjectiveConfig for Config {
    fn needs(&self) -> Needs {
        let (abilities, labels) = (self.from.needs(), [Field::Answer].into());
        Needs { abilities, labels, batch: 1, ..Needs::default() }
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn otherwise(&self) -> Vec<Otherwise> {
        Representation::otherwise(|from| super::Config::Answer(Self { from, ..self.clone() }))
    }

    fn build(&self, vars: &Vars, dims: &Dims) -> Result<Box<dyn Objective>> {
        Ok(Box::new(Answer { head: Head::open(vars, dims, self.from)?, loss: self.loss }))
    }
}

/// The classifier. Evaluation opens the same parameters to answer.
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
        let sizes = [from.width(dims), 2 * dims.width, dims.answers];
        Ok(Self { perceptron: Perceptron::open(&vars.at("head"), sizes, Between::GeluNorm)?, from })
    }

    /// Logits (B,A) of the A answers.
    ///
    /// # Errors
    /// When the model lacks what is classified.
    pub fn scores(&self, reading: &Reading) -> Result<Tensor> {
        self.perceptron.forward(&self.from.read(reading)?)
    }
}

struct Answer {
    head: Head,
    loss: Competition,
}

/// The sum over answers of the binary cross-entropies of logits (B,A), averaged over the B pairs.
fn binary(logits: &Tensor, answers: &[u32]) -> Result<Tensor> {
    let (pairs, count) = logits.dims2()?;
    // A sigmoid of z is a softmax over the two classes (0, z).
    let wrong_or_right = logits.reshape((pairs * count, 1))?.pad_with_zeros(D::Minus1, 1, 0)?;
    let right = |&answer: &u32| (0..count as u32).map(move |class| u32::from(class == answer));
    let right: Vec<u32> = answers.iter().flat_map(right).collect();
    let mean = kernels::cross_entropy(&wrong_or_right, &Tensor::new(right, &Device::Cpu)?, 0.0)?;
    mean * count as f64
}

impl Objective for Answer {
    fn loss(&self, step: &Step) -> Result<Loss> {
        let logits = self.head.scores(&step.student)?;
        let answers = &step.batch.answers;
        let targets = Tensor::new(answers.as_slice(), &Device::Cpu)?;
        let value = match self.loss {
            Competition::Binary => binary(&logits, answers)?,
            Competition::Softmax => kernels::cross_entropy(&logits, &targets, 0.0)?,
        };
        Loss::new(value).with_accuracy("accuracy", &logits, &targets)
    }
}

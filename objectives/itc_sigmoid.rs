//! Image-text contrast pair by pair: of every image and every text, do the two belong together?
//!
//! SigLIP, Zhai et al., arXiv:2303.15343, section 3.2: `-1/B sum_ij log sigmoid(z_ij (exp(t') x_i . y_j + b))` with z_ij
//! 1 for the B pairs of the batch and -1 for the others. t' and b are learned and belong to this objective; the model's
//! own temperature has no part in it. They begin at t' = ln 10 and b = -10, so that the many pairs that do not match weigh
//! little at first.

use candle_core::{Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::{Loss, Needs, Objective, ObjectiveConfig, Step};
use crate::kernels;
use crate::models::{Ability, Dims, Init, Vars};

/// `itc_sigmoid: {}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Share in the sum of losses.
    pub weight: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { weight: 1.0 }
    }
}

impl ObjectiveConfig for Config {
    fn needs(&self) -> Needs {
        Needs { abilities: [Ability::Embed].into(), batch: 2, ..Needs::default() }
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn build(&self, vars: &Vars, _: &Dims) -> Result<Box<dyn Objective>> {
        Ok(Box::new(ItcSigmoid {
            t_prime: vars.get((), "t_prime", Init::Constant(10f64.ln()))?,
            b: vars.get((), "b", Init::Constant(-10.0))?,
        }))
    }
}

struct ItcSigmoid {
    t_prime: Tensor,
    b: Tensor,
}

/// Cosines (B,B) of images (B,E) and texts (B,E); of several vectors an image (B,Q,E) the nearest counts.
fn cosines(images: &Tensor, texts: &Tensor) -> Result<Tensor> {
    match *images.dims() {
        [pairs, queries, _] => {
            let every = kernels::linear(&images.flatten(0, 1)?, texts, None)?;
            every.reshape((pairs, queries, ()))?.max(1)
        }
        _ => kernels::linear(images, texts, None),
    }
}

impl Objective for ItcSigmoid {
    fn loss(&self, step: &Step) -> Result<Loss> {
        let cosines = cosines(&step.student.image_embeds()?, &step.student.text_embeds()?)?;
        let logits = cosines.broadcast_mul(&self.t_prime.exp()?)?.broadcast_add(&self.b)?;
        let pairs = step.batch.size()?;
        // A sigmoid of a is a softmax over the two classes (0, a).
        let match_or_not = logits.reshape((pairs * pairs, 1))?.pad_with_zeros(1, 1, 0)?;
        let matches: Vec<u32> = (0..pairs * pairs).map(|at| u32::from(at / pairs == at % pairs)).collect();
        let mean = kernels::cross_entropy(&match_or_not, &Tensor::new(matches, &Device::Cpu)?, 0.0)?;

        let own = Tensor::arange(0, pairs as u32, &Device::Cpu)?;
        Loss::new((mean * pairs as f64)?)
            .with("temperature", &self.t_prime.detach().neg()?.exp()?)?
            .with("bias", &self.b)?
            .with_accuracy("image_accuracy", &logits, &own)?
            .with_accuracy("text_accuracy", &logits.t()?.contiguous()?, &own)
    }
}

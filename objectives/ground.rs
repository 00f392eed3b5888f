//! Grounding: which of the regions does an expression mean?
//!
//! UNITER, Chen et al., arXiv:1909.11740, section 4.1 (referring expression comprehension): a linear map gives each region's
//! token a score after the joint pass, and the error is the cross-entropy of the right region among all regions of its image.
//!
//! Deviation: the map has no bias, which would raise the scores of all regions alike and change no choice.

use candle_core::{D, Device, Result, Tensor, bail};
use serde::{Deserialize, Serialize};

use super::{Loss, Needs, Objective, ObjectiveConfig, Reading, Step};
use crate::kernels;
use crate::models::nn::{Linear, deviation};
use crate::models::{Ability, Dims, Field, Init, Vars};

/// `ground: {}`
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
        Needs {
            abilities: [Ability::FuseImage].into(),
            reads: [Field::Regions].into(),
            labels: [Field::Target].into(),
            batch: 1,
            ..Needs::default()
        }
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn build(&self, vars: &Vars, dims: &Dims) -> Result<Box<dyn Objective>> {
        Ok(Box::new(Ground { head: Head::open(vars, dims)? }))
    }
}

/// What is added to the score of a place where there is no region, as in the released code.
const ABSENT: f64 = -1e4;

/// The map that scores regions. Evaluation opens the same parameters to choose.
pub struct Head {
    score: Linear,
}

impl Head {
    /// Opens `head.weight` (1,D) at `vars`, the place of this objective.
    ///
    /// # Errors
    /// When it exists with another shape.
    pub fn open(vars: &Vars, dims: &Dims) -> Result<Self> {
        let init = Init::Normal { std: deviation(dims.width) };
        Ok(Self { score: Linear::new(&vars.at("head"), [dims.width, 1], init, None)? })
    }

    /// Scores (B,N) of the N regions of each image.
    ///
    /// # Errors
    /// When the joint pass leaves no image tokens.
    pub fn scores(&self, reading: &Reading) -> Result<Tensor> {
        let fused = reading.fused()?;
        let Some(image) = &fused.image else {
            bail!("the joint pass leaves no region that has seen the words");
        };
        let scores = self.score.forward(&image.hidden)?.squeeze(D::Minus1)?;
        match &image.mask {
            None => Ok(scores),
            Some(mask) => &scores + mask.affine(-ABSENT, ABSENT)?.to_device(scores.device())?,
        }
    }
}

struct Ground {
    head: Head,
}

impl Objective for Ground {
    fn loss(&self, step: &Step) -> Result<Loss> {
        let scores = self.head.scores(&step.student)?;
        let targets = Tensor::new(step.batch.targets.as_slice(), &Device::Cpu)?;
        Loss::new(kernels::cross_entropy(&scores, &targets, 0.0)?)
            .with_accuracy("accuracy", &scores, &targets)
    }
}

//! Masked region classification: regions are hidden and the class that the detector gave each must be told from the words
//! and the other regions.
//!
//! UNITER, Chen et al., arXiv:1909.11740, section 3.2 and the released code: mean over hidden regions of
//! `-log p(class | words, other regions)`, where class is the detector's most probable one and
//! `p = softmax(LN(gelu(region A + a)) W' + w)`. Where the detector's class 0 is the background, it is never the target
//! but one of the classes that p tells apart. What is hidden, and how, is as in `mrfr`; both read the same pass.
//!
//! Deviation: the head's matrices begin at random as the model's do, with a standard deviation of 0.02 at width 768 and
//! more in narrower models.

use candle_core::{D, Result, Tensor, bail};
use serde::{Deserialize, Serialize};

use super::altered::Alteration;
use super::masking::{self, Masking};
use super::{Batch, Loss, Needs, Objective, ObjectiveConfig, Step};
use crate::kernels::{self, Activation};
use crate::models::nn::{Linear, Tower, bert, deviation};
use crate::models::{Ability, Dims, Field, Init, Vars};

/// `mrc: {probability: 0.15, masking: conditional, background: false}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The probability that a region is hidden.
    pub probability: f64,
    /// Whether words are hidden too.
    pub masking: Masking,
    /// Whether the detector's class 0 is the background, as that of the paper is; the detectors here know none.
    pub background: bool,
    /// Share in the sum of losses.
    pub weight: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { probability: 0.15, masking: Masking::Conditional, background: false, weight: 1.0 }
    }
}

/// What every objective needs that tells the class of hidden regions.
pub(super) fn needs(masking: Masking) -> Needs {
    let abilities = [Ability::Fuse, Ability::FuseImage].into();
    let hides = masking == Masking::Joint;
    Needs { abilities, reads: [Field::Regions].into(), hides, batch: 1, ..Needs::default() }
}

impl ObjectiveConfig for Config {
    fn needs(&self) -> Needs {
        needs(self.masking)
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn faults(&self) -> Vec<String> {
        masking::faults(self.probability)
    }

    fn build(&self, vars: &Vars, dims: &Dims) -> Result<Box<dyn Objective>> {
        let alteration = masking::of_regions(self.probability, self.masking, dims);
        Ok(Box::new(Mrc { head: Head::open(vars, dims)?, alteration, background: self.background }))
    }
}

/// Tells the class of a region from its state after the joint pass.
pub(super) struct Head {
    transform: bert::Transform,
    classes: Linear,
}

impl Head {
    /// Opens `transform` (D,D), `norm` (D) and `head` (C,D) at `vars`.
    pub(super) fn open(vars: &Vars, dims: &Dims) -> Result<Self> {
        let tower = Tower { width: dims.width, depth: 0, heads: 1, mlp: None };
        let init = Init::Normal { std: deviation(dims.width) };
        let sizes = [dims.width, dims.region_classes];
        Ok(Self {
            transform: bert::Transform::new(vars, &tower.spec(Activation::Gelu, bert::EPS, 0.0))?,
            classes: Linear::new(&vars.at("head"), sizes, init, Some(Init::Constant(0.0)))?,
        })
    }

    /// Logits (M,C) of states (M,D).
    pub(super) fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.classes.forward(&self.transform.forward(hidden)?)
    }
}

/// The detector's probabilities (B,N,C).
pub(super) fn beliefs(batch: &Batch) -> Result<&Tensor> {
    match &batch.region_classes {
        Some(classes) => Ok(classes),
        None => bail!("a batch holds no classes of regions"),
    }
}

struct Mrc {
    head: Head,
    alteration: Alteration,
    background: bool,
}

impl Objective for Mrc {
    fn loss(&self, step: &Step) -> Result<Loss> {
        let altered = step.altered(self.alteration.clone())?;
        let Some(hidden) = altered.hidden_regions(step)? else { return Loss::nothing() };
        let logits = self.head.logits(&hidden)?;
        let beliefs = altered.of_hidden_regions(beliefs(step.batch)?)?;
        let classes = match self.background {
            true => beliefs.narrow(1, 1, beliefs.dim(1)? - 1)?.argmax(D::Minus1)?.affine(1.0, 1.0)?,
            false => beliefs.argmax(D::Minus1)?,
        };
        Loss::new(kernels::cross_entropy(&logits, &classes, 0.0)?)
            .with_accuracy("accuracy", &logits, &classes)?
            .with_number("masked", altered.share_of_regions(step)?)
    }
}

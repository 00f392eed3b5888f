//! Image-text matching: does this text describe this image?
//!
//! ALBEF, Li et al., arXiv:2107.07651, section 3.2: cross-entropy of a two-class linear head on the pooled joint
//! representation, averaged over the B pairs of the batch, B pairs with another image and B with another text. Hard
//! negatives are drawn from the similarities of this step: those of the student's embeddings with the teacher's where
//! the step has a teacher (so does the released code), else with its own; of how
//! large a part of the batch they are drawn is VLMo's table 6 (Bao et al., arXiv:2111.02358). With `negatives: random, replace: image` it is
//! UNITER's (Chen et al., arXiv:1909.11740, section 3.2): a pair has, with probability 0.5, another image than its own;
//! with `exact: true` ViLT's (Kim et al., arXiv:2102.03334, section 3.3): exactly half of the batch has.
//!
//! Deviation: others are drawn from the batch, where UNITER and ViLT draw images from the whole data; ViLT does not check
//! that a drawn image is another one.
//! Deviation: pairs that share the image or the caption are never negatives; a pair for which the batch holds no
//! negative does without.
//! Deviation: evaluation ranks by the log-odds of a match; the released code ranks by the logit of "match" alone, from
//! which the loss leaves a common shift of both logits free.

use candle_core::{Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::negatives::Pool;
use super::pairing::Pairing;
pub use super::pairing::{Negatives, Replace};
use super::{Loss, Needs, Objective, ObjectiveConfig, Otherwise, Step};
use crate::kernels;
use crate::models::{Abilities, Ability, Dims, Init, Vars};

/// `itm: {negatives: hard}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which pairs do not match.
    pub negatives: Negatives,
    /// Groups that the batch falls into; a pair that does not match is of one group. 1: of the whole batch.
    pub groups: usize,
    /// Added to the probability of each candidate: 1e-4 in the released code of BLIP, nothing in that of ALBEF.
    pub floor: f64,
    /// What is exchanged in them.
    pub replace: Replace,
    /// With `replace: image`, the share of pairs whose image is exchanged.
    pub share: f64,
    /// Whether exactly that share of a batch is, instead of each pair with that probability.
    pub exact: bool,
    /// Share in the sum of losses.
    pub weight: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            negatives: Negatives::Hard,
            replace: Replace::Both,
            share: 0.5,
            exact: false,
            groups: 1,
            floor: 0.0,
            weight: 1.0,
        }
    }
}

impl ObjectiveConfig for Config {
    fn needs(&self) -> Needs {
        let observed: Abilities = match self.negatives {
            Negatives::Random => [].into(),
            Negatives::Hard => [Ability::Embed].into(),
        };
        let abilities = &observed | &[Ability::Fuse].into();
        Needs { abilities, observed, batch: 2 * self.groups, ..Needs::default() }
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.groups == 0 {
            faults.push("groups is 0: 1 stands for the whole batch".to_owned());
        }
        if !(self.floor >= 0.0 && self.floor.is_finite()) {
            faults.push(format!("floor {} is not a share", self.floor));
        }
        if !(self.share > 0.0 && self.share < 1.0) {
            faults.push(format!("share {} is not above 0 and below 1", self.share));
        }
        faults
    }

    fn otherwise(&self) -> Vec<Otherwise> {
        let objective = super::Config::Itm(Self { negatives: Negatives::Random, ..self.clone() });
        vec![Otherwise { setting: "negatives: random", does: "does without similarities", objective }]
    }

    fn build(&self, vars: &Vars, dims: &Dims) -> Result<Box<dyn Objective>> {
        let Self { negatives, replace, share, exact, groups, floor, .. } = *self;
        let pairing =
            Pairing { negatives, replace, share, exact, pool: Pool { groups, floor: floor as f32 } };
        Ok(Box::new(Itm { head: Head::open(vars, dims)?, pairing }))
    }
}

/// The two-class head. Evaluation opens the same parameters to rank pairs anew.
pub struct Head {
    weight: Tensor,
    bias: Tensor,
}

impl Head {
    /// Opens `head.weight` (2,D) and `head.bias` (2) at `vars`, the place of this objective.
    ///
    /// # Errors
    /// When one exists with another shape.
    pub fn open(vars: &Vars, dims: &Dims) -> Result<Self> {
        let (vars, init) = (vars.at("head"), Init::Uniform { bound: 1.0 / (dims.width as f64).sqrt() });
        Ok(Self { weight: vars.get((2, dims.width), "weight", init)?, bias: vars.get(2, "bias", init)? })
    }

    /// Logits (B,2) of "no match" and "match" of pooled pairs (B,D).
    fn logits(&self, pooled: &Tensor) -> Result<Tensor> {
        kernels::linear(pooled, &self.weight, Some(&self.bias))
    }

    /// The log-odds (B) that each of B pooled pairs (B,D) matches.
    ///
    /// # Errors
    /// When the pairs have another width than the head.
    pub fn scores(&self, pooled: &Tensor) -> Result<Tensor> {
        let logits = self.logits(pooled)?;
        logits.narrow(1, 1, 1)?.sub(&logits.narrow(1, 0, 1)?)?.squeeze(1)
    }
}

struct Itm {
    head: Head,
    pairing: Pairing,
}

impl Objective for Itm {
    fn before(&self, step: &Step) {
        step.agreed.pairing.get_or_init(|| self.pairing);
    }

    fn loss(&self, step: &Step) -> Result<Loss> {
        let groups = step.groups(&self.pairing)?;
        let pooled = groups.iter().map(|group| group.pooled(step)).collect::<Result<Vec<_>>>()?;
        let matches: Vec<u32> = groups.iter().flat_map(|group| group.matches.iter().copied()).collect();
        let positives = matches.iter().sum::<u32>() as f64 / matches.len().max(1) as f64;
        let logits = self.head.logits(&Tensor::cat(&pooled, 0)?)?;
        let matches = Tensor::new(matches, &Device::Cpu)?;
        Loss::new(kernels::cross_entropy(&logits, &matches, 0.0)?)
            .with_accuracy("accuracy", &logits, &matches)?
            .with_number("positives", positives)
    }
}

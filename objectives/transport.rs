//! Optimal transport between the words and the image tokens of a pair: how much has to be moved, and how far.
//!
//! UNITER, Chen et al., arXiv:1909.11740, section 3.2, and the released code. With the cost
//! `c_ij = 1 - cos(word_i, token_j)` and T the plan of least cost whose marginals are uniform over what is visible
//! ([`ipot`]: beta 0.5, 50 iterations, K = 1), the distance of a pair is `sum_ij T_ij c_ij`; T is a constant, so that
//! gradients flow through the cost alone. The loss is the sum of the distances of pairs that match less that of pairs that
//! do not, over the number of pairs.

use candle_core::{DType, Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::pairing::Pairing;
use super::{Loss, Needs, Objective, Step};
use crate::kernels::{Ipot, ipot, l2_normalize};
use crate::models::{Ability, Field, Fused, Tokens};

/// Added to nothing: the least length by which a vector is divided (released code).
const EPS: f64 = 1e-5;

/// The settings of `wra` and of `wpa`: `{beta: 0.5, iterations: 50, k: 1, matched_only: false, weight: 0.1}`.
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
    /// What is wrong with the settings of the plan, one sentence a fault.
    pub fn faults(&self) -> Vec<String> {
        let Self { beta, iterations, k, .. } = *self;
        let mut faults = Vec::new();
        if !(beta > 0.0 && beta.is_finite()) {
            faults.push(format!("beta {beta} is not above 0"));
        }
        if iterations == 0 || k == 0 {
            faults.push(format!("iterations {iterations} and k {k} are not both at least 1"));
        }
        faults
    }

    /// The objective on these tokens; `pairing` says which pairs match where no `itm` does.
    pub fn alignment(&self, tokens: Tokened, pairing: Pairing) -> Alignment {
        let Self { beta, iterations, k, matched_only, .. } = *self;
        Alignment { ipot: Ipot { beta, iterations, k }, tokens, pairing, matched_only }
    }
}

/// What transport between words and what an image is read as needs.
pub fn needs(image: Field) -> Needs {
    let abilities = [Ability::Fuse, Ability::FuseImage].into();
    Needs { abilities, reads: [image].into(), batch: 2, ..Needs::default() }
}

/// The distance (B) of words (B,T,D) from image tokens (B,N,D), 0 where nothing is visible on one side.
///
/// # Errors
/// When shapes do not agree.
pub fn distances(words: &Tokens, image: &Tokens, settings: Ipot) -> Result<Tensor> {
    let [x, y] = [words, image].map(|tokens| l2_normalize(&tokens.hidden, EPS));
    let (x, y) = (x?, y?);
    let cost = x.matmul(&y.t()?)?.affine(-1.0, 1.0)?;
    let plan = ipot(&cost.detach(), &visible(words)?, &visible(image)?, settings)?;
    (cost * plan)?.sum((1, 2))
}

/// 1 where a token is visible (B,N).
fn visible(tokens: &Tokens) -> Result<Tensor> {
    let (rows, places, _) = tokens.hidden.dims3()?;
    match &tokens.mask {
        Some(mask) => Ok(mask.clone()),
        None => Tensor::ones((rows, places), DType::F32, &Device::Cpu),
    }
}

/// Which tokens take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokened {
    /// All, `[CLS]` and `[SEP]` among them.
    All,
    /// The words without the first and the last of them, `[CLS]` and `[SEP]`, and the image without its class token.
    Inner,
}

impl Tokened {
    fn of(self, fused: &Fused) -> Result<[Tokens; 2]> {
        let (words, Some(image)) = (fused.text.clone(), fused.image.clone()) else {
            candle_core::bail!("the joint pass returns no image tokens")
        };
        if self == Self::All {
            return Ok([words, image]);
        }
        let mut seen = visible(&words)?.to_vec2::<f32>()?;
        for row in &mut seen {
            let last = row.iter().rposition(|&seen| seen != 0.0);
            for at in [Some(0), last].into_iter().flatten() {
                row[at] = 0.0;
            }
        }
        let mask = Some(Tensor::new(seen, &Device::Cpu)?);
        let inner = image.hidden.dim(1)?.saturating_sub(1);
        let image = Tokens {
            hidden: image.hidden.narrow(1, 1, inner)?,
            mask: Some(visible(&image)?.narrow(1, 1, inner)?),
        };
        Ok([Tokens { mask, ..words }, image])
    }
}

/// The objective that draws the sides of matching pairs together and, unless `matched_only`, others apart.
pub struct Alignment {
    /// The settings of the plan.
    ipot: Ipot,
    /// Which tokens take part.
    tokens: Tokened,
    /// Which pairs match, where no `itm` says so.
    pairing: Pairing,
    /// Whether the loss is the mean distance of matching pairs (the papers' formula).
    matched_only: bool,
}

impl Objective for Alignment {
    fn before(&self, step: &Step) {
        step.agreed.tokens.get_or_init(|| ());
    }

    fn loss(&self, step: &Step) -> Result<Loss> {
        let groups = step.groups(&self.pairing)?;
        let (mut apart, mut matches) = (Vec::new(), Vec::new());
        for group in groups.iter().filter(|group| !self.matched_only || group.matches.contains(&1)) {
            let [words, image] = self.tokens.of(&*group.fused(step)?)?;
            apart.push(distances(&words, &image, self.ipot)?);
            matches.extend(&group.matches);
        }
        let count = |kind| matches.iter().filter(|&&matches| matches == kind).count();
        let [others, matched] = [0, 1].map(count);
        if apart.is_empty() {
            return Loss::nothing();
        }
        let all = Tensor::cat(&apart, 0)?;
        let weighed = |of_matched: f64, of_others: f64| -> Result<Tensor> {
            let weight = |&kind: &u32| if kind == 1 { of_matched as f32 } else { of_others as f32 };
            let weights = Tensor::from_iter(matches.iter().map(weight), all.device())?;
            (&all * weights.to_dtype(all.dtype())?)?.sum_all()
        };
        let [mean_of_matched, mean_of_others] = [matched, others].map(|count| 1.0 / count.max(1) as f64);
        let share = 1.0 / matches.len() as f64;
        let mut loss = Loss::new(match self.matched_only {
            true => weighed(mean_of_matched, 0.0)?,
            false => weighed(share, -share)?,
        });
        if matched > 0 {
            loss = loss.with("matched", &weighed(mean_of_matched, 0.0)?)?;
        }
        if others > 0 && !self.matched_only {
            loss = loss.with("mismatched", &weighed(0.0, mean_of_others)?)?;
        }
        Ok(loss)
    }
}

//! Image-text matching: does this text describe this image?
//!
//! ALBEF, Li et al., arXiv:2107.07651, section 3.2: cross-entropy of a two-class linear head on the pooled joint
//! representation, averaged over the B pairs of the batch, B pairs with another image and B with another text. Hard
//! negatives are drawn from the similarities of this step: those of the student's embeddings with the teacher's where
//! the step has a teacher (so does the released code), else with its own. Of how large a part of the batch they are drawn
//! is VLMo's table 6 (Bao et al., arXiv:2111.02358).
//!
//! Deviation: pairs that share the image or the caption are never negatives; a pair for which the batch holds no
//! negative does without.
//! Deviation: evaluation ranks by the log-odds of a match; the released code ranks by the logit of "match" alone, from
//! which the loss leaves a common shift of both logits free.

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use super::negatives::{self, Pair, Pool};
use super::{Loss, Needs, Objective, ObjectiveConfig, Step};
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
    /// Share in the sum of losses.
    pub weight: f64,
}

/// How the pairs that do not match are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Negatives {
    /// Uniformly from the batch.
    Random,
    /// More often the more similar they are.
    Hard,
}

impl Default for Config {
    fn default() -> Self {
        Self { negatives: Negatives::Hard, groups: 1, floor: 0.0, weight: 1.0 }
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
        faults
    }

    fn without(&self, ability: Ability) -> Option<&'static str> {
        (ability == Ability::Embed).then_some("`negatives: random` does without similarities")
    }

    fn build(&self, vars: &Vars, dims: &Dims) -> Result<Box<dyn Objective>> {
        let pool = Pool { groups: self.groups, floor: self.floor as f32 };
        Ok(Box::new(Itm { head: Head::open(vars, dims)?, negatives: self.negatives, pool }))
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
    negatives: Negatives,
    pool: Pool,
}

impl Itm {
    /// Rows of images and of texts that do not match: each text with another image, then each image with another text.
    fn mismatched(&self, step: &Step) -> Result<[Vec<u32>; 2]> {
        let keys = step.batch.image_keys.iter().zip(&step.batch.caption_keys);
        let pairs: Vec<Pair> = keys.map(|(&image, &caption)| Pair { image, caption }).collect();
        let (to_image, to_text) = match self.negatives {
            Negatives::Random => {
                let equal = vec![0.0; pairs.len() * pairs.len()];
                (equal.clone(), equal)
            }
            Negatives::Hard => {
                let (student, keys) = (&step.student, step.keys());
                let flat = |scores: Tensor| scores.contiguous()?.flatten_all()?.to_vec1();
                let to_text = student.model.similarity(&student.image_embeds()?, &keys.text_embeds()?)?;
                let to_image = student.model.similarity(&keys.image_embeds()?, &student.text_embeds()?)?;
                (flat(to_image.t()?)?, flat(to_text)?)
            }
        };
        let mut rows = [Vec::new(), Vec::new()];
        let drawn_images = negatives::draw(&to_image, &pairs, self.pool, step.rng("itm.images"));
        let drawn_texts = negatives::draw(&to_text, &pairs, self.pool, step.rng("itm.texts"));
        let images = drawn_images.into_iter().zip(0..).filter_map(|(image, text)| Some((image?, text)));
        let texts = drawn_texts.into_iter().zip(0..).filter_map(|(text, image)| Some((image, text?)));
        for (image, text) in images.chain(texts) {
            rows[0].push(image);
            rows[1].push(text);
        }
        Ok(rows)
    }
}

impl Objective for Itm {
    fn loss(&self, step: &Step) -> Result<Loss> {
        let student = &step.student;
        let matched = student.pooled()?;
        let (device, positives) = (matched.device(), matched.dim(0)?);
        let [images, texts] = self.mismatched(step)?;
        let total = positives + images.len();
        let pooled = if images.is_empty() {
            matched.clone()
        } else {
            let image = student.image.select(&Tensor::new(images, device)?)?;
            let text = student.text.select(&Tensor::new(texts, device)?)?;
            Tensor::cat(&[&matched, &student.model.pool(&image, &text)?], 0)?
        };
        let matches: Vec<u32> = (0..total).map(|row| u32::from(row < positives)).collect();
        let matches = Tensor::new(matches, device)?;
        let logits = self.head.logits(&pooled)?;
        Loss::new(kernels::cross_entropy(&logits, &matches, 0.0)?)
            .with_accuracy("accuracy", &logits, &matches)?
            .with_number("positives", positives as f64 / total as f64)
    }
}

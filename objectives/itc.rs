//! Image-text contrast within the batch: each image must find its own caption among all, and the reverse.
//!
//! CLIP, Radford et al., arXiv:2103.00020, figure 3: `(CE(S, i) + CE(S', i)) / 2` over the logits S (B,B). A model that
//! trains a second contrast beside the first, as VLMo does (Bao et al., arXiv:2111.02358, released code), is judged by the
//! mean of both.

use candle_core::{Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::lm::smoothing_fault;
use super::{Loss, Needs, Objective, ObjectiveConfig, Reading, Step};
use crate::kernels;
use crate::models::{Ability, Dims, Vars};

/// `itc: {label_smoothing: 0.1}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The share of each target that is spread over all pairs of the batch: 0.1 in BLIP-2 (Li et al., arXiv:2301.12597).
    pub label_smoothing: f64,
    /// Share in the sum of losses.
    pub weight: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { label_smoothing: 0.0, weight: 1.0 }
    }
}

impl ObjectiveConfig for Config {
    fn needs(&self) -> Needs {
        Needs { abilities: [Ability::Embed].into(), batch: 2, ..Needs::default() }
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn faults(&self) -> Vec<String> {
        smoothing_fault(self.label_smoothing).into_iter().collect()
    }

    fn build(&self, _: &Vars, _: &Dims) -> Result<Box<dyn Objective>> {
        Ok(Box::new(Itc { label_smoothing: self.label_smoothing }))
    }
}

struct Itc {
    label_smoothing: f64,
}

impl Objective for Itc {
    fn loss(&self, step: &Step) -> Result<Loss> {
        let logits = step.student.similarity()?;
        let pairs = logits.dim(0)? as u32;
        let own = Tensor::arange(0, pairs, &Device::Cpu)?;
        let reverse = logits.t()?.contiguous()?;
        let mut loss = contrast(&logits, &own, self.label_smoothing)?;
        let Reading { model, image, text, .. } = &step.student;
        if let Some(second) = model.second_similarity(image, text)? {
            loss = ((loss + contrast(&second, &own, self.label_smoothing)?)? * 0.5)?;
        }
        Loss::new(loss)
            .with("temperature", &step.student.temperature()?)?
            .with_accuracy("image_accuracy", &logits, &own)?
            .with_accuracy("text_accuracy", &reverse, &own)
    }
}

/// The mean error of finding each image's text and each text's image.
fn contrast(logits: &Tensor, own: &Tensor, smoothing: f64) -> Result<Tensor> {
    let images = kernels::cross_entropy(logits, own, smoothing)?;
    let texts = kernels::cross_entropy(&logits.t()?.contiguous()?, own, smoothing)?;
    (images + texts)? * 0.5
}

//! Bag of words: which words does the caption of an image have, in whatever order?
//!
//! CLIP, Radford et al., arXiv:2103.00020, section 2.3 and figure 2, the second of its three objectives. Of an image the
//! mean of its tokens is normalised and mapped linearly to the vocabulary: mean over images of
//! `-1/|W| sum_{w in W} log softmax(z)_w`, W the distinct words of the caption.
//!
//! Deviation: the paper does not say how words are predicted; this is the softmax that its reference, Joulin et al.,
//! arXiv:1511.02251, section 3.2, found as good as deciding each word apart, and better behaved with many words.
//! Deviation: an image without a caption word is left out of the mean.

use std::collections::BTreeSet;

use candle_core::{Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::{Loss, Needs, Objective, ObjectiveConfig, Step};
use crate::kernels;
use crate::models::nn::{LayerNorm, Linear, fan_in};
use crate::models::{Ability, Dims, Vars};
use crate::token::Specials;

const EPS: f64 = 1e-5;

/// `bow: {}`
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
        Needs { abilities: [Ability::ImageTokens].into(), batch: 1, ..Needs::default() }
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn build(&self, vars: &Vars, dims: &Dims) -> Result<Box<dyn Objective>> {
        let (width, vocabulary) = (dims.image, dims.vocabulary);
        let init = fan_in(width);
        Ok(Box::new(Bow {
            norm: LayerNorm::new(&vars.at("norm"), width, EPS)?,
            words: Linear::new(&vars.at("words"), [width, vocabulary], init, Some(init))?,
            vocabulary,
        }))
    }
}

struct Bow {
    norm: LayerNorm,
    words: Linear,
    vocabulary: usize,
}

/// Rows of texts with a word, and the share of each vocabulary entry in the target of each such row, row by row.
fn bags(ids: &[Vec<u32>], vocabulary: usize, specials: &Specials) -> (Vec<u32>, Vec<f32>) {
    let special = specials.all();
    let (mut rows, mut shares) = (Vec::new(), Vec::new());
    for (row, ids) in (0..).zip(ids) {
        let words = ids.iter().filter(|id| special.binary_search(id).is_err());
        let words: BTreeSet<usize> = words.map(|&id| id as usize).collect();
        if words.is_empty() {
            continue;
        }
        rows.push(row);
        let first = shares.len();
        shares.resize(first + vocabulary, 0.0);
        words.iter().for_each(|word| shares[first + word] = 1.0 / words.len() as f32);
    }
    (rows, shares)
}

impl Objective for Bow {
    fn loss(&self, step: &Step) -> Result<Loss> {
        let student = &step.student;
        let images = student.model.image_tokens(&student.image)?.hidden.mean(1)?;
        let (rows, shares) = bags(&step.batch.text.ids.to_vec2()?, self.vocabulary, &step.batch.specials);
        let device = images.device();
        if rows.is_empty() {
            return Ok(Loss::new(Tensor::zeros((), images.dtype(), device)?));
        }
        let count = rows.len();
        let images = kernels::gather_rows(&images, &Tensor::new(rows, &Device::Cpu)?)?;
        let logits = self.words.forward(&self.norm.forward(&images)?)?;
        let shares = Tensor::from_vec(shares, (count, self.vocabulary), device)?.to_dtype(logits.dtype())?;
        let found = logits.detach().argmax_keepdim(1)?;
        let right = shares.gather(&found, 1)?.gt(0f64)?.to_dtype(candle_core::DType::F32)?.mean_all()?;
        Loss::new(kernels::soft_cross_entropy(&logits, &shares)?).with("accuracy", &right)
    }
}

//! Captioning: each word must be named from the image and the words before it.
//!
//! BLIP, Li et al., arXiv:2201.12086, section 3.2 (with label smoothing 0.1); CoCa, Yu et al., arXiv:2205.01917, equation
//! 2; BLIP-2, Li et al., arXiv:2301.12597, section 3.2, image-grounded text generation. Mean over words, the `[SEP]` that
//! ends a text included: `-log p(word t | image, words before t)`. `[CLS]` is given, never asked for, and so are the words of
//! a prompt (BLIP's captioner, released code).

use candle_core::{Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::{Loss, Needs, Objective, ObjectiveConfig, Step};
use crate::kernels::{self, CrossEntropy};
use crate::models::{Ability, Attend, Dims, Text, Tokens, Vars};

/// `lm: {label_smoothing: 0.1}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The share of each target that is spread over the whole vocabulary.
    pub label_smoothing: f64,
    /// How many words at the beginning of each text are given: those of a prompt, such as the 3 of "a picture of".
    pub prompt: usize,
    /// Share in the sum of losses.
    pub weight: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { label_smoothing: 0.0, prompt: 0, weight: 1.0 }
    }
}

impl ObjectiveConfig for Config {
    fn needs(&self) -> Needs {
        Needs { abilities: [Ability::Generate, Ability::PredictWords].into(), batch: 1, ..Needs::default() }
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn faults(&self) -> Vec<String> {
        smoothing_fault(self.label_smoothing).into_iter().collect()
    }

    fn build(&self, _: &Vars, _: &Dims) -> Result<Box<dyn Objective>> {
        Ok(Box::new(Lm { label_smoothing: self.label_smoothing, prompt: self.prompt }))
    }
}

struct Lm {
    label_smoothing: f64,
    prompt: usize,
}

/// What is wrong with a share of label smoothing.
pub(super) fn smoothing_fault(share: f64) -> Option<String> {
    (!(0.0..1.0).contains(&share)).then(|| format!("label_smoothing {share} is not in [0, 1)"))
}

/// Places (M) among the B T of a batch that predict, with a visible word after them, and those words (M). Where the mask of
/// what the model returns is 0 it predicts nothing: an encoder-decoder reads the first part of a text. Nor are the first
/// `prompt` words of a text predicted.
pub(super) fn next_words(text: &Text, predicting: Option<&Tensor>, prompt: usize) -> Result<[Vec<u32>; 2]> {
    let (ids, mask) = (text.ids.to_vec2::<u32>()?, text.mask.to_vec2::<f32>()?);
    let predicting = predicting.unwrap_or(&text.mask).to_vec2::<f32>()?;
    let (mut places, mut words) = (Vec::new(), Vec::new());
    let mut start = 0;
    for ((ids, mask), predicting) in ids.iter().zip(&mask).zip(&predicting) {
        let next = ids.iter().zip(mask).skip(1);
        for (place, ((&word, &seen), &predicts)) in (start..).zip(next.zip(predicting)).skip(prompt) {
            if seen != 0.0 && predicts != 0.0 {
                places.push(place);
                words.push(word);
            }
        }
        start += ids.len() as u32;
    }
    Ok([places, words])
}

impl Objective for Lm {
    fn loss(&self, step: &Step) -> Result<Loss> {
        let student = &step.student;
        let Tokens { hidden, mask } = student.model.fuse(&student.image, &student.text, Attend::Causal)?.text;
        let [places, words] = next_words(&step.batch.text, mask.as_ref(), self.prompt)?;
        let device = hidden.device();
        if places.is_empty() {
            return Ok(Loss::new(Tensor::zeros((), hidden.dtype(), device)?));
        }
        let (places, words) = (Tensor::new(places, &Device::Cpu)?, Tensor::new(words, &Device::Cpu)?);
        let logits = student.model.predict_words(&kernels::gather_vectors(&hidden, &places)?)?;
        let CrossEntropy { loss, accuracy } = logits.cross_entropy(&words, self.label_smoothing)?;
        Loss::new(loss).with("accuracy", &accuracy)
    }
}

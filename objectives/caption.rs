//! Captioning by a decoder of its own: a transformer that belongs to this objective reads the image tokens of any model.
//!
//! CLIP, Radford et al., arXiv:2103.00020, section 2.3 and figure 2, the first of its three objectives, which follows
//! VirTex (Desai and Johnson, arXiv:2006.06666, section 3.1): layers of self-attention from left to right, attention to the
//! image and a feed-forward part, each normalised after the residual sum; words are predicted by the table that reads
//! them. Mean over words, the `[SEP]` that ends a text included: `-log p(word t | image, words before t)`.
//!
//! `lm` is for models that write captions themselves. The decoder shares nothing with the model's text tower.
//!
//! Deviation: VirTex also predicts from right to left with a second decoder; CLIP says no more than that a language model
//! predicts the caption.

use candle_core::{Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::lm::next_words;
use super::{Loss, Needs, Objective, ObjectiveConfig, Step};
use crate::kernels::{self, Activation, CrossEntropy, Logits, Mask, Spans};
use crate::models::nn::{Packing, Spec, Tower, bert, within};
use crate::models::{Ability, Dims, Init, Vars};

/// `caption: {decoder: {width: 128, depth: 4, heads: 4}}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The decoder.
    pub decoder: Tower,
    /// The share of each target that is spread over the whole vocabulary.
    pub label_smoothing: f64,
    /// Probability of dropping attention weights and the outcome of each part of a layer.
    pub dropout: f64,
    /// Share in the sum of losses.
    pub weight: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { decoder: Tower::default(), label_smoothing: 0.0, dropout: 0.0, weight: 1.0 }
    }
}

impl ObjectiveConfig for Config {
    fn needs(&self) -> Needs {
        Needs { abilities: [Ability::ImageTokens].into(), batch: 1, ..Needs::default() }
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = self.decoder.faults("decoder");
        faults.extend(super::lm::smoothing_fault(self.label_smoothing));
        faults.extend(crate::models::nn::dropout_faults(self.dropout));
        faults
    }

    fn build(&self, vars: &Vars, dims: &Dims) -> Result<Box<dyn Objective>> {
        let spec: Spec = self.decoder.spec(Activation::Gelu, bert::EPS, self.dropout);
        let layer = |index| bert::Layer::new(&vars.at("layers").at(index), &spec, Some(dims.image));
        let sizes = [dims.vocabulary, dims.words];
        Ok(Box::new(Caption {
            embed: bert::Embeddings::unsegmented(&vars.at("embed"), sizes, &spec)?,
            layers: (0..self.decoder.depth).map(layer).collect::<Result<_>>()?,
            bias: vars.get(dims.vocabulary, "bias", Init::Constant(0.0))?,
            label_smoothing: self.label_smoothing,
        }))
    }
}

struct Caption {
    embed: bert::Embeddings,
    layers: Vec<bert::Layer>,
    /// Of each word, added to its logit.
    bias: Tensor,
    label_smoothing: f64,
}

impl Objective for Caption {
    fn loss(&self, step: &Step) -> Result<Loss> {
        let (student, text) = (&step.student, &step.batch.text);
        let image = student.model.image_tokens(&student.image)?.hidden;
        let [places, words] = next_words(text, None, 0)?;
        let device = image.device();
        if places.is_empty() {
            return Ok(Loss::new(Tensor::zeros((), image.dtype(), device)?));
        }
        let (batch, tokens, _) = image.dims3()?;
        let packing = Packing::new(&text.mask)?;
        let itself = Mask::itself(packing.spans(), true);
        let across = Mask::across(packing.spans().clone(), Spans::even(batch, tokens));
        let noise = Some(step.rng("caption.dropout"));
        let mut hidden = packing.pack(&self.embed.forward(text, within(noise, 0))?)?;
        for (layer, number) in self.layers.iter().zip(1..) {
            let keys = layer.keys(&image)?;
            hidden = layer.forward(&hidden, &itself, Some((&keys, &across)), within(noise, number))?;
        }
        let hidden = packing.unpack(&hidden)?;
        let (places, words) = (Tensor::new(places, &Device::Cpu)?, Tensor::new(words, &Device::Cpu)?);
        let asked = kernels::gather_vectors(&hidden, &places)?;
        let logits = Logits::new(asked, self.embed.table(), Some(&self.bias));
        let CrossEntropy { loss, accuracy } = logits.cross_entropy(&words, self.label_smoothing)?;
        Loss::new(loss).with("accuracy", &accuracy)
    }
}

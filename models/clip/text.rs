//! The text tower: a causal transformer, or no more than which words there are.

use candle_core::{D, Result, Tensor};

use super::{Config, EPS, TextEncoder};
use crate::kernels::{self, Mask};
use crate::models::nn::{LayerNorm, Linear, One, Packing, PreNorm, Start, Words, unit};
use crate::models::{Init, Inputs, Text, Tokens, Vars, View};

const WORDS: Init = Init::Normal { std: 0.02 };
const POSITIONS: Init = Init::Normal { std: 0.01 };

/// What makes the feature of a text.
pub struct TextTower {
    reader: Reader,
    ln_final: LayerNorm,
    project: Linear,
}

enum Reader {
    Causal {
        embed: Words,
        layers: PreNorm,
    },
    /// The vectors of the vocabulary (V,D).
    BagOfWords(Tensor),
}

impl TextTower {
    /// For the words of `inputs`.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn new(vars: &Vars, config: &Config, inputs: &Inputs) -> Result<Self> {
        let (depth, spec) = (config.text.depth, config.spec(&config.text));
        let (embed, project) = (vars.at("embed"), Init::Normal { std: (spec.width as f64).powf(-0.5) });
        let reader = match config.text_encoder {
            TextEncoder::Causal => Reader::Causal {
                embed: Words::new(&embed, [inputs.vocabulary, inputs.words, spec.width], [WORDS, POSITIONS])?,
                layers: PreNorm::new(&vars.at("layers"), depth, &spec, &Start::by_depth(&spec, depth))?,
            },
            TextEncoder::BagOfWords => {
                Reader::BagOfWords(embed.get((inputs.vocabulary, spec.width), "words", WORDS)?)
            }
        };
        Ok(Self {
            reader,
            ln_final: LayerNorm::new(&vars.at("ln_final"), spec.width, EPS)?,
            project: Linear::new(&vars.at("project"), [spec.width, config.embed], project, None)?,
        })
    }

    /// The outcome of the last layer, normalised (B,T,D); of a bag of words the normalised word vectors.
    ///
    /// # Errors
    /// When the text is longer than the positions or an entry lies outside the vocabulary.
    pub fn encode(&self, text: &View<Text>) -> Result<Tokens> {
        let input = text.input()?;
        let packing = Packing::new(&input.mask)?;
        let hidden = match &self.reader {
            Reader::Causal { embed, layers } => {
                let hidden = packing.pack(&embed.forward(&input.ids)?)?;
                layers.forward(hidden, &Mask::itself(packing.spans(), true), text.noise())?
            }
            Reader::BagOfWords(words) => packing.pack(&kernels::embedding(words, &input.ids)?)?,
        };
        let hidden = packing.unpack(&self.ln_final.forward(&hidden)?)?;
        Ok(Tokens { hidden, mask: Some(input.mask.clone()) })
    }

    /// What stands for the whole text (B,D), normalised: the end-of-text token of [`TextTower::encode`], the last visible
    /// one, which sees every visible token; of a bag of words the mean of their vectors.
    ///
    /// # Errors
    /// As [`TextTower::encode`].
    pub fn end(&self, text: &View<Text>) -> Result<Tokens> {
        let Text { ids, mask, .. } = text.input()?;
        let hidden = match &self.reader {
            Reader::Causal { embed, layers } => {
                let packing = Packing::new(mask)?;
                let hidden = packing.pack(&embed.forward(ids)?)?;
                let (seen, end) = (Mask::itself(packing.spans(), true), One::last(packing.spans())?);
                layers.forward_one(hidden, &seen, &end, text.noise())?
            }
            Reader::BagOfWords(words) => {
                let share = mask.broadcast_div(&mask.sum_keepdim(1)?)?.unsqueeze(D::Minus1)?;
                kernels::embedding(words, ids)?.broadcast_mul(&share.to_device(words.device())?)?.sum(1)?
            }
        };
        Ok(Tokens { hidden: self.ln_final.forward(&hidden)?, mask: None })
    }

    /// The unit vectors (B,E) of what [`TextTower::end`] gives.
    ///
    /// # Errors
    /// When the device fails.
    pub fn feature(&self, end: &Tensor) -> Result<Tensor> {
        unit(&self.project.forward(end)?)
    }
}

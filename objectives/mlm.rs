//! Masked language modelling: words are hidden and must be named from the other words and the image.
//!
//! BERT, Devlin et al., arXiv:1810.04805, section 3.1, with the image as a second source (ALBEF, Li et al.,
//! arXiv:2107.07651, sections 3.2 and 3.3): mean over hidden tokens of `-log p(token | other words, image)`, a share alpha
//! of each target taken from the teacher, which sees the same masked text. Images stay whole: masking is conditional.
//!
//! Deviation: `[SEP]` is never hidden and never a replacement, nor is any other special token; the released code of
//! ALBEF hides `[SEP]` like a word and draws replacements from the whole vocabulary.

use candle_core::{DType, Result, Tensor, bail};
use serde::{Deserialize, Serialize};

use super::masking::{self, Rule};
use super::{Loss, Needs, Objective, ObjectiveConfig, Reading, Step, distillation};
use crate::kernels::{self, CrossEntropy, Logits, random::Key};
use crate::models::{Ability, Attend, Dims, Text, Vars, View};
use crate::token::SPECIAL;

/// What a word is told from beside the other words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Context {
    /// The image.
    Image,
    /// Nothing: the model reads the text alone.
    None,
}

/// `mlm: {probability: 0.15, whole_word: true}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The probability that a word is hidden.
    pub probability: f64,
    /// Whether the pieces of a word are hidden together.
    pub whole_word: bool,
    /// What a word is told from beside the other words: nothing in VLMo's stage on text (Bao et al., arXiv:2111.02358).
    pub context: Context,
    /// alpha: the teacher's share of the target.
    pub distill: f64,
    /// Passes over the training pairs in which alpha rises from 0.
    pub ramp: f64,
    /// Share in the sum of losses.
    pub weight: f64,
}

impl Default for Config {
    fn default() -> Self {
        let context = Context::Image;
        Self { probability: 0.15, whole_word: false, context, distill: 0.0, ramp: 1.0, weight: 1.0 }
    }
}

impl ObjectiveConfig for Config {
    fn needs(&self) -> Needs {
        let abilities = match self.context {
            Context::Image => [Ability::Fuse, Ability::PredictWords].into(),
            Context::None => [Ability::TextTokens, Ability::PredictWords].into(),
        };
        Needs { abilities, teacher: self.distill > 0.0, batch: 1, ..Needs::default() }
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn without(&self, ability: Ability) -> Option<&'static str> {
        (ability == Ability::Fuse).then_some("`context: none` does without an image")
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = distillation::faults(self.distill, self.ramp);
        if !(self.probability > 0.0 && self.probability <= 1.0) {
            faults.push(format!("probability {} is not in (0, 1]", self.probability));
        }
        faults
    }

    fn build(&self, _: &Vars, dims: &Dims) -> Result<Box<dyn Objective>> {
        let Self { probability, whole_word, context, distill, ramp, .. } = *self;
        if dims.vocabulary <= SPECIAL.len() {
            bail!("mlm: a vocabulary of {} entries holds special tokens alone", dims.vocabulary);
        }
        let rule = Rule { probability, whole_word, vocabulary: dims.vocabulary };
        Ok(Box::new(Mlm { rule, context, distill, ramp }))
    }
}

struct Mlm {
    rule: Rule,
    context: Context,
    distill: f64,
    ramp: f64,
}

impl Mlm {
    /// Vocabulary logits (M,V) at the hidden places of `text`; the others are not decoded.
    fn predict(&self, reader: &Reading, text: &Text, positions: &Tensor, noise: Key) -> Result<Logits> {
        let text = View::new(text.clone(), Some(noise));
        let hidden = match self.context {
            Context::Image => reader.model.fuse(&reader.image, &text, Attend::Both)?.text.hidden,
            Context::None => reader.model.text_tokens(&text)?.hidden,
        };
        reader.model.predict_words(&kernels::gather_vectors(&hidden, positions)?)
    }
}

impl Objective for Mlm {
    fn loss(&self, step: &Step) -> Result<Loss> {
        let text = &step.batch.text;
        let (device, shape) = (text.ids.device(), text.ids.shape());
        let ids: Vec<u32> = text.ids.flatten_all()?.to_vec1()?;
        let masked = masking::mask(&ids, &step.batch.word_starts, self.rule, step.rng("mlm.mask"));
        if masked.positions.is_empty() {
            return Ok(Loss::new(Tensor::zeros((), DType::F32, device)?));
        }
        let words = ids.iter().filter(|&&id| id as usize >= SPECIAL.len()).count();
        let share = masked.positions.len() as f64 / words as f64;
        let text = Text { ids: Tensor::from_vec(masked.ids, shape, device)?, ..text.clone() };
        let positions = Tensor::new(masked.positions, device)?;
        let targets = Tensor::new(masked.targets, device)?;

        let alpha = distillation::alpha(self.distill, self.ramp, step.progress);
        let logits = self.predict(&step.student, &text, &positions, step.rng("mlm.dropout"))?;
        let CrossEntropy { loss, accuracy } = if alpha == 0.0 {
            logits.cross_entropy(&targets, 0.0)?
        } else {
            let teacher =
                self.predict(step.teacher()?, &text, &positions, step.rng("mlm.teacher.dropout"))?;
            logits.distilled(&targets, &teacher, alpha)?
        };
        Loss::new(loss)
            .with_number("accuracy", accuracy)?
            .with_number("masked", share)?
            .with_number("alpha", alpha)
    }
}

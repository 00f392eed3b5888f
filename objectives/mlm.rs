//! Masked language modelling: words are hidden and must be named from the other words and the image.
//!
//! BERT, Devlin et al., arXiv:1810.04805, section 3.1, with the image as a second source (ALBEF, Li et al.,
//! arXiv:2107.07651, sections 3.2 and 3.3): mean over hidden tokens of `-log p(token | other words, image)`, a share alpha
//! of each target taken from the teacher, which sees the same masked text. Images stay whole unless `masking: joint` hides
//! regions in the same pass (UNITER, Chen et al., arXiv:1909.11740, Table 2, L12). Object tags are words, and beside
//! `tag_match` those of another image are hidden and named as well (Oscar, Li et al., arXiv:2004.06165, section 4) unless
//! `unmatched: false` spares them (`mask_loss_for_unmatched` of the released code).
//!
//! Deviation: `[SEP]` is never hidden and never a replacement, nor is any other special token, those that a model adds for
//! itself (BLIP's `[DEC]` and `[ENC]`) among them; the released codes of BERT and ALBEF draw replacements from the whole
//! vocabulary, and that of ALBEF hides `[SEP]` like a word.

use std::collections::BTreeSet;

use candle_core::{Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::altered::{Alteration, Altered, DROPOUT};
use super::masking::{self, Masking, Rule};
use super::{Loss, Needs, Objective, ObjectiveConfig, Step, distillation};
use crate::kernels::{self, CrossEntropy, Logits};
use crate::models::{Abilities, Ability, Dims, Field, Vars};

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
    /// Whether every text hides at least one word (UNITER, released code), not only every batch.
    pub every_text: bool,
    /// Whether regions are hidden too.
    pub masking: Masking,
    /// Whether tags that belong to another image are hidden and named too.
    pub unmatched: bool,
    /// alpha: the teacher's share of the target.
    pub distill: f64,
    /// Passes over the training pairs in which alpha rises from 0.
    pub ramp: f64,
    /// Share in the sum of losses.
    pub weight: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            probability: 0.15,
            whole_word: false,
            context: Context::Image,
            every_text: false,
            masking: Masking::Conditional,
            unmatched: true,
            distill: 0.0,
            ramp: 1.0,
            weight: 1.0,
        }
    }
}

impl ObjectiveConfig for Config {
    fn needs(&self) -> Needs {
        let (mut abilities, mut reads) = match self.context {
            Context::Image => (Abilities::from([Ability::Fuse, Ability::PredictWords]), BTreeSet::new()),
            Context::None => ([Ability::TextTokens, Ability::PredictWords].into(), BTreeSet::new()),
        };
        if self.masking == Masking::Joint {
            // Who updates image tokens has a vector for hidden ones.
            abilities.insert(Ability::FuseImage);
            reads.insert(Field::Regions);
        }
        Needs { abilities, reads, teacher: self.distill > 0.0, hides: true, batch: 1, ..Needs::default() }
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = distillation::faults(self.distill, self.ramp);
        faults.extend(masking::faults(self.probability));
        if (self.context, self.masking) == (Context::None, Masking::Joint) {
            faults.push("masking: joint hides regions, of which context: none sees nothing".to_owned());
        }
        faults
    }

    fn build(&self, _: &Vars, dims: &Dims) -> Result<Box<dyn Objective>> {
        let Self { probability, whole_word, context, every_text, masking, unmatched, distill, ramp, .. } =
            *self;
        let alteration = Alteration {
            pollution: None,
            words: Some(Rule { probability, whole_word, vocabulary: dims.vocabulary, every_text }),
            spares_others_tags: !unmatched,
            regions: (masking == Masking::Joint).then_some(probability),
        };
        Ok(Box::new(Mlm { alteration, context, distill, ramp }))
    }
}

struct Mlm {
    alteration: Alteration,
    context: Context,
    distill: f64,
    ramp: f64,
}

impl Mlm {
    /// Vocabulary logits (M,V) of the student or the teacher at the hidden places; the others are not decoded.
    fn predict(
        &self,
        step: &Step,
        altered: &Altered,
        of_teacher: bool,
        positions: &Tensor,
    ) -> Result<Logits> {
        let reader = if of_teacher { step.teacher()? } else { &step.student };
        let hidden = match (self.context, of_teacher) {
            (Context::None, _) => altered.alone(reader, step.rng(DROPOUT[usize::from(of_teacher)]))?,
            (Context::Image, false) => altered.student(step)?.text.hidden.clone(),
            (Context::Image, true) => altered.teacher(step)?.text.hidden.clone(),
        };
        reader.model.predict_words(&kernels::gather_vectors(&hidden, positions)?)
    }
}

impl Objective for Mlm {
    fn before(&self, step: &Step) {
        if self.context == Context::Image {
            step.agreed.hidden.get_or_init(|| self.alteration.clone());
        }
    }

    fn loss(&self, step: &Step) -> Result<Loss> {
        let pollution = step.agreed.pollution.get().copied();
        let altered = step.altered(Alteration { pollution, ..self.alteration.clone() })?;
        let Some(words) = altered.words.as_ref().filter(|words| !words.positions.is_empty()) else {
            return Loss::nothing();
        };
        let share = words.positions.len() as f64 / altered.maskable as f64;
        let positions = Tensor::new(words.positions.as_slice(), &Device::Cpu)?;
        let targets = Tensor::new(words.targets.as_slice(), &Device::Cpu)?;

        let alpha = distillation::alpha(self.distill, self.ramp, step.progress);
        let logits = self.predict(step, &altered, false, &positions)?;
        let CrossEntropy { loss, accuracy } = if alpha == 0.0 {
            logits.cross_entropy(&targets, 0.0)?
        } else {
            let teacher = self.predict(step, &altered, true, &positions)?;
            logits.distilled(&targets, &teacher, alpha)?
        };
        Loss::new(loss).with("accuracy", &accuracy)?.with_number("masked", share)?.with_number("alpha", alpha)
    }
}

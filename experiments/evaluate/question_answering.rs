//! Answering questions about an image with one of a closed list of answers.
//!
//! As VQA (UNITER, Chen et al., arXiv:1909.11740, section 4.1): the answer with the greatest logit of the head that `answer`
//! trains; accuracy over all questions and by kind. A wrong answer that scores as much as the right one ranks ahead of it.
//! Chance guesses among the answers that questions of the same kind have in the split.
//!
//! Deviation: an answer is right or wrong; VQA v2 gives part of a point where fewer than three of ten people agree.

use serde::{Deserialize, Serialize};

use super::gallery::Shown;
use super::{Evaluation, Measurement, Need, Of, Subject, asked};
use crate::data::tasks::Task;
use crate::data::{Field, Split};
use crate::experiments::failure::Result;

/// Raised whenever equal weights would give other values.
pub const VERSION: u32 = 1;

/// `question_answering`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}

impl Evaluation for Config {
    fn version(&self) -> u32 {
        VERSION
    }

    fn metrics(&self) -> Vec<String> {
        asked::metrics("question_answering", Task::Questions.kinds())
    }

    fn needs(&self) -> Vec<Need> {
        let head = Of::Objective { name: "answer", does: "answers by a classifier" };
        [Of::Data(Split::Test, Field::Answer), head].map(Need::always).into()
    }

    /// Answers every question.
    fn measure(&self, subject: &Subject, _: &Shown) -> Result<Measurement> {
        asked::accuracy(subject, "question_answering", "answer", Task::Questions.kinds(), true)
    }
}

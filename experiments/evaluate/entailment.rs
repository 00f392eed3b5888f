//! Telling whether an image entails a text, contradicts it or leaves it open.
//!
//! As SNLI-VE (ALBEF, Li et al., arXiv:2107.07651, section 4): the verdict with the greatest logit of the head that `entail`
//! trains; accuracy over all hypotheses and by kind. A wrong verdict that scores as much as the right one ranks ahead of it.

use serde::{Deserialize, Serialize};

use super::gallery::Shown;
use super::{Evaluation, Measurement, Need, Of, Subject, asked};
use crate::data::tasks::Task;
use crate::data::{Field, Split};
use crate::experiments::failure::Result;

/// Raised whenever equal weights would give other values.
pub const VERSION: u32 = 1;

/// `entailment`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}

impl Evaluation for Config {
    fn version(&self) -> u32 {
        VERSION
    }

    fn metrics(&self) -> Vec<String> {
        asked::metrics("entailment", Task::Hypotheses.kinds())
    }

    fn needs(&self) -> Vec<Need> {
        let head = Of::Objective { name: "entail", does: "judges by a classifier of verdicts" };
        [Of::Data(Split::Test, Field::Entailment), head].map(Need::always).into()
    }

    /// Judges every hypothesis.
    fn measure(&self, subject: &Subject, _: &Shown) -> Result<Measurement> {
        asked::accuracy(subject, "entailment", "entail", Task::Hypotheses.kinds(), true)
    }
}

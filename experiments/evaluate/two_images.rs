//! Telling whether a statement about two images is true.
//!
//! As NLVR2 (UNITER, Chen et al., arXiv:1909.11740, section 4.1): the answer with the greatest logit of the head that `pair`
//! trains; accuracy over all statements and by kind. A wrong answer that scores as much as the right one ranks ahead of it.

use serde::{Deserialize, Serialize};

use super::gallery::Shown;
use super::{Evaluation, Measurement, Need, Of, Subject, asked};
use crate::data::tasks::Task;
use crate::data::{Field, Split};
use crate::experiments::failure::Result;

/// Raised whenever equal weights would give other values.
pub const VERSION: u32 = 1;

/// `two_images`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}

impl Evaluation for Config {
    fn version(&self) -> u32 {
        VERSION
    }

    fn metrics(&self) -> Vec<String> {
        asked::metrics("two_images", Task::Statements.kinds())
    }

    fn needs(&self) -> Vec<Need> {
        let head = Of::Objective { name: "pair", does: "judges by a classifier of two readings" };
        [Of::Data(Split::Test, Field::Answer), Of::Data(Split::Test, Field::SecondImage), head]
            .map(Need::always)
            .into()
    }

    /// Judges every statement.
    fn measure(&self, subject: &Subject, _: &Shown) -> Result<Measurement> {
        asked::accuracy(subject, "two_images", "pair", Task::Statements.kinds(), true)
    }
}

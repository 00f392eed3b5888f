//! Tag matching, Oscar's contrastive loss: do these object tags belong to this image?
//!
//! Oscar, Li et al., arXiv:2004.06165, section 4, eq. 3, and the released code: the tags of a pair are, with probability
//! 0.5, those of another image; cross-entropy of a two-class linear head on the pooled joint representation, class 0 for
//! pairs left whole. The masked-token loss sees the same polluted pairs: beside `mlm` both read one pass, in which
//! words and tags are hidden. With `captions` above 0 and below `polluted` there are three classes (Oscar+, Zhang et al.,
//! arXiv:2101.00529, section 3.2: 0.25): that share of pairs has another caption instead, class 2.
//!
//! Deviation: others are drawn from the batch instead of the whole corpus, and neither tags equal to a pair's own nor a
//! caption equal to it are drawn; a pair for which nothing is left, or that has no tags to replace, stays whole.
//! Deviation: other tags are always tags; the released code at its defaults draws any line of another image, which may
//! be its caption.

use candle_core::{Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::altered::Alteration;
use super::pollution::{Polluted, Pollution};
use super::{Loss, Needs, Objective, ObjectiveConfig, Step};
use crate::kernels;
use crate::models::nn::{Linear, deviation};
use crate::models::{Ability, Dims, Field, Init, Vars};

/// `tag_match: {polluted: 0.5, captions: 0}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The probability that a pair is polluted.
    pub polluted: f64,
    /// The probability that it is by another caption (`texta_false_prob` of the released code).
    pub captions: f64,
    /// Share in the sum of losses.
    pub weight: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { polluted: 0.5, captions: 0.0, weight: 1.0 }
    }
}

impl ObjectiveConfig for Config {
    fn needs(&self) -> Needs {
        let (abilities, reads) = ([Ability::Fuse].into(), [Field::Tags].into());
        Needs { abilities, reads, batch: 2, ..Needs::default() }
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !(self.polluted > 0.0 && self.polluted < 1.0) {
            faults.push(format!("polluted {} is not above 0 and below 1", self.polluted));
        }
        if !(self.captions >= 0.0 && self.captions <= self.polluted) {
            faults.push(format!("captions {} is not from 0 to polluted, {}", self.captions, self.polluted));
        }
        faults
    }

    fn build(&self, vars: &Vars, dims: &Dims) -> Result<Box<dyn Objective>> {
        let classes = if self.captions > 0.0 && self.captions < self.polluted { 3 } else { 2 };
        let (sizes, init) = ([dims.width, classes], Init::Normal { std: deviation(dims.width) });
        let head = Linear::new(&vars.at("head"), sizes, init, Some(Init::Constant(0.0)))?;
        let pollution = Pollution { share: self.polluted, captions: self.captions };
        Ok(Box::new(TagMatch { head, classes, pollution }))
    }
}

struct TagMatch {
    head: Linear,
    classes: usize,
    pollution: Pollution,
}

impl Objective for TagMatch {
    fn before(&self, step: &Step) {
        step.agreed.pollution.get_or_init(|| self.pollution);
    }

    fn loss(&self, step: &Step) -> Result<Loss> {
        let hidden = step.agreed.hidden.get().cloned().unwrap_or_default();
        let altered = step.altered(Alteration { pollution: Some(self.pollution), ..hidden })?;
        let class = |polluted: &Polluted| match polluted {
            Polluted::Nothing => 0,
            Polluted::Tags => 1,
            Polluted::Caption => self.classes as u32 - 1,
        };
        let classes: Vec<u32> = altered.polluted.iter().map(class).collect();
        let polluted =
            classes.iter().filter(|&&class| class > 0).count() as f64 / classes.len().max(1) as f64;
        let logits = self.head.forward(&altered.pooled(step)?)?;
        let classes = Tensor::new(classes, &Device::Cpu)?;
        Loss::new(kernels::cross_entropy(&logits, &classes, 0.0)?)
            .with_accuracy("accuracy", &logits, &classes)?
            .with_number("polluted", polluted)
    }
}

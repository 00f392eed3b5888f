//! What is asked of the pictures of a split, and what the head of an objective makes of it.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{Result, Tensor, bail};

use super::ranking::place;
use super::{Measurement, Subject, share};
use crate::data::loader::Evaluation;
use crate::experiments::failure::Result as Ran;
use crate::experiments::feed::{self, Pairs};
use crate::kernels::IGNORE;
use crate::models::Vars;
use crate::objectives::{Batch, Config, Reading, answer, entail, ground, pair};

/// Some examples with what is asked of each.
pub struct Block {
    /// The examples.
    batch: Batch,
    /// The kinds of questions.
    kinds: Vec<&'static str>,
}

/// One example that was judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The kind of question.
    pub kind: &'static str,
    /// A score for each choice.
    pub scores: Vec<f32>,
    /// The number of the right one; `None` where it is not among them.
    pub right: Option<u32>,
}

impl Judged {
    /// Whether the right choice has the greatest score; a wrong one that scores as much ranks ahead of it.
    pub fn is_right(&self) -> bool {
        let scores = (0..).zip(self.scores.iter().copied());
        self.right.is_some_and(|right| place(scores, &[right]).rank == 1)
    }
}

impl Block {
    /// Every example of a dataset in blocks of `size`.
    ///
    /// # Errors
    /// When an example cannot be read or the device is full.
    pub fn all(examples: Evaluation, pairs: &Pairs, device: &candle_core::Device) -> Ran<Vec<Self>> {
        let block = |host: crate::data::Result<crate::data::collate::HostBatch>| {
            let host = host?;
            let kinds = host.kinds.clone();
            Ok(Self { batch: feed::batch(host, pairs, device)?, kinds })
        };
        examples.map(block).collect()
    }

    /// The choices of each example, scored by a head that reads the text with the first image and with the second.
    fn judged(
        &self,
        subject: &Subject,
        head: impl Fn(&Reading, Option<&Reading>) -> Result<Tensor>,
        right: &[u32],
    ) -> Result<Vec<Judged>> {
        let model = subject.model.as_ref();
        let first = Reading::new(model, &self.batch, None);
        let second = self.batch.second.as_ref().map(|second| Reading::new(model, second, None));
        let scores = head(&first, second.as_ref())?.to_vec2::<f32>()?;
        if scores.iter().flatten().any(|score| !score.is_finite()) {
            bail!("a score is not finite");
        }
        if right.len() != scores.len() {
            bail!("the split does not say what is right");
        }
        let numbered = scores.into_iter().zip(right).zip(&self.kinds);
        let one =
            |((scores, &right), &kind)| Judged { kind, scores, right: (right != IGNORE).then_some(right) };
        Ok(numbered.map(one).collect())
    }

    /// Drops the scores of regions that only fill a row.
    fn present(&self, mut judged: Vec<Judged>) -> Result<Vec<Judged>> {
        for (judged, mask) in judged.iter_mut().zip(self.batch.image.regions()?.mask.to_vec2::<f32>()?) {
            judged.scores.truncate(mask.iter().filter(|&&present| present != 0.0).count());
        }
        Ok(judged)
    }
}

/// What the head of one of the run's objectives makes of everything that is asked; `None` for objectives without such a
/// head.
///
/// # Errors
/// When the split does not say what is right, or a score is not finite.
pub fn judged(subject: &Subject, objective: &Config) -> Result<Option<Vec<Judged>>> {
    let vars: Vars = subject.store.detached().at(objective.name());
    let (dims, blocks) = (&subject.dims, &subject.gallery.asked);
    let all: Result<Vec<Vec<Judged>>> = match objective {
        Config::Answer(config) => {
            let head = answer::Head::open(&vars, dims, config.from)?;
            let judge = |block: &Block| block.judged(subject, |it, _| head.scores(it), &block.batch.answers);
            blocks.iter().map(judge).collect()
        }
        Config::Entail(config) => {
            let head = entail::Head::open(&vars, dims, config.from)?;
            let judge = |block: &Block| block.judged(subject, |it, _| head.scores(it), &block.batch.answers);
            blocks.iter().map(judge).collect()
        }
        Config::Pair(config) => {
            let head = pair::Head::open(&vars, dims, config.from)?;
            let scores = |first: &Reading, second: Option<&Reading>| match second {
                Some(second) => head.scores(first, second),
                None => bail!("the split has no second images"),
            };
            blocks.iter().map(|block| block.judged(subject, scores, &block.batch.answers)).collect()
        }
        Config::Ground(_) => {
            let head = ground::Head::open(&vars, dims)?;
            let judge = |block: &Block| {
                block.present(block.judged(subject, |it, _| head.scores(it), &block.batch.targets)?)
            };
            blocks.iter().map(judge).collect()
        }
        _ => return Ok(None),
    };
    Ok(Some(all?.concat()))
}

/// What is measured by the head of the objective called `head`: the share of right choices, over all examples and for each
/// kind. Chance is one of the choices; where all choices are answers of one list, one of those that are right for a question
/// of this kind anywhere in the split.
///
/// # Errors
/// When the run has no such objective, or as [`judged`].
pub fn accuracy(subject: &Subject, name: &str, head: &str, kinds: &[&str], listed: bool) -> Ran<Measurement> {
    let objective = subject.run.objectives.iter().find(|objective| objective.name() == head);
    let Some(judged) = objective.map(|objective| judged(subject, objective)).transpose()?.flatten() else {
        let fault = format!("`{name}` reads the head of `{head}`, which is not trained");
        return Err(candle_core::Error::Msg(fault).into());
    };
    let mut answers: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    for one in &judged {
        answers.entry(one.kind).or_default().extend(one.right);
    }
    let choices = |one: &Judged| if listed { answers[one.kind].len() } else { one.scores.len() };
    let measured = |some: &[&Judged]| {
        let count = some.len().max(1) as f64;
        let right = some.iter().filter(|one| one.is_right()).count() as f64 / count;
        let chance = some.iter().map(|one| 1.0 / choices(one).max(1) as f64).sum::<f64>() / count;
        share(right, Some(chance), Some((right * (1.0 - right) / count).sqrt()))
    };
    let all: Vec<&Judged> = judged.iter().collect();
    let mut values = BTreeMap::from([(format!("{name}.accuracy"), measured(&all))]);
    for kind in kinds {
        let some: Vec<&Judged> = all.iter().copied().filter(|one| one.kind == *kind).collect();
        if !some.is_empty() {
            values.insert(format!("{name}.{kind}"), measured(&some));
        }
    }
    Ok(Measurement { items: judged.len(), values })
}

/// The full names of what [`accuracy`] measures.
pub fn metrics(name: &str, kinds: &[&str]) -> Vec<String> {
    ["accuracy"].iter().chain(kinds).map(|kind| format!("{name}.{kind}")).collect()
}

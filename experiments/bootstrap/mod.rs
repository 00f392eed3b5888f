//! CapFilt: web pictures get a second caption that a captioner writes, and a filter drops the texts that do not match.
//!
//! BLIP, Li et al., arXiv:2201.12086, section 3.3 and tables 1, 2 and 4. With T_w the texts of web picture I, T_s one
//! that the captioner writes, and p(T, I) the probability of "match" by the filter's head for image-text matching, what
//! is learnt from is
//!
//! `D = {(I, T_w): p(T_w, I) > threshold} + {(I, T_s): p(T_s, I) > threshold} + human pairs`.
//!
//! Captioner and filter begin as one pre-trained model and are fine-tuned apart on human pairs; the final model begins
//! anew. Here all of them are stages and the rewritten pairs a source, so that the experiment file says who begins as
//! what; without a captioner nothing is written and without a filter nothing dropped.
//!
//! Deviation: a picture is one pair with all texts that were kept, one of which is drawn each time it is seen; in the
//! paper each text is a pair, so that a pass over them is longer. A picture without a text is dropped in both.

mod make;
mod place;
mod readers;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Run;
use super::evaluate::{Evaluation, captioning};
use super::fault::Fault;
use crate::data::{self, Field, Sources, made::Stored};
use crate::models::decoding::{Nucleus, Strategy};
use crate::models::{Abilities, Ability};
use crate::source;

pub use make::{make, pictures, probe, resolve};
pub use place::{Place, identity, place};

/// Pairs that are made of web pairs before a run, with the stages that make them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewrite {
    /// Captioner and filter, by name, each with those that come before it.
    pub stages: BTreeMap<String, Run>,
    /// How.
    pub settings: Settings,
}

/// `rewrite: {web: {clipart: {}}, captioner: captioner, filter: filter}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Whose training pairs are rewritten.
    pub web: Sources,
    /// The stage that writes a caption for each picture; null: none is written.
    #[serde(default)]
    pub captioner: Option<String>,
    /// The stage whose matching head judges all texts; null: all are kept.
    #[serde(default)]
    pub filter: Option<String>,
    /// The probability of a match above which a text is kept.
    #[serde(default = "threshold")]
    pub threshold: f64,
    /// Which word is taken: `{nucleus: {top_p: 0.9}}`, `{beam: {beams: 3}}` or `greedy`.
    #[serde(default = "nucleus")]
    pub decode: Strategy,
    /// What the captioner's texts begin with; no part of the caption.
    #[serde(default)]
    pub prompt: String,
    /// Pieces of words before a caption may end.
    #[serde(default = "least")]
    pub least: usize,
    /// Pieces of words of the longest caption.
    #[serde(default = "most")]
    pub most: usize,
    /// What repeated words are made less likely by; nothing at 1.
    #[serde(default = "one")]
    pub repetition_penalty: f64,
}

fn threshold() -> f64 {
    0.5
}

fn nucleus() -> Strategy {
    Strategy::Nucleus(Nucleus { top_p: 0.9, ..Nucleus::default() })
}

fn least() -> usize {
    5
}

fn most() -> usize {
    20
}

fn one() -> f64 {
    1.0
}

impl Settings {
    /// The stages that it needs, each with what it is for.
    pub fn needs(&self) -> impl Iterator<Item = (Role, &str)> {
        let captioner = self.captioner.iter().map(|name| (Role::Captioner, name.as_str()));
        captioner.chain(self.filter.iter().map(|name| (Role::Filter, name.as_str())))
    }

    /// What is wrong with it in itself, each with the setting it lies in.
    pub fn faults(&self) -> Vec<(&'static str, Fault)> {
        let mut faults = Vec::new();
        if !(0.0..=1.0).contains(&self.threshold) {
            let fault = Fault::new(format!("`threshold` is {}", self.threshold));
            faults.push(("threshold", fault.help("give a probability from 0 to 1")));
        }
        faults.extend(self.captioning().faults());
        if let Some(made) = self.web.stages().next() {
            let fault = Fault::new(format!(
                "stage `{}` makes its pairs itself: they cannot be rewritten again",
                made.name
            ));
            faults.push(("web", fault));
        } else {
            faults.extend(self.web_fault().map(|fault| ("web", fault)));
        }
        faults
    }

    /// What is wrong with the web pairs.
    fn web_fault(&self) -> Option<Fault> {
        let fields = match self.web.open(data::Split::Train) {
            Err(error) => return Some(Fault::new(error.to_string())),
            Ok(web) => web.fields(),
        };
        let kept = [Field::Pixels, Field::Words, Field::Category];
        let lacking = kept.into_iter().find(|field| !fields.contains(field))?;
        let fault = Fault::new(format!("pairs without {lacking} cannot be rewritten"));
        Some(fault.note("what is made is a pack, whose pictures have texts and a class"))
    }

    fn captioning(&self) -> captioning::Config {
        captioning::Config {
            decode: self.decode.clone(),
            prompt: self.prompt.clone(),
            least: self.least,
            most: Some(self.most),
            repetition_penalty: self.repetition_penalty,
        }
    }
}

/// What rewriting does differently from the paper.
pub fn deviations() -> Vec<String> {
    source::deviations(include_str!("mod.rs"))
}

/// What a stage is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It writes.
    Captioner,
    /// It judges.
    Filter,
}

impl Role {
    /// The setting that names it.
    pub fn key(self) -> &'static str {
        match self {
            Self::Captioner => "captioner",
            Self::Filter => "filter",
        }
    }

    /// Why a stage cannot be it.
    pub fn refuses(self, name: &str, run: &Run) -> Option<Fault> {
        let model = &run.model;
        let (verb, needed) = match self {
            Self::Captioner => ("write", Abilities::from([Ability::Generate, Ability::PredictWords])),
            Self::Filter => ("filter", [Ability::Fuse].into()),
        };
        let refused = |why: String| Some(Fault::new(format!("stage `{name}` cannot {verb}: {why}")));
        if let Some(lacking) = needed.iter().find(|ability| !model.abilities().contains(ability)) {
            return refused(format!("{} does not `{lacking}`: {}", model.name(), model.lacks(*lacking)));
        }
        if let Some(field) = model.reads().iter().find(|field| !matches!(field, Field::Pixels | Field::Words))
        {
            return refused(format!(
                "{} reads {field}, which a caption or a web picture may not have",
                model.name()
            ));
        }
        let mut trained = run.objectives.iter();
        let (is_trained, objective) = match self {
            // Who reads a pass from left to right and names no word does not learn to write.
            Self::Captioner => (trained.any(|one| one.needs().abilities.is_superset(&needed)), "lm"),
            Self::Filter => (trained.any(|one| one.name() == "itm"), "itm"),
        };
        if is_trained {
            return None;
        }
        refused("nothing trains it to".to_owned())
            .map(|fault| fault.help(format!("add `{objective}` to its objectives")))
    }
}

impl Run {
    /// The data of the run, in which the pairs that stages rewrite are stood in for by those that they rewrite: as many at
    /// most, with the same pictures.
    pub fn expected(&self) -> data::Config {
        let web = |name: &str| Some(Stored::Expected(self.rewrites.get(name)?.settings.web.clone()));
        self.data.knowing(web)
    }
}

//! Whether an objective can be asked of a model, and of a run: every reason against it, in the words of both sides.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::Config;
use crate::models::{Field, ModelConfig};

/// One reason why an objective cannot be trained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// What the objective needs: "a joint pass in which words see each other both ways (fuse)".
    pub need: String,
    /// What there is instead: "clip has no joint pass".
    pub offered: String,
    /// What would fit, where the objective or the file could be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// An objective with a setting that asks something else of a model than the one it stands with.
#[derive(Clone, Debug)]
pub struct Otherwise {
    /// The setting, as it is written: "negatives: random".
    pub setting: &'static str,
    /// What it does: "does without similarities".
    pub does: &'static str,
    /// The objective with it.
    pub objective: Config,
}

impl fmt::Display for Otherwise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.setting, self.does)
    }
}

/// What a run offers to every objective.
#[derive(Clone, Debug)]
pub struct Offer<'a> {
    /// Whether a slow copy of the model is kept.
    pub teacher: bool,
    /// B.
    pub batch: usize,
    /// What the training data has for every pair.
    pub fields: &'a BTreeSet<Field>,
}

/// Why `objective` cannot train the model called `name`; empty where it can.
pub fn fits(objective: &Config, name: &str, model: &dyn ModelConfig) -> Vec<Reason> {
    let mut reasons = lacking(objective, name, model);
    if let Some(reason) = reasons.last_mut() {
        reason.help = otherwise(objective, name, model).map(|other| other.to_string());
    }
    reasons
}

/// With which other setting `objective` can train a model; the first of those that it knows.
pub fn otherwise(objective: &Config, name: &str, model: &dyn ModelConfig) -> Option<Otherwise> {
    objective.otherwise().into_iter().find(|other| lacking(&other.objective, name, model).is_empty())
}

/// What the model lacks. One that does not read what the objective is about is asked for nothing else.
fn lacking(objective: &Config, name: &str, model: &dyn ModelConfig) -> Vec<Reason> {
    let (needs, reads, abilities) = (objective.needs(), model.reads(), model.abilities());
    let unread = needs.reads.difference(&reads).map(|field| Reason {
        need: format!("a model that reads {field}"),
        offered: format!("{name} reads {}, not {field}", listed(&reads, " and ")),
        help: None,
    });
    let unread: Vec<Reason> = unread.collect();
    if !unread.is_empty() {
        return unread;
    }
    let missing = needs.abilities.difference(&abilities).map(|&ability| Reason {
        need: ability.wanted().to_owned(),
        offered: model.lacks(ability).to_owned(),
        help: None,
    });
    missing.collect()
}

/// Why `objective` cannot be part of a run that offers `offer`; empty where it can.
pub fn runs(objective: &Config, offer: &Offer) -> Vec<Reason> {
    let needs = objective.needs();
    let mut reasons = Vec::new();
    if needs.teacher && !offer.teacher {
        reasons.push(Reason {
            need: "a slow copy of the model (teacher)".to_owned(),
            offered: "`train` sets no `teacher`".to_owned(),
            help: Some("set `train.teacher: {momentum: 0.995}`".to_owned()),
        });
    }
    if offer.batch < needs.batch {
        reasons.push(Reason {
            need: format!("at least {} pairs a batch", needs.batch),
            offered: format!("`train.batch` is {}", offer.batch),
            help: None,
        });
    }
    for field in needs.labels.difference(offer.fields) {
        reasons.push(Reason {
            need: field.to_string(),
            offered: format!("the training data has {}", listed(offer.fields, ", ")),
            help: None,
        });
    }
    reasons
}

fn listed(fields: &BTreeSet<Field>, last: &str) -> String {
    let mut words: Vec<String> = fields.iter().map(ToString::to_string).collect();
    match words.pop() {
        Some(word) if !words.is_empty() => format!("{}{last}{word}", words.join(", ")),
        Some(word) => word,
        None => "nothing".to_owned(),
    }
}

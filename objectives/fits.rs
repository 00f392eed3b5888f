//! Whether an objective can be asked of a model, and of a run: every reason against it, in the words of both sides.

use std::collections::BTreeSet;

use super::Config;
use crate::models::{Field, ModelConfig};

/// One reason why an objective cannot be trained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// What the objective asks for: "itm needs a joint pass in which words see each other both ways (fuse)".
    pub wants: String,
    /// What there is instead: "clip has no joint pass".
    pub offered: String,
    /// What would fit, where the objective or the file could be changed.
    pub help: Option<String>,
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

/// Why `objective` cannot train `model`; empty where it can. A model that does not read what the objective is about is
/// asked for nothing else.
pub fn fits(objective: &Config, model: &dyn ModelConfig) -> Vec<Reason> {
    let (needs, reads, abilities) = (objective.needs(), model.reads(), model.abilities());
    let unread = needs.reads.difference(&reads).map(|field| Reason {
        wants: format!("{} needs a model that reads {field}", objective.name()),
        offered: format!("this one reads {}", listed(&reads)),
        help: None,
    });
    let unread: Vec<Reason> = unread.collect();
    if !unread.is_empty() {
        return unread;
    }
    let missing = needs.abilities.difference(&abilities).map(|&ability| Reason {
        wants: format!("{} needs {}", objective.name(), ability.wanted()),
        offered: model.lacks(ability).to_owned(),
        help: objective.without(ability).map(str::to_owned),
    });
    missing.collect()
}

/// Why `objective` cannot be part of a run that offers `offer`; empty where it can.
pub fn runs(objective: &Config, offer: &Offer) -> Vec<Reason> {
    let (name, needs) = (objective.name(), objective.needs());
    let mut reasons = Vec::new();
    if needs.teacher && !offer.teacher {
        reasons.push(Reason {
            wants: format!("{name} needs a slow copy of the model (teacher)"),
            offered: "`train` sets no `teacher`".to_owned(),
            help: Some("set `train.teacher: {momentum: 0.995}`".to_owned()),
        });
    }
    if offer.batch < needs.batch {
        reasons.push(Reason {
            wants: format!("{name} needs at least {} pairs a batch", needs.batch),
            offered: format!("`train.batch` is {}", offer.batch),
            help: None,
        });
    }
    for field in needs.labels.difference(offer.fields) {
        reasons.push(Reason {
            wants: format!("{name} needs {field}"),
            offered: format!("the training data has {}", listed(offer.fields)),
            help: None,
        });
    }
    reasons
}

fn listed(fields: &BTreeSet<Field>) -> String {
    fields.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
